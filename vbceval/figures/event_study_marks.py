"""Marks of the event-study plot: points, bars, bands, and the strip of counts below them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vbceval.core.typing import FloatArray
from vbceval.figures import canvas
from vbceval.figures.numbers import number
from vbceval.figures.sources import by_series
from vbceval.figures.style import Style, series_look

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from vbceval.figures.canvas import Axes, Figure

_SPREAD = 0.19
_PLOT_MM = 72.0
_STRIP_MM = 4.5
_NAMES_MM = 34.0


def draw(
    data: pd.DataFrame,
    style: Style,
    label: str,
    prefix: str,
    bands: bool,
    count_label: str,
    time_label: str,
) -> Figure:
    """Draw the prepared rows; a strip of counts is added where `count_label` is not empty."""
    names = list(data["series"].unique())
    several = len(names) > 1
    probe = canvas.new_figure(style.page_mm, 50.0, constrained=False)
    # beside the strip, long names take their room from the plot
    beside = [canvas.wrapped(probe, name, style.small, _NAMES_MM) for name in names]
    lines = 1 + max(name.count("\n") for name in beside)
    row = _STRIP_MM + 0.45 * style.small * (lines - 1)
    strip = row * len(names) + 4.0 if count_label else 0.0
    legend = _STRIP_MM * -(-len(names) // 2) if several else 0.0
    fig = canvas.new_figure(style.page_mm * (1.0 if several else 0.72), _PLOT_MM + strip + legend)
    if strip:
        ax, below = fig.subplots(2, 1, sharex=True, height_ratios=[_PLOT_MM + legend, strip])
    else:
        ax, below = fig.subplots(1, 1), None
    times = sorted(data["event_time"].unique())
    for i, (name, part) in enumerate(by_series(data)):
        offset = _SPREAD * (i - (len(names) - 1) / 2)
        _series(ax, part, offset, i, bands, name)
    canvas.zero_line(ax)
    canvas.start_line(ax, _start(times))
    canvas.tidy_axes(ax, style)
    ax.set_xlim(min(times) - 0.6, max(times) + 0.6)
    canvas.number_axis(ax, "y", style, prefix=prefix)
    canvas.axis_label(ax, "y", label, style, length_mm=_PLOT_MM - 16.0)
    canvas.integer_ticks(ax, times)
    ax.set_xlabel(time_label)
    if several:
        canvas.legend_above(ax, style, width_mm=0.7 * style.page_mm, lines=False)
    if below is not None:
        ax.tick_params(labelbottom=True)
        _strip(below, data, beside, style, count_label)
    return canvas.finish(fig)


def _start(times: Sequence[float]) -> float:
    before = [t for t in times if t < 0]
    return -0.5 if before else min(times) - 0.5


def _series(
    ax: Axes, part: pd.DataFrame, offset: float, place: int, bands: bool, name: str
) -> None:
    colour, marker, _ = series_look(place, what="the event study")
    x = part["event_time"].to_numpy(dtype=float) + offset
    y = part["estimate"].to_numpy(dtype=float)
    if bands:
        low, high = part["band_low"].to_numpy(dtype=float), part["band_high"].to_numpy(dtype=float)
        ok = np.isfinite(low) & np.isfinite(high)
        _bars(ax, x[ok], low[ok], high[ok], colour, 0.8, caps=True)
    low, high = part["conf_low"].to_numpy(dtype=float), part["conf_high"].to_numpy(dtype=float)
    ok = np.isfinite(low) & np.isfinite(high)
    _bars(ax, x[ok], low[ok], high[ok], colour, 2.2, caps=False)
    reference = part["reference"].to_numpy(dtype=bool)
    ax.plot(
        x[~reference],
        y[~reference],
        linestyle="none",
        marker=marker,
        markersize=5.0,
        markerfacecolor=colour,
        markeredgecolor="white",
        markeredgewidth=0.6,
        zorder=4,
        label=name or "_estimates",
    )
    if reference.any():
        ax.plot(
            x[reference],
            y[reference],
            linestyle="none",
            marker=marker,
            markersize=5.0,
            markerfacecolor="white",
            markeredgecolor=colour,
            markeredgewidth=1.1,
            zorder=4,
            label="_reference",
        )


def _bars(
    ax: Axes,
    x: FloatArray,
    low: FloatArray,
    high: FloatArray,
    colour: str,
    width: float,
    *,
    caps: bool,
) -> None:
    ax.vlines(
        x,
        low,
        high,
        color=colour,
        linewidth=width,
        zorder=3,
        label="_band" if caps else "_interval",
    )
    if caps:
        for y in (low, high):
            ax.plot(
                x,
                y,
                linestyle="none",
                marker="_",
                markersize=4,
                markeredgewidth=width,
                color=colour,
                zorder=3,
                label="_cap",
            )


def _strip(ax: Axes, data: pd.DataFrame, names: list[str], style: Style, label: str) -> None:
    canvas.caption_row(ax, style)
    ax.set_ylim(len(names) - 0.4, -1.1)
    ax.set_yticks(range(len(names)), names)
    ax.text(
        0.0,
        -0.75,
        label,
        transform=ax.get_yaxis_transform(),
        fontsize=style.small,
        fontweight="bold",
        va="center",
        ha="left",
    )
    # where numbers would run into each other they stand at the labelled event times only
    labelled = set(ax.get_xticks())
    for i, (_, part) in enumerate(by_series(data)):
        for e, n in zip(part["event_time"], part["n"], strict=True):
            if e not in labelled:
                continue
            ax.text(e, i, number(n, style), fontsize=style.small, ha="center", va="center")
