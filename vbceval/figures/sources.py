"""Read what a figure is drawn from: `Estimates`, or a plain table that says its level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, missing_columns, text_rows
from vbceval.core.errors import DesignError
from vbceval.estimates import Estimates
from vbceval.figures.style import Style

INTERVAL = ("conf_low", "conf_high")
NUMBERS = ("estimate", "std_error", *INTERVAL, "band_low", "band_high", "p_value")


@dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """
    Rows to draw.

    Parameters
    ----------
    frame : DataFrame
        Tidy rows, index 0..k-1, with every column of `NUMBERS`.
    level : float, optional
        Interval probability; None where no row has an interval.
    interval : {"confidence", "credible", "mixed"}
        What the intervals are; "mixed" where the rows say it in a column ``interval``.
    meta : mapping
        Record of the fit, for notes.
    estimates : Estimates, optional
        The joint law, where the source has one.
    """

    frame: pd.DataFrame
    level: float | None
    interval: str = "confidence"
    meta: Mapping[str, Any] = field(default_factory=dict)
    estimates: Estimates | None = None


def read(
    source: Estimates | pd.DataFrame,
    style: Style,
    *,
    level: float | None = None,
    meta: Mapping[str, Any] | None = None,
    what: str,
    needs: Sequence[str] = ("estimate",),
    mixed: bool = False,
) -> Source:
    """
    Return the rows of `source` with intervals at the level asked for.

    Parameters
    ----------
    source : Estimates or DataFrame
        A table keeps the intervals it has, so it must say their level: in a column ``level`` or
        by the argument.
    style : Style
        Gives the level of `Estimates` where none is asked for.
    level : float, optional
        Interval probability.
    meta : mapping, optional
        Record of the fit, for the notes of a table; `Estimates` carry their own.
    what : str
        Name of the input, for messages.
    needs : sequence of str
        Columns that a table must have.
    mixed : bool, default False
        Allow confidence and credible intervals in one table, as where a posterior summarises
        published estimates.

    Raises
    ------
    DataError
        Listing missing columns, text among numbers, and a level that is not stated.
    """
    if isinstance(source, Estimates):
        used = style.level if level is None else level
        frame = source.tidy(used)
        live = frame["conf_low"].notna().any()
        return Source(
            frame=frame,
            level=used if live else None,
            interval=source.interval,
            meta={**source.meta, "cluster_name": source.cluster_name, **(meta or {})},
            estimates=source,
        )
    frame = require(source, needs, what=what, numbers=NUMBERS)
    for column in NUMBERS:
        if column not in frame:
            frame[column] = np.nan
    kinds = [] if "interval" not in frame else sorted(frame["interval"].dropna().unique())
    if len(kinds) > 1 and not mixed:
        raise DesignError(
            f"{what} mixes {' and '.join(kinds)} intervals; draw them in two figures, so that the "
            "note can say what they are."
        )
    return Source(
        frame=frame,
        level=stated_level(frame, level, what=what),
        interval="mixed" if len(kinds) > 1 else kinds[0] if kinds else "confidence",
        meta=meta or {},
    )


def require(
    table: pd.DataFrame, needs: Sequence[str], *, what: str, numbers: Sequence[str] = ()
) -> pd.DataFrame:
    """
    Return a copy of a table with `numbers` as floats, or list everything that is wrong with it.

    Raises
    ------
    DataError
        If there are no rows, columns are missing, or a numeric column holds text.
    """
    problems = Problems(what)
    if not len(table):
        problems.add("it has no rows. Check the selection that made it.")
    missing = missing_columns(table, needs)
    if missing:
        problems.add(
            f"it has no column {', '.join(f'`{c}`' for c in missing)} (it has "
            f"{', '.join(f'`{c}`' for c in map(str, table.columns))}). Rename or add them."
        )
    frame = table.reset_index(drop=True).copy()
    for column in [c for c in numbers if c in frame]:
        bad = text_rows(frame[column])
        if len(bad):
            problems.add(
                f"`{column}` holds text in {len(bad):,} of {len(frame):,} rows (first at row "
                f"{int(bad[0])}). Convert it to numbers."
            )
        else:
            frame[column] = pd.to_numeric(frame[column]).astype(float)
    problems.raise_if_any()
    return frame


def stated_level(frame: pd.DataFrame, level: float | None, *, what: str) -> float | None:
    """
    Return the level of a table's intervals; None where it has none.

    Raises
    ------
    DataError
        If intervals have no stated level, several, or another one than `level`.
    """
    if "conf_low" not in frame or not frame["conf_low"].notna().any():
        return None
    problems = Problems(what)
    column = [] if "level" not in frame else sorted(frame["level"].dropna().unique())
    levels = column or ([] if level is None else [level])
    if not levels:
        problems.add(
            "it has intervals but does not say their level, and a figure must print it. Pass "
            "`level=`, or add a column `level`."
        )
    elif len(levels) > 1:
        problems.add(
            f"its intervals have several levels ({', '.join(f'{x:g}' for x in levels)}), so they "
            "cannot be compared by eye. Convert them to one level."
        )
    elif level is not None and abs(levels[0] - level) > 1e-9:
        problems.add(
            f"its column `level` says {levels[0]:g}, but `level={level:g}` was asked for; a table's "
            "intervals cannot be changed. Pass the estimates instead."
        )
    problems.raise_if_any()
    return float(levels[0])


def errors(frame: pd.DataFrame) -> pd.Series:
    """Return standard errors, or a quarter of the interval's width where only that is known."""
    width = frame["conf_high"] - frame["conf_low"]
    return frame["std_error"].fillna(width / 4).astype(float)


def by_series(data: pd.DataFrame, key: str = "series") -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of each series with its name, in order of first appearance."""
    return [(str(name), data[data[key] == name]) for name in data[key].unique()]
