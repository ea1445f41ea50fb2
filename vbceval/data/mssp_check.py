"""Arithmetic that holds in every row of every results file, so a misread column shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.data.mssp_layout import ENROLLMENT_TYPES, Cell

HALF_UNIT = 5e-5
"""Half a unit of a savings rate with four digits, the coarsest that CMS prints."""


def savings_rate_scale(rate: FloatArray, exact: FloatArray) -> float:
    """
    Return the factor that makes a printed savings rate a fraction: 1 or 0.01.

    Parameters
    ----------
    rate : ndarray of float, shape (n,)
        Savings rate as printed, percent signs dropped.
    exact : ndarray of float, shape (n,)
        (benchmark - expenditure) / benchmark.

    Examples
    --------
    >>> savings_rate_scale(np.array([7.14, -3.61]), np.array([0.07135, -0.03614]))
    0.01
    """
    both = np.isfinite(rate) & np.isfinite(exact)
    if not both.any():
        return 1.0
    off = {s: float(np.median(np.abs(rate[both] * s - exact[both]))) for s in (1.0, 0.01)}
    return min(off, key=lambda scale: off[scale])


def check_arithmetic(
    fields: pd.DataFrame,
    cells: Mapping[Cell, FloatArray],
    *,
    full_year: bool,
    names: Sequence[str],
    found: Problems,
) -> None:
    """
    Add to `found` every identity that fails, with its rows, what is printed and what it should be.

    Checked: benchmark minus expenditure; the savings rate; person-years of the enrollment types
    against their total; expenditure against person-years times per-capita expenditure.

    Parameters
    ----------
    fields : DataFrame, n rows
        Columns as in `MSSPResults.aco_year`, money in nominal US dollars, rates as fractions.
    cells : mapping of Cell to ndarray of float, shape (n,)
        Values by measure, enrollment type and reference year.
    full_year : bool
        False where the totals cover 18 or 21 months for some ACOs (the 2013 file), so that
        per-capita amounts, which are annual, do not add up to them.
    names : sequence of str, length n
        What to call the rows.
    found : Problems
        Where failures are collected.
    """
    benchmark, expenditure, difference, rate = (
        fields[name].to_numpy(dtype=float)
        for name in ("benchmark", "expenditure", "benchmark_minus_expenditure", "sav_rate")
    )
    _compare(
        "`BnchmkMinExp` is not benchmark minus expenditure",
        difference, benchmark - expenditure, np.full(len(fields), 2.0), names, found, "${:,.0f}",
    )  # fmt: skip
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = (benchmark - expenditure) / benchmark
        tolerance = HALF_UNIT + np.abs(1.0 / benchmark) + 1e-9
    _compare(
        "the savings rate is not (benchmark - expenditure) / benchmark",
        rate, exact, tolerance, names, found, "{:.6f}",
    )  # fmt: skip
    total = fields["person_years"].to_numpy(dtype=float)
    parts = [cells.get(Cell("person_years", stratum, "PY")) for stratum in ENROLLMENT_TYPES]
    known = [part for part in parts if part is not None]
    if len(known) == len(parts):
        # five numbers rounded to whole person-years
        _compare(
            "person-years of the four enrollment types do not add up to their total",
            np.sum(known, axis=0), total, np.full(len(fields), 3.0), names, found, "{:,.0f}",
        )  # fmt: skip
    if full_year:
        per_capita = fields["per_capita_total"].to_numpy(dtype=float)
        share = np.where(fields["part"] == "full_year", 1.0, 0.5)
        slack = share * (0.5 * per_capita + 0.5 * total) + 2.0
        _compare(
            "expenditure is not person-years times per-capita expenditure",
            expenditure, share * total * per_capita, slack, names, found, "${:,.0f}",
        )  # fmt: skip


def _compare(
    what: str,
    printed: FloatArray,
    expected: FloatArray,
    tolerance: FloatArray,
    names: Sequence[str],
    found: Problems,
    style: str,
) -> None:
    with np.errstate(invalid="ignore"):
        off: BoolArray = np.abs(printed - expected) > tolerance
    if off.any():
        shown = listed(
            f"{names[i]}: found {style.format(printed[i])}, expected {style.format(expected[i])}"
            for i in np.flatnonzero(off).tolist()
        )
        found.add(
            f"{what} in {int(off.sum())} of {len(off)} rows ({shown}), more than rounding allows: "
            "a column was read in a wrong unit or a value was changed. Download the file again."
        )
