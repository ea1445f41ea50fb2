"""Which periods and cohorts make each group-time effect; tested with no estimate computed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray
from vbceval.design.design import Design


class GroupTimePair(NamedTuple):
    """
    The comparison behind one ATT(g, t).

    Parameters
    ----------
    cohort, period, base : float
        g, t and the base period b; `base` equals `period` in the reference row of a universal
        base, whose effect is zero by definition.
    universal : float
        The last period before entry minus anticipation, whatever the base.
    controls : tuple of float
        Cohorts that serve as comparison beside the never treated.
    """

    cohort: float
    period: float
    base: float
    universal: float
    controls: tuple[float, ...]

    @property
    def event_time(self) -> float:
        """Periods since entry."""
        return self.period - self.cohort

    @property
    def earlier(self) -> float:
        """The earlier of base and period, where covariates and weights are taken."""
        return min(self.period, self.base)

    @property
    def is_reference(self) -> bool:
        """Whether this is the reference row of a universal base."""
        return self.period == self.base


def group_time_pairs(
    periods: FloatArray, cohorts: FloatArray, design: Design
) -> tuple[list[GroupTimePair], FloatArray]:
    """
    List the comparisons of a design, and the cohorts that have no base period.

    Base periods are positions among the observed periods, so gaps in the calendar are allowed. A
    cohort that enters after the last period plus anticipation is never treated in these data.

    Parameters
    ----------
    periods : array
        Observed periods, increasing.
    cohorts : array
        Distinct cohorts, missing (never treated) excluded.
    design : Design
        Comparison, base, anticipation and window are read.

    Returns
    -------
    list of GroupTimePair
        In order of cohort and period.
    array
        Cohorts without a period before entry minus anticipation: dropped.

    Raises
    ------
    DesignError
        If no cohort has a base period, or the window leaves nothing.

    References
    ----------
    .. [1] Callaway, B. and Sant'Anna, P. H. C. (2021). Difference-in-differences with multiple
       time periods. *Journal of Econometrics* 225(2), 200-230. Section 2.
    """
    a = design.anticipation
    if len(periods) == 0:
        raise DesignError(
            f"no row has the outcome `{design.outcome}`, every covariate and a positive weight."
        )
    treated = np.sort(cohorts[cohorts <= periods[-1] + a])
    dropped = treated[treated - a <= periods[0]]
    kept = treated[treated - a > periods[0]]
    if len(kept) == 0:
        raise DesignError(
            f"no cohort has a period before entry: periods run from {periods[0]:g} to "
            f"{periods[-1]:g}, cohorts are {[f'{g:g}' for g in treated] or 'none'}, anticipation "
            f"is {a}. Add earlier periods, or check the coding of never treated (missing)."
        )
    pairs = []
    for g in kept:
        universal = float(periods[periods < g - a][-1])
        for i, t in enumerate(periods):
            base = universal
            if design.base_period == "varying" and t < g - a:
                if i == 0:
                    continue
                base = float(periods[i - 1])
            if design.window is not None and not design.window[0] <= t - g <= design.window[1]:
                continue
            controls: tuple[float, ...] = ()
            if design.comparison == "not_yet_treated":
                later = treated[(treated > max(t, base) + a) & (treated != g)]
                controls = tuple(float(x) for x in later)
            pairs.append(GroupTimePair(float(g), float(t), base, universal, controls))
    if not pairs:
        raise DesignError(f"no event time lies in `window` {design.window}: widen it.")
    return pairs, dropped
