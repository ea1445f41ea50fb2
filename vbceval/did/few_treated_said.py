"""What a result says where few clusters are treated and its errors do not allow for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from vbceval.core.disclosure import SMALLEST_SHOWN, say_people
from vbceval.core.groups import distinct
from vbceval.did.entries import Entries
from vbceval.estimates import Estimates
from vbceval.moments import Moments
from vbceval.panel import Panel

FEW = 5
"""Treated clusters up to which errors built from influence are said to be unreliable."""

_SAMPLED = 64
_UNPROTECTED = ("CR0", "CR1", "HC1", "recentred", "neyman", "adjusted", "jackknife")
_RESAMPLED = ("multiplier bootstrap", "bootstrap", "two-way")
_REMEDY = (
    "errors rest on the variation of these few, and intervals are usually far too short. Compare "
    "with `vbceval.sensitivity.placebo_in_space`; where the estimator has it, with "
    "vcov='randomization' or 'placebo'; in a regression also with 'CR2' or 'wild' (which find "
    "little), or, beside 20 untreated clusters, with 'ferman-pinto' or 'conley-taber'."
)


def with_few_treated_said(
    estimates: Estimates, data: Panel | Moments, entries: Entries
) -> Estimates:
    """
    Return estimates whose warnings name cohorts with few treated clusters.

    Nothing is said where errors allow for it ("CR2", "CR3", "wild", draws from untreated clusters),
    where they are independent ("iid"), or of one treated cluster: the rows of a regression note it.

    Parameters
    ----------
    estimates : Estimates
        Result of a fit.
    data : Panel or Moments
        What was fitted.
    entries : Entries
        Its entries.

    Notes
    -----
    Cohorts that enter after the first period and not after the last one are counted, all strata
    together. Where clusters are people, counts up to 10 are one class.
    """
    if not _unprotected(str(estimates.meta.get("vcov"))):
        return estimates
    cohorts = estimates.frame["cohort"].to_numpy(dtype=float)
    said = list(_few(data, entries, frozenset(cohorts[np.isfinite(cohorts)].tolist())))
    if not said:
        return estimates
    warnings = sorted({*estimates.meta.get("warnings", ()), *said})
    # apart as well, so that errors which allow for it can take it back
    return replace(
        estimates, meta={**estimates.meta, "warnings": warnings, "few_treated_said": said}
    )


def _unprotected(vcov: str) -> bool:
    """Whether errors come from the variation of clusters or rows, however few are treated."""
    # "CR1" alone: other names that begin so say that a test allows for few
    return vcov in _UNPROTECTED or vcov.startswith(_RESAMPLED)


def _few(data: Panel | Moments, entries: Entries, reported: frozenset[float]) -> Iterator[str]:
    """Yield one sentence, of all cohorts together or of those reported that have few."""
    cluster, cohort, periods = entries
    name = data.cluster_name if isinstance(data, Moments) else data.cluster
    unit = data.unit_name if isinstance(data, Moments) else data.unit
    people = data.people and unit == name
    entered = distinct(cohort)
    entered = entered[(entered > periods.min()) & (entered <= periods.max())]
    rows = {float(g): np.flatnonzero(cohort == g) for g in entered}
    labels = {g: _few_labels(cluster, places, people) for g, places in rows.items()}
    total = None
    if all(found is not None for found in labels.values()):
        total = set().union(*(found for found in labels.values() if found is not None))
    if total is not None and _is_few(len(total), people):
        yield f"{_counted(len(total), people)} treated (`{name}`): {_REMEDY}"
        return
    few = [
        f"cohort {g:g} has {_counted(len(found), people)} treated"
        for g, found in labels.items()
        if g in reported and found is not None and _is_few(len(found), people)
    ]
    if few:
        yield f"{', '.join(few)} (`{name}`): {_REMEDY}"


def _few_labels(cluster: pd.Series, rows: np.ndarray, people: bool) -> set[object] | None:
    """Return labels of the clusters of some rows, None where they are not few."""
    limit = SMALLEST_SHOWN - 1 if people else FEW
    # rows are in the order of units, so that a few apart from each other tell many clusters soon
    apart = rows[:: max(1, len(rows) // _SAMPLED)]
    for part in (apart, rows):
        found = set(cluster.iloc[part].unique())
        if len(found) > limit:
            return None
    return found


def _is_few(count: int, people: bool) -> bool:
    return 0 < count < SMALLEST_SHOWN if people else 1 < count <= FEW


def _counted(count: int, people: bool) -> str:
    return say_people(count, "clusters") if people else f"{count} clusters"
