"""Processes with known effects: their truth by hand, their draws, and the report on estimators."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import vbceval as vbc
from vbceval.core.rng import generator
from vbceval.simulate import OrganizationPanel, Stratum, diagnose, process
from vbceval.simulate.mssp import MSSPFiles
from vbceval.simulate.spending import PERSON_CV, person_years

SMALL = OrganizationPanel(
    name="small", organizations=40, periods=(2014, 2015, 2016), entry={2015: 0.25, 2016: 0.25},
    median_people=400, least_people=200, organization_sd=0.05, shock_sd=0.01, shock_rho=0.5,
)  # fmt: skip


def test_truth_of_growing_effects_by_hand() -> None:
    """D2: 1.2, 1 and .5 times (-1% - .5% e) of 10,402 for entry in 2014, 2015, 2017."""
    truth = process("D2").truth()
    effects = truth.effects.set_index(["cohort", "period"])["effect"]
    assert effects[2014.0, 2017.0] == pytest.approx(-1.2 * 0.025 * 10_402)
    assert effects[2015.0, 2016.0] == pytest.approx(-0.015 * 10_402)
    assert effects[2017.0, 2017.0] == pytest.approx(-0.005 * 10_402)
    assert (effects[truth.effects.set_index(["cohort", "period"])["event_time"] < 0] == 0).all()
    assert truth.overall == pytest.approx(-(0.084 + 0.045 + 0.005) / 8 * 10_402)
    event = truth.average("event_time").frame.set_index("event_time")["estimate"]
    assert event[0] == pytest.approx(-(0.012 + 0.010 + 0.005) / 3 * 10_402)
    assert event[3] == pytest.approx(-0.030 * 10_402)


def test_truth_of_strata_by_hand() -> None:
    """D8: percent effects times relative spending; the smallest is in 30% of organizations."""
    truth = process("D8").truth()
    parts = truth.by_stratum()
    assert parts["stratum=b"] == pytest.approx(-0.01 * 0.5 * 10_402)
    assert parts["stratum=c"] == pytest.approx(-0.01 * 2.0 * 1.5 * 10_402)
    assert parts["stratum=d"] == 0
    people = {"stratum=a": 0.60, "stratum=b": 0.25, "stratum=c": 0.10, "stratum=d": 0.05 * 0.3}
    mean = sum(parts[s] * w for s, w in people.items()) / sum(people.values())
    assert truth.overall == pytest.approx(mean)


def test_truth_finds_the_rows_of_estimates() -> None:
    d2 = process("D2")
    panel = d2.panel(generator(1, "truth"))
    est = vbc.did.GroupTime(method="reg").fit(panel, vbc.Design(outcome="spend"))
    rows = d2.truth().of(est)
    np.testing.assert_array_equal(rows[est.frame["event_time"] < 0], 0)
    assert rows[(est.frame["cohort"] == 2014) & (est.frame["period"] == 2017)] == pytest.approx(
        -0.030 * 10_402
    )
    event = est.aggregate("event_time")
    overall = d2.truth().of(event)[-1]
    expected = d2.truth().average("event_time").overall().estimate.item()
    assert overall == pytest.approx(expected)
    with pytest.raises(vbc.DesignError, match="no truth in this process"):
        d2.truth().of(est.contrast({"gap": {0: 1.0, 1: -1.0}}))
    assert d2.truth().null().overall == 0


def test_expected_shares_under_confounding() -> None:
    d7 = process("D7")
    shares = d7.truth().effects.drop_duplicates("cohort").set_index("cohort")["share"]
    cells = replace(d7, organizations=200_000, periods=(2012,)).cells(generator(2, "shares"))
    drawn = cells["cohort"].value_counts(normalize=True, dropna=False)
    for g, share in shares.items():
        assert drawn[g] == pytest.approx(share, abs=4 * np.sqrt(share / 200_000))
    means = cells.groupby(cells["cohort"].notna())["x"].mean()
    assert means[True] - means[False] == pytest.approx(0.5, abs=0.05)


def test_people_vary_as_published() -> None:
    """Shares of spending of the top 1, 5, 10, 20 and 50 percent (Wallis et al. 2021)."""
    y = np.sort(person_years(1_000_000, generator(3, "people")))[::-1]
    assert y.mean() == pytest.approx(1.0, abs=4 * PERSON_CV / 1000)
    assert pytest.approx(2.17, abs=0.005) == PERSON_CV
    for top, share in ((0.01, 0.149), (0.05, 0.415), (0.1, 0.600), (0.2, 0.791), (0.5, 0.957)):
        assert y[: int(top * len(y))].sum() / y.sum() == pytest.approx(share, abs=0.01)
    assert (y == 0).mean() == pytest.approx(0.05, abs=0.001)


def test_sizes_of_organizations() -> None:
    cells = replace(process("D0"), organizations=5000, periods=(2012,)).cells(generator(4, "n"))
    people = cells["person_years"]
    assert people.min() >= 5000
    log = np.log(people / 14_000) / 0.75
    low = np.log(5000 / 14_000) / 0.75
    assert stats.kstest(log, stats.truncnorm(low, np.inf).cdf).pvalue > 0.001


def test_shocks_are_autocorrelated() -> None:
    wide = replace(process("D1"), organizations=20_000, log_sd_people=0.0, least_people=1e9)
    cells = wide.cells(generator(5, "shocks"))
    y = cells["spend"].to_numpy().reshape(20_000, -1)
    never = cells["cohort"].isna().to_numpy().reshape(y.shape)[:, 0]
    change = np.diff(y[never], axis=1) / wide.mean
    # var(u_t - u_t-1) = 2 (1 - rho) sd^2, cov of neighbours = -(1 - rho)^2 sd^2
    variance, neighbours = (
        np.var(change),
        np.mean([np.cov(change[:, i], change[:, i + 1])[0, 1] for i in range(change.shape[1] - 1)]),
    )
    assert variance == pytest.approx(2 * 0.5 * 0.015**2, rel=0.05)
    assert neighbours == pytest.approx(-0.25 * 0.015**2, rel=0.15)


def test_rows_and_cells_have_the_same_law() -> None:
    """Same organizations from the same seed; then each draw's own noise, standardised."""
    seeds = range(6)
    z_rows, z_cells, spread = [], [], []
    for seed in seeds:
        frame, mean = SMALL._cells(generator(seed, "law"))
        sd = PERSON_CV * mean / np.sqrt(frame["person_years"].to_numpy())
        rows = SMALL.rows(generator(seed, "law"))
        by_cell = rows.groupby(["organization", "period"], sort=False)["spend"]
        assert len(rows) == frame["person_years"].sum()
        z_rows.append((by_cell.mean().to_numpy() - mean) / sd)
        spread.append((by_cell.var().to_numpy() / (PERSON_CV * mean) ** 2).mean())
        z_cells.append((SMALL.cells(generator(seed, "law"))["spend"].to_numpy() - mean) / sd)
    for z in (np.concatenate(z_rows), np.concatenate(z_cells)):
        assert z.mean() == pytest.approx(0, abs=4 / np.sqrt(len(z)))
        assert z.var() == pytest.approx(1, abs=4 * np.sqrt(4 / len(z)))
    assert stats.ks_2samp(np.concatenate(z_rows), np.concatenate(z_cells)).pvalue > 0.001
    assert np.mean(spread) == pytest.approx(1.0, abs=0.1)


