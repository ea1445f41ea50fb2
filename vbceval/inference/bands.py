"""Simultaneous confidence bands: analytic sup-t and the multiplier bootstrap."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import special

from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray

SOBOL_LOG2_POINTS = 17
"""2^14 points leave 0.3% error in the critical value at 25 rows; 2^17 do not."""
_BLOCK_VALUES = 1 << 23


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
    from scipy.stats import qmc

    sd = np.sqrt(np.clip(np.diag(vcov), 0.0, None))
    keep = sd > 0
    if not keep.any():
        return np.zeros(1)
    corr = vcov[np.ix_(keep, keep)] / np.outer(sd[keep], sd[keep])
    values, vectors = np.linalg.eigh(corr)
    positive = values > 1e-12 * values[-1]
    root = vectors[:, positive] * np.sqrt(values[positive])
    rank = root.shape[1]
    dims = rank + int(np.isfinite(df))
    sampler = qmc.Sobol(dims, scramble=True, rng=np.random.default_rng(seed))
    total = 1 << SOBOL_LOG2_POINTS
    block = 1 << max(int(np.log2(max(_BLOCK_VALUES // max(dims, len(corr)), 1))), 6)
    maxima = []
    for start in range(0, total, block):
        uniform = np.clip(sampler.random(min(block, total - start)), 1e-16, 1 - 1e-16)
        t = np.abs(special.ndtri(uniform[:, :rank]) @ root.T).max(axis=1)
        if np.isfinite(df):
            t /= np.sqrt(special.chdtri(df, 1 - uniform[:, rank]) / df)
        maxima.append(t)
    return np.sort(np.concatenate(maxima))


def multiplier_draws(
    psi: FloatArray,
    rng: np.random.Generator,
    *,
    draws: int = 1000,
    weights: Literal["mammen", "rademacher"] = "mammen",
) -> FloatArray:
    """
    Draw the multiplier bootstrap of estimates from their cluster influence.

    Parameters
    ----------
    psi : array, shape (G, k)
        Influence of each cluster, scaled so that ``psi.T @ psi`` is the covariance.
    rng : Generator
        Source of the multipliers.
    draws : int, default 1000
        Number of draws S.
    weights : {"mammen", "rademacher"}
        Two-point law of the multipliers; Mammen is what R `did` uses.

    Returns
    -------
    array, shape (S, k)
        Draws of (estimate - truth). Cost O(S G k).

    References
    ----------
    .. [1] Callaway, B. and Sant'Anna, P. H. C. (2021). Difference-in-differences with multiple
       time periods. *Journal of Econometrics* 225(2), 200-230. Section 4.1.
    """
    if draws < 2:
        raise EstimationError(f"`draws` is {draws}: a bootstrap needs at least 2.")
    uniform = rng.random((draws, psi.shape[0]))
    if weights == "mammen":
        root5 = np.sqrt(5.0)
        low, high, share = (1 - root5) / 2, (1 + root5) / 2, (1 + root5) / (2 * root5)
        multipliers = np.where(uniform < share, low, high)
    else:
        multipliers = np.where(uniform < 0.5, -1.0, 1.0)
    return np.asarray(multipliers @ psi)
