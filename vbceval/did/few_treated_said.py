"""What a result says where few clusters are treated and its errors do not allow for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from vbceval.core.disclosure import SMALLEST_SHOWN, say_people
from vbceval.estimates import Estimates
from vbceval.moments import Moments
from vbceval.panel import Panel

FEW = 5
"""Treated clusters up to which errors built from influence are said to be unreliable."""

_SAMPLED = 64
_REMEDY = (
    "errors rest on the variation of these few, of which a fit takes much away, and are usually far "
    "too small. Compare with vcov='randomization' or `vbceval.sensitivity.placebo_in_space`; in a "
    "regression also with 'CR2' or 'wild' (which find little), or, beside 20 untreated clusters, "
    "with 'ferman-pinto' or 'conley-taber'."
)


def with_few_treated_said(estimates: Estimates, data: Panel | Moments) -> Estimates:
    """
    Return estimates whose warnings name cohorts with few treated clusters.

    Nothing is said where errors allow for it ("CR2", "CR3", "wild", draws from untreated clusters),
    where they are independent ("iid"), or of one treated cluster, which the rows note.

    Parameters
    ----------
    estimates : Estimates
        Result of a fit.
    data : Panel or Moments
        What was fitted.

    Notes
    -----
    Cohorts that enter after the first period and not after the last one are counted, all strata
    together. Where clusters are people, counts up to 10 are one class.
    """
    if not _unprotected(str(estimates.meta.get("vcov"))):
        return estimates
    cohorts = estimates.frame["cohort"].to_numpy(dtype=float)
    said = list(_few(data, frozenset(cohorts[np.isfinite(cohorts)].tolist())))
    if not said:
        return estimates
    warnings = sorted({*estimates.meta.get("warnings", ()), *said})
    return replace(estimates, meta={**estimates.meta, "warnings": warnings})


def _unprotected(vcov: str) -> bool:
    """Whether errors come from influence, or from rows, without regard to how many are treated."""
    return vcov in ("CR0", "CR1", "HC1") or vcov.startswith(("multiplier bootstrap", "two-way"))


def _few(data: Panel | Moments, reported: frozenset[float]) -> Iterator[str]:
    """Yield one sentence for all cohorts together, or for each reported one that has few."""
    cluster, cohort, periods = _attributes(data)
    name = data.cluster_name if isinstance(data, Moments) else data.cluster
    unit = data.unit_name if isinstance(data, Moments) else data.unit
    people = data.people and unit == name
    entered = np.unique(cohort[(cohort > periods.min()) & (cohort <= periods.max())])
    rows = {float(g): np.flatnonzero(cohort == g) for g in entered}
    labels = {g: _few_labels(cluster, places, people) for g, places in rows.items()}
    total = None
    if all(found is not None for found in labels.values()):
        total = set().union(*(found for found in labels.values() if found is not None))
    if total is not None and _is_few(len(total), people):
        yield f"{_counted(len(total), people)} treated (`{name}`): {_REMEDY}"
        return
    for g, found in labels.items():
        if g in reported and found is not None and _is_few(len(found), people):
            yield f"cohort {g:g} has {_counted(len(found), people)} treated (`{name}`): {_REMEDY}"


def _attributes(data: Panel | Moments) -> tuple[pd.Series, np.ndarray, np.ndarray]:
    """Return cluster and cohort of rows or units, and the periods."""
    if isinstance(data, Moments):
        units = data.units
        periods = data.cells["period"].to_numpy(dtype=float)
        return units["cluster"], units["cohort"].to_numpy(dtype=float), periods
    frame = data.frame
    periods = frame[data.period].to_numpy(dtype=float)
    return frame[data.cluster], frame[data.cohort].to_numpy(dtype=float), periods


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
