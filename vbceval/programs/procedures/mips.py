"""Merit-based Incentive Payment System: a sliding scale around a threshold, budget neutral."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from vbceval.core.errors import DataError
from vbceval.core.typing import FloatArray
from vbceval.programs.conditions import refuse, refuse_outside
from vbceval.programs.inputs import Inputs
from vbceval.programs.program import Program
from vbceval.programs.settlement import Worksheet
from vbceval.programs.terms import Terms


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Settle practices of one performance year.

    Raises
    ------
    DataError
        If an exceptional adjustment is given for a year that pays none, or a published scaling
        factor is above the highest.

    References
    ----------
    .. [1] 42 CFR 414.1405.
    """
    book = Worksheet(len(inputs.organizations))
    exceptional_from = np.full((1, 1), np.nan)
    if "exceptional_adjustment" in inputs:
        exceptional_from = terms.number("exceptional_threshold", absent=np.nan)
    highest = terms.number("highest_scaling")
    refuse(
        terms,
        inputs,
        (
            (inputs.number("exceptional_adjustment", absent=0.0) > 0) & np.isnan(exceptional_from),
            f"have an `exceptional_adjustment`, and {terms.performance_year} pays none.",
            "Leave it out.",
        ),
        (
            inputs.number("scaling_factor") > highest,
            f"have a `scaling_factor` above {highest.max():g}.",
            "Correct it.",
        ),
    )
    score = book.add("final_score", inputs.number("final_score"), "Final score.", unit="number")
    allowed = book.add("allowed", inputs.number("allowed"), "Allowed charges of the payment year.")
    raw = book.add(
        "unscaled",
        sliding_scale(
            score,
            threshold=terms.number("threshold"),
            percent=terms.number("applicable_percent"),
            floor_share=terms.number("floor_share"),
        ),
        "Applicable percent times the way from the threshold to 100, or down to 0; all of it up to a "
        "quarter of the threshold.",
        unit="rate",
    )
    given = inputs.number("scaling_factor")
    scaling = book.add(
        "scaling_factor",
        np.where(np.isnan(given), neutral_scaling(raw, allowed, highest=highest), given),
        "Published, or that which makes gains equal losses.",
        unit="number",
    )
    factor = np.where(raw > 0, raw * scaling, raw)
    factor = book.add("payment_factor", factor, "Losses as they are, gains scaled.", unit="rate")
    extra = np.where(
        score >= exceptional_from, inputs.number("exceptional_adjustment", absent=0.0), 0.0
    )
    extra = book.add("exceptional", extra, "For exceptional performance.", unit="rate")
    book.add("settlement", allowed * (factor + extra), "Change of payments.", final=True)
    return book


def sliding_scale(
    score: ArrayLike, *, threshold: ArrayLike, percent: ArrayLike, floor_share: ArrayLike = 0.25
) -> FloatArray:
    """
    Return payment factors before gains are scaled.

    There is a jump where a score passes `floor_share` of the threshold, as the rule has it.

    Parameters
    ----------
    score : array_like
        Final scores, 0 to 100.
    threshold : array_like
        Performance threshold.
    percent : array_like
        Applicable percent, a fraction.
    floor_share : array_like
        Share of the threshold up to which the whole percent is lost.

    Examples
    --------
    >>> sliding_scale([18.75, 18.76, 75, 100], threshold=75, percent=0.09).round(6).tolist()
    [-0.09, -0.067488, 0.0, 0.09]
    """
    score = np.asarray(score, dtype=float)
    threshold, percent = np.asarray(threshold, dtype=float), np.asarray(percent, dtype=float)
    above = percent * (score - threshold) / (100 - threshold)
    below = -percent * (threshold - score) / threshold
    below = np.where(score <= np.asarray(floor_share) * threshold, -percent, below)
    return np.asarray(np.where(score >= threshold, above, below))


def neutral_scaling(
    raw: FloatArray, allowed: FloatArray, *, highest: ArrayLike = 3.0
) -> FloatArray:
    """
    Return the factor that makes gains equal losses over practices, at most `highest`.

    Parameters
    ----------
    raw : ndarray, shape (practices, draws)
        Factors before scaling.
    allowed : ndarray, shape (practices, draws)
        Charges they apply to, dollars.
    highest : array_like
        Highest factor.

    Returns
    -------
    ndarray, shape (1, draws)
        0 where nobody loses.
    """
    change = raw * allowed
    gains = np.maximum(change, 0.0).sum(axis=0, keepdims=True)
    losses = np.maximum(-change, 0.0).sum(axis=0, keepdims=True)
    scaling = np.divide(losses, gains, out=np.zeros_like(gains), where=gains > 0)
    return np.asarray(np.minimum(scaling, np.asarray(highest, dtype=float).min()))


def final_score(
    program: Program,
    *,
    performance_year: int,
    quality: ArrayLike,
    cost: ArrayLike = np.nan,
    improvement_activities: ArrayLike,
    interoperability: ArrayLike,
    pathway: str = "TRADITIONAL",
) -> FloatArray:
    """
    Return final scores from the scores of the categories.

    Parameters
    ----------
    program : Program
        ``get("mips")``, or the program with other values.
    performance_year : int
        The year.
    quality, cost, improvement_activities, interoperability : array_like
        Category scores, 0 to 100; missing where a category is not scored.
    pathway : str
        ``TRADITIONAL`` or ``APP``.

    Raises
    ------
    DataError
        If a category with a weight is missing and the rules at hand do not move its weight, or a
        score is not between 0 and 100.

    Examples
    --------
    >>> from vbceval.programs import get
    >>> final_score(
    ...     get("mips"), performance_year=2024, pathway="APP", quality=[80.0, None],
    ...     improvement_activities=100.0, interoperability=90.0,
    ... ).tolist()
    [87.0, 92.5]
    """
    refuse_outside(
        "scores of categories",
        low=0.0,
        high=100.0,
        quality=quality,
        cost=cost,
        improvement_activities=improvement_activities,
        interoperability=interoperability,
    )
    terms = program.terms(performance_year, [pathway])
    scores = np.stack(
        np.broadcast_arrays(
            np.asarray(quality, dtype=float),
            np.asarray(cost, dtype=float),
            np.asarray(improvement_activities, dtype=float),
            np.asarray(interoperability, dtype=float),
        )
    )
    weights = np.broadcast_to(
        np.reshape(terms.table("weights")[0], (4,) + (1,) * (scores.ndim - 1)), scores.shape
    ).copy()
    missing = np.isnan(scores)
    for place, name in ((0, "weights_without_quality"), (3, "weights_without_interoperability")):
        for _, rows in terms.tables(name, may_be_absent=True):
            alone = missing[place] & ~missing[3 - place] & ~missing[2]
            weights[:, alone] = np.asarray(rows[0], dtype=float)[:, None]
    lacking = int((missing & (weights > 0)).any(axis=0).sum())
    if lacking:
        raise DataError(
            f"a category that has a weight is missing for {lacking} of {missing[0].size} practices, "
            f"and the rules at hand do not say where its weight goes in `{pathway}`. Give the "
            "`final_score` of these practices instead."
        )
    return np.asarray(np.where(weights > 0, weights * scores, 0.0).sum(axis=0))
