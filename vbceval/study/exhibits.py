"""Exhibits of a run: tables checked and written, and the order in which the report shows them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from vbceval.core.checks import Problems, listed, missing_columns
from vbceval.core.disclosure import SMALLEST_SHOWN, is_small
from vbceval.figures.disclosure import people_columns

PEOPLE = frozenset(
    {
        *("people", "persons", "patients", "members", "beneficiaries"),
        *("episodes", "claims", "stays", "discharges"),
    }
)
"""Column names that count people or services to them, besides those that `figures` knows."""

IDENTIFIER = re.compile(
    r"(desynpuf|bene|beneficiary|patient|person|member|claim|clm|episode)_?(id|key|sk|number)"
    r"|mbi|hic|hicno|ssn",
    re.IGNORECASE,
)
"""Column names of identifiers below organization level."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading of the report."""

    title: str


@dataclass(frozen=True, kw_only=True)
class TextExhibit:
    """Prose of the report, in Markdown or HTML."""

    name: str
    text: str
    format: Literal["markdown", "html"] = "markdown"


@dataclass(frozen=True, kw_only=True)
class TableExhibit:
    """A table: what was written, and how the report shows it."""

    name: str
    title: str
    frame: pd.DataFrame
    note: str = ""
    keys: tuple[str, ...] = ()
    formats: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FigureExhibit:
    """A figure: its files, and the text for those who do not see it."""

    name: str
    title: str
    image: Path
    alt: str
    note: str = ""


Exhibit = Section | TextExhibit | TableExhibit | FigureExhibit


def check_table(
    name: str, frame: pd.DataFrame, *, keys: Sequence[str] = (), counts: Sequence[str] = ()
) -> None:
    """
    Refuse a table that cannot be verified or may not be shown.

    Parameters
    ----------
    name : str
        Name of the table, for the message.
    frame : DataFrame
        The table.
    keys : sequence of str
        Columns that together name each row.
    counts : sequence of str
        Columns that count people, episodes or claims; columns with a usual name of such a count
        (`PEOPLE`, `vbceval.figures.disclosure.PEOPLE`) are checked in any case. Zero may be
        shown, 1-10 may not. That none can be derived from the others is for the author to see
        to: this looks at one cell at a time.

    Raises
    ------
    DataError
        All problems of the table together. No small count is quoted.
    """
    problems = Problems(f"table `{name}`")
    columns = [str(c) for c in frame.columns]
    for what, wanted in (("keys", keys), ("counts", counts)):
        absent = missing_columns(frame, list(wanted))
        if absent:
            problems.add(
                f"`{what}` names {listed(absent)}, which it lacks; it has {listed(columns)}."
            )
    twice = sorted({c for c in columns if columns.count(c) > 1})
    if twice:
        problems.add(f"the columns {listed(twice)} appear more than once. Give each its own name.")
    elif keys and not missing_columns(frame, list(keys)):
        repeated = int(frame.duplicated(list(keys)).sum())
        if repeated:
            problems.add(
                f"{repeated:,} rows repeat the keys {listed(keys)} of another row, so a changed "
                "number could not be named. Add a column to `keys`."
            )
    for column in _people(frame, counts) if not twice else ():
        small = int(is_small(pd.to_numeric(frame[column], errors="coerce")).sum())
        if small:
            problems.add(
                f"column `{column}` has {small:,} cells of 1-{SMALLEST_SHOWN - 1} people, episodes "
                "or claims, which may not be shown. Suppress them with "
                "`vbceval.core.disclosure.suppress_small`, and a second cell wherever a "
                "suppressed one could be derived."
            )
    named = [c for c in columns if IDENTIFIER.fullmatch(c)]
    if named:
        problems.add(f"{listed(named)} identify people or claims. Leave them out.")
    problems.raise_if_any()


def _people(frame: pd.DataFrame, counts: Sequence[str]) -> list[str]:
    declared = [c for c in frame.columns if c in PEOPLE or c in counts]
    return list(dict.fromkeys([*people_columns(frame), *declared]))


def with_named_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with a named index as columns; an unnamed index is dropped."""
    named = [n for n in frame.index.names if n is not None]
    return frame.reset_index() if named else frame.reset_index(drop=True)


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """
    Write a CSV whose numbers read back bit for bit.

    Floats are written with the shortest digits that round-trip; a missing value is empty; lines
    have Unix ends on every platform.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def read_cells(path: Path) -> pd.DataFrame:
    """Return the cells of a CSV as the text that is written there; an empty cell is ``""``."""
    return pd.read_csv(path, dtype=str, keep_default_na=False, na_filter=False, encoding="utf-8")
