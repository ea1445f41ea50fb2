"""How much of a gap between strata arises within organizations, and how much between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.disclosure import SMALLEST_SHOWN
from vbceval.core.errors import DataError, DesignError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.estimates import Estimates
from vbceval.inference import SSC
from vbceval.moments import Moments
from vbceval.panel import Panel

ORDERS = ("average", "level", "reference")
"""Which shares weight the differences within organizations: of one stratum, or both by halves."""


def decompose(
    data: Panel | Moments,
    outcome: str,
    *,
    by: str,
    reference: str,
    periods: Sequence[float] | None = None,
    ssc: SSC | None = None,
) -> Estimates:
    """
    Split the gap in an outcome between strata into a part within and a part between organizations.

    With p the share of a stratum's weight in an organization and m its mean there, for a level d
    and the reference r: the gap ``sum p_d m_d - sum p_r m_r`` is ``sum p_d (m_d - m_r)``, within,
    weighted by where d gets care, plus ``sum (p_d - p_r) m_r``, between, because d gets care
    elsewhere; or the same with p_r and m_d in the other places. Both are given (``order`` "level"
    and "reference"), and their average (Shapley). It describes; it does not say what an effect is.

    Parameters
    ----------
    data : Panel or Moments
        Rows or cells; the cluster is the organization.
    outcome : str
        Outcome.
    by : str
        Stratum column.
    reference : str
        Level that others are compared with.
    periods : sequence of float, optional
        Periods taken together. Default: all.
    ssc : SSC, optional
        Small-sample factor. Default `SSC.cluster`, G / (G - 1).

    Returns
    -------
    Estimates
        For each other level, stratum ``"by=level - reference"``: "gap" of all; "gap_covered" of
        organizations that have both strata; "gap_within" and "gap_between", which add up to it,
        for each ``order``. ``share_covered`` and ``share_covered_reference`` are the shares of the
        two strata's weight in these organizations: elsewhere there is nothing to compare within.
        With influence, so that parts can be stacked, contrasted and tested.

    Raises
    ------
    DataError
        If a column or level is absent, a period has no row, or a stratum has 1-10 people.
    DesignError
        If no organization has both strata.

    Notes
    -----
    A weight on an organization moves shares and no mean, so the influence on the part within is
    ``p_d (m_d - m_r - within)``, and on the part between ``p_d (m_r - sum p_d m_r) - p_r (m_r - sum
    p_r m_r)``. Exact from moments. Section 9.3 of the methods.

    References
    ----------
    .. [1] Kitagawa, E. M. (1955). Components of a difference between two rates. *JASA* 50(272),
       1168-1194.
    .. [2] Shorrocks, A. F. (2013). Decomposition procedures for distributional analysis: a unified
       framework based on the Shapley value. *Journal of Economic Inequality* 11(1), 99-126.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({"aco": ["A", "A", "B", "B"], "year": 2020, "entry": np.nan,
    ...     "dual": ["yes", "no"] * 2, "people": [300.0, 100.0, 100.0, 300.0],
    ...     "spend": [14.0, 12.0, 11.0, 9.0]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry",
    ...     strata=["dual"], weight="people")
    >>> parts = vbc.equity.decompose(panel, "spend", by="dual", reference="no")
    >>> parts.frame.query("order.isna() | order == 'average'")[["estimand", "estimate"]].to_dict("list")
    ... # doctest: +NORMALIZE_WHITESPACE
    {'estimand': ['gap', 'gap_covered', 'gap_within', 'gap_between'],
     'estimate': [3.5, 3.5, 2.0, 1.5]}
    """
    moments = _cells(data, outcome, by)
    level, y, w, code, labels = _used(moments, outcome, by, periods)
    levels = [str(x) for x in pd.unique(level)]
    if reference not in levels:
        raise DataError(f"`reference` is '{reference}', but `{by}` has {listed(levels)}.")
    others = [x for x in levels if x != reference]
    if not others:
        raise DataError(
            f"`{by}` has only the reference level '{reference}', so there is no gap. Keep another "
            "level."
        )
    weights = {x: np.bincount(code, w * (level == x), len(labels)) for x in levels}
    sums = {x: np.bincount(code, w * y * (level == x), len(labels)) for x in levels}
    rows: list[dict[str, Any]] = []
    columns: list[FloatArray] = []
    for other in others:
        one = _Side(weights[other], sums[other]), _Side(weights[reference], sums[reference])
        if not (one[0].weight * one[1].weight).any():
            raise DesignError(
                f"no organization (`{moments.cluster_name}`) has both '{other}' and '{reference}' of "
                f"`{by}`, so nothing can be compared within one. Compare effects by stratum with "
                "`gaps`."
            )
        for record, psi in _parts(*one):
            name = f"{by}={other} - {reference}"
            rows.append({"outcome": outcome, "stratum": name, **record})
            columns.append(psi)
    factor = SSC.cluster() if ssc is None else ssc
    used = np.any(list(weights.values()), axis=0)
    n = int(used.sum())
    psi = np.column_stack(columns)[used]
    root = np.sqrt(factor.factor(n_clusters=max(n, 2)))
    frame = pd.DataFrame(rows).assign(n_clusters=n, df=factor.df(n))
    return Estimates(
        frame=frame, psi=psi, psi_vcov=psi * root, clusters=labels[used],
        cluster_name=moments.cluster_name,
        meta={
            "estimator": "decompose", "by": by, "reference": reference, "vcov": "CR1",
            "ssc": factor.name, "exactness": "moments", "language": "difference",
            "periods": None if periods is None else [float(t) for t in periods],
        },
    )  # fmt: skip


class _Side:
    """A stratum: its weight and mean in each organization."""

    def __init__(self, weight: FloatArray, total: FloatArray) -> None:
        self.weight = weight
        self.mean = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)

    def among(self, rows: FloatArray) -> FloatArray:
        """Return shares of the stratum's weight in some organizations."""
        part = self.weight * rows
        return np.asarray(part / part.sum())


def _parts(one: _Side, two: _Side) -> list[tuple[dict[str, Any], FloatArray]]:
    """Return the gap and its parts, each with its influence by organization."""
    every = np.ones(len(one.weight))
    both = ((one.weight > 0) & (two.weight > 0)).astype(float)
    covered = {
        "share_covered": float(one.weight @ both / one.weight.sum()),
        "share_covered_reference": float(two.weight @ both / two.weight.sum()),
    }
    found = []
    for name, rows in (("gap", every), ("gap_covered", both)):
        p, q = one.among(rows), two.among(rows)
        value, psi = _difference(p, one.mean, q, two.mean)
        found.append(({"estimand": name, "estimate": value, "order": None, **covered}, psi))
    p, q = one.among(both), two.among(both)
    delta = one.mean - two.mean
    within = {
        "level": _difference(p, delta, p, 0 * delta),
        "reference": _difference(q, delta, q, 0 * delta),
    }
    between = {"level": _difference(p, two.mean, q, two.mean),
               "reference": _difference(p, one.mean, q, one.mean)}  # fmt: skip
    for name, part in (("gap_within", within), ("gap_between", between)):
        (a, psi_a), (b, psi_b) = part["level"], part["reference"]
        part["average"] = (a + b) / 2, (psi_a + psi_b) / 2
        for order in ORDERS:
            value, psi = part[order]
            found.append(({"estimand": name, "estimate": value, "order": order, **covered}, psi))
    return found


def _difference(
    p: FloatArray, m: FloatArray, q: FloatArray, k: FloatArray
) -> tuple[float, FloatArray]:
    """Return sum p m - sum q k, and the derivative by the weight of each organization."""
    first, second = float(p @ m), float(q @ k)
    return first - second, p * (m - first) - q * (k - second)


def _cells(data: Panel | Moments, outcome: str, by: str) -> Moments:
    if isinstance(data, Moments):
        if outcome not in data.outcomes and outcome not in data.blocks:
            raise DataError(f"the moments have no outcome '{outcome}': {listed(data.outcomes)}.")
        found = data.of(outcome)
    else:
        found = Moments.from_panel(data, outcomes=[outcome])
    if by not in found.strata:
        raise DataError(
            f"`{by}` is no stratum of these data ({listed(found.strata) or 'they have none'}). Name "
            "it in `strata` where the panel or the moments are made."
        )
    return found


def _used(
    moments: Moments, outcome: str, by: str, periods: Sequence[float] | None
) -> tuple[Any, FloatArray, FloatArray, IntArray, pd.Index]:
    """Return level, outcome, weight and organization of the cells used, and the organizations."""
    when = moments.cells["period"].to_numpy(dtype=float)
    y = moments.y_mean[:, moments.column(outcome)]
    rows = np.isfinite(y) & (moments.w > 0)
    if periods is not None:
        absent = [t for t in periods if not (when == t).any()]
        if absent:
            raise DataError(f"no row is of period {listed(absent)}.")
        rows &= np.isin(when, np.asarray(periods, dtype=float))
    level = moments.cells[by].astype(str).to_numpy()
    if moments.people:
        units = moments.cells["unit"][rows].groupby(level[rows]).nunique()
        few = units.index[units < SMALLEST_SHOWN]
        if len(few):
            raise DataError(
                f"{listed(few)} of `{by}` has fewer than {SMALLEST_SHOWN} people, so its mean may "
                "not be shown. Merge it with another level."
            )
    code, labels = pd.factorize(moments.attribute("cluster")[rows], sort=True)
    return level[rows], y[rows], moments.w[rows], code, pd.Index(labels)
