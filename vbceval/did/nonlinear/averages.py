"""Average effects from a fitted index: values, gradients, and what averaging itself adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from scipy import sparse

from vbceval.core.typing import FloatArray, IntArray
from vbceval.did.least_squares import Fit
from vbceval.did.nonlinear.families import Family

Scale = Literal["response", "link", "percent"]


class Index(NamedTuple):
    """
    Index of cells with treatment and without, and what it is made of.

    Parameters
    ----------
    eta, without : array, shape (K,)
        As fitted; with the columns of treatment at zero.
    z, z_without : sparse array, shape (K, p)
        Columns behind each.
    """

    eta: FloatArray
    without: FloatArray
    z: sparse.csr_array
    z_without: sparse.csr_array

    @classmethod
    def of(cls, z: sparse.csr_array, beta: FloatArray, eta: FloatArray, moved: IntArray) -> Index:
        """Return the index at columns `z`; `moved` are the positions of columns of treatment."""
        off = np.ones(z.shape[1])
        off[moved] = 0.0
        without = sparse.csr_array(z @ sparse.diags_array(off))
        return cls(eta, eta - np.asarray((z - without) @ beta), z, without)


class Average(NamedTuple):
    """
    Averages over the cells of each of r rows.

    Parameters
    ----------
    value : array, shape (r,)
        Estimates.
    gradient : array, shape (p, r)
        Derivative by coefficients, eliminated effects following.
    direct : array, shape (K, r) sparse
        Derivative by the weight of each cell, coefficients held fixed.
    """

    value: FloatArray
    gradient: FloatArray
    direct: sparse.csr_array

    def mixed(self, weights: FloatArray) -> Average:
        """Return sums of rows times weights, shape (r, r)."""
        direct = sparse.csr_array(self.direct @ sparse.csr_array(weights))
        return Average(self.value @ weights, self.gradient @ weights, direct)

    def combined(self, parts: tuple[tuple[FloatArray, Average], ...]) -> Average:
        """Return sums of averages times derivatives by them, with the value of this one."""
        gradient = sum((a.gradient * d for d, a in parts), np.zeros_like(self.gradient))
        direct = parts[0][1].direct * 0
        for d, a in parts:
            direct = direct + a.direct @ sparse.diags_array(d)
        return Average(self.value, gradient, sparse.csr_array(direct))


def mean_over(
    fit: Fit,
    values: FloatArray,
    slope: FloatArray,
    z: sparse.csr_array,
    share: sparse.csr_array,
) -> Average:
    """
    Average a function of the index over the cells of each row.

    Parameters
    ----------
    fit : Fit
        For its eliminated effects, which move with the coefficients.
    values, slope : array, shape (K,)
        The function, and its derivative by the index.
    z : sparse array, shape (K, p)
        Derivative of the index by coefficients.
    share : sparse array, shape (K, r)
        Weight of each cell in each row, adding up to one.
    """
    weighted = sparse.csr_array(sparse.diags_array(slope) @ share)
    gradient = (z.T @ weighted).toarray()
    if fit.cells.absorbed is not None:
        by_level = _by_level(weighted, fit.cells.absorbed, len(fit.level))
        gradient -= fit.level_z.T @ (by_level / fit.level[:, None])
    value, direct = mean_and_direct(values, share)
    return Average(value, np.asarray(gradient), direct)


def mean_and_direct(
    values: FloatArray, share: sparse.csr_array
) -> tuple[FloatArray, sparse.csr_array]:
    """Return averages, and their derivative by the relative weight of each cell."""
    value = np.asarray(share.T @ values)
    about = sparse.diags_array(values) @ share - share @ sparse.diags_array(value)
    return value, sparse.csr_array(about)


def _by_level(values: sparse.csr_array, codes: IntArray, n: int) -> FloatArray:
    """Sums of rows within levels of the eliminated effect, shape (n, r)."""
    rows = np.arange(len(codes))
    adding = sparse.csr_array((np.ones(len(codes)), (codes, rows)), shape=(n, len(codes)))
    return np.asarray((adding @ values).toarray())


def shares_of(support: IntArray, w: FloatArray, n_rows: int) -> sparse.csr_array:
    """
    Return the weight of each cell among those of its row, shape (K, n_rows).

    Parameters
    ----------
    support : int array, shape (K,)
        Row of each cell; -1 is none.
    w : array, shape (K,)
        Weight of each cell.
    n_rows : int
        Number of rows.
    """
    live = np.flatnonzero(support >= 0)
    total = np.bincount(support[live], weights=w[live], minlength=n_rows)
    values = w[live] / total[support[live]]
    return sparse.csr_array((values, (live, support[live])), shape=(len(w), n_rows))


def mixing(n_rows: int, pooled: Mapping[int, tuple[int, ...]]) -> FloatArray:
    """
    Return the matrix that makes rows of rows, shape (n_rows, n_rows).

    Parameters
    ----------
    n_rows : int
        Number of rows.
    pooled : mapping of int to tuple of int
        Rows that are plain means of other rows: weights of cells move each of these, and not the
        part that it has in the mean.
    """
    mixed = np.eye(n_rows)
    for row, parts in pooled.items():
        mixed[:, row] = 0.0
        mixed[list(parts), row] = 1 / len(parts)
    return mixed


def average_effects(
    fit: Fit,
    index: Index,
    family: Family,
    share: sparse.csr_array,
    mixed: FloatArray,
    scale: Scale,
) -> tuple[Average, Average]:
    """
    Return average effects on a scale, and average means without treatment.

    "response": mean of h(eta) - h(eta without treatment), in the unit of the outcome. "link": mean
    of the difference of the index. "percent": 100 times the first over the mean without treatment.
    `share` is that of `shares_of`, `mixed` that of `mixing`.
    """
    e, e0 = index.eta, index.without
    without = mean_over(fit, family.mean(e0), family.slope(e0), index.z_without, share).mixed(mixed)
    if scale == "link":
        # eliminated effects are not in a difference of indices
        moved = sparse.csr_array(index.z - index.z_without)
        value, direct = mean_and_direct(e - e0, share)
        gradient = np.asarray((moved.T @ share).toarray())
        return Average(value, gradient, direct).mixed(mixed), without
    with_ = mean_over(fit, family.mean(e), family.slope(e), index.z, share).mixed(mixed)
    gap = with_.value - without.value
    one = np.ones_like(gap)
    if scale == "response":
        made = with_._replace(value=gap).combined(((one, with_), (-one, without)))
        return made, without
    ratio = with_.value / without.value
    made = with_._replace(value=100 * (ratio - 1)).combined(
        ((100 / without.value, with_), (-100 * ratio / without.value, without))
    )
    return made, without
