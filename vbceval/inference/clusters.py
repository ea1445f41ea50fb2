"""Sums of rows within clusters."""

from __future__ import annotations

import numpy as np

from vbceval.core.typing import FloatArray, IntArray


def sum_by_cluster(values: FloatArray, codes: IntArray, n_clusters: int) -> FloatArray:
    """
    Add rows that share a cluster code.

    Parameters
    ----------
    values : array, shape (n,) or (n, k)
        Rows to add.
    codes : int array, shape (n,)
        Cluster of each row, 0 to `n_clusters` - 1, in any order.
    n_clusters : int
        Number of rows of the result; a code that does not occur gives zeros.

    Returns
    -------
    array, shape (n_clusters,) or (n_clusters, k)
        Sums in the order of the codes. Cost O(n k + n log n).
    """
    if values.ndim == 1:
        return np.bincount(codes, weights=values, minlength=n_clusters)
    if values.shape[1] == 1:
        return np.bincount(codes, weights=values[:, 0], minlength=n_clusters)[:, None]
    out = np.zeros((n_clusters, values.shape[1]))
    if len(codes) == 0:
        return out
    if (codes[1:] > codes[:-1]).all():
        out[codes] = values
        return out
    order = np.argsort(codes, kind="stable")
    sorted_codes = codes[order]
    starts = np.flatnonzero(np.r_[True, sorted_codes[1:] != sorted_codes[:-1]])
    out[sorted_codes[starts]] = np.add.reduceat(values[order], starts, axis=0)
    return out