def test_rows_give_what_their_cells_give() -> None:
    """People not followed, and their organizations' means weighted by people."""
    panel = SMALL.panel(generator(7, "rc"), kind="repeated_cross_section")
    assert panel.kind == "repeated_cross_section"
    assert panel.n_clusters == 40
    moments = vbc.Moments.from_panel(panel, outcomes=["spend"], by="cluster")
    design = vbc.Design(outcome="spend")
    rows, cells = (
        vbc.did.GroupTime(method="reg").fit(x, design).aggregate("simple") for x in (panel, moments)
    )
    np.testing.assert_allclose(cells.estimate, rows.estimate, rtol=1e-9)
    np.testing.assert_allclose(cells.vcov(), rows.vcov(), rtol=1e-9)


def test_draws_depend_on_seed_and_name_only() -> None:
    a, b = (process("D1").cells(generator(9, "D1", 3)) for _ in range(2))
    pd.testing.assert_frame_equal(a, b)
    c = process("D1").cells(generator(9, "D1", 4))
    assert not a["spend"].equals(c["spend"])


def test_strata_are_in_their_share_of_organizations() -> None:
    cells = replace(process("D8"), organizations=1000).cells(generator(10, "D8"))
    present = cells.groupby("stratum")["organization"].nunique() / 1000
    assert present[["a", "b", "c"]].tolist() == [1, 1, 1]
    assert present["d"] == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / 1000))
    people = cells.groupby("stratum")["person_years"].sum()
    assert people["b"] / people["a"] == pytest.approx(0.25 / 0.6, rel=0.01)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"organizations": 1}, "`organizations` is 1"), ({"entry": {2015: 0.7, 2016: 0.5}}, "`entry`"),
     ({"periods": (2015, 2014)}, "`periods`"), ({"shock_rho": 1.0}, "`shock_rho`"),
     ({"shock_sd": -0.1}, "negative"), ({"periods": ()}, "there must be one"),
     ({"trend_on": "hx"}, "`trend_on` is 'hx'"), ({"entry_on": "y"}, "`entry_on` is 'y'"),
     ({"cohort_effect": {2016: 2.0}}, "names `2016`"), ({"median_people": 0.0}, "above 0"),
     ({"strata": {"a": Stratum(share=1.0, presence=1.2)}}, "strata `a`")],
)  # fmt: skip
def test_processes_are_checked(options, said) -> None:
    with pytest.raises(vbc.DesignError, match=said):
        OrganizationPanel(name="x", **options)
    with pytest.raises(vbc.DesignError, match="there are `D0`, `D1`"):
        process("D99")


