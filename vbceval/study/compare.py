"""Compare regenerated tables with the tables of record, cell by cell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from vbceval.core.checks import listed
from vbceval.study.tolerances import Tolerance, Tolerances

Row = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One difference: the table and a sentence that says where, what was found and expected."""

    table: str
    text: str

    def __str__(self) -> str:
        return f"{self.table}.csv, {self.text}."


def compare_tables(
    found: Mapping[str, pd.DataFrame],
    expected: Mapping[str, pd.DataFrame],
    *,
    tolerances: Tolerances,
    keys: Mapping[str, Sequence[str]],
) -> list[Difference]:
    """
    Return every difference between the tables of a run and the tables of record.

    Parameters
    ----------
    found, expected : mapping of str to DataFrame
        Tables by name, their cells as text (`vbceval.study.exhibits.read_cells`).
    tolerances : Tolerances
        How far numbers may differ.
    keys : mapping of str to sequence of str
        Columns that name the rows of each table, where `tolerances` does not say. With neither,
        rows are compared by position.

    Returns
    -------
    list of Difference
        In the order of the tables of record; new tables last. Order of columns, and of rows that
        have keys, does not count.
    """
    differences: list[Difference] = []
    for name, table in expected.items():
        if name not in found:
            differences.append(Difference(table=name, text="the run did not write this table"))
            continue
        named = tolerances.tables[name].keys if name in tolerances.tables else None
        columns = tuple(keys.get(name, ())) if named is None else named
        texts = _compare(name, found[name], table, tolerances, columns)
        differences += [Difference(table=name, text=text) for text in texts]
    differences += [
        Difference(table=name, text="the run wrote this table, and there is none of record")
        for name in found
        if name not in expected
    ]
    return differences


def _compare(
    name: str,
    found: pd.DataFrame,
    expected: pd.DataFrame,
    tolerances: Tolerances,
    keys: tuple[str, ...],
) -> Iterator[str]:
    missing = [c for c in expected.columns if c not in found.columns]
    extra = [c for c in found.columns if c not in expected.columns]
    if missing:
        yield f"columns missing: {listed(missing)}"
    if extra:
        yield f"columns not in the table of record: {listed(extra)}"
    if set(keys) & {*missing, *extra}:
        return
    rows_found, rows_expected = _rows(found, keys), _rows(expected, keys)
    for key, row in rows_expected.items():
        if key not in rows_found:
            yield f"row {_say(key)}: missing"
            continue
        for column in expected.columns:
            if column in found.columns and column not in keys:
                tolerance = tolerances.of(name, column)
                text = _compare_cell(column, rows_found[key], row, tolerance)
                if text:
                    yield f"row {_say(key)}: {text}"
    for key in rows_found:
        if key not in rows_expected:
            yield f"row {_say(key)}: not in the table of record"


Key = tuple[tuple[str, str], ...]


def _rows(frame: pd.DataFrame, keys: tuple[str, ...]) -> dict[Key, Row]:
    """Return rows by key; a repeated key is told apart by its position among its equals."""
    rows: dict[Key, Row] = {}
    seen: dict[Key, int] = {}
    for i, values in enumerate(frame.itertuples(index=False, name=None), 1):
        row = dict(zip(frame.columns, values, strict=True))
        key: Key = tuple((k, _plain(row[k])) for k in keys) or (("", str(i)),)
        seen[key] = seen.get(key, 0) + 1
        rows[key if seen[key] == 1 else (*key, ("number", str(seen[key])))] = row
    return rows


def _say(key: Key) -> str:
    """Write a key as ``column=value``; empty keys, which say nothing, are left out."""
    parts = [f"{k}={v}" if k else v for k, v in key if v]
    return ", ".join(parts) or ", ".join(f"{k}=" for k, _ in key)


def _plain(text: str) -> str:
    """Return whole numbers the same whether they were written as 2014 or 2014.0."""
    value = _as_number(text)
    if value is None or not value.is_integer():
        return text
    return str(int(value))


def _as_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _compare_cell(column: str, found: Row, expected: Row, tolerance: Tolerance) -> str:
    """Return what differs in one cell, or nothing."""
    a, b = found[column], expected[column]
    if a == b:
        return ""
    x, y = _as_number(a), _as_number(b)
    if x is None or y is None or tolerance.exact:
        return f"{column} {a or 'missing'}, expected {b or 'missing'}"
    allowed = _allowed(y, found, expected, tolerance)
    if abs(x - y) <= allowed:
        return ""
    said_x, said_y = _told_apart(x, y)
    unit = expected.get("unit_of_measure", "")
    return f"{column} {said_x}, expected {said_y} +/- {allowed:.3g}{f' {unit}' if unit else ''}"


def _allowed(y: float, found: Row, expected: Row, tolerance: Tolerance) -> float:
    allowed = tolerance.absolute + tolerance.relative * abs(y)
    if tolerance.mcse is not None and tolerance.mcse_column is not None:
        errors = [
            _as_number(row.get(tolerance.mcse_column, "")) or 0.0 for row in (found, expected)
        ]
        allowed += tolerance.mcse * math.hypot(*errors)
    return allowed


def _told_apart(x: float, y: float) -> tuple[str, str]:
    """Write two numbers with as few digits as show that they differ, six at least."""
    for digits in range(6, 18):
        a, b = f"{x:.{digits}g}", f"{y:.{digits}g}"
        if a != b:
            return a, b
    return repr(x), repr(y)
