"""Which rows of estimates are meant: query, mask, positions, or column values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError
from vbceval.core.typing import Array, BoolArray, IntArray
from vbceval.estimates.algebra import queried
from vbceval.estimates.columns import GROUP_TIME

Rows = str | Mapping[str, Any] | BoolArray | IntArray | Sequence[int] | Sequence[bool]


def positions(frame: pd.DataFrame, rows: Rows | None, keys: Mapping[str, Any]) -> IntArray:
    """
    Return positions of the selected rows, in the order of the frame or of the positions given.

    Parameters
    ----------
    frame : DataFrame, k rows
        The frame of the estimates, with a default index.
    rows : str, mask, positions or mapping, optional
        A query string; a bool mask; positions, kept in their order; or columns and values.
    keys : mapping
        Columns and values: None or NaN selects missing, a list any of its values.

    Raises
    ------
    DesignError
        If a column does not exist, or nothing is selected.
    """
    chosen = np.arange(len(frame))
    mask = np.ones(len(frame), dtype=bool)
    if isinstance(rows, str):
        mask &= frame.index.isin(queried(frame, rows))
    elif isinstance(rows, Mapping):
        keys = {**rows, **keys}
    elif rows is not None:
        chosen = _as_positions(np.asarray(rows), len(frame))
    for name, value in keys.items():
        if name not in frame:
            raise DesignError(f"the estimates have no column `{name}`.")
        column = frame[name]
        if value is None or (isinstance(value, float) and np.isnan(value)):
            mask &= np.asarray(column.isna())
        elif isinstance(value, (list, tuple, set)):
            mask &= np.asarray(column.isin(list(value)))
        else:
            mask &= np.asarray((column == value).fillna(False), dtype=bool)
    chosen = chosen[mask[chosen]]
    if not len(chosen):
        estimands = sorted(frame["estimand"].dropna().unique())
        # the estimates of cohorts in periods, of which averages are wanted
        remedy = " Make averages of them with `aggregate`." if estimands == [GROUP_TIME] else ""
        raise DesignError(
            f"no row of the estimates matches {rows if rows is not None else dict(keys)!r}: "
            f"`estimand` has {estimands}, `stratum` has "
            f"{sorted(frame['stratum'].dropna().unique())}.{remedy}"
        )
    return chosen


def _as_positions(rows: Array, size: int) -> IntArray:
    if rows.dtype == bool and rows.shape == (size,):
        return np.flatnonzero(rows)
    whole = np.issubdtype(rows.dtype, np.integer)
    if not whole or rows.ndim != 1 or ((rows < 0) | (rows >= size)).any():
        raise DesignError(
            f"rows must be a mask of {size} values or positions from 0 to {size - 1}; they are an "
            f"array of {rows.dtype} with shape {rows.shape}."
        )
    return rows.astype(np.int64)
