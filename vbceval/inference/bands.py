"""Simultaneous bands and tests: the law of the largest |t| of several (sup-t)."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from scipy import special

from vbceval.core.typing import FloatArray

SOBOL_LOG2_POINTS = 17
"""2^14 points leave 0.3% error in the critical value at 25 rows; 2^17 do not."""
_BLOCK_VALUES = 1 << 23
_SCALES = 1 << 9
# what is left of a correlation of 1 after rounding is no variation
_NO_VARIATION = 1e-10


def sup_t(vcov: FloatArray, *, df: float = np.inf, seed: int = 20210101) -> FloatArray:
    """
    Draw the largest absolute t statistic of a jointly normal vector, by scrambled Sobol points.

    Its quantile at `level` is the critical value of a simultaneous band (sup-t band). It is
    deterministic given `seed`, lies between the pointwise and the Bonferroni value, and exists
    when `vcov` has less than full rank.

    Parameters
    ----------
    vcov : array, shape (k, k)
        Joint covariance. Rows with zero variance (a reference period) are left out.
    df : float, default infinity
        Degrees of freedom of the common scale; infinity is the normal.
    seed : int
        Seed of the scrambling.

    Returns
    -------
    array, shape (2**17,)
        Sorted maxima; `numpy.quantile` of it at the level is the critical value.

    References
    ----------
    .. [1] Montiel Olea, J. L. and Plagborg-Møller, M. (2019). Simultaneous confidence bands:
       theory, implementation, and an application to SVARs. *Journal of Applied Econometrics*
       34(1), 1-17. Algorithm 1.
    """
    sd = np.sqrt(np.clip(np.diag(vcov), 0.0, None))
    keep = sd > 0
    if not keep.any():
        return np.zeros(1)
    corr = vcov[np.ix_(keep, keep)] / np.outer(sd[keep], sd[keep])
    maxima = np.concatenate([z.max(axis=1) for z in _absolute_normals(corr, seed)])
    return _scaled(np.sort(maxima), df, seed)


def step_down(
    t: FloatArray, vcov: FloatArray, *, df: float = np.inf, seed: int = 20210101
) -> FloatArray:
    """
    Return p-values adjusted for several tests by steps down the joint law (Westfall-Young).

    The largest |t| is compared with the law of the largest of all, the next with that of the
    largest of the rest, and so on; a later p-value is never below an earlier one. The chance of any
    false rejection is controlled whatever the truth of the others, as in Romano and Wolf.

    Parameters
    ----------
    t : array, shape (k,)
        Statistics.
    vcov : array, shape (k, k)
        Joint covariance of what was tested, variances above zero.
    df : float, default infinity
        Degrees of freedom of the common scale.
    seed : int
        Seed of the draws.

    Returns
    -------
    array, shape (k,)
        Adjusted p-values, in the order given. Cost O(k^2) for each of 2^17 draws.

    References
    ----------
    .. [1] Romano, J. P. and Wolf, M. (2005). Exact and approximate stepdown methods for multiple
       hypothesis testing. *JASA* 100(469), 94-108. Section 4.
    """
    order = np.argsort(-np.abs(t), kind="stable")
    sd = np.sqrt(np.diag(vcov))[order]
    corr = vcov[np.ix_(order, order)] / np.outer(sd, sd)
    p_values = np.empty(len(t))
    largest = np.concatenate(
        # of each test and all after it
        [np.maximum.accumulate(z[:, ::-1], axis=1)[:, ::-1] for z in _absolute_normals(corr, seed)]
    )
    for step, row in enumerate(order):
        law = _scaled(np.sort(largest[:, step]), df, seed)
        reached = len(law) - np.searchsorted(law, abs(t[row]) * (1 - _NO_VARIATION))
        p_values[row] = reached / len(law)
    p_values[order] = np.maximum.accumulate(p_values[order])
    return p_values


def _absolute_normals(corr: FloatArray, seed: int) -> Iterator[FloatArray]:
    """Yield blocks of |z|, z jointly normal, from scrambled Sobol points."""
    from scipy.stats import qmc

    root = _root(corr)
    sampler = qmc.Sobol(root.shape[1], scramble=True, rng=np.random.default_rng(seed))
    total = 1 << SOBOL_LOG2_POINTS
    block = 1 << max(int(np.log2(max(_BLOCK_VALUES // len(corr), 1))), 6)
    for start in range(0, total, block):
        uniform = np.clip(sampler.random(min(block, total - start)), 1e-16, 1 - 1e-16)
        yield np.abs(special.ndtri(uniform) @ root.T)


def _scaled(maxima: FloatArray, df: float, seed: int) -> FloatArray:
    """Divide sorted maxima by the common scale, and sort again."""
    if not np.isfinite(df):
        return maxima
    # every scale meets an even sample of the maxima: at random they would be 0.3% off
    return np.sort((maxima.reshape(-1, _SCALES) / _scales(float(df), seed)).ravel())


def _root(corr: FloatArray) -> FloatArray:
    """
    Return a factor R with R R' equal to the correlations, (k, rank).

    By Cholesky, which moves as little as the correlations do. Eigenvectors turn and change sign by
    rounding, so that another machine would send the same points elsewhere.
    """
    factor = np.zeros_like(corr)
    for j in range(len(corr)):
        column = corr[j:, j] - factor[j:, :j] @ factor[j, :j]
        if column[0] > _NO_VARIATION:
            factor[j:, j] = column / np.sqrt(column[0])
    return np.asarray(factor[:, factor.any(axis=0)])


@functools.lru_cache(maxsize=64)
def _scales(df: float, seed: int) -> FloatArray:
    """Root of a chi-square over its df: one value in each of equally likely bands, shuffled."""
    quantiles = (np.arange(_SCALES) + 0.5) / _SCALES
    scales = np.sqrt(special.chdtri(df, 1 - quantiles) / df)
    return np.asarray(np.random.default_rng([seed, 1]).permutation(scales))
