"""Leave-one-out: the estimate without each group beside that with all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError
from vbceval.estimates.algebra import t_quantile
from vbceval.figures import canvas, notes
from vbceval.figures.left_out_marks import FEW, draw
from vbceval.figures.numbers import digits_for, interval, interval_name, number
from vbceval.figures.records import FigureRecord, attach
from vbceval.figures.sources import read
from vbceval.figures.style import Style, get_style
from vbceval.figures.wording import (
    Labels,
    capital,
    currency,
    display,
    effect_label,
    one_line,
    one_of,
    sign_convention,
)

if TYPE_CHECKING:
    from vbceval.figures.canvas import Figure
    from vbceval.sensitivity import LeaveOneOut

_MOST = 8


def leave_one_out(
    runs: LeaveOneOut,
    *,
    row: int | None = None,
    labelled: int = 4,
    style: str | Style = "jama",
    level: float | None = None,
    labels: Labels | None = None,
) -> Figure:
    """
    Draw the estimate without each group, sorted, and that with all groups.

    The line is the estimate with all groups and the shaded band its interval. Up to 20 groups have
    a row each, with their names and intervals; more are drawn along the page, and those whose absence changes the
    estimate most are named.

    Parameters
    ----------
    runs : LeaveOneOut
        From `vbceval.sensitivity.leave_one_out`.
    row : int, optional
        Position of the estimate to draw, where each run has several.
    labelled : int, default 4
        Number of groups, the most influential first, whose names are shown, or in bold where all
        are; 8 at most.
    style : str or Style, default "jama"
        Publication style.
    level : float, optional
        Interval probability; default is that of the style.
    labels : mapping, optional
        Words for the outcome, for what was left out (the name of the cluster, "cohort" or the
        column), and for names of groups.

    Returns
    -------
    Figure
        A matplotlib figure with its record attached (see `vbceval.figures.record`). Counts of the
        runs are not written: less those of the whole, they would show the size of a group.

    Raises
    ------
    DesignError
        If runs have several estimates and `row` does not say which.
    """
    look = get_style(style)
    k = len(runs.full)
    if row is None and k > 1:
        raise DesignError(
            f"each run has {k} estimates, and a figure shows one. Say which with `row=`, counted "
            "from 0, or leave out with a `fit` that returns one."
        )
    if row is not None and not 0 <= row < k:
        raise DesignError(f"`row` is {row}, but runs have {k} estimates, counted from 0.")
    if not 0 <= labelled <= _MOST:
        raise DesignError(f"`labelled` is {labelled}: name between 0 and {_MOST} groups.")
    full = read(runs.full.where([row or 0]), look, level=level, what="the full estimate")
    used = look.level if full.level is None else full.level
    data = _data(runs, row or 0, full.frame.iloc[0], used, labelled, labels)
    outcome = one_of(data, "outcome", what="a leave-one-out figure")
    unit = one_of(data, "unit_of_measure", what="a leave-one-out figure")
    label, prefix = effect_label(outcome, unit, look, labels), currency(unit)
    column = str(runs.full.cluster_name or "cluster") if runs.by == "cluster" else runs.by
    what = display(column, labels)
    with canvas.drawing(look):
        fig = draw(data, look, label, prefix, capital(what))
    note = notes.join([
        notes.sign_sentence(sign_convention(outcome, unit, labels)),
        f"Marks: estimate without one {what} of {number(len(data), look)}",
        f"Lines: {interval_name(used)}, pointwise" if len(data) <= FEW else "",
        f"Bold: the {labelled} that change the estimate most"
        if 0 < labelled < len(data) <= FEW else "",
        f"Line: estimate with all; shaded: its {interval_name(used)}",
        _influence(data, look, used, prefix),
        _exclusions(data, look, used),
        _failures(runs, what, look),
        *notes.fit_sentences(full, look),
    ])  # fmt: skip
    return attach(
        fig,
        FigureRecord(
            kind="leave_one_out", data=data, note=note,
            alt=_alt(data, look, used, one_line(label), what, prefix), style=look.name,
            level=full.level, provenance=notes.provenance(full.meta),
        ),
    )  # fmt: skip


def _data(
    runs: LeaveOneOut,
    row: int,
    full: pd.Series,
    level: float,
    labelled: int,
    labels: Labels | None,
) -> pd.DataFrame:
    """Runs of one estimate, sorted; intervals again, because those stored have their own level."""
    table = runs.estimates.iloc[row :: len(runs.full)].sort_values(
        "estimate", kind="stable", ignore_index=True
    )
    out = table[["left_out", "outcome", "unit_of_measure", "estimate", "std_error", "df"]].copy()
    out.insert(0, "rank", np.arange(1, len(out) + 1))
    out.insert(2, "name", [_name(v, labels) for v in table["left_out"]])
    half = t_quantile((1 + level) / 2, out["df"].to_numpy(dtype=float))
    for name, middle, error in (
        ("conf", table["estimate"], table["std_error"]),
        ("change", table["change"], table["change_std_error"]),
    ):
        if name == "change":
            out["change"], out["change_std_error"] = middle, error
        out[f"{name}_low"], out[f"{name}_high"] = middle - half * error, middle + half * error
    size = table["change"].abs().rank(method="first", ascending=False)
    out["labelled"] = size <= labelled
    return out.assign(
        full_estimate=float(full["estimate"]), full_conf_low=float(full["conf_low"]),
        full_conf_high=float(full["conf_high"]), level=level,
    )  # fmt: skip


def _name(value: Any, labels: Labels | None) -> str:
    number_like = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return display(f"{value:g}" if number_like else value, labels)


def _influence(data: pd.DataFrame, style: Style, level: float, prefix: str) -> str:
    most = data.iloc[int(np.argmax(data["change"].abs()))]
    digits = digits_for(data["change_std_error"])
    ends = interval(most["change_low"], most["change_high"], style, digits=digits, prefix=prefix)
    change = number(most["change"], style, digits=digits, prefix=prefix)
    return (
        f"Largest change: {change} without {most['name']} ({interval_name(level)} of the change "
        f"{ends})"
    )


def _exclusions(data: pd.DataFrame, style: Style, level: float) -> str:
    first = data.iloc[0]
    clear = (data["conf_low"] > 0) | (data["conf_high"] < 0)
    whole = "excludes" if first["full_conf_low"] > 0 or first["full_conf_high"] < 0 else "includes"
    return (
        f"The interval ({interval_name(level)}) {whole} zero with all, and excludes it in "
        f"{int(clear.sum())} of {number(len(data), style)} runs"
    )


def _failures(runs: LeaveOneOut, what: str, style: Style) -> str:
    if not len(runs.failed):
        return ""
    return (
        f"Not drawn: {number(len(runs.failed), style)} runs that cannot be estimated without one "
        f"{what}"
    )


def _alt(data: pd.DataFrame, style: Style, level: float, label: str, what: str, prefix: str) -> str:
    digits = digits_for(data["std_error"])
    first = data.iloc[0]
    said = [
        number(float(v), style, digits=digits, prefix=prefix)
        for v in (first["full_estimate"], data["estimate"].min(), data["estimate"].max())
    ]
    ends = interval(
        first["full_conf_low"], first["full_conf_high"], style, digits=digits, prefix=prefix
    )
    return (
        f"Estimates without one {what} at a time, sorted. {label}. With all {said[0]} "
        f"({interval_name(level)} {ends}); without one, {len(data)} estimates from {said[1]} to "
        f"{said[2]}. {_influence(data, style, level, prefix)}."
    )
