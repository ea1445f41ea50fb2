"""How a conclusion depends on trends: robust sets, what a pre-test misses, equivalence bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError
from vbceval.figures import canvas, notes
from vbceval.figures import trend_sensitivity_marks as marks
from vbceval.figures.numbers import digits_for, interval, interval_name, number, p_statement
from vbceval.figures.records import FigureRecord, attach
from vbceval.figures.sources import Source
from vbceval.figures.style import Style, get_style
from vbceval.figures.wording import (
    Labels,
    currency,
    effect_label,
    one_line,
    sign_convention,
    unit_text,
)

if TYPE_CHECKING:
    from vbceval.figures.canvas import Figure
    from vbceval.sensitivity import Equivalence, EventPath, Honest, PretrendPower

_BOUND = {
    "RM": (
        "Largest change of the difference in trends after entry, as a multiple of the largest "
        "before entry",
        "the difference in trends changes between two periods after entry by at most M times the "
        "largest change before entry",
    ),
    "SDRM": (
        "Largest change of slope after entry, as a multiple of the largest before entry",
        "the slope of the difference in trends changes after entry by at most M times the largest "
        "change of slope before entry",
    ),
    "SD": (
        "Largest change of slope of the difference in trends between periods",
        "the slope of the difference in trends changes between periods by at most M",
    ),
}
_SHAPE = {
    "PB": "the difference is positive after entry",
    "NB": "the difference is negative after entry",
    "I": "the difference increases",
    "D": "the difference decreases",
}
_METHOD = {
    "FLCI": "shortest interval of fixed length",
    "C-LF": "conditional test after a least favourable first stage",
    "C-F": "conditional test after a fixed-length first stage",
    "conditional": "conditional test",
}


def honest(result: Honest, *, style: str | Style = "jama", labels: Labels | None = None) -> Figure:
    """
    Draw robust confidence sets against the size of allowed differences in trends.

    The interval under parallel trends stands at the left; a dashed line marks the breakdown value,
    the smallest size at which the set includes the null value. Sets without an end reach an arrow
    at the border; a size that no effect is compatible with is marked by a cross.

    Parameters
    ----------
    result : Honest
        From `vbceval.sensitivity.honest`.
    style : str or Style, default "jama"
        Publication style.
    labels : mapping, optional
        Words for the outcome.

    Returns
    -------
    Figure
        A matplotlib figure with its record attached (see `vbceval.figures.record`).

    Raises
    ------
    DesignError
        If no set has an end to draw.
    """
    look = get_style(style)
    data = result.tidy()
    if not np.isfinite(data[["conf_low", "conf_high"]].to_numpy(dtype=float)[1:]).any():
        raise DesignError("no set has an end, so there is nothing to draw. Ask for smaller `m`.")
    data["breakdown"] = result.breakdown
    data["null"] = result.null
    path = result.path
    base, shape = _split(result.restriction)
    axis = f"{_BOUND[base][0]}, M"
    if not result.relative:
        axis += f" ({unit_text(path.unit_of_measure)} a period)"
    label = effect_label(path.outcome, path.unit_of_measure, look, labels)
    with canvas.drawing(look):
        fig = marks.draw_sets(
            data, look, label, axis, currency(path.unit_of_measure), _breakdown_text(result, look)
        )
    words = (
        f"{_BOUND[base][1]}{''.join(f', and {_SHAPE[s]}' for s in shape)} ({result.restriction})"
    )
    note = notes.join([
        notes.sign_sentence(sign_convention(path.outcome, path.unit_of_measure, labels)),
        f"Bars: {interval_name(result.level)}, {result.target}. Hollow mark: if trends are "
        f"parallel. Others: robust when {words}; {_METHOD[result.method]} (Rambachan and Roth 2023)",
        _breakdown_sentence(result, look),
        *[f"{x[:1].upper()}{x[1:]}" for x in result.notes],
        *_fit(path, data, result.level, look),
    ])  # fmt: skip
    return attach(
        fig,
        FigureRecord(
            kind="honest", data=data, note=note, alt=_honest_alt(result, data, look, label),
            style=look.name, level=result.level, provenance=notes.provenance(path.meta),
        ),
    )  # fmt: skip


def pretrend_power(
    result: PretrendPower, *, style: str | Style = "jama", labels: Labels | None = None
) -> Figure:
    """
    Draw an event study with a trend that its test of the leads may miss.

    Points are estimates with pointwise intervals; the solid line is the hypothesised difference in
    trends, the dashed line what would be estimated on average if it were true, no effect existed
    and the test passed.

    Parameters
    ----------
    result : PretrendPower
        From `vbceval.sensitivity.pretrend_power`.
    style : str or Style, default "jama"
        Publication style.
    labels : mapping, optional
        Words for the outcome; ``event_time`` is the label of the axis.

    Returns
    -------
    Figure
        A matplotlib figure with its record attached (see `vbceval.figures.record`).
    """
    look = get_style(style)
    path = result.path
    data = result.tidy()
    z = -1.0 * _quantile((1 - look.level) / 2, path.df)
    data["conf_low"] = data["estimate"] - z * data["std_error"]
    data["conf_high"] = data["estimate"] + z * data["std_error"]
    data["level"] = look.level
    label = effect_label(path.outcome, path.unit_of_measure, look, labels)
    time_label = (labels or {}).get("event_time", "Periods since entry")
    with canvas.drawing(look):
        fig = marks.draw_trend(data, look, label, time_label, currency(path.unit_of_measure))
    test = "a significant lead" if result.test == "individual" else "a significant joint test"
    note = notes.join([
        notes.sign_sentence(sign_convention(path.outcome, path.unit_of_measure, labels)),
        f"Bars: {interval_name(look.level)}, pointwise",
        "Solid line: a hypothesised difference in trends. Dashed line: mean of the estimates if it "
        "is true, there is no effect, and the test of the leads passes (Roth 2022)",
        f"The trend gives {test} with probability {result.power:.2f} (parallel trends: "
        f"{result.size:.2f})",
        f"Passing is {result.bayes_factor:.2f} times as likely under it as under parallel trends",
        *[f"{x[:1].upper()}{x[1:]}" for x in path.notes],
        *_fit(path, data, look.level, look),
    ])  # fmt: skip
    shown = data[~data["reference"]]
    digits = digits_for(shown["std_error"])
    ends = [
        number(x, look, digits=digits) for x in (shown["trend"].iloc[0], shown["trend"].iloc[-1])
    ]
    alt = (
        f"Event-study plot with a hypothesised trend. {one_line(label)}; the trend runs from "
        f"{ends[0]} to {ends[1]} and is detected before entry with probability {result.power:.2f}."
    )
    return attach(
        fig,
        FigureRecord(
            kind="pretrend_power", data=data, note=note, alt=alt, style=look.name,
            level=look.level, provenance=notes.provenance(path.meta),
        ),
    )  # fmt: skip


def equivalence(
    result: Equivalence, *, style: str | Style = "jama", labels: Labels | None = None
) -> Figure:
    """
    Draw intervals of differences before entry inside the margin that they exclude.

    Intervals are those of two one-sided tests, so that an interval inside the margin is an
    equivalence verdict. The shaded margin is the one asked for, or the smallest that every lead
    passes.

    Parameters
    ----------
    result : Equivalence
        From `vbceval.sensitivity.equivalence`.
    style : str or Style, default "jama"
        Publication style.
    labels : mapping, optional
        Words for the outcome; ``event_time`` is the label of the axis.

    Returns
    -------
    Figure
        A matplotlib figure with its record attached (see `vbceval.figures.record`).
    """
    look = get_style(style)
    path, table = result.path, result.tidy()
    worst = table[table["check"] == "max"].iloc[0]
    asked = result.margin is not None
    margin = float(result.margin if result.margin is not None else worst["smallest_margin"])
    k = path.n_pre
    half = -1.0 * _quantile(1 - result.level, path.df) * path.std_error[:k]
    data = pd.DataFrame({
        "outcome": path.outcome or None, "unit_of_measure": path.unit_of_measure or None,
        "event_time": path.event_time[:k], "estimate": path.estimate[:k],
        "std_error": path.std_error[:k], "conf_low": path.estimate[:k] - half,
        "conf_high": path.estimate[:k] + half, "margin": margin,
        "level": 2 * result.level - 1,
    })  # fmt: skip
    label = effect_label(path.outcome, path.unit_of_measure, look, labels)
    time_label = (labels or {}).get("event_time", "Periods since entry")
    prefix = currency(path.unit_of_measure)
    with canvas.drawing(look):
        fig = marks.draw_margin(data, look, label, time_label, prefix, path.reference)
    digits = digits_for(data["std_error"])
    smallest = number(float(worst["smallest_margin"]), look, digits=digits, prefix=prefix)
    share = ""
    if result.baseline is not None:
        share = f" ({float(worst['percent_of_baseline']):.2g}% of the baseline mean)"
    shade = "the margin asked for" if asked else "the smallest margin that every lead passes"
    verdict = (
        f"Test against the margin: {p_statement(float(worst['p_value']), look)}" if asked else ""
    )
    note = notes.join([
        f"Bars: {interval_name(float(data['level'].iloc[0]))}, those of one-sided tests at "
        f"{100 * result.level:g}%; shaded: {shade}",
        f"Differences before entry larger than {smallest}{share} in any period are excluded at "
        f"{100 * result.level:g}%",
        verdict,
        *[f"{x[:1].upper()}{x[1:]}" for x in path.notes],
        *_fit(path, data, float(data["level"].iloc[0]), look),
    ])  # fmt: skip
    alt = (
        f"Differences before entry with a shaded margin of {number(margin, look, digits=digits)}. "
        f"{one_line(label)}; {len(data)} periods; the smallest margin that all pass is {smallest}."
    )
    return attach(
        fig,
        FigureRecord(
            kind="equivalence", data=data, note=note, alt=alt, style=look.name,
            level=float(data["level"].iloc[0]), provenance=notes.provenance(path.meta),
        ),
    )  # fmt: skip


def _split(restriction: str) -> tuple[str, list[str]]:
    """Take the name of a restriction apart: what is bounded, and its shape."""
    name = restriction.removeprefix("Delta")
    base = next(b for b in ("SDRM", "RM", "SD") if name.startswith(b))
    rest = name.removeprefix(base)
    return base, [s for s in _SHAPE if s in rest]


def _breakdown_text(result: Honest, style: Style) -> str:
    if not np.isfinite(result.breakdown) or result.breakdown == 0:
        return ""
    return f"Breakdown {_size(result, style)}"


def _size(result: Honest, style: Style) -> str:
    prefix = "" if result.relative else currency(result.path.unit_of_measure)
    digits = max(digits_for(result.breakdown / 20), 1 if result.relative else 0)
    return number(result.breakdown, style, digits=min(digits, 2) if result.relative else digits,
                  prefix=prefix)  # fmt: skip


def _breakdown_sentence(result: Honest, style: Style) -> str:
    value = "zero" if result.null == 0 else f"{result.null:g}"
    if np.isnan(result.breakdown):
        return ""
    if np.isinf(result.breakdown):
        return f"No size of violation brings {value} into the set"
    if result.breakdown == 0:
        return f"The set includes {value} without any violation"
    return f"Breakdown value, the smallest M whose set includes {value}: {_size(result, style)}"


def _honest_alt(result: Honest, data: pd.DataFrame, style: Style, label: str) -> str:
    digits = digits_for(float((data["conf_high"] - data["conf_low"]).iloc[0] / 4))
    first, last = data.iloc[0], data.iloc[-1]
    ends = [interval(r["conf_low"], r["conf_high"], style, digits=digits) for r in (first, last)]
    return (
        f"Robust confidence sets by size of violation of parallel trends. {one_line(label)}; "
        f"{result.target}. Under parallel trends {ends[0]}; at the largest size "
        f"{ends[1] or 'without an end'}. {_breakdown_sentence(result, style)}."
    )


def _fit(path: EventPath, data: pd.DataFrame, level: float, style: Style) -> list[str]:
    return notes.fit_sentences(Source(frame=data, level=level, meta=path.meta), style)


def _quantile(probability: float, df: float) -> float:
    from scipy import special

    finite = np.isfinite(df)
    value: Any = special.stdtrit(df, probability) if finite else special.ndtri(probability)
    return float(value)
