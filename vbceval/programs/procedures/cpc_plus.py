"""Comprehensive Primary Care Plus: fees by tier, incentive, comprehensive payments."""

from __future__ import annotations

import numpy as np

from vbceval.core.typing import FloatArray
from vbceval.programs.conditions import refuse
from vbceval.programs.inputs import Inputs
from vbceval.programs.settlement import Worksheet
from vbceval.programs.terms import Terms

TIERS = ("tier_1", "tier_2", "tier_3", "tier_4", "complex")


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Add up the model's payments to practices in one year.

    Amounts by tier are not shown, since a fee tells the number of people it is paid for.

    Raises
    ------
    DataError
        If a practice of a track without them has complex beneficiaries or comprehensive payments,
        or a practice has nobody.
    """
    book = Worksheet(len(inputs.organizations))
    people = [inputs.number(f"beneficiaries_{tier}", absent=0.0) for tier in TIERS]
    months = inputs.number("months", absent=12.0)
    fees, total = _fees(terms, people), sum(people[1:], people[0])
    visits = inputs.number("expected_visit_revenue", absent=0.0)
    share = inputs.number("prospective_share", absent=0.0)
    uplift = terms.number("uplift")
    refuse(
        terms,
        inputs,
        (total <= 0, "have no beneficiaries.", "Fill in the tiers, or leave the practices out."),
        (
            (people[-1] > 0) & (fees[-1] == 0),
            "have `beneficiaries_complex`, and their track has no such tier.",
            "Put them in tier 4.",
        ),
        (
            (visits * share > 0) & (uplift == 0),
            "have comprehensive payments, and their track has none.",
            "Leave `expected_visit_revenue` and `prospective_share` out.",
        ),
    )
    paid = book.add(
        "care_management_fees",
        sum((n * fee for n, fee in zip(people[1:], fees[1:], strict=True)), people[0] * fees[0])
        * months,
        "Fee of each tier times beneficiaries and months.",
    )
    prepaid = book.add(
        "incentive_prepaid", terms.number("incentive") * total * months, "Paid beforehand."
    )
    part = terms.number("quality_part")
    earned = part * inputs.number("quality_earned", absent=0.0)
    earned = earned + (1 - part) * inputs.number("utilization_earned", absent=0.0)
    earned = book.add("incentive_earned", prepaid * earned, "By quality and by utilization.")
    book.add("incentive_repaid", prepaid - earned, "Paid beforehand and not earned.")
    replaced = book.add("visits_replaced", visits * share, "Visit revenue paid beforehand instead.")
    extra = book.add("comprehensive_uplift", replaced * uplift, "Excess over the visits replaced.")
    book.add("settlement", paid + earned + extra, "The model's payments of the year.", final=True)
    return book


def _fees(terms: Terms, people: list[FloatArray]) -> list[FloatArray]:
    fees = np.zeros((len(people), len(terms.variants), 1))
    for mask, rows in terms.tables("fees"):
        fees[:, mask, 0] = np.asarray(rows[0], dtype=float)[:, None]
    return list(fees)
