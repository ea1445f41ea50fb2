"""
The contract of every estimator: columns, covariance, and clear refusals.

First those that hold for all of `vbceval.did` (`contract_cases.py` has the panel and the options),
then what group-time effects of every kind have in common.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.errors import VbcevalError
from vbceval.estimates import columns
from vbceval.inference import SSC

from .contract_cases import CASES, CHANGES, Case, Change, rows_of, shared_frame

of_all = pytest.mark.parametrize("name", CASES)
META = (
    "estimator", "options", "design", "vcov", "ssc", "exactness", "n_clusters", "cluster",
    "versions", "warnings", "language",
)  # fmt: skip
NO_MOMENTS = {
    "ChangesInChanges": "histograms",
    "Dose": "follows units",
    "Efficient": "followed units",
}
"""Estimators that need rows, and what they say of their sums."""
LOOSE = {"SyntheticControl": 2e-5}
"""With more donors than periods before entry many weights fit alike; the order of donors decides."""


@functools.cache
def fitted(name: str) -> vbc.Estimates:
    """The fit that several tests look at; estimates never change."""
    case = CASES[name]
    data = shared_frame()
    strata = {"strata": ["dual", "site"] if name == "TripleDifference" else ["dual"]}
    return case.estimator.fit(case.data(data, **strata), case.asks())


def test_no_estimator_is_left_out() -> None:
    classes = {n for n in vbc.did.__all__ if inspect.isclass(getattr(vbc.did, n))}
    assert classes == set(CASES) == set(CHANGES)
    for name, case in CASES.items():
        options = {f.name for f in dataclasses.fields(case.estimator)}
        assert options == set(CHANGES[name]), name


@of_all
def test_columns_and_record(name) -> None:
    est = fitted(name)
    table = est.tidy()
    first = columns.KEYS + columns.VALUES
    assert tuple(table.columns[: len(first)]) == first
    assert table["estimand"].notna().all()
    assert table["outcome"].str.startswith((CASES[name].outcome, "any", "taken")).all()
    live = table["std_error"].notna()
    assert live.any()
    assert (table.loc[live, "df"] > 0).all()
    inside = table[live]
    assert (inside["conf_low"] <= inside["conf_high"]).all()
    assert (inside["band_low"] <= inside["conf_low"] + 1e-9 * inside["std_error"]).all()
    assert inside["p_value"].between(0, 1).all()
    assert [key for key in META if key not in est.meta] == []
    assert est.meta["estimator"] == name
    assert est.meta["options"] == dataclasses.asdict(CASES[name].estimator)


@of_all
def test_joint_law(name) -> None:
    est = fitted(name)
    vcov = est.vcov()
    np.testing.assert_allclose(vcov, vcov.T, rtol=1e-12)
    live = np.isfinite(est.std_error)
    if est.psi is not None:
        np.testing.assert_allclose(est.std_error[live] ** 2, np.diag(vcov)[live], rtol=1e-10)
    i, j = np.flatnonzero(live & np.isfinite(est.estimate))[:2]
    gap = est.contrast({"gap": {i: 1.0, j: -1.0}})
    assert gap.estimate[0] == pytest.approx(est.estimate[i] - est.estimate[j])
    assert gap.vcov().item() == pytest.approx(vcov[i, i] + vcov[j, j] - 2 * vcov[i, j])
    bands = est.where(np.array([i, j])).bands()
    assert (bands["band_low"] < bands["band_high"]).all()


@of_all
def test_influence_is_the_covariance_without_factor(name) -> None:
    case = CASES[name]
    if fitted(name).psi is None:
        with pytest.raises(VbcevalError, match="no 'CR0'"):
            case.fit(shared_frame(), vcov="CR0")
        return
    est = case.fit(shared_frame(), vcov="CR0")
    psi = est.influence()
    assert sorted(psi.index) == sorted(shared_frame()["unit"].unique())
    np.testing.assert_allclose(est.vcov(), psi.to_numpy().T @ psi.to_numpy(), rtol=1e-12)
    assert est.meta["ssc"] == "none"
    assert np.isinf(est.frame["df"]).all()


@of_all
def test_rows_side_by_side(name) -> None:
    est = fitted(name)
    if est.psi is None:
        with pytest.raises(VbcevalError, match="influence"):
            vbc.stack([est, est])
        return
    both = vbc.stack([est, fitted("TWFE")], labels=["one", "two"])
    np.testing.assert_allclose(both.vcov()[: len(est), : len(est)], est.vcov(), rtol=1e-10)
    own = vbc.stack([est, est])
    k = int(np.flatnonzero(np.isfinite(est.std_error))[0])
    nothing = own.contrast({"gap": {k: 1.0, k + len(est): -1.0}})
    assert nothing.estimate[0] == 0
    assert nothing.vcov().item() == 0


@of_all
@pytest.mark.parametrize("kind", ["simple", "event_time", "cohort", "period"])
def test_averages_or_a_reason(name, kind) -> None:
    est = fitted(name)
    estimand = {"period": columns.PERIOD, "cohort": columns.COHORT, "simple": columns.SIMPLE,
                "event_time": columns.EVENT_TIME}[kind]  # fmt: skip
    if not est.frame["estimand"].isin([columns.GROUP_TIME, estimand]).any():
        with pytest.raises(VbcevalError, match="averages group-time effects"):
            est.aggregate(kind)
        return
    average = est.aggregate(kind)
    assert average.frame["estimate"].notna().any()
    assert average.meta["estimator"] == name


@of_all
def test_strata_or_a_reason(name) -> None:
    est = fitted(name)
    if name == "TripleDifference":
        with pytest.raises(VbcevalError, match="no stratum `dual`"):
            est.by("dual")
        assert set(est.by("site").frame["stratum"]) == {"site=north", "site=south"}
        return
    assert set(est.by("dual").frame["stratum"]) == {"dual=no", "dual=yes"}


@of_all
def test_order_and_names_of_units_do_not_matter(name) -> None:
    case, frame = CASES[name], shared_frame()
    renamed = frame.assign(unit=[f"aco {99 - u}" for u in frame["unit"]])
    one, two = case.fit(frame), case.fit(renamed.sample(frac=1, random_state=3))
    keys = [k for k in columns.KEYS if k not in ("unit_of_measure", "stratum")]
    pd.testing.assert_frame_equal(one.frame[keys], two.frame[keys])
    exact = LOOSE.get(name, 1e-10)
    np.testing.assert_allclose(two.estimate, one.estimate, rtol=exact, atol=exact)
    if one.psi is not None:
        np.testing.assert_allclose(two.vcov(), one.vcov(), rtol=1e-9, atol=1e-12)


@of_all
def test_unknown_options_are_refused(name) -> None:
    case, frame = CASES[name], shared_frame()
    with pytest.raises(VbcevalError, match="HC7"):
        case.fit(frame, vcov="HC7")
    with pytest.raises(VbcevalError):
        case.fit(frame, vcov="CR0", ssc=SSC.cluster())
    for option, hint in get_type_hints(type(case.estimator)).items():
        if get_origin(hint) is not Literal and not any(
            get_origin(part) is Literal for part in get_args(hint)
        ):
            continue

        def fit(option: str = option) -> None:
            wrong = dataclasses.replace(case.estimator, **{option: "nonsense"})
            case._replace(estimator=wrong).fit(frame)

        with pytest.raises(VbcevalError, match=option):
            fit()


SAID: dict[str, str] = {}
"""What fits said, by what they were asked: many options are compared with the same one."""


def outcome_of(case: Case, change: Change, options: dict) -> str:
    """What a fit says: its table and the law of it, or why it is refused."""
    asked = repr((case, change._replace(value=None, given={}), options))
    if asked not in SAID:
        SAID[asked] = _said(case, change, options)
    return SAID[asked]


def _said(case: Case, change: Change, options: dict) -> str:
    frame = rows_of(shared_frame(), change.rows)
    try:
        estimator = dataclasses.replace(case.estimator, **options)
        est = estimator.fit(
            case.data(frame, **change.panel), case.asks(**change.design), **change.fit
        )
    except VbcevalError as error:
        return f"refused: {error}"
    shares = None if est.shares is None else (est.shares.value.tolist(), est.shares.psi is None)
    return repr((est.frame.to_dict("list"), est.std_error.tolist(), shares))


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name, found in CHANGES.items() for option in found]
)
def test_every_option_matters(name, option) -> None:
    case, change = CASES[name], CHANGES[name][option]
    before = outcome_of(case, change, dict(change.given))
    after = outcome_of(case, change, {**change.given, option: change.value})
    assert before != after
    assert not (before.startswith("refused") and after.startswith("refused")), before


@of_all
def test_sums_give_what_rows_give(name) -> None:
    case, frame = CASES[name], shared_frame()
    names = ["y", "spend", "taken"]
    parts = [frame.assign(w=frame["w"] / 2, **{k: frame[k] * f for k in names}) for f in (0.8, 1.2)]
    rows = case.data(pd.concat(parts), kind="repeated_cross_section")
    sums = vbc.Moments.from_panel(
        rows, outcomes=[*names, "any"], covariates=["dose"], by="cluster",
        strata=list(case.panel.get("strata", ())),
    )  # fmt: skip
    if name in NO_MOMENTS:
        with pytest.raises(VbcevalError, match=NO_MOMENTS[name]):
            case.estimator.fit(sums, case.asks())
        return
    estimator = case.estimator
    one = estimator.fit(rows, case.asks())
    two = (dataclasses.replace(estimator, any="any") if name == "TwoPart" else estimator).fit(
        sums, case.asks()
    )
    np.testing.assert_allclose(two.estimate, one.estimate, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(two.std_error, one.std_error, rtol=1e-9)


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
    # with the comparison of every row, or their sum, the treated could be told
    assert table[["n_units", "n_comparison"]].isna().all().all()
    shown = fit(estimator, few, panel={"cluster": "aco", "people": False}).frame
    assert set(shown["n_treated"]) == {10.0}


@every
def test_clusters_that_are_people_are_not_counted(estimator, frame) -> None:
    data = frame[frame["unit"] < 8]
    design = vbc.Design(outcome="y")
    keys = {**KEYS, "people": True}
    table = estimator.fit(vbc.Panel.from_frame(data, **keys), design).frame
    assert table[["n_clusters", "n_units", "n_treated", "n_comparison"]].isna().all().all()
