"""Weighted least squares from moments of cells, one set of effects eliminated exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import linalg, sparse

from vbceval.core.checks import listed
from vbceval.core.errors import EstimationError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.did.blocks import Block
from vbceval.did.regressors import Regressors

COLLINEAR = 1e-9
"""A column is dropped when what is left of its square, given those before it, is less."""
_LARGEST_CONDITION = 1e12
_FEW = 16
"""Directions below which products with sparse scores are quick."""


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
    def _sorted(self) -> tuple[IntArray, IntArray]:
        order = np.argsort(self.codes, kind="stable")
        sizes = np.bincount(self.codes, minlength=self.n)
        return order, np.concatenate([[0], np.cumsum(sizes)])

    @cached_property
    def _orders(self) -> dict[int, IntArray]:
        return {}

    def sums(self, values: FloatArray) -> sparse.csr_array:
        """Return the matrix that multiplies by values, (K times any,), and adds up in groups."""
        size = len(self.codes)
        times = len(values) // max(size, 1)
        first, bounds = self._sorted
        if times not in self._orders:
            self._orders[times] = (first[:, None] + size * np.arange(times)).ravel()
        order = self._orders[times]
        shape = (self.n, len(values))
        return sparse.csr_array((values[order], order, bounds * times), shape=shape)


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
    weighted : array, shape (K (1 + q), m)
        Weighted residuals that go with `Regressors.rows`: at means, then inside cells.
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
    dependent: dict[int, FloatArray]

    @property
    def n_rows(self) -> int:
        """Rows of the regression."""
        return int(self.cells.n.sum())

    @property
    def n_full(self) -> int:
        """Parameters, with every eliminated level."""
        return len(self.level) + int(self.kept.sum())

    @property
    def n_nested(self) -> int:
        """
        Parameters without effects that are nested in clusters, the constant included.

        As R fixest counts: slopes, one constant, and levels but one of effects not nested.
        """
        constant = 1 if len(self.level) else 0
        return constant + int((self.kept & ~self.z.nested).sum())

    def project(self, columns: FloatArray) -> FloatArray:
        """
        Return combinations of columns given the eliminated effects, times weights.

        Parameters
        ----------
        columns : array, shape (p, r)
            Coefficients.

        Returns
        -------
        array, shape (K (1 + q), r)
            Combinations at cell means, unweighted, then the centred sums inside cells of each
            covariate with the combination.
        """
        out = self.z.rows @ columns
        size = len(self.cells.block.w)
        if self.cells.absorbed is not None:
            out[:size] -= ((self.level_z @ columns) / self.level[:, None])[self.cells.absorbed]
        return self._moved(out)

    def _moved(self, out: FloatArray) -> FloatArray:
        """Multiply what is inside cells by the centred cross-products there."""
        if self.z.inner:
            size = len(self.cells.block.w)
            xx = _inner(self.cells.block.xx, self.z)
            inside = np.moveaxis(out[size:].reshape(len(self.z.inner), size, -1), 0, 1)
            out[size:] = np.moveaxis(xx @ inside, 1, 0).reshape(out[size:].shape)
        return out

    def scores(self, outcome: int, groups: Groups) -> sparse.csr_array:
        """
        Return X'We summed in groups of cells, shape (n, p).

        The groups must nest the eliminated effect; see `influence` for others.
        """
        return sparse.csr_array(groups.sums(self.weighted[:, outcome]) @ self.z.rows)

    def combined(self, outcome: int, direction: FloatArray, groups: Groups) -> FloatArray:
        """Return `scores` times columns of `direction`, (p, r): shape (n, r)."""
        scores = self.scores(outcome, groups)
        if direction.shape[1] < _FEW:
            return np.asarray(scores @ direction)
        out = np.zeros((groups.n, direction.shape[1]))
        blocks, rest = _dense_blocks(scores)
        for block in blocks:
            out[block.rows] = block.values @ direction[block.columns]
        out[rest] = scores[rest] @ direction
        return out

    def products(self, projected: FloatArray, groups: Groups) -> sparse.csr_array:
        """Return X_c'WX_c times a direction, from its `project`, (K (1 + q),): shape (n, p)."""
        values = projected.copy()
        size = len(self.cells.block.w)
        values[:size] *= self.cells.block.w
        return sparse.csr_array(groups.sums(values) @ self.z.rows)

    def influence(self, outcome: int, direction: FloatArray, groups: Groups) -> FloatArray:
        """Return scores times columns of `direction`, (p, r), in any groups: (n, r)."""
        at = self.z.rows @ direction
        size = len(self.cells.block.w)
        if self.cells.absorbed is not None:
            at[:size] -= ((self.level_z @ direction) / self.level[:, None])[self.cells.absorbed]
        return np.asarray(groups.sums(self.weighted[:, outcome]) @ at)

    def residual_squares(self) -> FloatArray:
        """Return the weighted residual sum of squares of each outcome, shape (m,)."""
        cells = self.cells
        total = cells.block.w @ self.residual**2
        if cells.yy is None or cells.xy is None:
            return np.asarray(total)
        total = total + cells.yy.sum(axis=0)
        if self.z.inner:
            size = len(cells.block.w)
            shape = (len(self.z.inner), size, -1)
            slope = (self.z.rows[size:] @ self.beta).reshape(shape)
            left = self.weighted[size:].reshape(shape)
            xy = np.moveaxis(cells.xy[:, list(self.z.inner)], 1, 0)
            total = total - (slope * (xy + left)).sum(axis=(0, 1))
        return np.asarray(total)


