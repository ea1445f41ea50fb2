"""What few treated clusters would show without effect, read off the untreated ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vbceval.core.errors import EstimationError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.did.equation import cluster_sums
from vbceval.did.least_squares import Groups
from vbceval.did.regressors import joint_codes
from vbceval.inference.few_treated import FEWEST, FewTreated, Noise, error_draws

if TYPE_CHECKING:
    from vbceval.did.sandwich import Piece


_ROUNDING = 1e-12


class _Means(NamedTuple):
    """
    One outcome by cluster and time.

    Parameters
    ----------
    weight : array, shape (J, T, r)
        Weight of the mean of clusters that enter in each effect.
    residual : array, shape (G, T)
        Mean residual of all clusters; missing where one is not seen.
    size : array, shape (G, T)
        What is behind the mean.
    """

    weight: FloatArray
    residual: FloatArray
    size: FloatArray


def untreated_draws(
    pieces: Sequence[Piece], law: FewTreated, n_clusters: int
) -> tuple[list[FloatArray], dict[str, Any]]:
    """
    Draw the errors of the effects of all pieces, jointly, and say how.

    An effect is linear in outcomes, ``sum v_jt y_jt`` over clusters j and times t (periods, in
    strata and sub-experiments). The part of its error that treated cluster j adds,
    ``sum_t v_jt e_jt``, is replaced by that of an untreated cluster l with the weights of j,
    ``sum_t v_jt e_lt``. One draw takes the same clusters for every effect, outcome and stratum.

    Parameters
    ----------
    pieces : sequence of Piece
        Outcomes of linear regressions on the same clusters.
    law : FewTreated
        Options.
    n_clusters : int
        G.

    Returns
    -------
    list of arrays, shape (S, r), dict
        Errors of each piece; what results say of the draws.

    Raises
    ------
    EstimationError
        If too few untreated clusters are seen wherever a treated one has weight.
    """
    every = [_entered(p, n_clusters) for p in pieces]
    ever = np.flatnonzero(np.any([e.ever for e in every], axis=0))
    never = np.any([e.never for e in every], axis=0)
    never[ever] = False
    means = [_by_cluster_and_time(p, law, ever, n_clusters) for p in pieces]
    seen = never.copy()
    for m in means:
        used = (m.weight != 0).any(axis=(0, 2))
        seen &= np.isfinite(m.residual[:, used]).all(axis=1)
    _require_enough(int(seen.sum()), int(never.sum()))
    stand_ins = law.stand_ins(len(ever), int(seen.sum()))
    noise = [
        Noise(
            m.weight, m.residual[seen], m.size[ever], m.size[seen],
            p.influence(Groups(p.fit.cells.block.cluster, n_clusters))[never],
        )
        for m, p in zip(means, pieces, strict=True)
    ]  # fmt: skip
    said = {
        "untreated_clusters": int(seen.sum()), "draws": len(stand_ins.picks),
        "enumerated": stand_ins.enumerated, "seed": law.seed, "tails": law.tails,
        "size": law.size or ("weight" if law.method == "ferman-pinto" else None),
    }  # fmt: skip
    return error_draws(noise, stand_ins), {"few_treated": said}


def _require_enough(seen: int, never: int) -> None:
    """Raise where too few clusters can stand in; counts of 1-10 may be people."""
    if seen >= FEWEST:
        return
    shown = str(seen) if seen > 10 or seen == 0 else "fewer than 11"
    lost = (
        " Others that never enter are not seen in all periods in which treated ones count."
        if never > seen
        else ""
    )
    raise EstimationError(
        f"untreated clusters stand in for treated ones, and {shown} are seen wherever a treated one "
        f"counts; at least {FEWEST} are needed.{lost} Use vcov='randomization' if entry could have "
        "been drawn otherwise, or SyntheticControl or SyntheticDiD with vcov='placebo'."
    )


def _by_cluster_and_time(piece: Piece, law: FewTreated, ever: IntArray, n_clusters: int) -> _Means:
    fit, sample = piece.fit, piece.equation.sample
    cluster, w = sample.cells.block.cluster, fit.cells.block.w
    # a sub-experiment of a stack is a time of its own
    names = [k for k in ("period", *sample.owner[1:], "stack") if k in sample.keys]
    time, first = joint_codes([sample.keys[k] for k in names])
    shape = (n_clusters, len(first))
    weight = np.zeros((len(ever), len(first), piece.contrast.shape[1]))
    cells = np.flatnonzero(np.isin(cluster, ever))
    v = w[:, None] * fit.project(fit.inverse @ piece.contrast)
    np.add.at(weight, (np.searchsorted(ever, cluster[cells]), time[cells]), v[cells])
    # rounding is no weight: it would ask for clusters that are seen there
    weight[np.abs(weight) <= _ROUNDING * np.abs(weight).max(axis=(0, 1), initial=0.0)] = 0.0
    total = cluster_sums(sample, w, time, shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        residual = cluster_sums(sample, w * fit.residual[:, piece.outcome], time, shape) / total
    behind = fit.cells.n.astype(float) if law.size == "rows" else sample.weight
    return _Means(weight, residual, cluster_sums(sample, behind, time, shape))


class _Entry(NamedTuple):
    """Clusters that have a cell that enters, and those seen that have none, each shape (G,)."""

    ever: BoolArray
    never: BoolArray


def _entered(piece: Piece, n_clusters: int) -> _Entry:
    sample = piece.equation.sample
    enters = np.isfinite(sample.cohort).astype(float)
    cluster = sample.cells.block.cluster
    ever = np.bincount(cluster, weights=enters, minlength=n_clusters) > 0
    return _Entry(ever, piece.clusters(n_clusters) & ~ever)
