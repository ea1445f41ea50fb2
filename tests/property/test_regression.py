"""Identities of the regression family: rows, cells, other estimators, refits."""

from __future__ import annotations

from dataclasses import replace

import linearmodels
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import vbceval as vbc
from vbceval.inference import SSC
from vbceval.inference.wild import Wild

DID = vbc.did
COVARIATES = vbc.Design(outcome="y", covariates=["x", "z"])
NEVER = replace(COVARIATES, comparison="never_treated")
ESTIMATORS = {
    "TWFE": (DID.TWFE(), COVARIATES),
    "EventStudy": (DID.EventStudy(), COVARIATES),
    "ETWFE": (DID.ETWFE(), COVARIATES),
    "ETWFE leads": (DID.ETWFE(), NEVER),
    "SunAbraham": (DID.SunAbraham(), COVARIATES),
    "Stacked": (DID.Stacked(), replace(COVARIATES, window=(-2, 1))),
}
every = pytest.mark.parametrize(("estimator", "design"), ESTIMATORS.values(), ids=ESTIMATORS)


def panel_of(frame: pd.DataFrame, **options) -> vbc.Panel:
    given = {"unit": "unit", "cluster": "cluster", "weight": "w", **options}
    return vbc.Panel.from_frame(frame, period="period", cohort="cohort", **given)


def errors(est: vbc.Estimates) -> np.ndarray:
    return np.sqrt(np.diag(est.vcov()))


@pytest.fixture
def unbalanced(make_frame) -> pd.DataFrame:
    return make_frame(3, units=60, periods=6, per_cluster=2, missing=0.1, time_varying=True)


