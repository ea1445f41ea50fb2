"""Bias-reduced cluster covariances (CR2, CR3) and Satterthwaite degrees of freedom."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial
from scipy import linalg, sparse

from vbceval.core.typing import FloatArray, IntArray
from vbceval.inference.frames import Pattern, Products, frames_of
from vbceval.inference.satterthwaite import Pieces

Correction = Literal["CR0", "CR2", "CR3"]
_WHOLE = 1 - 1e-9
"""Leverage from which on a direction is a cluster's own."""
_NORMS = (0.0, 0.01, 0.03, 0.1, 0.25, 0.5)
"""Clusters of like leverage share one polynomial; above the last, eigenvalues are taken."""
_POLYNOMIAL_ERROR = 1e-15
_BATCH_VALUES = 1 << 19
"""Values of the arrays of a batch of clusters, which stay in the processor's cache."""
_CACHE_VALUES = 1 << 17


class BiasReduced(NamedTuple):
    """
    Adjusted influence of linear combinations of coefficients.

    Parameters
    ----------
    influence : list of arrays, shape (G, m)
        Of each set of scores.
    df : array, shape (m,)
        Satterthwaite degrees of freedom of each combination.
    own : array, shape (m,)
        Clusters that alone determine a direction the combination uses.
    """

    influence: list[FloatArray]
    df: FloatArray
    own: IntArray


def bias_reduced(
    products: Products,
    inverse: FloatArray,
    contrast: FloatArray,
    correction: Correction,
    scores: Sequence[sparse.csr_array],
) -> BiasReduced:
    """
    Adjust cluster influence for leverage, in the spectral form of CR0, CR2 and CR3.

    With M the inverse cross-product and T_c the cluster's cross-product in coordinates in which M
    is the identity, influence is ``c' M^(1/2) f(T_c) M^(1/2) s_c`` with f(t) = 1, (1-t)^(-1/2) or
    (1-t)^(-1), and zero where t = 1: the cluster alone determines that direction.

    Parameters
    ----------
    products : Products
        Cross-products of clusters. Effects that are not nested in clusters must be columns: taking
        them out changes CR2, CR3 and the degrees of freedom.
    inverse : array, shape (p, p)
        M; zero rows for dropped columns.
    contrast : array, shape (p, m)
        Combinations of coefficients.
    correction : {"CR0", "CR2", "CR3"}
        Which f.
    scores : sequence of sparse arrays, shape (G, p)
        Scores of clusters, one array for each outcome. Nothing else depends on outcomes.

    Returns
    -------
    BiasReduced
        Cost O(G a^2 (a + m)) for a columns in a cluster and those eliminated after them, with
        matrix products only where leverage is below one half. Memory O(m (a^2 + s^2)) for s
        columns that clusters of different patterns share. Where columns have no such order (few
        columns in a cluster, of many), O(m p^3) and O(m p^2) come on top.

    Notes
    -----
    T_c is taken in coordinates R with M = R'R, R lower triangular, columns used by few clusters
    first: a cluster's columns then reach only those behind them in the elimination tree of
    X'WX, and sums over pairs of clusters are sums of squares in these coordinates.

    References
    ----------
    .. [1] Bell, R. M. and McCaffrey, D. F. (2002). Bias reduction in standard errors for linear
       regression with multi-stage samples. *Survey Methodology* 28(2), 169-181.
    .. [2] Pustejovsky, J. E. and Tipton, E. (2018). Small-sample methods for cluster-robust
       variance estimation and hypothesis testing in fixed effects models. *Journal of Business &
       Economic Statistics* 36(4), 672-683. Theorem 2.
    """
    m = contrast.shape[1]
    direction = inverse @ contrast
    size = (contrast * direction).sum(axis=0)
    influence = [np.zeros((s.shape[0], m)) for s in scores]
    frames, ordered = frames_of(products, inverse, m)
    pairs = _Pairs(frames, inverse, m, ordered=ordered)
    trace, squares, mixed = np.zeros(m), np.zeros(m), np.zeros(m)
    own = np.zeros(m, dtype=np.int64)
    for frame in frames:
        place = _Coordinates.of(frame, products, inverse)
        u = place.inside(direction)
        a = len(place.columns)
        total = np.zeros((m, a, a))
        for batch in place.batches(m):
            t = place.moved(products.cross(batch, place.columns))
            y, lost = _applied(t, u, size, correction)
            own += lost
            for out, s in zip(influence, scores, strict=True):
                at = s[batch].toarray()[:, place.columns] @ place.turn.T
                out[batch] = (at[:, None, :] @ y)[:, 0]
            ty = t @ y
            d = (y * ty).sum(axis=1)
            ff = (ty * ty).sum(axis=1)
            trace += (d - ff).sum(axis=0)
            squares += (d * d).sum(axis=0)
            mixed += (d * ff).sum(axis=0)
            f = np.ascontiguousarray(np.moveaxis(ty, 2, 0))
            total += np.swapaxes(f, 1, 2) @ f
        pairs.add(frame.columns, place, total)
    with np.errstate(invalid="ignore", divide="ignore"):
        df = trace**2 / (squares - 2 * mixed + pairs.total())
    return BiasReduced(influence, np.where(np.isfinite(df), df, np.inf), own)


