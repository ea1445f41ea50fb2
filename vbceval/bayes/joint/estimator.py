"""`JointDiD`: the hierarchical model of several outcomes of the same organizations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import linalg

from vbceval.bayes.alternatives import STANDARD
from vbceval.bayes.averages import averages
from vbceval.bayes.cells import Cells, PersonSd, from_moments, moments_of
from vbceval.bayes.checks import Convergence, Limits
from vbceval.bayes.draws import prior_effects
from vbceval.bayes.groups import Once, by_name, prior_predictive
from vbceval.bayes.hierarchical import HierarchicalDiD
from vbceval.bayes.joint.alternatives import joint_lines
from vbceval.bayes.joint.correlated import Joint, stated_correlation
from vbceval.bayes.joint.posterior import Found, add_groups, check_each, posterior
from vbceval.bayes.joint.stacked import Stacked, stack_cells
from vbceval.bayes.model import Shocks
from vbceval.bayes.priors import PriorName, Priors, in_dollars, named
from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DesignError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray
from vbceval.core.version import versions
from vbceval.design import Design
from vbceval.estimates import Estimates
from vbceval.moments import Moments
from vbceval.panel import Panel

_PRIOR_DRAWS = 4000


@dataclass(frozen=True, kw_only=True)
class JointDiD:
    """
    Hierarchical model of several outcomes: did spending fall while quality did not?

    Each outcome has the model of `HierarchicalDiD`, in percent of its own baseline, with effects
    partly pooled within the outcome. An organization's shocks, its lasting own effects and the
    noise of its persons are correlated between outcomes, so that statements about two outcomes
    together (`Estimates.draws`, `contrast`) are right. The posterior of one outcome alone is close
    to that of `HierarchicalDiD`.

    All outcomes have one autocorrelation of shocks, and the shocks common to strata are correlated
    like those of one stratum.

    Exactness: ``moments``, given the persons' standard deviations. Engine: the exact one.

    Parameters
    ----------
    person_sd : mapping of outcome to (float or mapping of stratum to float), optional
        As in `HierarchicalDiD`, by outcome; outcomes that it leaves out are estimated from
        variation within cells.
    person_sd_uncertainty : float, default 0
        As in `HierarchicalDiD`, for every stated one.
    person_correlation : float or mapping of (outcome, outcome) to float, optional
        Correlation between outcomes of one person-year. Default: it has the prior of the other
        correlations; what tells it from that of shocks is that noise falls with the number of
        persons behind a cell.
    prior : {"default", "skeptical", "flat"} or Priors
        Scales of the priors, percent of each outcome's baseline.
    alternatives : tuple of {"default", "skeptical", "flat"} or Priors
        Under which other priors the overall effect on each outcome is reported beside the fit, in
        ``meta["prior_sensitivity"]``, as in `HierarchicalDiD`; all three by default.
    concentration : float, default 2
        Exponent of the LKJ prior of correlation matrices: 1 is uniform, larger values draw
        towards zero.
    shocks : {"ar1", "iid", "none"}
        Law of organizations' shocks over periods.
    organization_effects : bool, default True
        Let effects differ between organizations.
    draws, chains : int, default 1000 and 4
        ``draws * chains`` draws in random order.
    nodes : int, optional
        Points of the integration, a power of two, default 1024.
    seed : int, default 20210101
        Seed.

    References
    ----------
    .. [1] Lewandowski, D., Kurowicka, D. and Joe, H. (2009). Generating random correlation matrices
       based on vines and extended onion method. *Journal of Multivariate Analysis* 100(9),
       1989-2001.

    Examples
    --------
    >>> JointDiD(person_sd={"spend": 20_000.0, "visits": 1.5}).concentration
    2.0
    """

    person_sd: Mapping[str, PersonSd] | None = None
    person_sd_uncertainty: float = 0.0
    person_correlation: float | Mapping[tuple[str, str], float] | None = None
    prior: PriorName | Priors = "default"
    alternatives: tuple[PriorName | Priors, ...] = STANDARD
    concentration: float = 2.0
    shocks: Shocks = "ar1"
    organization_effects: bool = True
    draws: int = 1000
    chains: int = 4
    nodes: int | None = None
    seed: int = 20210101

    def __post_init__(self) -> None:
        # options that both models have are checked where the other has them
        HierarchicalDiD(
            prior=self.prior, alternatives=self.alternatives, shocks=self.shocks, draws=self.draws, chains=self.chains,
            nodes=self.nodes, seed=self.seed, person_sd=None if self.person_sd is None else 1.0,
            person_sd_uncertainty=self.person_sd_uncertainty,
        )  # fmt: skip
        if self.person_sd is not None and not isinstance(self.person_sd, Mapping):
            raise DesignError(
                f"`person_sd` is {self.person_sd!r}; outcomes differ in unit, so give a mapping of "
                "outcome to standard deviation (or to one by stratum)."
            )
        if any(named(prior).effect_mean != 0.0 for prior in (self.prior, *self.alternatives)):
            raise DesignError(
                "a prior has an `effect_mean`, which is evidence on one outcome, and would be taken "
                "for all of them. Use priors centred at zero, or `HierarchicalDiD` for that outcome."
            )
        if not 0.0 < self.concentration < np.inf:
            raise DesignError(
                f"`concentration` is {self.concentration}; it is a positive number, 1 for uniform "
                "correlations of two outcomes."
            )

    def fit(
        self,
        data: Panel | Moments,
        designs: Sequence[Design],
        *,
        baseline: Mapping[str, Mapping[str, float] | float] | None = None,
        limits: Limits | None = None,
    ) -> Estimates:
        """
        Compute the joint posterior.

        Parameters
        ----------
        data : Panel or Moments
            As in `HierarchicalDiD.fit`. Outcomes may miss some cells.
        designs : sequence of Design
            One for each outcome.
        baseline : mapping of outcome to (float or mapping of stratum to float), optional
            Mean before entry. Default: that of the treated in the data.
        limits : Limits, optional
            `Limits.ess` of every reported average, default 400.

        Returns
        -------
        Estimates
            Rows of `HierarchicalDiD.fit` for each outcome, with joint draws. The DataTree has
            ``posterior`` (``effect``, ``effect_at_entry``, ``period_effect``, standard deviations
            and correlations by outcome), ``log_likelihood`` by cluster, ``log_prior``, ``prior``,
            ``observed_data``, ``posterior_predictive`` and ``prior_predictive`` of the same cells,
            and ``constant_data``.

        Raises
        ------
        DesignError
            If outcomes are fewer than two or repeated, options name others, or a design cannot be
            answered.
        EstimationError
            If the posterior cannot be trusted, or noise is on another scale than the residuals.
        """
        outcomes = self._outcomes(designs, baseline)
        single, cluster_name = self._cells(data, designs, baseline)
        stacked = stack_cells(single, outcomes)
        priors = named(self.prior)
        stated = np.concatenate([np.full(c.n_strata, c.within is None) for c in single])
        joint = Joint(
            stacked=stacked, shocks=self.shocks, organizations=self.organization_effects,
            person_log_sd=self.person_sd_uncertainty, stated=stated,
            person_correlation=self._person_correlation(outcomes),
            concentration=self.concentration,
        )  # fmt: skip
        rows = [averages(c, d) for c, d in zip(single, designs, strict=True)]
        weights = linalg.block_diag(*[r.weights for r in rows])
        found = posterior(
            joint, priors, weights, draws=self.draws, chains=self.chains, nodes=self.nodes,
            seed=self.seed, limits=limits,
        )  # fmt: skip
        misfit = check_each(stacked, found.tree, joint, seed=self.seed)
        for seen in misfit:
            seen.require_scale()
        frame = pd.concat([r.frame for r in rows], ignore_index=True)
        frame["estimate"] = found.mean
        prior = prior_effects(stacked.parts, priors, generator(self.seed, "prior"), _PRIOR_DRAWS)
        firsts = np.cumsum([0, *[len(r.frame) for r in rows]])[:-1]
        meta = {
            **self._meta(stacked, designs, priors, found.seen),
            "integration": found.integration,
            # the second row of an outcome is its overall effect in percent
            "prior_predictive": {
                name: prior_predictive(prior @ weights[k + 1])
                for name, k in zip(outcomes, firsts, strict=True)
            },
            "prior_sensitivity": joint_lines(
                joint,
                found,
                frame,
                weights,
                fitted=self.prior,
                others=self.alternatives,
                seed=self.seed,
            ),
            "posterior_predictive": dict(zip(outcomes, map(by_name, misfit), strict=True)),
        }
        return Estimates(
            frame=frame, samples=found.draws, interval="credible", cluster_name=cluster_name,
            tree=Once(_Groups(found, joint, priors, prior, weights, self.seed)), meta=meta,
        )  # fmt: skip

    def _outcomes(
        self, designs: Sequence[Design], baseline: Mapping[str, Any] | None
    ) -> tuple[str, ...]:
        if isinstance(designs, Design):
            raise DesignError(
                "`designs` is one design; give a list of at least two, one for each outcome. For "
                "one outcome use `HierarchicalDiD`."
            )
        names = tuple(d.outcome for d in designs)
        if len(names) < 2 or len(set(names)) < len(names):
            raise DesignError(
                f"`designs` have the outcomes {listed(names)}; a joint model needs at least two "
                "different ones. For one outcome use `HierarchicalDiD`."
            )
        problems = Problems("options by outcome", DesignError)
        for option, given in (("person_sd", self.person_sd), ("baseline", baseline)):
            other = [str(x) for x in given or () if x not in names]
            if other:
                problems.add(
                    f"`{option}` names {listed(other)}, which no design has as outcome "
                    f"({listed(names)}), so it would change nothing."
                )
        if isinstance(self.person_correlation, Mapping):
            pairs = [set(pair) for pair in self.person_correlation]
            given_pairs = zip(self.person_correlation, pairs, strict=True)
            other = [str(x) for x, pair in given_pairs if len(pair) < 2 or not pair <= set(names)]
            if other:
                problems.add(
                    f"`person_correlation` names {listed(other)}, which are no two outcomes of the "
                    f"designs ({listed(names)}), so it would change nothing."
                )
            if any(pairs.count(x) > 1 for x in pairs):
                problems.add("`person_correlation` gives a pair in both orders. Keep one.")
        problems.raise_if_any()
        return names

    def _person_correlation(self, outcomes: tuple[str, ...]) -> FloatArray | None:
        if self.person_correlation is None:
            return None
        found = stated_correlation(self.person_correlation, outcomes)
        least = np.nan if np.isnan(found).any() else float(np.linalg.eigvalsh(found)[0])
        if not least > 0:
            raise DesignError(
                "`person_correlation` gives no correlation matrix of the outcomes "
                f"{listed(outcomes)}: a pair is missing, or values do not go together. Give one "
                "number between -1 and 1, or one for every pair, such as "
                f"{{('{outcomes[0]}', '{outcomes[1]}'): 0.3}}."
            )
        return found

    def _cells(
        self, data: Panel | Moments, designs: Sequence[Design], baseline: Mapping[str, Any] | None
    ) -> tuple[list[Cells], str]:
        single, name = [], "cluster"
        for design in designs:
            moments = moments_of(data, design)
            single.append(
                from_moments(
                    moments, design, person_sd=(self.person_sd or {}).get(design.outcome),
                    baseline=(baseline or {}).get(design.outcome),
                )
            )  # fmt: skip
            name = moments.cluster_name
        return single, name

    def _meta(
        self, stacked: Stacked, designs: Sequence[Design], priors: Priors, seen: Convergence
    ) -> dict[str, Any]:
        strata, prior = stacked.cells.coords["stratum"], {}
        for design, cells in zip(designs, stacked.single, strict=True):
            level = np.average(cells.baseline, weights=np.bincount(cells.stratum, cells.exposure))
            unit = design.unit_of_measure or "units of the outcome"
            prior[design.outcome] = in_dollars(priors, float(level), unit)
        law = f"LKJ({self.concentration:g})"
        kinds = {"shocks": law, "organizations": law, "persons": law}
        if self.person_correlation is not None:
            kinds["persons"] = f"stated: {self.person_correlation}"
        return {
            "estimator": "JointDiD",
            "options": {**asdict(self), "prior": asdict(priors)},
            "designs": [
                {
                    "outcome": d.outcome, "covariates": list(d.covariates),
                    "anticipation": d.anticipation, "window": d.window,
                    "comparison": "every untreated cell",
                }
                for d in designs
            ],
            "prior": {**prior, "correlations": kinds},
            "convergence": asdict(seen),
            "baseline": dict(zip(strata, stacked.cells.baseline.tolist(), strict=True)),
            "n_clusters": len(stacked.cells.clusters),
            "n_cells": len(stacked.cells.y),
            "dropped_cells": dict(stacked.cells.dropped),
            "seed": self.seed,
            "exactness": "moments",
            "versions": versions("arviz", "numpy"),
            "warnings": list(seen.notes),
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Groups:
    """Completes the tree when it is asked for; a class, as a closure could not be pickled."""

    found: Found
    joint: Joint
    priors: Priors
    prior: FloatArray
    weights: FloatArray
    seed: int

    def __call__(self) -> Any:
        return add_groups(
            self.found.tree, self.joint, self.priors, self.prior, self.weights, seed=self.seed
        )
