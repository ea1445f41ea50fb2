"""What Switching refuses, how it reads treatment paths, and how rows are named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.did.switching.paths import Table, read_paths


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    u, t = np.repeat(np.arange(40), 6), np.tile(np.arange(2011, 2017), 40)
    entry = np.array([2013.0, 2014.0, np.nan, np.nan])[u % 4]
    exit = np.where(u % 8 == 0, entry + 1, np.nan)
    return pd.DataFrame({
        "unit": u, "period": t, "cohort": entry, "exit": exit, "x": rng.standard_normal(240),
        "dose": ((t >= entry) & ~(t > exit)) * 1.0, "region": np.where(u % 3 == 0, "a", "b"),
        "y": rng.standard_normal(240), "pair": u // 2,
    })  # fmt: skip


def fit(data: pd.DataFrame, panel: dict | None = None, design: dict | None = None, **options):
    made = vbc.Panel.from_frame(
        data, unit="unit", period="period", cohort="cohort",
        **{"exit": "exit", "people": False, **(panel or {})},
    )  # fmt: skip
    return vbc.did.Switching(**options).fit(made, vbc.Design(outcome="y", **(design or {})))


def paths(dose: list[list[float]], y: list[list[float]] | None = None, **options):
    d = np.array(dose, dtype=float)
    values = np.zeros_like(d) if y is None else np.array(y, dtype=float)
    n = len(d)
    table = Table(
        np.where(np.isnan(d), np.nan, values), np.where(np.isnan(d), 0.0, 1.0), d,
        np.zeros((*d.shape, 0)), np.arange(n), np.zeros(n, dtype=np.int64), np.arange(n),
    )  # fmt: skip
    return read_paths(table, **{"differences": False, **options})


def test_rows_are_named(frame) -> None:
    table = fit(frame).tidy()
    effects = table[table["estimand"] == "att_event_time"]
    assert effects["event_time"].tolist() == [-3.0, -2.0, 0.0, 1.0, 2.0, 3.0]
    assert effects["horizon"].tolist() == [-2.0, -1.0, 1.0, 2.0, 3.0, 4.0]
    assert set(table["estimand"]) == {"att_event_time", "att_overall"}
    assert (table["n_units"] == table["n_treated"] + table["n_comparison"]).all()


def test_window_in_place_of_counts(frame) -> None:
    window = fit(frame, design={"window": (-3, 1)})
    counts = fit(frame, effects=2, placebos=2)
    np.testing.assert_array_equal(window.estimate, counts.estimate)
    with pytest.raises(vbc.DesignError, match="not both"):
        fit(frame, design={"window": (-3, 1)}, effects=2)


def test_falls_are_reported_apart_with_a_caution() -> None:
    rng = np.random.default_rng(0)
    u, t = np.repeat(np.arange(40), 5), np.tile(np.arange(5), 40)
    start = (u % 4 >= 2) * 1.0
    moved = (u % 2 == 0) & (t >= 2 + (u % 8 >= 4))
    frame = pd.DataFrame({
        "unit": u, "period": t, "cohort": np.nan, "exit": np.nan,
        "dose": np.where(moved, 1 - start, start), "y": rng.standard_normal(200),
    })  # fmt: skip
    found = fit(frame, dose="dose", effects=1)
    assert set(found.frame["estimand"]) == {
        "att_event_time", "att_event_time_in", "att_event_time_out", "att_overall",
        "att_overall_in", "att_overall_out",
    }  # fmt: skip
    assert any("leaving a treatment is a choice" in w for w in found.meta["warnings"])
    alone = fit(frame, dose="dose", effects=1, switchers="out")
    assert set(alone.frame["estimand"]) == {"att_event_time", "att_overall"}
    assert found.meta["changing"]["all"] == 20


def test_paths() -> None:
    nan = np.nan
    found = paths([
        [0, 0, 0, 0, 0, 0],  # never changes
        [0, 0, 1, 1, 0, 0],  # enters and leaves
        [0, 2, 2, 1, 1, 1],
        [1, 1, 1, 0, 0, 0],  # leaves
        [1, 1, 1, 1, 1, 1],
        [0, 1, 1, -1, -1, 1],  # both sides of the status quo: unknown from period 3 on
        [0, 0, nan, 1, 1, 1],  # may have changed in period 2 already: waits until period 1
        [5, 5, 5, 5, 5, 5],  # nobody shares its status quo
    ])  # fmt: skip
    label = found.table.label.tolist()
    assert label == [0, 1, 2, 3, 4, 5, 6]
    assert found.first.tolist() == [6, 2, 1, 3, 6, 1, 6]
    assert found.sign.tolist() == [0, 1, 1, -1, 0, 1, 0]
    assert found.reach.tolist() == [6] * 7
    assert np.isnan(found.table.y[5, 3:]).all()
    assert np.isnan(found.table.y[6, 2:]).all()
    assert not np.isnan(found.table.y[6, :2]).any()
    assert (found.horizons(1), found.horizons(-1)) == (5, 3)
    assert (found.placebos(1), found.placebos(-1)) == (1, 2)


def test_periods_after_all_have_changed_are_left_out() -> None:
    found = paths([[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]])
    assert found.table.y.shape == (3, 2)
    assert found.first.tolist() == [1, 2, 2]
    with pytest.raises(vbc.DesignError, match="no effect can be estimated"):
        paths([[0, 0, 1], [0, 0, 1]])
    with pytest.raises(vbc.DesignError, match="no effect can be estimated"):
        paths([[0, 1, 1], [0, 0, 0]], differences=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"effects": 0}, "`effects` is 0"),
        ({"placebos": -1}, "`placebos` is -1"),
        ({"switchers": "joiners"}, "`switchers` is"),
        ({"cohorts": "unit"}, "`cohorts` is"),
        ({"same_placebo_switchers": True}, "needs same_switchers=True"),
        ({"linear_trends": True, "same_switchers": True}, "same switchers already"),
    ],
)
def test_options(options, message) -> None:
    with pytest.raises(vbc.DesignError, match=message):
        vbc.did.Switching(**options)


def test_what_does_not_apply(frame) -> None:
    with pytest.raises(vbc.DesignError, match="no column `share`"):
        fit(frame, dose="share")
    with pytest.raises(vbc.DesignError, match="`dose` is missing or no number in 6 rows"):
        fit(frame.assign(dose=frame["dose"].where(frame["unit"] > 0)), dose="dose")
    with pytest.raises(vbc.DesignError, match="takes no `anticipation`"):
        fit(frame, design={"anticipation": 1})
    with pytest.raises(vbc.DesignError, match="`base_period`"):
        fit(frame, design={"base_period": "universal"})
    with pytest.raises(vbc.DesignError, match="covariate of the design as well"):
        fit(frame, dose="dose", design={"covariates": ["dose"]})
    with pytest.raises(vbc.DesignError, match="there is 1 cluster"):
        fit(frame.assign(all=1), panel={"cluster": "all"})
    with pytest.raises(vbc.DesignError, match="no group changes treatment"):
        fit(frame, switchers="out")
    with pytest.raises(vbc.DesignError, match="`trends` varies within groups"):
        fit(frame.assign(region=frame["period"] % 2), trends="region")
    panel = vbc.Panel.from_frame(frame, unit="unit", period="period", cohort="cohort")
    with pytest.raises(vbc.EstimationError, match="has its own factor"):
        vbc.did.Switching().fit(panel, vbc.Design(outcome="y"), ssc=vbc.inference.SSC.cluster())


def test_treatment_varies_within_a_group_and_period(frame) -> None:
    rows = pd.concat([frame, frame.assign(dose=frame["dose"] + (frame["unit"] == 7))])
    rows = rows.assign(person=np.arange(len(rows)))
    panel = vbc.Panel.from_frame(
        rows, unit="person", cluster="unit", period="period", cohort="cohort",
        kind="repeated_cross_section",
    )  # fmt: skip
    with pytest.raises(vbc.DesignError, match="treatment varies within a group"):
        vbc.did.Switching(dose="dose").fit(panel, vbc.Design(outcome="y"))
    moments = vbc.Moments.from_panel(panel, outcomes=["y"], covariates=["dose"], by="cluster")
    with pytest.raises(vbc.DesignError, match="varies within cells"):
        vbc.did.Switching(dose="dose").fit(moments, vbc.Design(outcome="y"))


def test_missing_outcomes_and_collinear_covariates(frame) -> None:
    gaps = frame.assign(y=frame["y"].where(frame.index % 11 != 0))
    assert np.isfinite(fit(gaps).estimate).all()
    twice = frame.assign(z=2 * frame["x"])
    found = fit(twice, design={"covariates": ["x", "z"]})
    assert "collinear" in found.meta["warnings"][0]
    alone = fit(frame, design={"covariates": ["x"]})
    np.testing.assert_allclose(found.estimate, alone.estimate, atol=1e-9)
    np.testing.assert_allclose(found.std_error, alone.std_error, rtol=1e-7)


def test_strata_are_fitted_alone_and_jointly(frame) -> None:
    found = fit(frame, panel={"strata": ["region"]}, effects=2, placebos=0)
    alone = fit(frame[frame["region"] == "b"], effects=2, placebos=0)
    part = found.where(stratum="region=b")
    np.testing.assert_allclose(part.estimate, alone.estimate, atol=1e-12)
    np.testing.assert_allclose(part.std_error, alone.std_error, rtol=1e-10)
    gap = found.overall().contrast(
        {"gap": {"stratum == 'region=a'": 1.0, "stratum == 'region=b'": -1.0}}
    )
    assert np.isfinite(gap.std_error).all()


def test_results_stack_with_other_estimators(frame) -> None:
    panel = vbc.Panel.from_frame(frame, unit="unit", period="period", cohort="cohort")
    design = vbc.Design(outcome="y")
    here = vbc.did.Switching(placebos=0).fit(panel, design, vcov="CR0").where(event_time=0)
    there = vbc.did.GroupTime(method="reg").fit(panel, design, vcov="CR0")
    there = there.aggregate("event_time").where(event_time=0)
    both = vbc.stack([here, there], labels=["switching", "group-time"])
    gap = both.contrast({"difference": {0: 1.0, 1: -1.0}})
    assert gap.estimate.item() == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(gap.std_error).item()


def test_no_count_of_few_people_is_shown(frame) -> None:
    found = fit(frame[frame["unit"] < 30], panel={"people": True}, effects=1, placebos=0)
    assert found.frame["n_treated"].notna().all()
    few = fit(frame[frame["unit"] < 20], panel={"people": True}, effects=1, placebos=0)
    assert few.frame["n_treated"].isna().all()
    assert few.frame["n_units"].isna().all()
