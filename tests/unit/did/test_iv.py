"""Effects of assignment and of the dose against linearmodels, and against tests inverted by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from linearmodels.iv import IV2SLS, IVLIML
from scipy import stats

import vbceval as vbc
from vbceval.did import IV, TWFE
from vbceval.did.assignment.weak import anderson_rubin, effective_f
from vbceval.inference import SSC

KEYS = {"unit": "hospital", "period": "year", "cohort": "entry", "cluster": "market"}
DESIGN = vbc.Design(outcome="spend")


@pytest.fixture
def draw() -> Callable[..., pd.DataFrame]:
    """Markets assigned within blocks of four, hospitals that comply in part, two years before."""

    def made(seed: int = 2, markets: int = 40, strength: float = 0.5) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        n = markets * 3
        h, t = np.repeat(np.arange(n), 5), np.tile(np.arange(2014, 2019), n)
        market = h // 3
        assigned = (market + rng.permutation(markets // 4)[market // 4]) % 4 < 2
        entry = np.where(assigned, 2016.0, np.nan)
        taste = rng.standard_normal(n)[h]
        share = np.clip(
            0.1 * taste + 0.1 + strength * (t >= entry) * (1 + 0.1 * (t - 2016)), 0, None
        )
        share = np.where(t < 2016, 0.0, share + 0.1 * rng.random(len(h)))
        spend = (
            20 + 2 * taste + rng.standard_normal(n)[h] + 0.3 * t - 2014 - 3 * share
            + 0.5 * rng.standard_normal(markets)[market] * (t - 2014) + rng.standard_normal(len(h))
        )  # fmt: skip
        return pd.DataFrame({
            "hospital": h, "year": t, "market": market, "block": market // 4, "entry": entry,
            "share": share, "spend": spend, "beds": rng.standard_normal(len(h)) + 0.2 * taste,
            "w": rng.uniform(1, 5, n)[h],
        })  # fmt: skip

    return made


def panel(d: pd.DataFrame, **options) -> vbc.Panel:
    return vbc.Panel.from_frame(d, **KEYS, people=False, **options)


def dummies(*columns: pd.Series) -> np.ndarray:
    parts = [pd.get_dummies(c, drop_first=i > 0).to_numpy(float) for i, c in enumerate(columns)]
    out = np.column_stack(parts)
    _, r = np.linalg.qr(out)
    return out[:, np.abs(np.diag(r)) > 1e-9]


def reference(d: pd.DataFrame, x: np.ndarray, z: np.ndarray, *, debiased=False, liml=False, w=None):
    model = IVLIML if liml else IV2SLS
    made = model(d["spend"].to_numpy(), x, d["share"].to_numpy(), z, weights=w)
    return made.fit(cov_type="clustered", clusters=d["market"].to_numpy(), debiased=debiased)


def late(est: vbc.Estimates) -> vbc.Estimates:
    return est.where(estimand="late")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("covariate", [False, True])
def test_linearmodels_panel(draw, weighted, covariate) -> None:
    d = draw()
    x = dummies(d["hospital"], d["year"])
    if covariate:
        x = np.column_stack([x, d["beds"]])
    z = (d["year"] >= d["entry"]).to_numpy(float)
    w = d["w"].to_numpy() if weighted else None
    design = vbc.Design(outcome="spend", covariates=["beds"] if covariate else [])
    data = panel(d, weight="w" if weighted else None)
    for debiased, ssc in ((False, SSC.none()), (True, SSC.statsmodels())):
        est = late(IV(dose="share").fit(data, design, ssc=ssc))
        expected = reference(d, x, z, debiased=debiased, w=w)
        assert est.estimate.item() == pytest.approx(expected.params.iloc[-1], rel=1e-8)
        assert est.std_error.item() == pytest.approx(expected.std_errors.iloc[-1], rel=1e-7)


def test_linearmodels_cross_section_with_blocks(draw) -> None:
    d = draw()
    post = d[d["year"] >= 2016]
    cell = post["block"].astype(str) + "-" + post["year"].astype(str)
    expected = reference(post, dummies(cell), post["entry"].notna().to_numpy(float), debiased=True)
    est = IV(dose="share", form="cross_section", blocks=["block"]).fit(
        panel(d), DESIGN, ssc=SSC.statsmodels()
    )
    assert late(est).estimate.item() == pytest.approx(expected.params.iloc[-1], rel=1e-9)
    assert late(est).std_error.item() == pytest.approx(expected.std_errors.iloc[-1], rel=1e-8)


@pytest.mark.parametrize("method", ["2sls", "liml"])
def test_linearmodels_with_an_instrument_a_year(draw, method) -> None:
    d = draw()
    x = dummies(d["hospital"], d["year"])
    on = (d["year"] >= d["entry"]).to_numpy(float)
    z = np.column_stack([on * (d["year"] == t) for t in (2016, 2017, 2018)])
    for debiased, ssc in ((False, SSC.none()), (True, SSC.statsmodels())):
        est = late(
            IV(dose="share", instruments="by_event_time", method=method).fit(
                panel(d), DESIGN, ssc=ssc
            )
        )
        expected = reference(d, x, z, debiased=debiased, liml=method == "liml")
        assert est.estimate.item() == pytest.approx(expected.params.iloc[-1], rel=1e-8)
        assert est.std_error.item() == pytest.approx(expected.std_errors.iloc[-1], rel=1e-7)
    if method == "liml":
        assert est.frame["kappa"].item() == pytest.approx(expected.kappa, rel=1e-9)


def test_effect_of_assignment_is_the_reduced_form(draw) -> None:
    d = draw()
    for vcov in ("CR0", "CR1", "CR2"):
        est = IV(dose="share").fit(panel(d), DESIGN, vcov=vcov)
        for estimand, outcome in (("itt", "spend"), ("first_stage", "share")):
            one = TWFE().fit(panel(d), vbc.Design(outcome=outcome), vcov=vcov)
            row = est.where(estimand=estimand)
            np.testing.assert_allclose(row.estimate, one.estimate, rtol=1e-10)
            np.testing.assert_allclose(row.std_error, one.std_error, rtol=1e-9)
            np.testing.assert_allclose(row.frame["df"], one.frame["df"], rtol=1e-9)
        itt, first, effect = est.estimate
        assert effect == pytest.approx(itt / first, rel=1e-12)
        psi = est.influence().to_numpy()
        np.testing.assert_allclose(psi[:, 2], (psi[:, 0] - effect * psi[:, 1]) / first, atol=1e-12)


def test_influence_is_the_derivative_by_weight(draw) -> None:
    d = draw(markets=16)
    design = vbc.Design(outcome="spend", covariates=["beds"])

    def fit(frame: pd.DataFrame) -> vbc.Estimates:
        estimator = IV(dose="share", blocks=["block"], effect="event_time")
        return estimator.fit(panel(frame, weight="w"), design, vcov="CR0")

    est, h = fit(d), 1e-5
    for label in (0, 9):
        at = [
            fit(d.assign(w=d["w"] * np.where(d["market"] == label, 1 + s, 1.0))).estimate
            for s in (h, -h)
        ]
        limit = 1e-7 * np.abs(est.influence().to_numpy()).max()
        np.testing.assert_allclose(
            est.influence().loc[label], (at[0] - at[1]) / (2 * h), atol=limit
        )


def test_each_year_is_a_ratio_of_its_own(draw) -> None:
    d = draw()
    est = IV(dose="share", effect="event_time").fit(panel(d), DESIGN)
    forms = {e: est.where(estimand=e).estimate for e in ("itt", "first_stage", "late")}
    np.testing.assert_allclose(forms["late"], forms["itt"] / forms["first_stage"], rtol=1e-12)
    assert late(est).frame["event_time"].tolist() == [0, 1, 2]


def test_moments_equal_rows(draw) -> None:
    d = draw()
    whole = panel(d, weight="w", strata=["block"])
    rows = vbc.Panel.from_frame(
        d, unit="hospital", period="year", cohort="entry", cluster="market", weight="w",
        strata=["block"], kind="repeated_cross_section", people=False,
    )  # fmt: skip
    design = vbc.Design(outcome="spend", covariates=["beds"])
    moments = vbc.Moments.from_panel(
        rows, outcomes=["spend", "share"], covariates=["beds"], by="cluster"
    )
    for options in ({}, {"instruments": "by_event_time"}, {"form": "cross_section"}):
        estimator = IV(dose="share", blocks=["block"], **options)
        a, b = (estimator.fit(x, design) for x in (rows, moments))
        np.testing.assert_allclose(a.estimate, b.estimate, rtol=1e-9)
        np.testing.assert_allclose(a.std_error, b.std_error, rtol=1e-8)
        np.testing.assert_allclose(a.frame["ar_low"], b.frame["ar_low"], rtol=1e-7)
    with pytest.raises(vbc.EstimationError, match="products of outcome and dose"):
        IV(dose="share", blocks=["block"], instruments="by_event_time", method="liml").fit(
            moments, design
        )
    with pytest.raises(vbc.DataError, match="no stratum `region`"):
        IV(dose="share", blocks=["region"]).fit(moments, design)
    assert whole.strata == ("block",)


def test_effective_f_is_the_robust_f_with_one_instrument(draw) -> None:
    est = IV(dose="share").fit(panel(draw()), DESIGN)
    first = est.where(estimand="first_stage")
    row = late(est).frame.iloc[0]
    assert row["first_stage_f"] == pytest.approx((first.estimate / first.std_error).item() ** 2)
    # table of Montiel Olea and Pflueger (2013), worst-case bias of ten percent
    assert row["first_stage_critical"] == pytest.approx(23.11, abs=0.005)
    both = effective_f(np.array([0.3, 0.2]), np.diag([40.0, 60.0]), np.diag([1 / 40, 1 / 60]))
    assert both.f == pytest.approx((0.09 * 40 + 0.04 * 60) / 2)
    assert 1 < both.critical < 23.11


def wald(reduced, first, vcov, effect) -> float:
    q = len(first)
    gap = reduced - effect * first
    m = np.hstack([np.eye(q), -effect * np.eye(q)])
    return float(gap @ np.linalg.solve(m @ vcov @ m.T, gap))


@pytest.mark.parametrize("q", [1, 2, 3])
def test_anderson_rubin_sets_hold_what_is_not_rejected(q) -> None:
    rng = np.random.default_rng(q)
    seen = set()
    for strength in (0.05, 0.5, 1.0, 2.0, 6.0) * 6:
        first = strength * rng.standard_normal(q)
        reduced = -2 * first + rng.standard_normal(q)
        root = rng.standard_normal((2 * q, 2 * q + 4)) / np.sqrt(2 * q + 4)
        vcov = root @ root.T
        found = anderson_rubin(reduced, first, vcov, level=0.9, df=np.inf)
        seen.add(found.shape)
        limit = stats.chi2.ppf(0.9, q)
        for effect in np.r_[np.linspace(-40, 40, 161), [-1e4, 1e4]]:
            kept = wald(reduced, first, vcov, effect) <= limit
            inside = found.low <= effect <= found.high
            expected = {
                "interval": inside, "outside": not inside, "line": True, "empty": False,
                "several": kept,
            }[found.shape]  # fmt: skip
            near = np.isfinite(found.low) and min(
                abs(effect - found.low), abs(effect - found.high)
            ) < 1e-6 * max(1, abs(effect))
            assert kept == expected or near
    assert {"interval", "line"} <= seen


def test_weak_instruments_are_said(draw) -> None:
    est = IV(dose="share").fit(panel(draw(strength=0.01)), DESIGN)
    row = late(est).frame.iloc[0]
    assert row["first_stage_f"] < row["first_stage_critical"]
    assert "weak instrument" in row["note"]
    assert any("weak instrument" in w for w in est.meta["warnings"])
    strong = late(IV(dose="share").fit(panel(draw(strength=2.0)), DESIGN)).frame.iloc[0]
    assert strong["note"] == ""
    assert strong["ar_set"] == "interval"


def test_strata_and_missing_values(draw) -> None:
    d = draw().assign(rural=lambda f: np.where(f["hospital"] % 2 == 0, "yes", "no"))
    est = IV(dose="share").fit(panel(d, strata=["rural"]), DESIGN)
    alone = IV(dose="share").fit(panel(d[d["rural"] == "yes"]), DESIGN)
    part = est.where(stratum="rural=yes")
    np.testing.assert_allclose(part.estimate, alone.estimate, rtol=1e-10)
    np.testing.assert_allclose(part.std_error, alone.std_error, rtol=1e-9)
    gap = d.copy()
    gap.loc[3, "spend"] = np.nan
    gap.loc[70, "share"] = np.nan
    with_gaps = IV(dose="share").fit(panel(gap), DESIGN)
    without = IV(dose="share").fit(panel(gap.dropna(subset=["spend", "share"])), DESIGN)
    np.testing.assert_allclose(with_gaps.estimate, without.estimate, rtol=1e-12)
    for vcov in ("HC1", ("two_way", "market", "year")):
        assert np.isfinite(IV(dose="share").fit(panel(d), DESIGN, vcov=vcov).std_error).all()


def test_invariances(draw) -> None:
    d = draw()
    est = IV(dose="share").fit(panel(d), DESIGN)
    moved = d.assign(
        spend=d["spend"] + 7 * d["hospital"] + 3 * d["year"], share=d["share"] + 0.1 * d["hospital"]
    )
    other = IV(dose="share").fit(panel(moved.sample(frac=1, random_state=3)), DESIGN)
    np.testing.assert_allclose(other.estimate, est.estimate, rtol=1e-7)
    np.testing.assert_allclose(other.std_error, est.std_error, rtol=1e-6)
    percent = IV(dose="share").fit(panel(d.assign(share=100 * d["share"])), DESIGN)
    np.testing.assert_allclose(percent.estimate, est.estimate * [1, 100, 0.01], rtol=1e-9)


def test_covariates_that_effects_absorb_are_said(draw) -> None:
    d = draw().assign(size=lambda f: f["hospital"] % 7)
    design = vbc.Design(outcome="spend", covariates=["beds", "size"])
    est = IV(dose="share").fit(panel(d), design)
    assert est.meta["dropped"] == {"size": []}
    assert "covariate `size` was dropped" in est.meta["warnings"][0]
    plain = IV(dose="share").fit(panel(d), vbc.Design(outcome="spend", covariates=["beds"]))
    np.testing.assert_allclose(est.estimate, plain.estimate, rtol=1e-9)


def test_refusals(draw) -> None:
    never = draw().assign(spend=lambda f: f["spend"].where(f["year"] < 2016))
    with pytest.raises(vbc.DataError, match="no row has both `spend` and `share`"):
        IV(dose="share").fit(
            panel(never.assign(share=never["share"].where(never["year"] >= 2016))), DESIGN
        )
    d = draw()
    with pytest.raises(vbc.DesignError, match="`form` is 'rdd'"):
        IV(dose="share", form="rdd")
    with pytest.raises(vbc.DesignError, match="an instrument for each effect already"):
        IV(dose="share", effect="event_time", instruments="by_event_time")
    with pytest.raises(vbc.DataError, match="no column `episodes`"):
        IV(dose="episodes").fit(panel(d), DESIGN)
    with pytest.raises(vbc.EstimationError, match="no 'iid' covariance"):
        IV(dose="share").fit(panel(d), DESIGN, vcov="iid")
    with pytest.raises(vbc.EstimationError, match="one instrument an effect"):
        IV(dose="share", instruments="by_event_time").fit(panel(d), DESIGN, vcov="CR2")
    with pytest.raises(vbc.EstimationError, match="does not move `share`"):
        IV(dose="share").fit(panel(d.assign(share=0.0)), DESIGN)
    with pytest.raises(vbc.DesignError, match="cannot be told from the effects"):
        IV(dose="share", form="cross_section", blocks=["market"]).fit(panel(d), DESIGN)
    with pytest.raises(vbc.DesignError, match="no unit is assigned"):
        IV(dose="share").fit(panel(d.assign(entry=np.nan)), DESIGN)
    with pytest.raises(vbc.DesignError, match="1 cluster"):
        IV(dose="share").fit(
            vbc.Panel.from_frame(d.assign(all=1), **{**KEYS, "cluster": "all"}), DESIGN
        )
    with pytest.raises(vbc.DesignError, match="cannot be told"):
        IV(dose="share").fit(panel(d[d["year"] == 2017]), DESIGN)
