"""Weights by which rows of estimates are averaged."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vbceval.core.typing import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Shares:
    """
    Weights that average rows of `Estimates`, with their sampling error.

    Parameters
    ----------
    value : array, shape (k,)
        Share of each row: not normalised, non-negative.
    psi : array, shape (G, k), or None
        Influence of each cluster on `value`; None when the shares are taken as fixed.
    vcov_scale : float, default 1
        Root of the small-sample factor, applied to `psi` where a covariance is built.
    """

    value: FloatArray
    psi: FloatArray | None = None
    vcov_scale: float = 1.0

    def take(self, rows: IntArray) -> Shares:
        """Return the shares of some rows."""
        psi = None if self.psi is None else self.psi[:, rows]
        return replace(self, value=self.value[rows], psi=psi)
