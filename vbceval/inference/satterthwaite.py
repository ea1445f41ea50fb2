"""Degrees of freedom and joint tests of cluster covariances under a working model of the errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from scipy import sparse, special

from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.inference.wald import WaldTest

_NO_VARIATION = 1e-10


@dataclass(frozen=True, eq=False)
class Pieces:
    """
    What each cluster adds to the expected covariance of m combinations.

    The covariance is a sum of squares of ``g_c' e`` over clusters. With errors e of the working
    model, ``g_c' g_d = 1{c=d} own[c] + between[c]' metric between[d]``.

    Parameters
    ----------
    own : array, shape (G, m, m)
        Part that clusters do not share.
    between : array, shape (G, p, m)
        Part that they share through estimated coefficients.
    metric : array, shape (p, p)
        Symmetric.
    """

    own: FloatArray
    between: FloatArray
    metric: FloatArray

    @cached_property
    def within(self) -> FloatArray:
        """Products of a cluster's own combinations, shape (G, m, m)."""
        return np.asarray(self.own + np.swapaxes(self.between, 1, 2) @ (self.metric @ self.between))

    def squares(self, s: int, t: int) -> float:
        """Return the sum over pairs of clusters of K_ss K_tt + K_st K_ts, K = g_c' g_d."""
        a, b = self.between[:, :, s], self.between[:, :, t]
        shared = a.T @ b @ self.metric
        own, within = self.own, self.within
        out = np.sum(own[:, s, s] * within[:, t, t] + within[:, s, s] * own[:, t, t])
        out += 2 * np.sum(own[:, s, t] * within[:, s, t])
        out -= np.sum(own[:, s, s] * own[:, t, t] + own[:, s, t] ** 2)
        # <X N, (N X)'> of X = sum a_c b_c', for both orders of s and t
        out += np.sum(shared * (self.metric @ (a.T @ b))) + np.sum(shared * shared.T)
        return float(out)


def degrees_of_freedom(pieces: Pieces) -> FloatArray:
    """Return Satterthwaite degrees of freedom of each combination, shape (m,)."""
    trace = np.einsum("gmm->m", pieces.within)
    square = np.array([pieces.squares(j, j) / 2 for j in range(len(trace))])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(trace**2 / square)


def hotelling_test(pieces: Pieces, estimate: FloatArray, vcov: FloatArray) -> WaldTest:
    """
    Test that q estimates are all zero by the approximate Hotelling law (HTZ).

    Parameters
    ----------
    pieces : Pieces
        Of the q combinations.
    estimate, vcov : arrays, shapes (q,), (q, q)
        Estimates and their cluster covariance.

    Raises
    ------
    EstimationError
        If the combinations are linearly dependent, or there are too few clusters for q of them.

    References
    ----------
    .. [1] Pustejovsky, J. E. and Tipton, E. (2018). Small-sample methods for cluster-robust
       variance estimation and hypothesis testing in fixed effects models. *Journal of Business &
       Economic Statistics* 36(4), 672-683. Section 3.2.
    """
    q = len(estimate)
    expected = pieces.within.sum(axis=0)
    sd = np.sqrt(np.diag(expected))
    values, vectors = np.linalg.eigh(expected / np.outer(sd, sd))
    if values[0] <= _NO_VARIATION * values[-1]:
        raise EstimationError(
            f"the {q} tested estimates are linearly dependent (their covariance has rank "
            f"{int((values > _NO_VARIATION * values[-1]).sum())}), so their joint test is not "
            "defined. Test fewer rows."
        )
    root = (vectors / np.sqrt(values)) @ vectors.T / sd
    standard = Pieces(root @ pieces.own @ root.T, pieces.between @ root.T, pieces.metric)
    total = sum(
        standard.squares(s, t) * (1 if s == t else 2) for s in range(q) for t in range(s, q)
    )
    eta = q * (q + 1) / total
    if eta <= q - 1:
        raise EstimationError(
            f"{len(pieces.own)} clusters cannot support a joint test of {q} estimates: their "
            f"covariance has {eta:.1f} degrees of freedom under the working model, and more than "
            f"{q - 1} are needed. Test fewer rows, or pool cohorts and periods."
        )
    half = root @ estimate
    statistic = float(half @ np.linalg.solve(root @ vcov @ root.T, half))
    df = eta - q + 1
    scaled = df / (eta * q) * statistic
    return WaldTest(
        statistic=statistic, restrictions=q, df=df, p_value=float(special.fdtrc(q, df, scaled)),
        method="HTZ",
    )  # fmt: skip


