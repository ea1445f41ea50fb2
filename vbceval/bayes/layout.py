"""Cells in the order in which the likelihood walks through them: cluster, stratum, unit, period."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.core.typing import FloatArray, IntArray


class Layout(NamedTuple):
    """
    Sorted cells with pointers; K cells, B unit x stratum blocks, M cluster x strata, C clusters.

    Parameters
    ----------
    block_start, stratum_start, cluster_start : array of int, shapes (B + 1,), (M + 1,), (C + 1,)
        Where each block's cells, each cluster x stratum's blocks, each cluster's rows begin.
    stratum_code : array of int, shape (M,)
        Stratum of each cluster x stratum.
    slot : array of int, shape (K,)
        Place of the cell's period among its cluster's periods.
    period_start : array of int, shape (C + 1,)
        Where each cluster's periods begin in `period_value`.
    period_value : array
        Distinct periods of each cluster, increasing, on the scale of the autocorrelation.
    precision : array, shape (K,)
        Inverse of the noise variance when phi is 1.
    treated : array, shape (K,)
        Loading of the cluster's own effect: 1 in treated cells, else 0.
    gram : array, shape (M, T + 1, T + 1)
        F'PF with phi 1, T the largest number of periods of a cluster.
    spread : array, shape (M, T)
        Mean noise variance (phi 1) of the cells of a period: what restated cells have in common.
    dof : array, shape (M,)
        Cells minus blocks.
    constant : array, shape (C,)
        Part of the log likelihood that depends on neither residual nor parameters.
    """

    block_start: IntArray
    stratum_start: IntArray
    cluster_start: IntArray
    stratum_code: IntArray
    slot: IntArray
    period_start: IntArray
    period_value: FloatArray
    precision: FloatArray
    treated: FloatArray
    gram: FloatArray
    spread: FloatArray
    dof: FloatArray
    constant: FloatArray


def arrange(
    *,
    cluster: IntArray,
    stratum: IntArray,
    unit: IntArray,
    period: FloatArray,
    precision: FloatArray,
    treated: FloatArray,
) -> tuple[Layout, IntArray]:
    """
    Sort cells and prepare what the likelihood needs of them.

    Parameters
    ----------
    cluster, stratum, unit : array of int, shape (K,)
        Codes from 0; a unit belongs to one cluster.
    period : array, shape (K,)
        Periods on a scale where autocorrelation falls by rho each step.
    precision, treated : array, shape (K,)
        As in `Layout`, in the order given.

    Returns
    -------
    Layout
    array of int, shape (K,)
        The order: cell i of the layout is cell ``order[i]`` of the input.
    """
    order = np.lexsort((period, unit, stratum, cluster))
    c, s, u, t = cluster[order], stratum[order], unit[order], period[order]
    w, d = precision[order], treated[order]
    block_start = _starts(c, s, u)
    block_rows = block_start[:-1]
    stratum_start = _starts(c[block_rows], s[block_rows])
    rows = block_rows[stratum_start[:-1]]
    cluster_start = _starts(c[rows])
    slot, period_start, period_value = _slots(c, t)
    most = int(np.diff(period_start).max())
    block = np.repeat(np.arange(len(block_rows)), np.diff(block_start))
    row = np.repeat(np.arange(len(rows)), np.diff(np.append(rows, len(c))))
    gram = _grams(block, row, slot, w, d, (len(rows), most))
    counts = np.zeros((len(rows), most))
    spread = np.zeros((len(rows), most))
    np.add.at(counts, (row, slot), 1.0)
    np.add.at(spread, (row, slot), 1.0 / w)
    dof = np.bincount(row) - np.diff(stratum_start)
    base = np.bincount(row, np.log(w)) - np.add.reduceat(
        np.log(np.bincount(block, w)), stratum_start[:-1]
    )
    constant = 0.5 * np.add.reduceat(base - dof * np.log(2 * np.pi), cluster_start[:-1])
    layout = Layout(
        block_start=block_start, stratum_start=stratum_start, cluster_start=cluster_start,
        stratum_code=s[rows], slot=slot, period_start=period_start, period_value=period_value,
        precision=w, treated=d, gram=gram, spread=spread / np.maximum(counts, 1.0),
        dof=dof.astype(float), constant=constant,
    )  # fmt: skip
    return layout, order


def _starts(*keys: IntArray) -> IntArray:
    """Return where runs of equal keys begin, and the end."""
    change = np.zeros(len(keys[0]), dtype=bool)
    change[0] = True
    for key in keys:
        change[1:] |= key[1:] != key[:-1]
    return np.append(np.flatnonzero(change), len(change)).astype(np.int64)


def _slots(cluster: IntArray, period: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Return each cell's place among its cluster's periods, pointers, and the periods."""
    pairs, slot = np.unique(np.column_stack([cluster, period]), axis=0, return_inverse=True)
    start = np.searchsorted(pairs[:, 0], np.arange(cluster.max() + 2))
    present = np.unique(cluster)
    first = start[present]
    place = np.searchsorted(present, cluster)
    return (
        (slot.ravel() - first[place]).astype(np.int64),
        np.append(first, len(pairs)).astype(np.int64),
        np.ascontiguousarray(pairs[:, 1]),
    )


def _grams(
    block: IntArray, row: IntArray, slot: IntArray, w: FloatArray, d: FloatArray,
    shape: tuple[int, int],
) -> FloatArray:  # fmt: skip
    """Return F'PF of each cluster x stratum, P = diag(w) - ww'/sum(w) within each block."""
    n_rows, most = shape
    row_of_block = row[np.unique(block, return_index=True)[1]]
    gram = np.zeros((n_rows, most + 1, most + 1))
    np.add.at(gram, (row, slot, slot), w)
    np.add.at(gram, (row, slot, np.full_like(slot, most)), w * d)
    np.add.at(gram, (row, np.full_like(slot, most), slot), w * d)
    np.add.at(gram, (row, np.full_like(slot, most), np.full_like(slot, most)), w * d * d)
    sums = np.zeros((len(row_of_block), most + 1))
    np.add.at(sums, (block, slot), w)
    np.add.at(sums, (block, np.full_like(slot, most)), w * d)
    outer = sums[:, :, None] * sums[:, None, :] / np.bincount(block, w)[:, None, None]
    np.subtract.at(gram, row_of_block, outer)
    return gram
