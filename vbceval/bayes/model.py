"""The hierarchical difference-in-differences model in PyMC; nothing is sampled here."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from vbceval.bayes.cells import Cells
from vbceval.bayes.coefficients import Reference, Structure
from vbceval.bayes.likelihood import Scales, density, operation
from vbceval.bayes.marginal import COMMON, LASTING, RHO, SPECIFIC
from vbceval.bayes.priors import Priors
from vbceval.core.typing import BoolArray, FloatArray

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
    cells: Cells,
    parts: Structure,
    priors: Priors,
    active: BoolArray,
    around: Reference,
    *,
    person_log_sd: float = 0.0,
) -> Any:
    """
    Return the model of cell means, in percent of baseline.

    Unit x stratum intercepts (flat), organization x period shocks, organizations' own effects and
    noise are integrated out exactly (`vbceval.bayes.marginal`). What is sampled: the coefficients
    of period effects, covariates and treatment effects (see `vbceval.bayes.coefficients`),
    standard deviations, autocorrelation, and the share of noise that restated cells have in common.

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
    around : Reference
        Behind the coordinates of the coefficients; the posterior does not depend on it.
    person_log_sd : float, default 0
        Standard deviation of the log of a factor on the stated spread of persons, one a stratum;
        0 takes that spread as known. What identifies the factor is that noise falls with the number
        of persons behind a cell, and shocks do not.

    Returns
    -------
    pymc.Model
        Coefficients are placed by `vbceval.bayes.coefficients.place`.
    """
    import pymc as pm
    import pytensor.tensor as pt

    def function(coordinates: FloatArray, *scales: FloatArray) -> Any:
        return density(cells, parts, priors, around, coordinates, Scales(*scales))

    with pm.Model(coords={"part": parts.names[1:], "stratum": cells.coords["stratum"]}) as model:
        # the normal prior of the coefficients is part of the density below
        coordinates = pm.Flat("coordinates", shape=len(around.target))
        sds = pt.zeros(0)
        if len(parts.names) > 1:
            sds = pm.HalfNormal("part_sd", priors.spread, dims="part")
        specific, common, lasting, rho = _variances(priors, active)
        overlap = pm.Beta("overlap", 1.0, 1.0) if cells.restated else pt.constant(0.0)
        person = pt.ones(cells.n_strata)
        if cells.within is not None:
            person = pm.HalfNormal("person_sd", priors.person, dims="stratum")
        elif person_log_sd > 0:
            person = pm.LogNormal("person_factor", 0.0, person_log_sd, dims="stratum")
        inputs = Scales(sds, specific, common, lasting, rho, overlap, person)
        pm.Potential("cells", operation()(function)(coordinates, *inputs)[0])
    return model


def _variances(priors: Priors, active: BoolArray) -> tuple[Any, Any, Any, Any]:
    """Return (specific, common, lasting, rho): three variances and the autocorrelation."""
    import pymc as pm
    import pytensor.tensor as pt

    out = [pt.constant(0.0)] * 4
    if active[RHO]:
        out[RHO] = 2.0 * pm.Beta("rho_share", 2.0, 2.0) - 1.0
    for place, name in ((COMMON, "common_shock"), (SPECIFIC, "stratum_shock")):
        if active[place]:
            # HalfNormal(shock) on the sd. What the data fix is the sd of changes, so that is drawn:
            # change = sd sqrt(1 - rho)
            change = pm.HalfNormal(f"{name}_change", priors.shock * pt.sqrt(1.0 - out[RHO]))
            out[place] = pt.sqr(change) / (1.0 - out[RHO])
    if active[LASTING]:
        out[LASTING] = pt.sqr(pm.HalfNormal("organization_sd", priors.organization))
    return out[0], out[1], out[2], out[3]
