"""Draws of coefficients and linear predictors, and what is reported of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from vbceval.bayes.counts.engine import CountMarginal
from vbceval.bayes.counts.families import rate
from vbceval.bayes.counts.field import Block, Field, Spread, correlation, covariance
from vbceval.bayes.counts.laplace import Approximation, At
from vbceval.bayes.counts.predictive import Seen, discrepancy, residual_statistics
from vbceval.bayes.predictive import Discrepancy, thinned
from vbceval.bayes.quadrature import Nodes
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray, IntArray


class Latent(NamedTuple):
    """
    Draws of the latent field at one value of the variance parameters; D draws.

    Parameters
    ----------
    v : array, shape (D, Q)
        Standardised coefficients.
    untreated : list of array, each (D, C, n)
        Linear predictors without any effect, of each block.
    own : list of array, each (D, C)
        Organizations' own deviations of the effect.
    """

    v: FloatArray
    untreated: list[FloatArray]
    own: list[FloatArray]


@dataclass(frozen=True, eq=False, kw_only=True)
class Reported:
    """
    What is kept of draws; N draws.

    Parameters
    ----------
    v : array, shape (N, Q)
        Standardised coefficients.
    percent : array, shape (N, J)
        Difference that the effect makes to the rate, averaged over the cells of each effect by
        trials or exposure, percent of the stratum's baseline.
    own : array, shape (N, C)
        Organizations' own deviations; 0 where there are none.
    statistics : Discrepancy
        Of replicated and observed counts, at some of the draws.
    counts : array, shape (D, K)
        Replicated counts, at those of them that memory allows.
    """

    v: FloatArray
    percent: FloatArray
    own: FloatArray
    statistics: Discrepancy
    counts: FloatArray


class Reporter:
    """
    Collect what is reported, draw after draw.

    Parameters
    ----------
    field : Field
        Counts.
    size : int
        Number of draws.
    checked : array of int
        Draws at which counts are replicated.
    seed : int
        Seed of the replicated counts.
    """

    def __init__(self, field: Field, size: int, checked: IntArray, seed: int) -> None:
        cells = field.data.cells
        self.field, self._seed = field, seed
        self._checked = np.zeros(size, dtype=bool)
        self._checked[checked] = True
        self._found: dict[int, Seen] = {}
        kept = checked[thinned(len(checked), len(cells.y))] if len(checked) else checked
        self._counts: dict[int, FloatArray] = dict.fromkeys(kept.tolist(), np.zeros(0))
        self.v = np.empty((size, field.n_coefficients))
        self.percent = np.zeros((size, len(cells.effects)))
        self.own = np.zeros((size, len(cells.clusters)))
        n_effects = len(cells.effects)
        treated = cells.effect_of_cell >= 0
        exposure = np.bincount(
            cells.effect_of_cell[treated], cells.exposure[treated], minlength=n_effects
        )
        base = cells.baseline[cells.effects["stratum_code"].to_numpy()]
        self._means = [_means_by_effect(b, cells.effect_of_cell, n_effects) for b in field.blocks]
        self.unit = 100.0 / (exposure * base)

    def add(self, places: IntArray, found: Latent, at: At) -> None:
        """
        Add draws that have the same variances.

        Parameters
        ----------
        places : array of int, shape (D,)
            Which of all draws they are.
        found : Latent
            The draws.
        at : At
            Their variances, one point.
        """
        field, family = self.field, self.field.data.family
        self.v[places] = found.v
        own = len(field.parts.part)
        steps = (at.scale[0] * found.v)[:, -own:]
        eta = np.zeros((len(places), len(field.data.events)))
        for block, base, deviation, (chosen, sums) in zip(
            field.blocks, found.untreated, found.own, self._means, strict=True
        ):
            effect = (steps @ block.x[:, :, -own:].transpose(0, 2, 1)).transpose(1, 0, 2)
            effect = effect[:, block.group]
            before = base.reshape(len(places), -1)[:, chosen]
            after = before + effect.reshape(len(places), -1)[:, chosen]
            self.percent[places] += (rate(family, after) - rate(family, before)) @ sums
            self.own[np.ix_(places, block.cluster)] = deviation
            there = block.cell >= 0
            full = base + effect + deviation[..., None] * block.treated[block.group]
            eta[:, block.cell[there]] = full[:, there]
        for i, place in enumerate(places):
            if self._checked[place]:
                rng = generator(self._seed, "predictive", int(place))
                dispersion = float(at.spread.dispersion[0])
                seen = residual_statistics(field.data, eta[i], dispersion, rng)
                if int(place) in self._counts:
                    self._counts[int(place)] = seen.counts
                # not one copy of all cells for each draw
                self._found[int(place)] = seen._replace(counts=np.zeros(0))

    def result(self) -> Reported:
        """Return everything, once all draws were added."""
        found = [self._found[i] for i in sorted(self._found)]
        statistics = discrepancy(self.field.data, found)
        return Reported(
            v=self.v, percent=self.percent * self.unit, own=self.own, statistics=statistics,
            counts=np.array(list(self._counts.values())),
        )  # fmt: skip


def _means_by_effect(block: Block, effect_of_cell: IntArray, n: int) -> tuple[IntArray, Any]:
    """Return treated places of a block that have a cell, and the sums over them by effect."""
    cell = block.cell.ravel()
    code = np.where(cell >= 0, effect_of_cell[cell], -1)
    chosen = np.flatnonzero(code >= 0)
    shape = (len(chosen), n)
    sums = sparse.csr_array(
        (block.size.ravel()[chosen], (np.arange(len(chosen)), code[chosen])), shape=shape
    )
    return chosen, sums


def draw_latent(
    marginal: CountMarginal, nodes: Nodes, picked: IntArray, *, seed: int
) -> Iterator[tuple[IntArray, Latent, At]]:
    """
    Yield draws from the mixture over nodes: places of draws, draws, and their variances.

    Draws of a node come in pairs that are each other's reflection about the corrected mean.

    Parameters
    ----------
    marginal : CountMarginal
        The density.
    nodes : Nodes
        Its nodes.
    picked : array of int, shape (N,)
        Node of each draw.
    seed : int
        Seed.
    """
    rng = generator(seed, "draws", "counts")
    used = np.unique(picked)
    for start in range(0, len(used), marginal.at_once):
        some = used[start : start + marginal.at_once]
        at, found = marginal.values(nodes.points[some]), marginal.approximated(nodes.points[some])
        for i, node in enumerate(some):
            here, one = np.flatnonzero(picked == node), at.one(i)
            yield here, conditional(marginal.grid, one, found.one(i), len(here), rng), one


def conditional(
    field: Field, at: At, found: Approximation, size: int, rng: np.random.Generator
) -> Latent:
    """
    Draw the latent field at one point from its normal law with corrected mean.

    Random effects are drawn from their prior and then moved by what the data say of them, so that
    no covariance has to be factorised.

    Parameters
    ----------
    field : Field
        Counts.
    at : At
        Variances, one point.
    found : Approximation
        The law there.
    size : int
        Number of draws.
    rng : Generator
        Source.
    """
    half = (size + 1) // 2
    q, own = field.n_coefficients, len(field.parts.part)
    back = np.linalg.inv(found.root[0])
    away = rng.standard_normal((half, q)) @ back
    mode, shift, scale = found.state.v[0], found.shift[0], at.scale[0]
    v = _paired(mode + shift, away, size)
    untreated, deviations = [], []
    for block, f, gamma in zip(field.blocks, found.factors, found.gamma, strict=True):
        kernel = covariance(block, field.steps, at.spread, lasting=False)[0, block.group]
        treated, lasting = block.treated[block.group], float(at.spread.lasting[0])
        m, root = f.m[0], np.sqrt(f.slopes.weight[0])
        first, theta = random_effects(block, field.steps, at.spread, half, rng)
        followed = (away * scale) @ block.x.transpose(0, 2, 1)
        pull = followed.transpose(1, 0, 2)[:, block.group] + first + theta[..., None] * treated
        # M W^-1/2 noise; a place without weight has none
        noise = rng.standard_normal(first.shape) / np.where(root > 0, root, np.inf)
        alpha = -_matrix(m, pull + noise)
        mean = f.target[0] - _matrix(m, ((block.x @ (scale * mode))[block.group])[None])[0]
        mean = mean + gamma[0]
        g = _paired(_matrix(kernel, mean[None])[0], first + _matrix(kernel, alpha), size)
        fixed = (v * scale)[:, :-own] @ block.x[:, :, :-own].transpose(0, 2, 1)
        untreated.append(block.centre + fixed.transpose(1, 0, 2)[:, block.group] + g)
        toward = lasting * (treated * mean).sum(axis=1)
        deviations.append(_paired(toward, theta + lasting * (treated * alpha).sum(axis=2), size))
    return Latent(v, untreated, deviations)


def _paired(mean: FloatArray, away: FloatArray, size: int) -> FloatArray:
    """Return draws on both sides of their mean, shape (size, ...)."""
    return np.concatenate([mean + away, mean - away])[:size]


def _matrix(matrix: FloatArray, values: FloatArray) -> FloatArray:
    """Return a matrix of each cluster, (C, n, n), times values (D, C, n)."""
    return np.asarray((matrix @ values.transpose(1, 2, 0)).transpose(2, 0, 1))


def random_effects(
    block: Block, steps: FloatArray, spread: Spread, size: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return random effects without own deviations, (D, C, n), and deviations, (D, C), a priori."""
    at, c = block.places, len(block.cluster)
    s, t = int(at.stratum.max()) + 1, len(steps)
    root = np.linalg.cholesky(correlation(steps, spread.rho[:1])[0] + 1e-12 * np.eye(t))
    out = np.sqrt(spread.intercept[0]) * rng.standard_normal((size, c, 1))
    units = np.sqrt(spread.block[0]) * rng.standard_normal((size, c, int(at.block.max()) + 1))
    shocks = rng.standard_normal((size, c, 1 + s, t)) @ root.T
    out = out + units[..., at.block] + np.sqrt(spread.common[0]) * shocks[:, :, 0, at.period]
    out = out + np.sqrt(spread.specific[0]) * shocks[:, :, 1 + at.stratum, at.period]
    return out, np.sqrt(spread.lasting[0]) * rng.standard_normal((size, c))
