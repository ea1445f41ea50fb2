"""Estimate every (g, t) comparison of a block, sharing what comparisons have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.design import GroupTimePair
from vbceval.did import followed, unfollowed
from vbceval.did.blocks import Block, Followed, follow, side
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


class Counts(NamedTuple):
    """
    Who is behind one comparison.

    Parameters
    ----------
    treated_weight : array, shape (G,)
        Weight of treated units used, by cluster.
    clusters : bool array, shape (G,)
        Which clusters are used.
    n_treated, n_comparison : int
        Units on each side.
    note : str or None
        What to know about the row.
    """

    treated_weight: FloatArray
    clusters: BoolArray
    n_treated: int
    n_comparison: int
    note: str | None


class PairResult(NamedTuple):
    """
    One comparison for all m outcomes of a block, estimated or not.

    Parameters
    ----------
    pair : GroupTimePair
        Cohort, period, base, controls.
    estimate : array, shape (m,)
        Effect on each outcome; NaN where it failed.
    psi : array, shape (G, m)
        Influence summed by cluster; zero where it failed or is zero by definition.
    counts : Counts
        Units and clusters used.
    failure : str or None
        Why it could not be estimated.
    no_comparison : bool
        Whether the reason is that nobody is left to compare with.
    """

    pair: GroupTimePair
    estimate: FloatArray
    psi: FloatArray
    counts: Counts
    failure: str | None = None
    no_comparison: bool = False


class Sample(NamedTuple):
    """Cells of one comparison: the base (or earlier) cell and the later cell of each unit."""

    before: IntArray
    after: IntArray
    treated: BoolArray
    baseline: IntArray
    weight: IntArray


def estimate_pairs(
    block: Block,
    periods: FloatArray,
    pairs: list[GroupTimePair],
    settings: Settings,
    n_clusters: int,
) -> list[PairResult]:
    """
    Estimate comparisons; those without a treated unit in the data are left out.

    Followed pairs with the same units, weights and covariates share one propensity score and one
    factorization, with a right-hand side for each period and outcome; pairs of rows that are not
    followed share theirs between outcomes. Cost O(n p^2) for each such group plus O(n p) for each
    pair and outcome.

    Parameters
    ----------
    block : Block
        K cells, each with every outcome.
    periods : array
        Observed periods, increasing.
    pairs : list of GroupTimePair
        Comparisons.
    settings : Settings
        Options.
    n_clusters : int
        G, the rows of every influence vector.
    """
    if not settings.followed or settings.fix_weights == "varying" or settings.unbalanced == "rc":
        # rows of a period side by side, which makes taking them quick
        block = block.take(np.argsort(block.period, kind="stable"))
        found = (_cross_section(block, pair, settings, n_clusters) for pair in pairs)
        return [r for r in found if r is not None]
    index = follow(block, periods)
    groups: dict[tuple[bytes, ...], list[tuple[int, GroupTimePair, Sample]]] = {}
    done: dict[int, PairResult] = {}
    for i, pair in enumerate(pairs):
        sample = _sample(block, index, periods, pair, settings)
        if not sample.treated.any():
            continue
        if pair.is_reference or sample.treated.all():
            counts = _count(
                block, sample.before, sample.treated, block.w[sample.weight], n_clusters
            )
            done[i] = _without_estimation(pair, counts, block.y.shape[1])
            continue
        key = (sample.treated.tobytes(), sample.baseline.tobytes(), sample.weight.tobytes())
        groups.setdefault(key, []).append((i, pair, sample))
    for members in groups.values():
        done.update(_estimate_group(block, members, settings, n_clusters))
    return [done[i] for i in sorted(done)]


def _sample(
    block: Block, index: Followed, periods: FloatArray, pair: GroupTimePair, settings: Settings
) -> Sample:
    """Units seen in both periods, with the cells that give their covariates and weight."""

    def at(period: float) -> IntArray:
        return index.at[:, int(np.searchsorted(periods, period))]

    before, after = at(pair.base), at(pair.period)
    baseline = before if settings.covariate_period == "base" else at(pair.earlier)
    weight = {
        None: at(pair.earlier),
        "base_period": at(pair.universal),
        "first_period": index.first,
    }[settings.fix_weights]
    treated, comparison = side(block.cohort[index.first], pair, settings.last)
    seen = (before >= 0) & (after >= 0) & (baseline >= 0) & (weight >= 0)
    keep = (treated | comparison) & seen
    return Sample(before[keep], after[keep], treated[keep], baseline[keep], weight[keep])


def _count(
    block: Block, cells: IntArray, treated: BoolArray, w: FloatArray, n_clusters: int
) -> Counts:
    """Count units and clusters of the cells used, one cell (or more) a unit."""
    note, unit, cluster = None, block.unit[cells], block.cluster[cells]
    for name, rows in (("treated", treated), ("comparison", ~treated)):
        own = cluster[rows]
        if len(own) and own.min() == own.max():
            note = f"one {name} cluster: its own sampling error is not in std_error"
    return Counts(
        treated_weight=sum_by_cluster(w * treated, cluster, n_clusters),
        clusters=np.bincount(cluster, minlength=n_clusters) > 0,
        n_treated=len(np.unique(unit[treated])),
        n_comparison=len(np.unique(unit[~treated])),
        note=note,
    )


def _without_estimation(pair: GroupTimePair, counts: Counts, n_outcomes: int) -> PairResult:
    """Return the reference row, or a comparison that has nobody to compare with."""
    psi = np.zeros((len(counts.clusters), n_outcomes))
    if pair.is_reference:
        return PairResult(pair, np.zeros(n_outcomes), psi, counts)
    reason = f"no comparison unit is seen at both {pair.base:g} and {pair.period:g}"
    missing = np.full(n_outcomes, np.nan)
    return PairResult(pair, missing, psi, counts, reason, no_comparison=True)


def _estimate_group(
    block: Block,
    members: list[tuple[int, GroupTimePair, Sample]],
    settings: Settings,
    n_clusters: int,
) -> Iterator[tuple[int, PairResult]]:
    """Estimate pairs that share units, covariates and weights."""
    sample = members[0][2]
    d, w, m = sample.treated, block.w[sample.weight], block.y.shape[1]
    dy = np.concatenate([block.y[s.after] - block.y[s.before] for _, _, s in members], axis=1)
    failure: str | None = None
    try:
        z = standardise(block.x[sample.baseline], w, block.names, factors=block.factors)
        att, psi = _followed_effects(dy, d, w, z, settings)
    except ComparisonFailure as error:
        failure = str(error)
        att, psi = np.full(dy.shape[1], np.nan), np.zeros(dy.shape)
    counts = _count(block, sample.before, d, w, n_clusters)
    summed = sum_by_cluster(psi, block.cluster[sample.before], n_clusters)
    for j, (i, pair, _) in enumerate(members):
        own = slice(j * m, (j + 1) * m)
        yield i, PairResult(pair, att[own], summed[:, own], counts, failure)


def _followed_effects(
    dy: FloatArray, d: BoolArray, w: FloatArray, z: Regressors, settings: Settings
) -> tuple[FloatArray, FloatArray]:
    if settings.method == "reg":
        return followed.outcome_regression(dy, d, w, z)
    estimators: dict[str, Callable[..., tuple[FloatArray, FloatArray]]] = {
        "ipw": followed.inverse_probability,
        "dr": followed.doubly_robust,
        "dr_imp": followed.doubly_robust_improved,
    }
    return estimators[settings.method](dy, d, w, z, settings.trim)


def _cross_section(
    block: Block, pair: GroupTimePair, settings: Settings, n_clusters: int
) -> PairResult | None:
    """Estimate one pair from the rows of its two periods; None without a treated row in each."""
    times = sorted({pair.base, pair.period})
    starts = np.searchsorted(block.period, times, side="left")
    ends = np.searchsorted(block.period, times, side="right")
    rows = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)])
    treated, comparison = side(block.cohort[rows], pair, settings.last)
    rows, d = rows[treated | comparison], treated[treated | comparison]
    if settings.followed and settings.unbalanced != "rc" and not pair.is_reference:
        _, place, seen = np.unique(block.entity[rows], return_inverse=True, return_counts=True)
        rows, d = rows[seen[place] == 2], d[seen[place] == 2]
    post, w = block.period[rows] == pair.period, block.w[rows]
    if not (d & post).any() or not (pair.is_reference or (d & ~post).any()):
        return None
    later = post & d if settings.followed else d
    counts = _count(block, rows, d, np.where(later | ~d, w, 0.0), n_clusters)
    m = block.y.shape[1]
    if pair.is_reference:
        return _without_estimation(pair, counts, m)
    if not (~d & post).any() or not (~d & ~post).any():
        return _without_estimation(pair, counts._replace(n_comparison=0), m)
    failure: str | None = None
    att, psi = np.full(m, np.nan), np.zeros((len(d), m))
    try:
        att, psi = _unfollowed_effects(block.take(rows), d, post, settings)
    except ComparisonFailure as error:
        failure = str(error)
    return PairResult(
        pair, att, sum_by_cluster(psi, block.cluster[rows], n_clusters), counts, failure
    )


def _unfollowed_effects(
    cells: Block, d: BoolArray, post: BoolArray, settings: Settings
) -> tuple[FloatArray, FloatArray]:
    z = standardise(cells.x, cells.w, cells.names, cells.xx, cells.factors)
    xy = cells.xy
    if xy is not None and len(z.kept) < xy.shape[1]:
        xy = np.ascontiguousarray(xy[:, z.kept])
    rows = unfollowed.CrossSections(cells.y, d, post, cells.w, z, xy)
    if settings.method == "reg" or (z.xx is not None and len(z.kept) == 0):
        return unfollowed.outcome_regression(rows)
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
