"""Effects of one stratum from a factor model of its untreated cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.did.synthetic.cohorts import Cohort
from vbceval.did.synthetic.factors import Effects, FactorFit, Rank, fit_factors
from vbceval.did.synthetic.loadings import basis, gaps, remainder
from vbceval.did.synthetic.wide import Wide

Method = Literal["gsc", "em", "matrix_completion"]


class Model(NamedTuple):
    """How factors are estimated: `Method` and additive effects."""

    method: Method
    effects: Effects

    def per_unit(self, rank: Rank) -> int:
        """Return the number of parameters of each organization."""
        return rank.factors + (self.effects in ("two-way", "unit"))


class Estimate(NamedTuple):
    """
    A fitted stratum.

    Parameters
    ----------
    fit : FactorFit
        Of the organizations `rows`.
    rows : int array
        Rows of `Wide` that factors come from.
    gap : array, shape (N, T)
        Outcome less counterfactual of treated organizations; missing elsewhere.
    """

    fit: FactorFit
    rows: IntArray
    gap: FloatArray


def untreated_cells(wide: Wide, cohorts: Sequence[Cohort], anticipation: int) -> BoolArray:
    """Return observed cells of donors, and of cohorts before entry, shape (N, T)."""
    out = np.zeros(wide.y.shape, dtype=bool)
    seen = np.isfinite(wide.y)
    for cohort in cohorts:
        out[cohort.donors] = seen[cohort.donors]
        before = wide.periods < cohort.entry - anticipation
        out[cohort.treated] = seen[cohort.treated] & before
    return out


def estimate(
    wide: Wide,
    cohorts: Sequence[Cohort],
    untreated: BoolArray,
    model: Model,
    rank: Rank,
    start: FloatArray | None = None,
) -> Estimate:
    """
    Fit factors, and compare the treated with their counterfactual.

    Parameters
    ----------
    wide : Wide
        Matrices.
    cohorts : sequence of Cohort
        Treated rows, and donors (the same for all).
    untreated : bool array, shape (N, T)
        Cells without treatment.
    model : Model
        "gsc": factors from donors, loadings of the treated from their cells before entry. "em" and
        "matrix_completion": all untreated cells at once.
    rank : Rank
        Factors or shrinkage.
    start : array, optional
        Fitted values of `rows` to begin with.

    Raises
    ------
    DesignError
        If organizations have too few untreated cells, or a period has none.
    """
    treated = np.concatenate([c.treated for c in cohorts])
    donors = cohorts[0].donors
    rows = donors if model.method == "gsc" else np.concatenate([donors, treated])
    require_cells(wide, rows, treated, untreated, model, rank)
    fit = fit_factors(wide.y[rows], wide.x[rows], untreated[rows], rank, model.effects, start)
    gap = np.full(wide.y.shape, np.nan)
    if model.method == "gsc":
        left = remainder(wide.y[treated], wide.x[treated], fit)
        gap[treated] = gaps(left, untreated[treated], basis(fit, model.effects))
    else:
        gap[treated] = wide.y[treated] - fit.fitted[len(donors) :]
    return Estimate(fit, rows, gap)


def require_cells(
    wide: Wide,
    rows: IntArray,
    treated: IntArray,
    untreated: BoolArray,
    model: Model,
    rank: Rank,
) -> None:
    """
    Check that factors and loadings have enough cells.

    Raises
    ------
    DesignError
        With counts and what to change.
    """
    empty = ~untreated[rows].any(axis=0)
    if empty.any():
        raise DesignError(
            f"no untreated organization is seen in {int(empty.sum())} periods (the first is "
            f"{wide.periods[empty][0]:g}), so their effect is not known. Leave these periods out, "
            "or add organizations."
        )
    least = max(model.per_unit(rank), 1)
    used = np.unique(np.concatenate([rows, treated]))
    few = untreated[used].sum(axis=1) < least
    if few.any():
        raise DesignError(
            f"{int(few.sum()):,} organizations have fewer than {least} untreated periods, and each "
            f"has {least} parameters of its own ({rank.factors} factors). Use fewer factors, or "
            "drop these organizations."
        )


def cohort_effects(wide: Wide, cohorts: Sequence[Cohort], gap: FloatArray) -> FloatArray:
    """
    Return weighted mean gaps of each cohort in its shown periods, one after another.

    Missing where no treated organization is seen.
    """
    out = []
    for cohort in cohorts:
        inside = gap[np.ix_(cohort.treated, cohort.columns[cohort.shown])]
        weight = np.where(np.isfinite(inside), wide.weight[cohort.treated][:, None], 0.0)
        total = weight.sum(axis=0)
        nothing = np.full(len(total), np.nan)
        sums = (weight * np.nan_to_num(inside)).sum(axis=0)
        out.append(np.divide(sums, total, out=nothing, where=total > 0))
    return np.concatenate(out)
