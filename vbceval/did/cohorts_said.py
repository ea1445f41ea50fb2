"""What a result says of the cohorts it was estimated from: few clusters, entry outside the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import wraps
from typing import Any, cast

import numpy as np

from vbceval.core.checks import listed
from vbceval.core.groups import distinct
from vbceval.did.entries import Entries, entries_of
from vbceval.did.few_treated_said import with_few_treated_said
from vbceval.estimates import Estimates
from vbceval.moments import Moments
from vbceval.panel import Panel

_KEEP_ALWAYS_TREATED = ("TWFE", "EventStudy")


def says_of_cohorts[Fit: Callable[..., Estimates]](fit: Fit) -> Fit:
    """
    Let a method ``fit(self, data, design, ...)`` say what is to be known of cohorts.

    Parameters
    ----------
    fit : callable
        Method of an estimator that reads treatment from cohorts.
    """

    @wraps(fit)
    def fitted(self: Any, data: Any, design: Any, **options: Any) -> Estimates:
        return with_cohorts_said(fit(self, data, design, **options), data)

    return cast(Fit, fitted)


def with_cohorts_said(estimates: Estimates, data: Panel | Moments) -> Estimates:
    """
    Return estimates whose warnings tell of cohorts, and those of the moments they are from.

    Said are cohorts that enter before or after the periods of the data, or between two of them, and
    cohorts with few treated clusters (`with_few_treated_said`).

    Parameters
    ----------
    estimates : Estimates
        Result of a fit.
    data : Panel or Moments
        What was fitted.
    """
    said = list(data.meta.get("warnings", ())) if isinstance(data, Moments) else []
    if not _reads_a_column(estimates):
        entries = entries_of(data)
        said += _outside(estimates, entries)
        estimates = with_few_treated_said(estimates, data, entries)
    if not said:
        return estimates
    warnings = sorted({*estimates.meta.get("warnings", ()), *said})
    return replace(estimates, meta={**estimates.meta, "warnings": warnings})


def _reads_a_column(estimates: Estimates) -> bool:
    """Whether treatment is a column of its own, so that cohorts say nothing of it."""
    replaced = (estimates.meta.get("options") or {}).get("dose") is not None
    return replaced and estimates.meta.get("estimator") in ("TWFE", "Switching")


def _in_levels(estimates: Estimates) -> bool:
    """Whether cohorts without a period before entry have effects, as differences in levels."""
    if estimates.meta.get("estimator") != "Efficient":
        return False
    options = estimates.meta["options"]
    default = "drop" if options["beta"] == 1 else "keep"
    return bool((options["without_base"] or default) == "keep")


def _outside(estimates: Estimates, entries: Entries) -> Iterator[str]:
    """Yield a sentence for cohorts before, after and between the periods; labels, and no counts."""
    periods, cohorts = distinct(entries.periods), distinct(entries.cohort)
    if not len(periods):
        return
    ahead = float((estimates.meta.get("design") or {}).get("anticipation") or 0.0)
    first, last = float(periods[0]), float(periods[-1])
    early = cohorts[cohorts - ahead <= first]
    late = cohorts[cohorts - ahead > last]
    whole = np.isclose((cohorts[:, None] - periods), np.rint(cohorts[:, None] - periods)).any(
        axis=1
    )
    before = f" less {ahead:g} of anticipation" if ahead else ""
    if len(early):
        said = (
            f"{_named(early)} entered{before} in the first period ({first:g}) or earlier, so nothing is "
            "seen before entry"
        )
        if estimates.meta.get("estimator") in _KEEP_ALWAYS_TREATED:
            yield (
                f"{said}. They stay in the regression as always treated: their changes count among the "
                "comparisons, and at late event times. Leave them out of the data where effects may "
                "grow with time."
            )
        elif _in_levels(estimates):
            yield (
                f"{said}. They are compared in levels, which rests on random timing alone; leave them out "
                "with without_base='drop'."
            )
        else:
            yield f"{said}, and they have no effect of their own."
    if len(late):
        yield (
            f"{_named(late)} enter{before} after the last period ({last:g}), and are never treated in "
            "these data."
        )
    if not whole.all():
        yield (
            f"{_named(cohorts[~whole])} enter between two periods, so event times are no whole numbers. "
            "Give the first period in which they are treated."
        )


def _named(cohorts: np.ndarray) -> str:
    return f"cohorts {listed([f'{g:g}' for g in cohorts])}"
