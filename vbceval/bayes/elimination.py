"""
Random effects eliminated cluster by cluster at given variances: what a Gaussian posterior needs.

The model of one cluster is that of `vbceval.bayes.marginal`. There the likelihood is taken at one
residual, with derivatives, for a sampler; here V^-1 (intercepts projected out) is formed once and
serves every regressor, every outcome and every cluster of the same pattern. The order of
elimination keeps it cheap: noise that restated cells share, one period at a time; k through its
tridiagonal precision, T operations a column; intercepts, one unit at a time; (theta, u) last, the
only matrix of size T + 1 that is factorised, once a cluster.

The functions are plain Python on arrays, and slow as such; `compiled` returns them as machine code.
That is kept on disk and renewed when this file changes, so nothing of another file may be part of it.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from vbceval.core.typing import FloatArray, IntArray

SPECIFIC, COMMON, LASTING, RHO = range(4)
"""Places in `scales`: three variances and the autocorrelation."""


class Patterns(NamedTuple):
    """
    Cells of each distinct pattern of sizes, periods and treatment; P patterns, M clusters.

    A pattern's cells are sorted by stratum, unit and period; a row is a pattern and stratum.

    Parameters
    ----------
    row_start : array of int, shape (P * S + 1,)
        Where each row's cells begin.
    slot, unit, place : array of int, shape (K,)
        Place of the cell's period among its cluster's periods; code of its unit; place of the cell
        among the combinations of stratum, period and effect that its group of patterns has.
    precision, treated : array, shape (K,)
        As in `vbceval.bayes.layout.Layout`.
    multiplier : array, shape (K, 1 + p)
        1 and the covariates.
    n_periods : array of int, shape (P,)
        Distinct periods of a cluster.
    gap : array, shape (P, T)
        Steps since the period before, on the scale of the autocorrelation.
    member_start : array of int, shape (P + 1,)
        Where each pattern's clusters begin.
    y_start : array of int, shape (M,)
        Where the outcomes of each cluster begin.
    """

    row_start: IntArray
    slot: IntArray
    unit: IntArray
    place: IntArray
    precision: FloatArray
    treated: FloatArray
    multiplier: FloatArray
    n_periods: IntArray
    gap: FloatArray
    member_start: IntArray
    y_start: IntArray


class Work(NamedTuple):
    """
    Room for one pattern: n cells of a row at most, N of a pattern, T periods.

    Parameters
    ----------
    q : array, shape (S, n, n)
        V^-1 of each stratum, before (theta, u).
    half : array, shape (T + 1, N)
        L^-1 F'Q, L L' being the posterior precision of (theta, u): V^-1 = Q - half'half.
    m : array, shape (T + 1, T + 1)
        L', upper.
    g : array, shape (T, T)
        Posterior covariance of k.
    diagonal, off, pivot : array, shape (T,)
        Tridiagonal inverse of R, and pivots of the posterior precision of k.
    total, joint, inner, cells : array, shape (T,)
        By period: precision of noise, variance that restated cells share, one plus their product,
        number of cells.
    line, column : array, shapes (N,), (n,)
        Vectors over cells.
    f, first : array, shape (T + 1,)
        Vectors over (theta, u); `first` is the first column of L^-1.
    """

    q: FloatArray
    half: FloatArray
    m: FloatArray
    g: FloatArray
    diagonal: FloatArray
    off: FloatArray
    pivot: FloatArray
    total: FloatArray
    joint: FloatArray
    inner: FloatArray
    cells: FloatArray
    line: FloatArray
    column: FloatArray
    f: FloatArray
    first: FloatArray


def _room(n_strata: int, at: Patterns) -> Work:
    """Return uninitialised arrays for the largest pattern."""
    t = at.gap.shape[1]
    widest = 0
    for row in range(len(at.row_start) - 1):
        widest = max(widest, at.row_start[row + 1] - at.row_start[row])
    most = 0
    for p in range(len(at.n_periods)):
        most = max(most, at.row_start[(p + 1) * n_strata] - at.row_start[p * n_strata])
    return Work(
        np.empty((n_strata, widest, widest)), np.empty((t + 1, most)), np.empty((t + 1, t + 1)),
        np.empty((t, t)), np.empty(t), np.empty(t), np.empty(t), np.empty(t), np.empty(t),
        np.empty(t), np.empty(t), np.empty(most), np.empty(widest), np.empty(t + 1),
        np.empty(t + 1),
    )  # fmt: skip


def _autocorrelation(gap: FloatArray, n: int, rho: float, work: Work) -> float:
    """Fill the tridiagonal inverse of R (`off[i]` is beside i - 1); return log det R."""
    logdet = 0.0
    work.diagonal[:n] = 1.0
    work.off[0] = 0.0
    for i in range(1, n):
        r = rho ** gap[i]
        left = 1.0 - r * r
        work.off[i] = -r / left
        work.diagonal[i] += r * r / left
        work.diagonal[i - 1] += r * r / left
        logdet += np.log(left)
    return logdet


def _specific_covariance(n: int, specific: float, work: Work) -> float:
    """Fill `g`, the inverse of R^-1 / specific + E'QE; return log det of that precision."""
    logdet = 0.0
    for i in range(n):
        work.pivot[i] = work.diagonal[i] / specific + work.total[i] / work.inner[i]
        if i > 0:
            beside = work.off[i] / specific
            work.pivot[i] -= beside * beside / work.pivot[i - 1]
        logdet += np.log(work.pivot[i])
    for i in range(n - 1, -1, -1):
        work.g[i, i] = 1.0 / work.pivot[i]
        if i < n - 1:
            ratio = work.off[i + 1] / specific / work.pivot[i]
            for j in range(n - 1, i, -1):
                work.g[i, j] = work.g[j, i] = -ratio * work.g[i + 1, j]
            work.g[i, i] -= ratio * work.g[i + 1, i]
    return logdet


