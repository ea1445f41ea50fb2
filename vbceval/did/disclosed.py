"""Counts of results that are neither shown nor derivable where they are of few people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vbceval.did.inputs import without_small_strata

COUNTS = ["n_units", "n_treated", "n_comparison"]


def without_small_counts(
    frame: pd.DataFrame, rows: Sequence[str], *, parts: Sequence[str] = ()
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
    """
    out = frame.copy()
    keys = [name for name in rows if name in out]
    marked = out.assign(cohort=out.groupby(keys, dropna=False).ngroup(), period=0.0)
    out[COUNTS] = without_small_strata(marked)[COUNTS]
    if parts:
        within = [out[name] for name in ("stratum", *parts)]
        hidden = out["n_treated"].isna().groupby(within, dropna=False).transform("any")
        out.loc[hidden, COUNTS] = np.nan
    return out
