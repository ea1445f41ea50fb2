"""Bayesian hierarchical difference-in-differences on cell means."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from vbceval.bayes.alternatives import STANDARD, prior_lines
from vbceval.bayes.averages import averages
from vbceval.bayes.cells import Cells, PersonSd, from_moments, moments_of
from vbceval.bayes.checks import Limits
from vbceval.bayes.coefficients import structure
from vbceval.bayes.counts.estimator import COUNT_NODES, CountModel, count_data
from vbceval.bayes.counts.families import COUNTS
from vbceval.bayes.counts.organizations import count_effects
from vbceval.bayes.counts.priors import RatePriors
from vbceval.bayes.counts.priors import named as named_rates
from vbceval.bayes.counts.rows import log_unit
from vbceval.bayes.draws import prior_effects
from vbceval.bayes.engines import Model, Posterior, by_nodes, by_nuts, require_sizes
from vbceval.bayes.exact import NODES
from vbceval.bayes.groups import (
    Once,
    add_data,
    add_groups,
    by_name,
    mean_baseline,
    meta_of,
    observed,
    posterior_check,
    prior_predictive,
    same_data,
)
from vbceval.bayes.heavy import prior_of_heavy
from vbceval.bayes.model import Pooling, Shocks, ShockScale, Tails, active_scales, require_laws
from vbceval.bayes.organizations import organization_effects
from vbceval.bayes.priors import PriorName, Priors, in_dollars, named
from vbceval.bayes.sample import Progress
from vbceval.bayes.simulated import prior_cells
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.rng import generator
from vbceval.design import Design
from vbceval.estimates import Estimates
from vbceval.moments import Moments
from vbceval.panel import Panel

_PRIOR_DRAWS = 4000
_NUTS: dict[str, float] = {"tune": 500, "target_accept": 0.8}

Engine = Literal["exact", "laplace", "nuts"]
Family = Literal["gaussian", "binomial", "poisson", "negative_binomial"]


@dataclass(frozen=True, kw_only=True)
class HierarchicalDiD:
    """
    Hierarchical model of cell means: how likely is it that spending fell, for whom, and where.

    A cell mean is period effect of its stratum + intercept of its unit and stratum + shock to its
    organization in that year (common to strata, and of the stratum) + effect if treated + sampling
    error. The effect is the sum of an effect at entry and parts by cohort, event time (a random
    walk), stratum and their combination, each partly pooled, and of the organization's own lasting
    deviation. Everything is in percent of the stratum's mean before entry, so that strata of very
    different spending share their pooling. Intercepts, shocks, deviations and noise are integrated
    out exactly. So are period effects, slopes and effects by the exact engine, which leaves a few
    variance parameters to numerical integration; the other engine samples both.

    Where a cluster has several units with cells of the same stratum and period (files that restate
    the same years), they share the shock and an estimated part of the sampling error.

    Every untreated cell serves as comparison, also of organizations that enter later: parallel
    trends are needed over all periods, unlike in a group-time comparison. The base of an effect is
    all untreated periods of the unit, so `Design.base_period` makes no difference.

    Counts (readmissions, visits) have the same structure on the scale of log odds or log rates,
    with proper priors of intercepts; trials or exposure are the panel's exposure, or its weight.

    Exactness: ``moments``, given the persons' standard deviation; counts and exposure by themselves.

    Parameters
    ----------
    family : {"gaussian", "binomial", "poisson", "negative_binomial"}
        Law of a cell: of its mean, or of its count.
    person_sd : float or mapping of stratum to float, optional
        Standard deviation of one person-year around its cell mean, in the unit of the outcome.
        Needed where cells hold no variation between persons; state its source and vary it.
    person_sd_uncertainty : float, default 0
        Standard deviation of the log of `person_sd` in its prior, by stratum; 0 takes it as known,
        0.5 lets it be off by a factor of 2.7 either way. What is estimated is the part that is new
        every year: the part of persons' spending that lasts is in the intercepts.
    prior : {"default", "skeptical", "flat"} or Priors or RatePriors
        Scales of the priors, percent of baseline (of counts: `RatePriors`, log odds or log rates);
        printed in the unit of the outcome in ``meta``.
    alternatives : tuple of {"default", "skeptical", "flat"} or Priors or RatePriors
        Under which other priors the overall effect is reported beside the fit, in
        ``meta["prior_sensitivity"]`` (see `vbceval.bayes.alternatives.prior_lines`); all three by
        default. They add about half to the cost of the exact engine; () reports none.
    shocks : {"ar1", "iid", "none"}
        Law of organizations' shocks over periods. Without them intervals are too narrow.
    shock_scale : {"equal", "stratum"}
        Whether shocks of strata have one standard deviation, or each stratum its own.
    tails : {"normal", "student"}
        "student" lets shocks of some organizations be larger than of others. Engine "nuts".
    pooling : {"normal", "horseshoe"}
        Law of the parts by cohort and stratum: "horseshoe" for a few large ones among many that
        are small. Engine "nuts".
    organization_effects : bool, default True
        Let effects differ between organizations.
    engine : {"exact", "laplace", "nuts"}, optional
        Default: "exact", and of counts "laplace", which is it with random effects and coefficients
        approximated by a normal law with corrected mean. ``"exact"`` integrates: variance parameters over weighted nodes about their mode, all else
        in closed form; draws are not autocorrelated. ``"nuts"`` samples with the no-U-turn sampler:
        the check on the other, at many times its cost. Both have the same model and the same result.
    draws, chains : int, default 1000 and 4
        Draws of each chain; of engines that integrate ``draws * chains`` in random order.
    tune : int, optional
        Warm-up iterations of each chain, default 500. Engine "nuts".
    target_accept : float, optional
        Mean acceptance that the sampler aims at, default 0.8. Engine "nuts".
    nodes : int, optional
        Points of the integration, a power of two, default 1024, of counts 512; another pass, where
        one is needed, has twice as many. Engines "exact" and "laplace".
    seed : int, default 20210101
        Seed.

    References
    ----------
    .. [1] Gelman, A. and Hill, J. (2007). *Data Analysis Using Regression and Multilevel/
       Hierarchical Models*. Chapters 12-13.

    Examples
    --------
    >>> model = HierarchicalDiD(person_sd={"dual": 30_000.0, "not dual": 19_000.0})
    >>> model.prior, model.shocks
    ('default', 'ar1')
    """

    person_sd: PersonSd | None = None
    person_sd_uncertainty: float = 0.0
    prior: PriorName | Priors | RatePriors = "default"
    alternatives: tuple[PriorName | Priors | RatePriors, ...] = STANDARD
    shocks: Shocks = "ar1"
    shock_scale: ShockScale = "equal"
    tails: Tails = "normal"
    pooling: Pooling = "normal"
    organization_effects: bool = True
    family: Family = "gaussian"
    engine: Engine | None = None
    draws: int = 1000
    chains: int = 4
    tune: int | None = None
    target_accept: float | None = None
    nodes: int | None = None
    seed: int = 20210101

    def __post_init__(self) -> None:
        self._check_engine()
        require_laws(
            shocks=self.shocks, shock_scale=self.shock_scale, tails=self.tails,
            pooling=self.pooling, family=self.family, sampled=self.engine == "nuts",
        )  # fmt: skip
        for prior in (self.prior, *self.alternatives):
            self.scales(prior)
        if not 0.0 <= self.person_sd_uncertainty < np.inf:
            raise DesignError(
                f"`person_sd_uncertainty` is {self.person_sd_uncertainty}; it is the standard "
                "deviation of a logarithm: 0 or more, such as 0.5."
            )
        if self.person_sd is None and self.person_sd_uncertainty > 0:
            raise DesignError(
                "`person_sd_uncertainty` says how far a stated `person_sd` may be off, and none is "
                "stated: it is estimated from variation within cells. State it, or leave both out."
            )

    def _check_engine(self) -> None:
        if self.family not in (*COUNTS, "gaussian"):
            raise DesignError(
                f"`family` is '{self.family}'; use {', '.join(('gaussian', *COUNTS))}."
            )
        own: Engine = "exact" if self.family == "gaussian" else "laplace"
        if self.engine is None:
            object.__setattr__(self, "engine", own)
        if self.engine not in (own, "nuts"):
            raise DesignError(
                f"`engine` is '{self.engine}'; with family='{self.family}' use '{own}' or 'nuts'."
            )
        if self.family != "gaussian" and self.person_sd is not None:
            raise DesignError(
                "`person_sd` belongs to family='gaussian': the spread of a count follows from its "
                "mean. Leave it out."
            )
        require_sizes(
            engine=self.engine, sampled=self.engine != own, draws=self.draws, chains=self.chains,
            nodes=self.nodes, tune=self.tune, target_accept=self.target_accept,
        )  # fmt: skip

    def fit(
        self,
        data: Panel | Moments,
        design: Design,
        *,
        baseline: Mapping[str, float] | float | None = None,
        limits: Limits | None = None,
        progress: Progress | None = None,
    ) -> Estimates:
        """
        Compute the posterior.

        Parameters
        ----------
        data : Panel or Moments
            Units are the owners of intercepts, clusters the organizations. The panel's weight (or,
            with `person_sd` and rows that are not weighted, its exposure) is the number of
            person-years behind a cell; effects are averaged by exposure, or by that number where
            there is none.
        design : Design
            Outcome, covariates (their period-specific slopes), window, anticipation.
        baseline : float or mapping of stratum to float, optional
            Mean before entry of each stratum. Default: that of the treated in the data.
        limits : Limits, optional
            Limits of every reported average; default R-hat 1.01, effective sample size 400.
            Standard deviations and autocorrelation, which are not reported, must reach half of it
            and twice the distance of R-hat from 1. The exact engine reads `Limits.ess` alone: its
            other gates are fixed (`vbceval.bayes.quadrature.integrate`).
        progress : callable, optional
            As in `vbceval.bayes.sample.sample`; the exact engine takes none.

        Returns
        -------
        Estimates
            With draws. ``att_overall``, ``att_event_time``, ``att_cohort``, ``att_stratum``: means
            of the effect over treated cells weighted by person-years, each in the unit of the
            outcome and in percent of baseline (see `vbceval.bayes.averages`); of counts weighted by
            trials or exposure, in percentage points or events per unit of exposure, and in log odds
            or log rate as well. Organizations' own
            deviations have mean zero and are not part of them; see `organizations`. The DataTree
            (`Estimates.to_arviz`) has ``posterior`` (see `vbceval.bayes.draws.natural`),
            ``log_likelihood`` by cluster, ``log_prior``, ``prior``, ``observed_data``,
            ``posterior_predictive`` and ``prior_predictive`` of the same cells (see
            `vbceval.bayes.predictive.replicated`), ``constant_data``, and ``predictive_checks`` (see `vbceval.bayes.predictive_table`).

        Raises
        ------
        DesignError
            If the design asks for what the model does not do, data cannot answer it, or `progress`
            is given to the exact engine.
        EstimationError
            If the posterior cannot be trusted, naming the parameter and the remedy.
        """
        if progress is not None and self.engine != "nuts":
            raise DesignError(
                f"the {self.engine} engine reports no progress. Leave out `progress`."
            )
        if self.family != "gaussian":
            return self._counts.fit(
                moments_of(data, design), design, baseline=baseline, limits=limits,
                progress=progress, options=self._options(),
            )  # fmt: skip
        cells, cluster_name, seen = self._cells(data, design, baseline)
        # sets of the other family were refused when the model was made
        sets = (self.prior, *self.alternatives)
        fitted, *others = (p for p in sets if not isinstance(p, RatePriors))
        priors = named(fitted)
        parts = structure(cells, centre=priors.effect_mean)
        student, horseshoe = self.tails == "student", self.pooling == "horseshoe"
        active = active_scales(
            cells, shocks=self.shocks, organizations=self.organization_effects, student=student,
            by_stratum=self.shock_scale == "stratum", horseshoe=horseshoe,
        )  # fmt: skip
        frame, weights = averages(cells, design)
        model = Model(cells, parts, priors, active, self.person_sd_uncertainty, weights)
        found = self._posterior(model, limits, progress)
        frame["estimate"] = found.mean
        add_data(found.tree, seen, "y")
        rng = generator(self.seed, "prior")
        prior = prior_effects(parts, priors, rng, _PRIOR_DRAWS, horseshoe=horseshoe)
        misfit = posterior_check(cells, found.tree, seed=self.seed)
        misfit.require_scale()
        unit = design.unit_of_measure or "units of the outcome"
        meta = {
            **meta_of(cells, design, found.seen, seed=self.seed, sampled=self.engine == "nuts"),
            "options": self._options(),
            "prior": in_dollars(priors, mean_baseline(cells), unit)
            | prior_of_heavy(student=student, horseshoe=horseshoe),
            **found.said,
            "prior_predictive": prior_predictive(prior @ weights[1]),
            "prior_sensitivity": prior_lines(
                model, found, frame, fitted=fitted, others=others, seed=self.seed
            ),
            "posterior_predictive": by_name(misfit),
        }
        complete = functools.partial(
            add_groups, found.tree, cells, priors, parts.names[1:], found=misfit, prior=prior,
            averages=prior @ weights.T, seed=self.seed,
            before=functools.partial(prior_cells, model, seed=self.seed),
        )  # fmt: skip
        return Estimates(
            frame=frame, samples=found.draws, interval="credible", cluster_name=cluster_name,
            tree=Once(complete), meta=meta,
        )  # fmt: skip

    def _posterior(
        self, model: Model, limits: Limits | None, progress: Progress | None
    ) -> Posterior:
        if self.engine == "exact":
            return by_nodes(
                model, draws=self.draws, chains=self.chains, nodes=self.nodes or NODES,
                seed=self.seed, limits=limits,
            )  # fmt: skip
        return by_nuts(
            model, draws=self.draws, chains=self.chains, seed=self.seed, limits=limits,
            progress=progress, **self._warm_up(),
        )  # fmt: skip

    def organizations(
        self,
        posterior: Estimates,
        data: Panel | Moments,
        design: Design,
        *,
        baseline: Mapping[str, float] | float | None = None,
        size: int = 1000,
    ) -> Estimates:
        """
        Return the effect in each treated organization, shrunken, from a fitted posterior.

        Exact given each draw of the variances: deviations are drawn from their normal law; those
        of counts are read from the draws of the fit.

        Parameters
        ----------
        posterior : Estimates
            Result of `fit` on the same data and design.
        data, design, baseline
            As in `fit`.
        size : int, default 1000
            Posterior draws used, evenly spaced.

        Returns
        -------
        Estimates
            Estimand ``effect_organization``, percent of baseline (of counts log odds or log rate),
            one row a treated organization:
            columns ``cluster``, ``cohort``, ``raw`` (not shrunken) and ``shrinkage`` (share of the
            raw deviation that is taken away).

        Raises
        ------
        DesignError
            If the model has no organization effects, or `size` is too small.
        EstimationError
            If the posterior is of another model or of other cells, or chains disagree about an
            organization.
        """
        if not self.organization_effects:
            raise DesignError(
                "the model was fitted without organization effects; set organization_effects=True."
            )
        cells, cluster_name, seen = self._cells(data, design, baseline)
        tree = posterior.to_arviz()
        if posterior.meta.get("options") != self._options():
            raise EstimationError(
                "`posterior` was fitted with other options than this model has, so its draws would "
                "be read wrongly. Use the `HierarchicalDiD` that made it."
            )
        if not same_data(tree, seen):
            raise EstimationError(
                "`posterior` was fitted to other cells than `data`, `design` and `baseline` give, "
                "so residuals of organizations would be wrong. Pass what was passed to `fit`."
            )
        if self.family == "gaussian":
            frame, draws = organization_effects(
                cells, tree, outcome=design.outcome, size=size, seed=self.seed
            )
        else:
            unit = log_unit(self._counts.family)
            frame, draws = count_effects(cells, tree, outcome=design.outcome, unit=unit, size=size)
        return Estimates(
            frame=frame, samples=draws, interval="credible", cluster_name=cluster_name,
            meta=dict(posterior.meta),
        )  # fmt: skip

    def _cells(
        self,
        data: Panel | Moments,
        design: Design,
        baseline: Mapping[str, float] | float | None,
    ) -> tuple[Cells, str, Any]:
        """Return cells, the name of clusters, and what the tree of a fit says was observed."""
        moments = moments_of(data, design)
        if self.family != "gaussian":
            counts = self._counts.cells(moments, design, baseline)
            return counts.cells, moments.cluster_name, count_data(counts)
        cells = from_moments(moments, design, person_sd=self.person_sd, baseline=baseline)
        return cells, moments.cluster_name, observed(cells)

    def scales(self, prior: PriorName | Priors | RatePriors) -> Priors | RatePriors:
        """
        Return a set of priors by name, or as it is, of the family of the model.

        Parameters
        ----------
        prior : {"default", "skeptical", "flat"} or Priors or RatePriors
            Name or set.

        Raises
        ------
        EstimationError
            If the name is not known, or the set is that of another family.
        """
        return named(prior) if self.family == "gaussian" else named_rates(prior)

    @property
    def _counts(self) -> CountModel:
        return CountModel(
            family=next(family for family in COUNTS if family == self.family), prior=self.prior,
            alternatives=self.alternatives, shocks=self.shocks,
            organization_effects=self.organization_effects,
            engine="nuts" if self.engine == "nuts" else "laplace", draws=self.draws, chains=self.chains,
            nodes=self.nodes or COUNT_NODES, seed=self.seed, **self._warm_up(),
        )  # fmt: skip

    def _warm_up(self) -> dict[str, Any]:
        """Return what the sampler is told beside its draws."""
        tune = _NUTS["tune"] if self.tune is None else self.tune
        accept = _NUTS["target_accept"] if self.target_accept is None else self.target_accept
        return {"tune": int(tune), "target_accept": accept}

    def _options(self) -> dict[str, Any]:
        return {**asdict(self), "prior": asdict(self.scales(self.prior))}
