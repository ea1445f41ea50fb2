"""From what is printed to an effect and its standard error: arrays in, arrays out."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from vbceval.core.errors import DataError
from vbceval.core.typing import Array, FloatArray

Shape = Literal["linear", "log", "asymmetric", "none"]

SYMMETRY_TOLERANCE = 0.05
"""Share of the half-width by which an estimate may be off the middle of its interval."""


def critical_value(level: ArrayLike, df: ArrayLike | None = None) -> FloatArray:
    """
    Return the two-sided critical value of an interval of probability `level`.

    Parameters
    ----------
    level : array_like
        Interval probability as a fraction, for example 0.90.
    df : array_like, optional
        Degrees of freedom of a Student t interval; default is the normal distribution.

    Examples
    --------
    >>> critical_value([0.90, 0.95, 0.99]).round(3).tolist()
    [1.645, 1.96, 2.576]
    """
    levels = np.asarray(level, dtype=float)
    if np.any((levels <= 0) | (levels >= 1)):
        raise DataError(
            "an interval's `level` must be a fraction between 0 and 1 (0.95, not 95), because its "
            "critical value is looked up from it. Divide percents by 100."
        )
    tail = 0.5 + levels / 2
    value = special.ndtri(tail) if df is None else special.stdtrit(np.asarray(df, float), tail)
    return np.asarray(value, dtype=float)


def se_from_interval(
    low: ArrayLike, high: ArrayLike, level: ArrayLike, *, df: ArrayLike | None = None
) -> FloatArray:
    """
    Return the standard error behind a symmetric interval, (high - low) / (2 z).

    Parameters
    ----------
    low, high : array_like, shape (n,)
        Ends of the interval, in the unit of the estimate (logarithms for ratios).
    level : array_like
        Probability of each interval as a fraction; 90 % and 95 % rows may be mixed.
    df : array_like, optional
        Degrees of freedom where the interval is a Student t interval.

    Returns
    -------
    ndarray, shape (n,)
        Standard errors in the unit of the estimate.

    Examples
    --------
    >>> se_from_interval([-771, -909], [-227, 3], [0.90, 0.95]).round(1).tolist()
    [165.4, 232.7]
    """
    width = np.asarray(high, dtype=float) - np.asarray(low, dtype=float)
    return np.asarray(width / (2 * critical_value(level, df)), dtype=float)


def p_from_z(z: ArrayLike) -> FloatArray:
    """Return the two-sided normal P value of a z statistic."""
    return np.asarray(2 * special.ndtr(-np.abs(np.asarray(z, dtype=float))), dtype=float)


def z_from_p(p: ArrayLike) -> FloatArray:
    """Return the size of the z statistic whose two-sided normal P value is `p`."""
    return np.asarray(-special.ndtri(np.asarray(p, dtype=float) / 2), dtype=float)


def se_from_p(estimate: ArrayLike, p: ArrayLike) -> FloatArray:
    """
    Return the standard error of an estimate from its printed two-sided P value.

    Parameters
    ----------
    estimate : array_like, shape (n,)
        Estimates, in any unit; an estimate of exactly 0 has no standard error to recover.
    p : array_like, shape (n,)
        P values; 1 gives a missing standard error.

    Returns
    -------
    ndarray, shape (n,)
        ``|estimate| / z(p)``, in the unit of the estimate.

    Examples
    --------
    >>> se_from_p(-29.2, 0.007).round(2).tolist()
    10.83
    """
    size, z = np.abs(np.asarray(estimate, dtype=float)), z_from_p(p)
    defined = (size > 0) & (z > 0)
    return np.where(defined, size / np.where(defined, z, 1.0), np.nan)


def se_bounds_from_p(
    estimate: ArrayLike, p: ArrayLike, below: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """
    Return what "p < .05" or "p > .05" says about a standard error: one of its bounds.

    Parameters
    ----------
    estimate : array_like, shape (n,)
        Printed estimates, not 0.
    p : array_like, shape (n,)
        The printed bound of the P value.
    below : array_like of bool, shape (n,)
        True where the P value is printed to be below `p`, False where it is above.

    Returns
    -------
    low, high : ndarray, shape (n,)
        The standard error lies between them: (0, |estimate|/z) for "below", (|estimate|/z,
        infinity) for "above".

    Examples
    --------
    >>> [bound.round(2).tolist() for bound in se_bounds_from_p([-3.1, -3.1], 0.05, [True, False])]
    [[0.0, 1.58], [1.58, inf]]
    """
    edge, is_below = se_from_p(estimate, p), np.asarray(below, dtype=bool)
    return np.where(is_below, 0.0, edge), np.where(is_below, edge, np.inf)


def interval_shape(
    estimate: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    *,
    rounding: ArrayLike = 0.0,
    tolerance: float = SYMMETRY_TOLERANCE,
) -> Array:
    """
    Say on which scale an interval is symmetric around its estimate.

    Parameters
    ----------
    estimate, low, high : array_like, shape (n,)
        Estimates and interval ends in one unit; missing where not printed.
    rounding : array_like, default 0
        Half a unit of the last printed digit: an interval is called asymmetric only if rounding
        cannot explain it.
    tolerance : float, default 0.05
        Share of the half-width by which the estimate may be off the middle.

    Returns
    -------
    ndarray of str, shape (n,)
        "linear"; "log" where only the logarithms are symmetric; "asymmetric"; "none" where an end
        or the estimate is missing.

    Examples
    --------
    >>> interval_shape([-297, 2.0, 455], [-400, 1.0, 137], [-194, 4.0, 722]).tolist()
    ['linear', 'log', 'asymmetric']
    """
    values = np.broadcast_arrays(*(np.asarray(v, float) for v in (estimate, low, high, rounding)))
    e, lo, hi, half = values
    linear = _is_central(e - half, e + half, lo - half, hi + half, half, tolerance)
    positive = np.minimum(lo, e) - half > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        edges = [np.log(np.where(positive, v, 1.0)) for v in (e - half, e + half)]
        ends = [np.log(np.where(positive, v, 1.0)) for v in (lo - half, hi + half)]
        # rounding moves the logarithm of the lower end most
        log_half = np.where(positive, half / np.where(positive, lo - half, 1.0), 0.0)
    logs = positive & _is_central(edges[0], edges[1], ends[0], ends[1], log_half, tolerance)
    shape = np.where(linear, "linear", np.where(logs, "log", "asymmetric"))
    return np.where(np.isnan(e + lo + hi), "none", shape)


def _is_central(
    e_low: FloatArray,
    e_high: FloatArray,
    outer_low: FloatArray,
    outer_high: FloatArray,
    half: FloatArray,
    tolerance: float,
) -> Array:
    """Return where an estimate's span comes within `tolerance` of the middle's span."""
    middle = (outer_low + outer_high) / 2
    off = np.maximum(0.0, np.maximum(e_low - middle - half, middle - half - e_high))
    return np.asarray(off <= tolerance * (outer_high - outer_low) / 2)


def percent_of_baseline(estimate: ArrayLike, baseline: ArrayLike) -> FloatArray:
    """Return an effect as percent of a baseline in the same unit; missing for a zero baseline."""
    base = np.asarray(baseline, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(base == 0, np.nan, 100 * np.asarray(estimate, dtype=float) / base)


def implied_baseline(estimate: ArrayLike, percent: ArrayLike) -> FloatArray:
    """
    Return the baseline that makes `estimate` the printed `percent` of it.

    Parameters
    ----------
    estimate : array_like, shape (n,)
        Effects in dollars (of the year and unit of the row).
    percent : array_like, shape (n,)
        The same effects as percent of the baseline; 0 implies none.

    Returns
    -------
    ndarray, shape (n,)
        Baselines in the unit of the estimate, missing where `percent` is 0.

    Examples
    --------
    >>> implied_baseline(-144, -1.4).round().tolist()
    10286.0
    """
    share = np.asarray(percent, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(share == 0, np.nan, 100 * np.asarray(estimate, dtype=float) / share)


class Basis(NamedTuple):
    """What one unit of a money column is per, and how many of them make a year."""

    per: Literal["person", "episode", "total", "other"]
    in_a_year: float


_PER_PERSON = (
    ("PBPM", 12.0),
    ("per month", 12.0),
    ("per beneficiary per quarter", 4.0),
    ("per beneficiary per year", 1.0),
    ("per beneficiary-year", 1.0),
    ("per enrollee per year", 1.0),
    ("per person-year", 1.0),
    ("per capita", 1.0),
)


def unit_basis(unit: str) -> Basis:
    """
    Read what a printed money unit is per.

    Examples
    --------
    >>> unit_basis("USD PBPM (positive = cost)")
    Basis(per='person', in_a_year=12.0)
    >>> unit_basis("USD total (positive = savings)").per
    'total'
    """
    if unit.startswith("USD"):
        for words, in_a_year in _PER_PERSON:
            if words in unit:
                return Basis("person", in_a_year)
        if "per episode" in unit:
            return Basis("episode", 1.0)
        if "total" in unit:
            return Basis("total", 1.0)
    return Basis("other", 1.0)


def effect_sign(unit: str) -> int:
    """
    Return the factor that turns a printed number into treated minus untreated.

    Parameters
    ----------
    unit : str
        Unit as printed. Net and benchmark rows state their sign in it, for example
        "USD total (positive = savings)"; a unit without a statement is already an effect.

    Returns
    -------
    int
        -1 where a positive number is a saving, otherwise 1.

    Examples
    --------
    >>> effect_sign("USD total (positive = savings)"), effect_sign("USD PBPM (positive = cost)")
    (-1, 1)
    """
    return -1 if "positive = savings" in unit or "negative = over benchmark" in unit else 1
