"""Which person-years or episodes an effect applies to, each of them once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, is_date, listed, missing_columns, text_rows
from vbceval.core.errors import DataError, DesignError
from vbceval.core.typing import BoolArray, FloatArray, IntArray

NUMBERS = ("cohort", "period", "event_time")
KEYS = (*NUMBERS, "stratum")

_MONEY = ("usd", "dollar", "$")
_OTHER = re.compile(
    r"%|percent|\blog\b|thousand|million|billion|(?:usd|dollars) total|positive = savings"
)
_YEAR = re.compile(r"\b(?:(?:usd|dollars) of (\d{4})\b|(\d{4}) (?:dollars|usd)\b)")
_SPANS: Mapping[str, re.Pattern[str]] = {
    "months": re.compile(r"month|pbpm|pmpm"),
    "quarters": re.compile(r"quarter"),
    "years": re.compile(r"year|pbpy|pmpy|per capita"),
    "episodes": re.compile(r"episode"),
}


def dollars_year(units: Sequence[str]) -> str | None:
    """
    Return the year of dollars that units state, None for nominal ones.

    Raises
    ------
    DesignError
        If a unit is not dollars per unit of exposure, or years differ.
    """
    small = [unit.lower() for unit in units]
    other = [
        unit
        for unit, text in zip(units, small, strict=True)
        if not any(word in text for word in _MONEY) or _OTHER.search(text)
    ]
    if other:
        raise DesignError(
            f"the effects are in {listed(other)}, and only dollars per unit of exposure give savings "
            "in dollars. Multiply by the baseline mean with `scale` first, or select the outcome in "
            "dollars."
        )
    years = {a or b for text in small for a, b in _YEAR.findall(text)}
    if len(years) > 1:
        raise DesignError(
            f"the effects are in dollars of {listed(sorted(years))}, which cannot be added up. "
            "Select one outcome, or estimate all in dollars of one year."
        )
    return years.pop() if years else None


def check_spans(units: Sequence[str], column: str) -> None:
    """
    Check that effects are per month, year or episode where exposure counts these.

    Raises
    ------
    DesignError
        If both say what they are about, and it is not the same.
    """
    for unit in units:
        per, counted = (
            {name for name, words in _SPANS.items() if words.search(text.lower())}
            for text in (unit, column)
        )
        if per and counted and not per & counted:
            raise DesignError(
                f"effects are in {unit} and `{column}` counts {listed(counted)}, so savings would be "
                f"wrong by a factor. Give exposure in {listed(per)}, and name the column after it."
            )


def check_counted_once(frame: pd.DataFrame) -> None:
    """
    Check that no two rows of effects are about the same people and dollars.

    Parameters
    ----------
    frame : DataFrame
        Rows of estimates that have exposure.

    Raises
    ------
    DesignError
        Listing what overlaps: estimands, outcomes, runs, an overall row beside strata, or strata
        of several variables.
    """
    problems = Problems("these effects", DesignError)
    for key in ("estimand", "outcome", "run"):
        values = list(frame[key].dropna().unique()) if key in frame else []
        if len(values) > 1:
            problems.add(
                f"rows of several values of `{key}` have exposure ({listed(values)}), so dollars "
                "would be counted more than once. Select one with `where`."
            )
    strata = frame["stratum"]
    named = sorted({str(x).split("=")[0] for x in strata.dropna()})
    if named and strata.isna().any():
        problems.add(
            f"the row of all people and rows by {listed(named)} have exposure, so people would be "
            "counted twice. Keep `where(stratum=None)`, or one variable with `by`."
        )
    if len(named) > 1:
        problems.add(
            f"strata of {listed(named)} have exposure, and the same people are in a stratum of "
            "each. Select one variable with `by`."
        )
    problems.raise_if_any()


def matched(
    frame: pd.DataFrame, post: BoolArray, exposure: pd.DataFrame, column: str
) -> tuple[IntArray, FloatArray, pd.DataFrame]:
    """
    Match effects at or after entry with a table of exposure.

    Parameters
    ----------
    frame : DataFrame, k rows
        Rows of the estimates.
    post : array of bool, shape (k,)
        Rows at or after entry.
    exposure : DataFrame
        Keys among cohort, period, event_time and stratum, and `column`.
    column : str
        Units of exposure.

    Returns
    -------
    rows : array of int, shape (m,)
        Rows of `frame` that the table is about.
    amount : array, shape (m,)
        Their exposure.
    left_out : DataFrame
        Keys and `column` of exposure at or after entry without an effect.

    Raises
    ------
    DataError
        If the table has not what is needed, or exposure of an effect is missing or negative.
    DesignError
        If no row of the estimates has the keys of the table.
    """
    keys = [key for key in KEYS if key in exposure]
    table = _checked(exposure, keys, column)
    rows = np.flatnonzero(post & frame[keys].notna().all(axis=1).to_numpy())
    if not rows.size:
        raise DesignError(
            f"no estimate at or after entry has {listed(keys)}, the keys of the exposure table: "
            "these are other averages. Give a table by their keys, or one number for each row."
        )
    held = frame.iloc[rows][keys].reset_index(drop=True)
    if held.duplicated().any():
        raise DataError(
            f"the estimates have several rows for one {listed(keys)}: select one stratum or "
            "outcome before turning effects into dollars."
        )
    merged = held.merge(table, on=keys, how="left")
    amount = merged[column].to_numpy(dtype=float)
    bad = ~(np.isfinite(amount) & (amount >= 0))
    if bad.any():
        raise DataError(
            f"`{column}` is missing or negative for ({', '.join(keys)}) "
            f"{said(merged[bad], keys)}; every effect needs the person-years it applies to."
        )
    both = table.merge(held, on=keys, how="left", indicator="_match")
    late = np.ones(len(both), dtype=bool)
    if {"cohort", "period"} <= set(keys):
        both["event_time"] = both["period"] - both["cohort"]
    if "event_time" in both:
        late = (both["event_time"] >= 0).to_numpy()
    return rows, amount, both[late & (both["_match"] == "left_only").to_numpy()]


def said(rows: pd.DataFrame, keys: Sequence[str]) -> str:
    """Write the keys of rows for a message, such as ``(2014, 2015), (2014, 2016)``."""
    words = [
        ", ".join(f"{x:g}" if isinstance(x, float | int) else str(x) for x in row)
        for row in rows[list(keys)].itertuples(index=False, name=None)
    ]
    more = f" and {len(words) - 8} more" if len(words) > 8 else ""
    return ", ".join(f"({x})" for x in words[:8]) + more


def _checked(exposure: pd.DataFrame, keys: list[str], column: str) -> pd.DataFrame:
    """Return the keys and amounts of a table; rows never treated have no cohort and no effect."""
    absent = missing_columns(exposure, [column])
    if absent:
        raise DataError(f"the exposure table has no column {listed(absent)}.")
    if not set(keys) & set(NUMBERS):
        raise DataError(
            f"the exposure table has none of the columns {listed(NUMBERS)}, so it is not known which "
            "effect its rows belong to. Group-time effects need `cohort` and `period`."
        )
    problems = Problems("the exposure table")
    numbers = [key for key in keys if key != "stratum"]
    for name in (*numbers, column):
        if is_date(exposure[name]) or len(text_rows(exposure[name])):
            problems.add(f"`{name}` holds text or dates. Make it numbers, as in the estimates.")
    problems.raise_if_any()
    table = exposure[[*keys, column]].astype(dict.fromkeys((*numbers, column), float))
    if "cohort" in keys:
        table = table[table["cohort"].notna()]
    empty = [key for key in keys if table[key].isna().any()]
    if empty:
        problems.add(f"{listed(empty)} is missing in some rows. Fill it in, or leave these out.")
    twice = int(table.duplicated(keys).sum())
    if twice:
        problems.add(
            f"it has {twice} repeated rows of {listed(keys)}, so person-years would be counted "
            "twice. Add them up first."
        )
    problems.raise_if_any()
    return table
