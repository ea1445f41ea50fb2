"""Efficient averages under randomly timed entry (Roth and Sant'Anna 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.disclosure import is_small, say_people
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray, IntArray
from vbceval.core.version import versions
from vbceval.design import Design
from vbceval.did.blocks import Block, complete, follow, make_block
from vbceval.did.cohort_means import (
    Adjusted,
    CohortMeans,
    Comparison,
    adjust,
    cohort_means,
)
from vbceval.did.cohorts_said import says_of_cohorts
from vbceval.did.disclosed import without_small_counts
from vbceval.did.inputs import (
    as_moments,
    cluster_labels,
    design_meta,
    shown,
    small_sample,
    strata_of,
    vcov_name,
)
from vbceval.did.rollout import KINDS, Goal, goals
from vbceval.estimates import Estimates
from vbceval.inference import SSC, Multiplier
from vbceval.moments import Moments
from vbceval.panel import Panel

_DESIGN_BASED = ("adjusted", "neyman")


class _Units(NamedTuple):
    """Balanced units of one stratum: outcomes (N, T), cohort and cluster (N,), periods (T,)."""

    y: FloatArray
    cohort: FloatArray
    cluster: IntArray
    periods: FloatArray
    unbalanced: int


class _Part(NamedTuple):
    """Averages of one stratum."""

    stratum: str | None
    means: CohortMeans
    goals: list[Goal]
    result: Adjusted
    fisher: FloatArray | None
    dropped: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Efficient:
    """
    Average effects when the timing of entry is (as good as) random.

    Each average is a contrast of cohort means minus beta times the same contrast just before
    entry, which random timing makes zero on average. Beta is chosen from the data to lower the
    variance: 0 compares levels, 1 is difference-in-differences. More precise than `GroupTime`, but
    it asks more: entry at random among clusters, not only parallel trends.

    Not a weighted average of the rows of other estimators, and its rows are not averages of each
    other: each has its own beta. Results come averaged; `Estimates.aggregate` does not apply.

    Exactness: the rows of a followed panel (``unit pass``).

    Parameters
    ----------
    estimand : {"simple", "cohort", "period", "event_time", "group_time"} or sequence of them
        Which averages, by default the first four. "simple": all effects at or after entry,
        weighted by cohort size; "cohort": each cohort over its treated periods, and
        ``att_overall`` over cohorts by size; "period": cohorts treated in a period, and the plain
        mean over periods; "event_time": cohorts by size at each time since entry, and the plain
        mean over times from 0 on; `window` of the design chooses the times (negative ones are
        placebos); "group_time": every cohort and period. Column ``average`` names the kind.
    beta : "efficient" or float, default "efficient"
        Multiple of the contrast before entry that is taken away. With 1 and
        ``comparison="not_yet_treated"`` the estimate is that of Callaway and Sant'Anna (R
        `staggered_cs`), with "never_treated" that of Sun and Abraham (`staggered_sa`); with 0 a
        difference in means.
    before : {"base", "all"}
        Adjust by the same contrast in the period before entry, one number; or by every cohort
        minus the last one in every period before its entry (R ``use_DiD_A0=FALSE``), which may
        need many clusters.
    without_base : {"keep", "drop"}, optional
        Cohorts already treated in the first period: kept (their effects are differences in
        levels), or left out. Default: left out when `beta` is 1, as R `staggered_cs` does.
    singletons : {"raise", "drop"}
        Cohorts of one cluster have no variance: an error, or left out as R does. Either way they
        are listed.
    permutations : int, default 0
        Draws of a randomization test: cohorts are permuted over clusters, and ``fisher_p_value``
        is the share of draws with a t statistic at least as large, the data at hand counted.
    seed : int
        Seed of the permutations.

    References
    ----------
    .. [1] Roth, J. and Sant'Anna, P. H. C. (2023). Efficient estimation for staggered rollout
       designs. *Journal of Political Economy Microeconomics* 1(4), 669-709.
    """

    estimand: str | Sequence[str] = ("simple", "cohort", "period", "event_time")
    beta: float | Literal["efficient"] = "efficient"
    before: Literal["base", "all"] = "base"
    without_base: Literal["keep", "drop"] | None = None
    singletons: Literal["raise", "drop"] = "raise"
    permutations: int = 0
    seed: int = 20210101

    def __post_init__(self) -> None:
        kinds = (self.estimand,) if isinstance(self.estimand, str) else tuple(self.estimand)
        object.__setattr__(self, "estimand", kinds)
        problems = Problems("the options of Efficient", DesignError)
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            problems.add(f"`estimand` is {kinds!r}; name some of {listed(KINDS)}.")
        if self.beta != "efficient" and not np.isfinite(_number(self.beta)):
            problems.add(f"`beta` is {self.beta!r}; use 'efficient' or a number.")
        if self.before not in ("base", "all"):
            problems.add(f"`before` is {self.before!r}; use 'base' or 'all'.")
        elif self.before == "all" and self.beta not in ("efficient", 0):
            problems.add("before='all' adjusts by many contrasts, so `beta` is 'efficient' or 0.")
        if self.without_base not in (None, "keep", "drop"):
            problems.add(f"`without_base` is {self.without_base!r}; use 'keep' or 'drop'.")
        if self.singletons not in ("raise", "drop"):
            problems.add(f"`singletons` is {self.singletons!r}; use 'raise' or 'drop'.")
        draws = _number(self.permutations)
        if not (draws >= 0 and draws == np.floor(draws)):
            problems.add(f"`permutations` is {self.permutations!r}; use a whole number, 0 or more.")
        problems.raise_if_any()
        object.__setattr__(self, "permutations", int(draws))

    @says_of_cohorts
    def fit(
        self,
        data: Panel | Moments,
        design: Design,
        *,
        vcov: str | Multiplier = "adjusted",
        ssc: SSC | None = None,
    ) -> Estimates:
        """
        Estimate averages of effects.

        Parameters
        ----------
        data : Panel or Moments
            Followed units. Clusters above the unit are what is assigned: one cohort each. Units
            not seen in every period are left out and counted. With strata, all together and within
            each stratum, jointly.
        design : Design
            Outcome, comparison ("never_treated" takes the last cohort, before it enters, where all
            enter), anticipation, and the window of "event_time".
        vcov : {"adjusted", "neyman", "CR0", "CR1", "bootstrap"} or Multiplier
            "neyman": design-based, conservative where effects differ within cohorts; "adjusted"
            (default, `se` of R): less what outcomes before entry show of that. Both count
            clusters minus one within each cohort and have normal quantiles. The others treat
            clusters as a sample: sums of squared influences, as in other estimators.
        ssc : SSC, optional
            Small-sample factor, with "CR1" and "bootstrap" only.

        Returns
        -------
        Estimates
            Columns ``average``, ``beta`` and ``std_error_neyman`` beside the usual. The joint
            covariance of "adjusted" keeps the correlations of "neyman".

        Raises
        ------
        DesignError
            If a cohort has one cluster, cohorts differ within a cluster, nothing is identified, or
            an option of the design does not apply.
        EstimationError
            If units are not followed.

        References
        ----------
        .. [1] Roth, J. and Sant'Anna, P. H. C. (2023). Efficient estimation for staggered rollout
           designs. *Journal of Political Economy Microeconomics* 1(4), 669-709. Sections 2.4-2.6.
        """
        if vcov in _DESIGN_BASED:
            if ssc is not None and ssc != SSC.none():
                raise EstimationError(
                    f"vcov='{vcov}' counts clusters minus one in each cohort and takes no other "
                    f"factor, but ssc is '{ssc.name}'. Leave it out, or use vcov='CR1'."
                )
            factor, multiplier = SSC.none(), None
        else:
            factor, multiplier = small_sample("Efficient", vcov, ssc)
        moments = as_moments(data, design)
        self._require_applicable(moments, data, design)
        labels = cluster_labels(moments)
        block = make_block(moments, design, labels)
        seen = complete(block)
        parts = []
        for stratum, rows in strata_of(moments):
            units = _balanced(block.take(rows[seen[rows]]), design, stratum)
            parts.append(self._fit_part(units, moments, design, stratum, len(labels)))
        used = np.any([part.means.cohort_of >= 0 for part in parts], axis=0)
        psi = np.concatenate([part.result.psi for part in parts], axis=1)[used]
        neyman = np.concatenate([part.result.neyman for part in parts], axis=1)[used]
        name = str(vcov) if vcov in _DESIGN_BASED else vcov_name(factor, multiplier)
        frame = pd.concat([_framed(part, moments, design) for part in parts], ignore_index=True)
        if moments.people:
            frame = without_small_counts(frame, ["average", "cohort", "period", "event_time"])
        frame["std_error_neyman"] = np.sqrt((neyman**2).sum(axis=0))
        if vcov in _DESIGN_BASED:
            shrink = np.concatenate([part.result.shrink for part in parts])
            psi_vcov = neyman * (shrink if vcov == "adjusted" else 1.0)
        else:
            sizes = [int((part.means.cohort_of >= 0).sum()) for part in parts for _ in part.goals]
            psi_vcov = psi * np.sqrt([factor.factor(n_clusters=size) for size in sizes])
            frame["df"] = [factor.df(size) for size in sizes]
        return Estimates(
            frame=frame, psi=psi, psi_vcov=psi_vcov, clusters=labels[used],
            cluster_name=moments.cluster_name, multiplier=multiplier,
            meta=self._meta(parts, moments, design, name, factor),
        )  # fmt: skip

    def _require_applicable(self, moments: Moments, data: Panel | Moments, design: Design) -> None:
        if moments.kind != "panel" or moments.xx is not None:
            raise EstimationError(
                "Efficient compares means of followed units over periods, and these data are sums "
                "of rows or not followed. Give the rows as a Panel, or first average them to one "
                "row a cluster and period."
            )
        problems = Problems("the design", DesignError)
        if design.covariates or design.fixed_effects is not None:
            problems.add("Efficient takes no `covariates` or `fixed_effects`. Leave them out.")
        if design.base_period == "universal":
            problems.add("Efficient has no `base_period` to choose. Leave it at its default.")
        if np.ptp(moments.w) > 0 or design.balance_weights is not None:
            problems.add(
                "Efficient compares plain means of cohorts, by which clusters are assigned at "
                "random, so weights do not apply. Leave out `weight` and `balance_weights`."
            )
        problems.raise_if_any()

    def _fit_part(
        self,
        units: _Units,
        moments: Moments,
        design: Design,
        stratum: str | None,
        n_clusters: int,
    ) -> _Part:
        comparison = Comparison(design.comparison == "never_treated", design.anticipation)
        units, dropped = self._usable(units, moments, design, stratum)

        def summarise(cohort: FloatArray) -> CohortMeans:
            return cohort_means(units.y, cohort, units.cluster, units.periods, n_clusters)

        means = summarise(units.cohort)
        wanted = goals(means, comparison, tuple(self.estimand), design.window)
        if not wanted:
            within = "" if stratum is None else f" in stratum `{stratum}`"
            window = "" if design.window is None else f" and `window` {design.window}"
            raise DesignError(
                f"no effect{within} has a treated cohort with a later one to compare with, in "
                f"periods {units.periods[0]:g} to {units.periods[-1]:g}{window}. Add periods before "
                f"the last cohort enters{', or widen `window`' if window else ''}."
            )
        beta = None if self.beta == "efficient" else _number(self.beta)

        def estimate(of: CohortMeans) -> Adjusted:
            targets = [goal.target(of) for goal in wanted]
            return adjust(of, targets, comparison, beta=beta, before=self.before)

        result = estimate(means)
        fisher = None
        if self.permutations:
            rng = generator(self.seed, "randomization", stratum or "all")
            first = np.unique(units.cluster, return_index=True)[1]
            place = np.searchsorted(units.cluster[first], units.cluster)
            own, larger = _t(result), np.ones(len(wanted))
            for _ in range(self.permutations):
                drawn = units.cohort[first][rng.permutation(len(first))][place]
                larger += _t(estimate(summarise(drawn))) >= own * (1 - 1e-12)
            fisher = larger / (1 + self.permutations)
        return _Part(stratum, means, wanted, result, fisher, dropped)

    def _usable(
        self, units: _Units, moments: Moments, design: Design, stratum: str | None
    ) -> tuple[_Units, dict[str, Any]]:
        """Leave out cohorts that cannot be used, and say which."""
        within = "" if stratum is None else f"stratum `{stratum}`: "
        cohorts, count = _clusters_of(units, moments.cluster_name, within)
        drop_early = self.without_base or ("drop" if self.beta == 1 else "keep")
        early = cohorts <= units.periods[0] + design.anticipation
        lost = cohorts[early] if drop_early == "drop" else cohorts[:0]
        alone = cohorts[(count < 2) & ~np.isin(cohorts, lost)]
        if len(alone) and self.singletons == "raise":
            raise DesignError(
                f"{within}cohort {_names(alone)} has one cluster (`{moments.cluster_name}`), so its "
                "variance cannot be estimated. Leave it out with singletons='drop', or join "
                "cohorts."
            )
        keep = ~np.isin(units.cohort, np.concatenate([lost, alone]))
        units = units._replace(
            y=units.y[keep], cohort=units.cohort[keep], cluster=units.cluster[keep]
        )
        if len(np.unique(units.cohort)) < 2:
            raise DesignError(self._too_few_cohorts(units, moments, design, lost, alone, within))
        dropped = {
            "without_base": [float(g) for g in lost],
            "singletons": [float(g) for g in alone],
            "unbalanced_units": shown(units.unbalanced, moments.people),
        }
        return units, dropped

    def _too_few_cohorts(
        self,
        units: _Units,
        moments: Moments,
        design: Design,
        lost: FloatArray,
        alone: FloatArray,
        within: str,
    ) -> str:
        """Say what left fewer than two cohorts, as far as it is known."""
        count = units.unbalanced
        number = say_people(count, "units") if moments.people else f"{count:,} units"
        why = [
            f"{number} lack `{design.outcome}` in some of {len(units.periods)} periods and are left out"
        ] * (count > 0)
        why += [f"cohort {_names(lost)} is treated from the first period on"] * (len(lost) > 0)
        why += [f"cohort {_names(alone)} has one cluster"] * (len(alone) > 0)
        remedy = "Leave out periods that units miss, or add" if count else "Add"
        return (
            f"{within}fewer than two cohorts are left, so nobody enters later than others or never"
            f"{': ' if why else ''}{'; '.join(why)}. {remedy} units that enter at another time."
        )

    def _meta(
        self, parts: list[_Part], moments: Moments, design: Design, vcov: str, ssc: SSC
    ) -> dict[str, Any]:
        lost = {p.stratum or "all": p.dropped for p in parts}
        said = [
            f"{'' if p.stratum is None else p.stratum + ': '}cohorts left out: {_names(out)}"
            for p in parts
            if (out := [*p.dropped["without_base"], *p.dropped["singletons"]])
        ]
        return {
            "estimator": "Efficient", "options": asdict(self), "design": design_meta(design),
            "vcov": vcov, "ssc": ssc.name, "exactness": "unit pass",
            "n_clusters": int(np.any([p.means.cohort_of >= 0 for p in parts], axis=0).sum()),
            "cluster": moments.cluster_name, "left_out": lost, "language": "effect",
            "assumption": "random timing of entry", "seed": self.seed,
            "versions": versions("numpy", "scipy", "pandas"), "warnings": said,
        }  # fmt: skip


def _number(value: Any) -> float:
    try:
        return float("nan") if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return float("nan")


def _names(cohorts: Iterable[float]) -> str:
    return listed("never treated" if np.isinf(g) else f"{g:g}" for g in cohorts)


def _t(result: Adjusted) -> FloatArray:
    """Return absolute t statistics with the adjusted error; infinite without variation."""
    error = np.sqrt((result.neyman**2).sum(axis=0)) * result.shrink
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error > 0, np.abs(result.estimate) / error, np.inf)


def _balanced(block: Block, design: Design, stratum: str | None) -> _Units:
    """Arrange units seen in every period; cohorts after the data end are never treated."""
    periods = np.unique(block.period)
    if not len(periods):
        within = "" if stratum is None else f" in stratum `{stratum}`"
        raise DesignError(
            f"no row{within} has the outcome `{design.outcome}` and a positive weight. Check it."
        )
    at = follow(block, periods).at
    whole = (at >= 0).all(axis=1)
    at, first = at[whole], at[whole, 0]
    cohort = block.cohort[first]
    last = periods[-1] + design.anticipation
    cohort = np.where(np.isnan(cohort) | (cohort > last), np.inf, cohort)
    return _Units(block.y[at, 0], cohort, block.cluster[first], periods, int((~whole).sum()))


def _clusters_of(units: _Units, name: str, within: str) -> tuple[FloatArray, IntArray]:
    """Return cohorts and their clusters; every cluster must be of one cohort."""
    pairs = np.unique(np.column_stack([units.cluster, units.cohort]), axis=0)
    repeated = len(pairs) - len(np.unique(pairs[:, 0])) if len(pairs) else 0
    if repeated:
        raise DesignError(
            f"{within}{repeated:,} clusters (`{name}`) hold units of more than one cohort, but "
            "clusters are what is assigned to a time of entry. Cluster on the unit that enters."
        )
    cohorts, count = np.unique(pairs[:, 1], return_counts=True)
    return cohorts, count


def _framed(part: _Part, moments: Moments, design: Design) -> pd.DataFrame:
    means, rows = part.means, []
    # where a cohort is of few people, sums of cohorts would tell its size
    hidden = moments.people and bool(is_small(means.size).any())
    for i, goal in enumerate(part.goals):
        treated, controls = goal.cohorts(means)
        counts = {
            "n_units": int(means.size[treated | controls].sum()),
            "n_treated": int(means.size[treated].sum()),
            "n_comparison": int(means.size[controls & ~treated].sum()),
        }
        rows.append({
            **goal.keys, "outcome": design.outcome, "unit_of_measure": design.unit_of_measure,
            "stratum": part.stratum, "estimate": float(part.result.estimate[i]),
            **{k: np.nan if hidden else shown(v, moments.people) for k, v in counts.items()},
            "n_clusters": int(np.isin(means.cohort_of, np.flatnonzero(treated | controls)).sum()),
            "beta": float(part.result.beta[i]),
        })  # fmt: skip
    frame = pd.DataFrame(rows)
    if hidden and moments.unit_name == moments.cluster_name:
        frame["n_clusters"] = np.nan
    if part.fisher is not None:
        frame["fisher_p_value"] = part.fisher
    return frame
