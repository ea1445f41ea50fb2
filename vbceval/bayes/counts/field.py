"""Cells on a grid of units, strata and periods, clusters side by side; regressors and covariances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vbceval.bayes.cells import Cells, calendar_steps
from vbceval.bayes.coefficients import Structure
from vbceval.bayes.counts.cells import CountCells
from vbceval.core.typing import FloatArray, IntArray

_CHUNK = 4_000_000
"""Numbers in the covariances of one block: larger ones are split, so that memory is bounded."""


class Places(NamedTuple):
    """Unit of the cluster, stratum and period of each of the n places of a grid, shape (n,) each."""

    unit: IntArray
    stratum: IntArray
    period: IntArray

    @property
    def block(self) -> IntArray:
        """Code of unit and stratum, whose cells share an intercept."""
        return self.unit * (int(self.stratum.max()) + 1) + self.stratum


class Block(NamedTuple):
    """
    Clusters with the same number of units: C clusters in G groups that share regressors, n places.

    A place without a cell has neither events nor size, and so no weight.

    Parameters
    ----------
    places : Places
        The grid.
    cell : array of int, shape (C, n)
        Cell of each place; -1 for none.
    cluster : array of int, shape (C,)
        Codes of clusters, those of a group together.
    group, start : array of int, shapes (C,), (G,)
        Group of each cluster; first cluster of each group.
    x : array, shape (G, n, Q)
        Regressors at unit scale.
    treated : array, shape (G, n)
        1 in treated places.
    y, size, centre : array, shapes (C, n), (C, n), (n,)
        Events, trials or exposure; linear predictor about which levels are centred.
    """

    places: Places
    cell: IntArray
    cluster: IntArray
    group: IntArray
    start: IntArray
    x: FloatArray
    treated: FloatArray
    y: FloatArray
    size: FloatArray
    centre: FloatArray

    def by_group(self, values: FloatArray) -> FloatArray:
        """Return sums over the clusters of each group, of an array (P, C, ...)."""
        return np.asarray(np.add.reduceat(values, self.start, axis=1))


@dataclass(frozen=True, eq=False, kw_only=True)
class Field:
    """
    All that Newton steps read of the data.

    Parameters
    ----------
    data : CountCells
        Counts.
    parts : Structure
        Coefficients of period effects, slopes and effects.
    blocks : tuple of Block
        Every cluster is in one of them.
    levels : array of int, shape (L, 2)
        Stratum and cohort (0 never treated) of each level; coefficients begin with these, then
        one a covariate, then those of `parts` in the order of `vbceval.bayes.coefficients.split`.
    steps : array, shape (T,)
        Periods on the scale of the autocorrelation.
    several : bool
        Whether organizations have more than one unit x stratum.
    """

    data: CountCells
    parts: Structure
    blocks: tuple[Block, ...]
    levels: IntArray
    steps: FloatArray
    several: bool

    @property
    def n_fixed(self) -> int:
        """Coefficients of levels and of covariates."""
        return len(self.levels) + int(self.data.cells.x.shape[1])

    @property
    def n_coefficients(self) -> int:
        """Number of coefficients, Q."""
        moving = self.data.cells.n_strata + int(self.data.cells.x.shape[1])
        return self.n_fixed + moving * (len(self.steps) - 1) + len(self.parts.part)


class Spread(NamedTuple):
    """
    Variances of random effects at P points, shape (P,) each.

    Parameters
    ----------
    intercept, block : array
        Of organizations' intercepts, and of those of their units and strata.
    common, specific, lasting, rho : array
        As in `vbceval.bayes.likelihood.Scales`.
    dispersion : array
        Coefficient of variation of the rate of a cell.
    """

    intercept: FloatArray
    block: FloatArray
    common: FloatArray
    specific: FloatArray
    lasting: FloatArray
    rho: FloatArray
    dispersion: FloatArray


def correlation(steps: FloatArray, rho: FloatArray) -> FloatArray:
    """Return the autocorrelation of shocks, shape (P, T, T), at rho of shape (P,)."""
    gaps = np.abs(steps[:, None] - steps)
    return np.asarray(np.power(np.asarray(rho)[:, None, None], gaps))


def covariance(
    block: Block, steps: FloatArray, spread: Spread, *, lasting: bool = True
) -> FloatArray:
    """
    Return the prior covariance of random effects in the places of each group, (P, G, n, n).

    Parameters
    ----------
    block : Block
        Clusters.
    steps : array, shape (T,)
        Periods on the scale of the autocorrelation.
    spread : Spread
        Variances at P points.
    lasting : bool
        With organizations' own effects, or without.
    """
    at = block.places
    r = correlation(steps, spread.rho)[:, at.period[:, None], at.period]
    same_stratum = at.stratum[:, None] == at.stratum
    same_block = at.block[:, None] == at.block

    def wide(values: FloatArray) -> FloatArray:
        return np.asarray(values, dtype=float)[:, None, None]

    shared = wide(spread.intercept) + wide(spread.block) * same_block
    shared = shared + r * (wide(spread.common) + wide(spread.specific) * same_stratum)
    if not lasting:
        return np.broadcast_to(shared[:, None], (len(r), len(block.x), *shared.shape[1:]))
    own = block.treated[:, :, None] * block.treated[:, None, :]
    return np.asarray(shared[:, None] + wide(spread.lasting)[..., None] * own)


def arrange(data: CountCells, parts: Structure, *, every: int = 1) -> Field:
    """
    Lay cells out on grids.

    Parameters
    ----------
    data : CountCells
        Counts.
    parts : Structure
        Coefficients of the mean.
    every : int, default 1
        Keep one cluster in so many, of each number of units, evenly over cohorts.
    """
    cells = data.cells
    cohort = _cohort_of_cell(cells)
    levels = np.unique(np.column_stack([cells.stratum, cohort]), axis=0)
    effect = np.full((int(cohort.max()) + 1, cells.n_strata, len(cells.periods)), -1)
    effect[cohort, cells.stratum, cells.period] = np.maximum(
        effect[cohort, cells.stratum, cells.period], cells.effect_of_cell
    )
    owned = [np.unique(cells.unit[cells.cluster == c]) for c in range(len(cells.clusters))]
    blocks: list[Block] = []
    for n_units in sorted({len(units) for units in owned}):
        members = [c for c, units in enumerate(owned) if len(units) == n_units]
        blocks += _blocks(
            data, parts, members, [owned[c] for c in members], cohort, effect, levels, every
        )
    return Field(
        data=data, parts=parts, blocks=tuple(blocks), levels=levels,
        steps=calendar_steps(cells.periods),
        several=cells.n_strata > 1 or max(len(units) for units in owned) > 1,
    )  # fmt: skip


def _cohort_of_cell(cells: Cells) -> IntArray:
    """Return the cohort of each cell's unit: 0 where it has no treated cell, else 1 and more."""
    codes = np.append(cells.effects["cohort_code"].to_numpy(), -1)[cells.effect_of_cell] + 1
    by_unit = np.zeros(int(cells.unit.max()) + 1, dtype=np.int64)
    np.maximum.at(by_unit, cells.unit, codes)
    return by_unit[cells.unit]


