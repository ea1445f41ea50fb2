"""Medical homes: a fee per member and month, and shared savings where a target is agreed."""

from __future__ import annotations

import numpy as np

from vbceval.programs.conditions import refuse
from vbceval.programs.inputs import Inputs
from vbceval.programs.settlement import Worksheet
from vbceval.programs.steps import gate
from vbceval.programs.terms import Terms


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Settle practices of one year.

    Raises
    ------
    DataError
        If a practice has a benchmark and no expenditure, or the other way round.
    """
    book = Worksheet(len(inputs.organizations))
    refuse(
        terms,
        inputs,
        (
            inputs.known("benchmark") != inputs.known("expenditure"),
            "have only one of `benchmark` and `expenditure`.",
            "Give both, or neither where no savings are shared.",
        ),
    )
    fees = book.add(
        "fees",
        inputs.number("fee_pmpm") * inputs.number("member_months"),
        "Fee times member months.",
    )
    benchmark = book.add(
        "benchmark", inputs.number("benchmark"), "Spending target; missing without shared savings."
    )
    counted = np.where(terms.flag("net_of_fees"), fees, 0.0) + inputs.number("expenditure")
    spent = book.add("counted", counted, "Spending, with fees where they count.")
    savings = np.maximum(np.nan_to_num(benchmark - spent), 0.0)
    savings = book.add("savings", savings, "Target less spending, where positive.")
    passed = gate(savings, np.nan_to_num(benchmark), savings=terms.number("msr"), losses=np.inf)
    book.add("passes_gate", passed, "Whether savings meet the minimum rate.", unit="flag")
    rate = terms.number("sharing_rate") * inputs.number("quality_score", absent=1.0)
    shared = book.add(
        "shared_savings", np.where(passed, savings * rate, 0.0), "Shared with the practice."
    )
    book.add("settlement", fees + shared, "Fees and shared savings.", final=True)
    return book
