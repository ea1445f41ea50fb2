"""Marks of the figures on trends: sets by size, a hypothesised trend, a margin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vbceval.core.typing import FloatArray
from vbceval.figures import canvas
from vbceval.figures.canvas import FAINT, MUTED
from vbceval.figures.numbers import number
from vbceval.figures.style import Style, series_look

if TYPE_CHECKING:
    import pandas as pd

    from vbceval.figures.canvas import Axes, Figure

_PLOT_MM = 72.0
_LEGEND_MM = 9.0
_ROOM = 0.06


def draw_sets(
    data: pd.DataFrame, style: Style, label: str, axis: str, prefix: str, breakdown: str
) -> Figure:
    """Draw the sets; the first row, without a size, stands left of the others."""
    fig = canvas.new_figure(style.page_mm * 0.72, _PLOT_MM + 2 * _LEGEND_MM)
    ax = fig.subplots(1, 1)
    size = data["m"].to_numpy(dtype=float)
    known = size[1:]
    gap = float(np.min(np.diff(np.unique(known)))) if len(np.unique(known)) > 1 else 1.0
    if known.max() > known.min():
        gap = min(gap, 0.25 * float(known.max() - known.min()))
    x = np.append(known.min() - 1.2 * gap, known)
    low, high = (data[c].to_numpy(dtype=float) for c in ("conf_low", "conf_high"))
    ends = np.concatenate([low, high, [0.0]])
    ends = ends[np.isfinite(ends)]
    room = _ROOM * (ends.max() - ends.min())
    floor, ceiling = ends.min() - room, ends.max() + 2.2 * room
    dark, _, _ = series_look(0, what="the figure")
    light, _, _ = series_look(2, what="the figure")
    for i, (at, a, b) in enumerate(zip(x, low, high, strict=True)):
        colour = dark if i == 0 else light
        if not np.isfinite(a) and not np.isfinite(b) and np.isnan(a):
            ax.plot(at, 0.0, "x", color=light, markersize=5, zorder=4, label="_empty")
            continue
        ax.vlines(at, max(a, floor), min(b, ceiling), color=colour, linewidth=2.2, zorder=3,
                  label="_set")  # fmt: skip
        for end, border, marker in ((a, floor, "v"), (b, ceiling, "^")):
            inside = np.isfinite(end)
            ax.plot(
                at, end if inside else border, marker="_" if inside else marker, markersize=5,
                markeredgewidth=1.2, color=colour, zorder=3, label="_end",
            )  # fmt: skip
    _centers(ax, x, data["estimate"].to_numpy(dtype=float), dark, light)
    canvas.zero_line(ax)
    if breakdown:
        value = float(data["breakdown"].iloc[0])
        if x.min() < value <= x.max():
            canvas.start_line(ax, value)
            right = value > (x.min() + x.max()) / 2
            ax.text(
                value + (-0.15 if right else 0.15) * gap, ceiling, breakdown, fontsize=style.small,
                ha="right" if right else "left", va="top",
            )  # fmt: skip
    canvas.tidy_axes(ax, style)
    ax.set_ylim(floor - 0.2 * room, ceiling)
    ax.set_xlim(x.min() - 0.7 * gap, x.max() + 0.7 * gap)
    canvas.number_axis(ax, "y", style, prefix=prefix)
    canvas.axis_label(ax, "y", label, style, length_mm=_PLOT_MM - 16.0)
    _sizes(ax, x, style)
    canvas.axis_label(ax, "x", axis, style, length_mm=0.5 * style.page_mm)
    return canvas.finish(fig)


def _centers(ax: Axes, x: FloatArray, center: FloatArray, dark: str, light: str) -> None:
    for i, (at, y) in enumerate(zip(x, center, strict=True)):
        if np.isfinite(y):
            colour = dark if i == 0 else light
            ax.plot(
                at, y, marker="o" if i == 0 else "^", markersize=5.0, markeredgecolor=colour,
                markerfacecolor="white" if i == 0 else colour, markeredgewidth=1.0, zorder=4,
                label="_center",
            )  # fmt: skip


def _sizes(ax: Axes, x: FloatArray, style: Style) -> None:
    """Label round sizes, and the interval under parallel trends by words."""
    low, high = float(x[1:].min()), float(x[1:].max())
    rough = (high - low) / 5 if high > low else max(abs(high), 1.0)
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * min(s for s in (1, 2, 2.5, 5, 10) if s * power >= rough * 0.999)
    ticks = np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step
    if high == low:
        ticks = np.array([high])
    digits = next(d for d in range(13) if np.allclose(ticks, np.round(ticks, d), rtol=1e-6))
    names = [number(t, style, digits=digits) for t in ticks]
    ax.set_xticks([float(x[0]), *ticks.tolist()], ["Parallel\ntrends", *names])


def draw_trend(
    data: pd.DataFrame, style: Style, label: str, time_label: str, prefix: str
) -> Figure:
    """Draw estimates, the hypothesised trend, and what is expected if the test passes."""
    fig = canvas.new_figure(style.page_mm * 0.72, _PLOT_MM + _LEGEND_MM)
    ax = fig.subplots(1, 1)
    x = data["event_time"].to_numpy(dtype=float)
    _points(ax, data)
    for place, column, name in (
        (1, "trend", "Hypothesised trend"),
        (2, "expected_if_passed", "Expected if the test passes"),
    ):
        colour, marker, _ = series_look(place, what="the figure")
        ax.plot(
            x, data[column].to_numpy(dtype=float), color=colour, marker=marker, markersize=3.5,
            linewidth=1.2, linestyle="-" if place == 1 else (0, (4, 2)), zorder=2, label=name,
        )  # fmt: skip
    canvas.zero_line(ax)
    canvas.start_line(ax, float(x[data["reference"]].item()) + 0.5)
    _time_axes(ax, x, style, label, time_label, prefix)
    canvas.legend_above(ax, style, width_mm=0.6 * style.page_mm)
    return canvas.finish(fig)


def draw_margin(
    data: pd.DataFrame, style: Style, label: str, time_label: str, prefix: str, reference: float
) -> Figure:
    """Draw leads inside a shaded margin, the reference period as a hollow mark."""
    fig = canvas.new_figure(style.page_mm * 0.72, _PLOT_MM)
    ax = fig.subplots(1, 1)
    margin = float(data["margin"].iloc[0])
    ax.axhspan(-margin, margin, color=FAINT, alpha=0.35, linewidth=0, zorder=0, label="_margin")
    for side in (-margin, margin):
        ax.axhline(side, color=MUTED, linewidth=0.8, linestyle=(0, (1, 1.2)), label="_border")
    _points(ax, data.assign(reference=False))
    colour, marker, _ = series_look(0, what="the figure")
    ax.plot(reference, 0.0, marker=marker, markersize=5.0, markerfacecolor="white",
            markeredgecolor=colour, markeredgewidth=1.1, zorder=4, label="_reference")  # fmt: skip
    canvas.zero_line(ax)
    times = np.append(data["event_time"].to_numpy(dtype=float), reference)
    _time_axes(ax, times, style, label, time_label, prefix)
    return canvas.finish(fig)


def _points(ax: Axes, data: pd.DataFrame) -> None:
    colour, marker, _ = series_look(0, what="the figure")
    live = data[~data["reference"]]
    x = live["event_time"].to_numpy(dtype=float)
    ax.vlines(x, live["conf_low"], live["conf_high"], color=colour, linewidth=2.2, zorder=3,
              label="_interval")  # fmt: skip
    ax.plot(x, live["estimate"], linestyle="none", marker=marker, markersize=5.0, color=colour,
            markeredgecolor="white", markeredgewidth=0.6, zorder=4, label="Estimate")  # fmt: skip
    for e in data.loc[data["reference"], "event_time"]:
        ax.plot(e, 0.0, marker=marker, markersize=5.0, markerfacecolor="white", zorder=4,
                markeredgecolor=colour, markeredgewidth=1.1, label="_reference")  # fmt: skip


def _time_axes(
    ax: Axes, times: FloatArray, style: Style, label: str, time_label: str, prefix: str
) -> None:
    canvas.tidy_axes(ax, style)
    ax.set_xlim(times.min() - 0.6, times.max() + 0.6)
    canvas.number_axis(ax, "y", style, prefix=prefix)
    canvas.axis_label(ax, "y", label, style, length_mm=_PLOT_MM - 16.0)
    canvas.integer_ticks(ax, sorted(float(t) for t in times))
    ax.set_xlabel(time_label)
