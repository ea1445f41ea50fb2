"""Stacked difference-in-differences with corrective weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.design import Design
from vbceval.did.equation import Equation
from vbceval.did.event_study import event_time_equation
from vbceval.did.least_squares import Fit, Groups
from vbceval.did.regression import LeastSquares
from vbceval.did.sampled import Sample


class _Stack(NamedTuple):
    """Sub-experiments: cells of each side, in order of adoption."""

    adoptions: list[float]
    treated: list[BoolArray]
    controls: list[BoolArray]
    dropped: dict[float, str]


@dataclass(frozen=True, kw_only=True)
class Stacked(LeastSquares):
    """
    Estimate an event study on stacked sub-experiments, one for each adoption.

    A sub-experiment holds a cohort and clean comparisons (not treated until after its window), over
    one window for all. Comparison rows weigh (share of treated) / (share of comparisons) of their
    sub-experiment, without which the stack estimates no average effect. The estimand is the average
    of cohort effects by share of treated, the same cohorts at every event time.

    Exactness: ``moments``. A cluster may serve in several sub-experiments; errors add up over them.

    Parameters
    ----------
    share : {"rows", "weight", "clusters"}
        What shares count, in the reference period: rows, as the authors' code does; analysis weight,
        which makes comparisons weigh by sub-experiment as the treated do when rows are weighted; or
        clusters. They agree where every cluster has one row of one weight.
    weights_random : bool, default False
        Add the sampling error of the corrective weights.

    Notes
    -----
    The window is that of the design; without one, the widest in which every cohort is observed.
    Cohorts whose window is not inside the data, or that have no clean comparison, are left out and
    named in ``meta["dropped_cohorts"]``; the weights are in ``meta["control_weights"]``. Default
    effects are ``("treat", "event_time")``, keys that exist here beside ``"stack"``.

    References
    ----------
    .. [1] Wing, C., Freedman, S. M. and Hollingsworth, A. (2024). Stacked difference-in-differences.
       NBER Working Paper 32054. Section 4.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCD"), 3), "year": [2014, 2015, 2016] * 4,
    ...     "entry": np.repeat([2016.0, 2016.0, np.nan, np.nan], 3),
    ...     "spend": [10, 11, 10, 20, 21, 21, 30, 31, 32, 40, 41, 42]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> est = vbc.did.Stacked().fit(panel, vbc.Design(outcome="spend", window=(-2, 0)))
    >>> est.tidy()["estimate"].round(6).tolist()
    [0.0, 0.0, -1.5, -1.5]
    """

    share: Literal["rows", "weight", "clusters"] = "rows"
    weights_random: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.share not in ("rows", "weight", "clusters"):
            raise DesignError(f"`share` is {self.share!r}; use 'rows', 'weight' or 'clusters'.")

    def equation(self, sample: Sample, design: Design, n_clusters: int) -> Equation:
        """Return the weighted regression on the stack."""
        window = design.window or _widest(sample, design)
        reference = -1 - design.anticipation
        if not window[0] <= reference or window[1] < 0:
            raise DesignError(
                f"`window` {window} must reach from event time {reference} or earlier, the "
                "reference, to 0 or later."
            )
        stack = _sub_experiments(sample, design, window)
        sizes = self._sizes(sample, stack, reference, n_clusters)
        treated, controls = sizes.sum(axis=2)
        weights = (treated / treated.sum()) / (controls / controls.sum())
        rows, treat, which = [], [], []
        for i in range(len(stack.adoptions)):
            for side, cells in ((1, stack.treated[i]), (0, stack.controls[i])):
                found = np.flatnonzero(cells)
                rows.append(found)
                treat.append(np.full(len(found), side))
                which.append(np.full(len(found), i))
        on, code = np.concatenate(treat) == 1, np.concatenate(which)
        stacked = sample.take(np.concatenate(rows))
        stacked = stacked.reweighted(np.where(on, 1.0, weights[code]))
        adoption = np.array(stack.adoptions)[code]
        e = stacked.period - adoption
        stacked = stacked.with_key("treat", on.astype(float), "treat")
        stacked = stacked.with_key("event_time", e, "event time")
        stacked = stacked.with_key("stack", adoption, "stack")
        made = event_time_equation(
            stacked, np.where(on, e, np.nan), [reference], window, effects=("treat", "event_time")
        )
        estimated = StackWeights(np.where(on, -1, code), sizes) if self.weights_random else None
        said: dict[str, Any] = {
            "window": window,
            "control_weights": dict(zip(stack.adoptions, weights.tolist(), strict=True)),
            "dropped_cohorts": stack.dropped,
            "rows_in_stack": int(stacked.cells.n.sum()),
        }
        return made._replace(estimated=estimated, meta={**made.meta, **said})

    def _sizes(self, sample: Sample, stack: _Stack, reference: int, n_clusters: int) -> FloatArray:
        """Size of every cluster, treated and comparison: shape (2, sub-experiments, G)."""
        out = np.zeros((2, len(stack.adoptions), n_clusters))
        cluster = sample.cells.block.cluster
        counted = sample.cells.block.w if self.share == "weight" else sample.cells.n
        for i, adoption in enumerate(stack.adoptions):
            at = sample.period == adoption + reference
            for side, cells in enumerate((stack.treated[i], stack.controls[i])):
                here = cells & at
                size = np.bincount(cluster[here], weights=counted[here], minlength=n_clusters)
                out[side, i] = size > 0 if self.share == "clusters" else size
        return out


class StackWeights(NamedTuple):
    """
    Influence through the corrective weights.

    Parameters
    ----------
    codes : int array, shape (K,)
        Sub-experiment of comparison cells; -1 is treated.
    sizes : array, shape (2, a, G)
        Size of every cluster, treated and comparison.
    """

    codes: IntArray
    sizes: FloatArray

    def influence(self, fit: Fit, outcome: int, contrast: FloatArray) -> FloatArray:
        """Return influence, shape (G, r): weights move the comparisons' scores."""
        treated, controls = self.sizes
        moved = _log_share(treated) - _log_share(
            controls
        )  # derivative of the log weight of each sub-experiment by cluster, (a, G)
        groups = np.where(self.codes < 0, len(treated), self.codes)
        by_stack = fit.influence(outcome, fit.inverse @ contrast, Groups(groups, len(treated) + 1))
        return np.asarray(moved.T @ by_stack[: len(treated)])


