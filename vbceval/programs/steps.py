"""Steps of a settlement: arrays in, arrays out; organizations in rows, draws in columns.

Every function broadcasts, so that one array of shape (organizations, 1) and another of shape
(organizations, draws) can be given together. Amounts are in US dollars, rates are fractions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vbceval.core.typing import BoolArray, FloatArray


def corridor(
    amount: ArrayLike, benchmark: ArrayLike, bands: Sequence[Sequence[float]]
) -> FloatArray:
    """
    Return the participant's part of savings or losses, shared in bands of the benchmark.

    Parameters
    ----------
    amount : array_like
        Savings (positive) or losses (negative), dollars.
    benchmark : array_like
        What the bands are fractions of, dollars, positive.
    bands : sequence of (float, float)
        Upper end of each band as a fraction of the benchmark, and the participant's share in it;
        ends rise and the last is infinite.

    Returns
    -------
    ndarray of float
        Dollars, with the sign of `amount`; continuous in `amount`.

    Examples
    --------
    >>> round(float(corridor(12.0, 100.0, [(0.05, 0.5), (0.10, 0.35), (0.15, 0.15), (np.inf, 0.05)])), 6)
    4.55
    """
    benchmark = np.asarray(benchmark, dtype=float)
    amount = np.asarray(amount, dtype=float)
    size = np.abs(amount)
    kept = np.zeros(np.broadcast_shapes(size.shape, benchmark.shape))
    low = np.zeros_like(benchmark)
    for upper, share in bands:
        high = np.where(np.isinf(upper), np.inf, upper) * benchmark
        kept += share * np.clip(size - low, 0.0, high - low)
        low = high
    return np.asarray(np.sign(amount) * kept)


def interpolated(count: ArrayLike, rows: Sequence[Sequence[float]]) -> FloatArray:
    """
    Return a rate that falls or rises in straight lines within bands of a count.

    Bands are whole counts, both ends included, so the last step of a band (5,999 to 6,000 people)
    keeps the rate of its end, as the published tables of minimum savings rates do.

    Parameters
    ----------
    count : array_like
        Number of people or episodes.
    rows : sequence of (low, high, rate_at_low, rate_at_high)
        Bands, rising; the last `high` may be infinite, and its two rates are then equal.

    Returns
    -------
    ndarray of float
        Rates in the shape of `count`; below the first band the first rate, missing where `count`
        is missing.

    Examples
    --------
    >>> rows = [(5000, 5999, 0.039, 0.036), (6000, np.inf, 0.036, 0.036)]
    >>> interpolated([5000, 5500, 5999, 80_000], rows).round(7).tolist()
    [0.039, 0.0374985, 0.036, 0.036]
    """
    count = np.asarray(count, dtype=float)
    table = np.asarray(rows, dtype=float)
    band = np.clip(np.searchsorted(table[:, 0], count, side="right") - 1, 0, len(table) - 1)
    low, high, first, last = (table[band, column] for column in range(4))
    with np.errstate(invalid="ignore"):
        along = np.clip((count - low) / (high - low), 0.0, 1.0)
    rate = first + np.where(np.isinf(high), 0.0, along) * (last - first)
    return np.asarray(np.where(np.isnan(count), np.nan, rate))


def gate(
    amount: ArrayLike, benchmark: ArrayLike, *, savings: ArrayLike, losses: ArrayLike
) -> BoolArray:
    """
    Return whether savings or losses meet the minimum rate that makes them shared.

    Parameters
    ----------
    amount : array_like
        Savings (positive) or losses (negative), dollars.
    benchmark : array_like
        What the rates are fractions of, dollars.
    savings, losses : array_like
        Minimum savings rate and minimum loss rate, both 0 or above; infinite where that side is
        never shared.

    Returns
    -------
    ndarray of bool
        True where the amount is not zero and meets or exceeds its minimum.
    """
    amount = np.asarray(amount, dtype=float)
    needed = np.where(amount > 0, savings, losses)
    with np.errstate(invalid="ignore"):
        # 0 x infinity is not a threshold; it never matters because the amount is then zero
        return np.asarray((amount != 0) & (np.abs(amount) >= needed * np.asarray(benchmark)))


def limited(amount: ArrayLike, *, gain: ArrayLike = np.inf, loss: ArrayLike = np.inf) -> FloatArray:
    """Return an amount kept between `-loss` and `gain`, limits in dollars and 0 or above."""
    return np.asarray(np.minimum(np.maximum(amount, -np.asarray(loss)), gain), dtype=float)


def sequestered(amount: ArrayLike, rate: ArrayLike) -> FloatArray:
    """Return payments less sequestration; what is owed (negative) is not changed."""
    amount = np.asarray(amount, dtype=float)
    return np.asarray(np.where(amount > 0, amount * (1 - np.asarray(rate)), amount))
