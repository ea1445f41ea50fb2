"""Savings added up over performance years, with an interval that knows how years are related."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError
from vbceval.estimates import Estimates
from vbceval.figures import canvas, notes
from vbceval.figures.ledgers import money_scale, scaled_unit
from vbceval.figures.numbers import interval, interval_name, number
from vbceval.figures.records import FigureRecord, attach
from vbceval.figures.sources import INTERVAL, Source, by_series, read
from vbceval.figures.style import MUTED, Style, get_style, series_look

if TYPE_CHECKING:
    from vbceval.figures.canvas import Figure

NAMES: Mapping[str, str] = {
    "impact_savings_gross_cumulative": "Gross savings",
    "impact_savings_net_cumulative": "Net savings",
}
_WHAT = "the running totals"


def cumulative_savings(
    source: Estimates | pd.DataFrame,
    *,
    unit: str = "USD, nominal",
    style: str | Style = "jama",
    level: float | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Figure:
    """
    Draw running totals of savings by performance year, and the year from which they are above zero.

    The interval of a running total needs the covariance across years, which share comparisons and
    clusters; `savings.cumulative` carries it, and yearly intervals cannot be added up.

    Parameters
    ----------
    source : Estimates or DataFrame
        Result of `vbc.savings.cumulative`, or several stacked (gross and net); or a table with
        ``period``, ``estimate``, ``series`` (optional) and intervals of running totals.
    unit : str, default "USD, nominal"
        Unit of the amounts, with the year of the dollars.
    style : str or Style, default "jama"
        Publication style.
    level : float, optional
        Level of the intervals.
    meta : mapping, optional
        Record of the fit of a table, for the note.

    Returns
    -------
    Figure

    Raises
    ------
    DesignError
        If estimates are not running totals, a period appears twice in a series, or there is no
        period.
    DataError
        If the table lacks columns or does not say its level.
    """
    look = get_style(style)
    rows = read(source, look, level=level, meta=meta, what=_WHAT, needs=("period", "estimate"))
    data = _prepare(rows, unit)
    scale, word = money_scale(data[["estimate", *INTERVAL]])
    label = f"Savings to date, {scaled_unit(unit, word)}\n(positive = savings)"
    with canvas.drawing(look):
        fig = _draw(data, look, label, scale)
    return attach(
        fig,
        FigureRecord(
            kind="cumulative_savings",
            data=data,
            note=_note(data, rows, look),
            alt=_alt(data, look, scale, word),
            style=look.name,
            level=rows.level,
            provenance=notes.provenance(rows.meta),
        ),
    )


def _prepare(rows: Source, unit: str) -> pd.DataFrame:
    frame = rows.frame
    if rows.estimates is not None:
        wrong = sorted(set(frame["estimand"]) - set(NAMES))
        if wrong:
            raise DesignError(
                f"{_WHAT} hold {', '.join(wrong)}. Pass the result of `vbc.savings.cumulative`: yearly "
                "amounts and their intervals cannot be added up by eye."
            )
        frame = frame.assign(series=frame["estimand"].map(NAMES))
    elif "series" not in frame:
        frame = frame.assign(series="Savings")
    if frame["period"].isna().any() or frame["estimate"].isna().any():
        raise DesignError(f"{_WHAT} have rows without period or amount. Leave them out.")
    if frame.duplicated(["series", "period"]).any():
        raise DesignError(
            f"{_WHAT} have a period twice in a series. Draw one stratum at a time, with `where`."
        )
    kept = frame[["series", "period", "estimate", *INTERVAL]]
    order = {name: i for i, name in enumerate(dict.fromkeys(kept["series"]))}
    kept = kept.assign(_place=kept["series"].map(order)).sort_values(["_place", "period"])
    kept = kept.drop(columns="_place").reset_index(drop=True)
    even = {name: _breakeven(part) for name, part in by_series(kept)}
    return kept.assign(breakeven_period=kept["series"].map(even), level=rows.level,
                       unit_of_measure=unit)  # fmt: skip


def _breakeven(part: pd.DataFrame) -> float:
    """Return the first period from which totals stay at or above zero; missing where they do not."""
    below = np.flatnonzero(part["estimate"].to_numpy(dtype=float) < 0)
    first = 0 if not len(below) else int(below[-1]) + 1
    return float(part["period"].iloc[first]) if first < len(part) else np.nan


def _draw(data: pd.DataFrame, style: Style, label: str, scale: float) -> Figure:
    series = by_series(data)
    fig = canvas.new_figure(style.page_mm * 0.66, 78.0 + (4.5 * (len(series) > 1)))
    ax = fig.subplots(1, 1)
    canvas.zero_line(ax)
    for i, (name, part) in enumerate(series):
        colour, marker, line = series_look(i, what="the running totals")
        x = part["period"].to_numpy(dtype=float)
        y, low, high = (part[c].to_numpy(dtype=float) / scale for c in ("estimate", *INTERVAL))
        ax.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0, zorder=1,
                        label="_band")  # fmt: skip
        for end in (low, high):
            # edges tell overlapping bands apart in grey
            ax.plot(x, end, color=colour, linestyle=line, linewidth=0.5, zorder=2, label="_edge")
        ax.plot(x, y, color=colour, linestyle=line, linewidth=1.5, marker=marker, markersize=4.5,
                markeredgecolor="white", markeredgewidth=0.5, zorder=3, label=name)  # fmt: skip
    for even in np.unique(data["breakeven_period"].dropna()):
        if even > data["period"].min():
            ax.axvline(even, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1,
                       label="_breakeven")  # fmt: skip
    canvas.tidy_axes(ax, style)
    periods = np.unique(data["period"].to_numpy(dtype=float))
    canvas.integer_ticks(ax, periods.tolist())
    ax.margins(x=0.04)
    canvas.number_axis(ax, "y", style, prefix="$")
    canvas.axis_label(ax, "y", label, style, length_mm=58.0)
    canvas.axis_label(ax, "x", "Performance year", style, length_mm=style.page_mm * 0.5)
    if len(series) > 1:
        canvas.legend_above(ax, style, width_mm=style.page_mm * 0.52)
    return canvas.finish(fig)


def _said(name: str, part: pd.DataFrame) -> str:
    even, first = part["breakeven_period"].iloc[0], part["period"].min()
    if np.isnan(even):
        return f"{name}: below zero at the end of the last year"
    if even == first:
        return f"{name}: at or above zero in every year"
    return f"{name}: at or above zero from {even:g} on"


def _note(data: pd.DataFrame, rows: Source, style: Style) -> str:
    marked = (data["breakeven_period"] > data["period"].min()).any()
    return notes.join(
        [
            "Savings are positive; each point adds up all years to date",
            notes.interval_sentence(rows, marks="Bands"),
            "Intervals are of the totals, with the covariance across years"
            if rows.estimates is not None
            else "",
            *[_said(name, part) for name, part in by_series(data)],
            "Dotted lines: year from which a total stays at or above zero" if marked else "",
            *notes.fit_sentences(rows, style),
        ]
    )


def _alt(data: pd.DataFrame, style: Style, scale: float, word: str) -> str:
    parts = [f"Line chart of savings to date in US dollars{f' ({word})' if word else ''}."]
    level = data["level"].iloc[0]
    # three significant digits of the largest amount
    largest = float(data["estimate"].abs().max()) / scale
    digits = int(np.clip(2 - np.floor(np.log10(largest)), 0, 12)) if largest > 0 else 0
    for name, part in by_series(data):
        said = []
        for _, row in part.iterrows():
            text = number(row["estimate"] / scale, style, digits=digits, prefix="$")
            ends = interval(row["conf_low"] / scale, row["conf_high"] / scale, style,
                            digits=digits, prefix="$")  # fmt: skip
            text = f"{row['period']:g} {text}"
            said.append(f"{text} ({interval_name(level)}, {ends})" if ends else text)
        parts.append(f"{name}: {'; '.join(said)}.")
        parts.append(f"{_said(name, part)}.")
    return " ".join(parts)
