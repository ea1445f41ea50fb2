"""Every published layout gives the same frames."""

from __future__ import annotations

import pandas as pd
import pytest

from vbceval.data import read_file, read_mssp
from vbceval.data.mssp_frames import ACO_YEAR, SPENDING

SINGLE = {
    "2014": {"start": "2013-01-01"},
    "2015": {"start": "2014-01-01"},
    "2016": {"start": "2014-01-01"},
    "2018": {"start": "2016-01-01"},
    "2020": {"start": "2018-01-01"},
    "2022": {"start": "2021-01-01", "track": "Track_2"},
    "2024": {"start": "2022-01-01", "track": "Track_2"},
}


@pytest.mark.parametrize("layout", SINGLE)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_values_survive_the_layout(layout, newline, writer, make_acos, csv_text) -> None:
    year = int(layout)
    acos = make_acos(year, **SINGLE[layout])
    text = "\ufeff" + csv_text(writer.rows(layout, acos), newline=newline) + newline * 3
    path = writer.put(text, f"results_py{year}.csv")
    results = read_file(path)
    frame = results.aco_year
    assert list(frame.columns) == ACO_YEAR
    assert list(results.spending.columns) == SPENDING
    assert results.years == [year]
    for aco, row in zip(acos, frame.itertuples(), strict=True):
        assert row.aco_id == (aco.aco_num if year <= 2015 or year == 2016 else aco.aco_id)
        assert row.benchmark == aco.benchmark
        assert row.expenditure == aco.expenditure
        assert row.earn_save_loss == aco.earned()
        exact = (aco.benchmark - aco.expenditure) / aco.benchmark
        assert row.sav_rate == pytest.approx(exact, abs=5.1e-5)
        assert row.min_sav_perc == pytest.approx(0.0235)
        assert row.final_share_rate == pytest.approx(0.4566)
        assert row.qual_score == pytest.approx(0.9132)
        assert row.qual_status == "scored"
        assert row.n_ab == aco.n_ab
        assert row.start_date == pd.Timestamp(aco.start)
        assert row.cohort == int(aco.start[:4])
        assert row.agreement_period == 1
        assert row.first_agreement
    if year < 2022:
        assert (frame["state"] == "NY, NJ").all()


@pytest.mark.parametrize("layout", SINGLE)
def test_spending_is_long_with_calendar_years_before_entry(layout, writer, make_acos) -> None:
    year = int(layout)
    acos = make_acos(year, **SINGLE[layout])
    spending = read_file(writer.write(layout, acos)).spending
    assert len(spending) == 16 * len(acos)
    keyed = spending.set_index(["aco_id", "enrollment_type", "reference"])
    aco = acos[1]
    entry = int(aco.start[:4])
    who = aco.aco_num if year <= 2016 else aco.aco_id
    for reference, calendar in zip(
        ("BY1", "BY2", "BY3", "PY"), (entry - 3, entry - 2, entry - 1, year), strict=True
    ):
        for stratum, code in (
            ("esrd", "ESRD"), ("disabled", "DIS"), ("aged_dual", "AGDU"), ("aged_non_dual", "AGND"),
        ):  # fmt: skip
            row = keyed.loc[(who, stratum, reference)]
            assert row["calendar_year"] == calendar
            assert row["per_capita"] == aco.per_capita(code, reference)
            assert row["hcc_score"] == pytest.approx(aco.hcc(code, reference), abs=5e-4)
            if reference in ("BY3", "PY"):
                assert row["person_years"] == aco.person_years(reference)[code]
            else:
                assert pd.isna(row["person_years"])


def test_renewals_have_no_calendar_year_for_benchmark_years(writer, make_acos) -> None:
    acos = make_acos(2018, start="2013-01-01", current="2016-01-01", agree="Renewal", period=2)
    results = read_file(writer.write("2018", acos))
    assert not results.aco_year["first_agreement"].any()
    assert (results.aco_year["cohort"] == 2013).all()
    dated = results.spending.groupby("reference")["calendar_year"].count()
    assert dated.to_dict() == {"BY1": 0, "BY2": 0, "BY3": 0, "PY": 4 * len(acos)}


def test_re_entering_is_not_a_first_agreement(writer, make_acos) -> None:
    acos = make_acos(2020, start="2020-01-01", agree="Re-Entering", period=1)
    frame = read_file(writer.write("2020", acos)).aco_year
    assert not frame["first_agreement"].any()
    assert set(frame["agreement_type"]) == {"re_entering"}


@pytest.mark.parametrize("layout", ["2013", "2013 shifted"])
def test_2013_with_long_labels_right_or_a_column_early(layout, writer, make_acos) -> None:
    acos = make_acos(2013, start="2013-01-01")
    results = read_file(writer.write(layout, acos))
    assert results.sources["labels_moved"].tolist() == [layout == "2013 shifted"]
    frame = results.aco_year
    assert frame["aco_num"].tolist() == [aco.aco_num for aco in acos]
    assert frame["expenditure"].tolist() == [aco.expenditure for aco in acos]
    assert frame["benchmark_minus_expenditure"].tolist() == [
        aco.benchmark - aco.expenditure for aco in acos
    ]
    assert frame["earn_save_loss"].tolist() == [aco.earned() for aco in acos]
    assert frame["n_ab"].tolist() == [aco.n_ab for aco in acos]
    assert frame["min_sav_perc"].tolist() == pytest.approx([0.023373146] * len(acos))
    assert set(frame["qual_status"]) == {"pay_for_reporting"}
    py = results.spending.query("reference == 'PY' and enrollment_type == 'aged_dual'")
    assert py["per_capita"].tolist() == [aco.per_capita("AGDU", "PY") for aco in acos]
    assert py["person_years"].tolist() == [aco.person_years("PY")["AGDU"] for aco in acos]
    assert (results.demographics["n_ben_race_other"] == 70).all()
    assert (py["calendar_year"] == 2013).all()


