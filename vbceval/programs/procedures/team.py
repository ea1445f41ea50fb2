"""Transforming Episode Accountability Model: quality first, then stop-loss and stop-gain."""

from __future__ import annotations

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray
from vbceval.programs.conditions import refuse
from vbceval.programs.inputs import Inputs
from vbceval.programs.reconciliation import reconcile
from vbceval.programs.settlement import Worksheet
from vbceval.programs.terms import Terms

_CENT = 0.01  # sums of rounded amounts


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Settle hospitals: reconciliation of one performance year over the categories of episodes.

    Nothing is reconciled for hospitals that came into the program later and are still deferred.

    Raises
    ------
    DataError
        If hospitals have no benchmark in any category, few baseline episodes of a category without
        its spending, or more spending in categories than in all.

    References
    ----------
    .. [1] 42 CFR 512.540-512.550.
    """
    book = Worksheet(len(inputs.organizations))
    target = _target_amount(terms, inputs, book)
    actual = book.add("actual", inputs.number("actual"), "Spending of the episodes.")
    relief = _low_volume_relief(terms, inputs, book, target)
    raw = book.add("reconciliation", target - actual + relief, "Target amount less spending.")
    owes = terms.flag("losses")
    counted = np.where(owes, raw, np.maximum(raw, 0.0))
    if "first_eligible" in inputs:
        deferred = _deferred(terms, inputs, book)
        counted, owes = np.where(deferred, 0.0, counted), owes & ~deferred
    counted = book.add("after_track", counted, "Losses only in two-sided tracks.")
    reconcile(terms, inputs, book, amount=counted, target=target, owes=owes)
    return book


def _deferred(terms: Terms, inputs: Inputs, book: Worksheet) -> BoolArray:
    came = inputs.number("first_eligible", absent=-np.inf)
    late = came >= terms.number("deferred_from", absent=np.inf)
    deferred = late & (terms.performance_year - came <= terms.number("deferred_years", absent=0.0))
    what = "Whether participation is deferred, because the hospital came into the program late."
    return np.asarray(book.add("deferred", deferred, what, unit="flag"), dtype=bool)


def _low_volume_relief(
    terms: Terms, inputs: Inputs, book: Worksheet, target: FloatArray
) -> FloatArray | float:
    """Return losses of categories with too few baseline episodes, which do not count."""
    categories = [
        name
        for name in terms.parameters["discount"].columns
        if f"baseline_episodes_{name}" in inputs
    ]
    if not categories:
        return 0.0
    fewest = terms.number("low_volume_below", absent=0.0)
    discounts = dict(
        zip(terms.parameters["discount"].columns, terms.table("discount")[0], strict=True)
    )
    every = [inputs.number(f"benchmark_{n}", absent=0.0) * (1 - d) for n, d in discounts.items()]
    preliminary = sum(every[1:], every[0])
    parts = sum(inputs.number(f"actual_{name}", absent=0.0) for name in discounts)
    refuse(
        terms,
        inputs,
        (
            parts > inputs.number("actual") + _CENT,
            "have more spending in categories than in `actual`, so losses left out would be too large.",
            "Correct `actual` or `actual_lejr` and the others.",
        ),
    )
    relief: FloatArray | float = 0.0
    for name in categories:
        low = inputs.number(f"baseline_episodes_{name}") < fewest
        spent = inputs.number(f"actual_{name}")
        part = inputs.number(f"benchmark_{name}", absent=0.0) * (1 - discounts[name])
        refuse(
            terms,
            inputs,
            (
                low & (part > 0) & np.isnan(spent),
                f"have few baseline episodes of {name} and no `actual_{name}`, whose losses do not "
                "count.",
                "Fill it in.",
            ),
        )
        loss = np.maximum(np.nan_to_num(spent) - target * part / preliminary, 0.0)
        relief = relief + np.where(low & (part > 0), loss, 0.0)
    return book.add(
        "low_volume_relief", relief, "Losses in categories with too few baseline episodes."
    )


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
