"""Monte Carlo standard errors of posterior summaries: how far a rerun may move them."""

from __future__ import annotations

import numpy as np

from vbceval.core.typing import FloatArray


def mean_error(values: FloatArray, chains: int) -> FloatArray:
    """
    Return the Monte Carlo standard error of column means, by batch means within chains.

    Parameters
    ----------
    values : array, shape (S, k)
        Draws, those of a chain following each other.
    chains : int
        Number of chains; S is a multiple of it.

    Returns
    -------
    array, shape (k,)

    References
    ----------
    .. [1] Flegal, J. M., Haran, M. and Jones, G. L. (2008). Markov chain Monte Carlo: can we trust
       the third significant figure? *Statistical Science* 23(2), 250-260.

    Examples
    --------
    Independent draws: one over the root of their number.

    >>> draws = np.random.default_rng(1).standard_normal((40_000, 1))
    >>> round(float(mean_error(draws, 4)[0]), 3)
    0.005
    """
    length = len(values) // chains
    size = int(np.sqrt(length))
    count = length // size
    split = values.reshape(chains, length, -1)[:, : size * count]
    batches = split.reshape(chains * count, size, -1).mean(axis=1)
    return np.asarray(batches.std(axis=0, ddof=1) / np.sqrt(len(batches)))


def spread_error(values: FloatArray, chains: int) -> FloatArray:
    """Return the Monte Carlo standard error of column standard deviations, shape (k,)."""
    squares = (values - values.mean(axis=0)) ** 2
    return np.asarray(mean_error(squares, chains) / (2 * values.std(axis=0)))


def quantile_error(values: FloatArray, probability: float, chains: int) -> FloatArray:
    """
    Return the Monte Carlo standard error of column quantiles, shape (k,).

    Half the distance between the quantiles one Monte Carlo standard error of the probability
    below and above.

    Parameters
    ----------
    values, chains
        As in `mean_error`.
    probability : float
        Probability of the quantile.
    """
    below = (values <= np.quantile(values, probability, axis=0)).astype(float)
    error = mean_error(below, chains)
    ends = [np.clip(probability + sign * error, 0, 1) for sign in (-1, 1)]
    low, high = (
        np.array([np.quantile(values[:, i], p[i]) for i in range(values.shape[1])]) for p in ends
    )
    return np.asarray((high - low) / 2)
