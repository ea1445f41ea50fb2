"""Gross impact savings: minus the effect, times the person-years or episodes it applies to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.disclosure import SMALLEST_SHOWN, is_small, suppress_small
from vbceval.core.errors import DataError, DesignError
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.estimates import Estimates
from vbceval.savings.dollars import RealDollars
from vbceval.savings.exposure import (
    KEYS,
    NUMBERS,
    check_counted_once,
    check_spans,
    dollars_year,
    matched,
    said,
)

GROSS = "impact_savings_gross"
NET = "impact_savings_net"
SIGN = "(positive = savings)"

_Parts = list[tuple[dict[str, object], BoolArray]]


def gross(
    est: Estimates,
    exposure: pd.DataFrame | float | Sequence[float],
    *,
    column: str = "person_years",
    by: Sequence[str | tuple[str, ...]] = (),
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
        A table with the keys of the effects and the `column` (person-years, member months or
        episodes): ``cohort`` and ``period`` for group-time effects, ``period`` or ``event_time``
        for averages by these, and optionally ``stratum``. Rows of the estimates without these keys,
        such as the overall row, are left out. Or one number for each row: the exposure that the
        average is about.
    column : str, default "person_years"
        Column of the table. Where its name and the unit of the effects both speak of months,
        quarters, years or episodes, they must agree.
    by : sequence of {"cohort", "period", "event_time", "stratum"} or tuples of these
        Also give savings by these keys; ``("stratum", "period")`` gives every stratum and period.
    dollars : RealDollars, optional
        Turn the dollars of each period into those of one year before adding up.
    unit_of_measure : str, optional
        Unit of the result; by default dollars, nominal or of the year that `dollars` or the unit of
        the effects states.

    Returns
    -------
    Estimates
        The total, then the parts; column ``exposure`` holds the exposure covered,
        ``exposure_left_out`` that of rows of the table at or after entry without an effect (missing
        if fewer than 11, or where exposure is given as numbers), ``dollars`` the unit of money, ``price_index`` the
        source of the index.

    Raises
    ------
    DataError
        If exposure is missing, negative or repeated for a row.
    DesignError
        If there is no effect at or after entry, the effects are not in dollars, rows are about the
        same people, `by` holds a key that no row has, or a part covers fewer than 11 people.

    Examples
    --------
    A change of -743 dollars an episode, with standard error 100, over 10,000 episodes.

    >>> frame = pd.DataFrame({"estimand": ["att_overall"], "estimate": [-743.0]})
    >>> est = Estimates(frame=frame, covariance=np.array([[1e4]]))
    >>> gross(est, 10_000).estimate.tolist()
    [7430000.0]
    """
    groups = _groups(by)
    units = [str(unit) for unit in est.frame["unit_of_measure"].dropna().unique()]
    money = _money(dollars_year(units), dollars)
    post = _at_or_after_entry(est.frame)
    if isinstance(exposure, pd.DataFrame):
        check_spans(units, column)
        rows, amount, left_out = matched(est.frame, post, exposure, column)
        est, out_of = est.where(rows), left_out
    else:
        amount, out_of = _given(est, post, exposure), None
    used = est.frame[amount > 0]
    check_counted_once(used)
    _check_present(used)
    worth = amount if dollars is None else amount * _factors(est.frame, amount, dollars)
    parts = _parts(est.frame, groups)
    out = est.contrast(np.array([-worth * mask for _, mask in parts]))
    frame = out.frame.assign(
        estimand=GROSS, dollars=money, price_index=None if dollars is None else dollars.source,
        unit_of_measure=unit_of_measure or f"{money} {SIGN}",
    )  # fmt: skip
    for key in NUMBERS:
        frame[key] = pd.Series([part.get(key, np.nan) for part, _ in parts], dtype=float)
    whole = frame["stratum"].iloc[0]
    frame["stratum"] = pd.Series([part.get("stratum", whole) for part, _ in parts], dtype=object)
    frame["exposure"] = [float(amount[mask].sum()) for _, mask in parts]
    left = suppress_small([_left_out(out_of, part, column) for part, _ in parts])
    frame["exposure_left_out"] = left
    _check_size(frame)
    return out.with_frame(frame)


def per_unit(savings: Estimates) -> Estimates:
    """
    Return savings per person-year, or per episode: divided by the exposure covered.

    Parameters
    ----------
    savings : Estimates
        Result of `gross`, `net` or `cumulative`.

    Returns
    -------
    Estimates
        Rows of `savings`, estimand with ``_per_unit`` added; ``payments`` are per unit as well.

    Raises
    ------
    DesignError
        If the estimates are not totals of savings, or there is no exposure in a row.
    """
    check_totals(savings, "`per_unit` divides", cumulative_too=True)
    frame = savings.frame
    covered = frame["exposure"].to_numpy(dtype=float)
    if not (covered > 0).all():
        raise DesignError(
            "some rows have no exposure to divide by. Leave rows without person-years out with "
            "`where`."
        )
    unit = f"{frame['dollars'].iloc[0]} per unit of exposure {SIGN}"
    out = savings.scale(1 / covered, unit_of_measure=unit)
    changed = out.frame.assign(estimand=frame["estimand"] + "_per_unit")
    if "payments" in changed:
        changed["payments"] /= covered
    return out.with_frame(changed)


