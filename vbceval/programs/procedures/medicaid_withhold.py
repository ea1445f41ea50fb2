"""Medicaid quality withholds: part of capitation is released by performance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from vbceval.core.errors import DataError
from vbceval.core.typing import FloatArray
from vbceval.programs.conditions import refuse_outside
from vbceval.programs.inputs import Inputs
from vbceval.programs.settlement import Worksheet
from vbceval.programs.terms import Terms


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Settle plans of one year.

    Redistributed forfeits go to plans in proportion to what they earned, over the plans of the
    table; with incentives they stay below the limit on capitation and incentives.
    """
    book = Worksheet(len(inputs.organizations))
    paid = book.add("capitation", inputs.number("capitation"), "Capitation before the withhold.")
    held = book.add(
        "withheld", paid * terms.number("withhold"), "Withheld until results are known."
    )
    released = book.add(
        "released", held * inputs.number("earned_share"), "Withheld amount times the share earned."
    )
    lost = book.add("forfeited", held - released, "Not earned.")
    earned = released.sum(axis=0, keepdims=True)
    share = np.divide(released, earned, out=np.zeros_like(released), where=earned > 0)
    pool = lost.sum(axis=0, keepdims=True)
    bonus = np.where(terms.text("forfeits") == "redistributed", pool * share, 0.0)
    bonus = book.add("redistributed", bonus, "Part of the forfeits of all plans.")
    extra = bonus + inputs.number("incentive", absent=0.0)
    limit = book.add(
        "incentive_limit",
        (terms.number("total_limit") - 1) * paid,
        "Most that incentives may add to capitation.",
    )
    extra = book.add(
        "incentives", np.minimum(extra, limit), "Redistribution and incentives within it."
    )
    book.add("settlement", released + extra, "Paid after results are known.", final=True)
    return book


def measure_credit(
    rate: ArrayLike, *, target: ArrayLike, floor: ArrayLike | None = None
) -> FloatArray:
    """
    Return credits of measures: 1 at the target, in proportion above the floor, else 0.

    Parameters
    ----------
    rate : array_like
        Results, higher is better; credit is missing where they are.
    target : array_like
        Results that earn full credit.
    floor : array_like, optional
        Results above which credit begins; without it there is credit only at the target.

    Raises
    ------
    DataError
        If a floor is not below its target.

    Examples
    --------
    >>> measure_credit([0.9, 0.7, 0.5], target=0.8, floor=0.6).round(3).tolist()
    [1.0, 0.5, 0.0]
    """
    rate, target = np.asarray(rate, dtype=float), np.asarray(target, dtype=float)
    full = rate >= target
    if floor is None:
        return np.asarray(np.where(np.isnan(rate), np.nan, full))
    low = np.asarray(floor, dtype=float)
    if not (low < target).all():
        raise DataError(
            "a `floor` is not below its `target`, so no partial credit follows. Correct them, or "
            "leave `floor` out."
        )
    return np.asarray(np.where(full, 1.0, np.clip((rate - low) / (target - low), 0.0, 1.0)))


def earned_share(credits: ArrayLike, weights: ArrayLike) -> FloatArray:
    """
    Return the share of a withhold earned.

    Parameters
    ----------
    credits : array_like, shape (plans, measures)
        Credits, 0 to 1.
    weights : array_like, shape (measures,)
        Weights of the measures, adding up to 1.

    Returns
    -------
    ndarray, shape (plans,)

    Raises
    ------
    DataError
        If a credit or weight is not between 0 and 1, or the weights do not add up to 1.

    Examples
    --------
    >>> earned_share([[1, 1, 1, 0]], [0.25] * 4).tolist()
    [0.75]
    """
    refuse_outside("measures", low=0.0, high=1.0, credits=credits, weights=weights)
    held = np.asarray(weights, dtype=float)
    if abs(held.sum() - 1) > 1e-9:
        raise DataError(
            f"the weights of the measures add up to {held.sum():g}. Divide them by their sum."
        )
    return np.asarray(np.asarray(credits, dtype=float) @ held)
