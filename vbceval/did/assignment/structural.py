"""Two-stage least squares and LIML from reduced forms, arrays in and arrays out."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.did.least_squares import Fit, Groups

Method = Literal["2sls", "liml"]


class Structural(NamedTuple):
    """
    Effect of the dose on the outcome.

    Parameters
    ----------
    effect : float
        Per unit of the dose.
    psi : array, shape (G,)
        Influence of clusters.
    kappa : float
        1 for two-stage least squares.
    cross : array, shape (q, q)
        Cross-product of instruments, effects and covariates taken out.
    """

    effect: float
    psi: FloatArray
    kappa: float
    cross: FloatArray


def structural(fit: Fit, instruments: IntArray, method: Method, groups: Groups) -> Structural:
    """
    Estimate the effect of a dose by its instruments.

    Parameters
    ----------
    fit : Fit
        Reduced forms: least squares of the outcome (first column) and dose (second) on effects,
        covariates and instruments.
    instruments : int array, shape (q,)
        Positions of the instruments among its columns.
    method : {"2sls", "liml"}
        With one instrument both are the ratio of reduced form to first stage.
    groups : Groups
        Clusters.

    Raises
    ------
    EstimationError
        If cells are sums of rows, whose products of outcome and dose are not known, and LIML has
        more instruments than one.

    Notes
    -----
    Only products of instruments with outcome and dose enter two-stage least squares, so that it is
    exact from moments. The influence is the score of the fitted dose over its cross-product with
    the dose, as in `linearmodels`.
    """
    reduced, first = fit.beta[instruments].T
    cross = np.linalg.inv(fit.inverse[np.ix_(instruments, instruments)])
    kappa = 1.0
    if method == "liml" and len(instruments) > 1:
        kappa = _liml(fit, np.stack([reduced, first]), cross)
    # of outcome and dose: explained by the instruments, and what is left
    explained = np.stack([reduced, first]) @ cross @ first
    if kappa != 1.0:
        explained = explained + (1 - kappa) * _left(fit)[:, 1]
    effect = float(explained[0] / explained[1])
    psi = _scores(fit, instruments, reduced - effect * first, first, effect, cross, groups)
    return Structural(effect, psi / float(explained[1]), kappa, cross)


def _left(fit: Fit) -> FloatArray:
    """Cross-product of the residuals of outcome and dose, shape (2, 2)."""
    w = fit.cells.block.w
    return np.asarray((fit.residual * w[:, None]).T @ fit.residual)


def _liml(fit: Fit, both: FloatArray, cross: FloatArray) -> float:
    """Smallest root of the ratio of variances without and with the instruments."""
    if fit.cells.yy is not None:
        raise EstimationError(
            "method='liml' needs products of outcome and dose, which moments of summed rows do not "
            "hold. Use method='2sls', or fit the rows as a Panel."
        )
    left = _left(fit)
    return float(np.linalg.eigvals(np.linalg.solve(left, left + both @ cross @ both.T)).real.min())


def _scores(
    fit: Fit,
    instruments: IntArray,
    gap: FloatArray,
    first: FloatArray,
    effect: float,
    cross: FloatArray,
    groups: Groups,
) -> FloatArray:
    """Sums by cluster of the fitted dose times the structural residual, shape (G,)."""
    pure = fit.inverse[:, instruments] @ cross
    # residuals of the reduced forms, then what instruments explain beyond the dose
    gap = pure @ gap[:, None]
    weighted = fit.weighted[:, [0]] - effect * fit.weighted[:, [1]]
    weighted += fit.cells.block.w[:, None] * fit.project(gap)
    beta = fit.beta[:, [0]] - effect * fit.beta[:, [1]] - gap
    cells, xy = fit.cells, fit.cells.xy
    if xy is not None:
        cells = cells._replace(y=cells.y[:, :1], xy=xy[:, :, [0]] - effect * xy[:, :, [1]])
    residual = fit._replace(cells=cells, weighted=weighted, beta=beta)
    return np.asarray(residual.influence(0, pure @ first[:, None], groups)[:, 0])
