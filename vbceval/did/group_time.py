"""Group-time effects of staggered entry (Callaway and Sant'Anna 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.groups import distinct
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.core.version import versions
from vbceval.design import Design, GroupTimePair, group_time_pairs
from vbceval.did.blocks import Block, balanced, by_pattern, follow, make_block, usable_cohorts
from vbceval.did.cohort_shares import cohort_shares, treated_weights
from vbceval.did.inputs import (
    design_meta,
    shown,
    small_sample,
    sources_of,
    strata_of,
    vcov_name,
    without_small_strata,
)
from vbceval.did.pair_results import PairResult
from vbceval.did.pairs import Settings, estimate_pairs
from vbceval.did.randomization import with_randomization
from vbceval.did.strata import naming
from vbceval.did.weight_step import DERIVATIVE, with_weight_step
from vbceval.estimates import Estimates, Shares
from vbceval.estimates.columns import GROUP_TIME
from vbceval.inference import SSC, Multiplier, Randomization
from vbceval.moments import Moments
from vbceval.panel import Panel

Method = Literal["dr", "dr_imp", "ipw", "reg"]


@dataclass(frozen=True, kw_only=True)
class GroupTime:
    """
    Group-time average effects on the treated, ATT(g, t).

    Units stay treated from entry on: an `exit` of the panel is not used (intention to treat), nor
    is its `exposure`. With ``method="dr_imp"`` on cross-sections the influence leaves out the
    estimation of the regressions, as its paper does.

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

    @with_randomization
    @with_weight_step
    def fit(
        self,
        data: Panel | Moments,
        design: Design,
        *,
        vcov: str | Multiplier | Randomization = "CR1",
        ssc: SSC | None = None,
        outcomes: Sequence[str] | None = None,
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
        vcov : {"CR1", "CR0", "bootstrap", "randomization"}, Multiplier or Randomization
            Cluster-robust covariance from the influence, with or without small-sample factor; or
            errors and bands from the multiplier bootstrap, as R `did` does by default.
        ssc : SSC, optional
            Small-sample factor. Default `SSC.cluster`, G/(G-1), for "CR1"; `SSC.none` otherwise.
        outcomes : sequence of str, optional
            Outcomes estimated together, in place of that of the design; those seen in the same
            cells share samples, propensities and factorisations.

        Returns
        -------
        Estimates
            One row a cohort and period, outcomes in order, then strata, in the unit of the outcome,
            with columns ``base``, ``n_treated``, ``n_comparison`` and ``note``. Where units may be
            people, counts of 1-10 are missing, and those of all outcomes that could tell them.

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
        factor, multiplier = small_sample("GroupTime", vcov, ssc)
        names = [design.outcome] if outcomes is None else list(dict.fromkeys(outcomes))
        sources, labels = sources_of(data, design, names)
        parts = [
            part
            for moments, own in sources
            for part in self._fit_source(moments, own, design, labels)
        ]
        return self._assemble(parts, names, sources[0][0], design, labels, factor, multiplier)

    def _fit_source(
        self, moments: Moments, outcomes: Sequence[str], design: Design, labels: pd.Index
    ) -> list[dict[str, Any]]:
        """Fit the outcomes of one table."""
        self._require_applicable(moments)
        whole = make_block(moments, design, labels, outcomes)
        parts = []
        for js, seen in by_pattern(whole):
            alike = tuple(outcomes[j] for j in js)
            named = replace(design, outcome=alike[0])
            parts += self._fit_alike(whole.of(js), seen, alike, moments, named, len(labels))
        return parts

    def _fit_alike(
        self,
        block: Block,
        seen: BoolArray,
        outcomes: tuple[str, ...],
        moments: Moments,
        design: Design,
        n_clusters: int,
    ) -> list[dict[str, Any]]:
        """Fit outcomes seen in the same cells, all together and within each stratum."""
        parts = [
            self._fit_block(block.take(rows[seen[rows]]), moments, design, stratum, n_clusters)
            for stratum, rows in strata_of(moments)
        ]
        estimated = [part for part in parts if part["results"]]
        if not estimated:
            raise DesignError(
                f"no treated unit is seen both before and after entry with {listed(outcomes)}, so "
                "there is no effect to estimate. Check `unbalanced` (it can drop every treated "
                "unit) and `window`."
            )
        without = [part["stratum"] for part in parts if not part["results"]]
        for part in estimated:
            part.update(cohort_shares(part["masses"], part["place"], estimated[0]["weight"]))
            part.update(outcomes=outcomes, without=without, incomplete=int((~seen).sum()))
        return estimated

    def _require_applicable(self, moments: Moments) -> None:
        """Refuse options that these data would ignore."""
        crossed = moments.kind != "panel" or self.unbalanced == "rc"
        problems = Problems("the options of GroupTime", DesignError)
        if crossed and self.fix_weights in ("base_period", "first_period"):
            problems.add(
                f"fix_weights='{self.fix_weights}' needs units that are followed; in "
                "cross-sections each row has its own weight. Leave it out."
            )
        if crossed and self.covariate_period == "base":
            problems.add(
                "covariate_period='base' needs units that are followed; in cross-sections each "
                "row has its own covariates. Leave it out."
            )
        if not crossed and self.fix_weights == "varying" and self.covariate_period == "base":
            problems.add(
                "covariate_period='base' has no meaning with fix_weights='varying', by which each "
                "row has its own weight and covariates. Leave one of them out."
            )
        if moments.kind != "panel" and self.unbalanced == "balance":
            problems.add("unbalanced='balance' needs units that are followed. Leave it out.")
        if self.trim is not None and self.method == "reg":
            problems.add("`trim` is for propensities, which method='reg' does not have.")
        problems.raise_if_any()

    def _fit_block(
        self, block: Block, moments: Moments, design: Design, stratum: str | None, n_clusters: int
    ) -> dict[str, Any]:
        periods, cohorts = distinct(block.period), distinct(block.cohort)
        try:
            with naming(stratum):
                pairs, dropped = group_time_pairs(periods, cohorts, design)
        except DesignError:
            if stratum is None or self.on_failure == "raise":
                raise
            pairs, dropped = [], cohorts
        block = usable_cohorts(block, dropped)
        if self.unbalanced == "balance" and moments.kind == "panel":
            block = balanced(block, periods)
        settings = Settings(
            method=self.method, unbalanced=self.unbalanced, fix_weights=self.fix_weights,
            covariate_period=self.covariate_period, trim=self.trim, compatible=self.drdid_compat,
            followed=moments.kind == "panel", last=float(periods[-1]) + design.anticipation,
        )  # fmt: skip
        index = follow(block, periods) if settings.followed else None
        results, psi = estimate_pairs(block, index, periods, pairs, settings, n_clusters)
        masses, place, weight = treated_weights(
            block, results, n_clusters, index=index, by_pair=self.cell_share == "pair"
        )
        estimated = {(r.pair.cohort, r.pair.period) for r in results}
        without = [(p.cohort, p.period) for p in pairs if (p.cohort, p.period) not in estimated]
        return {
            "stratum": stratum, "results": results, "psi": psi, "masses": masses, "place": place,
            "weight": weight, "dropped": dropped, "first_period": float(periods[0]),
            "without_treated": without,
        }  # fmt: skip

    def _assemble(
        self,
        parts: list[dict[str, Any]],
        names: list[str],
        moments: Moments,
        design: Design,
        labels: pd.Index,
        ssc: SSC,
        multiplier: Multiplier | None,
    ) -> Estimates:
        for part in parts:
            # clusters that no comparison uses (a cohort without base, rows without outcome) are not
            # in the sample, so they do not count in the small-sample factor; one that is part of a
            # cohort's share is in it, even when none of its changes can be compared
            within = [r.counts.clusters for r in part["results"]]
            part["used"] = np.any([*within, (part["masses"] > 0).any(axis=1)], axis=0)
            size = int(part["used"].sum())
            if size < 2:
                _withdraw(part, moments.cluster_name)
            # a stratum found in few clusters has their factor and degrees of freedom, not all
            part["root"] = float(np.sqrt(ssc.factor(n_clusters=max(size, 2))))
            part["df"] = ssc.df(size)
            part["records"] = [_record(r, part, design, moments) for r in part["results"]]
        self._raise_failures(parts, design)
        used = np.any([part["used"] for part in parts], axis=0)
        # outcomes in order, then strata
        rows = [(name, part) for name in names for part in parts if name in part["outcomes"]]
        frame = pd.DataFrame([record for row in rows for record in _of_outcome(*row)])
        if moments.people:
            own = moments.unit_name == moments.cluster_name
            frame = without_small_strata(frame, clusters=own)
        psi = _influence(rows, used)
        root = np.repeat([part["root"] for _, part in rows], [len(p["results"]) for _, p in rows])
        # rows of several outcomes and periods have their shares in common
        columns, first = {}, 0
        for part in parts:
            columns[id(part)] = first + part["place"]
            first += part["share_psi"].shape[1]
        shares = Shares(
            value=np.concatenate([part["share"] for _, part in rows]),
            psi=np.concatenate([part["share_psi"][used] for part in parts], axis=1),
            column=np.concatenate([columns[id(part)] for _, part in rows]),
            vcov_scale=root,
        )
        return Estimates(
            frame=frame, psi=psi, psi_vcov=psi * root, clusters=labels[used],
            cluster_name=moments.cluster_name, shares=shares, multiplier=multiplier,
            meta=self._meta(parts, moments, design, int(used.sum()), vcov_name(ssc, multiplier), ssc),
        )  # fmt: skip

    def _meta(
        self,
        parts: list[dict[str, Any]],
        moments: Moments,
        design: Design,
        n_clusters: int,
        vcov: str,
        ssc: SSC,
    ) -> dict[str, Any]:
        notes = {r.counts.note for part in parts for r in part["results"]}
        crossed = (
            moments.kind != "panel" or self.unbalanced == "rc" or self.fix_weights == "varying"
        )
        partial = crossed and (self.method == "dr_imp" or self.drdid_compat)
        return {
            "estimator": "GroupTime",
            "options": asdict(self),
            "design": design_meta(design),
            "vcov": vcov,
            "ssc": ssc.name,
            "exactness": "moments" if moments.xx is not None else "unit pass",
            "n_clusters": n_clusters,
            "cluster": moments.cluster_name,
            "first_period": min(part["first_period"] for part in parts),
            "without_treated": sorted({x for part in parts for x in part["without_treated"]}),
            "strata_without_effects": list(dict.fromkeys(s for p in parts for s in p["without"])),
            "dropped_cohorts": sorted({float(g) for part in parts for g in part["dropped"]}),
            # of several outcomes, the one that is missing most
            "incomplete_cells": shown(max(p["incomplete"] for p in parts), moments.people),
            "influence": "as DRDID, regressions in part" if partial else DERIVATIVE,
            "language": "effect",
            "versions": versions("numpy", "scipy", "pandas"),
            "warnings": sorted(note for note in notes if note),
        }

    def _raise_failures(self, parts: list[dict[str, Any]], design: Design) -> None:
        # outcomes seen in the same cells fail together
        several = len({part["outcomes"] for part in parts}) > 1
        rows = [(part, r) for part in parts for r in part["results"]]
        lines = "".join(
            f"\n  {listed(part['outcomes']) + ', ' if several else ''}"
            f"{'' if part['stratum'] is None else 'stratum `' + part['stratum'] + '`, '}cohort "
            f"{r.pair.cohort:g} at period {r.pair.period:g}: {r.failure}"
            for part, r in rows if r.failure is not None
        )  # fmt: skip
        failed = [r for _, r in rows if r.failure is not None]
        if not failed or (self.on_failure == "skip" and len(failed) < len(rows)):
            return
        error = DesignError if all(r.no_comparison for r in failed) else EstimationError
        remedy = "drop the covariate that is named"
        if error is DesignError:
            late = [r.pair.period for r in failed if r.pair.period >= r.pair.cohort]
            remedy = "start `window` later"
            if late:
                remedy = f"end `window` earlier, leave out periods from {min(late):g} on"
            if design.comparison == "never_treated":
                remedy = "use comparison='not_yet_treated'"
        raise error(
            f"{len(failed)} of {len(rows)} group-time effects cannot be estimated:{lines}\n"
            f"To go on, {remedy}, or pass on_failure='skip' to leave these rows missing with "
            "their reason."
        )


def _withdraw(part: dict[str, Any], cluster: str) -> None:
    """Fail the results of a stratum that is found in one cluster."""
    reason = f"its units are all in one cluster (`{cluster}`), so its error cannot be measured"
    part["psi"][:] = 0.0
    part["results"] = [
        r if r.failure is not None
        else r._replace(estimate=np.full(len(r.estimate), np.nan), failure=reason)
        for r in part["results"]
    ]  # fmt: skip


def _record(
    result: PairResult, part: dict[str, Any], design: Design, moments: Moments
) -> dict[str, Any]:
    """Return what a row says of every outcome of its part."""
    pair: GroupTimePair = result.pair
    own_clusters = moments.unit_name == moments.cluster_name
    record: dict[str, Any] = {
        "estimand": GROUP_TIME,
        "outcome": None,
        "unit_of_measure": design.unit_of_measure,
        "cohort": pair.cohort,
        "period": pair.period,
        "event_time": pair.event_time,
        "stratum": part["stratum"],
        "estimate": np.nan,
        "base": pair.base,
        "n_clusters": shown(int(result.counts.clusters.sum()), moments.people and own_clusters),
        "note": result.failure or result.counts.note,
    }
    counts = {
        "n_units": result.counts.n_treated + result.counts.n_comparison,
        "n_treated": result.counts.n_treated,
        "n_comparison": result.counts.n_comparison,
    }
    for name, count in counts.items():
        record[name] = shown(count, moments.people)
    record["df"] = part["df"]
    return record


def _of_outcome(name: str, part: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of one outcome of a part."""
    j = part["outcomes"].index(name)
    return [
        {**record, "outcome": name, "estimate": float(result.estimate[j])}
        for record, result in zip(part["records"], part["results"], strict=True)
    ]


def _influence(rows: list[tuple[str, dict[str, Any]]], used: BoolArray) -> FloatArray:
    """Return the influence of clusters on rows of outcomes and parts, shape (G, k)."""
    first = rows[0][1]
    if used.all() and [(name, id(first)) for name in first["outcomes"]] == [
        (name, id(part)) for name, part in rows
    ]:
        # as it was written: nothing is copied
        return np.asarray(first["psi"].reshape(-1, len(used)).T)
    parts = [part["psi"][part["outcomes"].index(name)] for name, part in rows]
    return np.concatenate([psi if used.all() else psi[:, used] for psi in parts]).T
