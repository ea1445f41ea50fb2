"""The consistency checker on rows whose arithmetic is done by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vbceval.core.errors import DataError
from vbceval.evidence import check_facts
from vbceval.evidence.check import CHECK_COLUMNS

Maker = Callable[..., pd.DataFrame]


@pytest.fixture
def nothing(some_relations: Maker) -> pd.DataFrame:
    """A relation between two constants: 1 = 1."""
    return some_relations(
        {"relation": "one", "check": "same_value", "role": "total", "field": "", "value": "1"},
        {"relation": "one", "check": "same_value", "role": "part", "field": "", "value": "1"},
    )


def only(found: pd.DataFrame, check: str) -> pd.Series:
    """Return the one comparison of a kind."""
    rows = found[found["check"] == check]
    assert len(rows) == 1
    return rows.iloc[0]


INTERVAL = {"estimate": "-453", "ci_low": "-909", "ci_high": "3", "ci_level": "95"}


def test_interval_to_standard_error_to_p(some_facts: Maker, nothing: pd.DataFrame) -> None:
    # Finkelstein et al., JAMA 320(9), table 3: total episode spending, baseline 22872
    found = check_facts(some_facts({**INTERVAL, "note": "P=.05"}), nothing)
    row = only(found, "interval_p")
    se = (3 + 909) / (2 * stats.norm.ppf(0.975))
    assert row["expected"] == pytest.approx(2 * stats.norm.sf(453 / se), rel=1e-12)
    assert row["found"] == 0.05
    assert row["passed"]
    assert tuple(found.columns) == CHECK_COLUMNS


def test_the_printed_p_of_that_row_cannot_come_from_its_interval(
    some_facts: Maker, nothing: pd.DataFrame
) -> None:
    found = check_facts(some_facts({**INTERVAL, "note": "P=.06"}), nothing)
    row = only(found, "interval_p")
    # the most that rounding allows: estimate 452.5, interval wider by 1, P printed from 0.055 on
    se = (3.5 + 909.5) / (2 * stats.norm.ppf(0.975))
    largest = 2 * stats.norm.sf(452.5 / se)
    assert largest < 0.055
    assert not row["passed"]
    assert row["slack"] == pytest.approx(largest - row["expected"] + 0.005, rel=1e-9)


def test_the_level_of_the_interval_matters(some_facts: Maker, nothing: pd.DataFrame) -> None:
    # OCM, ASCO 2023: -499 (-771 to -227). At 90 % z is 3.02; read as 95 % it would be 3.60
    cells = {"estimate": "-499", "ci_low": "-771", "ci_high": "-227", "note": "P=.003"}
    ninety = check_facts(some_facts({**cells, "ci_level": "90"}), nothing)
    ninety_five = check_facts(some_facts({**cells, "ci_level": "95"}), nothing)
    assert only(ninety, "interval_p")["passed"]
    assert not only(ninety_five, "interval_p")["passed"]


@pytest.mark.parametrize(
    ("note", "passed"), [("P<.001", False), ("P<.1", True), ("p > .05", True), ("ns", True)]
)
def test_bounds_on_p(some_facts: Maker, nothing: pd.DataFrame, note: str, passed: bool) -> None:
    row = only(check_facts(some_facts({**INTERVAL, "note": note}), nothing), "interval_p")
    assert row["passed"] == passed
    assert np.isinf(row["slack"]) == passed


def test_a_ratio_is_checked_on_the_log_scale(some_facts: Maker, nothing: pd.DataFrame) -> None:
    # Blue et al., JAMA 330(15), table 3: deaths, medium risk; z = 3.7, so P = .02 is no rounding
    cells = {"unit": "hazard ratio", "outcome_family": "quality", "scope": "", "ci_level": "90"}
    death = {**cells, "estimate": "0.93", "ci_low": "0.9", "ci_high": "0.96"}
    found = check_facts(some_facts({**death, "percent_effect": "-6.8", "note": "P=0.02"}), nothing)
    row = only(found, "interval_p")
    se = np.log(0.96 / 0.90) / (2 * stats.norm.ppf(0.95))
    assert row["expected"] == pytest.approx(2 * stats.norm.sf(-np.log(0.93) / se), rel=1e-9)
    assert not row["passed"]
    assert only(found, "percent_baseline")["expected"] == pytest.approx(-7.0)
    assert only(found, "percent_baseline")["passed"]
    assert only(found, "percent_sign")["passed"]


def test_an_estimate_outside_its_interval_is_found(
    some_facts: Maker, nothing: pd.DataFrame
) -> None:
    inside = {"estimate": "3", "ci_low": "-3", "ci_high": "3", "ci_level": "95"}
    found = check_facts(some_facts(inside, {**inside, "estimate": "5"}), nothing)
    rows = found[found["check"] == "interval_contains"]
    assert rows["passed"].tolist() == [True, False]
    assert rows["expected"].tolist() == [3.0, 3.0]


def test_an_estimate_off_the_middle_is_found(some_facts: Maker, nothing: pd.DataFrame) -> None:
    cells = {"estimate": "455", "ci_low": "137", "ci_high": "722", "ci_level": "95"}
    row = only(check_facts(some_facts(cells), nothing), "interval_symmetric")
    assert not row["passed"]
    assert (row["expected"], row["found"]) == (429.5, 455.0)
    # 5 % of 292.5, and half a dollar for the estimate and for the middle
    assert row["slack"] == pytest.approx(14.625 + 1.0)


def test_a_printed_standard_error_is_compared_with_the_interval(
    some_facts: Maker, nothing: pd.DataFrame
) -> None:
    facts = some_facts({**INTERVAL, "se": "233"}, {**INTERVAL, "se": "277"})
    rows = check_facts(facts, nothing).query("check == 'interval_se'")
    assert rows["passed"].tolist() == [True, False]
    assert rows["expected"].to_numpy() == pytest.approx(232.66, abs=0.005)


def test_percent_times_baseline_is_the_estimate(some_facts: Maker, nothing: pd.DataFrame) -> None:
    cells = {"estimate": "-499", "baseline_mean": "29120"}
    facts = some_facts({**cells, "percent_effect": "-1.7"}, {**cells, "percent_effect": "-1.8"})
    rows = check_facts(facts, nothing).query("check == 'percent_baseline'")
    assert rows["passed"].tolist() == [True, False]
    assert rows["expected"].to_numpy() == pytest.approx(-100 * 499 / 29120)


def test_a_saving_and_its_percent_point_the_same_way(
    some_facts: Maker, nothing: pd.DataFrame
) -> None:
    cells = {
        "unit": "USD total (positive = savings)",
        "outcome_family": "net_savings",
        "quantity": "net",
        "estimate": "344000000",
    }
    facts = some_facts({**cells, "percent_effect": "-4"}, {**cells, "percent_effect": "4"})
    rows = check_facts(facts, nothing).query("check == 'percent_sign'")
    assert rows["passed"].tolist() == [True, False]


def parts(total: str, *numbers: str) -> list[dict[str, str]]:
    """Return rows with a total and its parts."""
    return [{"estimate": total}, *({"estimate": number} for number in numbers)]


def members(count: int, check: str = "components") -> list[dict[str, str]]:
    """Return the relation "the first fact is the sum of the others"."""
    return [
        {
            "relation": "sum",
            "check": check,
            "role": "total" if i == 1 else "part",
            "fact": f"smith-2020-{i:02d}",
        }
        for i in range(1, count + 1)
    ]


def test_components_add_up_within_rounding(some_facts: Maker, some_relations: Maker) -> None:
    # BPCI Model 3, JAMA 324(18), table 3: six parts sum to -1009, printed total -1008
    facts = some_facts(*parts("-1008", "-981", "-106", "-87", "48", "117", "0"))
    row = only(check_facts(facts, some_relations(*members(7))), "components")
    assert (row["expected"], row["found"], row["slack"]) == (-1009.0, -1008.0, 3.5)
    assert row["passed"]


def test_a_planted_component_is_found(some_facts: Maker, some_relations: Maker) -> None:
    facts = some_facts(*parts("-1008", "-981", "-106", "-87", "48", "117", "5"))
    row = only(check_facts(facts, some_relations(*members(7))), "components")
    assert (row["expected"], row["found"]) == (-1004.0, -1008.0)
    assert not row["passed"]
    assert "smith-2020-07" in row["rows"]


def test_gross_minus_payments_is_net(some_facts: Maker, some_relations: Maker) -> None:
    # ACO Investment Model 2016: 131 million gross, 82.4 million paid, 48.6 million net
    def facts(net: str) -> pd.DataFrame:
        saving = "USD total (positive = savings)"
        family = {"outcome_family": "net_savings", "quantity": "net"}
        return some_facts(
            {"estimate": "-131000000", "unit": "USD total"},
            {"estimate": net, "unit": saving, "note": "minus 82.4 million disbursed", **family},
        )

    def member(role: str, fact: str, **cells: str) -> dict[str, str]:
        return {"relation": "aim", "check": "net", "role": role, "fact": fact, **cells}

    relations = some_relations(
        member("net", "smith-2020-02"),
        member("gross", "smith-2020-01", multiplier="-1"),
        member("payment", "smith-2020-02", field="note", value="82.4", multiplier="-1000000"),
    )
    right = only(check_facts(facts("48600000"), relations), "net")
    assert right["passed"]
    assert right["expected"] == pytest.approx(48.6e6)
    # half a million for gross, half of 0.1 million each for payments and net
    assert right["slack"] == pytest.approx(0.6e6)
    assert not only(check_facts(facts("51600000"), relations), "net")["passed"]


def test_products_multiply_their_spans(some_facts: Maker, some_relations: Maker) -> None:
    facts = some_facts(
        {"estimate": "4329325657", "unit": "USD total"},
        {"estimate": "426.3", "n_beneficiaries_or_episodes": "10155271 person-years"},
    )
    cells = {"relation": "total", "check": "product", "term": "1"}
    relations = some_relations(
        {**cells, "role": "total", "fact": "smith-2020-01"},
        {**cells, "role": "part", "fact": "smith-2020-02"},
        {**cells, "role": "part", "fact": "smith-2020-02", "field": "sample_number"},
    )
    row = only(check_facts(facts, relations), "product")
    assert row["expected"] == pytest.approx(426.3 * 10155271)
    assert row["slack"] == pytest.approx(0.05 * 10155271 + 0.5 * 426.3 + 0.5, rel=1e-6)
    assert row["passed"]


def test_sources_that_disagree_about_a_count_are_found(
    some_facts: Maker, some_relations: Maker
) -> None:
    facts = some_facts(
        {"n_participants": "1515 practices; 3783 comparison"},
        {"note": "1515 in JAMA abstract, 1151 on evaluator page"},
    )
    cells = {"relation": "count", "check": "same_count"}
    relations = some_relations(
        {
            **cells,
            "role": "total",
            "fact": "smith-2020-01",
            "field": "n_participants",
            "value": "1515",
        },
        {**cells, "role": "part", "fact": "smith-2020-02", "field": "note", "value": "1151"},
    )
    row = only(check_facts(facts, relations), "same_count")
    assert (row["found"], row["expected"], row["passed"]) == (1515.0, 1151.0, False)


def test_relations_that_point_nowhere_are_refused_together(
    some_facts: Maker, some_relations: Maker
) -> None:
    facts = some_facts({"estimate": "3", "note": "82.4 million"}, {})
    cells = {"relation": "r", "check": "components"}
    relations = some_relations(
        {**cells, "role": "total", "fact": "smith-2020-09"},
        {**cells, "role": "part", "fact": "smith-2020-02"},
        {**cells, "role": "part", "fact": "smith-2020-01", "field": "note", "value": "2.4"},
        {**cells, "role": "part", "field": ""},
    )
    with pytest.raises(DataError) as error:
        check_facts(facts, relations)
    message = str(error.value)
    assert "names `smith-2020-09`, which is not a fact" in message
    assert "uses `estimate` of `smith-2020-02`, which has no number there" in message
    assert "quotes 2.4 from `note` of `smith-2020-01`, which lacks it" in message
    assert "neither a `fact` nor a `value`" in message


def test_a_relations_file_is_checked_as_a_whole(some_relations: Maker) -> None:
    cells = {"check": "components", "role": "part", "fact": "a"}
    with pytest.raises(DataError) as error:
        some_relations(
            {**cells, "relation": "one-sided"},
            {**cells, "relation": "odd", "role": "whole", "multiplier": "x"},
            {**cells, "relation": "odd", "check": "net"},
        )
    message = str(error.value)
    assert "`role` is `whole`" in message
    assert "`multiplier` is not a number in `odd`" in message
    assert "`odd` have two kinds of `check`" in message
    assert "`one-sided`, `odd` have only one side" in message
