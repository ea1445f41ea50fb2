"""Outcome regressions of all comparisons of two cross-sections, together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.design import GroupTimePair
from vbceval.did.blocks import side
from vbceval.did.pair_results import Counts, PairResult, noted, without_estimation
from vbceval.did.period_sums import PeriodSums
from vbceval.did.solve import CONSTANT, ComparisonFailure, invert, levels_needed

_NO_SPREAD = 1e-12
_HELD = 1 << 24
"""Numbers of the influence of members that are held at a time, beside those of clusters."""
_LATER, _BASE = 0, 1
_TREATED, _COMPARISON = 0, 1


def regressed(
    sums: PeriodSums,
    pairs: Sequence[tuple[int, GroupTimePair]],
    last: float,
    psi: FloatArray,
    *,
    followed: bool,
) -> dict[int, PairResult]:
    """
    Compare treated changes in means with the changes that comparison cells predict.

    Regressions are solved together, from sums by period and cohort; influence is one matrix product
    a period and cohort.

    Parameters
    ----------
    sums : PeriodSums
        Of the cells.
    pairs : sequence of (int, GroupTimePair)
        Comparisons with their positions.
    last : float
        Last period plus anticipation.
    psi : array, shape (m, R, G)
        Zeros; the influence of clusters is written at the position of each pair.
    followed : bool
        Whether units are followed, so that the weight of the later period is theirs.

    Returns
    -------
    dict of int to PairResult
        By position, without pairs that lack treated cells in one of their periods.

    References
    ----------
    .. [1] Sant'Anna, P. H. C. and Zhao, J. (2020). Doubly robust difference-in-differences
       estimators. *Journal of Econometrics* 219(1), 101-122. Section 2, repeated cross-sections.
    """
    m = len(psi)
    sides = _Sides.of(sums, [pair for _, pair in pairs], last)
    cells = sides.totals(sums.cells[None].astype(float))[..., 0]
    counts = _Counter(sums, psi.shape[-1], followed=followed)
    done: dict[int, PairResult] = {}
    left = []
    for i, (at, pair) in enumerate(pairs):
        if not cells[:, _TREATED, i].all():
            continue
        found = counts.of(sides, i, pair)
        if pair.is_reference:
            done[at] = without_estimation(pair, found, m)
        elif not cells[:, _COMPARISON, i].all():
            done[at] = without_estimation(pair, found._replace(n_comparison=0), m)
        else:
            done[at] = PairResult(pair, np.full(m, np.nan), found)
            left.append(i)
    solved, failures = _solved(sums, sides.take(np.array(left, dtype=np.int64)))
    for i, reason in failures.items():
        at = pairs[left[i]][0]
        done[at] = done[at]._replace(failure=reason)
    good = [pairs[i][0] for place, i in enumerate(left) if place not in failures]
    for at, estimate in zip(good, solved.effect, strict=True):
        done[at] = done[at]._replace(estimate=estimate)
    _write_influence(sums, solved, psi, good)
    return done


class _Sides(NamedTuple):
    """
    Periods and cohorts of n comparisons, by position.

    Parameters
    ----------
    period : int array, shape (2, n)
        The later (the one whose effect is asked) and the base period.
    cohorts : bool array, shape (2, n, c)
        Treated and comparison cohorts.
    """

    period: IntArray
    cohorts: BoolArray

    @classmethod
    def of(cls, sums: PeriodSums, pairs: Sequence[GroupTimePair], last: float) -> _Sides:
        """Find the periods and cohorts of pairs."""
        times = np.array([[p.period for p in pairs], [p.base for p in pairs]])
        # cohorts that serve as comparison are the same for many pairs
        first = {
            p.controls: side(sums.cohorts, p, last)[1]
            for p in {q.controls: q for q in pairs}.values()
        }
        treated = sums.cohorts == np.array([[p.cohort] for p in pairs])
        comparison = np.array([first[p.controls] for p in pairs])
        return cls(np.searchsorted(sums.periods, times), np.stack([treated, comparison]))

    def take(self, rows: IntArray) -> _Sides:
        """Return some comparisons."""
        return _Sides(self.period[:, rows], self.cohorts[:, rows])

    def slots(self, values: np.ndarray) -> np.ndarray:
        """Return values of slots, (r, T c), by role and cohort of each period: (r, 2, n, c)."""
        c = self.cohorts.shape[-1]
        return values.reshape(len(values), values.shape[1] // c, c)[:, self.period]

    def totals(self, values: FloatArray) -> FloatArray:
        """Return sums of slots, (r, T c), by period and side: (2, 2, n, r)."""
        chosen = self.cohorts.astype(float)
        return np.asarray(np.einsum("rpnc,snc->psnr", self.slots(values), chosen))


class _Counter:
    """Counts units and clusters of comparisons, one cell (or more) a unit."""

    def __init__(self, sums: PeriodSums, n_clusters: int, *, followed: bool) -> None:
        block, c = sums.block, len(sums.cohorts)
        self._sums, self._size, self._followed = sums, n_clusters, followed
        self._cluster, self._owner = sums.cluster[sums.member], sums.owner[sums.member]
        self._groups = sums.starts[::c]
        self._unit = block.unit[sums.order]
        self._cells = np.concatenate([[0], np.cumsum(sums.cells)])[::c]
        self._cohort = np.zeros(int(block.unit.max(initial=-1)) + 1, dtype=np.int64)
        self._cohort[self._unit] = np.repeat(np.arange(len(sums.cells)) % c, sums.cells)

    def of(self, sides: _Sides, i: int, pair: GroupTimePair) -> Counts:
        """Count one comparison."""
        sides_of_cohort = sides.cohorts[:, i]
        times = dict.fromkeys(sides.period[:, i].tolist())
        weight, clusters = np.zeros(self._size), np.zeros(self._size, dtype=bool)
        seen = np.zeros(len(self._cohort), dtype=bool)
        found: tuple[list[IntArray], list[IntArray]] = ([], [])
        for later, s in enumerate(times):
            groups = slice(*self._groups[s : s + 2])
            cluster, owner = self._cluster[groups], self._owner[groups]
            for own, chosen in zip(found, sides_of_cohort, strict=True):
                own.append(cluster[chosen[owner]])
            seen[self._unit[slice(*self._cells[s : s + 2])]] = True
            if later == 0 or not self._followed:
                # a cluster is once in the groups of a period and cohort
                weight[found[0][-1]] += self._sums.products[0, groups][sides_of_cohort[0][owner]]
        treated, comparison = (np.concatenate(own) for own in found)
        clusters[treated] = clusters[comparison] = True
        units = np.bincount(self._cohort[seen], minlength=sides.cohorts.shape[-1])
        n_treated, n_comparison = sides_of_cohort @ units
        note = noted(treated, comparison)
        return Counts(weight, clusters, int(n_treated), int(n_comparison), note)


class _Solved(NamedTuple):
    """
    Regressions of n comparisons on (1, covariates), in the units of `PeriodSums`.

    Parameters
    ----------
    sides : _Sides
        The comparisons.
    target : array, shape (2, n, 1 + q)
        For each period, the inverse cross-product of comparison cells times the treated mean.
    beta : array, shape (2, n, 1 + q, m)
        Coefficients in the comparison cells of each period.
    outcome : array, shape (2, n, m)
        Mean of treated cells.
    weight : array, shape (2, n)
        Of treated cells.
    predicted : array, shape (n, m)
        Change of comparison cells at the treated mean of covariates.
    """

    sides: _Sides
    target: FloatArray
    beta: FloatArray
    outcome: FloatArray
    weight: FloatArray
    predicted: FloatArray

    @property
    def effect(self) -> FloatArray:
        """Effects on the treated, shape (n, m)."""
        return np.asarray(self.outcome[_LATER] - self.outcome[_BASE] - self.predicted)


def _solved(sums: PeriodSums, sides: _Sides) -> tuple[_Solved, dict[int, str]]:
    """Solve all comparisons that can be, and say why others cannot."""
    n = sides.period.shape[1]
    try:
        return _solve(sums, sides), {}
    except ComparisonFailure:
        failures = {}
        for i in range(n):
            try:
                _solve(sums, sides.take(np.array([i])))
            except ComparisonFailure as error:
                failures[i] = str(error)
        good = np.array([i for i in range(n) if i not in failures], dtype=np.int64)
        return _solve(sums, sides.take(good)), failures


def _solve(sums: PeriodSums, sides: _Sides) -> _Solved:
    gram, cross = sums.unpacked(sides.totals(sums.totals))
    cells = sides.totals(sums.cells[None].astype(float))[:, _COMPARISON, :, 0]
    first = gram[..., 0]
    treated = first[:, _TREATED].sum(axis=0)
    mean_x = treated / treated[:, :1]
    centre = first.sum(axis=(0, 1))
    target, beta = np.zeros((2, *mean_x.shape)), np.zeros((2, *mean_x.shape, cross.shape[-2]))
    for kept, rows in _by_columns(sums, sides, centre[:, 0]):
        names = (CONSTANT, *(sums.block.names[j] for j in kept))
        # from the mean of the comparison, without columns that do not vary in it
        turn = np.zeros((len(rows), len(names), mean_x.shape[1]))
        turn[:, np.arange(len(names)), [0, *(1 + kept)]] = 1.0
        turn[:, 1:, 0] = -centre[rows][:, 1 + kept] / centre[rows, :1]
        back = np.swapaxes(turn, 1, 2)
        for when, word in ((_LATER, "later"), (_BASE, "earlier")):
            where = f"the comparison rows of the {word} period"
            if sums.block.xx is None and (cells[when, rows] < len(names)).any():
                raise ComparisonFailure(
                    f"{where} are too few for {len(names)} regression coefficients"
                )
            inverse = (
                back @ invert(turn @ gram[when, _COMPARISON, rows] @ back, names, where) @ turn
            )
            target[when, rows] = (inverse @ mean_x[rows, :, None])[..., 0]
            beta[when, rows] = inverse @ np.swapaxes(cross[when, _COMPARISON, rows], 1, 2)
    weight = first[:, _TREATED, :, 0]
    outcome = cross[:, _TREATED, :, :, 0] / weight[..., None]
    slope = beta[_LATER] - beta[_BASE]
    return _Solved(sides, target, beta, outcome, weight, (mean_x[:, None] @ slope)[:, 0])


def _by_columns(
    sums: PeriodSums, sides: _Sides, weight: FloatArray
) -> list[tuple[IntArray, IntArray]]:
    """Return covariates that vary in comparisons, by position, with these comparisons."""
    used = sides.cohorts.any(axis=0)
    low = np.where(used, sides.slots(sums.low), np.inf).min(axis=(1, 3))
    high = np.where(used, sides.slots(sums.high), -np.inf).max(axis=(1, 3))
    inside = sides.totals(sums.inside).sum(axis=(0, 1)).T
    reach = high - low + np.sqrt(inside / weight)
    varies = (reach > _NO_SPREAD * (np.maximum(np.abs(low), np.abs(high)) + reach)).T
    present = ((low != 0) | (high != 0)).T
    whole = (sides.slots(sums.whole) | ~used).all(axis=(1, 3)).T
    found: dict[bytes, tuple[IntArray, list[int]]] = {}
    for i, row in enumerate(varies):
        kept = row & levels_needed(present[i], whole[i], sums.block.factors)
        found.setdefault(kept.tobytes(), (np.flatnonzero(kept), []))[1].append(i)
    return [(kept, np.array(rows)) for kept, rows in found.values()]


def _write_influence(
    sums: PeriodSums, solved: _Solved, psi: FloatArray, places: Sequence[int]
) -> None:
    """Write the influence of clusters at some places of (m, R, G)."""
    by_role = _coefficients(sums, solved)
    order = np.argsort(sums.cluster, kind="stable")
    cluster = sums.cluster[order]
    first = np.flatnonzero(np.diff(cluster, prepend=-1))
    step = max(1, _HELD // max(1, len(psi) * len(sums.owner)))
    for start in range(0, len(places), step):
        here = list(places[start : start + step])
        some = np.arange(start, start + len(here))
        own = [[values[:, some] for values in roles] for roles in by_role]
        influence = _of_members(sums, solved.sides.take(some), own)
        for into, values in zip(psi, influence, strict=True):
            summed = values[:, order]
            if len(first) < len(order):
                summed = np.add.reduceat(summed, first, axis=1)
            into[np.ix_(here, cluster[first])] = summed


def _of_members(sums: PeriodSums, sides: _Sides, by_role: list[list[FloatArray]]) -> FloatArray:
    """Return the influence of members on n comparisons, (m, n, M); coefficients are (m, n, f)."""
    c = len(sums.cohorts)
    out = np.zeros((*by_role[_LATER][_TREATED].shape[:2], len(sums.owner)))
    for slot, (start, end) in enumerate(zip(sums.starts, sums.starts[1:], strict=False)):
        if start == end:
            continue
        products, member = sums.products[:, start:end], sums.member[start:end]
        # members one after the other, as most are, need no list
        together = member[-1] - member[0] == len(member) - 1
        at = slice(member[0], member[-1] + 1) if together else member
        period, cohort = divmod(slot, c)
        for when in (_LATER, _BASE):
            for role in (_TREATED, _COMPARISON):
                own = np.flatnonzero(
                    (sides.period[when] == period) & sides.cohorts[role, :, cohort]
                )
                if len(own):
                    added = by_role[when][role][:, own] @ products
                    if together:
                        out[:, own, at] += added
                    else:
                        out[:, own[:, None], at] += added
    return out


def _coefficients(sums: PeriodSums, solved: _Solved) -> list[list[FloatArray]]:
    """Return coefficients of a group's products in its influence, by period and role, (m, n, f)."""
    slope = np.moveaxis(solved.beta[_LATER] - solved.beta[_BASE], 2, 0)
    k = slope.shape[2]
    first = np.eye(k)[0]
    out = []
    treated = solved.weight.sum(axis=0)
    for when, sign in ((_LATER, 1.0), (_BASE, -1.0)):
        target, weight = solved.target[when], solved.weight[when]
        beta = np.moveaxis(solved.beta[when], 2, 0)
        comparison = sums.packed(sign * target[None, :, :, None] * beta[:, :, None], -sign * target)
        # x (slope) of the regression, and the mean about which each is taken
        alone = -slope / treated[:, None]
        alone = alone + first * (solved.predicted / treated[:, None]).T[:, :, None]
        alone = alone - first * (sign * solved.outcome[when] / weight[:, None]).T[:, :, None]
        own = sums.packed(first[:, None] * alone[:, :, None], sign * first / weight[:, None])
        out.append([own, comparison])
    return out
