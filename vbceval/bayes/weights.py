"""Weighted draws: smoothed weights, what they are worth, summaries and resampling."""

from __future__ import annotations

import importlib

import numpy as np
import pandas as pd

from vbceval.core.typing import FloatArray, IntArray

LARGEST_K = 0.7
"""Above this Pareto shape, weighted draws are not trusted (Vehtari et al. 2024)."""

FEWEST_EFFECTIVE = 400
"""Fewest effective draws, over all chains."""

_EQUAL = 1e-9


def smoothed(log_weight: FloatArray) -> tuple[FloatArray, float]:
    """Return Pareto-smoothed weights that sum to 1, and the shape k of their tail; 0 if all equal."""
    if np.ptp(log_weight) < _EQUAL:
        return np.full(len(log_weight), 1 / len(log_weight)), 0.0
    # imported by name: ArviZ declares no types for it
    array_stats = importlib.import_module("arviz_stats.base").array_stats
    logs, k = array_stats.psislw(-log_weight)
    weight = np.exp(logs - logs.max())
    return weight / weight.sum(), float(k)


def summary(draws: FloatArray, weight: FloatArray, level: float) -> pd.DataFrame:
    """
    Return mean, spread and interval of weighted draws, one row a quantity.

    Parameters
    ----------
    draws : array, shape (S, k)
        Draws.
    weight : array, shape (S,)
        Adding up to one.
    level : float
        Level of the equal-tailed interval.

    Returns
    -------
    DataFrame, k rows
        ``estimate``, ``std_error``, ``conf_low``, ``conf_high``, ``below_zero`` (probability).
    """
    mean = weight @ draws
    low, high = (_quantile(draws, weight, p) for p in ((1 - level) / 2, (1 + level) / 2))
    return pd.DataFrame(
        {
            "estimate": mean,
            "std_error": np.sqrt(weight @ (draws - mean) ** 2),
            "conf_low": low,
            "conf_high": high,
            "below_zero": weight @ (draws < 0),
        }
    )


def _quantile(draws: FloatArray, weight: FloatArray, p: float) -> FloatArray:
    order = np.argsort(draws, axis=0)
    reached = np.cumsum(weight[order], axis=0) >= p * weight.sum()
    first = np.argmax(reached, axis=0)
    return np.asarray(np.take_along_axis(draws, order, axis=0)[first, np.arange(draws.shape[1])])


def resampled(weight: FloatArray, size: int, rng: np.random.Generator) -> IntArray:
    """Return rows drawn in proportion to their weight, by systematic resampling, shuffled."""
    places = (rng.random() + np.arange(size)) / size
    rows = np.minimum(np.searchsorted(np.cumsum(weight), places), len(weight) - 1)
    return np.asarray(rng.permutation(rows))
