"""One identifier for an ACO across 2018, and across the names of 2013."""

from __future__ import annotations

import zipfile

import pytest

from vbceval.core.errors import DataError
from vbceval.data import read_mssp
from vbceval.data.mssp_vintage import year_in_name


def test_the_crosswalk_links_numbers_to_identifiers(writer, make_acos, csv_text) -> None:
    early, late = make_acos(2016, 5, start="2014-01-01"), make_acos(2018, 5, start="2014-01-01")
    writer.write("2016", early)
    rows = writer.rows("2018", late)
    rows[0]["ACO_Name"] = "EXAMPLE 1 CARE ORGANIZATION INC."
    rows[1]["ACO_Name"] = "Renamed"
    writer.put(csv_text(rows), "py2018.csv")
    writer.crosswalk(early[:4])
    results = read_mssp(writer.folder)
    per_aco = results.aco_year.groupby("aco_id")["performance_year"].apply(list).to_dict()
    assert per_aco["A1001"] == [2016, 2018]
    # the fifth ACO is not in the crosswalk: it keeps its number, and is counted
    assert per_aco["A60005"] == [2016]
    assert per_aco["A1005"] == [2018]
    assert results.links.set_index("aco_num")["linked_by"].to_dict()["A60005"] == "none"
    steps = results.attrition.set_index("step")["n"]
    assert steps["ACOs linked by the crosswalk"] == 4
    assert steps["ACOs that keep their old number or name"] == 1
    assert steps["linked ACOs whose name differs before and after 2018"] == 1
    assert set(results.spending["aco_id"]) == set(results.aco_year["aco_id"])


def test_both_sides_of_2018_need_a_crosswalk(writer, make_acos) -> None:
    writer.write("2016", make_acos(2016, start="2014-01-01"))
    writer.write("2018", make_acos(2018, start="2014-01-01"))
    with pytest.raises(DataError, match="4 ACOs of 2017 and before are numbered otherwise"):
        read_mssp(writer.folder)
    # either side alone does not
    assert read_mssp(writer.folder, years=[2016]).years == [2016]


def test_a_crosswalk_that_is_not_one_to_one(writer, make_acos) -> None:
    writer.write("2016", make_acos(2016, start="2014-01-01"))
    writer.put("ACO_ID,ACO_NUM\nA1001,A60001\nA1001,A60002\nA1003,\n", "xwalk.csv")
    with pytest.raises(DataError) as caught:
        read_mssp(writer.folder)
    assert "more than one `aconum` (`A1001`)" in str(caught.value)
    assert "1 rows lack one of the two" in str(caught.value)


def test_a_damaged_crosswalk_is_not_passed_over(writer, make_acos) -> None:
    writer.write("2016", make_acos(2016, start="2014-01-01"))
    (writer.folder / "aco_id_crosswalk.csv.gz").write_bytes(b"\x1f\x8b\x08 cut")
    with pytest.raises(DataError, match=r"`aco_id_crosswalk\.csv\.gz` is a gzip file that ends"):
        read_mssp(writer.folder)


def test_a_crosswalk_that_is_another_table(writer, make_acos) -> None:
    writer.write("2016", make_acos(2016, start="2014-01-01"))
    other = writer.put("a,b\n1,2\n", "other.csv")
    with pytest.raises(DataError, match=r"needs columns `ACO_NUM` and `ACO_ID` and has `a`, `b`"):
        read_mssp(writer.folder, crosswalk=other)


def test_two_crosswalks(writer, make_acos) -> None:
    acos = make_acos(2016, start="2014-01-01")
    writer.write("2016", acos)
    writer.put(writer.crosswalk(acos).read_text(), "second.csv")
    with pytest.raises(DataError, match="2 files look like the ACO identifier crosswalk"):
        read_mssp(writer.folder)


def workbook(rows: list[list[str]]) -> dict[str, str]:
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    strings = sorted({cell for row in rows for cell in row})
    body = "".join(
        f'<row r="{r}">'
        + "".join(
            f'<c r="{chr(65 + c)}{r}" t="s"><v>{strings.index(cell)}</v></c>'
            for c, cell in enumerate(row)
            if cell
        )
        + "</row>"
        for r, row in enumerate(rows, 1)
    )
    shared = "".join(f"<si><r><t>{s[:2]}</t></r><r><t>{s[2:]}</t></r></si>" for s in strings)
    return {
        "xl/worksheets/sheet1.xml": f"<worksheet {main}><sheetData>{body}</sheetData></worksheet>",
        "xl/sharedStrings.xml": f"<sst {main}>{shared}</sst>",
    }


