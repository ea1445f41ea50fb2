"""Posterior predictive checks of the hierarchical model: does it make data like those observed?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.bayes.cells import Cells, calendar_steps
from vbceval.bayes.draws import Parameters
from vbceval.bayes.likelihood import Scales
from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray, IntArray

_ROUNDING = 1e-12
_LEAST, _MOST = 0.01, 9.0
"""Variance of residuals over that of replicated ones: what an intended model may show."""


class Discrepancy(NamedTuple):
    """
    Statistics of residuals within units, observed and replicated at the same draws.

    Parameters
    ----------
    names : tuple of str
        ``variance[stratum]``: mean square of residuals, each times the precision of its cell.
        ``lag_one``: correlation of an organization's residuals in successive periods; too high
        where lasting shocks are missing from the model. ``extreme``: share of cells beyond three
        standard deviations of their stratum; too high where tails are heavier than normal.
    observed, replicated : array, shape (draws, statistics)
        Values at each draw.
    """

    names: tuple[str, ...]
    observed: FloatArray
    replicated: FloatArray

    @property
    def p_value(self) -> FloatArray:
        """Probability that replicated data are at least as large; near 0 or 1 is a misfit."""
        return np.asarray((self.replicated >= self.observed).mean(axis=0))

    def require_scale(self) -> None:
        """
        Refuse a model whose noise is of another scale than the residuals it is to explain.

        Raises
        ------
        EstimationError
            If residuals of a stratum vary less than a hundredth of what the model says, or more
            than nine times as much: intervals would then be 10 times too wide, 3 times too narrow.
        """
        wrong = []
        means = self.observed.mean(axis=0), self.replicated.mean(axis=0)
        for name, observed, replicated in zip(self.names, *means, strict=True):
            # where no unit has two cells both are rounding, and say nothing
            if not name.startswith("variance[") or max(observed, replicated) < _ROUNDING:
                continue
            if not _LEAST < observed / replicated < _MOST:
                wrong.append(f"{name[9:-1]} {observed / replicated:.2g}")
        if wrong:
            raise EstimationError(
                "variance of residuals, as a multiple of what the fitted model says, by stratum: "
                f"{', '.join(wrong)} (trusted between {_LEAST:g} and {_MOST:g}). Far below, "
                "`person_sd` is too large or weights are not numbers of persons; far above, "
                "`person_sd` is too small, or organizations have shocks that the model leaves out. "
                "Check units, or use shocks='ar1'."
            )


def check(parameters: Parameters, chosen: IntArray, rng: np.random.Generator) -> Discrepancy:
    """
    Compare residuals with those of data simulated from the model.

    Parameters
    ----------
    parameters : Parameters
        Draws, with their cells.
    chosen : array of int
        Which draws.
    rng : Generator
        Source of the replicated data.
    """
    cells = parameters.cells
    block = _codes(cells.unit, cells.stratum)
    shared = restated(cells)
    observed = [_statistics(cells, block, parameters.residual(int(d))) for d in chosen]
    replicated = [
        _statistics(cells, block, simulate(cells, shared, parameters.scales(int(d)), rng))
        for d in chosen
    ]
    names = (*[f"variance[{name}]" for name in cells.coords["stratum"]], "lag_one", "extreme")
    return Discrepancy(names, np.array(observed), np.array(replicated))


def restated(cells: Cells) -> IntArray:
    """Return codes of organization x stratum x period, whose cells share noise, shape (K,)."""
    return _codes(cells.cluster, cells.stratum, cells.period)


def _codes(*keys: IntArray) -> IntArray:
    return np.unique(np.column_stack(keys), axis=0, return_inverse=True)[1].ravel()


def _statistics(cells: Cells, block: IntArray, residual: FloatArray) -> FloatArray:
    w = cells.layout.precision
    e = residual - (np.bincount(block, w * residual) / np.bincount(block, w))[block]
    square = w * e**2
    counts = np.bincount(cells.stratum)
    variance = np.bincount(cells.stratum, square) / counts
    extreme = (square > 9.0 * variance[cells.stratum]).mean()
    t = len(cells.periods)
    place = cells.cluster * t + cells.period
    size = len(cells.clusters) * t
    weight = np.bincount(place, w, minlength=size)
    total = np.bincount(place, w * e, minlength=size)
    mean = np.divide(total, weight, out=np.full(size, np.nan), where=weight > 0).reshape(-1, t)
    pairs = mean[:, 1:] * mean[:, :-1]
    lag = np.nanmean(pairs) / np.nanmean(mean**2)
    return np.append(variance, [lag, extreme])


def simulate(
    cells: Cells, shared: IntArray, scales: Scales, rng: np.random.Generator
) -> FloatArray:
    """Return residuals of one replicated data set, up to the intercepts of blocks, shape (K,)."""
    steps = calendar_steps(cells.periods)
    correlation = np.power(float(scales.rho), np.abs(steps[:, None] - steps))
    root = np.linalg.cholesky(correlation + 1e-10 * np.eye(len(steps)))
    size = (len(cells.clusters), cells.n_strata + 1, len(steps))
    shocks = rng.standard_normal(size) @ root.T
    shocks[:, 0] *= np.sqrt(scales.common)
    shocks[:, 1:] *= np.sqrt(scales.specific)
    own = np.sqrt(scales.lasting) * rng.standard_normal(len(cells.clusters))
    variance = scales.person[cells.stratum] ** 2 / cells.layout.precision
    spread = np.bincount(shared, variance) / np.bincount(shared)
    joint = np.sqrt(scales.overlap * spread) * rng.standard_normal(len(spread))
    return np.asarray(
        shocks[cells.cluster, 0, cells.period]
        + shocks[cells.cluster, cells.stratum + 1, cells.period]
        + own[cells.cluster] * cells.layout.treated
        + joint[shared]
        + np.sqrt((1.0 - scales.overlap) * variance) * rng.standard_normal(len(cells.y))
    )
