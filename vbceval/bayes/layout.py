"""Cells in the order in which the likelihood walks through them, `LANES` clusters side by side."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.bayes.lanes import LANES
from vbceval.core.typing import FloatArray, IntArray


class Layout(NamedTuple):
    """
    Sorted cells; K cells, B unit x stratum blocks, C clusters in G groups of `LANES`, S strata.

    A row is a group, stratum and lane, in this order; it may be empty. T is the largest number of
    periods of a cluster.

    Parameters
    ----------
    row_start : array of int, shape (G * S * LANES + 1,)
        Where each row's blocks begin.
    block_start : array of int, shape (B + 1,)
        Where each block's cells begin.
    slot : array of int, shape (K,)
        Place of the cell's period among its cluster's periods.
    precision : array, shape (K,)
        Inverse of the noise variance when phi is 1.
    treated : array, shape (K,)
        Loading of the cluster's own effect: 1 in treated cells, else 0.
    place : array of int, shape (G, LANES)
        Cluster of each lane; -1 where the last group is not full.
    n_periods : array of int, shape (G,)
        Largest number of periods of the group's clusters; groups are in increasing order of it.
    period : array, shape (G, T, LANES)
        Distinct periods of each cluster, increasing, on the scale of the autocorrelation.
    gram : array, shape (G, S, T + 1, T + 1, LANES)
        F'PF with phi 1, F = [treated, periods].
    spread : array, shape (G, S, T, LANES)
        Mean noise variance (phi 1) of the cells of a period: what restated cells have in common.
    dof : array, shape (G, S, LANES)
        Cells minus blocks.
    constant : array, shape (G, LANES)
        Part of the log likelihood that depends on neither residual nor parameters.
    """

    row_start: IntArray
    block_start: IntArray
    slot: IntArray
    precision: FloatArray
    treated: FloatArray
    place: IntArray
    n_periods: IntArray
    period: FloatArray
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
        Codes from 0 without gaps; a unit belongs to one cluster.
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
    pairs, slot = np.unique(np.column_stack([cluster, period]), axis=0, return_inverse=True)
    counts = np.bincount(pairs[:, 0].astype(np.int64))
    first = np.append(0, np.cumsum(counts))
    slot = slot.ravel() - first[cluster]
    n_clusters, n_strata, most = len(counts), int(stratum.max()) + 1, int(counts.max())
    # clusters of equal length together, so that little is padded
    rank = np.empty(n_clusters, dtype=np.int64)
    rank[np.argsort(counts, kind="stable")] = np.arange(n_clusters)
    n_groups = -(-n_clusters // LANES)
    place = np.full(n_groups * LANES, -1, dtype=np.int64)
    place[rank] = np.arange(n_clusters)
    row_of_cell = (rank[cluster] // LANES * n_strata + stratum) * LANES + rank[cluster] % LANES
    order = np.lexsort((period, unit, row_of_cell))
    row, w, d = row_of_cell[order], precision[order], treated[order]
    slot = slot[order]
    start = _starts(row, unit[order])
    block = np.repeat(np.arange(len(start) - 1), np.diff(start))
    n_rows = n_groups * n_strata * LANES
    shape = (n_groups, n_strata, LANES)
    gram, spread = _sums(block, row, slot, w, d, n_rows, most)
    cells, blocks = (
        np.bincount(row, minlength=n_rows),
        np.bincount(row[start[:-1]], minlength=n_rows),
    )
    dof = (cells - blocks).astype(float)
    logs = np.bincount(row, np.log(w), minlength=n_rows) - np.bincount(
        row[start[:-1]], np.log(np.bincount(block, w)), minlength=n_rows
    )
    # an empty slot needs a period of its own: a repeated one would make R singular
    calendar = np.arange(most, dtype=float)[None, :] + np.zeros((len(place), 1))
    for c in range(n_clusters):
        own = pairs[first[c] : first[c + 1], 1]
        calendar[rank[c], : len(own)] = own
        calendar[rank[c], len(own) :] = own[-1] + np.arange(1, most - len(own) + 1)
    lengths = np.append(np.sort(counts), np.zeros(len(place) - n_clusters, dtype=np.int64))
    layout = Layout(
        row_start=np.append(0, np.cumsum(blocks)).astype(np.int64),
        block_start=start, slot=slot.astype(np.int64), precision=w, treated=d,
        place=place.reshape(n_groups, LANES),
        n_periods=lengths.reshape(n_groups, LANES).max(axis=1).astype(np.int64),
        period=np.ascontiguousarray(calendar.reshape(n_groups, LANES, most).swapaxes(1, 2)),
        gram=np.ascontiguousarray(np.moveaxis(gram.reshape(*shape, most + 1, most + 1), 2, 4)),
        spread=np.ascontiguousarray(np.moveaxis(spread.reshape(*shape, most), 2, 3)),
        dof=dof.reshape(shape),
        constant=0.5 * (logs - dof * np.log(2 * np.pi)).reshape(shape).sum(axis=1),
    )  # fmt: skip
    return layout, order


def _starts(*keys: IntArray) -> IntArray:
    """Return where runs of equal keys begin, and the end."""
    change = np.zeros(len(keys[0]), dtype=bool)
    change[0] = True
    for key in keys:
        change[1:] |= key[1:] != key[:-1]
    return np.append(np.flatnonzero(change), len(change)).astype(np.int64)


def _sums(
    block: IntArray, row: IntArray, slot: IntArray, w: FloatArray, d: FloatArray, n_rows: int,
    most: int,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Return F'PF of each row, P = diag(w) - ww'/sum(w) within each block, and the spread."""
    row_of_block = row[np.unique(block, return_index=True)[1]]
    gram = np.zeros((n_rows, most + 1, most + 1))
    own = slot + 1
    zero = np.zeros_like(slot)
    np.add.at(gram, (row, own, own), w)
    np.add.at(gram, (row, own, zero), w * d)
    np.add.at(gram, (row, zero, own), w * d)
    np.add.at(gram, (row, zero, zero), w * d * d)
    sums = np.zeros((len(row_of_block), most + 1))
    np.add.at(sums, (block, own), w)
    np.add.at(sums, (block, zero), w * d)
    outer = sums[:, :, None] * sums[:, None, :] / np.bincount(block, w)[:, None, None]
    np.subtract.at(gram, row_of_block, outer)
    counts, spread = np.zeros((n_rows, most)), np.zeros((n_rows, most))
    np.add.at(counts, (row, slot), 1.0)
    np.add.at(spread, (row, slot), 1.0 / w)
    return gram, spread / np.maximum(counts, 1.0)
