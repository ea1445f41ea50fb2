"""Transforming Episode Accountability Model: quality first, then stop-loss and stop-gain."""

from __future__ import annotations

import numpy as np

from vbceval.core.typing import FloatArray
from vbceval.programs.conditions import refuse
from vbceval.programs.inputs import Inputs
from vbceval.programs.reconciliation import reconcile
from vbceval.programs.settlement import Worksheet
from vbceval.programs.terms import Terms


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Settle hospitals: reconciliation of one performance year over the categories of episodes.

    Raises
    ------
    DataError
        If hospitals have no benchmark in any category.

    References
    ----------
    .. [1] 42 CFR 512.540-512.550.
    """
    book = Worksheet(len(inputs.organizations))
    target = _target_amount(terms, inputs, book)
    actual = book.add("actual", inputs.number("actual"), "Spending of the episodes.")
    raw = book.add("reconciliation", target - actual, "Target amount less spending.")
    owes = terms.flag("losses")
    counted = book.add(
        "after_track",
        np.where(owes, raw, np.maximum(raw, 0.0)),
        "Losses only in two-sided tracks.",
    )
    reconcile(terms, inputs, book, amount=counted, target=target, owes=owes)
    return book


def _target_amount(terms: Terms, inputs: Inputs, book: Worksheet) -> FloatArray:
    categories = terms.parameters["discount"].columns
    discounts = terms.table("discount")[0]
    parts = [inputs.number(f"benchmark_{name}", absent=0.0) for name in categories]
    benchmark = book.add(
        "benchmark", sum(parts[1:], parts[0]), "Regional benchmark prices over all episodes."
    )
    refuse(
        terms,
        inputs,
        (
            benchmark <= 0,
            "have a benchmark of zero in every category, so no target price follows.",
            "Fill in `benchmark_lejr` or another category.",
        ),
    )
    discounted = sum(part * (1 - rate) for part, rate in zip(parts, discounts, strict=True))
    preliminary = book.add("preliminary_target", discounted, "Less the discount of each category.")
    risk = book.add(
        "risk_factor", inputs.number("risk_factor", absent=1.0), "Risk factors.", unit="number"
    )
    normalisation = _capped(terms, inputs, book, "normalisation")
    trend = _capped(terms, inputs, book, "trend")
    return book.add(
        "target",
        preliminary * risk * normalisation * trend,
        "Reconciliation target: preliminary target times risk, normalisation and trend.",
    )


def _capped(terms: Terms, inputs: Inputs, book: Worksheet, name: str) -> FloatArray:
    cap = terms.number(f"{name}_cap")
    values = np.clip(inputs.number(name, absent=1.0), 1 - cap, 1 + cap)
    return book.add(name, values, f"Factor of {name}, within its cap.", unit="number")
