"""Counts of results that are neither shown nor derivable where they are of few people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vbceval.core.disclosure import is_small
from vbceval.core.typing import BoolArray, IntArray
from vbceval.did.inputs import without_small_strata

COUNTS = ["n_units", "n_treated", "n_comparison"]


def tells_small(sizes: IntArray, held: BoolArray) -> bool:
    """
    Return whether counts of rows would tell a group of 1-10 people: some hold it, others do not.

    Parameters
    ----------
    sizes : int array, shape (k,)
        People in each group.
    held : bool array, shape (rows, k)
        Which groups are among those counted in each row.
    """
    return bool((is_small(sizes) & held.any(axis=0) & ~held.all(axis=0)).any())


def without_small_counts(
    frame: pd.DataFrame,
    rows: Sequence[str],
    *,
    parts: Sequence[str] = (),
    told: Sequence[bool] | None = None,
    clusters: bool = False,
) -> pd.DataFrame:
    """
    Blank counts from which a suppressed count of people could be found by subtraction.

    Parameters
    ----------
    frame : DataFrame
        Rows with `COUNTS`, missing where they are suppressed, and ``stratum``.
    rows : sequence of str
        Columns that say which rows of different strata are of the same comparison; those that
        `frame` does not have are left out.
    parts : sequence of str
        Columns within whose values counts of rows add up to others: where one is suppressed, so
        are all.
    told : sequence of bool, optional
        Rows whose counts hold a small group that other rows do not hold (see `tells_small`).
    clusters : bool
        Whether clusters are people too.
    """
    out = frame.copy()
    if told is not None:
        out.loc[np.asarray(told, dtype=bool), COUNTS] = np.nan
    keys = [name for name in rows if name in out]
    marked = out.assign(cohort=out.groupby(keys, dropna=False).ngroup(), period=0.0)
    names = [*COUNTS, *(["n_clusters"] if clusters else [])]
    out[names] = without_small_strata(marked, clusters=clusters)[names]
    if parts:
        within = [out[name] for name in ("stratum", *parts)]
        hidden = out["n_treated"].isna().groupby(within, dropna=False).transform("any")
        out.loc[hidden, COUNTS] = np.nan
    return out
