"""Which rows a regression uses and counts: singletons, windows, shares, two periods."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.inference import SSC

DID = vbc.did
Y = vbc.Design(outcome="y")


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    u, t = np.repeat(np.arange(40), 6), np.tile(np.arange(2011, 2017), 40)
    cohort = np.array([2013.0, 2014.0, np.nan, np.nan])[np.arange(40) % 4][u]
    return pd.DataFrame({
        "unit": u, "market": u % 4 + 4 * (u // 12), "period": t, "cohort": cohort,
        "x": rng.standard_normal(40)[u], "w": rng.uniform(0.5, 2, 40)[u],
        "y": rng.standard_normal(240) + u - 1.0 * (t >= cohort),
    })  # fmt: skip


def panel_of(frame: pd.DataFrame, **options) -> vbc.Panel:
    return vbc.Panel.from_frame(frame, unit="unit", period="period", cohort="cohort", **options)


def errors(est: vbc.Estimates) -> np.ndarray:
    return np.sqrt(np.diag(est.vcov()))


@pytest.mark.parametrize("estimator", [DID.TWFE, DID.EventStudy, DID.ETWFE, DID.SunAbraham])
def test_singletons_as_reghdfe_counts_them(frame, estimator) -> None:
    """Dropping one row can make another row single: of a period that two units are seen in."""
    # unit 1 is seen in 2020 only, unit 3 in 2020 and 2011: without the first row, 2020 has one left
    data = frame[(frame["unit"] != 1) & ((frame["unit"] != 3) | (frame["period"] == 2011))]
    late = frame[frame["unit"].isin([2, 3]) & (frame["period"] == 2012)].assign(period=2020)
    data = pd.concat([data, late.assign(unit=late["unit"].replace(2, 1), cohort=np.nan)])
    rest = data.copy()
    while True:
        counts = [rest.groupby(k)["y"].transform("size") for k in ("unit", "period")]
        if (np.minimum(*counts) > 1).all():
            break
        rest = rest[np.minimum(*counts) > 1]
    assert len(rest) == len(data) - 3
    kept = estimator().fit(panel_of(data), Y)
    dropped = estimator(singletons="drop").fit(panel_of(data), Y)
    direct = estimator().fit(panel_of(rest), Y)
    np.testing.assert_allclose(dropped.estimate, kept.estimate, atol=1e-10)
    np.testing.assert_allclose(dropped.vcov(), direct.vcov(), atol=1e-12)
    np.testing.assert_array_equal(dropped.frame["df"], direct.frame["df"])
    assert dropped.meta["singleton_rows"] == len(data) - len(rest)
    assert not np.allclose(errors(kept), errors(dropped), rtol=1e-6)
    if estimator in (DID.ETWFE, DID.SunAbraham):
        np.testing.assert_allclose(dropped.shares.value, direct.shares.value)


def test_refused_singletons(frame) -> None:
    with pytest.raises(vbc.DesignError, match="'keep' or 'drop'"):
        DID.TWFE(singletons="ignore")
    once = frame[frame["period"] == 2011 + frame["unit"] % 6]
    design = vbc.Design(outcome="y", fixed_effects=("unit",))
    with pytest.raises(vbc.DesignError, match="leaves none"):
        DID.TWFE(singletons="drop").fit(panel_of(once), design)
    random = DID.ETWFE(singletons="drop", weights_random=True)
    with pytest.raises(vbc.EstimationError, match="weights_random=False"):
        random.fit(panel_of(frame), vbc.Design(outcome="y", covariates=["x"]))


def test_static_triple_difference_has_the_rows_of_twfe(frame) -> None:
    """In two strata with nothing in the other, it is the coefficient of the first."""
    both = pd.concat([frame.assign(site="b"), frame.assign(site="a", y=0.0)])
    design = vbc.Design(outcome="y", anticipation=1, window=(0, 1))
    one = DID.TripleDifference(by="site", effect="static").fit(
        panel_of(both, strata=["site"]), design
    )
    two = DID.TripleDifference(by="site", effect="static").fit(panel_of(both, strata=["site"]), Y)
    e = both["period"] - both["cohort"]
    rest = both[~((e == -1) | (e > 1))]
    direct = DID.TripleDifference(by="site", effect="static").fit(
        panel_of(rest, strata=["site"]), Y
    )
    assert one.estimate.item() == pytest.approx(direct.estimate.item(), rel=1e-12)
    assert one.estimate.item() != pytest.approx(two.estimate.item(), rel=1e-3)


def test_what_shares_of_a_stack_count(frame) -> None:
    """Rows, weight or clusters of the reference period; clusters hold one to three units here."""
    data = frame[(frame["market"] != 1) | (frame["unit"] < 4)]
    panel = panel_of(data, cluster="market", weight="w")
    design = vbc.Design(outcome="y", window=(-2, 1), comparison="never_treated")
    at = {g: data[data["period"] == g - 1] for g in (2013, 2014)}
    count = {
        "rows": lambda f: len(f), "weight": lambda f: f["w"].sum(),
        "clusters": lambda f: f["market"].nunique(),
    }  # fmt: skip
    found = {}
    for share, size in count.items():
        est = DID.Stacked(share=share).fit(panel, design)
        treated = np.array([size(f[f["cohort"] == g]) for g, f in at.items()])
        controls = np.array([size(f[f["cohort"].isna()]) for f in at.values()])
        expected = treated / treated.sum() / (controls / controls.sum())
        np.testing.assert_allclose(list(est.meta["control_weights"].values()), expected)
        found[share] = tuple(expected)
    assert len(set(found.values())) == 3
    assert DID.Stacked() == DID.Stacked(share="rows")


def test_two_periods_are_a_regression_of_changes(frame) -> None:
    """The two-period estimator and long differences, by hand on changes of units."""
    design = vbc.Design(outcome="y", covariates=["x_after"])
    for before, after in ((2012, 2013), (2011, 2016)):
        data = frame[frame["period"].isin([before, after]) & (frame["cohort"] != 2014)]
        data = data.assign(x_after=data["x"] * (data["period"] == after))
        est = DID.TWFE().fit(panel_of(data, weight="w"), design, ssc=SSC.cluster())
        wide = data.pivot_table(index="unit", columns="period", values="y")
        first = data.groupby("unit").first()
        w = first["w"].to_numpy()
        x = np.column_stack([first["cohort"].notna(), np.ones(len(w)), first["x"]]).astype(float)
        change = (wide[after] - wide[before]).to_numpy()
        inverse = np.linalg.inv(x.T @ (w[:, None] * x))
        beta = inverse @ x.T @ (w * change)
        psi = (w * (change - x @ beta))[:, None] * x @ inverse
        assert est.estimate.item() == pytest.approx(beta[0], rel=1e-10)
        assert errors(est).item() == pytest.approx(
            np.linalg.norm(psi[:, 0]) * np.sqrt(len(w) / (len(w) - 1)), rel=1e-10
        )


def test_slopes_are_no_levels_of_an_effect(frame) -> None:
    """Two-way factors count the slopes of cohorts and periods, whatever values covariates take."""
    data = frame.assign(x=-100.0 * frame["x"])
    design = vbc.Design(outcome="y", covariates=["x"])
    two_way = ("two_way", "unit", "period")
    plain = DID.ETWFE().fit(panel_of(data), design, vcov=two_way, ssc=SSC.none())
    scaled = DID.ETWFE().fit(panel_of(data), design, vcov=two_way)
    # 7 effects and their slopes, 5 slopes of periods, the constant; those of cohorts are absorbed
    n, g, k = 240, 6, 7 + 7 + 5 + 1
    np.testing.assert_allclose(
        scaled.vcov(), plain.vcov() * g / (g - 1) * (n - 1) / (n - k), rtol=1e-9, atol=1e-13
    )


def test_rows_of_the_wild_bootstrap_are_those_of_one_outcome(frame) -> None:
    data = frame.assign(v=frame["y"] ** 2)
    fit = DID.EventStudy().fit
    wild = vbc.inference.Wild(draws=299)
    both = fit(panel_of(data), Y, vcov=wild, outcomes=["y", "v"])
    names = ["wild_p_value", "wild_low", "wild_high", "wild_distinct"]
    for outcome in ("y", "v"):
        alone = fit(panel_of(data), vbc.Design(outcome=outcome), vcov=wild)
        together = both.where(outcome=outcome)
        np.testing.assert_allclose(together.frame[names], alone.frame[names], rtol=1e-9)
    assert (alone.frame["wild_distinct"].dropna() <= 299).all()


def test_singletons_leave_no_column_of_rounding_errors(frame) -> None:
    """A category that only rows alone had is constant without them, and counts no parameter."""
    data = frame.assign(flag=0.0)
    alone = data[data["unit"] == 5].head(1).assign(unit=99, flag=1.0, cohort=np.nan)
    data = pd.concat([data, alone])
    drop = DID.TWFE(singletons="drop")
    plain = drop.fit(panel_of(data, weight="w"), Y, vcov="iid")
    found = drop.fit(
        panel_of(data, weight="w"), vbc.Design(outcome="y", covariates=["flag"]), vcov="iid"
    )
    assert found.meta["dropped"] == {"flag": []}
    assert found.frame["df"].tolist() == plain.frame["df"].tolist()
    np.testing.assert_allclose(found.vcov(), plain.vcov(), rtol=1e-12)


@pytest.mark.parametrize("estimator", [DID.EventStudy(), DID.ETWFE(), DID.SunAbraham()])
def test_last_period_is_that_of_the_rows_of_a_regression(frame, estimator) -> None:
    """Without the last period of an outcome or a stratum, those who enter then never enter."""
    data = frame.assign(cohort=frame["cohort"].replace(2014.0, 2016.0), dual="no")
    other = data.assign(dual="yes", y=data["y"] + 1.5 * data["x"] * data["period"])
    other = other[other["period"] < 2016]
    data = pd.concat([data, other]).assign(gap=lambda d: d["y"].where(d["period"] < 2016))
    design = vbc.Design(outcome="gap", covariates=["x"])
    rows = panel_of(data, strata=["dual"])
    found = estimator.fit(rows, design)
    short = panel_of(data[data["gap"].notna()], strata=["dual"])
    for same in (
        estimator.fit(short, design),
        estimator.fit(
            vbc.Moments.from_panel(rows, outcomes=["gap", "y"], covariates=["x"]), design
        ),
    ):
        np.testing.assert_allclose(found.estimate, same.estimate, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(found.vcov(), same.vcov(), atol=1e-10)
    stratum = estimator.fit(rows, vbc.Design(outcome="y", covariates=["x"])).by("dual")
    stratum = stratum.where(stratum.frame["stratum"] == "dual=yes")
    alone = estimator.fit(panel_of(other), vbc.Design(outcome="y", covariates=["x"]))
    np.testing.assert_allclose(stratum.estimate, alone.estimate, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(stratum.vcov(), alone.vcov(), atol=1e-9)


def test_cr3_names_a_covariate_that_one_cluster_decides(frame) -> None:
    data = frame.assign(only=((frame["unit"] == 7) & (frame["period"] > 2013)).astype(float))
    design = vbc.Design(outcome="y", covariates=["only"])
    with pytest.raises(vbc.EstimationError, match="`only` cannot be estimated"):
        DID.TWFE(covariate_rows=True).fit(panel_of(data), design, vcov="CR3")
