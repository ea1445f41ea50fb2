"""Every exhibit's counts of people pass here; a small cell takes its row's values with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vbceval.core.checks import missing_columns
from vbceval.core.disclosure import is_small
from vbceval.core.errors import DataError
from vbceval.core.typing import BoolArray

PEOPLE = (
    "n_people",
    "n_persons",
    "n_beneficiaries",
    "n_episodes",
    "n_claims",
    "n_stays",
    "n_discharges",
    "person_years",
    "person_months",
    "member_months",
)
"""Columns that count people, or services to them; longer names that begin so count as well."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """
    A table after the disclosure check.

    Parameters
    ----------
    frame : DataFrame
        Copy of the table with small counts and the values of their rows missing, and a column
        ``suppressed`` (bool).
    columns : tuple of str
        Columns that were read as counts of people.
    n_suppressed : int
        Number of rows in which something was suppressed.
    """

    frame: pd.DataFrame
    columns: tuple[str, ...]
    n_suppressed: int


def people_columns(frame: pd.DataFrame, extra: Sequence[str] = ()) -> list[str]:
    """
    Return the columns that count people: known names, names that begin so, and `extra`.

    Raises
    ------
    DataError
        If `extra` names a column that the table does not have.
    """
    missing = missing_columns(frame, extra)
    if missing:
        raise DataError(
            f"`people` names {', '.join(f'`{c}`' for c in missing)}, which the table does not "
            f"have, so the counts would not be checked; it has {', '.join(map(str, frame.columns))}."
        )
    known = [
        c
        for c in map(str, frame.columns)
        if c in PEOPLE or any(c.startswith(f"{name}_") for name in PEOPLE)
    ]
    return list(dict.fromkeys([*known, *extra]))


def calculated(
    frame: pd.DataFrame, columns: Sequence[str], *, people: Sequence[str] = ()
) -> list[str]:
    """
    Return the columns that may be calculated from the people of a row: means, shares, rates.

    These are the numeric ones that are neither counts of people nor counts of something else, whose
    names begin with ``n_``.
    """
    counts = set(people_columns(frame, people))
    return [
        c
        for c in columns
        if c not in counts
        and not c.startswith("n_")
        and pd.api.types.is_numeric_dtype(frame[c])
        and not pd.api.types.is_bool_dtype(frame[c])
    ]


def check(
    frame: pd.DataFrame,
    *,
    values: Sequence[str] = (),
    people: Sequence[str] = (),
    total: BoolArray | None = None,
    within: str | None = None,
) -> Checked:
    """
    Suppress counts of 1 to 10 people, the other counts of their rows, and what is calculated from them.

    Parameters
    ----------
    frame : DataFrame
        Table of an exhibit; it is not changed.
    values : sequence of str
        Columns that are calculated from the people of the row (means, estimates, intervals); they
        go missing where a count of the row is small. A gap is left, never an interpolation.
    people : sequence of str
        Columns that count people besides those known by name.
    total : array of bool, optional
        Rows that are totals of the others; all False where their total is known from elsewhere.
        Where one count alone is hidden among the rows that add up to a total, it is the total less
        the others: the next smallest count goes as well.
    within : str, optional
        Column whose values group the rows that add up to the total.

    Returns
    -------
    Checked
    """
    out = frame.reset_index(drop=True).copy()
    columns = people_columns(out, people)
    affected = np.zeros(len(out), dtype=bool)
    every = {
        c: pd.to_numeric(out[c], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        for c in columns
    }
    hidden = np.zeros(len(out), dtype=bool)
    for counts in every.values():
        hidden |= is_small(counts)
    for column, counts in every.items():
        # months of coverage beside a hidden count of people would give it away
        small = hidden & (counts != 0) & np.isfinite(counts)
        if total is not None:
            small = _with_complement(counts, small, total, _groups(out, within))
        affected |= small
        out[column] = np.where(small, np.nan, counts)
    for column in [c for c in values if c in out]:
        out.loc[hidden, column] = np.nan
    out["suppressed"] = affected
    return Checked(frame=out, columns=tuple(columns), n_suppressed=int(affected.sum()))


def _groups(frame: pd.DataFrame, within: str | None) -> np.ndarray:
    if within is None or within not in frame:
        return np.zeros(len(frame), dtype=np.int64)
    return pd.factorize(frame[within])[0]


def _with_complement(
    counts: np.ndarray, small: BoolArray, total: BoolArray, groups: np.ndarray
) -> BoolArray:
    out = small.copy()
    for group in np.unique(groups[~total]):
        parts = np.flatnonzero((groups == group) & ~total & np.isfinite(counts) & (counts > 0))
        if small[parts].sum() == 1 and len(parts) > 1:
            rest = parts[~small[parts]]
            out[rest[np.argmin(counts[rest])]] = True
    return out


def sentence(n_suppressed: int) -> str:
    """Say in a note that cells were suppressed; empty where none was."""
    if not n_suppressed:
        return ""
    rows = "row" if n_suppressed == 1 else "rows"
    return (
        f"Counts of 1 to 10 people, and what would reveal them, are suppressed ({n_suppressed:,} "
        f"{rows}); gaps are not interpolated."
    )
