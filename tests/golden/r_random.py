"""Random numbers of R (Mersenne-Twister, inversion, rejection), so that its simulated data can be rebuilt."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri


class RRandom:
    """
    Generator of R 3.6 and later after ``set.seed(seed)``, in its order of use.

    Parameters
    ----------
    seed : int
        As in ``set.seed``.
    """

    def __init__(self, seed: int) -> None:
        words = []
        for step in range(675):
            seed = (69069 * seed + 1) % 2**32
            if step >= 50:
                words.append(seed)
        self._bits = np.random.MT19937()
        # the first word is R's position, which it sets to the end of the block
        key = np.array(words[1:], dtype=np.uint32)
        self._bits.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": 624}}

    def runif(self, n: int) -> np.ndarray:
        """n uniform numbers in (0, 1)."""
        u = self._bits.random_raw(n) * 2.3283064365386963e-10
        return np.clip(u, 0.5 * 2.328306437080797e-10, 1 - 0.5 * 2.328306437080797e-10)

    def rnorm(self, n: int) -> np.ndarray:
        """n standard normal numbers, by inversion of two uniform numbers each."""
        u = self.runif(2 * n).reshape(n, 2)
        return ndtri((np.floor(2**27 * u[:, 0]) + u[:, 1]) / 2**27)

    def sample(self, size: int, n: int) -> np.ndarray:
        """n draws with replacement from 1 to size, by rejection of bits."""
        bits = int(np.ceil(np.log2(size)))
        out = []
        while len(out) < n:
            drawn = 0
            for _ in range(0, bits + 1, 16):
                drawn = 65536 * drawn + int(np.floor(self.runif(1)[0] * 65536))
            drawn &= (1 << bits) - 1
            if drawn < size:
                out.append(drawn + 1)
        return np.array(out)
