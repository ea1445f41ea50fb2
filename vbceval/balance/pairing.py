"""Who is matched with whom: arrays in, arrays out."""

from __future__ import annotations

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray, IntArray

NEAR_TIE = 1e-12
"""Distances closer than this share of the larger are equal; the earlier row wins."""


def greedy(cost: FloatArray, order: IntArray, ratio: int, *, replace: bool) -> BoolArray:
    """
    Give each treated row, in order, the nearest comparison row that is left; in rounds.

    Parameters
    ----------
    cost : array, shape (n, m)
        Distances of treated (rows) to comparison; infinite = not allowed.
    order : int array, shape (n,)
        Treated rows in the order in which they choose; all choose once before any chooses again.
    ratio : int
        Comparison rows wanted for each treated row.
    replace : bool
        Whether a comparison row may be chosen by several.

    Returns
    -------
    bool array, shape (n, m)
        Pairs. Ties go to the earlier comparison row.
    """
    pairs = np.zeros(cost.shape, dtype=bool)
    free = np.ones(cost.shape[1], dtype=bool)
    for _ in range(ratio):
        for i in order:
            open_to = np.isfinite(cost[i]) & ~pairs[i] & (True if replace else free)
            if not open_to.any():
                continue
            nearest = cost[i, open_to].min()
            j = int(np.flatnonzero(open_to & (cost[i] <= nearest * (1 + NEAR_TIE)))[0])
            pairs[i, j] = True
            free[j] = False
    return pairs


def optimal(cost: FloatArray, ratio: int) -> BoolArray:
    """
    Match without replacement: as many treated as possible, then as many pairs, then the nearest.

    Time grows with the cube of the number of rows.

    Parameters
    ----------
    cost : array, shape (n, m)
        As in `greedy`.
    ratio : int
        Most comparison rows for each treated row.

    Returns
    -------
    bool array, shape (n, m)
        Pairs.

    References
    ----------
    .. [1] Rosenbaum, P. R. (1989). Optimal matching for observational studies. *Journal of the
       American Statistical Association* 84(408), 1024-1032.
    """
    from scipy.optimize import linear_sum_assignment

    allowed = np.isfinite(cost)
    n, m = cost.shape
    slots = n * ratio
    # leaving a second place empty outweighs any sum of distances, a first one any number of seconds
    empty = (float(cost[allowed].max(initial=0.0)) + 1.0) * (slots + 1)
    price = np.where(np.arange(slots) % ratio == 0, empty * (slots + 1), empty)
    places = np.concatenate(
        [np.repeat(cost, ratio, axis=0), np.tile(price[:, None], (1, slots))], axis=1
    )
    rows, columns = linear_sum_assignment(places)
    found = columns < m
    pairs = np.zeros(cost.shape, dtype=bool)
    pairs[rows[found] // ratio, columns[found]] = True
    return pairs


def mahalanobis(z: FloatArray, treated: BoolArray, comparison: BoolArray) -> FloatArray:
    """
    Return distances between treated and comparison rows, shape (n, m).

    The covariance is that within sides, pooled; directions without variation do not count.

    Parameters
    ----------
    z : array, shape (G, p)
        Features.
    treated, comparison : bool array, shape (G,)
        Rows.
    """
    own = [z[s] - z[s].mean(axis=0) for s in (treated, comparison)]
    scatter = sum(r.T @ r for r in own) / max(len(own[0]) + len(own[1]) - 2, 1)
    inverse = np.linalg.pinv(scatter, rcond=1e-10, hermitian=True)
    out = np.empty((int(treated.sum()), int(comparison.sum())))
    others = z[comparison]
    for i, row in enumerate(z[treated]):
        gap = others - row
        out[i] = np.sqrt(np.maximum(((gap @ inverse) * gap).sum(axis=1), 0.0))
    return out
