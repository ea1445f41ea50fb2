"""
Random effects of one cluster eliminated at a curvature of the likelihood, cluster after cluster.

The functions are plain Python on arrays, and slow as such; `compiled` returns them as machine code.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from vbceval.core.typing import FloatArray, IntArray


def _invert(kernel: FloatArray, root: FloatArray, low: FloatArray, back: FloatArray) -> float:
    """Fill `back` with L^-1, L L' = I + W^1/2 K W^1/2, in its lower half; return 2 log det L."""
    logdet = 0.0
    # innermost loops run along rows, so that one instruction serves several terms
    for i in range(len(root)):
        for j in range(i + 1):
            value = 0.0
            for h in range(j):
                value += low[i, h] * low[j, h]
            value = root[i] * kernel[i, j] * root[j] - value
            if i == j:
                # the diagonal holds inverses
                low[i, i] = 1.0 / np.sqrt(1.0 + value)
                logdet -= 2.0 * np.log(low[i, i])
            else:
                low[i, j] = value * low[j, j]
        for j in range(i):
            back[i, j] = 0.0
        back[i, i] = low[i, i]
        for h in range(i):
            value = low[i, h] * low[i, i]
            for j in range(h + 1):
                back[i, j] -= value * back[h, j]
    return logdet


def _eliminate(
    kernel: FloatArray, group: IntArray, weight: FloatArray, score: FloatArray,
    linear: FloatArray, m: FloatArray, gram: FloatArray, target: FloatArray, logdet: FloatArray,
) -> None:  # fmt: skip
    """Do the work of `Machine.eliminate`; see there."""
    n_points, n_clusters, n = weight.shape
    root, low, back = np.empty(n), np.empty((n, n)), np.empty((n, n))
    for p in range(n_points):
        for c in range(n_clusters):
            k, out, total = kernel[p, group[c]], m[p, c], gram[p, group[c]]
            for i in range(n):
                root[i] = np.sqrt(weight[p, c, i])
            logdet[p, c] += _invert(k, root, low, back)
            out[:, :] = 0.0
            for h in range(n):
                for i in range(h + 1):
                    value = back[h, i]
                    for j in range(i + 1):
                        out[i, j] += value * back[h, j]
            for i in range(n):
                for j in range(i + 1):
                    out[i, j] *= root[i] * root[j]
                    out[j, i] = out[i, j]
            for i in range(n):
                # M (eta + score / W), without dividing by a weight that may be zero
                value = 0.0
                for j in range(n):
                    value += k[i, j] * score[p, c, j]
                    total[i, j] += out[i, j]
                root[i] = linear[p, c, i] - value
            for i in range(n):
                value = 0.0
                for j in range(n):
                    value += out[i, j] * root[j]
                target[p, c, i] = score[p, c, i] + value


def _next_order(
    begin: int, weight: FloatArray, third: FloatArray, left: FloatArray, variance: FloatArray,
    cubic: FloatArray,
) -> None:  # fmt: skip
    """Do the work of `Machine.next_order`; see there."""
    n_points, n_clusters, n = left.shape[:3]
    inverse = np.empty(n)
    for p in range(n_points):
        for c in range(begin, begin + n_clusters):
            for i in range(n):
                # without weight there are no derivatives that a covariance would multiply
                inverse[i] = 1.0 / weight[p, c, i] if weight[p, c, i] > 1e-200 else 0.0
            total = 0.0
            for i in range(n):
                value = inverse[i] * (1.0 - left[p, c - begin, i, i] * inverse[i])
                variance[p, c, i] = value
                total += third[p, c, i] ** 2 * value * value * value
                twice = -2.0 * third[p, c, i] * inverse[i] ** 3
                for j in range(i):
                    value = left[p, c - begin, i, j] * inverse[j]
                    total += twice * third[p, c, j] * value * value * value
            cubic[p, c] = total


class Machine(NamedTuple):
    """
    The functions of this module as machine code; P points, C clusters in G groups, n places.

    Parameters
    ----------
    eliminate : callable
        Of kernel (P, G, n, n), group (C,), weight, score and linear (P, C, n): prior covariances
        of random effects by group, the group of each cluster, minus second and first derivatives
        of the likelihood, and linear predictors without the level about which priors are centred.
        It fills m (P, C, n, n) with M = W^1/2 (I + W^1/2 K W^1/2)^-1 W^1/2 and target (P, C, n)
        with M times the working outcome, and adds sums of M to gram (P, G, n, n) and
        log det (I + W^1/2 K W^1/2) to logdet (P, C).
    next_order : callable
        Of begin, weight and third (P, C, n), derivatives of the likelihood, and left (P, C', n, n)
        of the C' clusters from begin on. It fills variance (P, C, n) with the diagonal of
        W^-1 - W^-1 left W^-1, and cubic (P, C) with the sum of its elements, cubed, times both
        third derivatives. Where `left` is M this is K - K M K, the covariance of random effects;
        places without weight get zero.
    """

    eliminate: Any
    next_order: Any


@functools.cache
def compiled() -> Machine:
    """Return the functions as machine code: compiled once, then read from the cache on disk."""
    from numba import njit
    from numba.extending import register_jitable

    # sums in any order, so that several terms are added at once
    options: dict[str, Any] = {"error_model": "numpy", "fastmath": {"reassoc", "contract"}}
    register_jitable(**options)(_invert)
    options |= {"nogil": True, "cache": True}
    return Machine(njit(_eliminate, **options), njit(_next_order, **options))
