"""Next Generation ACO: a discount in place of a minimum rate; first-dollar sharing, then the cap."""

from __future__ import annotations

import numpy as np

from vbceval.core.typing import FloatArray
from vbceval.programs.conditions import refuse
from vbceval.programs.inputs import Inputs
from vbceval.programs.settlement import Worksheet
from vbceval.programs.steps import limited, sequestered
from vbceval.programs.terms import Terms


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Settle organizations of one performance year.

    The cap is applied to gross savings and losses, before the organization's share of them.

    Raises
    ------
    DataError
        If a discount is missing before 2019 or given from then on, or a discount or cap is out of
        its bounds.
    """
    discount, cap = _choices(terms, inputs)
    book = Worksheet(len(inputs.organizations))
    given = book.add("undiscounted", inputs.number("benchmark"), "Benchmark before the discount.")
    discount = book.add("discount", discount, "Discount of the organization.", unit="rate")
    benchmark = book.add("benchmark", given * (1 - discount), "Less the discount.")
    spent = book.add("expenditure", inputs.number("expenditure"), "Expenditures of the year.")
    gross = book.add("gross", benchmark - spent, "Benchmark less expenditures.")
    limit = book.add("limit", cap * benchmark, "Cap times the benchmark, either way.")
    kept = book.add("limited", limited(gross, gain=limit, loss=limit), "Kept within the cap.")
    shared = book.add("shared", kept * terms.number("share"), "The organization's share.")
    book.add(
        "settlement",
        sequestered(shared, terms.number("sequestration")),
        "Paid to the organization, or owed by it where negative.",
        final=True,
    )
    return book


def _choices(terms: Terms, inputs: Inputs) -> tuple[FloatArray, FloatArray]:
    year = terms.performance_year
    standard = terms.number("standard_discount", absent=np.nan)
    given = inputs.number("discount")
    low = terms.number("discount_low", absent=0.0)
    high = terms.number("discount_high", absent=1.0)
    fixed = ~np.isnan(standard)
    highest, lowest = terms.number("cap_high"), terms.number("cap_low")
    cap = np.where(np.isnan(inputs.number("cap")), highest, inputs.number("cap"))
    refuse(
        terms,
        inputs,
        (
            ~fixed & np.isnan(given),
            f"have no `discount`, which is their own in {year}.",
            "Fill it in.",
        ),
        (
            fixed & ~np.isnan(given),
            f"have a `discount`, and in {year} it is the same for all.",
            "Leave it out, or set `standard_discount` with `with_values`.",
        ),
        (
            ~fixed & ((given < low) | (given > high)),
            f"have a `discount` that is not between {low.min():g} and {high.max():g}.",
            "Correct it.",
        ),
        (
            (cap < lowest) | (cap > highest),
            f"have a `cap` that is not between {lowest.min():g} and {highest.max():g}.",
            "Correct it.",
        ),
    )
    return np.where(fixed, standard, given), cap
