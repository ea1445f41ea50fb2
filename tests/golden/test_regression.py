"""The regression family against R fixest, etwfe, clubSandwich, fwildclusterboot and its authors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.did.blocks import Block
from vbceval.did.covariances import ClusterProducts
from vbceval.did.least_squares import Cells, Fit, Groups, least_squares
from vbceval.did.regressors import Term, regressors
from vbceval.inference import SSC
from vbceval.inference.bias_reduced import bias_reduced
from vbceval.inference.wild import Wild, wild_tests

DINS = vbc.Design(outcome="dins")


@pytest.fixture(scope="module")
def golden(shared_dir: Path):
    def load(case: str) -> dict[str, dict]:
        spec = json.loads((shared_dir / "golden" / "expected" / f"{case}.json").read_text())
        return {row["term"]: row for row in spec["expected"]}

    return load


@pytest.fixture(scope="module")
def table(shared_dir: Path):
    return lambda name: pd.read_csv(shared_dir / "golden" / "data" / f"{name}.csv")


def errors(est: vbc.Estimates) -> np.ndarray:
    return np.sqrt(np.diag(est.vcov()))


def medicaid(frame: pd.DataFrame, **options) -> vbc.Panel:
    return vbc.Panel.from_frame(frame, unit="stfips", period="year", cohort="yexp2", **options)


@pytest.mark.parametrize(
    ("term", "options"),
    [
        ("post fixef.K = nested", {}),
        ("post fixef.K = none", {"ssc": SSC.cluster()}),
        ("post fixef.K = full", {"ssc": SSC.statsmodels()}),
        ("post no small-sample factor", {"vcov": "CR0"}),
        ("post two-way clustered stfips+year", {"vcov": ("two_way", "stfips", "year")}),
    ],
)
def test_fixest_small_sample_factors(golden, table, term, options) -> None:
    expected = golden("r_fixest_ehec_ssc")[term]
    est = vbc.did.TWFE().fit(medicaid(table("ehec_data")), DINS, **options)
    np.testing.assert_allclose(est.estimate, expected["estimate"], atol=1e-9)
    np.testing.assert_allclose(errors(est), expected["se"], atol=1e-9)


def test_fixest_weights(golden, table) -> None:
    expected = golden("r_fixest_ehec_ssc")["post weighted by W, default"]
    est = vbc.did.TWFE().fit(medicaid(table("ehec_data"), weight="W"), DINS)
    np.testing.assert_allclose(est.estimate, expected["estimate"], atol=1e-9)
    np.testing.assert_allclose(errors(est), expected["se"], atol=1e-9)


def test_clubsandwich_panel(golden, table) -> None:
    """CR2 and Satterthwaite degrees of freedom, with state effects eliminated."""
    expected = golden("r_cr2_ehec_twfe")
    frame = table("ehec_data")
    late = frame[frame["yexp2"].isna() | (frame["yexp2"] >= 2016)]
    cases = {
        "post": (frame, "CR2", None),
        "few treated states (expanded 2016-2019): post": (late, "CR2", None),
    }
    for name, (rows, vcov, ssc) in cases.items():
        est = vbc.did.TWFE().fit(medicaid(rows), DINS, vcov=vcov, ssc=ssc)
        row = expected[f"{name} {vcov}"]
        np.testing.assert_allclose(est.estimate, row["estimate"], rtol=1e-10)
        np.testing.assert_allclose(errors(est), row["se"], rtol=1e-9)
        np.testing.assert_allclose(est.frame["df"], row["df_satterthwaite"], rtol=1e-8)
        np.testing.assert_allclose(est.tidy()["p_value"], row["p"], rtol=1e-7)
    est = vbc.did.TWFE().fit(medicaid(late), DINS, ssc=SSC.statsmodels())
    row = expected["few treated states (expanded 2016-2019): post CR1S"]
    np.testing.assert_allclose(errors(est), row["se"], rtol=1e-9)


@pytest.fixture(scope="module")
def voters(table) -> tuple[Fit, Groups, np.ndarray]:
    """A cross-section: treatment, income and two categories, in 40 clusters."""
    needed = ["proposition_vote", "treatment", "log_income", "Q1_immigration", "Q2_defense"]
    frame = table("voters").dropna(subset=needed)
    n, zero = len(frame), np.zeros(len(frame), dtype=np.int64)
    x = frame[["treatment", "log_income"]].to_numpy(dtype=float)
    codes, labels = pd.factorize(frame["group_id1"], sort=True)
    terms = [Term(zero, ("constant",), "effect")]
    for name in needed[3:]:
        level = pd.Categorical(frame[name].astype(str))
        names = tuple(level.categories)
        terms.append(Term(level.codes.astype(np.int64) - 1, names[1:], "effect"))
    terms.append(Term(zero, ("log_income",), "covariate", 1, np.full(n, x[:, 1].mean())))
    terms.append(Term(zero, ("treatment",), "treatment", 0))
    block = Block(
        unit=np.arange(n), cluster=codes, entity=np.arange(n), cohort=np.full(n, np.nan),
        period=np.zeros(n), y=np.zeros(n), x=x, w=np.ones(n), xx=None, xy=None,
        names=("treatment", "log_income"), factors=(-1, -1),
    )  # fmt: skip
    y = frame["proposition_vote"].to_numpy(dtype=float)[:, None]
    cells = Cells(block, y, None, None, np.ones(n, dtype=np.int64), None)
    fit = least_squares(cells, regressors(block, terms))
    contrast = np.zeros((len(fit.z.names), 2))
    contrast[-1, 0] = contrast[-2, 1] = 1.0
    return fit, Groups(codes, len(labels)), contrast


@pytest.mark.parametrize("kind", ["CR0", "CR2", "CR3"])
def test_clubsandwich_cross_section(golden, voters, kind) -> None:
    fit, groups, contrast = voters
    made = bias_reduced(
        ClusterProducts(fit, groups.n), fit.inverse, contrast, kind, [fit.scores(groups)[0]]
    )
    se = np.linalg.norm(made.influence[0], axis=0)
    for i, name in enumerate(("treatment", "log_income")):
        row = golden("r_cr2_voters")[f"{name} {kind}"]
        assert (contrast.T @ fit.beta)[i, 0] == pytest.approx(row["estimate"], rel=1e-10)
        assert se[i] == pytest.approx(row["se"], rel=1e-9)
        assert made.df[i] == pytest.approx(row["df_satterthwaite"], rel=1e-8)


@pytest.mark.parametrize(("name", "ssc"), [("CR1", SSC.cluster()), ("CR1S", SSC.statsmodels())])
def test_cluster_factors_of_a_cross_section(golden, voters, name, ssc) -> None:
    fit, groups, contrast = voters
    psi = fit.scores(groups)[0] @ (fit.inverse @ contrast)
    factor = ssc.factor(n_clusters=groups.n, n_rows=fit.n_rows, n_params=fit.n_full)
    expected = [golden("r_cr2_voters")[f"{v} {name}"]["se"] for v in ("treatment", "log_income")]
    np.testing.assert_allclose(np.linalg.norm(psi, axis=0) * factor**0.5, expected, rtol=1e-9)


def test_wild_bootstrap(golden, voters) -> None:
    fit, groups, contrast = voters
    row = golden("wild_voters")["treatment"]
    direction = (fit.inverse @ contrast)[:, [0]]
    (part,) = (x.toarray() for x in fit.products(direction, groups))
    draws, law = Wild(weights="rademacher").multipliers(groups.n)
    assert law == "rademacher"
    ((found,),) = wild_tests(
        [fit.scores(groups)[0].toarray()], [part], fit.inverse, contrast[:, :1],
        contrast[:, :1].T @ fit.beta, draws, level=0.95,
    )  # fmt: skip
    factor = SSC.statsmodels().factor(n_clusters=groups.n, n_rows=fit.n_rows, n_params=fit.n_full)
    assert found.t / factor**0.5 == pytest.approx(row["t"], abs=6e-4)
    assert found.p_value == pytest.approx(row["p"], abs=1e-3)
    assert found.low == pytest.approx(row["lower"], abs=2e-3)
    assert found.high == pytest.approx(row["upper"], abs=2e-3)


@pytest.mark.parametrize(
    ("term", "effects", "keys"),
    [
        ("x1 no FE, cluster id", (), ("id",)),
        ("x1 | period, cluster id", ("period",), ("id",)),
        ("x1 | period, cluster period", ("period",), ("period",)),
        ("x1 | period, two-way id+period", ("period",), ("id", "period")),
    ],
)
def test_one_regression_under_several_clusters(golden, table, term, effects, keys) -> None:
    """A covariate's coefficient, with treatment constant and left out by having no cell."""
    frame = table("base_did")
    row = golden("fixest_base_did_ses")[term]
    n = len(frame)
    zero = np.zeros(n, dtype=np.int64)
    period = frame["period"].astype(int).to_numpy() - 1
    x = frame[["x1"]].to_numpy(dtype=float)
    block = Block(
        unit=zero, cluster=zero, entity=zero, cohort=np.full(n, np.nan), period=period * 1.0,
        y=np.zeros(n), x=x, w=np.ones(n), xx=None, xy=None, names=("x1",), factors=(-1,),
    )  # fmt: skip
    terms = [Term(zero, ("constant",), "effect"), Term(zero, ("x1",), "treatment", 0)]
    if effects:
        terms.append(Term(period - 1, tuple(f"p{i}" for i in range(2, 11)), "effect"))
    cells = Cells(block, frame[["y"]].to_numpy(dtype=float), None, None, zero + 1, None)
    fit = least_squares(cells, regressors(block, terms))
    direction = fit.inverse[:, [-1]]
    codes = {"id": frame["id"].factorize()[0], "period": period}
    parts = [([k], 1.0) for k in keys] + ([(list(keys), -1.0)] if len(keys) == 2 else [])
    # the period effects are nested when errors are clustered by period
    params = 2 if "period" in keys or not effects else fit.n_full
    smallest = min(len(np.unique(codes[k])) for k in keys)
    factor = SSC.fixest().factor(n_clusters=smallest, n_rows=n, n_params=params)
    variance = 0.0
    for names, sign in parts:
        joint = pd.MultiIndex.from_arrays([codes[k] for k in names]).factorize()[0]
        psi = fit.influence(0, direction, Groups(joint, int(joint.max()) + 1))
        variance += sign * float(np.sum(psi**2)) * factor
    assert fit.beta[-1, 0] == pytest.approx(row["estimate"], abs=6e-7)
    assert variance**0.5 == pytest.approx(row["se"], abs=6e-7)


