"""What two-way fixed effects average: each two-by-two comparison against its weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.figures import canvas, notes
from vbceval.figures.numbers import digits_for, number
from vbceval.figures.records import FigureRecord, attach
from vbceval.figures.sources import Source
from vbceval.figures.style import INK, Style, get_style, series_look
from vbceval.figures.wording import (
    Labels,
    currency,
    effect_label,
    in_sentence,
    listing,
    one_line,
    sign_convention,
)

if TYPE_CHECKING:
    from vbceval.design import Design
    from vbceval.figures.canvas import Figure
    from vbceval.sensitivity import Decomposition

_KINDS = {
    "treated_vs_never": "Entrants against never treated",
    "treated_vs_always": "Entrants against always treated",
    "earlier_vs_later": "Earlier against later entrants",
    "later_vs_earlier": "Later against earlier entrants",
    "between": "Between cohorts",
    "within": "Within cohorts",
}
_NEGLIGIBLE = 0.005
_TREATED = ("treated_vs_always", "later_vs_earlier")
_PLOT_MM = 72.0
_MANY = 60


def decomposition(
    parts: Decomposition,
    *,
    design: Design | None = None,
    style: str | Style = "jama",
    labels: Labels | None = None,
) -> Figure:
    """
    Draw two-by-two estimates against their weights in a two-way fixed effects coefficient.

    Marks show the kind of comparison; a line in the pattern of each kind is its weighted mean, and
    the solid line the coefficient, which is the weighted mean of all marks. A kind whose weight is
    below 0.005 is in the note and not drawn.

    Parameters
    ----------
    parts : Decomposition
        From `vbceval.sensitivity.bacon`.
    design : Design, optional
        The design that was decomposed: its outcome and unit of measure label the axis, its
        covariates are named in the note. Without it the unit is said to be missing.
    style : str or Style, default "jama"
        Publication style.
    labels : mapping, optional
        Words for the outcome and for kinds of comparison, such as ``treated_vs_never``.

    Returns
    -------
    Figure
        A matplotlib figure with its record attached (see `vbceval.figures.record`). There are no
        intervals: the parts of a decomposition are descriptive.
    """
    look = get_style(style)
    outcome = "" if design is None else design.outcome
    unit = "" if design is None else design.unit_of_measure or ""
    data = _data(parts, outcome, unit, labels)
    label = effect_label(outcome, unit, look, labels)
    prefix = currency(unit)
    digits = digits_for(data["estimate"].abs() / 20)
    every = _kinds(data, look, digits, prefix)
    kinds = [k for k in every if k.weight >= _NEGLIGIBLE]
    coefficient = number(parts.estimate, look, digits=digits, prefix=prefix)
    with canvas.drawing(look):
        fig = _draw(data, kinds, look, label, prefix, f"Coefficient {coefficient}")
    meta = _meta(design)
    small = listing([in_sentence(k.words) for k in every if k.weight < _NEGLIGIBLE])
    note = notes.join([
        notes.sign_sentence(sign_convention(outcome, unit, labels)),
        f"Solid line: the coefficient of two-way fixed effects, {coefficient}, the weighted mean of "
        "all marks; other lines: weighted mean of each kind. Weights add up to 1 "
        "(Goodman-Bacon 2021)",
        _treated(every),
        f"Not drawn, of weight below {_NEGLIGIBLE:g}: {small}" if small else "",
        *notes.fit_sentences(Source(frame=data, level=None, meta=meta), look),
    ])  # fmt: skip
    alt = (
        f"Estimates of {len(data)} parts of a two-way fixed effects coefficient of {coefficient} "
        f"against their weights. {one_line(label)}. "
        f"{'; '.join(f'{k.words}: {k.said}' for k in kinds)}."
    )
    return attach(
        fig,
        FigureRecord(
            kind="decomposition", data=data, note=note, alt=alt, style=look.name,
            provenance=notes.provenance(meta),
        ),
    )  # fmt: skip


class _Kind(NamedTuple):
    """A kind of comparison: its name in the data, words, total weight, weighted mean, both said."""

    name: str
    words: str
    weight: float
    mean: float
    said: str


def _data(parts: Decomposition, outcome: str, unit: str, labels: Labels | None) -> pd.DataFrame:
    frame = parts.comparisons
    out = frame[["comparison", "cohort", "weight", "estimate", "n_units"]].copy()
    out.insert(1, "kind", [(labels or {}).get(k, _KINDS[k]) for k in frame["comparison"]])
    out.insert(3, "comparison_cohort", [
        None if pd.isna(g) else _other(float(o))
        for g, o in zip(frame["cohort"], frame["comparison_cohort"], strict=True)
    ])  # fmt: skip
    # what has no weight has no estimate either: covariates may take all variation of a part
    out["estimate"] = out["estimate"].where(out["weight"] > 0)
    return out.assign(
        coefficient=parts.estimate, outcome=outcome or None, unit_of_measure=unit or None
    )


def _other(cohort: float) -> str:
    if np.isnan(cohort):
        return "never treated"
    return "always treated" if np.isneginf(cohort) else f"{cohort:g}"


def _kinds(data: pd.DataFrame, style: Style, digits: int, prefix: str) -> list[_Kind]:
    """Return the kinds that have weight, in their order."""
    out = []
    live = data[data["weight"] > 0]
    for name in live["comparison"].unique():
        part = live[live["comparison"] == name]
        weight = float(part["weight"].sum())
        mean = float((part["weight"] * part["estimate"]).sum()) / weight
        said = f"weight {weight:.2f}, mean {number(mean, style, digits=digits, prefix=prefix)}"
        out.append(_Kind(str(name), str(part["kind"].iloc[0]), weight, mean, said))
    return out


def _treated(kinds: list[_Kind]) -> str:
    present = [k for k in kinds if k.name in _TREATED]
    if not present:
        return ""
    return (
        f"Comparisons of {listing([in_sentence(k.words) for k in present])} use cells as untreated "
        f"that are treated already; their weight is {sum(k.weight for k in present):.2f}"
    )


def _meta(design: Design | None) -> dict[str, Any]:
    """Return what of the design the decomposition uses: it makes comparisons of its own."""
    if design is None:
        return {"estimator": "TWFE"}
    used = {
        "outcome": design.outcome, "unit_of_measure": design.unit_of_measure,
        "covariates": tuple(design.covariates),
        "weight": None if design.balance_weights is None else "balance weights",
    }  # fmt: skip
    return {"estimator": "TWFE", "design": used}


def _draw(
    data: pd.DataFrame, kinds: list[_Kind], style: Style, label: str, prefix: str, coefficient: str
) -> Figure:
    fig = canvas.new_figure(style.page_mm * 0.86, _PLOT_MM + 4.0 * (len(kinds) + 1))
    ax = fig.subplots(1, 1)
    canvas.zero_line(ax)
    for i, kind in enumerate(kinds):
        part = data[data["comparison"] == kind.name]
        colour, marker, dashes = series_look(i, what="the decomposition")
        # the coefficient alone has an unbroken line
        pattern: Any = dashes if i else (0, (9, 2))
        mark: dict[str, Any] = {
            "marker": marker, "markersize": 5.5 if len(data) <= _MANY else 3.8, "color": colour,
            "markeredgecolor": "white", "markeredgewidth": 0.6,
        }  # fmt: skip
        ax.axhline(kind.mean, color=colour, linewidth=1.1, linestyle=pattern, zorder=2,
                   label="_mean")  # fmt: skip
        ax.plot(part["weight"], part["estimate"], linestyle="none", zorder=4, label="_comparison",
                **mark)  # fmt: skip
        ax.plot([], [], linewidth=1.1, linestyle=pattern, label=f"{kind.words}: {kind.said}",
                **mark)  # fmt: skip
    ax.axhline(float(data["coefficient"].iloc[0]), color=INK, linewidth=1.5, zorder=3,
               label=coefficient)  # fmt: skip
    canvas.tidy_axes(ax, style)
    ax.set_xlim(0.0, 1.06 * float(data["weight"].max()))
    canvas.number_axis(ax, "x", style)
    canvas.number_axis(ax, "y", style, prefix=prefix)
    canvas.axis_label(ax, "y", label, style, length_mm=_PLOT_MM - 16.0)
    ax.set_xlabel("Weight")
    canvas.legend_above(ax, style, width_mm=0.7 * style.page_mm)
    return canvas.finish(fig)
