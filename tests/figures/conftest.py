"""Example results for the figures: random influence matrices, known estimates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from vbceval import balance, did, figures, sensitivity
from vbceval.design import Design
from vbceval.estimates import Estimates, stack
from vbceval.panel import Panel

UNIT = "USD per person-year, nominal"
META = {
    "estimator": "GroupTime",
    "options": {"method": "dr", "trim": None},
    "design": {
        "comparison": "not_yet_treated",
        "base_period": "universal",
        "covariates": ("hcc",),
        "anticipation": 0,
    },
    "vcov": "CR1",
    "seed": 7,
}
SPENDING = Design(outcome="spending", unit_of_measure=UNIT)
STRATA = (None, "enrollment=esrd", "enrollment=disabled", "enrollment=aged", "dual=yes", "dual=no")


def clusters(size: int) -> pd.Index:
    return pd.Index([f"A{i:03d}" for i in range(size)])


def influence(rng: np.random.Generator, size: int, se: np.ndarray) -> np.ndarray:
    """Correlated columns whose sums of squares are the squared standard errors."""
    psi = rng.standard_normal((size, len(se))) + 0.7 * rng.standard_normal((size, 1))
    return np.asarray(psi * se / np.sqrt((psi**2).sum(axis=0)))


def running_totals() -> pd.DataFrame:
    """Gross and net savings to date over three years, dollars."""
    amounts = {"Gross savings": [8e6, 33e6, 69e6], "Net savings": [-2e6, 10e6, 27e6]}
    parts = [
        pd.DataFrame({"series": name, "period": [2016, 2017, 2018], "estimate": values})
        for name, values in amounts.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    half = 12e6 * np.sqrt(table["period"] - 2015)
    return table.assign(conf_low=table["estimate"] - half, conf_high=table["estimate"] + half)


def chances_by_size() -> pd.DataFrame:
    """Chances of undeserved payments that fall with the size of a contract."""
    size = np.geomspace(1_000.0, 200_000.0, 30)
    return pd.DataFrame(
        {
            "size": size,
            "sd": 2 / np.sqrt(size),
            "false_reward": 0.4 * np.exp(-size / 15_000),
            "false_penalty": 0.3 * np.exp(-size / 12_000),
            "missed_reward": 0.45 * np.exp(-size / 50_000),
            "wrong_penalty": 0.2 * np.exp(-size / 4_000),
        }
    )


def predictive_checks() -> pd.DataFrame:
    """Checks of five strata in six years; one stratum varies more than the model says."""
    rng, rows = np.random.default_rng(5), []
    names = ("esrd", "disabled", "aged_dual", "aged_non_dual", "other")
    for name in names:
        for statistic, centre, half in (("variance", 40.0, 8.0), ("lag_one", 0.1, 0.15)):
            for period in (np.nan, *range(2013, 2019)):
                if statistic == "lag_one" and period == period:
                    continue
                seen = centre + rng.normal(0, half / 3) + 3 * half * (name == "aged_non_dual")
                rows.append((statistic, f"enrollment_type={name}", period, seen, centre, centre - half,
                             centre + half, bool(seen > centre + half), 0.9))  # fmt: skip
    columns = ["statistic", "stratum", "period", "observed", "replicated", "low", "high", "misfit",
               "level"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture(scope="session")
def by_event_time() -> Callable[..., Estimates]:
    """Make effects by event time -4 to 3, the period -1 the reference."""

    def make(stratum: str | None = None, seed: int = 1) -> Estimates:
        rng = np.random.default_rng(seed)
        e = np.arange(-4.0, 4.0)
        estimate = np.where(e < 0, rng.normal(0, 15, len(e)), -90 - 20 * e)
        se = 40.0 + 10 * np.abs(e)
        estimate[e == -1], se[e == -1] = 0.0, 0.0
        psi = influence(rng, 60, np.where(se > 0, se, 1.0)) * (se > 0)
        frame = pd.DataFrame(
            {
                "estimand": "att_event_time",
                "outcome": "spending",
                "unit_of_measure": UNIT,
                "event_time": e,
                "stratum": stratum,
                "estimate": estimate,
                "n_treated": 301 - 20 * np.maximum(e, 0),
                "n_clusters": 60,
            }
        )
        return Estimates(frame=frame, psi=psi, clusters=clusters(60), cluster_name="aco", meta=META)

    return make


@pytest.fixture(scope="session")
def strata() -> Estimates:
    """Overall, three enrollment types and two levels of dual status."""
    estimate = np.array([-88.0, -410.0, -120.0, -62.0, -150.0, -70.0])
    se = np.array([41.0, 310.0, 88.0, 38.0, 70.0, 40.0])
    frame = pd.DataFrame(
        {
            "estimand": "att_simple",
            "outcome": "spending",
            "unit_of_measure": UNIT,
            "stratum": list(STRATA),
            "estimate": estimate,
            "n_treated": [301, 288, 301, 301, 297, 301],
            "person_years": [5.31e6, 2.2e4, 8.4e5, 4.03e6, 4.1e5, 4.9e6],
        }
    )
    psi = influence(np.random.default_rng(3), 60, se)
    return Estimates(frame=frame, psi=psi, clusters=clusters(60), cluster_name="aco", meta=META)


@pytest.fixture(scope="session")
def gap(strata: Estimates) -> Estimates:
    """Dual less not dual, with the covariance between them; named as `equity.gaps` names it."""
    made = strata.contrast({"gap_att_simple": {4: 1.0, 5: -1.0}})
    return made.with_frame(made.frame.assign(stratum="dual=yes - no"))


@pytest.fixture(scope="session")
def posterior(strata: Estimates) -> Estimates:
    """Normal draws of the same quantities, in percent."""
    draws = strata.simulate_draws(2000, np.random.default_rng(0)) / 98.0
    frame = strata.frame.assign(estimate=draws.mean(axis=0), unit_of_measure="percent of baseline")
    meta = {
        "estimator": "HierarchicalDiD",
        "prior": "effects N(0, 5^2)",
        "convergence": {"r_hat": 1.002, "ess_bulk": 1812.0, "bfmi": float("nan"), "divergences": 0},
    }
    return Estimates(frame=frame, samples=draws, interval="credible", meta=meta)


@pytest.fixture(scope="session")
def means() -> pd.DataFrame:
    """Adjusted means 2011 to 2016, start 2014; the effect is -60, -90, -120 by construction."""
    period = np.arange(2011, 2017)
    comparison = 9800.0 + 140 * (period - 2011)
    path = comparison + 310
    treated = path + np.where(period >= 2014, -60.0 - 30 * (period - 2014), 0.0)
    rows = [
        {"period": p, "arm": arm, "mean": m, "conf_low": m - 60, "conf_high": m + 60, "level": 0.95}
        for arm, values in (("treated", treated), ("comparison", comparison))
        for p, m in zip(period, values, strict=True)
    ]
    return pd.DataFrame(rows).assign(n_people=50_000)


@pytest.fixture(scope="session")
def effect(strata: Estimates) -> Estimates:
    """The estimate that belongs to `means`: -90."""
    one = strata.where([0])
    return one.shifted(one.frame.assign(estimate=-90.0), np.array([-2.0]))


@pytest.fixture(scope="session")
def ledger() -> pd.DataFrame:
    """Impact savings with an interval, benchmark savings without, in dollars."""
    rows = [
        ("impact", "gross", "Gross savings", 612.4e6, 101e6, 1123e6),
        ("impact", "payment", "Shared-savings payments", 780.8e6, np.nan, np.nan),
        ("impact", "payment", "Losses repaid by ACOs", -22.1e6, np.nan, np.nan),
        ("impact", "net", "Net savings", -146.3e6, -657.7e6, 364.3e6),
        ("benchmark", "gross", "Benchmark less spending", 1094.5e6, np.nan, np.nan),
        ("benchmark", "payment", "Shared-savings payments", 780.8e6, np.nan, np.nan),
        ("benchmark", "net", "Net savings to Medicare", 313.7e6, np.nan, np.nan),
    ]
    names = ["measure", "kind", "component", "amount", "conf_low", "conf_high"]
    return pd.DataFrame(rows, columns=names).assign(level=0.95)


@pytest.fixture(scope="session")
def rates() -> pd.DataFrame:
    """Shrunken and raw savings rates of 30 organizations in two strata."""
    rng = np.random.default_rng(4)
    raw = rng.normal(0.01, 0.05, 30)
    shrunken = 0.01 + 0.5 * (raw - 0.01)
    return pd.DataFrame(
        {
            "label": [f"A{i}" for i in range(30)],
            "estimate": shrunken,
            "std_error": 0.02,
            "conf_low": shrunken - 0.04,
            "conf_high": shrunken + 0.04,
            "level": 0.95,
            "interval": "credible",
            "raw": raw,
            "stratum": np.where(np.arange(30) % 3 == 0, "revenue=low", "revenue=high"),
            "outcome": "savings_rate",
            "unit_of_measure": "fraction of benchmark",
        }
    )


@pytest.fixture(scope="session")
def synthesis() -> pd.DataFrame:
    """Published effects with pooled means and predictive intervals."""
    rng = np.random.default_rng(5)
    rows = []
    for heading, k in (("Accountable care organizations", 5), ("Bundled payments", 4)):
        for i in range(k):
            e, se = rng.normal(-1.3, 1.0), rng.choice([0.4, 1.0, 4.2])
            rows.append((heading, f"Program {i}, a report with a rather long name and its year",
                         "estimate", e, se, e - 1.96 * se, e + 1.96 * se, "confidence"))  # fmt: skip
        rows.append((heading, "Mean effect", "pooled", -1.2, 0.3, -1.8, -0.6, "credible"))
        rows.append((heading, "New program", "predictive", -1.2, 1.1, -3.5, 1.0, "credible"))
    names = ["heading", "label", "kind", "estimate", "std_error", "conf_low", "conf_high",
             "interval"]  # fmt: skip
    return pd.DataFrame(rows, columns=names).assign(
        level=0.95, outcome="total spending", unit_of_measure="percent of baseline mean"
    )


@pytest.fixture(scope="session")
def cohorts() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "cohort": [2012, 2013, 2014, 2015, np.nan],
            "n_organizations": [114, 106, 123, 89, 61],
            "person_years": [1.9e6, 1.6e6, 1.2e6, 7.1e5, 9.1e5],
        }
    )


@pytest.fixture(scope="session")
def flow() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "step": ["In the result files", "Linked over years by the identifier crosswalk",
                     "First agreement period only", "Entrants", "Not yet in the program"],
            "acos": [548, 541, 452, 301, 151],
            "rows": [8712, 8600, 4880, 3000, 1880],
            "arm": [None, None, None, "treated", "comparison"],
        }
    )  # fmt: skip


@pytest.fixture(scope="session")
def balance_weights() -> balance.BalanceWeights:
    """Weights of 150 organizations, 50 of which enter; four features, one with a long name."""
    rng = np.random.default_rng(4)
    z = rng.standard_normal((150, 4))
    enters = z[:, 0] + 2 * rng.standard_normal(150) > 1.2
    names = ["hcc", "spending", "rural", "share_of_beneficiaries_in_rural_counties"]
    frame = pd.DataFrame(z, columns=names).assign(
        aco=[f"A{i:03d}" for i in range(150)], entry=np.where(enters, 2014.0, np.nan)
    )
    both = pd.concat([frame.assign(year=2013), frame.assign(year=2014)])
    panel = Panel.from_frame(both, unit="aco", period="year", cohort="entry")
    return balance.propensity(panel, names)


@pytest.fixture(scope="session")
def specifications() -> sensitivity.SpecificationCurve:
    """Twelve specifications of one effect on the same organizations, three choices each."""
    rng = np.random.default_rng(6)
    psi = influence(rng, 60, rng.uniform(32.0, 44.0, 12))
    frame = pd.DataFrame(
        {"estimand": "att_simple", "outcome": "spending", "unit_of_measure": UNIT,
         "estimate": rng.normal(-85.0, 25.0, 12)}
    )  # fmt: skip
    parts = {
        f"s{j}": Estimates(frame=frame.iloc[[j]], psi=psi[:, [j]], clusters=clusters(60),
                           cluster_name="aco", meta=META)
        for j in range(12)
    }  # fmt: skip
    choices = {
        f"s{j}": {
            "comparison": ("never treated", "not yet treated")[j % 2],
            "adjustment": (None, "risk score", "risk score and region of the beneficiary")[j % 3],
            "without_2020": j >= 6,
        }
        for j in range(12)
    }
    return sensitivity.specification_curve(parts, choices=choices)


@pytest.fixture(scope="session")
def staggered() -> Panel:
    """Twenty organizations in seven years, entry in two years, always or never; effects grow."""
    rng = np.random.default_rng(9)
    entry = np.repeat([2008.0, 2013.0, 2015.0, np.nan], [3, 6, 5, 6])
    rows = pd.DataFrame(
        {"aco": np.repeat([f"A{i:02d}" for i in range(20)], 7),
         "year": np.tile(np.arange(2011, 2018), 20), "entry": np.repeat(entry, 7)}
    )  # fmt: skip
    since = (rows["year"] - rows["entry"] + 1).clip(lower=0).fillna(0)
    rows["spending"] = 9800 + rng.normal(0, 90, 140) - 40 * since
    return Panel.from_frame(rows, unit="aco", period="year", cohort="entry")


@pytest.fixture(scope="session")
def parts(staggered: Panel) -> sensitivity.Decomposition:
    return sensitivity.bacon(staggered, SPENDING)


@pytest.fixture(scope="session")
def left_out(staggered: Panel) -> sensitivity.LeaveOneOut:
    return sensitivity.leave_one_out(did.TWFE().fit, staggered, SPENDING)


@pytest.fixture(scope="session")
def every_figure(
    by_event_time,
    strata,
    gap,
    posterior,
    means,
    effect,
    ledger,
    rates,
    synthesis,
    cohorts,
    flow,
    balance_weights,
    specifications,
    parts,
    left_out,
) -> dict[str, Callable[..., object]]:
    """Every figure of the room on its example, as a function of the style."""
    some = [by_event_time(f"enrollment={name}", i) for i, name in enumerate("abcd")]
    totals = running_totals()
    chances = chances_by_size()
    long = rates.loc[np.arange(300) % 30].reset_index(drop=True)
    return {
        "event_study": lambda **o: figures.event_study(by_event_time(), **o),
        "event_study_strata": lambda **o: figures.event_study(stack(some), **o),
        "trend": lambda **o: figures.trend(
            means.drop(columns=["conf_low", "conf_high"]), effect, start=2014,
            baseline_mean=9894.0, **o,
        ),
        "forest": lambda **o: figures.forest(
            strata, gap=gap, columns={"person_years": "Person-years"}, **o
        ),
        "forest_posterior": lambda **o: figures.forest(posterior, **o),
        "forest_synthesis": lambda **o: figures.forest(synthesis, **o),
        "gross_to_net": lambda **o: figures.gross_to_net(ledger, **o),
        "cumulative_savings": lambda **o: figures.cumulative_savings(totals, level=0.95, **o),
        "viability_curve": lambda **o: figures.viability_curve(chances, true_saving=0.03, **o),
        "caterpillar": lambda **o: figures.caterpillar(rates, colour="stratum", **o),
        "caterpillar_many": lambda **o: figures.caterpillar(long, colour="stratum", **o),
        "threshold_curve": lambda **o: figures.threshold_curve(
            posterior.where([0]), marks=(0, -1, -2), **o
        ),
        "threshold_strata": lambda **o: figures.threshold_curve(posterior.by("enrollment"), **o),
        "half_eye": lambda **o: figures.half_eye(posterior.by("enrollment"), **o),
        "predictive_check": lambda **o: figures.predictive_check(predictive_checks(), **o),
        "predictive_check_strata": lambda **o: figures.predictive_check(
            predictive_checks(), statistic="lag_one", **o
        ),
        "posterior_density": lambda **o: figures.posterior_density(
            posterior.by("dual"), threshold=-1, **o
        ),
        "cohort_sizes": lambda **o: figures.cohort_sizes(cohorts, **o),
        "sample_flow": lambda **o: figures.sample_flow(
            flow, counts={"acos": "ACOs", "rows": "ACO-years"}, **o
        ),
        "love": lambda **o: figures.love(balance_weights, **o),
        "propensity_overlap": lambda **o: figures.propensity_overlap(balance_weights, **o),
        "specification_curve": lambda **o: figures.specification_curve(
            specifications, main="s3", **o
        ),
        "decomposition": lambda **o: figures.decomposition(parts, design=SPENDING, **o),
        "leave_one_out": lambda **o: figures.leave_one_out(left_out, labels={"aco": "ACO"}, **o),
    }  # fmt: skip
