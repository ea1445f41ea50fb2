"""Percent effects on total spending: sizes, precision, what is left out and why."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vbceval.core.errors import DataError
from vbceval.evidence import attrition, screen, spending_effects
from vbceval.evidence.effects import EFFECT_COLUMNS, REASONS

Maker = Callable[..., pd.DataFrame]

CJR = {
    "unit": "USD per episode",
    "estimate": "-453",
    "ci_low": "-909",
    "ci_high": "3",
    "ci_level": "95",
    "baseline_mean": "22872",
    "denominator": "control_mean",
}


def test_a_printed_interval_and_baseline(some_facts: Maker) -> None:
    row = spending_effects(some_facts(CJR)).iloc[0]
    assert row["percent_effect"] == pytest.approx(-100 * 453 / 22872, rel=1e-12)
    se = 912 / (2 * stats.norm.ppf(0.975))
    assert row["std_error"] == pytest.approx(se, rel=1e-12)
    assert row["se_percent"] == pytest.approx(100 * se / 22872, rel=1e-12)
    assert (row["se_source"], row["baseline_source"]) == ("interval", "printed")
    assert row["denominator"] == "control_mean"
    assert row["percent_low"] == pytest.approx(-100 * 453.5 / 22871.5)
    assert row["se_percent_high"] == pytest.approx(100 * 913 / 912 * se / 22871.5)
    assert row["label"] == "Program, 2016-2018 (Smith et al. 2020)"


def test_ninety_and_ninety_five_percent_intervals_are_not_confused(some_facts: Maker) -> None:
    effects = spending_effects(some_facts(CJR, {**CJR, "ci_level": "90"}))
    ratio = effects["se_percent"].iloc[1] / effects["se_percent"].iloc[0]
    assert ratio == pytest.approx(stats.norm.ppf(0.975) / stats.norm.ppf(0.95), rel=1e-12)


def test_a_p_value_gives_the_standard_error_and_its_rounding(some_facts: Maker) -> None:
    # Pioneer, NEJM 2015: -29.2 per quarter, -1.2 %, P = .007
    unit = "USD per beneficiary per quarter"
    facts = some_facts(
        {"estimate": "-29.2", "unit": unit, "percent_effect": "-1.2", "note": "P=0.007"}
    )
    row = spending_effects(facts).iloc[0]
    z = stats.norm.isf(0.0035)
    assert row["se_percent"] == pytest.approx(1.2 / z, rel=1e-10)
    assert row["std_error"] == pytest.approx(29.2 / z, rel=1e-10)
    assert row["se_percent_low"] == pytest.approx(1.15 / stats.norm.isf(0.00325), rel=1e-10)
    assert row["se_percent_high"] == pytest.approx(1.25 / stats.norm.isf(0.00375), rel=1e-10)
    assert (row["se_source"], row["baseline_source"]) == ("p_value", "implied")
    assert row["baseline"] == pytest.approx(29.2 / 0.012)


@pytest.mark.parametrize(
    ("note", "censored", "p"),
    [("P<0.001", "below", 0.001), ("ns", "above", 0.05), ("significant", "below", 0.10)],
)
def test_a_bound_gives_a_bound_and_no_standard_error(
    some_facts: Maker, note: str, censored: str, p: float
) -> None:
    facts = some_facts({"percent_effect": "-11.7", "unit": "percent", "note": note})
    row = spending_effects(facts).iloc[0]
    edge = 11.7 / stats.norm.isf(p / 2)
    assert (row["se_source"], row["censored"]) == ("p_bound", censored)
    assert np.isnan(row["se_percent"])
    bounds = (0.0, edge) if censored == "below" else (edge, np.inf)
    assert (row["se_percent_low"], row["se_percent_high"]) == pytest.approx(bounds)


def test_nothing_printed_about_precision_is_never_filled_in(some_facts: Maker) -> None:
    facts = some_facts({"percent_effect": "-2.5", "unit": "percent"})
    assert spending_effects(facts).empty
    row = spending_effects(facts, precision="any").iloc[0]
    assert row["se_source"] == "none"
    assert np.isnan([row["se_percent"], row["se_percent_low"], row["se_percent_high"]]).all()


def test_a_borrowed_baseline_is_converted_and_named(some_facts: Maker) -> None:
    facts = some_facts(
        {
            "estimate": "-35.62",
            "unit": "USD PBPM",
            "baseline_from": "smith-2020-02",
            "note": "P=.01",
        },
        {
            "estimate": "-29.2",
            "unit": "USD per beneficiary per quarter",
            "percent_effect": "-1.2",
            "denominator": "not_stated",
        },
    )
    row = spending_effects(facts).iloc[0]
    # 29.2 / 1.2 % is 2433.33 a quarter, 811.11 a month
    assert row["baseline"] == pytest.approx(29.2 / 0.012 / 3)
    assert row["percent_effect"] == pytest.approx(-100 * 35.62 / (29.2 / 0.012 / 3))
    assert (row["baseline_source"], row["baseline_fact"]) == ("borrowed", "smith-2020-02")
    assert row["denominator"] == "not_stated"
    assert row["flags"] == ""


def test_a_coarse_baseline_is_flagged(some_facts: Maker) -> None:
    # -14 per month printed as -2 %: anything from 540 to 967 a month
    cells = {"estimate": "-14", "unit": "USD PBPM", "note": "P=.07"}
    facts = some_facts({**cells, "percent_effect": "-2"}, {**cells, "percent_effect": "-2.00"})
    assert spending_effects(facts)["flags"].tolist() == ["coarse_baseline", ""]


def test_a_baseline_of_another_basis_is_refused(some_facts: Maker) -> None:
    facts = some_facts(
        {"estimate": "-20", "unit": "USD PBPM", "baseline_from": "smith-2020-02"},
        {**CJR},
        {"estimate": "-20", "unit": "USD PBPM", "baseline_from": "smith-2020-01"},
    )
    with pytest.raises(DataError) as error:
        spending_effects(facts)
    assert "`smith-2020-01` is per person but `smith-2020-02` is per episode" in str(error.value)
    assert "`smith-2020-03` borrows from `smith-2020-01`, which prints no" in str(error.value)


def test_every_row_is_kept_or_left_out_for_the_first_reason(some_facts: Maker) -> None:
    percent = {"unit": "percent", "percent_effect": "-2.0", "note": "P=.01"}
    facts = some_facts(
        {**CJR},
        {**percent, "outcome_family": "utilization", "scope": ""},
        {**percent, "outcome_family": "net_savings", "quantity": "net"},
        {**percent, "quantity": "benchmark", "scope": ""},
        {**percent, "quantity": "association", "scope": ""},
        {**percent, "scope": "component"},
        {**percent, "scope": "institutional"},
        {**percent, "population": "subgroup"},
        {**percent, "superseded_by": "smith-2020-01"},
        {"estimate": "-20", "note": "P=.01"},
        {"unit": "percent", "percent_effect": "-2.5"},
    )
    decisions = screen(facts)
    assert decisions["reason"].tolist() == ["", *REASONS]
    assert decisions["kept"].tolist() == [True] + [False] * 10
    assert decisions["why"].tolist() == ["", *REASONS.values()]
    table = attrition(decisions)
    assert table["rows_left_out"].tolist() == [0, *[1] * 10]
    assert table["rows_left"].tolist() == [11, *range(10, 0, -1)]
    effects = spending_effects(facts)
    assert effects["fact"].tolist() == ["smith-2020-01"]
    assert tuple(effects.columns) == EFFECT_COLUMNS


def test_options_widen_the_set_one_reason_at_a_time(some_facts: Maker) -> None:
    percent = {"unit": "percent", "percent_effect": "-2.0", "note": "P=.01"}
    facts = some_facts(
        {**CJR},
        {**percent, "scope": "institutional"},
        {**percent, "superseded_by": "smith-2020-01"},
        {"unit": "percent", "percent_effect": "-2.5"},
    )
    wider = spending_effects(facts, scopes=("total", "institutional"))
    assert wider["fact"].tolist() == ["smith-2020-01", "smith-2020-02"]
    every = spending_effects(facts, overlap="all")
    assert every["fact"].tolist() == ["smith-2020-01", "smith-2020-03"]
    assert every["flags"].tolist() == ["", "superseded"]
    sizes = spending_effects(facts, precision="any")
    assert sizes["fact"].tolist() == ["smith-2020-01", "smith-2020-04"]


def test_a_component_cannot_be_asked_for(some_facts: Maker) -> None:
    with pytest.raises(DataError, match="`scopes` is"):
        spending_effects(some_facts(CJR), scopes=("component",))
    with pytest.raises(DataError, match="`overlap` is 'last'"):
        spending_effects(some_facts(CJR), overlap="last")


def test_the_input_is_not_changed(some_facts: Maker) -> None:
    facts = some_facts(CJR, {"unit": "percent", "percent_effect": "-2.5"})
    before = facts.copy(deep=True)
    spending_effects(facts)
    pd.testing.assert_frame_equal(facts, before)
