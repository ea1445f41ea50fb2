"""Steps of a benchmark of the Shared Savings Program, 42 CFR 425.601 to 425.656.

Arrays have organizations in rows and enrollment types in columns; amounts are nominal US dollars a
person-year.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from vbceval.core.typing import BoolArray, FloatArray


def historical(
    per_capita: ArrayLike, trend: ArrayLike, risk: ArrayLike, weights: ArrayLike
) -> FloatArray:
    """
    Return the historical benchmark: benchmark years trended and risk-adjusted to the last.

    Parameters
    ----------
    per_capita, trend, risk : array_like, shape (..., 3)
        Expenditures a person-year, growth to the third year (1 for itself) and mean risk score of
        the three benchmark years.
    weights : array_like, shape (..., 3)
        Weights of the years.

    Returns
    -------
    ndarray of float, shape (...)

    Examples
    --------
    >>> spent, trend, risk = [10_000, 10_300, 10_700], [1.08, 1.04, 1], [1, 1, 1.02]
    >>> float(historical(spent, trend, risk, [0.1, 0.3, 0.6]).round(3))
    10799.472
    """
    risk = np.asarray(risk, dtype=float)
    adjusted = np.asarray(per_capita) * np.asarray(trend) * risk[..., 2:] / risk
    return np.asarray((adjusted * np.asarray(weights)).sum(axis=-1))


def blended(national: ArrayLike, regional: ArrayLike, national_share: ArrayLike) -> FloatArray:
    """Return growth that blends the nation's and the region's by the ACO's share of its region."""
    share = np.asarray(national_share, dtype=float)
    return np.asarray(share * np.asarray(national) + (1 - share) * np.asarray(regional))


