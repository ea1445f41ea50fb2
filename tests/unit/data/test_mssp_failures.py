"""What bad files get: one DataError that names rows, counts and the remedy."""

from __future__ import annotations

import gzip
import re

import pytest

from vbceval.core.errors import DataError
from vbceval.data import read_file, read_mssp


@pytest.fixture
def rows_2018(writer, make_acos):
    return writer.rows("2018", make_acos(2018, 5, start="2016-01-01"))


def fails(path, *parts: str, year: int | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read_file(path, year)
    for part in parts:
        assert part in str(caught.value)
    return str(caught.value)


def test_a_truncated_csv(writer, rows_2018, csv_text) -> None:
    text = csv_text(rows_2018)
    path = writer.put(text[: text.rindex(",") - 40], "py2018.csv")
    fails(path, "`py2018.csv`", "1 rows have fewer fields", "lines `6`", "Download it again")


def test_a_csv_cut_inside_a_quoted_name(writer, rows_2018, csv_text) -> None:
    text = csv_text(rows_2018)
    cut = text.rindex('"Example 5 Care') + 10
    fails(writer.put(text[:cut], "py2018.csv"), "not valid CSV", "line 6")


def test_a_row_with_a_comma_too_many(writer, rows_2018, csv_text) -> None:
    lines = csv_text(rows_2018).splitlines()
    lines[2] = lines[2].replace('"Example 2 Care Organization, LLC"', "Example 2, LLC")
    fails(writer.put("\n".join(lines), "py2018.csv"), "more fields", "lines `3`", "outside quotes")


def test_text_in_a_numeric_column(writer, rows_2018, csv_text) -> None:
    rows_2018[1]["ABtotExp"] = "about 90 million"
    rows_2018[3]["N_Ben_Female"] = "many"
    rows_2018[2]["N_AB_Year_DIS_PY"] = "n.k."
    message = fails(writer.put(csv_text(rows_2018), "py2018.csv"), "3 problems")
    assert "`abtotexp` has 1 cells that are not numbers (`line 3: about 90 million`)" in message
    assert "`nbenfemale`" in message
    assert "`nabyeardispy`" in message


def test_every_failure_of_a_file_is_in_one_message(writer, rows_2018, csv_text) -> None:
    rows_2018[0]["Sav_rate"] = "0.2"
    rows_2018[1]["ACO_ID"] = rows_2018[2]["ACO_ID"]
    rows_2018[3]["Initial_Start_Date"] = "once"
    rows_2018[4]["QualScore"] = "91.3"
    text = csv_text(rows_2018)
    message = fails(writer.put(text + "A9,too,short\n", "py2018.csv"), "5 problems")
    for part in (
        "fewer fields",
        "savings rate",
        "appear more than once",
        "not dates",
        "do not fit",
    ):
        assert part in message


def test_the_savings_rate_check_lists_rows_found_and_expected(writer, rows_2018, csv_text) -> None:
    expected = float(rows_2018[2]["Sav_rate"])
    rows_2018[2]["Sav_rate"] = f"{expected + 0.0002:.4f}"
    message = fails(
        writer.put(csv_text(rows_2018), "py2018.csv"), "in 1 of 5 rows", "`A1003: found"
    )
    found, want = re.findall(r"(-?\d\.\d{6})", message)
    assert float(found) - float(want) == pytest.approx(0.0002, abs=6e-5)


@pytest.mark.parametrize(("style", "change"), [(".3e", 0.02), (".0%", 0.0)])
def test_the_savings_rate_is_checked_however_it_is_written(
    style, change, writer, rows_2018, csv_text
) -> None:
    for row in rows_2018:
        row["Sav_rate"] = f"{float(row['Sav_rate']) + change:{style}}"
    fails(writer.put(csv_text(rows_2018), "py2018.csv"), "the savings rate is not", "of 5 rows")


@pytest.mark.parametrize("column", ["Sav_rate", "ABtotBnchmk", "ABtotExp", "N_AB_Year_PY"])
@pytest.mark.parametrize("rows", [1, 5])
def test_a_row_that_cannot_be_checked_is_listed(column, rows, writer, rows_2018, csv_text) -> None:
    for row in rows_2018[:rows]:
        row[column] = ""
    code = column.lower().replace("_", "")
    found = f"`{code}` is blank in {rows} of 5 rows (`line 2`"
    fails(writer.put(csv_text(rows_2018), "py2018.csv"), found)


def test_a_savings_rate_off_by_rounding_alone_passes(writer, make_acos, csv_text) -> None:
    for decimals in (4, 6):
        acos = make_acos(2018, 30)
        rows = writer.rows("2018", acos)
        for row, aco in zip(rows, acos, strict=True):
            exact = (aco.benchmark - aco.expenditure) / aco.benchmark
            row["Sav_rate"] = f"{exact:.{decimals}f}"
        assert len(read_file(writer.put(csv_text(rows), "py2018.csv")).aco_year) == 30


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("ABtotExp", 1000, "`BnchmkMinExp` is not benchmark minus expenditure"),
        ("N_AB_Year_DIS_PY", 40, "person-years of the four enrollment types"),
        ("Per_Capita_Exp_TOTAL_PY", 25, "expenditure is not person-years times"),
    ],
)
def test_a_changed_value_is_found(column, change, message, writer, rows_2018, csv_text) -> None:
    rows_2018[4][column] = str(int(rows_2018[4][column]) + change)
    fails(writer.put(csv_text(rows_2018), "py2018.csv"), message, "`A1005: found")