@dataclass(frozen=True, eq=False)
class Adjusted:
    """
    A regression whose cluster covariance is adjusted for leverage, errors of variance 1/weight.

    Parameters
    ----------
    products : Products
        Cross-products of clusters.
    inverse : array, shape (p, p)
        M.
    correction : {"CR0", "CR2", "CR3"}
        The adjustment.
    """

    products: Products
    inverse: FloatArray
    correction: Correction

    def degrees(self, contrast: FloatArray) -> FloatArray:
        """Return Satterthwaite degrees of freedom of combinations, (p, m): shape (m,)."""
        return bias_reduced(self.products, self.inverse, contrast, self.correction, ()).df

    def pieces(self, contrast: FloatArray) -> Pieces:
        """Return what clusters add to the covariance of combinations; memory O(G p m)."""
        m = contrast.shape[1]
        direction = self.inverse @ contrast
        size = (contrast * direction).sum(axis=0)
        patterns = self.products.patterns()
        n = 1 + max(int(clusters.max()) for _, clusters in patterns)
        own, between = np.zeros((n, m, m)), np.zeros((n, len(self.inverse), m))
        for pattern in patterns:
            place = _Coordinates.of(pattern, self.products, self.inverse)
            u = place.inside(direction)
            for batch in place.batches(m):
                cross = self.products.cross(batch, place.columns)
                y = _applied(place.moved(cross), u, size, self.correction)[0]
                back = cross @ (place.turn.T @ y)
                own[batch] = np.swapaxes(y, 1, 2) @ (place.turn @ back)
                between[np.ix_(batch, pattern.columns)] = back[:, place.same]
        return Pieces(own, between, -self.inverse)


