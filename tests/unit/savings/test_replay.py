"""Programs settled again under other rules; payments of settlements in a ledger."""

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval import programs, savings
from vbceval.savings import Scenario

MSSP = programs.get("mssp")


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "aco_id": ["A1", "A2", "A3"],
            "track": "ENHANCED",
            "n_ab": 20_000,
            "benchmark": 200e6,
            "expenditure": [190e6, 199e6, 212e6],
            "qual_score": 1.0,
            "met_qps": True,
            "min_sav_perc": 0.02,
        }
    )


def drawn(table: pd.DataFrame, size: int = 50) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(4).normal(0, 3e6, size=(len(table), size))
    return {"expenditure": table["expenditure"].to_numpy()[:, None] + noise}


def test_replay_is_settling_again(table) -> None:
    scenarios = {
        "half the rate": Scenario(values={"sharing_rate": 0.375}),
        "other track": Scenario(inputs={"track": "BASIC_E"}),
    }
    found = savings.replay(MSSP, table, performance_year=2024, scenarios=scenarios)
    out = found.table().set_index("scenario")
    again = MSSP.with_values(sharing_rate=0.375).settle(table, performance_year=2024)
    assert out.loc["half the rate", "payment"] == pytest.approx(again.payment.sum(), rel=1e-14)
    basic = MSSP.settle(table.assign(track="BASIC_E"), performance_year=2024).payment
    written = MSSP.settle(table, performance_year=2024).payment
    assert out.loc["other track", "difference"] == pytest.approx(basic.sum() - written.sum())
    assert out.loc["as written", ["n_paid", "n_owing", "difference"]].tolist() == [1, 1, 0]
    assert out["conf_low"].isna().all()


def test_replay_over_draws_is_joint(table) -> None:
    draws = drawn(table)
    found = savings.replay(
        MSSP, table, performance_year=2024, draws=draws,
        scenarios={"no sequestration": Scenario(values={"sequestration": 0.0})},
    )  # fmt: skip
    row = found.table(level=0.8).iloc[1]
    each = [
        MSSP.with_values(sequestration=0.0).settle(table, performance_year=2024, draws=draws),
        MSSP.settle(table, performance_year=2024, draws=draws),
    ]
    gap = each[0].payment.sum(axis=0) - each[1].payment.sum(axis=0)
    assert row["difference"] == pytest.approx(gap.mean())
    assert [row["difference_low"], row["difference_high"]] == pytest.approx(
        np.quantile(gap, [0.1, 0.9])
    )


def test_a_constant_drawn_often_is_that_constant(table) -> None:
    same = {"expenditure": np.repeat(table["expenditure"].to_numpy()[:, None], 7, axis=1)}
    scenarios = {"cut": Scenario(values={"sharing_rate": 0.5})}
    a = savings.replay(MSSP, table, performance_year=2024, scenarios=scenarios).table()
    b = savings.replay(MSSP, table, performance_year=2024, scenarios=scenarios, draws=same).table()
    for column in ("n_paid", "n_owing", "paid", "owed", "payment", "difference"):
        assert a[column].tolist() == pytest.approx(b[column].tolist(), rel=1e-14)
    assert b["conf_low"].tolist() == pytest.approx(b["conf_high"].tolist())


def test_settlements_become_lines(table) -> None:
    known = MSSP.settle(table, performance_year=2024)
    book = savings.Ledger.from_settlements([known])
    assert [line.kind for line in book] == ["incentive_payment", "repayment"]
    assert book.total("payer", period=2024) == pytest.approx(-known.payment.sum())
    drawn_too = MSSP.settle(table, performance_year=2024, draws=drawn(table))
    both = savings.Ledger.from_settlements([drawn_too])
    assert both.total("providers") == pytest.approx(drawn_too.payment.sum(axis=0))


@pytest.mark.parametrize(
    ("scenarios", "words"),
    [
        ({}, "nothing to replay"),
        ({"as written": Scenario(values={"sharing_rate": 0.5})}, "without changes"),
        ({"idle": Scenario()}, "`idle` change nothing"),
        ({"typo": Scenario(values={"sharing": 0.5})}, "`sharing` is no parameter"),
    ],
)
def test_scenarios_that_say_nothing(table, scenarios, words) -> None:
    with pytest.raises(vbc.DesignError, match=words):
        savings.replay(MSSP, table, performance_year=2024, scenarios=scenarios)


def test_a_scenario_does_not_overwrite_draws(table) -> None:
    with pytest.raises(vbc.DataError, match="sets `expenditure`, of which draws are given"):
        savings.replay(
            MSSP, table, performance_year=2024, draws=drawn(table),
            scenarios={"flat": Scenario(inputs={"expenditure": 1.0})},
        )  # fmt: skip


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"trak": "BASIC_E"}, "`trak`, which `mssp` does not read"),
        ({"qual_score": [1.0, 0.5, 0.2]}, "`qual_score` to several values"),
    ],
)
def test_scenarios_that_would_change_nothing(table, inputs, words) -> None:
    with pytest.raises(vbc.DesignError, match=words):
        savings.replay(
            MSSP, table, performance_year=2024, scenarios={"typo": Scenario(inputs=inputs)}
        )


def test_the_table_says_that_behaviour_is_fixed(table) -> None:
    scenarios = {"cut": Scenario(values={"sharing_rate": 0.5})}
    found = savings.replay(MSSP, table, performance_year=2024, scenarios=scenarios).table()
    assert found["behaviour"].tolist() == ["held fixed"] * 2


def test_lines_by_stratum_and_recoupment(table) -> None:
    table = table.assign(adv_pay_recoup=[2e5, 1e5, 0.0])
    settled = MSSP.settle(table, performance_year=2024, draws=drawn(table))
    strata = {"A1": "rural=yes", "A2": "rural=yes", "A3": "rural=no"}
    book = savings.Ledger.from_settlements([settled], kind="apm_bonus", strata=strata)
    assert [(line.kind, line.stratum) for line in book] == [
        ("apm_bonus", "rural=yes"), ("repayment", "rural=yes"), ("recoupment", "rural=yes"),
        ("apm_bonus", "rural=no"), ("repayment", "rural=no"),
    ]  # fmt: skip
    assert book.total("providers") == pytest.approx(settled["paid_out"].sum(axis=0))
    rural = book.total("payer", stratum="rural=yes")
    assert rural == pytest.approx(-settled["paid_out"][:2].sum(axis=0))
    with pytest.raises(vbc.DataError, match="1 organizations of `mssp` 2024 have no stratum: `A3`"):
        savings.Ledger.from_settlements([settled], strata={"A1": "a", "A2": "a"})
