"""Effects of a treatment change over horizons, and their variance: arrays in, arrays out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.did.switching.paths import Paths


class Slopes(NamedTuple):
    """
    Regression of outcome changes on covariate changes among groups that have not changed.

    Parameters
    ----------
    beta : array, shape (N, p)
        Slopes of each group's status quo.
    score, score_vcov : arrays, shape (N, p)
        Influence of each group on the slopes of its status quo; with the authors' factor.
    unidentified : tuple of float
        Status quos for which covariates are collinear: a least-norm solution is used.
    """

    beta: FloatArray
    score: FloatArray
    score_vcov: FloatArray
    unidentified: tuple[float, ...]


class Contrast(NamedTuple):
    """
    Outcome change of switchers of one direction minus that of their comparison.

    Parameters
    ----------
    estimate : float
        Of the outcome, in the direction of the change (a fall counts negatively).
    weight : float
        Weight of switchers.
    mass : array, shape (N,)
        Weight of each switcher.
    psi : array, shape (N,)
        Derivative by groups' weights.
    recentred : array, shape (N,)
        The authors' influence: outcome changes minus their cohort mean, with their factor.
    cumulated, current : arrays, shape (N,)
        Treatment change of each switcher in its direction: summed since the change, and in the
        period of the outcome.
    used : bool array, shape (N,)
        Groups that count.
    """

    estimate: float
    weight: float
    mass: FloatArray
    psi: FloatArray
    recentred: FloatArray
    cumulated: FloatArray
    current: FloatArray
    used: BoolArray


class Rules(NamedTuple):
    """
    Who is compared.

    Parameters
    ----------
    never_only : bool
        Compare with groups that never change only.
    cohorts : {"start", "path"}
        Cohorts within which the variance of effects is taken: status quo, period and size of the
        first change; or the whole path so far, where at least two groups share it. Placebos have
        the former.
    coarse : bool
        Whether clusters are above groups, and count in the variance.
    """

    never_only: bool
    cohorts: str
    coarse: bool


def long_change(values: FloatArray, horizon: int, *, placebo: bool) -> FloatArray:
    """Return the change over a horizon at its last period; for placebos, of the periods before."""
    out = np.full(values.shape, np.nan)
    if not placebo:
        out[:, horizon:] = values[:, horizon:] - values[:, : values.shape[1] - horizon]
    elif values.shape[1] > 2 * horizon:
        out[:, 2 * horizon :] = values[:, : -2 * horizon] - values[:, horizon:-horizon]
    return out


def sums(values: FloatArray, start: IntArray) -> FloatArray:
    """Return sums of rows that share a start, (N, T), given back to each row."""
    out = np.zeros((int(start.max()) + 1, values.shape[1]))
    np.add.at(out, start, values)
    return np.asarray(out[start])


def fit_slopes(paths: Paths, rules: Rules) -> Slopes:
    """
    Regress changes of the outcome on those of covariates, by status quo.

    Parameters
    ----------
    paths : Paths
        N groups with p covariates.
    rules : Rules
        Whether clusters are above groups.

    References
    ----------
    .. [1] de Chaisemartin, C. and D'Haultfœuille, X. (2024). Difference-in-differences estimators
       of intertemporal treatment effects. *Review of Economics and Statistics*, forthcoming.
       Web appendix, section on covariates.
    """
    table, p = paths.table, paths.table.x.shape[2]
    n, t = table.y.shape
    dy, dx = np.full((n, t), np.nan), np.full((n, t, p), np.nan)
    dy[:, 1:], dx[:, 1:] = np.diff(table.y, axis=1), np.diff(table.x, axis=1)
    live = np.isfinite(dy) & np.isfinite(dx).all(axis=2)
    live &= np.arange(t) < paths.first[:, None]
    w = np.where(live, table.w, 0.0)
    total = np.maximum(sums(w, paths.start), np.finfo(float).tiny)
    dy = np.where(live, dy, 0.0)
    dy = np.where(live, dy - sums(w * dy, paths.start) / total, 0.0)
    dx = np.where(live[:, :, None], dx, 0.0)
    for j in range(p):
        dx[:, :, j] = np.where(live, dx[:, :, j] - sums(w * dx[:, :, j], paths.start) / total, 0.0)
    beta, lost = np.zeros((n, p)), []
    score, score_vcov = np.zeros((n, p)), np.zeros((n, p))
    levels, level = np.unique(paths.baseline, return_inverse=True)
    count = sums(
        ((np.arange(t) < paths.first[:, None]) & np.isfinite(table.y)).astype(float), level
    )
    factor = np.where(count >= 2, np.sqrt(count / np.maximum(count - 1, 1)), 1.0)
    for d in range(len(levels)):
        own = level == d
        if len(np.unique(paths.first[own])) < 2:
            continue
        weighted = dx[own] * w[own][:, :, None]
        gram = np.einsum("ntp,ntq->pq", weighted, dx[own])
        if np.linalg.matrix_rank(gram, hermitian=True) < p:
            lost.append(float(levels[d]))
        inverse = np.linalg.pinv(gram, hermitian=True)
        slope = inverse @ np.einsum("ntp,nt->p", weighted, dy[own])
        residual = dy[own] - dx[own] @ slope
        beta[own] = slope
        score[own] = np.einsum("ntp,nt->np", weighted, residual) @ inverse
        score_vcov[own] = np.einsum("ntp,nt->np", weighted, residual * factor[own]) @ inverse
    return Slopes(beta, score, score_vcov, tuple(lost))


def _waiting(live: BoolArray, level: IntArray, cluster: IntArray) -> FloatArray:
    """Return how many clusters of a status quo wait in each period, (N, T)."""
    rows, at = np.nonzero(live)
    found = np.unique(np.column_stack([level[rows], at, cluster[rows]]), axis=0)
    count = np.zeros((int(level.max()) + 1, live.shape[1]))
    np.add.at(count, (found[:, 0], found[:, 1]), 1.0)
    return np.asarray(count[level])


def contrast(
    paths: Paths,
    horizon: int,
    sign: int,
    rules: Rules,
    slopes: Slopes | None,
    *,
    placebo: bool = False,
    eligible: BoolArray | None = None,
) -> Contrast | None:
    """
    Compare switchers of one direction with groups of the same start that have not changed.

    Parameters
    ----------
    paths : Paths
        N groups.
    horizon : int
        Periods since the period before the change, 1 or more.
    sign : {1, -1}
        Direction of the change.
    rules : Rules
        Comparison and variance.
    slopes : Slopes or None
        Adjustment for covariates.
    placebo : bool
        The mirror image before the change, of the same switchers and comparison.
    eligible : bool array, shape (N,), optional
        Switchers that may count.

    Returns
    -------
    Contrast or None
        None where no switcher has a comparison.

    References
    ----------
    .. [1] de Chaisemartin, C. and D'Haultfœuille, X. (2024). Difference-in-differences estimators
       of intertemporal treatment effects. *Review of Economics and Statistics*, forthcoming.
       Section 3 (effects), 3.3 (placebos); appendix on inference.
    """
    table, t = paths.table, paths.table.y.shape[1]
    effect = long_change(table.y, horizon, placebo=False)
    change = long_change(table.y, horizon, placebo=placebo)
    along = None
    if slopes is not None:
        longer = [long_change(table.x[:, :, j], horizon, placebo=placebo)
                  for j in range(table.x.shape[2])]  # fmt: skip
        along = np.stack(longer, axis=2)
        change = change - np.einsum("ntp,np->nt", along, slopes.beta)
        effect = effect if placebo else change
    seen = np.isfinite(change) & np.isfinite(effect)
    waiting = seen & (np.arange(t) < paths.first[:, None]) & (table.w > 0)
    if rules.never_only:
        waiting &= (paths.first == t)[:, None]
    switch = seen & (np.arange(t) == (paths.first - 1 + horizon)[:, None]) & (table.w > 0)
    switch &= ((paths.sign == sign) & (horizon <= paths.reach - paths.first))[:, None]
    if eligible is not None:
        switch &= eligible[:, None]
    compared = sums(table.w * waiting, paths.start)
    switch &= compared > 0
    if not switch.any():
        return None
    mass = table.w * switch
    weight = float(mass.sum())
    ratio = sums(mass, paths.start) / np.where(compared > 0, compared, 1.0)
    load = (mass - ratio * waiting * table.w) / weight
    live = load != 0
    value = np.where(live, change, 0.0)
    estimate = float(np.sum(load * value))
    typical = sums(table.w * np.where(waiting, np.nan_to_num(change), 0.0), paths.start)
    typical = typical / np.where(compared > 0, compared, 1.0)
    psi = np.sum(load * np.where(live, value - typical - estimate * switch, 0.0), axis=1)
    if placebo:
        # as the authors' package: paths tell cohorts apart after the change only
        rules = rules._replace(cohorts="start")
    centre, factor = _cohort_means(paths, value, switch, waiting & (ratio > 0), horizon, rules)
    recentred = np.sum(load * factor * np.where(live, value - centre, 0.0), axis=1)
    if slopes is not None and along is not None:
        moved = np.einsum("nt,ntp->np", load, np.where(live[:, :, None], along, 0.0))
        # the authors' formula takes the slopes off the sum of each group's scores, which adds a
        # constant to all groups (it vanishes with their number)
        constant = float(np.sum(moved * slopes.beta)) / paths.groups
        moved = sums(moved, np.unique(paths.baseline, return_inverse=True)[1])
        psi = psi - np.sum(moved * slopes.score, axis=1)
        recentred = recentred - np.sum(moved * slopes.score_vcov, axis=1) + constant
    at = np.arange(t)
    since = (at >= paths.first[:, None]) & (at <= (paths.first - 1 + horizon)[:, None])
    cumulated = sign * np.where(since, paths.change, 0.0).sum(axis=1)
    current = sign * np.where(switch, paths.change, 0.0).sum(axis=1)
    return Contrast(
        estimate, weight, mass.sum(axis=1), psi, recentred, cumulated, current, live.any(axis=1)
    )


def _cohort_means(
    paths: Paths,
    value: FloatArray,
    switch: BoolArray,
    waiting: BoolArray,
    horizon: int,
    rules: Rules,
) -> tuple[FloatArray, FloatArray]:
    """
    Return the mean of each cohort's outcome changes, and its factor, both (N, T).

    Switchers of a cohort, and groups of the same start that wait in a period, each around their
    mean with root n / (n - 1); one alone, around the mean of both; else around zero.
    """
    n, t = value.shape
    at = np.broadcast_to(np.arange(t), (n, t))
    weight, cluster = paths.table.w, paths.table.cluster if rules.coarse else np.arange(n)
    centre, factor = np.zeros((n, t)), np.ones((n, t))
    both = _group(value, weight, cluster, switch | waiting, _keyed(paths.start, at))
    parts = [(waiting, _group(value, weight, cluster, waiting, _keyed(paths.start, at)))]
    for codes, own in _cohorts(paths, horizon, rules):
        means = _group(value, weight, cluster, switch, _keyed(codes, np.zeros_like(at)))
        parts.append((switch & own[:, None], means))
    for rows, (mean, count) in parts:
        for take, (m, k) in ((rows & (count >= 2), (mean, count)),
                             (rows & (count == 1) & (both[1] >= 2), both)):  # fmt: skip
            centre[take] = m[take]
            factor[take] = np.sqrt(k[take] / (k[take] - 1))
    return centre, factor


def _cohorts(paths: Paths, horizon: int, rules: Rules) -> list[tuple[IntArray, BoolArray]]:
    """Return codes of cohorts, and the groups whose variance is taken within them."""
    n, t = paths.change.shape
    rows, everyone = np.arange(n), np.ones(n, dtype=bool)
    steps = [paths.change[rows, np.minimum(paths.first + k, t - 1)] for k in range(horizon)]

    def codes(depth: int) -> IntArray:
        table = np.column_stack([paths.start, paths.first, *steps[:depth]])
        return np.unique(table, axis=0, return_inverse=True)[1].ravel().astype(np.int64)

    if rules.cohorts == "start":
        return [(codes(1), everyone)]
    found = [codes(depth) for depth in (0, 1, horizon)]
    _, one, full = (np.bincount(code)[code] > 1 for code in found)
    return [(found[0], ~one), (found[1], one & ~full), (found[2], full)]


def _keyed(codes: IntArray, at: IntArray) -> IntArray:
    """Return one code for each pair of a group's code and a period, (N, T)."""
    return np.asarray(codes[:, None] * (int(at.max()) + 1) + at)


def _group(
    value: FloatArray, weight: FloatArray, cluster: IntArray, rows: BoolArray, codes: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Return weighted means by code over rows, and the clusters in each, both (N, T)."""
    mean, count = np.zeros(value.shape), np.zeros(value.shape)
    code = np.unique(codes[rows], return_inverse=True)[1]
    w = weight[rows]
    total = np.bincount(code, weights=w)
    mean[rows] = (np.bincount(code, weights=w * value[rows]) / total)[code]
    who = np.broadcast_to(cluster[:, None], value.shape)[rows]
    pairs = np.unique(np.column_stack([code, who]), axis=0)
    count[rows] = np.bincount(pairs[:, 0], minlength=len(total))[code]
    return mean, count
