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

_MOST_STEPS = 100
_CONVERGED = 1e-11
_LARGEST_INDEX = 35.0


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
    plain = block._replace(xx=None, xy=None)
    eta = family.start(y, block.w)
    change = np.inf
    for step in range(1, _MOST_STEPS + 1):
        slope = family.slope(eta)
        weight = block.w * slope * slope / family.variance(eta)
        working = eta + (y - family.mean(eta)) / slope
        if not (np.isfinite(weight).all() and np.isfinite(working).all() and (weight > 0).all()):
            break
        fit = least_squares(
            Cells(plain._replace(w=weight), working[:, None], None, None, cells.n, cells.absorbed),
            z,
        )
        found = working - fit.residual[:, 0]
        moved = float(np.max(np.abs(found - eta)))
        size = 1.0 + float(np.max(np.abs(found)))
        if moved <= _CONVERGED * size or (moved <= 1e-8 * size and moved >= change):
            # the weighted residuals belong to the index before this last step
            return Scored(fit._replace(dependent=first.dependent), eta, step)
        eta, change = found, moved
        centre = np.average(eta, weights=block.w)
        if family.name != "gaussian" and np.max(np.abs(eta - centre)) > _LARGEST_INDEX:
            break
    raise EstimationError(
        f"the {family.name} regression of `{outcome}` does not converge: some combination of "
        "effects and covariates predicts the outcome exactly (separation), or a covariate is badly "
        "scaled. Merge cohorts or periods, leave a covariate out, or divide it by its standard "
        "deviation."
    )


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
    what = "no event (the outcome is 0 in all of its cells)"
    if not lost.any() and family.share:
        lost = dummies & (events >= total)
        what = "nothing but events (the outcome is 1 in all of its cells)"
    if lost.any():
        names = [first.z.names[j] for j in np.flatnonzero(lost)]
        raise DesignError(
            f"{listed(names)} has {what}, so its coefficient in a {family.name} regression is "
            "infinite. Merge periods or cohorts, restrict `window`, or use a linear mean (`ETWFE`)."
        )
