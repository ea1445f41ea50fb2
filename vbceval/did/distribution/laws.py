"""Distributions on a common grid of values or bins: quantiles, ranks, and slopes of quantiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import special

from vbceval.core.typing import BoolArray, FloatArray, IntArray

_ROUNDING = 1e-10
"""Ranks closer than this are the same: they are sums of weights over their total."""


class Grid(NamedTuple):
    """
    Values that an outcome can have, in increasing order: single ones, or bins.

    Parameters
    ----------
    low, high : array, shape (M,)
        First and last value of each bin; the same for a single value, infinite where it is open.
    """

    low: FloatArray
    high: FloatArray

    @property
    def wide(self) -> BoolArray:
        """Bins with more than one value."""
        return np.asarray(self.high > self.low, dtype=bool)


@dataclass(frozen=True, eq=False)
class Law:
    """
    One distribution.

    Parameters
    ----------
    grid : Grid
        Its M values or bins.
    mass : array, shape (M,)
        Weight in each.
    mean : array, shape (M,)
        Mean of the outcome in each; anything where there is no weight.
    n : float
        Rows behind it: total weight squared over the sum of squared weights, or a count.
    """

    grid: Grid
    mass: FloatArray
    mean: FloatArray
    n: float

    @cached_property
    def _held(self) -> IntArray:
        """Bins with weight."""
        return np.flatnonzero(self.mass > 0)

    @cached_property
    def upto(self) -> FloatArray:
        """Share at or below each of the M bins."""
        return np.asarray(np.cumsum(self.mass) / self.mass.sum())

    @cached_property
    def below(self) -> FloatArray:
        """Share below each of the M bins."""
        return np.asarray(np.r_[0.0, self.upto[:-1]])

    @property
    def expectation(self) -> float:
        """Mean of the outcome."""
        held = self._held
        return float(self.mass[held] @ self.mean[held] / self.mass[held].sum())

    @property
    def _spread(self) -> float:
        """Standard deviation of the outcome, between bins."""
        held = self._held
        share = self.mass[held] / self.mass[held].sum()
        return float(np.sqrt(share @ (self.mean[held] - self.expectation) ** 2))

    def bin_of(self, u: FloatArray, *, after: bool = False) -> IntArray:
        """Return the first bin whose share at or below reaches a rank; with `after`, passes it."""
        upto = self.upto[self._held]
        at = (
            np.searchsorted(upto, u + _ROUNDING, side="right")
            if after
            else np.searchsorted(upto, u - _ROUNDING, side="left")
        )
        return np.asarray(self._held[np.minimum(at, len(upto) - 1)])

    def quantile(self, u: FloatArray) -> FloatArray:
        """
        Return the smallest value whose share at or below reaches each rank.

        Within a bin, linear on both sides of its mean, as `vbceval.moments.quantiles`.
        """
        at = self.bin_of(u)
        a, b, m, s, below = self._inside(at, u)
        with np.errstate(invalid="ignore", divide="ignore"):
            lower = a + (m - a) * s / below
            upper = m + (b - m) * (s - below) / (1 - below)
        value = np.where(s <= below, lower, upper)
        return np.where(self._flat(at), self.mean[at], np.clip(value, a, b))

    def integral(self, u: FloatArray) -> FloatArray:
        """Return the integral of the quantile function from 0 to each rank."""
        total = self.mass.sum()
        share = np.where(self.mass > 0, self.mass * self.mean, 0.0) / total
        before = np.r_[0.0, np.cumsum(share)[:-1]]
        at = self.bin_of(u)
        a, b, m, s, below = self._inside(at, u)
        with np.errstate(invalid="ignore", divide="ignore"):
            lower = a * s + (m - a) * s * s / (2 * below)
            rest = s - below
            upper = below * (a + m) / 2 + m * rest + (b - m) * rest**2 / (2 * (1 - below))
        part = np.where(s <= below, lower, upper)
        part = np.where(self._flat(at), m * s, part)
        return np.asarray(before[at] + part * self.mass[at] / total)

    def _flat(self, at: IntArray) -> BoolArray:
        """Whether a bin has one value, or is open and known by its mean only."""
        width = self.grid.high[at] - self.grid.low[at]
        return np.asarray((width == 0) | ~np.isfinite(width), dtype=bool)

    def _inside(
        self, at: IntArray, u: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
        """Edges and mean of bins, place of ranks within, and the share below the mean."""
        a, b = self.grid.low[at], self.grid.high[at]
        m = np.clip(self.mean[at], a, b)
        held = self.mass[at] / self.mass.sum()
        s = np.clip((u - self.below[at]) / held, 0.0, 1.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            below = np.where(b > a, (b - m) / (b - a), 1.0)
        return a, b, m, s, below

    def linear_quantile(self, u: FloatArray) -> FloatArray:
        """
        Interpolate linearly between order statistics, the default of R (type 7).

        For single values that weigh the same.
        """
        held = self._held
        # of rows that weigh the same, n is their number; every value may have several
        rows = np.round(self.mass[held] / self.mass.sum() * self.n).astype(np.int64)
        values = np.repeat(self.mean[held], rows)
        return np.asarray(np.quantile(values, u))

    def width_at(self, u: FloatArray) -> FloatArray:
        """
        Return half the step over which slopes at ranks are measured.

        The rule of Hall and Sheather (1988) for intervals of 95 percent; at least two rows.
        """
        z = special.ndtri(np.clip(u, 1e-6, 1 - 1e-6))
        best = (1.5 * (np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)) ** 2 / (2 * z * z + 1)) ** (1 / 3)
        best *= special.ndtri(0.975) ** (2 / 3) * self.n ** (-1 / 3)
        return np.asarray(np.clip(best, min(2 / self.n, 0.25), 0.25))

    def sparsity(self, u: FloatArray) -> FloatArray:
        """
        Return the slope of the quantile function, one over the density, at ranks.

        A difference quotient of quantiles (Siddiqui 1960), so that it is 0 inside an atom, of the
        outcome's inverse hyperbolic sine about its median: quantiles of skewed outcomes bend too
        much over the step. Only the slope is taken there, so that no effect depends on it. Its unit is
        the spread of the middle half, or of all where that half has one value (most have no spending):
        errors follow the unit of the outcome.
        """
        h = self.width_at(u)
        left, right = np.maximum(u - h, 0.0), np.minimum(u + h, 1.0)
        first, centre, third = self.quantile(np.array([0.25, 0.5, 0.75]))
        scale = (third - first) / 1.349 or self._spread or 1.0
        a, b, at = ((self.quantile(v) - centre) / scale for v in (left, right, u))
        slope = (np.arcsinh(b) - np.arcsinh(a)) / (right - left)
        return np.asarray(slope * np.sqrt(1 + at**2) * scale)
