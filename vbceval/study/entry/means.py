"""Means of treated and comparison units behind group-time effects: frames in, frames out."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vbceval.estimates import Estimates
from vbceval.panel import Panel


def pair_means(panel: Panel, effects: Estimates, outcome: str) -> pd.DataFrame:
    """
    Return weighted means of the outcome in the units that each group-time effect compares.

    Parameters
    ----------
    panel : Panel
        The panel of the estimate, units followed, with a weight.
    effects : Estimates
        Group-time effects, with column ``base`` and comparison "not_yet_treated".
    outcome : str
        Column of the panel.

    Returns
    -------
    DataFrame
        The rows of `effects`: ``stratum, cohort, period, event_time, estimate, share`` and, in the
        unit of the outcome, ``treated_base, treated_change, comparison_base``. The adjusted change
        of the comparison is ``treated_change - estimate``.
    """
    keys = [panel.unit, *panel.strata]
    frame = panel.frame.assign(
        _w=1.0 if panel.weight is None else panel.frame[panel.weight], _y=panel.frame[outcome]
    )
    by_period = {t: part.set_index(keys) for t, part in frame.groupby(panel.period)}
    rows = []
    shares = np.full(len(effects), np.nan) if effects.shares is None else effects.shares.value
    for (_, row), share in zip(effects.frame.iterrows(), shares, strict=True):
        base, now = by_period[row["base"]], by_period[row["period"]]
        both = base.index.intersection(now.index)
        base, now = base.loc[both], now.loc[both]
        if isinstance(row["stratum"], str):
            name, level = row["stratum"].split("=", 1)
            inside = base.index.get_level_values(name).astype(str) == level
            base, now = base[inside], now[inside]
        treated = (base[panel.cohort] == row["cohort"]).to_numpy()
        last = max(float(row["period"]), float(row["base"]))
        later = base[panel.cohort].isna() | (base[panel.cohort] > last)
        comparison = later.to_numpy() & ~treated
        w = base["_w"].to_numpy()
        y0, y1 = base["_y"].to_numpy(), now["_y"].to_numpy()
        rows.append(
            {
                "stratum": row["stratum"],
                "cohort": row["cohort"],
                "period": row["period"],
                "event_time": row["event_time"],
                "estimate": row["estimate"],
                "share": share,
                "treated_base": np.average(y0[treated], weights=w[treated]),
                "treated_change": np.average((y1 - y0)[treated], weights=w[treated]),
                "comparison_base": np.average(y0[comparison], weights=w[comparison])
                if comparison.any()
                else np.nan,
            }
        )
    return pd.DataFrame(rows)


def baseline_means(means: pd.DataFrame) -> pd.Series:
    """Return the treated mean before entry by stratum, weighted as the overall effect is."""
    post = means[means["event_time"] >= 0]
    sums = (
        post.assign(_top=post["treated_base"] * post["share"])
        .groupby("stratum", dropna=False)[["_top", "share"]]
        .sum()
    )
    return sums["_top"] / sums["share"]


def trend_table(means: pd.DataFrame) -> pd.DataFrame:
    """
    Return adjusted mean paths of both arms by event time, both through the last year before entry.

    The treated path is the baseline plus the mean change of treated units; the comparison path is
    its baseline plus the change adjusted to the treated units' covariates, so that their distance
    at event time e less that at -1 is the effect at e.

    Returns
    -------
    DataFrame
        Columns ``period`` (event time), ``arm``, ``mean``, and ``weight``: of the event time in the
        average over all effects (``aggregate("simple")``), missing before entry.
    """
    post = means[means["event_time"] >= 0]
    start = {
        arm: np.average(post[f"{arm}_base"], weights=post["share"])
        for arm in ("treated", "comparison")
    }
    rows = [{"period": -1.0, "arm": arm, "mean": value} for arm, value in start.items()]
    averages = means.assign(counter=means["treated_change"] - means["estimate"])
    change = {}
    for e in averages["event_time"].unique():
        part = averages[averages["event_time"] == e]
        change[float(e)] = {
            "treated": np.average(part["treated_change"], weights=part["share"]),
            "comparison": np.average(part["counter"], weights=part["share"]),
        }
    for arm, value in start.items():
        for e in sorted(x for x in change if x >= 0):
            rows.append({"period": e, "arm": arm, "mean": value + change[e][arm]})
        # leads are changes from one year to the next, so earlier levels are found going back
        level = value
        for e in sorted((x for x in change if x < 0), reverse=True):
            level -= change[e][arm]
            rows.append({"period": e - 1, "arm": arm, "mean": level})
    table = pd.DataFrame(rows).sort_values(["arm", "period"], ignore_index=True)
    return table.assign(weight=table["period"].map(post.groupby("event_time")["share"].sum()))
