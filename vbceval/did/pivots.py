"""Invert the cross-product of regressors in the order of columns, leaving out what others span."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from vbceval.core.checks import listed
from vbceval.core.errors import EstimationError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.did.regressors import Regressors

COLLINEAR = 1e-9
"""A column is dropped when what is left of its square, given those before it, is less."""
_LARGEST_CONDITION = 1e12


def invert_in_order(
    cross: FloatArray, z: Regressors
) -> tuple[BoolArray, FloatArray, dict[int, FloatArray]]:
    """
    Return which columns are kept, the inverse of their cross-product, and what spans others.

    Parameters
    ----------
    cross : array, shape (p, p)
        Cross-product of the columns, eliminated effects taken out.
    z : Regressors
        The p columns.

    Returns
    -------
    bool array, shape (p,)
        Columns that earlier ones do not span.
    array, shape (p, p)
        The inverse; zero for dropped columns.
    dict of int to array
        For each dropped column, coefficients (p,) of the earlier columns that span it.

    Raises
    ------
    EstimationError
        If the columns that are left are so nearly collinear that half of the digits are lost.
    """
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
        # zero above the diagonal, as the root is
        half += np.tril(half, -1).T
        own = scaled
        if len(rows) == p:
            inverse = half
        else:
            inverse[rows[:, None], rows] = half
            own = scaled[np.ix_(rows, rows)]
        condition = 1 / linalg.lapack.dpocon(root, linalg.lapack.dlange("1", own.T), uplo="L")[0]
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
            return live, root, {}
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
    return kept, np.tril(factor[rows][:, :used]), dependent
