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
    psi : array, shape (G, k), or None
        Influence of each cluster on `value`; None when the shares are taken as fixed.
    vcov_scale : array, shape (k,), optional
        Root of the small-sample factor of each row, applied to `psi` where a covariance is built;
        None is 1.
    """

    value: FloatArray
    psi: FloatArray | None = None
    vcov_scale: FloatArray | None = None

    def take(self, rows: IntArray) -> Shares:
        """Return the shares of some rows."""
        psi = None if self.psi is None else self.psi[:, rows]
        scale = None if self.vcov_scale is None else self.vcov_scale[rows]
        return replace(self, value=self.value[rows], psi=psi, vcov_scale=scale)

    def psi_vcov(self) -> FloatArray | None:
        """Return the influence with the small-sample factor, shape (G, k)."""
        if self.psi is None or self.vcov_scale is None:
            return self.psi
        return np.asarray(self.psi * self.vcov_scale)
