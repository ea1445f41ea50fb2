"""The multiplier bootstrap of estimates from their cluster influence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vbceval.core.errors import DesignError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray

_IQR_OF_NORMAL = 1.3489795003921634
_BLOCK_VALUES = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Multiplier:
    """
    A multiplier bootstrap: cluster influences times random multipliers of mean 0 and variance 1.

    Standard errors are the interquartile range of the draws over that of a standard normal, and
    simultaneous bands take the quantile of the largest |t|, as in R `did`.

    Parameters
    ----------
    draws : int, default 1000
        Number of draws S.
    weights : {"rademacher", "mammen"}
        Two-point law of the multipliers. R `did` uses Rademacher.
    seed : int, default 20210101
        Seed of the multipliers; they depend on it and on the order of clusters only, so that any
        rows of one fit are drawn jointly.

    References
    ----------
    .. [1] Callaway, B. and Sant'Anna, P. H. C. (2021). Difference-in-differences with multiple
       time periods. *Journal of Econometrics* 225(2), 200-230. Section 4.1, algorithm 1.
    """

    draws: int = 1000
    weights: Literal["rademacher", "mammen"] = "rademacher"
    seed: int = 20210101

    def __post_init__(self) -> None:
        if self.draws < 100 or self.weights not in ("rademacher", "mammen"):
            raise DesignError(
                f"a multiplier bootstrap needs at least 100 `draws` and `weights` 'rademacher' or "
                f"'mammen'; they are {self.draws} and '{self.weights}'."
            )

    def draw(self, psi: FloatArray) -> FloatArray:
        """
        Draw (estimate - truth).

        Parameters
        ----------
        psi : array, shape (G, k)
            Influence of each cluster, scaled so that ``psi.T @ psi`` is the covariance.

        Returns
        -------
        array, shape (S, k)
            Draws. Cost O(S G k), in blocks of bounded memory.
        """
        rng = generator(self.seed, "multiplier", self.weights)
        root5 = np.sqrt(5.0)
        out = np.empty((self.draws, psi.shape[1]))
        block = max(_BLOCK_VALUES // max(len(psi), 1), 1)
        for start in range(0, self.draws, block):
            shape = (min(block, self.draws - start), len(psi))
            if self.weights == "mammen":
                share = (1 + root5) / (2 * root5)
                multipliers = np.where(rng.random(shape) < share, (1 - root5) / 2, (1 + root5) / 2)
            else:
                # one random bit each
                bits = np.frombuffer(rng.bytes(shape[0] * -(-shape[1] // 8)), dtype=np.uint8)
                signs = np.unpackbits(bits.reshape(shape[0], -1), axis=1, count=shape[1])
                multipliers = 2.0 * signs - 1.0
            out[start : start + block] = multipliers @ psi
        return out

    @staticmethod
    def std_error(draws: FloatArray) -> FloatArray:
        """Return the interquartile range of draws over that of a standard normal, shape (k,)."""
        low, high = np.quantile(draws, [0.25, 0.75], axis=0)
        return np.asarray((high - low) / _IQR_OF_NORMAL)
