"""Interactive fixed effects by least squares, with missing cells filled in as they are fitted."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from vbceval.core.errors import EstimationError
from vbceval.core.typing import BoolArray, FloatArray

Effects = Literal["two-way", "unit", "time", "none"]

MOST_STEPS = 5_000
CHANGE = 1e-8
"""Iterations end when no fitted value moves by more than this share of the outcome's spread."""


class Rank(NamedTuple):
    """
    What limits the interactive part.

    Parameters
    ----------
    factors : int
        Number of factors; every singular value is kept with "matrix completion".
    shrink : float
        Taken from every singular value; 0 for least squares with `factors`.
    """

    factors: int
    shrink: float = 0.0


class FactorFit(NamedTuple):
    """
    y_it = mu + alpha_i + xi_t + x_it'beta + f_t'lambda_i + error.

    Parameters
    ----------
    mu : float
        Grand mean.
    alpha : array, shape (N,)
        Effects of organizations, sum zero.
    xi : array, shape (T,)
        Effects of periods, sum zero.
    beta : array, shape (p,)
        Coefficients.
    factors : array, shape (T, r)
        Orthogonal, with mean square one.
    loadings : array, shape (N, r)
        Of organizations.
    fitted : array, shape (N, T)
        All of it, in every cell; covariates that are missing count as 0.
    """

    mu: float
    alpha: FloatArray
    xi: FloatArray
    beta: FloatArray
    factors: FloatArray
    loadings: FloatArray
    fitted: FloatArray


def fit_factors(
    y: FloatArray,
    x: FloatArray,
    seen: BoolArray,
    rank: Rank,
    effects: Effects,
    start: FloatArray | None = None,
) -> FactorFit:
    """
    Fit the model to the cells that are seen.

    Missing cells are filled with fitted values, effects and factors are those of the filled
    matrix, and so on until nothing moves (Bai 2009 with complete cells; Gobillon and Magnac 2016
    with missing ones; soft-impute of Mazumder, Hastie and Tibshirani 2010 where singular values
    are shrunk). Coefficients are least squares given the factors, loadings free.

    Parameters
    ----------
    y : array, shape (N, T)
        Outcomes; any value where not seen.
    x : array, shape (N, T, p)
        Covariates; any value where not seen.
    seen : bool array, shape (N, T)
        Cells of the fit: at least one in each row and column.
    rank : Rank
        Number of factors or shrinkage.
    effects : {"two-way", "unit", "time", "none"}
        Additive effects.
    start : array, shape (N, T), optional
        Fitted values to begin with. Default: those of additive effects and covariates.

    Raises
    ------
    EstimationError
        If covariates are collinear beside effects, or iterations do not settle.
    """
    if start is None and not seen.all() and (rank.factors or rank.shrink):
        # from a constant, a factor can run away in the cells that are filled
        start = fit_factors(y, x, seen, Rank(0), effects).fitted
    y, known = np.where(seen, y, 0.0), np.where(np.isfinite(x), x, 0.0)
    # what fills a cell that is not seen moves with any value of its covariates alike
    x = np.where(seen[:, :, None], known, 0.0)
    spread = float(y[seen].std())
    fitted = np.full(y.shape, y[seen].mean()) if start is None else start
    slopes = _Slopes(x, effects) if x.shape[2] else None
    beta = np.zeros(x.shape[2])
    interactive = np.zeros(y.shape)
    faster = _Extrapolation()
    for _ in range(MOST_STEPS):
        filled = np.where(seen, y, fitted)
        if slopes is not None:
            beta = slopes.given(filled, interactive, rank)
        additive, parts = take_effects(filled - x @ beta, effects)
        interactive, factors = low_rank(filled - x @ beta - additive, rank)
        new = x @ beta + additive + interactive
        moved = float(np.abs(new - fitted).max())
        if moved <= CHANGE * spread:
            loadings = interactive @ factors / len(factors)
            return FactorFit(*parts, beta, factors, loadings, new + (known - x) @ beta)
        fitted = new if seen.all() else faster.next(fitted, new)
    raise EstimationError(
        f"the fit with {rank.factors} factors still moved by {moved / spread:.1e} of the outcome's "
        f"spread after {MOST_STEPS:,} steps. Use fewer factors, or leave out covariates that vary "
        "as factors do."
    )


