"""Models of the odds of treatment on standardised columns: arrays in, arrays out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.did.solve import ComparisonFailure, Regressors, invert

_LARGEST_PROPENSITY = 1 - 1e-6
_STEPS = 50
_PART = 8192
"""Rows worked on at a time."""


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


def fit_logit(z: Regressors, d: BoolArray, w: FloatArray) -> OddsFit:
    """
    Fit a weighted logit of treatment by Newton's method with step halving.

    Comparison rows without a counterpart among the treated (see `comparable`) have odds zero, the
    limit of the likelihood, and no score.

    Parameters
    ----------
    z : Regressors
        n rows, q columns.
    d : bool array, shape (n,)
        Treated rows.
    w : array, shape (n,)
        Weights.

    Raises
    ------
    ComparisonFailure
        If treated and comparison rows separate.
    """
    rows, columns = comparable(z, d)
    live = z.only(columns)
    odds, score, inverse = np.zeros(len(d)), np.zeros(len(d)), np.zeros((z.x.shape[1],) * 2)
    if rows.all():
        part = _fit_overlapping(live.x, d, w, live.names)
        odds, score = part.odds, part.score
    else:
        part = _fit_overlapping(live.x[rows], d[rows], w[rows], live.names)
        odds[rows], score[rows] = part.odds, part.score
    inverse[np.ix_(columns, columns)] = part.inverse
    return OddsFit(odds, score, inverse)


def comparable(z: Regressors, d: BoolArray) -> tuple[BoolArray, IntArray]:
    """
    Return rows whose propensity is above zero, and the columns that vary among them.

    Where all treated rows agree in a column, and comparison rows differ from them in one direction
    only (a category without treated rows), the likelihood rises until those comparison rows have
    propensity zero. The other rows then agree in the column. Categories without a column (the
    reference of a factor) are treated alike.

    Parameters
    ----------
    z : Regressors
        n rows, q columns.
    d : bool array, shape (n,)
        Treated rows.

    Raises
    ------
    ComparisonFailure
        If treated rows have propensity one: they differ so from every comparison row.
    """
    rows, columns = np.ones(len(d), dtype=bool), list(range(z.x.shape[1]))
    rebased: set[int] = set()
    at = 1
    while at < len(columns):
        j, code = columns[at], z.factors[columns[at]]
        own, others = z.x[d, j], z.x[rows & ~d, j]
        reference = np.zeros(len(d), dtype=bool)
        if code >= 0 and code not in rebased:
            reference = z.at_reference(code)
        if np.ptp(own) == 0 and _one_sided(others - own[0]):
            rows &= d | (z.x[:, j] == own[0])
        elif code >= 0 and code not in rebased and not reference[d].any():
            # this category takes the place of the reference
            rows &= ~reference
            rebased.add(code)
        elif np.ptp(others) == 0 and _one_sided(own - others[0]):
            raise _no_counterpart(z.names[j])
        elif reference[d].any() and not reference[rows & ~d].any():
            raise _no_counterpart(z.names[j].partition("[")[0])
        else:
            at += 1
            continue
        columns.remove(j)
        if not (rows & ~d).any():
            raise _no_counterpart(z.names[j])
        # fewer rows are left, so a column passed before may separate now
        at = 1
    return rows, np.array(columns, dtype=np.int64)


def _no_counterpart(name: str) -> ComparisonFailure:
    return ComparisonFailure(
        f"treated and comparison units do not overlap: treated units have values of `{name}` that "
        "no comparison unit has"
    )


def _one_sided(gap: FloatArray) -> bool:
    return bool((gap >= 0).all() or (gap <= 0).all())


def _fit_overlapping(x: FloatArray, d: BoolArray, w: FloatArray, names: tuple[str, ...]) -> OddsFit:
    gamma = np.zeros(x.shape[1])
    share = w[d].sum() / w.sum()
    gamma[0] = np.log(share / (1 - share))
    model = _Logit(np.ascontiguousarray(x.T), w, (w * d) @ x)
    at = model.at(gamma)
    for _ in range(_STEPS):
        gradient, hessian = at.gradient, at.hessian
        if not np.all(np.isfinite(hessian)) or np.diag(hessian).min() <= 1e-12 * w.sum():
            raise _separation(x, d, w, names)
        step = invert(hessian, names, "the treated and comparison units") @ gradient
        size, best = 1.0, at.deviance
        at = model.at(gamma + step)
        while at.deviance > best + 1e-12 * abs(best) and size > 1e-8:
            size /= 2
            at = model.at(gamma + size * step)
        gamma = gamma + size * step
        # the decrement, not the step, so that it does not depend on the units of covariates; the
        # step just taken squares it
        if gradient @ step < 1e-16 * w.sum() and size == 1.0:
            break
        if np.abs(gamma).max() > 40:
            raise _separation(x, d, w, names)
    else:
        raise ComparisonFailure(f"the logit of treatment did not converge in {_STEPS} steps")
    p = model.propensity(gamma)
    if (p[d] > _LARGEST_PROPENSITY).any():
        raise _separation(x, d, w, names)
    p = np.minimum(p, _LARGEST_PROPENSITY)
    inverse = invert(at.hessian, names, "the treated and comparison units")
    return OddsFit(p / (1 - p), w * (d - p), inverse)


class _Expansion(NamedTuple):
    """Deviance of a logit at a point, minus its gradient, and its second derivative."""

    deviance: float
    gradient: FloatArray
    hessian: FloatArray


class _Logit(NamedTuple):
    """A weighted logit: columns (q, n), weights, and their sum over the treated (q,)."""

    x: FloatArray
    w: FloatArray
    treated: FloatArray

    def at(self, gamma: FloatArray) -> _Expansion:
        """Expand the deviance about a point, in parts that stay in the processor's cache."""
        deviance, expected = 0.0, np.zeros(len(gamma))
        hessian = np.zeros((len(gamma),) * 2)
        for start in range(0, len(self.w), _PART):
            x, w = self.x[:, start : start + _PART], self.w[start : start + _PART]
            eta = gamma @ x
            small = np.exp(-np.abs(eta))
            # of the side that is smaller, so that nothing is lost where it is near zero
            q = small / (1.0 + small)
            deviance += float(w @ (np.maximum(eta, 0.0) + np.log1p(small)))
            expected += x @ (w * np.where(eta >= 0, 1.0 - q, q))
            hessian += (x * (w * q * (1.0 - q))) @ x.T
        return _Expansion(deviance - float(self.treated @ gamma), self.treated - expected, hessian)

    def propensity(self, gamma: FloatArray) -> FloatArray:
        """Return the propensity of each row."""
        return np.asarray(1 / (1 + np.exp(-(gamma @ self.x))))


def fit_tilting(z: Regressors, d: BoolArray, w: FloatArray) -> tuple[FloatArray, IntArray]:
    """
    Return odds that balance the regressors exactly (inverse probability tilting).

    Solves ``sum w (D - (1 - D) exp(x'gamma)) x = 0`` by Newton's method with step halving.
    Comparison rows without a counterpart among the treated (see `comparable`) have odds zero.

    Returns
    -------
    array, shape (n,)
        Odds.
    array of int
        Columns that vary among rows with positive odds.

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
    rows, columns = comparable(z, d)
    live = z.only(columns)
    odds = np.zeros(len(d))
    odds[rows] = _tilt(live.x[rows], d[rows], w[rows], live.names)
    return odds, columns


def _tilt(x: FloatArray, d: BoolArray, w: FloatArray, names: tuple[str, ...]) -> FloatArray:
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