def cumulative(savings: Estimates) -> Estimates:
    """
    Return running totals of savings over periods, with their joint law.

    Parameters
    ----------
    savings : Estimates
        Result of `gross` or `net` with ``by=["period"]``, or a tuple of keys with ``period``, which
        gives running totals within the other keys; other rows are left out.

    Returns
    -------
    Estimates
        Rows by period in order, estimand with ``_cumulative`` added; ``exposure`` and ``payments``
        add up as well.

    Raises
    ------
    DesignError
        If the estimates are not totals of savings, or there are no rows by period.
    """
    check_totals(savings, "`cumulative` adds up")
    frame = savings.frame
    rows = np.flatnonzero(frame["period"].notna())
    if not rows.size:
        raise DesignError("there are no savings by period. Call `gross` with by=['period'].")
    others = [key for key in KEYS if key != "period"]
    sorting = frame.iloc[rows].reset_index(drop=True)
    sorting["group"] = sorting.groupby(others, dropna=False, sort=False).ngroup()
    order = sorting.sort_values(["group", "period"], kind="stable")
    rows, group = rows[order.index.to_numpy()], order["group"].to_numpy()
    adds = np.tri(rows.size) * (group[:, None] == group)
    matrix = np.zeros((rows.size, len(savings)))
    matrix[:, rows] = adds
    out = savings.contrast(matrix)
    kept = frame.iloc[rows].reset_index(drop=True)
    kept = kept.assign(estimate=out.estimate, estimand=kept["estimand"] + "_cumulative")
    for name in ("exposure", "exposure_left_out", "payments"):
        if name in kept:
            kept[name] = adds @ kept[name].to_numpy(dtype=float)
    return out.with_frame(kept.assign(df=out.frame["df"]))


def check_totals(savings: Estimates, what: str, *, cumulative_too: bool = False) -> None:
    """
    Check that estimates are totals of gross or net savings.

    Raises
    ------
    DesignError
        If they are effects, amounts per unit, returns, or running totals where these do not serve.
    """
    known = {GROSS, NET}
    if cumulative_too:
        known |= {f"{name}_cumulative" for name in known}
    other = sorted({str(x) for x in savings.frame["estimand"]} - known)
    if other:
        raise DesignError(
            f"{what} totals of gross or net impact savings, and these estimates are {listed(other)}. "
            "Pass the result of `gross` or `net`."
        )


def _groups(by: Sequence[str | tuple[str, ...]]) -> list[tuple[str, ...]]:
    entries = [by] if isinstance(by, str) else list(by)
    groups = [(entry,) if isinstance(entry, str) else tuple(entry) for entry in entries]
    unknown = entries if isinstance(by, str) else [k for g in groups for k in g if k not in KEYS]
    if unknown or not all(groups):
        raise DesignError(f"`by` holds {listed(unknown)}; give a list of {listed(KEYS)}.")
    return list(dict.fromkeys(groups))


def _money(year: str | None, dollars: RealDollars | None) -> str:
    if dollars is None:
        return "USD" if year is None else f"USD of {year}"
    if year is not None:
        raise DesignError(
            f"the effects are in dollars of {year} already, so `dollars` would convert them twice. "
            "Leave `dollars` out, or estimate the effects in nominal dollars."
        )
    return dollars.unit


def _at_or_after_entry(frame: pd.DataFrame) -> BoolArray:
    """Return rows that are not known to be before entry; an average has no event time."""
    before = frame["event_time"].to_numpy(dtype=float) < 0
    before |= frame["period"].to_numpy(dtype=float) < frame["cohort"].to_numpy(dtype=float)
    if before.all():
        raise DesignError("the estimates hold no effect at or after entry, so nothing is saved.")
    return np.asarray(~before)


def _parts(frame: pd.DataFrame, groups: Sequence[tuple[str, ...]]) -> _Parts:
    """Return the total and the parts: the values of their keys, and which rows they add up."""
    parts: _Parts = [({}, np.ones(len(frame), dtype=bool))]
    for group in groups:
        keys = list(group)
        held = frame[keys].dropna()
        if not len(held):
            raise DesignError(
                f"`by` holds {listed(keys)}, and no estimate that counts has a value of it. The "
                f"estimates have {listed(k for k in KEYS if frame[k].notna().any()) or 'no keys'}."
            )
        for values in sorted(set(held.itertuples(index=False, name=None))):
            mask = np.logical_and.reduce(
                [(frame[key] == value).to_numpy() for key, value in zip(keys, values, strict=True)]
            )
            parts.append((dict(zip(keys, values, strict=True)), mask))
    return parts


def _left_out(table: pd.DataFrame | None, part: dict[str, object], column: str) -> float:
    """Return the exposure without an effect in a part; missing where the table does not say."""
    if table is None or any(key not in table for key in part):
        return np.nan
    mask = np.ones(len(table), dtype=bool)
    for key, value in part.items():
        mask &= (table[key] == value).to_numpy()
    return float(table.loc[mask, column].sum())


def _check_size(frame: pd.DataFrame) -> None:
    """Check that no part covers so few that savings over effect would tell their number."""
    parts = frame.iloc[1:]
    small = parts[is_small(parts["exposure"])]
    if len(small):
        keys = [key for key in KEYS if small[key].notna().any()]
        raise DesignError(
            f"savings of ({', '.join(keys)}) {said(small, keys)} cover fewer than {SMALLEST_SHOWN} "
            "units of exposure, and so few people or episodes may not be shown. Merge strata, or leave "
            "these rows out of `by`."
        )


def _check_present(used: pd.DataFrame) -> None:
    missing = used[~np.isfinite(used["estimate"].to_numpy(dtype=float))]
    if len(missing):
        keys = [key for key in KEYS if missing[key].notna().any()] or ["estimand"]
        raise DesignError(
            f"the effects of ({', '.join(keys)}) {said(missing, keys)} are missing, and dollars "
            "cover only what is estimated. Leave them out with `where` first."
        )


def _given(est: Estimates, post: BoolArray, exposure: float | Sequence[float]) -> FloatArray:
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
