"""Weights nearest to base weights that reach given totals: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from vbceval.core.errors import EstimationError
from vbceval.core.typing import BoolArray, FloatArray, IntArray

_STEPS = 200


class Distance(NamedTuple):
    """
    Ratio of a weight to its base weight as a function F of an index, F(0) = 1, F'(0) = 1.

    Parameters
    ----------
    value, slope, integral : callable
        F, F', and a function whose derivative is F.
    low, high : float
        Range of F.
    """

    value: Callable[[FloatArray], FloatArray]
    slope: Callable[[FloatArray], FloatArray]
    integral: Callable[[FloatArray], FloatArray]
    low: float
    high: float


def raking() -> Distance:
    """Return F(u) = exp(u): relative entropy; weights stay positive."""
    return Distance(np.exp, np.exp, np.exp, 0.0, np.inf)


def linear() -> Distance:
    """Return F(u) = 1 + u: squared distance (generalised regression); weights may be negative."""
    return Distance(
        lambda u: 1 + u, lambda u: np.ones_like(u), lambda u: u + u**2 / 2, -np.inf, np.inf
    )


def bounded(low: float, high: float) -> Distance:
    """
    Return a logistic F between `low` < 1 < `high`.

    References
    ----------
    .. [1] Deville, J.-C. and Sarndal, C.-E. (1992). Calibration estimators in survey sampling.
       *Journal of the American Statistical Association* 87(418), 376-382. Section 2, case 6.
    """
    rate = (high - low) / ((1 - low) * (high - 1))

    def share(u: FloatArray) -> FloatArray:
        """Return the way from `low` to `high`."""
        return np.asarray(1 / (1 + (high - 1) / (1 - low) * np.exp(-rate * u)))

    def integral(u: FloatArray) -> FloatArray:
        grown = np.logaddexp(np.log(high - 1), np.log(1 - low) + rate * u)
        return np.asarray(low * u + (high - low) / rate * grown)

    return Distance(
        lambda u: low + (high - low) * share(u),
        lambda u: (high - low) * rate * share(u) * (1 - share(u)),
        integral, low, high,
    )  # fmt: skip


class Calibrated(NamedTuple):
    """
    Weights that reach their totals.

    Parameters
    ----------
    ratio : array, shape (n,)
        Weight over base weight, F(x'b).
    slope : array, shape (n,)
        F'(x'b).
    active : int array, shape (a,)
        Columns whose total is reached; of the others the weights stay within the tolerance.
    shift : array, shape (a,)
        By how much the totals of active columns differ from those asked for.
    inverse : array, shape (a, a)
        Inverse of the sum of q F' x x' over rows, active columns.
    """

    ratio: FloatArray
    slope: FloatArray
    active: IntArray
    shift: FloatArray
    inverse: FloatArray


def calibrated(
    x: FloatArray, q: FloatArray, total: FloatArray, distance: Distance, tolerance: FloatArray
) -> Calibrated:
    """
    Solve ``sum q F(x'b) x = total``, within ``tolerance * total[0]`` in each column.

    The dual problem, ``min sum q integral(x'b) - total'b + total[0] tolerance'|b|``, is convex.
    With tolerance a few columns are slack and have b = 0; the others reach the near end of their
    interval, and for these the problem is the exact one.

    Parameters
    ----------
    x : array, shape (n, m)
        A constant, then standardised columns.
    q : array, shape (n,)
        Base weights, with ``sum q = total[0]``.
    total : array, shape (m,)
        Totals.
    distance : Distance
        F.
    tolerance : array, shape (m,)
        Allowed gap of means; 0 for the constant.

    Raises
    ------
    EstimationError
        If no solution is found.
    """
    loose = tolerance > 0
    columns, shift = np.arange(len(total)), np.zeros(len(total))
    if loose.any():
        start = _sparse_dual(x, q, total, distance, tolerance)
        columns = np.flatnonzero(~loose | (np.abs(start) > 1e-6))
        shift = -np.sign(start) * tolerance * total[0]
    for _ in range(50):
        b = _newton(x[:, columns], q, (total + shift)[columns], distance)
        u = x[:, columns] @ b
        gap = (q * distance.value(u)) @ x - total
        wrong_sign = loose[columns] & (b * shift[columns] > 0)
        broken = np.flatnonzero(np.abs(gap) > tolerance * total[0] * (1 + 1e-9) + 1e-9 * total[0])
        broken = np.setdiff1d(broken, columns)
        if not wrong_sign.any() and len(broken) == 0:
            slope = distance.slope(u)
            inverse = _inverse(x[:, columns], q * slope)
            return Calibrated(distance.value(u), slope, columns, shift[columns], inverse)
        # a column on the wrong side becomes slack; one beyond its interval binds at the near end
        shift[broken] = np.sign(gap[broken]) * tolerance[broken] * total[0]
        columns = np.union1d(columns[~wrong_sign], broken)
    raise EstimationError("the balance within tolerance was not found in 50 rounds.")


def _newton(x: FloatArray, q: FloatArray, total: FloatArray, distance: Distance) -> FloatArray:
    """Solve the exact problem; halve steps while the objective is not near its end."""
    b = np.zeros(x.shape[1])

    def objective(c: FloatArray) -> float:
        with np.errstate(over="ignore"):
            return float(q @ distance.integral(x @ c) - total @ c)

    best = objective(b)
    for _ in range(_STEPS):
        u = x @ b
        gradient = total - x.T @ (q * distance.value(u))
        if np.abs(gradient).max() < 1e-12 * total[0]:
            return b
        step = _inverse(x, q * distance.slope(u)) @ gradient
        size = 1.0
        # close to the end rounding hides the fall, and full steps are right
        if np.abs(gradient).max() > 1e-6 * total[0]:
            slope = gradient @ step
            while not objective(b + size * step) <= best - 1e-4 * size * slope and size > 1e-10:
                size /= 2
        b = b + size * step
        best = objective(b)
        if not np.isfinite(best) or np.abs(b).max() > 1e3:
            break
    worst = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        w = q * distance.value(x @ b)
        worst = float(np.max(w) / np.sum(w))
    raise EstimationError(
        "no weights reach the treated means: they lie at the edge of what the comparison can be "
        f"weighted to (one organization would have {worst:.0%} of all weight). Allow a "
        "`tolerance`, or leave features out."
    )


def _inverse(x: FloatArray, w: FloatArray) -> FloatArray:
    """Invert the weighted cross products; columns with tolerance may span each other."""
    return np.asarray(np.linalg.pinv((x * w[:, None]).T @ x, rcond=1e-14, hermitian=True))


def _sparse_dual(
    x: FloatArray, q: FloatArray, total: FloatArray, distance: Distance, tolerance: FloatArray
) -> FloatArray:
    """Start for columns with tolerance: the dual in positive and negative parts."""
    from scipy.optimize import minimize

    m, size = len(total), total[0]

    def objective(parts: FloatArray) -> tuple[float, FloatArray]:
        b = parts[:m] - parts[m:]
        with np.errstate(over="ignore", invalid="ignore"):
            u = x @ b
            value = q @ distance.integral(u) - total @ b
            gradient = x.T @ (q * distance.value(u)) - total
        penalty = size * tolerance
        return (
            float(value + penalty @ (parts[:m] + parts[m:])) / size,
            np.concatenate([gradient + penalty, penalty - gradient]) / size,
        )

    found = minimize(
        objective, np.zeros(2 * m), jac=True, method="L-BFGS-B", bounds=[(0, None)] * (2 * m),
        options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-10},
    )  # fmt: skip
    return np.asarray(found.x[:m] - found.x[m:])


def smallest_tolerance(
    x: FloatArray,
    q: FloatArray,
    total: FloatArray,
    distance: Distance,
    width: FloatArray,
    columns: IntArray,
) -> float:
    """
    Return the smallest gap of means, in units of `width`, that weights can reach in all columns.

    A linear program in the weights: no claim about the distance, only about its range.

    Parameters
    ----------
    x, q, total, distance
        As in `calibrated`; the constant is always exact.
    width : array, shape (m,)
        Unit of the gap in each column.
    columns : int array
        Columns that are asked for, the constant left out.
    """
    from scipy.optimize import linprog

    n, size = len(q), total[0]
    a = (x[:, columns] * q[:, None]).T / size
    target = total[columns] / size
    upper = np.concatenate([a, -a])
    gap = -np.tile(width[columns], 2)
    found = linprog(
        np.append(np.zeros(n), 1.0),
        A_ub=np.column_stack([upper, gap]), b_ub=np.concatenate([target, -target]),
        A_eq=np.append(q / size, 0.0)[None, :], b_eq=[1.0],
        bounds=[(distance.low, distance.high)] * n + [(0.0, None)],
    )  # fmt: skip
    return np.inf if found.x is None else float(found.x[-1])


def blocking(
    x: FloatArray,
    q: FloatArray,
    total: FloatArray,
    distance: Distance,
    width: FloatArray,
    tolerance: float,
) -> tuple[float, IntArray] | None:
    """
    Return None if weights in range reach the totals, else what stands in the way.

    Returns
    -------
    (float, int array) or None
        Smallest tolerance that can be met, and columns of which leaving out one makes the rest
        feasible (none if no single one does).
    """
    columns = np.arange(1, len(total))

    def least(asked: IntArray) -> float:
        return smallest_tolerance(x, q, total, distance, width, asked)

    needed = least(columns)
    if needed <= tolerance + 1e-9:
        return None
    alone = [j for j in columns if least(columns[columns != j]) <= tolerance + 1e-9]
    return needed, np.array(alone, dtype=np.int64)


def influence(
    fit: Calibrated,
    x: FloatArray,
    q: FloatArray,
    target: FloatArray,
    treated: BoolArray,
    comparison: BoolArray,
) -> tuple[FloatArray, FloatArray]:
    """
    Return how log weights move with parameters, and parameters with the weight of each row.

    Base weights are scaled so that the comparison adds up to the treated; that factor is a
    parameter too (the last one), because it moves with every organization.

    Parameters
    ----------
    fit : Calibrated
        On the comparison rows.
    x : array, shape (G, m)
        Columns of all rows.
    q : array, shape (G,)
        Base weights, unscaled.
    target : array, shape (G, m)
        What each treated row adds to the totals, per unit of base weight.
    treated, comparison : bool array, shape (G,)
        Rows.

    Returns
    -------
    log_slope : array, shape (G, a + 1)
        Derivative of the log weight; zero for the treated.
    psi : array, shape (G, a + 1)
        Influence of each row on the parameters.
    """
    total = q @ treated / (q @ comparison)
    moved = np.zeros(len(q))
    moved[comparison] = fit.ratio
    scale = q * treated / (q @ treated) - q * comparison / (q @ comparison)
    active = x[:, fit.active]
    # shifted ends move with the treated weight
    shift = fit.shift / (q @ treated)
    reached = ((q * treated)[:, None] * (target[:, fit.active] + shift)).sum(axis=0)
    moment = (
        (q * treated)[:, None] * (target[:, fit.active] + shift)
        - (q * comparison * moved * total)[:, None] * active
        - scale[:, None] * reached
    )
    psi = moment @ fit.inverse
    log_slope = np.zeros((len(q), len(fit.active) + 1))
    log_slope[comparison, :-1] = (fit.slope / fit.ratio)[:, None] * active[comparison]
    log_slope[comparison, -1] = 1.0
    return log_slope, np.column_stack([psi, scale])


def named(columns: Sequence[int], names: Sequence[str]) -> list[str]:
    """Return the features of columns counted with the constant first."""
    return [names[j - 1] for j in columns]
