"""Estimates: algebra with joint errors, tables, selection and refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import vbceval as vbc
from vbceval.estimates import Shares, columns


def group_time(
    estimate=(-1.0, -3.0, -2.0), cohort=(2014.0, 2014.0, 2015.0), period=(2014.0, 2015.0, 2015.0),
    *, shares: Shares | None = None, seed: int = 0, **extra,
) -> vbc.Estimates:  # fmt: skip
    """Two cohorts, three effects, eight clusters."""
    k = len(estimate)
    psi = np.random.default_rng(seed).standard_normal((8, k)) / 8
    psi -= psi.mean(axis=0)
    frame = pd.DataFrame({
        "estimand": columns.GROUP_TIME, "outcome": "spend", "unit_of_measure": "USD",
        "cohort": cohort, "period": period, "event_time": np.subtract(period, cohort),
        "estimate": estimate, "df": 7.0, "n_units": 100.0, "n_clusters": 8, **extra,
    })  # fmt: skip
    labels = pd.Index([f"c{i}" for i in range(8)])
    shares = Shares(value=np.array([0.3, 0.3, 0.1])) if shares is None and k == 3 else shares
    return vbc.Estimates(frame=frame, psi=psi, clusters=labels, shares=shares)


def test_tables_have_the_named_columns_first() -> None:
    table = group_time(note="x").tidy()
    assert tuple(table.columns[:18]) == (*columns.KEYS, *columns.VALUES)
    assert table.columns[-1] == "note"
    assert table["interval"].unique().tolist() == ["confidence"]


def test_intervals_use_t_with_their_degrees_of_freedom() -> None:
    est = group_time()
    table = est.tidy(level=0.9)
    se = np.sqrt((est.psi**2).sum(axis=0))
    half = stats.t.ppf(0.95, 7) * se
    np.testing.assert_allclose(table["std_error"], se, rtol=1e-14)
    np.testing.assert_allclose(table["conf_high"] - table["estimate"], half, rtol=1e-12)
    np.testing.assert_allclose(
        table["p_value"], 2 * stats.t.sf(np.abs(est.estimate) / se, 7), rtol=1e-10
    )


def test_bands_lie_between_pointwise_and_bonferroni() -> None:
    table = group_time().tidy()
    critical = ((table["band_high"] - table["estimate"]) / table["std_error"]).to_numpy()
    assert np.ptp(critical) < 1e-9
    assert stats.t.ppf(0.975, 7) < critical[0] < stats.t.ppf(1 - 0.025 / 3, 7)


def test_a_row_without_variation_has_no_error() -> None:
    est = group_time()
    zero = vbc.Estimates(
        frame=est.frame.assign(estimate=[0.0, -3.0, -2.0]), clusters=est.clusters,
        psi=est.psi * [0.0, 1.0, 1.0],
    )  # fmt: skip
    row = zero.tidy().iloc[0]
    assert row["estimate"] == 0
    assert row[["std_error", "conf_low", "band_low", "p_value"]].isna().all()


def test_contrasts_carry_the_joint_covariance() -> None:
    est = group_time()
    gap = est.contrast({"late minus early": {1: 1.0, 0: -1.0}})
    assert gap.estimate.tolist() == [-2.0]
    row = np.array([-1.0, 1.0, 0.0])
    np.testing.assert_allclose(gap.vcov(), [[row @ est.vcov() @ row]], rtol=1e-12)
    by_query = est.contrast({"x": {"cohort == 2014 and period == 2015": 1.0, 0: -1.0}})
    np.testing.assert_array_equal(by_query.psi, gap.psi)
    assert gap.frame.loc[0, "cohort"] == 2014
    assert pd.isna(gap.frame.loc[0, "event_time"])


@pytest.mark.parametrize(
    ("weights", "said"),
    [({"x": {"cohort == 2014": 1.0}}, "selects 2 estimates"), ({"x": {7: 1.0}}, "row 7"),
     (np.ones((1, 5)), "5 coefficients, but there are 3"), ({}, "no contrast was given"),
     ({"x": {0.7: 1.0}}, "row 0.7"), ({"x": {None: 1.0}}, "row None")],
)  # fmt: skip
def test_contrasts_say_what_they_cannot_find(weights, said) -> None:
    with pytest.raises(vbc.DesignError, match=said):
        group_time().contrast(weights)


def test_contrasts_do_not_read_rows_that_they_do_not_use() -> None:
    whole = group_time()
    gap = whole.contrast({"gap": {1: 1.0, 0: -1.0}})
    lost = vbc.Estimates(
        frame=whole.frame.assign(estimate=[-1.0, -3.0, np.nan]), clusters=whole.clusters,
        psi=np.where([True, True, False], whole.psi, np.nan),
    )  # fmt: skip
    same = lost.contrast({"gap": {1: 1.0, 0: -1.0}})
    np.testing.assert_array_equal(same.std_error, gap.std_error)
    with pytest.raises(vbc.EstimationError, match="are missing"):
        lost.contrast({"gap": {2: 1.0, 0: -1.0}})


def test_averages_by_hand() -> None:
    """Shares .3, .3, .1: simple = (-.3 - .9 - .2)/.7; cohort 2014 = -2; event time 0 = -.5/.4."""
    est = group_time()
    assert est.aggregate("simple").estimate == pytest.approx([-1.4 / 0.7])
    by_cohort = est.aggregate("cohort")
    assert by_cohort.estimate == pytest.approx([-2.0, -2.0, -2.0])
    by_event = est.aggregate("event_time")
    assert by_event.frame["event_time"].tolist()[:2] == [0.0, 1.0]
    assert by_event.estimate == pytest.approx([-0.5 / 0.4, -3.0, (-1.25 - 3.0) / 2])
    by_period = est.aggregate("period")
    assert by_period.estimate == pytest.approx([-1.0, -1.1 / 0.4, (-1.0 - 2.75) / 2])
    assert by_period.frame["estimand"].tolist() == [columns.PERIOD] * 2 + [columns.OVERALL]
    a = np.array([3, 3, 1]) / 7
    np.testing.assert_allclose(est.aggregate("simple").vcov(), [[a @ est.vcov() @ a]], rtol=1e-12)


def test_random_shares_add_their_influence() -> None:
    p = np.array([0.3, 0.3, 0.1])
    psi = np.random.default_rng(5).standard_normal((8, 3)) / 50
    est = group_time(shares=Shares(value=p, psi=psi))
    average = est.aggregate("simple")
    moved = psi @ ((est.estimate - average.estimate) / p.sum())
    expected = est.psi @ (p / p.sum()) + moved
    np.testing.assert_allclose(average.psi[:, 0], expected, rtol=1e-12)
    fixed = est.aggregate("simple", weights_random=False)
    np.testing.assert_allclose(fixed.psi[:, 0], est.psi @ (p / p.sum()), rtol=1e-12)


def test_balance_and_window_choose_rows() -> None:
    est = group_time()
    balanced = est.aggregate("event_time", balance=1)
    assert balanced.estimate == pytest.approx([-1.0, -3.0, -2.0])
    assert est.aggregate("simple", window=(1, 1)).estimate == pytest.approx([-3.0])
    with pytest.raises(vbc.DesignError, match="widen"):
        est.aggregate("simple", window=(5, 6))
    with pytest.raises(vbc.DesignError, match="event_time"):
        est.aggregate("simple", balance=1)


def test_averages_of_averages_are_refused() -> None:
    with pytest.raises(vbc.DesignError, match="group-time"):
        group_time().aggregate("simple").aggregate("cohort")


def test_missing_effects_stop_an_average() -> None:
    est = group_time(estimate=(-1.0, np.nan, -2.0))
    with pytest.raises(vbc.EstimationError, match=r"\(2014, 2015\)"):
        est.aggregate("simple")
    kept = est.where("estimate == estimate")
    assert kept.aggregate("simple").estimate == pytest.approx([-0.5 / 0.4])


def test_stacking_aligns_clusters_by_label() -> None:
    a = group_time()
    order = [3, 1, 0, 2, 7, 6, 5, 4]
    b = vbc.Estimates(frame=a.frame, psi=a.psi[order], clusters=a.clusters[order])
    both = vbc.stack([a, b])
    difference = both.contrast({"same": {0: 1.0, 3: -1.0}})
    assert np.isnan(difference.std_error).all()
    partly = vbc.Estimates(frame=a.frame, psi=a.psi[:5], clusters=a.clusters[:5])
    joint = vbc.stack([a, partly]).vcov()
    np.testing.assert_allclose(joint[:3, 3:], a.psi[:5].T @ a.psi[:5], rtol=1e-12)


def test_stacked_results_are_averaged_apart() -> None:
    a, b = group_time(seed=1), group_time(estimate=(-10.0, -30.0, -20.0), seed=2)
    apart = vbc.stack([a, b], labels=["a", "b"]).aggregate("simple")
    assert apart.frame["run"].tolist() == ["a", "b"]
    np.testing.assert_allclose(apart.estimate, [-2.0, -20.0])
    one = b.aggregate("simple")
    np.testing.assert_allclose(apart.vcov()[1, 1], one.vcov()[0, 0], rtol=1e-12)
    with pytest.raises(vbc.DesignError, match=r"labels=\[\.\.\.\]"):
        vbc.stack([a, b]).aggregate("simple")


def test_stacking_keeps_the_error_of_shares() -> None:
    p = np.array([0.3, 0.3, 0.1])
    psi = np.random.default_rng(5).standard_normal((8, 3)) / 50
    random = group_time(shares=Shares(value=p, psi=psi))
    fixed = group_time(shares=Shares(value=p))
    both = vbc.stack([random, fixed], labels=["random", "fixed"]).aggregate("simple")
    alone = [e.aggregate("simple").std_error.item() for e in (random, fixed)]
    np.testing.assert_allclose(both.std_error, alone, rtol=1e-12)
    assert alone[0] != pytest.approx(alone[1], rel=1e-3)


def test_stacking_other_clusters_is_refused() -> None:
    a = group_time()
    b = vbc.Estimates(frame=a.frame, psi=a.psi, clusters=a.clusters, cluster_name="market")
    posterior = vbc.Estimates(frame=a.frame, samples=np.zeros((5, 3)))
    for other in (b, posterior):
        with pytest.raises(vbc.EstimationError, match="covariance between them is unknown"):
            vbc.stack([a, other])


def test_selection() -> None:
    est = group_time()
    assert len(est.where(cohort=2014)) == 2
    assert len(est.where("event_time == 0")) == 2
    assert len(est.where(period=[2015.0, 2016.0])) == 2
    assert len(est.where(stratum=None)) == 3
    assert len(est.where(stratum=np.nan)) == 3
    for bad in ({"cohort": 1999}, {"colour": 1}):
        with pytest.raises(vbc.DesignError):
            est.where(**bad)
    with pytest.raises(vbc.DesignError, match="Make averages of them with `aggregate`"):
        est.overall()


def test_strata_are_read_by_variable() -> None:
    est = group_time(stratum=["dual=yes", "dual=no", None])
    assert est.by("dual").frame["stratum"].tolist() == ["dual=yes", "dual=no"]
    with pytest.raises(vbc.DesignError, match=r"no stratum `rural` \(they have \['dual'\]\)"):
        est.by("rural")


def test_scaling() -> None:
    est = group_time()
    with pytest.raises(vbc.DesignError, match="there are 3 rows"):
        est.scale(np.array([2.0, 3.0]), unit_of_measure="USD million")
    with pytest.raises(vbc.EstimationError, match="was given TWFE"):
        vbc.stack([est, vbc.did.TWFE()])
    total = est.scale(np.array([2.0, 3.0, 4.0]), unit_of_measure="USD million")
    assert total.estimate.tolist() == [-2.0, -9.0, -8.0]
    np.testing.assert_allclose(total.std_error, est.std_error * [2, 3, 4], rtol=1e-14)


def test_joint_test_is_the_quadratic_form() -> None:
    est = group_time()
    test = est.wald()
    expected = est.estimate @ np.linalg.solve(est.vcov(), est.estimate)
    assert test.statistic == pytest.approx(expected)
    assert test.p_value == pytest.approx(stats.f.sf(expected / 3, 3, 7))


def test_posteriors_have_draws_and_probabilities() -> None:
    frame = group_time().frame.iloc[:1]
    draws = np.linspace(-3, 1, 401)[:, None]
    est = vbc.Estimates(frame=frame, samples=draws, interval="credible")
    assert est.probability(below=-1.0).item() == pytest.approx(200 / 401)
    table = est.tidy()
    assert table["p_value"].isna().all()
    assert table["conf_low"].item() == pytest.approx(-2.9)
    with pytest.raises(vbc.EstimationError, match="influence"):
        est.influence()
    with pytest.raises(vbc.EstimationError, match="no draws"):
        group_time().draws()


def test_bootstrap_draws_give_p_values_and_a_joint_test() -> None:
    draws = np.random.default_rng(1).normal([-2.0, 0.0, 1.0], 1.0, (4000, 3))
    est = vbc.Estimates(frame=group_time().frame.assign(estimate=[-2.0, 0.0, 1.0]), samples=draws)
    expected = [2 * stats.norm.sf(2), 1.0, 2 * stats.norm.sf(1)]
    np.testing.assert_allclose(est.tidy()["p_value"], expected, atol=0.04)
    assert est.wald().statistic > 3
    with pytest.raises(vbc.EstimationError, match="posterior has no Wald test"):
        vbc.Estimates(frame=est.frame, samples=draws, interval="credible").wald()


def test_only_a_posterior_gives_probabilities() -> None:
    bootstrap = vbc.Estimates(frame=group_time().frame, samples=np.zeros((5, 3)))
    for est in (bootstrap, group_time()):
        with pytest.raises(vbc.EstimationError, match="no posterior"):
            est.probability(below=0.0)


def test_a_published_covariance_may_be_singular_and_have_missing_rows() -> None:
    given = np.array([[4.0, 2.0, np.nan], [2.0, 1.0, np.nan], [np.nan, np.nan, np.nan]])
    est = vbc.Estimates(frame=group_time().frame, covariance=given)
    gap = est.contrast({"gap": {0: 1.0, 1: -1.0}})
    assert gap.std_error == pytest.approx([1.0])


@pytest.mark.parametrize(
    ("laws", "said"),
    [({}, "0 were given"), ({"samples": np.zeros((4, 3)), "covariance": np.eye(3)}, "2 were given"),
     ({"psi": np.zeros((8, 2)), "clusters": pd.Index(range(8))}, "`psi`"),
     ({"psi": np.zeros((2, 3)), "clusters": pd.Index(["a", "a"])}, "repeated labels"),
     ({"covariance": np.eye(2)}, "`covariance`"),
     ({"covariance": np.triu(np.full((3, 3), 0.2)) + np.eye(3)}, "not symmetric"),
     ({"covariance": np.eye(3) - 1.0}, "negative eigenvalues")],
)  # fmt: skip
def test_estimates_must_fit_together(laws, said) -> None:
    with pytest.raises(vbc.EstimationError, match=said):
        vbc.Estimates(frame=group_time().frame, **laws)


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_levels_are_probabilities(level) -> None:
    with pytest.raises(vbc.DesignError, match="between 0 and 1"):
        group_time().tidy(level)


def test_positions_are_kept_in_their_order() -> None:
    est = group_time()
    chosen = est.where([2, 0, 2], outcome="spend")
    assert chosen.estimate.tolist() == [-2.0, -1.0, -2.0]
    np.testing.assert_array_equal(chosen.psi, est.psi[:, [2, 0, 2]])
    assert est.where([2, 0, 1], cohort=2014.0).estimate.tolist() == [-1.0, -3.0]
    with pytest.raises(vbc.DesignError, match="positions from 0 to 2"):
        est.where([3])


def test_averages_are_not_averaged_again() -> None:
    frame = pd.DataFrame({
        "estimand": ["att_event_time", "att_event_time", "att_overall"],
        "outcome": "spend", "event_time": [0.0, 1.0, np.nan], "estimate": [1.0, 2.0, 1.5],
    })  # fmt: skip
    est = vbc.Estimates(frame=frame, covariance=np.eye(3))
    assert est.aggregate("event_time").estimate.tolist() == [1.0, 2.0, 1.5]
    for kind in ("simple", "cohort"):
        with pytest.raises(vbc.DesignError, match="averages group-time effects"):
            est.aggregate(kind)
    with pytest.raises(vbc.DesignError, match="averages group-time effects"):
        est.aggregate("event_time", window=(0, 0))
    several = frame.assign(average=["event_time", "cohort", "event_time"])
    est = vbc.Estimates(frame=several, covariance=np.eye(3))
    assert est.aggregate("event_time").estimate.tolist() == [1.0, 1.5]


def test_description_shows_no_cluster() -> None:
    """Clusters may be people: their labels and terms reach no log through a print."""
    frame = pd.DataFrame({"estimand": ["att_simple"], "outcome": ["spend"], "estimate": [1.5]})
    labels = pd.Index(["person-1044", "person-2081", "person-7"])
    est = vbc.Estimates(
        frame=frame, psi=np.array([[0.25], [-0.5], [0.25]]), clusters=labels,
        meta={"estimator": "GroupTime", "vcov": "CR1"},
    )  # fmt: skip
    assert repr(est) == "Estimates(1 rows: att_simple of spend; GroupTime, CR1, influence)"
    for other in (est.contrast({"half": {0: 0.5}}), vbc.stack([est, est], labels=["a", "b"])):
        assert "person" not in repr(other)
        assert "0.25" not in str(other)


@pytest.mark.parametrize("clusters", [20, 8193])
def test_an_error_has_the_same_bits_alone_and_in_a_table(clusters: int) -> None:
    psi = np.random.default_rng(1).normal(size=(clusters, 5))
    frame = pd.DataFrame({"estimand": list("abcde"), "estimate": 0.0, "outcome": "y"})
    for laid in (psi, np.asfortranarray(psi), np.repeat(psi, 2, axis=1)[:, ::2]):
        est = vbc.Estimates(frame=frame, psi=laid, psi_vcov=laid, clusters=pd.RangeIndex(clusters))
        alone = [est.where(estimand=name).std_error[0] for name in "abcde"]
        np.testing.assert_array_equal(est.std_error, alone)
        np.testing.assert_allclose(alone, np.sqrt(np.diag(psi.T @ psi)), rtol=1e-13)
