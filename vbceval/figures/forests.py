"""Forest plots: effects by stratum with their gap, and evidence synthesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.checks import missing_columns
from vbceval.core.errors import DataError, DesignError
from vbceval.estimates import Estimates
from vbceval.figures import canvas, disclosure, notes
from vbceval.figures.forest_marks import Look, draw, has_probability, limits
from vbceval.figures.forest_rows import labelled, with_gaps
from vbceval.figures.numbers import digits_for, interval, interval_name, number
from vbceval.figures.records import FigureRecord, attach
from vbceval.figures.sources import INTERVAL, Source, errors, read
from vbceval.figures.style import Style, get_style
from vbceval.figures.wording import (
    Labels,
    currency,
    effect_label,
    listing,
    one_line,
    one_of,
    sign_convention,
)

if TYPE_CHECKING:
    from vbceval.figures.canvas import Figure

_VALUES = ("estimate", "std_error", *INTERVAL, "inner_low", "inner_high", "p_value", "probability",
           "band_low", "band_high")  # fmt: skip


def forest(
    source: Estimates | pd.DataFrame,
    *,
    gap: Estimates | pd.DataFrame | None = None,
    columns: Mapping[str, str] | None = None,
    style: str | Style = "jama",
    level: float | None = None,
    inner_level: float | None = None,
    xlim: tuple[float, float] | None = None,
    axis_label: str | None = None,
    labels: Labels | None = None,
    meta: Mapping[str, Any] | None = None,
    people: Sequence[str] = (),
) -> Figure:
    """
    Draw estimates as a forest: label, counts, mark with interval, printed estimate, P.

    Squares have an area proportional to precision; the overall estimate is a filled diamond with a
    dashed line through all rows; gaps between strata are hollow circles; a pooled mean is a wide
    diamond; a predictive interval is dashed with a hollow diamond. P beside a heading is the joint
    test that the effects under it are equal, from their joint covariance, never from two P values. For
    posteriors the last column is the probability that the quantity is below zero.

    Parameters
    ----------
    source : Estimates or DataFrame
        Rows in the order of drawing. A table needs ``estimate`` (missing allowed for a predictive
        interval) and ``label``, or the keys of `Estimates`; it may have ``heading`` (of a group
        of rows), ``kind`` ("estimate", "overall", "gap", "pooled", "predictive"), ``conf_low``,
        ``conf_high``, ``level``, ``std_error``, ``p_value``, ``p_joint`` (of the heading),
        ``probability`` (below zero), ``outcome``, ``unit_of_measure`` and counts.
    gap : Estimates or DataFrame, optional
        Differences between strata, drawn under the heading that ``heading``, ``by`` or
        ``stratum`` names; where there is one heading, under that.
    columns : mapping, optional
        Columns of the source printed at the left, with their headers. Where a row's count of
        people is suppressed, its printed means and shares are too; counts named ``n_...`` stay.
    style : str or Style, default "jama"
        Publication style.
    level : float, optional
        Interval probability; default is that of the style.
    inner_level : float, optional
        Adds a thick inner bar at this lower level (for `Estimates`).
    xlim : (float, float), optional
        Limits of the axis. By default every interval is shown, except that a few very wide ones
        are cut with an arrow.
    axis_label : str, optional
        Words for the axis instead of the generated ones (unit and sign convention are then yours).
    labels : mapping, optional
        Words for names of strata, levels, outcomes and runs.
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
        If columns are missing, units would be mixed on one axis, or a gap has no heading.
    """
    look = get_style(style)
    rows = read(source, look, level=level, meta=meta, what="the forest plot", mixed=True)
    unit = one_of(rows.frame, "unit_of_measure", what="a forest plot")
    frame = _with_inner(rows, inner_level)
    data = labelled(replace(rows, frame=frame), labels)
    if gap is not None:
        gaps = read(gap, look, level=rows.level, meta=meta, what="the gaps", mixed=True)
        gaps = replace(gaps, frame=_with_inner(gaps, inner_level))
        other = one_of(gaps.frame, "unit_of_measure", what="the gaps")
        if other and unit and other != unit:
            raise DesignError(
                f"the gaps are in '{other}' and the estimates in '{unit}'; one axis carries one "
                "unit. Calculate the gaps from the same estimates."
            )
        data = with_gaps(data, gaps, labels)
    shown = dict(columns or {})
    missing = missing_columns(data, list(shown))
    if missing:
        raise DataError(
            f"`columns` names {', '.join(f'`{c}`' for c in missing)}, which the forest table does "
            "not have."
        )
    data, n_suppressed = _checked(data, people, list(shown))
    outcome = ""
    if "outcome" in data and len(data["outcome"].dropna().unique()) == 1:
        outcome = one_of(data, "outcome", what="a forest plot")
    label = axis_label or effect_label(outcome, unit, look, labels)
    with canvas.drawing(look):
        fig = draw(data, _look(data, rows, look, label, currency(unit), shown, xlim))
    data = _ordered(data.assign(level=rows.level), shown)
    convention = "" if axis_label else sign_convention(outcome, unit, labels)
    return attach(
        fig,
        FigureRecord(
            kind="forest",
            data=data,
            note=_note(data, rows, look, inner_level, xlim, n_suppressed, convention),
            alt=_alt(data, rows, look, one_line(label), currency(unit)),
            style=look.name,
            level=rows.level,
            provenance=notes.provenance(rows.meta),
        ),
    )


def _with_inner(rows: Source, inner_level: float | None) -> pd.DataFrame:
    frame = rows.frame.copy()
    if inner_level is None:
        return frame
    if rows.estimates is None or rows.level is None or not inner_level < rows.level:
        raise DesignError(
            "`inner_level` draws a second, narrower interval: give estimates (a table has one "
            f"interval only) and a level below {rows.level or 1:g}."
        )
    inner = rows.estimates.tidy(inner_level)
    return frame.assign(inner_low=inner["conf_low"], inner_high=inner["conf_high"])


def _checked(
    data: pd.DataFrame, people: Sequence[str], printed: Sequence[str]
) -> tuple[pd.DataFrame, int]:
    values = [*_VALUES, *disclosure.calculated(data, printed, people=people)]
    total = (data["kind"] == "overall").to_numpy(dtype=bool)
    checked = disclosure.check(
        data, values=values, people=people, total=total if total.any() else None, within="heading"
    )
    out = checked.frame
    # a gap with a suppressed stratum would give that stratum away
    hidden = out["suppressed"] & out["estimate"].isna() & data["estimate"].notna()
    blind = out["heading"].isin(out.loc[hidden, "heading"]) & (out["kind"] == "gap")
    out.loc[blind, [c for c in _VALUES if c in out]] = np.nan
    out.loc[out["heading"].isin(out.loc[hidden, "heading"]), "p_joint"] = np.nan
    out.loc[blind, "suppressed"] = True
    return out, int(out["suppressed"].sum())


def _look(
    data: pd.DataFrame,
    rows: Source,
    style: Style,
    label: str,
    prefix: str,
    columns: Mapping[str, str],
    xlim: tuple[float, float] | None,
) -> Look:
    estimated = "Estimate" if style.language == "effect" else "Differential change"
    header = estimated
    if rows.level is not None:
        header = f"{estimated}\n({interval_name(rows.level, rows.interval)})"
    posterior = has_probability(data)
    tested = (
        data["p_joint"].notna().any()
        or (data["kind"].isin(["overall", "gap", "pooled"]) & data["p_value"].notna()).any()
    )
    return Look(
        style=style,
        axis_label=label,
        prefix=prefix,
        estimate_header=header,
        p_header="Pr(< 0)" if posterior else style.p_symbol if tested else "",
        columns=columns,
        xlim=xlim,
    )


def _ordered(data: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    first = ["heading", "label", "kind", "outcome", "unit_of_measure", "estimate", "std_error",
             *INTERVAL, "interval", "inner_low", "inner_high", "p_value", "p_joint", "probability", "level",
             *columns, *disclosure.people_columns(data), "suppressed"]  # fmt: skip
    return data[[c for c in dict.fromkeys(first) if c in data]]


def _note(
    data: pd.DataFrame,
    rows: Source,
    style: Style,
    inner_level: float | None,
    xlim: tuple[float, float] | None,
    n_suppressed: int,
    convention: str,
) -> str:
    kinds = set(data["kind"])
    said = {
        "estimate": "Squares: estimates, area proportional to precision down to a legible size",
        "overall": "Filled diamond and dashed line: overall estimate",
        "gap": "Hollow circles: differences between strata, with the covariance between them",
        "pooled": "Wide diamonds: pooled means, as wide as their interval",
        "predictive": "Dashed lines: predictive intervals of a new program, wider than the interval "
        "of the mean by the variation between programs",
    }
    posterior = has_probability(data)
    joint = data["p_joint"].notna().any() and not posterior
    low, high = xlim or limits(data)
    cut = ((data["conf_low"] < low) | (data["conf_high"] > high)).any()
    inner = ""
    if inner_level is not None:
        inner = f"Thick inner bars: {interval_name(inner_level, rows.interval)}"
    return notes.join(
        [
            notes.sign_sentence(convention) if convention else "",
            *[text for kind, text in said.items() if kind in kinds],
            _intervals(data, rows),
            inner,
            "Arrows: the interval goes on beyond the axis" if cut else "",
            f"{style.p_symbol} beside a heading: joint test that the effects under it are equal"
            if joint
            else "",
            "Pr(< 0): posterior probability that the quantity is below zero" if posterior else "",
            *notes.fit_sentences(rows, style),
            disclosure.sentence(n_suppressed),
        ]
    )


def _intervals(data: pd.DataFrame, rows: Source) -> str:
    if rows.interval != "mixed" or rows.level is None:
        return notes.interval_sentence(rows, marks="Lines")
    words = {
        "estimate": "estimates",
        "overall": "the overall estimate",
        "gap": "differences",
        "pooled": "pooled means",
        "predictive": "predictive intervals",
    }
    said = []
    for kind in ("confidence", "credible"):
        of = data.loc[data["interval"] == kind, "kind"].unique()
        said.append(
            f"{interval_name(rows.level, kind)} ({kind}) for {listing([words[k] for k in of])}"
        )
    return f"Lines: {' and '.join(said)}, pointwise"


def _alt(data: pd.DataFrame, rows: Source, style: Style, label: str, prefix: str) -> str:
    digits = digits_for(errors(data))
    parts = [f"Forest plot of {len(data)} rows. {label}."]
    told = data if len(data) <= 12 else data[data["kind"] != "estimate"]
    for _, row in told.iterrows():
        ends = interval(row["conf_low"], row["conf_high"], style, digits=digits, prefix=prefix)
        point = number(row["estimate"], style, digits=digits, prefix=prefix)
        text = "suppressed" if row["suppressed"] and pd.isna(row["estimate"]) else point
        name = f"{row['heading']}, {row['label']}" if row["heading"] else str(row["label"])
        parts.append(f"{name}: {text}{f' ({ends})' if ends else ''}.")
    if len(told) < len(data):
        span = [number(x, style, digits=digits, prefix=prefix)
                for x in (data["estimate"].min(), data["estimate"].max())]  # fmt: skip
        parts.append(f"Estimates run from {span[0]} to {span[1]}.")
    if rows.level is not None:
        parts.append(f"Intervals are {interval_name(rows.level, rows.interval)}.")
    return " ".join(parts)
