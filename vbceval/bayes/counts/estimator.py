"""Fit a model of counts and write its result."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from vbceval.bayes.checks import Limits
from vbceval.bayes.counts.cells import CountCells, from_counts
from vbceval.bayes.counts.engine import CountMarginal, count_laws
from vbceval.bayes.counts.families import Counts
from vbceval.bayes.counts.fit import CountPosterior, by_laplace, complete, marginal_of, prior_of
from vbceval.bayes.counts.model import by_nuts
from vbceval.bayes.counts.predictive import require_dispersion
from vbceval.bayes.counts.priors import RatePriors, in_percent, in_rates, named
from vbceval.bayes.counts.rows import Rows, change_in_percent
from vbceval.bayes.groups import (
    Once,
    add_data,
    by_name,
    mean_baseline,
    meta_of,
    observed,
    prior_predictive,
)
from vbceval.bayes.model import Shocks, active_scales
from vbceval.bayes.sample import Progress
from vbceval.bayes.weights import summary
from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray
from vbceval.design import Design
from vbceval.estimates import Estimates
from vbceval.estimates.columns import OVERALL
from vbceval.moments import Moments

COUNT_NODES, LINE_NODES = 512, 128
"""Points of the integration by default, and under other priors than the fitted one."""
_LINE = {"below_zero": "probability_below_0"}


@dataclass(frozen=True, kw_only=True)
class CountModel:
    """
    Options of a model of counts; those of `vbceval.bayes.HierarchicalDiD`.

    Parameters
    ----------
    family : {"binomial", "poisson", "negative_binomial"}
        Law of the counts.
    prior : str or RatePriors
        Prior scales, or their name.
    alternatives : tuple
        Others under which the overall effect is reported beside.
    shocks : {"ar1", "iid", "none"}
        Law of organizations' shocks.
    organization_effects : bool
        Whether effects differ between organizations.
    engine : {"laplace", "nuts"}
        Engine.
    draws, chains, nodes, tune, seed : int
        Sizes and seed.
    target_accept : float
        Of the sampler.
    """

    family: Counts
    prior: Any
    alternatives: tuple[Any, ...]
    shocks: Shocks
    organization_effects: bool
    engine: Literal["laplace", "nuts"]
    draws: int
    chains: int
    nodes: int
    tune: int
    target_accept: float
    seed: int

    @property
    def priors(self) -> RatePriors:
        """Prior scales."""
        return named(self.prior)

    def cells(
        self, moments: Moments, design: Design, baseline: Mapping[str, float] | float | None
    ) -> CountCells:
        """Return the checked counts of a design."""
        return from_counts(moments, design, self.family, baseline=baseline)

    def marginal(self, data: CountCells, design: Design) -> tuple[CountMarginal, Rows]:
        """Return the density of variance parameters, and what is reported."""
        active = active_scales(
            data.cells, shocks=self.shocks, organizations=self.organization_effects
        )
        return marginal_of(data, design, self.priors, active)

    def fit(
        self, moments: Moments, design: Design, *, options: Mapping[str, Any],
        baseline: Mapping[str, float] | float | None, limits: Limits | None,
        progress: Progress | None,
    ) -> Estimates:  # fmt: skip
        """
        Compute the posterior; parameters and result as in `vbceval.bayes.HierarchicalDiD.fit`.

        Parameters
        ----------
        moments, design, baseline, limits, progress
            As there.
        options : mapping
            Options of the estimator, for ``meta``.
        """
        data = self.cells(moments, design, baseline)
        marginal, reported = self.marginal(data, design)
        found = self._posterior(marginal, reported, limits, progress)
        require_dispersion(found.kept.statistics)
        add_data(found.tree, count_data(data), "events")
        prior = change_in_percent(data, prior_of(marginal, seed=self.seed))
        make = functools.partial(
            complete, found.tree, marginal, found.values, found.kept, reported, seed=self.seed
        )
        meta = {
            **meta_of(
                data.cells, design, found.seen, seed=self.seed, sampled=self.engine == "nuts"
            ),
            "prior": in_rates(self.priors, self.family, mean_baseline(data.cells)),
            **found.said,
            "options": dict(options),
            "prior_predictive": prior_predictive(prior @ reported.percent[1]),
            "prior_sensitivity": self._lines(marginal, reported, found),
            "posterior_predictive": by_name(found.kept.statistics),
        }
        return Estimates(
            frame=reported.frame.assign(estimate=found.mean), samples=found.draws,
            interval="credible", cluster_name=moments.cluster_name, tree=Once(make), meta=meta,
        )  # fmt: skip

    def _posterior(
        self, marginal: CountMarginal, reported: Rows, limits: Limits | None,
        progress: Progress | None,
    ) -> CountPosterior:  # fmt: skip
        if self.engine == "laplace":
            return by_laplace(
                marginal, reported, draws=self.draws, chains=self.chains, nodes=self.nodes,
                seed=self.seed, limits=limits,
            )  # fmt: skip
        return by_nuts(
            marginal, reported, draws=self.draws, tune=self.tune, chains=self.chains,
            target_accept=self.target_accept, seed=self.seed, limits=limits, progress=progress,
        )  # fmt: skip

    def _lines(
        self, marginal: CountMarginal, reported: Rows, found: CountPosterior
    ) -> list[dict[str, Any]]:
        """
        Return the overall effect under the fitted prior and under others; see `LINE_NODES`.

        Records have the keys of `vbceval.bayes.alternatives.prior_lines`; the standard deviation of
        the prior is that of the effect at entry, percent of the baseline over all strata.
        """
        base = mean_baseline(marginal.grid.data.cells)
        chosen = np.flatnonzero(reported.frame["estimand"] == OVERALL)
        keys = reported.frame.iloc[chosen][["estimand", "outcome", "unit_of_measure", "stratum"]]
        even = np.full(len(found.draws), 1.0 / len(found.draws))
        own = summary(found.draws[:, chosen], even, 0.95).assign(estimate=found.mean[chosen])
        lines = [(self.prior, own, "as fitted", np.nan)]
        for other in self.alternatives:
            if named(other) == self.priors:
                continue
            laws = count_laws(marginal.grid, named(other), marginal.active)
            under = replace(marginal, priors=named(other), laws=laws)
            try:
                again = by_laplace(
                    under, reported, draws=250, chains=4, nodes=LINE_NODES, seed=self.seed,
                    limits=Limits(ess=0.0),
                )  # fmt: skip
            except EstimationError as error:
                missing = own.assign(**dict.fromkeys(own.columns, np.nan))
                lines.append((other, missing, f"failed: {error}", np.nan))
                continue
            even = np.full(len(again.draws), 1.0 / len(again.draws))
            table = summary(again.draws[:, chosen], even, 0.95).assign(estimate=again.mean[chosen])
            k = float(again.said["integration"]["k_hat"])
            lines.append((other, table, "integrated again", k))
        return [
            {
                **{str(k): v for k, v in key.items()},
                "prior": prior if isinstance(prior, str) else "custom",
                "prior_mean_percent": 0.0, "prior_sd_percent": in_percent(named(prior), self.family, base),
                **{_LINE.get(str(k), str(k)): float(v) for k, v in table.iloc[i].items()},
                "level": 0.95, "method": method, "pareto_k": k_hat,
            }
            for i, key in enumerate(keys.to_dict("records"))
            for prior, table, method, k_hat in lines
        ]  # fmt: skip


def count_data(data: CountCells) -> Any:
    """Return the counts as the model read them, and their places."""
    columns: dict[str, FloatArray] = {"events": data.events, "size": data.size}
    return observed(data.cells).assign({k: (("cell",), v) for k, v in columns.items()})
