"""Effects on patients who are not attributed, and on all residents of a market."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from vbceval.balance import BalanceWeights
from vbceval.core.checks import listed
from vbceval.core.disclosure import SMALLEST_SHOWN
from vbceval.core.errors import DataError, DesignError, EstimationError
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.design import Design
from vbceval.estimates import Estimates, stack
from vbceval.inference import SSC
from vbceval.moments import Moments
from vbceval.panel import Panel
from vbceval.sensitivity.smooth import (
    common_stratum,
    keys_of,
    places,
    require_influence,
    require_same_rows,
    require_shares,
    smooth,
    values_and_rows,
)


def spillover(
    attributed: Estimates,
    non_attributed: Estimates,
    *,
    shares: float | Sequence[float] | Estimates,
) -> Estimates:
    """
    Set the effect on people who are not attributed beside the effect on those who are.

    A provider treats patients of several payers in one way, and attribution covers part of its
    patients. With s the attributed share of person-years, the effect on all patients, which is the
    intention to treat of the market, is ``s * attributed + (1 - s) * non_attributed``.

    Parameters
    ----------
    attributed, non_attributed : Estimates
        The same rows, each population against its own comparison, with influence on the same
        clusters (organizations or markets). Two strata of one fit are such a pair.
    shares : float, sequence or Estimates
        Attributed share of person-years: one for all rows, or one a row. Numbers are taken as
        fixed. Estimates (see `attributed_share`) add their sampling error and its covariance with
        the effects.

    Returns
    -------
    Estimates
        Four blocks of rows, column ``population``, in the unit of the effects per person-year:
        "attributed"; "non_attributed", estimand prefixed by ``spillover_``; "all", prefixed by
        ``total_``, with the share in column ``share``; and "attributed - non_attributed", prefixed
        by ``difference_``. ``meta["shares"]`` is "fixed" or "estimated".

    Raises
    ------
    DesignError
        If rows, units or several strata differ, a share is not between 0 and 1, or shares are of
        other cohorts, periods or event times than their rows.
    EstimationError
        If influence is missing or on other clusters.

    Notes
    -----
    The influence on the total is ``s psi_a + (1 - s) psi_n + (attributed - non_attributed) psi_s``.
    The rows are, in this order, the total, indirect, overall and direct effects of [1]_. The overall
    effect equals a fit on all residents where shares are the same in every cluster and period;
    otherwise that fit also holds changes in the mix. An effect on those who are not attributed can
    also be a trend of the market that comparison markets do not share: test it before entry as well.

    References
    ----------
    .. [1] Hudgens, M. G. and Halloran, M. E. (2008). Toward causal inference with interference.
       *JASA* 103(482), 832-842. Section 2.
    .. [2] McWilliams, J. M., Landon, B. E. and Chernew, M. E. (2013). Changes in health care
       spending and quality for Medicare beneficiaries associated with a commercial ACO contract.
       *JAMA* 310(8), 829-836.
    .. [3] Einav, L., Finkelstein, A., Ji, Y. and Mahoney, N. (2020). Randomized trial shows
       healthcare payment reform has equal-sized spillover effects on patients not targeted by
       reform. *PNAS* 117(32), 18939-18947.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> def effect(value, psi):
    ...     frame = pd.DataFrame({"estimand": ["att_simple"], "outcome": ["spend"],
    ...                           "estimate": [value]})
    ...     return vbc.Estimates(frame=frame, psi=np.array(psi)[:, None],
    ...                          clusters=pd.Index(["A", "B", "C"]))
    >>> both = vbc.sensitivity.spillover(effect(-100.0, [30.0, -20, -10]),
    ...     effect(-40.0, [10.0, -20, 10]), shares=0.25)
    >>> both.tidy()[["population", "estimate", "std_error"]].round(1).values.tolist()
    ... # doctest: +NORMALIZE_WHITESPACE
    [['attributed', -100.0, 37.4], ['non_attributed', -40.0, 24.5], ['all', -55.0, 25.5],
     ['attributed - non_attributed', -60.0, 28.3]]
    """
    require_influence(attributed, "attributed")
    require_influence(non_attributed, "non_attributed")
    names = ("attributed", "non_attributed")
    require_same_rows(attributed, non_attributed, names, but=("stratum",))
    k = len(attributed)
    s, estimated = values_and_rows(shares, k, "shares")
    require_shares(s, "shares")
    a, n = attributed.estimate, non_attributed.estimate
    eye, zero = np.eye(k), np.zeros((k, k))
    total = np.concatenate([np.diag(s), np.diag(1 - s)], axis=1)
    gradient = np.block([[eye, zero], [zero, eye], [total], [eye, -eye]])
    parts = [attributed, non_attributed]
    if estimated is not None:
        require_influence(estimated, "shares")
        parts.append(estimated)
        through = np.zeros((4 * k, len(estimated)))
        through[2 * k : 3 * k] = (a - n)[:, None] * places(estimated, attributed, "shares")
        gradient = np.concatenate([gradient, through], axis=1)
    joint = stack(parts)
    estimand = np.array(attributed.frame["estimand"], dtype=object)
    populations = (*names, "all", "attributed - non_attributed")
    columns = {
        "estimand": np.concatenate([p + estimand for p in ("", "spillover_", "total_", "difference_")]),
        **{key: np.tile(values, 4) for key, values in keys_of(attributed).items()},
        "stratum": np.concatenate([
            *(e.frame["stratum"].astype(object) for e in parts[:2]),
            *[common_stratum(attributed, non_attributed)] * 2,
        ]),
        "population": np.repeat(populations, k),
        "share": np.concatenate([np.full(2 * k, np.nan), s, np.full(k, np.nan)]),
    }  # fmt: skip
    value = np.concatenate([a, n, s * a + (1 - s) * n, a - n])
    said = {"sensitivity": "spillover", "shares": "fixed" if estimated is None else "estimated"}
    return smooth(joint, value, gradient, columns, said)


def attributed_share(
    data: Panel | Moments,
    design: Design,
    *,
    by: str,
    level: str,
    of: Estimates | None = None,
    ssc: SSC | None = None,
) -> Estimates:
    """
    Estimate the attributed share of person-years in the program, with its sampling error.

    Parameters
    ----------
    data : Panel or Moments
        All residents (or all patients of the organizations), attributed or not as a stratum;
        weights are person-years.
    design : Design
        Outcome, in whose cells weight is counted, and balance weights.
    by, level : str
        The stratum, and its value for attributed people.
    of : Estimates, optional
        One share for each of its rows, in its cohort, period and event time; at or after entry,
        unless the row says which cohort and period or which event time. Default: one share, at or
        after entry.
    ssc : SSC, optional
        Small-sample factor. Default `SSC.cluster`, G / (G - 1).

    Returns
    -------
    Estimates
        Estimand "share", between 0 and 1, with the influence of clusters of treated cells.

    Raises
    ------
    DataError
        If the stratum or level is absent, or one side of a share has 1-10 people.
    DesignError
        If no cell is treated, fewer than two clusters are, or a row has no cell.
    EstimationError
        If balance weights of treated clusters are estimated.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({"market": np.repeat(list("ABC"), 4), "year": [2015, 2015, 2016, 2016] * 3,
    ...     "attributed": ["yes", "no"] * 6, "people": [300.0, 700, 300, 700, 100, 900, 200, 800, 1, 1, 1, 1],
    ...     "entry": np.repeat([2016.0, 2016, np.nan], 4), "spend": np.arange(12.0)})
    >>> panel = vbc.Panel.from_frame(frame, unit="market", period="year", cohort="entry",
    ...     strata=["attributed"], weight="people")
    >>> share = vbc.sensitivity.attributed_share(panel, vbc.Design(outcome="spend"),
    ...     by="attributed", level="yes")
    >>> share.tidy()[["estimate", "std_error"]].round(3).values.tolist()
    [[0.25, 0.05]]
    """
    cells = _Cells(data, design, by, level)
    rows: list[dict[str, Any]] = [{}]
    if of is not None:
        keys = ["cohort", "period", "event_time"]
        rows = [dict(zip(keys, row, strict=True)) for row in of.frame[keys].itertuples(index=False)]
    records, columns = [], []
    for row in rows:
        here = cells.of(row)
        value, psi = cells.share(here, row)
        records.append({**row, "estimand": "share", "outcome": by, "estimate": value})
        columns.append(psi)
    psi = np.column_stack(columns)
    used = cells.clusters(np.any([cells.of(row) for row in rows], axis=0))
    n = int(used.sum())
    if n < 2:
        raise DesignError(
            f"fewer than two clusters (`{cells.moments.cluster_name}`) are treated, so the error of "
            "the share cannot be measured. Give `shares` as a number, which is taken as fixed."
        )
    _require_given(design, cells.labels[used])
    factor = SSC.cluster() if ssc is None else ssc
    frame = pd.DataFrame(records).assign(n_clusters=n, df=factor.df(n))
    return Estimates(
        frame=frame, psi=psi[used], psi_vcov=psi[used] * np.sqrt(factor.factor(n_clusters=n)),
        clusters=cells.labels[used], cluster_name=cells.moments.cluster_name,
        meta={"estimator": "attributed_share", "by": by, "level": level, "vcov": "CR1",
              "ssc": factor.name, "language": "share"},
    )  # fmt: skip


def _require_given(design: Design, treated: pd.Index) -> None:
    """Refuse weights of treated clusters that are estimated: their error would be left out."""
    weights = design.balance_weights
    if not isinstance(weights, BalanceWeights) or weights.step is None:
        return
    if weights.step.log_slope[weights.features.clusters.isin(treated)].any():
        raise EstimationError(
            f"weights of treated clusters are estimated ({weights.method}), and a share does not "
            "carry their error. Take them as fixed, `weights.fixed()`, or use weights for the "
            "treated, which leave their own at 1."
        )


class _Cells:
    """Weights of cells in the program, by cluster."""

    def __init__(self, data: Panel | Moments, design: Design, by: str, level: str) -> None:
        self.moments = (
            data.of(design.outcome)
            if isinstance(data, Moments)
            else Moments.from_panel(data, outcomes=[design.outcome])
        )
        moments = self.moments
        if by not in moments.strata:
            raise DataError(
                f"`{by}` is no stratum of these data ({listed(moments.strata) or 'they have none'}). "
                "Name it in `strata` where the panel or the moments are made."
            )
        found = moments.cells[by].astype(str).to_numpy()
        if level not in found:
            raise DataError(f"`level` is '{level}', but `{by}` has {listed(sorted(set(found)))}.")
        self.by, self.own = by, found == level
        cluster = moments.attribute("cluster")
        code, labels = pd.factorize(cluster, sort=True)
        self.code, self.labels = code, pd.Index(labels)
        y = moments.y_mean[:, moments.column(design.outcome)]
        self.weight = np.where(np.isfinite(y), moments.w, 0.0) * design.weights_for(cluster)
        self.cohort = moments.attribute("cohort").to_numpy(dtype=float)
        self.period = moments.cells["period"].to_numpy(dtype=float)
        self.exit = moments.attribute("exit").to_numpy(dtype=float)
        self.event_time = self.period - self.cohort

    def of(self, row: dict[str, Any]) -> BoolArray:
        """Return which cells a row is about."""
        here = np.isfinite(self.cohort) & (self.weight > 0)
        asked = {k: v for k, v in row.items() if np.isfinite(np.asarray(v, dtype=float))}
        for name, value in asked.items():
            here &= getattr(self, name) == float(value)
        # an effect by cohort and period, or by event time, may be one before entry
        if "event_time" not in asked and not {"cohort", "period"} <= set(asked):
            here &= self.event_time >= 0
        # a comparison with missing is false: without exit a cluster stays
        return np.asarray(here & ~(self.period > self.exit), dtype=bool)

    def share(self, here: BoolArray, row: dict[str, Any]) -> tuple[float, FloatArray]:
        """Return the share in some cells, and the derivative by the weight of each cluster."""
        if not here.any():
            said = {k: v for k, v in row.items() if pd.notna(v)}
            raise DesignError(
                f"no cell with weight is in the program{f' with {said}' if said else ''}, so it has "
                "no share. Check entry, or select rows with `where`."
            )
        if self.moments.people:
            sides = [self.moments.cells["unit"][here & s].nunique() for s in (self.own, ~self.own)]
            if any(0 < side < SMALLEST_SHOWN for side in sides):
                raise DataError(
                    f"a side of `{self.by}` has fewer than {SMALLEST_SHOWN} people in the program, "
                    "so its share may not be shown. Take periods or cohorts together."
                )
        size = len(self.labels)
        every = np.bincount(self.code[here], self.weight[here], size)
        own = np.bincount(self.code[here], (self.weight * self.own)[here], size)
        value = float(own.sum() / every.sum())
        return value, (own - value * every) / every.sum()

    def clusters(self, here: BoolArray) -> BoolArray:
        """Return which clusters have some of the cells."""
        return np.asarray(np.bincount(self.code[here], minlength=len(self.labels)) > 0)
