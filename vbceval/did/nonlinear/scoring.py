"""Quasi-likelihood by iterated least squares on cells, one set of effects concentrated out."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import sparse

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import FloatArray
from vbceval.did.least_squares import Cells, Fit, least_squares
from vbceval.did.nonlinear.families import Family
from vbceval.did.regressors import Regressors

_MOST_STEPS = 100
_CONVERGED = 1e-11
_LARGEST_INDEX = 35.0
_MOST_HALVES = 40


class Scored(NamedTuple):
    """
    A converged fit.

    Parameters
    ----------
    fit : Fit
        The last weighted regression: its ``weighted`` residuals are w (y - mean) slope / variance,
        so its scores are those of the quasi-likelihood, and its ``inverse`` is the inverse of the
        expected information.
    eta : array, shape (K,)
        Index of each cell, eliminated effects included.
    steps : int
        Regressions needed.
    """

    fit: Fit
    eta: FloatArray
    steps: int


def score(cells: Cells, first: Fit, family: Family, outcome: str) -> Scored:
    """
    Maximise a quasi-likelihood.

    Exact for cells that are sums of rows as long as regressors do not vary within them: only the
    mean of the outcome and the weight of a cell enter.

    Parameters
    ----------
    cells : Cells
        K cells, one outcome, `absorbed` as in the regression.
    first : Fit
        Least squares of the same columns, which says what is collinear.
    family : Family
        Mean and variance.
    outcome : str
        Its name.

    Returns
    -------
    Scored
        Columns that least squares dropped have coefficient 0 and a zero column.

    Raises
    ------
    DesignError
        If a dummy has no event, or nothing but events: its coefficient has no finite value.
    EstimationError
        If the steps do not converge.
    """
    block, y = cells.block, cells.y[:, 0]
    family.check(outcome, y)
    _refuse_separated(first, y, block.w, family)
    # dropped columns stay in place, but are zero: positions of contrasts do not move; a product
    # would leave out covariates that are zero, and cells of a pattern hold the same columns
    mean = first.z.mean
    rows = sparse.csr_array(
        (mean.data * first.kept[mean.indices], mean.indices, mean.indptr), shape=mean.shape
    )
    z = replace(first.z, rows=rows, inner=(), own=np.zeros(len(first.kept)))
    plain = cells._replace(block=block._replace(xx=None, xy=None), xy=None, yy=None)
    eta = family.start(y, block.w)
    change = np.inf
    for step in range(1, _MOST_STEPS + 1):
        # the start is no combination of columns, so that its curvature says little
        newton = family.heavy and step > 1
        made = _step(plain, z, family, eta, newton=newton)
        if made is None:
            break
        found = made[1]
        moved = float(np.max(np.abs(found - eta)))
        size = 1.0 + float(np.max(np.abs(found)))
        if moved <= _CONVERGED * size or (moved <= 1e-8 * size and moved >= change):
            # the weighted residuals belong to the index before this last step
            last = _step(plain, z, family, eta, newton=False) if newton else made
            if last is None:
                break
            return Scored(last[0]._replace(dependent=first.dependent), eta, step)
        eta, change = _no_worse(family, y, block.w, eta, found) if newton else found, moved
        centre = np.average(eta, weights=block.w)
        if family.name != "gaussian" and np.max(np.abs(eta - centre)) > _LARGEST_INDEX:
            break
    raise EstimationError(
        f"the {family.name} regression of `{outcome}` does not converge: some combination of "
        "effects and covariates predicts the outcome exactly (separation), or a covariate is badly "
        "scaled. Merge cohorts or periods, leave a covariate out, or divide it by its standard "
        "deviation."
    )


def _step(
    cells: Cells, z: Regressors, family: Family, eta: FloatArray, *, newton: bool
) -> tuple[Fit, FloatArray] | None:
    """
    Return the weighted regression of one step and its index, None where weights leave none.

    Weights are the expected information; with `newton` the observed one. They are equal for
    canonical links; for gamma and Tweedie, steps by the expected one do not end where outcomes vary
    much about their means, which spending does.
    """
    y, w = cells.y[:, 0], cells.block.w
    slope = family.slope(eta)
    weight = w * slope * slope / family.variance(eta)
    away = (y - family.mean(eta)) / slope
    if newton:
        observed = w * family.curvature(eta, y)
        away, weight = away * weight / observed, observed
    working = eta + away
    if not (np.isfinite(weight).all() and np.isfinite(working).all() and (weight > 0).all()):
        return None
    own = cells._replace(block=cells.block._replace(w=weight), y=working[:, None])
    try:
        fit = least_squares(own, z)
    except EstimationError:
        # columns that were told apart before are so no more: weights of separated cells vanish
        return None
    return fit, working - fit.residual[:, 0]


def _no_worse(
    family: Family, y: FloatArray, w: FloatArray, eta: FloatArray, found: FloatArray
) -> FloatArray:
    """Return the end of a step, halved until the quasi-likelihood does not fall."""
    loss = family.loss(eta, y)
    # what rounding can do
    limit = w @ loss + 1e-13 * (w @ np.abs(loss))
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(_MOST_HALVES):
            if w @ family.loss(found, y) <= limit:
                break
            found = (eta + found) / 2
    return found


def _refuse_separated(first: Fit, y: FloatArray, w: FloatArray, family: Family) -> None:
    """Raise DesignError for dummies whose cells have no event at all, or nothing else."""
    if family.name in ("gaussian", "gamma"):
        return
    mean = first.z.mean
    total = mean.T @ w
    dummies = np.abs(total - (mean * mean).T @ w) <= 1e-12 * np.maximum(np.abs(total), 1e-300)
    dummies &= (total > 0) & first.kept
    events = mean.T @ (w * y)
    lost = dummies & (events <= 0)
    what = "no event (the outcome is 0 in all cells)"
    if not lost.any() and family.share:
        lost = dummies & (events >= total)
        what = "nothing but events (the outcome is 1 in all cells)"
    if lost.any():
        names = [first.z.names[j] for j in np.flatnonzero(lost)]
        raise DesignError(
            f"{listed(names)} {'have' if len(names) > 1 else 'has'} {what}, so in a {family.name} "
            "regression the coefficient is infinite. Merge periods or cohorts, restrict `window`, or use a linear mean (`ETWFE`)."
        )
