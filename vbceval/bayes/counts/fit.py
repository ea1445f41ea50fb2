"""From checked counts to a posterior: engines, reported rows, groups of the tree."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from vbceval.bayes.cells import Cells
from vbceval.bayes.checks import Convergence, Limits
from vbceval.bayes.coefficients import structure
from vbceval.bayes.counts.by_cluster import ByCluster, by_cluster
from vbceval.bayes.counts.cells import CountCells
from vbceval.bayes.counts.draws import Reported, Reporter, draw_latent
from vbceval.bayes.counts.engine import (
    CountMarginal,
    count_laws,
    integrate_counts,
    laplace_error,
    require_small,
)
from vbceval.bayes.counts.field import arrange
from vbceval.bayes.counts.priors import RatePriors
from vbceval.bayes.counts.rows import Rows, change_in_percent, rows
from vbceval.bayes.counts.simulated import prior_events
from vbceval.bayes.draws import DIMS, dataset, flatten, prior_effects
from vbceval.bayes.engines import settled
from vbceval.bayes.groups import attach_groups
from vbceval.bayes.sample import one_thread
from vbceval.bayes.weights import resampled
from vbceval.core.rng import generator
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.design import Design

OWN, RAW, SIGNAL = "organization_effect", "organization_raw", "organization_signal"
CHECKED_DRAWS, PRIOR_DRAWS = 200, 4000
_COUNT_NAMES = ("intercept_sd", "unit_sd", "dispersion")


class CountPosterior(NamedTuple):
    """
    A posterior that passed the gates.

    Parameters
    ----------
    rows : Rows
        Reported averages.
    tree : DataTree
        ``posterior`` as `vbceval.bayes.draws.natural` says, on the scale of the model, with the
        levels, ``rate_effect`` (percent of baseline), organizations' own deviations and
        ``average``.
    draws : array, shape (N, k)
        Draws of the averages.
    mean : array, shape (k,)
        Posterior means.
    values : dict of array
        Draws of variance parameters, by the names of their laws.
    kept : Reported
        Everything else kept of draws.
    seen : Convergence
        What was checked.
    said : dict
        What else the engine has to say, for ``meta``.
    """

    rows: Rows
    tree: Any
    draws: FloatArray
    mean: FloatArray
    values: dict[str, FloatArray]
    kept: Reported
    seen: Convergence
    said: dict[str, Any]


def marginal_of(
    data: CountCells, design: Design, priors: RatePriors, active: BoolArray
) -> tuple[CountMarginal, Rows]:
    """Return the density of variance parameters of a model of counts, and what is reported."""
    grid, reported = arrange(data, structure(data.cells)), rows(data, design)
    logs = reported.logs[2::3]
    laws = count_laws(grid, priors, active)
    found = CountMarginal(grid=grid, priors=priors, laws=laws, active=active, averages=logs)
    return found, reported


def by_laplace(
    marginal: CountMarginal, reported: Rows, *, draws: int, chains: int, nodes: int, seed: int,
    limits: Limits | None,
) -> CountPosterior:  # fmt: skip
    """
    Approximate the latent field, integrate the variance parameters, and draw.

    Raises
    ------
    EstimationError
        If the integral or the approximation cannot be trusted.
    """
    size = draws * chains
    with one_thread():
        found, integration = integrate_counts(marginal, nodes=nodes, seed=seed)
        error = laplace_error(found, reported.labels[2::3], marginal.names)
        require_small(error)
        picked = resampled(found.weights, size, generator(seed, "draws"))
        checked = np.linspace(0, size - 1, min(CHECKED_DRAWS, size)).astype(np.int64)
        reporter = Reporter(marginal.grid, size, checked, seed)
        for places, latent, at in draw_latent(marginal, found, picked, seed=seed):
            reporter.add(places, latent, at)
    kept = reporter.result()
    values = marginal.split(found.points[picked])
    tree = tree_of(marginal, values, kept, reported, shape=(chains, draws))
    seen = settled(tree, found, limits)
    averages = flatten(tree, "average")
    mean = averages.mean(axis=0)
    # on the scale of the model the mean is known without the error of draws
    mean[2::3] = found.weights @ np.array([x.mean for x in found.found])
    said = {
        "integration": asdict(integration),
        "laplace": error._asdict(),
    }
    return CountPosterior(reported, tree, averages, mean, values, kept, seen, said)


def tree_of(
    marginal: CountMarginal, values: dict[str, FloatArray], kept: Reported, reported: Rows, *,
    shape: tuple[int, int],
) -> Any:  # fmt: skip
    """
    Return draws as a tree with names.

    Parameters
    ----------
    marginal : CountMarginal
        The model.
    values : dict of array, each (N, ...)
        Variance parameters by the names of their laws.
    kept : Reported
        Draws.
    reported : Rows
        Averages.
    shape : tuple of int
        Chains and draws of each.
    """
    import xarray

    grid, cells = marginal.grid, marginal.grid.data.cells
    by_chain = {k: v.reshape(*shape, *v.shape[1:]) for k, v in values.items()}
    v = kept.v.reshape(*shape, -1)
    out = dataset(by_chain, v[..., grid.n_fixed :], cells, grid.parts, marginal.priors.coefficients)
    extra: dict[str, Any] = {k: (DIMS, by_chain[k]) for k in _COUNT_NAMES if k in by_chain}
    strata = cells.coords["stratum"]
    labels = [f"{strata[s]}, {'never' if g == 0 else _cohort(cells, g)}" for s, g in grid.levels]
    n = len(grid.levels)
    level = v[..., :n] + grid.data.centre[grid.levels[:, 0]]
    extra["level"] = ((*DIMS, "stratum_cohort"), level)
    if cells.covariates:
        extra["covariate_level"] = ((*DIMS, "covariate"), v[..., n : grid.n_fixed])
    extra["rate_effect"] = ((*DIMS, "effect_cell"), kept.percent.reshape(*shape, -1))
    owners = owners_in(cells)
    if "organization_sd" in values:
        own = kept.own[:, owners].reshape(*shape, -1)
        extra[OWN] = ((*DIMS, "organization"), own)
    effects = flatten({"posterior": out}, "effect")
    averages = reported.values(kept.percent, effects)
    extra["average"] = ((*DIMS, "row"), averages.reshape(*shape, -1))
    coords: dict[str, Any] = {"stratum_cohort": labels}
    if OWN in extra:
        coords["organization"] = [str(c) for c in cells.clusters[owners]]
    return xarray.DataTree.from_dict({"posterior": out.assign(extra).assign_coords(coords)})


def owners_in(cells: Cells) -> IntArray:
    """Return the codes of organizations that have a treated cell: those with an own deviation."""
    return np.unique(cells.cluster[cells.effect_of_cell >= 0])


def complete(
    tree: Any, marginal: CountMarginal, values: dict[str, FloatArray], kept: Reported,
    reported: Rows, *, seed: int,
) -> Any:  # fmt: skip
    """
    Add the groups of `vbceval.bayes.groups.add_groups`, of counts.

    With organizations' own effects ``posterior`` gets ``organization_raw`` and
    ``organization_signal`` as well, see `vbceval.bayes.counts.by_cluster.ByCluster`.

    Parameters
    ----------
    tree : DataTree
        With ``posterior``; it is changed and returned.
    marginal, values, kept, reported
        As in `tree_of`.
    seed : int
        Seed of draws from the prior.
    """
    grid, n = marginal.grid, len(kept.v)
    said = ByCluster(*[np.empty((n, len(grid.data.cells.clusters))) for _ in range(3)])
    with one_thread():
        for start in range(0, n, marginal.at_once):
            some = slice(start, start + marginal.at_once)
            at = marginal.at({k: v[some] for k, v in values.items()}, len(kept.v[some]))
            for whole, part in zip(said, by_cluster(grid, at, kept.v[some]), strict=True):
                whole[some] = part
    posterior = tree["posterior"].to_dataset()
    if OWN in posterior:
        owners, shape = owners_in(grid.data.cells), posterior[OWN].shape
        own = {RAW: said.raw[:, owners], SIGNAL: said.signal[:, owners]}
        tree["posterior"] = posterior.assign(
            {name: ((*DIMS, "organization"), x.reshape(shape)) for name, x in own.items()}
        )
    prior = prior_of(marginal, seed=seed)
    change = change_in_percent(grid.data, prior)
    attach_groups(
        tree, grid.data.cells, marginal.priors.coefficients, grid.parts.names[1:],
        likelihood=said.log_likelihood, found=kept.statistics, prior=prior,
        averages=reported.values(change, prior), again={"events": kept.counts},
        before={"events": prior_events(marginal, seed=seed)},
    )  # fmt: skip
    drawn = tree["prior"].to_dataset()
    tree["prior"] = drawn.assign(rate_effect=((*DIMS, "effect_cell"), change[None]))
    return tree


def prior_of(marginal: CountMarginal, *, seed: int) -> FloatArray:
    """Return effects drawn from their prior, on the scale of the model, shape (N, J)."""
    rng = generator(seed, "prior")
    return prior_effects(marginal.grid.parts, marginal.priors.coefficients, rng, PRIOR_DRAWS)


def _cohort(cells: Cells, code: int) -> str:
    effects = cells.effects
    return f"{effects.loc[effects['cohort_code'] == code - 1, 'cohort'].iloc[0]:g}"