def test_sun_abraham(golden, table) -> None:
    expected = golden("r_fixest_base_stagg_sunab_cluster")
    panel = vbc.Panel.from_frame(
        table("base_stagg"), unit="id", period="year", cohort="year_treated", never=10000
    )
    design = vbc.Design(outcome="y", covariates=["x1"])
    est = vbc.did.SunAbraham().fit(panel, design)
    average = est.aggregate("event_time")
    average = average.where((average.frame["estimand"] == "att_event_time").to_numpy())
    checked = 0
    for row, se in zip(average.frame.itertuples(), errors(average), strict=True):
        if row.event_time == -1:
            assert row.estimate == 0
            continue
        known = expected[f"year::{row.event_time:.0f}"]
        assert row.estimate == pytest.approx(known["estimate"], abs=1e-10)
        assert se == pytest.approx(known["se"], abs=1e-10)
        checked += 1
    assert checked == 17
    simple = est.aggregate("simple")
    assert simple.estimate.item() == pytest.approx(expected["ATT"]["estimate"], abs=1e-10)
    assert errors(simple).item() == pytest.approx(expected["ATT"]["se"], abs=1e-10)
    slope = vbc.did.SunAbraham(covariate_rows=True).fit(panel, design).where(term="x1")
    assert slope.estimate.item() == pytest.approx(expected["x1"]["estimate"], abs=1e-10)
    assert errors(slope).item() == pytest.approx(expected["x1"]["se"], abs=1e-10)


