"""No cell of 1-10 people leaves the reader, nor can be had by subtraction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vbceval.data import read_file
from vbceval.data.mssp_suppress import complement

SHAPES = st.tuples(st.integers(1, 6), st.integers(2, 6))


@given(parts=hnp.arrays(np.int64, SHAPES, elements=st.integers(0, 60)))
def test_hidden_parts_cannot_be_had_by_subtraction(parts) -> None:
    values = parts.astype(float)
    total = values.sum(axis=1)
    small = (values > 0) & (values < 11)
    hidden = small | complement(values, small, total)
    for row in range(len(values)):
        if not hidden[row].any():
            continue
        shown = values[row][~hidden[row]]
        rest = total[row] - shown.sum()
        # either two or more share at least 11, or nothing but zeros is left to hide behind
        enough = hidden[row].sum() >= 2 and rest >= 11
        assert enough or not (shown > 0).any()
    assert not complement(values, np.zeros_like(small), total).any()


@pytest.mark.parametrize(
    ("parts", "more"),
    # 1 and 11 are the only parts of 12, 10 and 10 of 20; 13 may be 1 and 12 or 2 and 11
    [([900, 1, 11, 50], [0, 0, 1, 1]), ([900, 10, 10, 50], [0, 0, 0, 1]),
     ([900, 2, 11, 50], [0, 0, 1, 0])],
)  # fmt: skip
def test_hidden_parts_do_not_follow_from_their_sum(parts, more) -> None:
    values = np.array([parts], dtype=float)
    small = (values > 0) & (values < 11)
    total = values.sum(axis=1)
    assert complement(values, small, total).astype(int).tolist() == [more]
    # two stars of the publisher may be any two numbers
    stars = np.array([[900.0, np.nan, np.nan, 50.0]])
    assert not complement(stars, np.isnan(stars), np.array([970.0])).any()


def test_raw_counts_are_suppressed_with_a_companion(writer, make_acos) -> None:
    acos = [*make_acos(2018, 2, native=7), *[a for a in make_acos(2018, 4) if a.number > 2]]
    results = read_file(writer.write("2018", acos))
    people = results.demographics
    assert people["n_ben_race_native"].isna().tolist() == [True, True, False, False]
    assert people["n_ben_race_asian"].isna().tolist() == [True, True, False, False]
    assert people["n_ben_race_hisp"].notna().all()
    flags = results.flags.query("column.str.startswith('n_ben')")
    assert flags.groupby("kind").size().to_dict() == {"complementary": 2, "small": 2}
    counts = people.filter(like="n_ben").to_numpy(dtype=float)
    assert not ((counts > 0) & (counts < 11)).any()


def test_published_stars_are_flagged_and_need_no_companion(writer, make_acos) -> None:
    results = read_file(writer.write("2014", make_acos(2014, native=30, start="2013-01-01")))
    flags = results.flags
    assert set(flags["kind"]) == {"published"}
    assert set(flags["column"]) == {"n_ben_race_native", "n_ben_race_asian"}
    assert results.demographics["n_ben_race_native"].isna().all()
    stars = results.attrition.set_index("step")["n"]["cells suppressed by the publisher"]
    assert stars == len(flags)


def test_person_years_of_a_small_stratum_take_their_amounts_with_them(writer, make_acos) -> None:
    results = read_file(writer.write("2018", make_acos(2018, esrd=8)))
    spending = results.spending.set_index(["enrollment_type", "reference"]).sort_index()
    for reference in ("BY3", "PY"):
        esrd = spending.loc[("esrd", reference)]
        assert esrd[["person_years", "per_capita", "hcc_score"]].isna().all(axis=None)
    assert spending.loc[("esrd", "BY1"), "per_capita"].notna().all()
    # the total is printed for the performance year, so the next smallest part goes as well
    assert spending.loc[("disabled", "PY"), "person_years"].isna().all()
    assert spending.loc[("disabled", "PY"), "per_capita"].notna().all()
    assert spending.loc[("disabled", "BY3"), "person_years"].notna().all()


def test_a_rate_that_gives_away_few_events_is_suppressed(writer, make_acos, csv_text) -> None:
    # 3 per 1,000 of about 9,600 person-years are 29 admissions; 1 per 1,000 are 10
    rows = writer.rows("2018", make_acos(2018))
    rows[0]["ADM_L_Trm"] = "1"
    rows[1]["ADM_L_Trm"] = "0"
    extra = read_file(writer.put(csv_text(rows), "py2018.csv")).extra
    assert extra["adm_l_trm"].isna().tolist() == [True, False, False, False]
    assert extra["adm_l_trm"].tolist()[1:] == [0.0, 3.0, 3.0]


def test_a_share_that_gives_away_few_others_is_suppressed(writer, make_acos, csv_text) -> None:
    # 99.95 percent of 9,600 person-years leave 5
    rows = writer.rows("2022", make_acos(2022, start="2021-01-01"))
    for row, share in zip(rows, ("0.05%", "99.95%", "100%", "15.2%"), strict=True):
        row["Perc_Dual"] = share
    extra = read_file(writer.put(csv_text(rows), "py2022.csv")).extra
    assert extra["perc_dual"].isna().tolist() == [True, True, False, False]


def test_numbers_of_clinicians_are_not_numbers_of_patients(writer, make_acos, csv_text) -> None:
    rows = [row | {"N_PCP": "4"} for row in writer.rows("2018", make_acos(2018))]
    extra = read_file(writer.put(csv_text(rows), "py2018.csv")).extra
    assert extra["n_pcp"].tolist() == [4.0] * 4


@pytest.mark.parametrize("layout", ["2013", "2014", "2016", "2018", "2022", "2024"])
def test_no_small_count_in_any_frame(layout, writer, make_acos) -> None:
    year = int(layout)
    start = {2013: "2013-01-01", 2014: "2013-01-01"}.get(year, f"{year - 2}-01-01")
    results = read_file(writer.write(layout, make_acos(year, esrd=5, native=3, start=start)))
    for frame, columns in (
        (results.demographics, results.demographics.filter(like="n_ben").columns),
        (results.spending, ["person_years"]),
        (results.aco_year, ["n_ab", "person_years"]),
    ):
        counts = frame[list(columns)].to_numpy(dtype=float)
        assert not ((counts > 0) & (counts < 11)).any()
