"""Marks of the trend plot: lines that break where a mean is missing, and the bracket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.figures import canvas
from vbceval.figures.sources import INTERVAL
from vbceval.figures.style import INK, Style, series_look
from vbceval.figures.wording import Labels, currency

if TYPE_CHECKING:
    from vbceval.figures.canvas import Axes, Figure

ARMS = ("treated", "comparison", "counterfactual")
_LINE = {"treated": 0, "comparison": 2, "counterfactual": 1}


def arm_means(frame: pd.DataFrame, arm: str) -> pd.Series:
    """Return the means of one arm by period, in order of period."""
    part = frame[frame["arm"] == arm].sort_values("period")
    return pd.Series(part["mean"].to_numpy(dtype=float), index=part["period"].to_numpy(dtype=float))


def draw(
    frame: pd.DataFrame,
    bracket: Mapping[str, Any],
    text: list[str],
    start: float,
    label: str,
    period_label: str,
    style: Style,
    unit: str,
    labels: Labels | None,
) -> Figure:
    """Draw the prepared means, and the bracket with its text at the right."""
    fig = canvas.new_figure(style.page_mm * 0.86, 82.0)
    ax = fig.subplots(1, 1)
    for arm in ARMS:
        _line(ax, frame, arm, labels, start)
    canvas.tidy_axes(ax, style)
    canvas.start_line(ax, start - 0.5)
    periods = sorted(frame["period"].unique())
    canvas.integer_ticks(ax, periods)
    ax.set_xlim(periods[0] - 0.4, periods[-1] + 0.6)
    ax.set_xlabel(period_label)
    canvas.axis_label(ax, "y", label, style, length_mm=56.0)
    canvas.number_axis(ax, "y", style, prefix=currency(unit))
    _draw_bracket(ax, bracket, periods[-1] + 0.3, text, style)
    canvas.legend_above(ax, style, width_mm=style.page_mm * 0.7)
    return canvas.finish(fig)


def _line(
    ax: Axes,
    frame: pd.DataFrame,
    arm: str,
    labels: Labels | None,
    start: float,
) -> None:
    colour, marker, line = series_look(_LINE[arm], what="the trend")
    dashed = arm == "counterfactual"
    means = arm_means(frame, arm)
    if dashed and not (means.index < start).any():
        # continue the treated line, so that the eye sees where the two part
        before = arm_means(frame, "treated")
        before = before[before.index < start]
        means = pd.concat([before.iloc[[-1]], means])
    # a period without a mean breaks the line
    grid = np.unique(frame["period"].to_numpy(dtype=float))
    means = means.reindex(grid[(grid >= means.index.min()) & (grid <= means.index.max())])
    ax.plot(
        means.index.to_numpy(dtype=float),
        means.to_numpy(dtype=float),
        color=colour,
        linewidth=1.4,
        zorder=3,
        linestyle="-" if arm == "treated" else line,
        marker="none" if dashed else marker,
        markersize=4.5,
        markeredgecolor="white",
        markeredgewidth=0.5,
        label=(labels or {}).get(arm, arm.capitalize()),
    )
    if "conf_low" in frame and not dashed:
        part = frame[(frame["arm"] == arm) & frame[list(INTERVAL)].notna().all(axis=1)]
        x, low, high = (part[c].to_numpy(dtype=float) for c in ("period", *INTERVAL))
        ax.vlines(x, low, high, color=colour, linewidth=1.0, zorder=2, label="_interval")


def _draw_bracket(
    ax: Axes, bracket: Mapping[str, Any], x: float, text: list[str], style: Style
) -> None:
    ends = (bracket["counterfactual"], bracket["treated"])
    if len(bracket["periods"]) > 1:
        # guides show which means the bracket joins, and over which periods
        for arm, y in zip(("counterfactual", "treated"), ends, strict=True):
            colour = series_look(_LINE[arm], what="the trend")[0]
            ax.hlines(
                y, bracket["periods"][0], x, color=colour, linewidth=0.7, linestyle=(0, (1, 2)),
                zorder=1, label="_mean",
            )  # fmt: skip
    ax.plot(
        [x - 0.08, x, x, x - 0.08],
        [ends[0], ends[0], ends[1], ends[1]],
        color=INK,
        linewidth=1.0,
        zorder=4,
        label="_bracket",
        clip_on=False,
    )
    ax.annotate(
        "\n".join(text),
        xy=(x, (ends[0] + ends[1]) / 2),
        xytext=(5, 0),
        textcoords="offset points",
        fontsize=style.small,
        va="center",
        ha="left",
        annotation_clip=False,
    )
