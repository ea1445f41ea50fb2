"""Posterior of several outcomes: integrate, draw, name, check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from vbceval.bayes.cells import codes
from vbceval.bayes.checks import Convergence, Limits
from vbceval.bayes.draws import DIMS, dataset, flatten
from vbceval.bayes.engines import add_averages, settled
from vbceval.bayes.exact import NODES, draw, integrated
from vbceval.bayes.groups import add_data, observed, posterior_check
from vbceval.bayes.joint.correlated import DIMENSIONS, Joint, JointMarginal
from vbceval.bayes.joint.dense import arrange_dense
from vbceval.bayes.joint.simulated import prior_cells
from vbceval.bayes.joint.stacked import Stacked
from vbceval.bayes.likelihood import residuals
from vbceval.bayes.predictive import Discrepancy, centred, thinned
from vbceval.bayes.priors import Priors, log_density
from vbceval.bayes.quadrature import Start
from vbceval.bayes.sample import one_thread
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray, IntArray


class Found(NamedTuple):
    """
    Draws that passed the gates.

    Parameters
    ----------
    tree : DataTree
        ``posterior``, ``sample_stats``, ``observed_data`` and ``constant_data``.
    draws : array, shape (N, k)
        Draws of the averages.
    mean : array, shape (k,)
        Their posterior means.
    seen : Convergence
        What was checked.
    integration : dict
        How the integral was done.
    """

    tree: Any
    draws: FloatArray
    mean: FloatArray
    seen: Convergence
    integration: dict[str, Any]


def marginal(joint: Joint, priors: Priors, weights: FloatArray) -> JointMarginal:
    """
    Return the density of variances and correlations.

    Parameters
    ----------
    joint : Joint
        The model.
    priors : Priors
        Prior scales.
    weights : array, shape (k, J)
        Reported averages of the effects of all outcomes.
    """
    cells, parts = joint.stacked.cells, joint.stacked.parts
    dense = arrange_dense(cells, parts, joint.stacked.group)
    return JointMarginal(
        cells=cells, parts=parts, priors=priors, equations=dense.equations,
        laws=joint.laws(priors), averages=weights, joint=joint, dense=dense,
    )  # fmt: skip


def posterior(
    joint: Joint, priors: Priors, weights: FloatArray, *, draws: int, chains: int,
    nodes: int | None, seed: int, limits: Limits | None,
) -> Found:  # fmt: skip
    """
    Integrate coefficients in closed form and variances and correlations by nodes, then draw.

    Raises
    ------
    EstimationError
        If the integral cannot be trusted.
    """
    import xarray

    stacked, shape = joint.stacked, (chains, draws)
    with one_thread():
        density = marginal(joint, priors, weights)
        d = len(density.names)
        found, seen = integrated(
            density, Start(np.zeros(d), np.eye(d)), nodes=nodes or NODES, seed=seed
        )
        drawn = draw(density, found, size=draws * chains, seed=seed)
    values = {k: v.reshape(*shape, *v.shape[1:]) for k, v in drawn.values.items()}
    named = joint_dataset(joint, priors, values, drawn.v.reshape(*shape, -1))
    stats = xarray.Dataset({"node": (DIMS, drawn.node.reshape(shape))}, {
        name: named[name].values for name in DIMS
    })  # fmt: skip
    tree = xarray.DataTree.from_dict({"posterior": named, "sample_stats": stats})
    add_data(tree, observed(stacked.cells), "y")
    averages = add_averages(tree, weights)
    mean = found.weights @ np.array([x.mean for x in found.found])
    return Found(tree, averages, mean, settled(tree, found, limits), asdict(seen))


def joint_dataset(
    joint: Joint, priors: Priors, values: Mapping[str, FloatArray], v: FloatArray
) -> Any:
    """
    Return draws as a data set with names.

    Parameters
    ----------
    joint, priors : Joint, Priors
        The model.
    values : mapping of array, each (chains, draws, ...)
        Variances and correlations by the names of their laws.
    v : array, shape (chains, draws, Q)
        Standardised coefficients.
    """
    stacked = joint.stacked
    parts = {k: x for k, x in values.items() if k == "part_sd"}
    named = dataset(parts, v, stacked.cells, stacked.parts, priors)
    entries = np.flatnonzero(stacked.parts.part == 0) - len(stacked.parts.part)
    named["effect_at_entry"] = ((*DIMS, "outcome"), priors.effect * v[..., entries])
    for name, x in joint.natural(values, v.shape[:2]).items():
        named[name] = ((*DIMS, *DIMENSIONS[name]), x)
    return named.assign_coords(outcome=list(stacked.outcomes), other=list(stacked.outcomes))


def check_each(stacked: Stacked, tree: Any, joint: Joint, *, seed: int) -> list[Discrepancy]:
    """
    Compare residuals of each outcome with replicated ones.

    The law of one outcome alone is that of `vbceval.bayes.HierarchicalDiD` with its parameters.
    """
    import xarray

    out = []
    for o, cells in enumerate(stacked.single):
        own = tree["posterior"].to_dataset()
        strata = np.flatnonzero(stacked.outcome == o)
        effects = slice(stacked.first_effect[o], stacked.first_effect[o + 1])
        found: dict[str, Any] = {
            "effect": ((*DIMS, "effect_cell"), own["effect"].values[..., effects])
        }
        trend = own["period_effect"].values[:, :, strata]
        periods = np.searchsorted(stacked.cells.periods, cells.periods)
        found["period_effect"] = ((*DIMS, "stratum", "period"), trend[..., periods])
        if cells.covariates:
            first = sum(len(c.covariates) for c in stacked.single[:o])
            slope = own["slope"].values[:, :, first : first + len(cells.covariates)]
            found["slope"] = ((*DIMS, "covariate", "period"), slope[..., periods])
        for name in ("common_shock", "stratum_shock", "organization_sd"):
            if name in own:
                found[name] = (DIMS, own[name].values[..., o])
        for name in ("rho", "overlap"):
            if name in own:
                found[name] = (DIMS, own[name].values)
        found["person_factor"] = ((*DIMS, "stratum"), own["person_scale"].values[..., strata])
        alone = xarray.DataTree.from_dict({"posterior": xarray.Dataset(found)})
        out.append(posterior_check(cells, alone, seed=seed + o))
    return out


def add_groups(
    tree: Any, joint: Joint, priors: Priors, prior: FloatArray, weights: FloatArray, *, seed: int
) -> Any:
    """
    Add ``log_likelihood`` by cluster, ``log_prior``, ``prior``, and cells drawn from both laws.

    The likelihood of a cluster is that of all its outcomes. The prior is that of the effects at
    entry and the spreads of their parts.
    """
    import xarray

    stacked = joint.stacked
    cells = stacked.cells
    found = tree["posterior"].to_dataset()
    shape = (found.sizes["chain"], found.sizes["draw"])
    coords = {name: found[name].values for name in DIMS}
    likelihood = cluster_likelihood(tree, joint)
    tree["log_likelihood"] = xarray.Dataset(
        {"cells": ((*DIMS, "cluster"), likelihood.reshape(*shape, -1))},
        coords={**coords, "cluster": [str(c) for c in cells.clusters]},
    )
    tree["log_prior"] = xarray.Dataset(
        {"effect": (DIMS, log_prior(tree, joint, priors))}, coords=coords
    )
    tree["prior"] = xarray.Dataset(
        {
            "effect": ((*DIMS, "effect_cell"), prior[None]),
            "average": ((*DIMS, "row"), (prior @ weights.T)[None]),
        },
        coords={"effect_cell": cells.coords["effect_cell"]},
    )
    again = replicated(tree, joint, generator(seed, "replicated"))
    before = prior_cells(joint, priors, seed=seed)
    for group, drawn in (("posterior_predictive", again), ("prior_predictive", before)):
        tree[group] = xarray.Dataset({"y": ((*DIMS, "cell"), drawn[None])})
    return tree


def log_prior(tree: Any, joint: Joint, priors: Priors) -> FloatArray:
    """Return the log prior of effects at entry and of the spreads of their parts, at each draw."""
    found, parts = tree["posterior"], joint.stacked.parts
    entry = found["effect_at_entry"].values
    out = log_density(priors, entry[..., 0], [found[f"{n}_sd"].values for n in parts.names[1:]])
    for o in range(1, entry.shape[-1]):
        out = out + log_density(priors, entry[..., o], [])
    return np.asarray(out)


def replicated(tree: Any, joint: Joint, rng: np.random.Generator) -> FloatArray:
    """
    Return replicated cells of all outcomes together, percent of baseline, shape (D, K).

    As `vbceval.bayes.predictive.replicated` does of one outcome, with the correlations between
    outcomes.
    """
    cells = joint.stacked.cells
    dense = arrange_dense(cells, joint.stacked.parts, joint.stacked.group)
    block = codes(cells.unit, cells.stratum)
    at = {str(n): flatten(tree, str(n)) for n in tree["posterior"].data_vars}
    out = []
    for d in thinned(len(at["effect"]), len(cells.y)):
        slope = at["slope"][d] if cells.covariates else np.zeros((0, 0))
        residual = residuals(cells, at["period_effect"][d], slope, at["effect"][d])
        law = joint.covariances({name: values[d] for name, values in at.items()})
        out.append(cells.y + centred(cells, block, dense.simulate(law, rng) - residual))
    return np.array(out)


def cluster_likelihood(tree: Any, joint: Joint, some: IntArray | None = None) -> FloatArray:
    """
    Return log likelihoods of clusters, all outcomes together, shape (N, C).

    Parameters
    ----------
    tree : DataTree
        ``posterior``, and ``sample_stats`` with the node of each draw.
    joint : Joint
        The model.
    some : array of int, shape (N,), optional
        Which draws, chains joined. Default: all.
    """
    stacked = joint.stacked
    cells = stacked.cells
    dense = arrange_dense(cells, stacked.parts, stacked.group)
    nodes = np.asarray(tree["sample_stats"]["node"].values).ravel()
    chosen = np.arange(len(nodes)) if some is None else some
    at = {str(n): flatten(tree, str(n))[chosen] for n in tree["posterior"].data_vars}
    period, effect, nodes = at["period_effect"], at["effect"], nodes[chosen]
    slope = at["slope"] if cells.covariates else np.zeros((len(effect), 0, 0))
    out = np.empty((len(effect), len(cells.clusters)))
    for node in np.unique(nodes):
        # draws of one node have the same variances, and so the same factors
        here = np.flatnonzero(nodes == node)
        law = joint.covariances({name: values[here[0]] for name, values in at.items()})
        residual = np.array([residuals(cells, period[i], slope[i], effect[i]) for i in here])
        out[here] = dense.clusters(residual, law)
    return out
