"""
Gaussian likelihood of cell means with everything high-dimensional integrated out.

Within one cluster, the residual r = y - eta of the cells (unit x stratum x period) is

    r = block intercept (flat) + k[stratum, period] + u[period] + treated * theta + noise,

    noise ~ N(0, 1 / (phi[stratum] * precision)),    u ~ N(0, common * R),    theta ~ N(0, lasting),
    k[s] ~ N(0, specific * R + shared[s] * diag(spread)),    R[a, b] = rho ** |a - b|.

The intercept of each unit x stratum block leaves a projection P; then k is eliminated stratum by
stratum, and (u, theta) last. Only matrices as large as a cluster's number of periods are
factorised, and the result is exact. Write F = [E, treated] with E the 0/1 matrix from cells to
periods; all that is needed of the data are F'PF (fixed), F'Pr and r'Pr.

The functions are plain Python on arrays, and slow as such; `compiled` returns them as machine code.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from vbceval.bayes.layout import Layout
from vbceval.core.typing import FloatArray


class Common(NamedTuple):
    """
    What the strata of one cluster share; only the leading n + 1 rows of each array are in use.

    Parameters
    ----------
    r, dr : array, shape (T, T)
        Autocorrelation and its derivative by rho.
    cov : array, shape (T + 1, T + 1)
        Prior covariance of (u, theta).
    gram : array, shape (T + 2, T + 2)
        [F, r]'Q[F, r] with everything but (u, theta) integrated out.
    w, mean : array, shapes (T + 1, T + 1), (T + 1,)
        Posterior covariance and mean of (u, theta).
    turn, pull : array, shapes (T + 1, T + 1), (T + 1,)
        cov - cov gram w, and its product with the last column of `gram`: what the other strata do
        to the trace and to the quadratic form of one stratum.
    """

    r: FloatArray
    dr: FloatArray
    cov: FloatArray
    gram: FloatArray
    w: FloatArray
    mean: FloatArray
    turn: FloatArray
    pull: FloatArray


def _cholesky(a: FloatArray, n: int) -> None:
    """Factor the leading n x n block in place, lower; a pivot at rounding level becomes zero."""
    for j in range(n):
        pivot = a[j, j]
        smallest = 1e-14 * pivot
        for k in range(j):
            pivot -= a[j, k] * a[j, k]
        root = math.sqrt(pivot) if pivot > smallest else 0.0
        a[j, j] = root
        for i in range(j + 1, n):
            value = a[i, j]
            for k in range(j):
                value -= a[i, k] * a[j, k]
            a[i, j] = value / root if root > 0.0 else 0.0
            a[j, i] = 0.0


def _eliminate(
    gram: FloatArray, n: int, m: int, root: FloatArray, u: FloatArray, y: FloatArray
) -> float:
    """
    Integrate out the first n of m directions, whose prior covariance is root root'.

    `gram` (m x m) is [Z, r]'Q[Z, r] before and after, Q being the precision left so far. On return
    ``u'u`` is the posterior covariance of the n coefficients given the others and ``u'y`` the
    regression on the m columns. Returns the log determinant that is added to that of 1/Q.
    """
    work = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            value = 0.0
            for k in range(j, n):
                value += gram[i, k] * root[k, j]
            work[i, j] = value
    inner = np.empty((n, n))
    for i in range(n):
        for j in range(i + 1):
            value = 1.0 if i == j else 0.0
            for k in range(i, n):
                value += root[k, i] * work[k, j]
            inner[i, j] = value
            inner[j, i] = value
    _cholesky(inner, n)
    log_determinant = 0.0
    for i in range(n):
        log_determinant += 2.0 * math.log(inner[i, i])
        for j in range(n):
            value = root[j, i] if j >= i else 0.0
            for k in range(i):
                value -= inner[i, k] * u[k, j]
            u[i, j] = value / inner[i, i]
    for i in range(n):
        for j in range(m):
            value = 0.0
            for k in range(n):
                value += u[i, k] * gram[k, j]
            y[i, j] = value
    for a in range(m):
        for b in range(a + 1):
            value = gram[a, b]
            for i in range(n):
                value -= y[i, a] * y[i, b]
            gram[a, b] = value
            gram[b, a] = value
    return log_determinant


def _project(
    residual: FloatArray, row: int, n: int, phi: float, lay: Layout, gram: FloatArray
) -> None:
    """Fill [F, r]'P[F, r] of one cluster x stratum; n periods, so r is column n + 1."""
    last_column = lay.gram.shape[1] - 1
    for a in range(n + 1):
        from_a = a if a < n else last_column
        for b in range(n + 1):
            gram[a, b] = phi * lay.gram[row, from_a, b if b < n else last_column]
        gram[a, n + 1] = 0.0
    total = 0.0
    for block in range(lay.stratum_start[row], lay.stratum_start[row + 1]):
        first, last = lay.block_start[block], lay.block_start[block + 1]
        weight = 0.0
        mean = 0.0
        for i in range(first, last):
            weight += lay.precision[i]
            mean += lay.precision[i] * residual[i]
        mean /= weight
        for i in range(first, last):
            centred = phi * lay.precision[i] * (residual[i] - mean)
            total += centred * residual[i]
            gram[lay.slot[i], n + 1] += centred
            gram[n, n + 1] += centred * lay.treated[i]
    for a in range(n + 1):
        gram[n + 1, a] = gram[a, n + 1]
    gram[n + 1, n + 1] = total


