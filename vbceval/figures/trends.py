"""Adjusted means over time, the counterfactual, and the bracket that carries the estimate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems
from vbceval.core.errors import DataError
from vbceval.estimates import Estimates
from vbceval.figures import canvas, disclosure, notes
from vbceval.figures.numbers import digits_for, interval, interval_name, number
from vbceval.figures.records import FigureRecord, attach
from vbceval.figures.sources import INTERVAL, Source, errors, read, require, stated_level
from vbceval.figures.style import Style, get_style
from vbceval.figures.trend_marks import ARMS, arm_means, draw
from vbceval.figures.wording import (
    Labels,
    currency,
    display,
    one_of,
    sign_convention,
    unit_text,
)

if TYPE_CHECKING:
    from vbceval.figures.canvas import Figure


def trend(
    table: pd.DataFrame,
    effect: Estimates | pd.DataFrame,
    *,
    start: float,
    over: Sequence[float] | None = None,
    baseline: Sequence[float] | None = None,
    baseline_mean: float | None = None,
    tolerance: float = 1e-6,
    style: str | Style = "jama",
    level: float | None = None,
    period_label: str = "Period",
    labels: Labels | None = None,
    meta: Mapping[str, Any] | None = None,
    people: Sequence[str] = (),
) -> Figure:
    """
    Draw adjusted means of treated and comparison with the estimate as a bracket.

    The counterfactual is dashed. The bracket joins the mean counterfactual and the mean treated
    outcome over the periods `over`; their distance must equal the estimate, or nothing is drawn.

    Parameters
    ----------
    table : DataFrame
        One row an arm and period: ``period`` (number), ``arm`` ("treated", "comparison" and
        optionally "counterfactual"), ``mean``; optionally ``conf_low``, ``conf_high`` and
        ``level``, ``weight`` (of a period in the bracket; default equal) and counts. Without
        counterfactual rows it is the treated mean over `baseline` plus the comparison's change.
        A row with a count of 1-10 people is a gap in its line.
    effect : Estimates or DataFrame
        One row: ``estimate``, interval, ``unit_of_measure``.
    start : float
        First treated period; the dashed line stands half a period before it.
    over : sequence of float, optional
        Periods that the estimate averages; default is every period from `start` on.
    baseline : sequence of float, optional
        Periods of the baseline; default is every period before `start`.
    baseline_mean : float, optional
        Treated baseline mean in the unit of the outcome; adds the effect as a percent of it.
    tolerance : float, default 1e-6
        Largest difference between bracket and estimate, as a share of the largest mean. Raise it
        for means that were printed rounded.
    style : str or Style, default "jama"
        Publication style.
    level : float, optional
        Interval probability; default is that of the style.
    period_label : str
        Label of the horizontal axis.
    labels : mapping, optional
        Words for the outcome and the arms.
    meta : mapping, optional
        Record of the fit, where `effect` is a table.
    people : sequence of str
        Columns that count people and are not known by name.

    Returns
    -------
    Figure

    Raises
    ------
    DataError
        If the table cannot be drawn, or the bracket would not show the estimate.
    """
    look = get_style(style)
    fitted = read(effect, look, level=level, meta=meta, what="the effect of the bracket")
    if len(fitted.frame) != 1:
        raise DataError(
            f"the bracket shows one estimate, but {len(fitted.frame)} were given. Select one row, "
            "or aggregate."
        )
    frame, n_suppressed = _prepare(table, start, people)
    drawn = stated_level(frame, fitted.level, what="the trend table")
    fitted = replace(fitted, level=fitted.level if drawn is None else drawn)
    if "counterfactual" not in set(frame["arm"]):
        frame = pd.concat([frame, _counterfactual(frame, start, baseline)], ignore_index=True)
    bracket = _bracket(frame, fitted.frame.iloc[0], start, over, tolerance)
    row = fitted.frame.iloc[0]
    outcome = one_of(fitted.frame, "outcome", what="a trend")
    unit = one_of(fitted.frame, "unit_of_measure", what="a trend")
    text = _bracket_text(row, fitted, look, unit, baseline_mean)
    with canvas.drawing(look):
        label = f"Adjusted mean {display(outcome, labels) or 'outcome'}, {unit_text(unit)}"
        fig = draw(frame, bracket, text, start, label, period_label, look, unit, labels)
    data = _data(frame, row, bracket, fitted.level, unit, outcome)
    convention = sign_convention(outcome, unit, labels)
    return attach(
        fig,
        FigureRecord(
            kind="trend",
            data=data,
            note=_note(fitted, look, bracket, baseline_mean, n_suppressed, convention, frame),
            alt=_alt(frame, text, label, period_label, start, look, unit),
            style=look.name,
            level=fitted.level,
            provenance=notes.provenance(fitted.meta),
        ),
    )


def _prepare(table: pd.DataFrame, start: float, people: Sequence[str]) -> tuple[pd.DataFrame, int]:
    what = "the trend table"
    frame = require(
        table,
        ("period", "arm", "mean"),
        what=what,
        numbers=("period", "mean", *INTERVAL, "weight"),
    )
    problems = Problems(what)
    unknown = sorted(set(frame["arm"].astype(str)) - set(ARMS))
    if unknown:
        problems.add(f"`arm` has {', '.join(unknown)}; use {', '.join(ARMS)}.")
    absent = [a for a in ARMS[:2] if a not in set(frame["arm"])]
    if absent:
        problems.add(f"it has no rows with `arm` {' and '.join(absent)}.")
    repeated = int(frame.duplicated(["arm", "period"]).sum())
    if repeated:
        problems.add(f"{repeated} rows repeat an arm and period. Average them first.")
    treated = frame.loc[frame["arm"] == "treated", "period"]
    if not ((treated < start).any() and (treated >= start).any()):
        problems.add(
            f"the treated arm needs periods before and from `start` ({start:g}) on; it has "
            f"{', '.join(f'{p:g}' for p in sorted(treated))}."
        )
    problems.raise_if_any()
    checked = disclosure.check(frame, values=("mean", *INTERVAL), people=people)
    return checked.frame, checked.n_suppressed


def _floats(periods: Sequence[float] | pd.Index) -> list[float]:
    return [float(p) for p in np.asarray(periods, dtype=float)]


def _counterfactual(
    frame: pd.DataFrame, start: float, baseline: Sequence[float] | None
) -> pd.DataFrame:
    """Treated baseline plus the comparison's change, from the last baseline period on."""
    treated, comparison = arm_means(frame, "treated"), arm_means(frame, "comparison")
    before = _floats(treated.index[treated.index < start] if baseline is None else baseline)
    missing = [p for p in before if p not in treated.index or p not in comparison.index]
    if missing:
        raise DataError(
            f"`baseline` has {', '.join(f'{p:g}' for p in missing)}, which the trend table does "
            "not have in both arms."
        )
    gap = treated.loc[before].mean(skipna=False) - comparison.loc[before].mean(skipna=False)
    path = comparison[comparison.index >= start] + gap
    out = pd.DataFrame({"period": path.index, "arm": "counterfactual", "mean": path.to_numpy()})
    return out.assign(suppressed=False)


