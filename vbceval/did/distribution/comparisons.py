"""Estimate one comparison of distributions: covariates taken out, influence of rows, redraws."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from vbceval.core.disclosure import SMALLEST_SHOWN
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import FloatArray
from vbceval.design import GroupTimePair
from vbceval.did.distribution.changes import (
    Effects,
    Four,
    Method,
    Ties,
    changes_in_changes,
    check_support,
    cic_influence,
    qdid_influence,
    quantile_did,
)
from vbceval.did.distribution.observations import Compared, adjustment
from vbceval.inference import sum_by_cluster

_GROUPS = (
    "comparison rows in the base period", "comparison rows", "treated rows before entry",
    "treated rows",
)  # fmt: skip
"""Groups of a comparison, in the order of `Four`."""


class Rule(NamedTuple):
    """How comparisons are estimated: options of the estimator that the arrays need."""

    method: Method
    q: FloatArray
    ties: Ties
    quantile_type: Literal["inverse", "linear"] | None
    most_outside: float


def estimate(compared: Compared, rule: Rule, where: str) -> tuple[Effects, FloatArray]:
    """
    Estimate one comparison.

    Parameters
    ----------
    compared : Compared
        n rows.
    rule : Rule
        Options, with k - 1 probabilities.
    where : str
        How messages name the comparison.

    Returns
    -------
    Effects, array of shape (n, k)
        Effects, and the influence of each row on them, estimated coefficients of covariates counted.

    Raises
    ------
    EstimationError
        If treated outcomes lie outside those of the comparison group, covariates are collinear, or
        quantiles cannot be interpolated.
    """
    if not compared.rows.x.shape[1]:
        return _with_influence(compared, rule, where)
    fitted = adjustment(compared)
    effects, psi = _with_influence(_without(compared, fitted.beta), rule, where)
    rows = compared.rows
    sums = sum_by_cluster(fitted.score, rows.cluster, int(rows.cluster.max()) + 1)
    steps = np.sqrt(np.sum(sums**2, axis=0))
    slopes = []
    for step in np.diag(steps):
        if not step.any():
            # known without error, so that it moves nothing
            slopes.append(np.zeros(len(effects.value)))
            continue
        up, down = (_value(_without(compared, fitted.beta + s * step), rule) for s in (1.0, -1.0))
        slopes.append((up - down) / (2 * step.sum()))
    return effects, psi + fitted.score @ np.array(slopes)


def redraw(compared: Compared, rule: Rule, times: FloatArray, where: str) -> FloatArray:
    """
    Return effects, shape (k,), with each cluster taken a number of times.

    Parameters
    ----------
    compared : Compared
        Rows.
    rule : Rule
        Options.
    times : array, shape (G,)
        How often each cluster is taken.
    where : str
        How messages name the comparison.

    Raises
    ------
    EstimationError
        If the sample has none of the rows of a group, or covariates are collinear in it.
    """
    rows, group = compared
    n = times[rows.cluster].astype(np.int64)
    again = Compared(rows.take(np.repeat(np.arange(len(n)), n)), np.repeat(group, n))
    why = ""
    empty = np.flatnonzero(np.bincount(again.group, minlength=4) == 0)
    if len(empty):
        why = f"it has no {' and no '.join(_GROUPS[g] for g in empty)}"
    elif rows.x.shape[1]:
        try:
            again = _without(again, adjustment(again).beta)
        except EstimationError as error:
            why = str(error)
    if why:
        raise EstimationError(
            f"{where}: a bootstrap sample of clusters cannot be estimated: {why.rstrip('.')}. Too few "
            "clusters hold what it lacks. Use draws=0, errors from the influence."
        )
    return _value(again, rule)


def _without(compared: Compared, beta: FloatArray) -> Compared:
    """Take covariates out of outcomes."""
    rows = compared.rows
    return compared._replace(rows=rows._replace(y=rows.y - rows.x @ beta))


def _value(compared: Compared, rule: Rule) -> FloatArray:
    return _effects(compared, compared.laws()[0], rule).value


def _effects(compared: Compared, four: Four, rule: Rule) -> Effects:
    if rule.method == "cic":
        return changes_in_changes(four, rule.q, rule.ties)
    return quantile_did(four, rule.q, linear_quantiles=_linear(compared, rule))


def _with_influence(compared: Compared, rule: Rule, where: str) -> tuple[Effects, FloatArray]:
    """Effects of rows as they are, and the influence of each."""
    four, codes = compared.laws()
    if rule.method == "cic":
        check_support(four, rule.most_outside, where)
        made = cic_influence(four, rule.q, rule.ties)
    else:
        made = qdid_influence(four, rule.q)
    rows, group = compared
    means = np.array([law.expectation for law in four])
    total = np.array([law.mass.sum() for law in four])
    psi = made.parts[group, codes] + (rows.y - means[group])[:, None] * made.linear[group]
    return _effects(compared, four, rule), psi * (rows.w / total[group])[:, None]


def _linear(compared: Compared, rule: Rule) -> bool:
    """Whether quantiles are interpolated."""
    rows, group = compared
    plain = rows.bins is None and all(
        np.ptp(rows.w[group == g]) <= 1e-12 * rows.w.max() for g in range(4)
    )
    if rule.quantile_type == "linear" and not plain:
        raise EstimationError(
            "quantile_type='linear' interpolates between rows that weigh the same, and these are "
            "weighted or in bins. Use quantile_type='inverse'."
        )
    return plain and rule.quantile_type != "inverse"


def refuse_empty(
    compared: list[tuple[GroupTimePair, Compared]], within: str, *, never_only: bool
) -> None:
    """
    Raise DesignError that lists comparisons in which treated rows have no counterpart.

    Parameters
    ----------
    compared : list of (GroupTimePair, Compared)
        Comparisons.
    within : str
        How messages name the stratum.
    never_only : bool
        Whether the comparison is with the never treated, so that there is a wider one.
    """
    lines = []
    for pair, rows in compared:
        counts = np.bincount(rows.group, minlength=4)
        if not counts[3]:
            continue
        missing = [name for name, n in zip(_GROUPS, counts, strict=True) if not n]
        if missing:
            lines.append(
                f"\n  {within}cohort {pair.cohort:g} at period {pair.period:g}: no "
                f"{' and no '.join(missing)}"
            )
    if lines:
        raise DesignError(
            f"{len(lines)} of {len(compared)} comparisons have an empty side:{''.join(lines)}\n"
            "To go on, end `window` earlier, or leave out these periods"
            f"{", or use comparison='not_yet_treated'" if never_only else ''}."
        )


def refuse_few_people(compared: Compared, where: str) -> None:
    """Raise DesignError where a quantile would be the outcome of one of a few people."""
    rows, group = compared
    # units of bins are clusters, and their people are not told apart: rows are counted
    least = min(
        float(rows.n[group == g].sum()) if rows.bins is not None
        else len(np.unique(rows.unit[group == g]))
        for g in np.unique(group)
    )  # fmt: skip
    if least < SMALLEST_SHOWN:
        raise DesignError(
            f"{where}: a group of the comparison has fewer than {SMALLEST_SHOWN} people, and a "
            "quantile of so few is the outcome of one of them. Use quantiles=(), merge cohorts or "
            "strata, or say people=False in the panel where units are organizations."
        )
