"""Tests that an effect is compatible with a polyhedron of trends; arrays in, arrays out."""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from vbceval.core.typing import BoolArray, FloatArray
from vbceval.sensitivity import dual as duals
from vbceval.sensitivity.fixed_length import FixedLength
from vbceval.sensitivity.restrictions import Polyhedron

Method = Literal["C-LF", "C-F", "conditional"]

LOG2_POINTS = 15
"""Quasi-random points of the least favourable critical value: 32,768."""

_PROGRAM_POINTS = 2000
_NO_VARIATION = 1e-10
_STEPS = 200


class Procedure(NamedTuple):
    """
    How one polyhedron is tested.

    Parameters
    ----------
    method : {"C-LF", "C-F", "conditional"}
        Conditional test after a least favourable or a fixed-length first stage, or alone.
    alpha : float
        Size of the whole test.
    first : float
        Size of the first stage, below `alpha`.
    interval : FixedLength, optional
        The interval of level 1 - first of method "C-F".
    """

    method: Method
    alpha: float
    first: float
    interval: FixedLength | None = None

    @property
    def second(self) -> float:
        """Size of the second stage, given that the first does not reject."""
        if self.method == "conditional":
            return self.alpha
        return (self.alpha - self.first) / (1 - self.first)


class ThetaTest:
    """
    Test values of theta = target'tau against one polyhedron, at one estimate.

    Parameters
    ----------
    polyhedron : Polyhedron
        Allowed differences in trends.
    estimate : array, shape (K,)
        Coefficients.
    vcov : array, shape (K, K)
        Their covariance.
    n_pre : int
        Coefficients before the reference.
    target : array, shape (K - n_pre,)
        Weights of the effects after the reference.
    test : Procedure
        Which test.

    Notes
    -----
    The statistic is eta, the least largest studentised moment over effects that give theta; by
    duality the largest g'moment over corners g. The hybrid test rejects if eta exceeds its
    1 - first quantile when all moments have mean zero (least favourable), and otherwise tests eta
    against its normal law conditional on which corner is best, on what is independent of eta, and
    on not having rejected before.

    References
    ----------
    .. [1] Andrews, I., Roth, J. and Pakes, A. (2023). Inference for linear conditional moment
       inequalities. *Review of Economic Studies* 90(6), 2763-2791. Sections 4-6.
    .. [2] Rambachan, A. and Roth, J. (2023). A more credible approach to parallel trends. *Review
       of Economic Studies* 90(5), 2555-2591. Section 3.
    """

    def __init__(
        self,
        polyhedron: Polyhedron,
        estimate: FloatArray,
        vcov: FloatArray,
        n_pre: int,
        target: FloatArray,
        test: Procedure,
    ) -> None:
        self._estimate, self._vcov, self._test = estimate, vcov, test
        self._moments = duals.moments(polyhedron, vcov, n_pre, target)
        self._dual = duals.dual(self._moments, n_pre, target)
        m = self._moments
        self._level, self._slope = m.a @ estimate - m.d, m.slope

    @property
    def listed(self) -> bool:
        """Whether a test is a product of matrices; otherwise it solves linear programs."""
        return self._dual.listed is not None

    @functools.cached_property
    def _first_stage(self) -> float:
        """The least favourable critical value."""
        if self._test.method != "C-LF":
            return np.inf
        k = len(self._estimate)
        root = self._moments.a @ np.linalg.cholesky(self._vcov)
        if self._dual.listed is None:
            draws = normal_points(k)[:_PROGRAM_POINTS] @ root.T
            largest = np.array([self._dual.maximise(x) @ x for x in draws])
        else:
            corners = self._dual.listed @ root
            # memory, not time, bounds how many points meet many corners at once
            blocks = np.array_split(normal_points(k), 1 + len(corners) // 256)
            largest = np.concatenate([(corners @ x.T).max(axis=0) for x in blocks])
        return float(np.quantile(largest, 1 - self._test.first))

    def accepts(self, theta: FloatArray) -> BoolArray:
        """Return whether each theta, shape (T,), is not rejected."""
        theta = np.atleast_1d(np.asarray(theta, dtype=float))
        accepted = np.ones(len(theta), dtype=bool)
        if self._test.interval is not None:
            center = self._test.interval.weights @ self._estimate
            accepted = np.abs(center - theta) <= self._test.interval.half_length
        inside = theta[accepted]
        if self._dual.listed is None:
            accepted[accepted] = [self._one(float(x)) for x in inside]
        elif len(inside):
            accepted[accepted] = self._many(inside, self._dual.listed)
        return accepted

    def _many(self, theta: FloatArray, corners: FloatArray) -> BoolArray:
        values = corners @ self._level[:, None] - np.outer(corners @ self._slope, theta)
        best = values.argmax(axis=0)
        eta = values[best, np.arange(len(theta))]
        accepted = eta <= _NO_VARIATION  # a statistic that is not positive never rejects
        for corner in np.unique(best[~accepted]):
            here = np.flatnonzero((best == corner) & (eta > _NO_VARIATION))
            loads = corners @ self._moments.a
            covariance = loads @ (self._vcov @ loads[corner])
            variance = float(covariance[corner])
            if variance < _NO_VARIATION**2:
                continue  # a positive moment without error
            # each corner's value as eta moves and the rest stays: z + ratio * eta
            ratio = covariance / variance
            rest = values[:, here] - ratio[:, None] * eta[here]
            with np.errstate(divide="ignore", invalid="ignore"):
                crossing = rest / (1 - ratio)[:, None]
            lower = np.where((ratio < 1 - _NO_VARIATION)[:, None], crossing, -np.inf).max(axis=0)
            upper = np.where((ratio > 1 + _NO_VARIATION)[:, None], crossing, np.inf).min(axis=0)
            accepted[here] = ~self._rejects(
                theta[here], eta[here], lower, upper, corners[corner], variance
            )
        return accepted

    def _one(self, theta: float) -> bool:
        y = self._level - self._slope * theta
        corner = self._dual.maximise(y)
        eta = float(corner @ y)
        if eta <= _NO_VARIATION:
            return True
        m = self._moments
        covariance = m.a @ (self._vcov @ (corner @ m.a))
        variance = float(corner @ covariance)
        if variance < _NO_VARIATION**2:
            return False
        ratio = covariance / variance
        rest = y - ratio * eta
        scale = np.sqrt(variance)
        ends = [self._end(rest, ratio, eta, side * scale) for side in (-1.0, 1.0)]
        lower, upper = (np.array([x]) for x in ends)
        args = np.array([theta]), np.array([eta]), lower, upper
        return not bool(self._rejects(*args, corner, variance)[0])

    def _end(self, rest: FloatArray, ratio: FloatArray, eta: float, scale: float) -> float:
        """
        Return how far eta may move before another corner is best.

        The largest g'(rest + ratio * x) - x is convex in x, not negative, and zero where the
        corner stays the best. From far outside, Newton's steps end at the border of that interval.
        """
        x = eta + 1e4 * scale
        for _ in range(_STEPS):
            corner = self._dual.maximise(rest + ratio * x)
            level, slope = float(corner @ rest), float(corner @ ratio)
            if level + (slope - 1) * x <= _NO_VARIATION * max(1.0, abs(x)):
                return np.inf * np.sign(scale) if x == eta + 1e4 * scale else x
            x = level / (1 - slope)
        return eta

    def _rejects(
        self, theta: FloatArray, eta: FloatArray, lower: FloatArray, upper: FloatArray,
        corner: FloatArray, variance: float,
    ) -> BoolArray:  # fmt: skip
        test = self._test
        first = np.zeros(len(eta), dtype=bool)
        if test.method == "C-LF":
            first = eta > self._first_stage
            upper = np.minimum(upper, self._first_stage)
        if test.interval is not None:
            affine = test.interval.weights
            off = affine @ self._estimate - theta
            load = corner @ self._moments.a
            speed = float(affine @ self._vcov @ load) / variance
            if abs(speed) > _NO_VARIATION:
                ends = eta + (np.array([[-1.0], [1.0]]) * test.interval.half_length - off) / speed
                lower = np.maximum(lower, ends.min(axis=0))
                upper = np.minimum(upper, ends.max(axis=0))
        sd = np.sqrt(variance)
        beyond = tail_share(eta / sd, lower / sd, upper / sd)
        return np.asarray(first | (beyond < test.second))


def tail_share(x: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
    """
    Return the probability of more than x for a standard normal truncated to [lower, upper].

    In logarithms, so that intervals far in the tail keep their digits; 1 where x is below `lower`
    or the interval is empty.

    Examples
    --------
    >>> tail_share(np.array([40.1]), np.array([40.0]), np.array([np.inf])).round(3).tolist()
    [0.018]
    """
    x = np.clip(x, lower, np.maximum(lower, upper))

    def log_mass(a: FloatArray) -> FloatArray:
        high, low = special.log_ndtr(-a), special.log_ndtr(-upper)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(high + np.log1p(-np.exp(np.minimum(low - high, 0.0))))

    with np.errstate(invalid="ignore"):
        share = np.exp(log_mass(x) - log_mass(lower))
    return np.asarray(np.where(np.isfinite(share), share, 1.0))


@functools.lru_cache(maxsize=8)
def normal_points(k: int) -> FloatArray:
    """
    Return quasi-random standard normal points, shape (2**15, k); the same in every call.

    Each is followed by its mirror image, so that an outcome with the sign reversed has the mirrored
    set exactly.
    """
    from scipy.stats import qmc

    sampler = qmc.Sobol(k, scramble=True, rng=np.random.default_rng(20230331))
    uniform = np.clip(sampler.random_base2(LOG2_POINTS - 1), 1e-12, 1 - 1e-12)
    points = special.ndtri(uniform)
    return np.asarray(np.stack([points, -points], axis=1).reshape(-1, k))