def _inner(xx: FloatArray | None, z: Regressors) -> FloatArray:
    """Centred cross-products of the covariates in use, shape (K, q, q)."""
    assert xx is not None  # columns move inside cells only where cells have variation
    used = list(z.inner)
    return xx if used == list(range(xx.shape[1])) else xx[:, used][:, :, used]


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
    cross = _cross(cells, z)
    if h is not None:
        level = np.bincount(h, weights=w)
        y = y - _means(y, w, h, level)[h]
        level_z = sparse.csr_array(Groups(h, len(level)).sums(w) @ z.mean)
        cross -= _squares(sparse.csr_array(sparse.diags_array(1 / np.sqrt(level)) @ level_z))
    kept, inverse, dependent = _invert(cross, z)
    beta = np.zeros((len(z.names), y.shape[1]))
    fit = Fit(
        cells._replace(y=y), z, level, level_z, kept, inverse, beta, y, _outcomes(cells, z, y),
        dependent,
    )  # fmt: skip
    for _ in range(2):
        beta = beta + inverse @ (z.rows.T @ fit.weighted)
        fitted = fit.project(beta)
        residual = y - fitted[: len(w)]
        weighted = _outcomes(cells, z, residual)
        weighted[len(w) :] -= fitted[len(w) :]
        fit = fit._replace(beta=beta, residual=residual, weighted=weighted)
    return fit


def _outcomes(cells: Cells, z: Regressors, at_mean: FloatArray) -> FloatArray:
    """Weighted outcomes at means, then their centred sums with covariates inside cells."""
    parts = [cells.block.w[:, None] * at_mean]
    if z.inner and cells.xy is not None:
        parts += [cells.xy[:, s] for s in z.inner]
    return np.concatenate(parts)


def _cross(cells: Cells, z: Regressors) -> FloatArray:
    """X'WX from moments of cells, before effects are eliminated."""
    w, size = cells.block.w, len(cells.block.w)
    mean = z.mean
    cross = (mean.T @ (sparse.diags_array(w) @ mean)).toarray()
    if not z.inner:
        return np.asarray(cross)
    # cells of one kind have the same columns, so their sums stand for them
    xx, q = _inner(cells.block.xx, z), len(z.inner)
    kinds = Groups(z.kind, int(z.kind.max()) + 1)
    total = (kinds.sums(np.ones(size)) @ xx.reshape(size, q * q)).reshape(-1, q, q)
    one = np.zeros(kinds.n, dtype=np.int64)
    one[z.kind] = np.arange(size)
    slopes = sparse.csr_array(z.rows[(one + size * np.arange(1, q + 1)[:, None]).ravel()])
    weights = sparse.block_array(
        [[sparse.diags_array(total[:, f, i].copy()) for i in range(q)] for f in range(q)]
    )
    return np.asarray(cross + (slopes.T @ (weights @ slopes)).toarray())


def _means(y: FloatArray, w: FloatArray, codes: IntArray, total: FloatArray) -> FloatArray:
    sums = [np.bincount(codes, weights=w * column) for column in y.T]
    return np.column_stack(sums) / total[:, None]


def _squares(rows: sparse.csr_array) -> FloatArray:
    """Return A'A of a sparse matrix."""
    out = np.zeros((rows.shape[1], rows.shape[1]))
    blocks, rest = _dense_blocks(rows)
    for block in blocks:
        out[block.columns[:, None], block.columns] += block.values.T @ block.values
    if len(rest):
        out += (rows[rest].T @ rows[rest]).toarray()
    return out


