"""Cells of one stratum as arrays, and the sample of each comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.design import Design, GroupTimePair
from vbceval.did.solve import needed_levels
from vbceval.did.weight_step import refuse_estimated
from vbceval.moments import Moments


class Block(NamedTuple):
    """
    The cells of one stratum, or of all together, as arrays over K cells.

    Parameters
    ----------
    unit, cluster, entity : int array, shape (K,)
        Codes of the unit, of the cluster (among all clusters of the fit), and of what is followed:
        the unit within a stratum.
    cohort : array, shape (K,)
        First treated period, NaN = never treated.
    period : array, shape (K,)
        Period.
    y : array, shape (K, m)
        Outcomes.
    x : array, shape (K, p)
        Covariates.
    w : array, shape (K,)
        Analysis weight times balance weight.
    xx, xy : arrays, shapes (K, p, p), (K, p, m), or None
        Second moments within cells.
    names : tuple of str
        Covariate names.
    factors : tuple of int
        Which categorical covariate a column of `x` belongs to, -1 for numbers.
    """

    unit: IntArray
    cluster: IntArray
    entity: IntArray
    cohort: FloatArray
    period: FloatArray
    y: FloatArray
    x: FloatArray
    w: FloatArray
    xx: FloatArray | None
    xy: FloatArray | None
    names: tuple[str, ...]
    factors: tuple[int, ...]

    def take(self, rows: BoolArray | IntArray) -> Block:
        """Return some cells; themselves where all are asked for in their order."""
        if len(rows) == len(self.unit) and (
            rows.all() if rows.dtype == bool else np.array_equal(rows, np.arange(len(rows)))
        ):
            return self
        picked: dict[str, Any] = {}
        for name, value in self._asdict().items():
            picked[name] = value[rows] if isinstance(value, np.ndarray) else value
        return Block(**picked)

    def of(self, outcomes: Sequence[int]) -> Block:
        """Return the cells with some outcomes, by position."""
        js = list(outcomes)
        xy = None if self.xy is None else np.ascontiguousarray(self.xy[:, :, js])
        return self._replace(y=_columns(self.y, js), xy=xy)

    def without_absent_levels(self) -> Block:
        """Return the cells without columns of categories that these cells do not need."""
        needed = needed_levels(self.x, self.factors)
        if needed.all():
            return self
        kept = np.flatnonzero(needed)
        return self._replace(
            x=self.x[:, kept],
            xx=None if self.xx is None else self.xx[:, kept[:, None], kept],
            xy=None if self.xy is None else self.xy[:, kept],
            names=tuple(self.names[j] for j in kept),
            factors=tuple(self.factors[j] for j in kept),
        )


def make_block(
    moments: Moments,
    design: Design,
    clusters: pd.Index,
    outcomes: Sequence[str] | None = None,
) -> Block:
    """Return all cells, with the outcome of a design or with others (or none) in its place."""
    js = [moments.column(y) for y in ([design.outcome] if outcomes is None else outcomes)]
    columns = moments.covariate_positions(design.covariates)
    owner = {name: i for i, made in enumerate(moments.factors.values()) for name in made}
    place, units = moments.place, moments.units
    refuse_estimated(design)
    w, factor = moments.w, None
    if design.balance_weights is not None:
        factor = design.weights_for(moments.attribute("cluster"), moments.cells["unit"])
        w = w * factor
    # balance weights multiply a cell's moments as they multiply its rows
    xx = None if moments.xx is None else products_of(moments.xx, columns, columns)
    xy = None if moments.xy is None else products_of(moments.xy, columns, js)
    if factor is not None:
        xx = None if xx is None else xx * factor[:, None, None]
        xy = None if xy is None else xy * factor[:, None, None]
    strata = [pd.Categorical(moments.cells[s]).codes for s in moments.strata]
    return Block(
        unit=place,
        entity=_in_order(place, strata),
        cluster=clusters.get_indexer(pd.Index(units["cluster"])).astype(np.int64)[place],
        cohort=units["cohort"].to_numpy(dtype=float, na_value=np.nan)[place],
        period=moments.cells["period"].to_numpy(dtype=float),
        y=_columns(moments.y_mean, js),
        x=_columns(moments.x_mean, columns.tolist()),
        w=w,
        xx=xx,
        xy=xy,
        names=tuple(moments.covariates[i] for i in columns),
        factors=tuple(owner.get(moments.covariates[i], -1) for i in columns),
    )


def products_of(
    values: FloatArray, rows: Sequence[int] | IntArray, columns: Sequence[int] | IntArray
) -> FloatArray:
    """Return products of some covariates, (K, p, m), in the order of cells in memory."""
    first, second = np.asarray(rows, dtype=np.int64), np.asarray(columns, dtype=np.int64)
    whole = all(
        np.array_equal(own, np.arange(size))
        for own, size in zip((first, second), values.shape[1:], strict=True)
    )
    return values if whole else np.ascontiguousarray(values[:, first[:, None], second])


def _in_order(place: IntArray, strata: Sequence[np.ndarray]) -> IntArray:
    """Return codes of units within their strata, in the order in which these are first seen."""
    joint = place
    for codes in strata:
        # numbered again each time, so that products of many keys stay small
        joint = pd.factorize(joint * (int(codes.max(initial=0)) + 1) + codes)[0]
    return joint.astype(np.int64, copy=False)


def _columns(values: FloatArray, js: list[int]) -> FloatArray:
    """Return columns, those of a cell side by side in memory, so that taking cells is quick."""
    if js != list(range(values.shape[1])):
        values = values[:, js]
    return np.ascontiguousarray(values)


def complete(block: Block) -> BoolArray:
    """Return which cells have every outcome, every covariate and a positive weight."""
    return np.asarray(np.isfinite(block.y).all(axis=1) & _usable(block), dtype=bool)


def _usable(block: Block) -> BoolArray:
    return np.asarray(np.isfinite(block.x).all(axis=1) & (block.w > 0), dtype=bool)


def by_pattern(block: Block) -> list[tuple[list[int], BoolArray]]:
    """Return positions of outcomes that are seen in the same cells, with these complete cells."""
    seen = np.isfinite(block.y) & _usable(block)[:, None]
    groups: dict[bytes, list[int]] = {}
    for j, column in enumerate(seen.T):
        groups.setdefault(np.packbits(column).tobytes(), []).append(j)
    return [(js, seen[:, js[0]]) for js in groups.values()]


def usable_cohorts(block: Block, dropped: FloatArray) -> Block:
    """Return the cells of cohorts that have a base period, and of the never treated."""
    if not len(dropped):
        return block
    return block.take(~np.isin(block.cohort, dropped))


def side(cohort: FloatArray, pair: GroupTimePair, last: float) -> tuple[BoolArray, BoolArray]:
    """
    Return which cohorts are treated and which are comparison in a pair.

    Parameters
    ----------
    cohort : array
        Cohort of each row, NaN = never treated.
    pair : GroupTimePair
        The comparison.
    last : float
        Last period plus anticipation: later cohorts are never treated in these data.
    """
    never = np.isnan(cohort) | (cohort > last)
    return cohort == pair.cohort, never | np.isin(cohort, pair.controls)


class Followed(NamedTuple):
    """
    Where each followed entity's cell of each period is.

    Parameters
    ----------
    at : int array, shape (entities, periods)
        Cell position, -1 where the entity is not seen.
    first : int array, shape (entities,)
        Cell of its earliest period.
    """

    at: IntArray
    first: IntArray


def follow(block: Block, periods: FloatArray) -> Followed:
    """Index cells by entity and period."""
    size = int(block.entity.max(initial=-1)) + 1, len(periods)
    if size[0] * size[1] == len(block.entity):
        at = np.arange(len(block.entity)).reshape(size)
        if (block.entity[at] == at[:, :1] // max(size[1], 1)).all() and (
            block.period[at] == periods
        ).all():
            # in order and without gaps, as most panels are
            return Followed(at, at[:, 0])
    column = np.searchsorted(periods, block.period)
    at = np.full(size, -1, dtype=np.int64)
    at[block.entity, column] = np.arange(len(block.entity))
    seen = at >= 0
    here = seen.any(axis=1)
    if not here.all():
        at, seen = at[here], seen[here]
    return Followed(at, at[np.arange(len(at)), seen.argmax(axis=1)])


def balanced(block: Block, periods: FloatArray) -> Block:
    """Return the cells of units that are seen in every period."""
    at = follow(block, periods).at
    return block.take(np.sort(at[(at >= 0).all(axis=1)].ravel()))
