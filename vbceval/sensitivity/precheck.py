"""All that the periods before entry say about trends, in one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError, EstimationError
from vbceval.estimates import Estimates
from vbceval.sensitivity.equivalence import equivalence
from vbceval.sensitivity.event_path import Varying
from vbceval.sensitivity.given import require_estimates
from vbceval.sensitivity.honest import Target, honest
from vbceval.sensitivity.pretrend_power import pretrend_power
from vbceval.sensitivity.pretrends import pretrends
from vbceval.sensitivity.restrictions import Bound

_Row = dict[str, Any]
_BREAKDOWN: dict[str, Bound] = {
    "breakdown_relative": "relative_magnitudes",
    "breakdown_smoothness": "smoothness",
}


def precheck(
    est: Estimates,
    *,
    target: Target = "first",
    baseline: float | None = None,
    level: float = 0.95,
    anticipation: int | None = None,
    varying: Varying = "refuse",
) -> pd.DataFrame:
    """
    Put the evidence on trends side by side: a joint test is never shown alone.

    Parameters
    ----------
    est : Estimates
        An event study with leads, group-time effects, or `from_numbers`.
    target : {"first", "average"}, mapping or array, default "first"
        The effect whose breakdown is sought; see `honest`.
    baseline : float, optional
        Baseline mean of the outcome, for equivalence margins in percent.
    level : float, default 0.95
        Level of tests, intervals and sets.
    anticipation, varying
        See `vbceval.sensitivity.event_path.event_path`.

    Returns
    -------
    DataFrame
        Columns ``check, statistic, df, p_value, estimate, conf_low, conf_high, note``. Rows:

        - ``joint``, ``entry_dip``: see `pretrends`.
        - ``equivalence_max``, ``equivalence_mean``, ``equivalence_slope``: the largest difference
          that is not excluded, in the unit of the outcome (a period).
        - ``slope_power_50``, ``slope_power_80``: linear trend that significant leads would show
          with this probability; trends below it would often pass.
        - ``breakdown_relative``, ``breakdown_smoothness``: size of violations at which the effect
          may be zero, relative to the largest before entry, and as a change of slope.

        A check that the leads do not allow is a row with a note that says why.

    Raises
    ------
    DesignError
        If there are no leads, or several strata, outcomes or runs.
    """
    require_estimates(est)
    if anticipation is not None:
        design = {**est.meta.get("design", {}), "anticipation": anticipation}
        est = replace(est, meta={**est.meta, "design": design})
    rows = pretrends(est, level=level)
    rows = rows[rows["check"] != "equivalence"]
    options = {"varying": varying}
    found = [
        *_attempt("equivalence", _equivalence, est, baseline, level, options),
        *_attempt("slope_power", _power, est, level, options),
    ]
    for name, bound in _BREAKDOWN.items():
        found += _attempt(name, _breakdown, est, name, bound, target, level, options)
    out = pd.DataFrame([*rows.to_dict("records"), *found])
    return out.reindex(columns=rows.columns)


def _attempt(name: str, make: Callable[..., list[_Row]], *arguments: Any) -> list[_Row]:
    """Rows of a check, or one that says why it is not possible with these leads."""
    try:
        return make(*arguments)
    except (DesignError, EstimationError) as error:
        return [{"check": name, "note": f"not available: {error}"}]


def _equivalence(
    est: Estimates, baseline: float | None, level: float, options: dict[str, Any]
) -> list[_Row]:
    rows = []
    table = equivalence(est, baseline=baseline, level=level, **options).table
    for row in table.itertuples():
        share = "" if baseline is None else f"; {row.percent_of_baseline:.2g} % of baseline"
        unit = " a period" if row.check == "slope" else ""
        rows.append({
            "check": f"equivalence_{row.check}", "df": row.df, "estimate": row.smallest_margin,
            "note": f"larger differences{unit} are excluded at {level:g}{share} ({row.note})",
        })  # fmt: skip
    return rows


def _power(est: Estimates, level: float, options: dict[str, Any]) -> list[_Row]:
    found = pretrend_power(est, level=level, **options)
    words = "linear trend a period that gives a significant lead with probability"
    return [
        {"check": f"slope_power_{100 * power:.0f}", "estimate": slope, "note": f"{words} {power:g}"}
        for power, slope in found.slopes.to_numpy(dtype=float)
    ]


def _breakdown(
    est: Estimates, name: str, restriction: Bound, target: Target, level: float,
    options: dict[str, Any],
) -> list[_Row]:  # fmt: skip
    found = honest(est, restriction=restriction, m=[0.0], target=target, level=level, **options)
    size = "of the largest change before entry" if found.relative else "change of slope a period"
    value = found.breakdown
    note = f"{found.target} may be zero from this {size} ({found.restriction}, {found.method})"
    if value == 0:
        note = f"{found.target}: the set without violations contains zero already"
    elif not np.isfinite(value):
        note = f"{found.target} excludes zero whatever the size ({found.restriction})"
    return [{"check": name, "estimate": value, "note": note}]
