"""The table of baseline data of a benchmark, checked, as arrays; and the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed, missing_columns
from vbceval.core.typing import FloatArray
from vbceval.programs.terms import Used

KEYS = ("aco_id", "enrollment_type")

BASELINE = (
    "per_capita_by1", "per_capita_by2", "per_capita_by3", "risk_by1", "risk_by2", "risk_by3",
    "trend_by1", "trend_by2", "person_years", "hcc_ratio", "demographic_ratio",
)  # fmt: skip
"""Columns of numbers that every benchmark needs."""

OF_ACO = {
    "agreement": 1.0,
    "rebased": 0.0,
    "prior_savings": 0.0,
    "proration": 1.0,
    "population": 0.0,
    "dual_share": 0.0,
    "mean_risk": 1.0,
}
"""Columns of an ACO as a whole, and the value where the table does not have them."""

SHARES = ("rebased", "dual_share", "national_share", "new_share")
"""Columns that lie between 0 and 1."""

_POSITIVE = (
    "risk_",
    "person",
    "national_per",
    "hcc",
    "demographic",
    "regional_hcc",
    "regional_dem",
)


@dataclass(frozen=True)
class MSSPBenchmark:
    """
    Benchmarks with every step.

    Attributes
    ----------
    types : DataFrame
        One row an ACO and enrollment type: ``historical regional_adjustment added
        adjusted_historical update risk_ratio updated``. Where an update is an amount of dollars,
        `update` holds these and is added after the risk ratio.
    organizations : DataFrame
        One row an ACO, averages by person-years of the performance year: ``historical adjustment
        adjustment_kind risk_growth risk_limit regional_risk_growth regional_risk_limit updated
        updated_two_way``; the last is without the prospective trend, for `guardrail`. What a start
        year does not have is missing.
    used : tuple of Used
        Values of the rules, with status and source.
    assumed : tuple of str
        What was taken for granted of how many ACOs for want of a column, sentences.
    """

    types: pd.DataFrame
    organizations: pd.DataFrame
    used: tuple[Used, ...]
    assumed: tuple[str, ...] = ()


def check_table(frame: pd.DataFrame, needed: Sequence[str], *, unread: Sequence[str]) -> None:
    """
    Raise one error with everything that is wrong with a table of baseline data.

    Parameters
    ----------
    frame : DataFrame
        One row an ACO and enrollment type.
    needed : sequence of str
        Columns of numbers.
    unread : sequence of str
        Columns for which the start year has no rule.

    Raises
    ------
    DataError
        Listing missing columns and values, numbers that cannot be, repeated rows, and columns that
        would be ignored.
    """
    found = Problems("the table of baseline data")
    absent = missing_columns(frame, [*KEYS, *needed])
    if absent:
        found.add(f"{len(absent)} columns are missing: {listed(absent, most=20)}.")
        found.raise_if_any()
    if frame.duplicated(list(KEYS)).any():
        found.add("an ACO has two rows of one enrollment type. Keep one.")
    ignored = [name for name in unread if name in frame and frame[name].notna().any()]
    if ignored:
        found.add(
            f"{listed(ignored, most=20)} would be ignored, since agreements that start in this year "
            "have no such rule. Leave them out."
        )
    for name in needed:
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float)
        bad = ~np.isfinite(values) | (values < 0)
        bad |= (values <= 0) if name.startswith(_POSITIVE) else False
        bad |= (values > 1) if name in SHARES else False
        if bad.any():
            rows = frame.loc[bad, "aco_id"].astype(str).unique()
            above = " or above 1" if name in SHARES else ""
            found.add(
                f"`{name}` is missing, negative or zero{above} in rows of {len(rows)} ACOs "
                f"({listed(rows)}). Leave out an enrollment type without people."
            )
    for name in (n for n in OF_ACO if n in frame and n not in ignored):
        _check_of_aco(frame, name, found)
    found.raise_if_any()


def _check_of_aco(frame: pd.DataFrame, name: str, found: Problems) -> None:
    if frame[["aco_id", name]].drop_duplicates()["aco_id"].duplicated().any():
        found.add(f"`{name}` differs between the rows of an ACO; it belongs to the whole ACO.")
    values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float)
    bad = ~np.isfinite(values)
    bad |= (values < 0) if name != "prior_savings" else False
    bad |= (values > 1) if name in SHARES else False
    if bad.any():
        rows = frame.loc[bad, "aco_id"].astype(str).unique()
        bounds = "a fraction between 0 and 1" if name in SHARES else "a number from 0 on"
        found.add(
            f"`{name}` is not {'a number' if name == 'prior_savings' else bounds} in rows of "
            f"{len(rows)} ACOs ({listed(rows)}). Correct it, or leave the column out."
        )


def matrix(table: pd.DataFrame, name: str) -> FloatArray:
    """Return a column as (organizations, types); NaN where an ACO has no people of a type."""
    row, acos = pd.factorize(table["aco_id"])
    column, types = pd.factorize(table["enrollment_type"], sort=True)
    wide = np.full((len(acos), len(types)), np.nan)
    wide[row, column] = table[name].to_numpy(dtype=float)
    return wide


def of_aco(table: pd.DataFrame, name: str, absent: float) -> FloatArray:
    """Return a column of whole ACOs, shape (organizations, 1)."""
    if name not in table:
        return np.full((table["aco_id"].nunique(), 1), absent)
    return table.groupby("aco_id", sort=False)[name].first().to_numpy(dtype=float)[:, None]


def average(values: FloatArray, share: FloatArray) -> FloatArray:
    """Return the mean over types by shares of people, shape (organizations,)."""
    return np.asarray(np.where(share > 0, values * share, 0.0).sum(axis=1))


def shares_of_people(table: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
    """Return person-years and their shares, (organizations, types); 0 where there are none."""
    person_years = np.nan_to_num(matrix(table, "person_years"))
    return person_years, person_years / person_years.sum(axis=1, keepdims=True)


def long(table: pd.DataFrame, steps: dict[str, FloatArray]) -> pd.DataFrame:
    """Return arrays of (organizations, types) as columns beside the keys of the table."""
    row, _ = pd.factorize(table["aco_id"])
    column, _ = pd.factorize(table["enrollment_type"], sort=True)
    columns = {name: values[row, column] for name, values in steps.items()}
    return pd.concat([table[list(KEYS)], pd.DataFrame(columns)], axis=1)
