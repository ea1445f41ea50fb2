"""Reduced form and first stage: outcome and dose regressed on assignment, on the same rows."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.design import Design
from vbceval.did.equation import (
    Equation,
    plain_covariates,
    refuse_never_treated,
    without_partly_treated,
)
from vbceval.did.least_squares import Fit, least_squares
from vbceval.did.regressors import Term, regressors
from vbceval.did.sampled import Sample, with_effects
from vbceval.did.sandwich import Piece
from vbceval.did.strata import naming

Form = Literal["did", "cross_section"]


class Reduced(NamedTuple):
    """
    Reduced forms of one stratum.

    Parameters
    ----------
    outcome, dose : Piece
        Both of one fit; their rows are the instruments.
    instruments : int array, shape (q,)
        Positions of the instruments among its columns.
    """

    outcome: Piece
    dose: Piece
    instruments: IntArray

    @property
    def fit(self) -> Fit:
        """The regression."""
        return self.outcome.fit

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Keys of each instrument."""
        return self.outcome.equation.rows

    @property
    def cross(self) -> FloatArray:
        """Cross-product of instruments, effects and covariates taken out, shape (q, q)."""
        inverse = self.fit.inverse[np.ix_(self.instruments, self.instruments)]
        return np.asarray(np.linalg.inv(inverse))


def reduce(
    sample: Sample, design: Design, *, form: Form, blocks: tuple[str, ...], by_event_time: bool
) -> Reduced:
    """
    Regress outcome and dose on indicators of assignment.

    Parameters
    ----------
    sample : Sample
        Cells with both outcomes.
    design : Design
        Anticipation, window, and fixed effects in place of those of the form.
    form : {"did", "cross_section"}
        Which effects and periods.
    blocks : tuple of str
        Keys within which periods have effects of their own.
    by_event_time : bool
        One indicator for each period since assignment.

    Raises
    ------
    DesignError
        If assignment cannot be told from the effects.
    """
    with naming(sample.stratum):
        equation = _equation(sample, design, form, blocks, by_event_time=by_event_time)
        effects = equation.effects if design.fixed_effects is None else design.fixed_effects
        made, dummies = with_effects(equation.sample, effects)
        fit = least_squares(made.cells, regressors(made.cells.block, [*dummies, *equation.terms]))
        instruments = fit.z.where("treatment")
        lost = [fit.z.names[j] for j in instruments if not fit.kept[j]]
        if lost:
            raise DesignError(
                f"{listed(lost)} cannot be told from the effects: within them all units are "
                "assigned, or none. Use coarser `blocks` or fewer fixed effects."
            )
    contrast = np.eye(len(fit.z.names))[:, instruments]
    return Reduced(
        Piece(equation, fit, 0, contrast), Piece(equation, fit, 1, contrast), instruments
    )


def _equation(
    sample: Sample,
    design: Design,
    form: Form,
    blocks: tuple[str, ...],
    *,
    by_event_time: bool,
) -> Equation:
    refuse_never_treated(sample, design, "IV", "one cohort at a time")
    sample = without_partly_treated(sample, design)
    cohort = sample.cohort
    if not np.isfinite(cohort).any():
        raise DesignError("no unit is assigned in these periods: check the coding of cohorts.")
    if form == "cross_section":
        sample = sample.take(sample.period >= np.nanmin(cohort))
    e = sample.event_time
    on = e >= 0
    if not on.any():
        raise DesignError("no cell is at or after assignment: check `window` and the periods.")
    if not by_event_time:
        codes = np.where(on, 0, -1).astype(np.int64)
        names: tuple[str, ...] = ("assignment",)
        rows = [{"event_time": np.nan}]
    else:
        times = np.unique(e[on])
        codes = np.where(on, np.searchsorted(times, np.where(on, e, times[0])), -1)
        names = tuple(f"assignment at event time {t:g}" for t in times)
        rows = [{"event_time": float(t)} for t in times]
    period = ":".join(["period", *blocks])
    effects = ("owner", period) if form == "did" else (period,)
    terms = (*plain_covariates(sample), Term(codes.astype(np.int64), names, "treatment"))
    return Equation(sample, effects, terms, rows, np.eye(len(rows)), codes.astype(np.int64))
