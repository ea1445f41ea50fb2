"""How chances of undeserved payments fall with the size of a contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems
from vbceval.figures import canvas, notes
from vbceval.figures.numbers import number
from vbceval.figures.records import FigureRecord, attach
from vbceval.figures.sources import by_series, require
from vbceval.figures.style import MUTED, Style, get_style, series_look

if TYPE_CHECKING:
    from vbceval.figures.canvas import Axes, Figure

CHANCES: Mapping[str, str] = {
    "false_reward": "Paid without savings",
    "false_penalty": "Owing without losses",
    "missed_reward": "Not paid for true savings",
    "wrong_penalty": "Owing in spite of true savings",
}
_WHAT = "the table of chances by size"
_MOST_TICKS = 6
_FALSE = ("false_reward", "false_penalty")


def viability_curve(
    table: pd.DataFrame,
    *,
    accepted: float | None = 0.05,
    true_saving: float | None = None,
    unit: str = "Person-years in a contract",
    style: str | Style = "jama",
    meta: Mapping[str, Any] | None = None,
) -> Figure:
    """
    Draw the chances of undeserved rewards and penalties against the size of a contract.

    Parameters
    ----------
    table : DataFrame
        Result of `vbc.bayes.viability` at many sizes: ``size`` and any of ``false_reward``,
        ``false_penalty``, ``missed_reward``, ``wrong_penalty``. Chances that are missing or zero at
        every size are left out.
    accepted : float or None, default 0.05
        Largest accepted chance of a payment that is not deserved: a line, and marks at the smallest
        size of the table from which on the false chances stay at or below it.
    true_saving : float, optional
        True savings, a fraction of the benchmark, behind ``missed_reward`` and ``wrong_penalty``;
        needed where one of them is drawn.
    unit : str
        What sizes count, for the axis.
    style : str or Style, default "jama"
        Publication style.
    meta : mapping, optional
        Record of the fit behind the sampling error, for the provenance.

    Returns
    -------
    Figure

    Raises
    ------
    DataError
        If sizes are not positive, or chances not between 0 and 1, or none is there.
    """
    look = get_style(style)
    data = _prepare(table, accepted, true_saving)
    with canvas.drawing(look):
        fig = _draw(data, look, accepted, unit)
    said = _said(data, accepted, look)
    return attach(
        fig,
        FigureRecord(
            kind="viability_curve",
            data=data,
            note=notes.join(
                [
                    "Chances over sampling of people, holding behaviour fixed",
                    f"True savings: {100 * true_saving:g}% of the benchmark" if true_saving else "",
                    "Dashed line: largest accepted chance" if accepted is not None else "",
                    *said,
                ]
            ),
            alt=" ".join(
                ["Line chart of chances by size of a contract.", *(f"{s}." for s in said)]
            ),
            style=look.name,
            provenance=notes.provenance(meta or {}),
        ),
    )


def _prepare(
    table: pd.DataFrame, accepted: float | None, true_saving: float | None
) -> pd.DataFrame:
    frame = require(table, ("size",), what=_WHAT, numbers=("size", *CHANCES))
    problems = Problems(_WHAT)
    if (
        not (np.isfinite(frame["size"]) & (frame["size"] > 0)).all()
        or frame["size"].duplicated().any()
    ):
        problems.add("`size` holds numbers that are not positive, or one of them twice.")
    if accepted is not None and not 0 < accepted < 1:
        problems.add(f"`accepted` is {accepted:g}; it is a chance between 0 and 1.")
    held = [n for n in CHANCES if n in frame and (frame[n].fillna(0.0) != 0).any()]
    if not held:
        problems.add(f"it has none of {', '.join(f'`{n}`' for n in CHANCES)}.")
    for name in held:
        if not frame[name].between(0, 1).all():
            problems.add(f"`{name}` holds values that are missing or not between 0 and 1.")
    if true_saving is None and set(held) - set(_FALSE):
        problems.add("chances of true savings need `true_saving`, which the figure prints.")
    problems.raise_if_any()
    frame = frame.sort_values("size", ignore_index=True)
    parts = [
        pd.DataFrame(
            {
                "series": CHANCES[name], "size": frame["size"], "chance": frame[name],
                "viable_size": _viable(frame, name, accepted) if name in _FALSE else np.nan,
            }
        )
        for name in held
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _viable(frame: pd.DataFrame, name: str, accepted: float | None) -> float:
    if accepted is None:
        return np.nan
    above = np.flatnonzero(frame[name].to_numpy(dtype=float) > accepted)
    first = int(above[-1]) + 1 if len(above) else 0
    return float(frame["size"].iloc[first]) if first < len(frame) else np.nan


def _draw(data: pd.DataFrame, style: Style, accepted: float | None, unit: str) -> Figure:
    series = by_series(data)
    fig = canvas.new_figure(style.page_mm * 0.66, 80.0 + 9.0 * (len(series) > 1))
    ax = fig.subplots(1, 1)
    if accepted is not None:
        ax.axhline(accepted, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1,
                   label="_accepted")  # fmt: skip
    for i, (name, part) in enumerate(series):
        colour, marker, line = series_look(i, what="the viability curve")
        x, y = (part[c].to_numpy(dtype=float) for c in ("size", "chance"))
        ax.plot(x, y, color=colour, linestyle=line, linewidth=1.5, zorder=3, label=name)
        at = x == part["viable_size"].iloc[0]
        ax.plot(x[at], y[at], linestyle="none", marker=marker, markersize=5.5, color=colour,
                markeredgecolor="white", markeredgewidth=0.5, zorder=4, label="_viable")  # fmt: skip
    ax.set_xscale("log")
    canvas.tidy_axes(ax, style)
    _size_ticks(ax, data["size"], style)
    ax.set_ylim(bottom=0.0)
    canvas.number_axis(ax, "y", style, most=6)
    canvas.axis_label(ax, "y", "Chance in one performance year", style, length_mm=58.0)
    canvas.axis_label(ax, "x", f"{unit} (log scale)", style, length_mm=style.page_mm * 0.5)
    if len(series) > 1:
        canvas.legend_above(ax, style, width_mm=style.page_mm * 0.52)
    return canvas.finish(fig)


def _size_ticks(ax: Axes, sizes: pd.Series, style: Style) -> None:
    low, high = float(sizes.min()), float(sizes.max())
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks: list[float] = []
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high]
        if len(ticks) <= _MOST_TICKS:
            break
    digits = max(0, -int(np.floor(np.log10(low))))
    ax.set_xticks(ticks, [number(t, style, digits=digits) for t in ticks])
    ax.set_xticks([], minor=True)


def _said(data: pd.DataFrame, accepted: float | None, style: Style) -> list[str]:
    out = []
    for name, part in by_series(data):
        ends = [
            f"{_percent(row['chance'])} at {number(row['size'], style)}"
            for row in (part.iloc[0], part.iloc[-1])
        ]
        text = f"{name}: {' and '.join(ends)}"
        if accepted is not None and name in [CHANCES[n] for n in _FALSE]:
            size = part["viable_size"].iloc[0]
            text += (
                f"; above {100 * accepted:g}% at the largest size drawn"
                if np.isnan(size)
                else f"; at or below {100 * accepted:g}% from {number(size, style)} on"
            )
        out.append(text)
    curves = {name: part["chance"].to_numpy(dtype=float) for name, part in by_series(data)}
    reward, penalty = (curves.get(CHANCES[name]) for name in _FALSE)
    if reward is not None and penalty is not None and np.allclose(reward, penalty):
        out.append("The two false chances are the same, so their lines coincide")
    return out


def _percent(chance: float) -> str:
    return "less than 0.1%" if chance < 0.001 else f"{100 * chance:.1f}%"
