"""Gross impact savings: minus the effect, times the person-years or episodes it applies to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vbceval.core.checks import listed, missing_columns
from vbceval.core.errors import DataError, DesignError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates
from vbceval.savings.dollars import RealDollars

GROSS = "impact_savings_gross"
_NUMBERS = ("cohort", "period", "event_time")
_PARTS = (*_NUMBERS, "stratum")
_MONEY = ("usd", "dollar", "$")


def gross(
    est: Estimates,
    exposure: pd.DataFrame | float | Sequence[float],
    *,
    column: str = "person_years",
    by: Sequence[str] = (),
    dollars: RealDollars | None = None,
    unit_of_measure: str | None = None,
) -> Estimates:
    """
    Turn effects per person-year, or per episode, into gross impact savings.

    ``savings = - sum over rows of effect x exposure``, for group-time effects over cohorts g and
    periods t (and strata), with the joint covariance of the effects. Only effects at or after entry
    count, and only person-years whose effect is estimated: nothing is extrapolated.

    Parameters
    ----------
    est : Estimates
        Effects in dollars per unit of exposure.
    exposure : DataFrame, float or sequence of float
        For group-time effects a table with columns ``cohort``, ``period``, the `column`, and
        optionally ``stratum``; person-years or episodes. For effects that are averages already, one
        number for each row: the exposure that the average is about.
    column : str, default "person_years"
        Column of the table.
    by : sequence of {"cohort", "period", "event_time", "stratum"}
        Also give savings by these keys.
    dollars : RealDollars, optional
        Turn the dollars of each period into those of one year before adding up.
    unit_of_measure : str, optional
        Unit of the result; by default dollars, nominal or of the year of `dollars`.

    Returns
    -------
    Estimates
        The total, then the parts; column ``exposure`` holds the exposure covered, ``dollars`` the
        unit of money.

    Raises
    ------
    DataError
        If exposure is missing, negative or repeated for a row.
    DesignError
        If there is no effect at or after entry, the effects are not in dollars, or `by` holds
        another key.

    Examples
    --------
    A change of -743 dollars an episode, with standard error 100, over 10,000 episodes.

    >>> frame = pd.DataFrame({"estimand": ["att_overall"], "estimate": [-743.0]})
    >>> est = Estimates(frame=frame, covariance=np.array([[1e4]]))
    >>> gross(est, 10_000).estimate.tolist()
    [7430000.0]
    """
    _check_request(est.frame, by)
    table = isinstance(exposure, pd.DataFrame)
    times = est.frame["event_time"].to_numpy(dtype=float)
    post = times >= 0 if table else ~(times < 0)
    if not post.any():
        raise DesignError("the estimates hold no effect at or after entry, so nothing is saved.")
    _check_present(est.where(np.flatnonzero(post)))
    if isinstance(exposure, pd.DataFrame):
        est = est.where(np.flatnonzero(post))
        amount = _matched(est.frame, exposure, column)
    else:
        amount = _given(est, post, exposure)
    worth = amount if dollars is None else amount * _factors(est.frame, amount, dollars)
    masks: list[tuple[dict[str, object], np.ndarray]] = [({}, np.ones(len(est), dtype=bool))]
    for key in by:
        values = est.frame[key]
        masks += [({key: v}, (values == v).to_numpy()) for v in sorted(values.dropna().unique())]
    out = est.contrast(np.array([-worth * mask for _, mask in masks]))
    money = "USD" if dollars is None else dollars.unit
    frame = out.frame.assign(
        estimand=GROSS, dollars=money,
        unit_of_measure=unit_of_measure or f"{money} (positive = savings)",
    )  # fmt: skip
    for key in _NUMBERS:
        frame[key] = pd.Series([part.get(key, np.nan) for part, _ in masks], dtype=float)
    whole = frame["stratum"].iloc[0]
    frame["stratum"] = pd.Series([part.get("stratum", whole) for part, _ in masks], dtype=object)
    frame["exposure"] = [float(amount[mask].sum()) for _, mask in masks]
    return out.with_frame(frame)


def per_unit(savings: Estimates) -> Estimates:
    """
    Return savings per person-year, or per episode: divided by the exposure covered.

    Parameters
    ----------
    savings : Estimates
        Result of `gross` or `net`.

    Raises
    ------
    DesignError
        If the estimates have no exposure, or none of a row.
    """
    frame = savings.frame
    covered = frame["exposure"].to_numpy(dtype=float) if "exposure" in frame else np.zeros(1)
    if not (covered > 0).all():
        raise DesignError(
            "some rows have no exposure to divide by. Pass savings from `gross` or `net`, and leave "
            "rows without person-years out with `where`."
        )
    money = frame["dollars"].iloc[0]
    return savings.scale(1 / covered, unit_of_measure=f"{money} per unit of exposure")


def cumulative(savings: Estimates) -> Estimates:
    """
    Return running totals of savings over periods, with their joint law.

    Parameters
    ----------
    savings : Estimates
        Result of `gross` or `net` with ``by=["period"]``; other rows are left out.

    Raises
    ------
    DesignError
        If there are no rows by period.
    """
    frame = savings.frame
    periods = frame["period"].to_numpy(dtype=float)
    rows = np.flatnonzero(np.isfinite(periods))
    if not rows.size:
        raise DesignError("there are no savings by period. Call `gross` with by=['period'].")
    rows = rows[np.argsort(periods[rows], kind="stable")]
    matrix = np.zeros((rows.size, len(savings)))
    matrix[:, rows] = np.tri(rows.size)
    out = savings.contrast(matrix)
    kept = frame.iloc[rows].reset_index(drop=True).assign(estimate=out.estimate)
    for name in ("exposure", "payments"):
        if name in kept:
            kept[name] = kept[name].cumsum()
    return out.with_frame(kept.assign(df=out.frame["df"]))


def _check_request(frame: pd.DataFrame, by: Sequence[str]) -> None:
    unknown = [by] if isinstance(by, str) else [key for key in by if key not in _PARTS]
    if unknown:
        raise DesignError(f"`by` holds {listed(unknown)}; give a list of {listed(_PARTS)}.")
    units = [str(unit) for unit in frame["unit_of_measure"].dropna().unique()]
    other = [unit for unit in units if not any(word in unit.lower() for word in _MONEY)]
    if other:
        raise DesignError(
            f"the effects are in {listed(other)}, and only dollars per unit of exposure give savings "
            "in dollars. Multiply by the baseline mean with `scale` first, or select the outcome in "
            "dollars."
        )


def _check_present(est: Estimates) -> None:
    missing = ~np.isfinite(est.estimate)
    if missing.any():
        keys = zip(est.frame["cohort"][missing], est.frame["period"][missing], strict=True)
        pairs = ", ".join(f"({g:g}, {t:g})" for g, t in keys)
        raise DesignError(
            f"the effects of (cohort, period) {pairs} are missing, and dollars cover only what is "
            "estimated. Leave them out with `where` first."
        )


def _given(est: Estimates, post: np.ndarray, exposure: float | Sequence[float]) -> FloatArray:
    amount = np.asarray(exposure, dtype=float)
    if amount.ndim == 0 and len(est) == 1:
        amount = amount[None]
    if amount.shape != (len(est),) or not (np.isfinite(amount) & (amount >= 0)).all():
        raise DataError(
            f"`exposure` needs one number, 0 or more, for each of the {len(est)} estimates. Select "
            "the rows that savings are about with `where`, or give a table by cohort and period."
        )
    if (amount[~post] != 0).any():
        raise DesignError(
            f"{int((amount[~post] != 0).sum())} estimates before entry have exposure; nothing is "
            "saved before entry. Give them 0, or leave them out with `where`."
        )
    return amount


def _factors(frame: pd.DataFrame, amount: FloatArray, dollars: RealDollars) -> FloatArray:
    factors = np.zeros(len(frame))
    used = amount > 0
    factors[used] = dollars.factors(frame["period"].to_numpy(dtype=float)[used])
    return factors


def _matched(frame: pd.DataFrame, exposure: pd.DataFrame, column: str) -> np.ndarray:
    keys = ["cohort", "period", *(["stratum"] if "stratum" in exposure else [])]
    absent = missing_columns(exposure, [*keys, column])
    if absent:
        raise DataError(f"the exposure table has no column {listed(absent)}.")
    if exposure.duplicated(keys).any():
        raise DataError(
            f"the exposure table has {int(exposure.duplicated(keys).sum())} repeated rows of "
            f"{listed(keys)}, so person-years would be counted twice. Add them up first."
        )
    if frame.duplicated(keys).any():
        raise DataError(
            f"the estimates have several rows for one {listed(keys)}: select one stratum or "
            "outcome before turning effects into dollars."
        )
    merged = frame[keys].merge(exposure[[*keys, column]], on=keys, how="left")
    amount = merged[column].to_numpy(dtype=float)
    if np.isnan(amount).any() or (amount < 0).any():
        bad = merged[np.isnan(amount) | (amount < 0)]
        pairs = ", ".join(f"({r.cohort:g}, {r.period:g})" for r in bad.itertuples())
        raise DataError(
            f"`{column}` is missing or negative for (cohort, period) {pairs}; every effect needs "
            "the person-years it applies to."
        )
    return amount
