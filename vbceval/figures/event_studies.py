"""The event-study plot: effects by time since entry, their bands, and who contributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vbceval.core.errors import DataError, DesignError
from vbceval.estimates import Estimates, columns
from vbceval.figures import canvas, disclosure, notes
from vbceval.figures.event_study_marks import draw
from vbceval.figures.numbers import digits_for, interval_name, number, p_statement
from vbceval.figures.records import FigureRecord, attach
from vbceval.figures.sources import INTERVAL, Source, by_series, errors, read
from vbceval.figures.style import Style, get_style
from vbceval.figures.wording import (
    Labels,
    currency,
    display,
    effect_label,
    one_line,
    one_of,
    series_of,
    sign_convention,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vbceval.figures.canvas import Figure

_VALUES = ("estimate", "std_error", *INTERVAL, "band_low", "band_high", "p_value")
_COUNTS = ("n_treated", "n_clusters", "n_units")


def event_study(
    source: Estimates | pd.DataFrame,
    *,
    style: str | Style = "jama",
    level: float | None = None,
    bands: bool = True,
    window: tuple[int, int] | None = None,
    count: str | None = None,
    count_label: str | None = None,
    labels: Labels | None = None,
    people: Sequence[str] = (),
) -> Figure:
    """
    Draw effects by event time.

    The reference period is a hollow mark at zero without an interval; a dashed line marks entry.
    Thick bars hold point by point, thin bars simultaneously over all event times. The strip below
    says how many organizations contribute to each effect. Rows that differ in ``run`` or
    ``stratum`` are drawn side by side, four series at most.

    Parameters
    ----------
    source : Estimates or DataFrame
        Rows with ``event_time`` (group-time effects are averaged by event time first). A table
        needs ``event_time`` and ``estimate``; it may have ``conf_low``, ``conf_high``,
        ``band_low``, ``band_high``, ``std_error``, ``level``, ``outcome``, ``unit_of_measure``,
        ``run``, ``stratum`` and counts. A row at zero without a standard error or an interval is
        the reference period.
    style : str or Style, default "jama"
        Publication style.
    level : float, optional
        Interval probability; default is that of the style.
    bands : bool, default True
        Draw simultaneous bands where they exist.
    window : (int, int), optional
        First and last event time drawn, both included. Simultaneous bands stay those over all
        event times of the source, which is conservative.
    count : str, optional
        Column shown in the strip; default is the first of ``n_treated``, ``n_clusters``,
        ``n_units`` that is filled.
    count_label : str, optional
        Words for the strip; default describes `count`.
    labels : mapping, optional
        Words for names of outcomes, strata and runs; ``event_time`` is the label of the axis, such
        as "Years since entry".
    people : sequence of str
        Columns that count people and are not known by name.

    Returns
    -------
    Figure
        A matplotlib figure with its record attached (see `vbceval.figures.record`).

    Raises
    ------
    DesignError
        If there is nothing to draw, or outcomes or units would be mixed on one axis.
    """
    look = get_style(style)
    if isinstance(source, Estimates):
        source = _by_event_time(source)
    rows = read(source, look, level=level, what="the event study", needs=("event_time", "estimate"))
    data, n_suppressed = _data(rows, window, count, labels, people)
    outcome = one_of(data, "outcome", what="an event study")
    unit = one_of(data, "unit_of_measure", what="an event study")
    shown = bands and bool(data["band_low"].notna().any())
    with canvas.drawing(look):
        fig = draw(
            data,
            look,
            effect_label(outcome, unit, look, labels),
            currency(unit),
            shown,
            count_label or _count_label(data, rows),
            (labels or {}).get("event_time", "Periods since entry"),
        )
    tests = _pretrend_tests(rows, look, labels)
    note = _note(
        rows, data, look, shown, n_suppressed, sign_convention(outcome, unit, labels), tests
    )
    alt = _alt(data, rows, look, one_line(effect_label(outcome, unit, look, labels)))
    return attach(
        fig,
        FigureRecord(
            kind="event_study",
            data=data,
            note=note,
            alt=alt,
            style=look.name,
            level=rows.level,
            provenance=notes.provenance(rows.meta),
        ),
    )


def _by_event_time(estimates: Estimates) -> Estimates:
    kinds = set(estimates.frame["estimand"].dropna())
    if kinds == {columns.GROUP_TIME}:
        estimates = estimates.aggregate("event_time")
    timed = estimates.frame["event_time"].notna().to_numpy(dtype=bool)
    if not timed.any():
        raise DesignError(
            "these estimates have no `event_time`, so there is no event study to draw. Call "
            "`aggregate('event_time')` on group-time effects first."
        )
    # the overall row has no place on this axis
    return estimates.where(timed)


def _data(
    rows: Source,
    window: tuple[int, int] | None,
    count: str | None,
    labels: Labels | None,
    people: Sequence[str],
) -> tuple[pd.DataFrame, int]:
    # the overall row of a table has no place on this axis either
    frame = rows.frame[rows.frame["event_time"].notna()].copy()
    if frame.empty:
        raise DesignError(
            "the table has no row with an `event_time`. Select effects by event time."
        )
    if window is not None:
        frame = frame[frame["event_time"].between(*window)]
        if frame.empty:
            raise DesignError(f"no event time falls in `window` {window}: widen it.")
    frame["series"] = series_of(frame, labels)
    repeated = frame.duplicated(["series", "event_time"])
    if repeated.any():
        raise DesignError(
            f"{int(repeated.sum())} effects share series and event time, so they would be drawn on "
            "top of each other. Average them by event time, or select one estimand with `where`."
        )
    checked = disclosure.check(frame, values=_VALUES, people=people)
    frame = checked.frame
    source = _counted(frame, count)
    frame["n"] = np.nan if source is None else pd.to_numeric(frame[source], errors="coerce")
    frame["n_counts"] = source
    # a posterior gives the reference period an interval of no width
    width = frame["conf_high"] - frame["conf_low"]
    bare = frame["std_error"].isna() & (width.isna() | (width == 0))
    frame["reference"] = bare & (frame["estimate"] == 0) & ~frame["suppressed"]
    frame.loc[frame["reference"], [c for c in _VALUES if c != "estimate"]] = np.nan
    frame["level"] = rows.level
    kept = [
        "series",
        "outcome",
        "unit_of_measure",
        "event_time",
        *_VALUES,
        "reference",
        "n",
        "n_counts",
        *checked.columns,
        "suppressed",
        "level",
    ]
    names = [c for c in dict.fromkeys(kept) if c in frame]
    frame["_order"] = pd.factorize(frame["series"])[0]
    frame = frame.sort_values(["_order", "event_time"], kind="stable")
    return frame[names].reset_index(drop=True), checked.n_suppressed


def _counted(frame: pd.DataFrame, count: str | None) -> str | None:
    if count is not None and count not in frame:
        raise DataError(
            f"the event study has no column `{count}` to count; it was given as `count`."
        )
    if count is not None:
        return count
    return next((c for c in _COUNTS if c in frame and frame[c].notna().any()), None)


def _count_label(data: pd.DataFrame, rows: Source) -> str:
    counted = data["n_counts"].dropna()
    if counted.empty:
        return ""
    cluster = str(rows.meta.get("cluster_name") or "cluster")
    words = {
        "n_treated": "Treated units",
        "n_clusters": f"Clusters ({display(cluster)})" if cluster != "cluster" else "Clusters",
        "n_units": "Units",
    }
    return words.get(str(counted.iloc[0]), display(counted.iloc[0]))


def _pretrend_tests(rows: Source, style: Style, labels: Labels | None) -> list[str]:
    """Joint tests that the effects before entry are zero, one sentence for each series."""
    if rows.estimates is None or rows.interval == "credible":
        return []
    anticipation = notes.fact(rows.meta, "anticipation") or 0
    frame = rows.frame
    before = (frame["event_time"] < -anticipation) & frame["std_error"].notna()
    series = series_of(frame, labels)
    out = []
    for name in series[before].unique():
        chosen = np.flatnonzero(before & (series == name))
        test = rows.estimates.wald(chosen, allow_rank_deficient=True)
        what = "the effect" if len(chosen) == 1 else f"the {len(chosen)} effects"
        verb = "is" if len(chosen) == 1 else "are"
        rank = "" if test.restrictions == len(chosen) else f" (rank {test.restrictions})"
        whose = f"{name}: test" if name else "Test"
        out.append(
            f"{whose} that {what} before entry {verb} zero{rank}: "
            f"{p_statement(test.p_value, style)}"
        )
    return out


def _note(
    rows: Source,
    data: pd.DataFrame,
    style: Style,
    bands: bool,
    n_suppressed: int,
    convention: str,
    tests: list[str],
) -> str:
    reference = sorted(data.loc[data["reference"], "event_time"].unique())
    simultaneous = ""
    if bands and rows.level is not None:
        simultaneous = (
            f"Thick bars: {interval_name(rows.level, rows.interval)}, pointwise; thin bars with "
            "caps: simultaneous over all event times estimated together"
        )
    return notes.join(
        [
            notes.sign_sentence(convention),
            simultaneous or notes.interval_sentence(rows),
            notes.base_period_sentence(rows.meta, reference=reference),
            "Dashed line: entry",
            *tests,
            *notes.fit_sentences(rows, style),
            disclosure.sentence(n_suppressed),
        ]
    )


def _alt(data: pd.DataFrame, rows: Source, style: Style, label: str) -> str:
    times = sorted(data["event_time"].unique())
    span = f"{number(times[0], style)} to {number(times[-1], style)}"
    parts = [f"Event-study plot. {label}; periods since entry {span}."]
    for name, part in by_series(data):
        after = part[(part["event_time"] >= 0) & part["estimate"].notna()]
        before = part[(part["event_time"] < 0) & part["estimate"].notna() & ~part["reference"]]
        words = [
            f"{when} entry {_range(some, style)}"
            for when, some in (("before", before), ("after", after))
            if len(some)
        ]
        text = f"{name + ': ' if name else ''}estimates {'; '.join(words) or 'are missing'}."
        known = after[after["conf_low"].notna() & after["conf_high"].notna()]
        if rows.level is not None and len(known):
            clear = known[(known["conf_low"] > 0) | (known["conf_high"] < 0)]
            text += (
                f" {len(clear)} of {len(known)} intervals "
                f"({interval_name(rows.level, rows.interval)}) after entry exclude zero."
            )
        parts.append(text[0].upper() + text[1:])
    return " ".join(parts)


def _range(part: pd.DataFrame, style: Style) -> str:
    low, high = part["estimate"].min(), part["estimate"].max()
    digits = digits_for(errors(part))
    return f"from {number(low, style, digits=digits)} to {number(high, style, digits=digits)}"
