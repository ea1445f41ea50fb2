"""Leads of a varying base, added up to leads relative to the last period before entry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.estimates import Estimates, columns


def has_varying_base(est: Estimates) -> bool:
    """Return whether leads of group-time effects compare adjacent periods."""
    design = est.meta.get("design", {})
    if est.meta.get("estimator") != "GroupTime" or design.get("base_period") != "varying":
        return False
    e = est.frame["event_time"].to_numpy(dtype=float)
    return bool((e < -int(design.get("anticipation", 0))).any()) and "cumulated" not in est.meta


def cumulate(est: Estimates) -> Estimates:
    """
    Return group-time effects whose leads are relative to the last period before entry.

    The lead of cohort g at t with that base is minus the sum of the changes from t to it.

    Parameters
    ----------
    est : Estimates
        Group-time effects with a varying base, one row a cohort and period.

    Returns
    -------
    Estimates
        The same effects after entry; for each cohort one more lead, at the first period, and a row
        of zeros at the base.

    Raises
    ------
    DesignError
        If effects were averaged over cohorts already: the mix of cohorts changes along event time,
        so their sums are of no cohort.
    """
    if set(est.frame["estimand"]) != {columns.GROUP_TIME}:
        raise DesignError(
            "leads of a varying base can be added up within cohorts only, and these effects are "
            "averaged over cohorts. Pass the group-time effects themselves."
        )
    anticipation = int(est.meta["design"]["anticipation"])
    frame = est.frame
    rows: list[FloatArray] = []
    source: list[int] = []
    records: list[dict[str, Any]] = []
    cohorts = frame["cohort"].to_numpy(dtype=float)
    for cohort in np.unique(cohorts):
        at = np.flatnonzero(cohorts == cohort)
        at = at[np.argsort(frame["period"].to_numpy()[at])]
        for period, weights, like in _of_cohort(frame, at, cohort - anticipation):
            rows.append(weights)
            source.append(like)
            records.append({"period": period, "event_time": period - cohort})
    out = est.contrast(np.array(rows))
    described = frame.iloc[source].reset_index(drop=True).assign(**pd.DataFrame(records))
    described = described.assign(estimate=out.estimate, df=out.frame["df"].to_numpy())
    shares = None if est.shares is None else est.shares.take(np.array(source))
    meta = {**est.meta, "cumulated": True}
    return replace(out.with_frame(described), shares=shares, meta=meta)


def _of_cohort(
    frame: pd.DataFrame, at: IntArray, first_affected: float
) -> list[tuple[float, FloatArray, int]]:
    """Periods of a cohort with the weights of their effect and a row that resembles them."""
    period = frame["period"].to_numpy(dtype=float)[at]
    base = frame["base"].to_numpy(dtype=float)[at]
    unit = np.eye(len(frame))[at]
    before = period < first_affected
    out = [(float(t), unit[i], int(at[i])) for i, t in enumerate(period) if not before[i]]
    if before.any():
        last = float(period[before].max())
        out.append((last, np.zeros(len(frame)), int(at[before][-1])))
        for i in np.flatnonzero(before):
            later = before & (period >= period[i])
            out.append((float(base[i]), -unit[later].sum(axis=0), int(at[i])))
    return sorted(out, key=lambda row: row[0])
