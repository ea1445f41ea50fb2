"""Least squares with entity and time effects on untreated cells: arrays in, arrays out.

Entity effects are eliminated exactly (their block of the normal equations is diagonal), so cost is
O(K + H P + P^3) for K cells, H entities and P time effects and covariates, without iterations.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.did.solve import ComparisonFailure, invert
from vbceval.inference import sum_by_cluster

_ABSORBED = 1e-9


class Cells(NamedTuple):
    """
    Cells as arrays.

    Parameters
    ----------
    entity, time, cluster : int arrays, shape (K,)
        Codes 0 to H - 1, 0 to T - 1, 0 to G - 1.
    y, w : arrays, shape (K,)
        Outcome (mean) and weight (sum of weights).
    x : array, shape (K, p)
        Covariates (means).
    xx, xy : arrays, shapes (K, p, p), (K, p), or None
        Centred second moments within cells.
    """

    entity: IntArray
    time: IntArray
    cluster: IntArray
    y: FloatArray
    w: FloatArray
    x: FloatArray
    xx: FloatArray | None
    xy: FloatArray | None

    def take(self, rows: BoolArray) -> Cells:
        """Return some cells."""
        return Cells(
            self.entity[rows], self.time[rows], self.cluster[rows], self.y[rows], self.w[rows],
            self.x[rows],
            None if self.xx is None else self.xx[rows],
            None if self.xy is None else self.xy[rows],
        )  # fmt: skip


class UntreatedFit(NamedTuple):
    """
    Entity effects, time effects and slopes fitted on untreated cells.

    Parameters
    ----------
    time_effect : array, shape (T,)
        Time effects; zero at one reference time of each connected part, missing where a time has
        no untreated cell.
    beta : array, shape (p,)
        Slopes.
    weight, y_mean : arrays, shape (H,)
        Weight and weighted mean outcome of each entity's untreated cells; mean 0 without any.
    x_mean : array, shape (H, p)
        Weighted mean covariates of each entity's untreated cells.
    share : sparse array, shape (H, T)
        Share of each time in an entity's untreated weight.
    part_of_entity, part_of_time : int arrays, shapes (H,), (T,)
        Connected part of the untreated cells, -1 without untreated cells: effects are comparable
        within a part only.
    free : int array, shape (T',)
        Times whose effect is a parameter; the other times are references.
    inverse : array, shape (P, P)
        Inverse of the reduced normal matrix, P = T' + p: times, then covariates.
    score : array, shape (G, P)
        Score of each cluster in the reduced problem; sums to zero over clusters.
    """

    time_effect: FloatArray
    beta: FloatArray
    weight: FloatArray
    y_mean: FloatArray
    x_mean: FloatArray
    share: sparse.csr_array
    part_of_entity: IntArray
    part_of_time: IntArray
    free: IntArray
    inverse: FloatArray
    score: FloatArray

    def covers(self, cells: Cells) -> BoolArray:
        """Return which cells have an untreated value implied by the fit."""
        part = self.part_of_entity[cells.entity]
        return np.asarray((part >= 0) & (part == self.part_of_time[cells.time]))

    def predict(self, cells: Cells) -> FloatArray:
        """Return the untreated outcome of covered cells, shape (K,)."""
        effect = np.nan_to_num(self.time_effect)
        level = self.y_mean - self.share @ effect - self.x_mean @ self.beta
        return np.asarray(level[cells.entity] + effect[cells.time] + cells.x @ self.beta)

    def direction(self, cells: Cells, q: FloatArray, target: IntArray, m: int) -> FloatArray:
        """
        Return how the sums ``sum q * predict`` of each target depend on the parameters.

        Parameters
        ----------
        cells : Cells
            Covered cells, K rows.
        q : array, shape (K,)
            Weight of each cell in its target.
        target : int array, shape (K,)
            Target of each cell, 0 to m - 1.
        m : int
            Number of targets.

        Returns
        -------
        array, shape (P, m)
        """
        shape = (len(self.weight), m)
        load = sparse.csr_array((q, (cells.entity, target)), shape=shape)
        own = sparse.csr_array((q, (cells.time, target)), shape=(len(self.time_effect), m))
        times = (own - self.share.T @ load).toarray()
        slopes = sum_by_cluster(
            q[:, None] * (cells.x - self.x_mean[cells.entity]), target, m
        ).T.reshape(-1, m)
        return np.concatenate([times[self.free], slopes])


def fit_untreated(
    cells: Cells,
    *,
    n_entities: int,
    n_times: int,
    n_clusters: int,
    time_names: tuple[str, ...],
    names: tuple[str, ...],
) -> UntreatedFit:
    """
    Fit ``y = entity + time + x'beta`` by weighted least squares.

    Entities must be nested in clusters: then the scores of entity effects sum to zero within each
    cluster, and the reduced problem carries the whole influence.

    Parameters
    ----------
    cells : Cells
        Untreated cells, positive weights.
    n_entities, n_times, n_clusters : int
        H, T, G.
    time_names, names : tuple of str
        Names of times and covariates, for messages.

    Raises
    ------
    ComparisonFailure
        If a covariate does not vary within entities, or is collinear with others.

    References
    ----------
    .. [1] Borusyak, K., Jaravel, X. and Spiess, J. (2024). Revisiting event-study designs: robust
       and efficient estimation. *Review of Economic Studies* 91(6), 3253-3285.
    """
    h, t, w = cells.entity, cells.time, cells.w
    by_time = sparse.csr_array((w, (h, t)), shape=(n_entities, n_times))
    parts = _parts(by_time)
    weight = np.bincount(h, weights=w, minlength=n_entities)
    per_weight = np.divide(1.0, weight, out=np.zeros(n_entities), where=weight > 0)
    share = sparse.csr_array(sparse.diags_array(per_weight) @ by_time)
    y_mean = np.bincount(h, weights=w * cells.y, minlength=n_entities) * per_weight
    x_mean = sum_by_cluster(w[:, None] * cells.x, h, n_entities) * per_weight[:, None]
    y, x = cells.y - y_mean[h], cells.x - x_mean[h]
    _check_variation(cells, x, names)
    free = _free_times(parts[1])
    gram, cross = _normal_equations(cells, x, y, by_time, share, free, n_times)
    labels = (*(time_names[i] for i in free), *names)
    inverse = invert(gram, labels, "the untreated cells")
    coefficients = inverse @ cross
    time_effect = np.where(parts[1] >= 0, 0.0, np.nan)
    time_effect[free] = coefficients[: len(free)]
    beta = coefficients[len(free) :]
    residual = y - (np.nan_to_num(time_effect)[t] - (share @ np.nan_to_num(time_effect))[h])
    residual = residual - x @ beta
    score = _scores(cells, x, residual, beta, free, (n_clusters, n_times))
    return UntreatedFit(
        time_effect, beta, weight, y_mean, x_mean, share, *parts, free, inverse, score
    )


def _parts(by_time: sparse.csr_array) -> tuple[IntArray, IntArray]:
    """Connected parts of the entities and times that share untreated cells, -1 without any."""
    n, t = by_time.shape
    graph = sparse.block_array([[None, by_time], [by_time.T, None]], format="csr")
    labels = sparse.csgraph.connected_components(graph, directed=False)[1].astype(np.int64)
    labels[np.diff(graph.indptr) == 0] = -1
    return labels[:n], labels[n : n + t]


def _free_times(part_of_time: IntArray) -> IntArray:
    """Times with untreated cells, except the first of each connected part."""
    seen = np.flatnonzero(part_of_time >= 0)
    _, first = np.unique(part_of_time[seen], return_index=True)
    return np.asarray(np.delete(seen, first))


def _check_variation(cells: Cells, x: FloatArray, names: tuple[str, ...]) -> None:
    """Raise when entity effects absorb a covariate."""
    within = cells.w @ x**2
    overall = cells.w @ (cells.x - cells.w @ cells.x / cells.w.sum()) ** 2
    if cells.xx is not None:
        inside = np.einsum("kii->i", cells.xx)
        within, overall = within + inside, overall + inside
    # the second term is the rounding of a column that is constant everywhere
    varies = within > _ABSORBED * overall + 1e-24 * (cells.w @ cells.x**2)
    absorbed = [name for name, ok in zip(names, varies, strict=True) if not ok]
    if absorbed:
        listed = ", ".join(f"`{name}`" for name in absorbed)
        raise ComparisonFailure(f"{listed} does not vary within units among the untreated cells")


def _normal_equations(
    cells: Cells,
    x: FloatArray,
    y: FloatArray,
    by_time: sparse.csr_array,
    share: sparse.csr_array,
    free: IntArray,
    n_times: int,
) -> tuple[FloatArray, FloatArray]:
    """Normal matrix and right-hand side of times and covariates, entities eliminated."""
    w, t = cells.w, cells.time
    times = -(by_time.T @ share).toarray()
    times[np.diag_indices(n_times)] += np.bincount(t, weights=w, minlength=n_times)
    mixed = sum_by_cluster(w[:, None] * x, t, n_times)
    slopes = (x * w[:, None]).T @ x
    cross = (x * w[:, None]).T @ y
    if cells.xx is not None:
        slopes = slopes + cells.xx.sum(axis=0)
    if cells.xy is not None:
        cross = cross + cells.xy.sum(axis=0)
    gram = np.block([[times[np.ix_(free, free)], mixed[free]], [mixed[free].T, slopes]])
    right = np.bincount(t, weights=w * y, minlength=n_times)[free]
    return gram, np.concatenate([right, cross])


def _scores(
    cells: Cells,
    x: FloatArray,
    residual: FloatArray,
    beta: FloatArray,
    free: IntArray,
    shape: tuple[int, int],
) -> FloatArray:
    weighted = cells.w * residual
    times = sparse.csr_array((weighted, (cells.cluster, cells.time)), shape=shape)
    slopes = weighted[:, None] * x
    if cells.xx is not None:
        # within-cell part of sum w x (y - x'beta), which cell means cannot show
        slopes = slopes - np.einsum("kij,j->ki", cells.xx, beta)
    if cells.xy is not None:
        slopes = slopes + cells.xy
    return np.concatenate(
        [times.toarray()[:, free], sum_by_cluster(slopes, cells.cluster, shape[0])], axis=1
    )
