"""Groups of the tree of a model with regression trees that ArviZ reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vbceval.bayes.draws import DIMS
from vbceval.bayes.trees.gibbs import Chain, Measured, Scales, draw_shared
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray

_PRIOR_DRAWS = 4000


def posterior_tree(draws: Chain, organizations: Sequence[str]) -> Any:
    """
    Return the tree with its posterior, and the check of residuals.

    Parameters
    ----------
    draws : Chain
        Of all chains.
    organizations : sequence of str
        Their names.
    """
    import xarray

    variables = {
        "level": (DIMS, draws.level), "covariate_sd": (DIMS, draws.covariate_sd),
        "organization_sd": (DIMS, draws.organization_sd),
        "expected": ((*DIMS, "organization"), draws.expected),
        "effect": ((*DIMS, "organization"), draws.effect),
        "splits": ((*DIMS, "column"), draws.splits),
    }  # fmt: skip
    checks = {
        name: (DIMS, draws.discrepancy[..., i]) for i, name in enumerate(("observed", "replicated"))
    }
    coords = {name: np.arange(n) for name, n in zip(DIMS, draws.level.shape, strict=True)}
    coords["organization"] = np.array(organizations, dtype=object)
    return xarray.DataTree.from_dict(
        {
            "posterior": xarray.Dataset(variables, coords=coords),
            "predictive_checks": xarray.Dataset(checks),
        }
    )


def complete(tree: Any, draws: Chain, at: Measured, scales: Scales, seed: int) -> Any:
    """
    Add ``log_likelihood``, ``log_prior``, ``prior``, ``posterior_predictive``, ``observed_data``.

    Errors of estimates are correlated, so that organizations are independent only given the errors
    that they share. These are drawn, and the likelihood is that of an organization's estimate given
    them, what trees expect and ``organization_sd``; its own deviation is integrated out.

    Parameters
    ----------
    tree : DataTree
        What `posterior_tree` returned; it is changed and returned.
    draws, at, scales : Chain, Measured, Scales
        Draws of all chains, estimates, priors.
    seed : int
        Of shared errors, replicated estimates and draws from the prior.
    """
    import xarray

    rng = generator(seed, "effect trees", "tree")
    likelihood, again = np.empty_like(draws.expected), np.empty_like(draws.expected)
    for s in np.ndindex(*draws.level.shape):
        variance = float(draws.organization_sd[s]) ** 2
        rest = at.y - draws.expected[s]
        left = rest - draw_shared(at, rest, variance, rng)
        total = at.own + variance
        likelihood[s] = -0.5 * (np.log(2.0 * np.pi * total) + left**2 / total)
        own = np.sqrt(variance) * rng.standard_normal(len(rest))
        again[s] = draws.expected[s] + own + at.errors(rng)
    posterior = tree["posterior"].to_dataset()
    coords = {name: posterior[name].values for name in (*DIMS, "organization")}
    own_dims = (*DIMS, "organization")
    tree["log_likelihood"] = xarray.Dataset({"estimate": (own_dims, likelihood)}, coords=coords)
    tree["posterior_predictive"] = xarray.Dataset({"estimate": (own_dims, again)}, coords=coords)
    tree["observed_data"] = xarray.Dataset(
        {"estimate": (("organization",), at.y)}, coords={"organization": coords["organization"]}
    )
    tree["log_prior"] = xarray.Dataset(
        {"effect": (DIMS, _log_prior(draws, scales))}, coords={x: coords[x] for x in DIMS}
    )
    size = (1, _PRIOR_DRAWS)
    tree["prior"] = xarray.Dataset(
        {
            "level": (DIMS, scales.mean + scales.mean_sd * rng.standard_normal(size)),
            "covariate_sd": (DIMS, np.abs(scales.covariate_sd * rng.standard_normal(size))),
            "organization_sd": (DIMS, np.abs(scales.organization_sd * rng.standard_normal(size))),
        }
    )
    return tree


def _log_prior(draws: Chain, scales: Scales) -> FloatArray:
    """Return the log prior of level and both standard deviations, up to a constant."""
    parts = (
        (draws.level - scales.mean, scales.mean_sd),
        (draws.covariate_sd, scales.covariate_sd),
        (draws.organization_sd, scales.organization_sd),
    )
    return np.asarray(sum(-0.5 * np.square(x / sd) - np.log(sd) for x, sd in parts))
