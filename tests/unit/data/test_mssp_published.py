"""Facts of the published files, where they are at hand."""

from __future__ import annotations

import numpy as np
import pytest

from vbceval.data import MSSPResults, read_mssp

# benchmark minus expenditure and payments in US dollars, ACOs, ACOs paid, assigned people
PUBLISHED = {
    2014: (291_477_825, 341_246_303, 333, 86, 5_329_831),
    2015: (429_254_690, 645_543_866, 392, 119, 7_270_233),
    2016: (651_943_656, 691_275_105, 432, 134, 7_884_058),
    2017: (1_094_544_357, 780_803_976, 472, 159, 8_992_886),
    2018: (1_705_772_773, 966_394_386, 548, 205, 10_096_874),
    2020: (4_144_939_908, 2_283_724_790, 513, 345, 10_614_589),
}
STARS = {2014: 535, 2015: 600, 2016: 626, 2017: 740, 2018: 0, 2020: 0}
SMALL_COUNTS_OF_PEOPLE = {2014: 0, 2015: 0, 2016: 0, 2017: 0, 2018: 323, 2020: 294}


@pytest.fixture(scope="module")
def results(shared_dir) -> MSSPResults:
    folder = shared_dir / "data" / "mssp"
    if not folder.is_dir():
        pytest.skip(f"no MSSP files at {folder}")
    return read_mssp(folder)


@pytest.mark.parametrize("year", PUBLISHED)
def test_totals(results, year) -> None:
    rows = results.aco_year.query("performance_year == @year")
    gross, paid, acos, earners, people = PUBLISHED[year]
    assert (rows["benchmark"] - rows["expenditure"]).sum() == gross
    assert rows["earn_save_loss"].sum() == paid
    assert len(rows) == acos
    assert (rows["earn_save_loss"] > 0).sum() == earners
    assert rows["n_ab"].sum() == people


def test_net_savings_of_2018_a_head_by_revenue(results) -> None:
    rows = results.aco_year.query("performance_year == 2018")
    net = rows["benchmark"] - rows["expenditure"] - rows["earn_save_loss"]
    assert net.sum() == pytest.approx(739.4e6, abs=0.05e6)
    sums = rows.assign(net=net).groupby("rev_exp_cat")[["net", "n_ab"]].sum()
    a_head = (sums["net"] / sums["n_ab"]).round()
    assert a_head.to_dict() == {"high": 27.0, "low": 180.0}


@pytest.mark.parametrize("year", STARS)
def test_suppressed_cells(results, year) -> None:
    flags = results.flags.query("performance_year == @year")
    assert (flags["kind"] == "published").sum() == STARS[year]
    people = flags["column"].str.startswith("n_ben") & (flags["kind"] == "small")
    assert people.sum() == SMALL_COUNTS_OF_PEOPLE[year]


def test_no_small_count_is_left(results) -> None:
    for frame in (results.demographics, results.spending, results.aco_year):
        counts = frame.filter(regex=r"^n_ben|person_years|^n_ab").to_numpy(dtype=float)
        assert not ((counts > 0) & (counts < 11)).any()


def test_cohorts_and_links(results) -> None:
    cohorts = results.aco_year.groupby("aco_id")["cohort"]
    steps = results.attrition.set_index("step")["n"]
    assert steps["ACOs printed with two start dates: the earlier used"] == 0
    assert cohorts.first().value_counts().sort_index().to_dict() == {
        2012: 111, 2013: 103, 2014: 119, 2015: 89, 2016: 100, 2017: 96, 2018: 123, 2019: 65, 2020: 53,
    }  # fmt: skip
    assert len(results.links) == 618
    assert set(results.links["linked_by"]) == {"crosswalk"}


def test_first_agreements_date_the_three_years_before_entry(results) -> None:
    rows = results.spending.merge(
        results.aco_year[["aco_id", "performance_year", "part", "cohort", "first_agreement"]],
        on=["aco_id", "performance_year", "part"],
    )
    benchmark = rows[rows["reference"] != "PY"]
    dated = benchmark["calendar_year"].notna()
    assert (dated == benchmark["first_agreement"]).all()
    back = benchmark["cohort"] - benchmark["calendar_year"]
    expected = benchmark["reference"].map({"BY1": 3, "BY2": 2, "BY3": 1})
    assert (back[dated] == expected[dated]).all()
    performance = rows[rows["reference"] == "PY"]
    assert (performance["calendar_year"] == performance["performance_year"]).all()


def test_every_rate_is_a_fraction(results) -> None:
    frame = results.aco_year
    for name in ("min_sav_perc", "qual_score", "max_share_rate", "final_share_rate"):
        values = frame[name].to_numpy(dtype=float)
        assert np.nanmin(values) >= 0
        assert np.nanmax(values) <= 1
    exact = (frame["benchmark"] - frame["expenditure"]) / frame["benchmark"]
    assert np.abs(frame["sav_rate"] - exact).max() <= 5e-5
    status = frame.groupby("performance_year")["qual_status"].value_counts()
    assert status[(2014, "pay_for_reporting")] == 119
    assert status[(2015, "missing")] == 89


def test_values_of_one_aco_year_as_printed(results) -> None:
    # A67373 of 2014 (A1001), first row of that file
    rows = results.spending.query("aco_id == 'A1001' and performance_year == 2014")
    cells = rows.set_index(["enrollment_type", "reference"])
    assert cells.loc[("esrd", "BY1"), "per_capita"] == 92_004
    assert cells.loc[("aged_non_dual", "PY"), "per_capita"] == 11_610
    assert cells.loc[("aged_dual", "BY2"), "hcc_score"] == 1.089
    assert cells.loc[("disabled", "BY3"), "person_years"] == 2_133
    assert cells.loc[("aged_non_dual", "PY"), "person_years"] == 30_030
    assert cells.loc[("disabled", "BY1"), "calendar_year"] == 2009
