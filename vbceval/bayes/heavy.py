"""Heavier laws than the normal, for the sampler: Student t shocks, horseshoe parts of the effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import special, stats

from vbceval.bayes.coefficients import Structure
from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray, IntArray

SLAB = 3.0
"""Standard deviation, percent of baseline, that no part with a horseshoe prior exceeds."""

POOLED = ("cohort", "stratum", "interaction")
"""Parts of the effect that are of subgroups; steps over event time stay normal."""

_LEAST_DEGREES = 2.0
_GRID = np.arange(-9.2, 4.01, 0.4)


def shock_stretch(n_clusters: int) -> Any:
    """
    Return by what the variances of organizations' shocks are multiplied, in the model that is open.

    The precision of an organization's shocks is multiplied by w ~ Gamma(degrees / 2, degrees / 2),
    so that all its shocks together are multivariate Student t. The sampler moves in coordinates
    that are about standard normal a priori, whatever the degrees of freedom.
    """
    import pymc as pm
    import pytensor.tensor as pt

    excess = pm.Gamma("degrees_excess", 2.0, 0.1)
    coordinates = pm.Flat("shock_coordinate", shape=n_clusters)
    half = 0.5 * (excess + _LEAST_DEGREES)
    centre, spread = _place(2.0 * half)
    log_w = centre + spread * coordinates
    # of log w, written out: PyMC's own Gamma law takes several times as long to compile
    each = half * pt.log(half) - pt.gammaln(half) + pt.log(spread)
    density = n_clusters * each + half * (log_w - pt.exp(log_w)).sum()
    pm.Potential("shock_precision", density)
    return pt.exp(-log_w)


def _place(degrees: Any) -> tuple[Any, Any]:
    """Return about the mean and standard deviation of log w."""
    return -1.0 / degrees, (2.0 / (degrees - 1.0)) ** 0.5


def subgroup_coefficients(parts: Structure) -> IntArray:
    """
    Return which coefficients of effects are of subgroups, and so have a scale of their own.

    Raises
    ------
    DesignError
        If there are none.
    """
    own = np.flatnonzero([parts.names[k] in POOLED for k in parts.part])
    if not len(own):
        raise DesignError(
            "pooling='horseshoe' is for effects of several cohorts or strata, and the design has "
            "one of each. Leave it out."
        )
    return own


def local_scales(parts: Structure, part_sd: Any) -> Any:
    """
    Return by what the standard deviation of each coefficient is multiplied, in the open model.

    References
    ----------
    .. [1] Piironen, J. and Vehtari, A. (2017). Sparsity information and regularization in the
       horseshoe and other shrinkage priors. *Electronic Journal of Statistics* 11(2), 5018-5051.
       Equation 2.8.
    """
    import pymc as pm
    import pytensor.tensor as pt

    own = subgroup_coefficients(parts)
    wide = pm.HalfCauchy("local", 1.0, shape=len(own))
    scale = _regularised(wide, part_sd[parts.part[own] - 1])
    return pt.ones(len(parts.part))[own].set(scale)


def _regularised(wide: Any, spread: Any) -> Any:
    return wide * SLAB / (SLAB**2 + (spread * wide) ** 2) ** 0.5


def prior_of_heavy(*, student: bool, horseshoe: bool) -> dict[str, str]:
    """Return the priors of what is heavier than normal in words, for a result's ``meta``."""
    out = {}
    if student:
        out["degrees"] = "2 + Gamma(2, rate 0.1); an organization's shocks share their scale"
    if horseshoe:
        out["local"] = (
            f"HalfCauchy(1) times the sd of the part, regularised by a slab of {SLAB:g}% of "
            f"baseline: {', '.join(POOLED)}"
        )
    return out


def heavy_values(values: Mapping[str, FloatArray], parts: Structure) -> dict[str, FloatArray]:
    """
    Return ``degrees``, ``shock_scale`` and ``local_scale`` of draws, where the model has them.

    Parameters
    ----------
    values : mapping of array, each (chains, draws, ...)
        What the sampler drew.
    parts : Structure
        Coefficients of the mean.
    """
    out = {}
    if "degrees_excess" in values:
        degrees = values["degrees_excess"] + _LEAST_DEGREES
        centre, spread = _place(degrees[..., None])
        out["degrees"] = degrees
        out["shock_scale"] = np.exp(-0.5 * (centre + spread * values["shock_coordinate"]))
    if "local" in values:
        own = subgroup_coefficients(parts)
        local = np.ones((*values["local"].shape[:-1], len(parts.part)))
        spread = values["part_sd"][..., parts.part[own] - 1]
        local[..., own] = _regularised(values["local"], spread)
        out["local_scale"] = local
    return out


def horseshoe_draws(parts: Structure, spreads: FloatArray, rng: np.random.Generator) -> FloatArray:
    """
    Draw from the prior by what standard deviations of coefficients are multiplied, shape (N, q).

    Parameters
    ----------
    parts : Structure
        Coefficients of the mean.
    spreads : array, shape (N, q)
        Standard deviation of the part behind each coefficient.
    rng : Generator
        Source.
    """
    own = subgroup_coefficients(parts)
    out = np.ones(spreads.shape)
    wide = np.abs(rng.standard_cauchy((len(spreads), len(own))))
    out[:, own] = _regularised(wide, spreads[:, own])
    return out


def draw_heavy(
    parts: Structure, part_sd: FloatArray, n_clusters: int, rng: np.random.Generator, *,
    student: bool, horseshoe: bool,
) -> dict[str, FloatArray]:  # fmt: skip
    """
    Draw once from the prior what is heavier than normal, by the names of `heavy_values`.

    Parameters
    ----------
    parts : Structure
        Coefficients of the mean.
    part_sd : array, shape (P,)
        Standard deviations of the parts of the effect after the first.
    n_clusters : int
        Organizations.
    rng : Generator
        Source; untouched where neither is asked for.
    student, horseshoe : bool
        What the model has.
    """
    out = {}
    if student:
        degrees = _LEAST_DEGREES + rng.gamma(2.0, 10.0)
        out["degrees"] = np.asarray(degrees)
        out["shock_scale"] = rng.gamma(degrees / 2, 2 / degrees, n_clusters) ** -0.5
    if horseshoe:
        spreads = np.append(1.0, part_sd)[parts.part]
        out["local_scale"] = horseshoe_draws(parts, spreads[None], rng)[0]
    return out


def mixed_likelihood(log_likelihood: Callable[[float], FloatArray], degrees: float) -> FloatArray:
    """
    Return log likelihoods of organizations with the scale of their shocks integrated out.

    Parameters
    ----------
    log_likelihood : callable
        Of what multiplies the variances of shocks; returns shape (C,).
    degrees : float
        Degrees of freedom.

    Returns
    -------
    array, shape (C,)
        By the trapezoid rule in log w, whose error falls exponentially with the number of points.

    Examples
    --------
    One shock y and nothing else is Student t:

    >>> y, one = 2.5, lambda v: stats.norm(scale=np.sqrt(v)).logpdf(np.array([2.5]))
    >>> bool(abs(mixed_likelihood(one, 5.0)[0] - stats.t(5.0).logpdf(y)) < 1e-6)
    True
    """
    centre, spread = _place(degrees)
    log_w = centre + spread * _GRID
    prior = stats.gamma(degrees / 2, scale=2 / degrees).logpdf(np.exp(log_w)) + log_w
    step = np.log(spread * (_GRID[1] - _GRID[0]))
    terms = np.array([log_likelihood(float(np.exp(-x))) for x in log_w])
    return np.asarray(special.logsumexp(terms + (prior + step)[:, None], axis=0))
