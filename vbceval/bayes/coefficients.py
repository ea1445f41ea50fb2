"""Linear structure of the mean: its coefficients, and coordinates that suit a sampler."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import linalg, optimize
from scipy.linalg import lapack

from vbceval.bayes.cells import Cells
from vbceval.bayes.elimination import COMMON, LASTING, RHO, SPECIFIC
from vbceval.bayes.marginal import compiled
from vbceval.bayes.priors import Priors
from vbceval.core.errors import EstimationError
from vbceval.core.typing import BoolArray, FloatArray, IntArray

PARTS = ("entry", "cohort", "event_time", "stratum", "interaction")
"""Parts of a treatment effect; all but the first have a standard deviation of their own."""


class Structure(NamedTuple):
    """
    How standardised coefficients make period effects, slopes and treatment effects.

    Parameters
    ----------
    zero_sum : array, shape (T, T - 1)
        Orthonormal basis of deviations over periods that sum to zero.
    loading : array, shape (J, q)
        Treatment effects are ``loading @ (sd * b)``, b standard normal a priori.
    part : array of int, shape (q,)
        Part (place in `names`) of each column of `loading`.
    names : tuple of str
        Parts that these cells have, in the order of `PARTS`.
    centre : float, default 0
        Prior mean of all treatment effects, to which these are added.
    """

    zero_sum: FloatArray
    loading: FloatArray
    part: IntArray
    names: tuple[str, ...]
    centre: float = 0.0


class Coefficients(NamedTuple):
    """
    The mean of cells, percent of baseline.

    Parameters
    ----------
    period : array, shape (S, T)
        Period effects, summing to zero over periods.
    slope : array, shape (p, T)
        Slopes on covariates, summing to zero over periods.
    effect : array, shape (J,)
        Treatment effects.
    steps : tuple of array
        The coefficients behind them, (S, T - 1), (p, T - 1) and (q,).
    """

    period: FloatArray
    slope: FloatArray
    effect: FloatArray
    steps: tuple[FloatArray, FloatArray, FloatArray]


def structure(cells: Cells, *, centre: float = 0.0) -> Structure:
    """
    Return the structure of the mean of some cells, effects about `centre` a priori.

    A part with one level is left out, and so is the interaction where it would repeat another
    part. Event times follow a random walk from the first one, whose level is the effect at entry.
    """
    table = cells.effects
    n = len(table)
    loading, part, names = [np.ones((n, 1))], [0], [PARTS[0]]
    most = 1
    for name in PARTS[1:-1]:
        codes = table[f"{name}_code"].to_numpy()
        levels = int(codes.max()) + 1
        most = max(most, levels)
        if levels == 1:
            continue
        columns = np.eye(levels)[codes]
        if name == "event_time":
            times = np.sort(table["event_time"].unique())
            columns = np.tril(np.ones((levels, levels)))[codes, 1:] * np.sqrt(np.diff(times))
        loading.append(columns)
        part += [len(names)] * columns.shape[1]
        names.append(name)
    if n > most:
        loading.append(np.eye(n))
        part += [len(names)] * n
        names.append(PARTS[-1])
    basis = linalg.helmert(len(cells.periods)).T
    codes = np.array(part, dtype=np.int64)
    return Structure(basis, np.hstack(loading), codes, tuple(names), centre)


def split(
    parts: Structure, v: FloatArray, sds: FloatArray, n_strata: int, n_covariates: int
) -> Coefficients:
    """
    Return the mean that coefficients stand for.

    Parameters
    ----------
    parts : Structure
        How they make it.
    v : array, shape (S (T - 1) + p (T - 1) + q,)
        Coefficients of periods, slopes and effects.
    sds : array, shape (q,)
        Prior standard deviation behind each coefficient of effects.
    n_strata, n_covariates : int
        S and p.
    """
    width = parts.zero_sum.shape[1]
    first, second = n_strata * width, (n_strata + n_covariates) * width
    trend = v[:first].reshape(n_strata, width)
    slope = v[first:second].reshape(n_covariates, width)
    steps = v[second:]
    return Coefficients(
        trend @ parts.zero_sum.T,
        slope @ parts.zero_sum.T,
        parts.centre + parts.loading @ (sds * steps),
        (trend, slope, steps),
    )


class Reference(NamedTuple):
    """
    What the cells say about the coefficients at rough values of the variances.

    Parameters
    ----------
    gram : array, shape (Q, Q)
        X'V^-1 X, in the order of `split` and with unit standard deviations.
    target : array, shape (Q,)
        X'V^-1 y.
    """

    gram: FloatArray
    target: FloatArray


class Placed(NamedTuple):
    """
    Coefficients at some coordinates, and what their derivatives need.

    Parameters
    ----------
    v : array, shape (Q,)
        Coefficients, in the order of `split`.
    log_jacobian : float
        Log volume of coefficients for one of coordinates.
    root : array, shape (Q, Q)
        Lower root of the approximate posterior precision.
    scale, shift : array, shape (Q,)
        Standard deviations, and root^-1 times the scaled target.
    """

    v: FloatArray
    log_jacobian: float
    root: FloatArray
    scale: FloatArray
    shift: FloatArray


def solve_root(root: FloatArray, right: FloatArray, *, transposed: bool = False) -> FloatArray:
    """
    Solve ``root x = right``, or ``root' x = right``, for a lower root.

    What `scipy.linalg.solve_triangular` calls, without its checks: at the size of a model of
    coefficients they take ten times as long as the arithmetic.

    Parameters
    ----------
    root : array, shape (Q, Q)
        Lower root, in rows, as `numpy.linalg.cholesky` returns it.
    right : array, shape (Q,) or (Q, k)
        Right sides.
    transposed : bool, default False
        Whether the root is transposed.

    Raises
    ------
    LinAlgError
        If the root has a zero on its diagonal.
    """
    found, failed = lapack.dtrtrs(root.T, right, lower=0, trans=int(not transposed))
    if failed:
        raise np.linalg.LinAlgError("the root is singular")
    return np.asarray(found)


def place(
    around: Reference, coordinates: FloatArray, scale: FloatArray, prior: FloatArray
) -> Placed:
    """
    Return the coefficients at coordinates in which their posterior is about standard normal.

    A sampler that moves in these coordinates meets neither the strong correlations of period and
    treatment effects nor the funnel of standard deviations that may be near zero. The posterior
    does not depend on the choice of coordinates: their volume is accounted for.

    Parameters
    ----------
    around : Reference
        Approximation behind them.
    coordinates : array, shape (Q,)
        Where the sampler is.
    scale, prior : array, shape (Q,)
        Standard deviation that multiplies each coefficient (1 for periods and slopes), and the
        prior precision of the coefficient.
    """
    precision = scale[:, None] * around.gram * scale + np.diag(prior)
    root = np.linalg.cholesky(precision)
    shift = solve_root(root, scale * around.target)
    v = solve_root(root, shift + coordinates, transposed=True)
    return Placed(v, -float(np.log(np.diag(root)).sum()), root, scale, shift)


def pull_back(around: Reference, at: Placed, by_v: FloatArray) -> tuple[FloatArray, FloatArray]:
    """
    Return derivatives of f(v) + log jacobian by coordinates and by scale, each shape (Q,).

    Parameters
    ----------
    around : Reference
        As given to `place`.
    at : Placed
        What `place` returned.
    by_v : array, shape (Q,)
        Derivative of f by the coefficients.
    """
    root = at.root
    by_z = solve_root(root, by_v)
    by_target = solve_root(root, by_z, transposed=True)
    by_root = -np.outer(at.v, by_z) - np.outer(by_target, at.shift) - np.diag(1.0 / np.diag(root))
    # reverse of the Cholesky factor: half the diagonal, the lower triangle, between inverse roots
    inner = np.tril(root.T @ np.tril(by_root))
    inner[np.diag_indices_from(inner)] *= 0.5
    left = solve_root(root, inner, transposed=True)
    by_precision = solve_root(root, left.T, transposed=True)
    by_precision = 0.5 * (by_precision + by_precision.T)
    by_scale = 2.0 * (by_precision * around.gram) @ at.scale + by_target * around.target
    return by_z, by_scale


def reference(cells: Cells, parts: Structure, priors: Priors, active: BoolArray) -> Reference:
    """
    Approximate what the cells say about the coefficients.

    Parameters
    ----------
    cells : Cells
        Sorted cells.
    parts : Structure
        Coefficients.
    priors : Priors
        Prior scales.
    active : array of bool, shape (4,) or more
        Which of (specific, common, lasting, rho) the model has; the rest is not read.

    Raises
    ------
    EstimationError
        If the approximation fails, which a wrong unit of the outcome can cause.
    """
    x = _columns(cells, parts)
    n_trend = x.shape[1] - len(parts.part)
    scale = np.append(np.ones(n_trend), np.where(parts.part == 0, priors.effect, priors.spread / 4))
    prior = np.append(np.full(n_trend, 1.0 / priors.period**2), np.ones(len(parts.part)))
    variances, overlap = np.array([1.0, 4.0, 1.0, 0.5]) * active[:4], 0.5 * cells.restated
    sd = _persons(cells)
    for _ in range(2):
        around = _normal_equations(cells, x, variances, overlap, sd)
        v = place(around, np.zeros(len(prior)), scale, prior).v
        if not np.isfinite(v).all():
            raise EstimationError(
                "no starting values were found: the cell means are not on the scale of "
                "`baseline`. Check outcomes and `person_sd` for a wrong unit."
            )
        residual = cells.y - x @ (scale * v)
        variances, overlap = _variances(cells, residual, active, variances, overlap, sd)
    return _normal_equations(cells, x, variances, overlap, sd)


def _columns(cells: Cells, parts: Structure) -> FloatArray:
    """Return the cells' regressors at unit scale, one column a coefficient, shape (K, Q)."""
    basis = parts.zero_sum[cells.period]
    period = [basis * (cells.stratum == s)[:, None] for s in range(cells.n_strata)]
    slope = [basis * column[:, None] for column in cells.x.T]
    effects = np.vstack([parts.loading, np.zeros(len(parts.part))])
    return np.hstack([*period, *slope, effects[cells.effect_of_cell]])


