"""Weighted least squares and odds models on standardised columns: arrays in, arrays out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.core.errors import EstimationError
from vbceval.core.typing import BoolArray, FloatArray

_COLLINEAR = 1e-9
_LARGEST_PROPENSITY = 1 - 1e-6
_STEPS = 50


class ComparisonFailure(EstimationError):
    """One comparison cannot be estimated; the estimator adds which cohort and period."""


class Regressors(NamedTuple):
    """
    Standardised regressors of one comparison.

    Parameters
    ----------
    x : array, shape (n, q)
        A constant, then covariates with weighted mean 0 and sd 1 over the comparison.
    names : tuple of str
        Names of the q columns, the constant as "(constant)".
    xx : array, shape (n, q, q), or None
        Centred second moments within each cell, in the same scale.
    scale : array, shape (q - 1,)
        Standard deviation of each kept covariate.
    kept : array of int, shape (q - 1,)
        Positions of the kept covariates among those given.
    """

    x: FloatArray
    names: tuple[str, ...]
    xx: FloatArray | None
    scale: FloatArray
    kept: np.ndarray


def standardise(
    x: FloatArray, w: FloatArray, names: tuple[str, ...], xx: FloatArray | None = None
) -> Regressors:
    """
    Add a constant and standardise covariates; effects do not depend on this recoding.

    Columns that are constant over the comparison (a factor level that does not occur) are left
    out: they cannot matter there.

    Parameters
    ----------
    x : array, shape (n, p)
        Covariates.
    w : array, shape (n,)
        Weights.
    names : tuple of str, length p
        For messages.
    xx : array, shape (n, p, p), optional
        Centred second moments within each row, if rows are cells.
    """
    total = w.sum()
    mean = w @ x / total
    centred = x - mean
    variance = w @ centred**2
    if xx is not None:
        variance = variance + np.einsum("kii->i", xx)
    scale = np.sqrt(variance / total)
    kept = np.flatnonzero(scale > 1e-12 * (np.abs(mean) + scale))
    columns = np.column_stack([np.ones(len(x)), centred[:, kept] / scale[kept]])
    inner = None
    if xx is not None:
        q = len(kept) + 1
        inner = np.zeros((len(x), q, q))
        scaled = xx[:, kept[:, None], kept] / np.outer(scale[kept], scale[kept])
        inner[:, 1:, 1:] = scaled
    labels = ("(constant)", *(names[i] for i in kept))
    return Regressors(columns, labels, inner, scale[kept], kept)


def invert(gram: FloatArray, names: tuple[str, ...], where: str) -> FloatArray:
    """
    Invert a Gram matrix, naming the first column that earlier ones span.

    Raises
    ------
    ComparisonFailure
        If a column is collinear.
    """
    sd = np.sqrt(np.diag(gram))
    if not np.all(sd > 0):
        j = int(np.flatnonzero(~(sd > 0))[0])
        raise ComparisonFailure(f"`{names[j]}` does not vary among {where}")
    corr = gram / np.outer(sd, sd)
    factor = np.zeros_like(corr)
    for j in range(len(corr)):
        residual = corr[j, j] - factor[j, :j] @ factor[j, :j]
        if residual < _COLLINEAR:
            raise ComparisonFailure(
                f"`{names[j]}` is collinear with {', '.join(f'`{n}`' for n in names[:j])} among "
                f"{where}"
            )
        factor[j, j] = np.sqrt(residual)
        factor[j + 1 :, j] = (corr[j + 1 :, j] - factor[j + 1 :, :j] @ factor[j, :j]) / factor[j, j]
    half = np.linalg.solve(factor, np.eye(len(corr)))
    return np.asarray((half.T @ half) / np.outer(sd, sd))


class LinearFit(NamedTuple):
    """
    A weighted least squares fit with many right-hand sides.

    Parameters
    ----------
    beta : array, shape (q, k)
        Coefficients.
    inverse : array, shape (q, q)
        Inverse of the weighted Gram matrix.
    weight : array, shape (n,)
        Weights of the fit.
    """

    beta: FloatArray
    inverse: FloatArray
    weight: FloatArray


def fit_linear(
    regressors: Regressors, y: FloatArray, w: FloatArray, where: str, xy: FloatArray | None = None
) -> LinearFit:
    """
    Fit y on the regressors with weights w.

    Parameters
    ----------
    regressors : Regressors
        n rows (or cells), q columns.
    y : array, shape (n, k)
        Right-hand sides (cell means).
    w : array, shape (n,)
        Weights; zero leaves a row out.
    where : str
        Whose rows these are, for messages.
    xy : array, shape (n, q, k), optional
        Centred cross moments within cells.

    Raises
    ------
    ComparisonFailure
        If there are fewer rows than columns, or columns are collinear.
    """
    x = regressors.x
    live = w > 0
    q = x.shape[1]
    cells = int(live.sum())
    if cells < q and regressors.xx is None:
        raise ComparisonFailure(f"{where} are too few for {q} regression coefficients")
    xw = x * w[:, None]
    gram = xw.T @ x
    cross = xw.T @ y
    if regressors.xx is not None:
        gram = gram + regressors.xx[live].sum(axis=0)
        if xy is not None:
            cross = cross + xy[live].sum(axis=0)
    inverse = invert(gram, regressors.names, where)
    return LinearFit(inverse @ cross, inverse, w)


def linear_influence(
    fit: LinearFit,
    regressors: Regressors,
    y: FloatArray,
    direction: FloatArray,
    xy: FloatArray | None = None,
) -> FloatArray:
    """
    Return the influence of each row on ``direction @ beta``, shape (n, k).

    Parameters
    ----------
    fit : LinearFit
        Coefficients (q, k).
    regressors : Regressors
        The rows the fit was made on.
    y : array, shape (n, k)
        Right-hand sides.
    direction : array, shape (q,) or (q, k)
        Linear functional of the coefficients, one for each right-hand side or common.
    xy : array, shape (n, q, k), optional
        Centred cross moments within cells.
    """
    target = fit.inverse @ direction
    if target.ndim == 1:
        target = target[:, None]
    residual = fit.weight[:, None] * (y - regressors.x @ fit.beta)
    out = residual * (regressors.x @ target)
    if regressors.xx is not None:
        live = (fit.weight > 0)[:, None]
        # within-cell part of sum w x (y - x'beta), which cell means cannot show
        target = np.broadcast_to(target, fit.beta.shape)
        inner = -np.einsum("nij,jk,ik->nk", regressors.xx, fit.beta, target)
        if xy is not None:
            inner = inner + np.einsum("nik,ik->nk", xy, target)
        out = out + np.where(live, inner, 0.0)
    return np.asarray(out)


class OddsFit(NamedTuple):
    """
    A model of the odds of treatment.

    Parameters
    ----------
    odds : array, shape (n,)
        p / (1 - p).
    score : array, shape (n,)
        Residual of the estimating equation, w (D - p) for the logit.
    inverse : array, shape (q, q)
        Inverse of minus its derivative.
    """

    odds: FloatArray
    score: FloatArray
    inverse: FloatArray


def fit_logit(x: FloatArray, d: BoolArray, w: FloatArray, names: tuple[str, ...]) -> OddsFit:
    """
    Fit a weighted logit of treatment by Newton's method with step halving.

    Parameters
    ----------
    x : array, shape (n, q)
        Standardised regressors with a constant.
    d : bool array, shape (n,)
        Treated rows.
    w : array, shape (n,)
        Weights.
    names : tuple of str
        Names of the columns.

    Raises
    ------
    ComparisonFailure
        If treated and comparison rows separate.
    """
    gamma = np.zeros(x.shape[1])
    share = w[d].sum() / w.sum()
    gamma[0] = np.log(share / (1 - share))

    def deviance(g: FloatArray) -> float:
        eta = x @ g
        return float(w @ (np.logaddexp(0, eta) - d * eta))

    best = deviance(gamma)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-(x @ gamma)))
        gradient = x.T @ (w * (d - p))
        hessian = (x * (w * p * (1 - p))[:, None]).T @ x
        if not np.all(np.isfinite(hessian)) or np.diag(hessian).min() <= 1e-12 * w.sum():
            raise _separation(x, d, w, names)
        step = invert(hessian, names, "the treated and comparison units") @ gradient
        size = 1.0
        while deviance(gamma + size * step) > best + 1e-12 * abs(best) and size > 1e-8:
            size /= 2
        gamma = gamma + size * step
        best = deviance(gamma)
        # the decrement, not the step, so that it does not depend on the units of covariates
        if gradient @ step < 1e-22 * w.sum():
            break
        if np.abs(gamma).max() > 40:
            raise _separation(x, d, w, names)
    p = 1 / (1 + np.exp(-(x @ gamma)))
    if (p[d] > _LARGEST_PROPENSITY).any():
        raise _separation(x, d, w, names)
    hessian = (x * (w * p * (1 - p))[:, None]).T @ x
    p = np.minimum(p, _LARGEST_PROPENSITY)
    inverse = invert(hessian, names, "the treated and comparison units")
    return OddsFit(p / (1 - p), w * (d - p), inverse)


def fit_tilting(x: FloatArray, d: BoolArray, w: FloatArray, names: tuple[str, ...]) -> FloatArray:
    """
    Return odds that balance the regressors exactly (inverse probability tilting).

    Solves ``sum w (D - (1 - D) exp(x'gamma)) x = 0`` by Newton's method with step halving.

    Raises
    ------
    ComparisonFailure
        If no such odds exist: treated means lie outside the comparison units.

    References
    ----------
    .. [1] Graham, B. S., Pinto, C. and Egel, D. (2012). Inverse probability tilting for moment
       condition models with missing data. *Review of Economic Studies* 79(3), 1053-1079.
    .. [2] Sant'Anna, P. H. C. and Zhao, J. (2020). Doubly robust difference-in-differences
       estimators. *Journal of Econometrics* 219(1), 101-122. Section 3.1.
    """
    control, target = ~d, x[d].T @ w[d]
    xc, wc = x[control], w[control]
    gamma = np.zeros(x.shape[1])
    gamma[0] = np.log(w[d].sum() / wc.sum())

    def objective(g: FloatArray) -> float:
        return float(wc @ np.exp(np.minimum(xc @ g, 500.0)) - target @ g)

    best = objective(gamma)
    for _ in range(_STEPS):
        tilted = wc * np.exp(xc @ gamma)
        gradient = target - xc.T @ tilted
        if np.abs(gradient).max() < 1e-12 * w[d].sum():
            return np.asarray(np.exp(x @ gamma))
        step = invert((xc * tilted[:, None]).T @ xc, names, "the comparison units") @ gradient
        size = 1.0
        while objective(gamma + size * step) > best + 1e-12 * abs(best) and size > 1e-8:
            size /= 2
        gamma = gamma + size * step
        best = objective(gamma)
        if np.abs(gamma).max() > 40:
            break
    raise _separation(x, d, w, names)


def _separation(
    x: FloatArray, d: BoolArray, w: FloatArray, names: tuple[str, ...]
) -> ComparisonFailure:
    gap = np.abs(w[d] @ x[d] / w[d].sum() - w[~d] @ x[~d] / w[~d].sum())
    worst = [j for j in np.argsort(-gap) if j > 0][:3]
    differences = ", ".join(f"`{names[j]}` {gap[j]:.1f}" for j in worst)
    return ComparisonFailure(
        "treated and comparison units do not overlap (largest standardised differences: "
        f"{differences or 'none: there are no covariates'})"
    )
