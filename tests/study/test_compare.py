"""Cells are compared within the tolerance of their column."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest

from vbceval.core.errors import StudyError
from vbceval.study.compare import compare_tables
from vbceval.study.exhibits import read_cells
from vbceval.study.tolerances import TEMPLATE, Tolerances, read_tolerances


def table(text: str) -> pd.DataFrame:
    return read_cells(io.StringIO(text))  # type: ignore[arg-type]  # a buffer reads as a file does


def tolerances(tmp_path: Path, text: str, expected: pd.DataFrame) -> Tolerances:
    path = tmp_path / "tolerances.toml"
    path.write_text(text)
    return read_tolerances(path, {"t": expected})


def differences(
    found: str, expected: str, tmp_path: Path, text: str = "", keys: tuple[str, ...] = ("k",)
) -> list[str]:
    record = table(expected)
    return [
        str(d)
        for d in compare_tables(
            {"t": table(found)},
            {"t": record},
            tolerances=tolerances(tmp_path, text, record),
            keys={"t": keys},
        )
    ]


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        ("1.0", "1.00000000009", True),
        ("1.0", "1.0000000002", False),
        ("1e-13", "0.0", True),
        ("1e-11", "0.0", False),
        ("2014", "2014.0", True),
        ("", "0.0", False),
        ("", "", True),
        ("nan", "", False),
        ("NA", "NA", True),
        ("dual=yes", "dual=no", False),
        ("True", "False", False),
        ("inf", "inf", True),
        ("inf", "-inf", False),
    ],
)
def test_default_tolerance(found: str, expected: str, same: bool, tmp_path: Path) -> None:
    out = differences(f"k,v\na,{found}\n", f"k,v\na,{expected}\n", tmp_path)
    assert (out == []) is same


def test_digits_tell_found_from_expected(tmp_path: Path) -> None:
    (text,) = differences("k,v\na,1.00000002\n", "k,v\na,1.00000001\n", tmp_path)
    assert text == "t.csv, row k=a: v 1.00000002, expected 1.00000001 +/- 1.01e-10."


def test_order_of_rows_with_keys_and_of_columns_does_not_count(tmp_path: Path) -> None:
    assert differences("v,k\n1,a\n2,b\n", "k,v\nb,2\na,1\n", tmp_path) == []


def test_keys_written_as_floats_are_the_same_keys(tmp_path: Path) -> None:
    assert differences("k,v\n2014.0,1\n", "k,v\n2014,1\n", tmp_path) == []


def test_without_keys_rows_go_by_position(tmp_path: Path) -> None:
    out = differences("v\n1\n2\n", "v\n1\n3\n4\n", tmp_path, keys=())
    assert out == ["t.csv, row 2: v 2, expected 3 +/- 3.01e-10.", "t.csv, row 3: missing."]


def test_empty_keys_are_left_out_of_the_name_of_a_row(tmp_path: Path) -> None:
    out = differences("j,k,v\n,a,1\n,,1\n", "j,k,v\n,a,2\n,,2\n", tmp_path, keys=("j", "k"))
    assert out[0].startswith("t.csv, row k=a: v 1")
    assert out[1].startswith("t.csv, row j=, k=: v 1")


def test_exact_columns_admit_no_rounding(tmp_path: Path) -> None:
    rule = '[t.columns]\nv = "exact"\n'
    found, expected = "k,v\na,1.0\n", "k,v\na,1.00000000000001\n"
    assert differences(found, expected, tmp_path) == []
    assert len(differences(found, expected, tmp_path, rule)) == 1


def test_monte_carlo_errors_of_both_runs_set_the_tolerance(tmp_path: Path) -> None:
    # errors 0.03 and 0.04 give 0.05 for the difference; twice that is 0.1
    rule = "[t.columns]\nmean = { mcse = 2 }\nmcse_mean = { abs = 1 }\n"
    expected = "k,mean,mcse_mean\na,5.0,0.04\n"
    assert differences("k,mean,mcse_mean\na,5.099,0.03\n", expected, tmp_path, rule) == []
    (text,) = differences("k,mean,mcse_mean\na,5.101,0.03\n", expected, tmp_path, rule)
    assert text == "t.csv, row k=a: mean 5.101, expected 5 +/- 0.1."


def test_relative_and_absolute_tolerances_add(tmp_path: Path) -> None:
    rule = "[t.columns]\nv = { rel = 0.01, abs = 1 }\n"
    assert differences("k,v\na,101.9\n", "k,v\na,100\n", tmp_path, rule) == []
    assert len(differences("k,v\na,102.1\n", "k,v\na,100\n", tmp_path, rule)) == 1


def test_the_default_can_be_replaced(tmp_path: Path) -> None:
    assert differences("k,v\na,1.4\n", "k,v\na,1\n", tmp_path, "[default]\nabs = 0.5\n") == []


def test_tolerances_can_name_the_keys(tmp_path: Path) -> None:
    rule = '[t]\nkeys = ["k"]\n'
    assert differences("k,v\na,1\nb,2\n", "k,v\nb,2\na,1\n", tmp_path, rule, keys=()) == []


def test_all_problems_of_a_tolerance_file_come_together(tmp_path: Path) -> None:
    text = """
        [u]
        keys = ["k"]
        [t]
        keys = ["nope"]
        [t.columns]
        w = "exact"
        v = { absolute = 1 }
        k = { mcse = 4 }
    """
    with pytest.raises(StudyError, match="4 problems") as raised:
        tolerances(tmp_path, text.replace('keys = ["nope"]', ""), table("k,v\na,1\n"))
    message = str(raised.value)
    assert "no table of record `u`" in message
    assert "no `w`; it has `k`, `v`" in message
    assert "`t.v` has `absolute`" in message
    assert "`t.k` needs the Monte Carlo error in column `mcse_k`, `mcse`" in message
    with pytest.raises(StudyError, match=r"`t\.keys` is \['nope'\]"):
        tolerances(tmp_path, '[t]\nkeys = ["nope"]\n', table("k,v\na,1\n"))


def test_the_template_changes_nothing(tmp_path: Path) -> None:
    assert tolerances(tmp_path, TEMPLATE, table("k,v\na,1\n")) == Tolerances()
