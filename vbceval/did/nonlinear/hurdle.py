"""The two regressions of a two-part model, and what each average effect takes from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from scipy import sparse

from vbceval.core.checks import listed
from vbceval.core.errors import DataError, DesignError
from vbceval.core.typing import FloatArray
from vbceval.did.equation import Equation
from vbceval.did.least_squares import Cells, Fit, Groups, least_squares
from vbceval.did.nonlinear.averages import Index, mean_and_direct
from vbceval.did.nonlinear.families import Family
from vbceval.did.nonlinear.scoring import score
from vbceval.did.regressors import Regressors, regressors
from vbceval.did.sampled import with_effects

Intensity = Literal["gamma", "poisson", "gaussian", "lognormal"]
PARTS = ("total", "extensive", "intensive", "any", "if_any")
"""What is reported of each cohort and period."""


class Regressed(NamedTuple):
    """
    One of the two regressions, evaluated in all K cells.

    Parameters
    ----------
    fit : Fit
        On its own cells.
    at : Index
        In all cells.
    on, off : array, shape (K,)
        Mean with treatment and without.
    slope_on, slope_off : array, shape (K,)
        Their derivatives by the index.
    """

    fit: Fit
    at: Index
    on: FloatArray
    off: FloatArray
    slope_on: FloatArray
    slope_off: FloatArray

    def influence(self, d_on: FloatArray, d_off: FloatArray, share: sparse.csr_array) -> FloatArray:
        """
        Return the derivative of averages by coefficients, shape (p, r).

        Parameters
        ----------
        d_on, d_off : array, shape (K,)
            Derivative of what is averaged by the two means.
        share : sparse array, shape (K, r)
            Weight of each cell in each row.
        """
        pieces = (
            (self.at.z, d_on * self.slope_on),
            (self.at.z_without, d_off * self.slope_off),
        )
        return np.asarray(sum((z.T @ (sparse.diags_array(d) @ share)).toarray() for z, d in pieces))


class Smeared(NamedTuple):
    """
    Duan's smearing factor, the mean of exp(residual) in logs.

    Parameters
    ----------
    factor : float
        The factor.
    psi : array, shape (G,)
        Influence of clusters.
    """

    factor: float
    psi: FloatArray


class Hurdle(NamedTuple):
    """
    Both regressions.

    Parameters
    ----------
    any, level : Regressed
        Probability of any; mean where there is some, smearing included.
    smeared : Smeared or None
        For logs.
    """

    any: Regressed
    level: Regressed
    smeared: Smeared | None


def fit_hurdle(
    equation: Equation,
    outcome: str,
    participation: Family,
    intensity: Intensity,
    groups: Groups,
    effects: tuple[str, ...],
) -> Hurdle:
    """
    Fit both regressions with the same columns.

    Parameters
    ----------
    equation : Equation
        Cells with two outcomes: the mean, and the share above 0.
    outcome : str
        Name of the first.
    participation : Family
        Of the share.
    intensity : {"gamma", "poisson", "gaussian", "lognormal"}
        Of the mean where the outcome is above 0; "lognormal" is least squares in logs.
    groups : Groups
        Clusters.
    effects : tuple of str
        Fixed effects.

    Raises
    ------
    DataError
        If the outcome is negative, zero in no row or in all, or not above zero where the share is.
    DesignError
        If an effect cannot be estimated in one of the regressions.
    """
    sample, dummies = with_effects(equation.sample, effects)
    if sample.cells.absorbed is not None:
        raise DesignError(
            "`fixed_effects` gives units effects of their own, which bias a regression of shares "
            "when periods are few. Use effects of cohorts (the default) with covariates of units."
        )
    mean, share = sample.cells.y.T
    if (mean < 0).any():
        raise DataError(f"`{outcome}` is negative in some rows; two parts are for 0 or more.")
    if ((share > 0) != (mean > 0)).any():
        raise DataError(
            f"`{outcome}` is above 0 in cells where the column that says who has any is 0, or the "
            "reverse, so the parts are not of one outcome. That column is 1 in rows above 0, else 0."
        )
    if (share >= 1).all() or (share <= 0).all():
        none, remedy = "above 0 in every row", "Use GLMDiD(family='gamma' or 'poisson')."
        if share[0] <= 0:
            none, remedy = "0 in every row", "Check the outcome."
        raise DataError(f"`{outcome}` is {none}, so there is no first part to explain. {remedy}")
    block, n = sample.cells.block, sample.cells.n
    z = regressors(block, [*dummies, *equation.terms])
    every = Cells(block, share[:, None], None, None, n, None)
    one = _regressed(every, z, np.arange(len(n)), participation, f"any {outcome}")
    # cells with some: their mean, and as weight what they hold
    some = np.flatnonzero(share > 0)
    level = mean[some] / share[some]
    held = block.take(some)
    held = held._replace(w=held.w * share[some])
    name = f"{outcome} above 0"
    if intensity != "lognormal":
        cells = Cells(held, level[:, None], None, None, n[some], None)
        return Hurdle(one, _regressed(cells, z, some, Family(name=intensity), name), None)
    cells = Cells(held, np.log(level)[:, None], None, None, n[some], None)
    logs = _regressed(cells, z, some, Family(name="gaussian"), name)
    smeared = _smeared(logs, np.log(level), some, groups)
    on, off = (smeared.factor * np.exp(x) for x in (logs.on, logs.off))
    return Hurdle(one, logs._replace(on=on, off=off, slope_on=on, slope_off=off), smeared)


def _regressed(
    cells: Cells, z: Regressors, rows: np.ndarray, family: Family, name: str
) -> Regressed:
    """Fit on some rows of the columns, and evaluate in all."""
    own = sparse.csr_array(z.mean[rows])
    some = replace(
        z, rows=own, own=_squares(own, cells.block.w), kind=z.kind[rows], pattern=z.pattern[rows]
    )
    first = least_squares(cells, some)
    lost = [z.names[j] for j in z.where("treatment") if not first.kept[j]]
    if lost:
        raise DesignError(
            f"{listed(lost)} cannot be estimated for {name}: no comparison, or no row, is left "
            "there. Merge cohorts or periods, or restrict `window`."
        )
    scored = score(cells, first, family, name)
    beta = scored.fit.beta[:, 0]
    eta = np.asarray(z.rows @ beta)
    moved = np.concatenate([z.where("covariate"), z.where("treatment")])
    index = Index.of(z.rows, beta, eta, moved)
    on, off = index.eta, index.without
    return Regressed(
        scored.fit, index, family.mean(on), family.mean(off), family.slope(on), family.slope(off)
    )


def _squares(rows: sparse.csr_array, w: FloatArray) -> FloatArray:
    return np.asarray(rows.multiply(rows).T @ w)


def _smeared(logs: Regressed, y: FloatArray, some: np.ndarray, groups: Groups) -> Smeared:
    fit, w = logs.fit, logs.fit.cells.block.w
    ratio = np.exp(y - logs.at.eta[some])
    factor = float(np.average(ratio, weights=w))
    inside = Groups(groups.codes[some], groups.n)
    direct = inside.sums(w * (ratio - factor)) @ np.ones(len(some))
    through = -(fit.z.mean.T @ (w * ratio))
    by_beta = fit.influence(0, fit.inverse @ through[:, None], inside)[:, 0]
    return Smeared(factor, np.asarray((direct + by_beta) / w.sum()))


class Effects(NamedTuple):
    """
    Average effects of one part of the spending.

    Parameters
    ----------
    value : array, shape (r,)
        Averages over the cells of each row.
    psi : array, shape (G, r)
        Influence of clusters.
    """

    value: FloatArray
    psi: FloatArray


def hurdle_effects(
    made: Hurdle, share: sparse.csr_array, groups: Groups, *, random: bool
) -> dict[str, Effects]:
    """
    Return average effects, by name in `PARTS`.

    With p and m the probability and the mean if any, 1 with treatment and 0 without: "total" is the
    mean of p1 m1 - p0 m0; "extensive" of (p1 - p0)(m1 + m0)/2 and "intensive" of (m1 - m0)(p1 +
    p0)/2, which add up to it (Shapley); "any" of p1 - p0; "if_any" of m1 - m0.

    Parameters
    ----------
    made : Hurdle
        Fits.
    share : sparse array, shape (K, r)
        Weight of each cell in each row.
    groups : Groups
        Clusters of the cells.
    random : bool
        Count the sampling of the cells that are averaged.
    """
    p1, p0, m1, m0 = made.any.on, made.any.off, made.level.on, made.level.off
    one, zero = np.ones_like(p1), np.zeros_like(p1)
    m, p = (m1 + m0) / 2, (p1 + p0) / 2
    gap_p, gap_m = (p1 - p0) / 2, (m1 - m0) / 2
    # values, then derivatives by p1, p0, m1, m0
    table = {
        "total": (p1 * m1 - p0 * m0, m1, -m0, p1, -p0),
        "extensive": (2 * gap_p * m, m, -m, gap_p, gap_p),
        "intensive": (2 * gap_m * p, gap_m, gap_m, p, -p),
        "any": (2 * gap_p, one, -one, zero, zero),
        "if_any": (2 * gap_m, zero, zero, one, -one),
    }
    return {
        name: _average(made, values, by, share, groups, random=random)
        for name, (values, *by) in table.items()
    }


def _average(
    made: Hurdle,
    values: FloatArray,
    by: list[FloatArray],
    share: sparse.csr_array,
    groups: Groups,
    *,
    random: bool,
) -> Effects:
    value, direct = mean_and_direct(values, share)
    psi = np.zeros((groups.n, share.shape[1]))
    for part, on, off in ((made.any, by[0], by[1]), (made.level, by[2], by[3])):
        fit = part.fit
        inside = Groups(fit.cells.block.cluster, groups.n)
        psi += fit.influence(0, fit.inverse @ part.influence(on, off, share), inside)
    if made.smeared is not None:
        by_factor = (by[2] * made.level.on + by[3] * made.level.off) / made.smeared.factor
        psi += np.outer(made.smeared.psi, share.T @ by_factor)
    if random:
        psi += (groups.sums(np.ones(len(values))) @ direct).toarray()
    return Effects(value, psi)