@pytest.fixture(scope="module")
def wages(table) -> vbc.Panel:
    return vbc.Panel.from_frame(
        table("mpdta"), unit="countyreal", period="year", cohort="first.treat", never=0
    )


def test_etwfe(golden, wages) -> None:
    """R differentiates margins numerically: its standard errors agree to 1e-6."""
    design = vbc.Design(outcome="lemp", covariates=["lpop"], fixed_effects=("cohort", "period"))
    est = vbc.did.ETWFE().fit(wages, design)
    checked = 0
    for kind, key, name in (
        ("simple", None, "simple"), ("event_time", "event_time", "event"),
        ("cohort", "cohort", "group"), ("period", "period", "calendar"),
    ):  # fmt: skip
        average = est.aggregate(kind)
        for row, se in zip(average.frame.itertuples(), errors(average), strict=True):
            if row.estimand == "att_overall":
                continue
            term = name if key is None else f"{name}[{getattr(row, key):.0f}]"
            known = golden("etwfe_mpdta")[term]
            assert row.estimate == pytest.approx(known["estimate"], abs=1e-11)
            assert se == pytest.approx(known["se"], rel=1e-6)
            checked += 1
    assert checked == 12


def test_effects_of_units_and_of_cohorts_agree_on_a_balanced_panel(wages) -> None:
    fits = [
        vbc.did.ETWFE().fit(
            wages, vbc.Design(outcome="lemp", covariates=["lpop"], fixed_effects=effects),
            vcov="CR0",
        )
        for effects in (None, ("cohort", "period"))
    ]  # fmt: skip
    np.testing.assert_allclose(fits[0].estimate, fits[1].estimate, atol=1e-12)
    np.testing.assert_allclose(fits[0].influence(), fits[1].influence(), atol=1e-12)


