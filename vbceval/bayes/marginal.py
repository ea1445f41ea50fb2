"""
Gaussian likelihood of cell means with everything high-dimensional integrated out.

Within one cluster, the residual r = y - eta of the cells (unit x stratum x period) is

    r = block intercept (flat) + k[stratum, period] + u[period] + treated * theta + noise,

    noise ~ N(0, 1 / (phi[stratum] * precision)),    theta ~ N(0, lasting),
    u ~ N(0, common * stretch[0] * R),    R[a, b] = rho ** |a - b|,
    k[s] ~ N(0, specific * stretch[s + 1] * R + shared[s] * diag(spread)),

`stretch` being the cluster's own: shocks may vary more in some strata, or in some organizations.

The intercept of each unit x stratum block leaves a projection P; then k is eliminated stratum by
stratum, and (theta, u) last. Only matrices as large as a cluster's number of periods are
factorised, and the result is exact. Write F = [treated, E] with E the 0/1 matrix from cells to
periods; all that is needed of the data are F'PF (fixed), F'Pr and r'Pr.

The functions are plain Python on arrays, and slow as such; `compiled` returns them as machine code.
The last axis of every small array is `LANES` clusters, and the innermost loop runs over it.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from vbceval.bayes import elimination, lanes, layout
from vbceval.bayes.elimination import COMMON, LASTING, RHO, SPECIFIC
from vbceval.bayes.lanes import LANES, Group, cholesky, eliminate, room
from vbceval.bayes.layout import Layout
from vbceval.core.typing import FloatArray, IntArray

_ELSEWHERE = lanes.__file__, layout.__file__, elimination.__file__
"""Files whose code, order of fields or constants become part of the machine code."""


def _project(
    residual: FloatArray, g: int, s: int, n: int, phi: float, lay: Layout, gram: FloatArray
) -> None:  # fmt: skip
    """Fill [F, r]'P[F, r] of one stratum of a group; r is column n + 1."""
    for a in range(n + 1):
        for b in range(n + 1):
            for c in range(LANES):
                gram[a, b, c] = phi * lay.gram[g, s, a, b, c]
    gram[n + 1, : n + 2, :] = 0.0
    for c in range(LANES):
        row = (g * lay.dof.shape[1] + s) * LANES + c
        for block in range(lay.row_start[row], lay.row_start[row + 1]):
            weight = 0.0
            mean = 0.0
            for i in range(lay.block_start[block], lay.block_start[block + 1]):
                weight += lay.precision[i]
                mean += lay.precision[i] * residual[i]
            mean /= weight
            for i in range(lay.block_start[block], lay.block_start[block + 1]):
                centred = phi * lay.precision[i] * (residual[i] - mean)
                gram[n + 1, 0, c] += centred * lay.treated[i]
                gram[n + 1, lay.slot[i] + 1, c] += centred
                gram[n + 1, n + 1, c] += centred * residual[i]
    for a in range(n + 1):
        for c in range(LANES):
            gram[a, n + 1, c] = gram[n + 1, a, c]


def _score(
    residual: FloatArray, g: int, s: int, n: int, phi: float, lay: Layout, mean: FloatArray,
    k: FloatArray, out: FloatArray,
) -> None:  # fmt: skip
    """Fill V^-1 r, the derivative of the log likelihood by eta, for one stratum of a group."""
    for c in range(LANES):
        row = (g * lay.dof.shape[1] + s) * LANES + c
        for block in range(lay.row_start[row], lay.row_start[row + 1]):
            weight = 0.0
            centre = 0.0
            for i in range(lay.block_start[block], lay.block_start[block + 1]):
                t = lay.slot[i]
                out[i] = residual[i] - mean[t + 1, c] - k[t, c] - mean[0, c] * lay.treated[i]
                weight += lay.precision[i]
                centre += lay.precision[i] * out[i]
            centre /= weight
            for i in range(lay.block_start[block], lay.block_start[block + 1]):
                out[i] = phi * lay.precision[i] * (out[i] - centre)


def _specific(
    gram: FloatArray, u: FloatArray, y: FloatArray, n: int, mean: FloatArray, k: FloatArray,
    product: FloatArray,
) -> None:  # fmt: skip
    """Fill the posterior mean of k in one stratum of a group, and its r'V^-1 r."""
    for c in range(LANES):
        product[c] = gram[n + 1, n + 1, c]
    for a in range(n + 1):
        for c in range(LANES):
            product[c] -= gram[a, n + 1, c] * mean[a, c]
    k[:n, :] = 0.0
    for i in range(n):
        for a in range(n + 1):
            for c in range(LANES):
                y[i, n + 1, c] -= y[i, a, c] * mean[a, c]
        for t in range(n):
            for c in range(LANES):
                k[t, c] += u[i, t, c] * y[i, n + 1, c]


