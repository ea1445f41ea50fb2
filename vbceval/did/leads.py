"""Leads of entry, fitted on untreated cells only."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from vbceval.core.errors import DesignError
from vbceval.core.groups import distinct
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.design import Design
from vbceval.did.disclosed import tells_small
from vbceval.did.inputs import shown
from vbceval.did.untreated_cells import Arranged, Sample, fit_sample

LEAD = "pretrend_lead"
"""``estimand`` of the rows of a pre-trend regression."""


class LeadFit(NamedTuple):
    """
    Leads of one stratum.

    Parameters
    ----------
    rows : list of dict
        Keys, estimate and counts of each lead.
    psi : array, shape (G, leads)
        Influence of each cluster.
    clusters : bool array, shape (G,)
        Which clusters are used.
    few : bool
        Whether a cohort is of so few people that counts of leads would tell it.
    n_rows : int
        Rows of the regression.
    n_nested, n_full : int
        Its parameters: without entity effects, and with every absorbed effect.
    """

    rows: list[dict[str, Any]]
    psi: FloatArray
    clusters: BoolArray
    few: bool
    n_rows: int
    n_nested: int
    n_full: int


def fit_leads(
    sample: Sample,
    events: IntArray,
    *,
    covariate_effect: str,
    design: Design,
    stratum: str | None,
    last: float,
    people: bool,
    n_clusters: int,
) -> LeadFit:
    """
    Regress untreated outcomes on effects, covariates and dummies of event times before entry.

    Parameters
    ----------
    sample : Sample
        Cells; the untreated ones are used.
    events : int array, shape (leads,)
        Event times with a dummy.
    covariate_effect : {"level", "trend"}
        How covariates enter.
    design : Design
        For the keys of rows.
    stratum : str or None
        Name of the stratum.
    last : float
        Cohorts after it are never treated in these data and have no leads.
    people : bool
        Whether counts of units may be counts of people.
    n_clusters : int
        G.

    Raises
    ------
    DesignError
        If an event time has no untreated cell.
    """
    live = sample.untreated
    sample = Sample(sample.arranged.take(live), live[live], sample.treated[live])
    arranged, block = sample.arranged, sample.arranged.block
    event_time = np.where(block.cohort <= last, block.period - block.cohort, np.nan)
    dummies = event_time[:, None] == events
    empty = [f"{e:g}" for e in events[~dummies.any(axis=0)]]
    if empty:
        raise DesignError(
            f"no untreated cell has event time {', '.join(empty)}, so these leads cannot "
            "be tested. Ask for fewer `leads`."
        )
    x, names = sample.covariates(covariate_effect)
    p, k = len(names), len(events)
    # a dummy is constant within a cell: its second moments there are zero
    padded = block._replace(xx=_padded(block.xx, k, 2), xy=_padded(block.xy, k, 1))
    fit = fit_sample(
        sample._replace(arranged=arranged._replace(block=padded)),
        np.column_stack([x, dummies.astype(float)]),
        (*names, *(f"event time {e:g}" for e in events)),
        n_clusters=n_clusters,
    )
    rows = []
    for event, estimate, dummy in zip(events, fit.beta[p:], dummies.T, strict=True):
        rows.append({
            "estimand": LEAD, "outcome": design.outcome, "unit_of_measure": design.unit_of_measure,
            "event_time": float(event), "stratum": stratum, "estimate": float(estimate),
            "n_units": shown(arranged.count_units(live[live]), people),
            "n_clusters": len(np.unique(block.cluster)),
            "n_treated": shown(arranged.count_units(dummy), people),
        })  # fmt: skip
    times = int((fit.part_of_time >= 0).sum())
    parts = len(np.unique(fit.part_of_time[fit.part_of_time >= 0]))
    entities = int((fit.part_of_entity >= 0).sum())
    return LeadFit(
        rows, fit.score @ fit.inverse[:, len(fit.free) + p :],
        np.bincount(block.cluster, minlength=n_clusters) > 0,
        people and _tells_few(arranged, dummies), int(arranged.n_rows.sum()),
        times + p + k, entities + times - parts + p + k,
    )  # fmt: skip


def _tells_few(arranged: Arranged, dummies: BoolArray) -> bool:
    """Whether counts of leads, dummies (K, leads), would tell a cohort of 1-10 units."""
    own = [arranged.block.cohort == g for g in distinct(arranged.block.cohort)]
    sizes = np.array([arranged.count_units(rows) for rows in own], dtype=np.int64)
    held = np.array([dummies[rows].any(axis=0) for rows in own]).reshape(len(own), -1)
    return tells_small(sizes, held.T)


def _padded(moment: FloatArray | None, more: int, axes: int) -> FloatArray | None:
    """Return second moments with zeros for more covariates, which `axes` axes are of."""
    if moment is None:
        return None
    return np.pad(moment, [(0, 0)] + [(0, more)] * axes + [(0, 0)] * (moment.ndim - 1 - axes))