def _row(
    first: int, last: int, n: int, phi: float, shared: float, specific: float, at: Patterns,
    q: FloatArray, work: Work,
) -> float:  # fmt: skip
    """Fill `q` of one pattern and stratum, from noise to intercepts; return log det of 1/Q."""
    work.total[:n] = 0.0
    work.joint[:n] = 0.0
    work.cells[:n] = 0.0
    logdet = 0.0
    for i in range(first, last):
        t = at.slot[i]
        work.total[t] += phi * at.precision[i]
        work.joint[t] += shared / at.precision[i]
        work.cells[t] += 1.0
        logdet -= np.log(phi * at.precision[i])
    for t in range(n):
        work.joint[t] /= max(work.cells[t], 1.0)
        work.inner[t] = 1.0 + work.joint[t] * work.total[t]
        logdet += np.log(work.inner[t])
    if specific > 0.0:
        logdet += _specific_covariance(n, specific, work)
    for i in range(first, last):
        a = at.slot[i]
        own = phi * at.precision[i]
        # the column of E'Q, before k, that belongs to the cell
        work.line[i - first] = own / work.inner[a]
        for j in range(first, i + 1):
            value = own if i == j else 0.0
            if at.slot[j] == a:
                value -= own * phi * at.precision[j] * work.joint[a] / work.inner[a]
            if specific > 0.0:
                value -= work.line[i - first] * work.line[j - first] * work.g[a, at.slot[j]]
            q[i - first, j - first] = q[j - first, i - first] = value
    return float(logdet + _intercepts(first, last, at, q, work))


def _intercepts(first: int, last: int, at: Patterns, q: FloatArray, work: Work) -> float:
    """Project the flat intercept of each unit out of `q`; return what log det (2 pi V) becomes."""
    logdet = 0.0
    n = last - first
    begin = 0
    while begin < n:
        end = begin + 1
        while end < n and at.unit[first + end] == at.unit[first + begin]:
            end += 1
        weight = 0.0
        for i in range(n):
            work.column[i] = 0.0
            for j in range(begin, end):
                work.column[i] += q[i, j]
            if begin <= i < end:
                weight += work.column[i]
        logdet += np.log(weight / (2.0 * np.pi))
        for i in range(n):
            slope = work.column[i] / weight
            for j in range(n):
                q[i, j] -= slope * work.column[j]
        begin = end
    return logdet


