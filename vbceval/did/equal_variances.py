"""CR2 for weighted regressions whose working model gives all errors the same variance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from vbceval.core.typing import FloatArray, IntArray
from vbceval.did.least_squares import Fit
from vbceval.inference.bias_reduced import BiasReduced
from vbceval.inference.satterthwaite import Pieces, degrees_of_freedom

_NONE_LEFT = 1e-9
"""Variance of residuals below which a direction is a cluster's own."""


class _Cluster(NamedTuple):
    """
    Rows of one cluster.

    Parameters
    ----------
    rows : int array, shape (n,)
        Their positions.
    w : array, shape (n,)
        Weights.
    z : array, shape (n, p)
        Columns, weighted means within eliminated effects taken out.
    levels : array, shape (n, h)
        Dummies of its eliminated effects over their weight.
    """

    rows: IntArray
    w: FloatArray
    z: FloatArray
    levels: FloatArray


@dataclass(frozen=True, eq=False)
class EqualVariances:
    """
    A weighted regression on single rows, adjusted for errors of equal variance.

    With H = X M X'W the covariance of a cluster's residuals is its block of (I - H)(I - H)' times
    the variance, and residuals are multiplied by the inverse root of that block.

    Parameters
    ----------
    fit : Fit
        One row a cell; its eliminated effects are nested in clusters.
    cluster : int array, shape (K,)
        Cluster of each row.
    n_clusters : int
        G.

    References
    ----------
    .. [1] Pustejovsky, J. E. and Tipton, E. (2018). Small-sample methods for cluster-robust
       variance estimation and hypothesis testing in fixed effects models. *Journal of Business &
       Economic Statistics* 36(4), 672-683. Section 2.1, with the identity as working model.
    """

    fit: Fit
    cluster: IntArray
    n_clusters: int

    def adjusted(self, contrast: FloatArray, outcomes: list[int]) -> BiasReduced:
        """Return adjusted influence of combinations, (p, m), for each outcome; see `BiasReduced`."""
        m = contrast.shape[1]
        influence = [np.zeros((self.n_clusters, m)) for _ in outcomes]
        for c, part in self._clusters():
            row, _ = self._row(part, contrast)
            for out, j in zip(influence, outcomes, strict=True):
                out[c] = self.fit.residual[part.rows, j] @ row
        return BiasReduced(influence, self.degrees(contrast), np.zeros(m, dtype=np.int64))

    def degrees(self, contrast: FloatArray) -> FloatArray:
        """Return Satterthwaite degrees of freedom of combinations, (p, m): shape (m,)."""
        df = degrees_of_freedom(self.pieces(contrast))
        return np.where(np.isfinite(df), df, np.inf)

    def pieces(self, contrast: FloatArray) -> Pieces:
        """Return what clusters add to the covariance of combinations; memory O(G p m)."""
        m, inverse = contrast.shape[1], self.fit.inverse
        p = len(inverse)
        metric = np.block([[self._spread, -inverse], [-inverse, np.zeros((p, p))]])
        own = np.zeros((self.n_clusters, m, m))
        between = np.zeros((self.n_clusters, 2 * p, m))
        for c, part in self._clusters():
            row, variance = self._row(part, contrast)
            # what the eliminated effects of this cluster pass on to the residuals of others
            passed = part.w[:, None] ** 2 * (part.levels @ (part.levels.T @ row))
            v = np.concatenate([part.z.T @ row, part.z.T @ (part.w[:, None] * row - passed)])
            own[c], between[c] = variance - v.T @ metric @ v, v
        return Pieces(own, between, metric)

    @cached_property
    def _order(self) -> tuple[IntArray, IntArray]:
        ends = np.cumsum(np.bincount(self.cluster, minlength=self.n_clusters))
        return np.argsort(self.cluster, kind="stable"), np.concatenate([[0], ends])

    def _clusters(self) -> Iterator[tuple[int, _Cluster]]:
        fit, (order, ends) = self.fit, self._order
        means = fit.level_z.toarray() / fit.level[:, None] if len(fit.level) else None
        for c in range(self.n_clusters):
            rows = order[ends[c] : ends[c + 1]]
            if not len(rows):
                continue
            z = fit.z.mean[rows].toarray() * fit.kept
            levels = np.zeros((len(rows), 0))
            if means is not None and fit.cells.absorbed is not None:
                found, codes = np.unique(fit.cells.absorbed[rows], return_inverse=True)
                z -= means[found][codes] * fit.kept
                levels = (codes[:, None] == np.arange(len(found))) / fit.level[found] ** 0.5
            yield c, _Cluster(rows, fit.cells.block.w[rows], z, levels)

    @cached_property
    def _spread(self) -> FloatArray:
        """Covariance of coefficients under the working model, M X'W^2X M."""
        p = len(self.fit.inverse)
        middle = np.zeros((p, p))
        for _, part in self._clusters():
            weighted = part.z * part.w[:, None]
            middle += weighted.T @ weighted
        return np.asarray(self.fit.inverse @ middle @ self.fit.inverse)

    def _row(self, part: _Cluster, contrast: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return what multiplies residuals, (n, m), and its expected square, (m, m)."""
        inverse, (_, w, z, a) = self.fit.inverse, part
        used = np.flatnonzero(z.any(axis=0))
        x, m = z[:, used], inverse[np.ix_(used, used)]
        # a basis of what differs from the identity, where there are more rows than that
        both = np.column_stack([a, x])
        both = np.column_stack([both, w[:, None] * both])
        basis = np.linalg.qr(both)[0] if both.shape[0] > both.shape[1] else np.eye(len(w))
        ax, bx = basis.T @ a, basis.T @ x
        aw, bw = basis.T @ (w[:, None] * a), basis.T @ (w[:, None] * x)
        squares = a.T @ (w[:, None] ** 2 * a)
        crossed = a.T @ (w[:, None] ** 2 * x)
        middle = ax @ squares @ ax.T + bx @ self._spread[np.ix_(used, used)] @ bx.T
        mixed = ax @ crossed @ m @ bx.T
        hat = ax @ aw.T + bx @ m @ bw.T
        block = np.eye(len(hat)) - hat - hat.T + middle + mixed + mixed.T
        values, vectors = np.linalg.eigh(block)
        root = np.where(values > _NONE_LEFT, np.maximum(values, _NONE_LEFT) ** -0.5, 0.0)
        moved = vectors.T @ (bw @ (inverse[used] @ contrast))
        row = root[:, None] * moved
        return basis @ (vectors @ row), row.T @ (values[:, None] * row)
