"""Synthetic control, with ridge augmentation (Abadie et al. 2010; Ben-Michael et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems
from vbceval.core.errors import DesignError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray
from vbceval.design import Design
from vbceval.did.cohorts_said import says_of_cohorts
from vbceval.did.synthetic import conformal, replicates, results
from vbceval.did.synthetic.control import HoldOut
from vbceval.did.synthetic.control_fit import (
    Settings,
    Tested,
    fit_draws,
    fit_part,
    tested_paths,
)
from vbceval.did.synthetic.reading import read_parts
from vbceval.did.synthetic.replicates import Draw, Part
from vbceval.did.synthetic.tables import (
    balance_row,
    path_rows,
    period_rows,
    ratio_rows,
    weight_rows,
    weights_table,
)
from vbceval.estimates import Estimates
from vbceval.inference import SSC
from vbceval.moments import Moments
from vbceval.panel import Panel

KNOWN = ("placebo", "bootstrap", "none")
NAME = "SyntheticControl"


@dataclass(frozen=True, kw_only=True)
class SyntheticControl:
    """
    A weighted average of donors that follows the treated before entry.

    Weights are non-negative and sum to one. ``augmented=True`` corrects what imbalance they leave
    by ridge regression on outcomes before entry; weights may then be negative, and
    `balance` says how far. Several treated organizations of a cohort are averaged; cohorts are
    fitted one by one, or together with ``pooling``.

    Exactness: ``moments`` (means by organization and period). Panels must be balanced.

    Parameters
    ----------
    augmented : bool, default True
        Ridge augmentation.
    demean : bool, default False
        Take the mean before entry out of every path first (fixed effects of organizations).
    lags : tuple of float, optional
        Periods whose outcomes are matched on. Default: all before entry.
    importance : {"equal", "nested"} or tuple of float
        Diagonal of V over lags (increasing), then covariates. "nested" chooses it by the fit of
        all outcomes before entry, as R `Synth`. Other than with all lags and "equal", each
        predictor is divided by its standard deviation first, as in R `Synth`.
    covariates : {"balance", "residualize"}
        Covariates of the design, averaged over periods before entry, are matched on beside
        outcomes, or taken out of outcomes by regression and then balanced exactly.
    penalty : float, optional
        Ridge penalty. Default: leaving out one variable matched on at a time.
    one_se : bool, default True
        Take the largest penalty whose error is within a standard error of the smallest.
    hold_out : {"all", "outcomes"}
        Whether covariates are left out in turn as well when the penalty is chosen.
    pooling : float, default 0
        With several cohorts: weight, 0 to 1, of the balance of their average against that of each.
    replications : int, default 500
        Placebo or bootstrap replicates.
    seed : int
        Seed of replicates and random orders.

    References
    ----------
    .. [1] Abadie, A., Diamond, A. and Hainmueller, J. (2010). Synthetic control methods for
       comparative case studies. *Journal of the American Statistical Association* 105(490).
    .. [2] Ben-Michael, E., Feller, A. and Rothstein, J. (2021). The augmented synthetic control
       method. *Journal of the American Statistical Association* 116(536), 1789-1803.
    .. [3] Ben-Michael, E., Feller, A. and Rothstein, J. (2022). Synthetic controls with staggered
       adoption. *Journal of the Royal Statistical Society B* 84(2), 351-381.
    .. [4] Chernozhukov, V., Wuthrich, K. and Zhu, Y. (2021). An exact and robust conformal
       inference method for counterfactual and synthetic controls. *Journal of the American
       Statistical Association* 116(536), 1849-1864.

    Examples
    --------
    >>> import vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCD"), 4), "year": [2013, 2014, 2015, 2016] * 4,
    ...     "entry": np.repeat([2016.0, np.nan, np.nan, np.nan], 4),
    ...     "spend": [15, 17, 16, 14, 10, 12, 11, 12, 20, 22, 21, 24, 41, 42, 40, 42]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> scm = vbc.did.SyntheticControl(augmented=False)
    >>> scm.fit(panel, vbc.Design(outcome="spend")).aggregate("simple").estimate.round(3)
    array([-4.])
    """

    augmented: bool = True
    demean: bool = False
    lags: tuple[float, ...] | None = None
    importance: Literal["equal", "nested"] | tuple[float, ...] = "equal"
    covariates: Literal["balance", "residualize"] = "balance"
    penalty: float | None = None
    one_se: bool = True
    hold_out: HoldOut = "all"
    pooling: float = 0.0
    replications: int = 500
    seed: int = 20210101

    def __post_init__(self) -> None:
        problems = Problems("the options of SyntheticControl", DesignError)
        if self.covariates not in ("balance", "residualize"):
            problems.add(f"`covariates` is {self.covariates!r}; use 'balance' or 'residualize'.")
        if self.hold_out not in ("all", "outcomes"):
            problems.add(f"`hold_out` is {self.hold_out!r}; use 'all' or 'outcomes'.")
        if isinstance(self.importance, str) and self.importance not in ("equal", "nested"):
            problems.add(
                f"`importance` is {self.importance!r}; use 'equal', 'nested' or a number for each "
                "predictor."
            )
        if not isinstance(self.importance, str) and not all(v >= 0 for v in self.importance):
            problems.add(f"`importance` is {self.importance}; its values are zero or positive.")
        if self.penalty is not None and not self.penalty > 0:
            problems.add(f"`penalty` is {self.penalty}; a ridge penalty is positive.")
        if not 0 <= self.pooling <= 1:
            problems.add(f"`pooling` is {self.pooling}; it is between 0 and 1.")
        if self._settings().chosen and self.covariates == "residualize":
            problems.add(
                "covariates='residualize' matches on residuals of every outcome before entry: "
                "leave `lags` and `importance` out."
            )
        problems.raise_if_any()
        replicates.require_replications(self.replications)

    @says_of_cohorts
    def fit(
        self,
        data: Panel | Moments,
        design: Design,
        *,
        vcov: Literal["placebo", "bootstrap", "none"] | None = None,
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
            Outcome, covariates (values may be missing in some periods), anticipation (periods
            before entry that are neither matched on nor averaged), comparison, window (its end
            bounds the periods after entry, its beginning the rows that are shown), balance weights
            (0 removes a donor).
        vcov : {"placebo", "bootstrap", "none"}, optional
            "placebo": donors take the place of the treated, with new weights; the default where
            donors are more than the treated, else "none". "bootstrap": clusters drawn with
            replacement, at least two treated clusters a cohort. Penalty and importance are kept.
            See `permutation`, `conformal` and `jackknife_plus` for tests without a normal law.
        ssc : SSC, optional
            No factor applies: leave out.

        Returns
        -------
        Estimates
            One row a cohort and period, before entry as well: treated less synthetic, in the unit
            of the outcome.

        Raises
        ------
        DesignError
            If cells are missing, a cohort has no donor, or an option does not apply.
        EstimationError
            If units may be people, or the kind of error cannot be had.
        """
        results.refuse_factor(ssc, NAME)
        results.require_known(vcov, KNOWN, NAME)
        source, parts, dropped = read_parts(data, design, NAME, covariate_gaps=True)
        fits = [fit_part(part, self._settings()) for part in parts]
        kind = vcov or _default_kind(parts)
        meta = results.record(
            NAME, asdict(self), source, design, parts, vcov=kind, seed=self.seed,
            without_base=dropped, warnings=[],
            largest_duality_gap=max(one.control.gap for row in fits for one in row),
        )  # fmt: skip
        value = np.concatenate([one.shown() for row in fits for one in row])
        made = results.make(source, parts, value, design, meta)
        if kind == "none":
            return made.without_errors()
        rng = generator(self.seed, NAME, kind)

        def effects(draws: list[Draw]) -> FloatArray:
            i = draws[0].part
            made = fit_draws(draws, parts[i].cohorts, self._settings(), fits[i])
            return np.concatenate([one.shown() for one in made])

        if kind == "placebo":
            return made.with_placebos(
                replicates.placebo(parts, effects, replications=self.replications, rng=rng)
            )
        return made.with_draws(
            replicates.bootstrap(
                parts, effects, replications=self.replications, rng=rng,
                prepare=lambda wide, _: wide,
            )
        )  # fmt: skip

    def weights(self, data: Panel | Moments, design: Design) -> pd.DataFrame:
        """
        Return the weights of donors.

        Parameters
        ----------
        data, design
            As in `fit`.

        Returns
        -------
        DataFrame
            Columns ``stratum, cohort, kind, name, weight``, largest first. ``kind`` is "unit" for
            the weights used and, where augmented, "simplex" for those before augmentation.
        """
        _, parts, _ = read_parts(data, design, NAME, covariate_gaps=True)
        rows = []
        for part in parts:
            for one in fit_part(part, self._settings()):
                names = part.wide.labels[one.cohort.donors]
                rows += weight_rows(part.wide, one.cohort, "unit", names, one.control.weights)
                if self.augmented:
                    simplex = one.control.simplex
                    rows += weight_rows(part.wide, one.cohort, "simplex", names, simplex)
        return weights_table(rows)

    def paths(self, data: Panel | Moments, design: Design) -> pd.DataFrame:
        """
        Return the treated path and the synthetic one.

        Parameters
        ----------
        data, design
            As in `fit`.

        Returns
        -------
        DataFrame
            Columns ``stratum, cohort, period, event_time, treated, synthetic, gap``, in the unit
            of the outcome; with `demean` the synthetic path is shifted to the treated mean before
            entry.
        """
        _, parts, _ = read_parts(data, design, NAME, covariate_gaps=True)
        tables = []
        for part in parts:
            for one in fit_part(part, self._settings()):
                treated = one.cohort.mean_treated(part.wide)
                tables.append(
                    path_rows(part.wide, one.cohort, treated, one.control.effects(one.paths))
                )
        return pd.concat(tables, ignore_index=True)

    def balance(self, data: Panel | Moments, design: Design) -> pd.DataFrame:
        """
        Return how well outcomes before entry are matched, one row a cohort.

        Parameters
        ----------
        data, design
            As in `fit`.

        Returns
        -------
        DataFrame
            ``l2_imbalance`` (root of the sum of squared gaps before entry, unit of the outcome),
            ``l2_uniform`` (with equal weights), ``improvement`` (one less their ratio),
            ``n_donors`` (with a weight above 0.001), ``negative_weight`` (sum of negative weights:
            extrapolation), ``penalty`` (ridge), ``bias`` (what augmentation changes in the mean
            effect from entry on).
        """
        _, parts, _ = read_parts(data, design, NAME, covariate_gaps=True)
        rows = [
            balance_row(part.wide, one.cohort, one.paths, one.control)
            for part in parts
            for one in fit_part(part, self._settings())
        ]
        return pd.DataFrame(rows)

    def permutation(self, data: Panel | Moments, design: Design) -> pd.DataFrame:
        """
        Compare the fit after entry with that of every donor in the place of the treated.

        Parameters
        ----------
        data, design
            As in `fit`.

        Returns
        -------
        DataFrame
            A row for the treated organization and each donor: ``pre_rmspe`` and ``post_rmspe``
            (root mean squared gaps before and from entry on), their ``ratio`` and, for the
            treated, ``p_value``: the share of organizations, itself included, whose ratio is at
            least as large. Not below 1/(donors + 1).

        Raises
        ------
        EstimationError
            If a cohort has several treated organizations: an average has smaller gaps than one
            donor. Use ``fit(vcov="placebo")``, which draws as many donors. Or if it has one donor.

        References
        ----------
        .. [1] Abadie, A., Diamond, A. and Hainmueller, J. (2010). Synthetic control methods for
           comparative case studies. *Journal of the American Statistical Association* 105(490).
        """
        _, parts, _ = read_parts(data, design, NAME, covariate_gaps=True)
        tables = []
        for part in parts:
            for cohort in part.cohorts:
                replicates.require_one_treated(cohort)
                alone = Part(part.wide, [cohort])
                (one,) = fit_part(alone, self._settings())
                rows = [(int(cohort.treated[0]), one)]
                for donor in cohort.donors:
                    rest = cohort.donors[cohort.donors != donor]
                    draw = replicates.whole(0, 0, part.wide, np.array([donor]), rest)
                    rows.append(
                        (int(donor), fit_draws([draw], [cohort], self._settings(), [one])[0])
                    )
                gaps = np.array([fit.control.effects(fit.paths) for _, fit in rows])
                places = [row for row, _ in rows]
                names, paths = part.wide.labels[places], part.wide.y[np.ix_(places, cohort.columns)]
                tables.append(ratio_rows(part.wide, cohort, names, gaps, paths))
        return pd.concat(tables, ignore_index=True)

    def conformal(
        self,
        data: Panel | Moments,
        design: Design,
        *,
        level: float = 0.95,
        permutations: conformal.Permutations = "block",
        size: int = 1000,
        power: float = 1.0,
        grid: int = 50,
    ) -> pd.DataFrame:
        """
        Test effects over periods: exact if gaps are exchangeable, approximately if stationary.

        Parameters
        ----------
        data, design
            As in `fit`.
        level : float, default 0.95
            Probability of the intervals, infinite where too few periods before entry (18 or fewer
            at 0.95) allow no p-value as small as ``1 - level``.
        permutations : {"block", "iid"}
            Orders of the joint test: shifts, which allow dependence over periods, or `size` random
            orders, the default of R `augsynth`.
        size : int, default 1000
            Random orders.
        power : float, default 1
            Norm of the joint statistic.
        grid : int, default 50
            Effects tried for each interval; more where the first or last is not rejected.

        Returns
        -------
        DataFrame
            Rows by period from entry on (``estimate, p_value, conf_low, conf_high``) and one with
            missing ``period``: the mean, with the p-value of no effect in any period.

        Raises
        ------
        DesignError, EstimationError
            If an option is out of range; if predictors are chosen, so that not all are matched on.
        """
        conformal.check_options(level, permutations, size, power, grid)
        tables = []
        for part, (cohort, paths, refit) in self._tested(data, design):
            rng = generator(self.seed, NAME, "conformal")
            tests = [
                conformal.period_test(paths, t, refit, level=level, grid=grid)
                for t in range(paths.n_pre, len(paths.y1))
            ]
            joint = conformal.joint_p_value(
                paths, refit, permutations=permutations, size=size, power=power, rng=rng
            )
            p, low, high = np.array([*tests, (joint, np.nan, np.nan)]).T
            tables.append(period_rows(part.wide, cohort, refit(paths)[paths.n_pre :], low, high, p))
        return pd.concat(tables, ignore_index=True)

    def jackknife_plus(
        self, data: Panel | Moments, design: Design, *, level: float = 0.95
    ) -> pd.DataFrame:
        """
        Return intervals from leaving out each period before entry.

        Parameters
        ----------
        data, design
            As in `fit`.
        level : float, default 0.95
            Probability of the intervals.

        Returns
        -------
        DataFrame
            As `conformal`, without p-values; the last row is the mean from entry on.

        Raises
        ------
        DesignError, EstimationError
            If an option is out of range; if predictors are chosen, so that not all are matched on.
        """
        conformal.check_options(level)
        tables = []
        for part, (cohort, paths, refit) in self._tested(data, design):
            low, high = conformal.jackknife_plus(paths, refit, level=level)
            gaps, none = refit(paths)[paths.n_pre :], np.full(len(low), np.nan)
            tables.append(period_rows(part.wide, cohort, gaps, low, high, none))
        return pd.concat(tables, ignore_index=True)

    def _tested(self, data: Panel | Moments, design: Design) -> Iterator[tuple[Part, Tested]]:
        _, parts, _ = read_parts(data, design, NAME, covariate_gaps=True)
        for part in parts:
            for one in tested_paths(part, self._settings()):
                yield part, one

    def _settings(self) -> Settings:
        return Settings(**{name: getattr(self, name) for name in Settings._fields})


def _default_kind(parts: list[Part]) -> str:
    return "placebo" if all(replicates.placebo_problem(part) is None for part in parts) else "none"
