"""Benchmarks of the Shared Savings Program: worked numbers, rules by start year, published files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vbceval.core.errors import DataError, DesignError
from vbceval.data import read_file
from vbceval.programs import get
from vbceval.programs.benchmark import mssp_benchmark
from vbceval.programs.benchmark_steps import (
    blended,
    capped_region,
    capped_risk,
    guardrail,
    prior_savings_adjustment,
)
from vbceval.programs.benchmark_table import MSSPBenchmark
from vbceval.study.mssp_historical import check_historical, check_updated

BASE: dict[str, Any] = {
    "aco_id": "A1", "enrollment_type": "aged_non_dual", "per_capita_by1": 10_000, "per_capita_by2": 10_300,
    "per_capita_by3": 10_700, "risk_by1": 1 / 1.02, "risk_by2": 1 / 1.01, "risk_by3": 1.0,
    "trend_by1": 1.08, "trend_by2": 1.04, "person_years": 9_000, "regional_per_capita": 11_500,
    "national_per_capita": 12_000, "national_growth": 1.05, "regional_growth": 1.06,
    "national_share": 0.2, "acpt": 1.049, "hcc_ratio": 1.045, "demographic_ratio": 1.01,
}  # fmt: skip
HCC = np.array([[0.99, 1.06, 1.02, 1.07]])
DEMOGRAPHIC = np.array([[1.000, 1.005, 1.002, 1.012]])
DOLLARS = np.array([[85_000 * 100, 12_500 * 1500, 16_000 * 1200, 10_200 * 9200]])


def build(*rows: dict[str, Any], start: int = 2024) -> MSSPBenchmark:
    return mssp_benchmark(pd.DataFrame([{**BASE, **row} for row in rows]), agreement_start=start)


def test_one_enrollment_type_comes_to_its_worked_number() -> None:
    row = build({}).types.iloc[0]
    assert row["historical"] == pytest.approx(10_767.336)
    assert row["regional_adjustment"] == pytest.approx(256.4324)
    assert row["adjusted_historical"] == pytest.approx(11_023.7684)
    assert row["update"] == pytest.approx(1.055)
    assert row["risk_ratio"] == pytest.approx(1.04)
    assert row["updated"] == pytest.approx(12_095.278688)


def test_the_offset_shrinks_negative_adjustments_of_a_type() -> None:
    low = {"regional_per_capita": 9_000.0}
    high = {"enrollment_type": "disabled", "regional_per_capita": 13_000.0}
    plain = build(low, high).types["regional_adjustment"]
    assert plain.tolist() == pytest.approx([-0.015 * 12_000, 600.0])
    of_aco = {"dual_share": 0.3, "mean_risk": 1.1}
    part = build({**low, **of_aco}, {**high, **of_aco}).types["regional_adjustment"]
    assert part.tolist() == pytest.approx([-0.6 * 180.0, 600.0])
    full = {"dual_share": 0.8, "mean_risk": 1.5}
    assert build({**low, **full}, {**high, **full}).types["regional_adjustment"][0] == 0.0
    before = build({**low, **of_aco}, start=2022).types["regional_adjustment"][0]
    assert before == pytest.approx(0.15 * (9_000 - 10_767.336))


def test_the_guardrail_uses_the_blend_only_against_shared_losses() -> None:
    built = build({"acpt": 1.03}).organizations
    assert built["updated_two_way"][0] == pytest.approx(built["updated"][0] / 1.0486666667 * 1.058)
    three, two = built["updated"][0], built["updated_two_way"][0]
    spent = np.array([three * 1.02, three * 1.019, three * 0.9, two * 0.999])
    benchmark, holds = guardrail(three, two, spent, [0.02, 0.02, 0.02, 0.0])
    assert holds.tolist() == [True, False, False, True]
    assert benchmark.tolist() == [two, three, three, two]
    # savings from the guardrail are not shared
    row = {"aco_id": "A", "track": "ENHANCED", "n_ab": 9_000, "qual_score": 0.9, "met_qps": True,
           "min_sav_perc": 0.0, "benchmark": two, "expenditure": spent[3], "guardrail": True}  # fmt: skip
    assert get("mssp").settle(pd.DataFrame([row]), performance_year=2024).payment.tolist() == [0.0]


def test_a_rebased_benchmark_weighs_years_equally() -> None:
    assert build({"rebased": 1}).organizations["historical"][0] == pytest.approx(10_845.04)


def test_before_2024_the_update_is_the_blend_and_each_type_is_capped() -> None:
    row = build({}, start=2022).types.iloc[0]
    assert row["update"] == pytest.approx(float(blended(1.05, 1.06, 0.2))) == pytest.approx(1.058)
    assert row["risk_ratio"] == pytest.approx(1.03)


def test_the_aggregate_cap_limits_types_at_the_aggregate() -> None:
    ratio, growth, limit = capped_risk(HCC, DEMOGRAPHIC, DOLLARS, cap=0.03, together=True)
    assert growth == pytest.approx(1.0569734, abs=5e-8)
    assert limit == pytest.approx(1.0389688, abs=5e-8)
    assert ratio[0] == pytest.approx([0.99, 1.0389688, 1.02, 1.0389688], abs=5e-8)
    used = (ratio * DOLLARS).sum() / DOLLARS.sum()
    assert used == pytest.approx(1.0334058, abs=5e-8)
    each, _, _ = capped_risk(HCC, DEMOGRAPHIC, DOLLARS, cap=0.03, together=False)
    assert each[0] == pytest.approx([0.99, 1.03, 1.02, 1.03])


def test_growth_below_the_aggregate_cap_is_left_alone() -> None:
    ratio, _, _ = capped_risk(HCC, DEMOGRAPHIC + 0.02, DOLLARS, cap=0.03, together=True)
    assert ratio.tolist() == HCC.tolist()


def test_prior_savings_are_shared_prorated_and_capped() -> None:
    national = 12_000.0
    for average, proration, wanted in (
        (400, 0.9, 180),
        (400, 1.5, 200),
        (9000, 1, 600),
        (-50, 1, 0),
    ):
        got = prior_savings_adjustment(average, proration, national, share=0.5, cap=0.05)
        assert float(got) == pytest.approx(wanted)


def test_the_region_lowers_a_benchmark_only_before_2024() -> None:
    above = {"per_capita_by1": 11_900, "per_capita_by2": 11_900, "per_capita_by3": 11_900}
    above |= {"trend_by1": 1, "trend_by2": 1, "risk_by1": 1, "risk_by2": 1}
    assert build(above, start=2022).organizations["adjustment"][0] == pytest.approx(-60)
    new = build(above).organizations.iloc[0]
    assert (new["adjustment"], new["adjustment_kind"]) == (0.0, "none")


def test_negative_types_stay_where_the_total_is_positive() -> None:
    high = {"enrollment_type": "esrd", "person_years": 100, "regional_per_capita": 10_000}
    types = build({}, high).types.set_index("enrollment_type")
    assert types.loc["esrd", "regional_adjustment"] == pytest.approx(0.15 * (10_000 - 10_767.336))


def test_regional_adjustments_are_limited_to_shares_of_national_spending() -> None:
    far = [{"regional_per_capita": 20_000}, {"aco_id": "A2", "regional_per_capita": 1_000}]
    old = build(*far, start=2022).organizations["adjustment"]
    assert old.tolist() == pytest.approx([600, -600])
    weight = [build({"agreement": k}).organizations["adjustment"][0] for k in (1, 2, 3, 4, 7)]
    assert weight == pytest.approx([256.4324, *[min(0.5 * 732.664, 600)] * 4])


@pytest.mark.parametrize(
    ("row", "kind", "amount"),
    [
        ({"prior_savings": 400, "proration": 0.9}, "regional", 256.4324),
        ({"prior_savings": 800}, "prior savings", 400),
        ({"prior_savings": 800, "population": 500}, "population", 500),
        ({"population": 5_000}, "population", 600),
        ({"regional_per_capita": 10_000, "prior_savings": 400}, "prior savings", 200),
    ],
)
def test_the_highest_adjustment_holds(row: dict[str, Any], kind: str, amount: float) -> None:
    got = build(row).organizations.iloc[0]
    assert (got["adjustment_kind"], got["adjustment"]) == (kind, pytest.approx(amount))


def test_where_a_negative_region_stays_prior_savings_are_added_to_it() -> None:
    program = get("mssp").with_values(negative_region_removed=False)
    frame = pd.DataFrame([{**BASE, "regional_per_capita": 10_000, "prior_savings": 400}])
    got = mssp_benchmark(frame, agreement_start=2024, program=program).organizations.iloc[0]
    assert got["adjustment_kind"] == "regional and prior savings"
    assert got["adjustment"] == pytest.approx(200 - 0.15 * 767.336)


def test_averages_weigh_enrollment_types_by_person_years() -> None:
    other = {"enrollment_type": "esrd", "person_years": 1_000, "per_capita_by3": 80_000}
    built = build({}, other, {"aco_id": "A0"})
    assert built.organizations["aco_id"].tolist() == ["A0", "A1"]
    types = built.types.query("aco_id == 'A1'").set_index("enrollment_type")["updated"]
    wanted = (9 * types["aged_non_dual"] + types["esrd"]) / 10
    assert built.organizations["updated"][1] == pytest.approx(wanted)


def test_values_used_travel_with_their_status() -> None:
    used = {u.parameter: u.status for u in build({}).used}
    assert used["regional_weight"] == "unconfirmed"
    assert used["risk_cap"] == "confirmed"


def test_everything_wrong_with_baseline_data_is_said() -> None:
    with pytest.raises(DataError, match="2 columns are missing: `trend_by1`, `acpt`"):
        mssp_benchmark(
            pd.DataFrame([BASE]).drop(columns=["trend_by1", "acpt"]), agreement_start=2024
        )
    with pytest.raises(DataError) as caught:
        build(
            {"risk_by1": 0},
            {"per_capita_by2": None},
            {"aco_id": "A2", "rebased": 1},
            {"aco_id": "A2", "enrollment_type": "esrd"},
        )
    for part in (
        "two rows of one enrollment type",
        "`risk_by1` is missing, negative or zero",
        "`per_capita_by2`",
        "`rebased` differs",
    ):
        assert part in str(caught.value)
    wrong = {"dual_share": 30.0, "mean_risk": np.nan, "prior_savings": "much", "proration": -1.0}
    with pytest.raises(DataError) as caught:
        build(wrong)
    for part in (
        "`dual_share` is not a fraction between 0 and 1 in rows of 1 ACOs (`A1`)",
        "`mean_risk` is not a number from 0 on", "`prior_savings` is not a number in rows",
        "`proration` is not a number from 0 on",
    ):  # fmt: skip
        assert part in str(caught.value)
    with pytest.raises(DesignError, match="start in 2028 are not declared"):
        build({}, start=2028)


OLD = {name: value for name, value in BASE.items() if not name.startswith(("national", "acpt"))}


def before(start: int, *rows: dict[str, Any]) -> MSSPBenchmark:
    return mssp_benchmark(pd.DataFrame([{**OLD, **row} for row in rows]), agreement_start=start)


def test_first_agreements_before_2019_are_updated_by_dollars() -> None:
    row = {"national_dollars": 400.0, "new_hcc_ratio": 1.10, "new_share": 0.2}
    built = before(2017, row, {**row, "aco_id": "A2", "hcc_ratio": 0.98})
    # weights 10, 30 and 60; HCC scores of those newly assigned, the lower ratio of the others
    ratio = [0.2 * 1.10 + 0.8 * 1.01, 0.2 * 1.10 + 0.8 * 0.98]
    assert built.types["historical"].tolist() == pytest.approx([10_767.336] * 2)
    assert built.organizations["updated"].tolist() == pytest.approx(
        [10_767.336 * r + 400.0 for r in ratio]
    )
    assert built.organizations["adjustment_kind"].tolist() == ["none", "none"]
    assert not built.assumed


def test_rebased_agreements_of_2017_and_2018_are_those_of_their_region() -> None:
    later = {"rebased": 1, "agreement": 1}
    rows = [
        {**later, "aco_id": "A1"},
        {**later, "aco_id": "A2", "agreement": 2},
        {**later, "aco_id": "A3", "regional_per_capita": 9_000.0},
        {**later, "aco_id": "A4", "regional_per_capita": 9_000.0, "agreement": 2},
        {**later, "aco_id": "A5", "regional_per_capita": 9_000.0, "agreement": 5},
    ]
    built = before(2018, *rows)
    base = (11_016.0 + 10_819.12 + 10_700.0) / 3
    above, below = 11_500 - base, 9_000 - base
    added = [0.35 * above, 0.70 * above, 0.25 * below, 0.50 * below, 0.70 * below]
    assert built.organizations["adjustment"].tolist() == pytest.approx(added)
    # growth of the region alone, and the demographic ratio, which is the lower
    assert built.organizations["updated"].tolist() == pytest.approx(
        [(base + a) * 1.06 * 1.01 for a in added]
    )
    assert built.assumed[0].startswith("5 ACOs: all people taken for assigned before")
    assert {u.status for u in built.used if u.parameter == "regional_weight"} == {"unconfirmed"}


def test_first_and_rebased_agreements_of_one_year_are_built_together() -> None:
    one = {"national_dollars": 300.0, "rebased": 0}
    two = {**one, "aco_id": "A0", "rebased": 1}
    both = before(2016, one, {**two, "prior_savings": 200.0}, {**one, "enrollment_type": "esrd"})
    assert both.organizations["aco_id"].tolist() == ["A0", "A1"]
    base = (11_016.0 + 10_819.12 + 10_700.0) / 3
    assert both.organizations["updated"].tolist() == pytest.approx(
        [(base + 200.0) * 1.01 + 300.0, 10_767.336 * 1.01 + 300.0]
    )
    assert both.organizations["adjustment_kind"].tolist() == ["prior savings", "none"]
    alone = before(2016, one).organizations["updated"].iloc[0]
    assert alone == pytest.approx(both.organizations["updated"].iloc[1])


def test_what_a_start_year_has_no_rule_for_is_not_ignored() -> None:
    with pytest.raises(DataError, match="1 columns are missing: `national_dollars`"):
        before(2015, {})
    with pytest.raises(DataError, match="`prior_savings` would be ignored"):
        before(2018, {"rebased": 1, "prior_savings": 100.0})
    with pytest.raises(DataError, match="`agreement` would be ignored"):
        before(2014, {"national_dollars": 1.0, "agreement": 2})
    with pytest.raises(DesignError, match="no `update_rule_rebased`"):
        before(2014, {"national_dollars": 1.0, "rebased": 1})
    region = {"regional_hcc_ratio": 1.1, "regional_demographic_ratio": 1.0}
    with pytest.raises(DataError, match=r"`regional_hcc_ratio`.* would be ignored"):
        build(region, start=2023)
    with pytest.raises(DataError, match="missing: `regional_demographic_ratio`"):
        build({"regional_hcc_ratio": 1.1})
    with pytest.raises(DataError, match="`new_share` is missing, negative or zero or above 1"):
        before(2015, {"national_dollars": 1.0, "new_hcc_ratio": 1.0, "new_share": 1.5})


def test_growth_of_the_regions_risk_scores_beyond_the_cap_is_growth_of_expenditures() -> None:
    assert "growth of the region's own risk scores not capped" in build({}).assumed[0]
    region = {"regional_hcc_ratio": 1.10, "regional_demographic_ratio": 1.02}
    built = build(region)
    # limit 1.05, and a fifth, the ACO's share of its region, of the 0.05 beyond it
    regional = 1.06 * 1.10 / 1.06
    two_way = 0.2 * 1.05 + 0.8 * regional
    assert built.types["update"][0] == pytest.approx(1.049 / 3 + 2 * two_way / 3)
    assert built.organizations["regional_risk_growth"][0] == pytest.approx(1.10)
    assert built.organizations["regional_risk_limit"][0] == pytest.approx(1.06)
    assert not built.assumed
    low = build({**region, "regional_hcc_ratio": 1.05})
    assert low.types["update"][0] == pytest.approx(1.055)
    # an ACO that is all of its region has no cap on it
    alone = build({**region, "national_share": 1.0})
    assert alone.organizations["regional_risk_limit"][0] == pytest.approx(1.10)


def test_the_cap_of_the_region_is_that_of_the_aco_without_a_share_of_it() -> None:
    got = capped_region(HCC, DEMOGRAPHIC, DOLLARS, 0 * HCC, cap=0.03, by_share=True)
    wanted = capped_risk(HCC, DEMOGRAPHIC, DOLLARS, cap=0.03, together=True)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other)


@pytest.mark.parametrize(
    ("regional", "prior", "kind"),
    # `RegAdj`, `PriorSavAdj` and `FinalAdjCat` of ACOs in the CMS result file of 2024
    [(192, 156, "regional"), (391, 262, "regional"), (62, 130, "prior savings"),
     (-11, 64, "prior savings"), (-19, 234, "prior savings"), (49, 35, "regional"),
     (-120, 0, "none"), (4, 0, "regional")],
)  # fmt: skip
def test_the_adjustment_that_is_higher_is_the_one_published(
    regional: float, prior: float, kind: str
) -> None:
    base = build({}).types["historical"][0]
    share = 0.35 if regional > 0 else 0.15
    row = {"regional_per_capita": base + regional / share, "prior_savings": 2 * prior}
    assert build(row).organizations["adjustment_kind"].tolist() == [kind]


def test_published_historical_benchmarks_follow_from_published_baselines(shared_dir: Path) -> None:
    file = read_file(shared_dir / "data" / "mssp" / "mssp_puf_py2016.csv.gz")
    checked = check_historical(file)
    assert checked["agreement"].tolist() == ["first", "first", "first", "rebased"]
    assert checked["n_organizations"].min() > 80
    assert checked["median_apart"].max() < 2
    assert checked["most_apart"].max() < 10
    # the weights of the other kind of agreement do not fit, so the check can fail
    other = check_historical(file, weights=(1 / 3, 1 / 3, 1 / 3))
    assert other.query("agreement == 'first'")["median_apart"].min() > 10
    other = check_historical(file, weights=(0.1, 0.3, 0.6))
    assert other.query("agreement == 'rebased'")["median_apart"].min() > 10
    # the update: the lower of the HCC ratio and 1 comes closest to the ratio that is not published
    updated = check_updated(file)
    apart = updated.pivot_table(index="start", columns="ratio", values="median_apart")
    assert apart.index.tolist() == [2014, 2015]
    assert (apart["lower"] < apart[["none", "hcc"]].min(axis=1)).all()
    assert apart["lower"].max() < 0.006 * updated["typical"].min()
    with pytest.raises(DataError, match="no first agreements of one start year before 2016"):
        check_updated(dataclasses.replace(file, aco_year=file.aco_year.head(20)))


def test_the_rules_say_which_years_have_them() -> None:
    table = get("mssp").table().set_index("parameter")
    assert table.loc["prior_savings_share", "years"] == "2024-2027"
