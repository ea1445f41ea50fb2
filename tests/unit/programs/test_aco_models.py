"""ACO REACH, LEAD, Next Generation and Pioneer beyond their worked examples."""

import numpy as np
import pandas as pd
import pytest

from vbceval.core.errors import DataError, DesignError
from vbceval.programs import get
from vbceval.programs.procedures.reach import equity_adjustment


def table(**columns: object) -> pd.DataFrame:
    frame = pd.DataFrame({"aco": ["A"], "risk_option": "GLOBAL", "benchmark": 100e6})
    return frame.assign(expenditure=90e6, quality_score=1.0).assign(**columns)


@pytest.mark.parametrize(
    ("year", "spent", "shared"),
    [
        (2025, 60e6, 31.25e6),
        (2026, 60e6, 23.75e6),
        (2025, 80e6, 20e6),
        (2026, 80e6, 15e6),
    ],
)
def test_reach_corridors_change_in_2026(year: int, spent: float, shared: float) -> None:
    program = get("reach").with_values(discount=0.0)
    settled = program.settle(table(expenditure=spent), performance_year=year)
    assert settled["shared"][0] == pytest.approx(shared, abs=1e-6)


def test_lead_corridors_of_the_whole_benchmark() -> None:
    program = get("lead").with_values(discount=0.0)
    frame = table(risk_option="GLOBAL_LOWER")
    saved = program.settle(frame.assign(expenditure=82e6), performance_year=2030)
    lost = program.settle(frame.assign(expenditure=200e6), performance_year=2030)
    assert saved["shared"][0] == pytest.approx(16.5e6)
    assert lost["shared"][0] == pytest.approx(-33.75e6)
    assert lost.payment[0] == pytest.approx(-33.75e6)


def test_lead_addition_for_higher_spending_and_professional_losses() -> None:
    program = get("lead")
    higher = program.settle(table(risk_option="GLOBAL_HIGHER"), performance_year=2027)
    assert higher["discounted"][0] == pytest.approx(101.5e6 * (1 - 0.0175))
    both = [
        program.settle(table(risk_option="PROFESSIONAL", expenditure=x), performance_year=2027)
        for x in (95e6, 105e6)
    ]
    assert [s["shared"][0] for s in both] == pytest.approx([3e6, -2.5e6])


def test_reach_trend_adjustment_only_above_its_threshold_and_in_bands() -> None:
    for difference, counted in [(0.009, 0.0), (0.03, 0.03), (-0.06, -0.05), (0.2, 0.06)]:
        settled = get("reach").settle(table(trend_difference=difference), performance_year=2024)
        assert settled["trend_adjustment"][0] == pytest.approx(counted)
        assert settled["adjusted_benchmark"][0] == pytest.approx(100e6 * (1 + counted))
    with pytest.raises(DataError, match="2023 has no adjustment for it"):
        get("reach").settle(table(trend_difference=0.03), performance_year=2023)


def test_percents_in_place_of_fractions_are_refused() -> None:
    for column, value in [("trend_difference", 3.0), ("quality_score", 83.0)]:
        with pytest.raises(DataError, match="divide percents by 100"):
            get("reach").settle(table(**{column: value}), performance_year=2024)


def test_reach_failed_improvement_pool_and_advances() -> None:
    settled = get("reach").settle(
        table(quality_score=0.8, cisep_failed=True, pool_payment=1e5, advanced=3e5),
        performance_year=2024,
    )
    assert settled["earned_back"][0] == pytest.approx(0.02 * 97e6 * 0.8 * 0.5)
    assert settled.payment[0] == pytest.approx(settled["earned"][0] + 1e5 - 3e5)


def test_reach_equity_adjustment_by_decile() -> None:
    program = get("reach")
    months = np.zeros((2, 10))
    months[0, [0, 9]] = 100, 10
    months[1, 8] = 7
    dollars, used = equity_adjustment(program, performance_year=2024, months=months)
    assert dollars.tolist() == [-1_000.0 + 300.0, 140.0]
    assert [u.status for u in used] == ["unconfirmed"]
    with pytest.raises(DesignError, match="no `equity_pbpm`"):
        equity_adjustment(program, performance_year=2022, months=months)
    with pytest.raises(DesignError, match="`reach` has no performance year 2030"):
        equity_adjustment(program, performance_year=2030, months=months)
    with pytest.raises(DataError, match=r"shape \(2, 9\)"):
        equity_adjustment(program, performance_year=2024, months=months[:, 1:])
    with pytest.raises(DataError, match="`months` are not between 0"):
        equity_adjustment(program, performance_year=2024, months=-1 - months)


def test_reach_bands_of_the_benchmark_before_or_after_the_withhold() -> None:
    frame = table(risk_option="PROFESSIONAL", quality_score=0.0, expenditure=60e6)
    after = get("reach").settle(frame, performance_year=2026)["shared"][0]
    before = (
        get("reach")
        .with_values(corridor_base="before_withhold")
        .settle(frame, performance_year=2026)
    )["shared"][0]
    gross = 95e6 - 60e6
    for base, shared in ((95e6, after), (100e6, before)):
        want = 0.05 * base * (0.5 + 0.35 + 0.15) + 0.05 * (gross - 0.15 * base)
        assert shared == pytest.approx(want)


def test_next_generation_choices_are_checked_together() -> None:
    frame = pd.DataFrame(
        {
            "aco": ["no discount", "too high", "cap"],
            "risk_option": ["FULL", "PARTIAL", "PARTIAL"],
            "benchmark": 100e6,
            "expenditure": 95e6,
            "discount": [np.nan, 0.05, 0.01],
            "cap": [np.nan, np.nan, 0.2],
        }
    )
    with pytest.raises(DataError, match="3 problems") as told:
        get("ngaco").settle(frame, performance_year=2018)
    assert "not between 0.005 and 0.045" in str(told.value)
    with pytest.raises(DataError, match="in 2019 it is the same for all"):
        get("ngaco").settle(frame.assign(cap=np.nan), performance_year=2019)


def test_next_generation_cap_and_later_terms() -> None:
    frame = pd.DataFrame(
        {
            "aco": ["full", "partial"],
            "risk_option": ["FULL", "PARTIAL"],
            "benchmark": 100e6,
            "expenditure": 50e6,
            "cap": [0.05, np.nan],
        }
    )
    settled = get("ngaco").settle(frame, performance_year=2019)
    assert settled.payment == pytest.approx([0.05 * 98.75e6, 0.85 * 0.15 * 99.5e6])


def test_pioneer_cap() -> None:
    frame = table().drop(columns="risk_option")
    first = get("pioneer").settle(frame.assign(expenditure=50e6), performance_year=2012)
    assert first.payment[0] == pytest.approx(10e6)


def test_bad_tables_say_everything() -> None:
    bad = table(quality_score=np.nan, benchmark=0.0, expenditure=-1.0, risk_option="TOTAL")
    with pytest.raises(DataError, match="4 problems"):
        get("reach").settle(bad, performance_year=2024)
    with pytest.raises(DataError, match="benchmark of zero or less after adjustments"):
        get("reach").settle(table(equity_adjustment=-100e6), performance_year=2024)
