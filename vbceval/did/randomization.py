"""Randomization inference: the law of a statistic over assignments that could have been drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.groups import in_order
from vbceval.core.progress import counting
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray, IntArray
from vbceval.design import Design
from vbceval.did.inputs import as_moments
from vbceval.estimates import Estimates, columns
from vbceval.inference import Randomization
from vbceval.inference.assignments import (
    all_orders,
    block_codes,
    drawn_orders,
    number_of_orders,
)
from vbceval.inference.wild import bound
from vbceval.moments import Moments
from vbceval.panel import Panel

_TREATED = "treated (actual)"
_TIE = 1e-10


class _Reading(NamedTuple):
    """Statistics of one assignment as functions of a constant effect r, each shape (k,)."""

    value: FloatArray
    slope: FloatArray
    square: FloatArray
    cross: FloatArray
    slope_square: FloatArray

    def statistic(self, r: FloatArray | float, row: int, *, studentised: bool) -> FloatArray:
        """Return |estimate| or |t| of the outcome less r on treated cells."""
        size = np.abs(self.value[row] - r * self.slope[row])
        if not studentised:
            return np.asarray(size)
        variance = self.square[row] - 2 * r * self.cross[row] + r**2 * self.slope_square[row]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = size / np.sqrt(np.maximum(variance, 0.0))
        return np.asarray(np.nan_to_num(t, posinf=np.inf))


def randomization_test(
    fit: Callable[[Moments, Design], Estimates],
    data: Panel | Moments,
    design: Design,
    *,
    law: Randomization | None = None,
) -> Estimates:
    """
    Test effects by the law of the statistic over assignments, and invert the test.

    Entry (and exit) dates change places among clusters, within blocks; the whole analysis runs for
    each assignment, on the outcome and on treatment as it was, so that the test of any constant
    effect needs no further run.

    Parameters
    ----------
    fit : callable
        ``fit(moments, design)`` of an estimator that is linear in the outcome, with influence by
        cluster, for example ``lambda m, d: GroupTime().fit(m, d).aggregate("simple")``.
    data : Panel or Moments
        As observed.
    design : Design
        Passed on; balance weights stay with their clusters.
    law : Randomization, optional
        Options.

    Returns
    -------
    Estimates
        Those of `fit`, with columns ``randomization_p_value``, ``randomization_low``,
        ``randomization_high``, ``randomization_level``. `tidy` shows this test in ``p_value``, and
        its interval at its own level. ``meta["randomization"]`` says how many assignments there
        are, and how many were used.

    Raises
    ------
    DesignError
        If blocks are not known, or there are so few assignments that no p-value can be below
        1 - level.
    EstimationError
        If an assignment gives other rows or cannot be estimated.

    Notes
    -----
    A block in which all clusters enter together, or none does, carries no information. Cost: two
    fits an assignment.
    """
    law = law or Randomization()
    moments = _with_treatment(as_moments(data, design), design)
    labels, entry = _assignment(moments)
    rows = data.frame if isinstance(data, Panel) else None
    block = block_codes(law.blocks, labels, rows, data.cluster if isinstance(data, Panel) else "")
    total = number_of_orders(entry.codes, block)
    if law.too_few(total):
        raise DesignError(
            f"there {'is' if total == 1 else 'are'} only {total:,} "
            f"assignment{'' if total == 1 else 's'}, so the smallest possible p-value is "
            f"{1 / total:.2g} and an interval of level {law.level:g} does not exist. Merge blocks, "
            "or use a method that rests on a model of the errors (a regression with "
            "vcov='ferman-pinto')."
        )
    observed = fit(moments, design)
    first = _read(observed, fit(moments, _effect(design)))
    enumerated = total <= law.draws
    orders = (
        all_orders(entry.codes, block)
        if enumerated
        else drawn_orders(block, law.draws, generator(law.seed, "randomization"))
    )
    readings = []
    with counting("assignments", total if enumerated else law.draws) as done:
        for order in orders:
            moved = replace(moments, units=_moved(moments.units, labels, entry, order))
            one = _same_rows(fit(moved, design), observed)
            readings.append(_read(one, _same_rows(fit(moved, _effect(design)), observed)))
            done()
    drawn = _Reading(*(np.stack(part, axis=1) for part in zip(*readings, strict=True)))
    return _reported(observed, first, drawn, law, total, enumerated)


def with_randomization[Fit: Callable[..., Estimates]](fit: Fit) -> Fit:
    """
    Let a method ``fit(self, data, design, vcov=...)`` take ``vcov="randomization"``.

    Errors and influence are those of "CR1"; `randomization_test` adds its columns.

    Parameters
    ----------
    fit : callable
        Method of an estimator that is linear in the outcome.
    """

    @wraps(fit)
    def fitted(self: Any, data: Any, design: Design, **options: Any) -> Estimates:
        law = options.get("vcov")
        if law != "randomization" and not isinstance(law, Randomization):
            return fit(self, data, design, **options)
        if options.get("outcomes") is not None:
            raise DesignError(
                "vcov='randomization' is for one outcome at a time: leave `outcomes` out."
            )
        if getattr(self, "dose", None) is not None:
            raise DesignError(
                f"entry dates change places among clusters, and treatment is read from `{self.dose}`, "
                "which would not move. Use cohorts, or vcov='wild'."
            )
        given = {**options, "vcov": "CR1"}
        return randomization_test(
            lambda moments, of: fit(self, moments, of, **given), data, design,
            law=law if isinstance(law, Randomization) else None,
        )  # fmt: skip

    return cast(Fit, fitted)


def _reported(
    observed: Estimates,
    first: _Reading,
    drawn: _Reading,
    law: Randomization,
    total: int,
    enumerated: bool,
) -> Estimates:
    """Add p-values and intervals of each row."""
    studentised = law.statistic == "t"
    alpha = 1 - law.level + _TIE  # 1 - 0.9 is a little below 0.1
    known: dict[str, list[float]] = {"p_value": [], "low": [], "high": []}
    for row, error in enumerate(observed.std_error):
        if not np.isfinite(error):
            for values in known.values():
                values.append(np.nan)
            continue

        def p_value(r: float, row: int = row) -> float:
            own = float(first.statistic(r, row, studentised=studentised))
            others = drawn.statistic(r, row, studentised=studentised)
            reached = int(np.sum(others >= own * (1 - _TIE)))
            # a list of all assignments has the observed one in it
            return reached / len(others) if enumerated else (1 + reached) / (1 + len(others))

        centre = float(first.value[row])
        known["p_value"].append(p_value(0.0))
        # with few treated clusters the error is far below what assignments show
        shown = float(np.sqrt(np.mean((drawn.value[row] - centre * drawn.slope[row]) ** 2)))
        for name, sign in (("low", -1.0), ("high", 1.0)):
            end = bound(p_value, centre, sign * float(error), alpha)
            if np.isinf(end) and shown > error:
                end = bound(p_value, centre, sign * shown, alpha)
            known[name].append(end)
    frame = observed.frame.assign(**{f"randomization_{k}": v for k, v in known.items()})
    frame["randomization_level"] = frame["randomization_p_value"].where(
        frame["randomization_p_value"].isna(), law.level
    )
    said = {
        "assignments": total, "used": drawn.value.shape[1], "enumerated": enumerated,
        "statistic": law.statistic, "seed": law.seed, "blocks": law.blocks is not None,
    }  # fmt: skip
    meta = {**observed.meta, "randomization": said}
    meta["vcov"] = ", ".join([*filter(None, [meta.get("vcov")]), "randomization inference"])
    return replace(observed, frame=frame, meta=meta)


def _with_treatment(moments: Moments, design: Design) -> Moments:
    """Return the moments with treatment as it was as a second outcome."""
    y = moments.y_mean[:, [moments.column(design.outcome)]]
    cohort = moments.attribute("cohort").to_numpy(dtype=float)
    period = moments.cells["period"].to_numpy(dtype=float)
    on = period >= np.where(np.isnan(cohort), np.inf, cohort)
    left = moments.attribute("exit").to_numpy(dtype=float)
    on &= ~(period > np.where(np.isnan(left), np.inf, left))
    treated = np.where(np.isnan(y[:, 0]), np.nan, on.astype(float))[:, None]
    j = [moments.column(design.outcome)]
    none = np.zeros((len(moments), 1))
    return replace(
        moments, outcomes=(design.outcome, _TREATED), y_mean=np.concatenate([y, treated], axis=1),
        xy=None if moments.xy is None
        else np.concatenate([moments.xy[:, :, j], np.zeros_like(moments.xy[:, :, j])], axis=2),
        yy=None if moments.yy is None else np.concatenate([moments.yy[:, j], none], axis=1),
        sums=None, blocks={},
    )  # fmt: skip


def _effect(design: Design) -> Design:
    return replace(design, outcome=_TREATED)


class _Entry(NamedTuple):
    """What each cluster was given: a code, and cohort and exit of each code."""

    codes: IntArray
    values: pd.DataFrame


def _assignment(moments: Moments) -> tuple[pd.Index, _Entry]:
    """Return cluster labels and what each was given."""
    table = moments.units.drop_duplicates(["cluster", "cohort", "exit"])
    several = int(table["cluster"].duplicated().sum())
    if several:
        raise DesignError(
            f"{several:,} clusters hold units that enter at different times, so entry was not "
            "assigned to clusters and they cannot change places. Cluster on what was assigned."
        )
    given = table.set_index("cluster")[["cohort", "exit"]]
    given = given.loc[in_order(given.index)]
    values = given.drop_duplicates().reset_index(drop=True)
    keys = pd.MultiIndex.from_frame(values.fillna(np.inf))
    codes = keys.get_indexer(pd.MultiIndex.from_frame(given.fillna(np.inf)))
    return given.index, _Entry(codes.astype(np.int64), values)


def _moved(units: pd.DataFrame, labels: pd.Index, entry: _Entry, order: IntArray) -> pd.DataFrame:
    """Return units with the entry and exit that their cluster was given."""
    given = entry.values.iloc[entry.codes[order]].set_axis(labels)
    return units.assign(
        cohort=units["cluster"].map(given["cohort"]), exit=units["cluster"].map(given["exit"])
    )


def _read(outcome: Estimates, treatment: Estimates) -> _Reading:
    """Return what the statistic needs for any constant effect."""
    if outcome.psi_vcov is None or treatment.psi_vcov is None:
        raise EstimationError(
            "randomization inference studentises by influence, and these estimates have none. Use "
            "a covariance by cluster in `fit`."
        )
    y, d = outcome.psi_vcov, treatment.psi_vcov
    return _Reading(
        outcome.estimate, treatment.estimate,
        (y * y).sum(axis=0), (y * d).sum(axis=0), (d * d).sum(axis=0),
    )  # fmt: skip


def _same_rows(run: Estimates, observed: Estimates) -> Estimates:
    keys = [k for k in columns.KEYS if k != "outcome"]
    if not run.frame[keys].astype(object).equals(observed.frame[keys].astype(object)):
        raise EstimationError(
            f"under another assignment the estimates have {len(run)} rows instead of "
            f"{len(observed)}, or others, so there is no law of each. Let `fit` return an aggregate "
            "that every assignment has."
        )
    return run
