"""Pioneer ACO, core arrangement: minimum rate, sharing by quality, cap."""

from __future__ import annotations

import numpy as np

from vbceval.programs.inputs import Inputs
from vbceval.programs.settlement import Worksheet
from vbceval.programs.steps import gate, limited, sequestered
from vbceval.programs.terms import Terms


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """Settle organizations of one performance year."""
    book = Worksheet(len(inputs.organizations))
    benchmark = book.add("benchmark", inputs.number("benchmark"), "Benchmark of the year.")
    spent = book.add("expenditure", inputs.number("expenditure"), "Expenditures of the year.")
    gross = book.add("gross", benchmark - spent, "Benchmark less expenditures.")
    least = book.add("msr", terms.number("msr"), "Minimum rate either way.", unit="rate")
    passed = book.add(
        "passes_gate",
        gate(gross, benchmark, savings=least, losses=least),
        "Whether savings or losses meet the minimum rate.",
        unit="flag",
    )
    final = terms.number("share") * inputs.number("quality_score")
    lost = np.where(terms.flag("loss_depends_on_quality"), 1 - final, terms.number("share"))
    rate = book.add(
        "rate",
        np.where(gross > 0, final, lost),
        "Share of savings, by quality, or of losses.",
        unit="rate",
    )
    shared = book.add(
        "shared", np.where(passed, gross * rate, 0.0), "Shared from the first dollar."
    )
    limit = book.add(
        "limit", terms.number("cap") * benchmark, "Cap times the benchmark, either way."
    )
    kept = book.add("limited", limited(shared, gain=limit, loss=limit), "Kept within the cap.")
    book.add(
        "settlement",
        sequestered(kept, terms.number("sequestration")),
        "Paid to the organization, or owed by it where negative.",
        final=True,
    )
    return book
