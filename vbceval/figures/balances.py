"""Whether weighting made the sides alike: standardised differences, and overlap of propensities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vbceval.balance import BalanceWeights
from vbceval.balance.tables import FAIL, TARGET, Sd
from vbceval.core.errors import DesignError
from vbceval.figures import canvas, notes
from vbceval.figures.numbers import number
from vbceval.figures.records import FigureRecord, attach
from vbceval.figures.sources import require
from vbceval.figures.style import FAINT, HATCHES, INK, MUTED, PALETTE, Style, get_style
from vbceval.figures.wording import Labels, display, listing

if TYPE_CHECKING:
    from vbceval.figures.canvas import Figure

_ROW_MM = 5.0
_LABEL_MM = 60.0
_DOTTED = (0, (1, 1.5))


def love(
    source: BalanceWeights | pd.DataFrame,
    *,
    sd: Sd = "organization",
    limits: tuple[float, ...] = (TARGET, FAIL),
    style: str | Style = "jama",
    labels: Labels | None = None,
) -> Figure:
    """
    Draw absolute standardised differences of features before (hollow) and after weighting.

    Parameters
    ----------
    source : BalanceWeights or DataFrame
        Weights, or a table with ``feature``, ``smd_before`` and ``smd_after`` such as
        `BalanceWeights.balance` returns. Features whose difference is missing are listed and not
        drawn.
    sd : {"organization", "people"}
        Whose standard deviation, where weights are given.
    limits : tuple of float
        Dotted lines.
    style : str or Style, default "jama"
        Publication style.
    labels : mapping, optional
        Words for names of features.

    Returns
    -------
    Figure
        Features sorted by the difference before.

    Raises
    ------
    DataError, DesignError
        If columns are missing, or `sd` is asked of a table.
    """
    look = get_style(style)
    if isinstance(source, BalanceWeights):
        table = source.balance(sd=sd)
        unit = {"organization": "organizations", "people": "people"}[sd]
        said = f"Standard deviation between {unit}, pooled over both sides, before weighting"
    elif sd != "organization":
        raise DesignError("`sd` belongs to weights; a table has its differences already.")
    else:
        table, said = source, ""
    data = _ordered(table, labels)
    with canvas.drawing(look):
        fig = _draw_love(data, look, limits)
    return attach(
        fig,
        FigureRecord(
            kind="love", data=data.drop(columns="label"), style=look.name,
            note=notes.join([
                "Hollow circles: before weighting. Filled circles: after",
                f"Dotted lines: {listing([number(x, look, digits=2) for x in limits])}",
                said, _hidden(data),
            ]),
            alt=_alt(data, look),
            provenance=_provenance(source),
        ),
    )  # fmt: skip


def _ordered(table: pd.DataFrame, labels: Labels | None) -> pd.DataFrame:
    values = ("smd_before", "smd_after")
    frame = require(table, ("feature", *values), what="the balance table", numbers=values)
    frame["abs_before"] = frame["smd_before"].abs()
    frame["abs_after"] = frame["smd_after"].abs()
    frame["label"] = [display(x, labels) for x in frame["feature"]]
    return frame.sort_values("abs_before", kind="stable", na_position="first", ignore_index=True)


def _draw_love(data: pd.DataFrame, style: Style, limits: tuple[float, ...]) -> Figure:
    fig = canvas.new_figure(style.column_mm + 30.0, 24.0 + _ROW_MM * max(len(data), 4))
    ax = fig.subplots(1, 1)
    y = np.arange(len(data), dtype=float)
    before, after = (data[c].to_numpy(dtype=float) for c in ("abs_before", "abs_after"))
    ax.hlines(y, 0, 1, transform=ax.get_yaxis_transform(), color=FAINT, linewidth=0.4, zorder=0,
              label="_row")  # fmt: skip
    for x in limits:
        ax.axvline(x, color=MUTED, linewidth=0.9, linestyle=_DOTTED, zorder=1, label="_limit")
    # the smaller, filled mark stays visible where both are in one place
    ax.plot(before, y, linestyle="none", marker="o", markersize=5.0, markerfacecolor="white",
            markeredgecolor=INK, markeredgewidth=0.9, zorder=3, label="Before weighting",
            clip_on=False)  # fmt: skip
    ax.plot(after, y, linestyle="none", marker="o", markersize=3.6, color=PALETTE[0],
            markeredgewidth=0, zorder=4, label="After weighting", clip_on=False)  # fmt: skip
    shown = np.r_[before, after, limits]
    ax.set_xlim(0, 1.06 * float(np.nanmax(shown)))
    ax.set_ylim(-0.7, len(data) - 0.3)
    canvas.tidy_axes(ax, style, left=False)
    wrapped = [canvas.wrapped(fig, text, style.small, _LABEL_MM) for text in data["label"]]
    ax.set_yticks(y, wrapped)
    canvas.number_axis(ax, "x", style, most=6)
    canvas.axis_label(ax, "x", "Absolute standardised difference", style, length_mm=60.0)
    canvas.legend_above(ax, style, width_mm=style.column_mm, lines=False)
    return canvas.finish(fig)


def _hidden(data: pd.DataFrame) -> str:
    hidden = int(data["abs_before"].isna().sum())
    if not hidden:
        return ""
    return f"{hidden} features are not drawn: their groups are too small to be shown, or constant"


def _alt(data: pd.DataFrame, style: Style) -> str:
    parts = [f"Love plot of {len(data)} features."]
    for when in ("before", "after"):
        value = data[f"abs_{when}"]
        if value.notna().any():
            worst = data["label"].iloc[int(np.nanargmax(value))]
            parts.append(
                f"Largest absolute standardised difference {when} weighting: "
                f"{number(float(value.max()), style, digits=2)} ({worst}); "
                f"{int((value > TARGET).sum())} features above {TARGET:g}."
            )
    return " ".join(parts)


def _provenance(source: BalanceWeights | pd.DataFrame) -> dict[str, object]:
    if not isinstance(source, BalanceWeights):
        return {}
    return {str(k): notes.plain(v) for k, v in source.describe().items()}


def propensity_overlap(
    weights: BalanceWeights, *, bins: int = 20, style: str | Style = "jama"
) -> Figure:
    """
    Draw how many treated (up) and comparison organizations (down) have each propensity.

    Parameters
    ----------
    weights : BalanceWeights
        From `vbceval.balance.propensity`, `overlap` or `match`.
    bins : int, default 20
        Intervals between 0 and 1.
    style : str or Style, default "jama"
        Publication style.

    Returns
    -------
    Figure
        Counts of 1-10 people are not drawn.

    Raises
    ------
    DesignError
        If the weights have no propensity.
    """
    look = get_style(style)
    data = weights.propensities(bins)
    told = weights.summary()
    hidden = int(data[["n_treated", "n_comparison"]].isna().any(axis=1).sum())
    noun = "People" if weights.features.people else "Organizations"
    with canvas.drawing(look):
        fig = _draw_overlap(data, look, noun)
    return attach(
        fig,
        FigureRecord(
            kind="propensity_overlap", data=data, style=look.name,
            note=notes.join([
                "Up: treated. Down, hatched: comparison",
                f"After weighting the comparison is worth "
                f"{number(told['ess_comparison'], look, digits=1)} of "
                f"{number(told['n_comparison'], look)} {noun.lower()} (effective number)",
                f"The heaviest has {number(100 * told['largest_share'], look, digits=1)}% of the "
                "comparison weight",
                f"{hidden} intervals hold 1-10 people and are not drawn" if hidden else "",
            ]),
            alt=(
                f"Histogram of the probability of entry, {bins} intervals: treated above the line, "
                f"comparison below it. {_support(data, look)}"
            ),
            provenance=_provenance(weights),
        ),
    )  # fmt: skip


def _draw_overlap(data: pd.DataFrame, style: Style, noun: str) -> Figure:
    fig = canvas.new_figure(style.column_mm, 64.0)
    ax = fig.subplots(1, 1)
    width = (data["high"] - data["low"]).to_numpy(dtype=float)
    left = data["low"].to_numpy(dtype=float)
    for name, sign, colour, hatch in (
        ("treated", 1.0, PALETTE[0], HATCHES[0]), ("comparison", -1.0, "white", HATCHES[1]),
    ):  # fmt: skip
        ax.bar(left, sign * data[f"n_{name}"].fillna(0.0).to_numpy(dtype=float), width=width,
               align="edge", facecolor=colour, edgecolor=INK, linewidth=0.5, hatch=hatch,
               label=name.capitalize())  # fmt: skip
    ax.axhline(0, color=INK, linewidth=0.6, label="_zero")
    canvas.tidy_axes(ax, style)
    ax.set_xlim(0, 1)
    ax.margins(y=0.08)
    canvas.number_axis(ax, "x", style, most=6)
    _whole_ticks(ax, data)
    ax.set_xlabel("Probability of entry")
    ax.set_ylabel(noun)
    canvas.legend_above(ax, style, width_mm=style.column_mm * 0.8)
    return canvas.finish(fig)


def _whole_ticks(ax: canvas.Axes, data: pd.DataFrame) -> None:
    """Label counts on both sides of zero without a sign."""
    top, bottom = (float(np.nan_to_num(data[c]).max()) for c in ("n_treated", "n_comparison"))
    rough = max(top + bottom, 4.0) / 5
    size = 10.0 ** np.floor(np.log10(rough))
    step = max(1.0, size * min(m for m in (1.0, 2.0, 5.0, 10.0) if m * size >= rough))
    ticks = np.arange(-np.floor(bottom / step) * step, top + 1e-9, step)
    ax.set_yticks(ticks, [f"{abs(t):,.0f}" for t in ticks])


def _support(data: pd.DataFrame, style: Style) -> str:
    parts = []
    for name in ("treated", "comparison"):
        live = data[data[f"n_{name}"] > 0]
        if len(live):
            low, high = (number(float(x), style, digits=2)
                         for x in (live["low"].min(), live["high"].max()))  # fmt: skip
            parts.append(f"{name.capitalize()} from {low} to {high}.")
    return " ".join(parts)
