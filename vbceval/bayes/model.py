"""The hierarchical difference-in-differences model in PyMC; nothing is sampled here."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from vbceval.bayes.cells import Cells
from vbceval.bayes.coefficients import Reference, Structure
from vbceval.bayes.elimination import COMMON, LASTING, RHO, SPECIFIC
from vbceval.bayes.heavy import local_scales, shock_stretch
from vbceval.bayes.hyper import BY_STRATUM, HORSESHOE, SHOCKS, STUDENT, Law, laws
from vbceval.bayes.likelihood import Scales, density, operation
from vbceval.bayes.priors import Priors
from vbceval.core.checks import Problems
from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray

Shocks = Literal["ar1", "iid", "none"]
ShockScale = Literal["equal", "stratum"]
Tails = Literal["normal", "student"]
Pooling = Literal["normal", "horseshoe"]


def require_laws(
    *, shocks: Shocks, shock_scale: ShockScale, tails: Tails, pooling: Pooling, family: str,
    sampled: bool,
) -> None:  # fmt: skip
    """
    Check options that say what law shocks and parts of the effect have.

    Parameters
    ----------
    shocks, shock_scale, tails, pooling, family
        Options of `vbceval.bayes.HierarchicalDiD`.
    sampled : bool
        Whether the engine is a sampler.

    Raises
    ------
    DesignError
        If a value is not known, or would change nothing.
    """
    problems = Problems("the model", DesignError)
    if shocks not in ("ar1", "iid", "none"):
        problems.add(f"`shocks` is '{shocks}'; use 'ar1', 'iid' or 'none'.")
    for name, value, other in (
        ("shock_scale", shock_scale, "stratum"), ("tails", tails, "student"),
        ("pooling", pooling, "horseshoe"),
    ):  # fmt: skip
        plain = "equal" if name == "shock_scale" else "normal"
        if value not in (plain, other):
            problems.add(f"`{name}` is '{value}'; use '{plain}' or '{other}'.")
        elif value == other and family != "gaussian":
            problems.add(f"{name}='{value}' belongs to family='gaussian'. Leave it out.")
        elif value == other and name != "pooling" and shocks == "none":
            problems.add(f"{name}='{value}' is about shocks, and shocks='none' leaves them out.")
        elif value == other and name != "shock_scale" and not sampled:
            problems.add(
                f"{name}='{value}' has no closed form. Use engine='nuts', which samples it."
            )
    problems.raise_if_any()


def active_scales(
    cells: Cells, *, shocks: Shocks, organizations: bool, by_stratum: bool = False,
    student: bool = False, horseshoe: bool = False,
) -> BoolArray:  # fmt: skip
    """
    Return which of (specific, common, lasting, rho) the model has, and what else, shape (7,).

    What else: shocks of each stratum have a variance of their own, shocks are Student t, parts of
    the effect have a horseshoe prior.

    Raises
    ------
    DesignError
        If variances by stratum are asked for and there is one stratum.
    """
    if by_stratum and cells.n_strata == 1:
        raise DesignError(
            "shock_scale='stratum' needs strata, and the cells have one. Leave it out, or name "
            "`strata` in the panel."
        )
    active = np.zeros(7, dtype=bool)
    active[COMMON] = shocks != "none"
    # with one stratum the two kinds of shock are the same thing
    active[SPECIFIC] = shocks != "none" and cells.n_strata > 1
    active[LASTING] = organizations
    active[RHO] = shocks == "ar1"
    active[[BY_STRATUM, STUDENT, HORSESHOE]] = by_stratum, student, horseshoe
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
    active : array of bool, shape (7,)
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
        none = pt.constant(0.0)
        found: dict[str, Any] = {"part_sd": pt.zeros(0), "rho": none}
        for law in laws(cells, parts, priors, active, person_log_sd=person_log_sd):
            found[law.name] = _variable(law, found["rho"])
            if law.name == "rho_share":
                found["rho"] = 2.0 * found["rho_share"] - 1.0
        person = found.get("person_sd", found.get("person_factor", pt.ones(cells.n_strata)))
        inputs = Scales(
            found["part_sd"], found.get("stratum_shock", none), found.get("common_shock", none),
            found.get("organization_sd", none), found["rho"], found.get("overlap", none), person,
            shock_stretch(len(cells.clusters)) if active[STUDENT] else pt.ones(()),
            local_scales(parts, found["part_sd"]) if active[HORSESHOE] else pt.ones(()),
        )  # fmt: skip
        pm.Potential("cells", operation()(function)(coordinates, *inputs)[0])
    return model


def _variable(law: Law, rho: Any) -> Any:
    """Return a parameter of the model with its prior; the variance where that is what enters."""
    import pymc as pm
    import pytensor.tensor as pt

    if law.name in SHOCKS:
        # HalfNormal(shock) on the sd. What the data fix is the sd of changes, so that is drawn:
        # change = sd sqrt(1 - rho)
        scale = law.values[0] * pt.sqrt(1.0 - rho)
        change = pm.HalfNormal(f"{law.name}_change", scale, dims=law.dims)
        return pt.sqr(change) / (1.0 - rho)
    if law.family == "beta":
        return pm.Beta(law.name, *law.values)
    if law.family == "log_normal":
        return pm.LogNormal(law.name, 0.0, law.values[0], dims=law.dims)
    found = pm.HalfNormal(law.name, law.values[0], dims=law.dims)
    return pt.sqr(found) if law.name == "organization_sd" else found
