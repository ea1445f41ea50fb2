"""Corridors whose bands differ between the variants of organizations."""

from __future__ import annotations

import numpy as np

from vbceval.core.typing import FloatArray
from vbceval.programs.steps import corridor
from vbceval.programs.terms import Terms


def by_bands(terms: Terms, name: str, amount: FloatArray, base: FloatArray) -> FloatArray:
    """
    Return the organizations' part of amounts, each in the bands of its own variant.

    Parameters
    ----------
    terms : Terms
        The rules.
    name : str
        Parameter of kind ``bands``.
    amount, base : ndarray, shape (organizations, 1) or (organizations, draws)
        Savings or losses, and what the bands are fractions of.
    """
    tables = terms.tables(name)
    if len(tables) == 1:
        return corridor(amount, base, tables[0][1])
    amount, base = np.broadcast_arrays(amount, base)
    kept = np.zeros(amount.shape)
    for mask, bands in tables:
        kept[mask] = corridor(amount[mask], base[mask], bands)
    return kept