def test_text_in_a_share_of_people(writer, make_acos, csv_text) -> None:
    rows = writer.rows("2022", make_acos(2022, start="2021-01-01"))
    rows[0]["Perc_Dual"] = "n.k."
    fails(writer.put(csv_text(rows), "py2022.csv"), "`percdual` has 1 cells that are not numbers")


def test_missing_columns_are_named_with_the_file(writer, rows_2018, csv_text) -> None:
    gone = ("ABtotExp", "Sav_rate", "Per_Capita_Exp_ALL_DIS_BY2", "Agreement_Period_Num")
    rows = [{k: v for k, v in row.items() if k not in gone} for row in rows_2018]
    fails(
        writer.put(csv_text(rows), "py2018.csv"),
        "`py2018.csv`", "4 columns of a 2018 results file are missing", "`abtotexp`", "`savrate`",
        "`agreementperiodnum`", "`per_capita of disabled in BY2`",
    )  # fmt: skip


def test_a_column_twice(writer, rows_2018, csv_text) -> None:
    rows = [row | {"sav_RATE": row["Sav_rate"]} for row in rows_2018]
    fails(writer.put(csv_text(rows), "py2018.csv"), "`savrate`", "appear twice")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"  \n\n", "is empty"),
        (b"ACO_ID,ACO_Name\n", "no complete row"),
        ("ACO_ID,Sav_rate\nA1,0.1\n".encode("utf-16"), "not UTF-8 text"),
        (b"ACO_ID,ACO_Name\nA1,\x81\x8d\n", "neither UTF-8 nor Windows-1252"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer"),
        (b'[{"ACO_ID": "A1"', "JSON that ends too early"),
        (b'{"error": "no data"}', "not a list of records"),
        (gzip.compress(b"ACO_ID,ACO_Name\n" * 90, mtime=0)[:-9], "gzip file that ends too early"),
        (b"PK\x03\x04 not a workbook", "no readable sheet"),
    ],
)
def test_what_is_no_table(content, message, writer) -> None:
    path = writer.folder / "mssp_py2018.csv"
    path.write_bytes(content)
    fails(path, message)
    with pytest.raises(DataError, match=re.escape(message)):
        read_mssp(writer.folder)


def test_a_file_that_does_not_exist(tmp_path) -> None:
    fails(tmp_path / "py2018.csv", "cannot be opened")
    with pytest.raises(DataError, match="does not exist"):
        read_mssp(tmp_path / "nowhere")


def test_a_folder_without_results(writer) -> None:
    writer.put("a,b\n1,2\n", "other.csv")
    with pytest.raises(DataError, match="no results file"):
        read_mssp(writer.folder)


def test_missing_years_are_named(writer, make_acos) -> None:
    writer.write("2018", make_acos(2018, start="2016-01-01"))
    with pytest.raises(DataError, match=r"years `2016`, `2017`; there are files for `2018`"):
        read_mssp(writer.folder, years=[2016, 2017, 2018])


def test_no_years_at_all(writer, make_acos) -> None:
    writer.write("2018", make_acos(2018, start="2016-01-01"))
    with pytest.raises(DataError, match="`years` is empty"):
        read_mssp(writer.folder, years=[])


