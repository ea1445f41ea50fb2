"""The contract of every estimator: columns, covariance, and clear refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.estimates import columns
from vbceval.inference import SSC

KEYS = {"unit": "unit", "period": "period", "cohort": "cohort", "weight": "w"}
ESTIMATORS = {
    **{f"GroupTime {m}": vbc.did.GroupTime(method=m) for m in ("reg", "dr", "dr_imp", "ipw")},
    "GroupTime rc": vbc.did.GroupTime(unbalanced="rc"),
    "Imputation": vbc.did.Imputation(),
    "Imputation leave one out": vbc.did.Imputation(leave_one_out=True),
    "TwoStage": vbc.did.TwoStage(leads=False),
}
every = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS.keys())


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    u, t = np.repeat(np.arange(40), 5), np.tile(np.arange(2011, 2016), 40)
    cohort = np.array([2013.0, 2014.0, np.nan, np.nan])[u % 4]
    x = rng.standard_normal(len(u)) * 0.3 + rng.standard_normal(40)[u]
    return pd.DataFrame({
        "unit": u, "period": t, "cohort": cohort, "x": x, "w": rng.uniform(0.5, 2, 40)[u],
        "y": rng.standard_normal(len(u)) + u + 0.2 * x - 1.0 * (t >= cohort),
        "dual": np.where(u % 3 == 0, "yes", "no"),
    })  # fmt: skip


def fit(estimator, data: pd.DataFrame, *, vcov="CR1", ssc=None, panel=None, **design):
    made = vbc.Panel.from_frame(data, **KEYS, **(panel or {}))
    return estimator.fit(made, vbc.Design(outcome="y", **design), vcov=vcov, ssc=ssc)


@every
def test_result(estimator, frame) -> None:
    est = fit(estimator, frame, covariates=["x"], unit_of_measure="USD")
    table = est.tidy()
    assert tuple(table.columns[: len(columns.KEYS + columns.VALUES)]) == (
        columns.KEYS + columns.VALUES
    )
    assert set(table["estimand"]) == {columns.GROUP_TIME}
    assert set(table["unit_of_measure"]) == {"USD"}
    np.testing.assert_array_equal(table["event_time"], table["period"] - table["cohort"])
    assert table[["estimate", "std_error", "df", "n_units", "n_clusters"]].notna().all().all()
    assert table[["n_treated", "n_comparison"]].notna().all().all()
    vcov = est.vcov()
    np.testing.assert_array_equal(vcov, vcov.T)
    assert np.linalg.eigvalsh(vcov).min() > -1e-12 * np.trace(vcov)
    assert sorted(est.clusters) == list(range(40))
    for key in ("estimator", "options", "design", "vcov", "ssc", "exactness", "n_clusters",
                "versions", "warnings", "language"):  # fmt: skip
        assert key in est.meta
    assert est.meta["design"]["covariates"] == ("x",)


@every
@pytest.mark.parametrize("kind", ["simple", "event_time", "cohort", "period"])
def test_every_average(estimator, frame, kind) -> None:
    average = fit(estimator, frame).aggregate(kind)
    assert average.overall().estimate.item() == pytest.approx(-1.0, abs=0.5)
    assert np.isfinite(average.std_error).all()


@every
def test_small_sample_factor_is_named_and_undone(estimator, frame) -> None:
    none, one = fit(estimator, frame, vcov="CR0"), fit(estimator, frame)
    same = fit(estimator, frame, ssc=SSC.none())
    np.testing.assert_allclose(one.vcov(), none.vcov() * 40 / 39, rtol=1e-12)
    np.testing.assert_array_equal(same.vcov(), none.vcov())
    assert (none.meta["ssc"], one.meta["ssc"]) == ("none", "G")
    averages = [e.aggregate("simple").vcov().item() for e in (none, one)]
    assert averages[1] == pytest.approx(averages[0] * 40 / 39, rel=1e-12)


@every
def test_bootstrap_is_close_to_the_analytic_error(estimator, frame) -> None:
    bootstrap = fit(estimator, frame, vcov=vbc.inference.Multiplier(draws=4000))
    ratio = bootstrap.std_error / fit(estimator, frame, vcov="CR0").std_error
    # the interquartile range with ten treated clusters is far from normal in single rows
    assert np.median(ratio) == pytest.approx(1.0, abs=0.1)
    assert ratio.min() > 0.7
    assert ratio.max() < 1.4


@every
def test_strata_share_one_influence_matrix(estimator, frame) -> None:
    est = fit(estimator, frame, panel={"strata": ["dual"]})
    assert set(est.frame["stratum"].dropna()) == {"dual=yes", "dual=no"}
    gap = est.aggregate("simple").contrast(
        {"gap": {"stratum == 'dual=yes'": 1.0, "stratum == 'dual=no'": -1.0}}
    )
    assert np.isfinite(gap.std_error).all()
    alone = fit(estimator, frame[frame["dual"] == "yes"])
    part = est.where(stratum="dual=yes")
    np.testing.assert_allclose(part.estimate, alone.estimate, atol=1e-12)
    np.testing.assert_allclose(part.std_error, alone.std_error, rtol=1e-10)
    assert part.frame["df"].tolist() == alone.frame["df"].tolist()


@every
def test_one_cluster(estimator, frame) -> None:
    with pytest.raises(vbc.DesignError, match=r"there is 1 cluster \(`all`\)") as caught:
        fit(estimator, frame.assign(all=1), panel={"cluster": "all"})
    assert "Cluster on what enters" in str(caught.value)


@every
def test_one_period(estimator, frame) -> None:
    with pytest.raises(vbc.DesignError, match=r"2013"):
        fit(estimator, frame[frame["period"] == 2013])


@every
def test_no_comparison(estimator, frame) -> None:
    """From 2014 on, everybody who is left has entered."""
    with pytest.raises(vbc.DesignError) as caught:
        fit(estimator, frame[frame["cohort"].notna()])
    message = str(caught.value)
    assert "cohort 2013 at period 2014" in message
    assert "cohort 2014 at period 2014" in message
    assert "To go on" in message
    assert "`window`" in message
    with pytest.raises(vbc.DesignError, match="comparison='not_yet_treated'"):
        fit(estimator, frame[frame["cohort"].notna()], comparison="never_treated")


@every
def test_nobody_enters(estimator, frame) -> None:
    with pytest.raises(vbc.DesignError, match=r"never|coding of cohorts"):
        fit(estimator, frame.assign(cohort=np.nan))


@every
def test_collinear_covariates(estimator, frame) -> None:
    data = frame.assign(twice=2 * frame["x"])
    with pytest.raises(vbc.EstimationError, match=r"`twice` is collinear with"):
        fit(estimator, data, covariates=["x", "twice"])


@every
def test_missing_outcomes_and_covariates_leave_and_are_counted(estimator, frame) -> None:
    gap = frame.copy()
    gap.loc[[7, 52, 111], "y"] = np.nan
    gap.loc[[31], "x"] = np.nan
    with_gaps = fit(estimator, gap, covariates=["x"])
    without = fit(estimator, gap.dropna(subset=["x", "y"]), covariates=["x"])
    np.testing.assert_allclose(with_gaps.estimate, without.estimate, atol=1e-12)
    np.testing.assert_allclose(with_gaps.vcov(), without.vcov(), atol=1e-14)
    assert with_gaps.meta["incomplete_cells"] == 4


@every
def test_absent_columns(estimator, frame) -> None:
    with pytest.raises(vbc.DataError, match=r"no outcome column `y`"):
        fit(estimator, frame.drop(columns="y"))
    with pytest.raises(vbc.DataError, match=r"no covariate column `hcc`"):
        fit(estimator, frame, covariates=["hcc"])


@every
def test_balance_weights_multiply_and_zero_removes(estimator, frame) -> None:
    units = frame.drop_duplicates("unit")
    weights = pd.Series(np.where(units["unit"] % 7 == 3, 0.0, 1.5), index=units["unit"])
    weighted = fit(estimator, frame, balance_weights=weights)
    kept = fit(estimator, frame[frame["unit"] % 7 != 3])
    np.testing.assert_allclose(weighted.estimate, kept.estimate, atol=1e-12)
    np.testing.assert_allclose(weighted.vcov(), kept.vcov(), atol=1e-14)


@every
def test_counts_of_people_are_not_shown(estimator, frame) -> None:
    data = frame.assign(aco=frame["unit"] // 2)
    data["cohort"] = np.array([2013.0, np.nan])[data["aco"] % 2]
    few = data[(data["unit"] < 20) | data["cohort"].isna()]
    table = fit(estimator, few, panel={"cluster": "aco"}).frame
    treated = few[few["cohort"].notna()]["unit"].nunique()
    assert treated == 10
    assert table["n_treated"].isna().all()
    assert (table["n_comparison"] >= 11).all()
    shown = fit(estimator, few, panel={"cluster": "aco", "people": False}).frame
    assert set(shown["n_treated"]) == {10.0}


@every
def test_clusters_that_are_people_are_not_counted(estimator, frame) -> None:
    data = frame[frame["unit"] < 8]
    design = vbc.Design(outcome="y")
    keys = {**KEYS, "people": True}
    table = estimator.fit(vbc.Panel.from_frame(data, **keys), design).frame
    assert table[["n_clusters", "n_units", "n_treated", "n_comparison"]].isna().all().all()