def _factor(
    p: int, phi: FloatArray, shared: FloatArray, ratio: FloatArray, scales: FloatArray,
    at: Patterns, work: Work,
) -> float:  # fmt: skip
    """Fill `q`, `half` and `m` of pattern p; return log det (2 pi V), intercepts projected out."""
    n_strata, n = len(phi), at.n_periods[p]
    own, common = int(scales[LASTING] > 0.0), scales[COMMON] > 0.0
    size = own + (n if common else 0)
    begin = at.row_start[p * n_strata]
    width = at.row_start[(p + 1) * n_strata] - begin
    logdet = width * np.log(2.0 * np.pi)
    log_r = _autocorrelation(at.gap[p], n, scales[RHO], work)
    work.m[:size, :size] = 0.0
    work.half[:size, :width] = 0.0
    if own:
        work.m[0, 0] = 1.0 / scales[LASTING]
        logdet += np.log(scales[LASTING])
    if common:
        logdet += n * np.log(scales[COMMON]) + log_r
        for i in range(n):
            work.m[own + i, own + i] = work.diagonal[i] / scales[COMMON]
            if i > 0:
                work.m[own + i - 1, own + i] = work.off[i] / scales[COMMON]
    for s in range(n_strata):
        first, last = at.row_start[p * n_strata + s], at.row_start[p * n_strata + s + 1]
        if first == last:
            continue
        q = work.q[s]
        specific = scales[SPECIFIC] * ratio[s]
        logdet += _row(first, last, n, phi[s], shared[s], specific, at, q, work)
        if specific > 0.0:
            logdet += n * np.log(specific) + log_r
        _gather(first, last, first - begin, own, common, at, q, work)
    for i in range(size):
        for k in range(i):
            ratio = work.m[k, i]
            for j in range(width):
                work.half[i, j] -= ratio * work.half[k, j]
            for j in range(i, size):
                work.m[i, j] -= ratio * work.m[k, j]
        pivot = np.sqrt(work.m[i, i])
        logdet += 2.0 * np.log(pivot)
        inverse = 1.0 / pivot
        for j in range(i, size):
            work.m[i, j] *= inverse
        for j in range(width):
            work.half[i, j] *= inverse
    return float(logdet)


def _gather(
    first: int, last: int, offset: int, own: int, common: bool, at: Patterns, q: FloatArray,
    work: Work,
) -> None:  # fmt: skip
    """Add what one stratum's cells say of (theta, u): fill columns of F'Q, add F'QF to `m`."""
    n = last - first
    for j in range(n):
        t = own + at.slot[first + j]
        treated = at.treated[first + j]
        if own and treated != 0.0:
            for i in range(n):
                work.half[0, offset + i] += treated * q[j, i]
        if common:
            for i in range(n):
                work.half[t, offset + i] += q[j, i]
    for i in range(n):
        t = own + at.slot[first + i]
        if own:
            work.m[0, 0] += at.treated[first + i] * work.half[0, offset + i]
        if common:
            for b in range(t + 1):
                work.m[b, t] += work.half[b, offset + i]


def _weigh(
    p: int, y: FloatArray, begin_y: int, n_strata: int, size: int, at: Patterns, work: Work
) -> float:  # fmt: skip
    """Fill `line` with Qy and `f` with L^-1 F'Qy of one cluster; return y'V^-1 y."""
    begin = at.row_start[p * n_strata]
    quadratic = 0.0
    for s in range(n_strata):
        first, last = at.row_start[p * n_strata + s], at.row_start[p * n_strata + s + 1]
        for i in range(first, last):
            found = 0.0
            for j in range(first, last):
                found += work.q[s, i - first, j - first] * y[begin_y + j - begin]
            work.line[i - begin] = found
            quadratic += found * y[begin_y + i - begin]
    for b in range(size):
        found = 0.0
        for i in range(at.row_start[(p + 1) * n_strata] - begin):
            found += work.half[b, i] * y[begin_y + i]
        work.f[b] = found
        quadratic -= found * found
    return quadratic


