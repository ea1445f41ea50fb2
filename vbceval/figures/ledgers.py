"""Gross to net: savings, payments and what is left, one panel for each measure of savings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from vbceval.core.checks import Problems
from vbceval.figures import canvas, disclosure, notes
from vbceval.figures.numbers import interval, interval_name, number
from vbceval.figures.records import FigureRecord, attach
from vbceval.figures.sources import INTERVAL, Source, require, stated_level
from vbceval.figures.style import HATCHES, INK, MUTED, PALETTE, Style, get_style

if TYPE_CHECKING:
    from vbceval.figures.canvas import Axes, Figure

MEASURES: Mapping[str, tuple[str, str]] = {
    "impact": ("Impact savings", "counterfactual less actual; estimated"),
    "benchmark": ("Benchmark savings", "benchmark less actual; administrative"),
}
KINDS = ("gross", "payment", "net")
_SCALES = ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands"), (1.0, ""))
_WHAT = "the gross-to-net table"


def gross_to_net(
    table: pd.DataFrame,
    *,
    unit: str = "USD, nominal",
    tolerance: float = 1e-6,
    style: str | Style = "jama",
    level: float | None = None,
    meta: Mapping[str, Any] | None = None,
    people: Sequence[str] = (),
) -> Figure:
    """
    Draw a waterfall from gross savings over payments to net savings.

    Impact savings (estimated) and benchmark savings (administrative) have different
    counterfactuals, so each has a panel of its own; they never share a series.

    Parameters
    ----------
    table : DataFrame
        One row a bar: ``measure`` ("impact" or "benchmark"), ``kind`` ("gross", "payment",
        "net"), ``component`` (words under the bar), ``amount`` (dollars; savings are positive, a
        payment to providers is positive and is subtracted, one from them negative); optionally
        ``conf_low``, ``conf_high`` and ``level`` for whiskers, and counts. Each measure has one
        gross and one net row, and gross less payments must equal net.
    unit : str, default "USD, nominal"
        Unit of the amounts, with the year of the dollars.
    tolerance : float, default 1e-6
        Largest difference between gross less payments and net, as a share of the largest amount.
    style : str or Style, default "jama"
        Publication style.
    level : float, optional
        Level of the intervals, where the table has no column ``level``.
    meta : mapping, optional
        Record of the fit behind the impact savings, for the note.
    people : sequence of str
        Columns that count people and are not known by name.

    Returns
    -------
    Figure

    Raises
    ------
    DataError
        Listing every measure whose rows do not add up or are incomplete.
    """
    look = get_style(style)
    frame = _prepare(table, tolerance)
    used = stated_level(frame, level, what=_WHAT)
    checked = disclosure.check(frame, values=("amount", *INTERVAL), people=people)
    data = _placed(checked.frame).assign(level=used, unit_of_measure=unit)
    scale, word = money_scale(data[["bar_start", "bar_end"]])
    label = f"Savings, {scaled_unit(unit, word)}\n(positive = savings)"
    with canvas.drawing(look):
        fig = _draw(data, look, label, scale)
    source = Source(frame=data, level=used, meta=meta or {})
    return attach(
        fig,
        FigureRecord(
            kind="gross_to_net",
            data=data,
            note=_note(data, source, look, checked.n_suppressed),
            alt=_alt(data, look, scale, word),
            style=look.name,
            level=used,
            provenance=notes.provenance(source.meta),
        ),
    )


def _prepare(table: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    needs = ("measure", "kind", "component", "amount")
    frame = require(table, needs, what=_WHAT, numbers=("amount", *INTERVAL))
    for column in INTERVAL:
        if column not in frame:
            frame[column] = np.nan
    problems = Problems(_WHAT)
    for column, known in (("measure", tuple(MEASURES)), ("kind", KINDS)):
        unknown = sorted(set(frame[column].astype(str)) - set(known))
        if unknown:
            problems.add(f"`{column}` has {', '.join(unknown)}; use {', '.join(known)}.")
    if frame["amount"].isna().any():
        problems.add(f"`amount` is missing in {int(frame['amount'].isna().sum())} rows. Fill it.")
    problems.raise_if_any()
    for measure in frame["measure"].unique():
        rows = frame[frame["measure"] == measure]
        amounts = {kind: rows.loc[rows["kind"] == kind, "amount"] for kind in KINDS}
        if len(amounts["gross"]) != 1 or len(amounts["net"]) != 1:
            problems.add(
                f"measure '{measure}' has {len(amounts['gross'])} gross and {len(amounts['net'])} "
                "net rows; it needs one of each."
            )
            continue
        left = amounts["gross"].sum() - amounts["payment"].sum()
        net = amounts["net"].sum()
        if abs(left - net) > tolerance * rows["amount"].abs().max():
            problems.add(
                f"measure '{measure}': gross less payments is {left:,.2f}, but net is {net:,.2f}. "
                "Payments to providers are positive; list every payment."
            )
    problems.raise_if_any()
    measures = [m for m in MEASURES if m in set(frame["measure"])]
    order = frame["kind"].map({k: i for i, k in enumerate(KINDS)})
    place = frame["measure"].map({m: i for i, m in enumerate(measures)})
    frame = frame.assign(_measure=place, _kind=order)
    ordered = frame.sort_values(["_measure", "_kind"], kind="stable")
    return ordered.drop(columns=["_measure", "_kind"]).reset_index(drop=True)


def _placed(frame: pd.DataFrame) -> pd.DataFrame:
    """Add where each bar starts and ends; payments hang from what is left so far."""
    out = frame.copy()
    starts, ends = [], []
    left = 0.0
    for _, row in frame.iterrows():
        amount = float(row["amount"])
        if row["kind"] == "payment":
            starts.append(left)
            left -= amount
        else:
            starts.append(0.0)
            left = amount
        ends.append(left)
    return out.assign(bar_start=starts, bar_end=ends)


def money_scale(amounts: ArrayLike) -> tuple[float, str]:
    """Return the size of a unit that suits dollars, and its word: 1e6 and "millions"."""
    largest = float(np.nanmax(np.abs(np.asarray(amounts, dtype=float)), initial=0.0))
    # one step finer than the largest amount: $1,094 million rather than $1.1 billion
    return next(((s, w) for s, w in _SCALES if largest >= 10 * s), _SCALES[-1])


def scaled_unit(unit: str, word: str) -> str:
    """Say in the unit what the axis is in: "USD millions, nominal", "2018 dollars, millions"."""
    if not word:
        return unit
    return unit.replace("USD", f"USD {word}", 1) if "USD" in unit else f"{unit}, {word}"


def _digits(data: pd.DataFrame, scale: float) -> int:
    """One precision for all bars, so that the printed numbers can be added up by eye."""
    largest = float(data["amount"].abs().max()) / scale
    # three significant digits of the largest: $4.53 a month, not $4.5
    return int(np.clip(2 - np.floor(np.log10(largest)), 0, 12)) if largest > 0 else 0


def _draw(data: pd.DataFrame, style: Style, label: str, scale: float) -> Figure:
    measures = list(data["measure"].unique())
    bars = [int((data["measure"] == m).sum()) for m in measures]
    width = min(style.page_mm, 26.0 + 21.0 * sum(bars) + 6.0 * len(measures))
    fig = canvas.new_figure(max(width, style.column_mm), 82.0)
    axes = fig.subplots(1, len(measures), sharey=True, width_ratios=bars, squeeze=False)[0]
    for ax, measure, n in zip(axes, measures, bars, strict=True):
        rows = data[data["measure"] == measure].reset_index(drop=True)
        _panel(ax, rows, style, scale, _digits(data, scale))
        room = (width - 26.0) * n / sum(bars)
        title, meaning = MEASURES[measure]
        words = canvas.wrapped(fig, meaning, style.small, room)
        ax.set_title(f"{title}\n{words}", fontsize=style.small, linespacing=1.25, pad=8)
        names = [
            canvas.wrapped(fig, str(c), style.small, room / n - 2.0) for c in rows["component"]
        ]
        ax.set_xticks(range(n), names, fontsize=style.small)
        canvas.tidy_axes(ax, style)
        ax.tick_params(axis="x", length=0)
        ax.spines["bottom"].set_visible(False)
    canvas.number_axis(axes[0], "y", style, prefix="$")
    canvas.axis_label(axes[0], "y", label, style, length_mm=52.0)
    axes[0].margins(y=0.14)
    return canvas.finish(fig)


_LOOKS = {
    "gross": (PALETTE[2], HATCHES[0]),
    "payment": ("#ffffff", HATCHES[1]),
    "net": (PALETTE[3], HATCHES[0]),
}


def _panel(ax: Axes, rows: pd.DataFrame, style: Style, scale: float, digits: int) -> None:
    ax.axhline(0, color=INK, linewidth=0.8, zorder=3, label="_zero")
    for i, row in rows.iterrows():
        x = float(str(i))
        if not np.isfinite(row["amount"]):
            continue
        start, end = row["bar_start"] / scale, row["bar_end"] / scale
        colour, hatch = _LOOKS[row["kind"]]
        ax.bar(x, end - start, bottom=start, width=0.62, facecolor=colour, hatch=hatch,
               edgecolor=INK, linewidth=0.7, zorder=2, label=f"_{row['kind']}")  # fmt: skip
        if x + 1 < len(rows):
            ax.hlines(end, x + 0.31, x + 0.69, color=MUTED, linewidth=0.7, zorder=1, label="_step")
        low, high = row["conf_low"] / scale, row["conf_high"] / scale
        drawn = np.isfinite(low) and np.isfinite(high)
        if drawn:
            # a white line behind keeps the whisker visible on its bar
            ax.vlines(x, low, high, color="white", linewidth=3.0, zorder=4, label="_halo")
            ax.vlines(x, low, high, color=INK, linewidth=1.1, zorder=5, label="_whisker")
            ax.plot([x, x], [low, high], linestyle="none", marker="_", markersize=6,
                    markeredgewidth=1.1, color=INK, zorder=5, label="_cap")  # fmt: skip
        _value(ax, row, x, (low, high) if drawn else (start, end), style, (scale, digits))


def _value(
    ax: Axes,
    row: pd.Series,
    x: float,
    span: tuple[float, float],
    style: Style,
    unit: tuple[float, int],
) -> None:
    """Print the amount above what is drawn, or below where it is a loss."""
    shown = -row["amount"] if row["kind"] == "payment" else row["amount"]
    scale, digits = unit
    below = shown < 0 and row["kind"] != "payment"
    ax.annotate(
        number(shown / scale, style, digits=digits, prefix="$"),
        xy=(x, min(span) if below else max(span)),
        xytext=(0, -3 if below else 3),
        textcoords="offset points",
        ha="center",
        va="top" if below else "bottom",
        fontsize=style.small,
        fontweight="bold" if row["kind"] == "net" else "normal",
        # keeps the number readable where it meets the zero line
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        zorder=6,
    )


def _is_shifted(rows: pd.DataFrame) -> bool:
    """Return whether the net interval of a measure is the gross interval less fixed payments."""
    ends = {k: rows.loc[rows["kind"] == k, list(INTERVAL)].to_numpy(dtype=float) for k in KINDS}
    if not len(ends["payment"]) or np.isfinite(ends["payment"]).any():
        return False
    paid = float(rows.loc[rows["kind"] == "payment", "amount"].sum())
    # amounts may be printed rounded: a thousandth of the interval's width
    slack = 1e-3 * np.ptp(ends["gross"])
    return bool(np.all(np.abs(ends["gross"] - paid - ends["net"]) <= slack))


def _note(data: pd.DataFrame, source: Source, style: Style, n_suppressed: int) -> str:
    measures = list(data["measure"].unique())
    fixed = [m for m in measures if _is_shifted(data[data["measure"] == m])]
    both = ""
    if len(measures) > 1:
        both = (
            "Impact savings and benchmark savings have different counterfactuals and must not be "
            "added or compared as one series"
        )
    return notes.join(
        [
            "Savings are positive",
            *[f"{MEASURES[m][0]}: {MEASURES[m][1]}" for m in measures],
            both,
            notes.interval_sentence(source, marks="Whiskers"),
            "Payments are treated as fixed, so the net interval is the gross interval shifted"
            if fixed
            else "",
            *notes.fit_sentences(source, style),
            disclosure.sentence(n_suppressed),
        ]
    )


def _alt(data: pd.DataFrame, style: Style, scale: float, word: str) -> str:
    parts = [f"Waterfall chart of savings in US dollars{f' ({word})' if word else ''}."]
    level, digits = data["level"].iloc[0], _digits(data, scale)
    for measure in data["measure"].unique():
        rows = data[data["measure"] == measure]
        said = []
        for _, row in rows.iterrows():
            amount = row["amount"] / scale
            text = f"{row['component']} {number(amount, style, digits=digits, prefix='$')}"
            low, high = row["conf_low"] / scale, row["conf_high"] / scale
            ends = interval(low, high, style, digits=digits, prefix="$")
            said.append(f"{text} ({interval_name(level)}, {ends})" if ends else text)
        parts.append(f"{MEASURES[measure][0]}: {'; '.join(said)}.")
    return " ".join(parts)