def _bracket(
    frame: pd.DataFrame,
    row: pd.Series,
    start: float,
    over: Sequence[float] | None,
    tolerance: float,
) -> dict[str, Any]:
    treated, path = arm_means(frame, "treated"), arm_means(frame, "counterfactual")
    periods = _floats(treated.index[treated.index >= start] if over is None else over)
    missing = [p for p in periods if p not in treated.index or p not in path.index]
    if missing:
        raise DataError(
            f"`over` has {', '.join(f'{p:g}' for p in missing)}, without a treated and a "
            "counterfactual mean in the trend table."
        )
    weight = pd.Series(1.0, index=periods)
    if "weight" in frame:
        rows = frame[frame["arm"] == "treated"].set_index("period")["weight"]
        weight = rows.loc[periods].astype(float)
    share = weight / weight.sum()
    low = float(np.dot(path.loc[periods].to_numpy(), share.to_numpy()))
    high = float(np.dot(treated.loc[periods].to_numpy(), share.to_numpy()))
    estimate = float(row["estimate"])
    scale = float(np.nanmax(np.abs(frame["mean"].to_numpy(dtype=float))))
    if not np.isfinite([low, high]).all():
        raise DataError(
            "a mean that the bracket needs is missing, or suppressed because its count is 1 to 10 "
            f"people (periods {', '.join(f'{p:g}' for p in periods)}). Merge periods, or leave "
            "them out of `over` and of the estimate."
        )
    if abs(high - low - estimate) > tolerance * scale:
        raise DataError(
            f"the bracket would show {high - low:,.6g}, the treated mean less the counterfactual "
            f"over {', '.join(f'{p:g}' for p in periods)}, but the estimate is {estimate:,.6g}. "
            "Pass the counterfactual of the same fit, the periods it averages in `over` and their "
            "`weight`."
        )
    return {"periods": periods, "counterfactual": low, "treated": high}


