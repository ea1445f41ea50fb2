"""Posterior predictive checks of counts: residuals of observed and of replicated ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vbceval.bayes.counts.cells import CountCells
from vbceval.bayes.counts.families import draw_counts, rate
from vbceval.bayes.predictive import Discrepancy, Places, by_place, place_keys
from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray

_MOST = 4.0
"""Dispersion of residuals over that of replicated ones: what an intended model may show."""


class Seen(NamedTuple):
    """
    What is seen at one draw, of observed and of replicated counts.

    Parameters
    ----------
    observed, replicated : array, shape (statistics,)
        Statistics of `discrepancy`.
    observed_place, replicated_place : array, shape (P,)
        Those of `vbceval.bayes.predictive.Places`, of Pearson residuals.
    counts : array, shape (K,)
        Replicated counts.
    """

    observed: FloatArray
    replicated: FloatArray
    observed_place: FloatArray
    replicated_place: FloatArray
    counts: FloatArray


def discrepancy(data: CountCells, found: Sequence[Seen]) -> Discrepancy:
    """
    Return statistics of counts given their linear predictors, with their names.

    ``dispersion[stratum]``: mean square of Pearson residuals; too high where shocks are missing
    from the model. ``lag_one``: correlation of an organization's residuals in successive periods.
    ``extreme``: share of cells beyond three standard deviations. ``zero``: share of cells without
    an event.

    Parameters
    ----------
    data : CountCells
        Counts.
    found : sequence of Seen
        Of `residual_statistics`, at each draw.
    """
    strata = [f"dispersion[{name}]" for name in data.cells.coords["stratum"]]
    observed, replicated, *at_places = (
        np.array([getattr(x, name) for x in found]) for name in Seen._fields[:4]
    )
    places = Places(*place_keys(data.cells), *at_places) if found else None
    return Discrepancy((*strata, "lag_one", "extreme", "zero"), observed, replicated, places)


def require_dispersion(found: Discrepancy) -> None:
    """
    Refuse a model whose counts vary much less around their means than those observed.

    Raises
    ------
    EstimationError
        If residuals of a stratum vary more than four times as much as replicated ones: intervals
        would then be half as wide as they should be.
    """
    means = found.observed.mean(axis=0), found.replicated.mean(axis=0)
    wrong = [
        f"{name[11:-1]} {o / r:.2g}"
        for name, o, r in zip(found.names, *means, strict=True)
        if name.startswith("dispersion[") and not o <= _MOST * r
    ]
    if wrong:
        raise EstimationError(
            f"counts vary more than the fitted model says, by stratum: {', '.join(wrong)} times "
            f"the variance of replicated ones (trusted up to {_MOST:g}). Organizations have shocks "
            "that the model leaves out, or events come in groups. Use shocks='ar1' or "
            "family='negative_binomial'."
        )


def residual_statistics(
    data: CountCells, eta: FloatArray, dispersion: float, rng: np.random.Generator
) -> Seen:
    """
    Return statistics of observed and of replicated counts at one draw.

    Parameters
    ----------
    data : CountCells
        Counts.
    eta : array, shape (K,)
        Linear predictors.
    dispersion : float
        Coefficient of variation of the rate of a cell.
    rng : Generator
        Source of the replicated counts.
    """
    again = draw_counts(data.family, eta, data.size, dispersion, rng)
    share = rate(data.family, eta)
    mean = data.size * share
    variance = mean * (1.0 - share) if data.family == "binomial" else mean
    if data.family == "negative_binomial":
        variance = variance + np.square(dispersion * mean)
    scale = np.sqrt(np.maximum(variance, 1e-12))
    both = [(y, (y - mean) / scale) for y in (data.events, again)]
    # squares of residuals by place are weighted by precision, which Pearson's have in them already
    root = np.sqrt(data.cells.layout.precision)
    first, second = (_statistics(data, y, residual) for y, residual in both)
    there, new = (by_place(data.cells, residual / root) for _, residual in both)
    return Seen(first, second, there, new, again)


def _statistics(data: CountCells, y: FloatArray, residual: FloatArray) -> FloatArray:
    cells = data.cells
    by_stratum = np.bincount(cells.stratum, residual**2) / np.bincount(cells.stratum)
    t = len(cells.periods)
    sums = np.bincount(
        cells.cluster * t + cells.period, residual, minlength=len(cells.clusters) * t
    ).reshape(-1, t)
    square = max(float(np.square(sums).mean()), 1e-12)
    lag = (sums[:, 1:] * sums[:, :-1]).mean() / square
    return np.append(by_stratum, [lag, (np.abs(residual) > 3.0).mean(), (y == 0).mean()])