class _Extrapolation:
    """
    Longer steps where iterations creep (Varadhan and Roland 2008, squared extrapolation).

    After two steps the path is extrapolated; a point from which the next step is longer than the
    step before it is given up for the point without extrapolation.
    """

    def __init__(self) -> None:
        self.steps: list[FloatArray] = []
        self.safe: tuple[FloatArray, float] | None = None

    def next(self, old: FloatArray, new: FloatArray) -> FloatArray:
        """Return where the next step begins, given one step from `old` to `new`."""
        size = float(np.linalg.norm(new - old))
        if self.safe is not None:
            point, before = self.safe
            self.safe = None
            if size > before:
                return point
            return new
        self.steps.append(new - old)
        if len(self.steps) < 2:
            return new
        first, second = self.steps
        self.steps = []
        bend = second - first
        curvature = float(np.linalg.norm(bend))
        length = float(np.linalg.norm(first)) / curvature if curvature > 0 else 1.0
        if length <= 1:
            return new
        self.safe = new, size
        return np.asarray(old - first + 2 * length * first + length**2 * bend)


def take_effects(
    values: FloatArray, effects: Effects
) -> tuple[FloatArray, tuple[float, FloatArray, FloatArray]]:
    """Return the additive part of a complete matrix, and its mean, unit and period effects."""
    mean = float(values.mean())
    alpha, xi = np.zeros(values.shape[0]), np.zeros(values.shape[1])
    if effects in ("two-way", "unit"):
        alpha = values.mean(axis=1) - mean
    if effects in ("two-way", "time"):
        xi = values.mean(axis=0) - mean
    return mean + alpha[:, None] + xi, (mean, alpha, xi)


def low_rank(values: FloatArray, rank: Rank) -> tuple[FloatArray, FloatArray]:
    """
    Return the interactive part of a complete matrix, and its factors.

    Parameters
    ----------
    values : array, shape (N, T)
        Residuals of the additive part.
    rank : Rank
        Largest singular values kept, or shrinkage of all.

    Returns
    -------
    array, shape (N, T)
        The interactive part.
    array, shape (T, r)
        Factors with mean square one.
    """
    periods = values.shape[1]
    if rank.shrink > 0:
        left, size, right = np.linalg.svd(values, full_matrices=False)
        kept = np.maximum(size - rank.shrink, 0.0)
        r = int((kept > 0).sum())
        return (left * kept) @ right, right[:r].T * np.sqrt(periods)
    if rank.factors == 0:
        return np.zeros(values.shape), np.zeros((periods, 0))
    vectors = np.linalg.eigh(values.T @ values)[1][:, ::-1][:, : rank.factors]
    return values @ vectors @ vectors.T, vectors * np.sqrt(periods)


class _Slopes:
    """Least squares of a complete matrix on covariates, additive effects taken out."""

    def __init__(self, x: FloatArray, effects: Effects) -> None:
        self.effects = effects
        columns = [v - take_effects(v, effects)[0] for v in np.moveaxis(x, 2, 0)]
        self.x = np.stack(columns, axis=2)
        flat = self.x.reshape(-1, x.shape[2])
        size = np.linalg.norm(flat, axis=0)
        full = np.linalg.norm(x.reshape(-1, x.shape[2]), axis=0)
        bad = size <= 1e-9 * full
        if bad.any() or np.linalg.matrix_rank(flat / np.where(bad, 1, size), tol=1e-9) < len(size):
            raise EstimationError(
                "covariates do not vary beside effects of organizations and periods, or are "
                "collinear there, so their coefficients are not known. Leave some out."
            )

    def given(self, filled: FloatArray, interactive: FloatArray, rank: Rank) -> FloatArray:
        """Return coefficients given the factors, loadings free; or the shrunk part itself."""
        target = filled - take_effects(filled, self.effects)[0]
        x = self.x
        if rank.shrink > 0:
            target = target - interactive
        elif rank.factors:
            factors = np.linalg.eigh(interactive.T @ interactive)[1][:, ::-1][:, : rank.factors]
            if interactive.any():
                target = target - target @ factors @ factors.T
                along = np.tensordot(x, factors, axes=([1], [0]))
                x = x - np.einsum("ipr,tr->itp", along, factors)
        flat = x.reshape(-1, x.shape[2])
        # the rank was checked, so normal equations, which are fast, are accurate enough
        return np.asarray(np.linalg.solve(flat.T @ flat, flat.T @ target.ravel()))
