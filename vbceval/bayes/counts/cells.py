"""From moments to counts with trials or exposure, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from vbceval.bayes.cells import Cells, from_moments
from vbceval.bayes.counts.families import Counts, link
from vbceval.bayes.support import require_variation
from vbceval.core.checks import Problems
from vbceval.core.disclosure import say_people
from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.design import Design
from vbceval.moments import Moments

_WHOLE, _MOST = 1e-6, 0.01
"""How far a sum may be from a whole number and be rounding: as a share of it, and at all."""
_LARGEST = 1e8
"""Numbers in the covariances of random effects, over all organizations: a gigabyte an array."""
_EVENTS, _CELLS = 5.0, 20
"""Mean events of a cell, and cells, from which on equal rates in all periods are no chance."""


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
    cells = from_moments(rates, design, person_sd=1.0, baseline=baseline, rates=True)
    _require_room(cells)
    _require_variation(cells, design.outcome)
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
    # with a weight of 1 in every row nothing is multiplied, and one of 0 leaves a row out
    if (
        single[seen].all() and (w[seen & (w > 0)] != 1).any()
        and (outcome[seen] > 0).any() and np.all(outcome[seen] == np.round(outcome[seen]))
    ):  # fmt: skip
        problems.add(
            "it is a whole number in every row, and so a count, but rows have weights by which it "
            "would be multiplied. Pass the denominator as `exposure` and leave `weight` out."
        )

    def add(wrong: BoolArray, what: str) -> None:
        if n := int(wrong.sum()):
            said = say_people(n, "cells") if moments.people else f"{n:,} cells"
            problems.add(f"{said} of {len(wrong):,} {what}.")

    add(seen & (np.abs(events - np.round(events)) > _rounding(events)),
        "have a sum that is not a whole number: a weighted or rounded rate is not a count. Pass "
        "counts with their denominator as `exposure`")  # fmt: skip
    add(seen & (events < 0), "are negative. A count is 0 or more")
    add(seen & ((size < 0) | ((size == 0) & (np.abs(events) > _WHOLE))),
        "have events and no trials or exposure, or a negative number of them")  # fmt: skip
    if family == "binomial":
        more = events > size + _rounding(size)
        add(
            seen & more & (size > 0),
            "have more events than trials. Use family='poisson' where a trial can have several",
        )
        parts = np.abs(size - np.round(size)) > _rounding(size)
        add(seen & parts,
            "have trials that are not whole numbers: weights are no counts of trials. Pass trials "
            "as `exposure`, or use family='poisson'")  # fmt: skip
        add(seen & ~more & _not_zero_or_one(moments, j, outcome),
            "are of rows with other values than 0 and 1, which are no trials. Pass counts with "
            "their trials as `exposure`, or use family='poisson'")  # fmt: skip
        size = np.round(size)
    problems.raise_if_any()
    means = moments.y_mean.copy()
    means[:, j] = np.round(events) / np.where(size > 0, size, np.nan)
    return replace(moments, y_mean=means, w=size, exposure=None)


def _rounding(values: FloatArray) -> FloatArray:
    """Return how far values may be from whole numbers and be rounding."""
    return np.clip(_WHOLE * np.abs(values), _WHOLE, _MOST)


def _require_room(cells: Cells) -> None:
    """Refuse organizations of so many units, strata and periods that memory would run out."""
    pairs = np.unique(np.column_stack([cells.cluster, cells.unit]), axis=0)
    places = np.bincount(pairs[:, 0]) * float(cells.n_strata * len(cells.periods))
    if not np.square(places).sum() <= _LARGEST:
        raise DesignError(
            f"{len(places):,} organizations have up to {places.max():,.0f} units x strata x "
            "periods each, and random effects of one are worked on together: more than fits in "
            "memory. Sum rows to organizations (`Moments.from_panel(..., by='cluster')`), or take "
            "coarser periods."
        )


def _require_variation(cells: Cells, outcome: str) -> None:
    """Refuse rates that never change within a unit, where chance alone would change them."""
    table = pd.DataFrame({"unit": cells.unit, "stratum": cells.stratum, "y": cells.y})
    events = cells.y * cells.baseline[cells.stratum] / 100.0 * cells.exposure
    mean = np.bincount(cells.stratum, events) / np.bincount(cells.stratum)
    # five events or more are equal in two periods with a chance below one in five
    some = (mean >= _EVENTS) & (np.bincount(cells.stratum) >= _CELLS)
    require_variation(table[some[cells.stratum]], cells.strata, outcome)


def _not_zero_or_one(moments: Moments, j: int, mean: FloatArray) -> BoolArray:
    """Return where sums of squares show that trials of a cell were not each 0 or 1."""
    if moments.yy is None or moments.exposure is not None:
        return np.zeros(len(mean), dtype=bool)
    should = moments.w * mean * (1.0 - mean)
    found = moments.yy[:, j]
    return np.asarray(np.abs(found - should) > 10.0 * _rounding(moments.w))
