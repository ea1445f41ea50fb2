"""What to expect of a new program: probabilities of savings and of savings beyond thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from vbceval import figures
from vbceval.figures.records import record
from vbceval.figures.style import get_style
from vbceval.study.context import StudyContext
from vbceval.study.pooled import monte_carlo
from vbceval.study.pooled.model import Pooled

_POINTS = 201


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
        ``estimand`` ("type_mean", "predictive"), ``program_type``, and for each threshold the
        probability (``below_1``: below -1 percent) and its Monte Carlo standard error.
    """
    rows = []
    for estimand in ("type_mean", "predictive"):
        for kind in fit.types:
            below = fit.draws(estimand, kind)[:, None] < np.asarray(thresholds, dtype=float)
            error = monte_carlo.error(below.astype(float), monte_carlo.mean, fit.chains)
            names = [below_name(limit) for limit in thresholds]
            row: dict[str, object] = {"estimand": estimand, "program_type": kind}
            row |= dict(zip(names, below.mean(axis=0), strict=True))
            row |= {f"mcse_{name}": mcse for name, mcse in zip(names, error, strict=True)}
            rows.append(row)
    table = pd.DataFrame(rows)
    shares = [below_name(limit) for limit in thresholds]
    ctx.table(
        "probabilities", table, keys=["estimand", "program_type"],
        title="Posterior probability that the effect is below a threshold",
        formats={**dict.fromkeys(shares, ".2f"), **{f"mcse_{c}": ".3f" for c in shares}},
        note="`below_1`: below -1 percent of baseline. `type_mean`: the mean effect of programs of "
        "a type. `predictive`: the true effect of one new program, which varies around that mean.",
    )  # fmt: skip
    _draw(ctx, fit, thresholds, predicted)
    return table


def below_name(threshold: float) -> str:
    """Return the name of the column with the probability below a threshold of 0 or less."""
    return f"below_{abs(threshold):g}"


def _draw(
    ctx: StudyContext, fit: Pooled, thresholds: Sequence[float], predicted: Sequence[str]
) -> None:
    labels = ctx.settings["labels"]
    draws = {f"New program: {labels[kind].lower()}": fit.draws("predictive", kind)
             for kind in predicted}  # fmt: skip
    words: dict[str, Any] = {
        "outcome": "spending", "unit": "percent of baseline", "meta": fit.estimates.meta,
        "labels": {"spending": "total spending"}, "style": get_style("jama", language="effect"),
    }  # fmt: skip
    ends = np.quantile(np.concatenate(list(draws.values())), [0.01, 0.99])
    low, high = float(np.floor(ends[0])), float(np.ceil(ends[1]))
    density = figures.posterior_density(draws, **words)
    for ax in density.axes:
        ax.set_xlim(low, high)
    ctx.figure(
        "predictive", density, title="Predictive distribution of the true effect of a new program",
        note=f"{record(density).note} The axis ends where less than 1% of the draws lie beyond.",
    )  # fmt: skip
    ctx.figure(
        "threshold_curve",
        figures.threshold_curve(draws, np.linspace(low, high, _POINTS), marks=thresholds, **words),
        title="Probability that a new program's effect is below each threshold",
    )  # fmt: skip
