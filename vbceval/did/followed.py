"""Effects from units followed over two periods: arrays in, arrays out.

Every function takes changes ``dy = y_t - y_b`` with many right-hand sides that share the treated
and comparison units, and returns effects and what makes the influence of each unit, scaled so that
the influence sums to zero and its squares add to the variance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray
from vbceval.did.changes import Changes
from vbceval.did.odds import fit_logit, fit_tilting
from vbceval.did.solve import ComparisonFailure, LinearFit, Regressors, fit_linear

COMPARISON_ROWS = "the comparison units"


class Effects(NamedTuple):
    """
    Effects, and their influence in the few numbers that make it.

    Influence is linear in the change of a unit: ``slope_i dy_ik + sum_q left_qi right_qk``.

    Parameters
    ----------
    att : array, shape (k,)
        Effects on the treated.
    slope : array, shape (n,)
        Weight of each unit's change.
    left, right : array, shapes (q, n), (q, k)
        What regressions, means and odds take away.
    """

    att: FloatArray
    slope: FloatArray
    left: FloatArray
    right: FloatArray


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


def outcome_regression(dy: Changes, d: BoolArray, w: FloatArray, z: Regressors) -> Effects:
    """
    Compare the treated change with the change predicted from comparison units.

    Parameters
    ----------
    dy : Changes, shape (n, k)
        Changes.
    d : bool array, shape (n,)
        Treated units.
    w : array, shape (n,)
        Weights.
    z : Regressors
        Baseline covariates with a constant.

    References
    ----------
    .. [1] Sant'Anna, P. H. C. and Zhao, J. (2020). Doubly robust difference-in-differences
       estimators. *Journal of Econometrics* 219(1), 101-122. Equation 2.2.
    """
    fit = fit_linear(z, dy, w * ~d, COMPARISON_ROWS)
    of_treated = w * d / (w @ d)
    mean_x = of_treated @ z.x
    att = of_treated @ dy - mean_x @ fit.beta
    slope = of_treated - fit.weight * (z.x @ (fit.inverse @ mean_x))
    return _of_residuals(att, slope, z, fit, [of_treated], [-att])


def inverse_probability(
    dy: Changes, d: BoolArray, w: FloatArray, z: Regressors, trim: float | None
) -> Effects:
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
    of_treated, of_comparison = w * d / (w @ d), w0 / w0.sum()
    # one product with the changes for both means and the derivative by the odds; the constant is
    # the first regressor
    sums = np.vstack([of_treated, of_comparison * z.x.T]) @ dy
    eta1, eta0 = sums[0], sums[1]
    m2 = sums[1:] - np.outer(of_comparison @ z.x, eta0)
    return Effects(
        eta1 - eta0,
        of_treated - of_comparison,
        np.vstack([of_treated, of_comparison, odds.score * z.x.T]),
        np.vstack([-eta1, eta0, -odds.inverse @ m2]),
    )


def doubly_robust(
    dy: Changes, d: BoolArray, w: FloatArray, z: Regressors, trim: float | None
) -> Effects:
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
    w0 = w * ~d * trimmed_odds(odds.odds, d, trim)
    of_treated, of_comparison = w * d / (w @ d), w0 / w0.sum()
    # sums of residuals: both means, and the derivative by the odds; the constant is the first
    # regressor
    rows = np.vstack([of_treated, of_comparison * z.x.T])
    means = rows @ z.x
    sums = rows @ dy - means @ fit.beta
    eta1, eta0 = sums[0], sums[1]
    m2 = sums[1:] - np.outer(means[1], eta0)
    direction = fit.inverse @ (means[0] - means[1])
    slope = of_treated - of_comparison - fit.weight * (z.x @ direction)
    return _of_residuals(
        eta1 - eta0, slope, z, fit,
        [of_treated, of_comparison, odds.score * z.x.T],
        [-eta1, eta0, -odds.inverse @ m2],
    )  # fmt: skip


def doubly_robust_improved(
    dy: Changes, d: BoolArray, w: FloatArray, z: Regressors, trim: float | None
) -> Effects:
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
    of_treated, of_comparison = w * d / (w @ d), w0 / w0.sum()
    means = np.vstack([of_treated, of_comparison])
    eta1, eta0 = means @ dy - (means @ z.x) @ fit.beta
    slope = of_treated - of_comparison
    return _of_residuals(eta1 - eta0, slope, z, fit, [means], [-eta1, eta0])


def _of_residuals(
    att: FloatArray,
    slope: FloatArray,
    z: Regressors,
    fit: LinearFit,
    left: list[FloatArray],
    right: list[FloatArray],
) -> Effects:
    """Return effects whose influence is linear in the residuals of a regression."""
    return Effects(att, slope, np.vstack([slope * z.x.T, *left]), np.vstack([-fit.beta, *right]))


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