def test_the_long_first_year_of_2012_entrants_has_no_calendar_year(writer, make_acos) -> None:
    acos = make_acos(2013, start="2012-07-01")
    spending = read_file(writer.write("2013", acos)).spending
    assert spending.loc[spending["reference"] == "PY", "calendar_year"].isna().all()
    assert set(spending.loc[spending["reference"] == "BY1", "calendar_year"]) == {2009}


def test_pay_for_reporting_and_blank_quality(writer, make_acos, csv_text) -> None:
    rows = writer.rows("2014", make_acos(2014))
    rows[0]["QualScore"] = "P4R"
    rows[1]["QualScore"] = ""
    frame = read_file(writer.put(csv_text(rows), "py2014.csv")).aco_year
    assert frame["qual_status"].tolist() == ["pay_for_reporting", "missing", "scored", "scored"]
    assert frame["qual_score"].isna().tolist() == [True, True, False, False]


def test_json_from_the_publishers_interface(writer, make_acos) -> None:
    acos = make_acos(2018, start="2016-01-01")
    text = read_file(writer.write("2018", acos)).aco_year.drop(columns="source_file")
    path = writer.put_json(writer.rows("2018", acos), "mssp_py2018.json")
    records = read_file(path).aco_year.drop(columns="source_file")
    pd.testing.assert_frame_equal(text, records)


def test_gzip_and_windows_text(writer, make_acos, csv_text) -> None:
    rows = writer.rows("2018", make_acos(2018))
    rows[0]["ACO_Name"] = "Médica – Peña ACO"
    path = writer.folder / "py2018.csv"
    path.write_bytes(csv_text(rows).encode("windows-1252"))
    results = read_file(path)
    assert results.aco_year["name"][0] == "Médica – Peña ACO"
    assert results.sources["encoding"].tolist() == ["windows-1252"]
    packed = read_file(writer.put(csv_text(rows), "py2018.csv.gz"))
    assert packed.aco_year["name"][0] == "Médica – Peña ACO"


def test_the_two_halves_of_2019(writer, make_acos) -> None:
    early = make_acos(2019, half=1, start="2016-01-01", agree="Renewal", period=2)
    late = make_acos(
        2019, half=2, start="2016-01-01", current="2019-07-01", agree="Renewal", period=3
    )
    new = [a for a in make_acos(2019, 7, half=2, start="2019-07-01") if a.number > 5]
    whole = [a for a in make_acos(2019, 9, start="2018-01-01") if a.number > 7]
    writer.write("2019", early + whole, "mssp_2019.csv")
    writer.write("2019A", late + new, "mssp_2019A.csv")
    results = read_mssp(writer.folder)
    parts = results.aco_year.groupby("part").size().to_dict()
    assert parts == {"full_year": 2, "january_june": 4, "july_december": 6}
    assert not results.aco_year.duplicated(["aco_id", "performance_year", "part"]).any()
    entered = results.aco_year[results.aco_year["start_date"] == "2019-07-01"]
    assert (entered["cohort"] == 2019).all()
    rows = results.spending[results.spending["aco_id"].isin(entered["aco_id"])]
    assert rows.groupby("reference")["calendar_year"].first().to_dict() == {
        "BY1": 2016, "BY2": 2017, "BY3": 2018, "PY": 2019,
    }  # fmt: skip


def test_columns_have_the_promised_types(writer, make_acos) -> None:
    results = read_file(writer.write("2020", make_acos(2020)))
    types = results.aco_year.dtypes.astype(str)
    assert types["performance_year"] == "int64"
    assert types["cohort"] == types["agreement_period"] == "Int64"
    assert types["first_agreement"] == "bool"
    assert types["met_qps"] == "boolean"
    assert types["start_date"] == types["current_start_date"] == "datetime64[us]"
    for name in ("benchmark", "expenditure", "sav_rate", "n_ab", "earn_save_loss"):
        assert types[name] == "float64"
    assert results.spending.dtypes.astype(str)["calendar_year"] == "Int64"


def test_an_unknown_column_is_kept_under_its_name(writer, make_acos, csv_text) -> None:
    rows = [
        row | {"QualityID_134_eCQM-CQM": "91.1", "": "7"}
        for row in writer.rows("2018", make_acos(2018))
    ]
    extra = read_file(writer.put(csv_text(rows), "py2018.csv")).extra
    assert extra["qualityid_134_ecqm_cqm"].tolist() == [91.1] * 4
    assert extra["aco40"].isna().sum() == 2


def test_shares_of_people_become_fractions(writer, make_acos) -> None:
    for layout in ("2022", "2024"):
        acos = make_acos(int(layout), start="2021-01-01")
        extra = read_file(writer.write(layout, acos)).extra
        assert extra["perc_dual"].tolist() == pytest.approx([0.152] * 4)


def test_track_and_risk(writer, make_acos) -> None:
    acos = make_acos(2016, track="Track_3")
    frame = read_file(writer.write("2016", acos)).aco_year
    assert set(frame["track"]) == {"TRACK_3"}
    assert set(frame["risk_model"]) == {"two_sided"}
    later = read_file(writer.write("2022", make_acos(2022, start="2021-01-01"))).aco_year
    assert set(later["track"]) == {"ENHANCED"}
    assert set(later["risk_model"]) == {"two_sided"}
