"""A normal vector inside a rectangle: its probability and its mean, by quasi-random points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from vbceval.core.typing import FloatArray
from vbceval.sensitivity.inequality import normal_points


class Inside(NamedTuple):
    """Probability of the rectangle, and the mean, shape (K,), of the vector given it."""

    probability: float
    mean: FloatArray


def inside_rectangle(mean: FloatArray, vcov: FloatArray, half: FloatArray) -> Inside:
    """
    Return probability and mean of a normal vector in the rectangle |x_k| <= half_k.

    Coordinates are drawn one after the other from their law truncated to the rectangle, and
    weighted by the probability of the truncation (Geweke, Hajivassiliou, Keane), which is smooth in
    the points; with 32,768 of them the error is below 1e-4 for a dozen coordinates.

    Parameters
    ----------
    mean : array, shape (K,)
        Mean of the vector.
    vcov : array, shape (K, K)
        Covariance, of full rank.
    half : array, shape (K,)
        Half widths.

    Examples
    --------
    >>> out = inside_rectangle(np.zeros(2), np.eye(2), np.array([1.96, 1.96]))
    >>> round(out.probability, 4), bool(np.abs(out.mean).max() < 1e-3)
    (0.9025, True)
    """
    k = len(mean)
    root = np.linalg.cholesky(vcov)
    uniform = special.ndtr(normal_points(k))
    z = np.zeros_like(uniform)
    weight = np.ones(len(uniform))
    for i in range(k):
        center = mean[i] + z[:, :i] @ root[i, :i]
        low, high = (-half[i] - center) / root[i, i], (half[i] - center) / root[i, i]
        # in the upper tail the distribution function has no digits left: mirror it
        flip = low > 0
        low, high = np.where(flip, -high, low), np.where(flip, -low, high)
        start, end = special.ndtr(low), special.ndtr(high)
        drawn = special.ndtri(np.clip(start + uniform[:, i] * (end - start), 1e-300, 1 - 1e-16))
        z[:, i] = np.where(flip, -drawn, drawn)
        weight *= end - start
    total = float(weight.mean())
    if not total > 0:
        return Inside(0.0, np.full(k, np.nan))
    return Inside(total, mean + (weight @ z / weight.sum()) @ root.T)
