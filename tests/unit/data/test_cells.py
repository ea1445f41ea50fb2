"""Cells as CMS prints them: numbers, marks, percents, dates."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbceval.data.cells import percent_scale, read_dates, read_flags, read_numbers


def series(*cells: str) -> pd.Series:
    return pd.Series(cells, dtype="str")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1234", 1234.0),
        ("1,234,567", 1234567.0),
        (" $1,234.50 ", 1234.5),
        ("$-9187354.55", -9187354.55),
        ("-$12", -12.0),
        ("(36,880)", -36880.0),
        ("−3", -3.0),
        ("6.46%", 6.46),
        (".5", 0.5),
        ("1e3", 1000.0),
    ],
)
def test_numbers_in_every_dress(text: str, value: float) -> None:
    read = read_numbers(series(text))
    assert read.numbers[0] == pytest.approx(value)
    assert not read.unreadable.any()


@pytest.mark.parametrize("mark", ["", "-", ".", "/", "^", "NA", "N/A", "n/a", "  ", "NaN", "--"])
def test_marks_are_missing_not_text(mark: str) -> None:
    read = read_numbers(series(mark))
    assert np.isnan(read.numbers[0])
    assert not read.unreadable.any()
    assert not read.starred.any()


def test_a_star_is_suppressed_and_other_text_is_reported() -> None:
    read = read_numbers(series("*", "P4R", "12 people", "1.2.3", "inf"))
    assert read.starred.tolist() == [True, False, False, False, False]
    assert read.unreadable.tolist() == [False, True, True, True, True]


@pytest.mark.parametrize("text", ["12,5", "1,23", "0,0714", "1,234,5", "1 2", "1e400"])
def test_what_could_be_another_number_is_not_read(text: str) -> None:
    # a decimal comma read as a separator would make 125 of 12.5
    assert read_numbers(series(text)).unreadable.all()


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("1/1/14", "2014-01-01"),
        ("7/1/12", "2012-07-01"),
        ("1/1/16 00:00", "2016-01-01"),
        ("01/01/2018 12:00:00 AM", "2018-01-01"),
        ("7/1/2019", "2019-07-01"),
        ("2019-07-01T00:00:00", "2019-07-01"),
        ("41091", "2012-07-01"),
    ],
)
def test_dates_in_every_spelling(text: str, day: str) -> None:
    dates, bad = read_dates(series(text, ""))
    assert dates[0] == pd.Timestamp(day)
    assert pd.isna(dates[1])
    assert not bad.any()


def test_what_is_no_date_is_reported() -> None:
    _, bad = read_dates(series("soon", "13/45/2014", "1/1/214", "1/1/1914", "1/1/14/15", "N/A"))
    assert bad.tolist() == [True] * 5 + [False]


def test_flags() -> None:
    flags, bad = read_flags(series("1", "0", "1.0", "", "-", "maybe"))
    assert flags[:3].tolist() == [True, False, True]
    assert flags[3:].isna().all()
    assert bad.tolist() == [False] * 5 + [True]


BOUNDS = [(0.02, 1.0), (0.005, 0.3)]


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("sign", ["", "%"])
@given(data=st.data())
def test_scale_is_found_from_values_whatever_the_sign(
    bounds: tuple[float, float], sign: str, data: st.DataObject
) -> None:
    low, high = bounds
    fractions = data.draw(
        st.lists(st.one_of(st.just(0.0), st.floats(low, high)), min_size=1, max_size=20)
    )
    for factor, expected in ((1.0, 1.0), (100.0, 0.01)):
        printed = series(*(f"{value * factor:.6f}{sign}" for value in fractions))
        read = read_numbers(printed)
        scale, problem = percent_scale(
            read, low=low, high=high, labels=[str(i) for i in range(len(fractions))]
        )
        assert problem is None
        assert np.allclose(read.numbers * scale, fractions, atol=1e-6)
        assert scale == expected or not any(fractions)


def test_the_2013_fractions_with_a_percent_sign_stay_fractions() -> None:
    read = read_numbers(series("0.023373146%", "0.02%", "0.030215215%"))
    assert percent_scale(read, low=0.005, high=0.3, labels=["a", "b", "c"]) == (1.0, None)


def test_a_mixed_column_is_a_problem_that_names_the_rows() -> None:
    read = read_numbers(series("98.1", "86.2", "0.92", "95.7"))
    scale, problem = percent_scale(read, low=0.02, high=1.0, labels=["A1", "A2", "A3", "A4"])
    assert scale == 0.01
    assert problem is not None
    assert "`A3: 0.92`" in problem
    assert "1 of 4" in problem


def test_zeros_alone_need_no_scale() -> None:
    read = read_numbers(series("0", "", "0.00%"))
    assert percent_scale(read, low=0.02, high=1.0, labels=["a", "b", "c"]) == (1.0, None)
