"""
Gaussian likelihood of cell means with everything high-dimensional integrated out.

For one cluster, with cells i in unit x stratum blocks, the model of the residual r = y - eta is

    r = intercept of its block (flat) + k[stratum, period] + u[period] + D theta + noise,

    noise ~ N(0, 1 / (phi_s precision_i)),         u ~ N(0, k0 R),      theta ~ N(0, t2),
    k_s ~ N(0, k1 R + shared_s diag(spread)),      R[a, b] = rho^|a - b|.

Intercepts leave a projection P; then k is eliminated stratum by stratum and (u, theta) last, so
that only matrices of the size of a cluster's periods are factorised: exact, no approximation.

This file is compiled when it is imported; import it inside functions only.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit  # type: ignore[import-untyped]  # numba ships no types

from vbceval.core.typing import FloatArray, IntArray


def _compile(function: Any) -> Any:
    return njit(function, cache=True, nogil=True, error_model="numpy")


@_compile
def _cholesky(a: FloatArray, n: int) -> None:
    """Factor the leading n x n block in place, lower; a pivot at rounding level becomes zero."""
    for j in range(n):
        scale = a[j, j]
        pivot = a[j, j]
        for k in range(j):
            pivot -= a[j, k] * a[j, k]
        root = math.sqrt(pivot) if pivot > 1e-14 * scale else 0.0
        a[j, j] = root
        for i in range(j + 1, n):
            value = a[i, j]
            for k in range(j):
                value -= a[i, k] * a[j, k]
            a[i, j] = value / root if root > 0.0 else 0.0
