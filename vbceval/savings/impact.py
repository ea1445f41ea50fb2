"""Impact savings: minus the effect, times the person-years it applies to, less what was paid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vbceval.core.checks import listed, missing_columns
from vbceval.core.errors import DataError, DesignError
from vbceval.estimates import Estimates

GROSS = "impact_savings_gross"
NET = "impact_savings_net"
_PARTS = ("cohort", "period", "event_time")
_MONEY = ("usd", "dollar", "$")
_DOLLARS = "USD (positive = savings)"


def gross(
    est: Estimates,
    exposure: pd.DataFrame,
    *,
    column: str = "person_years",
    by: Sequence[str] = (),
    unit_of_measure: str = _DOLLARS,
) -> Estimates:
    """
    Turn effects per person-year into gross impact savings.

    ``savings = - sum over (g, t) of ATT(g, t) x exposure(g, t)``, with the joint covariance of the
    effects. Only effects at or after entry count, and only person-years whose effect is estimated:
    nothing is extrapolated.

    Parameters
    ----------
    est : Estimates
        Group-time effects, in dollars per unit of exposure; keys ``cohort`` and ``period`` (and
        ``stratum``, if the exposure has it).
    exposure : DataFrame
        Columns ``cohort``, ``period``, the `column`, and optionally ``stratum``.
    column : str, default "person_years"
        Column of exposure, in the denominator of the outcome.
    by : sequence of {"cohort", "period", "event_time"}
        Also give savings by these keys.
    unit_of_measure : str
        Unit of the result.

    Returns
    -------
    Estimates
        The total, then the parts; column ``exposure`` holds the person-years covered.

    Raises
    ------
    DataError
        If exposure is missing, negative or repeated for a row.
    DesignError
        If there is no effect at or after entry, the effects are not in dollars, or `by` holds
        another key.
    """
    _check_request(est.frame, by)
    post = est.frame["event_time"].to_numpy(dtype=float) >= 0
    if not post.any():
        raise DesignError("the estimates hold no effect at or after entry, so nothing is saved.")
    est = est.where(np.flatnonzero(post))
    missing = ~np.isfinite(est.estimate)
    if missing.any():
        pairs = ", ".join(
            f"({g:g}, {t:g})"
            for g, t in zip(est.frame["cohort"][missing], est.frame["period"][missing], strict=True)
        )
        raise DesignError(
            f"the effects of (cohort, period) {pairs} are missing, and dollars cover only what is "
            "estimated. Leave them out with `where` first."
        )
    amount = _matched(est.frame, exposure, column)
    parts: list[tuple[dict[str, object], np.ndarray]] = [({}, np.ones(len(est), dtype=bool))]
    for key in by:
        values = est.frame[key].to_numpy()
        parts += [({key: value}, values == value) for value in np.unique(values)]
    matrix = np.array([-amount * mask for _, mask in parts])
    out = est.contrast(matrix)
    frame = out.frame.assign(estimand=GROSS, unit_of_measure=unit_of_measure)
    for key in _PARTS:
        frame[key] = pd.Series([record.get(key, np.nan) for record, _ in parts], dtype=float)
    frame["exposure"] = [float(amount[mask].sum()) for _, mask in parts]
    return out.with_frame(frame)


def net(gross_savings: Estimates, payments: float | Sequence[float]) -> Estimates:
    """
    Subtract payments to providers, taken as known, from gross impact savings.

    Parameters
    ----------
    gross_savings : Estimates
        Result of `gross`.
    payments : float or sequence of float
        Shared-savings payments less losses repaid, in the dollars of the savings; one number, or
        one for each row.

    Returns
    -------
    Estimates
        Net savings, with the errors of the gross: the interval is shifted, because payments are
        not estimated. Column ``payments`` holds what was subtracted.

    Raises
    ------
    DesignError
        If the estimates are not gross impact savings, or the numbers do not match.
    """
    if set(gross_savings.frame["estimand"]) != {GROSS}:
        raise DesignError("`net` subtracts payments from gross impact savings; call `gross` first.")
    paid = np.broadcast_to(np.asarray(payments, dtype=float), (len(gross_savings),))
    if not np.isfinite(paid).all():
        raise DesignError("`payments` holds missing or infinite values; give dollars.")
    frame = gross_savings.frame.assign(
        estimand=NET, estimate=gross_savings.estimate - paid, payments=paid
    )
    return gross_savings.shifted(frame, -paid)


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
