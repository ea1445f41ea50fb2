"""Savings rates: sampling error by size, exact shrinkage, and what chance alone would reward."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vbceval.bayes import Reliability, SavingsNoise, paid_by_luck, share_rewarded_by_chance
from vbceval.bayes.shrinkage import Blocks, at_node
from vbceval.core.errors import DataError, DesignError

WEIGHTS = (0.1, 0.3, 0.6)


def _frame(rates, sd, *, cluster=None, period=2018, **more) -> pd.DataFrame:
    n = len(rates)
    names = [f"A{i}" for i in range(n)] if cluster is None else cluster
    return pd.DataFrame(
        {"cluster": names, "period": period, "savings_rate": rates, "sd": sd, **more}
    )


# ---------------------------------------------------------------- sampling error by size


def test_error_of_a_rate_by_hand() -> None:
    # persons: 2^2 (1 - .001) / 8000 and organization 2^2 * .001, a benchmark year correlated .25
    noise = SavingsNoise(person_cv=2.0, icc=0.001, benchmark_weights=WEIGHTS, rho=0.25)
    own, shared = noise.variances([8000.0])
    person, cluster = 4 * 0.999 / 8000, 4 * 0.001
    assert own[0] == pytest.approx(0.75 * person + cluster)
    assert shared[0] == pytest.approx(0.46 * (0.75 * person + cluster))
    assert noise.sd([8000.0])[0] == pytest.approx(np.sqrt(1.46 * (0.75 * person + cluster)))
    assert noise.sd([8000.0], true_saving=0.1)[0] == pytest.approx(0.9 * noise.sd([8000.0])[0])


def test_error_of_a_rate_from_the_covariance_of_all_years() -> None:
    # three benchmark years and two performance years, written out
    noise = SavingsNoise(
        person_cv=2.17, icc=0.0006, benchmark_weights=WEIGHTS, rho=0.3, rho_cluster=0.9
    )
    n = 12_000.0
    equal = np.ones((5, 5))
    years = 2.17**2 * (1 - 0.0006) / n * (0.3 * equal + 0.7 * np.eye(5))
    years += 2.17**2 * 0.0006 * (0.9 * equal + 0.1 * np.eye(5))
    first = np.array([*WEIGHTS, -1.0, 0.0])
    second = np.array([*WEIGHTS, 0.0, -1.0])
    own, shared = noise.variances([n])
    assert own[0] + shared[0] == pytest.approx(first @ years @ first)
    assert shared[0] == pytest.approx(first @ years @ second)


def test_known_benchmark_keeps_the_correlation_of_performance_years() -> None:
    own, shared = SavingsNoise(person_cv=2.0, rho=0.3, trend_sd=0.01).variances([10_000.0])
    assert shared[0] == pytest.approx(0.3 * 4e-4)
    assert own[0] == pytest.approx(0.7 * 4e-4 + 1e-4)


def test_persistent_differences_cancel_against_the_own_benchmark() -> None:
    lasting = SavingsNoise(person_cv=2.0, icc=0.01, rho_cluster=1.0, benchmark_weights=WEIGHTS)
    none = SavingsNoise(person_cv=2.0 * np.sqrt(0.99), benchmark_weights=WEIGHTS)
    assert lasting.sd([9000.0]) == pytest.approx(none.sd([9000.0]))


def test_drawn_rates_have_the_stated_law() -> None:
    noise = SavingsNoise(person_cv=2.17)
    draws = noise.draws([5000, 50_000], 20_000, np.random.default_rng(1), true_saving=0.02)
    sd = noise.sd([5000, 50_000], true_saving=0.02)
    assert draws.shape == (20_000, 2)
    assert np.abs(draws.mean(axis=0) - 0.02).max() < 4 * sd.max() / np.sqrt(20_000)
    assert draws.std(axis=0) == pytest.approx(sd, rel=4 / np.sqrt(40_000))


def test_noise_reports_every_bad_value() -> None:
    with pytest.raises(DataError, match="4 problems") as caught:
        SavingsNoise(person_cv=0.0, icc=1.5, rho=-0.1, benchmark_weights=(0.5, 0.6))
    assert "sum to 1" in str(caught.value)
    with pytest.raises(DataError, match="1 of 2 organization-years"):
        SavingsNoise(person_cv=2.0).sd([5000, 0])


# ---------------------------------------------------------------- reward and penalty by luck


def test_published_chances_of_an_undeserved_reward_and_penalty() -> None:
    # DeLia, Hoover, Cantor, Medicare Medicaid Res Rev 2(4) (2012), abstract: two-sided model,
    # spending kept constant. 5,000 enrollees: .24 reward, .26 penalty; 50,000: .02 and .02.
    # Assumed here, and not taken from that paper, whose variance is not in its abstract: a person's
    # spending has coefficient of variation 2.17 (fitted to the distribution of Medicare spending in
    # Wallis et al., EClinicalMedicine 2021), the benchmark is known, rates are normal, and both
    # thresholds are the fixed 2 % of the two-sided model. Nothing is fitted to .24 and .26. A
    # symmetric law cannot give two different chances; theirs lie on both sides of ours.
    noise = SavingsNoise(person_cv=2.17)
    luck = paid_by_luck([5_000, 50_000], noise=noise, msr=0.02, mlr=0.02)
    assert luck.reward == pytest.approx([0.2573, 0.0197], abs=5e-5)
    assert luck.penalty == pytest.approx(luck.reward)
    assert luck.reward[0] == pytest.approx(0.24, abs=0.02)
    assert luck.penalty[0] == pytest.approx(0.26, abs=0.01)
    assert luck.reward[1] == pytest.approx(0.02, abs=0.005)
    # the spread that the two printed chances imply under normality contains ours
    implied = 0.02 / stats.norm.isf([0.24, 0.26])
    assert implied[0] < luck.sd[0] < implied[1]
    # a noisy benchmark of three years, whose people overlap little, makes luck more likely
    wider = SavingsNoise(person_cv=2.17, benchmark_weights=WEIGHTS)
    assert paid_by_luck([5_000], noise=wider, msr=0.02).reward[0] == pytest.approx(0.295, abs=1e-3)


def test_threshold_table_is_a_ninety_percent_guard_for_small_and_ninety_nine_for_large() -> None:
    # 42 CFR 425.604(b): 3.9 % at 5,000 people, 2.0 % from 60,000
    luck = paid_by_luck([5_000, 60_000], noise=SavingsNoise(person_cv=2.17), msr=[0.039, 0.02])
    assert luck.reward == pytest.approx([0.10, 0.01], abs=0.003)


def test_luck_by_hand_and_its_directions() -> None:
    noise = SavingsNoise(person_cv=2.0)
    one = paid_by_luck(10_000, noise=noise, msr=0.02, mlr=[np.nan, 0.04])
    assert one.reward == pytest.approx(stats.norm.sf([1.0, 1.0]))
    assert one.penalty == pytest.approx([0.0, stats.norm.sf(2.0)])
    sizes = np.array([2_000, 5_000, 20_000, 80_000])
    assert np.all(np.diff(paid_by_luck(sizes, noise=noise, msr=0.02).reward) < 0)
    saved = paid_by_luck(10_000, noise=noise, msr=0.02, mlr=0.02, true_saving=[0.0, 0.02, 0.05])
    assert np.all(np.diff(saved.reward) > 0)
    assert np.all(np.diff(saved.penalty) < 0)
    assert saved.reward[1] == pytest.approx(0.5)
    with pytest.raises(DataError, match="without a minus sign"):
        paid_by_luck(5000, noise=noise, msr=0.02, mlr=-0.02)


# ---------------------------------------------------------------- shrinkage


def test_shrinkage_by_hand() -> None:
    # one period, sampling variance 1e-4, real variance 3e-4: three quarters of a rate is signal.
    # Nearly flat prior of the mean: it is 0.02, and every rate moves a quarter of the way there.
    blocks = Blocks(
        rate=np.array([[0.06], [0.01], [-0.01]]),
        seen=np.ones((3, 1), dtype=bool),
        noise=np.full((3, 1, 1), 1e-4),
    )
    node = at_node(blocks, 0.0, 3e-4, mean_sd=1e4)
    assert node.period_mean == pytest.approx([0.02])
    assert node.period_cov == pytest.approx(np.array([[4e-4 / 3]]))
    assert node.mean(blocks)[:, 0] == pytest.approx([0.05, 0.0125, -0.0025])


def test_exact_posterior_agrees_with_dense_quadrature() -> None:
    rates = np.array([0.05, 0.03, 0.01, -0.02, 0.00, 0.04])
    table = _frame(
        rates,
        [0.010, 0.020, 0.015, 0.020, 0.010, 0.030],
        cluster=["a", "a", "b", "b", "c", "d"],
        period=[1, 2, 1, 2, 1, 2],
    )
    est = Reliability(draws=40_000).fit(table, std_error="sd")
    org = np.array([0, 0, 1, 1, 2, 3])
    year = np.array([0, 1, 0, 1, 0, 1])
    noise = np.diag(table["sd"] ** 2)
    prior_mean = 0.10**2 * (year[:, None] == year)
    nodes = 130
    grid = (np.arange(nodes) + 0.5) * 0.3 / nodes
    log_w, means, spreads = [], [], []
    for lasting in grid:
        for yearly in grid:
            signal = lasting**2 * (org[:, None] == org) + yearly**2 * np.eye(6) + prior_mean
            total = signal + noise
            log_w.append(
                stats.multivariate_normal(np.zeros(6), total).logpdf(rates)
                - 0.5 * (lasting**2 + yearly**2) / 0.05**2
            )
            gain = np.linalg.solve(total, signal).T
            means.append(gain @ rates)
            spreads.append(np.diag(signal - gain @ signal))
    w = np.exp(np.array(log_w) - max(log_w))
    w /= w.sum()
    mean = w @ np.array(means)
    sd = np.sqrt(w @ (np.array(spreads) + np.array(means) ** 2) - mean**2)
    rows = est.where(estimand="savings_rate").tidy()
    assert rows["estimate"].to_numpy() == pytest.approx(mean, abs=4e-5)
    assert rows["std_error"].to_numpy() == pytest.approx(sd, rel=0.02)
    lasting = np.repeat(grid, nodes)
    got = est.where(estimand="organization_sd").frame["estimate"].item()
    # the grid has 21 points a side: a spread is off by less than a fiftieth of its posterior sd
    spread = np.sqrt(w @ lasting**2 - (w @ lasting) ** 2)
    assert got == pytest.approx(w @ lasting, abs=spread / 50)
    yearly = np.tile(grid, nodes)
    real = lasting**2 + yearly**2
    first = w @ (real / (real + 0.01**2))
    assert rows["reliability"].iloc[0] == pytest.approx(first, abs=2e-3)


def test_draws_have_the_exact_means() -> None:
    rng = np.random.default_rng(3)
    table = _frame(rng.normal(0.02, 0.04, 40), rng.uniform(0.01, 0.03, 40), period=[1, 2] * 20,
                   cluster=np.repeat(np.arange(20), 2))  # fmt: skip
    est = Reliability(draws=8000).fit(table, std_error="sd")
    sd = est.tidy()["std_error"].to_numpy()
    # spreads are drawn within the cell of their node, so they are compared loosely
    gap = np.abs(est.draws().mean(axis=0) - est.estimate)
    assert np.all(gap < 5 * sd / np.sqrt(8000))
    mean = est.where(estimand="organization_mean")
    first = est.where(estimand="savings_rate").draws()[:, :2].mean(axis=1)
    assert mean.draws()[:, 0] == pytest.approx(first)


def _world(rng, n_org, n_years, sd_org, sd_year, noise, *, shared=False):
    size = np.exp(rng.normal(np.log(14_000), 0.75, n_org)).clip(5_000)
    own, common = noise.variances(size)
    lasting = rng.normal(0, sd_org, n_org)
    bench = rng.normal(0, np.sqrt(common))
    parts = []
    for t in range(n_years):
        true = 0.01 * t + lasting + rng.normal(0, sd_year, n_org)
        error = rng.normal(0, np.sqrt(own)) + (bench if shared else rng.normal(0, np.sqrt(common)))
        parts.append(
            pd.DataFrame(
                {"cluster": np.arange(n_org), "period": 2014 + t, "savings_rate": true + error,
                 "true": true, "person_years": size, "agreement": 2014}
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_planted_spreads_are_recovered_and_intervals_cover() -> None:
    noise = SavingsNoise(person_cv=2.17, benchmark_weights=WEIGHTS, rho=0.3)
    table = _world(np.random.default_rng(11), 300, 4, 0.030, 0.020, noise)
    est = Reliability(noise=noise).fit(table, person_years="person_years", keep=["true"])
    spread = est.where(estimand=["organization_sd", "year_sd"]).tidy(0.99)
    assert np.all((spread["conf_low"] < [0.03, 0.02]) & (spread["conf_high"] > [0.03, 0.02]))
    rows = est.where(estimand="savings_rate").tidy(0.9)
    inside = rows["true"].between(rows["conf_low"], rows["conf_high"])
    # 1,200 rates of 300 organizations: counted as 300 independent ones
    assert inside.mean() == pytest.approx(0.9, abs=4 * np.sqrt(0.9 * 0.1 / 300))
    error = {x: np.sqrt(((rows[x] - rows["true"]) ** 2).mean()) for x in ("estimate", "observed")}
    assert error["estimate"] < 0.85 * error["observed"]
    assert est.where(estimand="period_mean").frame["period"].tolist() == [2014, 2015, 2016, 2017]


def test_shared_benchmark_error_is_not_a_lasting_difference() -> None:
    noise = SavingsNoise(person_cv=4.0, benchmark_weights=WEIGHTS)
    table = _world(np.random.default_rng(12), 400, 3, 0.015, 0.020, noise, shared=True)
    model = Reliability(noise=noise)
    blind = model.fit(table, person_years="person_years")
    aware = model.fit(table, person_years="person_years", shared_benchmark="agreement")
    lasting = [x.where(estimand="organization_sd").tidy(0.99).iloc[0] for x in (blind, aware)]
    assert lasting[0]["conf_low"] > 0.015
    assert lasting[1]["conf_low"] < 0.015 < lasting[1]["conf_high"]


def test_reliability_rises_with_size_and_falls_with_the_error_of_a_person() -> None:
    rng = np.random.default_rng(4)
    size = np.tile([5_000.0, 20_000.0, 80_000.0], 30)
    table = _frame(rng.normal(0.01, 0.04, 90), 0.01, size=size)
    means = []
    for factor in (0.5, 1.0, 2.0):
        noise = SavingsNoise(person_cv=2.17 * factor)
        rows = (
            Reliability(noise=noise).fit(table, person_years="size").where(estimand="savings_rate")
        )
        by_size = rows.frame["reliability"].groupby(size).mean()
        assert by_size.is_monotonic_increasing
        means.append(by_size.mean())
    assert means[0] > means[1] > means[2]


def test_one_period_has_one_spread() -> None:
    rng = np.random.default_rng(5)
    table = _frame(rng.normal(0, 0.03, 60), 0.01)
    est = Reliability().fit(table, std_error="sd")
    assert set(est.frame["estimand"]) == {"savings_rate", "period_mean", "signal_sd"}
    assert est.meta["levels"] == ["organization-year"]
    # the sample variance is the sum of both
    expected = np.sqrt(np.var(table["savings_rate"], ddof=1) - 1e-4)
    assert est.where(estimand="signal_sd").estimate[0] == pytest.approx(expected, rel=0.05)


def test_labels_and_order_do_not_matter() -> None:
    rng = np.random.default_rng(6)
    table = _frame(rng.normal(0, 0.03, 30), 0.01, cluster=np.repeat(list("abcdefghij"), 3),
                   period=[1, 2, 3] * 10)  # fmt: skip
    before = table.copy(deep=True)
    a = Reliability().fit(table, std_error="sd").where(estimand="savings_rate")
    moved = table.assign(cluster="x" + table["cluster"]).iloc[::-1]
    b = Reliability().fit(moved, std_error="sd").where(estimand="savings_rate")
    assert b.estimate[::-1] == pytest.approx(a.estimate, abs=1e-12)
    pd.testing.assert_frame_equal(table, before)


# ---------------------------------------------------------------- how many rewards are luck


def test_rewards_expected_by_chance_by_hand() -> None:
    # thresholds at one, one, two and two standard deviations; two were rewarded
    table = _frame([0.05, 0.00, 0.06, -0.01], 0.02, msr=[0.02, 0.02, 0.04, 0.04],
                   rewarded=[True, False, True, False], period=[1, 1, 2, 2])  # fmt: skip
    est = Reliability().fit(table, std_error="sd", keep=["msr", "rewarded"])
    out = share_rewarded_by_chance(est)
    assert out["n"].tolist() == [4, 2, 2]
    assert out["rewarded"].tolist() == [2, 1, 1]
    one, two = stats.norm.sf([1.0, 2.0])
    assert out["expected_by_chance"].to_numpy() == pytest.approx(
        [2 * (one + two), 2 * one, 2 * two]
    )
    assert out["chance_share"].to_numpy() == pytest.approx([one + two, 2 * one, 2 * two])
    rates = est.where(estimand="savings_rate")
    false = rates.probability(below=0.0).to_numpy()[[0, 2]].sum()
    assert out["false_rewards"].iloc[0] == pytest.approx(false)
    assert out["false_share"].iloc[0] == pytest.approx(false / 2)


def test_spread_of_the_chance_count_is_binomial() -> None:
    table = _frame(np.linspace(-0.05, 0.05, 200), 0.02, msr=0.02, rewarded=False)
    est = Reliability(draws=100).fit(table, std_error="sd", keep=["msr", "rewarded"])
    out = share_rewarded_by_chance(est, by=None, level=0.9).iloc[0]
    law = stats.binom(200, stats.norm.sf(1.0))
    assert (out["chance_low"], out["chance_high"]) == (law.ppf(0.05), law.ppf(0.95))
    assert np.isnan(out["chance_share"])


def test_where_nobody_saves_chance_explains_every_reward() -> None:
    rng = np.random.default_rng(8)
    noise = SavingsNoise(person_cv=2.17)
    size = np.exp(rng.normal(np.log(14_000), 0.75, 4000)).clip(5_000)
    rate = rng.normal(0, noise.sd(size))
    table = _frame(rate, 0.0, size=size, msr=0.02, rewarded=rate >= 0.02)
    est = Reliability(noise=noise).fit(table, person_years="size", keep=["msr", "rewarded"])
    out = share_rewarded_by_chance(est, by=None, level=0.999).iloc[0]
    assert out["chance_low"] <= out["rewarded"] <= out["chance_high"]
    assert out["chance_share"] == pytest.approx(1, abs=0.2)


def test_rows_without_a_threshold_are_not_counted() -> None:
    table = _frame([0.05, 0.0, 0.02], 0.02, msr=[0.02, np.nan, 0.02], rewarded=[1, None, 0])
    est = Reliability(draws=50).fit(table, std_error="sd", keep=["msr", "rewarded"])
    assert share_rewarded_by_chance(est, by=None)["n"].tolist() == [2]
    with pytest.raises(DataError, match="no column `paid`"):
        share_rewarded_by_chance(est, rewarded="paid")


@pytest.mark.parametrize("paid", [[True, None], [1200.0, 0.0], ["yes", "no"]])
def test_rewards_that_are_not_known_are_refused(paid) -> None:
    table = _frame([0.05, 0.0, 0.02], 0.02, msr=0.02, rewarded=[*paid, False])
    est = Reliability(draws=50).fit(table, std_error="sd", keep=["msr", "rewarded"])
    with pytest.raises(DataError, match=r"`rewarded` is missing, or neither true nor false"):
        share_rewarded_by_chance(est, by=None)


# ---------------------------------------------------------------- bad input


def test_all_failures_of_a_table_come_together() -> None:
    table = _frame([0.05, 5.0, 0.02, 0.02], [0.01, -0.01, 0.01, 0.01], cluster=["a", "b", "c", "c"])
    table.loc[0, "period"] = np.nan
    with pytest.raises(DataError) as caught:
        Reliability().fit(table, std_error="sd")
    for part in ("4 problems", "outside -1 to 1", "0 or negative", "`period` is missing", "repeat"):
        assert part in str(caught.value)
    text = _frame(["5%", "0.1", None], 0.01)
    with pytest.raises(DataError, match="1 text and 1 missing"):
        Reliability().fit(text, std_error="sd")
    with pytest.raises(DataError, match="no column `size`"):
        Reliability(noise=SavingsNoise(person_cv=2.0)).fit(table, person_years="size")


def test_columns_of_the_result_are_not_kept_from_the_data() -> None:
    table = _frame([0.05, 0.0, 0.02], 0.01, observed=1.0, cohort=2014)
    with pytest.raises(DataError, match=r"`keep` names `observed`"):
        Reliability().fit(table, std_error="sd", keep=["cohort", "observed"])
    kept = Reliability(draws=50).fit(table, std_error="sd", keep=["cohort", "period"])
    assert kept.where(estimand="savings_rate").frame["cohort"].tolist() == [2014] * 3


def test_rates_in_percent_are_refused() -> None:
    """A saving of 2 (percent) would turn the sign of the standard deviation."""
    noise = SavingsNoise(person_cv=2.0)
    with pytest.raises(DataError, match=r"1 values of `true_saving`.*Divide percents by 100"):
        paid_by_luck(5000, noise=noise, msr=0.02, true_saving=[0.0, 2.0])
    with pytest.raises(DataError, match=r"\(1 and 1 values are not\).*percents"):
        paid_by_luck(5000, noise=noise, msr=[0.02, 2.0], mlr=[2.0, 0.02])


def test_sampling_error_comes_from_one_place() -> None:
    table = _frame([0.05, 0.0, 0.02], 0.01, size=9000)
    noise = SavingsNoise(person_cv=2.0)
    with pytest.raises(DesignError, match="Neither was given"):
        Reliability().fit(table)
    with pytest.raises(DesignError, match="Both was given"):
        Reliability(noise=noise).fit(table, std_error="sd", person_years="size")
    with pytest.raises(DesignError, match="shared_benchmark"):
        Reliability().fit(table, std_error="sd", shared_benchmark="period")
    with pytest.raises(DesignError, match="at least 3"):
        Reliability().fit(table.iloc[:2], std_error="sd")
    with pytest.raises(DesignError, match="positive"):
        Reliability(sd_scale=0)


# ---------------------------------------------------------------- the tree


@pytest.mark.parametrize("periods", [1, 3])
def test_the_tree_has_the_density_of_the_model(periods: int) -> None:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        [(f"A{i}", 2018 + t) for i in range(12) for t in range(periods) if (i, t) != (3, 1)],
        columns=["cluster", "period"],
    )
    frame["savings_rate"] = rng.normal(0.01, 0.03, len(frame))
    frame["size"] = rng.uniform(5_000, 40_000, len(frame))
    noise = SavingsNoise(person_cv=2.0, icc=0.001, benchmark_weights=WEIGHTS, rho=0.25)
    frame["start"] = 2018
    fit = Reliability(noise=noise, draws=300, sd_scale=0.04, mean_sd=0.05)
    est = fit.fit(frame, person_years="size", shared_benchmark="start")
    tree = est.to_arviz()
    at = {k: tree["posterior"][k].values[0] for k in tree["posterior"].data_vars}
    own, shared = noise.variances(frame["size"])
    rows = np.flatnonzero(frame["cluster"] == "A3")
    if periods == 1:
        organization, year = np.zeros(300), at["signal_sd"]
    else:
        organization, year = at["organization_sd"], at["year_sd"]
    slots = frame["period"].to_numpy()[rows] - 2018
    root = np.sqrt(shared[rows])
    sampling = np.diag(own[rows]) + np.outer(root, root)
    for draw in (0, 150, 299):
        total = sampling + organization[draw] ** 2 + year[draw] ** 2 * np.eye(len(rows))
        law = stats.multivariate_normal(at["period_mean"][draw][slots], total)
        expected = law.logpdf(frame["savings_rate"].to_numpy()[rows])
        found = tree["log_likelihood"]["savings_rate"].sel(cluster="A3").values[0, draw]
        assert found == pytest.approx(expected, abs=1e-10)
        spreads = [year[draw]] if periods == 1 else [organization[draw], year[draw]]
        prior = stats.halfnorm(scale=0.04).logpdf(spreads).sum()
        prior += stats.norm(scale=0.05).logpdf(at["period_mean"][draw]).sum()
        assert tree["log_prior"]["rates"].values[0, draw] == pytest.approx(prior, abs=1e-10)
    np.testing.assert_array_equal(at["savings_rate"], est.where(estimand="savings_rate").draws())
    # 1,000 draws from the prior: variances within 4 standard errors of a sum of squares of mixtures
    before = tree["prior_predictive"]["savings_rate"].values[0]
    expected = 0.05**2 + (2 if periods > 1 else 1) * 0.04**2 + own + shared
    np.testing.assert_allclose(np.square(before).mean(axis=0), expected, rtol=0.25)


def test_arviz_reads_the_tree() -> None:
    import arviz

    frame = _frame(np.random.default_rng(6).normal(0.01, 0.03, 30), 0.01)
    tree = Reliability(draws=400).fit(frame, std_error="sd").to_arviz()
    assert arviz.loo(tree).n_data_points == 30
    assert "signal_sd" in arviz.psense_summary(tree, var_names=["signal_sd"]).index
