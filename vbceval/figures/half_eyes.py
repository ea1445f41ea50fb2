"""Half-eye plot: density, mean and two intervals of each posterior, its prior beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates
from vbceval.figures import canvas
from vbceval.figures.posteriors import (
    Draws,
    Posterior,
    attach_words,
    densities,
    limit_text,
    probability_text,
    read_draws,
    said_of,
)
from vbceval.figures.sources import by_series
from vbceval.figures.style import FAINT, INK, MUTED, PALETTE, Style, get_style
from vbceval.figures.wording import Labels, currency, effect_label, one_line

if TYPE_CHECKING:
    from vbceval.figures.canvas import Axes, Figure

_TALL = 0.72
_MOST = 12


def half_eye(
    source: Draws,
    *,
    threshold: float = 0.0,
    levels: tuple[float, float] = (0.66, 0.95),
    prior: bool | Mapping[str, FloatArray] = False,
    outcome: str = "",
    unit: str = "",
    style: str | Style = "jama",
    labels: Labels | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Figure:
    """
    Draw posteriors one below the other: density, mean, and a thick and a thin interval.

    Suits strata side by side, and one quantity under several priors. Densities have one scale, so
    equal areas are equal probabilities; the probability below a threshold is printed at the right.

    Parameters
    ----------
    source : Estimates, mapping or array
        Estimates with posterior draws, one row each; or draws by name; or one array, shape (S,).
        Twelve at most.
    threshold : float, default 0
        Of the printed probability, in the unit of the effect; the density below it is darker.
    levels : (float, float), default (0.66, 0.95)
        Probability of the thick and of the thin interval, equal-tailed.
    prior : bool or mapping, default False
        True draws the prior of each quantity as a broken line over its posterior, from the DataTree
        of a fit; or draws of priors by name, where `source` is draws by name.
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
        Its data hold the density by value, and in each row mean and intervals of the series.

    Raises
    ------
    DesignError
        If there are more than twelve posteriors, or `levels` are not two growing probabilities.
    EstimationError
        If there are no posterior draws, or some do not vary; if priors are asked for and the source
        has none, or not one for each series.
    """
    inner, outer = levels
    if not 0 < inner < outer < 1:
        raise DesignError(f"`levels` is {levels}; give two probabilities, the smaller first.")
    look = get_style(style)
    posterior = read_draws(source, outcome, unit, labels, meta)
    if len(posterior.draws) > _MOST:
        raise DesignError(
            f"{len(posterior.draws)} posteriors do not fit one page, {_MOST} do. Select rows with "
            "`where`."
        )
    priors = _priors(source, posterior, prior)
    data = densities(posterior, threshold, priors).merge(_summaries(posterior.draws, inner, outer))
    data = data.assign(outcome=posterior.outcome or None, unit_of_measure=posterior.unit or None)
    effect = effect_label(posterior.outcome, posterior.unit, look, labels)
    prefix = currency(posterior.unit)
    with canvas.drawing(look):
        fig = _draw(data, look, effect, threshold, prefix)
    rows = data.drop_duplicates("series").assign(threshold=threshold, mark=True)
    rows = rows.rename(columns={"probability_below": "probability"})
    text = (
        f"Marks: posterior means, with {100 * inner:g}% (thick) and {100 * outer:g}% (thin) credible "
        "intervals; shaded: posterior densities, darker below the threshold, with the share of draws "
        "there"
    )
    if priors:
        text += "; broken lines: prior densities"
    return attach_words(fig, "half_eye", data, posterior, look, labels, text,
                        said_of(rows, look, prefix), "Posterior densities and intervals", one_line(effect))  # fmt: skip


def _priors(
    source: Draws, posterior: Posterior, prior: bool | Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """Return draws of the prior of each series, or nothing where none are asked for."""
    names = list(posterior.draws)
    if prior is False:
        return {}
    if prior is not True:
        missing = [name for name in names if name not in prior]
        if missing:
            raise EstimationError(f"`prior` has no draws of: {', '.join(missing)}.")
        return {name: np.asarray(prior[name], dtype=float) for name in names}
    tree = source.to_arviz() if isinstance(source, Estimates) and source.tree is not None else {}
    if "prior" not in tree or "average" not in tree["prior"]:
        raise EstimationError(
            "`prior=True` reads the prior from the DataTree of a hierarchical fit, and this source "
            "has none. Pass draws of the prior by name, or leave it out."
        )
    after = tree["posterior"]["average"].values.reshape(-1, tree["posterior"]["average"].shape[-1])
    before = tree["prior"]["average"].values.reshape(-1, after.shape[1])
    found = {}
    for name, draws in posterior.draws.items():
        # rows may be a selection of the fit: they are told by their draws
        fitted = len(after) == len(draws)
        same = np.flatnonzero((after == draws[:, None]).all(0)) if fitted else np.empty(0, int)
        if not same.size:
            raise EstimationError(
                f"'{name or 'the quantity'}' is a combination of the rows that were fitted, and its "
                "prior was not kept. Draw rows of the fit itself, or pass draws of the prior."
            )
        found[name] = before[:, same[0]]
    return found


def _summaries(draws: Mapping[str, Any], inner: float, outer: float) -> pd.DataFrame:
    rows = []
    for name, values in draws.items():
        ends = [(1 - outer) / 2, (1 - inner) / 2, (1 + inner) / 2, (1 + outer) / 2]
        low, inner_low, inner_high, high = np.quantile(values, ends)
        rows.append(
            {
                "series": name, "estimate": float(np.mean(values)), "conf_low": low,
                "conf_high": high, "inner_low": inner_low, "inner_high": inner_high,
                "level": outer, "inner_level": inner,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _draw(data: pd.DataFrame, style: Style, effect: str, threshold: float, prefix: str) -> Figure:
    series = by_series(data)
    fig = canvas.new_figure(style.page_mm * 0.8, 15.0 * len(series) + 26.0)
    ax = fig.subplots(1, 1)
    heights = [name for name in ("density", "prior_density") if name in data]
    top = float(data[heights].to_numpy(dtype=float).max())
    shares = []
    for place, (_, part) in enumerate(series):
        _eye(ax, part, -float(place), threshold, top)
        shares.append(probability_text(float(part["probability_below"].iloc[0])))
    ax.axvline(0.0, color=INK, linewidth=0.8, zorder=1, label="_zero")
    if threshold != 0:
        ax.axvline(threshold, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1,
                   label="_threshold")  # fmt: skip
    canvas.tidy_axes(ax, style, left=False)
    ax.set_ylim(-len(series) + 0.62, 1.0)
    ax.set_yticks([-float(i) for i in range(len(series))], [name for name, _ in series])
    if not any(name for name, _ in series):
        ax.set_yticks([])
    right = ax.secondary_yaxis("right")
    right.set_yticks([-float(i) for i in range(len(series))], shares)
    right.spines["right"].set_visible(False)
    right.tick_params(axis="y", length=0, labelsize=style.small, labelcolor=INK)
    ax.set_title(f"Probability below {limit_text(threshold, style, prefix)}", loc="right",
                 fontsize=style.small, pad=3)  # fmt: skip
    canvas.number_axis(ax, "x", style, prefix=prefix, most=6)
    canvas.axis_label(ax, "x", effect, style, length_mm=style.page_mm * 0.55)
    return canvas.finish(fig)


def _eye(ax: Axes, part: pd.DataFrame, base: float, threshold: float, top: float) -> None:
    """Draw one density above its line, and mark and intervals on the line."""
    x = part["value"].to_numpy(dtype=float)
    y = base + _TALL * part["density"].to_numpy(dtype=float) / top
    low = x <= threshold
    ax.fill_between(x, base, y, color=FAINT, alpha=0.45, linewidth=0, zorder=2, label="_density")
    ax.fill_between(x[low], base, y[low], color=PALETTE[2], alpha=0.45, linewidth=0, zorder=2,
                    label="_below")  # fmt: skip
    if "prior_density" in part:
        prior = base + _TALL * part["prior_density"].to_numpy(dtype=float) / top
        ax.plot(x, prior, color=INK, linewidth=1.0, linestyle=(0, (4, 2)), zorder=3,
                label="_prior")  # fmt: skip
    row = part.iloc[0]
    for ends, width in (("conf", 1.0), ("inner", 2.8)):
        span = [float(row[f"{ends}_low"]), float(row[f"{ends}_high"])]
        ax.plot(span, [base, base], color=PALETTE[0], linewidth=width, zorder=3,
                solid_capstyle="butt", label=f"_{ends}")  # fmt: skip
    ax.plot([float(row["estimate"])], [base], linestyle="none", marker="o", markersize=5,
            color=PALETTE[0], markeredgecolor="white", markeredgewidth=0.5, zorder=4,
            label="_mean")  # fmt: skip
