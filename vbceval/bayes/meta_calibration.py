"""Simulation-based calibration of the meta-analysis, as `sampled_calibration` of cell means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vbceval.bayes.checks import require_converged
from vbceval.bayes.meta_data import Studies
from vbceval.bayes.meta_density import LEVELS, design, pulls
from vbceval.bayes.meta_nuts import Priors, build, located
from vbceval.bayes.meta_posterior import HEAVY_LEVELS, Posterior, exact_posterior, prior_errors
from vbceval.bayes.sample import compiled, one_thread, sample
from vbceval.bayes.sampled_calibration import LIMITS, Placed, Run, evenly, patiently, places
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray

_SOME = 3
"""Of deviations, effects, mixing variables and unprinted errors, how many are judged."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Repeated:
    """
    A meta-analysis that is compiled once and sampled with other estimates many times.

    Parameters
    ----------
    studies : Studies
        Its estimates are an array of its own, which is overwritten: the compiled density reads it.
    priors : Priors
        Scales of the priors.
    program : object
        What `vbceval.bayes.sample.compiled` returned.
    """

    studies: Studies
    priors: Priors
    program: Any


def repeated(studies: Studies, priors: Priors) -> Repeated:
    """Compile the meta-analysis of a table for many sets of estimates."""
    own = replace(studies, estimate=studies.estimate.copy())
    return Repeated(studies=own, priors=priors, program=compiled(build(own, priors)))


def from_prior(studies: Studies, priors: Priors, rng: np.random.Generator) -> Posterior:
    """
    Draw parameters from the prior, one draw in the form of a posterior; see `estimates`.

    Parameters
    ----------
    studies : Studies
        Levels, and which standard errors are printed.
    priors : Priors
        Scales.
    rng : Generator
        Source.
    """
    reports = len(studies.labels["report"])
    sd = {x: np.abs(rng.normal(0.0, priors.sd_scale, 1)) for x in studies.levels}
    mixing = np.ones((1, reports))
    if priors.nu is not None:
        mixing = (priors.nu - 2.0) / rng.chisquare(priors.nu, (1, reports))
    mean = rng.normal(0.0, priors.mean_sd, 1)
    own = sd.get("type", np.zeros(1))
    type_mean = mean[:, None] + own * rng.standard_normal((1, len(studies.labels["type"])))
    deviation = {}
    for level in studies.random_levels:
        found = sd[level] * rng.standard_normal((1, len(studies.labels[level])))
        if level in HEAVY_LEVELS:
            of = np.arange(reports) if level == "report" else studies.index["report"]
            found = found * np.sqrt(mixing[:, of])
        deviation[level] = found
    return Posterior(
        mean=mean, type_mean=type_mean, sd=sd, mixing=mixing, deviation=deviation,
        std_error=prior_errors(studies, 1, rng), chains=1,
    )  # fmt: skip


def estimates(
    studies: Studies, truth: Posterior, rho: float, rng: np.random.Generator
) -> FloatArray:
    """Draw estimates given the truth, shape (n,); `rho` correlates the errors of one sample."""
    error = np.sqrt(1.0 - rho) * rng.standard_normal(len(studies))
    if rho > 0:
        common = rng.standard_normal(len(studies.labels["sample"]))
        error = error + np.sqrt(rho) * common[studies.index["sample"]]
    return np.asarray(truth.true_effect(studies)[0] + truth.std_error[0] * error)


def places_of_truth(found: Repeated, *, run: Run, seed: int) -> Placed:
    """
    Simulate once from the prior, sample, and say where the truth lies among draws.

    Parameters
    ----------
    found : Repeated
        Its estimates are replaced.
    run : Run
        Sizes.
    seed : int
        Seed of simulation and sampler.

    Returns
    -------
    Placed
        Places among `KEPT` draws at even distances, and divergences.

    Raises
    ------
    EstimationError
        If the draws cannot be trusted, also of a longer run.
    """
    studies, priors = found.studies, found.priors
    rng = generator(seed, "calibration", "meta")
    truth = from_prior(studies, priors, rng)
    studies.estimate[:] = estimates(studies, truth, priors.rho, rng)

    def once(sizes: Run) -> tuple[Posterior, int]:
        tree = sample(found.program, **sizes._asdict(), seed=seed)
        drawn = located(tree, studies, priors, generator(seed, "meta", "nuts"))
        seen = require_converged(drawn.tree(studies), drawn.reported, LIMITS)
        return drawn, seen.divergences

    with one_thread():
        drawn, divergences = patiently(once, run)
        kept = drawn.take(evenly(len(drawn.mean)))
        ours, true = (_quantities(studies, x, priors) for x in (kept, truth))
    return Placed(places(ours, {k: float(x[0]) for k, x in true.items()}), divergences)


def places_by_grid(studies: Studies, priors: Priors, *, draws: int, seed: int) -> dict[str, float]:
    """
    Do what `places_of_truth` does with ``engine="grid"``, whose draws are independent.

    Parameters
    ----------
    studies : Studies
        With printed standard errors; its estimates are replaced.
    priors : Priors
        Scales, of normal deviations.
    draws : int
        Draws that truths are placed among.
    seed : int
        Seed of simulation and draws.

    Raises
    ------
    EstimationError
        If too few points carry the posterior.
    """
    rng = generator(seed, "calibration", "meta grid")
    truth = from_prior(studies, priors, rng)
    found = replace(studies, estimate=estimates(studies, truth, priors.rho, rng))
    with one_thread():
        drawn = exact_posterior(
            found, sd_scale=priors.sd_scale, mean_sd=priors.mean_sd, rho=priors.rho, draws=draws,
            rng=rng,
        )  # fmt: skip
        ours, true = (_quantities(found, x, priors) for x in (drawn, truth))
    return places(ours, {k: float(x[0]) for k, x in true.items()})


def _quantities(studies: Studies, at: Posterior, priors: Priors) -> dict[str, FloatArray]:
    """Return scalar quantities of each draw."""
    out = {"mean_effect": at.mean}
    out |= {f"type_mean[{k}]": x for k, x in enumerate(at.type_mean.T)}
    out |= {f"{level}_sd": x for level, x in at.sd.items()}
    out |= {f"study_effect[{k}]": x for k, x in enumerate(at.true_effect(studies).T[:_SOME])}
    for level, values in at.deviation.items():
        out[f"{level}_deviation[0]"] = values[:, 0]
    if priors.nu is not None:
        out |= {f"mixing[{k}]": x for k, x in enumerate(at.mixing.T[:_SOME])}
    if studies.error_law is not None:
        rows = studies.error_law.rows[:_SOME]
        out |= {f"std_error[{k}]": at.std_error[:, row] for k, row in enumerate(rows)}
    size = len(at.mean)
    sd = np.stack([at.sd.get(x, np.zeros(size)) for x in LEVELS], axis=1)
    residual = np.tile(studies.estimate, (size, 1))
    table = design(studies, mean_sd=priors.mean_sd, rho=priors.rho)
    out["log_likelihood"] = pulls(table, sd, at.mixing, at.std_error, residual)[1]
    return out
