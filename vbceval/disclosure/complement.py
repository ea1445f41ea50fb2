"""Which other cells to suppress, so that no protected count can be had from totals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import optimize, sparse

from vbceval.core.disclosure import SMALLEST_SHOWN
from vbceval.core.errors import DataError
from vbceval.core.typing import BoolArray, FloatArray, IntArray

MOST_EXACT = 40_000
"""Largest exact problem: two changes of every cell for every protected one."""
_SECONDS = 30.0
_NEAR = 1e-6
# a zero costs something too
_EACH = 1e-3
# the stubs know dense arrays only
_linprog: Any = optimize.linprog


@dataclass(frozen=True, eq=False, kw_only=True)
class Pattern:
    """
    Cells to suppress.

    Parameters
    ----------
    suppressed : array of bool, shape (k,)
        Protected cells and those suppressed with them.
    method : {"none", "exact", "sequential"}
        "none": there was nothing to protect. "exact": no pattern costs less. "sequential": one
        protected cell after the other, which may suppress more than needed.
    """

    suppressed: BoolArray
    method: Literal["none", "exact", "sequential"]


@dataclass(frozen=True, kw_only=True)
class _Problem:
    values: FloatArray
    links: Any
    primary: IntArray
    upper: float
    minimum: float
    tied: IntArray
    always: BoolArray
    never: BoolArray
    cost: FloatArray


def complement(
    values: FloatArray,
    links: Any,
    *,
    primary: BoolArray,
    minimum: float = SMALLEST_SHOWN,
    cost: FloatArray | None = None,
    tied: IntArray | None = None,
    hidden: BoolArray | None = None,
    shown: BoolArray | None = None,
    suppress_zero: bool = False,
    most_exact: int = MOST_EXACT,
) -> Pattern:
    """
    Choose the cells to suppress at least cost, protected cells among them.

    A pattern protects a cell when counts of 0 or more exist in which it is 0, counts exist in
    which it is `minimum` or more, and both add up to every total and equal every cell that is
    shown. Whole numbers are not asked for; `unproven` checks them.

    Parameters
    ----------
    values : array, shape (k,)
        Counts and totals, 0 or more.
    links : sparse array or array, shape (r, k)
        ``links @ values == 0``: a row for each total, 1 for its parts and -1 for itself.
    primary : array of bool, shape (k,)
        Cells to protect.
    minimum : float
        Smallest count that may be known.
    cost : array, shape (k,), optional
        Cost of suppressing a cell. Default ``log(1 + value)``, so that small ones go first.
    tied : array of int, shape (k,), optional
        Cells with the same number are suppressed together.
    hidden, shown : array of bool, shape (k,), optional
        Cells that are not shown in any case, at no cost; cells that are known in any case.
    suppress_zero : bool
        Whether zeros may be suppressed; they are shown otherwise.
    most_exact : int
        The integer program is solved up to this many changes (twice the protected cells times the
        cells); above, or where it takes more than 30 seconds, cells are protected one by one.

    Returns
    -------
    Pattern

    Raises
    ------
    DataError
        If the numbers do not add up, or no pattern protects every cell.

    References
    ----------
    .. [1] Fischetti, M. and Salazar, J. J. (2001). Solving the cell suppression problem on tabular
       data with linear constraints. *Management Science* 47(7), 1008-1027. Section 3.
    .. [2] Kelly, J. P., Golden, B. L. and Assad, A. A. (1992). Cell suppression: disclosure
       protection for sensitive tabular data. *Networks* 22(4), 397-417. (One cell at a time.)

    Examples
    --------
    Four parts and their total, of which the first is too small to show:

    >>> parts = np.array([4.0, 25.0, 71.0, 100.0])
    >>> complement(parts, np.array([[1, 1, 1, -1]]), primary=parts < 11,
    ...            shown=parts == 100).suppressed.tolist()
    [True, True, False, False]
    """
    v = np.asarray(values, dtype=float)
    matrix = sparse.csr_array(links, dtype=float)
    no = np.zeros(len(v), dtype=bool)
    always = np.asarray(primary, dtype=bool) | (no if hidden is None else hidden)
    never = (no if shown is None else np.asarray(shown, dtype=bool)) & ~always
    if not suppress_zero:
        never |= (v == 0) & ~always
    if np.abs(matrix @ v).max(initial=0.0) > _NEAR * max(1.0, float(v.max(initial=0.0))):
        raise DataError(
            "the counts do not add up to their totals, so what could be had by subtraction is not "
            "known. Correct them, or leave the totals out."
        )
    places = np.arange(len(v)) if tied is None else np.unique(tied, return_inverse=True)[1]
    always, never = _spread(always, places), _spread(never, places) & ~_spread(always, places)
    problem = _Problem(
        values=v, links=matrix, primary=np.flatnonzero(primary), upper=float(v.max(initial=0.0))
        + minimum, minimum=minimum, tied=places, always=always, never=never,
        cost=np.log1p(v) if cost is None else np.asarray(cost, dtype=float),
    )  # fmt: skip
    if not len(problem.primary):
        return Pattern(suppressed=always, method="none")
    if 2 * len(problem.primary) * len(v) <= most_exact:
        found = _exact(problem)
        if found is not None:
            return Pattern(suppressed=found, method="exact")
    return Pattern(suppressed=_sequential(problem), method="sequential")


def _spread(chosen: BoolArray, places: IntArray) -> BoolArray:
    """A cell is chosen where one tied to it is."""
    return np.asarray(np.bincount(places, weights=chosen)[places] > 0, dtype=bool)


def _exact(problem: _Problem) -> BoolArray | None:
    """Solve the mixed-integer program; None where time ran out before a pattern was found."""
    v, k = problem.values, len(problem.values)
    groups = int(problem.tied.max()) + 1
    ends = [(int(p), side) for p in problem.primary for side in (1, -1)]
    blocks = len(ends)
    pick = sparse.csr_array((np.ones(k), (np.arange(k), problem.tied)), shape=(k, groups))
    each = sparse.eye_array(blocks)
    # a cell changes by no more than it may, and only where it is suppressed
    rise = sparse.vstack([-sparse.diags_array(problem.upper - v) @ pick] * blocks)
    fall = sparse.vstack([sparse.diags_array(v) @ pick] * blocks)
    change = sparse.eye_array(blocks * k)
    zeros = sparse.csr_array((blocks * problem.links.shape[0], groups))
    constraints = [
        optimize.LinearConstraint(sparse.hstack([zeros, sparse.kron(each, problem.links)]), 0, 0),
        optimize.LinearConstraint(sparse.hstack([rise, change]), -np.inf, 0),
        optimize.LinearConstraint(sparse.hstack([fall, change]), 0, np.inf),
    ]
    low = np.concatenate([np.zeros(groups), np.tile(-v, blocks)])
    high = np.concatenate([np.ones(groups), np.tile(problem.upper - v, blocks)])
    low[problem.tied[problem.always]] = 1.0
    high[problem.tied[problem.never]] = 0.0
    for b, (p, side) in enumerate(ends):
        place = groups + b * k + p
        if side > 0:
            low[place] = problem.minimum - v[p]
        else:
            high[place] = -v[p]
    # primary, hidden and tied cells are paid in any case
    price = np.bincount(problem.tied, weights=problem.cost) + _EACH
    price[np.unique(problem.tied[problem.always])] = 0.0
    done = optimize.milp(
        np.concatenate([price, np.zeros(blocks * k)]),
        constraints=constraints,
        bounds=optimize.Bounds(low, high),
        integrality=np.concatenate([np.ones(groups), np.zeros(blocks * k)]),
        options={"time_limit": _SECONDS},
    )
    if done.status == 2:
        raise _impossible(len(problem.primary))
    if done.status != 0 or done.x is None:
        return None
    return np.asarray(done.x[:groups][problem.tied] > 0.5, dtype=bool)


def _sequential(problem: _Problem) -> BoolArray:
    """Protect one cell after the other by its cheapest change, keeping what is suppressed."""
    v, k = problem.values, len(problem.values)
    suppressed = problem.always.copy()
    links = sparse.hstack([problem.links, -problem.links], format="csr")
    limits = np.column_stack([np.zeros(2 * k), np.concatenate([problem.upper - v, v])])
    limits[np.tile(problem.never, 2), 1] = 0.0
    lost = 0
    for p in problem.primary[np.argsort(v[problem.primary], kind="stable")]:
        for side in (1, -1):
            wanted = problem.minimum - v[p] if side > 0 else v[p]
            bounds = limits.copy()
            bounds[p if side > 0 else k + p] = (wanted, max(wanted, 0.0))
            bounds[k + p if side > 0 else p] = (0.0, 0.0)
            price = np.where(suppressed, 0.0, problem.cost / np.maximum(v, 1.0) + _EACH)
            done = _linprog(
                np.tile(price, 2), A_eq=links, b_eq=np.zeros(links.shape[0]), bounds=bounds,
                method="highs",
            )  # fmt: skip
            if done.status != 0:
                lost += 1
                break
            moved = np.abs(done.x[:k] - done.x[k:]) > _NEAR
            suppressed |= _spread(moved, problem.tied)
    if lost:
        raise _impossible(lost)
    return suppressed


def _impossible(count: int) -> DataError:
    return DataError(
        f"no pattern of suppression protects the table ({count:,} cells to protect): the totals "
        "that are shown give them away whatever else is left out. Show fewer totals, or merge "
        "categories."
    )
