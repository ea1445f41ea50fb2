"""Groups of a meta-analysis's tree that ArviZ reads, computed when the tree is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import csgraph

from vbceval.bayes.draws import DIMS
from vbceval.bayes.meta_data import Studies
from vbceval.bayes.meta_posterior import (
    Posterior,
    correlated,
    covariance,
    new_deviations,
    prior_errors,
)
from vbceval.core.rng import generator
from vbceval.core.typing import BoolArray, FloatArray, IntArray

PRIOR_DRAWS = 4000
_NUMBERS = 2_000_000


def log_mean_and_spreads(
    mean: FloatArray, spreads: Sequence[FloatArray], *, mean_sd: float, sd_scale: float
) -> FloatArray:
    """
    Return the log prior of means and of standard deviations at each draw, up to a constant.

    Parameters
    ----------
    mean : array, shape (S,) or (S, J)
        Means over types, normal about zero.
    spreads : sequence of array, each of the shape of `mean`
        Standard deviations, half-normal.
    mean_sd, sd_scale : float
        Scales.
    """
    size, found = len(mean), [(mean, mean_sd), *[(x, sd_scale) for x in spreads]]
    values = [-0.5 * np.square(x / scale) - np.log(scale) for x, scale in found]
    return np.asarray(sum(x.reshape(size, -1).sum(axis=1) for x in values))


def linked_parts(linked: BoolArray) -> IntArray:
    """
    Return which rows hang together, shape (n,): codes of parts without a link between them.

    Examples
    --------
    >>> linked = np.eye(4, dtype=bool)
    >>> linked[0, 2] = linked[2, 3] = True
    >>> linked_parts(linked).tolist()
    [0, 1, 0, 0]
    """
    return np.asarray(csgraph.connected_components(linked, directed=False)[1], dtype=np.int64)


def named_parts(part: IntArray, names: Sequence[str]) -> list[str]:
    """Return a name for each part: what its rows are called, each once."""
    rows = [np.flatnonzero(part == k) for k in range(int(part.max()) + 1)]
    return [", ".join(dict.fromkeys(names[int(i)] for i in some)) for some in rows]


def log_likelihoods(
    residual: FloatArray, covariance: Callable[[IntArray], FloatArray], part: IntArray
) -> FloatArray:
    """
    Return normal log densities of each part at each draw, shape (S, parts).

    Parameters
    ----------
    residual : array, shape (S, n)
        Rows minus their means.
    covariance : callable
        Of some draws, array of int (D,): covariances of the rows, (D, n, n), zero between parts.
    part : array of int, shape (n,)
        Part of each row.
    """
    size, n = residual.shape
    rows = [np.flatnonzero(part == k) for k in range(int(part.max()) + 1)]
    out = np.empty((size, len(rows)))
    step = max(1, _NUMBERS // n**2)
    for start in range(0, size, step):
        some = np.arange(start, min(start + step, size))
        total = covariance(some)
        for k, own in enumerate(rows):
            root = np.linalg.cholesky(total[:, own[:, None], own])
            white = np.linalg.solve(root, residual[some][:, own, None])[..., 0]
            logs = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
            out[some, k] = -logs - 0.5 * np.square(white).sum(axis=1)
            out[some, k] -= 0.5 * len(own) * np.log(2.0 * np.pi)
    return out


def add_meta_groups(
    tree: Any, *, likelihood: FloatArray, parts: Sequence[str], log_prior: FloatArray,
    replicated: FloatArray, prior: dict[str, tuple[tuple[str, ...], FloatArray]], before: FloatArray,
) -> Any:  # fmt: skip
    """
    Add ``log_likelihood`` by program, ``log_prior``, ``prior``, and effects drawn from both laws.

    Parameters
    ----------
    tree : DataTree
        With ``posterior``; it is changed and returned.
    likelihood : array, shape (S, P)
        Of each part of the table, given means of types and standard deviations.
    parts : sequence of str
        Programs of each part.
    log_prior : array, shape (S,)
        Of means and standard deviations.
    replicated : array, shape (S, n)
        Effects as the model would print them, of new programs.
    prior : dict
        Dimensions behind the draws, and values, by names of ``posterior``.
    before : array, shape (P, n)
        Effects that would be printed at each draw of `prior`.
    """
    import xarray

    posterior = tree["posterior"].to_dataset()
    shape = (posterior.sizes["chain"], posterior.sizes["draw"])
    coords = {name: np.arange(n) for name, n in zip(DIMS, shape, strict=True)}
    tree["log_likelihood"] = xarray.Dataset(
        {"estimate": ((*DIMS, "part"), likelihood.reshape(*shape, -1))},
        coords={**coords, "part": list(parts)},
    )
    tree["log_prior"] = xarray.Dataset({"effect": (DIMS, log_prior.reshape(shape))}, coords=coords)
    tree["posterior_predictive"] = xarray.Dataset(
        {"estimate": ((*DIMS, "row"), replicated.reshape(*shape, -1))}, coords=coords
    )
    labels = {d: posterior[d].values for dims, _ in prior.values() for d in dims}
    tree["prior"] = xarray.Dataset(
        {name: ((*DIMS, *dims), values[None]) for name, (dims, values) in prior.items()},
        coords=labels,
    )
    tree["prior_predictive"] = xarray.Dataset({"estimate": ((*DIMS, "row"), before[None])})
    return tree


def complete(
    posterior: Posterior, tree: Any, studies: Studies, *, mean_sd: float, sd_scale: float, rho: float,
    nu: float | None, seed: int,
) -> Any:  # fmt: skip
    """
    Add the groups of `add_meta_groups` to the tree of a `MetaAnalysis`.

    The likelihood is that of programs given means of types, standard deviations and mixing;
    programs that share a report, or a sample with correlated errors, are one part.

    Parameters
    ----------
    posterior : Posterior
        Draws.
    tree : DataTree
        What ``posterior.tree`` returned.
    studies : Studies
        The table.
    mean_sd, sd_scale, rho, nu
        As in `MetaAnalysis`; `nu` None for normal deviations.
    seed : int
        Of replicated effects and draws from the prior.
    """
    linked = studies.same("program") | studies.same("report")
    if rho > 0:
        linked |= studies.same("sample")
    part = linked_parts(linked)
    sd = {x: v for x, v in posterior.sd.items() if x != "type"}
    rng = generator(seed, "meta", "tree")
    again = printed(studies, posterior, nu, rho, rng)
    prior = _prior(posterior, mean_sd, sd_scale, rng)
    # from a source of its own: other groups are as they were before there was this one
    apart = generator(seed, "meta", "prior estimates")
    before = replace(
        posterior, mean=prior["mean_effect"][1], type_mean=prior["type_mean"][1],
        sd={x: prior[f"{x}_sd"][1] for x in posterior.sd},
        std_error=prior_errors(studies, PRIOR_DRAWS, apart),
    )  # fmt: skip
    names = [str(studies.labels["program"][k]) for k in studies.index["program"]]
    return add_meta_groups(
        tree,
        likelihood=log_likelihoods(
            studies.estimate - posterior.type_mean[:, studies.index["type"]],
            lambda some: covariance(
                studies, {x: v[some] for x, v in sd.items()}, posterior.mixing[some],
                posterior.std_error[some], mean_sd=0.0, rho=rho,
            ),
            part,
        ),
        parts=named_parts(part, names),
        log_prior=log_mean_and_spreads(
            posterior.mean, list(posterior.sd.values()), mean_sd=mean_sd, sd_scale=sd_scale
        ),
        replicated=again,
        prior=prior,
        before=printed(studies, before, nu, rho, apart),
    )  # fmt: skip


def printed(
    studies: Studies, at: Posterior, nu: float | None, rho: float, rng: np.random.Generator
) -> FloatArray:
    """
    Draw effects as reports would print them, of new programs in the places of the old, (S, n).

    Parameters
    ----------
    studies : Studies
        The table.
    at : Posterior
        Type means, standard deviations and standard errors, S of each; its deviations are not read.
    nu, rho : float
        As in `complete`.
    rng : Generator
        Source.
    """
    new = new_deviations(studies, at, nu, rng)
    errors = at.std_error * correlated(studies, len(at.mean), rho, rng)
    return np.asarray(at.type_mean[:, studies.index["type"]] + new + errors)


def _prior(
    posterior: Posterior, mean_sd: float, sd_scale: float, rng: np.random.Generator
) -> dict[str, tuple[tuple[str, ...], FloatArray]]:
    """Return draws from the prior, by names of the tree with their dimensions."""
    mean = mean_sd * rng.standard_normal(PRIOR_DRAWS)
    sd = {x: np.abs(sd_scale * rng.standard_normal(PRIOR_DRAWS)) for x in posterior.sd}
    between = sd.get("type", np.zeros(PRIOR_DRAWS))
    types = rng.standard_normal((PRIOR_DRAWS, posterior.type_mean.shape[1]))
    return {
        "mean_effect": ((), mean),
        "type_mean": (("program_type",), mean[:, None] + between[:, None] * types),
        **{f"{x}_sd": ((), v) for x, v in sd.items()},
    }