def _bracket_text(
    row: pd.Series, fitted: Source, style: Style, unit: str, baseline_mean: float | None
) -> list[str]:
    prefix = currency(unit)
    digits = digits_for(errors(fitted.frame))
    lines = [f"DiD = {number(row['estimate'], style, digits=digits, prefix=prefix)}"]
    ends = interval(row["conf_low"], row["conf_high"], style, digits=digits, prefix=prefix)
    if fitted.level is not None and ends:
        lines.append(f"({interval_name(fitted.level, fitted.interval)}, {ends})")
    if baseline_mean is not None:
        share = number(100 * row["estimate"] / baseline_mean, style, digits=1)
        lines.append(f"{share}% of baseline mean")
    return lines


def _data(
    frame: pd.DataFrame,
    row: pd.Series,
    bracket: Mapping[str, Any],
    level: float | None,
    unit: str,
    outcome: str,
) -> pd.DataFrame:
    out = frame.sort_values(["arm", "period"], kind="stable").assign(role="mean", level=level)
    line = {
        "arm": "treated - counterfactual",
        "role": "bracket",
        "mean": bracket["treated"] - bracket["counterfactual"],
        "conf_low": row["conf_low"],
        "conf_high": row["conf_high"],
        "suppressed": False,
        "level": level,
    }
    out = pd.concat([out, pd.DataFrame([line])], ignore_index=True)
    return out.assign(outcome=outcome or None, unit_of_measure=unit or None)


def _note(
    fitted: Source,
    style: Style,
    bracket: Mapping[str, Any],
    baseline_mean: float | None,
    n_suppressed: int,
    convention: str,
    frame: pd.DataFrame,
) -> str:
    periods = [f"{p:g}".replace("-", "\u2212") for p in bracket["periods"]]
    span = periods[0] if len(periods) == 1 else f"{periods[0]} to {periods[-1]}"
    drawn = "conf_low" in frame and frame["conf_low"].notna().any()
    return notes.join(
        [
            f"Bracket: difference-in-differences (DiD) estimate, treated less counterfactual, over "
            f"{span}; {convention}",
            "" if len(periods) == 1 else "Dotted lines: means over these periods",
            "Dashed: counterfactual; vertical dashed line: start",
            notes.interval_sentence(fitted) if drawn else "",
            ""
            if baseline_mean is None
            else "Percent: relative to the treated baseline mean of "
            f"{number(baseline_mean, style, digits=_digits(baseline_mean))}",
            *notes.fit_sentences(fitted, style),
            disclosure.sentence(n_suppressed),
        ]
    )


def _digits(mean: float) -> int:
    """Whole numbers from 100 on, two digits from 1, and at least three significant ones below."""
    size = abs(mean)
    return 0 if size >= 100 else 2 if size >= 1 else digits_for(size / 100)


def _alt(
    frame: pd.DataFrame,
    text: list[str],
    label: str,
    period_label: str,
    start: float,
    style: Style,
    unit: str,
) -> str:
    parts = [f"Line plot. {label}, by {period_label.lower()}; treatment starts at {start:g}."]
    for arm in ARMS:
        line = arm_means(frame, arm).dropna()
        if line.empty:
            parts.append(f"{arm.capitalize()}: suppressed or missing.")
            continue
        digits = _digits(float(line.abs().max()))
        ends = [number(v, style, digits=digits, prefix=currency(unit)) for v in line.iloc[[0, -1]]]
        parts.append(
            f"{arm.capitalize()}: {ends[0]} at {line.index[0]:g}, {ends[1]} at {line.index[-1]:g}."
        )
    return " ".join([*parts, " ".join(text) + "."]).replace(" -", " \u2212")