def _score(
    residual: FloatArray, row: int, n: int, phi: float, lay: Layout,
    mean: FloatArray, k: FloatArray, out: FloatArray,
) -> None:  # fmt: skip
    """Fill V^-1 r, the derivative of the log likelihood by eta, for one cluster x stratum."""
    for block in range(lay.stratum_start[row], lay.stratum_start[row + 1]):
        first, last = lay.block_start[block], lay.block_start[block + 1]
        weight = 0.0
        centre = 0.0
        for i in range(first, last):
            t = lay.slot[i]
            out[i] = residual[i] - mean[t] - k[t] - mean[n] * lay.treated[i]
            weight += lay.precision[i]
            centre += lay.precision[i] * out[i]
        for i in range(first, last):
            out[i] = phi * lay.precision[i] * (out[i] - centre / weight)


def _stratum_gradient(
    gram: FloatArray, cov1: FloatArray, n: int, at: Common, spread: FloatArray, out: FloatArray
) -> None:  # fmt: skip
    """
    Fill what one stratum adds to the gradient.

    `out`: by specific, by rho (through k, not yet times specific), by shared; then what the
    derivative by phi needs: trace(V^-1 N) - dof, and w'Nw - r'w, both of this stratum.
    """
    f = np.empty(n + 1)
    hw = np.empty((n, n + 1))
    for i in range(5):
        out[i] = 0.0
    for a in range(n + 1):
        f[a] = gram[a, n + 1]
        for b in range(n + 1):
            f[a] -= gram[a, b] * at.mean[b]
            out[3] -= at.turn[a, b] * gram[b, a]
        out[4] -= at.pull[a] * f[a]
    for a in range(n):
        for b in range(n + 1):
            value = 0.0
            for k in range(n + 1):
                value += gram[a, k] * at.w[k, b]
            hw[a, b] = value
        for b in range(a + 1):
            own = gram[a, b]
            for k in range(n + 1):
                own -= hw[a, k] * gram[k, b]
            twice = 1.0 if a == b else 2.0
            product = f[a] * f[b]
            slope = -0.5 * twice * (own - product)
            out[0] += slope * at.r[a, b]
            out[1] += slope * at.dr[a, b]
            out[3] -= twice * cov1[a, b] * own
            out[4] -= twice * cov1[a, b] * product
        out[2] -= 0.5 * (own - product) * spread[a]


