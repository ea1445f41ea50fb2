"""Organizations sorted by their shrunken value, each with its interval and its raw value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.checks import missing_columns
from vbceval.core.errors import DataError, DesignError
from vbceval.estimates import Estimates
from vbceval.figures import canvas, disclosure, notes
from vbceval.figures.numbers import digits_for, interval_name, number
from vbceval.figures.records import FigureRecord, attach
from vbceval.figures.sources import INTERVAL, Source, errors, read
from vbceval.figures.style import FAINT, MUTED, RULE, Style, get_style, series_look
from vbceval.figures.wording import (
    Labels,
    currency,
    display,
    effect_label,
    in_sentence,
    one_line,
    one_of,
    sign_convention,
)

if TYPE_CHECKING:
    from vbceval.figures.canvas import Figure

_MANY = 120
_STRIP_MM = 4.5
# a reliability follows from the number of people
_VALUES = ("estimate", "std_error", *INTERVAL, "raw", "reliability")


def caterpillar(
    source: Estimates | pd.DataFrame,
    *,
    raw: str = "raw",
    colour: str | None = None,
    organizations: str = "Organizations",
    reference: float | None = None,
    reference_label: str = "Mean",
    style: str | Style = "jama",
    level: float | None = None,
    axis_label: str | None = None,
    labels: Labels | None = None,
    meta: Mapping[str, Any] | None = None,
    people: Sequence[str] = (),
) -> Figure:
    """
    Draw the shrunken value of every organization, sorted, with its interval and its raw value.

    Raw values are faint crosses: how far they lie from the marks is what shrinkage did. Names are
    not printed, they are in the data of the figure.

    Parameters
    ----------
    source : Estimates or DataFrame
        One row an organization: ``estimate`` (shrunken), its interval (``conf_low``,
        ``conf_high``, ``level``), `raw`, `colour`; optionally ``label``, ``reliability``,
        ``outcome``, ``unit_of_measure``, ``interval`` and counts.
    raw : str, default "raw"
        Column of unshrunken values; rows may miss it.
    colour : str, optional
        Column of the stratum that gives colour and mark, four values at most.
    organizations : str
        Label of the horizontal axis.
    reference : float, optional
        Value of a dashed reference line, in the unit of the estimates.
    reference_label : str
        What the reference line is.
    style : str or Style, default "jama"
        Publication style.
    level : float, optional
        Interval probability; default is that of the style.
    axis_label : str, optional
        Words for the vertical axis instead of the generated ones.
    labels : mapping, optional
        Words for names of outcomes and strata.
    meta : mapping, optional
        Record of the fit, for the note, where `source` is a table.
    people : sequence of str
        Columns that count people and are not known by name.

    Returns
    -------
    Figure

    Raises
    ------
    DataError, DesignError
        If columns are missing, or outcomes or units would be mixed.
    """
    look = get_style(style)
    rows = read(source, look, level=level, meta=meta, what="the caterpillar plot")
    data, n_suppressed = _data(rows, raw, colour, labels, people)
    if reference is not None:
        data["reference"] = float(reference)
    outcome = one_of(data, "outcome", what="a caterpillar plot")
    unit = one_of(data, "unit_of_measure", what="a caterpillar plot")
    label = axis_label or effect_label(outcome, unit, look, labels)
    with canvas.drawing(look):
        fig = _draw(data, look, label, currency(unit), organizations, reference, reference_label)
    convention = "" if axis_label else sign_convention(outcome, unit, labels)
    return attach(
        fig,
        FigureRecord(
            kind="caterpillar",
            data=data,
            note=_note(data, rows, look, convention, n_suppressed, reference_label),
            alt=_alt(data, rows, look, one_line(label), organizations),
            style=look.name,
            level=rows.level,
            provenance=notes.provenance(rows.meta),
        ),
    )


def _data(
    rows: Source, raw: str, colour: str | None, labels: Labels | None, people: Sequence[str]
) -> tuple[pd.DataFrame, int]:
    frame = rows.frame.copy()
    missing = missing_columns(frame, [raw, *([colour] if colour else [])])
    if missing:
        raise DataError(
            f"the caterpillar plot has no column {', '.join(f'`{c}`' for c in missing)} (it has "
            f"{', '.join(f'`{c}`' for c in map(str, frame.columns))}). Name them with `raw=` and "
            "`colour=`."
        )
    if "estimand" in frame and len(frame["estimand"].dropna().unique()) > 1:
        raise DesignError(
            "the caterpillar plot would sort different quantities together "
            f"({', '.join(map(str, frame['estimand'].unique()))}). Select one with "
            "`where(estimand=...)`."
        )
    frame["raw"] = pd.to_numeric(frame[raw], errors="coerce")
    frame["series"] = (
        "" if colour is None else [_capital(display(v, labels)) for v in frame[colour]]
    )
    checked = disclosure.check(frame, values=_VALUES, people=people)
    frame = checked.frame.sort_values("estimate", kind="stable", na_position="last")
    frame["rank"] = np.arange(1, len(frame) + 1)
    names = [c for c in ("label", "cluster", "unit", "cohort", "period", "stratum") if c in frame]
    kept = ["rank", *names, "series", "outcome", "unit_of_measure", "estimate", "std_error",
            *INTERVAL, "raw", "reliability", *checked.columns, "suppressed"]  # fmt: skip
    out = frame[[c for c in dict.fromkeys(kept) if c in frame]].reset_index(drop=True)
    return out.assign(level=rows.level), checked.n_suppressed


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _draw(
    data: pd.DataFrame,
    style: Style,
    label: str,
    prefix: str,
    organizations: str,
    reference: float | None,
    reference_label: str,
) -> Figure:
    names = sorted(data["series"].unique())
    many = len(data) > _MANY
    strip = _STRIP_MM * len(names) if many and len(names) > 1 else 0.0
    fig = canvas.new_figure(style.page_mm, 84.0 + strip)
    if strip:
        ratios = [84.0, strip]
        ax, below = fig.subplots(2, 1, sharex=True, height_ratios=ratios)
    else:
        ax, below = fig.subplots(1, 1), None
    size, width = (2.4, 0.5) if many else (3.8, 0.9)
    x = data["rank"].to_numpy(dtype=float)
    ax.plot(x, data["raw"].to_numpy(dtype=float), linestyle="none", marker="x",
            markersize=size, markeredgewidth=0.6, color=RULE, zorder=2,
            label="Observed, not shrunken")  # fmt: skip
    for i, name in enumerate(names):
        part = data[data["series"] == name]
        shade, marker, _ = series_look(i, what="the caterpillar plot")
        place = part["rank"].to_numpy(dtype=float)
        low, high = (part[c].to_numpy(dtype=float) for c in INTERVAL)
        ok = np.isfinite(low) & np.isfinite(high)
        # hundreds of coloured lines would mix into one colour
        ax.vlines(place[ok], low[ok], high[ok], color=FAINT if strip else shade, linewidth=width,
                  zorder=1, label="_interval")  # fmt: skip
        ax.plot(place, part["estimate"].to_numpy(dtype=float), linestyle="none", marker=marker,
                markersize=size, color=shade, markeredgewidth=0, zorder=3,
                label=name or "Shrunken")  # fmt: skip
        if below is not None:
            below.vlines(place, i - 0.36, i + 0.36, color=shade, linewidth=0.5, label="_place")
    canvas.zero_line(ax)
    if reference is not None:
        ax.axhline(reference, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=4,
                   label=reference_label)  # fmt: skip
    canvas.tidy_axes(ax, style)
    ax.set_xlim(0, len(data) + 1)
    ax.set_ylim(*_limits(data))
    canvas.number_axis(ax, "x", style)
    canvas.number_axis(ax, "y", style, prefix=prefix)
    ax.set_xlabel(f"{organizations}, sorted by shrunken value")
    canvas.axis_label(ax, "y", label, style, length_mm=62.0)
    canvas.legend_above(ax, style, width_mm=style.page_mm * 0.85)
    if below is not None:
        ax.tick_params(labelbottom=True)
        canvas.caption_row(below, style)
        below.set_yticks(range(len(names)), names)
        below.set_ylim(len(names) - 0.5, -0.5)
    return canvas.finish(fig)


def _limits(data: pd.DataFrame) -> tuple[float, float]:
    """Limits that hold all intervals and nearly all raw values; a few wild ones go off the page."""
    ends = data[["conf_low", "conf_high", "estimate"]].to_numpy(dtype=float).ravel()
    raw = data["raw"].dropna().to_numpy(dtype=float)
    tails = np.quantile(raw, [0.01, 0.99]) if len(raw) else np.zeros(0)
    line = data["reference"].to_numpy(dtype=float)[:1] if "reference" in data else np.zeros(0)
    used = np.r_[0.0, ends[np.isfinite(ends)], tails, line]
    margin = 0.05 * float(used.max() - used.min()) or 1.0
    return float(used.min()) - margin, float(used.max()) + margin


def _note(
    data: pd.DataFrame,
    rows: Source,
    style: Style,
    convention: str,
    n_suppressed: int,
    reference_label: str,
) -> str:
    reliability = ""
    if "reliability" in data and data["reliability"].notna().any():
        mean = number(float(data["reliability"].mean()), style, digits=2)
        reliability = f"Mean reliability (share of variance that is signal): {mean}"
    low, high = _limits(data)
    outside = int(((data["raw"] < low) | (data["raw"] > high)).sum())
    strip = len(data) > _MANY and len(data["series"].unique()) > 1
    return notes.join(
        [
            notes.sign_sentence(convention) if convention else "",
            "Strips below: ranks of each stratum" if strip else "",
            f"Marks: shrunken values of {number(len(data), style)} rows; crosses: observed values",
            f"Dashed line: {in_sentence(reference_label)}" if "reference" in data else "",
            f"Observed values beyond the axis: {outside}" if outside else "",
            notes.interval_sentence(rows, marks="Lines"),
            reliability,
            *notes.fit_sentences(rows, style),
            disclosure.sentence(n_suppressed),
        ]
    )


def _alt(data: pd.DataFrame, rows: Source, style: Style, label: str, organizations: str) -> str:
    digits = digits_for(errors(data))
    values = data["estimate"].dropna()
    span = [number(float(v), style, digits=digits) for v in (values.min(), values.max())]
    text = (
        f"Caterpillar plot of {number(len(data), style)} {in_sentence(organizations)}. {label}. Shrunken "
        f"values run from {span[0]} to {span[1]}."
    )
    if rows.level is None:
        return text
    above = int((data["conf_low"] > 0).sum())
    below = int((data["conf_high"] < 0).sum())
    name = interval_name(rows.level, rows.interval)
    return f"{text} {above} intervals ({name}) lie above zero, {below} below."
