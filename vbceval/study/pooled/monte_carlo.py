"""Monte Carlo standard errors of posterior summaries: how far another seed may move them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vbceval.core.typing import FloatArray

Summary = Callable[[FloatArray], FloatArray]
"""Draws, shape (S, k), to one number a column, shape (k,)."""


def error(values: FloatArray, summary: Summary, chains: int) -> FloatArray:
    """
    Return the Monte Carlo standard error of a summary, from independent chains.

    The summary is taken chain by chain; the spread of its values over the root of their number is
    the error. It needs no assumption on dependence within a chain, and some ten chains.

    Parameters
    ----------
    values : array, shape (S, k)
        Draws, those of a chain following each other.
    summary : callable
        Draws to one number a column.
    chains : int
        Number of independent chains; S is a multiple of it.

    Returns
    -------
    array, shape (k,)

    Examples
    --------
    40,000 independent draws: about 1 over the root of 40,000.

    >>> draws = np.random.default_rng(1).standard_normal((40_000, 1))
    >>> round(float(error(draws, mean, 100)[0]), 3)
    0.005
    """
    split = values.reshape(chains, len(values) // chains, -1)
    found = np.array([summary(part) for part in split])
    return np.asarray(found.std(axis=0, ddof=1) / np.sqrt(chains))


def mean(values: FloatArray) -> FloatArray:
    """Return column means."""
    return np.asarray(values.mean(axis=0))


def spread(values: FloatArray) -> FloatArray:
    """Return column standard deviations."""
    return np.asarray(values.std(axis=0))


def quantile(probability: float) -> Summary:
    """Return the function that takes column quantiles."""
    return lambda values: np.asarray(np.quantile(values, probability, axis=0))
