"""CJR, TEAM, BPCI Advanced and BPCI beyond their worked examples, and what tables are refused for."""

import numpy as np
import pandas as pd
import pytest

from vbceval.core.errors import DataError
from vbceval.programs import Settlement, get
from vbceval.programs.episode_steps import volume_weighted_score
from vbceval.programs.procedures.cjr import composite_quality_score


def cjr(
    year: int, *, episodes: int, actual: float, score: float, kind: str = "STANDARD"
) -> Settlement:
    """A hospital with a mean of 27,000 in a region with a mean of 24,000."""
    frame = pd.DataFrame(
        {
            "hospital": ["A"],
            "hospital_type": kind,
            "hospital_benchmark": 27_000.0 * episodes,
            "regional_benchmark": 24_000.0 * episodes,
            "actual": actual * episodes,
            "quality_score": score,
        }
    )
    return get("cjr").settle(frame, performance_year=year)


def test_cjr_stop_loss_of_hospitals_with_special_status() -> None:
    protected = cjr(2017, episodes=40, actual=28_000.0, score=6.0, kind="PROTECTED")
    assert protected.payment[0] == pytest.approx(-0.03 * 1_019_200.0, abs=1e-8)


def test_cjr_quality_decides_who_is_paid_and_who_repays() -> None:
    assert cjr(2019, episodes=50, actual=22_000.0, score=4.9).payment[0] == 0
    assert cjr(2016, episodes=50, actual=40_000.0, score=8.0).payment[0] == 0
    # between the two targets of 2018 nothing is due: 25,000 less 3% and less 2%
    assert cjr(2018, episodes=50, actual=24_400.0, score=6.0).payment[0] == 0


def test_cjr_nothing_is_owed_in_the_first_year() -> None:
    later = pd.DataFrame(
        {
            "hospital": ["gain", "none"],
            "hospital_type": "PROTECTED",
            "hospital_benchmark": 26_000.0,
            "regional_benchmark": 26_000.0,
            "actual": [25_000.0, 40_000.0],
            "quality_score": 8.0,
            "post_episode_excess": [100.0, 5_000.0],
        }
    )
    first = get("cjr").settle(later, performance_year=2016)
    assert first.payment.tolist() == pytest.approx([380.0, 0.0])
    assert "$-0" not in str(first.explain("none"))
    assert get("cjr").settle(later, performance_year=2017).payment[1] < -5_000.0


def test_cjr_a_report_of_cms_gives_two_percent_for_a_score_of_seven() -> None:
    assert cjr(2016, episodes=1, actual=1.0, score=7.0)["payment_discount"][0] == 0.02


def test_cjr_composite_quality_score() -> None:
    score = composite_quality_score(
        get("cjr"),
        performance_year=2018,
        complications=[95, 90, 30, 29],
        experience=[95, 45, 30, 10],
        outcome_data=[True, False, True, False],
        improvement=[1.8, 0.0, 0.8, 1.0],
    )
    assert score.round(10).tolist() == [20.0, 15.0, 12.7, 1.0]
    with pytest.raises(DataError, match="1 of 2 values of `experience` are not between 0 and 100"):
        composite_quality_score(
            get("cjr"), performance_year=2018, complications=[95, np.nan], experience=[101, 50]
        )


TEAM = pd.DataFrame(
    {
        "hospital": ["one", "two", "three"],
        "track": ["TRACK_1", "TRACK_2", "TRACK_3"],
        "benchmark_lejr": 30_000.0 * 120,
        "actual": 27_800.0 * 120,
        "quality_score": 72.5,
        "risk_factor": 1.04,
        "normalisation": 0.985,
        "trend": 1.01,
    }
)


def test_team_discount_differs_by_category_and_factors_are_capped() -> None:
    three = TEAM.iloc[[2]].drop(columns=["risk_factor", "normalisation", "trend"])
    mixed = three.assign(benchmark_lejr=1_000.0, benchmark_cabg=1_000.0, actual=0.0)
    settled = get("team").settle(mixed.assign(trend=1.2, normalisation=0.5), performance_year=2026)
    assert settled["preliminary_target"][0] == pytest.approx(980.0 + 985.0)
    assert settled["target"][0] == pytest.approx((980.0 + 985.0) * 1.03 * 0.95)


def test_team_spending_after_episodes_is_repaid_beyond_the_limit() -> None:
    settled = get("team").settle(
        TEAM.assign(actual=60_000.0 * 120, post_episode_excess=5_000.0), performance_year=2028
    )
    assert (settled.payment + 5_000.0)[1:] == pytest.approx(-settled["loss_limit"][1:])


def test_scores_of_measures_are_weighted_by_the_episodes_they_apply_to() -> None:
    score = volume_weighted_score(
        [[80.0, 40.0], [np.nan, 30.0], [np.nan, 30.0]], [[300, 100], [50, 10], [50, 0]]
    )
    assert score[:2].tolist() == [70.0, 30.0]
    assert np.isnan(score[2])
    with pytest.raises(DataError, match="1 of 2 values of `scores` are not between 0 and 100"):
        volume_weighted_score([[80.0, 120.0]], [[1, 1]])
    with pytest.raises(DataError, match="`volumes`"):
        volume_weighted_score([[80.0, 20.0]], [[1, -1]])