def test_the_crosswalk_as_a_workbook(writer, make_acos) -> None:
    acos = make_acos(2016, start="2014-01-01")
    writer.write("2016", acos)
    path = writer.folder / "aco_id_crosswalk.xlsx"
    rows = [["ACO_ID", "", "ACO_NUM"], *([a.aco_id, "", a.aco_num] for a in acos)]
    with zipfile.ZipFile(path, "w") as book:
        for name, text in workbook(rows).items():
            book.writestr(name, text)
    results = read_mssp(writer.folder)
    assert results.aco_year["aco_id"].tolist() == [aco.aco_id for aco in acos]


def test_2013_without_identifiers_is_linked_by_name_and_date(writer, make_acos, csv_text) -> None:
    early = make_acos(2013, 4, start="2013-01-01")
    rows = writer.rows("2013 named", early)
    rows[0]["ACO Name"] = "EXAMPLE 1 CARE ORGANIZATION"
    rows[2]["ACO Name"] = "Renamed Since"
    rows[3]["Start Date"] = "07/01/2012"
    writer.put(csv_text(rows), "mssp_py2013.csv")
    later = make_acos(2016, 5, start="2013-01-01")
    writer.write("2016", later)
    writer.crosswalk(later)
    results = read_mssp(writer.folder)
    first = results.aco_year[results.aco_year["performance_year"] == 2013]
    assert sorted(first["aco_id"]) == [
        "A1001", "A1002", "name:example-4-care-organization-llc", "name:renamed-since",
    ]  # fmt: skip
    steps = results.attrition.set_index("step")["n"]
    assert steps["ACOs linked by name and start date"] == 2
    assert steps["ACOs that keep their old number or name"] == 2
    assert first["earn_save_loss"].isna().all()


def test_the_first_start_date_is_found_in_earlier_files(writer, make_acos) -> None:
    writer.write("2020", make_acos(2020, 2, start="2015-01-01", agree="Renewal", period=2,
                                   current="2018-01-01"))  # fmt: skip
    renewed = make_acos(
        2022, 3, start="2015-01-01", agree="Renewal", period=3, current="2021-01-01"
    )
    new = [aco for aco in make_acos(2022, 4, start="2022-01-01") if aco.number > 3]
    writer.write("2022", renewed + new)
    frame = read_mssp(writer.folder).aco_year.query("performance_year == 2022")
    cohorts = frame.set_index("aco_id")["cohort"]
    assert cohorts[["A1001", "A1002", "A1004"]].tolist() == [2015, 2015, 2022]
    # the third is in no file that prints its first start
    assert cohorts.isna()["A1003"]


def test_a_crosswalk_that_makes_two_acos_one(writer, make_acos) -> None:
    rows = writer.rows("2016", make_acos(2016, start="2014-01-01"))
    rows[1]["ACO_Num"] = "A1001"
    from_rows = writer.put(
        "\n".join([",".join(rows[0]), *(",".join(f'"{v}"' for v in r.values()) for r in rows)]),
        "py2016.csv",
    )
    crosswalk = writer.put("ACO_ID,ACO_NUM\nA1001,A60001\n", "xwalk.csv")
    with pytest.raises(DataError, match="appear twice in a performance year once"):
        read_mssp([from_rows], crosswalk=crosswalk)


@pytest.mark.parametrize(
    ("name", "year"),
    [
        ("mssp_puf_py2014.csv.gz", 2014),
        ("PY 2023 ACO Results PUF.csv", 2023),
        ("PY 2024 ACO Results PUF_Rerun_20250925.csv", 2024),
        ("PY_Financial_and_Quality_Results_2024_revised 2026_07_17.csv", 2024),
        ("Performance_Year_Financial_and_Quality_Results_PUF_2022_01_01.csv", 2022),
        ("Performance_Year_Financial_and_Quality_Results_2021_suppress.csv", 2021),
        ("ACO.SSP.PUF.Y2016.csv", 2016),
        ("2019A.csv", 2019),
        ("2013_Shared_Savings_Program_Accountable_Care_Organizations__ACO__PUF.csv", 2013),
        ("results.csv", None),
        ("county_20180101.csv", None),
    ],
)
def test_the_year_in_published_file_names(name: str, year: int | None) -> None:
    assert year_in_name(name) == year
