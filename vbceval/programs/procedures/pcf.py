"""Primary Care First: population-based and visit payments, adjusted by performance."""

from __future__ import annotations

import numpy as np

from vbceval.programs.conditions import refuse
from vbceval.programs.inputs import Inputs
from vbceval.programs.settlement import Worksheet
from vbceval.programs.terms import Terms


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Settle practices: the performance-based adjustment of one year, and total payments after it.

    Raises
    ------
    DataError
        If a practice has fewer beneficiaries than the model takes.
    """
    book = Worksheet(len(inputs.organizations))
    people, least = inputs.number("beneficiaries"), terms.number("least_beneficiaries")
    refuse(
        terms,
        inputs,
        (
            people < least,
            f"have fewer than {least.max():g} beneficiaries, so the model does not take them.",
            "Leave them out.",
        ),
    )
    months = inputs.number("months", absent=12.0)
    population = book.add(
        "population_payment",
        terms.number("population_payment") * people * months,
        "Amount of the risk group times beneficiaries and months.",
    )
    visits = book.add(
        "visit_payments",
        terms.number("visit_fee")
        * inputs.number("geographic_factor", absent=1.0)
        * inputs.number("visits"),
        "Flat fee times visits.",
    )
    paid = book.add("primary_care_payment", population + visits, "Both together.")
    rate = np.clip(
        inputs.number("performance_adjustment"),
        terms.number("lowest_adjustment"),
        terms.number("highest_adjustment"),
    )
    rate = book.add(
        "adjustment", rate, "Performance-based adjustment within its bounds.", unit="rate"
    )
    settled = book.add(
        "settlement", paid * rate, "Paid to the practice, or owed by it where negative.", final=True
    )
    book.add("total_payments", paid + settled, "The model's payments of the year.")
    return book
