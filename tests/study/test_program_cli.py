"""`vbceval program`: list, show, settle; the published results recomputed, in old and new layouts."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from vbceval.core.errors import DataError
from vbceval.data.mssp_settlement import half_width, is_results_file, read_settlement_rows
from vbceval.programs import get
from vbceval.study.cli import main
from vbceval.study.mssp_replication import replicate

HEADER = [
    "ACO_ID", "ACO_Name", "Current_Start_Date", "Current_Track", "Risk_Model", "N_AB", "Sav_rate",
    "MinSavPerc", "DisAdj", "EarnSaveLoss", "Met_QPS", "Met_AltQPS", "QualScore", "FinalShareRate",
    "Rev_Exp_Cat", "ABtotBnchmk", "ABtotExp", "Guardrail", "Adv_Pay_Recoup",
]  # fmt: skip
# track; people; savings rate; minimum; disaster; published; standard; alternative; score; rate;
# revenue; benchmark; expenditure. The published amounts are worked out by hand.
ROWS = [
    # 75% of 8,000,000, less 2%
    ["EN", "30,000", "8.00", "1.00", "", "$5,880,000", "1", "", "85.12", "75", "High Revenue", "100,000,000", "92,000,000"],
    # alternative standard: 75% x 70.00% of 4,000,000, less 2%
    ["EN", "30,000", "4.00", "0", "", "2,058,000", "0", "1", "70.00", "52.5", "High Revenue", "100,000,000", "96,000,000"],
    # half the rate of 40% below a minimum of 3%
    ["A", "10,000", "1.00", "3.00", "-", "196,000", "1", "", "77.05", "20", "Low Revenue", "100,000,000", "99,000,000"],
    # 1 - 0.75 x 60.00% of losses of 5,000,000, less 100,000 for a disaster
    ["EN", "30,000", "-5.00", "2.00", "-100,000", "(2,650,000)", "1", "", "60.00", "75", "High Revenue", "100,000,000", "105,000,000"],
    # below the minimum and of high revenue
    ["B", "10,000", "1.00", "3.00", ".", "0", "1", "", "90.00", "40", "High Revenue", "100,000,000", "99,000,000"],
    # the limit of 10% of the benchmark
    ["E", "30,000", "30.00", "2.00", "", "10,000,000", "1", "", "88.00", "50", "Low Revenue", "100,000,000", "70,000,000"],
]  # fmt: skip


@pytest.fixture
def results_2024(tmp_path: Path) -> Path:
    frame = pd.DataFrame(
        [
            [f"A100{i}", f"ACO {i}", "1/1/2024", row[0], "Two-Sided", *row[1:], "0", "0"]
            for i, row in enumerate(ROWS)
        ],
        columns=HEADER,
    )
    path = tmp_path / "PY_Financial_and_Quality_Results_2024.csv"
    frame.to_csv(path, index=False)
    return path


def test_the_later_layout_is_recomputed_to_the_dollar(results_2024: Path) -> None:
    done = replicate(results_2024)
    assert done.frame["outcome"].tolist() == ["within_1_dollar"] * 4 + ["zero", "within_1_dollar"]
    row = done.table().iloc[0]
    assert row[["money_due", "paid", "owing", "within_1_dollar", "unexplained"]].tolist() == [
        5,
        4,
        1,
        5,
        0,
    ]
    assert done.unexplained().empty


def test_columns_of_2024_on_ended_agreements_and_investment_payments(results_2024: Path) -> None:
    frame = pd.read_csv(results_2024, dtype=str).rename(columns={"Adv_Pay_Recoup": "AIPRecoup"})
    # 55% of 5,000,000 for 8 of 12 months, less 100,000 for a disaster
    frame["Impact_Mid_Year_Termination"] = ["0", "0", "-", "1", "", "0"]
    frame.loc[3, "EarnSaveLoss"] = "(1,733,333)"
    frame.loc[0, "AIPRecoup"] = "80,000"
    frame.to_csv(results_2024, index=False)
    done = replicate(results_2024)
    outcomes = ["within_1_dollar"] * 3 + ["unexplained", "zero", "within_1_dollar"]
    assert done.frame["outcome"].tolist() == outcomes
    assert done.unexplained()["note"].tolist() == [
        "the agreement ended during the year; 8.00 months of losses would give it"
    ]
    # of savings it shares none
    frame.loc[0, "Impact_Mid_Year_Termination"] = "1"
    frame.to_csv(results_2024, index=False)
    assert replicate(results_2024).frame["computed"][0] == 0
    assert done.settlement["paid_out"][0] == pytest.approx(5.8e6)


@pytest.mark.parametrize(
    ("updated", "published", "wanted"),
    [
        # half of 75% x 85.12% of 8,000,000 on the totals of the year; 20,000 people at 5,000 dollars
        ("5,000", "2,553,600", "within_1_dollar"),
        # all of it where the totals are those of the half-year
        ("10,000", "5,107,200", "within_1_dollar"),
        ("5,000", "5,107,200", "unexplained"),
        # within half a unit of the score's last digit
        ("5,000", "2,553,740", "within_rounding"),
    ],
)
def test_half_years_of_2019_are_settled_on_either_kind_of_total(
    tmp_path: Path, updated: str, published: str, wanted: str
) -> None:
    row = {
        "ACO_ID": "A1", "ACO_Name": "ACO", "Current_Start_Date": "7/1/2019", "Current_Enhanced": 1,
        "Participation_Six_Months": 1, "N_AB": "20,000", "Sav_rate": "8.00%", "MinSavPerc": "1.00%",
        "EarnSaveLoss": published, "Met_QPS": 1, "QualScore": "85.12%", "FinalShareRate": "63.84%",
        "ABtotBnchmk": "100,000,000", "ABtotExp": "92,000,000", "UpdatedBnchmk": updated,
    }  # fmt: skip
    path = tmp_path / "PY_Results_2019A.csv"
    pd.DataFrame([row]).to_csv(path, index=False)
    done = replicate(path, performance_year=2019)
    assert done.frame["outcome"].tolist() == [wanted]


def test_a_published_amount_that_does_not_follow_is_listed(
    results_2024: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = results_2024.read_text().replace("5,880,000", "5,881,000")
    results_2024.write_text(text)
    main_exits(["program", "settle", "mssp", "--year", "2024", str(results_2024)])
    said = capsys.readouterr().out
    assert "unexplained: 1" in said
    assert "A1000 ACO 0 (ENHANCED): published 5,881,000, computed 5,880,000.00" in said


def test_the_published_rounding_bounds_what_a_score_allows(results_2024: Path) -> None:
    # a score of 70.004 prints as 70.00
    text = results_2024.read_text().replace("2,058,000", "2,058,117").replace("52.5", "52.50")
    results_2024.write_text(text)
    done = replicate(results_2024).frame.iloc[1]
    assert done["outcome"] == "within_rounding"
    assert (done["high"] - done["low"]) / 2 == pytest.approx(0.75 * 0.00005 * 4e6 * 0.98)


def test_a_smaller_loss_may_be_at_a_limit_that_is_not_published(
    results_2024: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(results_2024, dtype="str")
    frame.loc[3, ["Current_Track", "EarnSaveLoss"]] = ["E", "-1,000,000"]
    frame.to_csv(results_2024, index=False)
    main_exits(["program", "settle", "mssp", "--year", "2024", str(results_2024)])
    said = capsys.readouterr().out
    assert "unexplained: 1" in said
    assert "computed -1,400,000.00" in said
    # 8% of revenue would limit losses to 1,100,000 less relief of 100,000
    assert "the limit of losses would give it at a revenue of 13,750,000" in said
    assert "assumed: 1 organization owing losses: limited by a share of the benchmark alone" in said


def main_exits(words: list[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        main(words)
    return int(caught.value.code or 0)


def test_what_is_wrong_is_said_in_words(
    tmp_path: Path, results_2024: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    semicolons = tmp_path / "table.csv"
    semicolons.write_text("aco_id;track\nA1;ENHANCED\n")
    twice = tmp_path / "twice.csv"
    twice.write_text("aco_id,track,n_ab,benchmark,expenditure\n" + "A1,BASIC_A,9000,1e8,-1\n" * 2)
    settle = ["program", "settle", "mssp", "--year", "2024"]
    for words, wanted in (
        ([*settle, str(semicolons)], "has one column: its fields are not separated by commas"),
        ([*settle, str(tmp_path)], "is a folder. Name a file in it"),
        (
            [*settle, str(twice)],
            "1 organization appears more than once (`A1`), so it would be paid",
        ),
        (
            [*settle, str(twice)],
            "hold a `expenditure` (expenditures of the performance year, total",
        ),
        ([*settle, str(twice)], "that is not 0 or more. Correct them."),
        ([*settle, str(results_2024), "--explain", "A9"], "`A9` is not among the 6 organizations"),
        (
            ["program", "show", "mssp", "--year", "2030"],
            "no performance year 2030; its rules cover",
        ),
    ):
        assert main_exits(words) == 1
        said = capsys.readouterr()
        assert wanted in said.err, words
        assert not said.out


def test_a_year_in_the_name_that_is_not_the_one_given_is_said(
    results_2024: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main_exits(["program", "settle", "mssp", "--year", "2025", str(results_2024)])
    assert "is called after 2024; it is settled under the rules of 2025" in capsys.readouterr().out
    main_exits(["program", "settle", "mssp", "--year", "2024", str(results_2024)])
    assert "is called after" not in capsys.readouterr().out


def test_every_missing_column_is_named_at_once(
    results_2024: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(results_2024, dtype="str")
    frame.drop(columns=["N_AB", "ABtotExp", "Current_Track"]).to_csv(results_2024, index=False)
    assert main_exits(["program", "settle", "mssp", "--year", "2024", str(results_2024)]) == 1
    said = capsys.readouterr().err
    for part in (
        "columns that a settlement reads are missing",
        "`nab`",
        "`abtotexp`",
        "currenttrack",
    ):
        assert part in said


def test_a_file_of_another_year_is_refused(
    results_2024: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(results_2024, dtype="str").assign(Year="2024")
    frame.to_csv(results_2024, index=False)
    assert main_exits(["program", "settle", "mssp", "--year", "2023", str(results_2024)]) == 1
    assert "`year` is 2023, but column `year` says 2024" in capsys.readouterr().err


def test_a_results_file_is_told_by_its_columns(results_2024: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    pd.DataFrame({"aco_id": ["A1"], "benchmark": [1.0]}).to_csv(own, index=False)
    assert (is_results_file(results_2024), is_results_file(own)) == (True, False)


def test_what_was_earned_must_be_there_to_compare(results_2024: Path) -> None:
    pd.read_csv(results_2024, dtype="str").drop(columns="EarnSaveLoss").to_csv(
        results_2024, index=False
    )
    with pytest.raises(DataError, match="no amounts earned or owed"):
        replicate(results_2024)


def test_a_results_file_without_what_was_earned_is_settled_alone(
    results_2024: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(results_2024, dtype="str").drop(columns="EarnSaveLoss")
    frame.to_csv(results_2024, index=False)
    assert main_exits(["program", "settle", "mssp", "--year", "2024", str(results_2024)]) == 0
    said = capsys.readouterr().out
    assert "settled: 6 organizations" in said
    assert "not compared: the file has no amounts earned or owed" in said


def test_a_table_of_ones_own_may_be_parquet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example, file = get("mssp").examples[0], tmp_path / "own.parquet"
    pd.DataFrame([example.table]).to_parquet(file)
    year = str(example.performance_year)
    assert main_exits(["program", "settle", "mssp", "--year", year, str(file)]) == 0
    assert "paid: 1 organization, $1,881,600" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["ENHANCED", "ENHANCED Track", "EN ", "en"])
@pytest.mark.parametrize("level", ["BASIC Track Level {}", "Basic {}", "Level {}", " {}"])
def test_tracks_are_told_in_any_of_their_names(results_2024: Path, name: str, level: str) -> None:
    frame = pd.read_csv(results_2024, dtype="str")
    short = frame["Current_Track"]
    frame["Current_Track"] = [name if t == "EN" else level.format(t) for t in short]
    frame.to_csv(results_2024, index=False)
    got = read_settlement_rows(results_2024).frame["track"]
    assert got.tolist() == ["ENHANCED" if t == "EN" else f"BASIC_{t}" for t in short]


def test_a_table_of_ones_own_is_settled_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = get("mssp").examples[0]
    file, out = tmp_path / "own.csv", tmp_path / "lines.csv"
    example.frame().to_csv(file, index=False)
    words = ["program", "settle", "mssp", "--year", "2024", str(file), "--out", str(out)]
    assert main_exits([*words, "--explain", "A1"]) == 0
    said = capsys.readouterr().out
    assert "paid: 1 organization, $1,881,600" in said
    assert "earned: $1,881,600.00." in said
    assert pd.read_csv(out).query("line == 'earned'")["value"].tolist() == [1881600.0]


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main_exits(["program", "list"]) == 0
    assert (
        "mssp\n  title: Medicare Shared Savings Program\n  years: 2012-2027\n  status: verified"
        in (capsys.readouterr().out)
    )
    assert main_exits(["program", "show", "mssp", "--year", "2018"]) == 0
    said = capsys.readouterr().out
    assert "| `TRACK_1` |" in said
    assert "BASIC level A" not in said
    assert main_exits(["program", "show", "mspp"]) == 1
    assert "no program `mspp`" in capsys.readouterr().err


def test_half_widths_follow_the_last_printed_digit() -> None:
    assert half_width(pd.Series([0.5, 0.49])) == 0.005
    assert half_width(pd.Series([85.31, 70.1]) * 0.01) == pytest.approx(5e-5)


REPLICATION = re.compile(r"^\| (20\d\d) \| ([\d,| ]+) \|$", re.MULTILINE)
COLUMNS = [
    "acos", "money_due", "within_1_dollar", "within_rounding", "median_half_width", "unexplained",
    "zero",
]  # fmt: skip


def documented(root: Path) -> dict[int, list[int]]:
    """Rows of the table of the page on settlement, by performance year."""
    text = (root / "docs" / "explanation" / "settlement.md").read_text(encoding="utf-8")
    rows = REPLICATION.findall(text)
    return {int(y): [int(c.replace(",", "")) for c in cells.split("|")] for y, cells in rows}


@pytest.mark.parametrize("year", [2014, 2015, 2016, 2017, 2018, 2020])
def test_every_published_amount_follows_from_the_rules(
    shared_dir: Path, repo_root: Path, year: int
) -> None:
    name = f"mssp_puf_py{year}.csv.gz" if year != 2020 else "mssp_panelslice_py2020.csv.gz"
    row = replicate(shared_dir / "data" / "mssp" / name).table().iloc[0]
    assert row["within_rounding"] == row["money_due"] > 80
    assert row["unexplained"] == 0
    assert [round(row[name]) for name in COLUMNS] == documented(repo_root)[year]


def test_minimum_rates_of_one_sided_acos_are_the_published_ones(shared_dir: Path) -> None:
    rows = read_settlement_rows(shared_dir / "data" / "mssp" / "mssp_puf_py2018.csv.gz")
    settled = get("mssp").settle(rows.frame, performance_year=2018)
    one_sided = (rows.frame["track"] == "TRACK_1").to_numpy()
    apart = (settled["minimum_rate"] - rows.frame["min_sav_perc"].to_numpy())[one_sided]
    assert abs(apart).max() < 1e-8


def test_identifiers_keep_their_leading_zeros(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = get("hacrp").examples[0]
    frame = example.frame().iloc[[0]].astype("object")
    frame[get("hacrp").organization] = "010001"
    frame.to_csv(tmp_path / "table.csv", index=False)
    out = tmp_path / "lines.csv"
    words = ["--year", str(example.performance_year), str(tmp_path / "table.csv")]
    assert (
        main_exits(["program", "settle", "hacrp", *words, "--explain", "010001", "--out", str(out)])
        == 0
    )
    assert "010001, Hospital-Acquired" in capsys.readouterr().out
    assert pd.read_csv(out, dtype="str")["organization"].unique().tolist() == ["010001"]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
