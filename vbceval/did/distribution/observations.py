"""Rows, or bins of histograms, with the keys that a comparison of distributions needs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import linalg

from vbceval.core.checks import listed
from vbceval.core.errors import EstimationError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.design import Design, GroupTimePair
from vbceval.did.blocks import make_block, side
from vbceval.did.distribution.changes import Four
from vbceval.did.distribution.laws import Grid, Law
from vbceval.moments import Moments


class Observations(NamedTuple):
    """
    N rows, or bins of a cell's histogram.

    Parameters
    ----------
    cohort, period : array, shape (N,)
        First treated period (NaN = never), period.
    y, w : array, shape (N,)
        Outcome, or mean of the bin; weight.
    n : array, shape (N,)
        Rows in it.
    unit, cluster, cell : int array, shape (N,)
        Codes; cell of the moments.
    x : array, shape (N, p)
        Covariates; of rows only.
    names : tuple of str
        Names of covariates.
    bins : int array, shape (N,), or None
        Number of the bin.
    low, high : array, shape (N,), or None
        Its first and last value.
    """

    cohort: FloatArray
    period: FloatArray
    y: FloatArray
    w: FloatArray
    n: FloatArray
    unit: IntArray
    cluster: IntArray
    cell: IntArray
    x: FloatArray
    names: tuple[str, ...]
    bins: IntArray | None
    low: FloatArray | None
    high: FloatArray | None

    def take(self, rows: BoolArray | IntArray) -> Observations:
        """Return some of them."""
        picked: dict[str, Any] = {
            name: value[rows] if isinstance(value, np.ndarray) else value
            for name, value in self._asdict().items()
        }
        return Observations(**picked)

    def gridded(self) -> tuple[Grid, IntArray]:
        """Return the values or bins that occur, and which each is of."""
        if self.bins is None or self.low is None or self.high is None:
            values, codes = np.unique(self.y, return_inverse=True)
            return Grid(values, values), codes.astype(np.int64)
        _, first, codes = np.unique(self.bins, return_index=True, return_inverse=True)
        return Grid(self.low[first], self.high[first]), codes.astype(np.int64)


def observed(moments: Moments, design: Design, labels: pd.Index) -> Observations:
    """
    Return the observations behind moments that have the outcome, covariates and weight.

    Raises
    ------
    EstimationError
        If cells are sums of rows without histograms of the outcome, or with covariates.
    """
    if bool((moments.n == 1).all()):
        block = make_block(moments, design, labels)
        size = len(block.w)
        found = Observations(
            block.cohort, block.period, block.y[:, 0], block.w, np.ones(size), block.unit,
            block.cluster, np.arange(size), block.x, block.names, None, None, None,
        )  # fmt: skip
        return found.take(np.isfinite(found.y) & np.isfinite(found.x).all(axis=1) & (found.w > 0))
    held = () if moments.sums is None else tuple(moments.sums.schema.histograms)
    if design.outcome not in held and "share" in moments.meta:
        raise EstimationError(
            f"distributions of `{design.outcome}` need its rows, or histograms of cells, and these never "
            "leave in a shared copy. Fit the moments inside the enclave, with "
            f"histograms=['{design.outcome}'], and export the estimates."
        )
    if design.outcome not in held:
        raise EstimationError(
            f"distributions of `{design.outcome}` need its rows, or histograms of cells (these "
            f"moments have histograms of {listed(held) or 'nothing'}). Fit a Panel, or take the "
            f"moments again with histograms=['{design.outcome}']."
        )
    if design.covariates:
        raise EstimationError(
            f"covariates {listed(design.covariates)} are taken out of each row's outcome, and "
            "histograms have no rows. Fit a Panel, or take the moments of adjusted outcomes."
        )
    return _of_bins(moments, design, labels)


def _of_bins(moments: Moments, design: Design, labels: pd.Index) -> Observations:
    frame = moments.histogram(design.outcome)
    keys = [moments.cluster_name, moments.period_name, *moments.strata]
    cells = pd.MultiIndex.from_frame(moments.cells[["unit", "period", *moments.strata]])
    cell = cells.get_indexer(pd.MultiIndex.from_frame(frame[keys]))
    cluster = moments.attribute("cluster").iloc[cell]
    codes = labels.get_indexer(pd.Index(cluster)).astype(np.int64)
    cohort = moments.attribute("cohort").to_numpy(dtype=float, na_value=np.nan)
    v = {name: frame[name].to_numpy(dtype=float) for name in ("mean", "w", "n", "low", "high")}
    found = Observations(
        cohort[cell], frame[moments.period_name].to_numpy(dtype=float), v["mean"],
        v["w"] * design.weights_for(cluster), v["n"], codes, codes, cell.astype(np.int64),
        np.zeros((len(frame), 0)), (), frame["bin"].to_numpy(dtype=np.int64), v["low"], v["high"],
    )  # fmt: skip
    return found.take(found.w > 0)


class Compared(NamedTuple):
    """
    The rows of one comparison.

    Parameters
    ----------
    rows : Observations
        Rows of both groups and periods, n of them.
    group : int array, shape (n,)
        Which law of `Four` each belongs to.
    """

    rows: Observations
    group: IntArray

    def laws(self) -> tuple[Four, IntArray]:
        """Return the four laws on one grid, and the place of each row on it."""
        grid, codes = self.rows.gridded()
        size = len(grid.low)
        made = []
        for g in range(4):
            own = self.group == g
            w, y, c = self.rows.w[own], self.rows.y[own], codes[own]
            mass = np.bincount(c, weights=w, minlength=size)
            total = np.bincount(c, weights=w * y, minlength=size)
            mean = np.divide(total, mass, out=np.zeros(size), where=mass > 0)
            # rows of a bin share its weight; the effective number of rows of all
            n = w.sum() ** 2 / np.sum(w * w / self.rows.n[own])
            made.append(Law(grid, mass, mean, float(n)))
        return Four(*made), codes


def compare(found: Observations, pair: GroupTimePair, last: float) -> Compared:
    """Return the rows of a comparison: base and later period, treated and comparison."""
    treated, control = side(found.cohort, pair, last)
    post = found.period == pair.period
    live = (treated | control) & (post | (found.period == pair.base))
    group = 2 * treated.astype(np.int64) + post
    return Compared(found.take(live), group[live])


class Adjustment(NamedTuple):
    """
    Coefficients by which covariates are taken out of outcomes.

    Parameters
    ----------
    beta : array, shape (p,)
        Least squares with an effect for each of the four groups.
    score : array, shape (n, p)
        Influence of each row on them.
    """

    beta: FloatArray
    score: FloatArray


def adjustment(compared: Compared) -> Adjustment:
    """
    Regress outcomes on covariates within the four groups.

    Raises
    ------
    EstimationError
        If covariates are collinear given the groups.
    """
    rows, group = compared
    total = np.bincount(group, weights=rows.w, minlength=4)
    means = [np.bincount(group, weights=rows.w * v, minlength=4) / total for v in rows.x.T]
    x = rows.x - np.column_stack(means)[group]
    y = rows.y - (np.bincount(group, weights=rows.w * rows.y, minlength=4) / total)[group]
    root = np.sqrt(rows.w)[:, None]
    scale = np.sqrt(np.sum(rows.w[:, None] * rows.x**2, axis=0)) + 1e-300
    _, r, order = linalg.qr(root * x / scale, mode="economic", pivoting=True)
    left = np.abs(np.diag(r))
    bad = [rows.names[order[j]] for j in np.flatnonzero(left <= 1e-9)]
    if bad:
        raise EstimationError(
            f"covariates {listed(bad)} are collinear with others, or constant, within the groups "
            "of a comparison. Leave them out."
        )
    bread = np.linalg.inv((rows.w[:, None] * x).T @ x)
    beta = bread @ (x.T @ (rows.w * y))
    return Adjustment(beta, (rows.w * (y - x @ beta))[:, None] * x @ bread)
