"""Simulation-based calibration of several outcomes, as `vbceval.bayes.calibration` of one."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from vbceval.bayes.calibration import place_of_truth
from vbceval.bayes.draws import DIMS, flatten
from vbceval.bayes.exact import Drawn, draw, integrated
from vbceval.bayes.joint.correlated import Joint
from vbceval.bayes.joint.dense import DenseEquations
from vbceval.bayes.joint.posterior import cluster_likelihood, joint_dataset, marginal
from vbceval.bayes.joint.simulated import from_prior
from vbceval.bayes.likelihood import residuals
from vbceval.bayes.priors import Priors
from vbceval.bayes.quadrature import Start
from vbceval.bayes.sample import one_thread
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray

_LIKELIHOOD_DRAWS = 99


def places_of_truth(
    joint: Joint, priors: Priors, weights: FloatArray, *, nodes: int, draws: int, seed: int
) -> dict[str, float]:
    """
    Simulate once from the prior, and say where the truth lies in the posterior.

    Parameters
    ----------
    joint, priors : Joint, Priors
        The model; its outcomes are replaced.
    weights : array, shape (k, J)
        Reported averages of the effects of all outcomes.
    nodes, draws : int
        Of the engine.
    seed : int
        Seed of simulation, integration and draws.

    Returns
    -------
    dict
        Place of the truth among posterior draws (`vbceval.bayes.calibration.place_of_truth`): of
        averages, effects at entry, differences of averages between outcomes, variances and
        correlations, an organization's own effect on each outcome, and ``log_likelihood`` of all
        cells.

    Raises
    ------
    EstimationError
        If the integral cannot be trusted.
    """
    rng = generator(seed, "calibration", "joint")
    truth = from_prior(joint, priors, marginal(joint, priors, weights).dense, rng)
    found = truth.joint
    with one_thread():
        density = marginal(found, priors, weights)
        d = len(density.names)
        points, _ = integrated(density, Start(np.zeros(d), np.eye(d)), nodes=nodes, seed=seed)
        drawn = draw(density, points, size=draws, seed=seed)
        tree = _tree(found, priors, drawn)
        ours = _quantities(found, weights, tree)
        alone = Drawn(
            np.zeros(1, dtype=np.int64),
            {k: x[None] for k, x in truth.values.items()},
            truth.v[None],
        )
        true = _quantities(found, weights, _tree(found, priors, alone))
        if joint.organizations:
            some = int(found.stacked.cells.cluster[found.stacked.cells.layout.treated > 0][0])
            ours |= _named(own_effects(found, density.dense, tree, some, rng))
            true |= _named(truth.own[[some]])
    return {name: place_of_truth(x, float(true[name][0])) for name, x in ours.items()}


def own_effects(
    joint: Joint, dense: DenseEquations, tree: Any, cluster: int, rng: np.random.Generator
) -> FloatArray:
    """
    Draw what is lasting in an organization's effects on all outcomes, given each draw, (N, O).

    Parameters
    ----------
    joint, dense : Joint, DenseEquations
        The model, and its cells arranged.
    tree : DataTree
        Draws.
    cluster : int
        Code of the organization.
    rng : Generator
        Source.
    """
    stacked, at = joint.stacked, _at(tree)
    cells = stacked.cells
    sd, correlation = at["organization_sd"], at["organization_correlation"]
    out = np.empty_like(sd)
    for d in range(len(sd)):
        law = joint.covariances({name: values[d] for name, values in at.items()})
        own, precision = dense.precision(cluster, law)
        slope = at["slope"][d] if cells.covariates else np.zeros((0, 0))
        residual = residuals(cells, at["period_effect"][d], slope, at["effect"][d])[own]
        prior = np.outer(sd[d], sd[d]) * correlation[d]
        here = (
            cells.layout.treated[own] * np.eye(sd.shape[1])[:, stacked.outcome[cells.stratum[own]]]
        )
        pull = prior @ here @ precision
        out[d] = rng.multivariate_normal(pull @ residual, prior - pull @ here.T @ prior)
    return out


def _named(own: FloatArray) -> dict[str, FloatArray]:
    return {f"own_effect[{o}]": x for o, x in enumerate(own.T)}


def _at(tree: Any) -> dict[str, FloatArray]:
    return {str(name): flatten(tree, str(name)) for name in tree["posterior"].data_vars}


def _tree(joint: Joint, priors: Priors, drawn: Drawn) -> Any:
    import xarray

    values = {k: x[None] for k, x in drawn.values.items()}
    stats = xarray.Dataset({"node": (DIMS, drawn.node[None])})
    named = joint_dataset(joint, priors, values, drawn.v[None])
    return xarray.DataTree.from_dict({"posterior": named, "sample_stats": stats})


def _quantities(joint: Joint, weights: FloatArray, tree: Any) -> dict[str, FloatArray]:
    """Return scalar quantities of each draw."""
    at, n = _at(tree), len(joint.stacked.outcomes)
    averages = at["effect"] @ weights.T
    # rows come in pairs, in the unit of the outcome and in percent
    out = {f"average[{k}]": averages[:, k] for k in range(1, averages.shape[1], 2)}
    # the overall effects in percent of the first two: a statement about both needs their joint law
    out["difference"] = averages[:, 1] - averages[:, averages.shape[1] // n + 1]
    known = {"effect", "period_effect", "slope"}
    if joint.person_correlation is not None:
        known.add("person_correlation")
    for name in sorted(set(at) - known):
        values = at[name]
        if name.endswith("_correlation"):
            pairs = combinations(range(n), 2)
            out |= {f"{name}[{i},{j}]": values[:, i, j] for i, j in pairs}
        elif values.ndim == 1:
            out[name] = values
        else:
            # a stated spread of persons has no posterior
            free = joint.person_log_sd > 0 or name != "person_scale"
            columns = range(values.shape[1]) if free else np.flatnonzero(~joint.stated)
            out |= {f"{name}[{k}]": values[:, k] for k in columns}
    some = np.arange(min(len(averages), _LIKELIHOOD_DRAWS))
    out["log_likelihood"] = cluster_likelihood(tree, joint, some).sum(axis=1)
    return out
