"""Weights by which rows of estimates are averaged."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vbceval.core.typing import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Shares:
    """
    Weights that average rows of `Estimates`, with their sampling error.

    Parameters
    ----------
    value : array, shape (k,)
        Share of each row: not normalised, non-negative.
    psi : array, shape (G, k) or (G, c), or None
        Influence of each cluster on `value`; None when the shares are taken as fixed.
    column : int array, shape (k,), optional
        Column of `psi` of each row, where rows have theirs in common (those of a cohort).
    vcov_scale : array, shape (k,), optional
        Root of the small-sample factor of each row, applied to `psi` where a covariance is built;
        None is 1.
    """

    value: FloatArray
    psi: FloatArray | None = None
    column: IntArray | None = None
    vcov_scale: FloatArray | None = None

    def take(self, rows: IntArray) -> Shares:
        """Return the shares of some rows."""
        psi, column = self.psi, self.column
        if column is not None:
            column = column[rows]
        elif psi is not None:
            psi = psi[:, rows]
        scale = None if self.vcov_scale is None else self.vcov_scale[rows]
        return replace(self, value=self.value[rows], psi=psi, column=column, vcov_scale=scale)

    def by_row(self) -> FloatArray | None:
        """Return the influence on the share of each row, shape (G, k)."""
        return self.psi if self.psi is None or self.column is None else self.psi[:, self.column]

    def combined(self, matrix: FloatArray, *, scaled: bool = False) -> FloatArray | None:
        """
        Return the influence on linear combinations of the shares.

        Parameters
        ----------
        matrix : array, shape (r, k)
            The combinations.
        scaled : bool
            Whether with the small-sample factor, as a covariance is built.

        Returns
        -------
        array, shape (G, r), or None
        """
        if self.psi is None:
            return None
        if scaled and self.vcov_scale is not None:
            matrix = matrix * self.vcov_scale
        if self.column is not None:
            parts = np.zeros((self.psi.shape[1], len(matrix)))
            np.add.at(parts, self.column, matrix.T)
            return np.asarray(self.psi @ parts)
        return np.asarray(self.psi @ matrix.T)