class Source(Protocol):
    """A fitted regression that can say how sure the covariance of its combinations is."""

    def degrees(self, contrast: FloatArray) -> FloatArray:
        """Return degrees of freedom of combinations of coefficients, (p, m): shape (m,)."""
        ...

    def pieces(self, contrast: FloatArray) -> Pieces:
        """Return what clusters add to the covariance of combinations."""
        ...


class Origin(NamedTuple):
    """One outcome of a regression, and the combinations of coefficients that were reported."""

    source: Source
    contrast: FloatArray


@dataclass(frozen=True, eq=False)
class Satterthwaite:
    """
    Where rows of estimates come from, so that degrees of freedom follow them through contrasts.

    Parameters
    ----------
    origins : sequence of Origin
        Outcomes of regressions, in the order of the rows that they reported.
    mix : sparse array, shape (k, rows reported)
        Each of k rows as a combination of reported ones.

    Notes
    -----
    Exact for combinations within one outcome of one regression. Nothing is stored by cluster:
    the regression is asked again.
    """

    origins: tuple[Origin, ...]
    mix: sparse.csr_array

    @classmethod
    def of(cls, origins: Sequence[Origin]) -> Satterthwaite:
        """Return the rows as they were reported."""
        size = sum(o.contrast.shape[1] for o in origins)
        return cls(tuple(origins), sparse.csr_array(sparse.eye_array(size, format="csr")))

    def take(self, rows: IntArray) -> Satterthwaite:
        """Return some rows."""
        return replace(self, mix=sparse.csr_array(self.mix[rows]))

    @classmethod
    def none(cls, size: int) -> Satterthwaite:
        """Return rows that come from no regression."""
        return cls((), sparse.csr_array((size, 0)))

    def scaled(self, factors: FloatArray) -> Satterthwaite:
        """Return rows times constants, shape (k,)."""
        return replace(self, mix=sparse.csr_array(sparse.diags_array(factors) @ self.mix))

    def combined(self, matrix: FloatArray) -> Satterthwaite:
        """Return linear combinations of rows, coefficients of shape (m, k)."""
        return replace(self, mix=sparse.csr_array(sparse.csr_array(matrix) @ self.mix))

    def beside(self, other: Satterthwaite) -> Satterthwaite:
        """Return the rows of both."""
        mix = sparse.block_diag([self.mix, other.mix], format="csr")
        return Satterthwaite(self.origins + other.origins, sparse.csr_array(mix))

    def df(self, known: FloatArray) -> FloatArray:
        """
        Return degrees of freedom of each row, shape (k,).

        Rows that combine several outcomes or regressions, or none, keep what is `known`, and so
        do rows that are a reported one.
        """
        out = known.copy()
        single = np.diff(self.mix.indptr) <= 1
        for origin, rows in self._within():
            asked = rows[~single[rows]]
            if len(asked):
                contrast = self._contrast(origin, asked)
                out[asked] = self.origins[origin].source.degrees(contrast)
        return out

    def test(self, estimate: FloatArray, vcov: FloatArray) -> WaldTest | None:
        """Return the joint test of all rows, or None where they come from several regressions."""
        found = [(o, rows) for o, rows in self._within() if len(rows) == self.mix.shape[0]]
        if not found:
            return None
        origin, rows = found[0]
        pieces = self.origins[origin].source.pieces(self._contrast(origin, rows))
        return hotelling_test(pieces, estimate, vcov)

    def _starts(self) -> IntArray:
        return np.cumsum([0, *[o.contrast.shape[1] for o in self.origins]])

    def _within(self) -> list[tuple[int, IntArray]]:
        """Return rows that come from one origin, for each of them."""
        starts = self._starts()
        self.mix.eliminate_zeros()
        of = np.searchsorted(starts, self.mix.indices, side="right") - 1
        row = np.repeat(np.arange(self.mix.shape[0]), np.diff(self.mix.indptr))
        low = np.full(self.mix.shape[0], len(self.origins))
        high = np.full(self.mix.shape[0], -1)
        np.minimum.at(low, row, of)
        np.maximum.at(high, row, of)
        return [
            (int(o), np.flatnonzero((low == o) & (high == o))) for o in np.unique(low[high >= 0])
        ]

    def _contrast(self, origin: int, rows: IntArray) -> FloatArray:
        starts = self._starts()
        own = self.mix[rows][:, starts[origin] : starts[origin + 1]]
        return np.asarray((own @ self.origins[origin].contrast.T).T)
