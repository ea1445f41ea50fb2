"""Group-time means of treated minus imputed outcomes, and their conservative influence."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.design import Design
from vbceval.did.inputs import ONE_CLUSTER, shown, without_rounding
from vbceval.did.untreated import Cells, UntreatedFit
from vbceval.did.untreated_cells import Sample
from vbceval.estimates.columns import GROUP_TIME


class Imputed(NamedTuple):
    """
    Means of effects in m group-time cells.

    Parameters
    ----------
    estimate : array, shape (m,)
        Weighted mean of treated minus imputed outcomes.
    weight : array, shape (m,)
        Treated weight.
    psi : array, shape (G, m)
        Sum of v times residual in each cluster: the square of a combination of columns adds up to
        the conservative variance of that combination.
    clusters : int array, shape (m,)
        Clusters with treated weight.
    masses : array, shape (G, m), or None
        Treated weight of each cluster, where `psi` is the derivative by cluster weights, so that
        averages have the sampling error of these weights too; None takes them as fixed.
    """

    estimate: FloatArray
    weight: FloatArray
    psi: FloatArray
    clusters: IntArray
    masses: FloatArray | None = None


def impute(
    fit: UntreatedFit, cells: Cells, target: IntArray, m: int, *, leave_one_out: bool
) -> Imputed:
    """
    Average treated minus imputed outcomes by target.

    Every average of the targets is linear in outcomes, ``sum v y``, with v = q on treated cells
    and v = -w x~'(X0'W X0)^-1 X1'q on untreated ones. Its variance is the sum over clusters of
    ``(sum v e)^2``, where e is the residual on untreated cells and, on treated ones, the effect
    minus an average taken over clusters of the same target with weights (sum v)^2. These averages
    and v do not depend on how targets are weighted, so psi of an average with fixed weights is
    the same average of psi.

    Parameters
    ----------
    fit : UntreatedFit
        Fit on untreated cells.
    cells : Cells
        Treated cells covered by the fit.
    target : int array, shape (K,)
        Target of each cell, 0 to m - 1, each with at least one cell.
    m : int
        Number of targets.
    leave_one_out : bool
        Compare each cluster with the average of the other clusters. A target with one cluster
        has an infinite psi then.

    References
    ----------
    .. [1] Borusyak, K., Jaravel, X. and Spiess, J. (2024). Revisiting event-study designs: robust
       and efficient estimation. *Review of Economic Studies* 91(6), 3253-3285. Equation 8, and its
       leave-one-out form in the appendix.
    """
    weight = np.bincount(target, weights=cells.w, minlength=m)
    q = cells.w / weight[target]
    effect = cells.y - fit.predict(cells)
    estimate = np.bincount(target, weights=q * effect, minlength=m)
    v = sums_by_cluster(fit, cells, target, m, q)
    total = sums_by_cluster(fit, cells, target, m, q * effect)
    squares = (v**2).sum(axis=0)
    typical = (v * total).sum(axis=0) / squares
    own = total - v * typical
    if leave_one_out:
        rest = 1 - v**2 / squares
        with np.errstate(divide="ignore", invalid="ignore"):
            own = np.where(v > 0, np.where(rest > 1e-12, own / rest, np.inf), 0.0)
    direction = fit.direction(cells, q, target, m)
    psi = own - fit.score @ (fit.inverse @ direction)
    psi = without_rounding(psi, float(np.abs(cells.y).max()))
    return Imputed(estimate, weight, psi, (v > 0).sum(axis=0))


def sums_by_cluster(
    fit: UntreatedFit, cells: Cells, target: IntArray, m: int, values: FloatArray
) -> FloatArray:
    """Return the sum of cells' values, shape (K,), by cluster and target, shape (G, m)."""
    shape = (len(fit.score), m)
    return np.asarray(sparse.csr_array((values, (cells.cluster, target)), shape=shape).toarray())


def effect_rows(
    sample: Sample,
    used: BoolArray,
    pairs: FloatArray,
    result: Imputed,
    *,
    people: bool,
    design: Design,
    stratum: str | None,
) -> list[dict[str, Any]]:
    """
    Return keys, estimate and counts of each cohort and period.

    Parameters
    ----------
    sample : Sample
        K cells.
    used : bool array, shape (K,)
        Treated cells behind the effects.
    pairs : array, shape (m, 2)
        Cohort and period of each effect.
    result : Imputed
        The effects.
    people : bool
        Whether counts of units may be counts of people.
    design : Design
        Outcome and its unit.
    stratum : str or None
        Name of the stratum.
    """
    block = sample.arranged.block
    out = []
    for j, (g, t) in enumerate(pairs):
        now = block.period == t
        treated = used & now & (block.cohort == g)
        comparison = sample.untreated & now & ~treated
        n_treated = sample.arranged.count_units(treated)
        n_comparison = sample.arranged.count_units(comparison)
        note = ONE_CLUSTER
        out.append({
            "estimand": GROUP_TIME, "outcome": design.outcome,
            "unit_of_measure": design.unit_of_measure, "cohort": float(g), "period": float(t),
            "event_time": float(t - g), "stratum": stratum,
            "estimate": float(result.estimate[j]),
            "n_units": shown(n_treated + n_comparison, people),
            "n_clusters": len(np.unique(block.cluster[treated | comparison])),
            "n_treated": shown(n_treated, people),
            "n_comparison": shown(n_comparison, people),
            "note": note if result.clusters[j] == 1 else None,
        })  # fmt: skip
    return out
