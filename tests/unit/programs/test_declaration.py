"""Files of rules: everything wrong is said at once; values can be replaced and files extended."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from vbceval.core.errors import DesignError
from vbceval.programs import get, names

WRONG = """
title = "T"
authority = "A"
procedure = "nothing"
organization = "aco_id"
years = "2020-2021"
colour = 3
[variants]
A = { title = "a", years = "2019" }
[inputs]
benchmark = { what = "b", kind = "euro" }
[parameters.rate]
what = "a rate"
kind = "rate"
values = [
  { value = 40, status = "confirmed", source = "s" },
  { value = 0.4, status = "sure", source = "s" },
  { value = 0.4, variants = ["B"], status = "confirmed", source = "s" },
  { value = 0.4, years = "2030", status = "confirmed", source = "s" },
  { value = 0.4, years = 2020, status = "confirmed", source = "s" },
  { value = 0.5, years = "2020-2021", status = "confirmed" },
]
"""

BANDS = """
extends = "mssp"
[parameters.minimum_rate_choices]
kind = "bands"
columns = []
values = [{ value = [[0.3, 0.5], [0.1, 0.4]], status = "secondary", source = "s" }]
"""

OWN = """
extends = "mssp"
title = "Own contract"
[parameters.sharing_rate]
values = [{ variants = ["BASIC_E"], years = "2024-2027", value = 0.6, status = "secondary", source = "offer" }]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "own.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_program_loads_and_says_the_source_of_every_value() -> None:
    assert "mssp" in names()
    for name in names():
        table = get(name).table()
        assert table["status"].isin(["confirmed", "secondary", "unconfirmed"]).all(), name
        assert table["source"].str.len().gt(3).all(), name
        assert get(name).inputs, name


def test_unknown_keys_are_named(tmp_path: Path) -> None:
    with pytest.raises(DesignError, match="`colour` are no keys"):
        get(written(tmp_path, WRONG))


def test_all_failures_of_a_file_come_together(tmp_path: Path) -> None:
    with pytest.raises(DesignError) as caught:
        get(written(tmp_path, WRONG.replace("colour = 3\n", "")))
    said = str(caught.value)
    for part in (
        "procedure `nothing` is not known", "variant `A` has years outside", "`kind` is 'euro'",
        "value 1: the value must lie between 0 and 1; rates are fractions; it is 40",
        "value 2: `status` is 'sure'", "value 3: `B` are no variants", "value 4: years '2030'",
        "value 6: `source` are missing", "`own.toml`",
    ):  # fmt: skip
        assert part in said


def test_two_values_for_one_year_are_refused(tmp_path: Path) -> None:
    twice = OWN.replace(
        "values = [",
        "values = [{ value = 0.7, years = 2024, status = 'secondary', source = 'x' }, ",
    )
    with pytest.raises(DesignError, match="values 1 and 2 both hold for `BASIC_E` in 2024"):
        get(written(tmp_path, twice))


def test_bands_must_rise_and_have_no_end(tmp_path: Path) -> None:
    with pytest.raises(DesignError, match="rising upper ends above 0, the last one `inf`"):
        get(written(tmp_path, BANDS))


def test_a_file_that_is_no_toml_is_said(tmp_path: Path) -> None:
    with pytest.raises(DesignError, match="is not TOML"):
        get(written(tmp_path, "title = "))


def test_a_file_extends_a_program(tmp_path: Path) -> None:
    own = get(written(tmp_path, OWN))
    assert (own.name, own.title, own.verified) == ("own", "Own contract", "")
    assert own.value("sharing_rate", "BASIC_E", 2024).value == 0.6
    assert own.value("sharing_rate", "BASIC_E", 2023).value == 0.5
    assert own.value("sharing_rate", "BASIC_A", 2024).value == 0.4


def test_missing_programs_and_files_are_said() -> None:
    with pytest.raises(DesignError, match="no program `mspp`"):
        get("mspp")
    with pytest.raises(DesignError, match="no file of rules"):
        get("absent.toml")


def test_replaced_values_hold_and_are_marked() -> None:
    program = get("mssp").with_values(sharing_rate=0.6, variants=["BASIC_E"], years="2024-2025")
    assert program.value("sharing_rate", "BASIC_E", 2024).status == "user"
    assert program.value("sharing_rate", "BASIC_E", 2026).value == 0.5
    assert get("mssp").value("sharing_rate", "BASIC_E", 2024).value == 0.5
    assert (program.verified, program.examples) == ("", ())


def test_everything_wrong_with_replaced_values_is_said() -> None:
    with pytest.raises(DesignError) as caught:
        get("mssp").with_values(
            sharing_rat=0.5, gain_cap="a lot", quality_rule="none", variants=["BASIC_F"], years=1999
        )
    said = str(caught.value)
    for part in (
        "`BASIC_F` are no variants", "years `1999` are not within 2012-2027", "`sharing_rat` is no parameter",
        "`gain_cap` must be a number", "`quality_rule` must be scaled or standard or standard_or_scaled",
    ):  # fmt: skip
        assert part in said


def test_questions_without_an_answer_are_refused() -> None:
    program = get("mssp")
    with pytest.raises(DesignError, match="no parameter `discount`"):
        program.value("discount", "BASIC_A", 2024)
    with pytest.raises(DesignError, match="no `loss_rate` for `BASIC_A` in 2024"):
        program.value("loss_rate", "BASIC_A", 2024)
    with pytest.raises(DesignError, match="no performance year 2040; its rules cover 2012-2027"):
        program.settle(pd.DataFrame(), performance_year=2040)
