"""What a reader can find out about counts that are not shown. Shares no code with the suppression."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, sparse

from vbceval.core.errors import DataError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.disclosure.moves import nearby

_NEAR = 1e-6
_ROUNDING = 1e-11
# the stubs know dense arrays only
_linprog: Any = optimize.linprog
_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One connected part of the system: counts, and what is published about them."""

    cells: IntArray
    links: Any
    totals: FloatArray
    whole: bool


def attacker_bounds(
    links: Any, totals: FloatArray, *, cells: IntArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """
    Return the smallest and largest value that every count can have, given what is published.

    The counts are unknown numbers x of at least 0 with ``links @ x == totals``. Bounds are those of
    linear programs. Counts are whole numbers, and the bounds over whole numbers lie inside: they are
    the same for a table with one set of margins in each direction, or with nested margins, and may
    be narrower for others. `unproven` therefore looks for tables of whole numbers.

    Parameters
    ----------
    links : sparse array or array, shape (r, k)
        One row for each published number: which counts add up to it. A count that is published
        itself has a row of its own.
    totals : array, shape (r,)
        The published numbers.
    cells : array of int, optional
        Positions of the counts that are asked for. Default: all.

    Returns
    -------
    lower, upper : array, shape (len(cells),)
        ``upper`` is infinite where nothing published limits the count.

    Raises
    ------
    DataError
        If no counts fit what is published.

    References
    ----------
    .. [1] Fischetti, M. and Salazar, J. J. (2001). Solving the cell suppression problem on tabular
       data with linear constraints. *Management Science* 47(7), 1008-1027. Section 2.

    Examples
    --------
    A table of two rows and two columns of which only the margins are shown:

    >>> links = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]])
    >>> low, high = attacker_bounds(links, np.array([30, 50, 20, 60]))
    >>> low.tolist(), high.tolist()
    ([0.0, 10.0, 0.0, 30.0], [20.0, 30.0, 20.0, 50.0])
    """
    matrix = sparse.csr_array(links, dtype=float)
    size = matrix.shape[1]
    asked = np.arange(size) if cells is None else np.asarray(cells, dtype=np.int64)
    low, high = np.zeros(size), np.full(size, np.inf)
    known, value, rest = _solved(matrix, np.asarray(totals, dtype=float))
    low[known] = high[known] = value[known]
    for part in _parts(*rest, ~known, asked, whole=False):
        for place in np.flatnonzero(np.isin(part.cells, asked)):
            goal = np.zeros(len(part.cells))
            goal[place] = 1.0
            low[part.cells[place]] = _program(part, goal)[place]
            found = _program(part, -goal)
            high[part.cells[place]] = np.inf if found is _ENDLESS else found[place]
    return low[asked], high[asked]


def unproven(
    links: Any,
    totals: FloatArray,
    *,
    protected: IntArray,
    limit: float,
    whole: bool = True,
    table: FloatArray | None = None,
) -> BoolArray:
    """
    Return which protected counts are not shown to be safe.

    A count is safe when two tables fit everything that is published: one in which it is 0, and one
    in which it is `limit` or more. Both are constructed, and checked against every published
    number in whole numbers, so that the result holds for a reader who knows that counts are whole.
    What cannot be constructed counts as unsafe.

    Parameters
    ----------
    links, totals
        See `attacker_bounds`.
    protected : array of int, shape (q,)
        Positions of the counts to protect.
    limit : float
        Smallest count that may be known.
    whole : bool
        Whether the counts are whole numbers. Others (person-years) are checked to 1e-6.
    table : array, shape (k,), optional
        Counts that fit, such as the true ones. Tables that differ from it in a few counts are tried
        first, which saves most linear programs in a large system; the result is the same.

    Returns
    -------
    array of bool, shape (q,)

    Raises
    ------
    DataError
        If no counts fit what is published.

    Examples
    --------
    >>> links = np.array([[1, 1]])
    >>> unproven(links, np.array([30]), protected=np.array([0]), limit=11).tolist()
    [False]
    >>> unproven(links, np.array([9]), protected=np.array([0]), limit=11).tolist()
    [True]
    """
    matrix = sparse.csr_array(links, dtype=float)
    wanted = np.asarray(protected, dtype=np.int64)
    known, _, rest = _solved(matrix, np.asarray(totals, dtype=float))
    unsafe = known.copy()
    # counts that are in the same totals can be exchanged: their sum is one unknown number, any of
    # them can be all of it, and each can be 0 where there are two
    unknown = np.flatnonzero(~known)
    kind, one = _alike(sparse.csc_array(rest[0])[:, unknown])
    alone = np.bincount(kind, minlength=len(one)) == 1
    rest = (sparse.csr_array(sparse.csc_array(rest[0])[:, unknown[one]]), rest[1])
    place = np.full(matrix.shape[1], -1, dtype=np.int64)
    place[unknown] = kind
    asked = np.unique(place[wanted[~known[wanted]]])
    can_be_zero, can_be_large = ~alone, np.zeros(len(one), dtype=bool)
    if table is not None:
        most = np.ceil(limit) if whole else limit
        sums = np.bincount(kind, weights=np.asarray(table, dtype=float)[unknown])
        can_be_large[asked[sums[asked] >= most]] = True
        low, high = asked[~can_be_zero[asked]], asked[~can_be_large[asked]]
        can_be_zero[_near(rest[0], sums, low, 0.0, whole)] = True
        can_be_large[_near(rest[0], sums, high, most, whole)] = True
    open_ = asked[~(can_be_zero & can_be_large)[asked]]
    bad = np.zeros(len(one), dtype=bool)
    for part in _parts(*rest, np.ones(len(one), dtype=bool), open_, whole=whole):
        places = np.flatnonzero(np.isin(part.cells, open_))
        low = places[~can_be_zero[part.cells[places]]]
        high = places[~can_be_large[part.cells[places]]]
        bad[part.cells[low[_without_zero(part, low)]]] = True
        bad[part.cells[high[_without_large(part, high, limit)]]] = True
    unsafe[unknown] = bad[kind]
    return np.asarray(unsafe[wanted], dtype=bool)


def _alike(columns: Any) -> tuple[IntArray, IntArray]:
    """Return a number for each column of a sparse matrix, equal where columns are, and one of each."""
    columns.sort_indices()
    size = np.diff(columns.indptr)
    kind = np.zeros(columns.shape[1], dtype=np.int64)
    values = pd.factorize(columns.data)[0] + 1
    for j in range(int(size.max(initial=0))):
        has = np.flatnonzero(size > j)
        at = columns.indptr[has] + j
        for entry, most in ((columns.indices, columns.shape[0]), (values, int(values.max()))):
            mark = np.zeros(len(kind), dtype=np.int64)
            mark[has] = entry[at] + 1
            kind = pd.factorize(kind * (most + 2) + mark)[0].astype(np.int64)
    _, one, kind = np.unique(kind, return_index=True, return_inverse=True)
    return kind.astype(np.int64), one.astype(np.int64)


def _near(matrix: Any, table: FloatArray, cells: IntArray, value: float, whole: bool) -> IntArray:
    """Return the cells that have a value in some table near a given one; every table is checked."""
    changes, which = nearby(matrix, table, cells, np.full(len(cells), value))
    if not len(which):
        return which
    column = np.repeat(np.arange(len(which)), np.diff(changes.indptr))
    after = table[changes.indices] + changes.data
    short = np.bincount(column[after < 0], minlength=len(which)) > 0
    error = abs(matrix @ changes).max(axis=0)
    moved = np.asarray(error.todense()).ravel() > (0.0 if whole else _NEAR)
    after_p = table[cells[which]] + np.asarray(changes[cells[which], np.arange(len(which))]).ravel()
    reached = np.abs(after_p - value) <= (0.0 if whole else _NEAR)
    return cells[which[~short & ~moved & reached]]


def _solved(
    matrix: Any, totals: FloatArray
) -> tuple[BoolArray, FloatArray, tuple[Any, FloatArray]]:
    """Find counts that stand alone in a published number, again and again."""
    size = matrix.shape[1]
    known, value = np.zeros(size, dtype=bool), np.zeros(size)
    while True:
        alone = np.diff(matrix.indptr) == 1
        if not alone.any():
            return known, value, (matrix, totals)
        first = matrix.indptr[:-1][alone]
        columns = matrix.indices[first]
        value[columns] = totals[alone] / matrix.data[first]
        new = np.zeros(size)
        new[columns] = value[columns]
        known[columns] = True
        totals = totals - matrix @ new
        keep = np.ones(size)
        keep[columns] = 0.0
        matrix = sparse.csr_array(matrix @ sparse.diags_array(keep))
        matrix.eliminate_zeros()
        some = np.diff(matrix.indptr) > 0
        slack = _NEAR * max(1.0, float(np.abs(value).max()))
        if (np.abs(totals[~some]) > slack).any() or (value < -slack).any():
            raise _contradiction()
        matrix, totals = matrix[some], totals[some]


def _parts(
    matrix: Any, totals: FloatArray, open_: BoolArray, wanted: IntArray, *, whole: bool
) -> Iterator[_Part]:
    """Yield the connected parts in which a wanted count lies."""
    cells = np.flatnonzero(open_)
    if not len(cells) or not np.isin(cells, wanted).any():
        return
    narrow = sparse.csr_array(sparse.csc_array(matrix)[:, cells])
    rows = narrow.shape[0]
    graph = sparse.block_array([[None, narrow], [narrow.T, None]], format="csr")
    if rows == 0:
        labels, row_labels = np.arange(len(cells)), np.zeros(0, dtype=np.int64)
    else:
        _, found = sparse.csgraph.connected_components(graph, directed=False)
        row_labels, labels = found[:rows].astype(np.int64), found[rows:].astype(np.int64)
    cell_order, row_order = np.argsort(labels, kind="stable"), np.argsort(row_labels, kind="stable")
    for label in np.unique(labels[np.isin(cells, wanted)]):
        mine = cell_order[slice(*np.searchsorted(labels[cell_order], [label, label + 1]))]
        its = row_order[slice(*np.searchsorted(row_labels[row_order], [label, label + 1]))]
        part = sparse.csr_array(narrow[its][:, mine])
        yield _Part(cells=cells[mine], links=part, totals=totals[its], whole=whole)


def _without_zero(part: _Part, places: IntArray) -> BoolArray:
    """Whether no table was found in which the count is 0."""
    waiting = np.ones(len(places), dtype=bool)
    while waiting.any():
        goal = np.zeros(len(part.cells))
        goal[places[waiting]] = 1.0
        table = _checked(part, _program(part, goal))
        found = waiting & (table[places] == 0) if table is not None else np.zeros_like(waiting)
        if not found.any():
            break
        waiting &= ~found
    for j in np.flatnonzero(waiting):
        waiting[j] = not _exists(part, int(places[j]), 0.0, 0.0)
    return waiting


def _without_large(part: _Part, places: IntArray, limit: float) -> BoolArray:
    """Whether no table was found in which the count is `limit` or more."""
    waiting = np.ones(len(places), dtype=bool)
    while waiting.any():
        # the sum of min(x, limit) over the waiting counts, so that one count does not take all
        asked = places[waiting]
        q, k = len(asked), len(part.cells)
        pick = sparse.csr_array((np.ones(q), (np.arange(q), asked)), shape=(q, k))
        goal = np.concatenate([np.zeros(k), -np.ones(q)])
        wide = replace(
            part,
            links=sparse.csr_array(
                sparse.hstack([part.links, sparse.csr_array((part.links.shape[0], q))])
            ),
        )
        under = sparse.hstack([-pick, sparse.eye_array(q)], format="csr")
        table = _checked(part, _program(wide, goal, under=under, most=(k, limit))[:k])
        found = waiting & (table[places] >= limit) if table is not None else np.zeros_like(waiting)
        if not found.any():
            break
        waiting &= ~found
    for j in np.flatnonzero(waiting):
        waiting[j] = not _exists(part, int(places[j]), limit, np.inf)
    return waiting


_ENDLESS = np.zeros(0)


def _program(
    part: _Part, goal: FloatArray, *, under: Any = None, most: tuple[int, float] | None = None
) -> FloatArray:
    """Minimise a sum over tables that fit; `_ENDLESS` where it has no least value."""
    bounds = np.column_stack([np.zeros(len(goal)), np.full(len(goal), np.inf)])
    if most is not None:
        bounds[most[0] :, 1] = most[1]
    limits = None if under is None else np.zeros(under.shape[0])
    links = part.links if part.links.shape[0] else None
    totals = part.totals if part.links.shape[0] else None
    # the simplex ends in a corner, which is whole for most tables
    done = _linprog(
        goal, A_eq=links, b_eq=totals, A_ub=under, b_ub=limits, bounds=bounds, method="highs-ds"
    )
    if done.status == 3:
        return _ENDLESS
    if done.status == 2:
        raise _contradiction()
    if done.status != 0:
        raise DataError(f"the bounds of suppressed counts were not found: {done.message}")
    return np.asarray(done.x, dtype=float)


def _checked(part: _Part, table: FloatArray) -> FloatArray | None:
    """Return a table that fits every published number, or nothing."""
    clean = np.maximum(np.rint(table) if part.whole else np.where(table < _NEAR, 0.0, table), 0.0)
    error = np.abs(part.links @ clean - part.totals)
    # a total of a hundred million person-years may be off by rounding, and not by a person
    allowed = 0.0 if part.whole else _NEAR + _ROUNDING * np.abs(part.totals)
    return clean if (error <= allowed).all() else None


def _exists(part: _Part, place: int, low: float, high: float) -> bool:
    """Whether some table that fits has one count in a range."""
    size = len(part.cells)
    least, most = np.zeros(size), np.full(size, np.inf)
    least[place], most[place] = low, high
    constraints = optimize.LinearConstraint(part.links, part.totals, part.totals)
    done = optimize.milp(
        np.zeros(size),
        constraints=constraints if part.links.shape[0] else (),
        bounds=optimize.Bounds(least, most),
        integrality=np.full(size, int(part.whole)),
        options={"time_limit": _SECONDS},
    )
    if done.x is None:
        return False
    table = _checked(part, done.x)
    return table is not None and bool(low <= table[place] <= high)


def _contradiction() -> DataError:
    return DataError(
        "the published numbers contradict each other: no counts of 0 or more add up to them. "
        "Check which numbers are totals of which."
    )