def test_sun_abraham_equals_never_treated_group_time(wages) -> None:
    design = vbc.Design(outcome="lemp", comparison="never_treated", base_period="universal")
    direct = vbc.did.GroupTime(method="reg").fit(wages, design, ssc=SSC.none())
    interacted = vbc.did.SunAbraham().fit(wages, design, vcov="CR0")
    keys = ["cohort", "period"]
    pd.testing.assert_frame_equal(direct.frame[keys], interacted.frame[keys])
    np.testing.assert_allclose(interacted.estimate, direct.estimate, atol=1e-12)
    np.testing.assert_allclose(errors(interacted), errors(direct), atol=1e-12)


def test_stacked(golden, table) -> None:
    expected = golden("stacked_wing_acs")
    panel = vbc.Panel.from_frame(
        table("acs1860_unins"), unit="statefip", period="year", cohort="adopt_year"
    )
    est = vbc.did.Stacked().fit(panel, vbc.Design(outcome="unins", window=(-3, 2)))
    for row, se in zip(est.frame.itertuples(), errors(est), strict=True):
        if row.event_time == -1:
            continue
        average = row.estimand == "att_overall"
        known = expected["average post" if average else f"event[{row.event_time:.0f}]"]
        # printed to seven decimals, and to three digits
        for value, printed in ((row.estimate, known["estimate"]), (se, known["se"])):
            digit = 1e-7 if average else 10 ** (np.floor(np.log10(abs(printed))) - 2)
            assert value == pytest.approx(printed, abs=0.51 * digit)
    for year, weight in est.meta["control_weights"].items():
        known = expected[f"control weight {year:.0f}"]["estimate"]
        assert weight == pytest.approx(known, abs=6e-8)
    assert est.meta["rows_in_stack"] == expected["rows in stack"]["estimate"]
    assert set(est.meta["dropped_cohorts"]) == {2020.0, 2021.0}
