"""BPCI models 2-4: discounted target, spending above the threshold in part, aggregate limit."""

from __future__ import annotations

import numpy as np

from vbceval.programs.conditions import refuse
from vbceval.programs.episode_steps import counted_spending
from vbceval.programs.inputs import Inputs
from vbceval.programs.settlement import Worksheet
from vbceval.programs.steps import limited
from vbceval.programs.terms import Terms


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Settle awardees of one year.

    Raises
    ------
    DataError
        If more spending is above thresholds than there is.
    """
    book = Worksheet(len(inputs.organizations))
    above = inputs.number("above_threshold", absent=0.0)
    refuse(
        terms,
        inputs,
        (
            above > inputs.number("actual"),
            "have more `above_threshold` than `actual`.",
            "It is the part of `actual` above thresholds.",
        ),
    )
    benchmark = book.add(
        "benchmark", inputs.number("benchmark"), "Baseline prices of the episodes."
    )
    target = book.add("target", benchmark * (1 - terms.number("discount")), "Less the discount.")
    actual = book.add("actual", inputs.number("actual"), "Spending of the episodes.")
    counted = book.add(
        "counted",
        counted_spending(actual, above, share_above=terms.number("share_above")),
        "Spending with the part above thresholds counted at the awardee's share.",
    )
    raw = book.add("reconciliation", target - counted, "Target amount less counted spending.")
    limit = np.where(terms.flag("limited"), terms.number("limit") * target, np.inf)
    limit = book.add("limit", limit, "Limit either way.")
    book.add(
        "settlement",
        limited(raw, gain=limit, loss=limit),
        "Paid to the awardee, or owed by it where negative.",
        final=True,
    )
    return book
