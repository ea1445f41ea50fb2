"""Group-time effects of staggered entry (Callaway and Sant'Anna 2021)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems
from vbceval.core.disclosure import suppress_small
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import FloatArray
from vbceval.core.version import versions
from vbceval.design import Design, GroupTimePair, group_time_pairs
from vbceval.did.blocks import Block, balanced, complete, make_block, usable_cohorts
from vbceval.did.pairs import PairResult, Settings, estimate_pairs
from vbceval.estimates import Estimates, Shares
from vbceval.estimates.columns import GROUP_TIME
from vbceval.inference import SSC, sum_by_cluster
from vbceval.moments import Moments
from vbceval.panel import Panel

Method = Literal["dr", "dr_imp", "ipw", "reg"]


@dataclass(frozen=True, kw_only=True)
class GroupTime:
    """
    Group-time average effects on the treated, ATT(g, t).

    Exactness: with ``method="reg"`` and from rows that are not followed, exact from moments of
    clusters; with followed units or a propensity score, exact from moments of rows (``unit
    pass``).

    Parameters
    ----------
    method : {"dr", "dr_imp", "ipw", "reg"}
        Doubly robust (as R `did`), improved doubly robust (default of DRDID), inverse
        probability weights, outcome regression. Without covariates all four agree.
    unbalanced : {"pairs", "rc", "balance"}
        Units not seen in every period: "pairs" uses, for each (g, t), units seen in both its
        periods, so the population changes with t; "rc" uses the repeated cross-section formulas
        with errors clustered by unit (R `allow_unbalanced_panel=TRUE`); "balance" drops units
        that miss a period (R default).
    fix_weights : {None, "base_period", "first_period", "varying"}
        Period whose weight a followed unit has: None = the earlier of base and t; the base
        period of the cohort; the unit's first period; or each row its own weight, which uses the
        cross-section formulas.
    covariate_period : {"earlier", "base"}
        Period whose covariates a followed unit has: the earlier of base and t, or always base.
    cell_share : {"cohort", "pair"}
        Shares for averages: weight of the cohort (R), or of the treated units that each (g, t)
        uses, which is right when a unit can appear with several files or leave.
    trim : float, optional
        Propensity at which comparison units get zero weight; R DRDID uses .995. Default: none.
    drdid_compat : bool, default False
        Reproduce the influence function of DRDID's doubly robust cross-section estimator, in
        which two regression terms have the opposite sign.
    on_failure : {"raise", "skip"}
        A comparison that cannot be estimated is an error that lists all of them, or a missing
        row with the reason in column ``note``.

    References
    ----------
    .. [1] Callaway, B. and Sant'Anna, P. H. C. (2021). Difference-in-differences with multiple
       time periods. *Journal of Econometrics* 225(2), 200-230.
    .. [2] Sant'Anna, P. H. C. and Zhao, J. (2020). Doubly robust difference-in-differences
       estimators. *Journal of Econometrics* 219(1), 101-122.
    """

    method: Method = "dr"
    unbalanced: Literal["pairs", "rc", "balance"] = "pairs"
    fix_weights: Literal["base_period", "first_period", "varying"] | None = None
    covariate_period: Literal["earlier", "base"] = "earlier"
    cell_share: Literal["cohort", "pair"] = "cohort"
    trim: float | None = None
    drdid_compat: bool = False
    on_failure: Literal["raise", "skip"] = "raise"

    def __post_init__(self) -> None:
        problems = Problems("the options of GroupTime", DesignError)
        choices: dict[str, tuple[Any, ...]] = {
            "method": ("dr", "dr_imp", "ipw", "reg"),
            "unbalanced": ("pairs", "rc", "balance"),
            "fix_weights": (None, "base_period", "first_period", "varying"),
            "covariate_period": ("earlier", "base"),
            "cell_share": ("cohort", "pair"),
            "on_failure": ("raise", "skip"),
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                problems.add(f"`{name}` is {value!r}; use one of {allowed}.")
        if self.trim is not None and not 0 < self.trim < 1:
            problems.add(f"`trim` is {self.trim}; it is a propensity between 0 and 1.")
        problems.raise_if_any()

    def fit(
        self, data: Panel | Moments, design: Design, *, vcov: str = "CR1", ssc: SSC | None = None
    ) -> Estimates:
        """
        Estimate every ATT(g, t) of a design.

        Parameters
        ----------
        data : Panel or Moments
            With strata, effects are estimated for all together and within each stratum, with one
            joint influence matrix.
        design : Design
            Outcome, comparison, base period, anticipation, covariates, window.
        vcov : {"CR1", "CR0"}
            Cluster-robust covariance from the influence: with or without small-sample factor.
        ssc : SSC, optional
            Small-sample factor. Default `SSC.cluster`, G/(G-1), for "CR1"; `SSC.none` for "CR0".

        Returns
        -------
        Estimates
            One row a cohort and period (and stratum), in the unit of the outcome, with columns
            ``base``, ``n_treated``, ``n_comparison`` and ``note``; counts of 1-10 people are
            missing where units may be people.

        Raises
        ------
        DesignError
            If there is one cluster, no cohort has a base period, or an option does not apply.
        EstimationError
            Listing every (g, t) that cannot be estimated, with cohort, period and reason.
        """
        if design.fixed_effects is not None:
            raise DesignError(
                "GroupTime compares changes and takes no `fixed_effects`; leave them out, or use "
                "a regression estimator."
            )
        factor = _ssc(vcov, ssc)
        moments = _as_moments(data, design)
        labels = pd.Index(pd.unique(moments.attribute("cluster")))
        if len(labels) < 2:
            raise DesignError(
                f"there is {len(labels)} cluster (`{moments.cluster_name}`), but the error of an "
                "effect is measured by variation between clusters. Cluster on what enters the "
                "program, at least two of them treated and two not."
            )
        whole = make_block(moments, design, labels)
        parts = [
            self._fit_block(whole if rows is None else whole.take(rows), moments, design, stratum,
                            len(labels))
            for stratum, rows in _strata(moments)
        ]  # fmt: skip
        return self._assemble(parts, moments, design, labels, factor, vcov)

    def _fit_block(
        self, block: Block, moments: Moments, design: Design, stratum: str | None, n_clusters: int
    ) -> dict[str, Any]:
        kept = complete(block)
        incomplete = int((~kept).sum())
        block = block.take(kept)
        periods = np.unique(block.period)
        cohorts = np.unique(block.cohort[np.isfinite(block.cohort)])
        pairs, dropped = group_time_pairs(periods, cohorts, design)
        block = usable_cohorts(block, dropped)
        if self.unbalanced == "balance" and moments.kind == "panel":
            block = balanced(block, periods)
        settings = Settings(
            method=self.method, unbalanced=self.unbalanced, fix_weights=self.fix_weights,
            covariate_period=self.covariate_period, trim=self.trim, compatible=self.drdid_compat,
            followed=moments.kind == "panel", last=float(periods[-1]) + design.anticipation,
        )  # fmt: skip
        results = estimate_pairs(block, periods, pairs, settings, n_clusters)
        share, share_psi = self._shares(block, results, moments, n_clusters)
        return {
            "stratum": stratum, "results": results, "share": share, "share_psi": share_psi,
            "dropped": dropped, "incomplete": incomplete, "first_period": float(periods[0]),
        }  # fmt: skip

    def _shares(
        self, block: Block, results: list[PairResult], moments: Moments, n_clusters: int
    ) -> tuple[FloatArray, FloatArray]:
        """Share of each row's treated weight in all weight, and its influence."""
        if moments.kind == "panel":
            order = np.lexsort((block.period, block.entity))
            first = order[np.unique(block.entity[order], return_index=True)[1]]
        else:
            first = np.arange(len(block.entity))
        w, cohort, cluster = block.w[first], block.cohort[first], block.cluster[first]
        total = w.sum()
        by_cluster = sum_by_cluster(w, cluster, n_clusters)
        if self.cell_share == "cohort":
            cohorts = np.array([r.pair.cohort for r in results])
            masses = sum_by_cluster(w[:, None] * (cohort[:, None] == cohorts), cluster, n_clusters)
        else:
            masses = np.column_stack([r.counts.treated_weight for r in results])
        share = masses.sum(axis=0) / total
        return share, (masses - np.outer(by_cluster, share)) / total

    def _assemble(
        self,
        parts: list[dict[str, Any]],
        moments: Moments,
        design: Design,
        labels: pd.Index,
        ssc: SSC,
        vcov: str,
    ) -> Estimates:
        n_clusters = len(labels)
        root = float(np.sqrt(ssc.factor(n_clusters=n_clusters)))
        rows = [(part["stratum"], result) for part in parts for result in part["results"]]
        self._raise_failures([r for _, r in rows], moments, design)
        frame = pd.DataFrame([_record(s, r, design, moments.people) for s, r in rows])
        frame["df"] = ssc.df(n_clusters)
        psi = np.column_stack([r.psi for _, r in rows])
        shares = Shares(
            value=np.concatenate([part["share"] for part in parts]),
            psi=np.concatenate([part["share_psi"] for part in parts], axis=1),
            vcov_scale=root,
        )
        meta = {
            "estimator": "GroupTime",
            "options": asdict(self),
            "design": _design_meta(design),
            "vcov": vcov,
            "ssc": ssc.name,
            "exactness": "moments" if moments.xx is not None else "unit pass",
            "n_clusters": n_clusters,
            "cluster": moments.cluster_name,
            "first_period": min(part["first_period"] for part in parts),
            "dropped_cohorts": sorted({float(g) for part in parts for g in part["dropped"]}),
            "incomplete_cells": suppress_small(parts[0]["incomplete"]).item()
            if moments.people
            else parts[0]["incomplete"],
            "language": "effect",
            "versions": versions("numpy", "scipy", "pandas"),
            "warnings": sorted({r.counts.note for _, r in rows if r.counts.note}),
        }
        return Estimates(
            frame=frame, psi=psi, psi_vcov=psi * root, clusters=labels,
            cluster_name=moments.cluster_name, shares=shares, meta=meta,
        )  # fmt: skip

    def _raise_failures(self, results: list[PairResult], moments: Moments, design: Design) -> None:
        failed = [r for r in results if r.failure is not None]
        if not failed or (self.on_failure == "skip" and len(failed) < len(results)):
            return
        error = DesignError if all(r.no_comparison for r in failed) else EstimationError
        problems = Problems(f"{len(failed)} of {len(results)} group-time comparisons", error)
        for r in failed:
            problems.add(f"cohort {r.pair.cohort:g} at period {r.pair.period:g}: {r.failure}.")
        problems.add(
            "Remedy: end `window` earlier, use the other `comparison`, drop the covariate that is "
            "named, or pass on_failure='skip' to leave these rows missing with their reason."
        )
        problems.raise_if_any()


