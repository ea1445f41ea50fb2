"""From moments to counts with trials or exposure, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from vbceval.bayes.cells import Cells, from_moments
from vbceval.bayes.counts.families import Counts, link
from vbceval.core.checks import Problems
from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.design import Design
from vbceval.moments import Moments

_WHOLE = 1e-6
"""How far a sum may be from a whole number, as a share of it, and be rounding."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CountCells:
    """
    What a model of counts reads; K cells, S strata.

    Parameters
    ----------
    cells : Cells
        Places, effects and baselines. Its ``y`` is the rate in percent of baseline, its
        ``exposure`` trials or exposure.
    family : {"binomial", "poisson", "negative_binomial"}
        Law of the counts.
    events, size : array, shape (K,)
        Counts, whole numbers; trials (binomial, whole) or exposure, positive.
    centre : array, shape (S,)
        Linear predictor of the baseline rate of each stratum: where priors of levels are centred.
    """

    cells: Cells
    family: Counts
    events: FloatArray
    size: FloatArray
    centre: FloatArray


def from_counts(
    moments: Moments,
    design: Design,
    family: Counts,
    *,
    baseline: Mapping[str, float] | float | None = None,
) -> CountCells:
    """
    Choose and check the cells of a design whose outcome is a count.

    The count of a cell is its weighted sum of the outcome: of 0/1 rows, of rows that count events,
    or of a rate whose weight is its denominator. Trials or exposure are the exposure of the data,
    or their weights where there is none.

    Parameters
    ----------
    moments : Moments
        Cells by unit, period and stratum.
    design : Design
        As in `vbceval.bayes.cells.from_moments`.
    family : {"binomial", "poisson", "negative_binomial"}
        Law of the counts.
    baseline : float or mapping of stratum to float, optional
        Events per trial or unit of exposure before entry. Default: that of the treated in the data.

    Returns
    -------
    CountCells

    Raises
    ------
    DataError
        If the outcome is not a count, or trials or exposure do not fit it; with everything wrong.
    DesignError
        If the design asks for what the model does not do, or cells cannot answer it.
    """
    rates = _rates(moments, design, family)
    # the spread of persons has no place in a model of counts: any number gives the same cells
    cells = from_moments(rates, design, person_sd=1.0, baseline=baseline)
    base = cells.baseline
    if family == "binomial" and not (base < 1).all():
        raise DesignError(
            "the baseline rate is 1 in a stratum, so there are no odds to change. Leave the "
            "stratum out, or give `baseline` as events per trial, below 1."
        )
    events = np.round(cells.y * base[cells.stratum] / 100.0 * cells.exposure)
    return CountCells(
        cells=cells, family=family, events=events, size=cells.exposure, centre=link(family, base)
    )


def _rates(moments: Moments, design: Design, family: Counts) -> Moments:
    """Return moments of the rate, weighted by trials or exposure, after checks of the counts."""
    problems = Problems(f"the outcome `{design.outcome}`")
    j = moments.column(design.outcome)
    outcome, w = moments.y_mean[:, j], moments.w
    size = w if moments.exposure is None else moments.exposure
    events = outcome * w
    seen = ~np.isnan(events)
    if moments.exposure is not None and not (np.all(w == moments.n) or np.allclose(w, size)):
        problems.add(
            "rows have weights beside an exposure, so events and exposure would be weighted "
            "differently. Leave the weights out: a count needs its denominator alone."
        )
    single = seen & (moments.n == 1)
    if (
        moments.exposure is None and single[seen].all() and (w[seen] > 1).all()
        and (outcome[seen] > 0).any() and np.all(outcome[seen] == np.round(outcome[seen]))
    ):  # fmt: skip
        problems.add(
            "it is a whole number in every row, and so a count, but rows have weights by which it "
            "would be multiplied. Pass the denominator as `exposure` and leave `weight` out."
        )
    away = np.abs(events - np.round(events)) > _WHOLE * np.maximum(1.0, np.abs(events))
    _add(problems, seen & away, "have a sum that is not a whole number: a weighted or rounded rate "
         "is not a count. Pass counts with their denominator as `exposure`")  # fmt: skip
    _add(problems, seen & (events < 0), "are negative. A count is 0 or more")
    _add(problems, seen & ((size < 0) | ((size == 0) & (np.abs(events) > _WHOLE))),
         "have events and no trials or exposure, or a negative number of them")  # fmt: skip
    if family == "binomial":
        more = events > size * (1 + _WHOLE)
        _add(problems, seen & more & (size > 0), "have more events than trials. Use "
             "family='poisson' where a trial can have several")  # fmt: skip
        parts = np.abs(size - np.round(size)) > _WHOLE * np.maximum(1.0, size)
        _add(problems, seen & parts, "have trials that are not whole numbers: weights are no "
             "counts of trials. Pass trials as `exposure`, or use family='poisson'")  # fmt: skip
        _add(problems, seen & ~more & _not_zero_or_one(moments, j, outcome),
             "are of rows with other values than 0 and 1, which are no trials. Use "
             "family='poisson'")  # fmt: skip
    problems.raise_if_any()
    means = moments.y_mean.copy()
    means[:, j] = np.round(events) / np.where(size > 0, size, np.nan)
    return replace(moments, y_mean=means, w=size, exposure=None)


def _add(problems: Problems, wrong: BoolArray, what: str) -> None:
    n = int(np.sum(wrong))
    if n:
        problems.add(f"{n:,} of {len(wrong):,} cells {what}.")


def _not_zero_or_one(moments: Moments, j: int, mean: FloatArray) -> BoolArray:
    """Return where sums of squares show that trials of a cell were not each 0 or 1."""
    if moments.yy is None or moments.exposure is not None:
        return np.zeros(len(mean), dtype=bool)
    should = moments.w * mean * (1.0 - mean)
    found = moments.yy[:, j]
    return np.asarray(np.abs(found - should) > _WHOLE * np.maximum(1.0, moments.w))
