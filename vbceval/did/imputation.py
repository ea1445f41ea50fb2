"""Imputation of untreated outcomes (Borusyak, Jaravel and Spiess 2024)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems
from vbceval.core.disclosure import suppress_small
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.core.version import versions
from vbceval.design import Design
from vbceval.did.imputed import effect_rows, impute
from vbceval.did.inputs import (
    as_moments,
    cluster_labels,
    design_meta,
    shown,
    small_sample,
    strata_of,
    vcov_name,
    without_small_strata,
)
from vbceval.did.leads import fit_leads
from vbceval.did.untreated_cells import (
    Arranged,
    Lost,
    arrange,
    fit_sample,
    lost_cells,
    lost_records,
    raise_lost,
    samples,
)
from vbceval.estimates import Estimates, Shares
from vbceval.inference import SSC, Multiplier
from vbceval.moments import Moments
from vbceval.panel import Panel


class _Part(NamedTuple):
    """Effects of one stratum: rows, influence (G, m), treated weight (m,), clusters used (G,)."""

    rows: list[dict[str, Any]]
    psi: FloatArray
    weight: FloatArray
    clusters: BoolArray
    lost: list[Lost]


@dataclass(frozen=True, kw_only=True)
class Imputation:
    """
    Group-time effects from outcomes imputed by entity and period effects.

    Effects of units and periods (and covariates) are fitted on untreated cells only; an effect is
    the treated outcome minus the fitted one, averaged by cohort and period. Not a comparison of
    two periods: every untreated period of a unit counts, which is efficient when shocks are not
    persistent and asks parallel trends of all of them. A panel may be unbalanced.

    Exactness: ``moments``. Units are followed as entities; cells that are not followed have the
    effect of their cluster.

    Parameters
    ----------
    covariate_effect : {"level", "trend"}
        How covariates of the design enter: "level", x'b with the covariates of each cell;
        "trend", a coefficient for each period, with followed units keeping the covariates of
        their first period.
    leave_one_out : bool, default False
        In standard errors, compare each treated cluster with the average of the others of its
        cohort and period; recommended for few treated clusters.
    drop_unimputable : bool, default False
        Leave out treated cells whose untreated outcome the fit does not imply (units always
        treated, periods in which all are treated) and record them in ``meta["unimputable"]``;
        otherwise they are an error.

    Notes
    -----
    The influence reported is v times residual, whose squares add up to the conservative variance
    of Borusyak, Jaravel and Spiess, equation 8, with the average effect of treated units taken by
    cohort and period; it is not the derivative by cluster weights. Averages of rows with fixed
    weights have that variance exactly, so `Estimates.aggregate` takes shares as fixed here.
    ``base_period`` of a design has no meaning here, and "universal" is refused.

    References
    ----------
    .. [1] Borusyak, K., Jaravel, X. and Spiess, J. (2024). Revisiting event-study designs: robust
       and efficient estimation. *Review of Economic Studies* 91(6), 3253-3285.

    Examples
    --------
    >>> import vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCD"), 3), "year": [2014, 2015, 2016] * 4,
    ...     "entry": np.repeat([2016.0, 2016.0, np.nan, np.nan], 3),
    ...     "spend": [10, 11, 10, 20, 21, 21, 30, 31, 32, 40, 41, 42]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> est = vbc.did.Imputation().fit(panel, vbc.Design(outcome="spend"))
    >>> est.tidy()[["cohort", "period", "estimate"]].to_dict("records")
    [{'cohort': 2016.0, 'period': 2016.0, 'estimate': -1.5}]
    """

    covariate_effect: Literal["level", "trend"] = "level"
    leave_one_out: bool = False
    drop_unimputable: bool = False

    def __post_init__(self) -> None:
        if self.covariate_effect not in ("level", "trend"):
            raise DesignError(
                f"`covariate_effect` is {self.covariate_effect!r}; use 'level' or 'trend'."
            )

    def fit(
        self,
        data: Panel | Moments,
        design: Design,
        *,
        vcov: str | Multiplier = "CR1",
        ssc: SSC | None = None,
    ) -> Estimates:
        """
        Impute untreated outcomes and average effects by cohort and period.

        Parameters
        ----------
        data : Panel or Moments
            With strata, effects are estimated for all together and within each stratum, with one
            joint influence matrix; units have an effect of their own in each stratum.
        design : Design
            Outcome, anticipation (periods before entry that are not used as untreated; their
            effects are rows), window (which effects are reported), covariates, balance weights.
            With ``comparison="never_treated"`` a cohort's outcomes are imputed from the never
            treated and its own untreated periods only. ``fixed_effects`` names the entity (unit
            or cluster column) and the time (period column, or ``"period:stratum"``).
        vcov : {"CR1", "CR0", "bootstrap"} or Multiplier
            Cluster-robust covariance from the influence: with or without small-sample factor.
        ssc : SSC, optional
            Small-sample factor. Default `SSC.cluster`, G/(G-1), for "CR1"; `SSC.none` for "CR0".

        Returns
        -------
        Estimates
            One row a cohort and treated period (and stratum), in the unit of the outcome, with
            columns ``n_treated``, ``n_comparison`` (units untreated in the period) and ``note``;
            counts of 1-10 people are missing where units may be people.

        Raises
        ------
        DesignError
            If treated cells cannot be imputed (with cohorts, periods and counts), there is one
            cluster, no cell is treated or untreated, or an option does not apply.
        EstimationError
            If covariates are absorbed or collinear.
        """
        factor, multiplier = small_sample("Imputation", vcov, ssc)
        _refuse_base(design)
        moments = as_moments(data, design)
        labels = cluster_labels(moments)
        whole, complete = arrange(moments, design, labels)
        parts = []
        for stratum, rows in strata_of(moments):
            arranged = whole.take(rows[complete[rows]])
            parts.append(self._fit_part(arranged, moments, design, stratum, len(labels)))
        lost = [x for part in parts for x in part.lost]
        if not self.drop_unimputable:
            raise_lost(lost, people=moments.people)
        rows_out = [row for part in parts for row in part.rows]
        self._check_rows(rows_out, len(lost))
        used = np.any([part.clusters for part in parts], axis=0)
        # a stratum found in few clusters has their factor and degrees of freedom, not those of all
        sizes = [int(part.clusters.sum()) for part in parts for _ in part.rows]
        root = np.sqrt([factor.factor(n_clusters=size) for size in sizes])
        frame = _framed(rows_out, [factor.df(size) for size in sizes], moments)
        psi = np.concatenate([part.psi for part in parts], axis=1)[used]
        weight = np.concatenate([part.weight for part in parts])
        name = vcov_name(factor, multiplier)
        meta = {
            **self._meta(moments, design, name, factor, int(used.sum())),
            "unimputable": lost_records(lost, people=moments.people),
            "incomplete_cells": shown(int((~complete).sum()), moments.people),
            "first_period": float(whole.block.period[complete].min()),
            "influence": "v times residual (conservative)",
            "warnings": sorted({row["note"] for row in rows_out if row["note"]}),
        }
        return Estimates(
            frame=without_small_strata(frame) if moments.people else frame,
            psi=psi, psi_vcov=psi * root, clusters=labels[used],
            cluster_name=moments.cluster_name, shares=Shares(value=weight, vcov_scale=root),
            multiplier=multiplier, meta=meta,
        )  # fmt: skip

    def _fit_part(
        self,
        arranged: Arranged,
        moments: Moments,
        design: Design,
        stratum: str | None,
        n_clusters: int,
    ) -> _Part:
        rows: list[dict[str, Any]] = []
        psi, weight, lost = [], [], []
        clusters = np.zeros(n_clusters, dtype=bool)
        for sample in samples(arranged, design, stratum):
            x, names = sample.covariates(self.covariate_effect)
            fit = fit_sample(sample, x, names, n_clusters=n_clusters, stratum=stratum)
            cells = sample.arranged.cells(x)
            covered = fit.covers(cells)
            history, seen = fit.part_of_entity[cells.entity] >= 0, fit.part_of_time[cells.time] >= 0
            lost += lost_cells(sample, covered, history, seen, stratum)
            used = sample.treated & covered
            clusters[cells.cluster[sample.untreated | used]] = True
            if not used.any():
                continue
            block = sample.arranged.block
            pairs, target = np.unique(
                np.column_stack([block.cohort[used], block.period[used]]), axis=0,
                return_inverse=True,
            )  # fmt: skip
            result = impute(
                fit, cells.take(used), target.astype(np.int64), len(pairs),
                leave_one_out=self.leave_one_out,
            )  # fmt: skip
            rows += effect_rows(
                sample, used, pairs, result, people=moments.people, design=design, stratum=stratum
            )
            psi.append(result.psi)
            weight.append(result.weight)
        if not rows:
            return _Part([], np.zeros((n_clusters, 0)), np.zeros(0), clusters, lost)
        return _Part(rows, np.concatenate(psi, axis=1), np.concatenate(weight), clusters, lost)

    def _check_rows(self, rows: list[dict[str, Any]], n_lost: int) -> None:
        if not rows:
            raise DesignError(
                f"none of the {n_lost} treated cohort-periods can be imputed: every unit needs an "
                "untreated period, and every period an untreated unit. Add earlier periods or "
                "units that have not entered."
            )
        alone = [r for r in rows if r["note"]]
        if self.leave_one_out and alone:
            problems = Problems("leave_one_out=True", EstimationError)
            for r in alone:
                within = f"stratum `{r['stratum']}`, " if r["stratum"] is not None else ""
                problems.add(
                    f"{within}cohort {r['cohort']:g} at period {r['period']:g} has one treated "
                    "cluster, and no other to compare it with."
                )
            problems.add("Use leave_one_out=False, or leave these cohorts or periods out.")
            problems.raise_if_any()

    def pretrend(
        self,
        data: Panel | Moments,
        design: Design,
        *,
        leads: int = 3,
        vcov: str | Multiplier = "CR1",
        ssc: SSC | None = None,
    ) -> Estimates:
        """
        Estimate leads on untreated cells only, for a test of parallel trends before entry.

        A regression of its own, separate from the effects: entity and time effects, covariates,
        and a dummy for each of the last `leads` periods before entry (minus anticipation) of
        cohorts that enter. All earlier periods, and cells of the never treated, are the reference.
        Call ``.wald()`` on the result for the joint test; use `vbceval.stack` with the effects
        for anything that needs both.

        Parameters
        ----------
        data : Panel or Moments
            As in `fit`; with strata, leads for all together and within each stratum.
        design : Design
            As in `fit`; every untreated cell is used, so ``comparison="never_treated"`` is
            refused, and ``window`` does not restrict leads.
        leads : int, default 3
            Number of leads.
        vcov : {"CR1", "CR0", "bootstrap"} or Multiplier
            As in `fit`.
        ssc : SSC, optional
            As in `fit`; factors with (N-1)/(N-K) apply as well, N counting rows of untreated
            cells.

        Returns
        -------
        Estimates
            One row a lead, ``estimand`` "pretrend_lead", event times in increasing order, in the
            unit of the outcome. Its influence is the derivative by cluster weights.

        Raises
        ------
        DesignError
            If a lead has no cell, or an option of the design does not apply.
        EstimationError
            If no earlier period is left as reference, or covariates are absorbed or collinear.

        References
        ----------
        .. [1] Borusyak, K., Jaravel, X. and Spiess, J. (2024). Revisiting event-study designs:
           robust and efficient estimation. *Review of Economic Studies* 91(6), 3253-3285, on
           testing parallel trends.
        """
        factor, multiplier = small_sample("Imputation", vcov, ssc)
        _refuse_base(design)
        if leads < 1:
            raise DesignError(f"`leads` is {leads}: give the number of periods tested, 1 or more.")
        if design.comparison == "never_treated":
            raise DesignError(
                "the pre-trend regression uses every untreated cell, also of cohorts that enter "
                "later. Give it a design with comparison='not_yet_treated'."
            )
        moments = as_moments(data, design)
        labels = cluster_labels(moments)
        whole, complete = arrange(moments, design, labels)
        events = np.arange(-leads, 0) - design.anticipation
        last = float(whole.block.period[complete].max()) + design.anticipation
        fits = []
        for stratum, rows in strata_of(moments):
            sample = next(samples(whole.take(rows[complete[rows]]), design, stratum))
            fits.append(
                fit_leads(
                    sample, events, covariate_effect=self.covariate_effect, design=design,
                    stratum=stratum, last=last, people=moments.people, n_clusters=len(labels),
                )
            )  # fmt: skip
        used = np.any([x.clusters for x in fits], axis=0)
        rows_out, roots, dfs = [], [], []
        for x in fits:
            own = int(x.clusters.sum())
            parameters = x.n_full if factor.K == "full" else x.n_nested
            scale = factor.factor(n_clusters=own, n_rows=x.n_rows, n_params=parameters)
            rows_out += x.rows
            roots += [np.sqrt(scale)] * leads
            dfs += [factor.df(own)] * leads
        psi = np.concatenate([x.psi for x in fits], axis=1)[used]
        name = vcov_name(factor, multiplier)
        return Estimates(
            frame=_framed(rows_out, dfs, moments),
            psi=psi, psi_vcov=psi * roots, clusters=labels[used],
            cluster_name=moments.cluster_name, multiplier=multiplier,
            meta={**self._meta(moments, design, name, factor, int(used.sum())), "leads": leads},
        )  # fmt: skip

    def _meta(
        self, moments: Moments, design: Design, vcov: str, ssc: SSC, n_clusters: int
    ) -> dict[str, Any]:
        return {
            "estimator": "Imputation",
            "options": asdict(self),
            "design": design_meta(design),
            "vcov": vcov,
            "ssc": ssc.name,
            "exactness": "moments",
            "n_clusters": n_clusters,
            "cluster": moments.cluster_name,
            "language": "effect",
            "versions": versions("numpy", "scipy", "pandas"),
        }


def _framed(rows: list[dict[str, Any]], dfs: list[float], moments: Moments) -> pd.DataFrame:
    frame = pd.DataFrame(rows).assign(df=dfs)
    if moments.people and moments.xx is None and moments.unit_name == moments.cluster_name:
        # each person is a cluster
        frame["n_clusters"] = suppress_small(frame["n_clusters"])
    return frame


def _refuse_base(design: Design) -> None:
    if design.base_period == "universal":
        raise DesignError(
            "imputation has no base period: every untreated period of a unit is its base. Leave "
            "`base_period` at its default; leads come from `Imputation.pretrend`."
        )
