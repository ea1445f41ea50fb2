"""Likelihoods of counts given a linear predictor, with four derivatives each."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from vbceval.core.typing import FloatArray

Counts = Literal["binomial", "poisson", "negative_binomial"]
COUNTS: tuple[Counts, ...] = ("binomial", "poisson", "negative_binomial")

_LARGEST = 1e15
"""Mean beyond which counts are not drawn."""
_LARGE = 20.0
"""Shape of the gamma law beyond which a series replaces differences of log gamma functions."""


class Slopes(NamedTuple):
    """
    Derivatives of the log likelihood of single cells by their linear predictor.

    Parameters
    ----------
    score : array
        First derivative.
    weight : array
        Minus the second derivative, never negative.
    third, fourth : array
        Third and fourth derivative.
    """

    score: FloatArray
    weight: FloatArray
    third: FloatArray
    fourth: FloatArray


def link(family: Counts, rate: FloatArray) -> FloatArray:
    """Return the linear predictor of a rate: log odds, or the logarithm."""
    return np.asarray(special.logit(rate) if family == "binomial" else np.log(rate))


def rate(family: Counts, eta: FloatArray) -> FloatArray:
    """Return the rate of a linear predictor: events for one trial or one unit of exposure."""
    return np.asarray(special.expit(eta) if family == "binomial" else np.exp(eta))


def log_likelihood(
    family: Counts, eta: FloatArray, y: FloatArray, size: FloatArray, dispersion: FloatArray
) -> FloatArray:
    """
    Return the log probability of counts, without the part that `constant` gives.

    Parameters
    ----------
    family : {"binomial", "poisson", "negative_binomial"}
        Law. The variance of a negative binomial count is ``m + (dispersion m)^2`` for mean m.
    eta : array
        Linear predictor.
    y, size : array
        Events, and trials or exposure; cells without either add zero.
    dispersion : array
        Coefficient of variation of the rate of a cell; read by the negative binomial alone.

    Returns
    -------
    array
        One number a cell.
    """
    if family == "binomial":
        return np.asarray(y * eta - size * np.logaddexp(0.0, eta))
    mean = size * np.exp(eta)
    if family == "poisson":
        return np.asarray(y * eta - mean)
    shape = 1.0 / np.maximum(dispersion, 1e-8) ** 2
    return np.asarray(y * eta + _rising(y, shape) - (y + shape) * np.log1p(mean / shape))


def constant(family: Counts, y: FloatArray, size: FloatArray) -> FloatArray:
    """Return the part of the log probability that depends on no parameter."""
    if family == "binomial":
        return np.asarray(
            special.gammaln(size + 1.0) - special.gammaln(y + 1.0) - special.gammaln(size - y + 1.0)
        )
    return np.asarray(special.xlogy(y, size) - special.gammaln(y + 1.0))


def slopes(
    family: Counts, eta: FloatArray, y: FloatArray, size: FloatArray, dispersion: FloatArray
) -> Slopes:
    """Return derivatives of `log_likelihood` by the linear predictor; parameters as there."""
    if family == "poisson":
        mean = size * np.exp(eta)
        return Slopes(y - mean, mean, -mean, -mean)
    if family == "binomial":
        trials, p = size, special.expit(eta)
        q = special.expit(-eta)
    else:
        # a binomial with y + shape trials, whose log odds are log(mean / shape)
        shape = 1.0 / np.maximum(dispersion, 1e-8) ** 2
        ratio = size * np.exp(eta) / shape
        trials, p, q = (y + shape) * (size > 0), ratio / (1.0 + ratio), 1.0 / (1.0 + ratio)
    weight = trials * p * q
    return Slopes(y - trials * p, weight, -weight * (q - p), -weight * (1.0 - 6.0 * p * q))


def draw_counts(
    family: Counts, eta: FloatArray, size: FloatArray, dispersion: float, rng: np.random.Generator
) -> FloatArray:
    """
    Return simulated counts; parameters as in `log_likelihood`, with one dispersion.

    Means beyond 1e15, which wide priors reach, count as that.
    """
    if family == "binomial":
        return rng.binomial(size.astype(np.int64), special.expit(eta)).astype(float)
    mean = size * np.exp(np.minimum(eta, np.log(_LARGEST)))
    if family == "negative_binomial" and dispersion > 0:
        mean = mean * rng.gamma(dispersion**-2, dispersion**2, mean.shape)
    return rng.poisson(np.minimum(mean, _LARGEST)).astype(float)


def _rising(y: FloatArray, shape: FloatArray) -> FloatArray:
    """Return log gamma(y + shape) - log gamma(shape) - y log shape, without cancellation."""
    small = np.minimum(shape, _LARGE)
    near = special.gammaln(y + small) - special.gammaln(small) - y * np.log(small)
    # Stirling's series; what remains is below 1e-12 from a shape of 20 on
    large = np.maximum(shape, _LARGE)
    far = (large + y - 0.5) * np.log1p(y / large) - y + _tail(large + y) - _tail(large)
    return np.asarray(np.where(shape < _LARGE, near, far))


def rising_slope(y: FloatArray, shape: FloatArray) -> FloatArray:
    """Return the derivative of log gamma(y + shape) - log gamma(shape) - y log shape by shape."""
    small, large = np.minimum(shape, _LARGE), np.maximum(shape, _LARGE)
    near = special.digamma(y + small) - special.digamma(small)
    far = np.log1p(y / large) + 0.5 * y / (large * (large + y))
    far = far + _tail_slope(large + y) - _tail_slope(large)
    return np.asarray(np.where(shape < _LARGE, near, far) - y / shape)


def _tail(x: FloatArray) -> FloatArray:
    """Return log gamma(x) beyond the leading terms of Stirling's series."""
    square = x * x
    return np.asarray((1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / square) / square) / square) / x)


def _tail_slope(x: FloatArray) -> FloatArray:
    """Return the derivative of `_tail`."""
    square = x * x
    return np.asarray(
        -(1 / 12 - (1 / 120 - (1 / 252 - 1 / 240 / square) / square) / square) / square
    )
