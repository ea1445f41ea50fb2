"""Effects in single organizations, drawn from their law given the sampled parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vbceval.bayes.cells import Cells
from vbceval.bayes.checks import Limits, require_converged
from vbceval.bayes.draws import DIMS, Parameters, cluster_terms
from vbceval.core.errors import DesignError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray, IntArray

ESTIMAND = "effect_organization"
UNIT = "percent of baseline"


def organization_effects(
    cells: Cells, tree: Any, *, outcome: str, size: int, seed: int
) -> tuple[pd.DataFrame, FloatArray]:
    """
    Draw the effect of each treated organization.

    Parameters
    ----------
    cells : Cells
        The cells of the fit.
    tree : DataTree
        Its posterior.
    outcome : str
        Name of the outcome.
    size : int
        Draws used, evenly spaced in every chain.
    seed : int
        Seed of the conditional draws.

    Returns
    -------
    DataFrame
        One row a treated organization: ``cluster``, ``cohort``, ``raw``, ``shrinkage``.
    array, shape (about size, organizations)
        Draws, percent of baseline.

    Raises
    ------
    DesignError
        If `size` leaves fewer than four draws a chain.
    EstimationError
        If the draws of an organization do not agree between chains.
    """
    parameters = Parameters(cells, tree)
    n_chains = int(tree["posterior"].sizes["chain"])
    chosen = chosen_draws(tree, size)
    owners, weights = owners_of(cells)
    own = cluster_terms(parameters, chosen, likelihood=False)[1][:, owners]
    pooled = np.array([parameters.effect(int(d)) for d in chosen]) @ weights.T
    lasting = np.array([parameters.scales(int(d)).lasting for d in chosen])
    noise = generator(seed, "organizations").standard_normal(pooled.shape)
    draws = pooled + own[..., 0] + own[..., 1] * noise
    _agree(draws, n_chains)
    # share of an organization's own deviation that its data, not the pool, decide
    signal = 1.0 - own[..., 1] ** 2 / lasting[:, None]
    raw = pooled + own[..., 0] / np.maximum(signal, 1e-6)
    frame = rows_of(cells, owners, weights, draws, outcome=outcome, unit=UNIT)
    frame = frame.assign(raw=raw.mean(axis=0), shrinkage=1.0 - signal.mean(axis=0))
    return frame, draws


def rows_of(
    cells: Cells,
    owners: IntArray,
    weights: FloatArray,
    draws: FloatArray,
    *,
    outcome: str,
    unit: str,
) -> pd.DataFrame:
    """
    Return a row a treated organization with the mean of its draws.

    Parameters
    ----------
    cells : Cells
        The data.
    owners, weights : arrays, shapes (n,), (n, J)
        As `owners_of` returns them.
    draws : array, shape (S, n)
        Effects.
    outcome, unit : str
        What the effects are of, and in.
    """
    cohort = cells.effects["cohort"].to_numpy(dtype=float)
    return pd.DataFrame(
        {
            "estimand": ESTIMAND,
            "outcome": outcome,
            "unit_of_measure": unit,
            "cluster": np.asarray(cells.clusters)[owners],
            "cohort": cohort[weights.argmax(axis=1)],
            "estimate": draws.mean(axis=0),
        }
    )


def chosen_draws(tree: Any, size: int) -> IntArray:
    """
    Return about `size` draws, evenly spaced in every chain, chains joined.

    Raises
    ------
    DesignError
        If that leaves fewer than four draws a chain.
    """
    sizes = tree["posterior"].sizes
    n_chains, length = int(sizes["chain"]), int(sizes["draw"])
    if size < 4 * n_chains:
        raise DesignError(
            f"`size` is {size}: with {n_chains} chains at least {4 * n_chains} draws are needed to "
            "judge whether chains agree."
        )
    kept = np.unique(np.linspace(0, length - 1, min(size // n_chains, length)).round().astype(int))
    return np.asarray((np.arange(n_chains)[:, None] * length + kept).ravel())


def owners_of(cells: Cells) -> tuple[IntArray, FloatArray]:
    """Return treated organizations, and the weights (organizations, J) of effects in each."""
    after = cells.after_entry
    owners = np.unique(cells.cluster[after])
    weights = np.zeros((len(owners), len(cells.effects)))
    place = np.searchsorted(owners, cells.cluster[after])
    np.add.at(weights, (place, cells.effect_of_cell[after]), cells.exposure[after])
    return owners, weights / weights.sum(axis=1, keepdims=True)


def _agree(draws: FloatArray, n_chains: int) -> None:
    """Judge R-hat alone: the effective sample size is bounded by the draws asked for."""
    import xarray

    values = draws.reshape(n_chains, -1, draws.shape[1])
    dataset = xarray.Dataset({ESTIMAND: ((*DIMS, "organization"), values)})
    require_converged(
        xarray.DataTree.from_dict({"posterior": dataset}), None, Limits(r_hat=1.05, ess=0.0)
    )
