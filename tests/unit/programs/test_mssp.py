"""MSSP: gates, quality rules by year, limits, half-years, bad tables, draws, words."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vbceval.core.errors import DataError, DesignError
from vbceval.programs import Settlement, get

BASE: dict[str, Any] = {
    "track": "BASIC_E", "n_ab": 20_000, "benchmark": 200e6, "expenditure": 190e6, "qual_score": 0.8,
    "met_qps": True, "min_sav_perc": 0.02,
}  # fmt: skip


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    frame = pd.DataFrame([{**BASE, **row} for row in rows])
    frame.insert(0, "aco_id", [f"A{i}" for i in range(len(frame))])
    return frame


def settle(*rows: dict[str, Any], year: int = 2022) -> Settlement:
    return get("mssp").settle(table(*rows), performance_year=year)


def test_the_minimum_rate_is_met_at_the_rate_itself() -> None:
    settled = settle({"expenditure": 196e6}, {"expenditure": 196e6 + 1}, {"expenditure": 204e6})
    assert settled["minimum_met"].tolist() == [True, False, True]
    assert settled.payment.tolist() == [0.5 * 4e6 * 0.98, 0.0, -0.3 * 4e6]


def test_small_acos_have_the_variable_rate_whatever_they_chose() -> None:
    settled = settle({"n_ab": 4999}, {"n_ab": 5000}, {"min_sav_perc": 0.0247})
    assert settled["minimum_rate"] == pytest.approx([0.039, 0.02, 0.025])


def test_a_stated_minimum_rate_is_not_ignored() -> None:
    # neither a choice nor the variable rate of 2.5%
    assert settle({"min_sav_perc": 0.03})["minimum_rate"].tolist() == [0.03]
    # the table says "at least 12.2%" below 500 people, and for others gives the rate
    row = {"track": "BASIC_A", "n_ab": 152}
    rows = [{**row, "min_sav_perc": p} for p in (0.2542, 0.05, None)]
    settled = settle(*rows, {**row, "n_ab": 20_000, "min_sav_perc": 0.04})
    assert settled["minimum_rate"].tolist() == [0.2542, 0.122, 0.122, 0.025]


def test_one_sided_tracks_owe_nothing() -> None:
    rows = [{"track": t, "expenditure": 230e6} for t in ("TRACK_1", "BASIC_A", "BASIC_B")]
    assert (settle(*rows, year=2020).payment == 0).all()


@pytest.mark.parametrize(
    ("year", "met", "alternative", "rate"),
    [
        (2018, True, None, 0.8 * 0.75), (2018, False, None, 0.0), (2022, True, None, 0.75),
        (2022, False, True, 0.0), (2023, False, True, 0.8 * 0.75), (2024, False, True, 0.8 * 0.75),
        (2024, False, False, 0.0), (2026, True, None, 0.75),
    ],
)  # fmt: skip
def test_quality_enters_by_the_rule_of_the_year(
    year: int, met: bool, alternative: bool | None, rate: float
) -> None:
    track = "TRACK_3" if year < 2019 else "ENHANCED"
    settled = settle({"track": track, "met_qps": met, "met_alternative": alternative}, year=year)
    assert settled["sharing_rate"] == pytest.approx(rate)


def test_complete_reporting_counts_as_full_marks_in_a_first_year() -> None:
    first = {"track": "TRACK_1", "met_qps": None, "start_date": 2015, "qual_score": None}
    rows = [
        first, {**first, "qual_status": "pay_for_reporting", "start_date": None},
        {**first, "qual_status": "pay_for_reporting", "qual_score": 0.0},
    ]  # fmt: skip
    assert settle(*rows, year=2015)["sharing_rate"] == pytest.approx([0.5, 0.5, 0.0])
    with pytest.raises(DataError, match=r"`A0`.* has no `qual_score`"):
        settle({**first, "start_date": 2014}, year=2015)


def test_a_published_rate_of_zero_is_read_only_where_the_standard_is_not_stated() -> None:
    rows = [
        {"met_qps": None, "final_share_rate": 0.0}, {"met_qps": None, "final_share_rate": 0.31},
        {"met_qps": True, "final_share_rate": 0.0}, {"met_qps": False, "final_share_rate": 0.31},
    ]  # fmt: skip
    assert settle(*rows, year=2020)["sharing_rate"] == pytest.approx([0.0, 0.4, 0.4, 0.0])
    assert settle(*rows, year=2024)["sharing_rate"] == pytest.approx([0.0, 0.5, 0.5, 0.4])


def test_losses_follow_quality_within_bounds_and_not_in_basic() -> None:
    scores = [1.0, 0.8, 0.7385, 0.6, 0.4]
    rows: list[dict[str, Any]] = [
        {"track": "ENHANCED", "qual_score": q, "expenditure": 220e6} for q in scores
    ]
    rows += [
        {**rows[0], "met_qps": False},
        {"met_qps": False, "expenditure": 202e6, "min_sav_perc": 0},
    ]
    rates = settle(*rows, year=2024)["loss_rate"]
    assert rates == pytest.approx([0.4, 0.4, 0.446125, 0.55, 0.7, 0.75, 0.3])


def test_track_2_limits_losses_by_the_year_of_the_agreement() -> None:
    rows = [
        {"track": "TRACK_2", "expenditure": 400e6, "current_start_date": start}
        for start in (
            pd.Timestamp("2018-01-01"),
            pd.Timestamp("2017-01-01"),
            pd.Timestamp("2015-01-01"),
        )
    ]
    assert settle(*rows, year=2018)["loss_limit"] == pytest.approx([10e6, 15e6, 20e6])


def test_revenue_limits_track_1_plus_only_where_it_is_flagged() -> None:
    row = {"track": "TRACK_1_PLUS", "expenditure": 300e6, "participant_revenue": 20e6}
    settled = settle({**row, "rev_loss_limit": True}, {**row, "rev_loss_limit": False}, year=2018)
    assert settled.payment == pytest.approx([-1.6e6, -8e6])


def test_what_changes_no_loss_is_not_asked_for() -> None:
    half = {"affected_share": 0.25}
    rows = [half, {**half, "expenditure": 210e6, "dis_adj": 1e6}]
    assert settle(*rows, year=2024).payment.tolist() == [4.9e6, -2e6]
    # 40% of 8% of the benchmark is below every limit of Track 2
    row = {"track": "TRACK_2", "expenditure": 216e6, "qual_score": 1.0}
    assert settle(row, year=2018).payment.tolist() == [-0.4 * 16e6]


def test_losses_are_never_forgiven_beyond_what_is_owed() -> None:
    row = {"expenditure": 210e6, "dis_adj": -9e9}
    assert settle(row)["disaster_relief"].tolist() == [-settle(row)["limited_losses"][0]]
    assert settle(row).payment.tolist() == [0.0]


def test_losses_forgiven_in_full_are_not_owed_by_the_rounding_of_dollars() -> None:
    rows = [{"expenditure": 210e6 + 1, "dis_adj": d} for d in (3e6, 3e6 - 1)]
    assert settle(*rows, year=2024).payment == pytest.approx([0.0, -1.3])
    assert settle({"expenditure": 190e6, "dis_adj": 0.0}).payment == pytest.approx([4.9e6])


def test_relief_in_a_year_of_the_pandemic_is_of_all_losses() -> None:
    # a limit by revenue that is not published left 1,000,000, all of it forgiven
    rows = [{"expenditure": 210e6, "dis_adj": d} for d in (-1e6, 0.0, None)]
    assert settle(*rows, year=2021).payment.tolist() == [0.0, -3e6, -3e6]
    assert settle(*rows, year=2023).payment.tolist() == [-2e6, -3e6, -3e6]
    assert settle(*rows, year=2021).unconfirmed().empty


def test_the_guardrail_pays_no_savings() -> None:
    rows = [{"guardrail": True}, {"guardrail": True, "expenditure": 210e6}]
    assert settle(*rows, year=2025).payment.tolist() == [0.0, -0.3 * 10e6]
    with pytest.raises(DataError, match="say `guardrail`, and updates of 2023 had none"):
        settle(*rows, year=2023)


def test_a_start_is_a_year_or_a_date_also_written_as_text() -> None:
    row = {"track": "BASIC_B", "rev_exp_cat": "low", "expenditure": 199e6}
    starts = ["2024-01-01", "2024-01-01 00:00:00", " 2024 ", "2023-07-01", None]
    settled = settle(*({**row, "current_start_date": start} for start in starts), year=2024)
    assert settled["half_rate"].tolist() == [True, True, True, False, False]
    with pytest.raises(DataError, match="text in `current_start_date`"):
        settle({**row, "current_start_date": "1 January"}, year=2024)


def test_the_half_rate_needs_each_of_its_conditions() -> None:
    row = {
        "track": "BASIC_B", "rev_exp_cat": "low", "current_start_date": 2024, "expenditure": 199e6
    }  # fmt: skip
    others = [
        {"rev_exp_cat": "high"}, {"current_start_date": 2023}, {"n_ab": 4999}, {"track": "ENHANCED"},
        {"expenditure": 201e6},
    ]  # fmt: skip
    settled = settle(row, *({**row, **other} for other in others), year=2024)
    assert settled["half_rate"].tolist() == [True, False, False, False, False, False]
    assert settled.payment.tolist() == [0.2 * 1e6 * 0.98, 0, 0, 0, 0, 0]


def test_a_half_year_settled_on_the_whole_year_counts_for_half() -> None:
    row = {"track": "TRACK_1_PLUS", "part": "january_june", "updated_bnchmk": 10_000.0}
    start = {"track": "BASIC_E", "current_start_date": pd.Timestamp("2019-07-01")}
    rows = [
        row,
        {**row, "expenditure": 210e6},
        {**row, "updated_bnchmk": 20_000.0},  # totals of the half-year itself
        {**row, "updated_bnchmk": None},
        {**row, "part": "full_year"},
        {**row, **start, "part": "full_year"},  # a file without the flag of half-years
        {**row, "expenditure": 100e6},
    ]
    settled = settle(*rows, year=2019)
    assert settled["year_share"].tolist() == [0.5, 0.5, 1, 1, 1, 0.5, 0.5]
    saved = 0.5 * 0.8 * 10e6
    assert settled.payment.tolist() == [
        saved / 2, -1.5e6, saved, saved, saved, saved / 2, 10e6
    ]  # fmt: skip
    assert all(line.name != "year_share" for line in settle(rows[4], year=2020).lines)
    with pytest.raises(DataError, match=r"\(`A0`\) holds a half-year in `part`, and 2020"):
        settle(rows[0], rows[4], year=2020)


def test_an_agreement_that_ended_during_the_year_shares_no_savings() -> None:
    ended = {"ended_in_year": True}
    losing = {"expenditure": 210e6, "dis_adj": 0.5e6}
    rows = [
        ended,
        {**ended, **losing, "months_in_program": 8},
        {**ended, **losing, "months_in_program": 1},
        {**losing, "months_in_program": 8},
        {**ended, **losing},
    ]
    settled = settle(*rows, year=2024)
    # 30% of losses of 10 million is 3 million
    assert settled["months_losses"].tolist() == [0.0, -2e6, -0.25e6, -3e6, -3e6]
    assert settled.payment.tolist() == [0.0, -1.5e6, 0.0, -2.5e6, -2.5e6]
    assert any(s.startswith("1 organization owing losses whose") for s in settled.assumed)
    assert "Assumed: 1 organization owing losses whose" in str(settled.explain("A4"))
    assert all(line.name != "months_losses" for line in settle(losing, year=2024).lines)


def test_relief_of_the_calendar_year_counts_for_half_in_a_half_year() -> None:
    row = {"expenditure": 210e6, "qual_score": 0.8, "current_start_date": 2019, "dis_adj": 0.4e6}
    half = {**row, "part": "july_december", "updated_bnchmk": 20_000}
    settled = settle(half, {**half, "updated_bnchmk": 10_000}, row, year=2019)
    # the first holds totals of the half-year, the second those of the year
    assert settled["disaster_relief"].tolist() == [0.2e6, 0.2e6, 0.2e6]
    whole = settle({**row, "current_start_date": 2018}, year=2019)
    assert whole["disaster_relief"].tolist() == [0.4e6]


def test_the_half_rate_that_cannot_be_told_is_said_with_the_number_of_acos() -> None:
    near = {"track": "BASIC_A", "expenditure": 199e6, "n_ab": 10_000}
    low = {"rev_exp_cat": "low", "current_start_date": 2024}
    rows = [
        near,
        {**near, "rev_exp_cat": "low"},
        {**near, "current_start_date": 2024},
        {**near, **low},  # has it
        {**near, "rev_exp_cat": "high"},
        {**near, "current_start_date": 2023},
        {**near, "n_ab": 4_999},
        {**near, "expenditure": 150e6},  # shares savings anyway
    ]
    settled = settle(*rows, year=2024)
    assert [s for s in settled.assumed if "rev_exp_cat" in s] == [
        "3 organizations with savings below the minimum rate in BASIC: none shared, since "
        "`rev_exp_cat` or `current_start_date` is missing; if of low revenue in an agreement from "
        "2024 on, half the rate would be."
    ]
    assert not settle(*rows, year=2023).assumed


def test_recoupment_is_a_line_after_what_is_earned() -> None:
    settled = settle(
        {"adv_pay_recoup": 1e6},
        {"adv_pay_recoup": 1e9},
        {"expenditure": 210e6, "adv_pay_recoup": 1},
        {"adv_pay_recoup": -1e6},  # a file that prints it as what is taken away
    )
    assert settled.payment == pytest.approx([4.9e6, 4.9e6, -3e6, 4.9e6])
    assert settled["paid_out"] == pytest.approx([3.9e6, 0.0, -3e6, 3.9e6])


def test_everything_wrong_with_a_table_is_said_at_once() -> None:
    frame = table(
        {},
        {"track": "TRACK_1"},
        {"track": "BASIC_F"},
        {"benchmark": 0.0},
        {"n_ab": -5},
        {"qual_score": 80.0},
    )
    frame = frame.drop(columns="expenditure")
    frame.loc[0, "aco_id"] = "A1"
    with pytest.raises(DataError) as caught:
        get("mssp").settle(frame, performance_year=2024)
    said = str(caught.value)
    for part in (
        "`expenditure`: expenditures of the performance year", "`A1`), so it would be paid twice",
        "`TRACK_1`, which did not exist in 2024", "`BASIC_F`, which is none of the program's",
        "(`A3`) holds a `benchmark`", "(`A4`) holds a `n_ab`", "(`A5`) holds a `qual_score`",
        "Rates are fractions: divide percents by 100.",
    ):  # fmt: skip
        assert part in said


@pytest.mark.parametrize(
    ("row", "year", "said"),
    [
        ({"qual_score": None, "met_qps": None}, 2018, "has no `qual_score`"),
        (
            {"qual_score": None, "met_qps": True, "track": "ENHANCED", "expenditure": 210e6},
            2022,
            "has no `qual_score`",
        ),
        ({"met_qps": None}, 2022, "has no `met_qps`"),
        ({"affected_share": 0.25, "expenditure": 210e6}, 2024, "has one of `affected_share` and"),
        ({"track": "TRACK_2", "expenditure": 250e6}, 2018, "has no `current_start_date`"),
        ({"min_sav_perc": None}, 2022, "has no `min_sav_perc`"),
        ({"expenditure": None}, 2022, "has no `expenditure`"),
        ({"qual_status": "good"}, 2022, "another `qual_status` than"),
        ({"benchmark": "much"}, 2022, "holds text in `benchmark`"),
        ({"person_years": -5.0}, 2022, "holds a `person_years`"),
    ],
)
def test_what_a_track_needs_is_asked_for(row: dict[str, Any], year: int, said: str) -> None:
    row = {"track": "TRACK_3", **row} if year == 2018 else row  # open in that year
    with pytest.raises(DataError, match=said):
        settle(row, year=year)


def test_a_failed_alternative_or_a_missed_gate_needs_no_score() -> None:
    row = {"qual_score": None, "met_qps": False, "met_alternative": False}
    rows = [row, {**row, "track": "ENHANCED", "expenditure": 210e6}]
    assert settle(*rows, year=2024).payment == pytest.approx([0.0, -7.5e6])
    row = {"qual_score": None, "expenditure": 199e6}
    assert settle(row, year=2019).payment.tolist() == [0.0]
    assert settle({**row, "met_qps": None}, year=2024).payment.tolist() == [0.0]
    with pytest.raises(DataError, match="has no `qual_score`"):
        settle({**row, "met_qps": False, "met_alternative": True, "expenditure": 1e8}, year=2024)


def test_a_score_that_changes_nothing_is_not_asked_for() -> None:
    settled = settle(
        {"qual_score": None, "track": "ENHANCED"}, {"qual_score": None, "expenditure": 210e6}
    )
    assert settled.payment == pytest.approx([0.75 * 10e6 * 0.98, -3e6])


def test_an_empty_table_and_wrong_draws_are_refused() -> None:
    program = get("mssp")
    with pytest.raises(DataError, match="it has no rows"):
        program.settle(table({}).iloc[:0], performance_year=2022)
    for draws, said in (
        ({"expenditure": np.ones((2, 5))}, r"shape \(2, 5\), and \(1, draws\)"),
        ({"spending": np.ones((1, 5))}, "`spending`, which is no number"),
        ({"expenditure": np.full((1, 5), np.nan)}, "hold missing values"),
        ({"expenditure": np.ones((1, 5)), "benchmark": np.ones((1, 4))}, "`4`, `5` columns"),
    ):
        with pytest.raises(DataError, match=said):
            program.settle(table({}), performance_year=2022, draws=draws)


def test_a_rule_without_a_value_is_said(tmp_path: Any) -> None:
    path = tmp_path / "gap.toml"
    path.write_text(
        'extends = "mssp"\nyears = "2012-2029"\n[variants]\nBASIC_E = { title = "E" }\n'
    )
    with pytest.raises(DesignError, match="no `minimum_rate_table` for `BASIC_E` in 2029"):
        get(path).settle(table({}), performance_year=2029)


def test_thresholds_act_on_draws() -> None:
    rng = np.random.default_rng(7)
    frame = table({"expenditure": 200e6}, {"expenditure": 190e6})
    draws = frame["expenditure"].to_numpy()[:, None] + rng.normal(0, 3e6, (2, 4000))
    settled = get("mssp").settle(frame, performance_year=2022, draws={"expenditure": draws})
    gross = 200e6 - draws
    wanted = np.where(gross >= 4e6, 0.49 * gross, np.where(gross <= -4e6, 0.3 * gross, 0.0))
    np.testing.assert_allclose(settled["earned"], wanted)
    summary = settled.summary(level=0.9)
    assert summary["organization"].tolist() == ["A0", "A1", "(all)"]
    assert summary["chance_paid"][0] == pytest.approx((gross[0] >= 4e6).mean())
    assert summary["chance_owing"][0] == pytest.approx((gross[0] <= -4e6).mean())
    assert summary["mean"][2] == pytest.approx(wanted.sum(axis=0).mean())
    assert summary["conf_low"][1] == pytest.approx(np.quantile(wanted[1], 0.05))
    said = str(settled.explain("A0"))
    assert "benchmark: $200,000,000.00. " in said
    assert re.search(r"earned: \$[\d,.]+ \(95% of draws -\$[\d,.]+ to \$[\d,.]+\)\.", said)
    assert re.search(r"minimum_met: yes in \d\d\.\d% of the draws\.", said)
    one = settled.tidy(level=0.9).query("organization == 'A1' and line == 'earned'").iloc[0]
    assert [one["value"], one["conf_low"]] == pytest.approx(
        [summary["mean"][1], summary["conf_low"][1]]
    )
    # an ACO that saves nothing is sometimes paid, and its expected payment is above zero
    assert 0.05 < summary["chance_paid"][0] < 0.15


def test_the_result_explains_itself() -> None:
    settled = settle({}, {"expenditure": 210e6, "track": "TRACK_2", "qual_score": 0.5}, year=2020)
    said = str(settled.explain("A1"))
    assert said.startswith("A1, Medicare Shared Savings Program, TRACK_2, performance year 2020")
    assert "shared_losses: -$6,000,000.00." in said
    assert "Not confirmed: `gain_cap`, `loss_limit_benchmark`, `loss_rate_high`." in said
    assert "Not confirmed" not in str(settled.explain("A0"))
    assert settled.explain("A0").table["line"].tolist() == [line.name for line in settled.lines]
    with pytest.raises(DataError, match="`B7` is not among the 2 organizations"):
        settled.explain("B7")
    with pytest.raises(DataError, match="no line `paid`"):
        settled["paid"]


def test_tables_of_a_settlement() -> None:
    settled = settle({"person_years": 20_000}, {"expenditure": 210e6, "person_years": 20_000})
    assert settled["gross_per_person_year"].tolist() == [500.0, -500.0]
    tidy, wide = settled.tidy(), settled.wide()
    assert len(tidy) == 2 * len(settled.lines)
    assert tidy["line"][: len(settled.lines)].tolist() == [line.name for line in settled.lines]
    one = tidy.query("organization == 'A1' and line == 'earned'").iloc[0]
    assert (one["value"], one["unit"], one["performance_year"]) == (-3e6, "usd", 2022)
    assert wide["earned"].tolist() == settled.payment.tolist()
    assert set(settled.values_used()["status"]) <= {"confirmed", "secondary", "unconfirmed"}
    assert "sequestration" in set(settled.values_used()["parameter"])


def test_a_replay_under_other_rules_marks_its_values() -> None:
    program = get("mssp").with_values(sequestration=0.0, gain_cap=0.01)
    settled = program.settle(table({}), performance_year=2022)
    assert settled.payment.tolist() == [2e6]
    used = settled.values_used().set_index("parameter")["status"]
    assert used[["sequestration", "gain_cap"]].tolist() == ["user", "user"]
