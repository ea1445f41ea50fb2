"""`expected/tolerances.toml`: how far a regenerated number may lie from the number of record."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import StudyError

DEFAULT = "default"
RELATIVE = 1e-10
ABSOLUTE = 1e-12

TEMPLATE = """\
# How far a regenerated number may lie from the number of record. Without an entry:
# 1e-10 of the number of record plus 1e-12, and text exactly.
#
# [default]
# rel = 1e-10
# abs = 1e-12
#
# [a_table]
# keys = ["estimand", "stratum"]        # default: the keys the run declares
# [a_table.columns]
# estimate = { abs = 0.01 }             # say why
# cohort = "exact"
# mean = { mcse = 4 }                   # Monte Carlo standard errors, column mcse_mean or mcse
"""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """
    The tolerance of one column.

    Attributes
    ----------
    relative, absolute : float
        A number may differ by ``absolute + relative * |expected|``.
    mcse : float or None
        If given, by this many Monte Carlo standard errors of the difference of two runs instead,
        plus ``absolute``.
    mcse_column : str or None
        Column of the table that holds the Monte Carlo standard error.
    exact : bool
        Whether the cells must be the same to the last digit.
    """

    relative: float = RELATIVE
    absolute: float = ABSOLUTE
    mcse: float | None = None
    mcse_column: str | None = None
    exact: bool = False


@dataclass(frozen=True, kw_only=True)
class TableTolerances:
    """The tolerances of one table: its keys, if it names them, and its columns."""

    keys: tuple[str, ...] | None = None
    columns: Mapping[str, Tolerance] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """The tolerances of a study."""

    default: Tolerance = field(default_factory=Tolerance)
    tables: Mapping[str, TableTolerances] = field(default_factory=dict)

    def of(self, table: str, column: str) -> Tolerance:
        """Return the tolerance of a column."""
        named = self.tables.get(table, TableTolerances())
        return named.columns.get(column, self.default)


def read_tolerances(path: Path, expected: Mapping[str, pd.DataFrame]) -> Tolerances:
    """
    Read ``tolerances.toml``; a missing file means the defaults.

    Parameters
    ----------
    path : Path
        The file.
    expected : mapping of str to DataFrame
        Tables of record: every name in the file must be one of theirs.

    Raises
    ------
    StudyError
        If the file breaks a rule or names a table or column that does not exist, which would
        leave a number without the tolerance it was meant to have; all problems together.
    """
    if not path.is_file():
        return Tolerances()
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path.name} is not valid TOML: {error}.") from error
    problems = Problems("tolerances.toml", StudyError)
    default = _tolerance(raw.pop(DEFAULT, {}), DEFAULT, None, problems)
    if default.mcse is not None or default.exact:
        problems.add("`[default]` can have `rel` and `abs` only.")
    tables = {}
    for name, entry in raw.items():
        if name not in expected:
            problems.add(f"there is no table of record `{name}`; there are {listed(expected)}.")
        elif not isinstance(entry, dict) or set(entry) - {"keys", "columns"}:
            problems.add(f"`[{name}]` can have `keys` and `[{name}.columns]` only.")
        else:
            tables[name] = _table(name, entry, list(expected[name].columns), problems)
    problems.raise_if_any()
    return Tolerances(default=default, tables=tables)


def _table(
    name: str, entry: Mapping[str, Any], columns: list[str], problems: Problems
) -> TableTolerances:
    keys, entries = entry.get("keys"), entry.get("columns", {})
    if keys is not None and not (isinstance(keys, list) and set(map(str, keys)) <= set(columns)):
        problems.add(f"`{name}.keys` is {keys!r}. Give a list of columns: {listed(columns)}.")
        keys = None
    absent = [c for c in entries if c not in columns]
    if absent:
        problems.add(f"table `{name}` has no {listed(absent)}; it has {listed(columns)}.")
    found = {
        column: _tolerance(value, f"{name}.{column}", column, problems, columns)
        for column, value in entries.items()
        if column in columns
    }
    return TableTolerances(keys=None if keys is None else tuple(keys), columns=found)


def _tolerance(
    value: object,
    where: str,
    column: str | None,
    problems: Problems,
    columns: list[str] | None = None,
) -> Tolerance:
    if value == "exact":
        return Tolerance(exact=True)
    if not isinstance(value, dict):
        problems.add(f"`{where}` is {value!r}. Give 'exact' or a table of `rel`, `abs`, `mcse`.")
        return Tolerance()
    strange = set(value) - {"rel", "abs", "mcse", "column"}
    numbers = {k: v for k, v in value.items() if k in ("rel", "abs", "mcse")}
    wrong = [
        k
        for k, v in numbers.items()
        if isinstance(v, bool) or not isinstance(v, int | float) or v < 0
    ]
    if strange or wrong:
        problems.add(
            f"`{where}` has {listed([*sorted(strange), *wrong])}. It can have `rel`, `abs` and "
            "`mcse`, numbers of 0 or more, and `column`, where the Monte Carlo error is."
        )
        return Tolerance()
    if "mcse" not in value:
        if "column" in value:
            problems.add(f"`{where}` has `column` without `mcse`.")
        # a tolerance that is written down replaces the whole default
        return Tolerance(
            relative=value.get("rel", 0.0 if "abs" in value else RELATIVE),
            absolute=value.get("abs", 0.0 if "rel" in value else ABSOLUTE),
        )
    if "rel" in value:
        problems.add(f"`{where}` has both `mcse` and `rel`. Give one; `abs` may stand beside it.")
    named = [value["column"]] if "column" in value else [f"mcse_{column}", "mcse"]
    present = [c for c in named if c in (columns or [])]
    if not present:
        problems.add(f"`{where}` needs the Monte Carlo error in column {listed(named)}.")
        return Tolerance()
    return Tolerance(
        relative=0.0,
        absolute=value.get("abs", 0.0),
        mcse=value["mcse"],
        mcse_column=present[0],
    )
