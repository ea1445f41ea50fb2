"""Weighted least squares on standardised columns: arrays in, arrays out."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from vbceval.core.errors import EstimationError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.did.changes import Changes

CONSTANT = "(constant)"
"""Name of the first regressor."""
_COLLINEAR = 1e-9


class ComparisonFailure(EstimationError):
    """One comparison cannot be estimated; the estimator adds which cohort and period."""


class Regressors(NamedTuple):
    """
    Standardised regressors of one comparison.

    Parameters
    ----------
    x : array, shape (n, q)
        A constant, then covariates with weighted mean 0 and sd 1 over the comparison.
    names : tuple of str
        Names of the q columns, the constant as "(constant)".
    xx : array, shape (n, q - 1, q - 1), or None
        Centred second moments of the kept covariates within each cell, in their own units: the
        constant has none, and scaling sums of them is cheaper than scaling every cell.
    scale : array, shape (q - 1,)
        Standard deviation of each kept covariate.
    kept : array of int, shape (q - 1,)
        Positions of the kept covariates among those given.
    factors : tuple of int, length q
        Which categorical covariate a column belongs to, -1 for numbers and the constant.
    """

    x: FloatArray
    names: tuple[str, ...]
    xx: FloatArray | None
    scale: FloatArray
    kept: np.ndarray
    factors: tuple[int, ...]

    def only(self, columns: IntArray) -> Regressors:
        """Return some columns of rows without variation inside; the constant is among them."""
        if len(columns) == self.x.shape[1]:
            return self._replace(xx=None)
        covariates = columns[1:] - 1
        return Regressors(
            x=self.x[:, columns], names=tuple(self.names[j] for j in columns), xx=None,
            scale=self.scale[covariates], kept=self.kept[covariates],
            factors=tuple(self.factors[j] for j in columns),
        )  # fmt: skip

    def at_reference(self, code: int) -> BoolArray:
        """Return the rows in the category without a column of a factor."""
        # a 0/1 column standardised is lowest where it was 0
        columns = self.x[:, np.array(self.factors) == code]
        return np.asarray((columns == columns.min(axis=0)).all(axis=1))

    def varies_inside(self, largest: float) -> bool:
        """Return whether a second moment within cells exceeds a share 1e-12 of `largest`."""
        if self.xx is None or len(self.kept) == 0:
            return False
        scaled = np.abs(self.xx).max(axis=0) / np.outer(self.scale, self.scale)
        return bool(scaled.max() > 1e-12 * largest)


def needed_levels(x: FloatArray, factors: tuple[int, ...]) -> BoolArray:
    """
    Return which covariate columns are needed where some categories do not occur.

    Parameters
    ----------
    x : array, shape (n, p)
        Covariates; 0/1 for categories, or their shares where rows are cells.
    factors : tuple of int, length p
        Which categorical covariate a column belongs to, -1 for numbers.
    """
    return levels_needed(x.any(axis=0), without_reference(x, factors).all(axis=0), factors)


def without_reference(x: FloatArray, factors: tuple[int, ...]) -> BoolArray:
    """Return which rows have nobody in the reference of each categorical covariate, (n, codes)."""
    codes = sorted(set(factors) - {-1})
    columns = [np.array(factors) == code for code in codes]
    sums = np.array([x[:, own].sum(axis=1) for own in columns]).reshape(len(codes), len(x))
    return np.asarray(np.abs(sums - 1).T < _COLLINEAR)


def levels_needed(present: BoolArray, whole: BoolArray, factors: tuple[int, ...]) -> BoolArray:
    """
    Return which columns are needed, of those that occur.

    A category without rows has a column of zeros. Where no row is in the category without a
    column (the reference), the first that occurs takes its place; otherwise the columns would add
    up to the constant.

    Parameters
    ----------
    present : bool array, shape (p,)
        Columns that are not zero everywhere.
    whole : bool array, shape (codes,)
        Categorical covariates whose reference does not occur.
    factors : tuple of int, length p
        Which categorical covariate a column belongs to, -1 for numbers.
    """
    needed = np.ones(len(present), dtype=bool)
    for code, alone in zip(sorted(set(factors) - {-1}), whole, strict=True):
        columns = np.flatnonzero(np.array(factors) == code)
        needed[columns] = present[columns]
        if alone and present[columns].any():
            needed[columns[present[columns]][0]] = False
    return needed


def standardise(
    x: FloatArray,
    w: FloatArray,
    names: tuple[str, ...],
    xx: FloatArray | None = None,
    factors: tuple[int, ...] = (),
) -> Regressors:
    """
    Add a constant and standardise covariates; effects do not depend on this recoding.

    Columns that are constant over the comparison (a factor level that does not occur) are left
    out: they cannot matter there. So is one column of a factor whose reference does not occur.

    Parameters
    ----------
    x : array, shape (n, p)
        Covariates.
    w : array, shape (n,)
        Weights.
    names : tuple of str, length p
        For messages.
    xx : array, shape (n, p, p), optional
        Centred second moments within each row, if rows are cells.
    factors : tuple of int, length p, optional
        Which categorical covariate a column belongs to, -1 for numbers.
    """
    total = w.sum()
    mean = w @ x / total
    # columns in memory one after the other: there are few of them, and many rows
    centred = x.T - mean[:, None]
    variance = centred**2 @ w
    if xx is not None:
        variance = variance + np.diagonal(xx, axis1=1, axis2=2).sum(axis=0)
    scale = np.sqrt(variance / total)
    kept = np.flatnonzero((scale > 1e-12 * (np.abs(mean) + scale)) & needed_levels(x, factors))
    columns = np.ones((1 + len(kept), len(x)))
    np.divide(centred[kept], scale[kept, None], out=columns[1:])
    inner = xx
    if xx is not None and len(kept) < x.shape[1]:
        inner = np.ascontiguousarray(xx[:, kept[:, None], kept])
    labels = (CONSTANT, *(names[i] for i in kept))
    codes = (-1, *(factors[i] if factors else -1 for i in kept))
    return Regressors(columns.T, labels, inner, scale[kept], kept, codes)


def invert(gram: FloatArray, names: tuple[str, ...], where: str) -> FloatArray:
    """
    Invert Gram matrices, shape (..., q, q), naming the first column that earlier ones span.

    Raises
    ------
    ComparisonFailure
        If a column is collinear.
    """
    sd = np.sqrt(np.diagonal(gram, axis1=-2, axis2=-1))
    if not np.all(sd > 0):
        j = int(np.argwhere(~(sd > 0))[0, -1])
        raise ComparisonFailure(f"`{names[j]}` does not vary among {where}")
    size = sd[..., :, None] * sd[..., None, :]
    corr = gram / size
    try:
        factor = np.linalg.cholesky(corr)
        smallest = np.diagonal(factor, axis1=-2, axis2=-1) ** 2
        spanned = bool((smallest < _COLLINEAR).any())
    except np.linalg.LinAlgError:
        spanned = True
    if spanned:
        single = corr.reshape(-1, *corr.shape[-2:])
        factor = np.stack([_factored(c, names, where) for c in single]).reshape(corr.shape)
    half = np.linalg.solve(factor, np.eye(corr.shape[-1]))
    return np.asarray((np.swapaxes(half, -1, -2) @ half) / size)


def _factored(corr: FloatArray, names: tuple[str, ...], where: str) -> FloatArray:
    """Factor column by column, and name the first that earlier ones span."""
    factor = np.zeros_like(corr)
    for j in range(len(corr)):
        residual = corr[j, j] - factor[j, :j] @ factor[j, :j]
        if residual < _COLLINEAR and names[0] == CONSTANT and 1 - corr[j, 0] ** 2 < _COLLINEAR:
            raise ComparisonFailure(f"`{names[j]}` does not vary among {where}")
        if residual < _COLLINEAR:
            raise ComparisonFailure(
                f"`{names[j]}` is collinear with {', '.join(f'`{n}`' for n in names[:j])} among "
                f"{where}"
            )
        factor[j, j] = np.sqrt(residual)
        factor[j + 1 :, j] = (corr[j + 1 :, j] - factor[j + 1 :, :j] @ factor[j, :j]) / factor[j, j]
    return factor


class LinearFit(NamedTuple):
    """
    A weighted least squares fit with many right-hand sides.

    Parameters
    ----------
    beta : array, shape (q, k)
        Coefficients.
    inverse : array, shape (q, q)
        Inverse of the weighted Gram matrix.
    weight : array, shape (n,)
        Weights of the fit.
    """

    beta: FloatArray
    inverse: FloatArray
    weight: FloatArray


def fit_linear(
    regressors: Regressors,
    y: FloatArray | Changes,
    w: FloatArray,
    where: str,
    xy: FloatArray | None = None,
) -> LinearFit:
    """
    Fit y on the regressors with weights w.

    Parameters
    ----------
    regressors : Regressors
        n rows (or cells), q columns.
    y : array or Changes, shape (n, k)
        Right-hand sides (cell means).
    w : array, shape (n,)
        Weights; zero leaves a row out.
    where : str
        Whose rows these are, for messages.
    xy : array, shape (n, q - 1, k), optional
        Centred cross moments of the kept covariates within cells, in their own units.

    Raises
    ------
    ComparisonFailure
        If there are fewer rows than columns, or columns are collinear.
    """
    x = regressors.x
    live = w > 0
    q = x.shape[1]
    cells = int(live.sum())
    if cells < q and regressors.xx is None:
        raise ComparisonFailure(f"{where} are too few for {q} regression coefficients")
    xw = x.T * w
    gram = xw @ x
    cross = xw @ y
    if regressors.xx is not None:
        scale = regressors.scale
        gram[1:, 1:] += _sum_of(regressors.xx, live) / np.outer(scale, scale)
        if xy is not None:
            cross[1:] += _sum_of(xy, live) / scale[:, None]
    inverse = invert(gram, regressors.names, where)
    return LinearFit(inverse @ cross, inverse, w)


def _sum_of(moments: FloatArray, live: BoolArray) -> FloatArray:
    """Return the sum of the moments of some cells, without a copy of these cells."""
    flat = moments.reshape(len(moments), math.prod(moments.shape[1:]))
    return np.asarray((live.astype(float) @ flat).reshape(moments.shape[1:]))


def linear_influence(
    fit: LinearFit,
    regressors: Regressors,
    y: FloatArray,
    direction: FloatArray,
    xy: FloatArray | None = None,
) -> FloatArray:
    """
    Return the influence of each row on ``direction @ beta``, shape (n, k).

    Parameters
    ----------
    fit : LinearFit
        Coefficients (q, k).
    regressors : Regressors
        The rows the fit was made on.
    y : array, shape (n, k)
        Right-hand sides.
    direction : array, shape (q,)
        Linear functional of the coefficients, common to the right-hand sides.
    xy : array, shape (n, q - 1, k), optional
        Centred cross moments of the kept covariates within cells, in their own units.
    """
    target = fit.inverse @ direction
    out = (fit.weight * (regressors.x @ target))[:, None] * (y - regressors.x @ fit.beta)
    if regressors.xx is not None:
        n, p = len(y), len(regressors.scale)
        # within-cell part of sum w x (y - x'beta), which cell means cannot show
        own = target[1:] / regressors.scale
        along = (regressors.xx.reshape(n * p, p) @ own).reshape(n, p)
        inner = -along @ (fit.beta[1:] / regressors.scale[:, None])
        if xy is not None:
            inner += np.einsum("nik,i->nk", xy, own)
        out += np.where((fit.weight > 0)[:, None], inner, 0.0)
    return np.asarray(out)
