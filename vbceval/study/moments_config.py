"""Read the file that says how moments are taken: source, engine, roles of columns, digits."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DataError
from vbceval.engine.files import is_path

DOUBLES = "double"
"""In `[digits]`: sum a column as doubles, where None cannot be written."""

_TOP = ("source", "output", "engine", "columns", "digits", "pivots")
_ENGINES: Mapping[str, tuple[str, ...]] = {
    "duckdb": ("path", "memory_limit", "threads", "temp_directory"),
    "spark": ("remote",),
}
_ONE = ("cluster", "period", "cohort", "unit", "weight", "exposure", "exit")
_MANY = ("outcomes", "covariates", "strata", "histograms")
_NEEDED = ("cluster", "period", "cohort", "outcomes")


@dataclass(frozen=True, kw_only=True)
class Build:
    """
    How moments are taken.

    Parameters
    ----------
    source : str or list of str
        Files, with full paths, or the name of a table of the engine.
    output : Path or None
        Where the moments file goes, if the file says so.
    engine : str
        Name for `vbceval.connect`.
    engine_options, options : mapping
        For `vbceval.connect` and for `Moments.from_table`.
    """

    source: str | list[str]
    output: Path | None
    engine: str = "duckdb"
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


def read_build(path: Path) -> Build:
    """
    Read and check a file; paths in it begin at its folder.

    Raises
    ------
    DataError
        If the file is absent or no TOML, or with everything in it that cannot be used.
    """
    if not path.is_file():
        raise DataError(f"there is no file `{path}`. Check the path.")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"`{path.name}` is not valid TOML: {error}.") from error
    problems = Problems(path.name)
    _known(raw, _TOP, "the file", problems)
    tables = {name: _table(raw, name, problems) for name in _TOP[2:]}
    engine = dict(tables["engine"])
    name = engine.pop("name", "duckdb")
    if name not in _ENGINES:
        problems.add(f"`[engine]` `name` is {name!r}. It can be {listed(_ENGINES)}.")
    else:
        _known(engine, _ENGINES[name], f"`[engine]` for {name}", problems)
    found = Build(
        source=_source(raw, path.parent, problems),
        output=_output(raw, path.parent, problems),
        engine=str(name),
        engine_options=_engine(engine, path.parent, problems),
        options={
            **_columns(tables["columns"], problems),
            "digits": _digits(tables["digits"], problems),
            "pivots": _numbers(tables["pivots"], "pivots", problems),
        },
    )
    problems.raise_if_any()
    return found


def _engine(table: Mapping[str, Any], folder: Path, problems: Problems) -> dict[str, Any]:
    """Return the options of the engine; its files and folders begin at the folder of the file."""
    found = dict(table)
    for name in ("path", "temp_directory", "memory_limit", "remote"):
        if name in found and not (isinstance(found[name], str) and found[name]):
            problems.add(f"`[engine]` `{name}` is {found[name]!r}. Give text.")
        elif name in ("path", "temp_directory") and name in found:
            found[name] = str(folder / found[name])
    return found


def _known(table: Mapping[str, Any], known: tuple[str, ...], where: str, p: Problems) -> None:
    strange = [key for key in table if key not in known]
    if strange:
        p.add(f"{where} has unknown keys {listed(strange)}. Known are {listed(known, most=20)}.")


def _table(raw: Mapping[str, Any], key: str, problems: Problems) -> Mapping[str, Any]:
    value = raw.get(key, {})
    if isinstance(value, dict):
        return value
    problems.add(f"`{key}` is {value!r}. Make it a table, `[{key}]`.")
    return {}


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(x, str) and x for x in value)


def _source(raw: Mapping[str, Any], folder: Path, problems: Problems) -> str | list[str]:
    value = raw.get("source")
    if isinstance(value, str) and value:
        return str(folder / value) if is_path(value) or (folder / value).exists() else value
    if isinstance(value, list) and value and _texts(value):
        return [str(folder / x) for x in value]
    said = "missing" if value is None else repr(value)
    problems.add(f"`source` is {said}. Give a path, a pattern, a list of paths, or a table.")
    return ""


def _output(raw: Mapping[str, Any], folder: Path, problems: Problems) -> Path | None:
    value = raw.get("output")
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        problems.add(f"`output` is {value!r}. Give the path of the moments file.")
        return None
    return folder / value


def _columns(table: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    _known(table, (*_ONE, *_MANY, "never", "dominance"), "`[columns]`", problems)
    for role in _ONE:
        if role in table and not (isinstance(table[role], str) and table[role]):
            problems.add(f"`[columns]` `{role}` is {table[role]!r}. Give the name of one column.")
    for role in _MANY:
        if role in table and not _texts(table[role]):
            problems.add(f"`[columns]` `{role}` is {table[role]!r}. Give a list of columns.")
    absent = [role for role in _NEEDED if role not in table]
    if absent:
        problems.add(f"`[columns]` does not say {listed(absent)}. Name these columns.")
    if "never" in table:
        _numbers({"never": table["never"]}, "columns", problems)
    if not isinstance(table.get("dominance", False), bool):
        problems.add(f"`[columns]` `dominance` is {table['dominance']!r}. It can be true or false.")
    return dict(table)


def _digits(table: Mapping[str, Any], problems: Problems) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for column, value in table.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole and value != DOUBLES:
            problems.add(
                f"`[digits]` `{column}` is {value!r}. Give the digits after the point, or "
                f'"{DOUBLES}".'
            )
        found[column] = value if whole else None
    return found


def _numbers(table: Mapping[str, Any], where: str, problems: Problems) -> dict[str, float]:
    for name, value in table.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):
            problems.add(f"`[{where}]` `{name}` is {value!r}. Give a number.")
    return {k: v for k, v in table.items() if isinstance(v, int | float)}
