"""Bayesian hierarchical difference-in-differences on cell means."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from vbceval.bayes.averages import averages
from vbceval.bayes.cells import Cells, PersonSd, from_moments
from vbceval.bayes.checks import Convergence, Limits
from vbceval.bayes.coefficients import structure
from vbceval.bayes.draws import prior_effects
from vbceval.bayes.engines import Model, Posterior, by_nodes, by_nuts
from vbceval.bayes.groups import Once, add_groups, by_name, observed, posterior_check
from vbceval.bayes.model import Shocks, active_scales
from vbceval.bayes.organizations import organization_effects
from vbceval.bayes.priors import PriorName, Priors, in_dollars, named
from vbceval.bayes.sample import Progress
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray
from vbceval.core.version import versions
from vbceval.design import Design
from vbceval.estimates import Estimates
from vbceval.moments import Moments
from vbceval.panel import Panel

_PRIOR_DRAWS = 4000
_NUTS: dict[str, float] = {"tune": 500, "target_accept": 0.8}
_NODES = 1024

Engine = Literal["exact", "nuts"]


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

    Exactness: ``moments``, given the persons' standard deviation.

    Parameters
    ----------
    person_sd : float or mapping of stratum to float, optional
        Standard deviation of one person-year around its cell mean, in the unit of the outcome.
        Needed where cells hold no variation between persons; state its source and vary it.
    person_sd_uncertainty : float, default 0
        Standard deviation of the log of `person_sd` in its prior, by stratum; 0 takes it as known,
        0.5 lets it be off by a factor of 2.7 either way. What is estimated is the part that is new
        every year: the part of persons' spending that lasts is in the intercepts.
    prior : {"default", "skeptical", "flat"} or Priors
        Scales of the priors, percent of baseline; printed in dollars in ``meta``.
    shocks : {"ar1", "iid", "none"}
        Law of organizations' shocks over periods. Without them intervals are too narrow.
    organization_effects : bool, default True
        Let effects differ between organizations.
    engine : {"exact", "nuts"}
        ``"exact"`` integrates: variance parameters over weighted nodes about their mode, all else
        in closed form; draws are not autocorrelated. ``"nuts"`` samples with the no-U-turn sampler:
        the check on the other, at many times its cost. Both have the same model and the same result.
    draws, chains : int, default 1000 and 4
        Draws of each chain; of the exact engine ``draws * chains`` in random order.
    tune : int, optional
        Warm-up iterations of each chain, default 500. Engine "nuts".
    target_accept : float, optional
        Mean acceptance that the sampler aims at, default 0.8. Engine "nuts".
    nodes : int, optional
        Points of the integration, a power of two, default 1024; another pass, where one is
        needed, has twice as many. Engine "exact".
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
    prior: PriorName | Priors = "default"
    shocks: Shocks = "ar1"
    organization_effects: bool = True
    engine: Engine = "exact"
    draws: int = 1000
    chains: int = 4
    tune: int | None = None
    target_accept: float | None = None
    nodes: int | None = None
    seed: int = 20210101

    def __post_init__(self) -> None:
        if self.shocks not in ("ar1", "iid", "none"):
            raise DesignError(f"`shocks` is '{self.shocks}'; use 'ar1', 'iid' or 'none'.")
        named(self.prior)
        self._check_engine()
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
        if self.engine not in ("exact", "nuts"):
            raise DesignError(f"`engine` is '{self.engine}'; use 'exact' or 'nuts'.")
        other: dict[str, float | None] = {"nodes": self.nodes}
        if self.engine == "exact":
            other = {"tune": self.tune, "target_accept": self.target_accept}
            if self.draws < 4 or self.chains < 2:
                raise DesignError(
                    f"`draws` is {self.draws} and `chains` {self.chains}; at least 4 and 2, so "
                    "that ArviZ can compare chains, as for the other engine."
                )
        given = [f"`{name}`" for name, value in other.items() if value is not None]
        if given:
            raise DesignError(
                f"{', '.join(given)} belongs to the other engine than engine='{self.engine}', "
                "where it would change nothing. Leave it out, or choose the other engine."
            )
        if self.nodes is not None and (self.nodes < 64 or self.nodes & (self.nodes - 1)):
            raise DesignError(
                f"`nodes` is {self.nodes}; use a power of two from 64 on: points of a Sobol "
                "sequence are even in such numbers only."
            )

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
            outcome and in percent of baseline (see `vbceval.bayes.averages`). Organizations' own
            deviations have mean zero and are not part of them; see `organizations`. The DataTree
            (`Estimates.to_arviz`) has ``posterior`` (see `vbceval.bayes.draws.natural`),
            ``log_likelihood`` by cluster, ``log_prior``, ``prior``, ``posterior_predictive`` and
            ``observed_data``.

        Raises
        ------
        DesignError
            If the design asks for what the model does not do, data cannot answer it, or `progress`
            is given to the exact engine.
        EstimationError
            If the posterior cannot be trusted, naming the parameter and the remedy.
        """
        cells, cluster_name = self._cells(data, design, baseline)
        priors, parts = named(self.prior), structure(cells)
        active = active_scales(cells, shocks=self.shocks, organizations=self.organization_effects)
        frame, weights = averages(cells, design)
        model = Model(cells, parts, priors, active, self.person_sd_uncertainty, weights)
        found = self._posterior(model, limits, progress)
        frame["estimate"] = found.mean
        tree = found.tree
        tree["observed_data"] = observed(cells)
        prior = prior_effects(parts, priors, generator(self.seed, "prior"), _PRIOR_DRAWS)
        misfit = posterior_check(cells, tree, seed=self.seed)
        misfit.require_scale()
        meta = {
            **self._meta(cells, design, priors, found.seen),
            **found.said,
            "prior_predictive": _prior_predictive(prior @ weights[1]),
            "posterior_predictive": by_name(misfit),
        }
        complete = functools.partial(
            add_groups, tree, cells, priors, parts.names[1:], found=misfit, prior=prior,
            averages=prior @ weights.T,
        )  # fmt: skip
        return Estimates(
            frame=frame, samples=found.draws, interval="credible", cluster_name=cluster_name,
            tree=Once(complete), meta=meta,
        )  # fmt: skip

    def _posterior(
        self, model: Model, limits: Limits | None, progress: Progress | None
    ) -> Posterior:
        if self.engine == "exact":
            if progress is not None:
                raise DesignError(
                    "the exact engine reports no progress: it takes seconds. Leave out `progress`."
                )
            return by_nodes(
                model, draws=self.draws, chains=self.chains, nodes=self.nodes or _NODES,
                seed=self.seed, limits=limits,
            )  # fmt: skip
        tune = _NUTS["tune"] if self.tune is None else self.tune
        accept = _NUTS["target_accept"] if self.target_accept is None else self.target_accept
        return by_nuts(
            model, draws=self.draws, tune=int(tune), chains=self.chains, target_accept=accept,
            seed=self.seed, limits=limits, progress=progress,
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

        Exact given each draw of the variances: deviations are drawn from their normal law.

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
            Estimand ``effect_organization``, percent of baseline, one row a treated organization:
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
        cells, cluster_name = self._cells(data, design, baseline)
        tree = posterior.to_arviz()
        if posterior.meta.get("options") != self._options():
            raise EstimationError(
                "`posterior` was fitted with other options than this model has, so its draws would "
                "be read wrongly. Use the `HierarchicalDiD` that made it."
            )
        if not tree["observed_data"].to_dataset().equals(observed(cells)):
            raise EstimationError(
                "`posterior` was fitted to other cells than `data`, `design` and `baseline` give, "
                "so residuals of organizations would be wrong. Pass what was passed to `fit`."
            )
        frame, draws = organization_effects(
            cells, tree, outcome=design.outcome, size=size, seed=self.seed
        )
        return Estimates(
            frame=frame, samples=draws, interval="credible", cluster_name=cluster_name,
            meta=dict(posterior.meta),
        )  # fmt: skip

    def _cells(
        self,
        data: Panel | Moments,
        design: Design,
        baseline: Mapping[str, float] | float | None,
    ) -> tuple[Cells, str]:
        moments = (
            data.of(design.outcome)
            if isinstance(data, Moments)
            else Moments.from_panel(
                data, outcomes=[design.outcome], covariates=list(design.covariates)
            )
        )
        cells = from_moments(moments, design, person_sd=self.person_sd, baseline=baseline)
        return cells, moments.cluster_name

    def _options(self) -> dict[str, Any]:
        return {**asdict(self), "prior": asdict(named(self.prior))}

    def _meta(
        self, cells: Cells, design: Design, priors: Priors, seen: Convergence
    ) -> dict[str, Any]:
        unit = design.unit_of_measure or "units of the outcome"
        weights = np.bincount(cells.stratum, cells.exposure)
        return {
            "estimator": "HierarchicalDiD",
            "options": self._options(),
            "design": {
                "outcome": design.outcome, "covariates": list(design.covariates),
                "anticipation": design.anticipation, "window": design.window,
                "comparison": "every untreated cell",
            },
            "prior": in_dollars(priors, float(np.average(cells.baseline, weights=weights)), unit),
            "convergence": asdict(seen),
            "baseline": dict(zip(map(str, cells.strata), cells.baseline.tolist(), strict=True)),
            "n_clusters": len(cells.clusters),
            "n_cells": len(cells.y),
            "dropped_cells": dict(cells.dropped),
            "seed": self.seed,
            "exactness": "moments",
            "versions": versions(*(["pymc"] if self.engine == "nuts" else []), "arviz", "numpy"),
            "warnings": list(seen.notes),
        }  # fmt: skip


def _prior_predictive(overall: FloatArray) -> dict[str, float | bool]:
    """Say what the prior alone implies about the overall effect, percent of baseline."""
    low, high = np.quantile(overall, [0.025, 0.975])
    size = np.abs(overall)
    return {
        "low_95": float(low),
        "high_95": float(high),
        "median_size": float(np.median(size)),
        "size_90": float(np.quantile(size, 0.9)),
        # an evaluation's prior should not rule out zero, nor effects as large as any program's
        "covers_zero_and_5_percent": bool(low < -5.0 and high > 5.0),
    }
