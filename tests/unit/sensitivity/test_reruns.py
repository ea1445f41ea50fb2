"""Leaving out and placebos: against runs by hand, the jackknife, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.errors import DataError, DesignError, EstimationError
from vbceval.sensitivity import leave_one_out, placebo

SPEND = vbc.Design(outcome="spend")


def frame(seed: int = 0, effect: float = -2.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    entry = [2015.0] * 5 + [2016.0] * 4 + [np.nan] * 9
    rows = pd.DataFrame([
        {"aco": f"a{i}", "market": f"m{i % 6}", "year": t, "entry": g}
        for i, g in enumerate(entry) for t in range(2011, 2018)
    ])  # fmt: skip
    own = dict(zip(rows["aco"].unique(), rng.normal(size=18), strict=True))
    rows["spend"] = rows["aco"].map(own) + rng.normal(size=len(rows))
    rows["spend"] += effect * (rows["year"] >= rows["entry"])
    rows["falls"] = rng.normal(size=len(rows))
    return rows


def panel(rows: pd.DataFrame, **options: object) -> vbc.Panel:
    return vbc.Panel.from_frame(rows, unit="aco", period="year", cohort="entry", **options)  # type: ignore[arg-type]  # column names


def simple(p: vbc.Panel, d: vbc.Design) -> vbc.Estimates:
    return vbc.did.GroupTime().fit(p, d).aggregate("simple")


@pytest.mark.parametrize("by", ["cluster", "cohort", "market"])
def test_runs_are_those_by_hand(by: str) -> None:
    rows = frame()
    column = {"cluster": "aco", "cohort": "entry"}.get(by, by)
    found = leave_one_out(simple, panel(rows), SPEND, by=by)
    full = simple(panel(rows), SPEND)
    assert found.estimates["left_out"].tolist() == sorted(rows[column].dropna().unique())
    for row in found.estimates.itertuples():
        run = simple(panel(rows[rows[column] != row.left_out]), SPEND)
        assert row.estimate == pytest.approx(run.estimate[0])
        assert row.std_error == pytest.approx(run.std_error[0])
        joint = vbc.stack([run, full]).contrast(np.array([1.0, -1.0])).tidy().iloc[0]
        assert row.change == pytest.approx(joint["estimate"])
        assert row.change_std_error == pytest.approx(joint["std_error"])
    largest = found.tidy()["change"].abs()
    assert largest.is_monotonic_decreasing


def test_jackknife_of_a_regression_is_cr3() -> None:
    rows = frame(1)
    found = leave_one_out(vbc.did.TWFE().fit, panel(rows), SPEND).jackknife()
    cr3 = vbc.did.TWFE().fit(panel(rows), SPEND, vcov="CR3")
    assert found.std_error[0] == pytest.approx(np.sqrt(17 / 18) * cr3.std_error[0], rel=1e-9)
    assert found.frame["df"].tolist() == [17.0]


def test_what_cannot_be_estimated_is_listed_with_its_reason() -> None:
    rows = frame(2)
    rows = rows[~rows["aco"].isin(["a6", "a7", "a8"])]  # one cluster in the second cohort

    def last_cohort(p: vbc.Panel, d: vbc.Design) -> vbc.Estimates:
        return vbc.did.GroupTime().fit(p, d).aggregate("cohort").where(cohort=2016.0)

    found = leave_one_out(last_cohort, panel(rows), SPEND)
    assert found.failed["left_out"].tolist() == ["a5"]
    assert len(found.failed["reason"].iloc[0]) > 20
    with pytest.raises(EstimationError, match="1 runs failed"):
        found.jackknife()


@pytest.mark.parametrize("given", [vbc.did.GroupTime(), vbc.did.TWFE, 3.0])
def test_an_estimator_is_not_its_method(given) -> None:
    for call in (leave_one_out, placebo, vbc.sensitivity.placebo_in_space):
        with pytest.raises(DesignError, match="must be a function of a panel and a design"):
            call(given, panel(frame()), SPEND)
    for read in (vbc.sensitivity.honest, vbc.sensitivity.pretrends, vbc.sensitivity.multiplicity):
        with pytest.raises(DesignError, match=r"`est` is .* but it must be Estimates"):
            read(given)
    with pytest.raises(DesignError, match=r"`fit\(panel, design\)` is DataFrame"):
        leave_one_out(lambda p, d: simple(p, d).tidy(), panel(frame()), SPEND)


def test_leaving_out_refuses_people_and_parts_of_clusters() -> None:
    rows = frame(3)
    with pytest.raises(DesignError, match="units are people"):
        leave_one_out(simple, panel(rows, people=True), SPEND)
    with pytest.raises(DesignError, match="`year` changes within 18 clusters"):
        leave_one_out(simple, panel(rows), SPEND, by="year")
    with pytest.raises(DesignError, match="no column `county`"):
        leave_one_out(simple, panel(rows), SPEND, by="county")
    with pytest.raises(DesignError, match="other rows"):
        leave_one_out(lambda p, d: vbc.did.GroupTime().fit(p, d), panel(rows), SPEND, by="cohort")


def test_placebo_in_time_is_the_main_analysis_of_untreated_cells() -> None:
    rows = frame(4)
    found = placebo(simple, panel(rows), SPEND, shifts=[1, 2]).tidy()
    for shift, row in zip((1, 2), found.itertuples(), strict=True):
        before = rows[rows["entry"].isna() | (rows["year"] < rows["entry"])]
        run = simple(panel(before.assign(entry=before["entry"] - shift)), SPEND)
        assert row.run == f"entry moved {shift} earlier"
        assert row.estimate == pytest.approx(run.estimate[0])
        assert row.std_error == pytest.approx(run.std_error[0])


def test_placebo_keeps_anticipation_and_leaves_out_cohorts_without_a_base() -> None:
    rows = frame(5)
    rows = rows[(rows["year"] >= 2013) | (rows["entry"] != 2015)]
    design = vbc.Design(outcome="spend", anticipation=1)
    seen = []

    def fit(p: vbc.Panel, d: vbc.Design) -> vbc.Estimates:
        seen.append(p)
        return simple(p, d)

    placebo(fit, panel(rows[rows["year"] >= 2012]), design, shifts=[2])
    kept = seen[0].frame
    # 2015 would enter in 2013 after a base in 2011, which is not seen
    assert kept["entry"].dropna().unique().tolist() == [2014.0]
    assert kept.loc[kept["entry"].notna(), "year"].max() == 2014.0
    with pytest.raises(DesignError, match="entry moved 5 earlier"):
        placebo(fit, panel(rows), design, shifts=[5])


def test_negative_controls_stand_beside_the_rest_jointly() -> None:
    rows = frame(6)
    found = placebo(simple, panel(rows), SPEND, shifts=[1], outcomes=["falls"])
    assert found.frame["run"].tolist() == ["entry moved 1 earlier", "negative control: falls"]
    assert found.frame["outcome"].tolist() == ["spend", "falls"]
    assert 0 < found.wald().p_value <= 1


def test_placebos_hold_their_size_and_the_effect_does_not_leak() -> None:
    """Rejections at 5 % of 80 placebos before a large effect (MC error .024)."""

    def fit(p: vbc.Panel, d: vbc.Design) -> vbc.Estimates:
        return vbc.did.TWFE().fit(p, d, vcov="CR2")

    rejected = []
    for seed in range(80):
        found = placebo(fit, panel(frame(seed, effect=-50.0)), SPEND, shifts=[2])
        rejected.append(found.tidy()["p_value"].iloc[0] < 0.05)
    assert np.mean(rejected) < 0.05 + 3 * 0.024


def test_keep_counts_what_is_left() -> None:
    rows = panel(frame(7))
    kept = rows.keep(rows.frame["year"] > 2014, step="late years")
    assert kept.attrition["step"].tolist() == ["rows given", "late years"]
    assert kept.attrition["rows"].tolist() == [126, 54]
    with pytest.raises(DataError, match="'late years'"):
        rows.keep(rows.frame["year"] > 2020, step="late years")
