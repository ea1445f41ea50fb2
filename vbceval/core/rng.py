"""Random numbers: seeds are passed down and spawned by name, never global."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return a generator for one named purpose, independent of every other name.

    Parameters
    ----------
    seed : int
        Seed of the study or call.
    *names : str or int
        Path of the purpose, for example ``("D2", 17)``. Equal seed and names give equal streams
        on every machine.
    """
    words = [int.from_bytes(hashlib.sha256(str(n).encode()).digest()[:8], "big") for n in names]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))