def _common(
    periods: FloatArray, first: int, n: int, scales: FloatArray, at: Common, root: FloatArray
) -> None:  # fmt: skip
    """Prepare one cluster: fill `r`, `dr`, `cov` and its lower root, and set `gram` to zero."""
    for a in range(n + 2):
        for b in range(n + 2):
            at.gram[a, b] = 0.0
            if a <= n and b <= n:
                at.cov[a, b] = 0.0
            if a < n and b < n:
                gap = abs(periods[first + a] - periods[first + b])
                at.r[a, b] = 1.0 if gap == 0.0 else scales[3] ** gap
                at.dr[a, b] = 0.0 if gap == 0.0 else gap * scales[3] ** (gap - 1.0)
                at.cov[a, b] = scales[1] * at.r[a, b]
    at.cov[n, n] = scales[2]
    for a in range(n + 1):
        for b in range(n + 1):
            root[a, b] = at.cov[a, b]
    _cholesky(root, n + 1)


def _common_posterior(n: int, at: Common, root: FloatArray, theta: FloatArray) -> float:
    """Integrate (u, theta) out: return what they add to the log likelihood; fill `w`, `mean`."""
    left = at.gram.copy()
    u = np.empty((n + 1, n + 1))
    y = np.empty((n + 1, n + 2))
    value: float = -0.5 * _eliminate(left, n + 1, n + 2, root, u, y)
    for a in range(n + 1):
        at.mean[a] = 0.0
        for i in range(n + 1):
            at.mean[a] += u[i, a] * y[i, n + 1]
        for b in range(n + 1):
            product = 0.0
            for i in range(n + 1):
                product += u[i, a] * u[i, b]
            at.w[a, b] = product
    for a in range(n + 1):
        at.pull[a] = 0.0
        for b in range(n + 1):
            product = at.cov[a, b]
            for i in range(n + 1):
                for k in range(n + 1):
                    product -= at.cov[a, i] * at.gram[i, k] * at.w[k, b]
            at.turn[a, b] = product
            at.pull[a] += product * at.gram[b, n + 1]
    theta[0] = at.mean[n]
    theta[1] = math.sqrt(at.w[n, n])
    return value - 0.5 * left[n + 1, n + 1]


def _common_gradient(n: int, at: Common, scales: FloatArray, d_scales: FloatArray) -> None:
    """Add the derivative by common, lasting and, through u, rho."""
    for a in range(n + 1):
        f_a = at.gram[a, n + 1]
        for k in range(n + 1):
            f_a -= at.gram[a, k] * at.mean[k]
        for b in range(n + 1):
            if (a == n) != (b == n):
                continue
            f_b = at.gram[b, n + 1]
            v = at.gram[a, b]
            for k in range(n + 1):
                f_b -= at.gram[b, k] * at.mean[k]
                for m in range(n + 1):
                    v -= at.gram[a, k] * at.w[k, m] * at.gram[m, b]
            slope = -0.5 * (v - f_a * f_b)
            if a == n:
                d_scales[2] += slope
            else:
                d_scales[1] += slope * at.r[a, b]
                d_scales[3] += scales[1] * slope * at.dr[a, b]


