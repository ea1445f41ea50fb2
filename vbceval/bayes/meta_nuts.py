"""The meta-analysis in PyMC: scales are sampled, everything normal is drawn afterwards."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from vbceval.bayes.likelihood import operation
from vbceval.bayes.meta_data import Studies
from vbceval.bayes.meta_density import design, drawn_error, log_density
from vbceval.bayes.meta_posterior import Posterior, draw_locations
from vbceval.bayes.sample import Progress, sample
from vbceval.core.typing import FloatArray


class Priors(NamedTuple):
    """Scales of the priors in percent points; `nu` None means normal deviations."""

    mean_sd: float
    sd_scale: float
    nu: float | None
    rho: float


def build(studies: Studies, priors: Priors) -> Any:
    """
    Return the PyMC model.

    Given the mixing variable of each report's t distribution every deviation is normal, and so are
    the means: all of them are integrated out exactly (`vbceval.bayes.meta_density`). Only standard
    deviations, mixing variables and unprinted standard errors are sampled, so there is no funnel
    for the sampler to fall into.
    """
    import pymc as pm
    import pytensor.tensor as pt

    at = design(studies, mean_sd=priors.mean_sd, rho=priors.rho)
    reports, law = len(studies.labels["report"]), studies.error_law

    def function(spread: FloatArray, mixing: FloatArray, share: FloatArray) -> Any:
        value, by_spread, *others = log_density(at, spread, mixing, share)
        return value, by_spread, others

    with pm.Model() as model:
        spread = pm.HalfNormal("spread", priors.sd_scale, shape=len(studies.levels))
        mixing = pt.ones(reports)
        if priors.nu is not None:
            alpha, beta = priors.nu / 2, (priors.nu - 2) / 2
            mixing = pm.InverseGamma("mixing", alpha=alpha, beta=beta, shape=reports)
        share = pt.zeros(0)
        if law is not None:
            share = pm.Uniform("error_share", 0.0, 1.0, shape=len(law.rows))
        pm.Potential("effects", operation()(function)(spread, mixing, share)[0])
    return model


def nuts_posterior(
    studies: Studies,
    priors: Priors,
    *,
    options: dict[str, Any],
    rng: np.random.Generator,
    progress: Progress | None,
) -> Posterior:
    """
    Sample the model and draw what was integrated out from its exact conditional law.

    Parameters
    ----------
    studies : Studies
        n effects.
    priors : Priors
        Scales of the priors.
    options : dict
        draws, tune, chains, seed, target_accept, for `vbceval.bayes.sample.sample`.
    rng : Generator
        Source of the draws that follow sampling.
    progress : callable, optional
        As in `vbceval.bayes.sample.sample`.
    """
    tree = sample(build(studies, priors), **options, progress=progress)
    return located(tree, studies, priors, rng)


def located(tree: Any, studies: Studies, priors: Priors, rng: np.random.Generator) -> Posterior:
    """
    Draw what was integrated out, from its exact law given each draw of the sampler.

    Parameters
    ----------
    tree : DataTree
        What `vbceval.bayes.sample.sample` returned for the model of `build`.
    studies, priors
        What the model was built from.
    rng : Generator
        Source.
    """
    posterior = tree["posterior"].to_dataset()
    drawn = {
        str(k): np.asarray(v.values).reshape(-1, *v.shape[2:])
        for k, v in posterior.data_vars.items()
    }
    at = design(studies, mean_sd=priors.mean_sd, rho=priors.rho)
    size = len(drawn["spread"])
    mixing = drawn.get("mixing", np.ones((size, len(studies.labels["report"]))))
    return draw_locations(
        studies,
        {level: drawn["spread"][:, i] for i, level in enumerate(studies.levels)},
        mixing,
        drawn_error(at, drawn.get("error_share", np.zeros((size, 0))))[0],
        mean_sd=priors.mean_sd,
        rho=priors.rho,
        rng=rng,
        chains=posterior.sizes["chain"],
        sample_stats=tree["sample_stats"].to_dataset(),
    )
