"""Interactive fixed effects: generalized synthetic control, EM, matrix completion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.rng import generator
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.design import Design
from vbceval.did.cohorts_said import says_of_cohorts
from vbceval.did.synthetic import parametric, replicates, results
from vbceval.did.synthetic.cohorts import Cohort
from vbceval.did.synthetic.counterfactual import (
    Estimate,
    Method,
    Model,
    cohort_effects,
    estimate,
    untreated_cells,
)
from vbceval.did.synthetic.factor_choice import Choice, choose
from vbceval.did.synthetic.factors import Effects, Rank
from vbceval.did.synthetic.reading import read_parts
from vbceval.did.synthetic.replicates import Draw, Part, used_clusters
from vbceval.did.synthetic.tables import path_rows
from vbceval.did.synthetic.wide import Source, Wide
from vbceval.estimates import Estimates
from vbceval.inference import SSC
from vbceval.moments import Moments
from vbceval.panel import Panel

KNOWN = ("parametric", "bootstrap", "jackknife", "none")
NAME = "InteractiveFE"


@dataclass(frozen=True, kw_only=True)
class InteractiveFE:
    """
    Counterfactuals from common factors with loadings of each organization.

    Untreated outcomes are additive effects, covariates and factors, whose influence on an
    organization need not be parallel to that on others. Cells may be missing.

    Exactness: ``moments`` (means by organization and period).

    Parameters
    ----------
    method : {"gsc", "em", "matrix_completion"}
        "gsc" (Xu 2017, R `gsynth`): factors from organizations that never enter, loadings of the
        treated from their periods before entry. "em" (Gobillon and Magnac 2016): factors from all
        untreated cells. "matrix_completion" (Athey et al. 2021): all untreated cells, singular
        values shrunk instead of counted.
    effects : {"two-way", "unit", "time", "none"}
        Additive effects beside the factors; R `gsynth` has "unit" by default.
    n_factors : int, optional
        Number of factors. Default: by cross-validation.
    most_factors : int, default 5
        Most factors tried.
    shrink : float, optional
        What matrix completion takes from every singular value. Default: by cross-validation.
    folds : int, default 5
        Parts in which periods before entry are left out ("em", "matrix_completion").
    replications : int, default 500
        Bootstrap replicates.
    seed : int
        Seed of the replicates.

    References
    ----------
    .. [1] Xu, Y. (2017). Generalized synthetic control method: causal inference with interactive
       fixed effects models. *Political Analysis* 25(1), 57-76.
    .. [2] Gobillon, L. and Magnac, T. (2016). Regional policy evaluation: interactive fixed
       effects and synthetic controls. *Review of Economics and Statistics* 98(3), 535-551.
    .. [3] Athey, S., Bayati, M., Doudchenko, N., Imbens, G. and Khosravi, K. (2021). Matrix
       completion methods for causal panel data models. *Journal of the American Statistical
       Association* 116(536), 1716-1730.

    Examples
    --------
    >>> import vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCD"), 4), "year": [2013, 2014, 2015, 2016] * 4,
    ...     "entry": np.repeat([2016.0, np.nan, np.nan, np.nan], 4),
    ...     "spend": [10, 12, 11, 9, 20, 22, 21, 22, 31, 30, 33, 33, 41, 42, 40, 42]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> none = vbc.did.InteractiveFE(n_factors=0)
    >>> est = none.fit(panel, vbc.Design(outcome="spend"), vcov="none")
    >>> est.aggregate("simple").estimate.round(6)
    array([-3.222222])
    """

    method: Method = "gsc"
    effects: Effects = "two-way"
    n_factors: int | None = None
    most_factors: int = 5
    shrink: float | None = None
    folds: int = 5
    replications: int = 500
    seed: int = 20210101

    def __post_init__(self) -> None:
        problems = Problems("the options of InteractiveFE", DesignError)
        choices: dict[str, tuple[str, ...]] = {
            "method": ("gsc", "em", "matrix_completion"),
            "effects": ("two-way", "unit", "time", "none"),
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                problems.add(f"`{name}` is {value!r}; use one of {allowed}.")
        if (self.n_factors is not None and self.n_factors < 0) or self.most_factors < 0:
            problems.add("`n_factors` and `most_factors` count factors: zero or more.")
        completion = self.method == "matrix_completion"
        if self.n_factors is not None and completion:
            problems.add("matrix completion has no `n_factors`; give `shrink`, or neither.")
        if self.shrink is not None and not (completion and self.shrink > 0):
            problems.add("`shrink` is a positive number and belongs to matrix completion only.")
        if self.folds < 2:
            problems.add(f"`folds` is {self.folds}; use 2 or more.")
        problems.raise_if_any()
        replicates.require_replications(self.replications)

    @says_of_cohorts
    def fit(
        self,
        data: Panel | Moments,
        design: Design,
        *,
        vcov: Literal["parametric", "bootstrap", "jackknife", "none"] | None = None,
        ssc: SSC | None = None,
    ) -> Estimates:
        """
        Estimate effects by cohort and period.

        Parameters
        ----------
        data : Panel or Moments
            Organizations by period; rows without outcome or covariate are missing cells. With
            strata, effects are estimated for all together and within each stratum.
        design : Design
            Outcome, covariates (of each period), anticipation (periods before entry that are not
            used as untreated), window (rows that are shown), balance weights (0 removes an
            organization; others weigh the treated). "gsc" compares with those that never enter,
            whatever ``comparison``; the other methods use untreated cells of later cohorts and
            refuse "never_treated".
        vcov : {"parametric", "bootstrap", "jackknife", "none"}, optional
            "parametric" ("gsc", complete panels): paths of residuals of donors and of errors of
            predicting donors are drawn. "bootstrap": clusters drawn with replacement. "jackknife":
            clusters left out, everything fitted again; gives an influence matrix. Factors or
            shrinkage are kept. Default: "parametric" for "gsc", "jackknife" for others; "none"
            where these cannot be had.
        ssc : SSC, optional
            No factor applies: leave out.

        Returns
        -------
        Estimates
            One row a cohort and period, before entry as well: mean outcome of the treated less its
            counterfactual, in the unit of the outcome. ``meta`` has ``n_factors``, ``shrink`` and
            ``coefficients`` of each stratum.

        Raises
        ------
        DesignError
            If organizations or periods have too few untreated cells, a cohort has no donor, or an
            option does not apply.
        EstimationError
            If units may be people, covariates are collinear beside effects, the fit does not
            settle, or the kind of error cannot be had.
        """
        results.refuse_factor(ssc, NAME)
        results.require_known(vcov, KNOWN, NAME)
        if vcov == "parametric" and self.method != "gsc":
            raise EstimationError(
                f"vcov='parametric' draws errors of predicting donors, whose factors method='gsc' "
                f"alone fits apart; with method='{self.method}' use 'jackknife' or 'bootstrap'."
            )
        source, fitted, dropped = self._fit(data, design)
        parts = [Part(one.wide, one.cohorts) for one in fitted]
        kind = vcov or self._default_kind(parts)
        meta = results.record(
            NAME, asdict(self), source, design, parts, vcov=kind, seed=self.seed,
            without_base=dropped, warnings=[],
            n_factors=[one.choice.rank.factors for one in fitted],
            shrink=[one.choice.rank.shrink for one in fitted],
            coefficients=[
                dict(zip(one.wide.names, one.found.fit.beta.tolist(), strict=True))
                for one in fitted
            ],
        )  # fmt: skip
        value = np.concatenate([one.effects() for one in fitted])
        made = results.make(source, parts, value, design, meta)
        if kind == "none":
            return made.without_errors()
        if kind == "jackknife":
            return self._jackknife(made, parts, fitted, design)
        if kind == "parametric":
            return made.with_draws(value + self._parametric(fitted))

        def effects(draws: list[Draw]) -> FloatArray:
            return self._refit(draws, fitted, design)

        return made.with_draws(
            replicates.bootstrap(
                parts, effects, replications=self.replications,
                rng=generator(self.seed, NAME, kind), prepare=lambda wide, _: wide,
            )
        )  # fmt: skip

    def cross_validation(self, data: Panel | Moments, design: Design) -> pd.DataFrame:
        """
        Return the prediction error of each number of factors, or shrinkage.

        Parameters
        ----------
        data, design
            As in `fit`.

        Returns
        -------
        DataFrame
            Columns ``stratum, n_factors, shrink, mspe`` (mean squared prediction error before
            entry, squared unit of the outcome) and ``chosen``. One row, without error, where the
            number was given.
        """
        _, fitted, _ = self._fit(data, design)
        return pd.DataFrame([
            {"stratum": one.wide.stratum, "n_factors": rank.factors, "shrink": rank.shrink,
             "mspe": float(error), "chosen": rank == one.choice.rank}
            for one in fitted
            for rank, error in zip(one.choice.tried, one.choice.error, strict=True)
        ])  # fmt: skip

    def factors(self, data: Panel | Moments, design: Design) -> pd.DataFrame:
        """
        Return the factors.

        Parameters
        ----------
        data, design
            As in `fit`.

        Returns
        -------
        DataFrame
            Columns ``stratum, period, factor`` (1, 2, ...) and ``value``; each factor has mean
            square one, and its sign is arbitrary.
        """
        _, fitted, _ = self._fit(data, design)
        rows = [
            {"stratum": one.wide.stratum, "period": float(t), "factor": j + 1, "value": float(v)}
            for one in fitted
            for j, column in enumerate(one.found.fit.factors.T)
            for t, v in zip(one.wide.periods, column, strict=True)
        ]
        return pd.DataFrame(rows, columns=["stratum", "period", "factor", "value"])

    def paths(self, data: Panel | Moments, design: Design) -> pd.DataFrame:
        """
        Return the treated path and its counterfactual.

        Parameters
        ----------
        data, design
            As in `fit`.

        Returns
        -------
        DataFrame
            Columns ``stratum, cohort, period, event_time, treated, synthetic, gap``, in the unit
            of the outcome.
        """
        _, fitted, _ = self._fit(data, design)
        tables = []
        for one in fitted:
            for cohort in one.cohorts:
                every = [cohort._replace(shown=np.ones(len(cohort.columns), dtype=bool))]
                gap = cohort_effects(one.wide, every, one.found.gap)
                observed = np.where(np.isfinite(one.found.gap), one.wide.y, np.nan)
                treated = cohort_effects(one.wide, every, observed)
                tables.append(path_rows(one.wide, cohort, treated, gap))
        return pd.concat(tables, ignore_index=True)

    def _fit(
        self, data: Panel | Moments, design: Design
    ) -> tuple[Source, list[_Fitted], list[float]]:
        if self.method != "gsc" and design.comparison == "never_treated":
            raise DesignError(
                f"method='{self.method}' uses untreated cells of organizations that enter later. "
                "Give it a design with comparison='not_yet_treated', or use method='gsc'."
            )
        source, parts, dropped = read_parts(data, design, NAME, balanced=False)
        fitted = []
        for wide, found in parts:
            donors = np.flatnonzero(~wide.enters(design.anticipation))
            cohorts = [_seen(c._replace(donors=donors), wide) for c in found]
            if not len(donors):
                raise DesignError(
                    "no organization stays untreated in all periods, so period effects after entry "
                    "are not known. Add organizations that never enter, or use Imputation."
                )
            fitted.append(self._fit_table(wide, cohorts, design))
        return source, fitted, dropped

    def _fit_table(self, wide: Wide, cohorts: list[Cohort], design: Design) -> _Fitted:
        untreated = untreated_cells(wide, cohorts, design.anticipation)
        model = Model(self.method, self.effects)
        if self.n_factors is None and self.shrink is None:
            choice = choose(
                wide, cohorts, untreated, model, most=self.most_factors, folds=self.folds
            )
        else:
            rank = Rank(self.n_factors or 0, self.shrink or 0.0)
            choice = Choice(rank, [rank], np.array([np.nan]))
        found = estimate(wide, cohorts, untreated, model, choice.rank)
        return _Fitted(wide, cohorts, untreated, model, choice, found)

    def _default_kind(self, parts: Sequence[Part]) -> str:
        kind = "parametric" if self.method == "gsc" else "jackknife"
        try:
            for part in parts:
                if kind == "parametric":
                    parametric.require_complete(part.wide, part.cohorts)
                else:
                    replicates.require_two_treated(part, kind)
        except EstimationError:
            return "none"
        return kind

    def _parametric(self, fitted: Sequence[_Fitted]) -> FloatArray:
        rng = generator(self.seed, NAME, "parametric")
        columns = []
        for one in fitted:
            parametric.require_complete(one.wide, one.cohorts)
            n0 = len(one.cohorts[0].donors)
            n1 = sum(len(c.treated) for c in one.cohorts)
            paths = [(rng.random(n0), rng.random(n1)) for _ in range(self.replications)]
            columns.append(
                parametric.draws(
                    one.wide, one.cohorts, one.untreated, one.model, one.choice.rank, one.found,
                    paths,
                )
            )  # fmt: skip
        return np.concatenate(columns, axis=1)

    def _refit(
        self, draws: Sequence[Draw], fitted: Sequence[_Fitted], design: Design
    ) -> FloatArray:
        """Return effects of organizations as drawn, each as often as it was."""
        one, wide = fitted[draws[0].part], draws[0].wide
        groups = [np.repeat(draws[0].donors, draws[0].donor_mass.astype(np.int64))]
        groups += [np.repeat(d.treated, d.treated_mass.astype(np.int64)) for d in draws]
        ends = np.cumsum([len(g) for g in groups])
        places = [np.arange(end - len(g), end) for g, end in zip(groups, ends, strict=True)]
        drawn = np.concatenate(groups)
        sample = wide.take(drawn)
        cohorts = [
            c._replace(treated=place, donors=places[0])
            for c, place in zip(one.cohorts, places[1:], strict=True)
        ]
        untreated = untreated_cells(sample, cohorts, design.anticipation)
        near = np.full(wide.y.shape, np.nan)
        near[one.found.rows] = one.found.fit.fitted
        start = near[drawn[: len(places[0])] if one.model.method == "gsc" else drawn]
        found = estimate(sample, cohorts, untreated, one.model, one.choice.rank, start)
        return cohort_effects(sample, cohorts, found.gap)

    def _jackknife(
        self,
        made: results.Made,
        parts: Sequence[Part],
        fitted: Sequence[_Fitted],
        design: Design,
    ) -> Estimates:
        for part in parts:
            replicates.require_two_treated(part, "jackknife")
        used = np.unique(np.concatenate([used_clusters(part) for part in parts]))
        left = []
        for code in used:
            row = []
            for i, part in enumerate(parts):
                stays = part.wide.cluster != code
                draws = [
                    replicates.whole(
                        i, j, part.wide, c.treated[stays[c.treated]], c.donors[stays[c.donors]]
                    )
                    for j, c in enumerate(part.cohorts)
                ]
                row.append(self._refit(draws, fitted, design))
            left.append(np.concatenate(row))
        return made.with_influence(np.array(left), used)


class _Fitted(NamedTuple):
    """One stratum fitted."""

    wide: Wide
    cohorts: list[Cohort]
    untreated: BoolArray
    model: Model
    choice: Choice
    found: Estimate

    def effects(self) -> FloatArray:
        """Return the effects that are reported."""
        return cohort_effects(self.wide, self.cohorts, self.found.gap)


def _seen(cohort: Cohort, wide: Wide) -> Cohort:
    """Return the cohort, showing periods in which one of its organizations is seen."""
    seen = np.isfinite(wide.y[np.ix_(cohort.treated, cohort.columns)]).any(axis=0)
    return cohort._replace(shown=cohort.shown & seen)