def _ssc(vcov: str, ssc: SSC | None) -> SSC:
    if vcov not in ("CR0", "CR1"):
        raise EstimationError(
            f"GroupTime has no '{vcov}' covariance: its effects are not one regression. Use 'CR1' "
            "(influence with small-sample factor) or 'CR0'."
        )
    if vcov == "CR0":
        if ssc is not None and ssc != SSC.none():
            raise EstimationError(
                f"vcov='CR0' has no small-sample factor, but ssc is '{ssc.name}'. Use vcov='CR1' "
                "with it, or leave `ssc` out."
            )
        return SSC.none()
    return SSC.cluster() if ssc is None else ssc


def _as_moments(data: Panel | Moments, design: Design) -> Moments:
    if isinstance(data, Moments):
        return data
    return Moments.from_panel(data, outcomes=[design.outcome], covariates=design.covariates)


def _strata(moments: Moments) -> list[tuple[str | None, np.ndarray | None]]:
    """All cells together, then each level of each stratum."""
    out: list[tuple[str | None, np.ndarray | None]] = [(None, None)]
    for name in moments.strata:
        column = moments.cells[name]
        for level in sorted(column.unique()):
            out.append((f"{name}={level}", np.flatnonzero(column == level)))
    return out


def _record(
    stratum: str | None, result: PairResult, design: Design, people: bool
) -> dict[str, Any]:
    pair: GroupTimePair = result.pair
    record: dict[str, Any] = {
        "estimand": GROUP_TIME,
        "outcome": design.outcome,
        "unit_of_measure": design.unit_of_measure,
        "cohort": pair.cohort,
        "period": pair.period,
        "event_time": pair.event_time,
        "stratum": stratum,
        "estimate": result.estimate,
        "base": pair.base,
        "n_clusters": result.counts.n_clusters,
        "note": result.failure or result.counts.note,
    }
    counts = {
        "n_units": result.counts.n_treated + result.counts.n_comparison,
        "n_treated": result.counts.n_treated,
        "n_comparison": result.counts.n_comparison,
    }
    for name, count in counts.items():
        record[name] = float(suppress_small(count)) if people else float(count)
    return record


def _design_meta(design: Design) -> dict[str, Any]:
    out = asdict(design)
    out["balance_weights"] = None if design.balance_weights is None else "given"
    return out
