"""Products of sparse matrices, dense where many rows have values in the same columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from vbceval.core.typing import FloatArray, IntArray

_FEW = 16
"""Directions below which sparse products are quick."""


def along(matrices: Sequence[sparse.csr_array], direction: FloatArray) -> list[FloatArray]:
    """
    Return matrices, (n, p), times columns of `direction`, (p, r): shape (n, r) each.

    The matrices have values in the same places.
    """
    if direction.shape[1] < _FEW:
        return [np.asarray(matrix @ direction) for matrix in matrices]
    out = [np.zeros((matrix.shape[0], direction.shape[1])) for matrix in matrices]
    blocks, rest = _dense_blocks(matrices[0])
    for block in blocks:
        own = direction[block.columns]
        for made, matrix in zip(out, matrices, strict=True):
            made[block.rows] = matrix.data[block.at] @ own
    for made, matrix in zip(out, matrices, strict=True):
        made[rest] = matrix[rest] @ direction
    return out


def scaled(rows: sparse.csr_array, factor: FloatArray) -> sparse.csr_array:
    """Return a sparse matrix with each row times a number, values in the same places."""
    values = rows.data * np.repeat(factor, np.diff(rows.indptr))
    return sparse.csr_array((values, rows.indices, rows.indptr), shape=rows.shape)


def squares(rows: sparse.csr_array, pattern: IntArray | None = None) -> FloatArray:
    """
    Return A'A of a sparse matrix.

    Parameters
    ----------
    rows : sparse array, shape (n, p)
        A.
    pattern : int array, shape (n,), optional
        Code of rows that have values in the same columns, where it is known.
    """
    if not rows.has_sorted_indices:
        rows = rows.sorted_indices()
    out = np.zeros((rows.shape[1], rows.shape[1]))
    blocks, rest = _dense_blocks(rows, pattern)
    for block in blocks:
        values = rows.data[block.at]
        out[block.columns[:, None], block.columns] += values.T @ values
    if len(rest):
        out += (rows[rest].T @ rows[rest]).toarray()
    return out


class _Block(NamedTuple):
    """Rows of a sparse matrix that have values in the same columns, and where these are."""

    rows: IntArray
    columns: IntArray
    at: IntArray


def _dense_blocks(
    rows: sparse.csr_array, pattern: IntArray | None = None
) -> tuple[Iterator[_Block], IntArray]:
    """
    Return blocks of a matrix so full that dense products are quicker, and its other rows.

    Columns of a row are in order.
    """
    counts = np.diff(rows.indptr)
    of = _patterns(rows) if pattern is None else pattern
    times = np.bincount(of)
    alike = (times[of] * 8 > counts) & (counts > 0)
    order = np.flatnonzero(alike)
    # codes of two bytes are sorted without comparing them
    small = of[order].astype(np.uint16 if len(times) <= 1 << 16 else np.int64)
    order = order[np.argsort(small, kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(of[order])) + 1)
    blocks = (
        _Block(
            same, rows.indices[start : start + counts[same[0]]].astype(np.int64),
            rows.indptr[same].astype(np.int64)[:, None] + np.arange(counts[same[0]]),
        )
        for same in groups if len(same)
        for start in (rows.indptr[same[0]],)
    )  # fmt: skip
    return blocks, np.flatnonzero(~alike)


def _patterns(rows: sparse.csr_array) -> IntArray:
    """Return codes of rows that have values in the same columns."""
    # sums of two random marks of columns tell rows with different columns apart
    marks = np.random.default_rng(0).standard_normal((rows.shape[1], 2))
    ones = sparse.csr_array((np.ones(rows.nnz), rows.indices, rows.indptr), shape=rows.shape)
    found = (ones @ marks).view(complex)[:, 0]
    return np.asarray(np.unique(found, return_inverse=True)[1], dtype=np.int64)
