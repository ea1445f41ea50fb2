"""The shortest interval of fixed length under bounded changes of slope."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from vbceval.core.typing import FloatArray
from vbceval.sensitivity.restrictions import differences

_POINTS = 33
_ROUNDS = 5
_NEWTON = 60
_TINY = 1e-12


class FixedLength(NamedTuple):
    """
    An affine estimator and its interval.

    Parameters
    ----------
    weights : array, shape (K,)
        Coefficients on the event study; those after the reference are the target's.
    bias : float
        Its largest bias.
    std_error : float
        Its standard error.
    half_length : float
        Half the length of the interval around ``weights @ estimate``.
    """

    weights: FloatArray
    bias: float
    std_error: float
    half_length: float


class Path(NamedTuple):
    """
    Estimators that trade bias for variance, from least bias to least variance.

    Any convex weight of neighbours is on the path too.

    Parameters
    ----------
    weights : array, shape (B, K)
        Estimators at the corners of the path.
    bias : array, shape (B,)
        Largest bias of each for M = 1.
    """

    weights: FloatArray
    bias: FloatArray


def bias_variance_path(vcov: FloatArray, n_pre: int, target: FloatArray) -> Path:
    """
    Find the least variance of an affine estimator for every bound on its bias.

    An estimator whose bias is bounded over changes of slope up to M annihilates linear trends, so
    its weights are a = D'k with D the second differences; its largest bias is M sum|k|. Weights
    after the reference are the target's, which fixes k there. What is left, the least a'Va for
    a bound on sum|k|, is a lasso in k before the reference, whose solutions are linear between
    corners.

    Parameters
    ----------
    vcov : array, shape (K, K)
        Covariance of the coefficients, of full rank.
    n_pre : int
        Coefficients before the reference.
    target : array, shape (K - n_pre,)
        Weights of the effects after the reference.

    References
    ----------
    .. [1] Rambachan, A. and Roth, J. (2023). A more credible approach to parallel trends. *Review
       of Economic Studies* 90(5), 2555-2591. Section 4.1.
    .. [2] Armstrong, T. and Kolesár, M. (2018). Optimal inference in a class of regression models.
       *Econometrica* 86(2), 655-683.
    """
    n_post = len(target)
    rows = differences(n_pre, n_post, 2)
    before, after = rows[: len(rows) - n_post], rows[len(rows) - n_post :]
    fixed = np.linalg.solve(after[:, n_pre:].T, target)
    start = after.T @ fixed
    corners = _lasso(before @ vcov @ before.T, before @ vcov @ start)
    return Path(start + corners @ before, np.abs(fixed).sum() + np.abs(corners).sum(axis=1))


def shortest(path: Path, vcov: FloatArray, m: float, alpha: float) -> FixedLength:
    """
    Return the shortest interval of level 1 - alpha among the estimators of a path.

    The half-length is the standard error times the 1 - alpha quantile of |N(bias/se, 1)|.

    Parameters
    ----------
    path : Path
        From `bias_variance_path`.
    vcov : array, shape (K, K)
        Covariance of the coefficients.
    m : float
        Bound on changes of slope, in the unit of the outcome.
    alpha : float
        One minus the level.
    """

    def at(place: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        corner = np.clip(place.astype(int), 0, max(len(path.bias) - 2, 0))
        after = np.minimum(corner + 1, len(path.bias) - 1)
        share = place - corner
        weights = path.weights[corner] * (1 - share)[:, None] + path.weights[after] * share[:, None]
        bias = m * (path.bias[corner] * (1 - share) + path.bias[after] * share)
        return weights, bias, np.sqrt(np.einsum("bk,kl,bl->b", weights, vcov, weights))

    def length(place: FloatArray) -> FloatArray:
        _, bias, se = at(place)
        return se * folded_quantile(bias / se, alpha)

    last = len(path.bias) - 1
    places = np.linspace(0.0, last, _POINTS * max(last, 1) + 1)
    for _ in range(_ROUNDS if last else 0):
        best = int(length(places).argmin())
        low, high = places[max(best - 1, 0)], places[min(best + 1, len(places) - 1)]
        places = np.linspace(low, high, _POINTS)
    best = int(length(places).argmin())
    weights, bias, se = at(places)
    return FixedLength(
        weights[best], float(bias[best]), float(se[best]), float(length(places)[best])
    )


def folded_quantile(center: FloatArray, alpha: float) -> FloatArray:
    """
    Return the 1 - alpha quantile of |N(center, 1)|, shape of `center`.

    Examples
    --------
    >>> folded_quantile(np.array([0.0, 5.0]), 0.05).round(4).tolist()
    [1.96, 6.6449]
    """
    center = np.abs(np.asarray(center, dtype=float))
    z = float(special.ndtri(1 - alpha / 2))
    c = center + z
    for _ in range(_NEWTON):
        # from the right Newton falls monotonically: the distribution function is concave there
        excess = special.ndtr(c - center) - special.ndtr(-c - center) - (1 - alpha)
        density = np.exp(-((c - center) ** 2) / 2) + np.exp(-((c + center) ** 2) / 2)
        step = excess * np.sqrt(2 * np.pi) / density
        c = c - step
        if np.abs(step).max(initial=0.0) < 1e-13:
            break
    return np.asarray(c)


def _lasso(q: FloatArray, c: FloatArray) -> FloatArray:
    """
    Return the corners, shape (B, p), of argmin k'Qk/2 + c'k + penalty * sum|k| over penalties.

    From all zero to least squares; at a corner a coefficient becomes active or zero.
    """
    k, gradient = np.zeros(len(c)), -c
    corners = [k]
    penalty = float(np.abs(gradient).max(initial=0.0))
    tiny = _TINY * penalty
    active = np.abs(gradient) > penalty - tiny if penalty > 0 else np.zeros(len(c), dtype=bool)
    while penalty > tiny:
        # active gradients stay at the penalty, in size, while it falls
        move = np.zeros(len(c))
        move[active] = np.linalg.solve(q[np.ix_(active, active)], np.sign(gradient[active]))
        slope = -q @ move
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = np.array([
                np.where(active, -k / move, np.inf),
                *(np.where(active, np.inf, (penalty - side * gradient) / (1.0 + side * slope))
                  for side in (1.0, -1.0)),
            ])  # fmt: skip
        steps = np.where(steps > tiny, steps, np.inf).min(axis=0)
        event = int(steps.argmin())
        step = min(float(steps[event]), penalty)
        k, gradient, penalty = k + step * move, gradient + step * slope, penalty - step
        if penalty > tiny:
            active[event] = not active[event]
            k[~active] = 0.0
        corners.append(k)
    return np.array(corners)
