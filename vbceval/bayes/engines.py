"""The two engines: each takes the same model and returns draws in the same form, judged."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np

from vbceval.bayes.cells import Cells
from vbceval.bayes.checks import Convergence, Limits, require_converged
from vbceval.bayes.coefficients import PARTS, Structure, reference
from vbceval.bayes.draws import DIMS, dataset, flatten, natural
from vbceval.bayes.exact import draw, effective_sizes, integrate_cells
from vbceval.bayes.hyper import laws
from vbceval.bayes.model import build
from vbceval.bayes.priors import Priors
from vbceval.bayes.quadrature import Nodes
from vbceval.bayes.sample import Progress, one_thread, sample
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import BoolArray, FloatArray

_SPREADS = (
    "common_shock", "stratum_shock", "organization_sd", "rho", "overlap", "person_sd",
    "person_factor", "degrees",
    *(f"{name}_sd" for name in PARTS[1:]),
)  # fmt: skip


class Model(NamedTuple):
    """
    What both engines read.

    Parameters
    ----------
    cells, parts, priors : Cells, Structure, Priors
        Data, coefficients of the mean, prior scales.
    active : array of bool, shape (7,)
        See `vbceval.bayes.model.active_scales`.
    person_log_sd : float
        As in `vbceval.bayes.model.build`.
    averages : array, shape (k, J)
        Reported averages of the effects.
    """

    cells: Cells
    parts: Structure
    priors: Priors
    active: BoolArray
    person_log_sd: float
    averages: FloatArray


class Posterior(NamedTuple):
    """
    Draws that passed the gates.

    Parameters
    ----------
    tree : DataTree
        ``posterior`` as `vbceval.bayes.draws.natural` says, with ``average`` (chain, draw, k); and
        what the engine says of itself.
    draws : array, shape (N, k)
        Draws of the averages.
    mean : array, shape (k,)
        Their posterior means.
    seen : Convergence
        What was checked.
    said : dict
        What else the engine has to say, for ``meta``.
    """

    tree: Any
    draws: FloatArray
    mean: FloatArray
    seen: Convergence
    said: dict[str, Any]


def require_sizes(
    *, engine: str, sampled: bool, draws: int, chains: int, nodes: int | None, tune: int | None,
    target_accept: float | None,
) -> None:  # fmt: skip
    """
    Check sizes, and that none belongs to the other engine.

    Parameters
    ----------
    engine : str
        Name of the engine.
    sampled : bool
        Whether it is the sampler.
    draws, chains, nodes, tune, target_accept
        Options of `vbceval.bayes.HierarchicalDiD`.

    Raises
    ------
    DesignError
        If one is too small, or would change nothing.
    """
    other: dict[str, float | None] = {"nodes": nodes}
    if not sampled:
        other = {"tune": tune, "target_accept": target_accept}
        if draws < 4 or chains < 2:
            raise DesignError(
                f"`draws` is {draws} and `chains` {chains}; at least 4 and 2, so that ArviZ can "
                "compare chains, as for the other engine."
            )
    given = [f"`{name}`" for name, value in other.items() if value is not None]
    if given:
        raise DesignError(
            f"{', '.join(given)} belongs to the other engine than engine='{engine}', where it "
            "would change nothing. Leave it out, or choose the other engine."
        )
    if nodes is not None and (nodes < 64 or nodes & (nodes - 1)):
        raise DesignError(
            f"`nodes` is {nodes}; use a power of two from 64 on: points of a Sobol sequence are "
            "even in such numbers only."
        )


def by_nuts(
    model: Model, *, draws: int, tune: int, chains: int, target_accept: float, seed: int,
    limits: Limits | None, progress: Progress | None,
) -> Posterior:  # fmt: skip
    """
    Sample coefficients and variance parameters with the no-U-turn sampler.

    Raises
    ------
    EstimationError
        If the draws cannot be trusted.
    """
    cells, parts, priors, active, person_log_sd, weights = model
    with one_thread():
        around = reference(cells, parts, priors, active)
        found = build(cells, parts, priors, active, around, person_log_sd=person_log_sd)
        tree = sample(
            found, draws=draws, tune=tune, chains=chains, seed=seed, target_accept=target_accept,
            progress=progress,
        )  # fmt: skip
        tree = natural(tree, cells, parts, priors, around)
    averages = add_averages(tree, weights)
    seen = converged(tree, limits)
    return Posterior(tree, averages, averages.mean(axis=0), seen, {})


def by_nodes(
    model: Model, *, draws: int, chains: int, nodes: int, seed: int, limits: Limits | None
) -> Posterior:  # fmt: skip
    """
    Integrate coefficients in closed form and variance parameters by weighted nodes, then draw.

    Raises
    ------
    EstimationError
        If the integral cannot be trusted.
    """
    import xarray

    cells, parts, priors, active, person_log_sd, weights = model
    size = draws * chains
    with one_thread():
        marginal, found, integration = integrate_cells(
            cells, parts, priors, laws(cells, parts, priors, active, person_log_sd=person_log_sd),
            weights, nodes=nodes, seed=seed,
        )  # fmt: skip
        drawn = draw(marginal, found, size=size, seed=seed)
    shape = (chains, draws)
    values = {k: v.reshape(*shape, *v.shape[1:]) for k, v in drawn.values.items()}
    posterior = dataset(values, drawn.v.reshape(*shape, -1), cells, parts, priors)
    stats = xarray.Dataset({"node": (DIMS, drawn.node.reshape(shape))}, {
        name: posterior[name].values for name in DIMS
    })  # fmt: skip
    tree = xarray.DataTree.from_dict({"posterior": posterior, "sample_stats": stats})
    averages = add_averages(tree, weights)
    seen = settled(tree, found, limits)
    mean = found.weights @ np.array([x.mean for x in found.found])
    return Posterior(tree, averages, mean, seen, {"integration": asdict(integration)})


def add_averages(tree: Any, weights: FloatArray) -> FloatArray:
    """Add averages to the posterior, where tests of convergence read them; return their draws."""
    draws = flatten(tree, "effect") @ weights.T
    posterior = tree["posterior"]
    shape = (posterior.sizes["chain"], posterior.sizes["draw"], draws.shape[1])
    average = ((*DIMS, "row"), draws.reshape(shape))
    tree["posterior"] = posterior.to_dataset().assign(average=average)
    return np.asarray(draws)


def converged(tree: Any, limits: Limits | None) -> Convergence:
    """Judge the reported averages, and less strictly what they are averaged over."""
    limits = Limits() if limits is None else limits
    loose = replace(limits, r_hat=1 + 2 * (limits.r_hat - 1), ess=limits.ess / 2)
    require_converged(tree, [x for x in _SPREADS if x in tree["posterior"]], loose)
    return require_converged(tree, ["average"], limits)


def settled(tree: Any, nodes: Nodes, limits: Limits | None) -> Convergence:
    """Judge what nodes and draws say of the averages; the draws themselves are in random order."""
    limits = Limits() if limits is None else limits
    sizes = tree["posterior"].sizes
    n_draws = int(sizes["chain"] * sizes["draw"])
    bulk, tail = (x.min() for x in effective_sizes(nodes, draws=n_draws))
    if min(bulk, tail) < limits.ess:
        raise EstimationError(
            f"the reported averages are worth {min(bulk, tail):.0f} independent draws, fewer than "
            f"{limits.ess:g}: {n_draws:,} draws were taken from {len(nodes.points):,} nodes. "
            "Remedy: raise `draws`, or `nodes` where draws are many."
        )
    # draws in random order differ between stretches by chance alone: R-hat teaches nothing
    seen = require_converged(tree, ["average"], Limits(r_hat=np.inf, ess=0.0))
    return replace(seen, ess_bulk=float(bulk), ess_tail=float(tail))
