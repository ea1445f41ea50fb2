"""Bayesian hierarchical difference-in-differences on cell means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from vbceval.bayes.averages import averages
from vbceval.bayes.cells import Cells, PersonSd, from_moments
from vbceval.bayes.checks import Convergence, Limits, require_converged
from vbceval.bayes.coefficients import PARTS, Structure, reference, structure
from vbceval.bayes.draws import DIMS, Parameters, cluster_terms, flatten, natural, prior_effects
from vbceval.bayes.model import Shocks, active_scales, build
from vbceval.bayes.organizations import organization_effects
from vbceval.bayes.predictive import check
from vbceval.bayes.priors import PriorName, Priors, in_dollars, log_density, named
from vbceval.bayes.sample import Progress, one_thread, sample
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray
from vbceval.core.version import versions
from vbceval.design import Design
from vbceval.estimates import Estimates
from vbceval.moments import Moments
from vbceval.panel import Panel

_SPREADS = (
    "common_shock", "stratum_shock", "organization_sd", "rho", "overlap", "person_sd",
    "person_factor",
    *(f"{name}_sd" for name in PARTS[1:]),
)  # fmt: skip
_PRIOR_DRAWS = 4000
_CHECKED_DRAWS = 200


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
    out exactly; the rest is sampled.

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
    draws, tune, chains : int
        Kept and warm-up iterations of each chain.
    target_accept : float, default 0.8
        Mean acceptance that the sampler aims at.
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
    draws: int = 1000
    tune: int = 500
    chains: int = 4
    target_accept: float = 0.8
    seed: int = 20210101

    def __post_init__(self) -> None:
        if self.shocks not in ("ar1", "iid", "none"):
            raise DesignError(f"`shocks` is '{self.shocks}'; use 'ar1', 'iid' or 'none'.")
        named(self.prior)
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
        Sample the posterior.

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
            Convergence limits of every reported average; default R-hat 1.01, effective sample
            size 400. Standard deviations and autocorrelation, which are not reported, must reach
            half of it and twice the distance of R-hat from 1.
        progress : callable, optional
            As in `vbceval.bayes.sample.sample`.

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
            If the design asks for what the model does not do, or data cannot answer it.
        EstimationError
            If the draws cannot be trusted, naming the parameter and the remedy.
        """
        cells, cluster_name = self._cells(data, design, baseline)
        priors = named(self.prior)
        active = active_scales(cells, shocks=self.shocks, organizations=self.organization_effects)
        parts = structure(cells)
        with one_thread():
            around = reference(cells, parts, priors, active)
            model = build(
                cells, parts, priors, active, around, person_log_sd=self.person_sd_uncertainty
            )
            tree = sample(
                model, draws=self.draws, tune=self.tune, chains=self.chains, seed=self.seed,
                target_accept=self.target_accept, progress=progress,
            )  # fmt: skip
            tree = natural(tree, cells, parts, priors, around)
        frame, weights = averages(cells, design)
        draws = flatten(tree, "effect") @ weights.T
        frame["estimate"] = draws.mean(axis=0)
        seen = _converged(tree, draws, limits)
        prior = prior_effects(parts, priors, generator(self.seed, "prior"), _PRIOR_DRAWS)
        misfit = self._complete(tree, cells, parts, priors, prior, prior @ weights.T)
        meta = {
            **self._meta(cells, design, priors, seen),
            "prior_predictive": _prior_predictive(prior @ weights[1]),
            "posterior_predictive": misfit,
        }
        return Estimates(
            frame=frame, samples=draws, interval="credible", cluster_name=cluster_name, tree=tree,
            meta=meta,
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
        if not tree["observed_data"].to_dataset().equals(_observed(cells)):
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

    def _complete(
        self, tree: Any, cells: Cells, parts: Structure, priors: Priors, prior: FloatArray,
        prior_averages: FloatArray,
    ) -> dict[str, dict[str, float]]:  # fmt: skip
        """Add the groups that checks read; return the posterior predictive check."""
        import xarray

        tree["observed_data"] = _observed(cells)
        posterior = tree["posterior"].to_dataset()
        shape = (posterior.sizes["chain"], posterior.sizes["draw"])
        coords = {name: posterior[name].values for name in DIMS}
        parameters = Parameters(cells, tree)
        likelihood, _ = cluster_terms(parameters, np.arange(len(parameters)))
        tree["log_likelihood"] = xarray.Dataset(
            {"cells": ((*DIMS, "cluster"), likelihood.reshape(*shape, -1))},
            coords={**coords, "cluster": [str(c) for c in cells.clusters]},
        )
        spreads = [f"{name}_sd" for name in parts.names[1:]]
        tree["log_prior"] = xarray.Dataset(
            {
                "effect": (
                    DIMS,
                    log_density(
                        priors, posterior["effect_at_entry"].values,
                        [posterior[name].values for name in spreads],
                    ),
                )
            },
            coords=coords,
        )  # fmt: skip
        tree["prior"] = xarray.Dataset(
            {
                "effect": ((*DIMS, "effect_cell"), prior[None]),
                "average": ((*DIMS, "row"), prior_averages[None]),
            },
            coords={"effect_cell": cells.coords["effect_cell"]},
        )
        chosen = np.linspace(0, len(parameters) - 1, min(_CHECKED_DRAWS, len(parameters)))
        found = check(parameters, chosen.astype(np.int64), generator(self.seed, "predictive"))
        tree["posterior_predictive"] = xarray.Dataset(
            {
                "replicated": ((*DIMS, "statistic"), found.replicated[None]),
                "observed": ((*DIMS, "statistic"), found.observed[None]),
            },
            coords={"statistic": list(found.names)},
        )
        return {
            name: {"observed": float(o), "replicated": float(r), "p_value": float(p)}
            for name, o, r, p in zip(
                found.names, found.observed.mean(axis=0), found.replicated.mean(axis=0),
                found.p_value, strict=True,
            )
        }  # fmt: skip

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
            "versions": versions("pymc", "arviz", "numpy"),
            "warnings": list(seen.notes),
        }  # fmt: skip


def _observed(cells: Cells) -> Any:
    """Return the cells as the model read them: percent of baseline, and their places."""
    import xarray

    columns = {
        "y": cells.y, "precision": cells.layout.precision, "exposure": cells.exposure,
        "cluster": cells.cluster, "effect": cells.effect_of_cell, "stratum": cells.stratum,
        "period": cells.period,
    }  # fmt: skip
    found: dict[str, Any] = {name: (("cell",), values) for name, values in columns.items()}
    found["x"] = (("cell", "covariate"), cells.x)
    return xarray.Dataset(found)


def _converged(tree: Any, draws: FloatArray, limits: Limits | None) -> Convergence:
    """Judge the reported averages, and less strictly what they are averaged over."""
    limits = Limits() if limits is None else limits
    posterior = tree["posterior"]
    shape = (posterior.sizes["chain"], posterior.sizes["draw"], draws.shape[1])
    # tests of convergence read a tree; averages are a function of its draws
    tree["posterior"] = posterior.to_dataset().assign(
        average=((*DIMS, "row"), draws.reshape(shape))
    )
    loose = replace(limits, r_hat=1 + 2 * (limits.r_hat - 1), ess=limits.ess / 2)
    require_converged(tree, [x for x in _SPREADS if x in posterior], loose)
    return require_converged(tree, ["average"], limits)


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
