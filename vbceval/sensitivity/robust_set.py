"""Robust confidence sets under a restriction on trends, and the size at which a value enters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.sensitivity.event_path import EventPath
from vbceval.sensitivity.fixed_length import FixedLength, Path, bias_variance_path, shortest
from vbceval.sensitivity.inequality import Procedure, ThetaTest
from vbceval.sensitivity.restrictions import Restriction, differences

Method = Literal["FLCI", "C-LF", "C-F", "conditional"]
Grid = tuple[float, float, int]

POINTS = 1000
"""Values of the effect tested before the end points are refined."""

_POINTS_OF_PROGRAMS = 100

_REACH = 20.0
_WIDEN = 6
_BISECT = 12
_LARGEST = 2.0**20


class RobustSet(NamedTuple):
    """
    A confidence set.

    Parameters
    ----------
    low, high : float
        Its hull; missing where no value is accepted, infinite where it has no end.
    pieces : int
        Intervals it consists of, as far as the grid tells.
    center : float
        The affine estimate of method "FLCI"; missing otherwise.
    on_grid : bool
        Whether an end is an end of the grid that was asked for.
    """

    low: float
    high: float
    pieces: int = 1
    center: float = np.nan
    on_grid: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """
    What is asked: which effect, which trends, which method.

    Parameters
    ----------
    path : EventPath
        Coefficients.
    target : array, shape (n_post,)
        Weights of the effects after the reference.
    restriction : Restriction
        Allowed differences in trends, up to their size.
    method : {"FLCI", "C-LF", "C-F", "conditional"}
        How sets are made.
    alpha : float
        One minus the level.
    first_share : float
        Share of `alpha` spent in the first stage of a hybrid.
    """

    path: EventPath
    target: FloatArray
    restriction: Restriction
    method: Method
    alpha: float
    first_share: float

    @property
    def point(self) -> float:
        """The estimate, as if trends were parallel."""
        return float(self.target @ self.path.estimate[self.path.n_pre :])

    @property
    def std_error(self) -> float:
        """Its standard error."""
        v = self.path.vcov[self.path.n_pre :, self.path.n_pre :]
        return float(np.sqrt(self.target @ v @ self.target))

    @cached_property
    def _affine(self) -> Path:
        return bias_variance_path(self.path.vcov, self.path.n_pre, self.target)

    def fixed_length(self, m: float, alpha: float) -> FixedLength:
        """Return the shortest interval of fixed length for changes of slope up to `m`."""
        return shortest(self._affine, self.path.vcov, m, alpha)

    def testers(self, m: float) -> list[ThetaTest]:
        """Return the tests whose acceptance regions make up the set of size `m`."""
        if self.method == "FLCI":
            raise DesignError("an interval of fixed length (`method='FLCI'`) inverts no test.")
        first = self.alpha * self.first_share
        interval = self.fixed_length(m, first) if self.method == "C-F" else None
        test = Procedure(self.method, self.alpha, first, interval)
        p = self.path
        polyhedra = self.restriction.polyhedra(m, p.n_pre, p.n_post)
        return [ThetaTest(x, p.estimate, p.vcov, p.n_pre, self.target, test) for x in polyhedra]

    def accepts(self, m: float, theta: float) -> bool:
        """Return whether `theta` is in the set of size `m`."""
        if self.method == "FLCI":
            interval = self.fixed_length(m, self.alpha)
            return bool(abs(interval.weights @ self.path.estimate - theta) <= interval.half_length)
        return any(bool(x.accepts(np.array([theta]))[0]) for x in self.testers(m))

    def robust_set(self, m: float, grid: Grid | None) -> RobustSet:
        """
        Return the set of size `m`.

        Without a grid, the values within 20 standard errors of the estimate, and what trends can
        add, are tested, twice as many until the set ends inside, and its ends are refined by
        bisection.
        """
        if self.method == "FLCI":
            x = self.fixed_length(m, self.alpha)
            center = float(x.weights @ self.path.estimate)
            return RobustSet(center - x.half_length, center + x.half_length, center=center)
        testers = self.testers(m)

        def inside(theta: FloatArray) -> BoolArray:
            out = np.zeros(len(theta), dtype=bool)
            for tester in testers:
                rest = np.flatnonzero(~out)
                out[rest] = tester.accepts(theta[rest])
            return out

        if grid is not None:
            theta = np.linspace(*grid)
            found = _hull(theta, inside(theta))
            # what the first stage excludes needs no grid
            reached = self.method != "C-F" or self._range(m) != (grid[0], grid[1])
            return found._replace(on_grid=found.on_grid and reached)
        low, high = self._range(m)
        points = POINTS if testers[0].listed else _POINTS_OF_PROGRAMS
        for _ in range(_WIDEN):
            theta = np.linspace(low, high, points)
            accepted = inside(theta)
            if self.method == "C-F" or not (accepted[0] or accepted[-1]):
                break
            middle, half = (low + high) / 2, high - low
            low, high = middle - half, middle + half
        found = _hull(theta, accepted)
        if not found.pieces:
            return found
        return _refined(found, theta, accepted, inside, open_ends=self.method != "C-F")

    def honestdid_grid(self, m: float) -> Grid:
        """
        Return the grid of R HonestDiD: 1,000 points.

        Within 20 standard errors of zero, for changes of slope widened by the largest bias if
        trends before entry are parallel; for "C-F" the first stage's interval.
        """
        if self.method == "C-F":
            return (*self._range(m), POINTS)
        half = _REACH * self.std_error
        if self.restriction.relative:
            return (-half, half, POINTS)
        low, high = self._zero_set(m)
        return (low - half, high + half, POINTS)

    def _zero_set(self, m: float) -> tuple[float, float]:
        """Bounds of minus target'delta when delta is zero before entry."""
        from scipy.optimize import linprog

        p = self.path
        box = self.restriction.polyhedra(m, p.n_pre, p.n_post)[0]
        ends = []
        for sign in (1.0, -1.0):
            solved = linprog(
                sign * -self.target, A_ub=box.a[:, p.n_pre :], b_ub=box.d, bounds=(None, None)
            )
            ends.append(sign * float(np.asarray(solved.fun)))
        return min(ends), max(ends)

    def _range(self, m: float) -> tuple[float, float]:
        """Values among which the ends of the set are looked for first."""
        if self.method == "C-F":
            x = self.fixed_length(m, self.alpha * self.first_share)
            center = float(x.weights @ self.path.estimate)
            return center - x.half_length, center + x.half_length
        p = self.path
        reach = np.full(2, _REACH * self.std_error)
        centers = np.full(2, self.point)
        if self.restriction.order == 2:
            # a trend drawn on from the last periods, or fitted to all, may be far from the estimate
            ends = self._affine.weights[[0, -1]]
            centers = np.append(centers, ends @ p.estimate)
            spread = np.sqrt(np.einsum("bk,kl,bl->b", ends, p.vcov, ends))
            reach = np.append(reach, _REACH / 2 * spread)
        rows = differences(p.n_pre, p.n_post, self.restriction.order)
        loads = np.linalg.solve(rows[-p.n_post :, p.n_pre :].T, self.target)
        size = m
        if self.restriction.relative:
            size = m * float(np.abs(rows[: -p.n_post] @ p.estimate).max())
        bias = size * float(np.abs(loads).sum())
        return float((centers - reach).min() - bias), float((centers + reach).max() + bias)

    def breakdown(self, value: float, scale: float) -> float:
        """
        Return the smallest size at which `value` is in the set.

        Parameters
        ----------
        value : float
            For example zero: no effect.
        scale : float
            Size at which the search starts; the result is found to 1e-4 of it or better.

        Returns
        -------
        float
            0 if the value is in the set of size 0; infinity if it is in none up to a million
            times `scale`.
        """
        if self.accepts(0.0, value):
            return 0.0
        low, high = 0.0, scale
        while not self.accepts(high, value):
            if high >= _LARGEST * scale:
                return np.inf
            low, high = high, 2 * high
        while high - low > 1e-4 * max(scale, high):
            middle = (low + high) / 2
            low, high = (low, middle) if self.accepts(middle, value) else (middle, high)
        return high


def _hull(theta: FloatArray, accepted: BoolArray) -> RobustSet:
    at = np.flatnonzero(accepted)
    if not len(at):
        return RobustSet(np.nan, np.nan, 0)
    pieces = 1 + int((np.diff(at) > 1).sum())
    ends = bool(accepted[0] or accepted[-1])
    return RobustSet(float(theta[at[0]]), float(theta[at[-1]]), pieces, on_grid=ends)


def _refined(
    found: RobustSet,
    theta: FloatArray,
    accepted: BoolArray,
    inside: Callable[[FloatArray], BoolArray],
    *,
    open_ends: bool,
) -> RobustSet:
    """Bisect between the last accepted and the first rejected value on both sides."""
    at = np.flatnonzero(accepted)
    ends = []
    for place, step in ((at[0], -1), (at[-1], 1)):
        if not 0 <= place + step < len(theta):
            ends.append(step * np.inf if open_ends else float(theta[place]))
            continue
        good, bad = float(theta[place]), float(theta[place + step])
        for _ in range(_BISECT):
            middle = (good + bad) / 2
            good, bad = (middle, bad) if inside(np.array([middle]))[0] else (good, middle)
        ends.append(good)
    return found._replace(low=ends[0], high=ends[1], on_grid=False)
