"""Effects by event time as every sensitivity of the trend reads them: relative to one period."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates, columns
from vbceval.sensitivity.given import require_estimates
from vbceval.sensitivity.varying_base import cumulate, has_varying_base

Varying = Literal["refuse", "cumulate"]
_LEAD = "pretrend_lead"
_SINGULAR = 1e-10


@dataclass(frozen=True, eq=False, kw_only=True)
class EventPath:
    """
    Coefficients of an event study without its reference period, in order of event time.

    Parameters
    ----------
    event_time : array, shape (K,)
        Periods since entry.
    estimate : array, shape (K,)
        Coefficients relative to the reference period, in `unit_of_measure`.
    vcov : array, shape (K, K)
        Their covariance, of full rank.
    n_pre : int
        The first `n_pre` coefficients are before the reference; effects are zero there.
    reference : float
        Event time of the reference period, whose coefficient is zero.
    df : float
        Smallest degrees of freedom of the coefficients; infinity is the normal law.
    outcome, unit_of_measure, stratum : str
        Keys of the estimates; empty where unused.
    notes : tuple of str
        What was done to bring the estimates to one reference period.
    meta : mapping
        Record of the fit.
    """

    event_time: FloatArray
    estimate: FloatArray
    vcov: FloatArray
    n_pre: int
    reference: float
    df: float = np.inf
    outcome: str = ""
    unit_of_measure: str = ""
    stratum: str = ""
    notes: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_post(self) -> int:
        """Number of coefficients after the reference."""
        return len(self.estimate) - self.n_pre

    @property
    def std_error(self) -> FloatArray:
        """Standard errors, shape (K,)."""
        return np.sqrt(np.diag(self.vcov))

    def inflated(self, below: float, level: float) -> EventPath:
        """
        Return the path with its covariance scaled to the t law where `df` is small.

        Methods for normal errors then give, in the simplest case, the t interval: the covariance
        is multiplied by the squared ratio of the t to the normal quantile at `level`.
        """
        if not self.df < below:
            return self
        from scipy import special

        tail = (1 + level) / 2
        ratio = float(special.stdtrit(self.df, tail) / special.ndtri(tail))
        note = (
            f"covariance multiplied by {ratio**2:.3g}, the squared ratio of t quantile "
            f"({self.df:.3g} degrees of freedom) to normal quantile"
        )
        return replace(self, vcov=self.vcov * ratio**2, notes=(*self.notes, note))


def from_numbers(
    estimate: Sequence[float] | FloatArray,
    vcov: FloatArray,
    *,
    pre: int | None = None,
    post: int | None = None,
    event_time: Sequence[float] | FloatArray | None = None,
    reference: float = -1.0,
    df: float = np.inf,
    outcome: str | None = None,
    unit_of_measure: str | None = None,
) -> Estimates:
    """
    Return `Estimates` of a published event study, from its coefficients and their covariance.

    Parameters
    ----------
    estimate : array, shape (K,)
        Coefficients in order of time, without the reference period.
    vcov : array, shape (K, K)
        Their covariance.
    pre, post : int, optional
        How many coefficients are before and after the reference period, which lies between them;
        event times are counted from `reference`. `post` may be left out.
    event_time : array, shape (K,), optional
        Event times instead of `pre` and `post`, or calendar periods with `reference` one of them.
    reference : float, default -1
        Event time (or period) of the reference. The period after it becomes event time 0.
    df : float, default infinity
        Degrees of freedom of the errors.
    outcome, unit_of_measure : str, optional
        For labels.

    Returns
    -------
    Estimates
        K + 1 rows, ``estimand`` "att_event_time": the reference period is a row at zero, event
        time -1.

    Raises
    ------
    DesignError
        If neither or both ways of placing the coefficients are given, or they do not fit.

    Examples
    --------
    >>> est = from_numbers([0.1, -0.2, 1.0], np.eye(3), pre=2)
    >>> est.frame["event_time"].tolist()
    [-3.0, -2.0, -1.0, 0.0]
    """
    beta, v = np.asarray(estimate, dtype=float), np.asarray(vcov, dtype=float)
    if beta.ndim != 1 or v.shape != (len(beta), len(beta)):
        raise DesignError(
            f"`estimate` has shape {beta.shape} and `vcov` {v.shape}: give K coefficients and "
            "their (K, K) covariance, both without the reference period."
        )
    if not (np.isfinite(beta).all() and np.isfinite(v).all()):
        raise DesignError(
            "`estimate` or `vcov` has values that are missing or infinite. Leave these coefficients "
            "out of both."
        )
    if (pre is None) == (event_time is None):
        raise DesignError("give either `pre` (and `post`) or `event_time`.")
    if event_time is not None:
        times = np.asarray(event_time, dtype=float) - reference - 1.0
    else:
        after = len(beta) - int(pre or 0) if post is None else post
        if pre is None or pre + after != len(beta) or min(pre, after) < 0:
            raise DesignError(
                f"`pre` {pre} and `post` {after} do not add up to the {len(beta)} coefficients; "
                "do not count the reference period."
            )
        times = np.append(np.arange(-pre - 1.0, -1.0), np.arange(after))
    if len(times) != len(beta) or (times == -1).any() or len(np.unique(times)) < len(times):
        raise DesignError(
            "`event_time` must name each coefficient once and leave the reference "
            f"({reference:g}) out: its coefficient is zero."
        )
    order = np.argsort(np.append(times, -1.0))
    wide = np.zeros((len(beta) + 1, len(beta) + 1))
    wide[:-1, :-1] = v
    frame = pd.DataFrame({
        "estimand": columns.EVENT_TIME, "outcome": outcome, "unit_of_measure": unit_of_measure,
        "event_time": np.append(times, -1.0)[order], "estimate": np.append(beta, 0.0)[order],
        "df": df,
    })  # fmt: skip
    return Estimates(frame=frame, covariance=wide[np.ix_(order, order)])


def one_comparison(est: Estimates) -> None:
    """
    Refuse estimates that mix strata, outcomes or runs.

    Raises
    ------
    DesignError
        If a key has several values.
    """
    mixed = [k for k in ("stratum", "outcome", "run") if k in est.frame
             and len(est.frame[k].unique()) > 1]  # fmt: skip
    if mixed:
        raise DesignError(
            f"the estimates mix several values of {', '.join(mixed)}, and one test over them would "
            "be of no single comparison. Select one with `where`, for example stratum=None."
        )


def event_path(
    est: Estimates, *, anticipation: int | None = None, varying: Varying = "refuse"
) -> EventPath:
    """
    Bring an event study to coefficients relative to the last period before entry.

    Parameters
    ----------
    est : Estimates
        Effects by event time with their leads, or group-time effects, which are averaged by event
        time; one outcome, stratum and run.
    anticipation : int, optional
        Periods before entry whose effect may not be zero. Default is that of the design. Estimators
        that impute report leads only within the anticipation they were fitted with: say 0 here
        to take them as leads.
    varying : {"refuse", "cumulate"}
        What to do with leads of a varying base, which compare adjacent periods: refuse, or add
        them up within cohorts to leads relative to the last period before entry. Without
        covariates and with a never-treated comparison the sum is the universal-base lead exactly.

    Returns
    -------
    EventPath

    Raises
    ------
    DesignError
        If estimates are mixed, have no leads, have gaps, or their leads have another base.
    EstimationError
        If they are a posterior, or the covariance does not have full rank.
    """
    require_estimates(est)
    one_comparison(est)
    if est.interval == "credible":
        raise EstimationError(
            "a posterior has no sampling distribution to invert a test of; give the sensitivity "
            "of the trend on estimates with influence or a covariance."
        )
    if varying not in ("refuse", "cumulate"):
        raise DesignError(f"`varying` is {varying!r}; use 'refuse' or 'cumulate'.")
    a = (
        int(est.meta.get("design", {}).get("anticipation", 0))
        if anticipation is None
        else anticipation
    )
    notes: list[str] = []
    if has_varying_base(est):
        if varying == "refuse":
            raise DesignError(
                "leads use a varying base: they compare adjacent periods, so they are not on the "
                "scale of the effects. Refit with base_period='universal', or pass "
                "varying='cumulate' to add them up."
            )
        est = cumulate(est)
        notes.append("leads of a varying base added up within cohorts")
    if set(est.frame["estimand"].dropna()) == {columns.GROUP_TIME}:
        est = est.aggregate("event_time")
    est = _by_event_time(est)
    return _relative(est, a, notes)


def _by_event_time(est: Estimates) -> Estimates:
    """Rows with an event time, sorted, each time once."""
    e = est.frame["event_time"].to_numpy(dtype=float)
    rows = np.flatnonzero(np.isfinite(e))
    if _LEAD in set(est.frame["estimand"]) and set(est.frame["estimand"].iloc[rows]) != {_LEAD}:
        raise DesignError(
            "leads of a separate regression are relative to other periods than the effects. Fit "
            "the effects with a design whose `anticipation` covers the leads, and pass "
            "anticipation=0 here: then both are relative to the same periods."
        )
    rows = rows[np.argsort(e[rows], kind="stable")]
    if not len(rows):
        raise DesignError("the estimates have no `event_time`: give an event study.")
    if len(np.unique(e[rows])) < len(rows):
        raise DesignError(
            "several estimates share an event time. Aggregate group-time effects with "
            "aggregate('event_time'), or select one estimand with `where`."
        )
    return est.where(rows)


def _relative(est: Estimates, anticipation: int, notes: list[str]) -> EventPath:
    e = est.frame["event_time"].to_numpy(dtype=float)
    live = np.isfinite(est.std_error)
    value = est.estimate
    zero = ~live & (value == 0)
    lost = (~live & ~zero) | ~np.isfinite(value)
    if lost.any():
        raise EstimationError(
            f"effects at event times {', '.join(f'{t:g}' for t in e[lost])} have no value or no "
            "standard error. Leave these event times out with `where` or `window`."
        )
    before = e < -anticipation
    if not (before & live).any():
        raise DesignError(
            "the estimates have no period before entry beside the reference, so nothing is known "
            "of trends. Add earlier periods, widen `window`, or fit with leads (ETWFE: "
            "comparison='never_treated'; Imputation: `anticipation` in the design, and "
            "anticipation=0 here)."
        )
    if not (~before).any():
        raise DesignError("the estimates have no effect at or after entry.")
    step = float(np.min(np.diff(e)))
    reference = float(e[before].max())
    contrast = np.eye(len(e))
    if not zero.any() and reference < -anticipation - step:
        reference, keep = reference + step, live
    else:
        at = int(np.flatnonzero(e == reference)[0])
        keep = np.arange(len(e)) != at
        if zero[at] and (zero & keep).any():
            raise DesignError(
                "several coefficients are zero by construction, which rules trends out instead of "
                "measuring them. Fit with one reference period."
            )
        if not zero[at]:
            _refuse_unknown(est, zero)
            contrast[:, at] -= 1.0
            notes.append(f"coefficients taken relative to event time {reference:g}")
    times = np.sort(np.append(e[keep], reference))
    gaps = np.diff(times)
    if not np.allclose(gaps, gaps[0]):
        raise DesignError(
            f"event times {', '.join(f'{t:g}' for t in times)} have gaps, and restrictions on "
            "trends compare consecutive periods. Select a run of event times with `window` or "
            "`where`."
        )
    contrast = contrast[keep]
    frame = est.frame
    path = EventPath(
        event_time=e[keep], estimate=contrast @ value, vcov=contrast @ est.vcov() @ contrast.T,
        n_pre=int((e[keep] < reference).sum()), reference=reference,
        df=float(frame["df"].to_numpy(dtype=float)[live].min()), notes=tuple(notes),
        meta={**est.meta, "cluster_name": est.cluster_name},
        **{k: _only(frame, k) for k in ("outcome", "unit_of_measure", "stratum")},
    )  # fmt: skip
    return _full_rank(path)


def _refuse_unknown(est: Estimates, zero: np.ndarray) -> None:
    """A common base may be changed; whether there is one must be known."""
    if not zero.any() and "estimator" not in est.meta:
        raise DesignError(
            "no coefficient is the reference period (zero, without an error), so what the leads "
            "are relative to is not known. Leave the reference out of the coefficients, or give "
            "it as a row of zeros; `from_numbers` does."
        )


def _only(frame: pd.DataFrame, key: str) -> str:
    values = frame[key].dropna().unique()
    return str(values[0]) if len(values) else ""


def _full_rank(path: EventPath) -> EventPath:
    sd = path.std_error
    smallest = np.linalg.eigvalsh(path.vcov / np.outer(sd, sd))
    if smallest[0] < _SINGULAR * smallest[-1]:
        rank = int((smallest > _SINGULAR * smallest[-1]).sum())
        raise EstimationError(
            f"the covariance of the {len(sd)} coefficients has rank {rank}: with so few clusters "
            "some combinations would be known without error. Narrow `window`, or cluster on a "
            "finer unit that still contains the unit of entry."
        )
    return path
