"""Exact posterior of organization-by-period rates, integrated over a grid of two variances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special

from vbceval.core.errors import EstimationError
from vbceval.core.typing import BoolArray, FloatArray, IntArray

_ZOOM_POINTS, _POINTS = 9, 21
_ZOOMS = 7
_NEGLIGIBLE = 1e-7
_UPPER = 6.0
"""The priors are cut at this many scales; a half-normal has 2e-9 of its mass beyond."""


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """
    Rates of m organizations in T periods, with the sampling covariance inside each organization.

    Parameters
    ----------
    rate : array, shape (m, T)
        Observed rates; 0 where there is none.
    seen : array of bool, shape (m, T)
        Where there is a rate.
    noise : array, shape (m, T, T)
        Sampling covariance; 0 in rows and columns that are not seen.
    """

    rate: FloatArray
    seen: BoolArray
    noise: FloatArray


class Node(NamedTuple):
    """Posterior given one pair of variances: `gain` (m, T, T) is signal times inverse total."""

    log_density: float
    period_mean: FloatArray
    period_cov: FloatArray
    gain: FloatArray

    def mean(self, blocks: Blocks) -> FloatArray:
        """Posterior mean of the true rates, shape (m, T)."""
        shift = np.where(blocks.seen, blocks.rate - self.period_mean, 0.0)
        return np.asarray(self.period_mean + np.einsum("mts,ms->mt", self.gain, shift))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """
    Nodes of the two standard deviations with their posterior weights.

    Parameters
    ----------
    sd : array, shape (H, 2)
        Organization and year standard deviation of each node.
    width : array, shape (2,)
        Size of the cell around a node.
    weight : array, shape (H,)
        Posterior probability; sums to 1.
    mean : array, shape (m, T)
        Posterior mean of the true rates, over all nodes.
    period_mean : array, shape (T,)
        Posterior mean of the period means.
    """

    sd: FloatArray
    width: FloatArray
    weight: FloatArray
    mean: FloatArray
    period_mean: FloatArray


def at_node(blocks: Blocks, organization_var: float, year_var: float, *, mean_sd: float) -> Node:
    """
    Return the normal posterior for known variances, the period means integrated out.

    Parameters
    ----------
    blocks : Blocks
        Rates and their sampling covariance.
    organization_var, year_var : float
        Variances of what lasts in an organization, and of what is real but of one year.
    mean_sd : float
        Prior standard deviation of each period mean, around 0.
    """
    seen = blocks.seen.astype(float)
    each = np.einsum("mt,ts->mts", seen, np.eye(seen.shape[1]))
    signal = organization_var * seen[:, :, None] * seen[:, None, :] + year_var * each
    # a unit diagonal where nothing is seen keeps the factors regular and adds nothing
    total = signal + blocks.noise + np.eye(seen.shape[1]) - each
    factor = np.linalg.cholesky(total)
    log_det = 2 * float(np.log(np.einsum("mtt->mt", factor)).sum())
    inverse = np.linalg.inv(total) * seen[:, :, None] * seen[:, None, :]
    pulled = np.einsum("mts,ms->mt", inverse, blocks.rate)
    precision = inverse.sum(axis=0) + np.eye(seen.shape[1]) / mean_sd**2
    period_cov = np.linalg.inv(precision)
    score = pulled.sum(axis=0)
    period_mean = period_cov @ score
    quadratic = float(np.sum(pulled * blocks.rate) - score @ period_mean)
    log_scale = np.linalg.slogdet(precision)[1] + 2 * len(score) * np.log(mean_sd)
    return Node(
        log_density=-0.5 * (log_det + quadratic + float(log_scale)),
        period_mean=period_mean,
        period_cov=period_cov,
        gain=signal @ inverse,
    )


def integrate(
    blocks: Blocks, *, sd_scale: float, mean_sd: float, organization_effect: bool
) -> Grid:
    """
    Integrate over the standard deviations, half-normal(`sd_scale`), on a grid that zooms in.

    Parameters
    ----------
    blocks : Blocks
        Rates and their sampling covariance.
    sd_scale, mean_sd : float
        Scales of the priors, in the unit of the rates.
    organization_effect : bool
        False fixes the organization's standard deviation at 0.
    """
    box = np.array(
        [[0.0, _UPPER * sd_scale if organization_effect else 0.0], [0.0, _UPPER * sd_scale]]
    )
    for _ in range(_ZOOMS):
        sd, log_density, _ = _evaluate(blocks, box, _ZOOM_POINTS, sd_scale, mean_sd, False)
        smaller = _zoom(box, sd, _weights(log_density))
        shrunk = np.ptp(smaller, axis=1) < 0.8 * np.ptp(box, axis=1)
        box = smaller
        if not shrunk.any():
            break
    sd, log_density, means = _evaluate(blocks, box, _POINTS, sd_scale, mean_sd, True)
    weight = _weights(log_density)
    if 1 / np.sum(weight**2) < 2.5:
        raise EstimationError(
            "the posterior of the standard deviations is too narrow for the grid. Check that the "
            "sampling errors are in the unit of the rates (fractions)."
        )
    rates = np.array([m for m, _ in means])
    periods = np.array([p for _, p in means])
    return Grid(
        sd=sd,
        width=np.ptp(box, axis=1) / _POINTS,
        weight=weight,
        mean=np.einsum("h,hmt->mt", weight, rates),
        period_mean=weight @ periods,
    )


def _evaluate(
    blocks: Blocks, box: FloatArray, points: int, sd_scale: float, mean_sd: float, keep: bool
) -> tuple[FloatArray, FloatArray, list[tuple[FloatArray, FloatArray]]]:
    """Return nodes (H, 2) at the middles of cells, log densities (H,), and means if `keep`."""
    axes = []
    for low, high in box:
        edges = np.linspace(low, high, points + 1)
        axes.append((edges[1:] + edges[:-1]) / 2 if high > low else np.array([low]))
    sd = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    log_density = np.empty(len(sd))
    means = []
    for h, (organization, year) in enumerate(sd):
        node = at_node(blocks, organization**2, year**2, mean_sd=mean_sd)
        log_density[h] = node.log_density - 0.5 * (organization**2 + year**2) / sd_scale**2
        if keep:
            means.append((node.mean(blocks), node.period_mean))
    return sd, log_density, means


def _weights(log_density: FloatArray) -> FloatArray:
    return np.asarray(special.softmax(log_density), dtype=float)


def _zoom(box: FloatArray, sd: FloatArray, weight: FloatArray) -> FloatArray:
    """Return the box of the cells that matter, and one cell more on each side."""
    smaller = box.copy()
    for axis, (low, high) in enumerate(box):
        if high <= low:
            continue
        values, inverse = np.unique(sd[:, axis], return_inverse=True)
        mass = np.bincount(inverse, weights=weight)
        used = values[mass > _NEGLIGIBLE]
        width = (high - low) / len(values)
        smaller[axis] = max(low, used[0] - 1.5 * width), min(high, used[-1] + 1.5 * width)
    return smaller


def draw(
    blocks: Blocks, grid: Grid, size: int, rng: np.random.Generator, *, mean_sd: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """
    Draw from the joint posterior.

    Parameters
    ----------
    blocks, grid : Blocks, Grid
        As integrated.
    size : int
        Number of draws S.
    rng : Generator
        Source of the draws.
    mean_sd : float
        Prior standard deviation of the period means.

    Returns
    -------
    rate : array, shape (S, m, T)
        True rates; meaningless where nothing is seen.
    period_mean : array, shape (S, T)
        Period means.
    sd : array, shape (S, 2)
        Organization and year standard deviation, spread evenly over the cell of their node.
    """
    m, periods = blocks.rate.shape
    chosen = np.sort(rng.choice(len(grid.weight), size=size, p=grid.weight))
    hidden = np.eye(periods) * ~blocks.seen[:, None, :]
    noise_root = np.linalg.cholesky(blocks.noise + hidden)
    rate, period_mean = np.empty((size, m, periods)), np.empty((size, periods))
    for h in np.unique(chosen):
        at: IntArray = np.flatnonzero(chosen == h)
        organization, year = grid.sd[h]
        node = at_node(blocks, organization**2, year**2, mean_sd=mean_sd)
        root = np.linalg.cholesky(node.period_cov)
        centre = node.period_mean + rng.standard_normal((len(at), periods)) @ root.T
        # a draw from the prior, moved by what the data say about it (Matheron's rule)
        signal = organization * rng.standard_normal((len(at), m, 1))
        signal = signal + year * rng.standard_normal((len(at), m, periods))
        noise = np.einsum("mts,hms->hmt", noise_root, rng.standard_normal((len(at), m, periods)))
        surprise = np.where(blocks.seen, blocks.rate - centre[:, None] - signal - noise, 0.0)
        moved = np.einsum("mts,hms->hmt", node.gain, surprise)
        rate[at] = centre[:, None] + signal + moved
        period_mean[at] = centre
    order = rng.permutation(size)
    sd = grid.sd[chosen] + grid.width * (rng.random((size, 2)) - 0.5)
    return rate[order], period_mean[order], sd[order]