def _stratum_gradient(
    gram: FloatArray, cov1: FloatArray, n: int, spread: FloatArray, at: Group, out: FloatArray
) -> None:  # fmt: skip
    """
    Fill what one stratum of a group adds to the gradient, (5, LANES).

    By specific, by rho (through k, not yet times specific), by shared; then what the derivative
    by phi needs: trace(V^-1 N) - dof, and w'Nw - r'w, both of this stratum.
    """
    out[:, :] = 0.0
    for a in range(n + 1):
        for c in range(LANES):
            at.f[a, c] = gram[a, n + 1, c]
        for b in range(n + 1):
            for c in range(LANES):
                at.f[a, c] -= gram[a, b, c] * at.mean[b, c]
                out[3, c] -= at.turn[a, b, c] * gram[b, a, c]
        for c in range(LANES):
            out[4, c] -= at.pull[a, c] * at.f[a, c]
    for i in range(n):
        a = i + 1
        for b in range(n + 1):
            at.work[i, b, :] = 0.0
            for k in range(n + 1):
                for c in range(LANES):
                    at.work[i, b, c] += gram[a, k, c] * at.w[k, b, c]
        for j in range(i + 1):
            b = j + 1
            for c in range(LANES):
                at.line[c] = gram[a, b, c]
            for k in range(n + 1):
                for c in range(LANES):
                    at.line[c] -= at.work[i, k, c] * gram[k, b, c]
            twice = 1.0 if i == j else 2.0
            for c in range(LANES):
                product = at.f[a, c] * at.f[b, c]
                slope = -0.5 * twice * (at.line[c] - product)
                out[0, c] += slope * at.r[i, j, c]
                out[1, c] += slope * at.dr[i, j, c]
                out[3, c] -= twice * cov1[i, j, c] * at.line[c]
                out[4, c] -= twice * cov1[i, j, c] * product
        for c in range(LANES):
            out[2, c] -= 0.5 * (at.line[c] - at.f[a, c] * at.f[a, c]) * spread[i, c]


def _prepare(period: FloatArray, n: int, scales: FloatArray, common: FloatArray, at: Group) -> None:
    """Fill autocorrelation and prior covariance of a group, and set `gram` to zero."""
    rho = scales[RHO]
    at.cov[: n + 1, : n + 1, :] = 0.0
    at.gram[: n + 2, : n + 2, :] = 0.0
    at.cov[0, 0, :] = scales[LASTING]
    for a in range(n):
        at.r[a, a, :] = 1.0
        at.dr[a, a, :] = 0.0
        for c in range(LANES):
            at.cov[a + 1, a + 1, c] = common[c]
        for b in range(a):
            for c in range(LANES):
                gap = period[a, c] - period[b, c]
                slope = rho ** (gap - 1.0)
                at.r[a, b, c] = at.r[b, a, c] = rho * slope
                at.dr[a, b, c] = at.dr[b, a, c] = gap * slope
                at.cov[a + 1, b + 1, c] = at.cov[b + 1, a + 1, c] = common[c] * rho * slope


def _posterior(n: int, u: FloatArray, y: FloatArray, at: Group) -> None:
    """Integrate (theta, u) out: fill `w`, `mean`, `turn`, `pull` and what is left."""
    for a in range(n + 1):
        for b in range(n + 1):
            for c in range(LANES):
                at.root[a, b, c] = at.cov[a, b, c]
    cholesky(at.root, n + 1, at.inverse, at.line)
    for a in range(n + 2):
        for b in range(n + 2):
            for c in range(LANES):
                at.left[a, b, c] = at.gram[a, b, c]
    eliminate(at.left, 0, n + 1, n + 2, u, y, at)
    at.mean[: n + 1, :] = 0.0
    at.w[: n + 1, : n + 1, :] = 0.0
    at.work[: n + 1, : n + 1, :] = 0.0
    for a in range(n + 1):
        for i in range(n + 1):
            for c in range(LANES):
                at.mean[a, c] += u[i, a, c] * y[i, n + 1, c]
            for b in range(n + 1):
                for c in range(LANES):
                    at.w[a, b, c] += u[i, a, c] * u[i, b, c]
                    at.work[a, b, c] += at.cov[a, i, c] * at.gram[i, b, c]
    at.pull[: n + 1, :] = 0.0
    for a in range(n + 1):
        for b in range(n + 1):
            for c in range(LANES):
                at.turn[a, b, c] = at.cov[a, b, c]
            for k in range(n + 1):
                for c in range(LANES):
                    at.turn[a, b, c] -= at.work[a, k, c] * at.w[k, b, c]
            for c in range(LANES):
                at.pull[a, c] += at.turn[a, b, c] * at.gram[b, n + 1, c]


