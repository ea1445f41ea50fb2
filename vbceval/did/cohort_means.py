"""Contrasts of cohort means, adjusted by differences before entry: arrays in, arrays out.

Entry is taken as randomly timed, so a difference between cohorts before entry is chance, and taking a
multiple of it away lowers the variance without bias (Roth and Sant'Anna 2023).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from vbceval.core.typing import FloatArray, IntArray
from vbceval.inference import sum_by_cluster

# R's MASS::ginv, by which the reference inverts covariances of few units in many periods
_RANK = float(np.sqrt(np.finfo(float).eps))
_ROUNDING = 1e-9


class CohortMeans(NamedTuple):
    """
    Means of cohorts and how each cluster moves them.

    Parameters
    ----------
    cohorts : array, shape (C,)
        First treated periods, increasing; infinity is never.
    periods : array, shape (T,)
        Periods, increasing.
    size : int array, shape (C,)
        Units in each cohort.
    mean : array, shape (C, T)
        Mean outcomes.
    moves : array, shape (G, T)
        Sum over a cluster's units of (outcome - mean of the cohort) / size.
    cohort_of : int array, shape (G,)
        Cohort of each cluster, as a position; -1 where it has no unit here.
    """

    cohorts: FloatArray
    periods: FloatArray
    size: IntArray
    mean: FloatArray
    moves: FloatArray
    cohort_of: IntArray

    def clusters(self) -> IntArray:
        """Return the number of clusters of each cohort, shape (C,)."""
        inside = self.cohort_of[self.cohort_of >= 0]
        return np.bincount(inside, minlength=len(self.cohorts)).astype(np.int64)

    def covariance(self) -> FloatArray:
        """Return covariances of outcomes over periods, shape (C, T, T), divisor clusters - 1."""
        count = self.clusters()
        out = np.zeros((len(self.cohorts), len(self.periods), len(self.periods)))
        for i, (n, size) in enumerate(zip(count, self.size, strict=True)):
            own = self.moves[self.cohort_of == i] * size
            out[i] = own.T @ own / size * (n / (n - 1))
        return out

    def influence(self, contrast: FloatArray) -> FloatArray:
        """Return the influence of clusters on contrasts (k, C, T) of the means, shape (G, k)."""
        out = np.zeros((len(self.moves), len(contrast)))
        live = self.cohort_of >= 0
        out[live] = np.einsum("gt,kgt->gk", self.moves[live], contrast[:, self.cohort_of[live]])
        return out


def cohort_means(
    y: FloatArray,
    cohort: FloatArray,
    cluster: IntArray,
    periods: FloatArray,
    n_clusters: int,
) -> CohortMeans:
    """
    Summarise a balanced panel by cohort.

    Parameters
    ----------
    y : array, shape (N, T)
        Outcomes of units by period.
    cohort : array, shape (N,)
        First treated period, infinity is never; one for all units of a cluster.
    cluster : int array, shape (N,)
        Cluster codes, 0 to G - 1.
    periods : array, shape (T,)
        Periods.
    n_clusters : int
        G.
    """
    cohorts, code = np.unique(cohort, return_inverse=True)
    size = np.bincount(code, minlength=len(cohorts)).astype(np.int64)
    mean = sum_by_cluster(y, code, len(cohorts)) / size[:, None]
    moves = sum_by_cluster((y - mean[code]) / size[code][:, None], cluster, n_clusters)
    cohort_of = np.full(n_clusters, -1, dtype=np.int64)
    cohort_of[cluster] = code
    return CohortMeans(cohorts, periods, size, mean, moves, cohort_of)


class Target(NamedTuple):
    """
    An average of cohort-period effects.

    Parameters
    ----------
    pairs : tuple of (int, int)
        Positions of cohort and period.
    weights : array, shape (pairs,)
        Their weights, adding up to one.
    """

    pairs: tuple[tuple[int, int], ...]
    weights: FloatArray


class Comparison(NamedTuple):
    """
    Who is compared with a treated cohort.

    Parameters
    ----------
    last_only : bool
        The last cohort (never treated, where there is one) instead of all not yet treated.
    anticipation : int
        Periods before entry that count as treated.
    """

    last_only: bool
    anticipation: int

    def controls(self, means: CohortMeans, g: int, t: int) -> IntArray:
        """Return positions of the comparison cohorts of a pair."""
        cohorts, period = means.cohorts, means.periods[t]
        later = cohorts > max(period, cohorts[g]) + self.anticipation
        if self.last_only:
            later &= cohorts == cohorts[-1]
        return np.flatnonzero(later)

    def base(self, means: CohortMeans, g: int) -> int:
        """Return the position of the last period before entry and anticipation, -1 if none."""
        return int(np.searchsorted(means.periods, means.cohorts[g] - self.anticipation)) - 1

    def contrasts(self, means: CohortMeans, target: Target) -> tuple[FloatArray, FloatArray]:
        """Return weights on cohort means, (C, T): of the effect, and of the same at the base."""
        effect, before = np.zeros_like(means.mean), np.zeros_like(means.mean)
        for (g, t), weight in zip(target.pairs, target.weights, strict=True):
            controls = self.controls(means, g, t)
            share = means.size[controls] / means.size[controls].sum()
            base = self.base(means, g)
            effect[g, t] += weight
            effect[controls, t] -= weight * share
            if base >= 0:
                before[g, base] += weight
                before[controls, base] -= weight * share
        return effect, before

    def all_before(self, means: CohortMeans) -> FloatArray:
        """Return every cohort minus the last in every period before its entry, (p, C, T)."""
        rows = []
        for g in range(len(means.cohorts) - 1):
            for t in range(self.base(means, g) + 1):
                row = np.zeros_like(means.mean)
                row[g, t], row[-1, t] = 1.0, -1.0
                rows.append(row)
        return np.array(rows).reshape(-1, *means.mean.shape)


class Adjusted(NamedTuple):
    """
    Adjusted averages, k of them.

    Parameters
    ----------
    estimate : array, shape (k,)
        Averages minus beta times differences before entry; 0, without error, where that is all
        an average is.
    beta : array, shape (k,)
        The multiple; missing where there are several differences.
    psi : array, shape (G, k)
        Influence of clusters.
    neyman : array, shape (G, k)
        The influence scaled within cohorts, whose squares add up to Neyman's variance.
    shrink : array, shape (k,)
        Adjusted over Neyman's standard error, above 0 to 1; 1 also where the adjustment exceeds
        the variance, as it can with few clusters (R sets the error to 0 there).
    """

    estimate: FloatArray
    beta: FloatArray
    psi: FloatArray
    neyman: FloatArray
    shrink: FloatArray


def adjust(
    means: CohortMeans,
    targets: list[Target],
    comparison: Comparison,
    *,
    beta: float | None,
    before: Literal["base", "all"],
) -> Adjusted:
    """
    Estimate averages of effects and their variances.

    Parameters
    ----------
    means : CohortMeans
        Cohorts, each with at least two clusters.
    targets : list of Target
        k averages.
    comparison : Comparison
        Who is compared.
    beta : float or None
        Multiple of the difference before entry; None is the one with least estimated variance.
    before : {"base", "all"}
        Adjust by the same contrast at the base periods, one number; or by every cohort minus the
        last in every period before its entry.

    References
    ----------
    .. [1] Roth, J. and Sant'Anna, P. H. C. (2023). Efficient estimation for staggered rollout
       designs. *Journal of Political Economy Microeconomics* 1(4), 669-709. Equations 3 to 6;
       sections 2.3 to 2.6.
    """
    count = means.clusters()[means.cohort_of]
    root = np.where(means.cohort_of >= 0, np.sqrt(count / np.maximum(count - 1, 1)), 0.0)[:, None]
    covariance = means.covariance()
    every = comparison.all_before(means) if before == "all" else None
    out = []
    for target in targets:
        effect, base = comparison.contrasts(means, target)
        x = base[None] if every is None else every
        load = np.full(len(x), beta) if beta is not None else _efficient(means, effect, x, root)
        final = effect - np.tensordot(load, x, axes=1)
        if np.abs(final).max() <= _ROUNDING * np.abs(effect).max():
            # a difference before entry, taken away whole: what is left is rounding, not an error
            final = np.zeros_like(final)
        psi = means.influence(final[None])[:, 0]
        neyman = float(np.sum((root[:, 0] * psi) ** 2))
        left = neyman - _explained(means, effect, covariance, comparison)
        # few clusters can show more than there is: then nothing is taken off
        shrink = np.sqrt(left / neyman) if left > 0 else 1.0
        scalar = float(load[0]) if len(load) == 1 else np.nan
        out.append((float(np.sum(final * means.mean)), scalar, psi, shrink))
    psi = np.column_stack([x[2] for x in out])
    estimate, betas, shrinks = (np.array([x[j] for x in out]) for j in (0, 1, 3))
    return Adjusted(estimate, betas, psi, psi * root, shrinks)


def _efficient(
    means: CohortMeans, effect: FloatArray, x: FloatArray, root: FloatArray
) -> FloatArray:
    """Return the coefficients of the effect on differences before entry, by their covariance."""
    before = means.influence(x) * root
    variance, cross = before.T @ before, before.T @ (means.influence(effect[None]) * root)
    return np.asarray((np.linalg.pinv(variance, rcond=_RANK, hermitian=True) @ cross)[:, 0])


def _explained(
    means: CohortMeans, effect: FloatArray, covariance: FloatArray, comparison: Comparison
) -> float:
    """Part of Neyman's variance that outcomes before entry show not to be there."""
    first = int(np.flatnonzero(np.abs(effect).max(axis=1) > 0)[0])
    n_before = comparison.base(means, first) + 1
    if n_before == 0:
        return 0.0
    total = np.zeros(n_before)
    for own, weights in zip(covariance[first:], effect[first:], strict=True):
        inverse = np.linalg.pinv(own[:n_before, :n_before], rcond=_RANK)
        total += inverse @ own[:n_before] @ weights
    typical = covariance[first:, :n_before, :n_before].mean(axis=0)
    return float(total @ typical @ total / means.size.sum())
