"""Linear structure of the mean: which coefficients there are, and coordinates that suit a sampler."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import linalg, optimize

from vbceval.bayes.cells import Cells
from vbceval.bayes.marginal import COMMON, LASTING, RHO, SPECIFIC, compiled
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
        Treatment effects are ``loading @ (scale * b)``, b standard normal a priori.
    part : array of int, shape (q,)
        Part (place in `PARTS`) of each column of `loading`.
    """

    zero_sum: FloatArray
    loading: FloatArray
    part: IntArray


def structure(cells: Cells) -> Structure:
    """
    Return the structure of the mean of some cells.

    A part with one level is left out, and so is the interaction where it would repeat another
    part. Event times follow a random walk from the first one, whose level is the effect at entry.
    """
    table = cells.effects
    n = len(table)
    loading, part = [np.ones((n, 1))], [0]
    most = 1
    for place, name in enumerate(PARTS[1:-1], start=1):
        codes = table[f"{name}_code"].to_numpy()
        levels = int(codes.max()) + 1
        most = max(most, levels)
        if levels == 1:
            continue
        columns = np.eye(levels)[codes]
        if name == "event_time":
            times = np.sort(table["event_time"].unique())
            steps = np.tril(np.ones((levels, levels)))[:, 1:] * np.sqrt(np.diff(times))
            columns = steps[codes]
        loading.append(columns)
        part += [place] * columns.shape[1]
    if n > most:
        loading.append(np.eye(n))
        part += [len(PARTS) - 1] * n
    t = len(cells.periods)
    return Structure(linalg.helmert(t).T, np.hstack(loading), np.array(part, dtype=np.int64))


class Reference(NamedTuple):
    """
    A normal approximation to the posterior of the coefficients, in which a sampler moves.

    Parameters
    ----------
    centre : array, shape (Q,)
        Mean: period coefficients (S (T - 1)), slopes (p (T - 1)), then those of effects (q).
    root : array, shape (Q, Q)
        Lower root of the covariance.
    """

    centre: FloatArray
    root: FloatArray


def reference(cells: Cells, parts: Structure, priors: Priors, active: BoolArray) -> Reference:
    """
    Approximate the posterior of the coefficients at rough values of the variances.

    The sampler would find these coordinates itself, slowly; the posterior does not depend on them.

    Parameters
    ----------
    cells : Cells
        Sorted cells.
    parts : Structure
        Coefficients.
    priors : Priors
        Prior scales.
    active : array of bool, shape (4,)
        Which of (specific, common, lasting, rho) the model has.

    Raises
    ------
    EstimationError
        If the approximation fails, which bad scaling of the outcome can cause.
    """
    x = _columns(cells, parts, priors)
    prior = np.ones(x.shape[1])
    n_trend = x.shape[1] - len(parts.part)
    prior[:n_trend] = 1.0 / priors.period**2
    variances = np.array([1.0, 4.0, 1.0, 0.5]) * active
    overlap = 0.5 if cells.restated else 0.0
    sd = _persons(cells)
    for _ in range(2):
        precision, gradient = _normal_equations(cells, x, variances, overlap, sd)
        root = np.linalg.cholesky(precision + np.diag(prior))
        centre = linalg.cho_solve((root, True), gradient)
        variances, overlap = _variances(cells, cells.y - x @ centre, active, variances, overlap, sd)
    if not np.isfinite(centre).all():
        raise EstimationError(
            "no starting values were found: the cell means are not on the scale of `baseline`. "
            "Check outcomes and `person_sd` for a wrong unit."
        )
    inverse = linalg.solve_triangular(root, np.eye(len(root)), lower=True)
    return Reference(centre, np.linalg.cholesky(inverse.T @ inverse))


def _columns(cells: Cells, parts: Structure, priors: Priors) -> FloatArray:
    """Return the cells' regressors, one column a coefficient, (K, Q), at half the prior scales."""
    basis = parts.zero_sum[cells.period]
    period = [basis * (cells.stratum == s)[:, None] for s in range(cells.n_strata)]
    slope = [basis * column[:, None] for column in cells.x.T]
    scale = np.where(parts.part == 0, priors.effect, priors.spread / 2)
    effects = np.vstack([parts.loading * scale, np.zeros(len(parts.part))])
    return np.hstack([*period, *slope, effects[cells.effect_of_cell]])


def _persons(cells: Cells) -> FloatArray:
    """Return the person sd of each stratum: pooled within cells, or 1 where it is in the weights."""
    if cells.within is None:
        return np.ones(cells.n_strata)
    return np.asarray(np.sqrt(cells.within.squares / cells.within.dof))


def _normal_equations(
    cells: Cells, x: FloatArray, variances: FloatArray, overlap: float, sd: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return X'V^-1 X and X'V^-1 y."""
    evaluate = compiled()
    phi, shared = 1.0 / ((1.0 - overlap) * sd**2), overlap * sd**2
    weighted = np.column_stack(
        [evaluate(np.ascontiguousarray(c), phi, shared, variances, cells.layout)[1] for c in x.T]
    )
    return x.T @ weighted, weighted.T @ cells.y


def _variances(
    cells: Cells, residual: FloatArray, active: BoolArray, start: FloatArray, overlap: float,
    sd: FloatArray,
) -> tuple[FloatArray, float]:  # fmt: skip
    """Maximise the likelihood of the residuals over log variances, atanh rho and logit overlap."""
    evaluate = compiled()
    free = [k for k in (SPECIFIC, COMMON, LASTING, RHO) if active[k]]

    def values(z: FloatArray) -> tuple[FloatArray, float]:
        scales = np.zeros(4)
        for k, value in zip(free, z, strict=False):
            scales[k] = np.tanh(value) if k == RHO else np.exp(value)
        return scales, 1.0 / (1.0 + np.exp(-z[-1])) if cells.restated else 0.0

    def loss(z: FloatArray) -> tuple[float, FloatArray]:
        scales, share = values(z)
        phi, shared = 1.0 / ((1.0 - share) * sd**2), share * sd**2
        found = evaluate(residual, phi, shared, scales, cells.layout)
        slope = [found[4][k] * (1.0 - scales[k] ** 2 if k == RHO else scales[k]) for k in free]
        if cells.restated:
            by_share = (found[2] * phi / (1.0 - share) + found[3] * sd**2).sum()
            slope.append(by_share * share * (1.0 - share))
        # a weak pull keeps variances that the data call zero from running away
        return 0.005 * z @ z - found[0].sum(), 0.01 * z - np.array(slope)

    z0 = [np.arctanh(start[k]) if k == RHO else np.log(start[k]) for k in free]
    if cells.restated:
        z0.append(np.log(overlap / (1.0 - overlap)))
    if not z0:
        return start, overlap
    best = optimize.minimize(
        loss,
        np.array(z0),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-8.0, 8.0)] * len(z0),
        options={"maxiter": 60},
    )
    return values(np.asarray(best.x))
