"""What each cluster's counts say at draws, its random effects integrated out by Laplace."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.bayes.counts.curvature import compiled
from vbceval.bayes.counts.families import constant, log_likelihood
from vbceval.bayes.counts.field import Block, Field, covariance
from vbceval.bayes.counts.laplace import (
    HALVINGS,
    MOST,
    STEPS,
    TOLERANCE,
    At,
    factor,
    first_guess,
    mean_of,
    of_group,
    over,
    times,
)
from vbceval.core.typing import FloatArray


class ByCluster(NamedTuple):
    """
    What the counts of clusters say given coefficients and variances; P draws, C clusters.

    Parameters
    ----------
    log_likelihood : array, shape (P, C)
        Log probability of the counts.
    raw : array, shape (P, C)
        Own deviation of the effect as the counts alone have it, not shrunken; missing where a
        cluster has no treated cell.
    signal : array, shape (P, C)
        Share of `raw` in the mean of the deviation; its prior variance is left to one minus that.
    """

    log_likelihood: FloatArray
    raw: FloatArray
    signal: FloatArray


def by_cluster(field: Field, at: At, v: FloatArray) -> ByCluster:
    """
    Return what each cluster's counts say given coefficients and variances.

    Parameters
    ----------
    field : Field
        Counts.
    at : At
        Variances of P draws.
    v : array, shape (P, Q)
        Coefficients of the draws.

    Returns
    -------
    ByCluster
        By code of cluster.
    """
    out = ByCluster(*[np.empty((len(v), len(field.data.cells.clusters))) for _ in range(3)])
    for block, guess in zip(field.blocks, first_guess(field, len(v)), strict=True):
        for kept, found in zip(out, _of_block(field, block, at, v, guess), strict=True):
            kept[:, block.cluster] = found
    return out


def _of_block(field: Field, block: Block, at: At, v: FloatArray, guess: FloatArray) -> ByCluster:
    family, dispersion = field.data.family, at.spread.dispersion[:, None, None]
    kernel = np.ascontiguousarray(covariance(block, field.steps, at.spread))
    mean = block.centre + mean_of(block, at, v)

    def density(alpha: FloatArray) -> tuple[FloatArray, FloatArray]:
        g = of_group(block, kernel, alpha)
        eta = mean + g
        inside = np.clip(eta, -MOST, MOST)
        value = log_likelihood(family, inside, block.y, block.size, dispersion)
        return eta, value.sum(axis=2) - 0.5 * (alpha * g).sum(axis=2)

    alpha = np.zeros_like(mean)
    eta, value = density(alpha)
    start = guess
    for _ in range(STEPS):
        ahead = factor(field, block, kernel, at, start, mean).target
        share = np.ones_like(value)
        for _ in range(HALVINGS):
            reached = alpha + share[..., None] * (ahead - alpha)
            onward, better = density(reached)
            down = ~(better >= value - 1e-10 * (1.0 + np.abs(value)))
            if not down.any():
                break
            share = np.where(down, 0.5 * share, share)
        change = float(np.abs(onward - eta).max())
        alpha, eta, value, start = reached, onward, better, onward
        if not change > TOLERANCE:
            break
    found = factor(field, block, kernel, at, eta, mean)
    weight, third = found.slopes.weight, found.slopes.third
    variance, cubic = np.empty_like(eta), np.empty_like(value)
    # coefficients are known, so that the covariance is that of random effects
    compiled().next_order(0, weight, third, found.m, variance, cubic)
    bend = 0.5 * third * variance
    moved = over(bend - times(found.m, over(bend, weight)), weight)
    terms = 0.125 * found.slopes.fourth * variance**2 + 0.5 * bend * moved
    terms += constant(family, block.y, block.size)
    treated = block.treated[block.group]
    known = (treated * times(found.m, np.broadcast_to(treated, mean.shape))).sum(axis=2)
    toward = (treated * alpha).sum(axis=2)
    raw = np.divide(toward, known, out=np.full_like(known, np.nan), where=known > 0)
    signal = at.spread.lasting[:, None] * known
    whole = value - 0.5 * found.logdet + terms.sum(axis=2) + cubic / 12.0
    return ByCluster(whole, raw, signal)
