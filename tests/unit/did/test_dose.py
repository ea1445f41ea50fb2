"""What Dose refuses, its functions of the dose, and how rows are named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.did.dose.basis import make_basis


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    u, t = np.repeat(np.arange(90), 4), np.tile(np.arange(2011, 2015), 90)
    cohort = np.array([2013.0, 2014.0, np.nan])[u % 3]
    share = np.where(np.isnan(cohort), 0.0, rng.uniform(0.1, 1.0, 90)[u])
    return pd.DataFrame({
        "unit": u, "period": t, "cohort": cohort, "share": share, "x": rng.standard_normal(360),
        "y": rng.standard_normal(360), "site": np.where(u % 2 == 0, "a", "b"),
        "step": np.where(np.isnan(cohort), 0.0, 1.0 + u // 3 % 3),
    })  # fmt: skip


def fit(data: pd.DataFrame, panel: dict | None = None, design: dict | None = None, **options):
    made = vbc.Panel.from_frame(
        data, unit="unit", period="period", cohort="cohort", **(panel or {})
    )
    return vbc.did.Dose(**{"dose": "share", **options}).fit(
        made, vbc.Design(outcome="y", **(design or {}))
    )


def test_rows_are_named(frame) -> None:
    table = fit(frame).tidy()
    assert table["estimand"].tolist() == ["att_dose"] * 18 + ["att_overall"]
    assert table["dose"].iloc[:-1].is_monotonic_increasing
    inside = table.iloc[:-1]
    # bands hold over the whole curve
    assert (inside["band_high"] >= inside["conf_high"]).all()
    assert (inside["band_high"] - inside["conf_high"]).max() > 0
    slope = fit(frame, estimand="slope")
    assert slope.frame["estimand"].iloc[-1] == "acrt_overall"
    assert "strong parallel trends" in slope.meta["assumption"]
    assert len(slope.meta["knots"]["all"]) == 0


def test_functions_add_up_to_one_and_reproduce_polynomials() -> None:
    rng = np.random.default_rng(0)
    dose = rng.uniform(0.3, 4.0, 200)
    basis = make_basis(dose, "spline", degree=3, knots=2, bins=3)
    assert basis.size == 6
    np.testing.assert_allclose(basis.knots, np.quantile(dose, [1 / 3, 2 / 3]))
    values, slopes = basis.values(dose), basis.slopes(dose)
    np.testing.assert_allclose(values.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(slopes.sum(axis=1), 0.0, atol=1e-10)
    cubic = np.linalg.lstsq(values, dose**3 - dose, rcond=None)[0]
    np.testing.assert_allclose(values @ cubic, dose**3 - dose, atol=1e-9)
    np.testing.assert_allclose(slopes @ cubic, 3 * dose**2 - 1, atol=1e-8)
    bins = make_basis(dose, "bins", degree=3, knots=0, bins=4)
    np.testing.assert_allclose(bins.values(dose).mean(axis=0), 0.25, atol=0.01)
    given = make_basis(dose, "spline", degree=1, knots=np.array([2.0, 1.0]), bins=3)
    np.testing.assert_array_equal(given.knots, [1.0, 2.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimand": "att"}, "`estimand` is"),
        ({"aggregation": "event_time"}, "`aggregation` is"),
        ({"average": "mean"}, "`average` is"),
        ({"basis": "kernel"}, "`basis` is"),
        ({"degree": 0}, "`degree` is 0"),
        ({"knots": "aic"}, "`knots` is 'aic'"),
        ({"knots": -1}, "`knots` is -1"),
        ({"bins": 1}, "`bins` is 1"),
        ({"basis": "bins", "estimand": "slope"}, "has no slope"),
        ({"bins": "3 bins"}, "`bins` is '3 bins'; use a whole number, 2 or more"),
        ({"degree": 2.5}, "`degree` is 2.5; use a whole number"),
        ({"knots": [np.nan]}, r"`knots` is \[nan\]"),
        ({"grid": 0.5}, "`grid` is 0.5; use a sequence"),
        ({"grid": [0.5, np.nan]}, "use a sequence of doses"),
        ({"grid": []}, "`grid` is empty"),
    ],
)
def test_options(options, message) -> None:
    with pytest.raises(vbc.DesignError, match=message):
        vbc.did.Dose(dose="share", **options)


def test_doses_that_cannot_be_used(frame) -> None:
    after = frame["period"] >= frame["cohort"]
    with pytest.raises(vbc.DesignError, match="no column `dosage`"):
        fit(frame, dose="dosage")
    organizations = {"people": False}
    with pytest.raises(vbc.DesignError, match="missing or no number in 2 rows"):
        fit(frame.assign(share=frame["share"].where((frame["unit"] != 0) | ~after)), organizations)
    with pytest.raises(vbc.DesignError, match="zero or negative") as caught:
        fit(frame.assign(share=frame["share"].where(frame["unit"] != 0, 0.0)))
    assert "make their cohort missing" in str(caught.value)
    with pytest.raises(vbc.DesignError, match="changes in treated periods of 30 units"):
        fit(frame.assign(share=frame["share"] * (frame["period"] - 2000)))
    with pytest.raises(vbc.DesignError, match="Choose `grid` inside"):
        fit(frame, grid=[0.5, 3.0])
    with pytest.raises(vbc.DesignError, match="are no dose of a treated unit"):
        fit(frame, dose="step", basis="discrete", grid=[1.0, 2.5])
    with pytest.raises(vbc.DesignError, match="distinct doses among"):
        fit(frame, basis="discrete")
    with pytest.raises(vbc.DesignError, match="cannot carry a spline"):
        fit(frame, dose="step", degree=3)
    with pytest.raises(vbc.DesignError, match="too few distinct values"):
        fit(frame, dose="step", basis="bins", bins=5)
    with pytest.raises(vbc.DesignError, match="knots must lie inside"):
        fit(frame, knots=[7.0])


def test_what_does_not_apply(frame) -> None:
    with pytest.raises(vbc.EstimationError, match="follows units"):
        fit(frame, {"kind": "repeated_cross_section", "cluster": "unit"})
    with pytest.raises(vbc.DesignError, match="no `fixed_effects`"):
        fit(frame, design={"fixed_effects": ("unit", "period")})
    with pytest.raises(vbc.DesignError, match="there is 1 cluster"):
        fit(frame.assign(all=1), {"cluster": "all"})
    with pytest.raises(vbc.DesignError, match="dose curves cannot be estimated") as caught:
        fit(frame[frame["cohort"].notna()])
    assert "cohort 2013 at period 2014: no comparison unit" in str(caught.value)
    assert "end `window` earlier or leave out these periods" in str(caught.value)
    with pytest.raises(vbc.DesignError, match="collinear"):
        fit(frame.assign(z=2 * frame["x"]), design={"covariates": ["x", "z"]})


def test_a_cohort_without_some_doses(frame) -> None:
    """Levels use the cohorts that have a dose; slopes need the doses below."""
    lost = frame[~((frame["cohort"] == 2014.0) & (frame["step"] == 1.0))]
    level = fit(lost, dose="step", basis="discrete", weights_random=False)
    alone = fit(lost[lost["cohort"] != 2014.0], dose="step", basis="discrete")
    not_yet = level.where(dose=1.0).estimate.item()
    assert np.isfinite(not_yet)
    assert alone.frame["dose"].dropna().tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(vbc.DesignError, match="`2014` lacks doses below"):
        fit(lost, dose="step", basis="discrete", estimand="slope")
    few = frame[~((frame["cohort"] == 2014.0) & (frame["unit"] > 8))]
    with pytest.raises(vbc.DesignError, match="too few or alike"):
        fit(few)


def test_few_treated_and_extrapolation_are_said(frame) -> None:
    found = fit(frame[frame["unit"] < 60], grid=[0.5])
    assert any("fewer than 30 treated clusters" in w for w in found.meta["warnings"])
    narrow = frame.assign(
        share=np.where(frame["cohort"] == 2014.0, 0.4 + frame["share"] / 10, frame["share"])
    )
    assert any("extrapolated" in w for w in fit(narrow, grid=[0.9]).meta["warnings"])


def test_moments_of_rows_and_missing_outcomes(frame) -> None:
    panel = vbc.Panel.from_frame(frame, unit="unit", period="period", cohort="cohort")
    moments = vbc.Moments.from_panel(panel, outcomes=["y"], covariates=["share"])
    found = vbc.did.Dose(dose="share", grid=[0.3, 0.7]).fit(moments, vbc.Design(outcome="y"))
    np.testing.assert_allclose(found.estimate, fit(frame, grid=[0.3, 0.7]).estimate, atol=1e-12)
    gaps = frame.assign(y=frame["y"].where(frame.index % 13 != 0))
    assert np.isfinite(fit(gaps, grid=[0.3, 0.7]).estimate).all()


def test_strata_are_fitted_alone_and_jointly(frame) -> None:
    options = {"degree": 1, "grid": [0.4, 0.7]}
    found = fit(frame, {"strata": ["site"]}, **options)
    alone = fit(frame[frame["site"] == "b"], **options)
    part = found.where(stratum="site=b")
    np.testing.assert_allclose(part.estimate, alone.estimate, atol=1e-12)
    np.testing.assert_allclose(part.std_error, alone.std_error, rtol=1e-10)
    gap = found.where(dose=0.4).contrast(
        {"gap": {"stratum == 'site=a'": 1.0, "stratum == 'site=b'": -1.0}}
    )
    assert np.isfinite(gap.std_error).all()


def test_bootstrap_and_small_sample_factors(frame) -> None:
    panel = vbc.Panel.from_frame(frame, unit="unit", period="period", cohort="cohort")
    estimator = vbc.did.Dose(dose="share", degree=1, grid=[0.3, 0.7])
    design = vbc.Design(outcome="y")
    none, one = (estimator.fit(panel, design, vcov=v) for v in ("CR0", "CR1"))
    np.testing.assert_allclose(one.vcov(), none.vcov() * 90 / 89, rtol=1e-12)
    drawn = estimator.fit(panel, design, vcov=vbc.inference.Multiplier(draws=4000))
    np.testing.assert_allclose(drawn.std_error, none.std_error, rtol=0.12)


def test_no_count_of_few_people_is_shown(frame) -> None:
    found = fit(frame[frame["unit"] < 30], {"people": True}, degree=1, grid=[0.5])
    assert found.frame[["n_units", "n_treated"]].isna().all().all()
    pairs = fit(frame[frame["unit"] < 30], {"people": True}, degree=1, aggregation="group_time")
    assert pairs.frame[["n_units", "n_treated"]].isna().all().all()
    assert fit(frame, {"people": True}, grid=[0.5]).frame["n_treated"].eq(60).all()


def test_numbers_of_numpy_and_options_that_are_not_read(frame) -> None:
    found = fit(frame, knots=np.int64(1), degree=2.0, grid=np.array([0.5]))
    np.testing.assert_array_equal(
        found.estimate, fit(frame, knots=1, degree=2, grid=[0.5]).estimate
    )
    assert not any("not used" in w for w in found.meta["warnings"])
    pairs = fit(frame, aggregation="group_time", grid=[99.0], average="simple", degree=1)
    said = [w for w in pairs.meta["warnings"] if "not used" in w or "extrapolated" in w]
    assert sorted(said) == [
        f"`{name}` is an option of aggregation='dose' and was not used."
        for name in ("average", "grid")
    ]
    assert any("`knots`" in w for w in fit(frame, basis="bins", knots=2).meta["warnings"])


def test_no_treated_period_and_windows_before_entry(frame) -> None:
    """With anticipation a cohort may be compared before its first treated period, where no dose is."""
    early = frame[frame["period"] < frame["cohort"].min()]
    with pytest.raises(vbc.DesignError, match="no treated unit is seen in or after"):
        fit(early, design={"anticipation": 1})
    with pytest.raises(vbc.DesignError, match="no period at or after entry lies in `window`"):
        fit(frame, design={"window": (-2, -1)})
    whole = fit(frame, aggregation="group_time", degree=1)
    leads = fit(frame, design={"window": (-2, -1)}, aggregation="group_time", degree=1)
    before = whole.where("event_time < 0 and event_time >= -2")
    np.testing.assert_allclose(leads.estimate, before.estimate, atol=1e-12)
    np.testing.assert_allclose(leads.std_error, before.std_error, rtol=1e-10)


def test_one_cluster_a_side_shows_no_error(frame) -> None:
    """The sum over a cluster of distances to the curve is rounding, and no standard error."""
    sides = frame.assign(side=frame["cohort"].notna().astype(int))
    sides = sides[sides["cohort"] != 2014.0]
    for options in ({}, {"estimand": "slope"}, {"aggregation": "group_time"}):
        grid = {} if "aggregation" in options else {"grid": [0.5]}
        table = fit(sides, {"cluster": "side", "people": False}, degree=2, **options, **grid).tidy()
        assert table["estimate"].notna().all()
        assert table[["std_error", "p_value"]].isna().all().all()


def test_doses_that_differ_by_rounding_are_one(frame) -> None:
    clean = frame.assign(step=frame["step"].replace({1.0: 0.3}))
    noisy = clean.assign(
        step=clean["step"].where((clean["unit"] % 2 > 0) | (clean["step"] != 0.3), 0.1 + 0.2)
    )
    noisy["step"] = noisy["step"].where(noisy.index % 5 > 0, noisy["step"] * (1 + 2e-16))
    assert noisy.loc[noisy["cohort"].notna(), "step"].nunique() > 3
    one, two = (fit(f, dose="step", basis="discrete") for f in (clean, noisy))
    np.testing.assert_allclose(two.frame["dose"], one.frame["dose"], rtol=1e-12)
    np.testing.assert_allclose(two.estimate, one.estimate, rtol=1e-10)
    assert fit(noisy, dose="step", basis="discrete", grid=[0.3, 2.0]).estimate[0] == pytest.approx(
        one.estimate[0]
    )


def test_the_criterion_of_an_exact_fit(frame) -> None:
    """The logarithm of no residual at all chose knots with a warning of numpy."""
    flat = fit(frame.assign(y=1.0), degree=1, knots="bic", grid=[0.5])
    assert flat.meta["knots"]["all"] == []
    with pytest.raises(vbc.DesignError, match=r"knots 0\.5, 0\.5 are not all different"):
        fit(frame, knots=[0.5, 0.5])
