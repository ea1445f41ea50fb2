"""Parametric bootstrap of the generalized synthetic control (Xu 2017, algorithm of section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vbceval.core.errors import EstimationError
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.did.synthetic.cohorts import Cohort
from vbceval.did.synthetic.counterfactual import Estimate, Model, cohort_effects, estimate
from vbceval.did.synthetic.factors import Rank, fit_factors
from vbceval.did.synthetic.loadings import basis, gaps, remainder
from vbceval.did.synthetic.wide import Wide


def prediction_errors(
    wide: Wide, cohort: Cohort, untreated: BoolArray, model: Model, rank: Rank, found: Estimate
) -> FloatArray:
    """
    Return what is missed of each donor when it is treated as the cohort is, shape (N0, T).

    Factors come from the other donors, loadings from the periods before entry of the cohort.
    """
    donors = cohort.donors
    before = untreated[cohort.treated].any(axis=0)[None, :]
    out = np.empty((len(donors), len(wide.periods)))
    for i, donor in enumerate(donors):
        rest = np.delete(donors, i)
        start = np.delete(found.fit.fitted, i, axis=0)
        fit = fit_factors(wide.y[rest], wide.x[rest], untreated[rest], rank, model.effects, start)
        left = remainder(wide.y[[donor]], wide.x[[donor]], fit)
        out[i] = gaps(left, before, basis(fit, model.effects))[0]
    return out


def require_complete(wide: Wide, cohorts: Sequence[Cohort]) -> None:
    """
    Check that whole residual paths can be drawn.

    Raises
    ------
    EstimationError
        If donors or the treated miss a period, or there are fewer than three donors.
    """
    rows = np.concatenate([cohorts[0].donors, *[c.treated for c in cohorts]])
    lost = ~np.isfinite(wide.y[rows]).all(axis=1)
    if lost.any():
        raise EstimationError(
            f"the parametric bootstrap draws whole paths of residuals, and {int(lost.sum()):,} "
            "organizations miss a period. Use vcov='bootstrap' or 'jackknife'."
        )
    if len(cohorts[0].donors) < 3:
        raise EstimationError(
            f"there are {len(cohorts[0].donors)} donors, and the parametric bootstrap leaves each "
            "out in turn and needs 3. Use vcov='none'."
        )


def draws(
    wide: Wide,
    cohorts: Sequence[Cohort],
    untreated: BoolArray,
    model: Model,
    rank: Rank,
    found: Estimate,
    paths: Sequence[tuple[FloatArray, FloatArray]],
) -> FloatArray:
    """
    Return effects estimated where there is none, shape (B, k).

    Donors are fitted values plus whole paths of residuals of donors; the treated are their
    counterfactual plus whole paths of prediction errors; then all is estimated again.

    Parameters
    ----------
    wide, cohorts, untreated, model, rank, found
        The stratum and its estimate.
    paths : sequence of (array, array)
        For each of B replicates, which donor's path each donor, shape (N0,), and each treated
        organization, shape (N1,), takes: numbers in [0, 1).
    """
    donors = cohorts[0].donors
    residual = wide.y[donors] - found.fit.fitted
    errors = [prediction_errors(wide, c, untreated, model, rank, found) for c in cohorts]
    out = []
    for of_donors, of_treated in paths:
        y = np.array(wide.y)
        y[donors] = found.fit.fitted + residual[_place(of_donors, len(donors))]
        used = 0
        for cohort, error in zip(cohorts, errors, strict=True):
            mine = of_treated[used : used + len(cohort.treated)]
            used += len(mine)
            rows = cohort.treated
            y[rows] = wide.y[rows] - found.gap[rows] + error[_place(mine, len(donors))]
        again = estimate(
            wide._replace(y=y), cohorts, untreated, model, rank, start=found.fit.fitted
        )
        out.append(cohort_effects(wide, cohorts, again.gap))
    return np.array(out)


def _place(number: FloatArray, size: int) -> np.ndarray:
    return np.floor(number * size).astype(np.int64)
