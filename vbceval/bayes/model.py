"""The hierarchical difference-in-differences model in PyMC; nothing is sampled here."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from vbceval.bayes.cells import Cells
from vbceval.bayes.coefficients import PARTS, Reference, Structure
from vbceval.bayes.likelihood import log_likelihood
from vbceval.bayes.marginal import COMMON, LASTING, RHO, SPECIFIC
from vbceval.bayes.priors import Priors
from vbceval.core.typing import BoolArray

Shocks = Literal["ar1", "iid", "none"]


def active_scales(cells: Cells, *, shocks: Shocks, organizations: bool) -> BoolArray:
    """Return which of (specific, common, lasting, rho) the model has, shape (4,)."""
    active = np.zeros(4, dtype=bool)
    active[COMMON] = shocks != "none"
    # with one stratum the two kinds of shock are the same thing
    active[SPECIFIC] = shocks != "none" and cells.n_strata > 1
    active[LASTING] = organizations
    active[RHO] = shocks == "ar1"
    return active


def build(
    cells: Cells, parts: Structure, priors: Priors, active: BoolArray, around: Reference | None
) -> Any:
    """
    Return the model of cell means, in percent of baseline.

    Unit x stratum intercepts (flat), organization x period shocks, organizations' own effects and
    noise are integrated out exactly (`vbceval.bayes.marginal`). What is sampled: period effects,
    the parts of the treatment effect, standard deviations, autocorrelation, and the share of noise
    that restated cells have in common.

    Parameters
    ----------
    cells : Cells
        Sorted cells.
    parts : Structure
        Coefficients of the mean.
    priors : Priors
        Prior scales, percent of baseline.
    active : array of bool, shape (4,)
        See `active_scales`.
    around : Reference or None
        Coordinates of the sampler. The posterior is the same with None, where the coefficients
        are drawn as they stand; that form also draws from the prior.

    Returns
    -------
    pymc.Model
        With ``period_effect`` (S, T), ``slope`` (p, T) and ``effect`` (J,), percent of baseline.
    """
    import pymc as pm
    import pytensor.tensor as pt

    with pm.Model(coords=cells.coords) as model:
        period_scale = pm.HalfNormal("period_scale", priors.period)
        trend, slopes, steps = _coefficients(cells, parts, priors, period_scale, around)
        period = pm.Deterministic(
            "period_effect", trend @ parts.zero_sum.T, dims=("stratum", "period")
        )
        slope = slopes @ parts.zero_sum.T
        if cells.covariates:
            slope = pm.Deterministic("slope", slope, dims=("covariate", "period"))
        spreads = [pt.constant(priors.effect)]
        for place, name in enumerate(PARTS[1:], start=1):
            used = (parts.part == place).any()
            spreads.append(pm.HalfNormal(f"{name}_sd", priors.spread) if used else pt.constant(0.0))
        effect = pm.Deterministic(
            "effect", parts.loading @ (pt.stack(spreads)[parts.part] * steps), dims="effect_cell"
        )
        overlap = pm.Beta("overlap", 1.0, 1.0) if cells.restated else pt.constant(0.0)
        variance = _person_variance(cells, priors)
        pm.Potential(
            "cells",
            log_likelihood(
                cells, period, slope, effect, 1.0 / ((1.0 - overlap) * variance),
                overlap * variance, _scales(priors, active),
            ),
        )  # fmt: skip
    return model


def _coefficients(
    cells: Cells, parts: Structure, priors: Priors, period_scale: Any, around: Reference | None
) -> tuple[Any, Any, Any]:
    """Return period coefficients (S, T - 1), slope coefficients (p, T - 1) and effect steps (q,)."""
    import pymc as pm
    import pytensor.tensor as pt

    shapes = (
        (cells.n_strata, len(cells.periods) - 1),
        (len(cells.covariates), len(cells.periods) - 1),
        (len(parts.part),),
    )
    sds = (period_scale, priors.covariate, 1.0)
    if around is None:
        names = ("period_step", "slope_step", "effect_step")
        a, b, c = (
            pm.Normal(name, 0.0, sd, shape=shape)
            for name, sd, shape in zip(names, sds, shapes, strict=True)
        )
        return a, b, c
    # the data fix these coefficients well and correlate them strongly: move where they look round
    z = pm.Flat("coordinates", shape=len(around.centre))
    flat = around.centre + around.root @ z
    found, first, prior = [], 0, pt.constant(0.0)
    for shape, sd in zip(shapes, sds, strict=True):
        size = int(np.prod(shape))
        block = flat[first : first + size]
        prior = prior - 0.5 * pt.sqr(block / sd).sum() - size * pt.log(sd)
        found.append(block.reshape(shape))
        first += size
    pm.Potential("coefficients", prior)
    return found[0], found[1], found[2]


def _person_variance(cells: Cells, priors: Priors) -> Any:
    """Return the variance of one person-year: 1 where it is part of the weights, else estimated."""
    import pymc as pm
    import pytensor.tensor as pt

    if cells.within is None:
        return pt.ones(cells.n_strata)
    sd = pm.HalfNormal("person_sd", priors.person, dims="stratum")
    variance = pt.sqr(sd)
    dof, squares = cells.within
    pm.Potential("persons", -0.5 * (dof * pt.log(variance) + squares / variance).sum())
    return variance


def _scales(priors: Priors, active: BoolArray) -> Any:
    """Return (specific, common, lasting, rho): three variances and the autocorrelation."""
    import pymc as pm
    import pytensor.tensor as pt

    out = [pt.constant(0.0)] * 4
    if active[RHO]:
        out[RHO] = pm.Deterministic("rho", 2.0 * pm.Beta("rho_share", 2.0, 2.0) - 1.0)
    for place, name in ((COMMON, "common_shock"), (SPECIFIC, "stratum_shock")):
        if active[place]:
            # HalfNormal(shock) on the sd; what the data fix is the sd of changes, so that is drawn
            spread = pt.sqrt(1.0 - out[RHO])
            change = pm.HalfNormal(f"{name}_change", priors.shock * spread)
            out[place] = pt.sqr(pm.Deterministic(name, change / spread))
    if active[LASTING]:
        out[LASTING] = pt.sqr(pm.HalfNormal("organization_sd", priors.organization))
    return pt.stack(out)
