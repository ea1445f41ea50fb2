"""GroupTime on random panels: influence is the derivative, and what must not matter does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc

KEYS = {"unit": "unit", "period": "period", "cohort": "cohort", "cluster": "cluster", "weight": "w"}
X = ["x", "z"]
RC = "repeated_cross_section"

# (options of the estimator, of the design, of the panel, of the drawn frame)
CASES: dict[str, tuple[dict, dict, dict, dict]] = {
    "dr": ({"method": "dr"}, {"covariates": X}, {}, {}),
    "dr_imp": ({"method": "dr_imp"}, {"covariates": X}, {}, {}),
    "ipw, never": ({"method": "ipw"}, {"covariates": X, "comparison": "never_treated"}, {}, {}),
    "reg, universal": ({"method": "reg"}, {"covariates": X, "base_period": "universal"}, {}, {}),
    "dr, anticipation": (
        {"method": "dr"}, {"covariates": ["x"], "anticipation": 1}, {},
        {"cohorts": (3.0, 4.0, np.nan)},
    ),
    "no covariates": ({}, {}, {}, {}),
    "clusters above the unit": ({}, {"covariates": ["x"]}, {}, {"per_cluster": 3, "units": 72}),
    "pairs": ({}, {"covariates": ["x"]}, {}, {"missing": 0.12, "time_varying": True}),
    "pairs, shares of pairs": (
        {"cell_share": "pair"}, {}, {}, {"missing": 0.12, "time_varying": True},
    ),
    "balance": ({"unbalanced": "balance"}, {}, {}, {"missing": 0.03}),
    "rc of a panel": (
        {"unbalanced": "rc"}, {"covariates": ["x"]}, {}, {"missing": 0.12, "time_varying": True},
    ),
    "covariates of the base": (
        {"covariate_period": "base"}, {"covariates": ["x"], "base_period": "universal"}, {},
        {"time_varying": True},
    ),
    "weights of the base": (
        {"fix_weights": "base_period"}, {"covariates": ["x"]}, {}, {"time_varying": True},
    ),
    "weights of the first period": (
        {"fix_weights": "first_period", "method": "reg"}, {"covariates": ["x"]}, {},
        {"time_varying": True},
    ),
    "varying weights": (
        {"fix_weights": "varying"}, {"covariates": ["x"]}, {}, {"time_varying": True},
    ),
    **{
        f"rc, {method}": (
            {"method": method}, {"covariates": ["x"]}, {"kind": RC},
            {"per_cluster": 3, "units": 90, "time_varying": True},
        )
        for method in ("dr", "ipw", "reg")
    },
    "rc, shares of pairs": (
        {"cell_share": "pair"}, {}, {"kind": RC}, {"per_cluster": 3, "time_varying": True},
    ),
}  # fmt: skip


def fitter(options: dict, design: dict, panel: dict):
    def fit(frame: pd.DataFrame) -> vbc.Estimates:
        data = vbc.Panel.from_frame(frame, **KEYS, **panel)
        return vbc.did.GroupTime(**options).fit(data, vbc.Design(outcome="y", **design))

    return fit


@pytest.mark.parametrize("case", CASES)
def test_influence_is_the_derivative_by_cluster_weights(
    case, make_frame, weight_derivative
) -> None:
    options, design, panel, draw = CASES[case]
    frame = make_frame(3, **draw)
    fit = fitter(options, design, panel)

    def everything(data: pd.DataFrame) -> vbc.Estimates:
        est = fit(data)
        assert len(est) >= 4
        kinds = ("simple", "event_time", "cohort", "period")
        return vbc.stack([est, *(est.aggregate(k) for k in kinds)])

    est = everything(frame)
    influence = est.influence()
    assert np.abs(influence.sum()).max() < 1e-12 * max(1.0, np.abs(est.estimate).max())
    size = np.abs(influence.to_numpy()).max(axis=0)
    for label in frame.drop_duplicates("cohort")["cluster"]:
        slope = weight_derivative(everything, frame, label)
        psi = influence.loc[label].to_numpy() if label in influence.index else 0.0
        gap = np.abs(slope - psi) / np.where(size > 0, size, 1.0)
        assert gap.max() < 1e-7, (case, label, est.frame.loc[int(gap.argmax())].to_dict())


def test_shares_count_treated_units_that_no_comparison_uses(make_frame, weight_derivative) -> None:
    """A unit seen only after entry has no change to compare, but is part of its cohort."""
    frame = make_frame(4)
    late = frame["unit"] == "u000"
    frame = frame[~late | (frame["period"] >= 3)]
    fit = fitter({"method": "reg"}, {}, {})

    def average(data: pd.DataFrame) -> vbc.Estimates:
        return fit(data).aggregate("event_time")

    est = average(frame)
    size = np.abs(est.psi).max(axis=0)
    for label in ("c00", "c01", "c35"):
        slope = weight_derivative(average, frame, label)
        psi = est.influence().reindex([label]).fillna(0.0).to_numpy()[0]
        assert (np.abs(slope - psi) / size).max() < 1e-7, label


def test_influence_of_shares_in_strata(make_frame, weight_derivative) -> None:
    frame = make_frame(5, per_cluster=2, units=60)
    fit = fitter({"method": "reg"}, {"covariates": ["x"]}, {"strata": ["site"]})

    def averages(data: pd.DataFrame) -> vbc.Estimates:
        return fit(data).aggregate("simple")

    est = averages(frame)
    assert est.frame["stratum"].fillna("all").tolist() == ["all", "site=north", "site=south"]
    size = np.abs(est.psi).max(axis=0)
    for label in ("c00", "c01", "c02"):
        gap = weight_derivative(averages, frame, label) - est.influence().loc[label].to_numpy()
        assert (np.abs(gap) / size).max() < 1e-7


@pytest.mark.parametrize(
    ("method", "kind"), [("dr", "panel"), ("ipw", "panel"), ("dr_imp", "panel"), ("ipw", RC)]
)
def test_influence_with_a_category_without_treated_units(
    make_frame, weight_derivative, method, kind
) -> None:
    """Comparison units whose propensity is zero weigh on a regression only."""
    draw = {"per_cluster": 3, "units": 90} if kind == RC else {}
    frame = make_frame(10, cohorts=(2.0, np.nan, np.nan), **draw)
    south = frame["cohort"].isna() & (frame["site"] == "south")
    frame["site"] = frame["site"].where(south, "north")
    fit = fitter({"method": method}, {"covariates": ["x", "site"]}, {"kind": kind})
    est = fit(frame)
    size = np.abs(est.psi).max(axis=0)
    for label in [*frame.drop_duplicates("cohort")["cluster"], frame.loc[south, "cluster"].iloc[0]]:
        gap = weight_derivative(fit, frame, label) - est.influence().loc[label].to_numpy()
        assert (np.abs(gap) / size).max() < 1e-7, label


def test_methods_agree_without_covariates(make_frame) -> None:
    frame = make_frame(6, missing=0.1, time_varying=True)
    for kind in ("panel", RC):
        for unbalanced in ("pairs", "rc"):
            fits = [
                fitter({"method": m, "unbalanced": unbalanced}, {}, {"kind": kind})(frame)
                for m in ("reg", "ipw", "dr", "dr_imp")
            ]
            for other in fits[1:]:
                np.testing.assert_allclose(other.estimate, fits[0].estimate, atol=1e-12)
                np.testing.assert_allclose(other.psi, fits[0].psi, atol=1e-11)


def test_two_by_two_is_the_textbook_difference(make_frame) -> None:
    frame = make_frame(7, periods=2, cohorts=(1.0, np.nan), units=21)
    est = fitter({}, {}, {})(frame.assign(w=1.0))
    change = frame.sort_values("period").groupby("unit")["y"].diff().dropna()
    change.index = frame.loc[change.index, "unit"]
    treated = frame.drop_duplicates("unit").set_index("unit")["cohort"].notna()
    a, b = change[treated], change[~treated]
    assert est.estimate == pytest.approx([a.mean() - b.mean()], abs=1e-14)
    n = len(change)
    variance = a.var(ddof=0) / len(a) + b.var(ddof=0) / len(b)
    assert est.tidy()["std_error"].item() == pytest.approx(
        np.sqrt(variance * n / (n - 1)), rel=1e-12
    )


def test_strata_add_up_to_regression_with_their_dummies(make_frame) -> None:
    """Treated shares times stratum effects are the overall effect adjusted for the stratum."""
    frame = make_frame(8, units=60, cohorts=(2.0, np.nan))
    design = {"comparison": "never_treated"}
    parts = fitter({"method": "reg"}, design, {"strata": ["site"]})(frame)
    whole = fitter({"method": "reg"}, {**design, "covariates": ["site"]}, {})(frame)
    treated = frame[frame["cohort"].notna() & (frame["period"] == 0)]
    share = treated.groupby("site")["w"].sum() / treated["w"].sum()
    mix = sum(
        share[site] * parts.where(stratum=f"site={site}").estimate for site in ("north", "south")
    )
    np.testing.assert_allclose(mix, whole.estimate, atol=1e-12)
    unadjusted = parts.where(stratum=None).estimate
    assert np.abs(unadjusted - whole.estimate).max() > 1e-3


@pytest.mark.parametrize("strata", [(), ("site",)])
def test_moments_by_cluster_are_as_good_as_rows(make_frame, strata) -> None:
    frame = make_frame(9, units=120, per_cluster=10, time_varying=True)
    frame["level"] = np.where(frame["z"] > 0.5, "high", np.where(frame["z"] < -0.5, "low", "mid"))
    panel = vbc.Panel.from_frame(frame, **KEYS, kind=RC, strata=strata)
    names = ["x", "z", "level"]
    design = vbc.Design(outcome="y", covariates=names)
    reg = vbc.did.GroupTime(method="reg")
    rows = reg.fit(panel, design)
    moments = vbc.Moments.from_panel(panel, outcomes=["y"], covariates=names, by="cluster")
    assert len(moments) < len(frame) / 4
    cells = reg.fit(moments, design)
    np.testing.assert_allclose(cells.estimate, rows.estimate, rtol=1e-10)
    a, b = (e.influence().sort_index() for e in (cells, rows))
    np.testing.assert_allclose(a, b, atol=1e-10 * np.abs(rows.psi).max())
    for kind in ("simple", "event_time", "cohort"):
        a, b = cells.aggregate(kind).tidy(), rows.aggregate(kind).tidy()
        np.testing.assert_allclose(a["estimate"], b["estimate"], rtol=1e-10)
        np.testing.assert_allclose(a["std_error"], b["std_error"], rtol=1e-10)
        assert a["df"].tolist() == b["df"].tolist()


def test_propensities_need_rows(make_frame) -> None:
    frame = make_frame(9, units=60, per_cluster=10)
    panel = vbc.Panel.from_frame(frame, **KEYS, kind=RC)
    moments = vbc.Moments.from_panel(panel, outcomes=["y"], covariates=["x"], by="cluster")
    with pytest.raises(vbc.EstimationError, match=r"needs the propensity of each row"):
        vbc.did.GroupTime(method="dr").fit(moments, vbc.Design(outcome="y", covariates=["x"]))


def test_improved_cross_sections_leave_out_the_regressions(make_frame, weight_derivative) -> None:
    """Documented: the influence of dr_imp in cross-sections is not the whole derivative."""
    frame = make_frame(3, per_cluster=3, units=90, time_varying=True)
    fit = fitter({"method": "dr_imp"}, {"covariates": ["x"]}, {"kind": RC})
    est = fit(frame)
    assert np.abs(est.psi.sum(axis=0)).max() < 1e-12
    size = np.abs(est.psi).max(axis=0)
    gaps = [
        np.abs(weight_derivative(fit, frame, c) - est.influence().loc[c].to_numpy()) / size
        for c in ("c00", "c01", "c02")
    ]
    assert 1e-6 < np.max(gaps) < 0.5


def assert_joint_is_separate(data, estimator, design: vbc.Design, names: list[str]) -> None:
    """One fit of several outcomes has the numbers of a fit of each, and their joint law."""
    joint = estimator.fit(data, design, outcomes=names)
    apart = vbc.stack([estimator.fit(data, replace(design, outcome=name)) for name in names])
    assert len(joint) >= 4 * len(names)
    counts = ["n_units", "n_treated", "n_comparison"]
    columns = ["outcome", "stratum", "cohort", "period", "base", "n_clusters", "note", "df"]
    pd.testing.assert_frame_equal(joint.frame[columns], apart.frame[columns], check_dtype=False)
    # a count of people hidden for one outcome is hidden for the others too, so joint counts are
    # those of separate fits or missing
    shown = joint.frame[counts].notna()
    assert shown.any(axis=None)
    pd.testing.assert_frame_equal(
        joint.frame[counts], apart.frame[counts].where(shown), check_dtype=False
    )
    if joint.frame["stratum"].isna().all():
        assert (shown == apart.frame[counts].notna()).all(axis=None)
    pd.testing.assert_index_equal(
        joint.clusters.sort_values(), apart.clusters.sort_values(), check_names=False
    )
    size = max(1.0, np.abs(joint.estimate).max())
    for kind in (None, "simple", "event_time", "cohort"):
        a, b = (e if kind is None else e.aggregate(kind) for e in (joint, apart))
        np.testing.assert_allclose(a.estimate, b.estimate, rtol=1e-12, atol=1e-12 * size)
        np.testing.assert_allclose(
            a.influence().sort_index(), b.influence().sort_index(), atol=1e-12 * np.abs(b.psi).max()
        )
        np.testing.assert_allclose(a.vcov(), b.vcov(), atol=1e-12 * np.abs(b.vcov()).max())


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_outcomes_together_are_outcomes_apart(case, gaps, make_frame) -> None:
    options, design, panel, draw = CASES[case]
    frame = make_frame(3, **draw)
    frame = frame.assign(v=frame["y"] ** 2, u=frame["y"] + frame["z"])
    if gaps:
        frame.loc[frame["x"] > 1.2, "v"] = np.nan
        frame.loc[frame.index % 17 == 3, "u"] = np.nan
    # small cohorts, whose counts are compared
    data = vbc.Panel.from_frame(frame, **KEYS, **panel, people=False)
    estimator = vbc.did.GroupTime(**options)
    assert_joint_is_separate(data, estimator, vbc.Design(outcome="y", **design), ["v", "y", "u"])


@pytest.mark.parametrize("kind", ["panel", RC])
def test_outcomes_together_in_strata(make_frame, kind) -> None:
    frame = make_frame(6, units=90, per_cluster=3)
    frame = frame.assign(v=frame["y"].where(frame["x"] < 1), u=frame["y"].where(frame["z"] < 1))
    data = vbc.Panel.from_frame(frame, **KEYS, kind=kind, strata=["site"])
    design = vbc.Design(outcome="y", covariates=["x"])
    assert_joint_is_separate(data, vbc.did.GroupTime(method="reg"), design, ["y", "u", "v"])


def test_outcomes_with_moments_of_their_own(make_frame) -> None:
    """From an engine, an outcome with gaps has other cells and clusters than the others."""
    frame = make_frame(7, units=120, per_cluster=4, time_varying=True)
    frame = frame.assign(u=frame["y"] ** 2, v=frame["y"].where(frame["period"] > 0))
    frame.loc[(frame["cluster"] == "c02") | (frame["x"] > 1), "v"] = np.nan
    with vbc.connect("duckdb") as engine:
        moments = vbc.Moments.from_table(
            frame, engine=engine, period="period", cohort="cohort", cluster="cluster", weight="w",
            outcomes=["y", "u", "v"], covariates=["x", "z"], strata=["site"],
        )  # fmt: skip
    assert moments.of("v") is not moments
    estimator = vbc.did.GroupTime(method="reg")
    design = vbc.Design(outcome="y", covariates=X)
    assert_joint_is_separate(moments, estimator, design, ["v", "y", "u"])
