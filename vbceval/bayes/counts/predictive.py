"""Posterior predictive checks of counts: residuals of observed and of replicated ones."""

from __future__ import annotations

import numpy as np

from vbceval.bayes.counts.cells import CountCells
from vbceval.bayes.counts.families import draw_counts, rate
from vbceval.bayes.predictive import Discrepancy
from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray

_MOST = 4.0
"""Dispersion of residuals over that of replicated ones: what an intended model may show."""


def discrepancy(data: CountCells, observed: FloatArray, replicated: FloatArray) -> Discrepancy:
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
    observed, replicated : array, shape (draws, statistics)
        Of `residual_statistics`.
    """
    strata = [f"dispersion[{name}]" for name in data.cells.coords["stratum"]]
    return Discrepancy((*strata, "lag_one", "extreme", "zero"), observed, replicated)


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
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """
    Return statistics of observed and of replicated counts at one draw, and the latter, (K,).

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
    first, second = (_statistics(data, y, (y - mean) / scale) for y in (data.events, again))
    return first, second, again


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
