"""Log likelihood of each cluster at draws, its random effects integrated out by Laplace."""

from __future__ import annotations

import numpy as np

from vbceval.bayes.counts.families import constant, log_likelihood
from vbceval.bayes.counts.field import Block, Field, covariance
from vbceval.bayes.counts.laplace import At, factor, first_guess, mean_of, times
from vbceval.core.typing import FloatArray

_STEPS, _TOLERANCE = 60, 1e-5


def log_likelihood_by_cluster(field: Field, at: At, v: FloatArray) -> FloatArray:
    """
    Return the log probability of each cluster's counts given coefficients and variances.

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
    array, shape (P, C)
        By code of cluster.
    """
    out = np.empty((len(v), len(field.data.cells.clusters)))
    for block, guess in zip(field.blocks, first_guess(field, len(v)), strict=True):
        out[:, block.cluster] = _of_block(field, block, at, v, guess)
    return out


def _of_block(field: Field, block: Block, at: At, v: FloatArray, guess: FloatArray) -> FloatArray:
    family, dispersion = field.data.family, at.spread.dispersion[:, None, None]
    kernel = np.ascontiguousarray(covariance(block, field.steps, at.spread))
    k, mean = kernel[:, block.group], block.centre + mean_of(block, at, v)

    def density(alpha: FloatArray) -> tuple[FloatArray, FloatArray]:
        g = times(k, alpha)
        eta = mean + g
        inside = np.clip(eta, -30.0, 30.0)
        value = log_likelihood(family, inside, block.y, block.size, dispersion)
        return eta, value.sum(axis=2) - 0.5 * (alpha * g).sum(axis=2)

    alpha = np.zeros_like(mean)
    eta, value = density(alpha)
    start = guess
    for _ in range(_STEPS):
        ahead = factor(field, block, kernel, at, start, mean).target
        share = np.ones_like(value)
        for _ in range(25):
            reached = alpha + share[..., None] * (ahead - alpha)
            onward, better = density(reached)
            down = ~(better >= value - 1e-10 * (1.0 + np.abs(value)))
            if not down.any():
                break
            share = np.where(down, 0.5 * share, share)
        moved = float(np.abs(onward - eta).max())
        alpha, eta, value, start = reached, onward, better, onward
        if not moved > _TOLERANCE:
            break
    found = factor(field, block, kernel, at, eta, mean)
    cov = k - k @ found.m @ k
    third, variance = found.slopes.third, np.diagonal(cov, axis1=-2, axis2=-1)
    bend = 0.5 * third * variance
    terms = 0.125 * found.slopes.fourth * variance**2 + 0.5 * bend * times(cov, bend)
    terms += third * times(cov * cov * cov, third) / 12.0
    terms += constant(family, block.y, block.size)
    return np.asarray(value - 0.5 * found.logdet + terms.sum(axis=2))
