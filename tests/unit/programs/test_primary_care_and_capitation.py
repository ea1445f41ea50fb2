"""CPC+, Primary Care First, medical homes, capitation, Medicaid withholds, risk scores."""

import numpy as np
import pandas as pd
import pytest

from vbceval.core.errors import DataError, DesignError
from vbceval.programs import get
from vbceval.programs.procedures.hcc import payment_scores
from vbceval.programs.procedures.medicaid_withhold import earned_share, measure_credit


def cpc(**columns: object) -> pd.DataFrame:
    tiers = {f"beneficiaries_tier_{i}": 100.0 for i in range(1, 5)}
    return pd.DataFrame({"practice": ["A"], "track": "TRACK_2", **tiers}).assign(**columns)


def test_cpc_plus_incentive_and_comprehensive_payments() -> None:
    frame = cpc(
        quality_earned=1.0, utilization_earned=0.5, expected_visit_revenue=200_000.0,
        prospective_share=0.4,
    )  # fmt: skip
    settled = get("cpc_plus").settle(frame, performance_year=2018)
    assert settled["incentive_prepaid"][0] == 4.0 * 400 * 12
    assert settled["incentive_earned"][0] == 0.75 * 4.0 * 400 * 12
    assert settled["comprehensive_uplift"][0] == pytest.approx(8_000.0)
    fees = (9 + 11 + 19 + 33) * 100 * 12
    assert settled.payment[0] == pytest.approx(fees + 14_400.0 + 8_000.0)


def test_cpc_plus_track_1_has_no_complex_tier_and_no_comprehensive_payments() -> None:
    frame = cpc(
        track="TRACK_1", beneficiaries_complex=50, expected_visit_revenue=1.0, prospective_share=0.4
    )
    with pytest.raises(DataError, match="2 problems") as told:
        get("cpc_plus").settle(frame, performance_year=2018)
    assert "no such tier" in str(told.value)
    with pytest.raises(DataError, match="beneficiaries_tier_2"):
        get("cpc_plus").settle(cpc(beneficiaries_tier_2=-5.0), performance_year=2018)


def test_fees_by_tier_are_not_shown() -> None:
    settled = get("cpc_plus").settle(cpc(), performance_year=2018)
    assert not [line.name for line in settled.lines if "tier" in line.name]


def test_primary_care_first_takes_no_small_practices() -> None:
    frame = pd.DataFrame(
        {
            "practice": ["A"], "risk_group": "GROUP_1", "beneficiaries": 100, "visits": 300,
            "performance_adjustment": 0.9,
        }
    )  # fmt: skip
    with pytest.raises(DataError, match="fewer than 125 beneficiaries"):
        get("pcf").settle(frame, performance_year=2022)
    settled = get("pcf").settle(frame.assign(beneficiaries=200), performance_year=2022)
    assert settled["adjustment"][0] == 0.5
    assert settled["total_payments"][0] == pytest.approx(1.5 * (28 * 200 * 12 + 40.82 * 300))


def test_medical_home_without_target_and_with_half_of_one() -> None:
    frame = pd.DataFrame({"practice": ["A"], "member_months": 1_200.0, "fee_pmpm": 5.0})
    assert get("medical_home").settle(frame, performance_year=2015).payment[0] == 6_000.0
    with pytest.raises(DataError, match="only one of `benchmark` and `expenditure`"):
        get("medical_home").settle(frame.assign(benchmark=1.0), performance_year=2015)


def test_capitation_leaves_carved_out_spending_to_the_payer() -> None:
    frame = pd.DataFrame(
        {
            "organization": ["A"], "scope": "FULL", "member_months": 1_000.0,
            "capitation_pmpm": 100.0, "expenditure": 120_000.0, "carved_out": 18_000.0,
        }
    )  # fmt: skip
    settled = get("capitation").settle(frame, performance_year=2020)
    assert settled.payment[0] == pytest.approx(-2_000.0)
    own = get("capitation").with_values(loss_bands=[[float("inf"), 0.3]])
    assert own.settle(frame, performance_year=2020).payment[0] == pytest.approx(-600.0)
    with pytest.raises(DataError, match="more `carved_out` than `expenditure`"):
        get("capitation").settle(frame.assign(carved_out=130_000.0), performance_year=2020)


def test_medicaid_credits_and_redistribution() -> None:
    assert measure_credit([0.9, 0.5], target=0.8).tolist() == [1.0, 0.0]
    assert np.isnan(measure_credit([np.nan], target=0.8)).all()
    assert np.isnan(measure_credit([np.nan], target=0.8, floor=0.5)).all()
    assert earned_share([[1, 0.5], [0, 0]], [0.6, 0.4]).tolist() == [0.8, 0.0]
    with pytest.raises(DataError, match="`floor` is not below"):
        measure_credit(0.5, target=0.6, floor=0.6)
    with pytest.raises(DataError, match=r"add up to 0\.9"):
        earned_share([[1.0]], [0.9])
    with pytest.raises(DataError, match="1 of 2 values of `credits` are not between 0 and 1"):
        earned_share([[100.0, 1.0]], [0.5, 0.5])
    frame = pd.DataFrame({"plan": ["A", "B"], "capitation": [1e8, 1e8], "earned_share": [1.0, 0.5]})
    pooled = get("medicaid_withhold").with_values(forfeits="redistributed")
    settled = pooled.settle(frame, performance_year=2022)
    assert settled.payment.sum() == pytest.approx(settled["withheld"].sum())
    assert settled["redistributed"] == pytest.approx([2e6 / 3, 1e6 / 3])
    rich = pooled.settle(frame.assign(incentive=9e6), performance_year=2022)
    assert rich["incentives"] == pytest.approx([5e6, 5e6])
    with pytest.raises(DesignError, match="`total_limit` must lie between 1 and 2"):
        pooled.with_values(total_limit=0.05)


def test_risk_scores_of_models_and_years() -> None:
    program = get("hcc")
    for year, model, raw, score in [
        (2024, "v28", 1.25, 1.159),
        (2026, "v28", 1.25, 1.103),
        (2024, "v28", 1.10, 1.020),
        (2024, "v24", 1.30, 1.067),
    ]:
        assert payment_scores(program, raw, model=model, performance_year=year) == score
    with pytest.raises(DesignError, match="no model `v23`"):
        payment_scores(program, 1.0, model="v23", performance_year=2024)
    with pytest.raises(DesignError, match="no `normalisation_v28`"):
        payment_scores(program, 1.0, model="v28", performance_year=2022)


def test_risk_payment_needs_the_scores_of_its_year() -> None:
    frame = pd.DataFrame(
        {"plan": ["A"], "member_months": 1_200.0, "base_rate": 900.0, "raw_v24": 1.1}
    )
    with pytest.raises(DataError, match="has no raw score that 2024 uses"):
        get("hcc").settle(frame, performance_year=2024)
    with pytest.raises(DataError, match="has no raw score that 2019 uses"):
        get("hcc").settle(frame, performance_year=2019)
    given = get("hcc").settle(frame.assign(payment_score=1.0), performance_year=2019)
    assert given.payment[0] == 1_200.0 * 900.0
    assert np.isfinite(get("hcc").settle(frame, performance_year=2023).payment).all()