def capped_risk(
    hcc: ArrayLike, demographic: ArrayLike, weights: ArrayLike, *, cap: float, together: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """
    Return risk ratios with the cap on their growth.

    Parameters
    ----------
    hcc, demographic : array_like, shape (organizations, types)
        Ratio of mean scores of the performance year to the last benchmark year.
    weights : array_like, shape (organizations, types)
        Historical benchmark dollars: per capita times person-years.
    cap : float
        Most growth.
    together : bool
        Cap all types if their weighted ratio exceeds the demographic one by more than `cap`, at
        that limit, else leave them; without it each type is capped at ``1 + cap``.

    Returns
    -------
    tuple of ndarray
        Ratios used, shape (organizations, types); weighted growth and its limit, (organizations,).
    """
    hcc, weights = np.asarray(hcc, dtype=float), np.asarray(weights, dtype=float)
    share = weights / weights.sum(axis=1, keepdims=True)
    growth = (share * hcc).sum(axis=1)
    if not together:
        return np.minimum(hcc, 1 + cap), growth, np.full(len(hcc), 1 + cap)
    limit = (share * np.asarray(demographic)).sum(axis=1) + cap
    binds = (growth > limit)[:, None]
    return np.where(binds, np.minimum(hcc, limit[:, None]), hcc), growth, limit


def prior_savings_adjustment(
    average: ArrayLike, proration: ArrayLike, national: ArrayLike, *, share: float, cap: float
) -> FloatArray:
    """
    Return what prior savings add to the benchmark, dollars a person-year.

    Examples
    --------
    >>> float(prior_savings_adjustment(400.0, 0.9, 12_000.0, share=0.5, cap=0.05))
    180.0
    """
    added = share * np.maximum(average, 0.0) * np.minimum(proration, 1.0)
    return np.asarray(np.minimum(added, cap * np.asarray(national)))


def updated_in_dollars(
    historical_benchmark: ArrayLike, risk_ratio: ArrayLike, growth: ArrayLike
) -> FloatArray:
    """
    Return updated benchmarks of agreements whose update is an amount of dollars.

    First agreements that start before 2019 add the growth of national expenditures in dollars to the
    risk-adjusted historical benchmark. The ratio is that of HCC scores for people newly assigned, and
    of demographic scores for others unless their HCC ratio is lower; it must be given.

    Parameters
    ----------
    historical_benchmark, risk_ratio, growth : array_like
        By enrollment type: dollars a person-year, a ratio, dollars a person-year.

    References
    ----------
    .. [1] 42 CFR 425.602(b), 425.604(a). Details are not confirmed in the text of the rule.

    Examples
    --------
    >>> float(updated_in_dollars(10_000.0, 0.99, 250.0))
    10150.0
    """
    adjusted = np.asarray(historical_benchmark, dtype=float) * np.asarray(risk_ratio, dtype=float)
    return np.asarray(adjusted + np.asarray(growth, dtype=float))


def guardrail(
    three_way: ArrayLike, two_way: ArrayLike, expenditure: ArrayLike, minimum_loss_rate: ArrayLike
) -> tuple[FloatArray, BoolArray]:
    """
    Return benchmarks after the guardrail, and where it holds.

    Where the update with the prospective trend leaves losses that would be shared, the update
    without it is used if it is higher; savings that come from it are not shared.

    Parameters
    ----------
    three_way, two_way : array_like
        Updated benchmarks with and without the prospective trend, dollars in total or a person-year.
    expenditure : array_like
        Expenditures in the same unit.
    minimum_loss_rate : array_like
        Fraction of the benchmark from which losses are shared.

    Returns
    -------
    benchmark : ndarray of float
    holds : ndarray of bool
        For the column ``guardrail`` of a settlement.

    References
    ----------
    .. [1] 42 CFR 425.652(b). That it works so is not confirmed in the text of the rule.

    Examples
    --------
    >>> benchmark, holds = guardrail([100.0, 100.0], [102.0, 99.0], [103.0, 103.0], 0.02)
    >>> benchmark.tolist(), holds.tolist()
    ([102.0, 100.0], [True, False])
    """
    first, second = np.asarray(three_way, dtype=float), np.asarray(two_way, dtype=float)
    spent = np.asarray(expenditure, dtype=float)
    holds = (spent - first >= np.asarray(minimum_loss_rate) * first) & (spent > first)
    holds = holds & (second > first)
    return np.where(holds, second, first), np.asarray(holds)


def capped_region(
    hcc: ArrayLike,
    demographic: ArrayLike,
    weights: ArrayLike,
    market_share: ArrayLike,
    *,
    cap: float,
    by_share: bool,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """
    Return risk ratios of the region with the cap on their growth.

    Expenditures of the region are divided by its risk scores, so growth of scores that the cap
    takes away is growth of expenditures: multiply the growth by `hcc` over what is returned.

    Parameters
    ----------
    hcc, demographic : array_like, shape (organizations, types)
        Ratio of the region's mean scores of the performance year to the last benchmark year.
    weights : array_like, shape (organizations, types)
        Dollars by which types are averaged.
    market_share : array_like, shape (organizations, types)
        Share of the region's people that the ACO has.
    cap : float
        Most growth beyond the demographic one.
    by_share : bool
        Raise the limit by the ACO's share of what exceeds it, so that an ACO that is most of its
        region is not paid for its own growth of scores.

    Returns
    -------
    tuple of ndarray
        Ratios used, shape (organizations, types); weighted growth and its limit, (organizations,).

    References
    ----------
    .. [1] CY 2024 physician fee schedule final rule, fact sheet on the Shared Savings Program: a cap
       similar to the ACO's own. The part of `market_share` is not confirmed in the text of the rule.

    Examples
    --------
    >>> used, growth, limit = capped_region([[1.10]], [[1.02]], [[1.0]], [[0.2]], cap=0.03, by_share=True)
    >>> used.round(4).tolist(), growth.tolist(), limit.round(4).tolist()
    ([[1.06]], [1.1], [1.06])
    """
    hcc, weights = np.asarray(hcc, dtype=float), np.asarray(weights, dtype=float)
    share = weights / weights.sum(axis=1, keepdims=True)
    growth = (share * hcc).sum(axis=1)
    limit = (share * np.asarray(demographic, dtype=float)).sum(axis=1) + cap
    if by_share:
        own = (share * np.asarray(market_share, dtype=float)).sum(axis=1)
        limit = limit + own * np.maximum(growth - limit, 0.0)
    binds = (growth > limit)[:, None]
    return np.where(binds, np.minimum(hcc, limit[:, None]), hcc), growth, limit


def risk_of_continuing(
    hcc: ArrayLike, demographic: ArrayLike, new_hcc: ArrayLike, new_share: ArrayLike
) -> FloatArray:
    """
    Return risk ratios of agreements that start before July 2019.

    The ratio of HCC scores counts for people newly assigned. For those assigned before it is the
    demographic ratio, unless that of HCC scores is lower.

    Parameters
    ----------
    hcc, demographic : array_like, shape (organizations, types)
        Ratios of people assigned before, performance year to the last benchmark year.
    new_hcc : array_like, shape (organizations, types)
        Ratio of HCC scores of people newly assigned.
    new_share : array_like, shape (organizations, types)
        Their share of person-years.

    References
    ----------
    .. [1] 42 CFR 425.604(a)(1)-(2). That both are averaged by person-years is not confirmed.

    Examples
    --------
    >>> risk_of_continuing([1.04, 0.97], [1.01, 1.00], [1.10, 1.10], [0.2, 0.0]).round(4).tolist()
    [1.028, 0.97]
    """
    old = np.minimum(np.asarray(hcc, dtype=float), np.asarray(demographic, dtype=float))
    new, share = np.asarray(new_hcc, dtype=float), np.asarray(new_share, dtype=float)
    return np.asarray(np.where(share > 0, share * new, 0.0) + (1 - share) * old)
