"""Small matrices of several clusters worked on at once: the last axis of each array is `LANES` long."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.core.typing import FloatArray

LANES = 16
"""Clusters worked on at once: the last axis of small arrays, so that one instruction serves several."""


class Group(NamedTuple):
    """
    What the strata of a group of clusters share, and room to work in.

    Parameters
    ----------
    r, dr : array, shape (T, T, LANES)
        Autocorrelation and its derivative by rho.
    cov : array, shape (T + 1, T + 1, LANES)
        Prior covariance of (theta, u).
    gram : array, shape (T + 2, T + 2, LANES)
        [F, r]'Q[F, r] with everything but (theta, u) integrated out of Q.
    w, mean : array, shapes (T + 1, T + 1, LANES), (T + 1, LANES)
        Posterior covariance and mean of (theta, u).
    turn, pull : array, shapes (T + 1, T + 1, LANES), (T + 1, LANES)
        cov - cov gram w, and its product with the last column of `gram`: what the other strata do
        to the trace and to the quadratic form of one stratum.
    root, work, inner, left, f, logdet, inverse, line : array
        Room for factors, products and vectors.
    """

    r: FloatArray
    dr: FloatArray
    cov: FloatArray
    gram: FloatArray
    w: FloatArray
    mean: FloatArray
    turn: FloatArray
    pull: FloatArray
    root: FloatArray
    work: FloatArray
    inner: FloatArray
    left: FloatArray
    f: FloatArray
    logdet: FloatArray
    inverse: FloatArray
    line: FloatArray


def room(t: int) -> Group:
    """Return uninitialised arrays for clusters of at most t periods."""
    return Group(
        np.empty((t, t, LANES)), np.empty((t, t, LANES)), np.empty((t + 1, t + 1, LANES)),
        np.empty((t + 2, t + 2, LANES)), np.empty((t + 1, t + 1, LANES)), np.empty((t + 1, LANES)),
        np.empty((t + 1, t + 1, LANES)), np.empty((t + 1, LANES)),
        np.empty((t + 1, t + 1, LANES)), np.empty((t + 1, t + 1, LANES)),
        np.empty((t + 1, t + 1, LANES)), np.empty((t + 2, t + 2, LANES)),
        np.empty((t + 1, LANES)), np.empty(LANES), np.empty((t + 1, LANES)), np.empty(LANES),
    )  # fmt: skip


def cholesky(a: FloatArray, n: int, inverse: FloatArray, line: FloatArray) -> None:
    """Factor in place, lower, with the inverse diagonal; a pivot at rounding level becomes zero."""
    for j in range(n):
        for c in range(LANES):
            line[c] = 1e-14 * a[j, j, c]
        for k in range(j):
            for c in range(LANES):
                a[j, j, c] -= a[j, k, c] * a[j, k, c]
        for c in range(LANES):
            keep = a[j, j, c] > line[c]
            a[j, j, c] = np.sqrt(a[j, j, c]) if keep else 0.0
            inverse[j, c] = 1.0 / a[j, j, c] if keep else 0.0
        for i in range(j + 1, n):
            for k in range(j):
                for c in range(LANES):
                    a[i, j, c] -= a[i, k, c] * a[j, k, c]
            for c in range(LANES):
                a[i, j, c] *= inverse[j, c]
                a[j, i, c] = 0.0


def eliminate(
    gram: FloatArray, first: int, n: int, m: int, u: FloatArray, y: FloatArray, at: Group
) -> None:  # fmt: skip
    """
    Integrate out n of m directions, from `first` on, whose prior covariance is root root'.

    `gram` (m x m) is [Z, r]'Q[Z, r] before and after, Q being the precision left so far. On return
    ``u'u`` is the posterior covariance of the n coefficients given the others, ``u'y`` the
    regression on the m columns, and ``at.logdet`` is larger by what the elimination adds to the
    log determinant of 1/Q.
    """
    for i in range(n):
        for j in range(n):
            at.work[i, j, :] = 0.0
            for k in range(j, n):
                for c in range(LANES):
                    at.work[i, j, c] += gram[first + i, first + k, c] * at.root[k, j, c]
    for i in range(n):
        for j in range(i + 1):
            at.inner[i, j, :] = 1.0 if i == j else 0.0
            for k in range(i, n):
                for c in range(LANES):
                    at.inner[i, j, c] += at.root[k, i, c] * at.work[k, j, c]
    cholesky(at.inner, n, at.inverse, at.line)
    for i in range(n):
        for c in range(LANES):
            at.logdet[c] += 2.0 * np.log(at.inner[i, i, c])
        for j in range(n):
            for c in range(LANES):
                u[i, j, c] = at.root[j, i, c] if j >= i else 0.0
            for k in range(i):
                for c in range(LANES):
                    u[i, j, c] -= at.inner[i, k, c] * u[k, j, c]
            for c in range(LANES):
                u[i, j, c] *= at.inverse[i, c]
    for i in range(n):
        for j in range(m):
            y[i, j, :] = 0.0
            for k in range(n):
                for c in range(LANES):
                    y[i, j, c] += u[i, k, c] * gram[first + k, j, c]
    for a in range(m):
        for b in range(a + 1):
            for i in range(n):
                for c in range(LANES):
                    gram[a, b, c] -= y[i, a, c] * y[i, b, c]
            for c in range(LANES):
                gram[b, a, c] = gram[a, b, c]
