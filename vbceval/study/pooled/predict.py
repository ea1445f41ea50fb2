"""What to expect of a new program: probabilities of savings and of savings beyond thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from vbceval import figures
from vbceval.figures.style import get_style
from vbceval.study.context import StudyContext
from vbceval.study.pooled import monte_carlo
from vbceval.study.pooled.model import Pooled


def predict(
    ctx: StudyContext, fit: Pooled, *, thresholds: Sequence[float], predicted: Sequence[str]
) -> pd.DataFrame:
    """
    Give the probabilities that means and new programs lie below each threshold.

    Writes table ``probabilities`` and figures ``predictive`` (densities) and ``threshold_curve``.

    Parameters
    ----------
    ctx : StudyContext
        The run.
    fit : Pooled
        The headline fit.
    thresholds : sequence of float
        Percent of baseline; 0, -1: spending falls at all, by more than 1 percent.
    predicted : sequence of str
        Program types whose new program is drawn.

    Returns
    -------
    DataFrame
        ``estimand`` ("type_mean", "predictive"), ``program_type``, ``threshold``,
        ``probability``, ``mcse_probability``.
    """
    rows = []
    for estimand in ("type_mean", "predictive"):
        for kind in fit.types:
            below = fit.draws(estimand, kind)[:, None] < np.asarray(thresholds, dtype=float)
            error = monte_carlo.error(below.astype(float), monte_carlo.mean, fit.chains)
            rows += [
                {"estimand": estimand, "program_type": kind, "threshold": float(limit),
                 "probability": share, "mcse_probability": mcse}
                for limit, share, mcse in zip(thresholds, below.mean(axis=0), error, strict=True)
            ]  # fmt: skip
    table = pd.DataFrame(rows)
    ctx.table(
        "probabilities", table, keys=["estimand", "program_type", "threshold"],
        title="Posterior probability that the effect is below a threshold",
        formats={"probability": ".2f", "mcse_probability": ".3f"},
        note="Threshold in percent of baseline. `type_mean`: the mean effect of programs of a type. "
        "`predictive`: the true effect of one new program, which varies around that mean.",
    )  # fmt: skip
    _draw(ctx, fit, thresholds, predicted)
    return table


def _draw(
    ctx: StudyContext, fit: Pooled, thresholds: Sequence[float], predicted: Sequence[str]
) -> None:
    labels = ctx.settings["labels"]
    draws = {f"New program: {labels[kind].lower()}": fit.draws("predictive", kind)
             for kind in predicted}  # fmt: skip
    words: dict[str, Any] = {"outcome": "spending", "unit": "percent of baseline", "meta": fit.estimates.meta,
             "labels": {"spending": "total spending"},
             "style": get_style("jama", language="effect")}  # fmt: skip
    ctx.figure(
        "predictive", figures.posterior_density(draws, **words),
        title="Predictive distribution of the true effect of a new program",
    )  # fmt: skip
    ends = np.quantile(np.concatenate(list(draws.values())), [0.01, 0.99])
    grid = np.linspace(np.floor(ends[0]), np.ceil(ends[1]), 201)
    ctx.figure(
        "threshold_curve", figures.threshold_curve(draws, grid, marks=thresholds, **words),
        title="Probability that a new program's effect is below each threshold",
    )  # fmt: skip
