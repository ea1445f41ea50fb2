"""Bias-reduced cluster covariances (CR2, CR3) and Satterthwaite degrees of freedom."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from scipy import sparse

from vbceval.core.typing import FloatArray, IntArray

Correction = Literal["CR0", "CR2", "CR3"]
_WHOLE = 1 - 1e-9
"""Leverage from which on a direction is a cluster's own."""
_SERIES_NORMS = (0.0, 0.03, 0.1, 0.25)
"""Clusters of like leverage share the length of their power series; above, eigenvalues are taken."""
_SERIES_ERROR = 1e-15


class ClusterPart(NamedTuple):
    """
    Clusters that have values in the same columns.

    Parameters
    ----------
    columns : int array, shape (a,)
        The columns.
    clusters : int array, shape (b,)
        Their positions among G clusters.
    cross : array, shape (b, a, a)
        Cross-product X_c'WX_c of each, effects nested in clusters taken out.
    """

    columns: IntArray
    clusters: IntArray
    cross: FloatArray


class BiasReduced(NamedTuple):
    """
    Adjusted influence of linear combinations of coefficients.

    Parameters
    ----------
    weights : list of (columns, clusters, array of shape (b, a, m))
        What multiplies a cluster's scores: influence of cluster c is ``scores[columns] @ weights``.
    df : array, shape (m,)
        Satterthwaite degrees of freedom of each combination.
    own : array, shape (m,)
        Clusters that alone determine a direction the combination uses.
    """

    weights: list[tuple[IntArray, IntArray, FloatArray]]
    df: FloatArray
    own: IntArray

    def influence(self, scores: FloatArray | sparse.csr_array, n_clusters: int) -> FloatArray:
        """Return adjusted influence, shape (G, m), from scores, shape (G, p)."""
        out = np.zeros((n_clusters, len(self.df)))
        for columns, clusters, weights in self.weights:
            rows = scores[clusters][:, columns]
            dense = rows if isinstance(rows, np.ndarray) else rows.toarray()
            out[clusters] = np.einsum("ba,bam->bm", dense, weights)
        return out


def bias_reduced(
    parts: Iterable[ClusterPart],
    inverse: FloatArray,
    contrast: FloatArray,
    correction: Correction,
) -> BiasReduced:
    """
    Adjust cluster influence for leverage, in the spectral form of CR0, CR2 and CR3.

    With M the inverse cross-product and T_c the cluster's cross-product in coordinates in which M
    is the identity, influence is ``c' M^(1/2) f(T_c) M^(1/2) s_c`` with f(t) = 1, (1-t)^(-1/2) or
    (1-t)^(-1), and zero where t = 1: the cluster alone determines that direction.

    Parameters
    ----------
    parts : iterable of ClusterPart
        All clusters. Effects that are not nested in clusters must be columns: taking them out
        changes CR2, CR3 and the degrees of freedom.
    inverse : array, shape (p, p)
        M; zero rows for dropped columns.
    contrast : array, shape (p, m)
        Combinations of coefficients.
    correction : {"CR0", "CR2", "CR3"}
        Which f.

    Returns
    -------
    BiasReduced
        Cost O(G a^3 + m p^3) for a columns in a cluster; small leverage takes a power series, whose
        cost is O(G a^2 m). Memory O(m p^2).

    References
    ----------
    .. [1] Bell, R. M. and McCaffrey, D. F. (2002). Bias reduction in standard errors for linear
       regression with multi-stage samples. *Survey Methodology* 28(2), 169-181.
    .. [2] Pustejovsky, J. E. and Tipton, E. (2018). Small-sample methods for cluster-robust
       variance estimation and hypothesis testing in fixed effects models. *Journal of Business &
       Economic Statistics* 36(4), 672-683. Theorem 2.
    """
    p, m = contrast.shape
    direction = inverse @ contrast
    weights: list[tuple[IntArray, IntArray, FloatArray]] = []
    products = np.zeros((m, p, p))
    trace, squares, mixed = np.zeros(m), np.zeros(m), np.zeros(m)
    own = np.zeros(m, dtype=np.int64)
    for columns, clusters, cross in parts:
        root = np.linalg.cholesky(inverse[np.ix_(columns, columns)])
        u = np.linalg.solve(root, direction[columns])
        t = root.T @ cross @ root
        y, lost = _applied(t, u, correction)
        own += lost
        weights.append((columns, clusters, root @ y))
        ty = t @ y
        d = (y * ty).sum(axis=1)
        ff = (ty * ty).sum(axis=1)
        trace += (d - ff).sum(axis=0)
        squares += (d * d).sum(axis=0)
        mixed += (d * ff).sum(axis=0)
        r = np.ascontiguousarray(np.moveaxis(np.linalg.inv(root).T @ ty, 2, 0))
        products[:, columns[:, None], columns] += np.swapaxes(r, 1, 2) @ r
    gram = np.array([np.sum((x @ inverse) * (x @ inverse).T) for x in products])
    with np.errstate(invalid="ignore", divide="ignore"):
        df = trace**2 / (squares - 2 * mixed + gram)
    return BiasReduced(weights, df, own)


def _applied(t: FloatArray, u: FloatArray, correction: Correction) -> tuple[FloatArray, IntArray]:
    """Return f(T) u for each cluster, shape (b, a, m), and how many have a direction of their own."""
    b, a, m = len(t), *u.shape
    if correction == "CR0":
        return np.broadcast_to(u, (b, a, m)), np.zeros(m, dtype=np.int64)
    out = np.empty((b, a, m))
    norm = np.sqrt(np.einsum("bij,bij->b", t, t))
    small = norm < _SERIES_NORMS[-1]
    for low, high in itertools.pairwise(_SERIES_NORMS):
        inside = (norm >= low) & (norm < high)
        if inside.any():
            out[inside] = _series(t[inside], u, correction, float(norm[inside].max()))
    if small.all():
        return out, np.zeros(m, dtype=np.int64)
    values, vectors = np.linalg.eigh(t[~small])
    whole = values > _WHOLE
    power = -0.5 if correction == "CR2" else -1.0
    factor = np.where(whole, 0.0, np.where(whole, 1.0, 1 - values) ** power)
    inner = np.swapaxes(vectors, 1, 2) @ u
    out[~small] = vectors @ (factor[:, :, None] * inner)
    share = (whole[:, :, None] * inner**2).sum(axis=1)
    return out, (share > 1e-9 * (u * u).sum(axis=0)).sum(axis=0)


def _series(t: FloatArray, u: FloatArray, correction: Correction, norm: float) -> FloatArray:
    """Return the power series of (1 - T)^(-1/2) or (1 - T)^(-1), applied to u."""
    term = np.broadcast_to(u, (len(t), *u.shape))
    out = term.copy()
    terms = int(np.ceil(np.log(_SERIES_ERROR) / np.log(max(norm, 1e-12)))) + 1
    for j in range(1, terms + 1):
        term = t @ term
        if correction == "CR2":
            term = term * ((2 * j - 1) / (2 * j))
        out += term
    return out
