"""Posterior exhibits: probability against a threshold, and densities with a shaded side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates
from vbceval.figures import canvas, notes
from vbceval.figures.numbers import number
from vbceval.figures.records import FigureRecord, attach
from vbceval.figures.sources import Source, by_series
from vbceval.figures.style import INK, MUTED, PALETTE, Style, get_style, series_look
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
    from vbceval.figures.canvas import Axes, Figure

Draws = Estimates | Mapping[str, FloatArray] | FloatArray
_GRID = 256


@dataclass(frozen=True, eq=False, kw_only=True)
class Posterior:
    """Named draws of quantities in one unit."""

    draws: dict[str, FloatArray]
    outcome: str
    unit: str
    source: Source = field(default_factory=lambda: Source(frame=pd.DataFrame(), level=None))


def threshold_curve(
    source: Draws,
    thresholds: Sequence[float] | FloatArray | None = None,
    *,
    marks: Sequence[float] = (0.0,),
    outcome: str = "",
    unit: str = "",
    style: str | Style = "jama",
    labels: Labels | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Figure:
    """
    Draw the posterior probability that an effect is below each threshold.

    Parameters
    ----------
    source : Estimates, mapping or array
        Estimates with posterior draws, one row a series; or draws by name; or one array, shape
        (S,). Four series at most.
    thresholds : array, optional
        Thresholds, in the unit of the effect; default spans the draws in 201 steps, with `marks`.
    marks : sequence of float, default (0,)
        Policy thresholds: dotted lines with the probability printed at the curve.
    outcome, unit : str
        Name and unit of the quantity, where `source` is not `Estimates`.
    style : str or Style, default "jama"
        Publication style.
    labels : mapping, optional
        Words for names of outcomes, strata and runs.
    meta : mapping, optional
        Record of the fit, for the note, where `source` is not `Estimates`.

    Returns
    -------
    Figure

    Raises
    ------
    EstimationError
        If there are no posterior draws: a P value is not the probability of a hypothesis.
    """
    look = get_style(style)
    posterior = read_draws(source, outcome, unit, labels, meta)
    grid = _thresholds(posterior, thresholds, marks)
    data = pd.concat(
        [
            pd.DataFrame({"series": name, "threshold": grid, "probability": _below(draws, grid)})
            for name, draws in posterior.draws.items()
        ],
        ignore_index=True,
    )
    data["mark"] = data["threshold"].isin([float(m) for m in marks])
    data = data.assign(outcome=posterior.outcome or None, unit_of_measure=posterior.unit or None)
    effect = effect_label(posterior.outcome, posterior.unit, look, labels)
    with canvas.drawing(look):
        fig = _draw_curve(data, look, effect, currency(posterior.unit))
    return attach_words(fig, "threshold_curve", data, posterior, look, labels,
                   "Curves: share of posterior draws below each threshold", said_of(data, look, currency(posterior.unit)),
                   "Probability curve", one_line(effect))  # fmt: skip


def posterior_density(
    source: Draws,
    *,
    threshold: float = 0.0,
    outcome: str = "",
    unit: str = "",
    style: str | Style = "jama",
    labels: Labels | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Figure:
    """
    Draw posterior densities, shaded below a threshold and labelled with the probability.

    One panel a series, on one scale. The printed probability is the share of draws, not the area
    of the smoothed curve.

    Parameters
    ----------
    source : Estimates, mapping or array
        Estimates with posterior draws, one row a panel; or draws by name; or one array (S,).
    threshold : float, default 0
        End of the shaded side, in the unit of the effect.
    outcome, unit : str
        Name and unit of the quantity, where `source` is not `Estimates`.
    style : str or Style, default "jama"
        Publication style.
    labels : mapping, optional
        Words for names of outcomes, strata and runs.
    meta : mapping, optional
        Record of the fit, for the note, where `source` is not `Estimates`.

    Returns
    -------
    Figure

    Raises
    ------
    EstimationError
        If there are no posterior draws.
    """
    look = get_style(style)
    posterior = read_draws(source, outcome, unit, labels, meta)
    data = densities(posterior, threshold)
    data = data.assign(outcome=posterior.outcome or None, unit_of_measure=posterior.unit or None)
    effect = effect_label(posterior.outcome, posterior.unit, look, labels)
    with canvas.drawing(look):
        fig = _draw_densities(data, look, effect, threshold, currency(posterior.unit))
    rows = data.drop_duplicates("series").assign(threshold=threshold, mark=True)
    rows = rows.rename(columns={"probability_below": "probability"})
    text = "Shaded: below the threshold; its label is the share of posterior draws there"
    return attach_words(fig, "posterior_density", data, posterior, look, labels, text,
                   said_of(rows, look, currency(posterior.unit)), "Posterior density", one_line(effect))  # fmt: skip


def read_draws(
    source: Draws, outcome: str, unit: str, labels: Labels | None, meta: Mapping[str, Any] | None
) -> Posterior:
    """Return named draws of one unit, from whatever `threshold_curve` takes."""
    if not isinstance(source, Estimates):
        named = source if isinstance(source, Mapping) else {"": source}
        draws = {str(k): np.asarray(v, dtype=float) for k, v in named.items()}
        bad = [
            k or "the array" for k, v in draws.items() if v.ndim != 1 or not np.isfinite(v).all()
        ]
        if bad or not draws:
            raise EstimationError(
                f"draws must be one-dimensional and finite; {', '.join(bad) or 'none'} are not. "
                "Give one array a quantity, by name."
            )
        frame = pd.DataFrame()
        rows = Source(frame=frame, level=None, interval="credible", meta=meta or {})
        return Posterior(draws=draws, outcome=outcome, unit=unit, source=rows)
    ignored = [n for n, v in (("outcome", outcome), ("unit", unit), ("meta", meta)) if v]
    if ignored:
        raise DesignError(
            f"{', '.join(f'`{n}`' for n in ignored)} would be ignored: these estimates say it "
            "themselves. Leave it out, or give draws by name."
        )
    if source.samples is None or source.interval != "credible":
        raise EstimationError(
            "these estimates are not a posterior, and a confidence procedure gives no probability "
            "that an effect is below a threshold. Fit a Bayesian model, or draw a forest plot."
        )
    names = series_of(source.frame, labels)
    if names.duplicated().any():
        names = names.str.cat([display(v, labels) for v in source.frame["estimand"]], sep=", ")
    if names.duplicated().any():
        raise DesignError(
            f"{int(names.duplicated().sum())} rows have the same name as another, so curves could "
            "not be told apart. Select rows with `where`."
        )
    return Posterior(
        draws={str(n).removeprefix(", "): source.samples[:, i] for i, n in enumerate(names)},
        outcome=one_of(source.frame, "outcome", what="the posterior plot"),
        unit=one_of(source.frame, "unit_of_measure", what="the posterior plot"),
        source=Source(
            frame=source.frame,
            level=None,
            interval="credible",
            meta=source.meta,
            estimates=source,
        ),
    )


def _thresholds(
    posterior: Posterior,
    thresholds: Sequence[float] | FloatArray | None,
    marks: Sequence[float],
) -> FloatArray:
    if thresholds is None:
        everything = np.concatenate(list(posterior.draws.values()))
        low, high = np.quantile(everything, [0.001, 0.999])
        thresholds = np.linspace(min(low, *marks, 0.0), max(high, *marks, 0.0), 201)
    return np.unique(np.r_[np.asarray(thresholds, dtype=float), np.asarray(marks, dtype=float)])


def _below(draws: FloatArray, grid: FloatArray) -> FloatArray:
    """Share of draws strictly below each threshold."""
    return np.asarray(np.searchsorted(np.sort(draws), grid, side="left") / len(draws))


def densities(
    posterior: Posterior, threshold: float, priors: Mapping[str, FloatArray] | None = None
) -> pd.DataFrame:
    """Return the density of each series, and of its prior, on one grid that holds the threshold."""
    from scipy.stats import gaussian_kde

    parts = []
    ends = [np.quantile(d, [0.0005, 0.9995]) for d in posterior.draws.values()]
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    if priors:
        # room to see that a prior is wider, and not so much that the posterior becomes a line
        low, high = low - (high - low) / 2, high + (high - low) / 2
    grid = np.linspace(min(low, threshold), max(high, threshold), _GRID)
    grid = np.unique(np.r_[grid, threshold])
    for name, draws in posterior.draws.items():
        if not np.ptp(draws) > 0:
            raise EstimationError(
                f"the draws of '{name or 'the quantity'}' are all equal, so they have no density. "
                "Leave out rows without variation (a reference period)."
            )
        density = gaussian_kde(draws)(grid)
        share = float((draws < threshold).mean())
        part = pd.DataFrame(
            {"series": name, "value": grid, "density": density, "probability_below": share}
        )
        if priors:
            part["prior_density"] = gaussian_kde(priors[name])(grid)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def probability_text(share: float) -> str:
    """Write a probability in percent, "<1%" and ">99%" beyond what draws can tell."""
    if share > 0.99:
        return ">99%"
    return "<1%" if share < 0.01 else f"{100 * share:.0f}%"


def _draw_curve(data: pd.DataFrame, style: Style, effect: str, prefix: str) -> Figure:
    series = by_series(data)
    legend = 4.5 * len(series) if len(series) > 1 else 0.0
    fig = canvas.new_figure(style.page_mm * 0.66, 82.0 + legend)
    ax = fig.subplots(1, 1)
    for i, (name, part) in enumerate(series):
        colour, marker, line = series_look(i, what="the threshold curve")
        x = part["threshold"].to_numpy(dtype=float)
        y = part["probability"].to_numpy(dtype=float)
        ax.plot(x, y, color=colour, linestyle=line, linewidth=1.5, zorder=3,
                label=name or "_probability")  # fmt: skip
        at = part["mark"].to_numpy(dtype=bool)
        ax.plot(x[at], y[at], linestyle="none", marker=marker, markersize=5, color=colour,
                markeredgecolor="white", markeredgewidth=0.5, zorder=4, label="_mark")  # fmt: skip
        if len(series) == 1:
            for threshold, share in zip(x[at], y[at], strict=True):
                low = share < 0.1
                ax.annotate(
                    probability_text(share),
                    xy=(threshold, share),
                    xytext=(6, 4 if low else -3),
                    textcoords="offset points",
                    fontsize=style.small,
                    va="bottom" if low else "top",
                    ha="left",
                )
    for threshold in np.unique(data.loc[data["mark"], "threshold"]):
        ax.axvline(threshold, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1,
                   label="_threshold")  # fmt: skip
    canvas.tidy_axes(ax, style)
    ax.set_ylim(-0.02, 1.02)
    low, high = data["threshold"].min(), data["threshold"].max()
    # room for marks that stand at an end
    ax.set_xlim(low - 0.02 * (high - low), high + 0.02 * (high - low))
    canvas.number_axis(ax, "x", style, prefix=prefix, most=6)
    canvas.number_axis(ax, "y", style)
    canvas.axis_label(ax, "y", "Posterior probability below threshold", style, length_mm=58.0)
    canvas.axis_label(ax, "x", f"Threshold: {effect[0].lower()}{effect[1:]}", style,
                      length_mm=style.page_mm * 0.55)  # fmt: skip
    if len(series) > 1:
        canvas.legend_above(ax, style, width_mm=style.page_mm * 0.52)
    return canvas.finish(fig)


def _draw_densities(
    data: pd.DataFrame, style: Style, effect: str, threshold: float, prefix: str
) -> Figure:
    series = by_series(data)
    tall = 46.0 if len(series) == 1 else 24.0
    fig = canvas.new_figure(style.page_mm * 0.66, tall * len(series) + 16.0)
    axes = fig.subplots(len(series), 1, sharex=True, squeeze=False)[:, 0]
    top = float(data["density"].max())
    for ax, (name, part) in zip(axes, series, strict=True):
        _density(ax, part, name, style, threshold, prefix)
        # one scale: equal areas are equal probabilities
        ax.set_ylim(0.0, 1.06 * top)
    canvas.number_axis(axes[-1], "x", style, prefix=prefix, most=6)
    canvas.axis_label(axes[-1], "x", effect, style, length_mm=style.page_mm * 0.55)
    return canvas.finish(fig)


def _density(
    ax: Axes, part: pd.DataFrame, name: str, style: Style, threshold: float, prefix: str
) -> None:
    x, y = part["value"].to_numpy(dtype=float), part["density"].to_numpy(dtype=float)
    low = x <= threshold
    ax.fill_between(x[low], 0.0, y[low], color=PALETTE[2], alpha=0.45, linewidth=0, zorder=1,
                    label="_below")  # fmt: skip
    ax.plot(x, y, color=PALETTE[0], linewidth=1.3, zorder=3, label="_density")
    ax.axvline(0.0, color=INK, linewidth=0.8, zorder=2, label="_zero")
    if threshold != 0:
        ax.axvline(threshold, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=2,
                   label="_threshold")  # fmt: skip
    share = probability_text(float(part["probability_below"].iloc[0]))
    limit = limit_text(threshold, style, prefix)
    text = f"{share} probability below {limit}"
    # above the panel: no place inside is free of the curve and the lines for every posterior
    ax.set_title(f"{name}: {text}" if name else text, loc="left", fontsize=style.small, pad=3)
    canvas.tidy_axes(ax, style, left=False)
    ax.set_yticks([])


def limit_text(threshold: float, style: Style, prefix: str) -> str:
    """Write a threshold with as many digits as it has: -0.005 must not read -0.01."""
    decimal = np.format_float_positional(float(threshold), precision=12, trim="-")
    return number(threshold, style, digits=len(decimal.partition(".")[2]), prefix=prefix)


def said_of(rows: pd.DataFrame, style: Style, prefix: str) -> list[str]:
    """One sentence a marked threshold and series, for the alternative text."""
    out = []
    for _, row in rows[rows["mark"]].iterrows():
        limit = limit_text(row["threshold"], style, prefix)
        name = f"{row['series']}: " if row["series"] else ""
        out.append(f"{name}{probability_text(row['probability'])} probability below {limit}.")
    return out


def attach_words(
    fig: Figure,
    kind: str,
    data: pd.DataFrame,
    posterior: Posterior,
    style: Style,
    labels: Labels | None,
    marks: str,
    said: list[str],
    title: str,
    effect: str,
) -> Figure:
    """Attach the record of a posterior exhibit; `said` are the sentences of its alternative text."""
    note = notes.join(
        [
            notes.sign_sentence(sign_convention(posterior.outcome, posterior.unit, labels)),
            marks,
            *notes.fit_sentences(posterior.source, style),
        ]
    )
    return attach(
        fig,
        FigureRecord(
            kind=kind,
            data=data,
            note=note,
            alt=" ".join([f"{title}. {effect}.", *said]),
            style=style.name,
            provenance=notes.provenance(posterior.source.meta),
        ),
    )
