"""Organizations by periods as matrices, and what the synthetic family refuses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import Array, BoolArray, FloatArray, IntArray
from vbceval.design import Design
from vbceval.did.blocks import Block, complete, make_block
from vbceval.did.inputs import as_moments, cluster_labels, strata_of
from vbceval.moments import Moments
from vbceval.panel import Panel


class Wide(NamedTuple):
    """
    One stratum (or all together) as matrices.

    Parameters
    ----------
    y : array, shape (N, T)
        Outcome; missing where an organization is not seen in a period.
    x : array, shape (N, T, p)
        Covariates, missing as `y` is.
    weight : array, shape (N,)
        Mean weight of the organization over its periods.
    cohort : array, shape (N,)
        First treated period, NaN = never treated.
    cluster : int array, shape (N,)
        Code of the cluster among all clusters of the fit.
    labels : array, shape (N,)
        Names of the organizations.
    periods : array, shape (T,)
        Periods, increasing.
    names : tuple of str
        Covariates.
    stratum : str or None
        ``"variable=level"``.
    """

    y: FloatArray
    x: FloatArray
    weight: FloatArray
    cohort: FloatArray
    cluster: IntArray
    labels: Array
    periods: FloatArray
    names: tuple[str, ...]
    stratum: str | None

    def take(self, rows: BoolArray | IntArray) -> Wide:
        """Return some organizations."""
        return self._replace(
            y=self.y[rows], x=self.x[rows], weight=self.weight[rows], cohort=self.cohort[rows],
            cluster=self.cluster[rows], labels=self.labels[rows],
        )  # fmt: skip

    def enters(self, anticipation: int) -> BoolArray:
        """Return which organizations are treated in these periods, shape (N,)."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.cohort - anticipation <= self.periods[-1], dtype=bool)


class Source(NamedTuple):
    """The matrices of every stratum, with what names them."""

    tables: list[Wide]
    moments: Moments
    clusters: pd.Index


def read_wide(
    data: Panel | Moments, design: Design, estimator: str, *, covariate_gaps: bool = False
) -> Source:
    """
    Return matrices of all organizations together and of each stratum.

    Several rows of an organization in a period (strata) are averaged with their weights. Rows
    without a covariate leave, unless `covariate_gaps` lets them stay with a missing value.

    Raises
    ------
    EstimationError
        If units are, or may be, people: weights are printed with the name of their unit.
    DesignError
        If there is one cluster, one period, no complete row, or an option does not apply.
    """
    _refuse_options(design, estimator)
    moments = as_moments(data, design)
    if moments.people:
        raise EstimationError(
            f"{estimator} gives a weight to each unit, and units here are (or may be) people. Take "
            "means by organization first, `Moments.from_panel(panel, ..., by='cluster')`, or say "
            "`people=False` where the unit is an organization."
        )
    clusters = cluster_labels(moments)
    block = make_block(moments, design, clusters)
    names = moments.cells["unit"].to_numpy(dtype=object)
    tables = []
    for stratum, rows in strata_of(moments):
        part = block.take(rows)
        seen = np.isfinite(part.y[:, 0]) & (part.w > 0) if covariate_gaps else complete(part)
        kept = rows[seen]
        if not len(kept):
            raise DesignError(
                f"no row has the outcome `{design.outcome}`, every covariate and a positive weight"
                f"{f' in stratum `{stratum}`' if stratum else ''}."
            )
        tables.append(_matrices(block.take(kept), names[kept], stratum))
    return Source(tables, moments, clusters)


def _refuse_options(design: Design, estimator: str) -> None:
    if design.fixed_effects is not None:
        raise DesignError(
            f"{estimator} has unit and period effects of its own and takes no `fixed_effects` in "
            "the design; leave them out."
        )
    if design.base_period == "universal":
        raise DesignError(
            f"{estimator} has no base period: its weights or factors use every period before "
            "entry. Leave `base_period` at its default."
        )


def _matrices(block: Block, names: Array, stratum: str | None) -> Wide:
    units, first, row = np.unique(block.unit, return_index=True, return_inverse=True)
    periods, column = np.unique(block.period, return_inverse=True)
    if len(periods) < 2:
        raise DesignError(
            f"there is one period, {periods[0]:g}, and effects need periods before and after entry."
        )
    shape = (len(units), len(periods))
    cell = row * len(periods) + column
    size = len(units) * len(periods)

    def total(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(cell, values, size), dtype=float).reshape(shape)

    w = total(block.w)
    seen = w > 0

    def mean(values: FloatArray) -> FloatArray:
        out = np.full(shape, np.nan)
        out[seen] = total(block.w * values)[seen] / w[seen]
        return out

    x = [mean(column) for column in block.x.T]
    return Wide(
        y=mean(block.y[:, 0]),
        x=np.stack(x, axis=2) if x else np.empty((*shape, 0)),
        weight=w.sum(axis=1) / seen.sum(axis=1),
        cohort=block.cohort[first], cluster=block.cluster[first], labels=names[first],
        periods=periods, names=block.names, stratum=stratum,
    )  # fmt: skip


def require_balanced(wide: Wide, used: BoolArray, estimator: str) -> None:
    """
    Check that no cell is missing among those that weights are fitted on.

    Parameters
    ----------
    wide : Wide
        The matrices.
    used : bool array, shape (N, T)
        Cells that are needed.
    estimator : str
        For the message.

    Raises
    ------
    DesignError
        With organizations and counts.
    """
    gap = used & ~np.isfinite(wide.y)
    if gap.any():
        lost = gap.any(axis=1)
        raise DesignError(
            f"{int(gap.sum()):,} organization-periods are missing, of {int(lost.sum()):,} "
            f"organizations ({listed(wide.labels[lost], most=5)}), and {estimator} weights whole "
            "paths. Drop these organizations or periods, or use InteractiveFE or Imputation, which "
            "need no balanced panel."
        )
