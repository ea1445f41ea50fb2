"""What the periods before entry say about the comparison, never only a p-value."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.estimates import Estimates
from vbceval.sensitivity.event_path import one_comparison
from vbceval.sensitivity.given import require_estimates


def pretrends(est: Estimates, *, level: float = 0.95) -> pd.DataFrame:
    """
    Describe the estimates before entry: joint test, entry dip, equivalence bound.

    Parameters
    ----------
    est : Estimates
        Group-time effects, or their averages by event time. Rows before entry minus anticipation
        are read.
    level : float, default 0.95
        Level of the interval of the dip.

    Returns
    -------
    DataFrame
        One row a statement, columns ``check, statistic, df, p_value, estimate, conf_low,
        conf_high, note``:

        - ``joint``: all leads are zero (Wald; rank-deficient covariances, as when two cohorts are
          each other's comparison, are tested in the directions that are identified).
        - ``entry_dip``: the change into the last period before entry less the mean of earlier
          changes: with a varying base the lead at e = -1 less the mean of earlier leads, with one
          base period from differences of its leads. Entry that follows unusually high spending
          shows as a rise, and regression to the mean would then look like savings. Two changes
          are needed.
        - ``equivalence``: the smallest bound eps such that every lead is inside +/- eps at level
          .95 (two one-sided tests), in the unit of the outcome.

    Raises
    ------
    DesignError
        If there are no rows before entry.

    References
    ----------
    .. [1] Hartman, E. and Hidalgo, F. D. (2018). An equivalence approach to balance and placebo
       tests. *American Journal of Political Science* 62(4), 1000-1013.
    .. [2] Ashenfelter, O. (1978). Estimating the effect of training programs on earnings. *Review
       of Economics and Statistics* 60(1), 47-57.
    """
    require_estimates(est)
    one_comparison(est)
    anticipation = int(est.meta.get("design", {}).get("anticipation", 0))
    e = est.frame["event_time"].to_numpy(dtype=float)
    live = np.isfinite(est.tidy(level)["std_error"].to_numpy(dtype=float))
    rows = np.flatnonzero((e < -anticipation) & live)
    if len(rows) == 0:
        raise DesignError(
            "the estimates have no period before entry, so parallel trends cannot be examined. "
            "Add earlier periods, or widen `window`."
        )
    leads = est.where(rows)
    out = [_joint(leads)]
    dip = _dip(est, e, live, -1 - anticipation, level)
    out += [] if dip is None else [dip]
    table = leads.tidy(0.9)
    bound = float(np.maximum(table["conf_high"].abs(), table["conf_low"].abs()).max())
    note = f"every lead is inside +/- this bound ({len(rows)} leads, 5% one-sided each)"
    out.append({"check": "equivalence", "estimate": bound, "note": note})
    columns = ["check", "statistic", "df", "p_value", "estimate", "conf_low", "conf_high", "note"]
    return pd.DataFrame(out).reindex(columns=columns)


def _joint(leads: Estimates) -> dict[str, object]:
    test = leads.wald(allow_rank_deficient=True)
    note = f"{len(leads)} leads"
    if test.restrictions < len(leads):
        note += f", covariance of rank {test.restrictions}"
    return {
        "check": "joint",
        "statistic": test.statistic,
        "df": test.restrictions,
        "p_value": test.p_value,
        "note": note,
    }


def _dip(
    est: Estimates, e: FloatArray, live: BoolArray, last: int, level: float
) -> dict[str, object] | None:
    """Return the test of the change into the last period before entry, where leads show it."""
    if (live & (e == last)).any():
        # leads are changes themselves (varying base), or relative to earlier periods
        now, before = live & (e == last), live & (e < last)
        if not before.any():
            return None
        weights = now / now.sum() - before / before.sum()
        note = f"mean of leads at e = {last} less mean of earlier leads"
    else:
        changes = _changes(est, e, live, last)
        if not any(is_last for is_last, _ in changes) or all(is_last for is_last, _ in changes):
            return None
        weights = np.mean([w for is_last, w in changes if is_last], axis=0) - np.mean(
            [w for is_last, w in changes if not is_last], axis=0
        )
        note = f"change to e = {last} less mean of earlier changes, from leads of one base period"
    row = est.contrast(weights).tidy(level).iloc[0]
    return {
        "check": "entry_dip", "statistic": row["estimate"] / row["std_error"], "df": row["df"],
        "p_value": row["p_value"], "estimate": row["estimate"], "conf_low": row["conf_low"],
        "conf_high": row["conf_high"], "note": note,
    }  # fmt: skip


def _changes(
    est: Estimates, e: FloatArray, live: BoolArray, last: int
) -> list[tuple[bool, FloatArray]]:
    """Return rows' weights of each change between neighbouring leads, and whether it is the last."""
    cohort = est.frame["cohort"].to_numpy(dtype=float)
    known = live | (e == last)  # the base period is zero
    unit, out = np.eye(len(e)), []
    for g in np.unique(cohort[known]):
        own = np.flatnonzero(
            known & (e <= last) & ((cohort == g) | (np.isnan(g) & np.isnan(cohort)))
        )
        own = own[np.argsort(e[own])]
        for i, j in pairwise(own):
            out.append((bool(e[j] == last), unit[j] * live[j] - unit[i]))
    return out
