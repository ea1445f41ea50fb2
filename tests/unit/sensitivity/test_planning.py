"""Regression to the mean and power: against simulated truth and closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import vbceval as vbc
from vbceval.core.errors import DesignError
from vbceval.sensitivity import minimum_detectable_effect, regression_to_mean, simulated_power

SPEND = vbc.Design(outcome="spend")


def panel(rows: pd.DataFrame, *, people: bool | None = None) -> vbc.Panel:
    return vbc.Panel.from_frame(rows, unit="aco", period="year", cohort="entry", people=people)


def autoregressive(rng: np.random.Generator, n: int, periods: int, rho: float) -> np.ndarray:
    y = np.empty((n, periods))
    y[:, 0] = rng.normal(size=n)
    for t in range(1, periods):
        y[:, t] = rho * y[:, t - 1] + np.sqrt(1 - rho**2) * rng.normal(size=n)
    return y


def long(y: np.ndarray, entry: np.ndarray) -> pd.DataFrame:
    n, periods = y.shape
    return pd.DataFrame({
        "aco": np.repeat(np.arange(n), periods), "year": np.tile(np.arange(periods), n),
        "entry": np.repeat(entry, periods), "spend": y.ravel(),
    })  # fmt: skip


def test_entry_after_a_high_year_shows_what_it_would_feign() -> None:
    """Without effect, entry decided by the last year: the what-if is what is then estimated."""
    rng = np.random.default_rng(1)
    gaps = []
    for _ in range(12):
        y = autoregressive(rng, 300, 6, 0.5)
        # the highest third of the year before entry, with some noise in the choice
        high = y[:, 3] + 0.5 * rng.normal(size=300)
        entry = np.where(high > np.quantile(high, 0.67), 4.0, np.nan)
        table = long(y, entry)
        feigned = regression_to_mean(panel(table), SPEND, horizon=1)
        found = vbc.did.GroupTime().fit(panel(table), SPEND).aggregate("event_time").frame
        found = found[found["estimand"] == "att_event_time"].set_index("event_time")["estimate"]
        at = feigned[feigned["cohort"].notna()].set_index("event_time")["regression_to_mean"]
        gaps.append([found[0.0], at[0.0], found[1.0], at[1.0]])
    mean, error = np.mean(gaps, axis=0), np.std(gaps, axis=0) / np.sqrt(12)
    assert mean[0] < -20 * error[0]  # no effect, and yet a large estimate
    # gap counts what is new in the last year, here with rho^k of it already there before
    assert abs(mean[1] / mean[0] - 1) < 0.5
    assert abs(mean[3] / mean[2] - 1) < 0.5
    assert mean[2] < mean[0]  # further falls later


def test_without_selection_nothing_is_feigned() -> None:
    rng = np.random.default_rng(2)
    found = []
    for _ in range(20):
        y = autoregressive(rng, 200, 5, 0.5)
        entry = np.where(rng.random(200) < 0.4, 3.0, np.nan)
        found.append(
            regression_to_mean(panel(long(y, entry)), SPEND)["regression_to_mean"].iloc[-1]
        )
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(20)


def test_by_hand_with_weights_and_cohorts() -> None:
    rng = np.random.default_rng(3)
    entry = np.repeat([3.0, 4.0, np.nan], [4, 6, 10])
    table = long(rng.normal(size=(20, 6)), entry)
    found = regression_to_mean(panel(table), vbc.Design(
        outcome="spend", comparison="never_treated"), horizon=1)  # fmt: skip
    wide = table.pivot_table(index="aco", columns="year", values="spend")
    never = wide[np.isnan(entry)]
    rise = wide[3] - wide[[0, 1, 2]].mean(axis=1)
    gap = rise[entry == 4].mean() - rise[np.isnan(entry)].mean()
    row = found[(found["cohort"] == 4) & (found["event_time"] == 1)].iloc[0]
    rho = np.corrcoef(never[3], never[5])[0, 1]
    assert row["gap"] == pytest.approx(gap)
    assert row["regression_to_mean"] == pytest.approx(-(1 - rho) * gap)
    own = found[found["cohort"].notna() & (found["event_time"] == 1)]
    mean = (own["regression_to_mean"] * own["n_clusters"]).sum() / 10
    assert found["regression_to_mean"].iloc[-1] == pytest.approx(mean)


def test_regression_to_mean_needs_two_periods_before_and_a_comparison() -> None:
    y = np.random.default_rng(4).normal(size=(8, 4))
    with pytest.raises(DesignError, match="two periods before entry"):
        regression_to_mean(panel(long(y, np.repeat([1.0, np.nan], 4))), SPEND)
    with pytest.raises(DesignError, match="only 2 comparison clusters"):
        regression_to_mean(panel(long(y, np.array([2.0] * 6 + [np.nan] * 2))), SPEND)


def test_regression_to_mean_where_something_is_not_seen() -> None:
    rng = np.random.default_rng(4)
    entry = np.repeat([3.0, 4.0, np.nan], [2, 3, 12])
    table = long(rng.normal(size=(17, 5)), entry)
    full = regression_to_mean(panel(table), SPEND, horizon=0)
    # nobody of the first cohort is seen in its last period before entry
    lost = table[~((table["entry"] == 3) & (table["year"] == 2))]
    kept = regression_to_mean(panel(lost), SPEND, horizon=0)
    assert kept["cohort"].dropna().tolist() == [4.0]
    assert kept["gap"].iloc[-1] == full.set_index("cohort")["gap"][4.0]
    with pytest.raises(DesignError, match="comparison clusters do not differ"):
        regression_to_mean(panel(long(np.ones((17, 5)), entry)), SPEND)
    people = regression_to_mean(panel(table, people=True), SPEND, horizon=0)
    assert people["n_clusters"].isna().all()
    with pytest.raises(DesignError, match="only fewer than 11 people are seen"):
        regression_to_mean(
            panel(
                table[table["aco"] < 4].assign(entry=lambda d: d["entry"].where(d["aco"] < 2)),
                people=True,
            ),
            SPEND,
        )


def estimate(error: float, df: float) -> vbc.Estimates:
    frame = pd.DataFrame({
        "estimand": ["att_simple"], "outcome": ["spend"], "estimate": [0.0], "df": [df],
    })  # fmt: skip
    return vbc.Estimates(frame=frame, covariance=np.array([[error**2]]))


def test_minimum_detectable_effect_has_the_power_it_says() -> None:
    found = minimum_detectable_effect(estimate(10.0, np.inf), power=0.9, baseline=500.0).iloc[0]
    effect = found["minimum_detectable_effect"]
    z = stats.norm.ppf(0.975)
    assert stats.norm.sf(z - effect / 10) == pytest.approx(0.9)
    assert found["percent_of_baseline"] == pytest.approx(effect / 5)
    # with few degrees of freedom close to the noncentral t
    effect = minimum_detectable_effect(estimate(10.0, 12.0))["minimum_detectable_effect"].iloc[0]
    assert stats.nct.sf(stats.t.ppf(0.975, 12), 12, effect / 10) == pytest.approx(0.8, abs=0.01)
    with pytest.raises(DesignError, match=r"`power` is 0\.01"):
        minimum_detectable_effect(estimate(1.0, 5.0), power=0.01)
    with pytest.raises(DesignError, match="`baseline` is 0"):
        minimum_detectable_effect(estimate(1.0, 5.0), baseline=0.0)


def test_simulated_power_agrees_with_the_closed_form() -> None:
    rng = np.random.default_rng(5)
    y = rng.normal(size=(40, 1)) + rng.normal(size=(40, 4))
    table = long(y, np.full(40, np.nan))
    found = simulated_power(
        vbc.did.TWFE().fit, panel(table), SPEND, effects=[0.0, 0.8], entry=2, n_treated=16,
        replications=60,
    ).set_index("effect")  # fmt: skip
    # differences of two means of two periods: variance 2 (1/2) (1/16 + 1/24) of these data
    error = np.sqrt(np.var(y[:, 2:].mean(1) - y[:, :2].mean(1), ddof=1) * (1 / 16 + 1 / 24))
    expected = stats.norm.sf(stats.t.ppf(0.975, 39) - 0.8 / error)
    assert found.loc[0.8, "power"] == pytest.approx(
        expected, abs=4 * found.loc[0.8, "monte_carlo_error"] + 0.03
    )
    assert found.loc[0.0, "power"] < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 60)
    assert found.loc[0.8, "mean_estimate"] - found.loc[0.0, "mean_estimate"] == pytest.approx(0.8)
    assert found.loc[0.8, "coverage"] == found.loc[0.0, "coverage"]
    assert found.loc[0.0, "failed"] == 0


def test_simulated_power_says_what_it_cannot_do() -> None:
    y = np.random.default_rng(6).normal(size=(8, 3))
    untreated = panel(long(y, np.full(8, np.nan)))
    options = {"effects": [0.0], "entry": 1, "n_treated": 4, "replications": 2}

    def run(data: vbc.Panel, **changes: object) -> pd.DataFrame:
        return simulated_power(vbc.did.TWFE().fit, data, SPEND, **{**options, **changes})  # type: ignore[arg-type]  # options by name

    with pytest.raises(DesignError, match="treated already"):
        run(panel(long(y, np.repeat([1.0, np.nan], 4))))
    with pytest.raises(DesignError, match="`n_treated` is 7 of 8"):
        run(untreated, n_treated=7)
    with pytest.raises(DesignError, match="entry in 0 has no period before"):
        run(untreated, entry=0)
    with pytest.raises(DesignError, match="returned 2 rows"):
        simulated_power(vbc.did.GroupTime().fit, untreated, SPEND, **options)  # type: ignore[arg-type]  # options by name
