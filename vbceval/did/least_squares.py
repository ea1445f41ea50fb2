"""Weighted least squares from moments of cells, one set of effects eliminated exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import sparse

from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.did.blocks import Block
from vbceval.did.like_rows import scaled, squares
from vbceval.did.pivots import invert_in_order
from vbceval.did.regressors import Regressors, joint_codes, numbered


class Cells(NamedTuple):
    """
    Cells of one regression.

    Parameters
    ----------
    block : Block
        K cells; its outcome is not read.
    y : array, shape (K, m)
        Mean of each outcome.
    xy : array, shape (K, q, m), or None
        Centred sums of covariates with outcomes.
    yy : array, shape (K, m), or None
        Centred sums of squares of outcomes.
    n : int array, shape (K,)
        Rows in each cell.
    absorbed : int array, shape (K,), or None
        Level of the eliminated effect, coded without gaps.
    """

    block: Block
    y: FloatArray
    xy: FloatArray | None
    yy: FloatArray | None
    n: IntArray
    absorbed: IntArray | None


@dataclass(frozen=True, eq=False)
class Groups:
    """
    Groups of cells in which scores are added up.

    Parameters
    ----------
    codes : int array, shape (K,)
        Group of each cell, 0 to n - 1.
    n : int
        Number of groups.
    """

    codes: IntArray
    n: int

    @cached_property
    def _sorted(self) -> tuple[IntArray | None, IntArray]:
        """Cells by group, None where they are in this order, and where groups begin."""
        sizes = np.bincount(self.codes, minlength=self.n)
        in_order = bool((self.codes[1:] >= self.codes[:-1]).all())
        order = None if in_order else np.argsort(self.codes, kind="stable")
        return order, np.concatenate([[0], np.cumsum(sizes)])

    def sums(self, values: FloatArray) -> sparse.csr_array:
        """Return the matrix that multiplies rows of cells by values, (K,), and adds up in groups."""
        order, bounds = self._sorted
        if order is None:
            order = np.arange(len(values))
        else:
            values = values[order]
        return sparse.csr_array((values, order, bounds), shape=(self.n, len(order)))


class Inside(NamedTuple):
    """
    Sums over cells of one group and kind (see `Regressors`), of which there are P.

    Parameters
    ----------
    group, kind : int array, shape (P,)
        Group, not decreasing, and kind.
    xx : array, shape (P, q, q)
        Centred cross-products of the q covariates that vary inside cells.
    xy : array, shape (P, q, m)
        The same with outcomes.
    """

    group: IntArray
    kind: IntArray
    xx: FloatArray
    xy: FloatArray

    @property
    def rows(self) -> IntArray:
        """Rows of `Regressors.slopes`, one a sum and covariate, shape (P q,)."""
        q = self.xx.shape[1]
        return np.asarray((self.kind[:, None] * q + np.arange(q)).ravel())

    def left(self, slopes: FloatArray) -> FloatArray:
        """Return products of covariates with residuals, for slopes of kinds, (kinds, q, m)."""
        return np.asarray(self.xy - self.xx @ slopes[self.kind])

    def moved(self, slopes: sparse.csr_array) -> sparse.csr_array:
        """Return cross-products times the columns that move with covariates, shape (P q, p)."""
        n, q, _ = self.xx.shape
        column = np.broadcast_to((self.kind[:, None] * q + np.arange(q))[:, None], self.xx.shape)
        made = self.xx.ravel(), column.ravel(), np.arange(n * q + 1) * q
        return sparse.csr_array(sparse.csr_array(made, shape=(n * q, slopes.shape[0])) @ slopes)


class Fit(NamedTuple):
    """
    A regression of m outcomes on p columns.

    Parameters
    ----------
    cells : Cells
        What was fitted.
    z : Regressors
        The columns.
    level : array, shape (H,)
        Weight of each eliminated effect; empty when there is none.
    level_z : sparse array, shape (H, p)
        Weighted sums of columns within eliminated effects.
    kept : bool array, shape (p,)
        Columns that are not collinear with earlier ones.
    inverse : array, shape (p, p)
        Inverse of the cross-product given the eliminated effects; zero for dropped columns.
    beta : array, shape (p, m)
        Coefficients; zero for dropped columns.
    residual : array, shape (K, m)
        Of the means of cells, eliminated effects taken out.
    weighted : array, shape (K, m)
        Residuals times weights.
    inside : Inside
        Sums inside cells of each kind.
    dependent : dict of int to array
        For each dropped column, coefficients (p,) of the earlier columns that span it.
    """

    cells: Cells
    z: Regressors
    level: FloatArray
    level_z: sparse.csr_array
    kept: BoolArray
    inverse: FloatArray
    beta: FloatArray
    residual: FloatArray
    weighted: FloatArray
    inside: Inside
    dependent: dict[int, FloatArray]

    @property
    def n_rows(self) -> int:
        """Rows of the regression."""
        return int(self.cells.n.sum())

    @property
    def n_full(self) -> int:
        """Parameters, with every eliminated level."""
        return len(self.level) + int(self.kept.sum())

    def n_parameters(self, count: str) -> int:
        """
        Return parameters as `SSC.K` counts them.

        "full" with every eliminated level; otherwise without effects that are nested in clusters,
        but with one constant: "levels" with all levels of other effects but one of each, "nested"
        without those that earlier effects span.
        """
        if count == "full":
            return self.n_full
        constant = 1 if len(self.level) else 0
        counted = self.kept | self.z.level if count == "levels" else self.kept
        return constant + int((counted & ~self.z.nested).sum())

    def project(self, columns: FloatArray) -> FloatArray:
        """
        Return combinations of columns given the eliminated effects, times weights.

        Parameters
        ----------
        columns : array, shape (p, r)
            Coefficients.

        Returns
        -------
        array, shape (K, r)
            Combinations at cell means.
        """
        out = self.z.mean @ columns
        if self.cells.absorbed is not None:
            out -= ((self.level_z @ columns) / self.level[:, None])[self.cells.absorbed]
        return np.asarray(out)

    def slopes(self, columns: FloatArray) -> FloatArray:
        """Return how combinations move with covariates inside cells, shape (kinds, q, r)."""
        shape = (len(self.inside.kind), len(self.z.inner), columns.shape[1])
        return np.asarray((self.z.slopes @ columns).reshape(shape))

    def scores(self, groups: Groups) -> list[sparse.csr_array]:
        """
        Return X'We summed in groups of cells, shape (n, p), of each outcome.

        The groups must nest the eliminated effect; see `influence` for others. Matrices of outcomes
        have values in the same places.
        """
        inside = inside_sums(self.cells, self.z, groups)
        left = inside.left(self.slopes(self.beta))
        sums = _GroupSums.of(self.z, groups, inside)
        return list(sums.matrices(self.weighted, left))

    def products(self, columns: FloatArray, groups: Groups) -> Iterator[sparse.csr_array]:
        """Yield X_c'WX_c times each column of combinations, (p, r), in groups: shape (n, p)."""
        at_mean = self.cells.block.w[:, None] * self.project(columns)
        inside = inside_sums(self.cells, self.z, groups)
        moved = inside.xx @ self.slopes(columns)[inside.kind]
        yield from _GroupSums.of(self.z, groups, inside).matrices(at_mean, moved)

    def influence(self, outcome: int, direction: FloatArray, groups: Groups) -> FloatArray:
        """Return scores times columns of `direction`, (p, r), in any groups: (n, r)."""
        out = groups.sums(self.weighted[:, outcome]) @ self.project(direction)
        if self.z.inner:
            inside = inside_sums(self.cells, self.z, groups)
            left = inside.left(self.slopes(self.beta))[:, :, outcome]
            out += _placed(inside, left, groups.n, self.z) @ (self.z.slopes @ direction)
        return np.asarray(out)

    def residual_squares(self) -> FloatArray:
        """Return the weighted residual sum of squares of each outcome, shape (m,)."""
        cells = self.cells
        total = cells.block.w @ self.residual**2
        if cells.yy is None or cells.xy is None:
            return np.asarray(total)
        total = total + cells.yy.sum(axis=0)
        if self.z.inner:
            slopes = self.slopes(self.beta)
            both = self.inside.xy + self.inside.left(slopes)
            total = total - (slopes * both).sum(axis=(0, 1))
        return np.asarray(total)


