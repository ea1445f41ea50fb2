"""Probability of net savings against payments, above a strip of the payments that are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from vbceval.figures import canvas, notes
from vbceval.figures.numbers import number
from vbceval.figures.records import FigureRecord, attach
from vbceval.figures.sources import Source, by_series
from vbceval.figures.style import INK, MUTED, PALETTE, Style, get_style, series_look

if TYPE_CHECKING:
    from vbceval.figures.canvas import Axes, Figure

_CURVE_MM, _ROW_MM, _REST_MM = 58.0, 5.2, 24.0


def net_curve(
    curve: pd.DataFrame,
    paid: pd.DataFrame,
    averages: pd.DataFrame,
    meta: Mapping[str, Any],
    *,
    labels: Mapping[str, str],
    short: Mapping[str, str],
) -> Figure:
    """
    Draw the probability of net savings against payments, and the payments that are known.

    Parameters
    ----------
    curve : DataFrame
        ``payments_percent``, and one column of probabilities a program type: one line each.
    paid : DataFrame
        ``program_type``, ``program``, ``period``, ``payments_percent``, ``counterfactual``: one
        dot a row, one strip a program.
    averages : DataFrame
        ``program_type``, ``program``, ``probability``: printed beside each strip.
    meta : mapping
        Record of the fit, for the note.
    labels, short : mapping
        Words for the program types, in full and short.

    Returns
    -------
    Figure
    """
    style = get_style("jama")
    strips = _strips(paid, averages, short)
    lines = curve.melt("payments_percent", var_name="program_type", value_name="probability")
    with canvas.drawing(style):
        height = _CURVE_MM + _ROW_MM * len(strips) + _REST_MM
        fig = canvas.new_figure(style.page_mm * 0.9, height)
        ratios = {"height_ratios": [_CURVE_MM, _ROW_MM * len(strips)]}
        top, bottom = fig.subplots(2, 1, sharex=True, gridspec_kw=ratios)
        _curves(top, lines, style, labels)
        _dots(bottom, strips, style)
        canvas.finish(fig)
    data = pd.concat(
        [lines.assign(mark="curve"), paid[_columns(paid)].assign(mark="payment")], ignore_index=True
    )
    source = Source(frame=pd.DataFrame(), level=None, interval="credible", meta=meta)
    note = notes.join(
        [
            "Curves: posterior predictive probability that the effect of a new program plus its "
            "payments is below zero; at no payment, the probability of gross savings",
            "Dots: payments that programs are known to have made, one a year or period; hollow "
            "where printed beside a benchmark-based figure, whose gross and net are not used, and "
            "then in percent of the benchmark",
            "At the right: the probability for a new program of that type at those payments, "
            "averaged over the dots; none where the type has no analysed effect",
            *notes.fit_sentences(source, style),
        ]
    )
    return attach(
        fig,
        FigureRecord(
            kind="net_savings", data=data, note=note, alt=_alt(lines, strips, labels, style),
            style=style.name, provenance=notes.provenance(meta),
        ),
    )  # fmt: skip


def _columns(paid: pd.DataFrame) -> list[str]:
    return ["program_type", "program", "period", "payments_percent", "counterfactual"]


def _strips(
    paid: pd.DataFrame, averages: pd.DataFrame, short: Mapping[str, str]
) -> list[tuple[str, pd.DataFrame, float]]:
    """Return name, payments and probability of each program, in the order of `paid`."""
    known = averages.set_index(["program_type", "program"])["probability"]
    return [
        (
            f"{short[str(kind)]}: {program}",
            part,
            float(known.get((kind, program), float("nan"))),
        )
        for (kind, program), part in paid.groupby(["program_type", "program"], sort=False)
    ]


def _curves(ax: Axes, curve: pd.DataFrame, style: Style, labels: Mapping[str, str]) -> None:
    for i, (kind, part) in enumerate(by_series(curve, "program_type")):
        colour, _, line = series_look(i, what="the net savings curve")
        ax.plot(part["payments_percent"], part["probability"], color=colour, linestyle=line,
                linewidth=1.5, zorder=3, label=f"New program: {labels[kind].lower()}")  # fmt: skip
    ax.axhline(0.5, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1, label="_even")
    canvas.tidy_axes(ax, style)
    ax.set_ylim(0.0, 1.0)
    canvas.number_axis(ax, "y", style)
    canvas.axis_label(ax, "y", "Probability of net savings", style, length_mm=_CURVE_MM)
    canvas.legend_above(ax, style, width_mm=style.page_mm * 0.6)


def _dots(ax: Axes, strips: list[tuple[str, pd.DataFrame, float]], style: Style) -> None:
    for row, (_, part, probability) in enumerate(strips):
        hollow = (part["counterfactual"] == "benchmark").to_numpy()
        for mask, face in ((hollow, "white"), (~hollow, PALETTE[0])):
            x = part["payments_percent"].to_numpy()[mask]
            ax.plot(x, [row] * len(x), linestyle="none", marker="o", markersize=4.5,
                    markerfacecolor=face, markeredgecolor=PALETTE[0], zorder=3,
                    label="_payment")  # fmt: skip
        text = "" if pd.isna(probability) else f"{100 * probability:.0f}%"
        ax.text(1.015, row, text, transform=ax.get_yaxis_transform(), fontsize=style.font_size,
                va="center_baseline", ha="left", color=INK, clip_on=False)  # fmt: skip
    ax.text(1.015, -0.75, "Pr(net\nsavings)", transform=ax.get_yaxis_transform(), clip_on=False,
            fontsize=style.small, fontweight="bold", va="bottom", ha="left",
            linespacing=1.05)  # fmt: skip
    ax.set_yticks(range(len(strips)), [name for name, _, _ in strips])
    ax.set_ylim(len(strips) - 0.4, -0.6)
    canvas.tidy_axes(ax, style, left=False)
    ax.grid(axis="y", color=MUTED, linewidth=0.3, alpha=0.4)
    canvas.number_axis(ax, "x", style)
    canvas.axis_label(ax, "x", "Payments to participants, percent of baseline spending", style,
                      length_mm=style.page_mm * 0.6)  # fmt: skip


def _alt(
    curve: pd.DataFrame,
    strips: list[tuple[str, pd.DataFrame, float]],
    labels: Mapping[str, str],
    style: Style,
) -> str:
    said = ["Probability of net savings of a new program against payments in percent of baseline."]
    for kind, part in by_series(curve, "program_type"):
        first, last = part.iloc[0], part.iloc[-1]
        said.append(
            f"{labels[kind]}: {100 * first['probability']:.0f}% without payments, "
            f"{100 * last['probability']:.0f}% at "
            f"{number(last['payments_percent'], style)} percent."
        )
    for name, part, probability in strips:
        paid = part["payments_percent"]
        span = f"{paid.min():.1f}" if len(part) == 1 else f"{paid.min():.1f} to {paid.max():.1f}"
        at = "" if pd.isna(probability) else f", probability {100 * probability:.0f}%"
        said.append(f"{name}: payments {span} percent{at}.")
    return " ".join(said)
