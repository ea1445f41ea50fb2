"""Simulation-based calibration of models of counts, as `vbceval.bayes.calibration` of cell means."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vbceval.bayes.calibration import place_of_truth
from vbceval.bayes.counts.by_cluster import by_cluster
from vbceval.bayes.counts.draws import Latent, Reporter, draw_latent
from vbceval.bayes.counts.engine import (
    CountMarginal,
    integrate_counts,
    laplace_error,
    require_small,
)
from vbceval.bayes.counts.field import Field, arrange
from vbceval.bayes.counts.laplace import At
from vbceval.bayes.counts.rows import Rows
from vbceval.bayes.counts.simulated import events_from_prior
from vbceval.bayes.hyper import natural_values
from vbceval.bayes.sample import one_thread
from vbceval.bayes.weights import resampled
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray

_LIKELIHOOD_DRAWS = 99


def from_prior(
    model: CountMarginal, rng: np.random.Generator
) -> tuple[CountMarginal, FloatArray, Latent]:
    """Return what `events_from_prior` does, with the model of the simulated counts in their place."""
    events, point, latent = events_from_prior(model, rng)
    data = replace(model.grid.data, events=events)
    return replace(model, grid=arrange(data, model.grid.parts)), point, latent


def places_of_truth(
    model: CountMarginal, rows: Rows, *, nodes: int, draws: int, seed: int
) -> dict[str, float]:
    """
    Simulate once from the prior, and say where the truth lies in the posterior.

    Parameters
    ----------
    model : CountMarginal
        Its events are replaced.
    rows : Rows
        Averages, of the rate and on the scale of the model.
    nodes, draws : int
        Of the engine.
    seed : int
        Seed of simulation, integration and draws.

    Returns
    -------
    dict
        Place of the truth among posterior draws (`vbceval.bayes.calibration.place_of_truth`): of
        averages, coefficients, variance parameters, and ``log_likelihood`` of all cells.

    Raises
    ------
    EstimationError
        If the integral or the approximation cannot be trusted.
    """
    found, point, truth = from_prior(model, generator(seed, "calibration", "counts"))
    grid = found.grid
    with one_thread():
        nodes_found, _ = integrate_counts(found, nodes=nodes, seed=seed)
        require_small(laplace_error(nodes_found, rows.labels[2::3], found.names))
        picked = resampled(nodes_found.weights, draws, generator(seed, "draws"))
        reporter = Reporter(grid, draws, np.zeros(0, dtype=np.int64), seed)
        for places, latent, at in draw_latent(found, nodes_found, picked, seed=seed):
            reporter.add(places, latent, at)
        ours = _quantities(found, rows, reporter, nodes_found.points[picked])
        alone = Reporter(grid, 1, np.zeros(0, dtype=np.int64), seed)
        alone.add(np.zeros(1, dtype=np.int64), truth, found.values(point))
        true = _quantities(found, rows, alone, point)
    return {name: place_of_truth(values, float(true[name][0])) for name, values in ours.items()}


def _quantities(
    model: CountMarginal, rows: Rows, kept: Reporter, points: FloatArray
) -> dict[str, FloatArray]:
    """Return scalar quantities of each draw."""
    grid: Field = model.grid
    at: At = model.values(points)
    own = len(grid.parts.part)
    effects = (at.scale * kept.v)[:, -own:] @ grid.parts.loading.T
    percent = kept.percent * kept.unit
    out = {f"average[{k}]": x for k, x in enumerate(rows.values(percent, effects).T) if k % 3 != 1}
    out["effect_at_entry"] = model.priors.effect * kept.v[:, -own]
    out["level[0]"], out["period[0]"] = kept.v[:, 0], kept.v[:, grid.n_fixed]
    values = model.split(points)
    for name, column in natural_values(values, grid.parts).items():
        out[name] = column
    for name in ("intercept_sd", "unit_sd", "dispersion"):
        if name in values:
            out[name] = values[name]
    owner = int(grid.data.cells.cluster[grid.data.cells.effect_of_cell >= 0][0])
    if "organization_sd" in values:
        out["own_effect"] = kept.own[:, owner]
    some = slice(0, _LIKELIHOOD_DRAWS)
    found = by_cluster(grid, model.values(points[some]), kept.v[some])
    out["log_likelihood"] = found.log_likelihood.sum(axis=1)
    return out
