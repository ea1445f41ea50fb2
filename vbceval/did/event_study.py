"""Event study: one coefficient for each period since entry, cohorts pooled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray
from vbceval.design import Design
from vbceval.did.equation import Equation, plain_covariates, refuse_never_treated
from vbceval.did.regression import LeastSquares
from vbceval.did.regressors import Term
from vbceval.did.sampled import Sample
from vbceval.estimates.columns import EVENT_TIME, OVERALL


@dataclass(frozen=True, kw_only=True)
class EventStudy(LeastSquares):
    """
    Regress the outcome on dummies of periods since entry, unit and period effects, covariates.

    Not robust to effects that differ by cohort: a coefficient then mixes effects of other event
    times (Sun and Abraham 2021); use SunAbraham, ETWFE or GroupTime. Right with one cohort, or
    when effects depend on event time only.

    Exactness: ``moments``; units, clusters and `exit` as in `TWFE`.

    Parameters
    ----------
    reference : int or tuple of int, default -1
        Event times without a dummy, counted before anticipation: with ``anticipation=a``, -1 stands
        for event time -1 - a. Without never-treated units two are needed.
    endpoints : {"keep", "bin"}
        "bin": event times at and beyond each end of the design's window share one dummy, and rows
        at the ends stand for them. "keep": every event time has its own; `window` only chooses the
        rows shown.

    Notes
    -----
    A cohort that enters after the last period plus anticipation is never treated in these data and
    has no dummies; R users who code relative time by hand give it leads.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCD"), 3), "year": [2014, 2015, 2016] * 4,
    ...     "entry": np.repeat([2016.0, 2016.0, np.nan, np.nan], 3),
    ...     "spend": [10, 11, 10, 20, 21, 21, 30, 31, 32, 40, 41, 42]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> est = vbc.did.EventStudy().fit(panel, vbc.Design(outcome="spend"))
    >>> est.where(event_time=0).tidy()["estimate"].round(6).tolist()
    [-1.5]
    """

    reference: int | tuple[int, ...] = -1
    endpoints: Literal["keep", "bin"] = "keep"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.endpoints not in ("keep", "bin"):
            raise DesignError(f"`endpoints` is {self.endpoints!r}; use 'keep' or 'bin'.")
        if not self._references or any(r >= 0 for r in self._references):
            raise DesignError(
                f"`reference` is {self.reference}: give event times before entry, such as -1."
            )

    @property
    def _references(self) -> tuple[int, ...]:
        return self.reference if isinstance(self.reference, tuple) else (self.reference,)

    def _refusal(self, design: Design) -> str | None:
        if self.endpoints == "bin" and design.window is None:
            return "endpoints='bin' needs the design's `window`, whose ends are binned."
        return None

    def equation(self, sample: Sample, design: Design, n_clusters: int) -> Equation:
        """Return the regression on dummies of event time."""
        refuse_never_treated(sample, design, "EventStudy", "SunAbraham or GroupTime")
        e = sample.event_time
        if self.endpoints == "bin" and design.window is not None:
            e = np.clip(e, *design.window)
        return event_time_equation(
            sample, e, [r - design.anticipation for r in self._references], design.window
        )

    def _unidentified(self, lost: list[str], tied: list[str], sample: Sample) -> DesignError:
        if np.isfinite(sample.cohort).all() and len(self._references) == 1:
            return DesignError(
                "no unit is never treated, so event-time effects are identified up to a linear "
                "trend only. Name two reference periods, for example reference=(-5, -1), or bin "
                "the ends with endpoints='bin' and a window."
            )
        return super()._unidentified(lost, tied, sample)


def event_time_equation(
    sample: Sample,
    e: FloatArray,
    references: list[int],
    window: tuple[int, int] | None,
    *,
    effects: tuple[str, ...] = ("owner", "period"),
    extra: tuple[Term, ...] = (),
) -> Equation:
    """
    Return the regression on dummies of event time, with rows and the mean of effects after entry.

    Parameters
    ----------
    sample : Sample
        K cells.
    e : array, shape (K,)
        Event time of each cell; NaN has no dummy.
    references : list of int
        Event times without a dummy.
    window : (int, int) or None
        Event times that are reported.
    effects : tuple of str
        Fixed effects.
    extra : tuple of Term
        Columns beside covariates.

    Raises
    ------
    DesignError
        If a reference is not observed, or no event time after entry is reported.
    """
    found = np.unique(e[np.isfinite(e)])
    if not len(found):
        raise DesignError(
            "no unit enters in these data: check `cohort` (missing = never treated) and periods."
        )
    absent = [r for r in references if r not in found]
    if absent:
        said = "reference event times" if len(absent) > 1 else "reference event time"
        raise DesignError(
            f"{said} {listed(absent)} {'are' if len(absent) > 1 else 'is'} not observed (event times are "
            f"{listed(f'{x:g}' for x in found)}). Choose another `reference`."
        )
    free = found[~np.isin(found, references)]
    codes = np.where(np.isin(e, free), np.searchsorted(free, e), -1).astype(np.int64)
    term = Term(codes, tuple(f"effect at event time {x:g}" for x in free), "treatment")
    shown = found if window is None else found[(found >= window[0]) & (found <= window[1])]
    after = np.flatnonzero(shown >= 0)
    if not len(after):
        raise DesignError(
            "no event time at or after entry is observed in `window`: widen it, or check the "
            "coding of cohorts."
        )
    rows: list[dict[str, Any]] = [{"estimand": EVENT_TIME, "event_time": float(x)} for x in shown]
    contrast = (shown[:, None] == free).astype(float)
    contrast = np.vstack([contrast, contrast[after].mean(axis=0)])
    support = np.where(np.isin(e, shown), np.searchsorted(shown, e), -1).astype(np.int64)
    return Equation(
        sample, effects, (*plain_covariates(sample), *extra, term),
        [*rows, {"estimand": OVERALL}], contrast, support,
        pooled={len(rows): tuple(int(i) for i in after)},
        meta={"reference": tuple(references)},
    )  # fmt: skip