class _Coordinates(NamedTuple):
    """
    Coordinates of a pattern in which M is the identity, as many as it has different columns.

    Parameters
    ----------
    pattern : Pattern
        Its a columns and its clusters.
    columns : int array, shape (d,)
        Its different columns.
    same : int array, shape (a,)
        For each of its columns, the position of its equal among them.
    root : array, shape (a, a)
        Lower triangular R with R'R its part of M.
    axes : array, shape (a, d)
        Orthonormal: the directions that its clusters use.
    turn : array, shape (d, d)
        Cross-products of different columns, moved by it on both sides, are T along the axes.
    """

    pattern: Pattern
    columns: IntArray
    same: IntArray
    root: FloatArray
    axes: FloatArray
    turn: FloatArray

    @classmethod
    def of(cls, pattern: Pattern, products: Products, inverse: FloatArray) -> _Coordinates:
        """Return the coordinates of a pattern."""
        columns = pattern.columns
        first, same = np.unique(products.alike(pattern), return_inverse=True)
        root = _root(inverse[np.ix_(columns, columns)])
        if len(first) == len(columns):
            return cls(pattern, columns, same, root, np.eye(len(root)), root)
        axes, turn = np.linalg.qr(root @ (same[:, None] == np.arange(len(first))))
        return cls(pattern, columns[first], same, root, axes, turn)

    def inside(self, direction: FloatArray) -> FloatArray:
        """Return combinations of all p columns along the axes, shape (d, m)."""
        own = direction[self.pattern.columns]
        return self.axes.T @ linalg.solve_triangular(self.root, own, lower=True, trans="T")

    def moved(self, cross: FloatArray) -> FloatArray:
        """Return T of clusters along the axes, shape (b, d, d)."""
        return np.asarray(self.turn @ cross @ self.turn.T)

    def batches(self, m: int) -> list[IntArray]:
        """Return clusters a few at a time, whose arrays fit into memory."""
        d = len(self.columns)
        step = max(_BATCH_VALUES // (d * max(d, m)), 1)
        clusters = self.pattern.clusters
        return [clusters[i : i + step] for i in range(0, len(clusters), step)]


def _root(inverse: FloatArray) -> FloatArray:
    """Return lower triangular R with R'R the given matrix."""
    return np.ascontiguousarray(np.linalg.cholesky(inverse[::-1, ::-1])[::-1, ::-1].T)


class _Pairs:
    """
    Sums over pairs of clusters of (f_c'f_d)^2, from sums over clusters of f_c f_c'.

    In order of elimination f_c has one set of coordinates in all frames, and only those that two
    frames share have to be kept. Otherwise coordinates are columns, and M is their metric.
    """

    def __init__(
        self, frames: Sequence[Pattern], inverse: FloatArray, m: int, *, ordered: bool
    ) -> None:
        self._metric = None if ordered else inverse
        times = np.zeros(len(inverse), dtype=np.int64)
        for columns, _ in frames:
            times[columns] += 1
        self._shared = times > (1 if ordered else 0)
        self._place = np.cumsum(self._shared) - 1
        size = int(self._shared.sum())
        self._kept = np.zeros((m, size, size))
        self._done = np.zeros(m)

    def add(self, columns: IntArray, place: _Coordinates, total: FloatArray) -> None:
        """Add a frame's sum over clusters along its axes, shape (m, d, d)."""
        shared = self._shared[columns]
        if self._metric is not None:
            spread = np.zeros((self._kept.shape[1], place.axes.shape[1]))
            spread[self._place[columns]] = linalg.solve_triangular(
                place.root, place.axes, lower=True
            )
            self._kept += spread @ total @ spread.T
            return
        if place.axes.shape[0] != place.axes.shape[1]:
            total = place.axes @ total @ place.axes.T
        between = total[:, shared]
        self._done += (total[:, ~shared] ** 2).sum(axis=(1, 2))
        self._done += (between[:, :, ~shared] ** 2).sum(axis=(1, 2))
        at = self._place[columns[shared]]
        self._kept[:, at[:, None], at] += between[:, :, shared]

    def total(self) -> FloatArray:
        """Return the sum over all pairs, shape (m,)."""
        if self._metric is None:
            return np.asarray(self._done + (self._kept**2).sum(axis=(1, 2)))
        metric = self._metric[np.ix_(self._shared, self._shared)]
        return np.array([np.sum((x @ metric) * (x @ metric).T) for x in self._kept])


def _applied(
    t: FloatArray, u: FloatArray, size: FloatArray, correction: Correction
) -> tuple[FloatArray, IntArray]:
    """
    Return f(T) u for each cluster, shape (b, d, m), and how many have a direction of their own.

    `size` holds what is large in the square of each combination, shape (m,).
    """
    b, d, m = len(t), *u.shape
    if correction == "CR0":
        return np.broadcast_to(u, (b, d, m)), np.zeros(m, dtype=np.int64)
    out = np.empty((b, d, m))
    power = -0.5 if correction == "CR2" else -1.0
    square = t @ t
    # the largest eigenvalue is at most the root of the Frobenius norm of the square
    norm = np.einsum("bij,bij->b", square, square) ** 0.25
    small = norm < _NORMS[-1]
    for low, high in itertools.pairwise(_NORMS):
        inside = (norm >= low) & (norm < high)
        if inside.any():
            terms = _polynomial(power, float(norm[inside].max()))
            # few at a time, which stay in the processor's cache
            chosen = np.flatnonzero(inside)
            for few in np.array_split(chosen, len(chosen) * d * max(d, m) // _CACHE_VALUES + 1):
                out[few] = _evaluated(terms, t[few], square[few], u)
    if small.all():
        return out, np.zeros(m, dtype=np.int64)
    values, vectors = np.linalg.eigh(t[~small])
    whole = values > _WHOLE
    factor = np.where(whole, 0.0, np.where(whole, 1.0, 1 - values) ** power)
    inner = np.swapaxes(vectors, 1, 2) @ u
    out[~small] = vectors @ (factor[:, :, None] * inner)
    share = (whole[:, :, None] * inner**2).sum(axis=1)
    return out, (share > 1e-9 * size).sum(axis=0)


def _polynomial(power: float, norm: float) -> FloatArray:
    """Return coefficients of the polynomial that equals (1 - t)^power on 0 <= t <= norm."""
    norm = max(norm, 1e-3)
    # Chebyshev series converge at the rate set by the distance to the pole at t = 1
    pole = 2 / norm - 1
    rate = pole + np.sqrt(pole**2 - 1)
    degree = int(np.ceil(-np.log(_POLYNOMIAL_ERROR) / np.log(rate)))
    series = Chebyshev.interpolate(lambda t: (1 - t) ** power, degree, domain=[0, norm])
    return np.asarray(series.convert(kind=Polynomial, domain=[-1, 1], window=[-1, 1]).coef)


def _evaluated(terms: FloatArray, t: FloatArray, square: FloatArray, u: FloatArray) -> FloatArray:
    """Return a polynomial of T, applied to u, by its even and odd terms."""
    terms = np.append(terms, np.zeros(len(terms) % 2))
    once = t @ u
    out: FloatArray = terms[-2] * u + terms[-1] * once
    for even, odd in zip(terms[-4::-2], terms[-3::-2], strict=True):
        out = square @ out
        out += even * u
        out += odd * once
    return out