def _accumulate(
    start: int, stop: int, phi: FloatArray, shared: FloatArray, ratio: FloatArray,
    scales: FloatArray, at: Patterns, y: FloatArray, gram: FloatArray, target: FloatArray, half: FloatArray,
) -> tuple[float, float]:  # fmt: skip
    """Do the work of `Machine.accumulate`; see there."""
    n_strata, width = len(phi), at.multiplier.shape[1]
    n_places = len(target) // width
    work = _room(n_strata, at)
    logdet, quadratic, row = 0.0, 0.0, 0
    half[:, :] = 0.0
    for p in range(start, stop):
        copies = at.member_start[p + 1] - at.member_start[p]
        logdet += copies * _factor(p, phi, shared, ratio, scales, at, work)
        size = int(scales[LASTING] > 0.0) + (at.n_periods[p] if scales[COMMON] > 0.0 else 0)
        begin, end = at.row_start[p * n_strata], at.row_start[(p + 1) * n_strata]
        for s in range(n_strata):
            first, last = at.row_start[p * n_strata + s], at.row_start[p * n_strata + s + 1]
            for i in range(first, last):
                for a in range(width):
                    to = a * n_places + at.place[i]
                    for j in range(first, last):
                        value = copies * at.multiplier[i, a] * work.q[s, i - first, j - first]
                        for b in range(width):
                            gram[to, b * n_places + at.place[j]] += value * at.multiplier[j, b]
        root = np.sqrt(float(copies))
        for f in range(size):
            for a in range(width):
                for i in range(begin, end):
                    value = root * at.multiplier[i, a] * work.half[f, i - begin]
                    half[row + f, a * n_places + at.place[i]] += value
        row += size
        for member in range(at.member_start[p], at.member_start[p + 1]):
            quadratic += _weigh(p, y, at.y_start[member], n_strata, size, at, work)
            for f in range(size):
                slope = work.f[f]
                for i in range(end - begin):
                    work.line[i] -= slope * work.half[f, i]
            for i in range(begin, end):
                for a in range(width):
                    score = at.multiplier[i, a] * work.line[i - begin]
                    target[a * n_places + at.place[i]] += score
    return logdet, quadratic


def _clusters(
    phi: FloatArray, shared: FloatArray, ratio: FloatArray, scales: FloatArray, at: Patterns,
    residuals: FloatArray,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Do the work of `Machine.clusters`; see there."""
    n_draws, n_strata = len(residuals), len(phi)
    work = _room(n_strata, at)
    log_likelihood = np.empty((n_draws, len(at.y_start)))
    theta = np.zeros((n_draws, len(at.y_start), 2))
    for p in range(len(at.n_periods)):
        own = scales[LASTING] > 0.0
        size = int(own) + (at.n_periods[p] if scales[COMMON] > 0.0 else 0)
        logdet = _factor(p, phi, shared, ratio, scales, at, work)
        # first row of the inverse of L'
        for b in range(size):
            work.first[b] = 1.0 if b == 0 else 0.0
            for k in range(b):
                work.first[b] -= work.m[k, b] * work.first[k]
            work.first[b] /= work.m[b, b]
        for member in range(at.member_start[p], at.member_start[p + 1]):
            for d in range(n_draws):
                quadratic = _weigh(p, residuals[d], at.y_start[member], n_strata, size, at, work)
                log_likelihood[d, member] = -0.5 * (logdet + quadratic)
                if own:
                    for b in range(size):
                        theta[d, member, 0] += work.first[b] * work.f[b]
                        theta[d, member, 1] += work.first[b] ** 2
                    theta[d, member, 1] = np.sqrt(theta[d, member, 1])
    return log_likelihood, theta


class Machine(NamedTuple):
    """
    The functions of this module as machine code.

    Parameters
    ----------
    accumulate : callable
        Of start, stop, phi (S,), shared (S,), ratio (S,), by which the variance of a stratum's shocks
        is multiplied, scales (4,) as in `vbceval.bayes.marginal.compiled`, `Patterns`, y, gram (R, R), target (R,), half (N, R): adds X'QX to `gram` and X'V^-1 y to
        `target`, and fills `half`, for the patterns from start to stop, which have one group's
        places; X has a column for each multiplier and place. X'V^-1 X is ``gram - half'half``.
        Returns log det (2 pi V) and y'V^-1 y.
    clusters : callable
        Of phi, shared, ratio, scales, `Patterns` and residuals (D, K'), laid out as y is: the log
        likelihood of each cluster, (D, M), and the mean and standard deviation of its theta,
        (D, M, 2).
    """

    accumulate: Any
    clusters: Any


@functools.cache
def compiled() -> Machine:
    """Return the functions as machine code: compiled once, then read from the cache on disk."""
    from numba import njit
    from numba.extending import register_jitable

    # sums in any order, so that several terms are added at once
    options: dict[str, Any] = {"error_model": "numpy", "fastmath": {"reassoc", "contract"}}
    for part in (
        _room, _autocorrelation, _specific_covariance, _intercepts, _row, _gather, _factor, _weigh,
    ):  # fmt: skip
        register_jitable(**options)(part)
    options |= {"nogil": True, "cache": True}
    return Machine(njit(_accumulate, **options), njit(_clusters, **options))
