"""Do the printed numbers of a table agree with each other, within what rounding allows?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.evidence.convert import (
    SYMMETRY_TOLERANCE,
    critical_value,
    effect_sign,
    interval_shape,
    p_from_z,
    se_from_interval,
)
from vbceval.evidence.relations import LEFT, RIGHT, resolve, side
from vbceval.evidence.rounding import Span
from vbceval.evidence.significance import PrintedP, printed_p

CHECK_COLUMNS = ("check", "rows", "expected", "found", "slack", "passed", "note")


class Finding(NamedTuple):
    """One comparison: what the other numbers say, what is printed, and what rounding allows."""

    check: str
    rows: str
    expected: float
    found: float
    slack: float
    passed: bool
    note: str


def check_facts(facts: pd.DataFrame, relations: pd.DataFrame) -> pd.DataFrame:
    """
    Compare printed numbers that must agree, and report every comparison.

    Each comparison treats a printed number as the span of values that print so, and carries the
    spans through the arithmetic. A failure therefore cannot be explained by rounding; it can be a
    misprint, a mistake in transcription, or two numbers that are not the same quantity. Nothing is
    corrected, hidden or raised.

    Parameters
    ----------
    facts : DataFrame
        From `vbceval.evidence.read_facts`.
    relations : DataFrame
        From `vbceval.evidence.read_relations`.

    Returns
    -------
    DataFrame
        One row a comparison, columns `CHECK_COLUMNS`. ``rows`` are the facts involved, separated
        by "; ". ``expected`` follows from the other numbers, ``found`` is printed, both in the
        unit of the fact; ``slack`` is the largest difference that rounding (for symmetry: plus
        the tolerance of 5 % of the half-width) explains, infinite for a P value that keeps a
        printed bound. ``check`` is one of

        - ``interval_contains``: the estimate lies in its interval;
        - ``interval_symmetric``: it lies in the middle (of the logarithms, for a ratio);
        - ``interval_se``: a printed standard error is that of the interval;
        - ``interval_p``: interval -> standard error -> z -> P agrees with the printed P, under a
          normal distribution at the interval's own level;
        - ``percent_baseline``: estimate / baseline (ratio - 1, for a ratio) is the printed percent;
        - ``percent_sign``: estimate and percent agree on the direction of the effect;
        - ``components``, ``net``, ``product``, ``same_value``, ``same_count``: the relations.

    Raises
    ------
    DataError
        If a relation names a fact or a number that `facts` does not have.

    References
    ----------
    .. [1] Moore, R. E., Kearfott, R. B. and Cloud, M. J. (2009). *Introduction to Interval
       Analysis*. SIAM. Chapters 2 and 5.
    """
    rows = facts.to_dict("records")
    checks: tuple[Callable[[dict[Any, Any]], Finding | None], ...] = (
        _interval_contains,
        _interval_symmetric,
        _interval_se,
        _interval_p,
        _percent_baseline,
        _percent_sign,
    )
    findings = [found for check in checks for row in rows if (found := check(row)) is not None]
    findings += _relation_findings(facts, relations)
    return pd.DataFrame(findings, columns=[*CHECK_COLUMNS]).astype({"passed": bool})


def _is_ratio(row: dict[Any, Any]) -> bool:
    return "ratio" in row["unit"]


def _estimate(row: dict[Any, Any]) -> tuple[float, float]:
    """Return the number the interval belongs to: the estimate, or the percent where it is alone."""
    if np.isnan(row["estimate"]):
        return row["percent_effect"], row["percent_rounding"]
    return row["estimate"], row["estimate_rounding"]


def _has_interval(row: dict[Any, Any]) -> bool:
    return not np.isnan(row["ci_low"] + row["ci_high"] + _estimate(row)[0])


def _interval_contains(row: dict[Any, Any]) -> Finding | None:
    if not _has_interval(row):
        return None
    value, half = _estimate(row)
    slack = half + row["interval_rounding"]
    nearest = min(max(value, row["ci_low"]), row["ci_high"])
    passed = row["ci_low"] <= row["ci_high"] and abs(value - nearest) <= slack
    return Finding("interval_contains", row["fact"], nearest, value, slack, passed, row["outcome"])


def _interval_symmetric(row: dict[Any, Any]) -> Finding | None:
    if not _has_interval(row):
        return None
    value, half = _estimate(row)
    rounding = max(half, row["interval_rounding"])
    low, high = row["ci_low"], row["ci_high"]
    shape = str(interval_shape(value, low, high, rounding=rounding))
    wanted = ("linear", "log") if _is_ratio(row) else ("linear",)
    log_scale = _is_ratio(row) and low > 0
    middle = math.sqrt(low * high) if log_scale else (low + high) / 2
    slack = SYMMETRY_TOLERANCE * (high - low) / 2 + half + row["interval_rounding"]
    note = row["outcome"]
    if shape not in wanted:
        note += (
            "; symmetric on the log scale only"
            if shape == "log"
            else "; off the middle: bootstrap, transformation or misprint"
        )
    name = "interval_symmetric"
    return Finding(name, row["fact"], middle, value, slack, shape in wanted, note)


def _se_span(row: dict[Any, Any]) -> Span:
    """Return the standard errors the printed interval allows (log scale for a ratio)."""
    half = row["interval_rounding"]
    low, high = Span.around(row["ci_low"], half), Span.around(row["ci_high"], half)
    if _is_ratio(row):
        low, high = low.log(), high.log()
    width = high - low
    z = 2 * float(critical_value(row["ci_level"] / 100))
    return Span(max(0.0, width.low), width.high) * (1 / z)


def _interval_se(row: dict[Any, Any]) -> Finding | None:
    if not _has_interval(row) or np.isnan(row["se"]) or _is_ratio(row):
        return None
    span, level = _se_span(row), row["ci_level"] / 100
    expected = float(se_from_interval(row["ci_low"], row["ci_high"], level))
    found = Span.around(row["se"], row["se_rounding"])
    slack = (span.high - span.low) / 2 + row["se_rounding"]
    passed = found.overlaps(span)
    note = f"{row['ci_level']:.0f} % interval, normal"
    return Finding("interval_se", row["fact"], expected, row["se"], slack, passed, note)


def _interval_p(row: dict[Any, Any]) -> Finding | None:
    printed = printed_p(row["note"])
    if printed is None or not _has_interval(row):
        return None
    value, half = _estimate(row)
    estimate, se, level = Span.around(value, half), _se_span(row), row["ci_level"] / 100
    ends = np.array([row["ci_low"], row["ci_high"]])
    if _is_ratio(row):
        if estimate.low <= 0 or ends[0] <= 0:
            return None
        estimate, value, ends = estimate.log(), math.log(value), np.log(ends)
    middle_se = float(se_from_interval(ends[0], ends[1], level))
    if not middle_se > 0:
        return None
    size = abs(estimate)
    z = Span(size.low / se.high, size.high / se.low if se.low > 0 else math.inf)
    allowed = Span(float(p_from_z(z.high)), float(p_from_z(z.low)))
    expected = float(p_from_z(value / middle_se))
    slack = _p_slack(printed, expected, allowed)
    sign = {"equal": "=", "below": "<", "above": ">"}[printed.relation]
    note = f"{row['ci_level']:.0f} % interval, normal; printed P {sign} {printed.value:g}"
    passed = allowed.overlaps(printed.span)
    return Finding("interval_p", row["fact"], expected, printed.value, slack, passed, note)


def _p_slack(printed: PrintedP, expected: float, allowed: Span) -> float:
    """Return how far the printed P may be from the expected one, on the side where it is."""
    higher = printed.value > expected
    if (printed.relation == "below" and higher) or (printed.relation == "above" and not higher):
        return math.inf  # a bound that holds says nothing about the distance
    return (allowed.high - expected if higher else expected - allowed.low) + printed.half


def _percent_baseline(row: dict[Any, Any]) -> Finding | None:
    estimate, percent = row["estimate"], row["percent_effect"]
    if np.isnan(estimate + percent):
        return None
    spans = Span.around(estimate, row["estimate_rounding"])
    if _is_ratio(row):
        expected, allowed = 100 * (estimate - 1), (spans - Span(1.0, 1.0)) * 100.0
        note = "100 (ratio - 1)"
    elif row["baseline_mean"] > 0:
        sign = effect_sign(row["unit"])
        baseline = Span.around(row["baseline_mean"], row["baseline_rounding"])
        expected = 100 * sign * estimate / row["baseline_mean"]
        allowed = spans / baseline * (100.0 * sign)
        note = f"percent of {row['denominator'].replace('_', ' ')}"
    else:
        return None
    half = row["percent_rounding"]
    slack = (allowed.high - allowed.low) / 2 + half
    passed = allowed.overlaps(Span.around(percent, half))
    return Finding("percent_baseline", row["fact"], expected, percent, slack, passed, note)


def _percent_sign(row: dict[Any, Any]) -> Finding | None:
    estimate = row["estimate"] - 1 if _is_ratio(row) else row["estimate"]
    percent = row["percent_effect"]
    # NaN and 0 both drop out here: neither has a direction
    if not (abs(estimate) > 0 and abs(percent) > 0):
        return None
    expected = float(effect_sign(row["unit"]) * np.sign(estimate))
    found = float(np.sign(percent))
    note = f"{row['unit']}; percent {percent:g}, negative = lower"
    return Finding("percent_sign", row["fact"], expected, found, 0.0, expected == found, note)


def _relation_findings(facts: pd.DataFrame, relations: pd.DataFrame) -> list[Finding]:
    """Compare the two sides of every relation that has something printed on each."""
    resolved = resolve(relations, facts)
    findings = []
    for name, members in resolved.groupby("relation", sort=False):
        check = members["check"].iloc[0]
        if check == "net" and not members["role"].eq("payment").any():
            continue  # payments are only implied by gross and net: nothing to compare
        found, left = side(members, LEFT)
        expected, right = side(members, RIGHT)
        slack = (left.high - left.low + right.high - right.low) / 2
        used = members.loc[members["role"].ne("scale"), "fact"]
        names = "; ".join(dict.fromkeys(fact for fact in used if fact))
        notes = " ".join(note for note in members["note"] if note)
        note = f"{name}: {notes}" if notes else str(name)
        findings.append(Finding(check, names, expected, found, slack, left.overlaps(right), note))
    return findings
