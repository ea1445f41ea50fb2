"""The treated path beside its synthetic one, and the gap between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems
from vbceval.core.errors import DataError
from vbceval.estimates import Estimates
from vbceval.figures import canvas, notes
from vbceval.figures.numbers import digits_for, number
from vbceval.figures.records import FigureRecord, attach
from vbceval.figures.sources import INTERVAL, Source, read, require
from vbceval.figures.style import Style, get_style, series_look
from vbceval.figures.wording import (
    Labels,
    currency,
    display,
    effect_label,
    one_of,
    sign_convention,
    unit_text,
)

if TYPE_CHECKING:
    from vbceval.figures.canvas import Axes, Figure

_LINES = ("treated", "synthetic")


def synthetic_paths(
    table: pd.DataFrame,
    effects: Estimates | pd.DataFrame,
    *,
    tolerance: float = 1e-6,
    style: str | Style = "jama",
    level: float | None = None,
    period_label: str = "Period",
    labels: Labels | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Figure:
    """
    Draw the treated path and its synthetic one above their gap, with its intervals.

    Parameters
    ----------
    table : DataFrame
        Paths of one cohort, as the ``paths`` of an estimator returns them: ``cohort, period,
        treated, synthetic``, in the unit of the outcome.
    effects : Estimates or DataFrame
        Effects of the same fit by period: ``period``, ``estimate``, intervals,
        ``unit_of_measure``. Rows of other cohorts and strata are left out. Each must equal the gap
        of its period, or nothing is drawn.
    tolerance : float, default 1e-6
        Largest difference between gap and estimate, as a share of the largest outcome.
    style : str or Style, default "jama"
        Publication style.
    level : float, optional
        Interval probability; default is that of the style.
    period_label : str
        Label of the horizontal axis.
    labels : mapping, optional
        Words for the outcome, "treated" and "synthetic".
    meta : mapping, optional
        Record of the fit, where `effects` is a table.

    Returns
    -------
    Figure

    Raises
    ------
    DataError
        If there are several cohorts or strata, or gaps are not the effects.
    """
    look = get_style(style)
    fitted = read(
        effects, look, level=level, meta=meta, what="the effects", needs=("period", "estimate")
    )
    paths = _prepare(table)
    rows = _matching(fitted, paths, tolerance)
    outcome = one_of(rows, "outcome", what="the figure")
    unit = one_of(rows, "unit_of_measure", what="the figure")
    entry = float(paths["cohort"].iloc[0])
    with canvas.drawing(look):
        fig = _draw(paths, rows, entry, outcome, unit, look, period_label, labels)
    convention = sign_convention(outcome, unit, labels)
    drawn = bool(rows["conf_low"].notna().any())
    note = notes.join([
        "Top: mean outcome of the treated, and of the weighted or modelled comparison (synthetic)",
        f"Bottom: treated less synthetic; {convention}",
        f"Vertical dashed line: entry ({entry:g})",
        notes.interval_sentence(fitted) if drawn else "",
        *notes.fit_sentences(fitted, look),
    ])  # fmt: skip
    return attach(
        fig,
        FigureRecord(
            kind="synthetic_paths", data=_data(paths, rows, fitted, outcome, unit), note=note,
            alt=_alt(paths, rows, entry, outcome, unit, look, period_label), style=look.name,
            level=fitted.level, provenance=notes.provenance(fitted.meta),
        ),
    )  # fmt: skip


def _prepare(table: pd.DataFrame) -> pd.DataFrame:
    what = "the table of paths"
    numbers = ("cohort", "period", *_LINES)
    frame = require(table, numbers, what=what, numbers=numbers)
    problems = Problems(what)
    for key in ("cohort", "stratum"):
        found = [] if key not in frame else list(frame[key].unique())
        if len(found) > 1:
            problems.add(
                f"`{key}` has {len(found)} values, and the paths of one are drawn. Select one, for "
                f"example `table[table['{key}'] == {found[0]!r}]`."
            )
    if frame["period"].duplicated().any():
        problems.add("it repeats periods. Give one row a period.")
    problems.raise_if_any()
    return frame.sort_values("period", ignore_index=True)


def _matching(fitted: Source, paths: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """Return the effects of the cohort drawn, by period."""
    rows = fitted.frame
    if "cohort" in rows and rows["cohort"].notna().any():
        rows = rows[rows["cohort"] == paths["cohort"].iloc[0]]
    if "stratum" in rows:
        stratum = paths["stratum"].iloc[0] if "stratum" in paths else None
        own = rows["stratum"].isna() if pd.isna(stratum) else rows["stratum"] == stratum
        rows = rows[own]
    rows = rows.sort_values("period", ignore_index=True)
    gap = pd.Series(
        (paths["treated"] - paths["synthetic"]).to_numpy(), index=paths["period"].to_numpy()
    )
    drawn = gap.reindex(rows["period"].to_numpy(dtype=float)).to_numpy(dtype=float)
    scale = float(np.nanmax(np.abs(paths[list(_LINES)].to_numpy(dtype=float))))
    off = np.abs(drawn - rows["estimate"].to_numpy(dtype=float))
    if not len(rows) or rows["period"].duplicated().any() or not (off <= tolerance * scale).all():
        raise DataError(
            "the gaps between the paths are not the effects that are drawn below them: "
            f"{int((~(off <= tolerance * scale)).sum())} of {len(rows)} effects differ, are of "
            "another cohort, or have no path. Pass paths and effects of the same estimator, data "
            "and design, the effects by cohort and period."
        )
    return rows


def _draw(
    paths: pd.DataFrame,
    rows: pd.DataFrame,
    entry: float,
    outcome: str,
    unit: str,
    style: Style,
    period_label: str,
    labels: Labels | None,
) -> Figure:
    fig = canvas.new_figure(style.page_mm * 0.86, 120.0)
    top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    period = paths["period"].to_numpy(dtype=float)
    for i, line in enumerate(_LINES):
        colour, _, dashes = series_look(i, what="the paths")
        top.plot(
            period, paths[line].to_numpy(dtype=float), color=colour, linewidth=1.4, zorder=3,
            linestyle="-" if line == "treated" else dashes,
            label=(labels or {}).get(line, line.capitalize()),
        )  # fmt: skip
    _gap(bottom, rows)
    step = float(np.min(np.diff(period))) if len(period) > 1 else 1.0
    for ax in (top, bottom):
        canvas.tidy_axes(ax, style)
        canvas.start_line(ax, entry - step / 2)
        canvas.number_axis(ax, "y", style, prefix=currency(unit))
    whole = [t for t in period if t == round(t)]
    canvas.integer_ticks(bottom, whole or list(period))
    top.tick_params(axis="x", labelbottom=False)
    name = display(outcome, labels) if outcome else "outcome"
    first = f"Mean {name}, {unit_text(unit)}"
    canvas.axis_label(top, "y", first, style, length_mm=52.0)
    canvas.axis_label(
        bottom, "y", effect_label(outcome, unit, style, labels), style, length_mm=42.0
    )
    bottom.set_xlabel(period_label)
    canvas.legend_above(top, style, width_mm=style.page_mm * 0.7)
    return canvas.finish(fig)


def _gap(ax: Axes, rows: pd.DataFrame) -> None:
    colour = series_look(0, what="the paths")[0]
    x, y, low, high = (rows[c].to_numpy(dtype=float) for c in ("period", "estimate", *INTERVAL))
    canvas.zero_line(ax)
    known = np.isfinite(low)
    ax.vlines(x[known], low[known], high[known], color=colour, linewidth=0.9, label="_interval")
    ax.plot(x, y, color=colour, linewidth=1.0, marker="o", markersize=3.0, label="_gap")


def _data(
    paths: pd.DataFrame, rows: pd.DataFrame, fitted: Source, outcome: str, unit: str
) -> pd.DataFrame:
    known = rows[["period", "estimate", "std_error", *INTERVAL]]
    out = paths[["cohort", "period", *_LINES]].merge(known, on="period", how="left")
    return out.assign(level=fitted.level, outcome=outcome or None, unit_of_measure=unit or None)


def _alt(
    paths: pd.DataFrame,
    rows: pd.DataFrame,
    entry: float,
    outcome: str,
    unit: str,
    style: Style,
    period_label: str,
) -> str:
    """Describe the gap: how close before entry, and how large after it."""
    gap = rows["estimate"].to_numpy(dtype=float)
    before = rows["period"].to_numpy(dtype=float) < entry
    digits = digits_for(pd.Series(np.abs(gap)))

    def said(value: float) -> str:
        return number(value, style, digits=digits, prefix=currency(unit))

    first, last = paths["period"].iloc[0], paths["period"].iloc[-1]
    parts = [
        f"Two line plots by {period_label.lower()}, {first:g} to {last:g}. Mean "
        f"{display(outcome) if outcome else 'outcome'} ({unit_text(unit)}) of the treated and its "
        f"synthetic comparison; entry at {entry:g}."
    ]
    if before.any():
        parts.append(f"Largest gap before entry in size: {said(float(np.abs(gap[before]).max()))}.")
    if (~before).any():
        parts.append(f"Mean gap from entry on: {said(float(gap[~before].mean()))}.")
    return " ".join(parts).replace(" -", " −")
