"""What holds when an instrument is weak: effective F, Anderson-Rubin sets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.core.typing import FloatArray
from vbceval.inference.fieller import Robust, fieller

_GRID = 4_001


class Strength(NamedTuple):
    """
    Strength of instruments.

    Parameters
    ----------
    f : float
        Effective F statistic; with one instrument its squared t.
    critical : float
        Value above which the bias of two-stage least squares is below a tenth of its worst case,
        with 95 percent confidence.
    """

    f: float
    critical: float


def effective_f(first: FloatArray, cross: FloatArray, vcov: FloatArray) -> Strength:
    """
    Return the effective F of Montiel Olea and Pflueger, which is valid under clustering.

    Parameters
    ----------
    first : array, shape (q,)
        First-stage coefficients.
    cross : array, shape (q, q)
        Cross-product of the instruments, effects and covariates taken out.
    vcov : array, shape (q, q)
        Covariance of `first`, by cluster.

    References
    ----------
    .. [1] Montiel Olea, J. L. and Pflueger, C. (2013). A robust test for weak instruments. *Journal
       of Business and Economic Statistics* 31(3), 358-369. Section 3, simplified critical values.
    """
    from scipy.stats import ncx2

    root = np.linalg.cholesky(cross)
    w = root.T @ vcov @ root
    total = float(np.trace(w))
    x = 10.0
    largest = float(np.linalg.eigvalsh(w)[-1])
    k = total**2 * (1 + 2 * x) / (float(np.trace(w @ w)) + 2 * x * total * largest)
    return Strength(float(first @ cross @ first) / total, float(ncx2.ppf(0.95, k, k * x) / k))


def anderson_rubin(
    reduced: FloatArray, first: FloatArray, vcov: FloatArray, *, level: float, df: float
) -> Robust:
    """
    Invert the test that reduced form minus effect times first stage is zero.

    Parameters
    ----------
    reduced, first : array, shape (q,)
        Coefficients of the instruments for the outcome, and for the dose.
    vcov : array, shape (2 q, 2 q)
        Their joint covariance.
    level : float
        Confidence.
    df : float
        Degrees of freedom of the denominator; infinite compares with chi-square.

    References
    ----------
    .. [1] Anderson, T. W. and Rubin, H. (1949). Estimation of the parameters of a single equation
       in a complete system of stochastic equations. *Annals of Mathematical Statistics* 20, 46-63.
    .. [2] Fieller, E. C. (1954). Some problems in interval estimation. *Journal of the Royal
       Statistical Society B* 16(2), 175-185.
    """
    from scipy.stats import chi2, f

    q = len(first)
    limit = float(chi2.ppf(level, q)) if np.isinf(df) else q * float(f.ppf(level, q, df))
    if q == 1:
        return fieller(float(reduced[0]), float(first[0]), vcov, limit)
    return _on_grid(reduced, first, vcov, limit)


def _on_grid(reduced: FloatArray, first: FloatArray, vcov: FloatArray, limit: float) -> Robust:
    """Find where the statistic crosses the limit, along an arc that covers the line."""
    from scipy.optimize import brentq

    q = len(first)
    aa, ab, bb = vcov[:q, :q], vcov[:q, q:], vcov[q:, q:]
    centre = float(first @ reduced / (first @ first))
    scale = float(np.sqrt(np.trace(aa) / (first @ first))) or 1.0

    def excess(angle: FloatArray) -> FloatArray:
        # homogeneous in (cos, sin), so that infinity is an angle like others
        u = np.cos(angle)[:, None]
        v = centre * u + scale * np.sin(angle)[:, None]
        gap = u * reduced - v * first
        u, v = u[:, :, None], v[:, :, None]
        spread = u * u * aa - u * v * (ab + ab.T) + v * v * bb
        # a first stage without noise in some direction leaves a matrix without inverse
        small = 1e-13 * np.trace(spread, axis1=1, axis2=2)
        spread = spread + small[:, None, None] * np.eye(q)
        solved = np.linalg.solve(spread, gap[:, :, None])[:, :, 0]
        return np.asarray(np.sum(gap * solved, axis=1) - limit)

    def at(angle: float) -> float:
        return float(excess(np.array([angle]))[0])

    angles = np.linspace(-np.pi / 2, np.pi / 2, _GRID)
    values = excess(angles)
    cross = np.flatnonzero(np.diff(np.sign(values)) != 0)
    if not len(cross):
        if values[0] <= 0:
            return Robust(-np.inf, np.inf, "line")
        return Robust(np.nan, np.nan, "empty")
    found = [brentq(at, angles[i], angles[i + 1], xtol=1e-14) for i in cross]
    ends = centre + scale * np.tan(found)
    if len(ends) > 2:
        return Robust(float(ends[0]), float(ends[-1]), "several")
    return Robust(float(ends[0]), float(ends[-1]), "outside" if values[0] <= 0 else "interval")