class _GroupSums(NamedTuple):
    """
    Where products of columns with values of cells are added up: by group of cells and column.

    Parameters
    ----------
    mean : sparse array, shape (N, K)
        Columns of cells, by group and column that has any.
    inside : sparse array, shape (N, P q)
        What moves inside cells.
    columns : int array, shape (N,)
        Column of each sum.
    bounds : int array, shape (n + 1,)
        Where groups begin.
    p : int
        Number of columns.
    """

    mean: sparse.csc_array
    inside: sparse.csc_array
    columns: IntArray
    bounds: IntArray
    p: int

    @classmethod
    def of(cls, z: Regressors, groups: Groups, inside: Inside) -> _GroupSums:
        """Find the sums; O(nonzeros) where there are few for each of them, else a sort."""
        p, moved = len(z.names), z.slopes[inside.rows]
        owners = groups.codes, np.repeat(inside.group, len(z.inner))
        keys = [
            np.repeat(owner * p, np.diff(rows.indptr)) + rows.indices
            for rows, owner in zip((z.mean, moved), owners, strict=True)
        ]
        codes, found = numbered(np.concatenate(keys), groups.n * p)
        mean, inner = (
            sparse.csc_array((rows.data, own, rows.indptr), (len(found), rows.shape[0]))
            for rows, own in zip((z.mean, moved), np.split(codes, [len(keys[0])]), strict=True)
        )
        return cls(mean, inner, found % p, np.searchsorted(found // p, np.arange(groups.n + 1)), p)

    def matrices(self, at_mean: FloatArray, inside: FloatArray) -> Iterator[sparse.csr_array]:
        """Yield sums with each column of values at means, (K, m), and inside, (P, q, m)."""
        shape = (len(self.bounds) - 1, self.p)
        for mean, moved in zip(at_mean.T, np.moveaxis(inside, 2, 0), strict=True):
            values = self.mean @ mean + self.inside @ moved.ravel()
            yield sparse.csr_array((values, self.columns, self.bounds), shape=shape)


def _placed(inside: Inside, values: FloatArray, n_groups: int, z: Regressors) -> sparse.csr_array:
    """Return the matrix that multiplies slopes by values, (P, q), and adds up in groups."""
    bounds = np.searchsorted(inside.group, np.arange(n_groups + 1)) * len(z.inner)
    return sparse.csr_array((values.ravel(), inside.rows, bounds), (n_groups, z.slopes.shape[0]))


def inside_sums(cells: Cells, z: Regressors, groups: Groups) -> Inside:
    """Add up what varies inside cells, by group and kind."""
    used = list(z.inner)
    size, q, m = len(z.kind), len(used), cells.y.shape[1]
    if not q:
        none = np.zeros(0, dtype=np.int64)
        return Inside(none, none, np.zeros((0, 0, 0)), np.zeros((0, 0, m)))
    xx, xy = cells.block.xx, cells.xy
    # columns move inside cells only where cells have variation
    assert xx is not None
    assert xy is not None
    if q < xx.shape[1]:
        xx, xy = xx[:, used][:, :, used], xy[:, used]
    of, first = joint_codes([groups.codes, z.kind])
    together = Groups(of, len(first)).sums(np.ones(size))
    return Inside(
        groups.codes[first], z.kind[first], (together @ xx.reshape(size, q * q)).reshape(-1, q, q),
        (together @ xy.reshape(size, q * m)).reshape(-1, q, m),
    )  # fmt: skip


def least_squares(cells: Cells, z: Regressors) -> Fit:
    """
    Fit all outcomes with one factorisation.

    Normal equations of columns from which weighted means within the eliminated effect are taken
    out, scaled to unit squares and factored in the order of columns: one whose remaining square is
    below 1e-9 of its own is dropped. One step of refinement with residuals of cells recovers the
    digits that normal equations lose.

    Parameters
    ----------
    cells : Cells
        K cells, m outcomes.
    z : Regressors
        p columns.

    Returns
    -------
    Fit
        Cost O(nonzeros^2 / K + p^3 + m (nonzeros + p^2)); no iterations.

    Raises
    ------
    EstimationError
        If the columns that are left are so nearly collinear that half of the digits are lost.
    """
    w, h = cells.block.w, cells.absorbed
    y, level = cells.y, np.zeros(0)
    level_z = sparse.csr_array((0, len(z.names)))
    inside = inside_sums(cells, z, Groups(np.zeros(len(w), dtype=np.int64), 1))
    cross = _cross(w, z, inside)
    if h is not None:
        level = np.bincount(h, weights=w)
        y = y - _means(y, w, h, level)[h]
        level_z = sparse.csr_array(Groups(h, len(level)).sums(w) @ z.mean)
        cross -= squares(scaled(level_z, 1 / np.sqrt(level)))
    kept, inverse, dependent = invert_in_order(cross, z)
    beta = np.zeros((len(z.names), y.shape[1]))
    fit = Fit(
        cells._replace(y=y), z, level, level_z, kept, inverse, beta, y, w[:, None] * y, inside,
        dependent,
    )  # fmt: skip
    for _ in range(2):
        beta = beta + inverse @ _sums(fit)
        residual = y - fit.project(beta)
        fit = fit._replace(beta=beta, residual=residual, weighted=w[:, None] * residual)
    return fit


def _sums(fit: Fit) -> FloatArray:
    """X'We, shape (p, m)."""
    out = fit.z.mean.T @ fit.weighted
    if fit.z.inner:
        left = fit.inside.left(fit.slopes(fit.beta))
        out += fit.z.slopes.T @ left.reshape(-1, left.shape[2])
    return np.asarray(out)


def _cross(w: FloatArray, z: Regressors, inside: Inside) -> FloatArray:
    """X'WX from moments of cells, before effects are eliminated."""
    cross = squares(scaled(z.mean, np.sqrt(w)), z.pattern)
    if not z.inner:
        return np.asarray(cross)
    return np.asarray(cross + (z.slopes.T @ (inside.moved(z.slopes))).toarray())


def _means(y: FloatArray, w: FloatArray, codes: IntArray, total: FloatArray) -> FloatArray:
    sums = [np.bincount(codes, weights=w * column) for column in y.T]
    return np.column_stack(sums) / total[:, None]
