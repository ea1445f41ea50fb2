"""Gross, payments and net: signs, percents and what is only implied."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vbceval.evidence import net_effects

Maker = Callable[..., pd.DataFrame]
NET = {"outcome_family": "net_savings", "quantity": "net", "scope": "total"}


def member(role: str, fact: str, **cells: str) -> dict[str, str]:
    """Return one member of a net relation."""
    return {"relation": "r", "check": "net", "role": role, "fact": fact, **cells}


def test_net_cost_of_an_episode_program(some_facts: Maker, some_relations: Maker) -> None:
    # Finkelstein et al., JAMA 320(9), table 3
    interval = {"unit": "USD per episode", "ci_level": "95", "baseline_mean": "22872"}
    facts = some_facts(
        {**interval, "estimate": "-453", "ci_low": "-909", "ci_high": "3"},
        {
            **interval,
            **NET,
            "unit": "USD per episode (positive = cost)",
            "estimate": "234",
            "ci_low": "-214",
            "ci_high": "683",
        },
    )
    relations = some_relations(
        member("net", "smith-2020-02", multiplier="-1"),
        member("gross", "smith-2020-01", multiplier="-1"),
    )
    row = net_effects(facts, relations).iloc[0]
    assert (row["gross_effect"], row["payments"], row["net_effect"]) == (-453, 687, 234)
    assert row["payments_source"] == "implied"
    assert row["net_se_source"] == "interval"
    z = 2 * stats.norm.ppf(0.975)
    assert row["net_se"] == pytest.approx(897 / z)
    assert row["gross_se_percent"] == pytest.approx(100 * 912 / z / 22872)
    assert row["payments_percent"] == pytest.approx(100 * 687 / 22872)
    assert row["net_percent"] == pytest.approx(row["gross_percent"] + row["payments_percent"])
    assert row["payments_over_gross"] == pytest.approx(687 / 453)
    assert (row["counterfactual"], row["unit"]) == ("evaluation", "USD per episode")
    assert not row["coarse_baseline"]


def test_totals_take_their_percent_from_the_same_effect_per_person(
    some_facts: Maker, some_relations: Maker
) -> None:
    facts = some_facts(
        {"unit": "USD total", "estimate": "-131000000"},
        {
            **NET,
            "unit": "USD total (positive = savings)",
            "estimate": "48600000",
            "note": "82.4 paid",
        },
        {"unit": "USD PBPM", "estimate": "-28.21", "percent_effect": "-2.67"},
    )
    relations = some_relations(
        member("net", "smith-2020-02"),
        member("gross", "smith-2020-01", multiplier="-1"),
        member("payment", "smith-2020-02", field="note", value="82.4", multiplier="-1000000"),
        member("scale", "smith-2020-03"),
    )
    row = net_effects(facts, relations).iloc[0]
    assert (row["gross_effect"], row["net_effect"]) == (-131e6, -48.6e6)
    assert row["payments"] == pytest.approx(82.4e6)
    assert (row["payments_source"], row["percent_source"]) == ("printed", "scale")
    assert row["gross_percent"] == pytest.approx(-2.67)
    assert row["net_percent"] == pytest.approx(-2.67 * 48.6 / 131)
    assert row["net_se_source"] == "none"
    assert np.isnan(row["net_se_percent"])


def test_a_gross_interval_shifts_when_the_net_has_none(
    some_facts: Maker, some_relations: Maker
) -> None:
    facts = some_facts(
        {"estimate": "-100", "ci_low": "-150", "ci_high": "-50", "ci_level": "90"},
        {**NET, "estimate": "-40"},
    )
    relations = some_relations(
        member("net", "smith-2020-02", multiplier="-1"),
        member("gross", "smith-2020-01", multiplier="-1"),
    )
    row = net_effects(facts, relations).iloc[0]
    assert row["net_se_source"] == "gross"
    assert row["net_se"] == row["gross_se"] == pytest.approx(50 / stats.norm.ppf(0.95))
    assert np.isnan(row["net_percent"])
    assert row["percent_source"] == "none"


def test_benchmark_figures_are_labelled(some_facts: Maker, some_relations: Maker) -> None:
    unit = "USD total vs benchmark (positive = savings)"
    base = {"unit": unit, "quantity": "benchmark", "scope": ""}
    facts = some_facts(
        {**base, "estimate": "300", "baseline_mean": "50000", "percent_effect": "-0.600"},
        {**base, "estimate": "-40", "outcome_family": "net_savings"},
    )
    relations = some_relations(member("net", "smith-2020-02"), member("gross", "smith-2020-01"))
    row = net_effects(facts, relations).iloc[0]
    assert row["counterfactual"] == "benchmark"
    assert (row["gross_effect"], row["payments"], row["net_effect"]) == (-300, 340, 40)
    assert row["payments_percent"] == pytest.approx(0.68)
    assert row["unit"] == "USD total"


def test_a_gross_figure_per_person_is_multiplied_by_its_persons(
    some_facts: Maker, some_relations: Maker
) -> None:
    facts = some_facts(
        {
            "unit": "USD per person-year",
            "estimate": "-50",
            "baseline_mean": "10000",
            "n_beneficiaries_or_episodes": "20000",
        },
        {**NET, "unit": "USD total (positive = savings)", "estimate": "600000"},
    )
    relations = some_relations(
        member("net", "smith-2020-02", term="1"),
        member("gross", "smith-2020-01", term="2", multiplier="-1"),
        member("gross", "smith-2020-01", term="2", field="sample_number"),
        member("payment", "", term="3", value="400000", multiplier="-1"),
    )
    row = net_effects(facts, relations).iloc[0]
    assert (row["gross_effect"], row["payments"], row["net_effect"]) == (-1e6, 4e5, -6e5)
    # the percent of one part is not the percent of the product
    assert row["percent_source"] == "none"
