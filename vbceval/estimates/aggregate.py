"""Averages of group-time effects, with the sampling error of the shares.

Every average is theta = a'b with coefficients a that depend on the shares p, so its influence is
psi a + psi_p d with d = (da/dp)'b. Each row of the result is described by the pair (a, d).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.estimates import columns
from vbceval.estimates.estimates import Estimates

Kind = Literal["simple", "event_time", "cohort", "period"]

_ESTIMAND = {
    "simple": columns.SIMPLE,
    "event_time": columns.EVENT_TIME,
    "cohort": columns.COHORT,
    "period": columns.PERIOD,
}


class _Average(NamedTuple):
    """One row of the result: its keys, the rows it uses, and (a, d), each of shape (k,)."""

    record: dict[str, Any]
    rows: IntArray
    a: FloatArray
    d: FloatArray


def aggregate(
    estimates: Estimates,
    kind: Kind,
    *,
    balance: int | None,
    window: tuple[int, int] | None,
    weights_random: bool,
) -> Estimates:
    """Average group-time effects; see `Estimates.aggregate`."""
    averaged = _averaged(estimates.frame, kind)
    if averaged.any() and balance is None and window is None:
        found = estimates.where(averaged)
        return replace(found, meta={**found.meta, "aggregate": kind})
    _check(estimates, kind, balance)
    frame = estimates.frame
    averages: list[_Average] = []
    for rows in frame.groupby(_groups(frame), sort=False, dropna=False).indices.values():
        used = np.asarray(rows)[_kept(estimates, np.asarray(rows), kind, balance, window)]
        averages += _block(estimates, used, kind)
    a = np.array([x.a for x in averages])
    d = np.array([x.d for x in averages])
    out = pd.DataFrame([x.record for x in averages])
    out["estimate"] = a @ estimates.estimate
    degrees = None if estimates.degrees is None else estimates.degrees.combined(a)
    if degrees is not None:
        out["df"] = degrees.df(out["df"].to_numpy(dtype=float))
    covariance = estimates.covariance
    shares = estimates.shares
    psi, psi_vcov = estimates.psi, estimates.psi_vcov
    random = False
    if psi is not None and psi_vcov is not None:
        psi, psi_vcov = psi @ a.T, psi_vcov @ a.T
        own = None if shares is None or not weights_random else shares.combined(d)
        scaled = None if shares is None or own is None else shares.combined(d, scaled=True)
        if own is not None and scaled is not None:
            random = True
            psi, psi_vcov = psi + own, psi_vcov + scaled
    return replace(
        estimates,
        frame=out,
        psi=psi,
        psi_vcov=psi_vcov,
        samples=None if estimates.samples is None else estimates.samples @ a.T,
        covariance=None if covariance is None else a @ covariance @ a.T,
        shares=None,
        degrees=degrees,
        meta={**estimates.meta, "aggregate": kind, "weights_random": random},
    )


def _averaged(frame: pd.DataFrame, kind: Kind) -> BoolArray:
    """Return which rows are averages of that kind already; none where there are effects to average."""
    if kind not in _ESTIMAND or (frame["estimand"] == columns.GROUP_TIME).any():
        return np.zeros(len(frame), dtype=bool)
    if "average" in frame:
        return np.asarray(frame["average"] == kind, dtype=bool)
    own = frame["estimand"] == _ESTIMAND[kind]
    others = [e for k, e in _ESTIMAND.items() if k != kind]
    if own.any() and not frame["estimand"].isin(others).any():
        # the overall row is the mean of these
        own |= frame["estimand"] == columns.OVERALL
    return np.asarray(own, dtype=bool)


def _check(estimates: Estimates, kind: Kind, balance: int | None) -> None:
    frame = estimates.frame
    if kind not in _ESTIMAND:
        raise DesignError(f"`aggregate` knows {', '.join(_ESTIMAND)}; it was given '{kind}'.")
    if set(frame["estimand"]) != {columns.GROUP_TIME} or estimates.shares is None:
        raise DesignError(
            "`aggregate` averages group-time effects, but these estimates are "
            f"{sorted(frame['estimand'].unique())}. Call it on the result of a group-time "
            "estimator."
        )
    if balance is not None and kind != "event_time":
        raise DesignError("`balance` applies to kind='event_time' only.")
    repeated = frame.duplicated([*_groups(frame), "cohort", "period"])
    if repeated.any():
        raise DesignError(
            f"{int(repeated.sum())} cohort-periods occur more than once for the same outcome and "
            "stratum, so an average would mix results. Give stacked results a name each, "
            "`stack(..., labels=[...])`, or aggregate before stacking."
        )
    missing = ~np.isfinite(estimates.estimate)
    if missing.any():
        bad = frame.loc[missing, ["cohort", "period"]].drop_duplicates()
        pairs = ", ".join(f"({g:g}, {t:g})" for g, t in bad.itertuples(index=False))
        raise EstimationError(
            f"{len(bad)} group-time effects are not available ({pairs}), and an average over the "
            "others would be of different cohorts. Drop them explicitly with `where`, or change "
            "the design so that they exist."
        )


def _groups(frame: pd.DataFrame) -> list[str]:
    """Columns within which effects are averaged."""
    return ["outcome", "stratum", *(["run"] if "run" in frame else [])]


def _kept(
    estimates: Estimates,
    rows: IntArray,
    kind: Kind,
    balance: int | None,
    window: tuple[int, int] | None,
) -> BoolArray:
    frame = estimates.frame.iloc[rows]
    e = frame["event_time"].to_numpy(dtype=float)
    keep = np.ones(len(rows), dtype=bool)
    if window is not None:
        keep &= (e >= window[0]) & (e <= window[1])
    if balance is not None:
        last = float(frame["period"].max())
        first = float(estimates.meta.get("first_period", frame["period"].min()))
        keep &= last - frame["cohort"].to_numpy(dtype=float) >= balance
        # event times that every kept cohort has, as in R did: from balance - (T - 1) to balance
        keep &= (e <= balance) & (e >= balance - (last - first))
    if kind != "event_time":
        keep &= e >= 0
    if not (keep & (e >= 0)).any():
        raise DesignError(
            f"no effect at or after entry is left to average (window={window}, "
            f"balance={balance}): widen them."
        )
    return keep


def _block(estimates: Estimates, rows: IntArray, kind: Kind) -> list[_Average]:
    """Averages within one outcome and stratum."""
    if kind == "simple":
        return [_by_share(estimates, rows, {})]
    averages = []
    values = estimates.frame.iloc[rows][kind].to_numpy()
    for value in np.unique(values):
        inside = rows[values == value]
        average = _plain if kind == "cohort" else _by_share
        averages.append(average(estimates, inside, {kind: value}))
    averages = [x._replace(record={**x.record, "estimand": _ESTIMAND[kind]}) for x in averages]
    return [*averages, _overall(estimates, averages, kind)]


def _by_share(estimates: Estimates, rows: IntArray, keys: dict[str, Any]) -> _Average:
    assert estimates.shares is not None  # checked at the door
    p, b = estimates.shares.value[rows], estimates.estimate[rows]
    if not p.sum() > 0:
        raise DesignError(f"the shares of the averaged rows {keys or ''} sum to zero.")
    a, d = np.zeros(len(estimates)), np.zeros(len(estimates))
    a[rows] = p / p.sum()
    d[rows] = (b - a[rows] @ b) / p.sum()
    return _Average(_record(estimates, rows, keys), rows, a, d)


def _plain(estimates: Estimates, rows: IntArray, keys: dict[str, Any]) -> _Average:
    a = np.zeros(len(estimates))
    a[rows] = 1 / len(rows)
    return _Average(_record(estimates, rows, keys), rows, a, np.zeros(len(estimates)))


def _overall(estimates: Estimates, averages: list[_Average], kind: Kind) -> _Average:
    """Mean over event times e >= 0 or periods; over cohorts, weighted by their shares."""
    assert estimates.shares is not None  # checked at the door
    if kind == "event_time":
        averages = [x for x in averages if x.record["event_time"] >= 0]
    rows = np.unique(np.concatenate([x.rows for x in averages]))
    a, d = np.array([x.a for x in averages]), np.array([x.d for x in averages])
    if kind == "cohort":
        p = np.array([estimates.shares.value[x.rows].mean() for x in averages])
        theta = a @ estimates.estimate
        weights = p / p.sum()
        total_d = weights @ d
        for x, gap in zip(averages, (theta - weights @ theta) / p.sum(), strict=True):
            total_d[x.rows] += gap / len(x.rows)
    else:
        weights = np.full(len(averages), 1 / len(averages))
        total_d = weights @ d
    record = {**_record(estimates, rows, {}), "estimand": columns.OVERALL}
    return _Average(record, rows, weights @ a, total_d)


def _record(estimates: Estimates, rows: IntArray, keys: dict[str, Any]) -> dict[str, Any]:
    used = estimates.frame.iloc[rows]
    record: dict[str, Any] = {"estimand": columns.SIMPLE}
    for key in (*_groups(used), "unit_of_measure"):
        record[key] = used[key].iloc[0]
    record |= {"cohort": np.nan, "period": np.nan, "event_time": np.nan, **keys}
    record["df"] = used["df"].min()
    for key in columns.COUNTS:
        record[key] = used[key].max()
    if "n_treated" in used:
        # cohorts are disjoint, and a cohort is the same units in every period
        record["n_treated"] = used.groupby("cohort")["n_treated"].max().sum(skipna=False)
    return record