def _common_gradient(
    n: int, at: Group, common: FloatArray, share: FloatArray, d_common: FloatArray,
    d_scales: FloatArray,
) -> None:  # fmt: skip
    """
    Add the derivative by common, lasting and, through u, rho.

    `common` is the variance of u of each lane, `share` what common is multiplied by there; the
    derivative by the former fills `d_common`.
    """
    d_common[:] = 0.0
    for a in range(n + 1):
        for c in range(LANES):
            at.f[a, c] = at.gram[a, n + 1, c]
        for k in range(n + 1):
            at.work[a, k, :] = 0.0
            for c in range(LANES):
                at.f[a, c] -= at.gram[a, k, c] * at.mean[k, c]
            for b in range(n + 1):
                for c in range(LANES):
                    at.work[a, k, c] += at.gram[a, b, c] * at.w[b, k, c]
    for a in range(n + 1):
        for b in range(n + 1):
            if (a == 0) != (b == 0):
                continue
            for c in range(LANES):
                at.line[c] = at.gram[a, b, c] - at.f[a, c] * at.f[b, c]
            for k in range(n + 1):
                for c in range(LANES):
                    at.line[c] -= at.work[a, k, c] * at.gram[k, b, c]
            for c in range(LANES):
                if a == 0:
                    d_scales[LASTING] -= 0.5 * at.line[c]
                else:
                    slope = 0.5 * at.line[c] * at.r[a - 1, b - 1, c]
                    d_common[c] -= slope
                    d_scales[COMMON] -= share[c] * slope
                    d_scales[RHO] -= 0.5 * common[c] * at.line[c] * at.dr[a - 1, b - 1, c]


def _stratum_covariance(
    n: int, specific: FloatArray, shared: float, spread: FloatArray, at: Group, cov1: FloatArray
) -> None:  # fmt: skip
    """Fill the prior covariance of k in one stratum of a group, and its root."""
    for a in range(n):
        for b in range(n):
            for c in range(LANES):
                cov1[a, b, c] = specific[c] * at.r[a, b, c]
        for c in range(LANES):
            cov1[a, a, c] += shared * spread[a, c]
        for b in range(a + 1):
            for c in range(LANES):
                at.root[a, b, c] = cov1[a, b, c]
    cholesky(at.root, n, at.inverse, at.line)


def _levels(
    place: IntArray, scales: FloatArray, stretch: FloatArray, level: FloatArray, share: FloatArray
) -> None:
    """Fill the variances of u and of each stratum's k in a group, and what that of u is times."""
    for c in range(LANES):
        share[c] = stretch[place[c], 0] if place[c] >= 0 else 1.0
        level[0, c] = scales[COMMON] * share[c]
        for s in range(len(level) - 1):
            own = stretch[place[c], s + 1] if place[c] >= 0 else 1.0
            level[s + 1, c] = scales[SPECIFIC] * own


