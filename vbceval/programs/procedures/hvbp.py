"""Hospital Value-Based Purchasing: a share withheld and paid back by score, budget neutral."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from vbceval.core.typing import FloatArray
from vbceval.programs.conditions import refuse
from vbceval.programs.inputs import Inputs
from vbceval.programs.settlement import Worksheet
from vbceval.programs.terms import Terms


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Settle hospitals of one fiscal year.

    Raises
    ------
    DataError
        If a hospital has neither a score nor enough domain scores.

    References
    ----------
    .. [1] 42 CFR 412.162.
    """
    book = Worksheet(len(inputs.organizations))
    score = _scores(terms, inputs, book)
    base = book.add("base_payments", inputs.number("base_payments"), "Base operating DRG payments.")
    percent = book.add(
        "applicable_percent", terms.number("applicable_percent"), "Share withheld.", unit="rate"
    )
    part = score / terms.number("score_scale")
    neutral = neutral_slope(base, part)
    slope = book.add(
        "slope",
        np.where(np.isnan(inputs.number("slope")), neutral, inputs.number("slope")),
        "Slope of the exchange function: the published one, or that which pays out the pool.",
        unit="number",
    )
    incentive = book.add(
        "incentive_percent",
        percent * part * slope,
        "Share withheld times the score as a fraction times the slope.",
        unit="rate",
    )
    factor = book.add(
        "adjustment_factor",
        1 + incentive - percent,
        "1 plus the incentive less the share withheld.",
        unit="number",
    )
    book.add("withheld", percent * base, "Withheld in the year.")
    book.add("incentive", incentive * base, "Paid back by score.")
    book.add(
        "settlement",
        base * (factor - 1),
        "Change of payments: the incentive less what was withheld.",
        final=True,
    )
    return book


def _scores(terms: Terms, inputs: Inputs, book: Worksheet) -> FloatArray:
    given = inputs.number("total_performance_score")
    scores = given
    missing = bool(np.isnan(given).any())
    tables = terms.tables("domain_weights", may_be_absent=True) if missing else []
    if tables:
        names = terms.parameters["domain_weights"].columns
        parts = np.broadcast_arrays(*(inputs.number(name) for name in names))
        stacked, weights = np.stack(parts), np.asarray(tables[0][1][0])[:, None, None]
        known = ~np.isnan(stacked)
        domains = known.sum(axis=0)
        total = np.where(known, weights * np.nan_to_num(stacked), 0.0).sum(axis=0)
        held = (known * weights).sum(axis=0)
        enough = domains >= terms.number("least_domains")
        scores = np.where(enough, total / np.where(held > 0, held, 1.0), np.nan)
        scores = np.where(np.isnan(given), scores, given)
    refuse(
        terms,
        inputs,
        (
            np.isnan(scores),
            "have no `total_performance_score`, nor enough domain scores for one.",
            "Fill it in, or leave out hospitals that the program does not score.",
        ),
    )
    return book.add(
        "total_performance_score",
        scores,
        "Given, or the weighted domain scores; the weights of three domains are scaled to one.",
        unit="number",
    )


def neutral_slope(base: ArrayLike, part: ArrayLike) -> FloatArray:
    """
    Return the slope at which incentives add up to what was withheld.

    Parameters
    ----------
    base : array_like, shape (hospitals, 1) or (hospitals, draws)
        Base operating DRG payments.
    part : array_like, shape (hospitals, 1) or (hospitals, draws)
        Scores as fractions of their scale.

    Returns
    -------
    ndarray, shape (1, 1) or (1, draws)
        0 where every score is 0, since no slope pays out the pool.
    """
    base, part = np.broadcast_arrays(np.asarray(base, dtype=float), np.asarray(part, dtype=float))
    earned = (base * part).sum(axis=0, keepdims=True)
    paid = np.divide(
        base.sum(axis=0, keepdims=True), earned, out=np.zeros_like(earned), where=earned > 0
    )
    return np.asarray(paid)


def achievement_points(
    value: ArrayLike, *, threshold: ArrayLike, benchmark: ArrayLike
) -> FloatArray:
    """
    Return achievement points of a measure, 0 to 10.

    Lower values are better where the benchmark is below the threshold; where both are the same,
    higher ones are.

    Parameters
    ----------
    value : array_like
        Result of the hospital; missing points where it is missing.
    threshold, benchmark : array_like
        Median and mean of the best tenth of hospitals in the baseline period.

    Examples
    --------
    >>> achievement_points([0.79, 0.86, 0.92], threshold=0.80, benchmark=0.92).tolist()
    [0.0, 5.0, 10.0]
    """
    sign = np.where(np.asarray(benchmark) < np.asarray(threshold), -1.0, 1.0)
    own, start, end = (sign * np.asarray(x, dtype=float) for x in (value, threshold, benchmark))
    points = np.where(own >= end, 10.0, _half_up(9 * _along(own, start, end) + 0.5))
    return np.asarray(np.where(np.isnan(own), np.nan, np.where(own < start, 0.0, points)))


def improvement_points(
    value: ArrayLike,
    *,
    baseline: ArrayLike,
    benchmark: ArrayLike,
    lower_is_better: ArrayLike = False,
) -> FloatArray:
    """
    Return improvement points of a measure, 0 to 9; 0 where the baseline reached the benchmark.

    Parameters
    ----------
    value, baseline : array_like
        Results of the hospital in the performance and in the baseline period; missing points
        where one is missing.
    benchmark : array_like
        Mean of the best tenth of hospitals in the baseline period.
    lower_is_better : array_like of bool
        Whether lower values are better, as for infections and deaths.

    Examples
    --------
    >>> improvement_points([0.77, 0.86, 0.95], baseline=0.78, benchmark=0.92).tolist()
    [0.0, 5.0, 9.0]
    """
    sign = np.where(lower_is_better, -1.0, 1.0)
    own, start, end = (sign * np.asarray(x, dtype=float) for x in (value, baseline, benchmark))
    points = np.clip(_half_up(10 * _along(own, start, end) - 0.5), 0.0, 9.0)
    points = np.where((own > start) & (start < end), points, 0.0)
    return np.asarray(np.where(np.isnan(own) | np.isnan(start), np.nan, points))


def _along(value: FloatArray, start: FloatArray, end: FloatArray) -> FloatArray:
    # without any way the points come from the comparisons alone
    way = np.where(end == start, 1.0, end - start)
    return np.asarray((value - start) / way)


def _half_up(value: FloatArray) -> FloatArray:
    # a hair is added so that 4.5 reached through fractions such as 0.06 / 0.12 still rounds up
    return np.asarray(np.floor(value + 0.5 + 1e-9))
