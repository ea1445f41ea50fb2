"""Posterior predictive checks of the hierarchical model: does it make data like those observed?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.bayes.cells import Cells, calendar_steps, codes
from vbceval.bayes.draws import Parameters
from vbceval.bayes.likelihood import Scales
from vbceval.core.errors import EstimationError
from vbceval.core.typing import BoolArray, FloatArray, IntArray

_ROUNDING = 1e-12
_KEPT = 20_000_000
"""Replicated cells that are kept, over all draws: 160 megabytes."""
_LEAST, _MOST = 0.01, 9.0
"""Variance of residuals over that of replicated ones: what an intended model may show."""


class Places(NamedTuple):
    """
    Statistics of residuals by stratum, and by stratum and period, observed and replicated.

    Parameters
    ----------
    statistic, stratum : tuple of str
        Of each of P places. ``variance``: mean square of residuals, each times the precision of its
        cell. ``extreme``: share of cells beyond three standard deviations of their stratum. Only by
        stratum: ``lag_one``, correlation of an organization's residuals in successive periods;
        ``icc``, correlation of its residuals in a period with those of its other strata.
    period : array, shape (P,)
        Missing for all periods.
    n_cells : array, shape (P,)
        Cells behind each.
    observed, replicated : array, shape (draws, P)
        Values at each draw; missing where a place has no such pair of cells.
    """

    statistic: tuple[str, ...]
    stratum: tuple[str, ...]
    period: FloatArray
    n_cells: FloatArray
    observed: FloatArray
    replicated: FloatArray


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
    places : Places, optional
        The same by stratum and period.
    """

    names: tuple[str, ...]
    observed: FloatArray
    replicated: FloatArray
    places: Places | None = None

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
    block = codes(cells.unit, cells.stratum)
    shared = restated(cells)
    found: list[list[FloatArray]] = [[], [], [], []]
    for d in chosen:
        new = simulate(cells, shared, parameters.scales(int(d)), rng)
        for i, residual in enumerate((parameters.residual(int(d)), new)):
            e = centred(cells, block, residual)
            found[i].append(_statistics(cells, e))
            found[2 + i].append(by_place(cells, e))
    names = (*[f"variance[{name}]" for name in cells.coords["stratum"]], "lag_one", "extreme")
    observed, replicated, *place_values = map(np.array, found)
    return Discrepancy(names, observed, replicated, Places(*place_keys(cells), *place_values))


def restated(cells: Cells) -> IntArray:
    """Return codes of organization x stratum x period, whose cells share noise, shape (K,)."""
    return codes(cells.cluster, cells.stratum, cells.period)


