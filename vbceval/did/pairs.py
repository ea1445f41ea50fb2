"""Estimate every (g, t) comparison of a block, sharing what comparisons have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.design import GroupTimePair
from vbceval.did import followed, unfollowed
from vbceval.did.blocks import Block, Followed, side
from vbceval.did.changes import Changes
from vbceval.did.crossed_pairs import regressed
from vbceval.did.inputs import without_rounding
from vbceval.did.pair_results import Counts, PairResult, noted, without_estimation
from vbceval.did.period_sums import PeriodSums
from vbceval.did.solve import ComparisonFailure, Regressors, standardise
from vbceval.inference import sum_by_cluster


class Settings(NamedTuple):
    """Options of the estimator that the arrays need, and what kind of data these are."""

    method: str
    unbalanced: str
    fix_weights: str | None
    covariate_period: str
    trim: float | None
    compatible: bool
    followed: bool
    last: float


class Sample(NamedTuple):
    """
    Units that comparisons share, with the cells of their covariates and weights.

    Parameters
    ----------
    units : int array, shape (n,)
        Followed entities, by position in `Followed`.
    treated : bool array, shape (n,)
        Which of them are treated.
    baseline, weight : int array, shape (n,)
        Cells that give covariates and weight.
    """

    units: IntArray
    treated: BoolArray
    baseline: IntArray
    weight: IntArray

    def take(self, rows: IntArray) -> Sample:
        """Return some units."""
        return Sample(self.units[rows], self.treated[rows], self.baseline[rows], self.weight[rows])


class _Group(NamedTuple):
    """Pairs with the same sample, by position; the cluster of each of its units, not decreasing."""

    members: list[tuple[int, GroupTimePair]]
    sample: Sample
    cluster: IntArray

    @classmethod
    def of(
        cls, members: list[tuple[int, GroupTimePair]], sample: Sample, cluster: IntArray
    ) -> _Group:
        """Put the units of a sample in the order of their clusters."""
        if (np.diff(cluster) < 0).any():
            order = np.argsort(cluster, kind="stable")
            sample, cluster = sample.take(order), cluster[order]
        return cls(members, sample, cluster)


def estimate_pairs(
    block: Block,
    index: Followed | None,
    periods: FloatArray,
    pairs: list[GroupTimePair],
    settings: Settings,
    n_clusters: int,
) -> tuple[list[PairResult], FloatArray]:
    """
    Estimate comparisons; those without a treated unit in the data are left out.

    Followed pairs with the same units, weights and covariates share one propensity score and one
    factorization, with a right-hand side for each period and outcome; pairs of rows that are not
    followed share theirs between outcomes. Where covariates and weights of a unit are constant and
    nobody is missing, that is one a cohort and set of controls. Cost O(n p^2) for each such group
    plus O(n p) for each pair and outcome.

    Parameters
    ----------
    block : Block
        K cells, each with every outcome.
    index : Followed or None
        Where the cells of units are, if they are followed.
    periods : array
        Observed periods, increasing.
    pairs : list of GroupTimePair
        Comparisons.
    settings : Settings
        Options.
    n_clusters : int
        G, the length of every influence vector.

    Returns
    -------
    list of PairResult
        R comparisons, in the order of `pairs`.
    array, shape (m, R, G)
        Influence summed by cluster; zero where a comparison failed or is zero by definition.
    """
    # a row a comparison: those of one cohort are written one after the other
    psi = np.zeros((block.y.shape[1], len(pairs), n_clusters))
    if not pairs:
        return [], psi
    if index is None or settings.fix_weights == "varying" or settings.unbalanced == "rc":
        # rows that have to be seen in both periods are others in every pair
        pairwise = settings.followed and settings.unbalanced != "rc"
        if settings.method == "reg" and not pairwise:
            sums = PeriodSums.of(block, periods)
            done = regressed(
                sums, list(enumerate(pairs)), settings.last, psi, followed=settings.followed
            )
        else:
            # rows of a period side by side, which makes taking them quick
            block = block.take(np.argsort(block.period, kind="stable"))
            done = {}
            for i, pair in enumerate(pairs):
                done |= _cross_section(block, periods, i, pair, settings, psi)
    else:
        done = _followed_pairs(block, index, periods, pairs, settings, psi)
    for own, y in zip(psi, block.y.T, strict=True):
        found = own.T
        kept = without_rounding(found, float(np.abs(y).max(initial=0.0)))
        if kept is not found:
            found[:] = kept
    places = sorted(done)
    return [done[i] for i in places], psi if len(places) == len(pairs) else psi[:, places]


def _followed_pairs(
    block: Block,
    index: Followed,
    periods: FloatArray,
    pairs: list[GroupTimePair],
    settings: Settings,
    psi: FloatArray,
) -> dict[int, PairResult]:
    """Estimate pairs of followed units by groups with the same sample; return them by position."""
    samples = _Samples(block, index, periods, settings)
    groups: dict[tuple[object, ...], list[tuple[int, GroupTimePair]]] = {}
    for i, pair in enumerate(pairs):
        groups.setdefault(samples.key(pair), []).append((i, pair))
    y = _by_period(block.y, index)
    done: dict[int, PairResult] = {}
    for members in groups.values():
        sample = samples.of(members[0][1])
        if sample.treated.any():
            group = _Group.of(members, sample, block.cluster[index.first[sample.units]])
            done.update(_estimate_group(block, y, index, periods, group, settings, psi))
    return done


def _by_period(y: FloatArray, index: Followed) -> FloatArray:
    """Return outcomes as rows of units, shape (m, T, n); what is not seen is in no pair."""
    return np.ascontiguousarray(y[index.at].transpose(2, 1, 0))


class _Samples:
    """Which units are in each comparison: those seen whenever it needs them."""

    def __init__(
        self, block: Block, index: Followed, periods: FloatArray, settings: Settings
    ) -> None:
        self.cohort = block.cohort[index.first]
        self.index, self.periods, self.settings = index, periods, settings
        self.gaps = bool((index.at < 0).any())
        # the same in all periods: then it does not matter which one they are taken from
        self.one_x = _is_constant(block.x, block.entity, index)
        self.one_weight = _is_constant(block.w[:, None], block.entity, index)
        self._sides: dict[tuple[object, ...], tuple[IntArray, BoolArray]] = {}

    def key(self, pair: GroupTimePair) -> tuple[object, ...]:
        """Return what comparisons with the same sample have in common."""
        baseline, weight = self._columns(pair)
        seen = self._seen(pair).tobytes() if self.gaps else b""
        return (
            pair.cohort, pair.controls, seen,
            None if self.one_x else baseline, None if self.one_weight else weight,
        )  # fmt: skip

    def of(self, pair: GroupTimePair) -> Sample:
        """Return the sample of a comparison."""
        units, treated = self._side(pair)
        if self.gaps:
            seen = self._seen(pair)
            units, treated = units[seen], treated[seen]
        baseline, weight = self._columns(pair)
        return Sample(
            units, treated, self._at(None if self.one_x else baseline)[units],
            self._at(None if self.one_weight else weight)[units],
        )  # fmt: skip

    def _side(self, pair: GroupTimePair) -> tuple[IntArray, BoolArray]:
        key = (pair.cohort, pair.controls)
        if key not in self._sides:
            treated, comparison = side(self.cohort, pair, self.settings.last)
            units = np.flatnonzero(treated | comparison)
            self._sides[key] = units, treated[units]
        return self._sides[key]

    def _seen(self, pair: GroupTimePair) -> BoolArray:
        units, _ = self._side(pair)
        needed = {*self._columns(pair), self._column(pair.base), self._column(pair.period)}
        seen = np.ones(len(units), dtype=bool)
        for column in needed:
            seen &= self._at(column)[units] >= 0
        return seen

    def _columns(self, pair: GroupTimePair) -> tuple[int | None, int | None]:
        """Return the periods of covariates and of weights, by position; None for the first."""
        base, earlier = self._column(pair.base), self._column(pair.earlier)
        weight = {
            None: earlier, "base_period": self._column(pair.universal), "first_period": None,
        }[self.settings.fix_weights]  # fmt: skip
        return base if self.settings.covariate_period == "base" else earlier, weight

    def _column(self, period: float) -> int:
        return int(np.searchsorted(self.periods, period))

    def _at(self, column: int | None) -> IntArray:
        return self.index.first if column is None else self.index.at[:, column]


def _is_constant(values: FloatArray, entity: IntArray, index: Followed) -> bool:
    """Whether each followed entity has the same values in all of its cells."""
    steps = np.diff(entity)
    if (steps >= 0).all():
        again = steps == 0
        return not any((again & (column[1:] != column[:-1])).any() for column in values.T)
    own = np.empty(int(entity.max(initial=-1)) + 1, dtype=np.int64)
    own[entity[index.first]] = index.first
    first = own[entity]
    return all(np.array_equal(column, column[first]) for column in values.T)


def _count(
    block: Block, cells: IntArray, treated: BoolArray, w: FloatArray, n_clusters: int
) -> Counts:
    """Count units and clusters of the cells used, one cell (or more) a unit."""
    unit, cluster = block.unit[cells], block.cluster[cells]
    return Counts(
        treated_weight=sum_by_cluster(w * treated, cluster, n_clusters),
        clusters=np.bincount(cluster, minlength=n_clusters) > 0,
        n_treated=int(np.count_nonzero(np.bincount(unit[treated]))),
        n_comparison=int(np.count_nonzero(np.bincount(unit[~treated]))),
        note=noted(cluster[treated], cluster[~treated]),
    )


def _estimate_group(
    block: Block,
    y: FloatArray,
    index: Followed,
    periods: FloatArray,
    group: _Group,
    settings: Settings,
    psi: FloatArray,
) -> Iterator[tuple[int, PairResult]]:
    """Estimate pairs that share units, covariates and weights, and write their influence."""
    sample, m = group.sample, len(y)
    d, w = sample.treated, block.w[sample.weight]
    counts = _count(block, index.first[sample.units], d, w, psi.shape[-1])
    alone = bool(d.all())
    for i, pair in group.members:
        if pair.is_reference or alone:
            yield i, without_estimation(pair, counts, m)
    rest = [(i, pair) for i, pair in group.members if not (pair.is_reference or alone)]
    if not rest:
        return
    n_periods = y.shape[1]
    later, base = (
        np.searchsorted(periods, [getattr(pair, name) for _, pair in rest])
        for name in ("period", "base")
    )
    # a row an outcome and period, outcomes one after the other
    first = n_periods * np.arange(m)[:, None]
    changes = Changes(
        y=y.reshape(m * n_periods, -1), units=sample.units, later=(first + later).ravel(),
        base=(first + base).ravel(),
    )  # fmt: skip
    try:
        z = standardise(block.x[sample.baseline], w, block.names, factors=block.factors)
        found = _followed_effects(changes, d, w, z, settings)
    except ComparisonFailure as error:
        for i, pair in rest:
            yield i, PairResult(pair, np.full(m, np.nan), counts, str(error))
        return
    out = [rows[i] for rows in psi for i, _ in rest]
    changes.influence(found.slope, found.left, found.right, group.cluster, out)
    for (i, pair), att in zip(rest, found.att.reshape(m, -1).T, strict=True):
        yield i, PairResult(pair, att, counts)


def _followed_effects(
    dy: Changes, d: BoolArray, w: FloatArray, z: Regressors, settings: Settings
) -> followed.Effects:
    if settings.method == "reg":
        return followed.outcome_regression(dy, d, w, z)
    estimators: dict[str, Callable[..., followed.Effects]] = {
        "ipw": followed.inverse_probability,
        "dr": followed.doubly_robust,
        "dr_imp": followed.doubly_robust_improved,
    }
    return estimators[settings.method](dy, d, w, z, settings.trim)


def _cross_section(
    block: Block,
    periods: FloatArray,
    i: int,
    pair: GroupTimePair,
    settings: Settings,
    psi: FloatArray,
) -> dict[int, PairResult]:
    """
    Estimate pair i from the rows of its two periods, and write its influence.

    Nothing is returned without a treated row in each.
    """
    times = sorted({pair.base, pair.period})
    starts = np.searchsorted(block.period, times, side="left")
    ends = np.searchsorted(block.period, times, side="right")
    rows = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)])
    treated, comparison = side(block.cohort[rows], pair, settings.last)
    rows, d = rows[treated | comparison], treated[treated | comparison]
    if settings.followed and settings.unbalanced != "rc" and not pair.is_reference:
        _, place, seen = np.unique(block.entity[rows], return_inverse=True, return_counts=True)
        rows, d = rows[seen[place] == 2], d[seen[place] == 2]
    taken = block.take(rows)
    post, w = taken.period == pair.period, taken.w
    if not (d & post).any() or not (pair.is_reference or (d & ~post).any()):
        return {}
    z = standardise(taken.x, w, taken.names, taken.xx, taken.factors)
    # without covariates all methods compare means of cells
    if settings.method == "reg" or (z.xx is not None and len(z.kept) == 0):
        sums = PeriodSums.of(taken, periods)
        return regressed(sums, [(i, pair)], settings.last, psi, followed=settings.followed)
    later = post & d if settings.followed else d
    counts = _count(block, rows, d, np.where(later | ~d, w, 0.0), psi.shape[-1])
    m = block.y.shape[1]
    if pair.is_reference:
        return {i: without_estimation(pair, counts, m)}
    if not (~d & post).any() or not (~d & ~post).any():
        return {i: without_estimation(pair, counts._replace(n_comparison=0), m)}
    try:
        att, own = _unfollowed_effects(taken, z, d, post, settings)
    except ComparisonFailure as error:
        return {i: PairResult(pair, np.full(m, np.nan), counts, str(error))}
    psi[:, i] = sum_by_cluster(own, taken.cluster, psi.shape[-1]).T
    return {i: PairResult(pair, att, counts)}


def _unfollowed_effects(
    cells: Block, z: Regressors, d: BoolArray, post: BoolArray, settings: Settings
) -> tuple[FloatArray, FloatArray]:
    xy = cells.xy
    if xy is not None and len(z.kept) < xy.shape[1]:
        xy = np.ascontiguousarray(xy[:, z.kept])
    rows = unfollowed.CrossSections(cells.y, d, post, cells.w, z, xy)
    if z.varies_inside(float(np.abs(cells.w).max())):
        raise ComparisonFailure(
            f"method '{settings.method}' needs the propensity of each row, and these moments hold "
            "cells in which covariates vary; use method='reg', or the rows"
        )
    if settings.method == "ipw":
        return unfollowed.inverse_probability(rows, settings.trim)
    if settings.method == "dr":
        return unfollowed.doubly_robust(rows, settings.trim, compatible=settings.compatible)
    return unfollowed.doubly_robust_improved(rows, settings.trim)
