"""Suppression of small counts in a table by stratum, and of what would give them away."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from vbceval.core.checks import Problems, listed, missing_columns
from vbceval.core.disclosure import SMALLEST_SHOWN, is_small
from vbceval.core.errors import DataError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.disclosure import Pattern, complement, unproven

_DEARER = 4.0
# sets of rates that add up to 1 are looked for among all sets up to here, above it among all rates
_MOST_TOGETHER = 12
_NEAR = 1e-6


@dataclass(frozen=True, eq=False, kw_only=True)
class Suppressed:
    """
    A table that may be shown.

    Parameters
    ----------
    frame : DataFrame
        Copy of the table: suppressed counts, rates and the values that go with them are missing;
        a column ``suppressed`` (bool) says in which rows the count is. It does not say which of
        them are small, since that would say that they are of 1 to ``minimum`` - 1.
    report : mapping
        Threshold, rows, number of suppressed counts and rates, method, result of the audit.
    """

    frame: pd.DataFrame
    report: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """What adds up to what: for each total its row (-1 where it is not in the table) and parts."""

    total: IntArray
    parts: tuple[IntArray, ...]


@dataclass(frozen=True, kw_only=True)
class _System:
    """Rows of the table, then what each total holds besides its parts, then totals from elsewhere."""

    values: FloatArray
    links: Any
    rest: BoolArray
    known: BoolArray


def suppress(
    table: pd.DataFrame,
    *,
    keys: Sequence[str],
    count: str,
    rates: Sequence[str] = (),
    values: Sequence[str] = (),
    total: object = "all",
    margins: Sequence[Sequence[str]] = (),
    minimum: int = SMALLEST_SHOWN,
    suppress_zero: bool = False,
) -> Suppressed:
    """
    Suppress counts of 1 to 10 people in a table, and the cells from which they could be had.

    Cells are chosen at least cost by an integer program, or one by one in a large table. The result
    is then audited by other code, which has only what is shown: for every small count it must find
    whole numbers that fit the table in which the count is 0, and others in which it is `minimum` or
    more. Where it finds none, nothing is returned.

    Parameters
    ----------
    table : DataFrame
        One row a combination of `keys`; not changed. A row whose key is `total` is the total over
        that key.
    keys : sequence of str
        Columns that name a row, such as ``["dual", "year"]``.
    count : str
        Number of people of the row (or episodes, claims, person-years), 0 or more.
    rates : sequence of str
        Columns with shares of `count`, from 0 to 1: with the count they give a number of people
        with the event and of people without, and both are protected. Rates that add up to 1 in
        all rows (shares of races) are protected together. Unrounded.
    values : sequence of str
        Other columns calculated from the people of the row; missing where its count is.
    total : object
        What a key holds in rows of totals.
    margins : sequence of sequences of str
        Totals over all other keys that readers know from elsewhere, as ``[["dual"]]`` for totals by
        ``dual``; an empty one for the total of all. Totals that are small are not known.
    minimum : int
        Smallest count that may be shown.
    suppress_zero : bool
        Whether zeros may be suppressed to protect others; they are shown otherwise.

    Returns
    -------
    Suppressed

    Raises
    ------
    DataError
        If columns are absent, keys repeat, counts are missing or negative or exceed their total, or
        the table cannot be protected.

    References
    ----------
    CMS cell size suppression policy: no cell of 1-10, nor one from which it can be derived.

    .. [1] Fischetti, M. and Salazar, J. J. (2001). Solving the cell suppression problem on tabular
       data with linear constraints. *Management Science* 47(7), 1008-1027.

    Examples
    --------
    >>> table = pd.DataFrame({"race": ["A", "B", "C", "all"], "n": [4, 25, 71, 100]})
    >>> out = suppress(table, keys=["race"], count="n", margins=[[]])
    >>> out.frame["n"].tolist()
    [nan, nan, 71.0, 100.0]
    """
    if isinstance(keys, str):
        raise DataError(f"`keys` is the text '{keys}'; give a list, ['{keys}'].")
    n = _checked(table, keys, count, rates, values, margins)
    sums = _sums(table, tuple(keys), total, margins)
    depth = (table[list(keys)] == total).sum(axis=1).to_numpy(dtype=float)
    hidden, method = _protect_counts(_system(n, sums, minimum), depth, minimum, suppress_zero)
    out = table.reset_index(drop=True).copy()
    out[count] = np.where(hidden, np.nan, n)
    for name in values:
        out[name] = out[name].where(~hidden)
    lost = {}
    events = {name: _events(table[name], n, name) for name in dict.fromkeys(rates)}
    for names, wholes in _together(events, n):
        systems = [_system(n, sums, minimum)]
        for name in names:
            systems += [_system(x, sums, minimum) for x in (events[name], n - events[name])]
        gone = _protect_rates(systems, wholes, depth, minimum, suppress_zero, hidden)
        for name, lines in zip(names, gone, strict=True):
            out[name] = out[name].where(~lines)
            lost[name] = int(lines.sum())
    out["suppressed"] = hidden
    report = {
        "minimum": minimum,
        "rows": len(table),
        "counts_suppressed": int(hidden.sum()),
        "rates_suppressed": {name: lost[name] for name in events},
        "totals_known_from_elsewhere": [list(m) for m in margins],
        "method": method,
        "audit": f"every suppressed count below {minimum} can be 0 and can be {minimum} or more",
    }
    return Suppressed(frame=out, report=report)


def _checked(
    table: pd.DataFrame, keys: Sequence[str], count: str, rates: Sequence[str],
    values: Sequence[str], margins: Sequence[Sequence[str]],
) -> FloatArray:  # fmt: skip
    problems = Problems("the table")
    absent = missing_columns(table, [*keys, count, *rates, *values])
    if absent:
        raise DataError(
            f"the table has no column {listed(absent)}; it has {listed(table.columns)}."
        )
    strange = [k for m in margins for k in m if k not in keys]
    if strange:
        problems.add(f"`margins` name {listed(strange)}, which is no key. Keys: {listed(keys)}.")
    if table[list(keys)].isna().any().any():
        problems.add("keys are missing in some rows. Name the missing level.")
    elif table.duplicated(list(keys)).any():
        problems.add("several rows have the same keys. Add them up first.")
    n = pd.to_numeric(table[count], errors="coerce").to_numpy(dtype=float)
    if not np.isfinite(n).all():
        problems.add(
            f"`{count}` is missing or no number in some rows, so totals cannot be checked. Give "
            "the table before any suppression."
        )
    elif (n < 0).any():
        problems.add(f"`{count}` is negative in some rows. Correct it.")
    problems.raise_if_any()
    return n


def _sums(
    table: pd.DataFrame, keys: tuple[str, ...], total: object, margins: Sequence[Sequence[str]]
) -> _Sums:
    """Find the totals in the table, one key at a time, and those known from elsewhere."""
    frame = table[list(keys)].reset_index(drop=True)
    is_total = (frame == total).to_numpy()
    totals, parts = [], []
    for j in range(len(keys)):
        others = [k for i, k in enumerate(keys) if i != j]
        found = _grouped(frame[others]) if others else np.zeros(len(frame), dtype=np.int64)
        for row in np.flatnonzero(is_total[:, j]):
            mine = np.flatnonzero((found == found[row]) & ~is_total[:, j])
            if len(mine):
                totals.append(row)
                parts.append(mine)
    detail = np.flatnonzero(~is_total.any(axis=1))
    for margin in margins:
        names = list(margin)
        codes = _grouped(frame.loc[detail, names]) if names else np.zeros(len(detail), np.int64)
        for code in np.unique(codes):
            totals.append(np.int64(-1))
            parts.append(detail[codes == code])
    return _Sums(total=np.array(totals, dtype=np.int64), parts=tuple(parts))


def _grouped(frame: pd.DataFrame) -> IntArray:
    return np.asarray(frame.groupby(list(frame), sort=False).ngroup(), dtype=np.int64)


def _system(values: FloatArray, sums: _Sums, minimum: int) -> _System:
    size, m = len(values), len(sums.parts)
    inside = sums.total >= 0
    added = np.array([values[part].sum() for part in sums.parts])
    reached = np.where(inside, values[sums.total], added) if m else added
    rest = reached - added
    slack = _NEAR * max(1.0, float(values.max(initial=0.0)))
    if (rest < -slack).any():
        raise DataError(
            f"in {int((rest < -slack).sum()):,} totals the parts add up to more than the total, so "
            "what could be had by subtraction is not known. Correct the totals, or leave them out."
        )
    rest = np.where(np.abs(rest) <= slack, 0.0, rest)
    entries = []
    for j, part in enumerate(sums.parts):
        entries += [(j, int(i), 1.0) for i in part]
        entries.append((j, size + j, 1.0))
        entries.append((j, int(sums.total[j]) if inside[j] else size + m + j, -1.0))
    places = np.array(entries).reshape(-1, 3)
    links = sparse.csr_array(
        (places[:, 2], (places[:, 0].astype(int), places[:, 1].astype(int))),
        shape=(m, size + 2 * m),
    )
    elsewhere = np.where(inside, 0.0, added)
    # a total that is small is printed nowhere
    known = np.concatenate(
        [np.zeros(size, dtype=bool), rest == 0, ~is_small(elsewhere, minimum=minimum)]
    )
    return _System(
        values=np.concatenate([values, rest, elsewhere]),
        links=links,
        rest=np.arange(size + 2 * m) >= size,
        known=known,
    )


def _events(rate: pd.Series, n: FloatArray, name: str) -> FloatArray:
    """Return the number of people with the event."""
    share = pd.to_numeric(rate, errors="coerce").to_numpy(dtype=float)
    share = np.where(n == 0, 0.0, share)
    if not ((share >= 0) & (share <= 1)).all():
        raise DataError(
            f"`{name}` is missing, or not between 0 and 1, in rows with people. A rate is a share "
            "of the count; name other columns in `values`."
        )
    events = share * n
    if _whole(n):
        near = np.rint(events)
        if (np.abs(events - near) > 1e-3).any():
            raise DataError(
                f"`{name}` times the count is no whole number in some rows, so the people behind "
                "it are not known. Give rates that are not rounded, or name it in `values`."
            )
        return near
    return events


def _whole(n: FloatArray) -> bool:
    return bool((n == np.rint(n)).all())


def _together(
    events: Mapping[str, FloatArray], n: FloatArray
) -> list[tuple[list[str], list[list[int]]]]:
    """
    Return groups of rates that give each other away, and the sets in each that add up to all.

    Rates of one group are connected by such sets; a rate in none is a group of its own.
    """
    names = list(events)
    slack = _NEAR * np.maximum(n, 1.0)
    sets = [
        set(found)
        for size in range(2, len(names) + 1)
        for found in itertools.combinations(names, size)
        if len(names) <= _MOST_TOGETHER or size == len(names)
        if (np.abs(sum(events[x] for x in found) - n) <= slack).all()
    ]
    groups = [{name} for name in names]
    for found in sets:
        joined = [g for g in groups if g & found]
        groups = [g for g in groups if not g & found] + [set().union(*joined)]
    out = []
    for group in groups:
        mine = [x for x in names if x in group]
        out.append((mine, [[mine.index(x) for x in sorted(s)] for s in sets if s <= group]))
    return out


def _protect_counts(
    system: _System, depth: FloatArray, minimum: int, suppress_zero: bool
) -> tuple[BoolArray, str]:
    """Choose which counts to suppress, audit it, and return it for the rows of the table."""
    hidden = system.rest & ~system.known
    pattern = _chosen(
        system.values, system.links, known=system.known, hidden=hidden, tied=None,
        cost=_cost([system], depth), minimum=minimum, suppress_zero=suppress_zero,
    )  # fmt: skip
    return pattern.suppressed[: len(depth)], pattern.method


def _protect_rates(
    systems: Sequence[_System], wholes: Sequence[Sequence[int]], depth: FloatArray, minimum: int,
    suppress_zero: bool, given: BoolArray,
) -> list[BoolArray]:  # fmt: skip
    """
    Choose which rates to suppress where the counts `given` are, and audit it.

    `systems` are the counts, then for each rate those with the event and those without, which are
    shown or not together; `wholes` are sets of rates whose events add up to the counts.
    """
    size, width = len(depth), len(systems[0].values)
    rates = (len(systems) - 1) // 2
    values = np.concatenate([s.values for s in systems])
    known = np.concatenate([s.known for s in systems])
    hidden = np.concatenate([s.rest for s in systems]) & ~known
    tied = np.arange(len(values))
    sums = [[2 * k + 1, 2 * k + 2] for k in range(rates)]
    sums += [[2 * k + 1 for k in found] for found in wholes]
    links = [sparse.block_diag([s.links for s in systems], format="csr")]
    for parts in sums:
        signs = np.zeros((1, len(systems)))
        signs[0, 0], signs[0, parts] = -1.0, 1.0
        links.append(sparse.kron(signs, sparse.eye_array(width), format="csr"))
    known[:size] = ~given
    hidden[:size] |= given
    for k in range(rates):
        with_, without = (2 * k + 1) * width, (2 * k + 2) * width
        tied[without : without + size] = tied[with_ : with_ + size]
        hidden[with_ : with_ + size] |= given
    pattern = _chosen(
        values, sparse.vstack(links, format="csr"), known=known, hidden=hidden, tied=tied,
        cost=_cost(systems, depth), minimum=minimum, suppress_zero=suppress_zero,
    )  # fmt: skip
    starts = [(2 * k + 1) * width for k in range(rates)]
    return [pattern.suppressed[start : start + size] for start in starts]


def _cost(systems: Sequence[_System], depth: FloatArray) -> FloatArray:
    """Cost of suppressing each number: totals are dearer than their parts."""
    row = np.zeros(len(systems[0].values))
    row[: len(depth)] = depth
    return np.concatenate([np.log1p(s.values) * _DEARER**row for s in systems])


def _chosen(
    values: FloatArray, links: Any, *, known: BoolArray, hidden: BoolArray, tied: IntArray | None,
    cost: FloatArray, minimum: int, suppress_zero: bool,
) -> Pattern:  # fmt: skip
    primary = is_small(values, minimum=minimum) & ~known
    pattern = complement(
        values, links, primary=primary, minimum=minimum, tied=tied, hidden=hidden, shown=known,
        cost=cost, suppress_zero=suppress_zero,
    )  # fmt: skip
    _audit(values, links, ~pattern.suppressed, primary, minimum)
    return pattern


def _audit(
    values: FloatArray, links: Any, shown: BoolArray, primary: BoolArray, minimum: int
) -> None:
    """Refuse a table from which a small count can be had; uses what is shown, and no pattern."""
    seen = sparse.eye_array(len(values), format="csr")[np.flatnonzero(shown)]
    published = sparse.vstack([links, seen], format="csr")
    totals = np.concatenate([np.zeros(links.shape[0]), values[shown]])
    unsafe = unproven(
        published, totals, protected=np.flatnonzero(primary), limit=minimum, whole=_whole(values)
    )
    if unsafe.any():
        raise DataError(
            f"after suppression {int(unsafe.sum()):,} small counts could still be narrowed down "
            "from what is shown, so the table is not returned. Show fewer totals, or merge "
            "categories."
        )
