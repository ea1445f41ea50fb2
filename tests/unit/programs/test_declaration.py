"""Files of rules: everything wrong is said at once; values can be replaced and files extended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vbceval.core.errors import DataError, DesignError
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


NEW = """
title = "Own corridors"
authority = "contract"
procedure = "capitation"
organization = "org"
years = "2020"
[inputs]
member_months = { what = "member months", kind = "people", above = 0.0 }
capitation_pmpm = { what = "capitation", kind = "usd", above = 0.0 }
[parameters.gain_bands]
what = "shares of gains"
kind = "bands"
values = [{ value = [[inf, 0.5]], status = "secondary", source = "contract" }]
"""
LOSSES = """
[parameters.loss_bands]
what = "shares of losses"
kind = "bands"
values = [{ value = [[inf, 0.5]], status = "secondary", source = "contract" }]
"""


def test_a_new_program_that_lacks_what_its_procedure_reads_is_not_settled(tmp_path: Path) -> None:
    table = pd.DataFrame({"org": ["a"], "member_months": 100.0, "capitation_pmpm": 10.0})
    with pytest.raises(DesignError, match="declares no parameter `loss_bands`"):
        get(written(tmp_path, NEW)).settle(table, performance_year=2020)
    with pytest.raises(DataError, match=r"1 row \(`a`\) has no `settlement`, since a column"):
        get(written(tmp_path, NEW + LOSSES)).settle(table, performance_year=2020)
    spending = '[inputs.expenditure]\nwhat = "spending"\nkind = "usd"\n'
    whole = get(written(tmp_path, NEW + LOSSES + spending))
    settled = whole.settle(table.assign(expenditure=1_200.0), performance_year=2020)
    assert settled.payment.tolist() == [-100.0]


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


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("cjr", {"payment_discount": [[3.0, 2.0, 1.5]]}),
        ("reach", {"savings_bands": [[0.25, 100.0], [float("inf"), 50.0]]}),
        ("cpc_plus", {"fees": [[-6.0, 8.0, 16.0, 30.0, 0.0]]}),
    ],
)
def test_percents_and_negative_numbers_in_tables_are_refused(
    name: str, values: dict[str, Any]
) -> None:
    with pytest.raises(DesignError, match="must hold numbers between 0 and"):
        get(name).with_values(**values)


def test_questions_without_an_answer_are_refused() -> None:
    program = get("mssp")
    with pytest.raises(DesignError, match="no parameter `discount`"):
        program.value("discount", "BASIC_A", 2024)
    with pytest.raises(DesignError, match="no `loss_rate` for `BASIC_A` in 2024"):
        program.value("loss_rate", "BASIC_A", 2024)
    with pytest.raises(DesignError, match="no performance year 2040; its rules cover 2012-2027"):
        program.settle(pd.DataFrame(), performance_year=2040)
