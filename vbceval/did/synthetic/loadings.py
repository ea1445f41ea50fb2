"""Counterfactuals of the treated from factors of the untreated (Xu 2017)."""

from __future__ import annotations

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray
from vbceval.did.synthetic.factors import Effects, FactorFit


def basis(fit: FactorFit, effects: Effects) -> FloatArray:
    """Return factors and, with effects of organizations, a constant, shape (T, m)."""
    if effects in ("two-way", "unit"):
        return np.column_stack([fit.factors, np.ones(len(fit.factors))])
    return fit.factors


def remainder(y: FloatArray, x: FloatArray, fit: FactorFit) -> FloatArray:
    """Return outcomes less mean, period effects and covariates, shape (N, T)."""
    return np.asarray(y - fit.mu - fit.xi - np.where(np.isfinite(x), x, 0.0) @ fit.beta)


def gaps(left: FloatArray, before: BoolArray, columns: FloatArray) -> FloatArray:
    """
    Return treated outcomes less their counterfactual, shape (N, T).

    Parameters
    ----------
    left : array, shape (N, T)
        Outcomes less what needs no loading; missing where not seen.
    before : bool array, shape (N, T)
        Cells that loadings are fitted on, by least squares for each organization.
    columns : array, shape (T, m)
        Factors and constant.
    """
    out = np.array(left)
    for rows, used in _alike(before):
        loading = np.linalg.lstsq(columns[used], left[np.ix_(rows, used)].T, rcond=None)[0]
        out[rows] -= (columns @ loading).T
    return out


def left_out_errors(left: FloatArray, before: BoolArray, columns: FloatArray) -> FloatArray:
    """
    Return errors of each cell before entry when it is left out of its loadings, one array.

    Least squares without a cell has the residual of that cell divided by one less its leverage,
    so that nothing is fitted again. Infinite for a cell without which loadings are not known.
    """
    out = []
    for rows, used in _alike(before):
        inside = columns[used]
        leverage = np.einsum("tm,mt->t", inside, np.linalg.pinv(inside))
        residual = gaps(left[rows], before[rows], columns)[:, used]
        free = np.broadcast_to(1 - leverage, residual.shape)
        alone = np.full(residual.shape, np.inf)
        out.append(np.divide(residual, free, out=alone, where=free > 1e-10).ravel())
    return np.concatenate(out)


def _alike(before: BoolArray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return rows that share their cells before entry, and these cells."""
    patterns, group = np.unique(before, axis=0, return_inverse=True)
    return [(np.flatnonzero(group == i), np.flatnonzero(p)) for i, p in enumerate(patterns)]
