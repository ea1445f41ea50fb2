"""The panel of entry: units are ACO-files, differences lie within a file."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import vbceval as vbc
from vbceval.data import MSSPResults, read_mssp
from vbceval.panel import EntryPanel, covered_person_years
from vbceval.simulate.mssp import MSSPFiles


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> MSSPResults:
    folder = MSSPFiles(n_acos=6, seed=4).write(tmp_path_factory.mktemp("mssp"))
    return read_mssp(folder)


def test_same_file_units(results: MSSPResults) -> None:
    panel = EntryPanel().build(results)
    frame = panel.frame
    # the first file of an ACO gives all its years, a later one the pair that is differenced
    first = frame.groupby("aco_id")["performance_year"].transform("min")
    later = frame[frame["performance_year"] != first]
    assert set(later["reference"]) == {"BY3", "PY"}
    assert set(frame["reference"]) == {"BY1", "BY2", "BY3", "PY"}
    assert (frame["calendar_year"] <= 2019).all()
    event_time = frame["calendar_year"] - frame["cohort"]
    assert event_time.between(-3, 1).all()
    weights = frame.groupby(["aco_file", "enrollment_type"])["by3_person_years"].nunique()
    assert (weights == 1).all()
    shares = frame[["share_esrd", "share_disabled", "share_aged_dual"]].sum(axis=1)
    assert shares.between(0, 1).all()


@pytest.mark.parametrize("rule", ["first_file", "last_file"])
def test_other_rules_have_one_row_an_aco_and_year(results: MSSPResults, rule: str) -> None:
    frame = EntryPanel(base_file=rule).build(results).frame
    assert not frame.duplicated(["aco_id", "enrollment_type", "calendar_year"]).any()
    before = frame[frame["reference"] != "PY"]
    assert not before.drop_duplicates(["aco_id", "performance_year"])["aco_id"].duplicated().any()


def test_attrition_only_falls(results: MSSPResults) -> None:
    steps = EntryPanel(hcc_limit=1.05).build(results).attrition
    assert steps["rows"].is_monotonic_decreasing
    assert steps["clusters"].is_monotonic_decreasing
    limited = steps[steps["step"].str.startswith("risk score")]
    assert limited["clusters"].item() < steps["clusters"].iloc[0]


def test_covered_person_years_are_of_treated_years(results: MSSPResults) -> None:
    panel = EntryPanel().build(results)
    table = covered_person_years(panel, results)
    assert set(zip(table["cohort"], table["period"], strict=True)) == {
        (float(g), float(g + e)) for g in range(2013, 2019) for e in (0, 1) if 2014 <= g + e <= 2018
    }
    assert table.notna().all().all()
    assert not table.duplicated(["aco_id", "period"]).any()


def test_half_years_are_no_results(results: MSSPResults) -> None:
    """Rows of 2018 told to be of half a year, as in 2019: their benchmark years stay."""
    part = {"part": lambda d: d["part"].mask(d["performance_year"] == 2018, "january_june")}
    split = replace(
        results, aco_year=results.aco_year.assign(**part), spending=results.spending.assign(**part)
    )
    panel = EntryPanel().build(split)
    rows = panel.frame[panel.frame["performance_year"] == 2018]
    assert "PY" not in set(rows["reference"])
    assert {"BY1", "BY2", "BY3"} <= set(rows["reference"])
    assert "results of whole years" in panel.attrition["step"].tolist()
    assert 2018 not in set(covered_person_years(panel, split)["period"])
    assert "results of whole years" not in EntryPanel().build(results).attrition["step"].tolist()


def test_nothing_left(results: MSSPResults) -> None:
    with pytest.raises(vbc.DesignError, match="no ACO of a first agreement period is left"):
        EntryPanel(first_cohort=2030).build(results)
    with pytest.raises(vbc.DesignError, match="base_file"):
        EntryPanel(base_file="any")


def test_public_files(shared_dir: Path) -> None:
    """Counts of ACOs in the public files, by cohort, found by reading them independently."""
    panel = EntryPanel().build(read_mssp(shared_dir / "data" / "mssp"))
    counts = panel.frame.groupby("cohort")["aco_id"].nunique()
    expected = {2013: 103, 2014: 119, 2015: 89, 2016: 100, 2017: 96, 2018: 123, 2019: 40, 2020: 30}
    assert counts.to_dict() == expected
    treated = panel.frame[panel.frame["reference"] == "PY"]
    pairs = treated.groupby(["cohort", "calendar_year"])["aco_id"].nunique()
    assert pairs[2013, 2014] == 103
    assert pairs[2017, 2018] == 89
    assert isinstance(panel.attrition, pd.DataFrame)
