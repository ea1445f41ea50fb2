"""What the periods before entry say about the comparison, never only a p-value."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError
from vbceval.estimates import Estimates
from vbceval.sensitivity.event_path import one_comparison


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
        - ``entry_dip``: mean lead at e = -1 less the mean of earlier leads. Entry that follows
          unusually high spending shows as a rise before entry, and regression to the mean would
          then look like savings.
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
    last = -1 - anticipation
    lead_e = leads.frame["event_time"].to_numpy(dtype=float)
    if (lead_e == last).any() and (lead_e < last).any():
        out.append(_dip(leads, lead_e, last, level))
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


def _dip(leads: Estimates, e: np.ndarray, last: int, level: float) -> dict[str, object]:
    weights = np.where(e == last, 1 / np.sum(e == last), -1 / np.sum(e < last))
    dip = leads.contrast(weights).tidy(level).iloc[0]
    return {
        "check": "entry_dip",
        "statistic": dip["estimate"] / dip["std_error"],
        "df": dip["df"],
        "p_value": dip["p_value"],
        "estimate": dip["estimate"],
        "conf_low": dip["conf_low"],
        "conf_high": dip["conf_high"],
        "note": f"mean of leads at e = {last} less mean of earlier leads",
    }
