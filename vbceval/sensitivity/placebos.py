"""Effects where there are none: entry moved to earlier periods, outcomes that cannot respond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.design import Design
from vbceval.estimates import Estimates, stack
from vbceval.panel import Panel
from vbceval.sensitivity.given import require_fit
from vbceval.sensitivity.leave_out import FitCall


def placebo(
    fit: FitCall,
    panel: Panel,
    design: Design,
    *,
    shifts: Sequence[int] = (1, 2),
    outcomes: Sequence[str] = (),
) -> Estimates:
    """
    Estimate effects that should be zero, jointly.

    Parameters
    ----------
    fit : callable
        ``fit(panel, design)``, for example ``lambda p, d: GroupTime().fit(p, d)
        .aggregate("simple")``.
    panel : Panel
        With all its periods.
    design : Design
        That of the main analysis.
    shifts : sequence of int, default (1, 2)
        Placebo in time: entry is moved earlier by so many calendar periods. All treated cells (and
        those of anticipation) are left out, and cohorts without a period before the moved entry.
    outcomes : sequence of str, default none
        Negative controls: outcomes on which the program can have no effect.

    Returns
    -------
    Estimates
        Rows of every run, column ``run``: "entry moved 2 earlier", "negative control: falls". One
        joint test over them is ``wald()``.

    Raises
    ------
    DesignError
        If nothing is left to estimate with a shift.

    Notes
    -----
    That placebos are near zero does not show that trends would have stayed parallel: read their
    intervals, which say how large a difference could have been overlooked.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCD"), 4), "year": [2013, 2014, 2015, 2016] * 4,
    ...     "entry": np.repeat([2016.0, 2016.0, np.nan, np.nan], 4),
    ...     "spend": [10.0, 10, 11, 3, 12, 12, 12, 5, 9, 10, 10, 11, 8, 8, 9, 10]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> vbc.sensitivity.placebo(vbc.did.TWFE().fit, panel, vbc.Design(outcome="spend"),
    ...                         shifts=[1]).tidy()[["run", "estimate"]].round(6).values.tolist()
    [['entry moved 1 earlier', -0.25]]
    """
    require_fit(fit)
    if not shifts and not outcomes:
        raise DesignError("`shifts` and `outcomes` are both empty, so there is no placebo.")
    runs, labels = [], []
    for shift in shifts:
        if int(shift) != shift or shift < 1:
            raise DesignError(f"a shift is {shift}; entry is moved earlier by 1, 2, ... periods.")
        runs.append(fit(_moved(panel, design, int(shift)), design))
        labels.append(f"entry moved {int(shift)} earlier")
    for outcome in outcomes:
        runs.append(fit(panel, replace(design, outcome=outcome, unit_of_measure=None)))
        labels.append(f"negative control: {outcome}")
    return stack(runs, labels=labels)


def _moved(panel: Panel, design: Design, shift: int) -> Panel:
    """Return untreated cells, with entry moved earlier."""
    cohort = panel.frame[panel.cohort].to_numpy(dtype=float)
    period = panel.frame[panel.period].to_numpy(dtype=float)
    entry = np.where(np.isnan(cohort), np.inf, cohort)
    untreated = period < entry - design.anticipation
    moved = entry - shift
    first = period.min()
    # both sides of the moved entry must be seen
    seen = np.array([
        np.isinf(g) or (
            (untreated & (entry == g) & (period >= g - shift)).any()
            and first < g - shift - design.anticipation
        )
        for g in np.unique(entry)
    ])[np.unique(entry, return_inverse=True)[1]]  # fmt: skip
    usable = untreated & seen
    if not (usable & np.isfinite(moved)).any():
        before = sorted({f"{g:g}" for g in cohort[~np.isnan(cohort)]})
        raise DesignError(
            f"entry moved {shift} earlier has no cohort with periods on both sides: cohorts are "
            f"{listed(before)}, anticipation is {design.anticipation}, and the first period is "
            f"{first:g}. Use a smaller shift or add earlier periods."
        )
    kept = panel.keep(usable, step=f"untreated, entry moved {shift} earlier")
    values = np.where(np.isinf(moved), np.nan, moved)[usable]
    return replace(kept, frame=kept.frame.assign(**{panel.cohort: values}), exit=None)
