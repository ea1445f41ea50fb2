"""Weights of a synthetic control, with and without ridge augmentation."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.did.synthetic.simplex import gram, solve_simplex

HoldOut = Literal["all", "outcomes"]

COMMON = 1e-12
"""Spread of a covariate over donors, as a share of its size, that is rounding."""

NOTHING = 1e-7
"""Share of the spread of outcomes over organizations up to which a gap is that of the solver."""

N_PENALTIES = 20
SMALLEST_RATIO = 1e-8
"""Ridge penalties tried: from the largest squared singular value down by this ratio, in R's steps."""


class Paths(NamedTuple):
    """
    One cohort's paths and covariates.

    Parameters
    ----------
    y0 : array, shape (N0, T)
        Outcomes of donors.
    y1 : array, shape (T,)
        Mean outcome of the treated.
    z0, z1 : arrays, shapes (N0, q), (q,)
        Covariates: means before entry.
    n_pre : int
        The first periods are before entry.
    """

    y0: FloatArray
    y1: FloatArray
    z0: FloatArray
    z1: FloatArray
    n_pre: int

    def centred_on_pre(self) -> Paths:
        """Return paths less their own mean before entry (fixed effects of organizations)."""
        n = self.n_pre
        return self._replace(
            y0=self.y0 - self.y0[:, :n].mean(axis=1, keepdims=True),
            y1=self.y1 - self.y1[:n].mean(),
        )

    def take(self, columns: IntArray, n_pre: int) -> Paths:
        """Return some periods in another order, the first `n_pre` as if before entry."""
        return self._replace(y0=self.y0[:, columns], y1=self.y1[columns], n_pre=n_pre)


class Match(NamedTuple):
    """
    What is matched on.

    Parameters
    ----------
    x0, x1 : arrays, shapes (N0, K), (K,)
        Outcomes before entry, then covariates, scaled by the root of their importance.
    n_outcomes : int
        The first columns are outcomes.
    """

    x0: FloatArray
    x1: FloatArray
    n_outcomes: int

    def hessian(self) -> FloatArray:
        """Return H of the weights."""
        return gram(self.x0.T, self.x1)

    def centred(self) -> Match:
        """Return the variables less donors' means."""
        mean = self.x0.mean(axis=0)
        x0 = self.x0 - mean
        # of donors that are alike the rounding of their mean is left, and ridge would divide by it
        x0[:, np.abs(x0).max(axis=0) <= COMMON * np.abs(self.x0).max(axis=0)] = 0.0
        return self._replace(x0=x0, x1=self.x1 - mean)

    def without(self, column: int) -> Match:
        """Return the variables but one."""
        x0, x1 = np.delete(self.x0, column, axis=1), np.delete(self.x1, column)
        return Match(x0, x1, self.n_outcomes - (column < self.n_outcomes))


class Ridge(NamedTuple):
    """
    Cross-validation of the ridge penalty.

    Parameters
    ----------
    penalty : float
        The penalty used.
    penalties, error, error_se : arrays, shape (L,)
        Penalties tried, mean squared error of held-out periods and its standard error; empty
        where the penalty was given.
    """

    penalty: float
    penalties: FloatArray
    error: FloatArray
    error_se: FloatArray


class Control(NamedTuple):
    """
    Weights of donors.

    Parameters
    ----------
    weights : array, shape (N0,)
        Used for the effect; they sum to one, and may be negative where augmented.
    simplex : array, shape (N0,)
        Weights of the synthetic control before augmentation.
    ridge : Ridge or None
        Augmentation.
    gap : float
        Duality gap of `simplex` relative to its objective.
    """

    weights: FloatArray
    simplex: FloatArray
    ridge: Ridge | None
    gap: float

    def effects(self, paths: Paths) -> FloatArray:
        """Return treated less synthetic, shape (T,)."""
        return np.asarray(paths.y1 - self.weights @ paths.y0)


def match_outcomes(paths: Paths) -> Match:
    """
    Match on every outcome before entry, and covariates scaled to vary as outcomes do.

    As R `augsynth`: covariates are divided by their standard deviation among donors and multiplied
    by that of all outcomes before entry, less period means.
    """
    x0, x1 = paths.y0[:, : paths.n_pre], paths.y1[: paths.n_pre]
    if not paths.z0.shape[1]:
        return Match(x0, x1, paths.n_pre)
    # what donors have in common moves no weight
    spread = paths.z0.std(axis=0, ddof=1) if len(x0) > 1 else np.zeros(paths.z0.shape[1])
    every = (x0 - x0.mean(axis=0)).std(ddof=1) if x0.size > 1 else 0.0
    varies = spread > COMMON * np.abs(paths.z0).max(axis=0)
    size = np.divide(every, spread, out=np.zeros(len(spread)), where=varies)
    joined = np.column_stack([x0, paths.z0 * size]), np.concatenate([x1, paths.z1 * size])
    return Match(*joined, paths.n_pre)


def match_chosen(paths: Paths, lags: IntArray, importance: FloatArray | None) -> Match:
    """
    Match on outcomes of chosen periods and covariates, each divided by its standard deviation.

    As R `Synth`: standard deviations are over donors and the treated together.

    Parameters
    ----------
    paths : Paths
        Paths.
    lags : int array, shape (K - q,)
        Positions of the periods.
    importance : array, shape (K,), optional
        Diagonal of V; equal by default.
    """
    x0 = np.column_stack([paths.y0[:, lags], paths.z0])
    x1 = np.concatenate([paths.y1[lags], paths.z1])
    size = np.vstack([x0, x1]).std(axis=0, ddof=1)
    size = np.where(size > 0, size, 1.0)
    root = np.ones(len(x1)) if importance is None else np.sqrt(importance / importance.sum())
    return Match(x0 * root / size, x1 * root / size, len(lags))


