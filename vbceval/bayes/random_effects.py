"""Normal random effects in closed form: arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray


@dataclass(frozen=True, kw_only=True)
class RandomEffects:
    """
    A random-effects mean with its between-study variance.

    Parameters
    ----------
    mean : float
        Mean effect, in the unit of the estimates.
    tau2 : float
        Variance of true effects between studies, in that unit squared.
    std_error : float
        Standard error of `mean` with `tau2` taken as known.
    std_error_hk : float
        Hartung-Knapp standard error, from the spread of the studies around the mean; it belongs to
        a t distribution with `df` degrees of freedom.
    df : int
        Number of studies minus one.
    q : float
        Cochran's heterogeneity statistic, chi-square with `df` degrees of freedom when all true
        effects are equal.
    """

    mean: float
    tau2: float
    std_error: float
    std_error_hk: float
    df: int
    q: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the Hartung-Knapp interval of the mean, probability `level`."""
        half = float(special.stdtrit(self.df, (1 + level) / 2)) * self.std_error_hk
        return self.mean - half, self.mean + half

    def prediction_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval of one new study's true effect, t with `df` degrees of freedom."""
        spread = np.sqrt(self.tau2 + self.std_error_hk**2)
        half = float(special.stdtrit(self.df, (1 + level) / 2)) * float(spread)
        return self.mean - half, self.mean + half


def reml(estimate: FloatArray, std_error: FloatArray) -> RandomEffects:
    """
    Fit the normal random-effects model by restricted maximum likelihood.

    Studies are taken as independent: this is the check on a Bayesian fit, not a replacement where
    a report has several rows.

    Parameters
    ----------
    estimate : array, shape (n,)
        Effects in one unit, n >= 2.
    std_error : array, shape (n,)
        Their standard errors, positive, in that unit.

    Returns
    -------
    RandomEffects

    Raises
    ------
    EstimationError
        If there are fewer than two studies, or a value is missing or not positive.

    References
    ----------
    .. [1] Viechtbauer, W. (2005). Bias and efficiency of meta-analytic variance estimators in the
       random-effects model. *Journal of Educational and Behavioral Statistics* 30(3), 261-293.
    .. [2] Knapp, G. and Hartung, J. (2003). Improved tests for a random effects meta-regression
       with a single covariate. *Statistics in Medicine* 22(17), 2693-2710.

    Examples
    --------
    Two studies with standard error 1: the sample variance is 8, so tau2 is 8 - 1.

    >>> fit = reml(np.array([-4.0, 0.0]), np.array([1.0, 1.0]))
    >>> round(fit.mean, 6), round(fit.tau2, 6), round(fit.std_error, 6)
    (-2.0, 7.0, 2.0)
    """
    from scipy import optimize

    y, v = _studies(estimate, std_error)
    upper = 10 * (float(np.var(y)) + float(v.max()))
    # the restricted likelihood may have two modes: bracket the best point of a grid in sqrt(tau2)
    grid = np.linspace(0.0, np.sqrt(upper), 401) ** 2
    best = int(np.argmax([_restricted(t, y, v) for t in grid]))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    if _score(low, y, v) <= 0:
        tau2 = low
    else:
        tau2 = float(optimize.brentq(_score, low, high, args=(y, v), xtol=1e-15, rtol=1e-14))
    return _at(tau2, y, v)


def paule_mandel(estimate: FloatArray, std_error: FloatArray) -> RandomEffects:
    """
    Fit the normal random-effects model by moments: the tau2 at which Q equals its expectation.

    Parameters
    ----------
    estimate, std_error : array, shape (n,)
        As in `reml`.

    References
    ----------
    .. [1] Paule, R. C. and Mandel, J. (1982). Consensus values and weighting factors. *Journal of
       Research of the National Bureau of Standards* 87(5), 377-385.

    Examples
    --------
    >>> round(paule_mandel(np.array([-4.0, 0.0]), np.array([1.0, 1.0])).tau2, 6)
    7.0
    """
    from scipy import optimize

    y, v = _studies(estimate, std_error)

    def excess(tau2: float) -> float:
        w = 1 / (v + tau2)
        return float(np.sum(w * (y - w @ y / w.sum()) ** 2)) - (len(y) - 1)

    if excess(0.0) <= 0:
        return _at(0.0, y, v)
    upper = float(np.var(y, ddof=1)) + float(v.max())
    while excess(upper) > 0:
        upper *= 2
    return _at(float(optimize.brentq(excess, 0.0, upper, xtol=1e-14, rtol=1e-14)), y, v)


def _studies(estimate: FloatArray, std_error: FloatArray) -> tuple[FloatArray, FloatArray]:
    y, se = np.asarray(estimate, dtype=float), np.asarray(std_error, dtype=float)
    bad = int(np.sum(~np.isfinite(y) | ~np.isfinite(se) | ~(se > 0)))
    if len(y) < 2 or len(y) != len(se) or bad:
        raise EstimationError(
            f"a random-effects mean needs at least two studies, each with a finite estimate and a "
            f"positive standard error: {len(y)} estimates and {len(se)} standard errors were "
            f"given, {bad} of them unusable. Leave such studies out, or fit `MetaAnalysis`, which "
            "can use a standard error known only within bounds."
        )
    return y, se**2


def _restricted(tau2: float, y: FloatArray, v: FloatArray) -> float:
    w = 1 / (v + tau2)
    total = w.sum()
    mean = w @ y / total
    return float(0.5 * (np.log(w).sum() - np.log(total) - w @ (y - mean) ** 2))


def _score(tau2: float, y: FloatArray, v: FloatArray) -> float:
    """Derivative of the restricted log likelihood in tau2."""
    w = 1 / (v + tau2)
    mean = w @ y / w.sum()
    return float(0.5 * (w**2 @ (y - mean) ** 2 - w.sum() + w @ w / w.sum()))


def _at(tau2: float, y: FloatArray, v: FloatArray) -> RandomEffects:
    w = 1 / (v + tau2)
    mean = float(w @ y / w.sum())
    df = len(y) - 1
    fixed = 1 / v
    q = float(fixed @ (y - fixed @ y / fixed.sum()) ** 2)
    spread = float(w @ (y - mean) ** 2) / df
    return RandomEffects(
        mean=mean,
        tau2=tau2,
        std_error=float(1 / np.sqrt(w.sum())),
        std_error_hk=float(np.sqrt(spread / w.sum())),
        df=df,
        q=q,
    )
