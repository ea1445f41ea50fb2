"""Covariates taken out of outcomes by a regression on untreated cells (Kranz 2022)."""

from __future__ import annotations

import numpy as np

from vbceval.core.checks import listed
from vbceval.core.errors import EstimationError
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.design import Design
from vbceval.did.synthetic.wide import Wide


def two_way_coefficients(wide: Wide, used: BoolArray, mass: FloatArray) -> FloatArray:
    """
    Return coefficients of covariates beside effects of organizations and periods.

    Parameters
    ----------
    wide : Wide
        Matrices.
    used : bool array, shape (N, T)
        Cells of the regression, all observed.
    mass : array, shape (N,)
        How often each organization counts.

    Returns
    -------
    array, shape (p,)

    Raises
    ------
    EstimationError
        If a covariate does not vary beside the effects, or is collinear with others.
    """
    row, column = np.nonzero(used & (mass > 0)[:, None])
    weight = mass[row]
    periods = np.unique(column)
    dummies = (column[:, None] == periods[1:]).astype(float)
    values = np.column_stack([dummies, wide.x[row, column], wide.y[row, column]])
    total = np.bincount(row, weight, minlength=len(mass))
    for j in range(values.shape[1]):
        sums = np.bincount(row, weight * values[:, j], minlength=len(mass))
        values[:, j] -= np.divide(sums, total, out=np.zeros(len(mass)), where=total > 0)[row]
    values *= np.sqrt(weight)[:, None]
    n_time, p = len(periods) - 1, len(wide.names)
    time, rest = values[:, :n_time], values[:, n_time:]
    within = rest - time @ np.linalg.lstsq(time, rest, rcond=None)[0]
    x, y = within[:, :p], within[:, p]
    size = np.linalg.norm(x, axis=0)
    full = np.linalg.norm(wide.x[row, column], axis=0)
    absorbed = [n for n, a, b in zip(wide.names, size, full, strict=True) if a <= 1e-9 * b]
    if absorbed:
        raise EstimationError(
            f"covariate {listed(absorbed)} does not vary beside effects of organizations and "
            "periods, so its coefficient is not known. Leave it out."
        )
    if np.linalg.matrix_rank(x / size, tol=1e-9 * np.sqrt(len(x))) < p:
        raise EstimationError(
            f"the covariates {listed(wide.names)} are collinear beside effects of organizations "
            "and periods. Leave one of them out."
        )
    return np.asarray(np.linalg.lstsq(x, y, rcond=None)[0])


def without_covariates(wide: Wide, beta: FloatArray) -> Wide:
    """Return the matrices with covariates taken out of the outcome."""
    return wide._replace(y=wide.y - wide.x @ beta, x=wide.x[:, :, :0], names=())


def untreated(wide: Wide, design: Design) -> BoolArray:
    """
    Return observed cells without treatment, shape (N, T).

    With ``comparison="never_treated"`` only those of organizations that never enter.
    """
    with np.errstate(invalid="ignore"):
        treated = wide.periods[None, :] >= wide.cohort[:, None] - design.anticipation
    if design.comparison == "never_treated":
        treated = treated | wide.enters(design.anticipation)[:, None]
    return np.asarray(np.isfinite(wide.y) & ~treated, dtype=bool)
