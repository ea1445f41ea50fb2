"""Marks of the leave-one-out figure: sorted points, a line with its band, names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vbceval.core.typing import FloatArray
from vbceval.figures import canvas
from vbceval.figures.canvas import FAINT, MUTED
from vbceval.figures.numbers import interval_name
from vbceval.figures.sources import INTERVAL
from vbceval.figures.style import Style, series_look

if TYPE_CHECKING:
    from vbceval.figures.canvas import Axes, Figure

FEW = 20
"""Up to so many groups have a row and a name each."""

_PLOT_MM = 76.0
_INSIDE_MM = 56.0
_NAME_MM = 46.0
_LEAST_MM = 24.0
_MANY = 120
_ROOM = 0.06
_LINE = 0.48


def draw(data: pd.DataFrame, style: Style, label: str, prefix: str, what: str) -> Figure:
    """Draw the prepared runs in the order of their ranks: few in rows, many along the page."""
    return (_rows if len(data) <= FEW else _ranks)(data, style, label, prefix, what)


def _rows(data: pd.DataFrame, style: Style, label: str, prefix: str, what: str) -> Figure:
    """Draw a row for each group, smallest estimate on top, the most influential in bold."""
    wide = style.page_mm * 0.72
    probe = canvas.new_figure(wide, 50.0, constrained=False)
    names = [canvas.wrapped(probe, n, style.small, _NAME_MM) for n in data["name"]]
    pitch = 0.56 * style.small
    heights = np.array([pitch * (1 + 0.75 * n.count("\n")) for n in names])
    heights *= max(1.0, _LEAST_MM / heights.sum())
    fig = canvas.new_figure(wide, float(heights.sum()) + 32.0)
    ax = fig.subplots(1, 1)
    centres = np.cumsum(heights) - heights / 2
    _whole(ax, data, vertical=True)
    low, high = (data[c].to_numpy(dtype=float) for c in INTERVAL)
    known = np.isfinite(low) & np.isfinite(high)
    ax.hlines(centres[known], low[known], high[known], color=series_look(0, what="the figure")[0],
              linewidth=0.9, zorder=3, label="_interval")  # fmt: skip
    _points(ax, data["estimate"].to_numpy(dtype=float), centres, 5.0)
    canvas.tidy_axes(ax, style, left=False)
    ax.set_yticks(centres.tolist(), names)
    for tick, named in zip(ax.get_yticklabels(), data["labelled"], strict=True):
        tick.set_fontweight("bold" if named and not data["labelled"].all() else "normal")
    ax.set_ylim(float(heights.sum()) + 0.3 * pitch, -0.3 * pitch)
    ax.set_ylabel(f"{what} left out")
    canvas.number_axis(ax, "x", style, prefix=prefix, most=6)
    canvas.axis_label(ax, "x", label, style, length_mm=0.6 * wide)
    canvas.legend_above(ax, style, width_mm=0.66 * wide)
    return canvas.finish(fig)


def _ranks(data: pd.DataFrame, style: Style, label: str, prefix: str, what: str) -> Figure:
    """Draw the groups along the page, smallest estimate first, the most influential named."""
    fig = canvas.new_figure(style.page_mm * 0.86, _PLOT_MM)
    ax = fig.subplots(1, 1)
    y = data["estimate"].to_numpy(dtype=float)
    _whole(ax, data, vertical=False)
    _points(ax, data["rank"].to_numpy(dtype=float), y, 2.6 if len(data) > _MANY else 4.4)
    ends = np.array([0.0, *data[["full_conf_low", "full_conf_high"]].iloc[0], *y])
    ends = ends[np.isfinite(ends)]
    room = _ROOM * float(np.ptp(ends))
    limits = _names(ax, data, style, (float(ends.min()) - room, float(ends.max()) + room))
    canvas.tidy_axes(ax, style)
    ax.set_xlim(0.0, len(data) + 1.0)
    ax.set_ylim(*limits)
    canvas.number_axis(ax, "x", style)
    canvas.number_axis(ax, "y", style, prefix=prefix)
    canvas.axis_label(ax, "y", label, style, length_mm=_PLOT_MM - 16.0)
    ax.set_xlabel(f"{what} left out, sorted by estimate")
    canvas.legend_above(ax, style, width_mm=0.7 * style.page_mm)
    return canvas.finish(fig)


def _whole(ax: Axes, data: pd.DataFrame, *, vertical: bool) -> None:
    """Draw the estimate with all groups, its interval, and the line of no effect."""
    whole, low, high = (
        float(data[f"full_{c}"].iloc[0]) for c in ("estimate", "conf_low", "conf_high")
    )
    colour, _, _ = series_look(0, what="the figure")
    if np.isfinite(low) and np.isfinite(high):
        kind = interval_name(float(data["level"].iloc[0]))
        span = ax.axvspan if vertical else ax.axhspan
        span(low, high, color=FAINT, alpha=0.45, linewidth=0, zorder=0, label=f"{kind} with all")
    canvas.zero_line(ax, vertical=vertical)
    line = ax.axvline if vertical else ax.axhline
    line(whole, color=colour, linewidth=1.1, zorder=2, label="Estimate with all")


def _points(ax: Axes, x: FloatArray, y: FloatArray, size: float) -> None:
    colour, marker, _ = series_look(0, what="the figure")
    ax.plot(x, y, linestyle="none", marker=marker, markersize=size, color=colour, zorder=4,
            markeredgecolor="white", markeredgewidth=0.5, label="Without one")  # fmt: skip


def _names(
    ax: Axes, data: pd.DataFrame, style: Style, limits: tuple[float, float]
) -> tuple[float, float]:
    """
    Name the groups at both ends, where a sorted curve leaves room: below it left, above it right.

    Returns limits of the axis that hold the names.
    """
    ends = {
        -1: data[data["labelled"] & (data["change"] < 0)].iloc[::-1],
        1: data[data["labelled"] & (data["change"] >= 0)],
    }
    low, high = limits
    line = _LINE * style.small / _INSIDE_MM
    places: dict[int, list[float]] = {}
    for _ in range(30):  # the height of a line depends on the limits that it moves
        pitch = line * (high - low)
        places = {side: _heights(part, pitch, side) for side, part in ends.items()}
        low = min([limits[0], *(y - pitch for y in places[-1])])
        high = max([limits[1], *(y + pitch for y in places[1])])
    shift = 0.02 * (len(data) + 1)
    for side, part in ends.items():
        ranks, points = (part[c].to_numpy(dtype=float) for c in ("rank", "estimate"))
        for rank, point, y, name in zip(ranks, points, places[side], part["name"], strict=True):
            # the first of the part is the innermost
            x = float(ranks[0]) - side * shift
            ax.plot([rank, x], [point, y], color=MUTED, linewidth=0.5, zorder=3,
                    label="_leader")  # fmt: skip
            ax.text(x - 0.3 * side * shift, y, name, fontsize=style.small, va="center",
                    ha="right" if side > 0 else "left", zorder=5)  # fmt: skip
    return low, high


def _heights(part: pd.DataFrame, pitch: float, side: int) -> list[float]:
    """Return heights of names beyond their points, a line apart, from the innermost outwards."""
    out: list[float] = []
    for y in part["estimate"].to_numpy(dtype=float):
        at = y + side * pitch
        if out:
            at = side * max(side * at, side * (out[-1] + side * pitch))
        out.append(float(at))
    return out
