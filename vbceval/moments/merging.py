"""Merge cells of few people: over strata, periods and organizations, always a whole organization.

An organization keeps the same strata in all of its periods. Merging single cells would lose fewer of
them, but then a stratum would hold other organizations in one period than in the next, and their
differences would enter the effect. Pooled effects do not change when strata are merged: cells of an
organization and period add up.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.moments.protected import Counts, is_between
from vbceval.moments.sums import Sums


@dataclass(frozen=True, eq=False, kw_only=True)
class Cells:
    """
    Cells of the source as numbers.

    Parameters
    ----------
    cluster, period : int array, shape (K,)
        Position of the organization and of the period.
    strata : int array, shape (K, S)
        Level of each stratum column.
    clusters, periods : Index
        Their labels.
    levels : tuple of Index
        Labels of the levels of each stratum column.
    cohort : int array, shape (C,)
        Number of the cohort and exit of each organization.
    rows_of : tuple of int array
        Cells of each organization.
    """

    cluster: IntArray
    period: IntArray
    strata: IntArray
    clusters: pd.Index
    periods: pd.Index
    levels: tuple[pd.Index, ...]
    cohort: IntArray
    rows_of: tuple[IntArray, ...]

    @classmethod
    def of(cls, sums: Sums) -> Cells:
        """Return the cells of sums."""
        schema = sums.schema
        keys = sums.table.select(list(schema.keys)).to_pandas()
        cluster, clusters = pd.factorize(keys[schema.cluster], sort=True)
        period, periods = pd.factorize(keys[schema.period], sort=True)
        coded = [pd.factorize(keys[s], sort=True) for s in schema.strata]
        entry = sums.clusters.reindex(clusters)[["cohort", "exit"]]
        entered = entry.groupby(["cohort", "exit"], dropna=False).ngroup()
        cohort: IntArray = np.asarray(entered, dtype=np.int64)
        order = np.argsort(cluster, kind="stable")
        edges = np.searchsorted(cluster[order], np.arange(len(clusters) + 1))
        return cls(
            cluster=cluster.astype(np.int64), period=period.astype(np.int64),
            strata=np.column_stack([c for c, _ in coded]).astype(np.int64)
            if coded else np.zeros((len(keys), 0), dtype=np.int64),
            clusters=pd.Index(clusters), periods=pd.Index(periods),
            levels=tuple(pd.Index(found) for _, found in coded),
            cohort=cohort,
            rows_of=tuple(order[a:b] for a, b in itertools.pairwise(edges)),
        )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Merge:
    """
    Which cells are published together.

    Parameters
    ----------
    owner : int array, shape (C,)
        Organization under which each one is published: the first of those merged.
    depth : int array, shape (C,)
        For each owner, how many stratum columns are merged, from the last.
    deleted : array of bool, shape (C,)
        For each owner, whether it is left out.
    bin : int array, shape (T,)
        Period under which each one is published: the first of those merged.
    """

    owner: IntArray
    depth: IntArray
    deleted: BoolArray
    bin: IntArray

    @classmethod
    def nothing(cls, cells: Cells) -> Merge:
        """Every cell by itself."""
        c = len(cells.clusters)
        return cls(
            owner=np.arange(c), depth=np.zeros(c, dtype=np.int64),
            deleted=np.zeros(c, dtype=bool), bin=np.arange(len(cells.periods)),
        )  # fmt: skip

    def copy(self) -> Merge:
        """Return a copy whose arrays may be changed."""
        return Merge(
            owner=self.owner.copy(), depth=self.depth.copy(), deleted=self.deleted.copy(),
            bin=self.bin.copy(),
        )  # fmt: skip

    def codes(self, cells: Cells, rows: IntArray | slice = slice(None)) -> IntArray:
        """Return a number for the published cell of each cell of the source."""
        owner = self.owner[cells.cluster[rows]]
        code = owner * len(self.bin) + self.bin[cells.period[rows]]
        n_strata = cells.strata.shape[1]
        depth = self.depth[owner]
        for j in range(n_strata):
            level = np.where(j < n_strata - depth, cells.strata[rows, j], 0)
            code = code * len(cells.levels[j]) + level
        return np.asarray(code, dtype=np.int64)

    def members(self, owner: int) -> IntArray:
        """Return the organizations published under one."""
        return np.flatnonzero(self.owner == owner)

    def owners(self) -> IntArray:
        """Return the organizations that are published."""
        found = np.unique(self.owner)
        return found[~self.deleted[found]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Rules:
    """
    When a published cell may leave.

    Parameters
    ----------
    counts : Counts
        Counts of the cells of the source, with their limits.
    disjoint : bool
        Whether a person is in one organization and stratum in a period, so that people add up over
        them; the largest part is counted otherwise, of which the true number is never less.
    dominance : float or None
        Largest share of an amount that one row may have.
    """

    counts: Counts
    disjoint: bool
    dominance: float | None

    def failing(
        self, cells: Cells, merge: Merge, rows: IntArray | None = None
    ) -> tuple[IntArray, BoolArray]:
        """
        Return the code of each published cell, and which counts or rules it fails.

        Returns
        -------
        codes : int array, shape (P,)
        fails : array of bool, shape (P, q + 2)
            A column for each count, one for few rows behind many events, and one for dominance.
        """
        every = slice(None) if rows is None else rows
        codes, place = np.unique(merge.codes(cells, every), return_inverse=True)
        values = self.counts.values[every]
        total = np.column_stack(
            [
                self._people(cells, merge, every, codes, place, values[:, j])
                if distinct
                else np.bincount(place, weights=values[:, j], minlength=len(codes))
                for j, distinct in enumerate(self.counts.distinct)
            ]
        )
        small = is_between(total, self.counts.whole, self.counts.limits)
        few = self.counts.few.exposed(place, every, len(codes))
        dominated = np.zeros(len(codes), dtype=bool)
        if self.dominance is not None and self.counts.amounts is not None:
            dominated = self.counts.amounts.dominated(self.dominance, place, every, len(codes))
        return codes, np.column_stack([small, few, dominated])

    def _people(
        self, cells: Cells, merge: Merge, rows: IntArray | slice, codes: IntArray, place: IntArray,
        values: FloatArray,
    ) -> FloatArray:  # fmt: skip
        """Distinct people of published cells, from below."""
        if self.disjoint:
            periods = len(cells.periods)
            both = place * periods + cells.period[rows]
            apart, back = np.unique(both, return_inverse=True)
            values, place = np.bincount(back, weights=values), apart // periods
        most = np.zeros(len(codes))
        np.maximum.at(most, place, values)
        return most


def merge_strata(cells: Cells, rules: Rules, merge: Merge, owners: IntArray) -> IntArray:
    """
    Merge stratum columns of each owner, from the last, until its cells may leave.

    Changes ``merge.depth``; returns the owners that fail with all strata merged.
    """
    n_strata = cells.strata.shape[1]
    merge.depth[owners] = 0
    open_ = owners
    for depth in range(n_strata + 1):
        merge.depth[open_] = depth
        open_ = failing_owners(cells, rules, merge, open_)
        if not len(open_):
            break
    return open_


def failing_owners(cells: Cells, rules: Rules, merge: Merge, owners: IntArray) -> IntArray:
    """Return those of some owners that have a cell that may not leave."""
    rows = rows_under(cells, merge, owners)
    if not len(rows):
        return np.zeros(0, dtype=np.int64)
    codes, fails = rules.failing(cells, merge, rows)
    size = int(np.prod([len(merge.bin), *[len(x) for x in cells.levels]]))
    return np.unique(codes[fails.any(axis=1)] // size)


def rows_under(cells: Cells, merge: Merge, owners: IntArray) -> IntArray:
    """Return the cells of the source that are published under some owners."""
    chosen = np.isin(merge.owner, owners)
    if chosen.mean() > 0.2:
        return np.flatnonzero(chosen[cells.cluster])
    found = [cells.rows_of[c] for c in np.flatnonzero(chosen)]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def merge_clusters(cells: Cells, rules: Rules, merge: Merge, failing: IntArray) -> IntArray:
    """
    Merge owners that fail with others of the same cohort and exit, the smallest with each other.

    What is left over joins the smallest merged or other organization with which it may leave.
    Changes ``merge.owner`` and ``merge.depth``; returns the owners that no merging helps.
    """
    size = np.bincount(cells.cluster, weights=rules.counts.values[:, 0])
    size = np.bincount(merge.owner, weights=size, minlength=len(size))
    n_strata = cells.strata.shape[1]
    coarse = _without_strata(cells, rules)
    lost: list[int] = []
    made: list[int] = []
    for cohort in np.unique(cells.cohort[failing]):
        mine = failing[cells.cohort[failing] == cohort]
        waiting: list[int] = []
        closed: list[int] = []
        for owner in mine[np.argsort(size[mine], kind="stable")]:
            waiting.append(int(owner))
            if len(waiting) > 1 and _may_leave(*coarse, merge, waiting):
                closed.append(join(merge, waiting, n_strata))
                waiting = []
        if waiting:
            owners = merge.owners()
            others = owners[(cells.cohort[owners] == cohort) & ~np.isin(owners, mine)]
            others = others[np.argsort(size[others], kind="stable")]
            partner = next(
                (x for x in [*closed, *others.tolist()]
                 if _may_leave(*coarse, merge, [*waiting, x])), None,
            )  # fmt: skip
            if partner is None:
                lost += waiting
            else:
                closed.append(join(merge, [*waiting, partner], n_strata))
        made += closed
    again = np.intersect1d(np.array(made, dtype=np.int64), merge.owners())
    merge_strata(cells, rules, merge, again)
    return np.array(lost, dtype=np.int64)


def join(merge: Merge, owners: Sequence[int], depth: int) -> int:
    """Publish some owners under the first of them; return it."""
    first = min(owners)
    merge.owner[np.isin(merge.owner, list(owners))] = first
    merge.depth[first] = depth
    return first


def _without_strata(cells: Cells, rules: Rules) -> tuple[Cells, Rules]:
    """Return the cells of organizations and periods, all strata together, and rules for them."""
    periods = len(cells.periods)
    codes, place = np.unique(cells.cluster * periods + cells.period, return_inverse=True)
    counts = rules.counts.merged(place, len(codes), disjoint=rules.disjoint)
    cluster = codes // periods
    edges = np.searchsorted(cluster, np.arange(len(cells.clusters) + 1))
    coarse = replace(
        cells, cluster=cluster, period=codes % periods, levels=(),
        strata=np.zeros((len(codes), 0), dtype=np.int64),
        rows_of=tuple(np.arange(a, b) for a, b in itertools.pairwise(edges)),
    )  # fmt: skip
    return coarse, replace(rules, counts=counts)


def _may_leave(cells: Cells, rules: Rules, merge: Merge, owners: Sequence[int]) -> bool:
    """Whether organizations may leave together; `cells` and `rules` are without strata."""
    members = np.flatnonzero(np.isin(merge.owner, list(owners)))
    rows = np.concatenate([cells.rows_of[c] for c in members])
    trial = replace(merge, owner=np.zeros_like(merge.owner))
    _, fails = rules.failing(cells, trial, rows)
    return not bool(fails.any())


def repair(
    cells: Cells, rules: Rules, merge: Merge, bins: IntArray | None
) -> tuple[Merge, list[str]]:
    """
    Merge strata, then periods (where bins are given), then organizations; leave out the rest.

    Returns
    -------
    Merge
    list of str
        The steps that were needed.
    """
    out = merge.copy()
    steps = []
    failing = merge_strata(cells, rules, out, out.owners())
    if len(failing) and bins is not None:
        out.bin[:] = bins
        steps.append("periods")
        failing = merge_strata(cells, rules, out, out.owners())
    if len(failing):
        steps.append("clusters")
        failing = merge_clusters(cells, rules, out, failing)
    if len(failing):
        steps.append("deletion")
        out.deleted[failing] = True
    if out.depth[out.owners()].any():
        steps.insert(0, "strata")
    return out, steps
