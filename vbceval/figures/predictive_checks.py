"""Posterior predictive checks by stratum and period: observed beside what the model makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.typing import FloatArray
from vbceval.figures import canvas, notes
from vbceval.figures.numbers import number
from vbceval.figures.records import FigureRecord, attach
from vbceval.figures.sources import require, stated_level
from vbceval.figures.style import FAINT, MUTED, PALETTE, Style, get_style
from vbceval.figures.wording import Labels, capital, display, in_sentence

if TYPE_CHECKING:
    from vbceval.figures.canvas import Axes, Figure

_WHAT = "the table of predictive checks"
_AXIS: Mapping[str, str] = {
    "variance": "Variance of residuals, multiple of replicated",
    "extreme": "Cells beyond three standard deviations, %",
    "lag_one": "Correlation of residuals in successive periods",
    "icc": "Correlation of residuals between strata",
}
_RATIO, _PERCENT = "variance", "extreme"
_COLUMNS = 3
_MOST = 12
_ALL = "All"
_MISFIT = "Observed, misfit"


def predictive_check(
    table: pd.DataFrame,
    *,
    statistic: str = "variance",
    level: float | None = None,
    period_label: str = "Period",
    style: str | Style = "jama",
    labels: Labels | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Figure:
    """
    Draw one statistic of residuals, observed and replicated, in each stratum and period.

    A panel a stratum. The first place is over all periods. Bars are intervals of what the fitted
    model makes; dots are observed values, crosses those that the table calls misfits.

    Parameters
    ----------
    table : DataFrame
        Result of `vbceval.bayes.predictive_table`: ``statistic``, ``stratum``, ``period`` (missing:
        all), ``observed``, ``replicated``, ``low``, ``high``, ``misfit``; ``level`` of the interval.
    statistic : {"variance", "extreme", "lag_one", "icc"}
        Which one. Variances are drawn as multiples of their replicated mean, so that strata and
        periods of very different noise share an axis. The last two exist over all periods alone, and
        have one panel with a line for each stratum.
    level : float, optional
        Level of the intervals, where the table does not say it.
    period_label : str, default "Period"
        Label of the horizontal axis.
    style : str or Style, default "jama"
        Publication style.
    labels : mapping, optional
        Words for names of strata.
    meta : mapping, optional
        Record of the fit, for the provenance.

    Returns
    -------
    Figure
        Its data hold what is drawn (``observed``, ``expected``, ``low``, ``high``) and the values of the
        table (``observed_value``, ``replicated_value``).

    Raises
    ------
    DataError
        If the table cannot be drawn, has none of the statistic, or more than twelve strata.
    """
    look = get_style(style)
    data, shown = _prepare(table, statistic, level, labels)
    with canvas.drawing(look):
        fig = _draw(data, look, statistic, period_label)
    return attach(
        fig,
        FigureRecord(
            kind="predictive_check", data=data, note=_note(data, look, statistic, shown),
            alt=_alt(data, look, statistic, shown), style=look.name, level=shown,
            provenance=notes.provenance(meta or {}),
        ),
    )  # fmt: skip


def _prepare(
    table: pd.DataFrame, statistic: str, level: float | None, labels: Labels | None
) -> tuple[pd.DataFrame, float]:
    needed = ("statistic", "stratum", "period", "observed", "replicated", "low", "high", "misfit")
    frame = require(table, needed, what=_WHAT, numbers=needed[2:-1])
    problems = Problems(_WHAT)
    if statistic not in _AXIS:
        problems.add(f"`statistic` is '{statistic}'; use {listed(_AXIS)}.")
    elif statistic not in set(frame["statistic"]):
        problems.add(
            f"it has no `{statistic}` (it has {listed(frame['statistic'].unique())}). One stratum has no "
            "correlation with others, and one period none with the next."
        )
    problems.raise_if_any()
    stated = stated_level(frame.assign(conf_low=frame["low"]), level, what=_WHAT)
    frame = frame[frame["statistic"] == statistic]
    if frame[["observed", "replicated", "low", "high"]].isna().any(axis=None):
        problems.add("values are missing. Pass what `predictive_table` returned.")
    if frame.duplicated(["stratum", "period"]).any():
        problems.add("a stratum and period occurs twice. Pass the table of one fit.")
    if frame["stratum"].nunique() > _MOST:
        problems.add(
            f"{frame['stratum'].nunique()} strata do not fit one page, {_MOST} do. Select rows."
        )
    if statistic == _RATIO and not (frame["replicated"] > 0).all():
        problems.add("replicated variances are not positive.")
    problems.raise_if_any()
    factor = (
        1.0 / frame["replicated"] if statistic == _RATIO else 1.0 + 99.0 * (statistic == _PERCENT)
    )
    out = pd.DataFrame(
        {
            "statistic": statistic, "stratum": [_named(s, labels) for s in frame["stratum"]],
            "period": frame["period"], "observed": factor * frame["observed"],
            "expected": factor * frame["replicated"], "low": factor * frame["low"],
            "high": factor * frame["high"], "misfit": frame["misfit"].astype(bool),
            "observed_value": frame["observed"], "replicated_value": frame["replicated"],
            "level": stated,
        }
    )  # fmt: skip
    order = {name: i for i, name in enumerate(dict.fromkeys(out["stratum"]))}
    rank = out["stratum"].map(order)
    out = out.assign(rank=rank).sort_values(["rank", "period"], na_position="first")
    return out.drop(columns="rank").reset_index(drop=True), float(stated or 0.0)


def _named(stratum: object, labels: Labels | None) -> str:
    return capital(display(stratum, labels))


def _draw(data: pd.DataFrame, style: Style, statistic: str, period_label: str) -> Figure:
    if not data["period"].notna().any():
        return _by_stratum(data, style, statistic)
    strata = list(dict.fromkeys(data["stratum"]))
    columns = min(_COLUMNS, len(strata))
    rows = -(-len(strata) // columns)
    fig = canvas.new_figure(style.page_mm * (1.0 if columns > 1 else 0.66), 26.0 + 50.0 * rows)
    axes = list(fig.subplots(rows, columns, sharey=True, squeeze=False).ravel())
    for i, (ax, stratum) in enumerate(zip(axes, strata, strict=False)):
        part = data[data["stratum"] == stratum]
        place = _places(ax, part)
        _marks(ax, part, place, across=False)
        if statistic == _RATIO:
            ax.axhline(
                1.0, color=MUTED, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0, label="_one"
            )
        canvas.tidy_axes(ax, style)
        canvas.number_axis(ax, "y", style, most=6)
        ax.tick_params(labelleft=i % columns == 0)
        if len(strata) > 1:
            # bold letters are wider than those that are measured
            room = 0.78 * style.page_mm / columns
            title = canvas.wrapped(fig, stratum, style.font_size, room)
            ax.set_title(title, loc="left", fontweight="bold")
        if i % columns == 0:
            canvas.axis_label(ax, "y", _AXIS[statistic], style, length_mm=44.0)
        if i + columns >= len(strata):
            ax.set_xlabel(period_label)
    for ax in axes[len(strata) :]:
        ax.set_axis_off()
    axes[0].set_ylim(*_limits(data, from_zero=True))
    _legend(fig, axes[: len(strata)], 2 if columns == 1 else 4)
    return canvas.finish(fig)


def _by_stratum(data: pd.DataFrame, style: Style, statistic: str) -> Figure:
    """Draw a line for each stratum, from the top."""
    fig = canvas.new_figure(style.page_mm * 0.8, 30.0 + 8.0 * len(data))
    ax = fig.subplots(1, 1)
    place = -np.arange(len(data), dtype=float)
    _marks(ax, data, place, across=True)
    canvas.tidy_axes(ax, style)
    ax.set_yticks(place, list(data["stratum"]))
    ax.set_ylim(place[-1] - 0.6, 0.6)
    ax.set_xlim(*_limits(data, from_zero=False))
    canvas.number_axis(ax, "x", style, most=5)
    canvas.axis_label(ax, "x", _AXIS[statistic], style, length_mm=style.page_mm * 0.4)
    _legend(fig, [ax], 2)
    return canvas.finish(fig)


def _limits(data: pd.DataFrame, *, from_zero: bool) -> tuple[float, float]:
    values = data[["low", "high", "observed"]].to_numpy(dtype=float)
    low, high = (0.0 if from_zero else float(values.min())), float(values.max())
    room = 0.08 * (high - low) or 0.1
    return (0.0 if from_zero else low - room), high + room


def _places(ax: Axes, part: pd.DataFrame) -> FloatArray:
    """Return places of periods, those over all of them apart, and put ticks there."""
    place = np.arange(len(part), dtype=float)
    if part["period"].isna().iloc[0]:
        place[1:] += 0.6
        ax.axvline(0.8, color=FAINT, linewidth=0.6, zorder=0, label="_apart")
    ax.set_xlim(-0.7, place[-1] + 0.7)
    names = [_ALL if np.isnan(p) else f"{p:g}" for p in part["period"]]
    ax.set_xticks(place, _thinned(names))
    return place


def _marks(ax: Axes, part: pd.DataFrame, place: FloatArray, *, across: bool) -> None:
    """Draw bars of replicated data and marks of observed, upright or across."""
    low, high, expected, observed = (
        part[c].to_numpy(dtype=float) for c in ("low", "high", "expected", "observed")
    )
    bars = ax.hlines if across else ax.vlines
    bars(place, low, high, color=FAINT, linewidth=5.0, zorder=1, label="Made by the model")

    def points(values: FloatArray, at: FloatArray, **look: Any) -> None:
        x, y = (values, at) if across else (at, values)
        ax.plot(x, y, linestyle="none", clip_on=False, **look)

    points(expected, place, marker="|" if across else "_", markersize=7.0, color=MUTED, zorder=2,
           label="Its mean")  # fmt: skip
    wrong = part["misfit"].to_numpy(dtype=bool)
    points(observed[~wrong], place[~wrong], marker="o", markersize=4.2, color=PALETTE[0],
           markeredgewidth=0, zorder=3, label="Observed")  # fmt: skip
    if wrong.any():
        points(observed[wrong], place[wrong], marker="X", markersize=6.5, color=PALETTE[1],
               markeredgecolor="white", markeredgewidth=0.4, zorder=4, label=_MISFIT)  # fmt: skip


def _legend(fig: Figure, axes: Sequence[Axes], most: int) -> None:
    """Name every kind of mark once, also where one panel alone has it."""
    found = {n: h for ax in axes for h, n in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(list(found.values()), list(found), loc="outside upper left", ncols=min(most, len(found)),
               handlelength=1.6, columnspacing=1.6)  # fmt: skip


def _thinned(names: list[str], most: int = 5) -> list[str]:
    """Keep the first name and so many others, evenly, that they fit a narrow panel."""
    step = max(1, -(-(len(names) - 1) // most))
    return [n if i == 0 or (i - 1) % step == 0 else "" for i, n in enumerate(names)]


def _note(data: pd.DataFrame, style: Style, statistic: str, level: float) -> str:
    wrong = int(data["misfit"].sum())
    return notes.join(
        [
            f"Bars: {100 * level:g}% intervals of data made by the fitted model; dashes: their means",
            "Dots: the statistic of the observed data, averaged over the same draws",
            "Dashed line: as in replicated data" if statistic == _RATIO else "",
            f"Crosses: the observed value lies beyond all but 1% of replicated ones on "
            f"one side ({number(wrong, style)} of {number(len(data), style)} places; about 2% are by "
            "chance)",
        ]
    )


def _alt(data: pd.DataFrame, style: Style, statistic: str, level: float) -> str:
    inside = (data["observed"] >= data["low"]) & (data["observed"] <= data["high"])
    text = (
        f"Posterior predictive check. {_AXIS[statistic]}. {number(int(inside.sum()), style)} of "
        f"{number(len(data), style)} observed values lie within the {100 * level:g}% intervals of "
        "replicated data."
    )
    wrong = data[data["misfit"]]
    if not len(wrong):
        return f"{text} No misfit."
    whole = wrong[wrong["period"].isna()]
    if not len(whole):
        return f"{text} Misfits: {number(len(wrong), style)}, in single periods."
    said = [
        f"{in_sentence(row['stratum'])} {number(row['observed'], style, digits=2)} (replicated "
        f"{number(row['expected'], style, digits=2)})"
        for row in whole.to_dict("records")
    ]
    return f"{text} Misfits over all periods: {'; '.join(said)}."
