"""Effects from units followed over two periods: arrays in, arrays out.

Every function takes changes ``dy = y_t - y_b`` with many right-hand sides that share the treated
and comparison units, and returns effects and the influence of each unit, scaled so that the
influence sums to zero and its squares add to the variance.
"""

from __future__ import annotations

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray
from vbceval.did.odds import fit_logit, fit_tilting
from vbceval.did.solve import (
    ComparisonFailure,
    Regressors,
    fit_linear,
    linear_influence,
)

COMPARISON_ROWS = "the comparison units"


def hajek(v: FloatArray, w: FloatArray) -> tuple[FloatArray, FloatArray]:
    """
    Return weighted means of columns and the influence of each row on them.

    Parameters
    ----------
    v : array, shape (n, k)
        Values.
    w : array, shape (n,)
        Non-negative weights.

    Returns
    -------
    array, shape (k,)
        Means.
    array, shape (n, k)
        Influence.
    """
    total = w.sum()
    mean = w @ v / total
    return mean, (w / total)[:, None] * (v - mean)


def outcome_regression(
    dy: FloatArray, d: BoolArray, w: FloatArray, z: Regressors
) -> tuple[FloatArray, FloatArray]:
    """
    Compare the treated change with the change predicted from comparison units.

    Parameters
    ----------
    dy : array, shape (n, k)
        Changes.
    d : bool array, shape (n,)
        Treated units.
    w : array, shape (n,)
        Weights.
    z : Regressors
        Baseline covariates with a constant.

    Returns
    -------
    array, shape (k,)
        Effects on the treated.
    array, shape (n, k)
        Influence.

    References
    ----------
    .. [1] Sant'Anna, P. H. C. and Zhao, J. (2020). Doubly robust difference-in-differences
       estimators. *Journal of Econometrics* 219(1), 101-122. Equation 2.2.
    """
    fit = fit_linear(z, dy, w * ~d, COMPARISON_ROWS)
    att, psi = hajek(dy - z.x @ fit.beta, w * d)
    mean_x, _ = hajek(z.x, w * d)
    return att, psi - linear_influence(fit, z, dy, mean_x)


def inverse_probability(
    dy: FloatArray, d: BoolArray, w: FloatArray, z: Regressors, trim: float | None
) -> tuple[FloatArray, FloatArray]:
    """
    Compare the treated change with that of comparison units weighted by the odds of treatment.

    Weights are normalised (Hajek). `trim` gives zero weight to comparison units whose propensity
    reaches it. Shapes as in `outcome_regression`.

    References
    ----------
    .. [1] Abadie, A. (2005). Semiparametric difference-in-differences estimators. *Review of
       Economic Studies* 72(1), 1-19. Normalised as in Sant'Anna and Zhao (2020), section 2.
    """
    odds = fit_logit(z, d, w)
    w0 = w * ~d * trimmed_odds(odds.odds, d, trim)
    eta1, psi1 = hajek(dy, w * d)
    eta0, psi0 = hajek(dy, w0)
    m2 = (w0[:, None] * z.x).T @ (dy - eta0) / w0.sum()
    psi_odds = odds.score[:, None] * (z.x @ (odds.inverse @ m2))
    return eta1 - eta0, psi1 - psi0 - psi_odds


def doubly_robust(
    dy: FloatArray, d: BoolArray, w: FloatArray, z: Regressors, trim: float | None
) -> tuple[FloatArray, FloatArray]:
    """
    Combine outcome regression and odds weights; right if either model is.

    Shapes as in `outcome_regression`.

    References
    ----------
    .. [1] Sant'Anna, P. H. C. and Zhao, J. (2020). Doubly robust difference-in-differences
       estimators. *Journal of Econometrics* 219(1), 101-122. Equation 3.1.
    """
    odds = fit_logit(z, d, w)
    fit = fit_linear(z, dy, w * ~d, COMPARISON_ROWS)
    residual = dy - z.x @ fit.beta
    w0 = w * ~d * trimmed_odds(odds.odds, d, trim)
    of_treated, of_comparison = w * d / (w @ d), w0 / w0.sum()
    weighted = of_comparison[:, None] * z.x
    # one product with the long matrix for both means and the derivative by the odds
    sums = np.column_stack([of_treated, of_comparison, weighted]).T @ residual
    eta1, eta0 = sums[0], sums[1]
    m2 = sums[2:] - np.outer(weighted.sum(axis=0), eta0)
    direction = fit.inverse @ (of_treated @ z.x - of_comparison @ z.x)
    # influence: of both means, of the regression and of the odds
    slope = of_treated - of_comparison - fit.weight * (z.x @ direction)
    psi = slope[:, None] * residual
    psi -= np.column_stack([of_treated, of_comparison, odds.score[:, None] * z.x]) @ np.vstack(
        [eta1, -eta0, odds.inverse @ m2]
    )
    return eta1 - eta0, psi


def doubly_robust_improved(
    dy: FloatArray, d: BoolArray, w: FloatArray, z: Regressors, trim: float | None
) -> tuple[FloatArray, FloatArray]:
    """
    Doubly robust with tilting odds and odds-weighted regression; also robust in its inference.

    No term for the estimated nuisances appears: their first-order effect is exactly zero. Shapes
    as in `outcome_regression`.

    References
    ----------
    .. [1] Sant'Anna, P. H. C. and Zhao, J. (2020). Doubly robust difference-in-differences
       estimators. *Journal of Econometrics* 219(1), 101-122. Section 3.1.
    """
    odds, columns = fit_tilting(z, d, w)
    z = z.only(columns)
    w0 = w * ~d * trimmed_odds(odds, d, trim)
    fit = fit_linear(z, dy, w0, COMPARISON_ROWS)
    residual = dy - z.x @ fit.beta
    eta1, psi1 = hajek(residual, w * d)
    eta0, psi0 = hajek(residual, w0)
    return eta1 - eta0, psi1 - psi0


def trimmed_odds(odds: FloatArray, d: BoolArray, trim: float | None) -> FloatArray:
    """Return odds with zero where the propensity reaches `trim`."""
    if trim is None:
        return odds
    kept = odds < trim / (1 - trim)
    if not (kept & ~d).any():
        raise ComparisonFailure(
            f"every comparison unit has a propensity of {trim:g} (`trim`) or more, so none is left"
        )
    return np.where(kept, odds, 0.0)