def _log_share(sizes: FloatArray) -> FloatArray:
    """Derivative of log(size of each row / all) by the weight of each cluster, shape (a, G)."""
    return sizes / sizes.sum(axis=1, keepdims=True) - sizes.sum(axis=0) / sizes.sum()


def _widest(sample: Sample, design: Design) -> tuple[int, int]:
    """Return the widest window in which every cohort with a base period is observed."""
    cohorts = np.unique(sample.cohort[np.isfinite(sample.cohort)])
    first, last = float(sample.periods[0]), float(sample.periods[-1])
    usable = cohorts[(cohorts - design.anticipation > first) & (cohorts <= last)]
    if not len(usable):
        raise DesignError(
            "no cohort is observed both before and after entry: check the coding of cohorts."
        )
    return int(first - usable.min()), int(last - usable.max())


def _sub_experiments(sample: Sample, design: Design, window: tuple[int, int]) -> _Stack:
    """Choose cohorts whose window is observed, and their clean comparisons."""
    first, last = float(sample.periods[0]), float(sample.periods[-1])
    never = np.isnan(sample.cohort)
    stack = _Stack([], [], [], {})
    for a in np.unique(sample.cohort[~never]):
        adoption = float(a)
        if adoption + window[0] < first or adoption + window[1] > last:
            stack.dropped[adoption] = "its window is not inside the data"
            continue
        inside = (sample.period >= adoption + window[0]) & (sample.period <= adoption + window[1])
        clean = never.copy()
        if design.comparison == "not_yet_treated":
            clean |= sample.cohort - design.anticipation > adoption + window[1]
        reference = sample.period == adoption - 1 - design.anticipation
        treated, controls = inside & (sample.cohort == adoption), inside & clean
        missing = [
            name for name, cells in (("treated", treated), ("clean comparison", controls))
            if not (cells & reference).any()
        ]  # fmt: skip
        if missing:
            stack.dropped[adoption] = f"no {' or '.join(missing)} in its reference period"
            continue
        stack.adoptions.append(adoption)
        stack.treated.append(treated)
        stack.controls.append(controls)
    if not stack.adoptions:
        reasons = listed(f"cohort {g:g}: {why}" for g, why in stack.dropped.items())
        raise DesignError(
            f"no sub-experiment can be formed with `window` {window}: {reasons or 'no cohort'}. "
            "Narrow the window."
        )
    return stack
