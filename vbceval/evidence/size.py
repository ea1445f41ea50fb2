"""Dollars to percent of a named baseline, and the precision that is printed with them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems
from vbceval.evidence.convert import (
    critical_value,
    effect_sign,
    implied_baseline,
    se_bounds_from_p,
    se_from_interval,
    se_from_p,
    unit_basis,
    z_from_p,
)
from vbceval.evidence.rounding import Span
from vbceval.evidence.significance import PrintedP, printed_p

SIZE_COLUMNS = (
    "baseline",
    "baseline_half",
    "baseline_source",
    "baseline_fact",
    "percent_effect",
    "percent_low",
    "percent_high",
    "std_error",
    "se_percent",
    "se_percent_low",
    "se_percent_high",
    "se_source",
    "censored",
)

COARSE_BASELINE = 0.10
"""A baseline is coarse when rounding leaves it uncertain by more than this share."""

MISSING = float("nan")


@dataclass(frozen=True)
class Baseline:
    """What an effect is a percent of: a value in the unit of the effect, and its rounding."""

    value: float
    span: Span
    source: str
    fact: str


def size_effects(facts: pd.DataFrame) -> pd.DataFrame:
    """
    Put every spending row in percent of its baseline, with the standard error that is printed.

    Parameters
    ----------
    facts : DataFrame
        From `read_facts`.

    Returns
    -------
    DataFrame
        Same index as `facts`, columns `SIZE_COLUMNS`, all in the direction treated minus
        untreated; see `spending_effects` for their meaning. ``baseline_half`` is half the width of
        what rounding allows the baseline to be. Rows of other outcome families are missing
        throughout, with ``se_source`` "none".

    Raises
    ------
    DataError
        If a baseline is borrowed from a row that has none or whose unit has another basis; all
        such rows are listed together.
    """
    rows = facts.to_dict("records")
    own = {row["fact"]: _own_baseline(row) for row in rows}
    units = {row["fact"]: row["unit"] for row in rows}
    problems = Problems("`baseline_from` in the facts")
    sized = []
    for row in rows:
        if row["outcome_family"] not in ("spending", "net_savings"):
            sized.append(_nothing())
            continue
        baseline = own[row["fact"]]
        if baseline is None and row["baseline_from"]:
            source = row["baseline_from"]
            baseline = _borrowed(row, own[source], units[source], problems)
        sized.append(_sized(row, baseline, printed_p(row["note"])))
    problems.raise_if_any()
    return pd.DataFrame(sized, columns=[*SIZE_COLUMNS], index=facts.index)


def _own_baseline(row: dict[Any, Any]) -> Baseline | None:
    """Return the baseline a row prints, or implies by printing both dollars and percent."""
    if row["baseline_mean"] > 0:
        span = Span.around(row["baseline_mean"], row["baseline_rounding"])
        return Baseline(row["baseline_mean"], span, "printed", row["fact"])
    if row["unit"].startswith("USD") and abs(row["estimate"] * row["percent_effect"]) > 0:
        value = abs(float(implied_baseline(row["estimate"], row["percent_effect"])))
        span = Span.around(row["estimate"], row["estimate_rounding"]) * 100.0
        share = Span.around(row["percent_effect"], row["percent_rounding"])
        return Baseline(value, abs(span / share), "implied", row["fact"])
    return None


def _borrowed(
    row: dict[Any, Any], lender: Baseline | None, unit: str, problems: Problems
) -> Baseline | None:
    """Return another row's baseline in this row's unit."""
    here, there = unit_basis(row["unit"]), unit_basis(unit)
    if lender is None:
        problems.add(
            f"`{row['fact']}` borrows from `{row['baseline_from']}`, which prints no baseline and "
            "implies none. Name a row with dollars and percent, or leave the cell blank."
        )
        return None
    if here.per != there.per or here.per == "other":
        problems.add(
            f"`{row['fact']}` is per {here.per} but `{row['baseline_from']}` is per {there.per}, "
            "so the percent would be of something else. Name a row with the same basis."
        )
        return None
    factor = there.in_a_year / here.in_a_year
    return Baseline(lender.value * factor, lender.span * factor, "borrowed", row["baseline_from"])


def _sized(
    row: dict[Any, Any], baseline: Baseline | None, printed: PrintedP | None
) -> dict[str, Any]:
    """Return one row of `SIZE_COLUMNS`."""
    percent, span = _percent(row, baseline, effect_sign(row["unit"]))
    size: dict[str, Any] = {
        "percent_effect": percent,
        "percent_low": span.low,
        "percent_high": span.high,
    }
    if baseline is not None:
        size |= {
            "baseline": baseline.value,
            "baseline_half": (baseline.span.high - baseline.span.low) / 2,
            "baseline_source": baseline.source,
            "baseline_fact": baseline.fact,
        }
    return _nothing() | size | _precision(row, baseline, printed, percent, span)


def _nothing() -> dict[str, Any]:
    """Return a row of `SIZE_COLUMNS` about which nothing is printed."""
    words = {"baseline_source": "none", "baseline_fact": "", "se_source": "none", "censored": ""}
    return dict.fromkeys(SIZE_COLUMNS, MISSING) | words


def _percent(row: dict[Any, Any], baseline: Baseline | None, sign: int) -> tuple[float, Span]:
    """Return the effect in percent of baseline, treated minus untreated, with its rounding."""
    missing = MISSING, Span(MISSING, MISSING)
    estimate, printed = row["estimate"], row["percent_effect"]
    if baseline is not None and baseline.source != "implied" and not np.isnan(estimate):
        spans = Span.around(estimate, row["estimate_rounding"]) / baseline.span * (100.0 * sign)
        return 100 * sign * estimate / baseline.value, spans
    if np.isnan(printed) or not (row["unit"].startswith("USD") or row["unit"] == "percent"):
        return missing
    # a saving may be printed as a positive percent: dollars and their unit decide the direction
    value = math.copysign(printed, sign * estimate) if abs(estimate) > 0 else printed
    return value, Span.around(value, row["percent_rounding"])


def _precision(
    row: dict[Any, Any],
    baseline: Baseline | None,
    printed: PrintedP | None,
    percent: float,
    span: Span,
) -> dict[str, Any]:
    """Return the standard error from the best source that is printed, and what it may be."""
    in_percent = np.isnan(row["estimate"])
    scale = 1.0 if in_percent else 100 / baseline.value if baseline else MISSING
    scales = Span(100.0, 100.0) / baseline.span if baseline else Span(MISSING, MISSING)
    scales = Span(1.0, 1.0) if in_percent else scales
    if not np.isnan(row["se"]):
        spans = Span.around(row["se"], row["se_rounding"]) * scales
        dollars = MISSING if in_percent else row["se"]
        return _known("printed", dollars, row["se"] * scale, spans)
    if not np.isnan(row["ci_low"] + row["ci_high"]):
        level = row["ci_level"] / 100
        se = float(se_from_interval(row["ci_low"], row["ci_high"], level))
        half = row["interval_rounding"] / float(critical_value(level))
        dollars = MISSING if in_percent else se
        return _known("interval", dollars, se * scale, Span.around(se, half) * scales)
    if printed is None or percent == 0:
        return {}
    if printed.relation == "equal":
        p = printed.span
        z = Span(float(z_from_p(p.high)), float(z_from_p(p.low)))
        se = float(se_from_p(percent, printed.value))
        return _known(
            "p_value", float(se_from_p(row["estimate"], printed.value)), se, abs(span) / z
        )
    low, high = se_bounds_from_p(percent, printed.value, printed.relation == "below")
    return {
        "se_source": "p_bound",
        "censored": printed.relation,
        "se_percent_low": float(low),
        "se_percent_high": float(high),
    }


def _known(source: str, se: float, se_percent: float, span: Span) -> dict[str, Any]:
    return {
        "se_source": source,
        "std_error": se,
        "se_percent": se_percent,
        "se_percent_low": span.low,
        "se_percent_high": span.high,
    }
