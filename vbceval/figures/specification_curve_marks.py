"""Marks of the specification curve: estimates with bars and band, dots of choices below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray
from vbceval.figures import canvas
from vbceval.figures.canvas import FAINT, MUTED
from vbceval.figures.numbers import interval_name
from vbceval.figures.sources import INTERVAL
from vbceval.figures.style import Style, series_look

if TYPE_CHECKING:
    from vbceval.figures.canvas import Axes, Figure

_CURVE_MM = 66.0
_GRID_MM = 150.0
_BELOW_MM = 9.0
_LABEL_MM = 46.0
_AXIS_MM = 24.0
_SPECIFICATIONS_MM = 62.0
_EACH_MM = 6.0
_TICK_MM = 1.3
_MANY = 60


@dataclass(frozen=True, kw_only=True)
class Value:
    """
    One row of the grid of choices.

    Parameters
    ----------
    label : str
        Words at the left.
    ranks : array, optional
        Ranks of the specifications that chose the value; None in a row that names a choice.
    """

    label: str
    ranks: FloatArray | None


def draw(data: pd.DataFrame, grid: list[Value], style: Style, label: str, prefix: str) -> Figure:
    """Draw the curve, and its grid where specifications differ in choices that are named."""
    probe = canvas.new_figure(style.page_mm, 50.0, constrained=False)
    names = [canvas.wrapped(probe, row.label, style.small, _LABEL_MM) for row in grid]
    pitch = 0.54 * style.small
    heights = np.array([pitch * (1 + 0.75 * name.count("\n")) for name in names])
    above = np.array([0.4 * pitch if row.ranks is None else 0.0 for row in grid])
    sizes = heights + above
    if sizes.sum() > _GRID_MM:
        raise DesignError(
            f"{len(grid)} rows of choices do not fit on a page. Leave out choices that matter less, "
            "or give values that are fewer and coarser."
        )
    tall = float(sizes.sum())
    left = max([_AXIS_MM, *(canvas.text_width(probe, n, style.small) for n in names)])
    wide = min(style.page_mm, left + _SPECIFICATIONS_MM + _EACH_MM * len(data))
    fig = canvas.new_figure(wide, _CURVE_MM + tall + _BELOW_MM)
    if grid:
        ax, below = fig.subplots(2, 1, sharex=True, height_ratios=[_CURVE_MM, tall])
        _grid(below, names, grid, np.cumsum(sizes) - heights / 2, data, style)
    else:
        ax = below = fig.subplots(1, 1)
    _curve(ax, data)
    canvas.tidy_axes(ax, style)
    ax.set_xticks([])
    ax.set_xlim(0.4, len(data) + 0.6)
    canvas.number_axis(ax, "y", style, prefix=prefix)
    canvas.axis_label(ax, "y", label, style, length_mm=_CURVE_MM - 14.0)
    below.set_xlabel("Specifications, sorted by estimate")
    canvas.legend_above(ax, style, width_mm=wide - left - 2.0)
    for panel in {ax, below}:
        for rank in data.loc[data["main"], "rank"]:
            panel.axvline(rank, color=MUTED, linewidth=0.7, linestyle=(0, (1, 1.5)), zorder=1,
                          label="_main")  # fmt: skip
    return canvas.finish(fig)


def _curve(ax: Axes, data: pd.DataFrame) -> None:
    x = data["rank"].to_numpy(dtype=float)
    y = data["estimate"].to_numpy(dtype=float)
    colour, marker, _ = series_look(0, what="the specification curve")
    kind = interval_name(float(data["level"].iloc[0]), str(data["interval"].iloc[0]))
    low, high = (data[c].to_numpy(dtype=float) for c in ("band_low", "band_high"))
    if np.isfinite(low).any():
        sides = np.column_stack([x - 0.5, x + 0.5]).ravel()
        ax.fill_between(sides, np.repeat(low, 2), np.repeat(high, 2), color=FAINT, alpha=0.45,
                        linewidth=0, zorder=0, label=f"Joint {kind}")  # fmt: skip
    canvas.zero_line(ax)
    ax.axhline(float(data["median"].iloc[0]), color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)),
               zorder=2, label="Median")  # fmt: skip
    low, high = (data[c].to_numpy(dtype=float) for c in INTERVAL)
    known = np.isfinite(low) & np.isfinite(high)
    width = float(np.clip(110.0 / len(data), 0.5, 2.2))
    ax.vlines(x[known], low[known], high[known], color=colour, linewidth=width, zorder=3,
              label="_interval")  # fmt: skip
    size = float(np.clip(200.0 / len(data), 2.0, 5.0))
    ax.plot(x, y, linestyle="none", marker=marker, markersize=size, color=colour, zorder=4,
            markeredgecolor="white", markeredgewidth=0.6 if size > 3.5 else 0.0,
            label=f"Estimate, {kind}")  # fmt: skip
    chosen = data["main"].to_numpy(dtype=bool)
    if chosen.any():
        width = max(width, 1.4)
        other, _, _ = series_look(1, what="the specification curve")
        ax.vlines(x[chosen & known], low[chosen & known], high[chosen & known], color=other,
                  linewidth=width, zorder=5, label="_main_interval")  # fmt: skip
        ax.plot(x[chosen], y[chosen], linestyle="none", marker="D", markersize=max(size, 4.0) + 1.5,
                color=other, markeredgecolor="white", markeredgewidth=0.8, zorder=6,
                label="Main")  # fmt: skip


def _grid(
    ax: Axes,
    names: list[str],
    grid: list[Value],
    centres: FloatArray,
    data: pd.DataFrame,
    style: Style,
) -> None:
    """Draw dots at the centre of each row, from the top in millimetres; in a long curve, ticks."""
    size = len(data)
    canvas.caption_row(ax, style)
    half = float(centres[0])
    ax.set_ylim(float(centres[-1]) + half, 0.0)
    ax.set_yticks(centres.tolist(), names)
    every = np.arange(1.0, size + 1)
    main = data.loc[data["main"], "rank"].to_numpy(dtype=float)
    plain, other = (series_look(i, what="the specification curve")[0] for i in (0, 1))
    for tick, row, at in zip(ax.get_yticklabels(), grid, centres, strict=True):
        if row.ranks is None:
            tick.set_fontweight("bold")
            continue
        marked = np.isin(row.ranks, main)
        if size > _MANY:
            ax.axhline(at, color=FAINT, linewidth=0.4, zorder=0, label="_row")
        else:
            ax.plot(every, np.full(size, at), linestyle="none", marker="o", markersize=1.4,
                    color=FAINT, markeredgewidth=0, zorder=1, label="_row")  # fmt: skip
        for ranks, colour in ((row.ranks[~marked], plain), (row.ranks[marked], other)):
            if size > _MANY:
                wide = float(np.clip(150.0 / size, 0.4, 1.2))
                ax.vlines(ranks, at - _TICK_MM, at + _TICK_MM, color=colour, zorder=2,
                          linewidth=wide if colour == plain else 1.2, label="_chosen")  # fmt: skip
            else:
                ax.plot(ranks, np.full(len(ranks), at), linestyle="none", color=colour, zorder=2,
                        marker="o" if colour == plain else "D", markersize=4.4, markeredgewidth=0,
                        label="_chosen")  # fmt: skip
