"""Changes of followed units between pairs of periods, of which products are taken in parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vbceval.core.typing import FloatArray, IntArray

_PART = 65_536
"""Numbers worked on at a time: they stay in the processor's cache."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Changes:
    """
    A matrix of changes, shape (n, k), that is never held: a column a pair of periods and outcome.

    Parameters
    ----------
    y : array, shape (r, E)
        Levels of E units, a row a period and outcome.
    units : int array, shape (n,)
        Units used, by position.
    later, base : int array, shape (k,)
        Rows of `y` that are subtracted.
    """

    y: FloatArray
    units: IntArray
    later: IntArray
    base: IntArray

    # a product with an array on the left is ours, not numpy's
    __array_ufunc__ = None

    def __len__(self) -> int:
        return len(self.units)

    def __rmatmul__(self, left: FloatArray) -> FloatArray:
        """Return ``left @ changes``, shape (a, k), of an array of shape (a, n) or (n,)."""
        total = np.zeros((*left.shape[:-1], len(self.later)))
        for at, own in self._parts():
            total += left[..., at] @ own.T
        return total

    def influence(
        self,
        slope: FloatArray,
        left: FloatArray,
        right: FloatArray,
        cluster: IntArray,
        out: Sequence[FloatArray],
    ) -> None:
        """
        Add ``slope_i dy_ik + sum_q left_qi right_qk``, summed by cluster, to k rows.

        Parameters
        ----------
        slope : array, shape (n,)
            Weight of each unit's changes.
        left, right : array, shapes (q, n), (q, k)
            The rest.
        cluster : int array, shape (n,)
            Clusters, not decreasing.
        out : sequence of k arrays, shape (G,)
            Where sums are added.
        """
        for at, own in self._parts():
            own *= slope[at]
            own += right.T @ left[:, at]
            codes = cluster[at]
            starts = np.flatnonzero(np.diff(codes, prepend=-1))
            if len(starts) < len(codes):
                own, codes = np.add.reduceat(own, starts, axis=1), codes[starts]
            for into, values in zip(out, own, strict=True):
                into[codes] += values

    def _parts(self) -> Iterator[tuple[slice, FloatArray]]:
        """Yield the changes of some units, shape (k, part), and which these are."""
        size = max(256, _PART // max(len(self.y), len(self.later)))
        for start in range(0, len(self.units), size):
            at = slice(start, start + size)
            own = np.take(self.y, self.units[at], axis=1)
            yield at, own[self.later] - own[self.base]
