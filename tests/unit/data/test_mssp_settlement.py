"""What a settlement reads of a file is what the whole reader gives, and asks for less."""

from __future__ import annotations

import pandas as pd
import pytest

from vbceval.core.errors import DataError
from vbceval.data import read_file
from vbceval.data.mssp_settlement import is_results_file, read_settlement_rows

LAYOUTS = {
    "2013": {"start": "2012-07-01"}, "2014": {}, "2015": {}, "2016": {}, "2018": {},
    "2019": {"half": 1}, "2020": {}, "2022": {"start": "2021-01-01"}, "2024": {"start": "2022-01-01"},
}  # fmt: skip
SHARED = [
    "aco_id", "track", "n_ab", "benchmark", "expenditure", "qual_score", "qual_status", "met_qps",
    "min_sav_perc", "final_share_rate", "earn_save_loss", "current_start_date", "rev_exp_cat",
    "dis_adj", "part",
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_what_the_whole_reader_gives(layout, writer, make_acos) -> None:
    path = writer.write(layout, make_acos(int(layout), **LAYOUTS[layout]))
    rows = read_settlement_rows(path)
    assert rows.performance_year == int(layout)
    whole = read_file(path).aco_year.sort_values("aco_id", ignore_index=True)
    given = rows.frame.sort_values("aco_id", ignore_index=True)
    pd.testing.assert_frame_equal(given[SHARED], whole[SHARED], check_dtype=False)
    # the file of 2013 has no sharing rates
    width = 5e-5 if given["final_share_rate"].notna().any() else 0.0
    assert rows.half_widths["final_share_rate"] == pytest.approx(width)


def test_columns_that_no_settlement_reads_may_be_gone_or_damaged(
    writer, make_acos, csv_text
) -> None:
    rows = writer.rows("2018", make_acos(2018))
    damaged = [
        {
            k: "?" if k.startswith("Per_Capita_Exp_ALL") else v
            for k, v in row.items()
            if "HCC" not in k
        }
        for row in rows
    ]
    path = writer.put(csv_text(damaged), "py2018.csv")
    with pytest.raises(DataError):
        read_file(path)
    assert len(read_settlement_rows(path).frame) == len(rows)


def test_repeated_acos_and_text_in_amounts_are_refused(writer, make_acos, csv_text) -> None:
    rows = writer.rows("2018", make_acos(2018))
    rows[1]["ACO_ID"] = rows[0]["ACO_ID"]
    rows[2]["ABtotBnchmk"] = "much"
    with pytest.raises(DataError) as caught:
        read_settlement_rows(writer.put(csv_text(rows), "py2018.csv"))
    assert "`A1001`" in str(caught.value)
    assert "`abtotbnchmk` has 1 cells that are not numbers" in str(caught.value)


def test_both_half_years_of_an_aco_in_one_file_are_two_settlements(writer, make_acos) -> None:
    early = make_acos(2019, half=1, start="2016-01-01")
    late = make_acos(2019, half=2, start="2016-01-01", current="2019-07-01")
    path = writer.put_json(writer.rows("2019", early + late), "mssp_py2019.json")
    frame = read_settlement_rows(path).frame
    assert len(frame) == len(set(frame["aco_id"])) == len(early) + len(late)
    assert {"A1001 january_june", "A1001 july_december"} <= set(frame["aco_id"])


@pytest.mark.parametrize(
    ("printed", "track"),
    [("Level E", "BASIC_E"), ("BASIC Level C", "BASIC_C"), ("Enhanced", "ENHANCED"),
     ("1+", "TRACK_1_PLUS"), ("Track 3", "TRACK_3")],
)  # fmt: skip
def test_tracks_and_marks_of_no_value_are_read_in_other_spellings(
    printed, track, writer, make_acos, csv_text
) -> None:
    rows = writer.rows("2022", make_acos(2022, n=2, start="2020-01-01"))
    rows[0] |= {"Current_Track": printed, "Rev_Exp_Cat": "N/A"}
    frame = read_settlement_rows(writer.put(csv_text(rows), "py2022.csv")).frame
    assert frame["track"].tolist() == [track, "ENHANCED"]
    assert frame["rev_exp_cat"].isna().tolist() == [True, False]


def test_a_results_file_without_a_column_is_still_known_for_one(
    writer, make_acos, csv_text
) -> None:
    rows = writer.rows("2018", make_acos(2018))
    short = [{k: v for k, v in row.items() if k != "ABtotBnchmk"} for row in rows]
    path = writer.put(csv_text(short), "py2018.csv")
    assert is_results_file(path)
    with pytest.raises(DataError, match="missing: `abtotbnchmk`"):
        read_settlement_rows(path)
    own = writer.put(
        "aco_id,track,n_ab,benchmark,expenditure,qual_score\nA1,EN,9000,1,1,1\n", "own.csv"
    )
    assert not is_results_file(own)
