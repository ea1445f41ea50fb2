"""What regression to the mean could do where entry followed an unusual year."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vbceval.core.disclosure import say_people, suppress_small
from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray
from vbceval.design import Design
from vbceval.panel import Panel


def regression_to_mean(panel: Panel, design: Design, *, horizon: int = 3) -> pd.DataFrame:
    """
    Return what effects would be found without a program, had entry followed the last year alone.

    Organizations enter when it pays: after a year of unusually high spending that sets a high
    benchmark. Part of such a year is chance and does not return. If entry was decided by the value
    of the last period before it, the outcome falls back by ``(1 - rho_k)`` of the gap that was new
    in it, k periods later. This is a labelled what-if, the worst case; never the estimate.

    Parameters
    ----------
    panel : Panel
        With at least two periods before entry.
    design : Design
        Outcome and anticipation.
    horizon : int, default 3
        Event times 0 to `horizon` are shown.

    Returns
    -------
    DataFrame
        One row a cohort and event time, then rows of all cohorts (``cohort`` missing), weighted by
        their clusters:

        - ``gap``: treated less comparison cluster means in the last period before entry, less the
          same in the mean of the periods before that. Above zero: entry after an unusual rise.
        - ``correlation``: of cluster means so many periods apart, among comparison clusters.
        - ``regression_to_mean``: ``-(1 - correlation) * gap``, to be set beside the effect.
        - ``n_clusters`` that enter and are seen; 1-10 are missing where clusters are people.

    Raises
    ------
    DesignError
        If no cohort has two periods before entry, or fewer than three comparison clusters are seen
        in both periods or they do not differ in one.

    References
    ----------
    .. [1] Daw, J. R. and Hatfield, L. A. (2018). Matching and regression to the mean in
       difference-in-differences analysis. *Health Services Research* 53(6), 4138-4156.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCDE"), 4), "year": [2013, 2014, 2015, 2016] * 5,
    ...     "entry": np.repeat([2016.0, 2016.0, np.nan, np.nan, np.nan], 4),
    ...     "spend": [10.0, 10, 14, 10, 12, 12, 15, 12, 9, 10, 9, 11, 8, 8, 9, 8, 12, 10, 11, 12]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> found = vbc.sensitivity.regression_to_mean(panel, vbc.Design(outcome="spend"), horizon=0)
    >>> found[["gap", "correlation", "regression_to_mean"]].round(2).values.tolist()
    [[3.33, 0.69, -1.02], [3.33, 0.69, -1.02]]
    """
    if horizon < 0:
        raise DesignError(f"`horizon` is {horizon}; it counts periods after entry, from 0.")
    means, cohort = _cluster_means(panel, design)
    people = panel.people and panel.unit == panel.cluster
    periods = means.columns.to_numpy(dtype=float)
    never = np.isnan(cohort)
    rows: list[dict[str, float]] = []
    for g in np.unique(cohort[~never]):
        base = g - design.anticipation - 1
        if base not in periods or not (periods < base).any():
            continue
        own = cohort == g
        rise = _rise(means, base)
        if not np.isfinite(rise[own]).any():
            continue
        for e in range(horizon + 1):
            later = g + e
            if later not in periods:
                continue
            # comparison: never treated, or not yet treated when both periods are seen
            other = never | (
                (cohort - design.anticipation > later)
                if design.comparison == "not_yet_treated"
                else np.zeros(len(cohort), dtype=bool)
            )
            rho = _correlation(means[other], base, later, g, people)
            gap = _gap(rise, own, other)
            rows.append({
                "cohort": float(g), "event_time": float(e), "gap": gap, "correlation": rho,
                "regression_to_mean": -(1 - rho) * gap,
                "n_clusters": float((own & np.isfinite(rise)).sum()),
            })  # fmt: skip
    if not rows:
        raise DesignError(
            "no cohort has two periods before entry, so a gap that is new cannot be told from one "
            "that was always there. Add earlier periods."
        )
    table = pd.DataFrame(rows)
    out = pd.concat([table, _all_cohorts(table)], ignore_index=True)
    if people:
        out["n_clusters"] = suppress_small(out["n_clusters"])
    return out


def _cluster_means(panel: Panel, design: Design) -> tuple[pd.DataFrame, FloatArray]:
    """Return weighted means, clusters by periods, and the cohort of each cluster."""
    frame = panel.frame
    y = frame[design.outcome].to_numpy(dtype=float)
    w = np.ones(len(frame)) if panel.weight is None else frame[panel.weight].to_numpy(dtype=float)
    w = np.where(np.isnan(y), 0.0, w * design.weights_for(frame[panel.cluster]))
    keys = [panel.cluster, panel.period]
    sums = frame[keys].assign(w=w, wy=w * np.nan_to_num(y)).groupby(keys, as_index=False).sum()
    sums["mean"] = sums["wy"] / sums["w"].where(sums["w"] > 0)
    means = sums.pivot_table(index=panel.cluster, columns=panel.period, values="mean")
    cohort = frame.groupby(panel.cluster)[panel.cohort].first().reindex(means.index)
    return means, cohort.to_numpy(dtype=float)


def _rise(means: pd.DataFrame, base: float) -> FloatArray:
    """Return the last period before entry less the mean of those before it, missing if not seen."""
    before = means.columns[means.columns.to_numpy(dtype=float) < base]
    return np.asarray(means[base] - means[before].mean(axis=1), dtype=float)


def _gap(rise: FloatArray, own: np.ndarray, other: np.ndarray) -> float:
    return float(np.nanmean(rise[own]) - np.nanmean(rise[other]))


def _correlation(
    means: pd.DataFrame, base: float, later: float, cohort: float, people: bool
) -> float:
    both = means[[base, later]].dropna().to_numpy(dtype=float)
    if len(both) < 3:
        seen = say_people(len(both), "people") if people else f"{len(both)} comparison clusters"
        raise DesignError(
            f"only {seen} are seen in periods {base:g} and {later:g} (cohort {cohort:g}), too few "
            "for a correlation. Use a shorter `horizon` or another comparison."
        )
    if not (np.ptp(both, axis=0) > 0).all():
        raise DesignError(
            f"comparison clusters do not differ in periods {base:g} or {later:g} (cohort "
            f"{cohort:g}), so what returns of an unusual year is not known. Check the outcome."
        )
    return float(np.corrcoef(both.T)[0, 1])


def _all_cohorts(table: pd.DataFrame) -> pd.DataFrame:
    """Means over cohorts at each event time, by the clusters that enter."""
    rows = []
    for e in table["event_time"].unique():
        part = table[table["event_time"] == e]
        w = part["n_clusters"] / part["n_clusters"].sum()
        means = {k: float(w @ part[k]) for k in ("gap", "correlation", "regression_to_mean")}
        rows.append({
            "cohort": np.nan, "event_time": e, **means, "n_clusters": part["n_clusters"].sum()
        })  # fmt: skip
    return pd.DataFrame(rows)
