"""Sums of cells by period, cohort and cluster, which comparisons of periods have in common."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.did.blocks import Block
from vbceval.did.least_squares import Groups
from vbceval.did.regressors import joint_codes
from vbceval.did.solve import without_reference


class PeriodSums(NamedTuple):
    """
    Weighted products of (1, covariates) with themselves and with outcomes, in P groups of cells.

    A group is what a member, a cluster with its cohort, has in a period.

    Parameters
    ----------
    block : Block
        The cells.
    periods : array, shape (T,)
        Periods, increasing.
    cohorts : array, shape (c,)
        Distinct cohorts; never treated (NaN) is the last.
    owner, cluster : int array, shape (M,)
        Cohort, by position, and cluster of each member; cohorts do not decrease.
    member : int array, shape (P,)
        Member of each group.
    starts : int array, shape (T c + 1,)
        First group of each period and cohort, which are slots one after the other.
    products : array, shape (f, P)
        Products of (1, covariates), the upper triangle, then of outcomes with (1, covariates).
        Covariates are from their overall mean in units of their standard deviation, outcomes from
        their overall mean.
    totals : array, shape (f, T c)
        Their sums by slot.
    mean, scale : array, shape (q,)
        Of the covariates.
    inside : array, shape (q, T c)
        Sum of squares of covariates within cells, in their own units.
    low, high : array, shape (q, T c)
        Extremes of covariates; infinite where a slot is empty.
    whole : bool array, shape (codes, T c)
        Slots in which the reference of a categorical covariate does not occur.
    cells : int array, shape (T c,)
        Number of cells.
    order : int array, shape (K,)
        Cells in the order of their slots.
    """

    block: Block
    periods: FloatArray
    cohorts: FloatArray
    owner: IntArray
    cluster: IntArray
    member: IntArray
    starts: IntArray
    products: FloatArray
    totals: FloatArray
    mean: FloatArray
    scale: FloatArray
    inside: FloatArray
    low: FloatArray
    high: FloatArray
    whole: BoolArray
    cells: IntArray
    order: IntArray

    @classmethod
    def of(cls, block: Block, periods: FloatArray) -> PeriodSums:
        """Add up the cells of a block."""
        w, q = block.w, block.x.shape[1]
        cohorts, cohort = np.unique(block.cohort, return_inverse=True)
        member, first = joint_codes([cohort.astype(np.int64), block.cluster])
        owner = cohort[first]
        period = np.searchsorted(periods, block.period)
        of, at = joint_codes([period, member])
        n_slots = len(periods) * len(cohorts)
        slot = period * len(cohorts) + cohort
        starts = np.searchsorted(slot[at], np.arange(n_slots + 1))
        mean = w @ block.x / w.sum()
        scale = np.sqrt(w @ (block.x - mean) ** 2 / w.sum())
        scale[scale == 0] = 1.0
        order = np.argsort(slot, kind="stable")
        cells = np.bincount(slot, minlength=n_slots)
        bounds = np.concatenate([[0], np.cumsum(cells)])
        x = block.x[order]
        whole = without_reference(x, block.factors).T
        products = _products(block, Groups(of, len(at)), mean, scale)
        inside = np.zeros((q, n_slots))
        if block.xx is not None:
            squares = np.diagonal(block.xx, axis1=1, axis2=2)
            inside = np.array([np.bincount(slot, v, minlength=n_slots) for v in squares.T])
        return cls(
            block, periods, cohorts, owner, block.cluster[first], member[at], starts, products,
            _by_slot(np.add, products, starts, 0.0), mean, scale, inside.reshape(q, n_slots),
            _by_slot(np.minimum, x.T, bounds, np.inf), _by_slot(np.maximum, x.T, bounds, -np.inf),
            _by_slot(np.logical_and, whole, bounds, True), cells, order,
        )  # fmt: skip

    @property
    def n_outcomes(self) -> int:
        """Number m of outcomes."""
        return int(self.block.y.shape[1])

    def unpacked(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return products, (..., f), as matrices: (..., 1 + q, 1 + q) and (..., m, 1 + q)."""
        a, b = np.triu_indices(1 + len(self.mean))
        gram = np.empty((*values.shape[:-1], 1 + len(self.mean), 1 + len(self.mean)))
        gram[..., a, b] = gram[..., b, a] = values[..., : len(a)]
        cross = values[..., len(a) :]
        return gram, cross.reshape(*values.shape[:-1], self.n_outcomes, 1 + len(self.mean))

    def packed(self, gram: FloatArray, cross: FloatArray) -> FloatArray:
        """
        Return coefficients of products, shape (m, n, f).

        Parameters
        ----------
        gram : array, shape (m, n, 1 + q, 1 + q)
            Coefficients of products of (1, covariates), for each of m sums.
        cross : array, shape (n, 1 + q)
            Coefficients of products of the sum's own outcome with (1, covariates).
        """
        a, b = np.triu_indices(1 + len(self.mean))
        m, (n, k) = len(gram), cross.shape
        out = np.zeros((m, n, len(self.products)))
        out[:, :, : len(a)] = gram[..., a, b] + np.where(a == b, 0.0, gram[..., b, a])
        own = out[:, :, len(a) :].reshape(m, n, m, k)
        own[np.arange(m), :, np.arange(m)] = cross
        return out


def _products(block: Block, groups: Groups, mean: FloatArray, scale: FloatArray) -> FloatArray:
    """Return the products of `PeriodSums` in groups of cells."""
    size, q = block.x.shape
    m = block.y.shape[1]
    x = np.vstack([np.ones(size), ((block.x - mean) / scale).T])
    y = (block.y - block.w @ block.y / block.w.sum()).T
    a, b = np.triu_indices(1 + q)
    weighted, plain = groups.sums(block.w), groups.sums(np.ones(size))
    rows = [weighted @ (x[i] * x[j]) for i, j in zip(a, b, strict=True)]
    rows += [weighted @ (own * other) for own in y for other in x]
    out = np.array(rows)
    if block.xx is not None and q:
        inner = (plain @ block.xx.reshape(size, q * q)).reshape(groups.n, q, q)
        inside = a > 0
        i, j = a[inside] - 1, b[inside] - 1
        out[: len(a)][inside] += (inner[:, i, j] / (scale[i] * scale[j])).T
    if block.xy is not None and q:
        inner = (plain @ block.xy.reshape(size, q * m)).reshape(groups.n, q, m)
        cross = out[len(a) :].reshape(m, 1 + q, groups.n)
        cross[:, 1:] += (inner / scale[:, None]).transpose(2, 1, 0)
    return out


def _by_slot(how: np.ufunc, values: np.ndarray, bounds: IntArray, empty: float) -> np.ndarray:
    """Reduce columns, shape (r, n), between bounds: shape (r, slots)."""
    out = np.full((len(values), len(bounds) - 1), empty, dtype=values.dtype)
    filled = np.diff(bounds) > 0
    if filled.any():
        out[:, filled] = how.reduceat(values, bounds[:-1][filled], axis=1)
    return out