def dense(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Design matrix of TWFE with every dummy: treatment first, then covariates."""
    treated = (frame["period"] >= frame["cohort"]).to_numpy(dtype=float)
    dummies = pd.get_dummies(frame[["unit", "period"]].astype(str), dtype=float)
    first = next(c for c in dummies if c.startswith("period"))
    x = np.column_stack([treated, frame[["x", "z"]], dummies.drop(columns=first)])
    return x, frame["y"].to_numpy(dtype=float)


def test_rows_give_what_statsmodels_gives(unbalanced) -> None:
    x, y = dense(unbalanced)
    model = sm.WLS(y, x, weights=unbalanced["w"])
    codes = unbalanced["cluster"].factorize()[0]
    est = DID.TWFE(covariate_rows=True).fit(panel_of(unbalanced), COVARIATES, ssc=SSC.statsmodels())
    clustered = model.fit(cov_type="cluster", cov_kwds={"groups": codes})
    np.testing.assert_allclose(est.estimate, clustered.params[:3], rtol=1e-10)
    np.testing.assert_allclose(errors(est), clustered.bse[:3], rtol=1e-10)
    for vcov, plain in (("iid", model.fit()), ("HC1", model.fit(cov_type="HC1"))):
        est = DID.TWFE(covariate_rows=True).fit(panel_of(unbalanced), COVARIATES, vcov=vcov)
        np.testing.assert_allclose(errors(est), plain.bse[:3], rtol=1e-10)
        assert set(est.frame["df"]) == {plain.df_resid}


def test_two_way_gives_what_linearmodels_gives(unbalanced) -> None:
    frame = unbalanced.assign(treated=unbalanced["period"] >= unbalanced["cohort"])
    indexed = frame.set_index(["unit", "period"])
    codes = pd.DataFrame({
        "a": indexed["cluster"].factorize()[0], "b": indexed.index.get_level_values("period"),
    }, index=indexed.index)  # fmt: skip
    exog = indexed[["treated", "x", "z"]].astype(float)
    model = linearmodels.PanelOLS(
        indexed["y"], exog, weights=indexed["w"], entity_effects=True, time_effects=True
    )
    known = model.fit(
        cov_type="clustered", clusters=codes, debiased=False, group_debias=False,
    )  # fmt: skip
    est = DID.TWFE(covariate_rows=True).fit(
        panel_of(frame), COVARIATES, vcov=("two_way", "cluster", "period"), ssc=SSC.none()
    )
    np.testing.assert_allclose(est.estimate, known.params, rtol=1e-9)
    # its variance is multiplied by N / (N - effects) whatever the options
    n, effects = len(frame), frame["unit"].nunique() + frame["period"].nunique() - 1
    plain = known.std_errors * np.sqrt((n - effects) / n)
    np.testing.assert_allclose(errors(est), plain, rtol=1e-9)


@every
def test_rows_and_their_sums_agree(estimator, design, unbalanced) -> None:
    """Rows that are not followed, one by one and summed by cluster and period."""
    rows = panel_of(unbalanced, kind="repeated_cross_section")
    sums = vbc.Moments.from_panel(rows, outcomes=["y"], covariates=["x", "z"], by="cluster")
    for vcov in ("CR1", "CR2", "iid"):
        one = estimator.fit(rows, design, vcov=vcov)
        two = estimator.fit(sums, design, vcov=vcov)
        np.testing.assert_allclose(two.estimate, one.estimate, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(two.vcov(), one.vcov(), rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(two.frame["df"], one.frame["df"], rtol=1e-8)


def test_heteroskedastic_errors_from_sums(unbalanced) -> None:
    design = vbc.Design(outcome="y")
    rows = panel_of(unbalanced, kind="repeated_cross_section", weight=None)
    sums = vbc.Moments.from_panel(rows, outcomes=["y"], by="cluster")
    one = DID.EventStudy().fit(rows, design, vcov="HC1")
    two = DID.EventStudy().fit(sums, design, vcov="HC1")
    np.testing.assert_allclose(two.vcov(), one.vcov(), rtol=1e-10, atol=1e-16)


WEIGHTED = {
    **ESTIMATORS,
    "ETWFE random": (DID.ETWFE(weights_random=True), COVARIATES),
    "SunAbraham random": (DID.SunAbraham(weights_random=True), COVARIATES),
    "Stacked random": (
        DID.Stacked(share="weight", weights_random=True), replace(COVARIATES, window=(-2, 1)),
    ),
}  # fmt: skip
FIXED = ("ETWFE", "ETWFE leads", "Stacked")


@pytest.mark.parametrize("name", [n for n in WEIGHTED if n not in FIXED])
def test_influence_is_the_derivative_by_weights(name, unbalanced, weight_derivative) -> None:
    estimator, design = WEIGHTED[name]

    def fit(data: pd.DataFrame) -> vbc.Estimates:
        est = estimator.fit(panel_of(data), design, vcov="CR0")
        return est.aggregate("event_time") if name.endswith("m random") else est

    est = fit(unbalanced)
    psi = est.influence()
    np.testing.assert_allclose(psi.sum(), 0, atol=1e-10 * np.abs(psi.to_numpy()).max())
    for label in ("c03", "c10", "c29"):
        derivative = weight_derivative(fit, unbalanced, label)
        np.testing.assert_allclose(
            psi.loc[label], derivative, atol=2e-7 * np.abs(psi.to_numpy()).max()
        )


@every
def test_linear_recoding_of_covariates_changes_nothing(estimator, design, unbalanced) -> None:
    recoded = unbalanced.assign(
        x=1e4 + 30 * unbalanced["x"], z=unbalanced["z"] - 2 * unbalanced["x"]
    )
    one = estimator.fit(panel_of(unbalanced), design)
    two = estimator.fit(panel_of(recoded), design)
    np.testing.assert_allclose(two.estimate, one.estimate, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(two.vcov(), one.vcov(), rtol=1e-8, atol=1e-12)


@every
def test_added_effects_and_scale(estimator, design, unbalanced) -> None:
    unit = unbalanced["unit"].factorize()[0] * 7.0
    moved = unbalanced.assign(y=5 * unbalanced["y"] + unit + unbalanced["period"] ** 2)
    if isinstance(estimator, DID.Stacked):
        # its effects are of sides, so unit effects must not be confounded with them
        moved = unbalanced.assign(y=5 * unbalanced["y"] + 1e3)
    one = estimator.fit(panel_of(unbalanced), design)
    two = estimator.fit(panel_of(moved), design)
    np.testing.assert_allclose(two.estimate, 5 * one.estimate, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(errors(two), 5 * errors(one), rtol=1e-9)


@every
def test_row_order_and_split_weights(estimator, design, unbalanced) -> None:
    one = estimator.fit(panel_of(unbalanced), design, vcov="CR0")
    shuffled = unbalanced.sample(frac=1, random_state=1)
    two = estimator.fit(panel_of(shuffled), design, vcov="CR0")
    np.testing.assert_allclose(two.estimate, one.estimate, atol=1e-11)
    halves = pd.concat([unbalanced.assign(w=unbalanced["w"] / 2)] * 2)
    crossed = {"kind": "repeated_cross_section"}
    whole = estimator.fit(panel_of(unbalanced, **crossed), design, vcov="CR0")
    split = estimator.fit(panel_of(halves, **crossed), design, vcov="CR0")
    np.testing.assert_allclose(split.estimate, whole.estimate, atol=1e-11)
    np.testing.assert_allclose(errors(split), errors(whole), rtol=1e-10)


def test_saturated_regression_is_imputation_on_a_balanced_panel(make_frame) -> None:
    frame = make_frame(5, units=48).assign(w=1.0)
    design = vbc.Design(outcome="y")
    one = DID.ETWFE().fit(panel_of(frame), design)
    two = DID.Imputation().fit(panel_of(frame), design)
    np.testing.assert_allclose(one.estimate, two.estimate, atol=1e-12)
    for kind in ("simple", "event_time"):
        np.testing.assert_allclose(
            one.aggregate(kind).estimate, two.aggregate(kind).estimate, atol=1e-12
        )


def test_one_cohort_stacked_is_an_event_study(make_frame) -> None:
    frame = make_frame(6, cohorts=(3.0, np.nan, np.nan)).assign(w=1.0)
    design = vbc.Design(outcome="y", window=(-2, 1))
    inside = frame[frame["period"].between(1, 4)]
    one = DID.Stacked().fit(panel_of(frame), design)
    two = DID.EventStudy().fit(panel_of(inside), design)
    np.testing.assert_allclose(one.estimate, two.estimate, atol=1e-12)
    np.testing.assert_allclose(one.influence(), two.influence(), atol=1e-12)


def test_triple_difference_is_the_difference_of_differences(make_frame) -> None:
    parts = [make_frame(s, units=48).assign(w=1.0, dual=d) for s, d in ((1, "no"), (2, "yes"))]
    panel = panel_of(pd.concat(parts), strata=["dual"])
    design = vbc.Design(outcome="y")
    triple = DID.TripleDifference(by="dual").fit(panel, design, vcov="CR0")
    both = DID.ETWFE().fit(panel, design, vcov="CR0")
    yes, no = both.where(stratum="dual=yes"), both.where(stratum="dual=no")
    np.testing.assert_allclose(triple.estimate, yes.estimate - no.estimate, atol=1e-11)
    gap = yes.influence().to_numpy() - no.influence().to_numpy()
    np.testing.assert_allclose(triple.influence(), gap, atol=1e-11)


def test_two_by_two_is_welch() -> None:
    rng = np.random.default_rng(2)
    size = np.repeat([7, 15], [7, 15])
    change = rng.standard_normal(22) * np.where(size == 7, 3.0, 1.0)
    frame = pd.DataFrame({
        "unit": np.tile(np.arange(22), 2), "period": np.repeat([0, 1], 22),
        "cohort": np.tile(np.where(size == 7, 1.0, np.nan), 2),
        "y": np.concatenate([np.zeros(22), change]),
    })  # fmt: skip
    panel = vbc.Panel.from_frame(frame, unit="unit", period="period", cohort="cohort")
    est = DID.TWFE().fit(panel, vbc.Design(outcome="y"), vcov="CR2")
    a, b = change[:7], change[7:]
    va, vb = a.var(ddof=1) / 7, b.var(ddof=1) / 15
    assert est.estimate.item() == pytest.approx(a.mean() - b.mean(), rel=1e-12)
    assert errors(est).item() == pytest.approx((va + vb) ** 0.5, rel=1e-12)
    # under a working model of equal variances
    top = (1 / 7 + 1 / 15) ** 2
    assert est.frame["df"].item() == pytest.approx(top / (1 / (49 * 6) + 1 / (225 * 14)), rel=1e-10)


def test_cr3_is_the_jackknife(make_frame) -> None:
    frame = make_frame(9, units=24, per_cluster=2, missing=0.1)
    est = DID.EventStudy().fit(panel_of(frame), COVARIATES, vcov="CR3")
    gaps = []
    for label in np.unique(frame["cluster"]):
        rest = frame[frame["cluster"] != label]
        without = DID.EventStudy().fit(panel_of(rest), COVARIATES).estimate
        gaps.append(est.estimate - without)
    np.testing.assert_allclose(est.vcov(), np.transpose(gaps) @ gaps, rtol=1e-8, atol=1e-12)


def test_adjusted_influence_is_unbiased_under_the_working_model(make_frame) -> None:
    """CR2's expected square is c'Mc: its numerator of the degrees of freedom."""
    frame = make_frame(4, units=24, per_cluster=3)
    panel = panel_of(frame)
    rng = np.random.default_rng(1)
    draws = []
    for _ in range(200):
        noise = rng.standard_normal(len(frame)) / np.sqrt(frame["w"])
        made = panel_of(frame.assign(y=noise))
        draws.append(DID.TWFE().fit(made, vbc.Design(outcome="y"), vcov="CR2").vcov().item())
    x, _ = dense(frame.assign(x=0.0, z=0.0))
    kept = np.abs(x).sum(axis=0) > 0
    weighted = x[:, kept] * np.sqrt(frame["w"].to_numpy())[:, None]
    truth = np.linalg.pinv(weighted.T @ weighted)[0, 0]
    assert len(panel.frame) == len(frame)
    assert abs(np.mean(draws) - truth) < 4 * np.std(draws) / np.sqrt(len(draws))


def test_wild_draws_are_refits(make_frame) -> None:
    """Every sign pattern, by building the outcome and fitting again."""
    frame = make_frame(7, units=14, per_cluster=2, periods=4)
    design = vbc.Design(outcome="y")
    est = DID.TWFE().fit(panel_of(frame), design, vcov=Wild(draws=999))
    assert est.meta["wild"]["drawn"] == ["all sign patterns, 64 draws"]
    y = frame["y"].to_numpy()
    x, _ = dense(frame.assign(x=0.0, z=0.0))
    w = np.sqrt(frame["w"].to_numpy())
    null = np.delete(x, 0, axis=1)
    b0 = np.linalg.lstsq(null * w[:, None], y * w, rcond=None)[0]
    fitted = null @ b0
    codes = frame["cluster"].factorize()[0]

    def t(values: np.ndarray) -> float:
        fit = DID.TWFE().fit(panel_of(frame.assign(y=values)), design, vcov="CR0")
        return abs(fit.estimate.item() / errors(fit).item())

    observed, reached = t(y), 0
    for pattern in range(64):
        signs = np.array([1.0, *(1 - 2 * ((pattern >> i) & 1) for i in range(6))])
        reached += t(fitted + signs[codes] * (y - fitted)) >= observed * (1 - 1e-9)
    assert est.frame["wild_p_value"].item() == reached / 64


def test_outcomes_and_strata_are_joint(make_frame) -> None:
    parts = [make_frame(s, units=36).assign(dual=d) for s, d in ((1, "no"), (2, "yes"))]
    frame = pd.concat(parts).assign(v=lambda f: f["y"] ** 2)
    frame.loc[frame["x"] > 1.5, "v"] = np.nan
    panel = panel_of(frame, strata=["dual"])
    both = DID.EventStudy().fit(panel, COVARIATES, outcomes=["y", "v"], vcov="CR2")
    alone = [
        DID.EventStudy().fit(panel, replace(COVARIATES, outcome=name), vcov="CR2")
        for name in ("y", "v")
    ]
    stacked = vbc.stack(alone)
    pd.testing.assert_frame_equal(
        both.frame[["outcome", "stratum", "event_time"]],
        stacked.frame[["outcome", "stratum", "event_time"]], check_dtype=False,
    )  # fmt: skip
    np.testing.assert_allclose(both.estimate, stacked.estimate, atol=1e-11)
    np.testing.assert_allclose(both.vcov(), stacked.vcov(), atol=1e-11)
    np.testing.assert_allclose(
        both.frame["df"].astype(float), stacked.frame["df"].astype(float), rtol=1e-8
    )


@pytest.mark.parametrize("vcov", ["CR1", "CR2", ("two_way", "cluster", "period")])
def test_moments_of_an_engine_with_gaps(make_frame, vcov) -> None:
    """Outcomes with gaps have moments of their own; the joint law is that of rows."""
    frame = make_frame(2, units=40, periods=5, per_cluster=2)
    # one outcome is not seen in the first period at all, the other in some rows
    frame = frame.assign(v=frame["y"].where(frame["period"] > 0), u=frame["y"] + 1)
    frame.loc[frame["x"] > 1, "u"] = np.nan
    columns = {"period": "period", "cohort": "cohort", "cluster": "cluster"}
    with vbc.connect("duckdb") as engine:
        moments = vbc.Moments.from_table(
            frame, engine=engine, outcomes=["y", "v", "u"], covariates=["x"], weight="w", **columns
        )
    rows = panel_of(
        frame.assign(row=np.arange(len(frame))), unit="row", kind="repeated_cross_section"
    )
    design = vbc.Design(outcome="y", covariates=["x"])
    names = ["u", "y", "v"]
    one = DID.EventStudy().fit(rows, design, vcov=vcov, outcomes=names)
    two = DID.EventStudy().fit(moments, design, vcov=vcov, outcomes=names)
    assert one.frame["outcome"].tolist() == two.frame["outcome"].tolist()
    np.testing.assert_allclose(two.estimate, one.estimate, atol=1e-10)
    np.testing.assert_allclose(two.vcov(), one.vcov(), rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(two.frame["df"], one.frame["df"], rtol=1e-8)