@pytest.mark.parametrize(
    ("options", "said"),
    [({"n_acos": 1}, "`n_acos` is 1"), ({"effect": -1.0}, "`effect`"),
     ({"shock_rho": 1.0}, "`shock_rho`"), ({"restatement_sd": -0.1}, "negative")],
)  # fmt: skip
def test_options_of_results_files_are_checked(options, said) -> None:
    with pytest.raises(vbc.DesignError, match=said):
        MSSPFiles(**options)


class _Fixed:
    """A process whose panel is nothing but the replication's number."""

    name = "fixed"

    def truth(self):
        return process("D0").truth()

    def panel(self, rng):
        return process("D0").panel(rng)


def test_the_report_by_hand() -> None:
    """An estimator that is off by +1, -1, +1, ... USD with standard errors of 2, 1, 2, ..."""
    truth = process("D0").truth()
    calls = iter(range(100))

    def alternating(panel: vbc.Panel) -> vbc.Estimates:
        average = truth.average("simple")
        sign = 1 if next(calls) % 2 == 0 else -1
        return vbc.Estimates(
            frame=average.frame.assign(estimate=average.estimate + sign, df=np.inf),
            covariance=np.eye(1) * (4 if sign > 0 else 1), meta=average.meta,
        )  # fmt: skip

    row = diagnose(_Fixed(), {"x": alternating}, replications=10, seed=1).table.iloc[0]
    assert row["bias"] == pytest.approx(0)
    assert row["sd"] == pytest.approx(np.sqrt(10 / 9))
    assert row["bias_mc_se"] == pytest.approx(1 / 3)
    assert row["se_bias"] == pytest.approx(1.5 * np.sqrt(0.9) - 1)
    # var(mean se) = (10 / 36) / 10; the variance of ln sd is 1 / (2 * 9)
    expected = np.sqrt(0.9) * np.sqrt(1 / 36 + 1.5**2 / 18)
    assert row["se_bias_mc_se"] == pytest.approx(expected)
    assert row["coverage"] == 1
    assert row["coverage_mc_se"] == pytest.approx(np.sqrt(0.95 * 0.05 / 10))
    assert row["rejection"] == 1
    assert row["rmse"] == pytest.approx(1)
    assert row["mean_length"] == pytest.approx(3 * stats.norm.ppf(0.975))


def test_failures_are_counted_by_reason() -> None:
    calls = iter(range(100))

    def sometimes(panel: vbc.Panel) -> vbc.Estimates:
        if next(calls) % 5 == 0:
            raise vbc.EstimationError("no overlap in `hcc`.\nMore.")
        return process("D0").truth().average("simple")

    out = diagnose(_Fixed(), {"x": sometimes}, replications=10, seed=1)
    assert out.failures.to_dict("records") == [
        {"estimator": "x", "reason": "EstimationError: no overlap in `hcc`.", "share": 0.2}
    ]
    assert out.table["replications"].item() == 8
    assert out.table["share_failed"].item() == pytest.approx(0.2)

    def never(panel: vbc.Panel) -> vbc.Estimates:
        raise vbc.DesignError("nothing to compare.")

    with pytest.raises(vbc.EstimationError, match=r"`x` failed in every replication: DesignError"):
        diagnose(_Fixed(), {"x": never}, replications=3, seed=1)
    with pytest.raises(vbc.DesignError, match="2 or more"):
        diagnose(_Fixed(), {"x": never}, replications=1, seed=1)
