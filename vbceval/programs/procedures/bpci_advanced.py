"""BPCI Advanced: discount by kind of episode, realised trend, quality, limits, in this order."""

from __future__ import annotations

import numpy as np

from vbceval.programs.conditions import refuse
from vbceval.programs.inputs import Inputs
from vbceval.programs.reconciliation import reconcile
from vbceval.programs.settlement import Worksheet
from vbceval.programs.terms import Terms


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Settle episode initiators: reconciliation of one model year.

    Raises
    ------
    DataError
        If an initiator has no benchmark, medical or surgical, or a realised trend in a year whose
        prices do not follow it.

    References
    ----------
    .. [1] Clinical episode reconciliation specifications of the Innovation Center.
    """
    book = Worksheet(len(inputs.organizations))
    medical = inputs.number("benchmark_medical", absent=0.0)
    surgical = inputs.number("benchmark_surgical", absent=0.0)
    benchmark = book.add("benchmark", medical + surgical, "Benchmark prices over all episodes.")
    cap, ratio = terms.number("trend_cap"), inputs.number("trend_ratio", absent=1.0)
    refuse(
        terms,
        inputs,
        (
            benchmark <= 0,
            "have a benchmark of zero, so no target price follows.",
            "Fill in `benchmark_medical` or `benchmark_surgical`.",
        ),
        (
            (cap == 0) & (ratio != 1),
            f"hold a `trend_ratio`, and prices of {terms.performance_year} do not follow it.",
            "Leave the column out.",
        ),
    )
    discounted = book.add(
        "discounted",
        medical * (1 - terms.number("discount_medical"))
        + surgical * (1 - terms.number("discount_surgical")),
        "Less the discounts.",
    )
    trend = book.add(
        "trend",
        np.clip(ratio, 1 - cap, 1 + cap),
        "Realised over projected peer trend, within its cap.",
        unit="number",
    )
    target = book.add("target", discounted * trend, "Target amount.")
    actual = book.add("actual", inputs.number("actual"), "Spending of the episodes.")
    raw = book.add("reconciliation", target - actual, "Target amount less spending.")
    reconcile(terms, inputs, book, amount=raw, target=target)
    return book
