"""
Random effects of one cluster eliminated at a curvature of the likelihood, cluster after cluster.

The function is plain Python on arrays, and slow as such; `compiled` returns it as machine code.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from vbceval.core.typing import FloatArray, IntArray


def _eliminate(
    kernel: FloatArray, group: IntArray, weight: FloatArray, score: FloatArray,
    linear: FloatArray, m: FloatArray, target: FloatArray, logdet: FloatArray,
) -> None:  # fmt: skip
    """Do the work of `compiled`; see there."""
    n_points, n_clusters, n = weight.shape
    root, low = np.empty(n), np.empty((n, n))
    for p in range(n_points):
        for c in range(n_clusters):
            k, out = kernel[p, group[c]], m[p, c]
            for i in range(n):
                root[i] = np.sqrt(weight[p, c, i])
            # I + W^1/2 K W^1/2 = L L'
            for i in range(n):
                for j in range(i + 1):
                    value = root[i] * k[i, j] * root[j]
                    if i == j:
                        value += 1.0
                    for h in range(j):
                        value -= low[i, h] * low[j, h]
                    if i == j:
                        low[i, i] = np.sqrt(value)
                        logdet[p, c] += 2.0 * np.log(low[i, i])
                    else:
                        low[i, j] = value / low[j, j]
            # L^-1 in the place of L
            for i in range(n):
                low[i, i] = 1.0 / low[i, i]
                for j in range(i):
                    value = 0.0
                    for h in range(j, i):
                        value -= low[i, h] * low[h, j]
                    low[i, j] = value * low[i, i]
            for i in range(n):
                for j in range(n):
                    out[i, j] = 0.0
            for h in range(n):
                for i in range(h + 1):
                    value = low[h, i]
                    for j in range(i + 1):
                        out[i, j] += value * low[h, j]
            for i in range(n):
                for j in range(i + 1):
                    out[i, j] *= root[i] * root[j]
                    out[j, i] = out[i, j]
            for i in range(n):
                # M (eta + score / W), without dividing by a weight that may be zero
                value = linear[p, c, i]
                for j in range(n):
                    value -= k[i, j] * score[p, c, j]
                root[i] = value
            for i in range(n):
                value = score[p, c, i]
                for j in range(n):
                    value += out[i, j] * root[j]
                target[p, c, i] = value


@functools.cache
def compiled() -> Any:
    """
    Return the elimination as machine code: compiled once, then read from the cache on disk.

    Returns
    -------
    callable
        Of kernel (P, G, n, n), group (C,), weight, score and linear (P, C, n): prior covariances
        of random effects by group, the group of each cluster, minus second and first derivatives
        of the likelihood, and linear predictors without the level about which priors are centred.
        It fills m (P, C, n, n) with M = W^1/2 (I + W^1/2 K W^1/2)^-1 W^1/2 and target (P, C, n)
        with M times the working outcome, and adds log det (I + W^1/2 K W^1/2) to logdet (P, C).
    """
    from numba import njit

    return njit(_eliminate, nogil=True, cache=True, error_model="numpy")
