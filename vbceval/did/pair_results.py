"""What is known of one (g, t) comparison, estimated or not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.design import GroupTimePair


class Counts(NamedTuple):
    """
    Who is behind one comparison.

    Parameters
    ----------
    treated_weight : array, shape (G,)
        Weight of treated units used, by cluster.
    clusters : bool array, shape (G,)
        Which clusters are used.
    n_treated, n_comparison : int
        Units on each side.
    note : str or None
        What to know about the row.
    """

    treated_weight: FloatArray
    clusters: BoolArray
    n_treated: int
    n_comparison: int
    note: str | None


class PairResult(NamedTuple):
    """
    One comparison for all m outcomes of a block, estimated or not.

    Parameters
    ----------
    pair : GroupTimePair
        Cohort, period, base, controls.
    estimate : array, shape (m,)
        Effect on each outcome; NaN where it failed.
    counts : Counts
        Units and clusters used.
    failure : str or None
        Why it could not be estimated.
    no_comparison : bool
        Whether the reason is that nobody is left to compare with.
    """

    pair: GroupTimePair
    estimate: FloatArray
    counts: Counts
    failure: str | None = None
    no_comparison: bool = False


def without_estimation(pair: GroupTimePair, counts: Counts, n_outcomes: int) -> PairResult:
    """Return the reference row, or a comparison that has nobody to compare with."""
    if pair.is_reference:
        return PairResult(pair, np.zeros(n_outcomes), counts)
    reason = f"no comparison unit is seen at both {pair.base:g} and {pair.period:g}"
    missing = np.full(n_outcomes, np.nan)
    return PairResult(pair, missing, counts, reason, no_comparison=True)


def noted(treated: IntArray, comparison: IntArray) -> str | None:
    """Return what to know of the clusters of the two sides."""
    note = None
    for name, own in (("treated", treated), ("comparison", comparison)):
        if len(own) and own.min() == own.max():
            note = f"one {name} cluster: its own sampling error is not in std_error"
    return note
