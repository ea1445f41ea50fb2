"""Comprehensive Care for Joint Replacement: quality sets the discount of the target price.

Order: blended price, target price, gain or loss against it, limits, repayments outside the limits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from vbceval.core.typing import FloatArray
from vbceval.programs.conditions import refuse, refuse_outside
from vbceval.programs.episode_steps import category, step
from vbceval.programs.inputs import Inputs
from vbceval.programs.program import Program
from vbceval.programs.settlement import Worksheet
from vbceval.programs.steps import limited
from vbceval.programs.terms import Terms


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Settle hospitals: reconciliation payments and repayments of one performance year.

    Two target amounts are compared with spending: with the discount for payments and, where that
    leaves no gain, with the discount for repayments, which was smaller while repayment was phased
    in. Between the two nothing is due.

    Raises
    ------
    DataError
        If hospitals lack their own baseline in a year that gives it a weight.

    References
    ----------
    .. [1] 42 CFR 510.300-510.315.
    """
    book = Worksheet(len(inputs.organizations))
    target = _target_amounts(terms, inputs, book)
    actual = book.add("actual", inputs.number("actual"), "Spending of the episodes.")
    paid_target, repaid_target, eligible = target
    gain = np.where(eligible, np.maximum(paid_target - actual, 0.0), 0.0)
    gain = book.add(
        "gain", gain, "Target amount for payments less spending; 0 below the acceptable category."
    )
    loss = np.minimum(repaid_target - actual, 0.0)
    loss = book.add("loss", loss, "Target amount for repayments less spending, where negative.")
    due = book.add(
        "reconciliation",
        gain + np.where(terms.flag("repayment"), loss, 0.0),
        "Gain or loss; losses only in years with repayment.",
    )
    gain_limit = book.add(
        "gain_limit", terms.number("stop_gain") * paid_target, "Stop-gain times the target amount."
    )
    loss_limit = book.add(
        "loss_limit",
        terms.number("stop_loss") * repaid_target,
        "Stop-loss times the target amount.",
    )
    kept = book.add(
        "limited", limited(due, gain=gain_limit, loss=loss_limit), "Kept between the two limits."
    )
    later = inputs.number("post_episode_excess", absent=0.0) + inputs.number(
        "aco_overlap", absent=0.0
    )
    later = book.add(
        "other_repayments",
        later,
        "Excess spending after episodes and overlap with shared savings; no limit applies.",
    )
    due = kept - later
    book.add(
        "settlement",
        # adding zero turns the minus zero of a hospital that owes nothing into zero
        np.where(terms.flag("repayment"), due, np.maximum(due, 0.0)) + 0.0,
        "Paid to the hospital, or owed by it where negative; nothing is owed without repayment.",
        final=True,
    )
    return book


def _target_amounts(
    terms: Terms, inputs: Inputs, book: Worksheet
) -> tuple[FloatArray, FloatArray, FloatArray]:
    own_share = terms.number("hospital_share")
    lacking = (own_share > 0) & ~inputs.known("hospital_benchmark")
    refuse(
        terms,
        inputs,
        (
            lacking,
            f"have no `hospital_benchmark`, which has a weight in {terms.performance_year}.",
            "Fill it in; with too few baseline episodes give the regional amount.",
        ),
    )
    own = inputs.number("hospital_benchmark", absent=0.0)
    blended = book.add(
        "blended",
        own_share * own + (1 - own_share) * inputs.number("regional_benchmark"),
        "Baseline spending at the hospital's and the region's means, weighted.",
    )
    benchmark = book.add(
        "benchmark",
        blended * inputs.number("adjustment", absent=1.0),
        "After updates, wage index and, from 2022, risk and market trend.",
    )
    score = book.add(
        "quality_score", inputs.number("quality_score"), "Composite quality score.", unit="number"
    )
    held = category(
        score,
        acceptable=terms.number("acceptable_from"),
        good=terms.number("good_from"),
        excellent=terms.number("excellent_above"),
    )
    eligible = book.add("eligible", held > 0, "Acceptable quality or better.", unit="flag")
    when_paid = np.asarray(terms.table("payment_discount")[0])[np.maximum(held - 1, 0)]
    when_repaid = np.asarray(terms.table("repayment_discount")[0])[held]
    when_paid = book.add(
        "payment_discount", when_paid, "Discount of the category for payments.", unit="rate"
    )
    when_repaid = book.add(
        "repayment_discount", when_repaid, "Discount of the category for repayments.", unit="rate"
    )
    return (
        book.add("target_payment", benchmark * (1 - when_paid), "Target amount for payments."),
        book.add(
            "target_repayment", benchmark * (1 - when_repaid), "Target amount for repayments."
        ),
        eligible,
    )


def composite_quality_score(
    program: Program,
    *,
    performance_year: int,
    complications: ArrayLike,
    experience: ArrayLike,
    outcome_data: ArrayLike = False,
    improvement: ArrayLike = 0.0,
) -> FloatArray:
    """
    Return composite quality scores from percentiles among hospitals.

    Parameters
    ----------
    program : Program
        ``get("cjr")``, or the program with other values.
    performance_year : int
        The year.
    complications, experience : array_like
        Percentiles (0 to 100, higher is better) of complications and of patients' experience.
    outcome_data : array_like of bool
        Whether data on patient-reported outcomes were submitted.
    improvement : array_like
        Improvement points.

    Returns
    -------
    ndarray of float
        Scores from 0 to 20.

    Raises
    ------
    DataError
        If percentiles are not between 0 and 100.

    Examples
    --------
    >>> from vbceval.programs import get
    >>> float(composite_quality_score(get("cjr"), performance_year=2019, complications=92, experience=55))
    15.6
    """
    refuse_outside(
        "percentiles", complications=complications, experience=experience, low=0.0, high=100.0
    )
    terms = program.terms(performance_year, ["STANDARD"])
    points = (
        step(complications, terms.table("complication_points"))
        + step(experience, terms.table("experience_points"))
        + np.where(outcome_data, terms.number("outcome_data_points")[0, 0], 0.0)
        + np.asarray(improvement, dtype=float)
    )
    return np.asarray(np.minimum(points, 20.0))
