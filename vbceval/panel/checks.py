"""What a frame must satisfy to become a panel; every failure is reported together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, is_date, listed, missing_columns, text_rows
from vbceval.core.disclosure import is_small, say_people
from vbceval.core.errors import DataError
from vbceval.core.groups import Groups
from vbceval.core.typing import PanelKind


class _PanelProblems(Problems):
    """Problems of a panel, which names rows by their position."""

    def __init__(self, people: bool) -> None:
        super().__init__("the panel")
        self.people = people

    def rows(self, mask: np.ndarray | pd.Series) -> str:
        """Name the first rows, and how many there are; one row where they may be of few people."""
        where = np.flatnonzero(np.asarray(mask))
        if self.people and bool(is_small(len(where))):
            return f"{say_people(len(where), 'rows')} (the first at position {where[0]})"
        first = ", ".join(str(i) for i in where[:5])
        more = "" if len(where) <= 5 else ", ..."
        return f"{len(where):,} rows (positions {first}{more})"


def check_columns(frame: pd.DataFrame, names: Sequence[str | None]) -> None:
    """
    Refuse what is no DataFrame, and columns that it does not have, or has twice; None is no column.

    Raises
    ------
    DataError
        With the names, and where the index holds them.
    """
    if not isinstance(frame, pd.DataFrame):
        raise DataError(
            f"a panel is made from a pandas DataFrame, not {type(frame).__name__}. Convert it: "
            "`pandas.DataFrame(...)`, or `.to_pandas()` of Arrow and polars tables."
        )
    needed = [name for name in names if name is not None]
    absent = missing_columns(frame, needed)
    if absent:
        inside = [name for name in absent if name in frame.index.names]
        remedy = "Name columns that exist."
        if inside:
            remedy = f"Its index holds {listed(inside)}: call `reset_index()` first."
        raise DataError(
            f"the frame has no column {listed(absent)}. It has {listed(frame.columns, most=20)}. {remedy}"
        )
    twice = frame.columns[frame.columns.duplicated()].unique()
    if len(twice):
        raise DataError(
            f"the frame has several columns of one name: {listed(twice, most=20)}, so that it is open "
            "which is meant. Rename them, or keep one of each."
        )


def check_frame(
    frame: pd.DataFrame,
    *,
    unit: str,
    period: str,
    cohort: str,
    cluster: str,
    strata: tuple[str, ...],
    exposure: str | None,
    weight: str | None,
    exit: str | None,
    kind: PanelKind,
    people: bool,
) -> None:
    """
    Raise one DataError that lists everything wrong with the columns of a panel.

    Messages hold row numbers (positions in the frame) and counts, never a unit's label, because a
    unit may be a person; where it may be, no count of 1-10 rows either.
    """
    numeric = [c for c in (period, cohort, exposure, weight, exit) if c is not None]
    if kind not in ("panel", "repeated_cross_section"):
        raise DataError(f"`kind` is '{kind}'; use 'panel' or 'repeated_cross_section'.")
    if frame.empty:
        raise DataError("the frame has no rows. Check the filter or the file it came from.")
    problems = _PanelProblems(people)
    _check_numbers(problems, frame, numeric)
    _check_missing(problems, frame, dict.fromkeys([unit, period, cluster, *strata]))
    if not problems.found:
        # these read the columns as numbers and keys, so they wait until they can be read
        _check_cohort(problems, frame, cohort)
        _check_period(problems, frame, period)
        _check_exit(problems, frame, cohort, exit)
    _check_signs(problems, frame, exposure, weight)
    if kind == "panel":
        _check_repeated(problems, frame, [unit, period, *strata])
        _check_constant(problems, frame, unit, cohort, cluster, exit)
    problems.raise_if_any()


def _check_numbers(problems: _PanelProblems, frame: pd.DataFrame, numeric: list[str]) -> None:
    for name in dict.fromkeys(numeric):
        if is_date(frame[name]):
            problems.add(
                f"`{name}` holds dates, and a missing date would be read as one long ago. Use "
                f"numbers, for example the year: `frame['{name}'].dt.year`."
            )
            continue
        wrong = text_rows(frame[name])
        if len(wrong):
            mask = np.zeros(len(frame), dtype=bool)
            mask[wrong] = True
            problems.add(
                f"`{name}` holds text in {problems.rows(mask)}, so it cannot be used as a number. Convert "
                "it with `pandas.to_numeric` after cleaning the text (dates: use their year or a "
                "period number)."
            )


def _check_missing(problems: _PanelProblems, frame: pd.DataFrame, names: dict[str, None]) -> None:
    for name in names:
        missing = frame[name].isna()
        if missing.any():
            problems.add(
                f"`{name}` is missing in {problems.rows(missing)}, so these rows belong to no "
                f"{name}. Fill the values or drop the rows before building the panel."
            )


def _check_cohort(problems: _PanelProblems, frame: pd.DataFrame, cohort: str) -> None:
    values = pd.to_numeric(frame[cohort]).to_numpy(dtype=float, na_value=np.nan)
    for code, mask in (("0", values == 0), ("infinity", np.isinf(values))):
        if mask.any():
            wanted = "never=0" if code == "0" else "never=float('inf')"
            problems.add(
                f"`{cohort}` is {code} in {problems.rows(mask)}. Never treated is a missing cohort here, "
                f"so {code} would count as a date of entry. Pass {wanted}."
            )


def _check_period(problems: _PanelProblems, frame: pd.DataFrame, period: str) -> None:
    infinite = np.isinf(pd.to_numeric(frame[period]).to_numpy(dtype=float))
    if infinite.any():
        problems.add(
            f"`{period}` is infinite in {problems.rows(infinite)}. Correct it or drop the rows."
        )


def _check_exit(
    problems: _PanelProblems, frame: pd.DataFrame, cohort: str, exit: str | None
) -> None:
    if exit is None:
        return
    entry, last = (
        pd.to_numeric(frame[c]).to_numpy(dtype=float, na_value=np.nan) for c in (cohort, exit)
    )
    # a missing entry is of those never treated, who have nothing to leave
    early = ~np.isnan(last) & ~(last >= entry)
    if early.any():
        problems.add(
            f"`{exit}` is before `{cohort}`, or given without one, in {problems.rows(early)}, but it "
            "is the last treated period. Correct it, or leave it missing."
        )


def _check_signs(
    problems: _PanelProblems, frame: pd.DataFrame, exposure: str | None, weight: str | None
) -> None:
    for role, name in (("exposure", exposure), ("weight", weight)):
        if name is None:
            continue
        if is_date(frame[name]) or len(text_rows(frame[name])):
            continue
        values = pd.to_numeric(frame[name]).to_numpy(dtype=float, na_value=np.nan)
        for what, mask in (
            ("negative", values < 0),
            ("missing", np.isnan(values)),
            ("infinite", np.isinf(values)),
        ):
            if mask.any():
                problems.add(
                    f"{role} `{name}` is {what} in {problems.rows(mask)}; it must be a non-negative "
                    "number in every row. Correct it or drop the rows."
                )


def check_once(frame: pd.DataFrame, keys: list[str], *, people: bool) -> None:
    """Raise a DataError if rows of a followed panel share a unit, period and stratum."""
    problems = _PanelProblems(people)
    _check_repeated(problems, frame, keys)
    problems.raise_if_any()


def increasing(frame: pd.DataFrame, keys: list[str]) -> bool:
    """Return whether rows increase strictly by keys that are numbers; then none is repeated."""
    tied = np.ones(max(len(frame) - 1, 0), dtype=bool)
    for key in keys:
        values = frame[key].to_numpy()
        if values.dtype.kind not in "iuf" or (tied & ~(values[1:] >= values[:-1])).any():
            return False
        tied &= values[1:] == values[:-1]
    return not tied.any()


def _check_repeated(problems: _PanelProblems, frame: pd.DataFrame, keys: list[str]) -> None:
    if increasing(frame, keys):
        return
    repeated = frame.duplicated(keys, keep=False)
    if repeated.any():
        problems.add(
            f"{problems.rows(repeated)} share the same {listed(keys)}, so a unit would be counted more "
            "than once in a period. Aggregate them, name the column that tells them apart in "
            "`strata`, or pass kind='repeated_cross_section'."
        )


def _check_constant(
    problems: _PanelProblems,
    frame: pd.DataFrame,
    unit: str,
    cohort: str,
    cluster: str,
    exit: str | None,
) -> None:
    named = frame[unit].notna().to_numpy()
    known = frame if named.all() else frame[named]
    units = Groups.of(known[unit])
    for name, consequence in (
        (cohort, "entry happens once (for programs that can be left, give `exit`)"),
        (exit, "a unit leaves the program once"),
        (cluster, "clusters must contain whole units"),
    ):
        if name is None or name == unit:
            continue
        changing = units.changing(known[name])
        if changing.any():
            mask = np.zeros(len(frame), dtype=bool)
            mask[named] = changing[units.code]
            problems.add(
                f"`{name}` changes within a unit in {problems.rows(mask)}, but {consequence}. Fix "
                "one value for each unit."
            )