class _Block(NamedTuple):
    """Rows of a sparse matrix that have values in the same columns."""

    rows: IntArray
    columns: IntArray
    values: FloatArray


def _dense_blocks(rows: sparse.csr_array) -> tuple[Iterator[_Block], IntArray]:
    """Return blocks of a matrix so full that dense products are quicker, and its other rows."""
    rows = rows.sorted_indices()
    counts = np.diff(rows.indptr)
    # sums of two random marks of columns tell rows with different columns apart
    marks = np.random.default_rng(0).standard_normal((rows.shape[1], 2))
    pattern = sparse.csr_array((np.ones(rows.nnz), rows.indices, rows.indptr), shape=rows.shape)
    found = (pattern @ marks).view(complex)[:, 0]
    _, of, times = np.unique(found, return_inverse=True, return_counts=True)
    alike = (times[of] * 8 > counts) & (counts > 0)
    order = np.flatnonzero(alike)
    order = order[np.argsort(of[order], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(of[order])) + 1)
    blocks = (
        _Block(
            same, rows.indices[rows.indptr[same[0]] : rows.indptr[same[0] + 1]].astype(np.int64),
            rows[same].data.reshape(len(same), -1),
        )
        for same in groups if len(same)
    )  # fmt: skip
    return blocks, np.flatnonzero(~alike)


def _invert(
    cross: FloatArray, z: Regressors
) -> tuple[BoolArray, FloatArray, dict[int, FloatArray]]:
    """Return which columns are kept, the inverse of their cross-product, and what spans others."""
    p = len(z.names)
    left = np.diag(cross)
    live = left > COLLINEAR * z.own
    scale = np.where(live, 1 / np.sqrt(np.where(live, left, 1.0)), 0.0)
    scaled = cross * np.outer(scale, scale)
    # a column that others absorb is measured against its own square, not what absorption left
    limit = COLLINEAR * np.maximum(z.own * scale**2, 1.0)
    kept, root, dependent = _pivots(scaled, live, limit)
    rows = np.flatnonzero(kept)
    inverse = np.zeros((p, p))
    if len(rows):
        half = linalg.lapack.dpotri(root, lower=1)[0]
        half *= scale[rows, None]
        half *= scale[rows]
        inverse[rows[:, None], rows] = np.tril(half) + np.tril(half, -1).T
        norm = np.linalg.norm(scaled[np.ix_(rows, rows)], 1)
        condition = 1 / linalg.lapack.dpocon(root.T, norm)[0]
        if condition > _LARGEST_CONDITION:
            raise EstimationError(
                "regressors are nearly collinear (condition number of their scaled cross-product "
                f"{condition:.0e}), so fewer than four digits would be left. The columns least "
                f"distinguished from others are {listed(_nearly(root, z, rows))}. Leave one out."
            )
    for j, combination in dependent.items():
        back = np.where(scale > 0, scale, 0.0)
        dependent[j] = combination * back / (scale[j] if scale[j] > 0 else 1.0)
    return kept, inverse, dependent


def _nearly(root: FloatArray, z: Regressors, rows: IntArray) -> list[str]:
    worst = np.argsort(np.diag(root))[:3]
    return [z.names[rows[i]] for i in worst]


def _pivots(
    scaled: FloatArray, live: BoolArray, limit: FloatArray
) -> tuple[BoolArray, FloatArray, dict[int, FloatArray]]:
    """Factor in the order of columns, leaving out those that earlier ones span."""
    if live.all():
        root, failed = linalg.lapack.dpotrf(scaled, lower=1)
        if failed == 0 and (np.diag(root) ** 2 > limit).all():
            return live, np.tril(root), {}
    p = len(scaled)
    kept = np.zeros(p, dtype=bool)
    factor = np.zeros((p, p))
    dependent = {}
    used = 0
    for j in range(p):
        if not live[j]:
            dependent[j] = np.zeros(p)
            continue
        column = scaled[:, j] - factor[:, :used] @ factor[j, :used]
        if column[j] > limit[j]:
            factor[:, used] = column / np.sqrt(column[j])
            kept[j] = True
            used += 1
            continue
        before = np.flatnonzero(kept)
        combination = np.zeros(p)
        root = factor[before][:, :used]
        if used:
            combination[before] = linalg.solve_triangular(
                root, factor[j, :used], lower=True, trans="T"
            )
        dependent[j] = combination
    rows = np.flatnonzero(kept)
    return kept, factor[rows][:, :used], dependent
