"""The facts file: types, counts in text, and every failure reported at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vbceval.core.errors import DataError
from vbceval.evidence import read_facts


def test_numbers_are_numbers_and_text_stays_as_printed(
    some_facts: Callable[..., pd.DataFrame],
) -> None:
    row = {"estimate": "-3.97", "ci_low": "-5.0", "ci_high": "1", "ci_level": "90"}
    facts = some_facts({**row, "n_participants": "480+ ACOs"}, {"source_year": "2019"})
    assert facts["estimate"].tolist()[0] == -3.97
    assert np.isnan(facts.loc[1, "estimate"])
    assert facts["source_year"].tolist() == [2020, 2019]
    assert facts.loc[0, "n_participants"] == "480+ ACOs"
    assert facts.loc[1, "n_participants"] == ""
    assert facts.loc[0, "estimate_rounding"] == pytest.approx(0.005)
    # both ends are printed to one decimal: "1" was 1.0
    assert facts.loc[0, "interval_rounding"] == pytest.approx(0.05)
    assert np.isnan(facts.loc[1, "interval_rounding"])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("357844", 357_844),
        ("41 ACOs", 41),
        ("10.4 million", 10_400_000),
        ("10155271 person-years", 10_155_271),
        ("480+ ACOs", None),
        ("nearly 11 million", None),
        ("88807 OCM; 90478 comparison", None),
        (">47 million discharges", None),
        ("92 of 333", None),
        ("2905 practices (2017 starters)", None),
        ("", None),
    ],
)
def test_a_count_is_read_only_where_it_is_certain(
    some_facts: Callable[..., pd.DataFrame], text: str, number: float | None
) -> None:
    facts = some_facts({"n_participants": text, "n_beneficiaries_or_episodes": text})
    for column in ("participants_number", "sample_number"):
        found = facts.loc[0, column]
        assert np.isnan(found) if number is None else found == number


@pytest.mark.parametrize(
    ("period", "year"),
    [
        ("2009-2013; effect in 2013", 2013),
        ("2012 vs 2009-2011", 2012),
        ("2016-07..2018-12 vs 2014-01..2015-06", 2018),
        ("PY2014", 2014),
        ("first 2 years", np.nan),
    ],
)
def test_the_year_is_the_last_one_of_the_period(
    some_facts: Callable[..., pd.DataFrame], period: str, year: float
) -> None:
    np.testing.assert_equal(some_facts({"period": period}).loc[0, "year"], year)


def test_a_row_keeps_its_name_when_the_file_is_reordered(
    facts_file: Callable[..., Path],
) -> None:
    path = facts_file({"estimate": "1"}, {"estimate": "2"}, {"estimate": "3"})
    before = read_facts(path).set_index("fact")["estimate"].to_dict()
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(lines)]) + "\n")
    assert read_facts(path).set_index("fact")["estimate"].to_dict() == before


def test_every_failure_of_the_file_is_reported_together(
    facts_file: Callable[..., Path],
) -> None:
    path = facts_file(
        {"program_type": "ACO"},
        {"estimate": "1,603"},
        {"ci_low": "-3", "ci_level": "95"},
        {"ci_low": "-3", "ci_high": "3"},
        {"fact": "smith-2020-01", "source": ""},
        {"scope": ""},
        {"percent_effect": "-2", "denominator": ""},
        {"superseded_by": "nobody-01"},
        {"n_beneficiaries_or_episodes": "7 patients"},
        {"source_year": ""},
    )
    with pytest.raises(DataError) as error:
        read_facts(path)
    message = str(error.value)
    for words in (
        "`program_type` is `ACO` in `smith-2020-01`",
        "`estimate` is not a plain number in `smith-2020-02` (`1,603`)",
        "only one end of the interval is given in `smith-2020-03`",
        "`ci_level` must stand exactly where an interval stands",
        "`fact` must name one row, but `smith-2020-01`",
        "`source` is blank in `smith-2020-01`",
        "`scope` is blank in `smith-2020-06`",
        "`denominator` must stand exactly where",
        "`superseded_by` of `smith-2020-08` is `nobody-01`",
        "`n_beneficiaries_or_episodes` of `smith-2020-09` is a count of 1-10 people",
        "`source_year` is blank in `smith-2020-10`",
    ):
        assert words in message
    assert "7 patients" not in message


def test_a_repeated_result_is_refused(facts_file: Callable[..., Path]) -> None:
    path = facts_file({"stratum": "same"}, {"stratum": "same"})
    with pytest.raises(DataError, match="repeat one result in every printed column"):
        read_facts(path)


def test_a_chain_of_superseded_reports_is_refused(facts_file: Callable[..., Path]) -> None:
    path = facts_file({"superseded_by": "smith-2020-02"}, {"superseded_by": "smith-2020-03"}, {})
    with pytest.raises(DataError, match="names a row that is itself superseded"):
        read_facts(path)


def test_a_missing_column_is_named(facts_file: Callable[..., Path]) -> None:
    path = facts_file({})
    pd.read_csv(path, dtype=str).drop(columns=["ci_level"]).to_csv(path, index=False)
    with pytest.raises(DataError, match="columns `ci_level` are missing"):
        read_facts(path)


def test_a_truncated_file_is_refused(facts_file: Callable[..., Path]) -> None:
    path = facts_file({}, {})
    path.write_text(path.read_text()[:-40])
    with pytest.raises(DataError, match="looks truncated"):
        read_facts(path)


def test_an_absent_file_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file `facts\.csv`"):
        read_facts(tmp_path / "facts.csv")
    (tmp_path / "facts.csv").write_text("")
    with pytest.raises(DataError, match="has no rows"):
        read_facts(tmp_path / "facts.csv")
