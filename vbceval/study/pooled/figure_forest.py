"""The forest plot of printed effects, type means and new programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import special

from vbceval import figures
from vbceval.figures.style import get_style

if TYPE_CHECKING:
    from vbceval.figures.canvas import Figure
    from vbceval.study.pooled.model import Pooled


def forest(fit: Pooled, predicted: list[str], *, labels: Mapping[str, str], level: float) -> Figure:
    """
    Draw each effect with its interval, the mean of its type, and a new program.

    Rows of a type are ordered by standard error. An effect of which only an upper bound of the
    standard error is known has the widest interval that agrees with the bound, and says so.

    Parameters
    ----------
    fit : Pooled
        The headline fit.
    predicted : list of str
        Program types for which a new program is shown.
    labels : mapping
        Words for the program types.
    level : float
        Level of intervals.
    """
    style = get_style("jama", language="effect")
    parts = [_printed(fit, kind, labels[kind], level) for kind in fit.types]
    rows = []
    for kind, part in zip(fit.types, parts, strict=True):
        rows.append(part)
        rows.append(_posterior(fit, "type_mean", kind, "Mean", "pooled", labels[kind], level))
        if kind in predicted:
            rows.append(
                _posterior(
                    fit, "predictive", kind, "New program", "predictive", labels[kind], level
                )
            )
    overall = "Mean over types, each counting once"
    rows.append(_posterior(fit, "mean_effect", None, overall, "pooled", "All types", level))
    table = pd.concat(rows, ignore_index=True).assign(
        outcome="spending", unit_of_measure="percent of baseline"
    )
    return figures.forest(
        table, level=level, style=style, meta=fit.estimates.meta,
        labels={"spending": "total spending"},
    )  # fmt: skip


def _printed(fit: Pooled, kind: str, heading: str, level: float) -> pd.DataFrame:
    part = fit.effects[fit.effects["program_type"] == kind]
    known = part["se_percent"].notna()
    error = part["se_percent"].fillna(part["se_percent_high"])
    half = float(special.ndtri((1 + level) / 2)) * error
    label = part["label"].str.replace("..", " to ", regex=False)
    label = label.where(known, label + ": widest interval that its P value allows")
    table = pd.DataFrame(
        {
            "heading": heading, "label": label, "kind": "estimate",
            "estimate": part["percent_effect"], "std_error": error,
            "conf_low": part["percent_effect"] - half, "conf_high": part["percent_effect"] + half,
            "interval": "confidence", "level": level, "probability": np.nan,
        }
    )  # fmt: skip
    return table.sort_values("std_error", kind="stable")


def _posterior(
    fit: Pooled, estimand: str, kind: str | None, label: str, mark: str, heading: str, level: float
) -> pd.DataFrame:
    draws = fit.draws(estimand, kind)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return pd.DataFrame(
        [
            {"heading": heading, "label": label, "kind": mark, "estimate": draws.mean(),
             "std_error": draws.std(), "conf_low": low, "conf_high": high,
             "interval": "credible", "level": level, "probability": (draws < 0).mean()}
        ]
    )  # fmt: skip