@pytest.mark.parametrize(
    ("layout", "column", "text", "message"),
    [
        ("2018", "Current_Track_1", "maybe", "not 0/1 flags (`line 2: maybe`)"),
        ("2022", "Current_Track", "Q", "not tracks A-E or EN (`line 2: Q`)"),
    ],
)
def test_a_track_that_is_none(layout, column, text, message, writer, make_acos, csv_text) -> None:
    rows = writer.rows(layout, make_acos(int(layout), start="2018-01-01"))
    rows[0][column] = text
    fails(writer.put(csv_text(rows), f"py{layout}.csv"), message)


def test_two_files_for_one_year(writer, make_acos) -> None:
    acos = make_acos(2018, start="2016-01-01")
    writer.write("2018", acos, "py2018.csv")
    writer.write("2018", acos, "py2018_copy.csv.gz")
    with pytest.raises(DataError, match=r"2 files hold performance year 2018"):
        read_mssp(writer.folder)


@pytest.mark.parametrize(("half", "absent"), [("2019", "2019A"), ("2019A", "January-June")])
def test_half_of_2019_does_not_reconcile(half, absent, writer, make_acos) -> None:
    late = half == "2019A"
    acos = make_acos(2019, half=2 if late else 1, start="2019-07-01" if late else "2016-01-01")
    writer.write(half, acos, f"mssp_{half}.csv")
    writer.write("2018", make_acos(2018, start="2016-01-01"))
    with pytest.raises(DataError, match="2019 does not reconcile") as caught:
        read_mssp(writer.folder)
    assert absent in str(caught.value)
    assert read_mssp(writer.folder, years=[2018]).years == [2018]


def test_the_same_half_of_2019_twice(writer, make_acos) -> None:
    late = make_acos(2019, half=2, start="2019-07-01")
    whole = [a for a in make_acos(2019, 9, start="2018-01-01") if a.number > 4]
    writer.put_json(writer.rows("2019", late + whole), "mssp_py2019.json")
    writer.write("2019A", late, "mssp_2019A.csv")
    with pytest.raises(DataError, match="in the same part of 2019"):
        read_mssp(writer.folder)


def test_failures_of_several_files_come_together(writer, make_acos, csv_text) -> None:
    for year in (2016, 2018):
        rows = writer.rows(str(year), make_acos(year, start="2014-01-01"))
        rows[0]["Sav_rate"] = "0.5"
        writer.put(csv_text(rows), f"py{year}.csv")
    with pytest.raises(DataError) as caught:
        read_mssp(writer.folder)
    assert "`py2016.csv`" in str(caught.value)
    assert "`py2018.csv`" in str(caught.value)


def test_a_year_that_cannot_be_told(writer, make_acos) -> None:
    acos = make_acos(2018, start="2016-01-01")
    path = writer.write("2018", acos, "results.csv")
    fails(path, "performance year", "pass `year`")
    assert read_file(path, 2018).years == [2018]
    with pytest.raises(DataError, match="cannot be told"):
        read_mssp(writer.folder)


def test_a_year_before_the_agreements_start(writer, make_acos) -> None:
    path = writer.write("2018", make_acos(2018, start="2018-01-01"), "py2017.csv")
    fails(path, "start after performance year 2017", "Correct the file name")


def test_a_year_other_than_the_files_own(writer, make_acos) -> None:
    path = writer.write("2020", make_acos(2020, start="2018-01-01"))
    fails(path, "`year` is 2021", "`performanceyear` says 2020", "Leave `year` out", year=2021)


@pytest.mark.parametrize("printed", ["", "PY2020", "2020.0"])
def test_a_year_in_another_dress(printed, writer, make_acos, csv_text) -> None:
    rows = writer.rows("2020", make_acos(2020, start="2018-01-01"))
    text = csv_text([row | {"performance_year": printed} for row in rows])
    assert read_file(writer.put(text, "py2020.csv")).years == [2020]


def test_two_years_in_one_file(writer, make_acos, csv_text) -> None:
    rows = writer.rows("2020", make_acos(2020, start="2018-01-01"))
    rows[0]["performance_year"] = "2021"
    fails(writer.put(csv_text(rows), "py.csv"), "2 performance years", "`2020`, `2021`")


def test_no_message_holds_a_small_count(writer, rows_2018, csv_text) -> None:
    rows_2018[0]["N_Ben_Race_Native"] = "7 people"
    rows_2018[1]["N_AB_Year_ESRD_PY"] = "9"
    with pytest.raises(DataError) as caught:
        read_file(writer.put(csv_text(rows_2018), "py2018.csv"))
    # the cells are named by column and line, their content is not
    assert "7 people" not in str(caught.value)
    assert "`nbenracenative`" in str(caught.value)