def thinned(n_draws: int, n_cells: int) -> IntArray:
    """Return which draws are replicated cell by cell: 200, or fewer where cells are many."""
    most = max(10, min(200, _KEPT // n_cells))
    return np.unique(np.linspace(0, n_draws - 1, min(n_draws, most)).astype(np.int64))


def replicated(parameters: Parameters, rng: np.random.Generator) -> FloatArray:
    """
    Return replicated cells at draws that `thinned` chooses, percent of baseline, shape (D, K).

    Intercepts are free, so that data say nothing of the mean of a unit and stratum: it is that of
    the observed cells, weighted by precision. Everything else is new.

    Parameters
    ----------
    parameters : Parameters
        Draws, with their cells.
    rng : Generator
        Source.
    """
    cells = parameters.cells
    block, shared = codes(cells.unit, cells.stratum), restated(cells)
    out = []
    for d in thinned(len(parameters), len(cells.y)):
        new = simulate(cells, shared, parameters.scales(int(d)), rng)
        out.append(cells.y + centred(cells, block, new - parameters.residual(int(d))))
    return np.array(out)


def centred(cells: Cells, block: IntArray, residual: FloatArray) -> FloatArray:
    """Return residuals minus the mean of their unit and stratum, whose intercept is free."""
    w = cells.layout.precision
    return np.asarray(residual - (np.bincount(block, w * residual) / np.bincount(block, w))[block])


def _statistics(cells: Cells, e: FloatArray) -> FloatArray:
    w = cells.layout.precision
    square = w * e**2
    variance = np.bincount(cells.stratum, square) / np.bincount(cells.stratum)
    extreme = (square > 9.0 * variance[cells.stratum]).mean()
    lag = _lag(_means(cells, e, np.ones(len(e), dtype=bool)))
    return np.append(variance, [lag, extreme])


def _means(cells: Cells, e: FloatArray, some: BoolArray) -> FloatArray:
    """Return weighted means of some cells' residuals by organization and period, shape (C, T)."""
    t = len(cells.periods)
    size = len(cells.clusters) * t
    place, w = (cells.cluster * t + cells.period)[some], cells.layout.precision[some]
    weight = np.bincount(place, w, minlength=size)
    total = np.bincount(place, w * e[some], minlength=size)
    mean = np.divide(total, weight, out=np.full(size, np.nan), where=weight > 0)
    return np.asarray(mean.reshape(-1, t))


def _means_by_stratum(cells: Cells, e: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return what `_means` does of each stratum, and of all others than it, shape (S, C, T) each."""
    shape = cells.n_strata, len(cells.clusters), len(cells.periods)
    place = np.ravel_multi_index((cells.stratum, cells.cluster, cells.period), shape)
    w, size = cells.layout.precision, int(np.prod(shape))
    count, weight, total = (
        np.bincount(place, x, minlength=size).reshape(shape) for x in (np.ones(len(w)), w, w * e)
    )
    means = []
    # every cell is read once: what the others have is the sum less the stratum's own
    for n, below, above in (
        (count, weight, total),
        (count.sum(axis=0) - count, weight.sum(axis=0) - weight, total.sum(axis=0) - total),
    ):
        means.append(np.divide(above, below, out=np.full(shape, np.nan), where=n > 0))
    return means[0], means[1]


def _lag(mean: FloatArray) -> float:
    return _mean(mean[:, 1:] * mean[:, :-1]) / _mean(mean**2)


def _mean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else np.nan


def place_keys(cells: Cells) -> tuple[tuple[str, ...], tuple[str, ...], FloatArray, FloatArray]:
    """Return statistic, stratum, period and number of cells, in the order of `by_place`."""
    names, t = cells.coords["stratum"], len(cells.periods)
    per = np.bincount(cells.stratum, minlength=len(names)).astype(float)
    each = np.bincount(cells.stratum * t + cells.period, minlength=len(names) * t).astype(float)
    whole = ("lag_one", "icc", "variance", "extreme")
    statistic = [x for x in whole for _ in names] + [x for x in whole[2:] for _ in each]
    stratum = [x for _ in whole for x in names] + [x for _ in range(2) for x in np.repeat(names, t)]
    period = np.append(np.full(4 * len(names), np.nan), np.tile(cells.periods, 2 * len(names)))
    count = np.concatenate([np.tile(per, 4), np.tile(each, 2)])
    return tuple(statistic), tuple(map(str, stratum)), period, count


def by_place(cells: Cells, e: FloatArray) -> FloatArray:
    """Return the statistics of `Places` of residuals, shape (P,)."""
    strata, t = range(cells.n_strata), len(cells.periods)
    square = cells.layout.precision * e**2
    counts = np.bincount(cells.stratum)
    variance = np.bincount(cells.stratum, square) / counts
    far = (square > 9.0 * variance[cells.stratum]).astype(float)
    place, size = cells.stratum * t + cells.period, cells.n_strata * t
    each = np.bincount(place, minlength=size).astype(float)
    found = []
    for values in (square, far):
        total = np.bincount(place, values, minlength=size)
        found.append(np.divide(total, each, out=np.full(size, np.nan), where=each > 0))
    inside, others = _means_by_stratum(cells, e)
    lag = [_lag(mean) for mean in inside]
    alike = [_alike(inside[s], others[s]) for s in strata]
    extreme = np.bincount(cells.stratum, far) / counts
    return np.concatenate([lag, alike, variance, extreme, *found])


def _alike(one: FloatArray, other: FloatArray) -> float:
    """Return the correlation, about zero, of residuals that organizations have in both."""
    both = ~np.isnan(one) & ~np.isnan(other)
    if not both.any():
        return np.nan
    x, y = one[both], other[both]
    return float((x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum()))


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
    shocks[:, 1:] *= np.sqrt(scales.specific * np.ones(cells.n_strata))[:, None]
    shocks *= np.sqrt(scales.stretch * np.ones(len(shocks)))[:, None, None]
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
