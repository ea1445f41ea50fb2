"""Least squares on the simplex: an exact active-set solution with its certificate, and Frank-Wolfe.

Weights that sum to one let the target be taken out of every column: ||A x - b|| = ||D x|| with
D = A - b 1'. Both solvers therefore read one matrix, H = D'D plus ridge penalties, and minimise
x'Hx over x >= 0, sum x = 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray, IntArray

SMALLEST_RIDGE = 1e-10
"""Ridge, as a share of the mean diagonal, that chooses among equally good weights."""

WORST_GAP = 1e-7
"""Largest duality gap, as a share of the mean diagonal, with which a solution is accepted."""


class SimplexFit(NamedTuple):
    """
    Weights on the simplex and how far they can be from the best.

    Parameters
    ----------
    weights : array, shape (n,)
        Non-negative, sum one.
    objective : float
        x'Hx.
    gap : float
        Duality gap, 2 (x'Hx - sum over groups of min_i (Hx)_i): the objective exceeds its minimum
        by no more.
    """

    weights: FloatArray
    objective: float
    gap: float

    def relative_gap(self, hessian: FloatArray) -> float:
        """Return the gap as a share of the objective; zero where all weights fit alike."""
        if self.gap <= 0:
            return 0.0
        return self.gap / max(self.objective, float(np.trace(hessian)) * 1e-12)


def gram(rows: FloatArray, target: FloatArray, row_weight: FloatArray | None = None) -> FloatArray:
    """
    Return D'D with D = `rows` - `target`, so that x'D'Dx = ||rows x - target||^2 on the simplex.

    Parameters
    ----------
    rows : array, shape (m, n)
        A column for each weight.
    target : array, shape (m,)
        What the weighted columns should equal.
    row_weight : array, shape (m,), optional
        Weight of each squared difference.
    """
    distance = rows - target[:, None]
    if row_weight is None:
        return np.asarray(distance.T @ distance)
    return np.asarray((distance * row_weight[:, None]).T @ distance)


def centred(rows: FloatArray, row_weight: FloatArray | None = None) -> FloatArray:
    """Return columns less their (weighted) mean over rows: least squares with an intercept."""
    return np.asarray(rows - np.average(rows, axis=0, weights=row_weight))


def solve_simplex(
    hessian: FloatArray, *, start: FloatArray | None = None, group: IntArray | None = None
) -> SimplexFit:
    """
    Minimise x'Hx over the simplex, or over several at once, by a primal active-set method.

    Each step minimises over the weights that are free (a linear system), moves until one of them
    reaches zero, and frees the weight whose gradient most promises a decrease. It ends at the
    exact solution up to rounding, which the duality gap certifies.

    Parameters
    ----------
    hessian : array, shape (n, n)
        Symmetric and positive semi-definite. A ridge of `SMALLEST_RIDGE` times its mean diagonal
        is added, so that the solution is unique; the objective and the gap are those with it.
    start : array, shape (n,), optional
        Weights to begin with, for example those of a similar problem.
    group : int array, shape (n,), optional
        Weights of each group, 0 to J - 1, sum to one. Default: one group.

    Raises
    ------
    EstimationError
        If the gap stays above `WORST_GAP` of the mean diagonal.

    Examples
    --------
    >>> solve_simplex(gram(np.array([[0.0, 4.0, 9.0]]), np.array([1.0]))).weights.round(6)
    array([0.75, 0.25, 0.  ])
    """
    n = len(hessian)
    group = np.zeros(n, dtype=np.int64) if group is None else group
    scale = float(np.trace(hessian)) / n
    if scale <= 0:  # every column equals the target
        return SimplexFit(1.0 / np.bincount(group)[group], 0.0, 0.0)
    h = hessian / scale
    h.flat[:: n + 1] += SMALLEST_RIDGE
    total = np.zeros(1) if start is None else np.bincount(group, start, int(group.max()) + 1)
    # a start without weight says nothing: those who had it may have left
    x = _first(h, group) if start is None or not total.all() else start / total[group]
    free = x > 0
    added = -1
    for _ in range(50 * n + 100):
        inside = np.flatnonzero(free)
        z = _equal_gradient(h, inside, group)
        if z.min() > 0:
            x = np.zeros(n)
            x[inside] = z
            gradient = h @ x
            level = np.bincount(group, x * gradient)[group]
            gain = level - gradient - 1e-13 * np.abs(level) - 1e-15
            gain[inside] = 0.0
            added = int(np.argmax(gain))
            if gain[added] <= 0:
                break
            free[added] = True
            continue
        old = x[inside]
        step = np.divide(old, old - z, out=np.full(len(z), np.inf), where=z <= 0)
        length = float(step.min())
        out = inside[step <= length]
        if length <= 0 and added in out:  # rounding: the promised decrease is not there
            break
        x[inside] = old + length * (z - old)
        x[out] = 0.0
        free[out] = False
    return _certified(h, x / np.bincount(group, x)[group], scale, group)


def _equal_gradient(h: FloatArray, inside: IntArray, group: IntArray) -> FloatArray:
    """Return the minimiser over some weights whose groups sum to one, whatever their sign."""
    own = (group[inside][:, None] == np.arange(group.max() + 1)).astype(float)
    z = np.linalg.solve(h[np.ix_(inside, inside)], own)
    return np.asarray(z @ np.linalg.solve(own.T @ z, np.ones(own.shape[1])))


def _first(h: FloatArray, group: IntArray) -> FloatArray:
    """Return weights near the solution: leave out what is negative until nothing is."""
    inside = np.arange(len(h))
    while True:
        z = _equal_gradient(h, inside, group)
        if z.min() > 0:
            break
        inside = inside[z > 0]
    x = np.zeros(len(h))
    x[inside] = z
    return x


def _certified(h: FloatArray, x: FloatArray, scale: float, group: IntArray) -> SimplexFit:
    gradient = h @ x
    objective = float(x @ gradient)
    lowest = np.full(group.max() + 1, np.inf)
    np.minimum.at(lowest, group, gradient)
    gap = max(2 * (objective - float(lowest.sum())), 0.0)
    if not gap <= WORST_GAP:
        raise EstimationError(
            f"weights on the simplex were not found: the duality gap is {gap:.1e} of the mean "
            f"squared distance (limit {WORST_GAP:.0e}). Rescale outcomes or covariates that differ "
            "by many orders of magnitude, or leave out donors that repeat each other."
        )
    return SimplexFit(x, objective * scale, gap * scale)


def frank_wolfe(
    hessian: FloatArray, start: FloatArray, *, min_decrease: float, max_steps: int
) -> FloatArray:
    """
    Take Frank-Wolfe steps with exact line search, and stop when they no longer gain much.

    The stopping rule of R `synthdid`: after two steps, stop when the objective falls by
    `min_decrease` or less. That is before the minimum, so weights differ from `solve_simplex`.

    Parameters
    ----------
    hessian : array, shape (n, n)
        As in `solve_simplex`.
    start : array, shape (n,)
        First weights.
    min_decrease : float
        Smallest decrease of x'Hx that continues.
    max_steps : int
        Most steps.
    """
    x, hx = start.copy(), hessian @ start
    value = np.inf
    for step in range(max_steps):
        x, hx, new = frank_wolfe_step(hessian, x, hx)
        if step >= 1 and value - new <= min_decrease:
            break
        value = new
    return x


def frank_wolfe_step(
    hessian: FloatArray, x: FloatArray, hx: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """Return weights after one step, H times them, and the objective."""
    i = int(np.argmin(hx))
    value = float(x @ hx)
    curvature = float(hessian[i, i] - 2 * hx[i] + value)
    if curvature <= 0:
        return x, hx, value
    size = min(1.0, max(0.0, (value - float(hx[i])) / curvature))
    x = (1 - size) * x
    x[i] += size
    hx = (1 - size) * hx + size * hessian[:, i]
    return x, hx, float(x @ hx)


def sparsify(weights: FloatArray) -> FloatArray:
    """Set weights up to a quarter of the largest to zero and rescale, as R `synthdid`."""
    kept = np.where(weights <= weights.max() / 4, 0.0, weights)
    return np.asarray(kept / kept.sum())