def _persons(cells: Cells) -> FloatArray:
    """Return the person sd of each stratum: pooled within cells, or 1 where it is in the weights."""
    if cells.within is None:
        return np.ones(cells.n_strata)
    return np.asarray(np.sqrt(cells.within.squares / cells.within.dof))


def _normal_equations(
    cells: Cells, x: FloatArray, variances: FloatArray, overlap: float, sd: FloatArray
) -> Reference:
    """Return X'V^-1 X and X'V^-1 y."""
    evaluate, stretch = compiled(), np.ones((len(cells.clusters), 1 + cells.n_strata))
    phi, shared = 1.0 / ((1.0 - overlap) * sd**2), overlap * sd**2
    weighted = np.column_stack(
        [
            evaluate(np.ascontiguousarray(c), phi, shared, variances, stretch, cells.layout)[1]
            for c in x.T
        ]
    )
    return Reference(x.T @ weighted, weighted.T @ cells.y)


def _variances(
    cells: Cells, residual: FloatArray, active: BoolArray, start: FloatArray, overlap: float,
    sd: FloatArray,
) -> tuple[FloatArray, float]:  # fmt: skip
    """Maximise the likelihood of residuals over log variances, atanh rho and logit overlap."""
    evaluate, stretch = compiled(), np.ones((len(cells.clusters), 1 + cells.n_strata))
    free = [k for k in (SPECIFIC, COMMON, LASTING, RHO) if active[k]]

    def values(z: FloatArray) -> tuple[FloatArray, float]:
        scales = np.zeros(4)
        for k, value in zip(free, z, strict=False):
            scales[k] = np.tanh(value) if k == RHO else np.exp(value)
        return scales, float(1.0 / (1.0 + np.exp(-z[-1]))) if cells.restated else 0.0

    def loss(z: FloatArray) -> tuple[float, FloatArray]:
        scales, share = values(z)
        phi, shared = 1.0 / ((1.0 - share) * sd**2), share * sd**2
        found = evaluate(residual, phi, shared, scales, stretch, cells.layout)
        slope = [found[4][k] * (1.0 - scales[k] ** 2 if k == RHO else scales[k]) for k in free]
        if cells.restated:
            by_share = (found[2] * phi / (1.0 - share) + found[3] * sd**2).sum()
            slope.append(by_share * share * (1.0 - share))
        # a weak pull keeps variances that the data call zero from running away
        return 0.005 * float(z @ z) - float(found[0].sum()), 0.01 * z - np.array(slope)

    z0 = [np.arctanh(start[k]) if k == RHO else np.log(start[k]) for k in free]
    if cells.restated:
        z0.append(np.log(overlap / (1.0 - overlap)))
    if not z0:
        return start, overlap
    best = optimize.minimize(
        loss, np.array(z0), jac=True, method="L-BFGS-B", bounds=[(-6.0, 6.0)] * len(z0),
        options={"maxiter": 60},
    )  # fmt: skip
    return values(np.asarray(best.x))