def fit_control(
    match: Match,
    *,
    augmented: bool,
    penalty: float | None,
    one_se: bool,
    hold_out: HoldOut = "all",
    simplex: FloatArray | None = None,
) -> Control:
    """
    Return weights on the simplex and, if `augmented`, their ridge correction.

    Parameters
    ----------
    match : Match
        Variables.
    augmented : bool
        Add (x1 - X0'w)'(X0'X0 + penalty)^-1 X0' to the weights w, variables centred on donors'
        means (Ben-Michael, Feller and Rothstein 2021, equation 10).
    penalty : float, optional
        Ridge penalty; chosen by leaving out one period at a time by default.
    one_se : bool
        Take the largest penalty within a standard error of the best, not the best.
    hold_out : {"all", "outcomes"}
        What is left out in choosing the penalty.
    simplex : array, shape (N0,), optional
        Weights on the simplex, where they were found elsewhere.
    """
    gap = 0.0
    if simplex is None:
        h = match.hessian()
        found = solve_simplex(h)
        simplex, gap = found.weights, found.relative_gap(h)
    if not augmented:
        return Control(simplex, simplex, None, gap)
    centred = match.centred()
    if penalty is None:
        ridge = choose_penalty(centred, simplex, one_se=one_se, hold_out=hold_out)
    else:
        ridge = Ridge(penalty, np.zeros(0), np.zeros(0), np.zeros(0))
    added = ridge_weights(centred, simplex, np.array([ridge.penalty]))[0]
    return Control(simplex + added, simplex, ridge, gap)


def ridge_weights(match: Match, weights: FloatArray, penalties: FloatArray) -> FloatArray:
    """Return what the ridge adds to weights, for each penalty, shape (L, N0); `match` centred."""
    left, size, right = np.linalg.svd(match.x0, full_matrices=False)
    # directions taken out (donors' mean, covariates) are rounding, which a small penalty enlarges
    size[len(match.x0) - 1 :] = 0.0
    size[size <= COMMON * size.max(initial=0.0)] = 0.0
    missing = right @ (match.x1 - weights @ match.x0)
    scale = size**2 + penalties[:, None]
    # donors that are alike leave nothing to correct with
    shrunk = np.divide(size * missing, scale, out=np.zeros(scale.shape), where=scale > 0)
    return np.asarray(shrunk @ left.T)


def choose_penalty(match: Match, weights: FloatArray, *, one_se: bool, hold_out: HoldOut) -> Ridge:
    """
    Choose the ridge penalty by leaving out one variable at a time.

    As R `augsynth`: the last variable is never left out, errors are squared differences of treated
    and synthetic in the variable left out. "all" leaves out covariates as well as outcomes, as the
    version that its documentation shows; "outcomes" keeps covariates.

    Raises
    ------
    EstimationError
        If there are fewer than three variables to leave out.
    """
    n = match.n_outcomes if hold_out == "outcomes" else match.x0.shape[1]
    if n < 3:
        raise EstimationError(
            f"the ridge penalty is chosen by leaving out periods before entry, and there are {n} "
            "variables to match on. Give `penalty`, or use augmented=False."
        )
    largest = float(np.linalg.norm(match.x0, ord=2)) ** 2
    penalties = largest * SMALLEST_RATIO ** (np.arange(N_PENALTIES + 1) / N_PENALTIES)
    squared = np.empty((n - 1, len(penalties)))
    for t in range(n - 1):
        rest = match.without(t)
        simplex = solve_simplex(rest.hessian(), start=weights).weights
        every = simplex + ridge_weights(rest, simplex, penalties)
        squared[t] = (match.x1[t] - every @ match.x0[:, t]) ** 2
    error = squared.mean(axis=0)
    error_se = squared.std(axis=0, ddof=1) / np.sqrt(len(squared))
    best = int(np.argmin(error))
    chosen = penalties[best]
    if one_se:
        chosen = penalties[error <= error[best] + error_se[best]].max()
    return Ridge(float(chosen), penalties, error, error_se)


def residualised(paths: Paths) -> Match:
    """Return outcomes before entry less their regression on covariates, both centred on donors."""
    match = Match(paths.y0[:, : paths.n_pre], paths.y1[: paths.n_pre], paths.n_pre).centred()
    mean = paths.z0.mean(axis=0)
    z0 = paths.z0 - mean
    slope = np.linalg.lstsq(z0, match.x0, rcond=None)[0]
    x1 = match.x1 - (paths.z1 - mean) @ slope
    return Match(match.x0 - z0 @ slope, x1, match.n_outcomes)


def balanced_on(weights: FloatArray, z0: FloatArray, z1: FloatArray) -> FloatArray:
    """
    Return weights corrected by least squares so that covariates balance exactly.

    Parameters
    ----------
    weights : array, shape (N0,)
        Weights that sum to one.
    z0, z1 : arrays, shapes (N0, q), (q,)
        Covariates of donors and of the treated.
    """
    centred = z0 - z0.mean(axis=0)
    return np.asarray(weights + np.linalg.pinv(centred).T @ (z1 - weights @ z0))
