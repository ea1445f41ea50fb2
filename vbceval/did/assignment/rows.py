"""Rows of results: effects of assignment, of the dose, and how strong the instrument is."""

from __future__ import annotations

from typing import Any

import numpy as np

from vbceval.design import Design
from vbceval.did.assignment.reduced import Reduced
from vbceval.did.assignment.weak import Strength
from vbceval.did.inputs import ONE_CLUSTER, shown
from vbceval.inference.fieller import Robust
from vbceval.moments import Moments

ITT, FIRST_STAGE, LATE = "itt", "first_stage", "late"
"""``estimand`` of rows: effect of assignment on the outcome, on the dose, and their ratio."""
WEAK = "weak instrument: read ar_low, ar_high and ar_set instead of the interval"


def form_rows(part: Reduced) -> list[dict[str, Any]]:
    """Rows of the effects of assignment on outcome and dose."""
    out = []
    for estimand, piece in ((ITT, part.outcome), (FIRST_STAGE, part.dose)):
        out += [
            row_of(part, estimand, row, float(value), None, None)
            for row, value in zip(part.rows, piece.estimate, strict=True)
        ]
    return out


def row_of(
    part: Reduced,
    estimand: str,
    key: dict[str, Any],
    value: float,
    strength: Strength | None,
    robust: Robust | None,
) -> dict[str, Any]:
    """One row, counts still to be suppressed."""
    sample, support = part.outcome.equation.sample, part.outcome.equation.support
    assigned = np.where(support >= 0, 0, -1)
    clusters = sample.cells.block.cluster
    note = ""
    if len(np.unique(clusters[support >= 0])) == 1:
        note = ONE_CLUSTER
    elif strength is not None and strength.f < strength.critical:
        note = WEAK
    units = int(sample.count_units(np.zeros(len(support), dtype=np.int64), 1)[0])
    return {
        "estimand": estimand, "stratum": sample.stratum, **key, "estimate": value,
        "n_units": units, "n_treated": int(sample.count_units(assigned, 1)[0]),
        "n_clusters": len(np.unique(clusters)), "note": note,
        "first_stage_f": np.nan if strength is None else strength.f,
        "first_stage_critical": np.nan if strength is None else strength.critical,
        "ar_low": np.nan if robust is None else robust.low,
        "ar_high": np.nan if robust is None else robust.high,
        "ar_set": "" if robust is None else robust.shape,
    }  # fmt: skip


def described(
    record: dict[str, Any], design: Design, dose: str, moments: Moments
) -> dict[str, Any]:
    """Name outcome and unit of a row, and blank counts of 1-10 people."""
    unit = design.unit_of_measure
    about = {
        ITT: (design.outcome, unit), FIRST_STAGE: (dose, None),
        LATE: (design.outcome, None if unit is None else f"{unit} per unit of {dose}"),
    }[record["estimand"]]  # fmt: skip
    own = moments.people and moments.unit_name == moments.cluster_name
    total, treated = record["n_units"], record["n_treated"]
    sides = [shown(n, moments.people) for n in (treated, total - treated)]
    return {
        **record, "outcome": about[0], "unit_of_measure": about[1],
        "n_units": np.nan if np.isnan(sides).any() else float(total), "n_treated": sides[0],
        "n_comparison": sides[1], "n_clusters": shown(record["n_clusters"], own),
    }  # fmt: skip