def test_team_losses_of_a_category_with_few_baseline_episodes_do_not_count() -> None:
    row = {
        "hospital": "A", "track": "TRACK_3", "benchmark_lejr": 1e6, "benchmark_cabg": 2e6,
        "actual": 3.1e6, "quality_score": 0.0, "risk_factor": 1.1, "baseline_episodes_lejr": 30,
        "actual_lejr": 1.5e6,
    }  # fmt: skip
    few = pd.DataFrame([row])
    enough = few.assign(baseline_episodes_lejr=31)
    target = 1.1 * (0.98e6 + 0.985 * 2e6)
    loss = 1.5e6 - 1.1 * 0.98e6
    program = get("team")
    settled = program.settle(few, performance_year=2027)
    assert settled["low_volume_relief"] == pytest.approx([loss])
    assert settled["reconciliation"] == pytest.approx([target - 3.1e6 + loss])
    assert program.settle(enough, performance_year=2027)["reconciliation"] == pytest.approx(
        [target - 3.1e6]
    )
    # a gain in that category counts
    gain = few.assign(actual_lejr=0.5e6)
    assert program.settle(gain, performance_year=2027)["low_volume_relief"].tolist() == [0.0]
    with pytest.raises(DataError, match="no `actual_lejr`"):
        program.settle(few.drop(columns="actual_lejr"), performance_year=2027)
    with pytest.raises(DataError, match="more spending in categories than in `actual`"):
        program.settle(few.assign(actual_cabg=1.7e6), performance_year=2027)


def test_team_track_1_never_owes() -> None:
    excess = TEAM.assign(post_episode_excess=1e6)
    paid = get("team").settle(excess, performance_year=2027).payment
    assert paid[0] == 0
    assert paid[1] == pytest.approx(182_511.2016 - 1e6)


def test_team_hospitals_that_came_late_are_deferred_for_a_full_year() -> None:
    came = TEAM.iloc[[2] * 5].assign(
        hospital=list("abcde"),
        first_eligible=["2024-12-31", "2025-06-01", "2026-02-01", "2027-01-01", None],
        post_episode_excess=1_000.0,
    )
    for year, deferred in ((2026, "bcd"), (2027, "cd"), (2028, "d"), (2029, "")):
        settled = get("team").settle(came, performance_year=year)
        held = "".join(settled.organizations[settled["deferred"]])
        assert held == deferred, year
        paid = np.isin(settled.organizations, list(held), invert=True)
        assert settled.payment.tolist() == pytest.approx(np.where(paid, 305_582.87112 - 1e3, 0))
    lost = get("team").settle(came.assign(actual=1e9), performance_year=2026)
    assert (lost.payment < 0).tolist() == [True, False, False, False, True]
    assert "deferred_years" in lost.unconfirmed()["parameter"].tolist()


def test_bpci_advanced_medical_discount_and_trend_cap_change_in_2023() -> None:
    frame = pd.DataFrame(
        {
            "episode_initiator": ["A"],
            "benchmark_medical": [1_000.0],
            "actual": 900.0,
            "quality_score": 100.0,
            "trend_ratio": 1.2,
        }
    )
    targets = [
        get("bpci_advanced").settle(frame, performance_year=year)["target"][0]
        for year in (2022, 2023)
    ]
    assert targets == pytest.approx([970.0 * 1.1, 980.0 * 1.05])
    with pytest.raises(DataError, match="prices of 2019 do not follow it"):
        get("bpci_advanced").settle(frame, performance_year=2019)
    before = get("bpci_advanced").settle(frame.drop(columns="trend_ratio"), performance_year=2019)
    assert before["target"][0] == pytest.approx(970.0)


def test_bpci_model_4_is_paid_beforehand_and_others_are_limited() -> None:
    frame = pd.DataFrame(
        {
            "awardee": ["A", "B"],
            "model": ["MODEL_2_90", "MODEL_4"],
            "benchmark": 80_000.0,
            "actual": [90_000.0, 40_000.0],
            "above_threshold": [30_000.0, np.nan],
        }
    )
    settled = get("bpci").settle(frame, performance_year=2015)
    assert settled.payment == pytest.approx([78_400.0 - 66_000.0, 77_400.0 - 40_000.0])
    assert get("bpci").settle(frame.assign(actual=30_000.0), performance_year=2015).payment[
        0
    ] == pytest.approx(0.2 * 78_400.0)


def test_a_table_is_refused_with_everything_that_is_wrong() -> None:
    bad = TEAM.assign(quality_score=[np.nan, 120.0, 50.0], actual=[-1.0, 1.0, 1.0])
    with pytest.raises(DataError, match=r"3 problems") as told:
        get("team").settle(bad, performance_year=2027)
    assert "no `quality_score`" in str(told.value)
    with pytest.raises(DataError, match="did not exist in 2026"):
        get("team").settle(TEAM, performance_year=2026)
    with pytest.raises(DataError, match=r"3 rows .* not between 0\.1 and 10"):
        get("team").settle(TEAM.assign(trend=101.0), performance_year=2027)
    with pytest.raises(DataError, match="benchmark of zero in every category"):
        get("team").settle(TEAM.assign(benchmark_lejr=0.0), performance_year=2027)
    with pytest.raises(DataError, match="has no `hospital_benchmark`, which has a weight in 2017"):
        get("cjr").settle(
            pd.DataFrame(
                {
                    "hospital": ["A"],
                    "hospital_type": "STANDARD",
                    "regional_benchmark": 1.0,
                    "actual": 1.0,
                    "quality_score": 9.0,
                }
            ),
            performance_year=2017,
        )
    with pytest.raises(DataError, match="more `above_threshold` than `actual`"):
        get("bpci").settle(
            pd.DataFrame(
                {
                    "awardee": ["A"],
                    "model": "MODEL_3",
                    "benchmark": 1.0,
                    "actual": 1.0,
                    "above_threshold": 2.0,
                }
            ),
            performance_year=2015,
        )
