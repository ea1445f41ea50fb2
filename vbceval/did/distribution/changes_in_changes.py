"""Changes-in-changes and quantile difference-in-differences (Athey and Imbens 2006)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.rng import generator
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.core.version import versions
from vbceval.design import Design, GroupTimePair, group_time_pairs
from vbceval.did.distribution.changes import Effects, Method, Ties
from vbceval.did.distribution.comparisons import (
    Rule,
    estimate,
    redraw,
    refuse_empty,
    refuse_few_people,
)
from vbceval.did.distribution.observations import Compared, Observations, compare, observed
from vbceval.did.inputs import (
    ONE_CLUSTER,
    as_moments,
    cluster_labels,
    design_meta,
    shown,
    small_sample,
    strata_of,
    vcov_name,
    without_rounding,
    without_small_strata,
)
from vbceval.did.weight_step import with_weight_step
from vbceval.estimates import Estimates, Shares
from vbceval.estimates.columns import GROUP_TIME
from vbceval.inference import SSC, Multiplier, sum_by_cluster
from vbceval.moments import Moments
from vbceval.panel import Panel

TIED_MEAN = (
    "many treated outcomes before entry share a value, and std_error of the mean does not count how its "
    "rank moves: use draws="
)
"""``note`` of the mean of quantile difference-in-differences with a mass, as at 0."""
_MANY = 0.05


class _Part(NamedTuple):
    """One comparison: its keys, name in messages, values, influence (G, k), treated weight (G,), clusters (G,)."""

    stratum: str | None
    pair: GroupTimePair
    where: str
    compared: Compared
    effects: Effects
    psi: FloatArray
    weight: FloatArray
    clusters: BoolArray


@dataclass(frozen=True, kw_only=True)
class ChangesInChanges:
    """
    Estimate effects on the mean and on quantiles of the treated, by cohort and period.

    Changes-in-changes maps each treated outcome of the base period by the change of the comparison
    group at the same outcome: a unit without treatment would have kept its rank among comparable
    ones. It does not depend on the scale of the outcome, and allows treated and comparison units to
    differ in their distribution. Quantile difference-in-differences adds the change of the same
    quantile instead; it does depend on the scale.

    Every cohort and period is a comparison of its own with the base period, of distributions: units
    need not be followed, but errors count that they are the same clusters.

    Exactness: ``rows``; ``approximate`` from histograms of moments, with bounds in the columns
    ``bound_low`` and ``bound_high``.

    Parameters
    ----------
    method : {"cic", "qdid"}
        Changes-in-changes, or quantile difference-in-differences.
    quantiles : sequence of float
        Probabilities, strictly between 0 and 1. Rows of quantile q have outcome
        ``"<outcome>, quantile q"`` and q in column ``quantile``; empty: the mean effect only.
    ties : {"continuous", "independent", "lower", "upper"}
        For "cic", the rank of a value that comparison rows share: "continuous" takes the highest,
        as R `qte`; "independent" spreads it uniformly (conditional independence, their Theorem
        4.2); "lower" and "upper" are the bounds on the effect that hold without assumption
        (Theorem 4.1), of which "lower" equals "continuous". The bounds are also in the columns
        ``bound_low`` and ``bound_high`` of every row.
    quantile_type : {"inverse", "linear"}, optional
        Smallest outcome that reaches the probability (type 1 of R), or interpolated between order
        statistics (type 7), which is for "qdid" without weights. Default: as R `qte`, "inverse" for
        "cic" and "linear" for "qdid", and "inverse" where rows are weighted or in bins.
    most_outside : float, default 0.05
        Largest share of treated outcomes of the base period beyond all of the comparison group.
    draws : int, default 0
        Take errors from so many bootstrap samples of clusters, drawn within cohorts, instead of the
        influence. The result then has draws and no influence.
    seed : int, default 20210101
        Seed of the bootstrap.

    Notes
    -----
    Covariates are taken out of outcomes first: least squares of the outcome on covariates and an
    effect for each of the four groups of the comparison, whose group effects stay (Athey and Imbens,
    section 5.1, and Stata `cic`; R `qte` regresses conditional quantiles instead). The error counts
    the estimated coefficients, by the derivative over one standard error of each.

    One over the density in the variance is the slope of the quantile function over the step of
    Bofinger, not a kernel density as in the paper: spending is too skewed for one bandwidth.

    References
    ----------
    .. [1] Athey, S. and Imbens, G. W. (2006). Identification and inference in nonlinear
       difference-in-differences models. *Econometrica* 74(2), 431-497.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> rng = np.random.default_rng(1)
    >>> frame = pd.DataFrame({"id": np.repeat(np.arange(400), 2), "year": [2015, 2016] * 400})
    >>> frame["entry"] = np.where(frame["id"] < 200, 2016.0, np.nan)
    >>> frame["spend"] = np.exp(rng.normal(6, 1, 800)) * np.where(frame["year"] == 2016, 1.1, 1.0)
    >>> panel = vbc.Panel.from_frame(frame, unit="id", period="year", cohort="entry")
    >>> est = vbc.did.ChangesInChanges(quantiles=[0.5]).fit(panel, vbc.Design(outcome="spend"))
    >>> est.tidy()["outcome"].tolist()
    ['spend', 'spend, quantile 0.5']
    """

    method: Method = "cic"
    quantiles: Sequence[float] = (0.1, 0.25, 0.5, 0.75, 0.9)
    ties: Ties = "continuous"
    quantile_type: Literal["inverse", "linear"] | None = None
    most_outside: float = 0.05
    draws: int = 0
    seed: int = 20210101

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "quantiles", tuple(float(q) for q in self.quantiles))
        except (TypeError, ValueError) as error:
            raise DesignError(
                f"`quantiles` is {self.quantiles!r}; give a sequence of probabilities, as [0.5]."
            ) from error
        if self.method not in get_args(Method) or self.ties not in get_args(Ties):
            raise DesignError(
                f"`method` is {self.method!r} and `ties` {self.ties!r}; use one of "
                f"{get_args(Method)} and one of {get_args(Ties)}."
            )
        if self.method == "qdid" and self.ties != "continuous":
            raise DesignError("`ties` is an option of method='cic'; leave it out.")
        if self.quantile_type not in (None, "inverse", "linear"):
            raise DesignError(
                f"`quantile_type` is {self.quantile_type!r}; use 'inverse' or 'linear'."
            )
        if self.method == "cic" and self.quantile_type == "linear":
            raise DesignError(
                "changes-in-changes maps ranks to outcomes that occur: quantile_type='linear' is "
                "an option of method='qdid'."
            )
        if not all(0 < q < 1 for q in self.quantiles) or not 0 <= self.most_outside <= 1:
            raise DesignError(
                f"`quantiles` are {self.quantiles} and `most_outside` {self.most_outside}: they "
                "are probabilities, quantiles strictly between 0 and 1."
            )
        if len({f"{q:g}" for q in self.quantiles}) < len(self.quantiles):
            raise DesignError(
                f"`quantiles` are {self.quantiles}: rows are named by six digits, and some would have "
                "the same name. Leave these out."
            )
        if self.draws and (self.draws < 100 or self.draws != int(self.draws)):
            raise DesignError(f"`draws` is {self.draws}; a bootstrap needs at least 100.")

    @with_weight_step
    def fit(
        self,
        data: Panel | Moments,
        design: Design,
        *,
        vcov: str | Multiplier = "CR1",
        ssc: SSC | None = None,
    ) -> Estimates:
        """
        Compare distributions of every cohort and period with those of the base period.

        Parameters
        ----------
        data : Panel or Moments
            Moments of an engine need histograms of the outcome. With strata, effects are estimated
            for all together and within each stratum, with one joint influence matrix.
        design : Design
            Outcome, comparison, base period, anticipation, covariates, window, balance weights.
            ``fixed_effects`` is refused.
        vcov : {"CR1", "CR0", "bootstrap"} or Multiplier
            Covariance from the influence by cluster; with `draws` leave it out.
        ssc : SSC, optional
            Small-sample factor. Default `SSC.cluster`, G/(G-1), for "CR1"; `SSC.none` for "CR0".

        Returns
        -------
        Estimates
            Mean effects of each cohort and period, then those on each quantile, in the unit of the
            outcome, with columns ``quantile``, ``bound_low``, ``bound_high``, ``n_treated``,
            ``n_comparison``.

        Raises
        ------
        DesignError
            If a comparison has an empty side, there is one cluster, or an option does not apply.
        EstimationError
            If treated outcomes lie outside those of the comparison group, or rows are needed.
        """
        if design.fixed_effects is not None:
            raise DesignError("ChangesInChanges compares distributions: leave `fixed_effects` out.")
        factor, multiplier = small_sample("ChangesInChanges", vcov, ssc)
        if self.draws and (vcov != "CR1" or ssc is not None):
            raise EstimationError(
                "errors come from bootstrap samples of clusters (`draws`), so `vcov` and `ssc` "
                "would be ignored. Leave them out, or use draws=0."
            )
        moments = _source(data, design)
        labels = cluster_labels(moments)
        found = observed(moments, design, labels)
        rule = Rule(
            self.method, np.array(self.quantiles), self.ties, self.quantile_type, self.most_outside
        )
        parts: list[_Part] = []
        dropped: set[float] = set()
        for stratum, cells in strata_of(moments):
            rows = found.take(np.isin(found.cell, cells))
            made, left_out = _fit_part(rows, rule, moments, design, stratum, len(labels))
            parts += made
            dropped |= set(left_out.tolist())
        sizes = [int(p.clusters.sum()) for p in parts]
        frame = _framed(parts, rule, moments, design, factor, drawn=self.draws > 0)
        used = np.any([p.clusters for p in parts], axis=0)
        meta = {
            "estimator": "ChangesInChanges", "options": asdict(self),
            "design": design_meta(design), "ssc": factor.name,
            "vcov": f"bootstrap of clusters ({self.draws:,} draws)" if self.draws
            else vcov_name(factor, multiplier),
            "exactness": "rows" if found.bins is None else "approximate",
            "n_clusters": int(used.sum()), "cluster": moments.cluster_name,
            "first_period": float(found.period.min()), "dropped_cohorts": sorted(dropped),
            "language": "effect", "versions": versions("numpy", "scipy", "pandas"),
            "warnings": sorted({str(x) for x in frame["note"] if x}),
        }  # fmt: skip
        shared: dict[str, Any] = {"cluster_name": moments.cluster_name, "meta": meta}
        k = len(rule.q) + 1
        order = _means_first(len(parts), k)
        weight = np.repeat(np.column_stack([p.weight for p in parts]), k, axis=1)[used][:, order]
        if self.draws:
            return Estimates(
                frame=frame.assign(df=np.inf), shares=Shares(value=weight.sum(axis=0)),
                samples=self._bootstrap(parts, rule, found)[:, order], **shared,
            )  # fmt: skip
        scale = np.sqrt([factor.factor(n_clusters=max(n, 2)) for n in sizes]).repeat(k)[order]
        psi = np.concatenate([p.psi for p in parts], axis=1)[used][:, order]
        return Estimates(
            frame=frame, psi=psi, psi_vcov=psi * scale, clusters=labels[used],
            shares=Shares(value=weight.sum(axis=0), psi=weight, vcov_scale=scale),
            multiplier=multiplier, **shared,
        )  # fmt: skip

    def _bootstrap(self, parts: Sequence[_Part], rule: Rule, found: Observations) -> FloatArray:
        """Effects of samples of clusters, drawn with replacement within cohorts."""
        groups = _alike(found)
        if max(len(members) for members in groups) == 1:
            raise EstimationError(
                "every cohort has one cluster, so bootstrap samples drawn within cohorts are all the "
                "same. Cluster on a finer unit that still contains the unit of entry."
            )
        rng = generator(self.seed, "changes-in-changes")
        k = len(rule.q) + 1
        out = np.zeros((int(self.draws), len(parts) * k))
        for draw in out:
            times = np.zeros(int(found.cluster.max()) + 1)
            for members in groups:
                times += np.bincount(rng.choice(members, len(members)), minlength=len(times))
            for j, part in enumerate(parts):
                if not part.pair.is_reference:
                    draw[j * k : (j + 1) * k] = redraw(part.compared, rule, times, part.where)
        return out


def _alike(found: Observations) -> list[IntArray]:
    """Clusters that hold the same cohorts, together; each list is drawn from by itself."""
    cohorts, of = np.unique(np.nan_to_num(found.cohort, nan=np.inf), return_inverse=True)
    holds = np.zeros((int(found.cluster.max()) + 1, len(cohorts)), dtype=bool)
    holds[found.cluster, of] = True
    present = np.flatnonzero(holds.any(axis=1))
    _, which = np.unique(holds[present], axis=0, return_inverse=True)
    return [present[which.ravel() == i] for i in range(int(which.max()) + 1)]


def _source(data: Panel | Moments, design: Design) -> Moments:
    """Moments of the outcome; those that hold its histograms, if it is missing in some rows."""
    moments = as_moments(data, design)
    if isinstance(data, Moments) and data.sums is not None and bool((moments.n > 1).any()):
        return data
    return moments


def _means_first(n: int, k: int) -> IntArray:
    """Order of rows: the mean of every comparison, then every comparison at each quantile."""
    return np.arange(n * k).reshape(n, k).T.ravel()


def _fit_part(
    found: Observations,
    rule: Rule,
    moments: Moments,
    design: Design,
    stratum: str | None,
    n_clusters: int,
) -> tuple[list[_Part], FloatArray]:
    """Every comparison of one stratum, and cohorts without a base period."""
    periods = np.unique(found.period)
    cohorts = np.unique(found.cohort[np.isfinite(found.cohort)])
    within = "" if stratum is None else f"stratum '{stratum}', "
    try:
        pairs, dropped = group_time_pairs(periods, cohorts, design)
    except DesignError as error:
        raise DesignError(f"{within}{error}") from error
    last = float(periods[-1]) + design.anticipation
    found = found.take(~np.isin(found.cohort, dropped))
    compared = [(pair, compare(found, pair, last)) for pair in pairs]
    refuse_empty(
        [(p, c) for p, c in compared if not p.is_reference], within,
        never_only=design.comparison == "never_treated",
    )  # fmt: skip
    parts = []
    for pair, rows in compared:
        if not (rows.group == 3).any():
            continue
        where = f"{within}cohort {pair.cohort:g} at period {pair.period:g}"
        if len(rule.q) and (moments.people or rows.rows.bins is not None):
            refuse_few_people(rows, where)
        parts.append(_part(stratum, pair, rows, rule, where, n_clusters))
    return parts, dropped


def _part(
    stratum: str | None,
    pair: GroupTimePair,
    compared: Compared,
    rule: Rule,
    where: str,
    n_clusters: int,
) -> _Part:
    rows, group = compared
    weight = sum_by_cluster(rows.w * (group == 3), rows.cluster, n_clusters)
    clusters = np.bincount(rows.cluster, minlength=n_clusters) > 0
    k = len(rule.q) + 1
    if pair.is_reference:
        effects = Effects(np.zeros(k), np.zeros(k), np.zeros(k))
        psi = np.zeros((n_clusters, k))
    else:
        effects, by_row = estimate(compared, rule, where)
        psi = sum_by_cluster(by_row, rows.cluster, n_clusters)
        psi = without_rounding(psi, float(np.abs(rows.y).max()))
    return _Part(stratum, pair, where, compared, effects, psi, weight, clusters)


def _framed(
    parts: Sequence[_Part],
    rule: Rule,
    moments: Moments,
    design: Design,
    factor: SSC,
    *,
    drawn: bool,
) -> pd.DataFrame:
    df = [factor.df(int(p.clusters.sum())) for p in parts]
    rows = [
        r for p, d in zip(parts, df, strict=True) for r in _records(p, rule, moments, design, d)
    ]
    frame = pd.DataFrame(rows).iloc[_means_first(len(parts), len(rule.q) + 1)]
    if drawn:
        # samples of clusters move ranks, too
        frame["note"] = frame["note"].replace(TIED_MEAN, "")
    own = moments.unit_name == moments.cluster_name
    return without_small_strata(frame, clusters=own) if moments.people else frame


def _share_of_one(compared: Compared) -> float:
    """Return the largest share of treated outcomes before entry that have one value."""
    if compared.rows.x.shape[1]:
        return 0.0  # covariates are taken out, and tell rows apart
    own = compared.rows.take(compared.group == 2)
    if own.low is not None and own.high is not None:
        own = own.take(own.low == own.high)
    total = compared.rows.w[compared.group == 2].sum()
    by_value = np.bincount(np.unique(own.y, return_inverse=True)[1], weights=own.w)
    return float(by_value.max(initial=0.0) / total)


def _note(treated: int, width: float, psi: FloatArray, *, tied: bool) -> str:
    """Say what the error of a row leaves out; `tied`: whether it is a mean at ranks of shared values."""
    if treated == 1:
        return ONE_CLUSTER
    if tied:
        return TIED_MEAN
    if width > np.linalg.norm(psi):
        return (
            "bounds from ties or bins are wider than the standard error: see bound_low, bound_high"
        )
    return ""


def _records(
    part: _Part, rule: Rule, moments: Moments, design: Design, df: float
) -> list[dict[str, Any]]:
    """Mean, then quantiles, of one comparison."""
    rows, group = part.compared
    pair, effects = part.pair, part.effects
    sides = [len(np.unique(rows.unit[chosen])) for chosen in (group >= 2, group < 2)]
    treated = len(np.unique(rows.cluster[group >= 2]))
    own = moments.people and moments.unit_name == moments.cluster_name
    tied = rule.method == "qdid" and not pair.is_reference and _share_of_one(part.compared) > _MANY
    out = []
    for i, at in enumerate((np.nan, *rule.q)):
        name = design.outcome if i == 0 else f"{design.outcome}, quantile {at:g}"
        out.append({
            "estimand": GROUP_TIME, "outcome": name, "unit_of_measure": design.unit_of_measure,
            "cohort": pair.cohort, "period": pair.period, "event_time": pair.event_time,
            "stratum": part.stratum, "estimate": float(effects.value[i]), "df": df,
            "quantile": float(at), "bound_low": float(effects.low[i]),
            "bound_high": float(effects.high[i]), "base": pair.base,
            "n_units": shown(sum(sides), moments.people),
            "n_treated": shown(sides[0], moments.people),
            "n_comparison": shown(sides[1], moments.people),
            "n_clusters": shown(int(part.clusters.sum()), own),
            "note": _note(
                treated, effects.high[i] - effects.low[i], part.psi[:, i], tied=tied and i == 0
            ),
        })  # fmt: skip
    return out
