"""For each cohort: its organizations, its donors, its periods before and after entry."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.core.checks import Problems
from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.design import Design
from vbceval.did.synthetic.wide import Wide, require_balanced


class Cohort(NamedTuple):
    """
    What one cohort is compared with; positions are rows and columns of `Wide`.

    Parameters
    ----------
    entry : float
        First treated period.
    treated, donors : int arrays
        Rows.
    columns : int array, shape (T,)
        Periods used: all before entry minus anticipation, then those that follow.
    n_pre : int
        Number of the first kind.
    post : bool array, shape (T,)
        Periods of `columns` from entry on.
    shown : bool array, shape (T,)
        Periods of `columns` whose effect is reported.
    """

    entry: float
    treated: IntArray
    donors: IntArray
    columns: IntArray
    n_pre: int
    post: BoolArray
    shown: BoolArray

    def mean_treated(self, wide: Wide) -> FloatArray:
        """Return the weighted mean outcome of the treated, shape (T,)."""
        rows = self.treated
        return np.asarray(wide.weight[rows] @ wide.y[np.ix_(rows, self.columns)]) / float(
            wide.weight[rows].sum()
        )


class Cohorts(NamedTuple):
    """Cohorts of one stratum, and entries without enough periods before them."""

    cohorts: list[Cohort]
    dropped: FloatArray


def find_cohorts(
    wide: Wide, design: Design, estimator: str, *, least_pre: int = 1, balanced: bool = True
) -> Cohorts:
    """
    Return the comparison of every cohort.

    Donors are organizations that are untreated in every period used. Without a `window` these are
    the never treated. With one that ends, ``comparison="not_yet_treated"`` adds those that enter
    after the last period of the window (minus anticipation).

    Parameters
    ----------
    wide : Wide
        The matrices of one stratum.
    design : Design
        Comparison, anticipation, window.
    estimator : str
        For messages.
    least_pre : int
        Fewest periods before entry.
    balanced : bool, default True
        Whether a missing cell is an error.

    Raises
    ------
    DesignError
        If nobody enters, no cohort has periods before entry, or a cohort has no donor or too few
        periods before entry (all cohorts in one message).
    """
    a = design.anticipation
    enters = wide.enters(a)
    entries = np.unique(wide.cohort[enters])
    dropped = entries[entries - a <= wide.periods[0]]
    kept = entries[entries - a > wide.periods[0]]
    where = f" in stratum `{wide.stratum}`" if wide.stratum else ""
    if not len(kept):
        raise DesignError(
            f"no cohort has a period before entry{where}: periods run from {wide.periods[0]:g} to "
            f"{wide.periods[-1]:g}, cohorts are {[f'{g:g}' for g in entries] or 'none'}, "
            f"anticipation is {a}. Add earlier periods, or check the coding of never treated "
            "(missing)."
        )
    problems = Problems(f"the comparison{where}", DesignError)
    found = [_cohort(wide, design, float(g), enters) for g in kept]
    for cohort in found:
        name = f"cohort {cohort.entry:g} at period {cohort.entry:g}"
        if not len(cohort.donors):
            problems.add(
                f"{name} has no donor: with comparison='{design.comparison}' no organization stays "
                "untreated in all its periods. To go on, end `window` before the others enter, "
                "with comparison='not_yet_treated', or add organizations that never enter."
            )
        if cohort.n_pre < least_pre:
            problems.add(
                f"{name} has {cohort.n_pre} period before entry, and {estimator} needs "
                f"{least_pre}. Add earlier periods, or leave the cohort out."
            )
        if not cohort.post.any():
            problems.add(
                f"{name} has no period from entry on in `window` {design.window}. Widen it."
            )
    problems.raise_if_any()
    if not balanced:
        return Cohorts(found, dropped)
    used = np.zeros(wide.y.shape, dtype=bool)
    for cohort in found:
        used[np.ix_(np.concatenate([cohort.treated, cohort.donors]), cohort.columns)] = True
    require_balanced(wide, used, estimator)
    return Cohorts(found, dropped)


def _cohort(wide: Wide, design: Design, entry: float, enters: BoolArray) -> Cohort:
    event = wide.periods - entry
    a, window = design.anticipation, design.window
    used = np.ones(len(event), dtype=bool) if window is None else event <= window[1]
    used |= event < -a
    columns = np.flatnonzero(used)
    last = wide.periods[columns[-1]]
    donors = ~enters
    if design.comparison == "not_yet_treated":
        with np.errstate(invalid="ignore"):
            donors = donors | (wide.cohort - a > last)
    event = event[columns]
    return Cohort(
        entry=entry,
        treated=np.flatnonzero(wide.cohort == entry),
        donors=np.flatnonzero(donors),
        columns=columns,
        n_pre=int((event < -a).sum()),
        post=event >= 0,
        shown=np.ones(len(event), dtype=bool) if window is None else event >= window[0],
    )
