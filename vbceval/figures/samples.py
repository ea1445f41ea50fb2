"""Who is in the study: sizes of the entry cohorts, and the flow from source to analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems
from vbceval.figures import canvas, disclosure, notes
from vbceval.figures.flow_steps import Step, flow_steps
from vbceval.figures.numbers import SUPPRESSED, number
from vbceval.figures.records import FigureRecord, attach
from vbceval.figures.sources import require
from vbceval.figures.style import HATCHES, INK, MUTED, PALETTE, Style, get_style
from vbceval.figures.wording import display, in_sentence, listing

if TYPE_CHECKING:
    from vbceval.figures.canvas import Axes, Figure

_NEVER = "Never\nor not\nyet"


def cohort_sizes(
    table: pd.DataFrame,
    *,
    counts: Mapping[str, str] | None = None,
    cohort_label: str = "Entry cohort",
    never_label: str = _NEVER,
    style: str | Style = "jama",
    people: Sequence[str] = (),
) -> Figure:
    """
    Draw the size of each entry cohort, one panel a count.

    Parameters
    ----------
    table : DataFrame
        One row a cohort: ``cohort`` (first treated period; missing = comparison) and counts.
    counts : mapping, optional
        Columns drawn, with their labels, two or three; default ``n_organizations`` as
        "Organizations", and the first column that counts people, if there is one.
    cohort_label : str
        Label of the horizontal axis.
    never_label : str
        Words for the comparison's bar.
    style : str or Style, default "jama"
        Publication style.
    people : sequence of str
        Columns that count people and are not known by name. Counts of 1-10 are not drawn; the
        next smallest goes with a single one of them.

    Returns
    -------
    Figure

    Raises
    ------
    DataError
        If columns are missing or a cohort has several rows.
    """
    look = get_style(style)
    what = "the cohort table"
    if counts is None:
        known = disclosure.people_columns(table, people)[:1]
        counts = {
            "n_organizations": "Organizations",
            **{c: display(c.removeprefix("n_")).capitalize() for c in known},
        }
    frame = require(table, ("cohort", *counts), what=what, numbers=("cohort", *counts))
    problems = Problems(what)
    repeated = int(frame["cohort"].duplicated().sum())
    if repeated:
        problems.add(f"{repeated} rows repeat a cohort. Add them up first.")
    problems.raise_if_any()
    # the sum over cohorts is printed in many places, so one small cell could be found from it
    checked = disclosure.check(frame, people=people, total=np.zeros(len(frame), dtype=bool))
    data = checked.frame.sort_values("cohort", na_position="last").reset_index(drop=True)
    with canvas.drawing(look):
        fig = _draw_cohorts(data, counts, cohort_label, never_label, look)
    hidden = int(data["suppressed"].sum())
    note = notes.join(
        [
            f"{cohort_label}: first treated period",
            "Hatched: comparison" if data["cohort"].isna().any() else "",
            disclosure.sentence(hidden),
        ]
    )
    return attach(
        fig,
        FigureRecord(
            kind="cohort_sizes",
            data=data[["cohort", *counts, "suppressed"]],
            note=note,
            alt=_cohort_alt(data, counts, cohort_label, look),
            style=look.name,
        ),
    )


def _draw_cohorts(
    data: pd.DataFrame,
    counts: Mapping[str, str],
    cohort_label: str,
    never_label: str,
    style: Style,
) -> Figure:
    width = min(style.page_mm, len(counts) * (16.0 + 13.0 * len(data)))
    fig = canvas.new_figure(max(width, style.column_mm), 68.0)
    axes = fig.subplots(1, len(counts), squeeze=False)[0]
    # bars too narrow for their numbers: turn all of them
    crowded = max(width, style.column_mm) / len(counts) / len(data) < 8.0
    turned = {"rotation": 90} if crowded else {}
    if crowded:
        never_label = " ".join(never_label.split())
    names = [never_label if pd.isna(g) else f"{g:g}" for g in data["cohort"]]
    for ax, (column, label) in zip(axes, counts.items(), strict=True):
        values = data[column].to_numpy(dtype=float)
        scale, word = _unit(values)
        _bars(ax, values / scale, data["cohort"].isna().to_numpy(dtype=bool), style, turned)
        ax.set_xticks(range(len(data)), names, **turned)
        ax.set_xlabel(cohort_label)
        ax.set_ylabel(f"{label}{word}")
        canvas.tidy_axes(ax, style)
        ax.tick_params(axis="x", length=0)
        canvas.number_axis(ax, "y", style, most=6)
        ax.margins(y=0.12)
        ax.set_ylim(bottom=0.0)
    return canvas.finish(fig)


def _unit(values: np.ndarray) -> tuple[float, str]:
    """Thousands where printed counts would not fit over their bars."""
    largest = np.nanmax(values) if np.isfinite(values).any() else 0.0
    return (1000.0, ", thousands") if largest >= 100_000 else (1.0, "")


def _bars(
    ax: Axes, values: np.ndarray, comparison: np.ndarray, style: Style, turned: Mapping[str, Any]
) -> None:
    digits = 0 if np.nanmax(np.r_[values, 0.0]) >= 100 or np.all(values % 1 == 0) else 1
    for x, (value, hatched) in enumerate(zip(values, comparison, strict=True)):
        if not np.isfinite(value):
            ax.annotate(SUPPRESSED, xy=(x, 0), xytext=(0, 3), textcoords="offset points",
                        rotation=90, ha="center", va="bottom", fontsize=style.small, color=MUTED,
                        fontstyle="italic")  # fmt: skip
            continue
        ax.bar(x, value, width=0.66, facecolor="white" if hatched else PALETTE[2],
               hatch=HATCHES[1] if hatched else "", edgecolor=INK, linewidth=0.6,
               label="_comparison" if hatched else "_cohort")  # fmt: skip
        ax.annotate(number(value, style, digits=0 if value % 1 == 0 else digits), xy=(x, value),
                    xytext=(0, 2), textcoords="offset points", ha="center", va="bottom",
                    fontsize=style.small, **turned)  # fmt: skip


def _cohort_alt(
    data: pd.DataFrame, counts: Mapping[str, str], cohort_label: str, style: Style
) -> str:
    parts = [f"Bar chart of {listing([in_sentence(v) for v in counts.values()])} by "
             f"{in_sentence(cohort_label)}."]  # fmt: skip
    for _, row in data.iterrows():
        name = "Comparison" if pd.isna(row["cohort"]) else f"{row['cohort']:g}"
        said = [
            f"{number(row[c], style) if pd.notna(row[c]) else SUPPRESSED} {in_sentence(label)}"
            for c, label in counts.items()
        ]
        parts.append(f"{name}: {', '.join(said)}.")
    return " ".join(parts)


def sample_flow(
    table: pd.DataFrame,
    *,
    counts: Mapping[str, str] | None = None,
    style: str | Style = "jama",
    people: Sequence[str] = (),
) -> Figure:
    """
    Draw the flow of the sample: what is left after each step, what each step took out.

    A step that takes out 1 to 10 people is merged with its neighbour, because the difference of
    the boxes would show it.

    Parameters
    ----------
    table : DataFrame
        One row a step, in order: ``step`` (words) and counts of what is left after it, such as
        the attrition table of a `Panel`. Rows with ``arm`` ("treated", "comparison"), at the end,
        are drawn side by side.
    counts : mapping, optional
        Columns printed, with their nouns, for example ``{"units": "ACOs", "rows": "ACO-years"}``;
        default is every numeric column under its own name.
    style : str or Style, default "jama"
        Publication style.
    people : sequence of str
        Columns that count people and are not known by name.

    Returns
    -------
    Figure

    Raises
    ------
    DataError
        If columns are missing, or a count rises from one step to the next.
    """
    look = get_style(style)
    steps, data, merged = flow_steps(table, counts, people)
    with canvas.drawing(look):
        fig = _draw_flow(steps, look)
    joined = f"{merged} steps were merged with a neighbour, because they concern 1 to 10 people"
    note = notes.join(
        [
            "Boxes: what is left; at the right: what each step took out",
            joined if merged else "",
            disclosure.sentence(int(data["suppressed"].sum())),
        ]
    )
    said = [f"{s.words}: {_counted(s.left, s.nouns, look)}." for s in steps]
    return attach(
        fig,
        FigureRecord(
            kind="sample_flow",
            data=data,
            note=note,
            alt=" ".join(["Flow chart of the sample.", *said]),
            style=look.name,
        ),
    )


def _counted(values: Sequence[float], nouns: Sequence[str], style: Style) -> str:
    parts = [
        f"{number(v, style) if np.isfinite(v) else SUPPRESSED} {noun}"
        for v, noun in zip(values, nouns, strict=True)
    ]
    return ", ".join(parts)


_BOX_MM = 74.0
_SIDE_MM = 62.0


def _draw_flow(steps: Sequence[Step], style: Style) -> Figure:
    probe = canvas.new_figure(style.page_mm, 50.0, constrained=False)
    line = style.font_size * 0.47
    chain, arms = [s for s in steps if not s.arm], [s for s in steps if s.arm]
    boxes = [_box_text(probe, s, style, _BOX_MM) for s in chain]
    sides = [_side_text(probe, s, style) for s in chain]
    ends = [_box_text(probe, s, style, 46.0) for s in arms]
    heights = [line * (1 + t.count("\n")) + 4.0 for t in boxes]
    gaps = [max(7.0, line * (1 + t.count("\n")) + 5.0) if t else 7.0 for t in sides]
    last = max((line * (1 + t.count("\n")) + 4.0 for t in ends), default=0.0)
    tall = sum(heights) + sum(gaps[1:]) + (last + 10.0 if ends else 0.0) + 6.0
    printed = [canvas.text_width(probe, t, style.small) for t in sides if t]
    wide = max(_BOX_MM + 6.0 + max((w + 10.0 for w in printed), default=0.0), 60.0 * len(ends))
    fig = canvas.new_figure(wide, tall, constrained=False)
    ax = fig.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.set_xlim(0.0, wide)
    ax.set_ylim(tall, 0.0)
    ax.set_axis_off()
    centre = 3.0 + _BOX_MM / 2
    y = 3.0
    for i, text in enumerate(boxes):
        if i:
            canvas.arrow(ax, (centre, y), (centre, y + gaps[i]))
            if sides[i]:
                middle = y + gaps[i] / 2
                canvas.arrow(ax, (centre, middle), (3.0 + _BOX_MM + 8.0, middle))
                ax.text(3.0 + _BOX_MM + 9.5, middle, sides[i], fontsize=style.small, va="center",
                        ha="left", linespacing=1.25)  # fmt: skip
            y += gaps[i]
        canvas.box(ax, (3.0, y), _BOX_MM, heights[i], text, style.small, "white")
        y += heights[i]
    _arms(ax, ends, (centre, y), last, style)
    return canvas.finish(fig)


def _arms(
    ax: Axes, texts: Sequence[str], start: tuple[float, float], tall: float, style: Style
) -> None:
    wide, apart = 50.0, 6.0
    left = max(3.0, start[0] - (len(texts) * wide + (len(texts) - 1) * apart) / 2)
    for i, text in enumerate(texts):
        x = left + i * (wide + apart)
        bend = (x + wide / 2, start[1] + 4.0)
        ax.plot([start[0], start[0], bend[0]], [start[1], bend[1], bend[1]], color=INK,
                linewidth=0.7, label="_split")  # fmt: skip
        canvas.arrow(ax, bend, (bend[0], start[1] + 10.0))
        canvas.box(ax, (x, start[1] + 10.0), wide, tall, text, style.small, "#eef1f5")


def _box_text(fig: Figure, step: Step, style: Style, width: float) -> str:
    words = canvas.wrapped(fig, step.words, style.small, width - 5.0)
    counted = canvas.wrapped(fig, _counted(step.left, step.nouns, style), style.small, width - 5.0)
    return f"{words}\n{counted}"


def _side_text(fig: Figure, step: Step, style: Style) -> str:
    # nothing taken out is not worth a line; what is suppressed is
    said = [(n, w) for n, w in zip(step.excluded, step.nouns, strict=True) if n != 0]
    if not any(np.isfinite(n) for n, _ in said):
        return ""
    text = f"Excluded: {_counted([n for n, _ in said], [w for _, w in said], style)}"
    return canvas.wrapped(fig, text, style.small, _SIDE_MM - 6.0)