def _blocks(
    data: CountCells, parts: Structure, members: list[int], owned: list[IntArray],
    cohort: IntArray, effect: IntArray, levels: IntArray, every: int,
) -> Iterator[Block]:  # fmt: skip
    """Yield the blocks of clusters that have the same number of units."""
    cells = data.cells
    s, t, u = cells.n_strata, len(cells.periods), len(owned[0])
    grid = np.indices((u, s, t)).reshape(3, -1)
    places = Places(*grid)
    row = np.full(len(cells.clusters), -1)
    row[members] = np.arange(len(members))
    mine = np.flatnonzero(row[cells.cluster] >= 0)
    slot = np.zeros(int(cells.unit.max()) + 1, dtype=np.int64)
    for units in owned:
        slot[units] = np.arange(u)
    at = (slot[cells.unit[mine]] * s + cells.stratum[mine]) * t + cells.period[mine]
    cell = np.full((len(members), u * s * t), -1)
    cell[row[cells.cluster[mine]], at] = mine
    # what a place has of its unit: cohort, and covariates of its unit and stratum
    of_unit = np.zeros((len(members), u))
    of_unit[row[cells.cluster[mine]], slot[cells.unit[mine]]] = cohort[mine]
    p = cells.x.shape[1]
    x = np.zeros((len(members), u * s, p))
    x[row[cells.cluster[mine]], at // t] = cells.x[mine]
    keys = np.hstack([of_unit, x.reshape(len(members), -1)])
    distinct, group = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")[::every]
    regressors = [_regressors(data, parts, places, row[:u], row[u:].reshape(u * s, p), effect, levels)
                  for row in distinct]  # fmt: skip
    length = max(1, _CHUNK // (u * s * t) ** 2)
    for begin in range(0, len(order), length):
        chosen = order[begin : begin + length]
        names, start, codes = np.unique(
            group.ravel()[chosen], return_index=True, return_inverse=True
        )
        index, there = cell[chosen], cell[chosen] >= 0
        yield Block(
            places=places, cell=index, cluster=np.array(members)[chosen], group=codes, start=start,
            x=np.array([regressors[g][0] for g in names]),
            treated=np.array([regressors[g][1] for g in names]),
            y=np.where(there, data.events[index], 0.0), size=np.where(there, data.size[index], 0.0),
            centre=data.centre[places.stratum],
        )  # fmt: skip


def _regressors(
    data: CountCells, parts: Structure, places: Places, cohort: FloatArray, x: FloatArray,
    effect: IntArray, levels: IntArray,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Return the regressors (n, Q) of the places of a cluster, and which of them are treated."""
    own = cohort.astype(np.int64)[places.unit]
    found = effect[own, places.stratum, places.period]
    level = (levels[:, 0] == places.stratum[:, None]) & (levels[:, 1] == own[:, None])
    values = x[places.block]
    basis = parts.zero_sum[places.period]
    trend = [basis * (places.stratum == s)[:, None] for s in range(data.cells.n_strata)]
    slope = [basis * column[:, None] for column in values.T]
    effects = np.vstack([parts.loading, np.zeros((1, parts.loading.shape[1]))])
    columns = np.hstack([level.astype(float), values, *trend, *slope, effects[found]])
    return columns, (found >= 0).astype(float)
