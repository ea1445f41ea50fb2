"""Panel: what it accepts, what it refuses and how it says so."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc

KEYS = {"unit": "aco", "period": "year", "cohort": "entry"}


def frame(**columns: object) -> pd.DataFrame:
    """Six rows: ACOs A (enters 2015), B and C (never) in 2014 and 2015."""
    base = pd.DataFrame({
        "aco": list("AABBCC"), "year": [2014, 2015] * 3,
        "entry": [2015.0, 2015.0, np.nan, np.nan, np.nan, np.nan],
        "spend": [10.0, 9.0, 8.0, 8.5, 7.0, 7.7], "people": [20.0, 21.0, 30.0, 31.0, 40.0, 41.0],
    })  # fmt: skip
    return base.assign(**columns)


def refused(data: pd.DataFrame, **options: object) -> str:
    with pytest.raises(vbc.DataError) as caught:
        vbc.Panel.from_frame(data, **{**KEYS, **options})
    return str(caught.value)


def test_units_that_are_numbers_are_sorted_and_repeated_rows_found() -> None:
    """Rows that are in order already are not sorted again; others are, with the same result."""
    data = frame(aco=[1, 1, 2, 2, 3, 3])
    ordered = vbc.Panel.from_frame(data, **KEYS).frame
    mixed = vbc.Panel.from_frame(data.sample(frac=1, random_state=1), **KEYS).frame
    pd.testing.assert_frame_equal(mixed, ordered)
    for order in (slice(None), slice(None, None, -1)):
        assert "share the same" in refused(data.assign(year=[2014, 2014, *[2014, 2015] * 2])[order])


def test_rows_are_sorted_and_the_frame_is_not_changed() -> None:
    data = frame().iloc[::-1]
    before = data.copy(deep=True)
    panel = vbc.Panel.from_frame(data, **KEYS)
    pd.testing.assert_frame_equal(data, before)
    assert panel.frame["aco"].tolist() == list("AABBCC")
    assert panel.frame["year"].tolist() == [2014, 2015] * 3
    assert (panel.n_units, panel.n_clusters, panel.periods) == (3, 3, (2014.0, 2015.0))


def test_never_codes_and_missing_cohorts_are_the_same() -> None:
    coded = frame(entry=[2015, 2015, 0, 0, 0, 0])
    panel = vbc.Panel.from_frame(coded, **KEYS, never=0)
    pd.testing.assert_frame_equal(panel.frame, vbc.Panel.from_frame(frame(), **KEYS).frame)


def test_a_never_code_that_was_read_as_text() -> None:
    coded = frame(entry=["2015", "2015", "0", "0", "0", "0"])
    panel = vbc.Panel.from_frame(coded, **KEYS, never=0)
    pd.testing.assert_frame_equal(panel.frame, vbc.Panel.from_frame(frame(), **KEYS).frame)
    assert "`entry` holds text" in refused(
        frame(entry=["2015", "2015", "no", "0", "0", "0"]), never=0
    )


def test_exits_follow_entry_and_happen_once() -> None:
    data = frame(left=[2015.0, 2015.0, *[np.nan] * 4])
    assert vbc.Panel.from_frame(data, **KEYS, exit="left").exit == "left"
    message = refused(data.assign(left=[2014, 2015, 2015, 2015, *[np.nan] * 2]), exit="left")
    assert (
        "`left` is before `entry`, or given without one, in 3 rows (positions 0, 2, 3)" in message
    )
    assert "`left` changes within a unit in 2 rows (positions 0, 1)" in message


@pytest.mark.parametrize(("code", "remedy"), [(0, "never=0"), (np.inf, "never=float('inf')")])
def test_a_cohort_that_looks_like_a_code_is_refused(code: float, remedy: str) -> None:
    message = refused(frame(entry=[2015, 2015, code, code, code, code]))
    assert "`entry`" in message
    assert "4 rows (positions 2, 3, 4, 5)" in message
    assert remedy in message
    vbc.Panel.from_frame(
        frame(entry=[2015, 2015, code, code, code, code]), **KEYS, never=float(code)
    )


def test_repeated_unit_periods() -> None:
    data = pd.concat([frame(), frame().iloc[[1]]], ignore_index=True)
    message = refused(data)
    assert "2 rows (positions 1, 6)" in message
    assert "`aco`, `year`" in message
    assert "kind='repeated_cross_section'" in message
    vbc.Panel.from_frame(data, **KEYS, kind="repeated_cross_section")


def test_strata_tell_rows_apart() -> None:
    data = pd.concat([frame(dual="yes"), frame(dual="no")], ignore_index=True)
    assert "12 rows" in refused(data)
    assert len(vbc.Panel.from_frame(data, **KEYS, strata=["dual"]).frame) == 12


def test_cohort_and_cluster_may_not_change_within_a_unit() -> None:
    data = frame(entry=[2015, 2016, *[np.nan] * 4], market=["x", "x", "y", "z", "z", "z"])
    message = refused(data, cluster="market", people=False)
    assert "2 problems" in message
    assert "`entry` changes within a unit in 2 rows (positions 0, 1)" in message
    assert "`market` changes within a unit in 2 rows (positions 2, 3)" in message
    assert "`exit`" in message


def test_a_unit_that_is_treated_in_some_rows_only_changes_cohort() -> None:
    message = refused(frame(entry=[np.nan, 2015, *[np.nan] * 4]))
    assert "`entry` changes within a unit" in message


@pytest.mark.parametrize("role", ["exposure", "weight"])
@pytest.mark.parametrize(
    ("value", "word"), [(-1.0, "negative"), (np.nan, "missing"), (np.inf, "infinite")]
)
def test_exposure_and_weight_are_non_negative_numbers(role: str, value: float, word: str) -> None:
    data = frame()
    data.loc[3, "people"] = value
    message = refused(data, **{role: "people"})
    assert f"{role} `people` is {word} in 1 rows (positions 3)" in message
    assert "drop the rows" in message


def test_missing_clusters() -> None:
    data = frame(market=["x", "x", None, None, "y", "y"])
    message = refused(data, cluster="market", people=False)
    assert "`market` is missing in 2 rows (positions 2, 3)" in message
    # units within a market may be people: no count of 1-10
    message = refused(data, cluster="market")
    assert "`market` is missing in fewer than 11 rows (the first at position 2)" in message
    assert "Fill the values or drop the rows" in message


def test_text_in_numeric_columns_is_reported_together() -> None:
    data = frame(year=["2014", "FY15", "2014", "2015", "2014", "2015"])
    data["people"] = ["20", "*", "30", "31", "n/a", "41"]
    message = refused(data, exposure="people")
    assert "2 problems" in message
    assert "`year` holds text in 1 rows (positions 1)" in message
    assert "`people` holds text in 2 rows (positions 1, 4)" in message
    assert message.count("pandas.to_numeric") == 2


def test_missing_columns_are_named_with_those_that_exist() -> None:
    message = refused(frame(), weight="pyears", cluster="market")
    assert "`market`" in message
    assert "`pyears`" in message
    assert "`people`" in message


def test_empty_frames_and_unknown_kinds() -> None:
    assert "no rows" in refused(frame().iloc[:0])
    assert "'panle'" in refused(frame(), kind="panle")
    assert "positive weight" in refused(frame(people=0.0), weight="people")


def test_rows_without_weight_are_dropped_and_counted() -> None:
    data = frame()
    data.loc[[0, 1], "people"] = 0.0
    panel = vbc.Panel.from_frame(data, **KEYS, weight="people")
    assert panel.n_units == 2
    steps = panel.attrition.set_index("step")
    assert steps.loc["rows given", "rows"] == 6
    assert steps.loc["positive weight", ["rows", "units", "clusters"]].tolist() == [4, 2, 2]


def test_messages_hold_no_unit_labels() -> None:
    """Units may be people: only positions and counts of rows are said."""
    data = frame(aco=["bene-17", "bene-17", "bene-23", "bene-23", "bene-99", "bene-99"])
    repeated = pd.concat([data, data.iloc[[1]]])
    changing = data.assign(entry=[2015, 2016, *[np.nan] * 4])
    for bad in (repeated, changing, data.assign(year="x")):
        assert not re.search(r"bene-\d+", refused(bad))


def test_repr_counts_people_without_small_cells() -> None:
    assert "3 units" in repr(vbc.Panel.from_frame(frame(), **KEYS))
    people = vbc.Panel.from_frame(frame(market=list("xxyyyy")), **KEYS, cluster="market")
    assert "fewer than 11 units in 2 clusters" in repr(people)


def test_what_is_no_frame() -> None:
    message = refused(frame().to_dict("list"))
    assert "not dict" in message
    assert "to_pandas" in message


def test_keys_in_the_index() -> None:
    message = refused(frame().set_index(["aco", "year"]))
    assert "Its index holds `aco`, `year`: call `reset_index()` first." in message


def test_two_columns_of_one_name() -> None:
    data = frame()
    message = refused(pd.concat([data, data[["spend"]]], axis=1))
    assert "several columns of one name: `spend`" in message
