"""Reported averages of the cohort x event time x stratum effects, in dollars and in percent."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.bayes.cells import Cells
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.design import Design
from vbceval.estimates.columns import COHORT, EVENT_TIME, OVERALL

PERCENT = "percent of baseline"
STRATUM = "att_stratum"


class Averages(NamedTuple):
    """
    Rows of the result and how they follow from the effects.

    Parameters
    ----------
    frame : DataFrame, k rows
        Keys, ``baseline`` (mean before entry over the cells of the row, in the unit of the
        outcome), ``exposure`` (person-years averaged over), ``n_clusters`` (all), ``n_treated``
        (clusters whose effect it is).
    weights : array, shape (k, J)
        A row is ``weights @ effect``, effects in percent of their stratum's baseline.
    """

    frame: pd.DataFrame
    weights: FloatArray


def averages(cells: Cells, design: Design) -> Averages:
    """
    Return the averages that are reported.

    Overall, by event time, by cohort and by stratum, each over treated cells at or after entry
    (event times before entry appear in their own rows) and weighted by person-years, first in the
    unit of the outcome, then in percent of the baseline of the same cells.
    """
    effects = cells.effects
    treated = cells.effect_of_cell >= 0
    exposure = np.bincount(
        cells.effect_of_cell[treated], cells.exposure[treated], minlength=len(effects)
    )
    base = cells.baseline[effects["stratum_code"].to_numpy()]
    records, weights = [], []
    for record, mask in _rows(cells):
        weight = np.where(mask, exposure, 0.0)
        if weight.sum() == 0:
            continue
        mean = float(weight @ base / weight.sum())
        members = cells.cluster[treated & np.append(mask, False)[cells.effect_of_cell]]
        shared = {
            "outcome": design.outcome, "stratum": None, **record, "baseline": mean,
            "exposure": float(weight.sum()), "n_clusters": float(len(cells.clusters)),
            "n_treated": float(len(np.unique(members))),
        }  # fmt: skip
        dollars = weight * base / 100.0 / weight.sum()
        for unit, row in ((design.unit_of_measure, dollars), (PERCENT, 100.0 * dollars / mean)):
            records.append({**shared, "unit_of_measure": unit})
            weights.append(row)
    return Averages(pd.DataFrame(records), np.array(weights))


def _rows(cells: Cells) -> list[tuple[dict[str, Any], BoolArray]]:
    """Return the keys of each row and the effects it averages."""
    e = cells.effects["event_time"].to_numpy(dtype=float)
    cohort = cells.effects["cohort"].to_numpy(dtype=float)
    stratum = cells.effects["stratum_code"].to_numpy()
    late = e >= 0
    rows: list[tuple[dict[str, Any], BoolArray]] = [({"estimand": OVERALL}, late)]
    rows += [({"estimand": EVENT_TIME, "event_time": x}, e == x) for x in np.unique(e)]
    rows += [
        ({"estimand": COHORT, "cohort": g}, late & (cohort == g)) for g in np.unique(cohort[late])
    ]
    if cells.n_strata > 1:
        rows += [
            ({"estimand": STRATUM, "stratum": name}, late & (stratum == s))
            for s, name in enumerate(cells.strata)
        ]
    return rows
