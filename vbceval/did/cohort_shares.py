"""Shares of cohorts in all weight, which average group-time effects, with their influence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vbceval.core.typing import FloatArray, IntArray
from vbceval.did.blocks import Block, Followed
from vbceval.did.pair_results import PairResult
from vbceval.inference import sum_by_cluster


def treated_weights(
    block: Block,
    results: Sequence[PairResult],
    n_clusters: int,
    *,
    index: Followed | None,
    by_pair: bool,
) -> tuple[FloatArray, IntArray, FloatArray]:
    """
    Return the treated weight behind effects, by cluster.

    Parameters
    ----------
    block : Block
        Cells.
    results : sequence of PairResult
        The k effects.
    n_clusters : int
        G.
    index : Followed or None
        Of units that are followed: their weight is that of their first cell. None: of each cell.
    by_pair : bool
        Whether an effect has the weight of the units in its comparison, else that of its cohort.

    Returns
    -------
    array, shape (G, c)
        Treated weights: a column for each effect, or for each cohort.
    int array, shape (k,)
        Column of each effect.
    array, shape (G,)
        All weight.
    """
    first = np.arange(len(block.entity)) if index is None else index.first
    w, cohort, cluster = block.w[first], block.cohort[first], block.cluster[first]
    weight = sum_by_cluster(w, cluster, n_clusters)
    if not results:
        return np.zeros((n_clusters, 0)), np.zeros(0, dtype=np.int64), weight
    if by_pair:
        masses = np.column_stack([r.counts.treated_weight for r in results])
        return masses, np.arange(len(results)), weight
    cohorts, place = np.unique([r.pair.cohort for r in results], return_inverse=True)
    treated = w[:, None] * (cohort[:, None] == cohorts)
    return sum_by_cluster(treated, cluster, n_clusters), place.astype(np.int64), weight


def cohort_shares(masses: FloatArray, place: IntArray, weight: FloatArray) -> dict[str, FloatArray]:
    """Return the share of each effect's treated weight in all weight, and its influence; strata add up."""
    total = weight.sum()
    share = masses.sum(axis=0) / total
    influence = (masses - np.outer(weight, share)) / total
    return {"share": share[place], "share_psi": influence}