def _evaluate(
    residual: FloatArray, phi: FloatArray, shared: FloatArray, scales: FloatArray, lay: Layout
) -> tuple[FloatArray, ...]:
    """Do the work of `compiled`; see there."""
    n_clusters, n_strata, most = len(lay.constant), len(phi), lay.gram.shape[1] - 1
    log_likelihood = np.empty(n_clusters)
    theta = np.empty((n_clusters, 2))
    d_residual = np.empty(len(residual))
    d_phi, d_shared, d_scales = np.zeros(n_strata), np.zeros(n_strata), np.zeros(4)
    at = Common(
        np.empty((most, most)), np.empty((most, most)), np.empty((most + 1, most + 1)),
        np.empty((most + 2, most + 2)), np.empty((most + 1, most + 1)), np.empty(most + 1),
        np.empty((most + 1, most + 1)), np.empty(most + 1),
    )  # fmt: skip
    root, out, k = np.empty((most + 1, most + 1)), np.empty(5), np.empty(most)
    gram = np.empty((n_strata, most + 2, most + 2))
    cov1, u = np.empty((n_strata, most, most)), np.empty((n_strata, most, most))
    y = np.empty((n_strata, most, most + 2))
    for c in range(n_clusters):
        n = lay.period_start[c + 1] - lay.period_start[c]
        _common(lay.period_value, lay.period_start[c], n, scales, at, root)
        root0 = root.copy()
        value = lay.constant[c]
        first = lay.cluster_start[c]
        for row in range(first, lay.cluster_start[c + 1]):
            j, s = row - first, lay.stratum_code[row]
            _project(residual, row, n, phi[s], lay, gram[j])
            for a in range(n):
                for b in range(n):
                    cov1[j, a, b] = scales[0] * at.r[a, b]
                cov1[j, a, a] += shared[s] * lay.spread[row, a]
                for b in range(n):
                    root[a, b] = cov1[j, a, b]
            _cholesky(root, n)
            value += 0.5 * lay.dof[row] * math.log(phi[s])
            value -= 0.5 * _eliminate(gram[j], n, n + 2, root, u[j], y[j])
            for a in range(n + 2):
                for b in range(n + 2):
                    at.gram[a, b] += gram[j, a, b]
        log_likelihood[c] = value + _common_posterior(n, at, root0, theta[c])
        _common_gradient(n, at, scales, d_scales)
        for row in range(first, lay.cluster_start[c + 1]):
            j, s = row - first, lay.stratum_code[row]
            _stratum_gradient(gram[j], cov1[j], n, at, lay.spread[row], out)
            d_scales[0] += out[0]
            d_scales[3] += scales[0] * out[1]
            d_shared[s] += out[2]
            product = _specific_mean(gram[j], u[j], y[j], n, at.mean, k)
            d_phi[s] += 0.5 * (lay.dof[row] + out[3] - product - out[4]) / phi[s]
            _score(residual, row, n, phi[s], lay, at.mean, k, d_residual)
    return log_likelihood, d_residual, d_phi, d_shared, d_scales, theta


def _specific_mean(
    gram: FloatArray, u: FloatArray, y: FloatArray, n: int, mean: FloatArray, k: FloatArray
) -> float:  # fmt: skip
    """Fill the posterior mean of k in one cluster x stratum; return its r'V^-1 r."""
    product: float = gram[n + 1, n + 1]
    for a in range(n + 1):
        product -= gram[a, n + 1] * mean[a]
    for t in range(n):
        k[t] = 0.0
    for i in range(n):
        fitted = y[i, n + 1]
        for a in range(n + 1):
            fitted -= y[i, a] * mean[a]
        for t in range(n):
            k[t] += u[i, t] * fitted
    return product


@functools.cache
def compiled() -> Any:
    """
    Return the likelihood as machine code: compiled once, then read from the cache on disk.

    Returns
    -------
    callable
        Of residual (K,), phi (S,), shared (S,), scales (4,) = (specific, common, lasting, rho) and
        a `Layout`, the residual in its order. It returns the log likelihood of each cluster (C,);
        the derivatives of their sum by eta (K,), phi (S,), shared (S,) and scales (4,); and the
        posterior mean and standard deviation of each cluster's theta, (C, 2). Derivatives by eta:
        those by the residual have the other sign.
    """
    from numba import njit
    from numba.extending import register_jitable

    for part in (
        _cholesky, _eliminate, _project, _score, _specific_mean, _stratum_gradient, _common,
        _common_posterior, _common_gradient,
    ):  # fmt: skip
        register_jitable(error_model="numpy")(part)
    return njit(_evaluate, nogil=True, cache=True, error_model="numpy")
