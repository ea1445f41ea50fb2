"""Panels of organizations with known effects, as cells and as rows of people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray
from vbceval.panel import Panel
from vbceval.simulate.spending import PERSON_CV, person_years
from vbceval.simulate.truth import Truth

OUTCOME = "spend"
UNIT_OF_MEASURE = "USD per person-year"


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """
    A subgroup of people that every organization, or some, has.

    Parameters
    ----------
    share : float
        Share of people in organizations that have the stratum.
    spending : float, default 1
        Its mean spending relative to the process's `mean`.
    effect : float, default 1
        Its percent effect relative to that of the process.
    presence : float, default 1
        Share of organizations that have the stratum.
    """

    share: float
    spending: float = 1.0
    effect: float = 1.0
    presence: float = 1.0


@dataclass(frozen=True, kw_only=True)
class OrganizationPanel:
    """
    A data-generating process of organizations that enter a program in waves.

    Mean spending of organization c (and stratum s) in period t is ``mean * spending_s + a_c +
    trend (t - t0) + tilt h(x_c) (t - t0) + u_ct + effect``; a person-year varies around it with
    coefficient of variation 2.17. The defaults are those of Medicare accountable care
    organizations.

    Parameters
    ----------
    name : str
        Name; with the seed it determines the random numbers.
    organizations : int
        Number of organizations.
    periods : tuple of int
        Observed periods.
    entry : mapping of int to float
        Expected share of organizations that enter in each period; the rest never enter.
    effect : float
        Effect in the period of entry, as a fraction of mean spending; negative is a saving.
    growth : float
        Change of the effect each period after entry, same scale.
    cohort_effect : mapping of int to float
        Factor on both for a cohort; 1 where not given.
    mean : float
        Mean spending, USD per person-year (10,402: fee-for-service Medicare, 65 and over).
    trend : float
        Common growth each period, as a fraction of mean spending.
    organization_sd : float
        SD of organization levels, fraction of mean spending.
    shock_sd, shock_rho : float
        SD (fraction of mean spending) and autocorrelation of organization-period shocks.
    median_people, log_sd_people, least_people : float
        People in an organization: lognormal, truncated below.
    tilt : float
        Growth each period, as a fraction of mean spending, for one SD of the confounder.
    pull : float
        Log odds of entering rather than not, for one SD of the confounder.
    trend_on, entry_on : {"x", "h"}
        Whether trends and entry depend on the observed covariate ``x``, or on a curved function
        of it, ``h = (x + x^2 - 1) / sqrt(3)``, that a model linear in x misses.
    strata : mapping of str to Stratum
        Subgroups; empty for none.

    References
    ----------
    .. [1] Wallis, C. J. D. et al. (2021). Concentration of Medicare spending. *EClinicalMedicine*.
       Spending per person-year (314.6 million beneficiary-years, 2007-2018).
    .. [2] McWilliams, J. M. et al. (2019). ACO effects of 0.4-3 percent a person-year. NBER
       working paper 26403.
    """

    name: str
    organizations: int = 200
    periods: tuple[int, ...] = (2012, 2013, 2014, 2015, 2016, 2017)
    entry: Mapping[int, float] = field(default_factory=lambda: {2014: 0.2, 2015: 0.2, 2017: 0.2})
    effect: float = -0.01
    growth: float = 0.0
    cohort_effect: Mapping[int, float] = field(default_factory=dict)
    mean: float = 10_402.0
    trend: float = 0.02
    organization_sd: float = 0.0
    shock_sd: float = 0.0
    shock_rho: float = 0.0
    median_people: float = 14_000.0
    log_sd_people: float = 0.75
    least_people: float = 5_000.0
    tilt: float = 0.0
    pull: float = 0.0
    trend_on: Literal["x", "h"] = "x"
    entry_on: Literal["x", "h"] = "x"
    strata: Mapping[str, Stratum] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = Problems("the process", DesignError)
        if self.organizations < 2:
            problems.add(f"`organizations` is {self.organizations}; at least 2 are needed.")
        if not self.entry or min(self.entry.values()) < 0 or sum(self.entry.values()) > 1:
            problems.add("`entry` must hold non-negative shares that add up to 1 at most.")
        if not self.periods or list(self.periods) != sorted(set(self.periods)):
            problems.add("`periods` must increase, and there must be one.")
        unknown = sorted(set(self.cohort_effect) - set(self.entry))
        if unknown:
            problems.add(f"`cohort_effect` names {listed(unknown)}, which `entry` has not.")
        for name, on in (("trend_on", self.trend_on), ("entry_on", self.entry_on)):
            if on not in ("x", "h"):
                problems.add(f"`{name}` is '{on}'; use 'x' or 'h'.")
        odd = [s for s, v in self.strata.items() if v.share <= 0 or not 0 < v.presence <= 1]
        if odd:
            problems.add(f"strata {listed(odd)} need `share` above 0, `presence` above 0 up to 1.")
        if min(self.median_people, self.least_people) <= 0:
            problems.add("`median_people` and `least_people` must be above 0.")
        if not -1 < self.shock_rho < 1:
            problems.add(f"`shock_rho` is {self.shock_rho}; it lies between -1 and 1.")
        if min(self.organization_sd, self.shock_sd, self.log_sd_people) < 0:
            problems.add("standard deviations must not be negative.")
        problems.raise_if_any()

    def null(self) -> OrganizationPanel:
        """Return the same process without any effect, for the size of tests."""
        return replace(self, effect=0.0, growth=0.0)

    # ---------------------------------------------------------------- truth

    def effect_of(self, cohort: FloatArray, period: FloatArray) -> FloatArray:
        """Return the effect as a fraction of mean spending; 0 before entry or without it."""
        factor = np.ones(len(cohort))
        for g, value in self.cohort_effect.items():
            factor[cohort == g] = value
        e = period - cohort
        return np.asarray(np.where(e >= 0, factor * (self.effect + self.growth * e), 0.0))

    def truth(self) -> Truth:
        """
        Return ATT(g, t), by stratum and all together, weighted by person-years.

        Cohort shares are exact without confounding; with it, an integral over 200 quantiles of
        the confounder.
        """
        shares = self._cohort_shares()
        grid = [(float(g), float(t)) for g in sorted(shares) for t in self.periods]
        cohort, period = np.array(grid).T
        effect = self.effect_of(cohort, period) * self.mean
        strata = self.strata or {"": Stratum(share=1.0)}
        weight = {s: v.share * v.presence for s, v in strata.items()}
        pooled = sum(w * strata[s].effect * strata[s].spending for s, w in weight.items())
        factors: dict[str | None, float] = {None: pooled / sum(weight.values())}
        factors |= {f"stratum={s}": v.effect * v.spending for s, v in self.strata.items()}
        tables = [
            pd.DataFrame({
                "stratum": stratum, "cohort": cohort, "period": period,
                "event_time": period - cohort, "effect": effect * factor,
                "share": [shares[int(g)] for g in cohort],
            })
            for stratum, factor in factors.items()
        ]  # fmt: skip
        return Truth(
            effects=pd.concat([t.astype({"stratum": object}) for t in tables], ignore_index=True),
            outcome=OUTCOME,
            unit_of_measure=UNIT_OF_MEASURE,
        )

    def _cohort_shares(self) -> dict[int, float]:
        from scipy.special import ndtri

        x = ndtri((np.arange(200) + 0.5) / 200)
        probability = self._entry_probabilities(x).mean(axis=0)
        return dict(zip(sorted(self.entry), (float(p) for p in probability), strict=False))

    def _entry_probabilities(self, x: FloatArray) -> FloatArray:
        """Probability of each cohort and, last, of never entering, shape (n, cohorts + 1)."""
        share = np.array([*(self.entry[g] for g in sorted(self.entry)), 0.0])
        share[-1] = 1 - share.sum()
        odds = np.repeat(share[None, :], len(x), axis=0)
        odds[:, :-1] *= np.exp(self.pull * _shape(x, self.entry_on))[:, None]
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    # ---------------------------------------------------------------- draws

    def cells(self, rng: np.random.Generator) -> pd.DataFrame:
        """
        Draw organization-period (and stratum) means directly.

        Returns
        -------
        DataFrame
            ``organization``, ``period``, ``cohort`` (missing = never), ``x``, ``stratum`` where
            there are strata, ``person_years`` and ``spend`` (mean, USD per person-year). Means
            are normal around the cell's mean with the variance that the mean of `rows` has.
        """
        frame, mean = self._cells(rng)
        sd = PERSON_CV * np.abs(mean) / np.sqrt(frame["person_years"])
        return frame.assign(spend=mean + sd * rng.standard_normal(len(frame)))

    def rows(self, rng: np.random.Generator) -> pd.DataFrame:
        """
        Draw one row a person-year; people are not followed.

        Returns
        -------
        DataFrame
            ``person`` (a row number), then the columns of `cells` with ``spend`` of one person
            (zero or skewed, USD) and without ``person_years``.
        """
        frame, mean = self._cells(rng)
        n = frame.pop("person_years").to_numpy(dtype=np.int64)
        rows = frame.loc[np.repeat(frame.index, n)].reset_index(drop=True)
        rows.insert(0, "person", np.arange(len(rows)))
        return rows.assign(spend=np.repeat(mean, n) * person_years(len(rows), rng))

    def panel(
        self,
        rng: np.random.Generator,
        kind: Literal["panel", "repeated_cross_section"] = "panel",
    ) -> Panel:
        """
        Draw a panel.

        Parameters
        ----------
        rng : Generator
            Source of randomness.
        kind : {"panel", "repeated_cross_section"}
            Cells of followed organizations weighted by person-years, or rows of people who are
            not followed, clustered by organization.
        """
        strata = ("stratum",) if self.strata else ()
        if kind == "panel":
            return Panel.from_frame(
                self.cells(rng), unit="organization", period="period", cohort="cohort",
                strata=strata, weight="person_years",
            )  # fmt: skip
        return Panel.from_frame(
            self.rows(rng), unit="person", period="period", cohort="cohort",
            cluster="organization", strata=strata, kind=kind,
        )  # fmt: skip

    def _cells(self, rng: np.random.Generator) -> tuple[pd.DataFrame, FloatArray]:
        """Keys and person-years of cells, and their expected spending."""
        drawn = self._organizations(rng)
        strata = self.strata or {"": Stratum(share=1.0)}
        periods = np.array(self.periods, dtype=float)
        tables = []
        for code, (name, stratum) in enumerate(strata.items()):
            has = np.flatnonzero(drawn.rank[:, code] < stratum.presence)
            c, t = np.repeat(has, len(periods)), np.tile(np.arange(len(periods)), len(has))
            elapsed = periods[t] - periods[0]
            cohort = drawn.cohort[c]
            relative = (
                stratum.spending * (1 + self.effect_of(cohort, periods[t]) * stratum.effect)
                + drawn.level[c] + drawn.shock[c, t]
                + elapsed * (self.trend + self.tilt * _shape(drawn.x[c], self.trend_on))
            )  # fmt: skip
            people = np.maximum(np.rint(drawn.people[c] * stratum.share), 1.0)
            tables.append(
                pd.DataFrame({
                    "organization": c, "period": periods[t], "cohort": cohort, "x": drawn.x[c],
                    "stratum": name, "person_years": people, "mean": self.mean * relative,
                })
            )  # fmt: skip
        frame = pd.concat(tables, ignore_index=True)
        frame["organization"] = [f"O{c:04d}" for c in frame["organization"]]
        if not self.strata:
            del frame["stratum"]
        mean = frame.pop("mean").to_numpy(dtype=float)
        return frame, mean

    def _organizations(self, rng: np.random.Generator) -> _Organizations:
        n, t = self.organizations, len(self.periods)
        x = rng.standard_normal(n)
        cumulated = self._entry_probabilities(x).cumsum(axis=1)
        choice = (rng.random(n)[:, None] > cumulated[:, :-1]).sum(axis=1)
        cohort = np.array([*sorted(self.entry), np.nan], dtype=float)[choice]
        shock = np.empty((n, t))
        shock[:, 0] = rng.standard_normal(n)
        gaps = np.diff(np.array(self.periods, dtype=float))
        for i, gap in enumerate(gaps):
            rho = self.shock_rho**gap
            shock[:, i + 1] = rho * shock[:, i] + np.sqrt(1 - rho**2) * rng.standard_normal(n)
        return _Organizations(
            cohort=cohort, x=x, level=self.organization_sd * rng.standard_normal(n),
            shock=self.shock_sd * shock, people=self._people(n, rng),
            rank=rng.random((n, max(len(self.strata), 1))),
        )  # fmt: skip

    def _people(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw sizes from a lognormal truncated below, by its quantile function."""
        from scipy.special import ndtr, ndtri

        if self.log_sd_people == 0:
            return np.full(n, max(self.median_people, self.least_people))
        low = ndtr(np.log(self.least_people / self.median_people) / self.log_sd_people)
        z = ndtri(low + (1 - low) * rng.random(n))
        return np.asarray(self.median_people * np.exp(self.log_sd_people * z))


class _Organizations(NamedTuple):
    """Draws of n organizations over T periods; `level` and `shock` as fractions of the mean."""

    cohort: FloatArray
    x: FloatArray
    level: FloatArray
    shock: FloatArray
    people: FloatArray
    rank: FloatArray


def _shape(x: FloatArray, on: str) -> FloatArray:
    """The confounder as it acts: x, or a curved function of it with mean 0 and SD 1."""
    return x if on == "x" else (x + x**2 - 1) / np.sqrt(3)
