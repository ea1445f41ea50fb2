"""Number of factors, or shrinkage, by predicting outcomes of the treated before entry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.did.synthetic.cohorts import Cohort
from vbceval.did.synthetic.counterfactual import Model, estimate
from vbceval.did.synthetic.factors import Rank, fit_factors, take_effects
from vbceval.did.synthetic.loadings import basis, left_out_errors, remainder
from vbceval.did.synthetic.wide import Wide

IMPROVEMENT = 1e-3
"""More factors are taken only if they lower the prediction error by this share, as R `gsynth`."""

SHRINKAGES = 10
SMALLEST_SHRINKAGE = 1e-2
"""Shrinkages tried: from the largest singular value down to this share of it, equal ratios."""


class Choice(NamedTuple):
    """
    What cross-validation chose.

    Parameters
    ----------
    rank : Rank
        Factors or shrinkage.
    tried : list of Rank
        All that were tried.
    error : array
        Mean squared prediction error of each; infinite where the fit did not settle.
    """

    rank: Rank
    tried: list[Rank]
    error: FloatArray


def choose(
    wide: Wide,
    cohorts: Sequence[Cohort],
    untreated: BoolArray,
    model: Model,
    *,
    most: int,
    folds: int,
) -> Choice:
    """
    Choose factors or shrinkage.

    "gsc" leaves out one period before entry at a time of all treated organizations, factors kept,
    as R `gsynth`. "em" and "matrix_completion" leave out every `folds`-th period before entry at a
    time and fit everything again.

    Raises
    ------
    DesignError
        If the treated have too few periods before entry to choose.
    """
    treated = np.concatenate([c.treated for c in cohorts])
    shortest = int(untreated[treated].sum(axis=1).min())
    constant = model.per_unit(Rank(0))
    most = min(most, shortest - 1 - constant)
    if model.method == "gsc":
        if most < 1:
            # nothing to choose between: no factor can be fitted and one period left out
            return Choice(Rank(0), [Rank(0)], np.array([np.nan]))
        tried = [Rank(r) for r in range(most + 1)]
        return _first_best(tried, [_gsc_error(wide, cohorts, untreated, model, r) for r in tried])
    if shortest < folds:
        raise DesignError(
            f"a treated organization has {shortest} periods before entry, and they are left out in "
            f"{folds} parts. Give `n_factors` or `shrink`, or fewer `folds`."
        )
    if model.method == "em":
        per_fold = -(-shortest // folds)
        tried = [Rank(r) for r in range(max(min(most, shortest - per_fold - constant), 0) + 1)]
    else:
        largest = _largest_singular_value(wide, cohorts, untreated, model)
        steps = np.arange(SHRINKAGES) / (SHRINKAGES - 1)
        tried = [Rank(0, float(s)) for s in largest * SMALLEST_SHRINKAGE**steps]
    return _first_best(tried, _fold_errors(wide, cohorts, untreated, model, tried, folds))


def _first_best(tried: list[Rank], errors: list[float]) -> Choice:
    best, least = 0, errors[0]
    for i, error in enumerate(errors):
        if least - error > IMPROVEMENT * least:
            best, least = i, error
    return Choice(tried[best], tried, np.array(errors))


def _gsc_error(
    wide: Wide, cohorts: Sequence[Cohort], untreated: BoolArray, model: Model, rank: Rank
) -> float:
    treated = np.concatenate([c.treated for c in cohorts])
    fit = estimate(wide, cohorts, untreated, model, rank).fit
    left = remainder(wide.y[treated], wide.x[treated], fit)
    errors = left_out_errors(left, untreated[treated], basis(fit, model.effects))
    return float(np.mean(errors**2))


def _fold_errors(
    wide: Wide,
    cohorts: Sequence[Cohort],
    untreated: BoolArray,
    model: Model,
    tried: Sequence[Rank],
    folds: int,
) -> list[float]:
    """Return the error of each rank; every fit begins at the one before it."""
    treated = np.concatenate([c.treated for c in cohorts])
    order = np.cumsum(untreated[treated], axis=1)
    squared, count = np.zeros(len(tried)), 0
    for fold in range(folds):
        out = np.zeros(untreated.shape, dtype=bool)
        out[treated] = untreated[treated] & (order % folds == fold)
        count += int(out.sum())
        start = None
        for i, rank in enumerate(tried):
            if not np.isfinite(squared[i]):
                break
            try:
                found = estimate(wide, cohorts, untreated & ~out, model, rank, start)
            except EstimationError:
                squared[i:] = np.inf  # too many factors for these cells
                break
            squared[i] += float(np.sum(found.gap[out] ** 2))
            start = found.fit.fitted
    return [float(s) / count for s in squared]


def _largest_singular_value(
    wide: Wide, cohorts: Sequence[Cohort], untreated: BoolArray, model: Model
) -> float:
    """Return the shrinkage from which on nothing is left beside additive effects."""
    rows = np.concatenate([cohorts[0].donors, *[c.treated for c in cohorts]])
    fit = fit_factors(wide.y[rows], wide.x[rows], untreated[rows], Rank(0), model.effects)
    residual = np.where(untreated[rows], wide.y[rows] - fit.fitted, 0.0)
    return float(np.linalg.norm(residual - take_effects(residual, model.effects)[0], ord=2))
