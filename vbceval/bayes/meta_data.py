"""The table of a meta-analysis: checked, and placed in its levels of dependence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed, missing_columns, text_rows
from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.estimates.columns import VALUES

RANDOM_LEVELS = ("program", "report", "effect")
"""Levels whose deviations are drawn anew for a new program; program types have their own level."""

_OWN = (
    "estimand", "outcome", "unit_of_measure", "stratum", *VALUES, "report", "program",
    "program_type", "observed", "observed_se",
)  # fmt: skip
"""Columns of the result, which columns carried along may not overwrite."""

_FEWEST_ERRORS = 3
_LEAST_LOG_SD = 0.3


class Columns(NamedTuple):
    """Names of the columns that are read."""

    estimate: str = "estimate"
    std_error: str = "std_error"
    report: str = "report"
    program: str = "program"
    program_type: str = "program_type"
    std_error_low: str | None = None
    std_error_high: str | None = None
    sample: str | None = None


class ErrorLaw(NamedTuple):
    """
    Law of standard errors that are known only within bounds.

    The logarithm is normal, with the mean and standard deviation of the logarithms of the printed
    standard errors, cut off at each row's bounds.
    """

    rows: IntArray
    low: FloatArray
    high: FloatArray
    log_mean: float
    log_sd: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Studies:
    """
    Effects with their standard errors and their levels of dependence.

    Parameters
    ----------
    estimate, std_error : array, shape (n,)
        Percent points; the standard error is missing in the rows of `error_law`.
    index : mapping of level to array, shape (n,)
        Position of each row's type, program, report, effect and sample among `labels`.
    labels : mapping of level to sequence
        Names of the groups of each level.
    levels : tuple of str
        Levels that have a standard deviation of their own, from "type" to "effect".
    error_law : ErrorLaw or None
        Where some standard errors are known only within bounds.
    frame : DataFrame, n rows
        The columns that describe a row.
    """

    estimate: FloatArray
    std_error: FloatArray
    index: Mapping[str, IntArray]
    labels: Mapping[str, Sequence[object]]
    levels: tuple[str, ...]
    error_law: ErrorLaw | None
    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.estimate)

    @property
    def random_levels(self) -> tuple[str, ...]:
        """Active levels below the program type."""
        return tuple(x for x in RANDOM_LEVELS if x in self.levels)

    def observed(self) -> Any:
        """
        Return what was read, by row, as an xarray Dataset.

        It holds estimates, standard errors (missing where not printed) with their bounds, and the
        groups of every level.
        """
        import xarray

        low, high = np.full((2, len(self)), np.nan)
        if self.error_law is not None:
            low[self.error_law.rows] = self.error_law.low
            high[self.error_law.rows] = self.error_law.high
        columns: dict[str, FloatArray | IntArray] = {
            "estimate": self.estimate, "std_error": self.std_error,
            "std_error_low": low, "std_error_high": high,
            **{level: codes for level, codes in self.index.items() if level != "effect"},
        }  # fmt: skip
        return xarray.Dataset({name: (("row",), values) for name, values in columns.items()})

    def same(self, level: str) -> BoolArray:
        """Return which pairs of rows share a group of a level, shape (n, n)."""
        index = self.index[level]
        return np.asarray(index[:, None] == index[None, :])


def read_studies(
    data: pd.DataFrame, columns: Columns, keep: Sequence[str], *, program_effects: bool
) -> Studies:
    """
    Check a table of effects and place it in its levels.

    A level gets a standard deviation of its own only where the table can tell it from the level
    below: types if there are two, programs if one of them has two reports, effects within a report
    if one of them has two rows. Reports always have one.

    Parameters
    ----------
    data : DataFrame, n rows
        One row an effect.
    columns : Columns
        Names of the columns.
    keep : sequence of str
        Further columns carried along.
    program_effects : bool
        False leaves the level of programs out.

    Raises
    ------
    DataError
        All failures of the table together.
    DesignError
        If there are fewer than two rows.
    """
    _check(data, columns, keep)
    if len(data) < 2:
        raise DesignError(f"a meta-analysis needs at least two effects; the table has {len(data)}.")
    names = {"type": columns.program_type, "program": columns.program, "report": columns.report}
    if columns.sample is not None:
        names["sample"] = columns.sample
    coded = {level: pd.factorize(data[name]) for level, name in names.items()}
    index: dict[str, IntArray] = {k: np.array(v[0]) for k, v in coded.items()}
    labels: dict[str, Sequence[object]] = {k: list(v[1]) for k, v in coded.items()}
    if columns.sample is not None:
        # a row without a sample shares its errors with nobody
        alone = index["sample"] < 0
        index["sample"][alone] = len(labels["sample"]) + np.arange(int(alone.sum()))
        labels["sample"] = [*labels["sample"], *[None] * int(alone.sum())]
    index["effect"], labels["effect"] = np.arange(len(data)), list(range(len(data)))
    described = list(dict.fromkeys([*names.values(), *keep]))
    return Studies(
        estimate=_numbers(data, columns.estimate),
        std_error=_numbers(data, columns.std_error),
        index=index,
        labels=labels,
        levels=_levels(index, program_effects),
        error_law=_error_law(data, columns),
        frame=data[described].reset_index(drop=True),
    )


def _levels(index: Mapping[str, IntArray], program_effects: bool) -> tuple[str, ...]:
    pairs = pd.DataFrame({k: index[k] for k in ("program", "report")})
    several_reports = pairs.drop_duplicates().groupby("program").size().gt(1).any()
    found = {
        "type": len(np.unique(index["type"])) > 1,
        "program": program_effects and bool(several_reports),
        "report": True,
        "effect": bool(pairs.groupby("report").size().gt(1).any()),
    }
    return tuple(level for level, active in found.items() if active)


def _numbers(data: pd.DataFrame, name: str) -> FloatArray:
    return np.array(pd.to_numeric(data[name]), dtype=float)


def _bounds(data: pd.DataFrame, columns: Columns) -> tuple[FloatArray, FloatArray]:
    missing = np.full(len(data), np.nan)
    low = missing if columns.std_error_low is None else _numbers(data, columns.std_error_low)
    high = missing if columns.std_error_high is None else _numbers(data, columns.std_error_high)
    known = np.isfinite(low) | np.isfinite(high)
    return np.where(known & np.isnan(low), 0.0, low), np.where(known & np.isnan(high), np.inf, high)


def _error_law(data: pd.DataFrame, columns: Columns) -> ErrorLaw | None:
    se = _numbers(data, columns.std_error)
    rows = np.flatnonzero(np.isnan(se))
    if not len(rows):
        return None
    low, high = _bounds(data, columns)
    logs = np.log(se[~np.isnan(se)])
    return ErrorLaw(
        rows=rows,
        low=low[rows],
        high=high[rows],
        log_mean=float(logs.mean()),
        log_sd=max(float(logs.std(ddof=1)), _LEAST_LOG_SD),
    )


def _check(data: pd.DataFrame, columns: Columns, keep: Sequence[str]) -> None:
    problems = Problems("the table of effects")
    absent = missing_columns(data, [*[c for c in columns if c is not None], *keep])
    if absent:
        problems.add(f"it has no column {listed(absent)}. It has {listed(data.columns)}.")
    problems.raise_if_any()
    described = (columns.report, columns.program, columns.program_type)
    taken = [c for c in keep if c in _OWN and c not in described]
    if taken:
        problems.add(
            f"`keep` names {listed(taken)}, which the result has of its own. Rename them in the table."
        )
    read = (columns.estimate, columns.std_error, columns.std_error_low, columns.std_error_high)
    for name in [c for c in read if c is not None]:
        text = text_rows(data[name])
        if len(text):
            problems.add(
                f"`{name}` holds text in {len(text)} rows (rows {listed(text)}). Leave a cell empty "
                "where nothing is printed."
            )
    for name in described:
        if data[name].isna().any():
            problems.add(
                f"`{name}` is missing in {int(data[name].isna().sum())} rows, so it is unknown "
                "which effects depend on each other. Fill it."
            )
    problems.raise_if_any()
    _check_estimates(data, columns, problems)
    _check_errors(data, columns, problems)
    problems.raise_if_any()


def _check_estimates(data: pd.DataFrame, columns: Columns, problems: Problems) -> None:
    estimate = _numbers(data, columns.estimate)
    missing = np.flatnonzero(~np.isfinite(estimate))
    if len(missing):
        problems.add(
            f"`{columns.estimate}` is missing in {len(missing)} rows (rows {listed(missing)}). An "
            "effect that is only called insignificant is not zero: leave the row out and report it."
        )
    large = np.flatnonzero(np.abs(estimate) > 100)
    if len(large):
        problems.add(
            f"`{columns.estimate}` is beyond 100 percent in {len(large)} rows (rows "
            f"{listed(large)}): the priors are in percent points. Divide dollars by the baseline."
        )


def _check_errors(data: pd.DataFrame, columns: Columns, problems: Problems) -> None:
    se = _numbers(data, columns.std_error)
    low, high = _bounds(data, columns)
    bad = np.flatnonzero(np.isinf(se) | (se <= 0))
    if len(bad):
        problems.add(
            f"`{columns.std_error}` is not positive in {len(bad)} rows (rows {listed(bad)})."
        )
    unknown = np.flatnonzero(np.isnan(se) & np.isnan(low))
    if len(unknown):
        problems.add(
            f"{len(unknown)} rows (rows {listed(unknown)}) have no standard error and no bound of "
            "one. Leave them out, or name the columns of bounds that a printed P value gives in "
            "`std_error_low` and `std_error_high`."
        )
    crossed = np.flatnonzero(np.isnan(se) & ((low < 0) | (high <= low)))
    if len(crossed):
        problems.add(
            f"the bounds of the standard error are negative or in the wrong order in "
            f"{len(crossed)} rows (rows {listed(crossed)})."
        )
    printed = int((~np.isnan(se)).sum())
    if printed < len(se) and printed < _FEWEST_ERRORS:
        problems.add(
            f"only {printed} rows have a standard error, too few to say how large the "
            f"{len(se) - printed} that are known within bounds may be; {_FEWEST_ERRORS} are needed."
        )
