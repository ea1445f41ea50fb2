"""Simulation-based calibration of several outcomes of reports, as `vbceval.bayes.calibration`."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np

from vbceval.bayes.calibration import place_of_truth
from vbceval.bayes.meta_outcomes.density import Density, Drawn, deviations, draw, from_prior
from vbceval.bayes.meta_tree import log_likelihoods
from vbceval.bayes.quadrature import Start, integrate
from vbceval.bayes.sample import one_thread
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray

_SOME = 3
"""Of shrunken effects and type means, how many are judged."""


def places_of_truth(density: Density, *, nodes: int, draws: int, seed: int) -> dict[str, float]:
    """
    Simulate once from the prior, and say where the truth lies in the posterior.

    Parameters
    ----------
    density : Density
        The model; its estimates are replaced.
    nodes, draws : int
        Of the engine.
    seed : int
        Seed of simulation, integration and draws.

    Returns
    -------
    dict
        Place of the truth among posterior draws (`vbceval.bayes.calibration.place_of_truth`): of
        means, type means, a new program's effects, true effects, differences between outcomes,
        standard deviations and correlations, and ``log_likelihood`` of all effects given means of
        types, standard deviations and correlations.

    Raises
    ------
    EstimationError
        If the integral cannot be trusted.
    """
    rng = generator(seed, "calibration", "meta outcomes")
    at = density.natural(rng.standard_normal((1, len(density.names))))
    truth = from_prior(density, at, rng)
    new = np.zeros_like(truth.type_mean)
    for level in density.rows.levels:
        if level != "type":
            new += deviations(at, level, new.shape[1], rng)
    rows = replace(density.rows, estimate=(truth.effect + truth.error)[0])
    found = replace(density, rows=rows)
    d = len(found.names)
    with one_thread():
        points, _ = integrate(
            found, Start(np.zeros(d), np.eye(d)), families=nodes, each=1, seed=seed
        )
        ours = _quantities(found, draw(found, points, size=draws, rng=rng))
        node = np.zeros(1, dtype=np.int64)
        alone = Drawn(
            truth.mean, truth.type_mean, truth.type_mean + new, truth.effect, at, node
        )  # fmt: skip
        true = _quantities(found, alone)
    return {name: place_of_truth(x, float(true[name][0])) for name, x in ours.items()}


def _quantities(density: Density, drawn: Drawn) -> dict[str, FloatArray]:
    """Return scalar quantities of each draw."""
    rows, pairs = density.rows, combinations(range(len(density.rows.outcomes)), 2)
    out = {f"mean_effect[{j}]": x for j, x in enumerate(drawn.mean.T)}
    # a statement about two outcomes needs their joint law
    out["difference"] = drawn.mean[:, 0] - drawn.mean[:, 1]
    for j in range(len(rows.outcomes)):
        out[f"type_mean[0,{j}]"] = drawn.type_mean[:, 0, j]
        out[f"predictive[0,{j}]"] = drawn.predictive[:, 0, j]
    out["predictive_difference"] = drawn.predictive[:, 0, 0] - drawn.predictive[:, 0, 1]
    out |= {f"study_effect[{k}]": x for k, x in enumerate(drawn.effect.T[:_SOME])}
    for level, values in drawn.at.sd.items():
        out |= {f"{level}_sd[{j}]": x for j, x in enumerate(values.T)}
    out |= {f"between_correlation[{i},{j}]": drawn.at.correlation[:, i, j] for i, j in pairs}
    centre = drawn.type_mean[:, rows.index["type"], rows.outcome]
    together = np.zeros(len(rows), dtype=np.int64)
    found = log_likelihoods(
        rows.estimate - centre, lambda some: density.within(drawn.at.take(some)), together
    )
    return {**out, "log_likelihood": found[:, 0]}
