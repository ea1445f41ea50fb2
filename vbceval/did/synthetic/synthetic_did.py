"""Synthetic difference-in-differences (Arkhangelsky et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray
from vbceval.design import Design
from vbceval.did.cohorts_said import says_of_cohorts
from vbceval.did.synthetic import replicates, results
from vbceval.did.synthetic.adjustment import two_way_coefficients, untreated, without_covariates
from vbceval.did.synthetic.cohorts import Cohort
from vbceval.did.synthetic.jackknife import JackknifeInputs, left_out_effects
from vbceval.did.synthetic.reading import read_parts
from vbceval.did.synthetic.replicates import Draw, Part, used_clusters, whole
from vbceval.did.synthetic.tables import path_rows, weight_rows, weights_table
from vbceval.did.synthetic.weights import (
    Method,
    Penalty,
    Problem,
    Solver,
    Weights,
    absorbed,
    default_penalty,
    fit_weights,
    noise_level,
)
from vbceval.did.synthetic.wide import Wide
from vbceval.estimates import Estimates
from vbceval.inference import SSC
from vbceval.moments import Moments
from vbceval.panel import Panel

KNOWN = ("placebo", "bootstrap", "jackknife", "none")
NAME = "SyntheticDiD"


@dataclass(frozen=True, kw_only=True)
class SyntheticDiD:
    """
    Difference-in-differences with weights of organizations and of periods.

    Donors are weighted so that their path before entry is parallel to that of the treated, and
    periods before entry so that they predict the donors' outcomes after it. Cohorts are fitted one
    by one; `Estimates.aggregate("simple")` weighs them by treated organization-periods, which is
    the estimate of R `synthdid` (one cohort) and of Stata `sdid` (several).

    Exactness: ``moments`` (means by organization and period). Panels must be balanced.

    Parameters
    ----------
    method : {"sdid", "sc", "did"}
        "sc" (synthetic control, without intercept and time weights) and "did" (uniform weights)
        are the other two estimates of the same package.
    solver : {"exact", "frank_wolfe"}
        "exact" minimises the penalised least squares; "frank_wolfe" stops where R `synthdid`
        stops, which is before the minimum, and is for comparison with it.
    covariates : {"optimized", "projected"}
        How covariates of the design enter: coefficients chosen jointly with the weights, or taken
        out before by a regression on untreated cells with effects of organizations and periods.
        With ``comparison="never_treated"`` that regression uses the never treated only.
    zeta_unit, zeta_time : float, optional
        Ridge penalties in units of the noise level (standard deviation of donors' first
        differences before entry). Default: (N1 T1)^(1/4) and 1e-6; for "sc" 1e-6.
    replications : int, default 500
        Placebo or bootstrap replicates.
    seed : int
        Seed of the replicates.

    References
    ----------
    .. [1] Arkhangelsky, D., Athey, S., Hirshberg, D. A., Imbens, G. W. and Wager, S. (2021).
       Synthetic difference-in-differences. *American Economic Review* 111(12), 4088-4118.
    .. [2] Clarke, D., Pailanir, D., Athey, S. and Imbens, G. (2024). On synthetic
       difference-in-differences and related estimation methods in Stata. *Stata Journal* 24(4).
    .. [3] Kranz, S. (2022). Synthetic difference-in-differences with time-varying covariates.

    Examples
    --------
    >>> import vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCD"), 4), "year": [2013, 2014, 2015, 2016] * 4,
    ...     "entry": np.repeat([2016.0, np.nan, np.nan, np.nan], 4),
    ...     "spend": [10, 12, 11, 9, 20, 22, 21, 22, 31, 30, 33, 33, 41, 42, 40, 42]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> did = vbc.did.SyntheticDiD(method="did").fit(panel, vbc.Design(outcome="spend"))
    >>> did.aggregate("simple").estimate.round(6)
    array([-3.222222])
    """

    method: Method = "sdid"
    solver: Solver = "exact"
    covariates: Literal["optimized", "projected"] = "optimized"
    zeta_unit: float | None = None
    zeta_time: float | None = None
    replications: int = 500
    seed: int = 20210101

    def __post_init__(self) -> None:
        problems = Problems("the options of SyntheticDiD", DesignError)
        choices: dict[str, tuple[str, ...]] = {
            "method": ("sdid", "sc", "did"),
            "solver": ("exact", "frank_wolfe"),
            "covariates": ("optimized", "projected"),
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                problems.add(f"`{name}` is {value!r}; use one of {allowed}.")
        for name in ("zeta_unit", "zeta_time"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                problems.add(f"`{name}` is {value}; a penalty is zero or positive.")
        problems.raise_if_any()
        replicates.require_replications(self.replications)

    @says_of_cohorts
    def fit(
        self,
        data: Panel | Moments,
        design: Design,
        *,
        vcov: Literal["placebo", "bootstrap", "jackknife", "none"] | None = None,
        ssc: SSC | None = None,
    ) -> Estimates:
        """
        Estimate effects by cohort and period.

        Parameters
        ----------
        data : Panel or Moments
            Organizations by period. With strata, effects are estimated for all together and within
            each stratum, with joint replicates.
        design : Design
            Outcome, covariates, anticipation (periods before entry that are neither used as
            untreated nor averaged), comparison, window (its end bounds the periods after entry, its
            beginning the rows that are shown), balance weights.
        vcov : {"placebo", "bootstrap", "jackknife", "none"}, optional
            "placebo": donors take the place of the treated, with new weights; needs more donors
            than treated, and treated and donors alike in variance. "bootstrap": clusters drawn
            with replacement, with new weights, and intervals from quantiles of the draws.
            "jackknife": clusters left out, with weights kept (donors' rescaled); gives an influence
            matrix, so results can be stacked. Default: "placebo" where a cohort has one treated
            cluster, else "bootstrap".
        ssc : SSC, optional
            No factor applies: leave out.

        Returns
        -------
        Estimates
            One row a cohort and period, before entry as well: treated less synthetic, less its
            time-weighted mean before entry, in the unit of the outcome. Treated organizations are
            averaged with their mean analysis weight.

        Raises
        ------
        DesignError
            If cells are missing, a cohort has no donor or fewer than two periods before entry, or
            an option does not apply.
        EstimationError
            If units may be people, the kind of error cannot be had, or a covariate does not vary.
        """
        results.refuse_factor(ssc, NAME)
        results.require_known(vcov, KNOWN, NAME)
        source, raw, dropped = read_parts(data, design, NAME, least_pre=self._least_pre())
        parts = [Part(self._projected(p.wide, design, None), p.cohorts) for p in raw]
        fits = [[self._fit_cohort(part.wide, c) for c in part.cohorts] for part in parts]
        kind = vcov or _default_kind(parts)
        meta = results.record(
            NAME, asdict(self), source, design, parts, vcov=kind, seed=self.seed,
            without_base=dropped, warnings=[],
            largest_duality_gap=max(one.weights.gap for row in fits for one in row),
        )  # fmt: skip
        value = np.concatenate([one.shown() for row in fits for one in row])
        made = results.make(source, parts, value, design, meta)
        if kind == "none":
            return made.without_errors()
        if kind == "jackknife":
            return self._jackknife(made, parts, fits)
        rng = generator(self.seed, NAME, kind)

        def effects(draws: list[Draw]) -> FloatArray:
            return np.concatenate([self._refit(d, fits[d.part][d.cohort]) for d in draws])

        if kind == "placebo":
            return made.with_placebos(
                replicates.placebo(parts, effects, replications=self.replications, rng=rng)
            )
        return made.with_draws(
            replicates.bootstrap(
                raw, effects, replications=self.replications, rng=rng,
                prepare=lambda wide, mass: self._projected(wide, design, mass),
            )
        )  # fmt: skip

    def weights(self, data: Panel | Moments, design: Design) -> pd.DataFrame:
        """
        Return the weights of donors and of periods before entry.

        Parameters
        ----------
        data, design
            As in `fit`.

        Returns
        -------
        DataFrame
            Columns ``stratum, cohort, kind`` ("unit" or "time"), ``name`` (organization or
            period) and ``weight``, largest first within a kind.
        """
        _, raw, _ = read_parts(data, design, NAME, least_pre=self._least_pre())
        rows = []
        for part in raw:
            wide = self._projected(part.wide, design, None)
            for cohort in part.cohorts:
                found = self._fit_cohort(wide, cohort).weights
                before = wide.periods[cohort.columns[: cohort.n_pre]]
                rows += weight_rows(wide, cohort, "unit", wide.labels[cohort.donors], found.unit)
                rows += weight_rows(wide, cohort, "time", before, found.time)
        return weights_table(rows)

    def paths(self, data: Panel | Moments, design: Design) -> pd.DataFrame:
        """
        Return the treated path and the synthetic one, shifted to its level before entry.

        Parameters
        ----------
        data, design
            As in `fit`.

        Returns
        -------
        DataFrame
            Columns ``stratum, cohort, period, event_time, treated, synthetic, gap``, in the unit
            of the outcome, covariates taken out; ``gap`` is the effect.
        """
        _, raw, _ = read_parts(data, design, NAME, least_pre=self._least_pre())
        tables = []
        for part in raw:
            wide = self._projected(part.wide, design, None)
            for cohort in part.cohorts:
                one = self._fit_cohort(wide, cohort)
                treated = one.problem.adjusted(one.weights.beta).y1
                tables.append(path_rows(wide, cohort, treated, one.weights.effects(one.problem)))
        return pd.concat(tables, ignore_index=True)

    def _least_pre(self) -> int:
        """Return the fewest periods before entry: first differences need two."""
        return 1 if self.method == "did" else 2

    def _projected(self, wide: Wide, design: Design, mass: FloatArray | None) -> Wide:
        """Take covariates out beforehand, if that is the option."""
        if self.covariates != "projected" or not wide.names:
            return wide
        mass = np.ones(len(wide.weight)) if mass is None else mass
        return without_covariates(wide, two_way_coefficients(wide, untreated(wide, design), mass))

    def _problem(self, draw: Draw, cohort: Cohort) -> Problem:
        wide, columns = draw.wide, cohort.columns
        share = wide.weight[draw.treated] * draw.treated_mass
        share /= share.sum()
        # uniform weights of "did" follow the analysis weight; chosen weights replace it
        mass = draw.donor_mass * (wide.weight[draw.donors] if self.method == "did" else 1.0)
        treated, donors = np.ix_(draw.treated, columns), np.ix_(draw.donors, columns)
        return Problem(
            y0=wide.y[donors], y1=share @ wide.y[treated],
            x0=wide.x[donors], x1=np.tensordot(share, wide.x[treated], axes=1),
            mass=mass, n_pre=cohort.n_pre, post=cohort.post,
        )  # fmt: skip

    def _fit_cohort(self, wide: Wide, cohort: Cohort) -> _Fit:
        problem = self._problem(whole(0, 0, wide, cohort.treated, cohort.donors), cohort)
        lost = [n for n, a in zip(wide.names, absorbed(problem, self.method), strict=True) if a]
        if lost:
            raise EstimationError(
                f"covariate {listed(lost)} does not vary among the organizations of cohort "
                f"{cohort.entry:g} beside effects {'' if self.method == 'sc' else 'of them and '}"
                "of periods, so its coefficient is not known. Leave it out."
            )
        # uniform weights have no penalty, whose unit the noise level is
        noise = 1.0 if self.method == "did" else noise_level(problem.y0[:, : cohort.n_pre])
        if not noise > 0:
            raise EstimationError(
                f"the penalty of the weights is in units of the spread of donors' changes before "
                f"entry, and for cohort {cohort.entry:g} there is none: {len(cohort.donors):,} "
                f"donors, {cohort.n_pre} periods. Check the outcome, add donors or periods, or use "
                "method='did'."
            )
        penalty = default_penalty(noise, len(cohort.treated), int(cohort.post.sum()), self.method)
        if self.zeta_unit is not None:
            penalty = penalty._replace(unit=self.zeta_unit * noise)
        if self.zeta_time is not None:
            penalty = penalty._replace(time=self.zeta_time * noise)
        weights = fit_weights(problem, penalty, self.method, self.solver)
        return _Fit(cohort, problem, penalty, weights)

    def _refit(self, draw: Draw, one: _Fit) -> FloatArray:
        """Return effects of a replicate: new weights, the penalties of the estimate."""
        problem = self._problem(draw, one.cohort)
        near = np.zeros(len(draw.wide.weight))
        near[one.cohort.donors] = one.weights.unit
        start = one.weights._replace(unit=near[draw.donors] * draw.donor_mass)
        found = fit_weights(problem, one.penalty, self.method, self.solver, start)
        return np.asarray(found.effects(problem)[one.cohort.shown])

    def _jackknife(
        self, made: results.Made, parts: list[Part], fits: list[list[_Fit]]
    ) -> Estimates:
        columns = []
        used = np.unique(np.concatenate([used_clusters(part) for part in parts]))
        for part, row in zip(parts, fits, strict=True):
            replicates.require_two_treated(part, "jackknife")
            for one in row:
                rows = one.cohort.treated, one.cohort.donors
                inputs = JackknifeInputs(
                    kept_treated=replicates.leave_one_out(used, part.wide.cluster[rows[0]]),
                    kept_donors=replicates.leave_one_out(used, part.wide.cluster[rows[1]]),
                    y_treated=part.wide.y[np.ix_(rows[0], one.cohort.columns)]
                    - part.wide.x[np.ix_(rows[0], one.cohort.columns)] @ one.weights.beta,
                    weight_treated=part.wide.weight[rows[0]],
                )
                left = left_out_effects(inputs, one.problem, one.weights)
                columns.append(left[:, one.cohort.shown])
        return made.with_influence(np.concatenate(columns, axis=1), used)


class _Fit(NamedTuple):
    """One cohort fitted."""

    cohort: Cohort
    problem: Problem
    penalty: Penalty
    weights: Weights

    def shown(self) -> FloatArray:
        """Return the effects that are reported."""
        return np.asarray(self.weights.effects(self.problem)[self.cohort.shown])


def _default_kind(parts: Sequence[Part]) -> str:
    alone = any(
        len(np.unique(part.wide.cluster[c.treated])) < 2 for part in parts for c in part.cohorts
    )
    return "placebo" if alone else "bootstrap"
