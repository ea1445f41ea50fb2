"""Weights with which a two-way fixed effects coefficient adds up the effects of treated cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.design import Design
from vbceval.moments import Moments
from vbceval.panel import Panel
from vbceval.sensitivity.two_by_two import refuse_small_cohorts

_NOTHING = 1e-12


@dataclass(frozen=True, kw_only=True)
class TreatmentWeights:
    """
    What a two-way fixed effects coefficient weighs, and how far effects must differ to mislead it.

    Parameters
    ----------
    cells : DataFrame
        One row a cohort and period that is treated: ``cohort, period, event_time, weight`` (they
        add up to 1) and ``share`` of treated weight, which an average effect would give.
    estimate : float
        The coefficient.
    positive, negative : float
        Sums of positive and of negative weights.
    n_positive, n_negative : int
        Numbers of cells with them.
    zero_effect_sd : float
        Smallest standard deviation of effects over treated cells with which the average effect may
        be zero although the coefficient is what it is.
    opposite_sign_sd : float
        Smallest standard deviation with which every effect may have the sign opposite to the
        coefficient; infinite when no weight is negative.
    event_time_correlation : float
        Correlation of weights with event time over treated cells; missing when one is constant.
    """

    cells: pd.DataFrame
    estimate: float
    positive: float
    negative: float
    n_positive: int
    n_negative: int
    zero_effect_sd: float
    opposite_sign_sd: float
    event_time_correlation: float


def twfe_weights(
    data: Panel | Moments, design: Design, *, level: Literal["unit", "cohort"] = "unit"
) -> TreatmentWeights:
    """
    Return the weights of treated cells in the two-way fixed effects coefficient.

    Parameters
    ----------
    data : Panel or Moments
        Balanced or not; without strata.
    design : Design
        Outcome, and covariates that enter linearly.
    level : {"unit", "cohort"}
        Cells whose weights are counted and whose effects may differ: units by period (as in R
        TwoWayFEWeights with the unit as group), or cohorts by period.

    Returns
    -------
    TreatmentWeights
        Cost O(rows (covariates + 1) + periods^3).

    Raises
    ------
    DesignError
        If treatment is spanned by unit and period effects and covariates, or units are people and
        a cohort has fewer than 11.

    References
    ----------
    .. [1] de Chaisemartin, C. and D'Haultfœuille, X. (2020). Two-way fixed effects estimators with
       heterogeneous treatment effects. *American Economic Review* 110(9), 2964-2996. Theorem 1 and
       corollary 1.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("AB"), 3), "year": [1, 2, 3] * 2,
    ...     "entry": np.repeat([2.0, 3.0], 3), "spend": [0.0, 1, 4, 0, 0, 1]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> found = vbc.sensitivity.twfe_weights(panel, vbc.Design(outcome="spend"))
    >>> found.cells[["cohort", "period", "weight"]].round(3).values.tolist()
    [[2.0, 2.0, 1.0], [2.0, 3.0, -0.5], [3.0, 3.0, 0.5]]
    """
    if level not in ("unit", "cohort"):
        raise DesignError(f"`level` is '{level}'; use 'unit' or 'cohort'.")
    moments = (
        Moments.from_panel(data, outcomes=[design.outcome], covariates=design.covariates)
        if isinstance(data, Panel)
        else data.of(design.outcome)
    )
    if moments.strata or design.anticipation or design.window is not None:
        raise DesignError(
            "weights are defined for one regression on all cells: drop strata, and leave "
            "`anticipation` and `window` at their defaults."
        )
    refuse_small_cohorts(moments)
    y = moments.y_mean[:, moments.column(design.outcome)]
    used = np.isfinite(y)
    moments, y = moments.take(used), y[used]
    w = moments.w * design.weights_for(moments.attribute("cluster"))
    period = moments.cells["period"].to_numpy(dtype=float)
    cohort = moments.attribute("cohort").to_numpy(dtype=float)
    treated = period >= np.where(np.isnan(cohort), np.inf, cohort)
    x = moments.x_mean[:, moments.covariate_positions(design.covariates)]
    inside = moments.xx
    if inside is not None and x.shape[1]:
        raise DesignError(
            "these cells are sums of rows with covariates inside; give the panel of rows, or leave "
            "out `covariates`."
        )
    unit = pd.factorize(moments.cells["unit"])[0].astype(np.int64)
    residual = _residual(treated.astype(float), x, w, unit, pd.factorize(period)[0])
    total = float(w @ (residual * treated))
    if total <= _NOTHING * float(w @ treated):
        raise DesignError(
            "unit and period effects and covariates span treatment, so there is no coefficient. "
            "Units must enter at different times, or some never."
        )
    frame = pd.DataFrame({
        "unit": unit, "cohort": cohort, "period": period,
        "weight": w * residual / total, "share": w / float(w @ treated),
    })[treated]  # fmt: skip
    cells = frame.groupby(["cohort", "period"], as_index=False)[["weight", "share"]].sum()
    cells.insert(2, "event_time", cells["period"] - cells["cohort"])
    # units are seen once in a period; sums of rows may be seen more often
    keys = ["unit", "cohort", "period"]
    counted = cells if level == "cohort" else frame.groupby(keys, as_index=False).sum()
    weight = counted["weight"].to_numpy(dtype=float)
    estimate = float(w @ (residual * y)) / total
    zero, opposite = _breakdown(estimate, weight, counted["share"].to_numpy(dtype=float))
    return TreatmentWeights(
        cells=cells, estimate=estimate,
        positive=float(weight[weight > 0].sum()), negative=float(weight[weight < 0].sum()),
        n_positive=int((weight > _NOTHING).sum()), n_negative=int((weight < -_NOTHING).sum()),
        zero_effect_sd=zero, opposite_sign_sd=opposite,
        event_time_correlation=_correlation(counted),
    )  # fmt: skip


def _residual(
    treated: FloatArray, x: FloatArray, w: FloatArray, unit: IntArray, period: IntArray
) -> FloatArray:
    """Take unit and period effects and covariates out of treatment, shape (n,)."""
    columns = np.column_stack([np.eye(int(period.max()) + 1)[period], x, treated])
    sums = np.stack([np.bincount(unit, weights=w * c) for c in columns.T], axis=1)
    columns = columns - (sums / np.bincount(unit, weights=w)[:, None])[unit]
    root = np.sqrt(w)[:, None]
    slope = np.linalg.lstsq(root * columns[:, :-1], root[:, 0] * columns[:, -1], rcond=None)[0]
    return np.asarray(columns[:, -1] - columns[:, :-1] @ slope)


def _breakdown(estimate: float, weight: FloatArray, share: FloatArray) -> tuple[float, float]:
    """Return the two standard deviations of corollary 1."""
    relative = weight / share
    spread = float(np.sqrt(share @ (relative - 1) ** 2))
    zero = abs(estimate) / spread if spread > _NOTHING else np.inf
    if not (relative < -_NOTHING).any():
        return zero, np.inf
    order = np.argsort(-relative, kind="stable")
    r, s = relative[order], share[order]
    # sums over a cell and all with smaller weights
    part, mass, square = (np.cumsum(v[::-1])[::-1] for v in (s * r, s, s * r * r))
    rest = 1 - mass
    # the first sum is over all cells, which leaves nothing
    able = np.flatnonzero(rest > _NOTHING)
    first = able[r[able] < -part[able] / rest[able]][0]
    return zero, abs(estimate) / float(np.sqrt(square[first] + part[first] ** 2 / rest[first]))


def _correlation(cells: pd.DataFrame) -> float:
    e = (cells["period"] - cells["cohort"]).to_numpy(dtype=float)
    share = cells["share"].to_numpy(dtype=float)
    relative = cells["weight"].to_numpy(dtype=float) / share
    law = np.cov(e, relative, aweights=share, ddof=0)
    scale = float(np.sqrt(law[0, 0] * law[1, 1]))
    return float(law[0, 1] / scale) if scale > _NOTHING else np.nan