def _evaluate(
    residual: FloatArray, phi: FloatArray, shared: FloatArray, scales: FloatArray,
    stretch: FloatArray, lay: Layout,
) -> tuple[FloatArray, ...]:  # fmt: skip
    """Do the work of `compiled`; see there."""
    n_groups, n_strata, most = len(lay.n_periods), len(phi), lay.period.shape[1]
    n_clusters = int((lay.place >= 0).sum())
    log_likelihood = np.empty(n_clusters)
    theta = np.empty((n_clusters, 2))
    d_residual = np.empty(len(residual))
    d_phi, d_shared, d_scales = np.zeros(n_strata), np.zeros(n_strata), np.zeros(4)
    d_stretch = np.empty((n_clusters, n_strata + 1))
    level, share, d_common = np.empty((n_strata + 1, LANES)), np.empty(LANES), np.empty(LANES)
    at = room(most)
    gram = np.empty((n_strata, most + 2, most + 2, LANES))
    cov1, u = np.empty((2, n_strata, most, most, LANES))
    y = np.empty((n_strata, most, most + 2, LANES))
    u0, y0 = np.empty((most + 1, most + 1, LANES)), np.empty((most + 1, most + 2, LANES))
    out, k, product = np.empty((5, LANES)), np.empty((most, LANES)), np.empty(LANES)
    for g in range(n_groups):
        n = lay.n_periods[g]
        _levels(lay.place[g], scales, stretch, level, share)
        _prepare(lay.period[g], n, scales, level[0], at)
        at.logdet[:] = 0.0
        for s in range(n_strata):
            _project(residual, g, s, n, phi[s], lay, gram[s])
            _stratum_covariance(n, level[s + 1], shared[s], lay.spread[g, s], at, cov1[s])
            eliminate(gram[s], 1, n, n + 2, u[s], y[s], at)
            for c in range(LANES):
                at.logdet[c] -= lay.dof[g, s, c] * np.log(phi[s])
            for a in range(n + 2):
                for b in range(n + 2):
                    for c in range(LANES):
                        at.gram[a, b, c] += gram[s, a, b, c]
        _posterior(n, u0, y0, at)
        for c in range(LANES):
            place = lay.place[g, c]
            if place >= 0:
                quadratic = at.logdet[c] + at.left[n + 1, n + 1, c]
                log_likelihood[place] = lay.constant[g, c] - 0.5 * quadratic
                theta[place, 0] = at.mean[0, c]
                theta[place, 1] = np.sqrt(at.w[0, 0, c])
        _common_gradient(n, at, level[0], share, d_common, d_scales)
        for s in range(n_strata):
            _stratum_gradient(gram[s], cov1[s], n, lay.spread[g, s], at, out)
            _specific(gram[s], u[s], y[s], n, at.mean, k, product)
            _score(residual, g, s, n, phi[s], lay, at.mean, k, d_residual)
            for c in range(LANES):
                place = lay.place[g, c]
                if place >= 0:
                    d_scales[SPECIFIC] += stretch[place, s + 1] * out[0, c]
                    d_stretch[place, s + 1] = scales[SPECIFIC] * out[0, c]
                    d_stretch[place, 0] = scales[COMMON] * d_common[c]
                d_scales[RHO] += level[s + 1, c] * out[1, c]
                d_shared[s] += out[2, c]
                slope = lay.dof[g, s, c] + out[3, c] - product[c] - out[4, c]
                d_phi[s] += 0.5 * slope / phi[s]
    return log_likelihood, d_residual, d_phi, d_shared, d_scales, theta, d_stretch


@functools.cache
def compiled() -> Any:
    """
    Return the likelihood as machine code: compiled once, then read from the cache on disk.

    Returns
    -------
    callable
        Of residual (K,), phi (S,), shared (S,), scales (4,) = (specific, common, lasting, rho),
        stretch (C, 1 + S) and a `Layout`, the residual in its order. It returns the log likelihood
        of each cluster (C,); the derivatives of their sum by eta (K,), phi (S,), shared (S,) and
        scales (4,); the posterior mean and standard deviation of each cluster's theta, (C, 2); and
        the derivatives by stretch (C, 1 + S). Derivatives by eta: those by the residual have the
        other sign.
    """
    from numba import njit
    from numba.extending import register_jitable

    for part in (
        room, cholesky, eliminate, _project, _score, _specific, _stratum_gradient, _prepare,
        _posterior, _common_gradient, _stratum_covariance, _levels, _evaluate,
    ):  # fmt: skip
        register_jitable(error_model="numpy")(part)
    digest = hashlib.sha256(b"".join(Path(name).read_bytes() for name in _ELSEWHERE)).digest()
    version = int.from_bytes(digest[:7])

    def evaluate(
        residual: FloatArray, phi: FloatArray, shared: FloatArray, scales: FloatArray,
        stretch: FloatArray, lay: Layout,
    ) -> tuple[FloatArray, ...]:  # fmt: skip
        # the cache on disk is renewed when this file changes or a value that is closed over: without
        # this one, a change of the other files alone would leave the old code in use
        _ = version
        return _evaluate(residual, phi, shared, scales, stretch, lay)

    return njit(evaluate, nogil=True, cache=True, error_model="numpy")
