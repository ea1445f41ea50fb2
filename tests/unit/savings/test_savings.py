"""Savings: sign flipped once, joint errors, payments known."""

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval import savings


@pytest.fixture
def effects() -> vbc.Estimates:
    frame = pd.DataFrame(
        {
            "estimand": "att_group_time",
            "outcome": "spend",
            "cohort": [2014.0, 2014.0, 2014.0, 2015.0],
            "period": [2013.0, 2014.0, 2015.0, 2015.0],
            "event_time": [-1.0, 0.0, 1.0, 0.0],
            "estimate": [5.0, -10.0, -20.0, 4.0],
        }
    )
    psi = np.random.default_rng(3).normal(size=(12, 4))
    return vbc.Estimates(frame=frame, psi=psi, clusters=pd.Index(range(12)))


@pytest.fixture
def exposure() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "cohort": [2014.0, 2014.0, 2015.0],
            "period": [2014.0, 2015.0, 2015.0],
            "person_years": [100.0, 50.0, 25.0],
        }
    )


def test_gross_is_minus_effect_times_person_years(effects, exposure) -> None:
    out = savings.gross(effects, exposure, by=["period"])
    assert out.estimate.tolist() == pytest.approx([1900.0, 1000.0, 900.0])
    assert out.frame["exposure"].tolist() == [175.0, 100.0, 75.0]
    weights = np.array([0.0, -100.0, -50.0, -25.0])
    expected = np.sqrt(weights @ effects.vcov() @ weights)
    assert out.std_error[0] == pytest.approx(expected, rel=1e-12)
    assert set(out.frame["unit_of_measure"]) == {"USD (positive = savings)"}


def test_net_shifts_the_interval(effects, exposure) -> None:
    gross = savings.gross(effects, exposure)
    net = savings.net(gross, 400.0)
    a, b = gross.tidy().iloc[0], net.tidy().iloc[0]
    assert b["estimate"] == pytest.approx(1500.0)
    for column in ("estimate", "conf_low", "conf_high"):
        assert a[column] - b[column] == pytest.approx(400.0)
    assert b["std_error"] == a["std_error"]


def test_net_of_draws_shifts_draws(effects, exposure) -> None:
    draws = effects.simulate_draws(500, np.random.default_rng(1))
    posterior = vbc.Estimates(frame=effects.frame, samples=draws, interval="credible")
    gross = savings.gross(posterior, exposure)
    net = savings.net(gross, 400.0)
    assert net.draws() == pytest.approx(gross.draws() - 400.0)


def test_net_needs_gross(effects) -> None:
    with pytest.raises(vbc.DesignError, match="call `gross` first"):
        savings.net(effects, 1.0)


def test_exposure_must_cover_every_effect(effects, exposure) -> None:
    with pytest.raises(vbc.DataError, match=r"\(2015, 2015\)"):
        savings.gross(effects, exposure.iloc[:2])
    with pytest.raises(vbc.DataError, match="repeated rows"):
        savings.gross(effects, pd.concat([exposure, exposure]))
    with pytest.raises(vbc.DataError, match="no column `person_years`"):
        savings.gross(effects, exposure.drop(columns="person_years"))


def test_percent_effects_are_not_called_dollars(effects, exposure) -> None:
    percent = effects.with_frame(effects.frame.assign(unit_of_measure="percent of baseline"))
    with pytest.raises(vbc.DesignError, match="effects are in `percent of baseline`"):
        savings.gross(percent, exposure)
    dollars = effects.with_frame(effects.frame.assign(unit_of_measure="USD per person-year"))
    assert savings.gross(dollars, exposure).estimate.tolist() == pytest.approx([1900.0])


@pytest.mark.parametrize("by", ["period", ["region"]])
def test_savings_are_split_by_known_keys_only(effects, exposure, by) -> None:
    with pytest.raises(vbc.DesignError, match="give a list of `cohort`"):
        savings.gross(effects, exposure, by=by)


def test_only_leads_save_nothing(effects, exposure) -> None:
    with pytest.raises(vbc.DesignError, match="no effect at or after entry"):
        savings.gross(effects.where("event_time < 0"), exposure)


def test_benchmark_savings_add_up() -> None:
    frame = pd.DataFrame(
        {
            "period": [2014, 2014, 2015],
            "benchmark": [100.0, 200.0, 300.0],
            "expenditure": [90.0, 210.0, 280.0],
            "earned": [4.0, 0.0, -2.0],
        }
    )
    by = savings.benchmark_savings(frame, by=["period"])
    assert by["benchmark_savings"].tolist() == [0.0, 20.0]
    assert by["benchmark_savings_net"].tolist() == [-4.0, 22.0]
    assert by["n_paid"].tolist() == [1, 0]
    total = savings.benchmark_savings(frame)
    assert total["benchmark_savings_net"].item() == pytest.approx(18.0)
    with pytest.raises(vbc.DataError, match="`earned` in 1 rows"):
        savings.benchmark_savings(frame.assign(earned=[np.nan, 0, 0]))


def test_benchmark_savings_stand_beside_impact_savings(effects, exposure) -> None:
    acos = pd.DataFrame({"benchmark": [900.0, 800.0], "expenditure": 700.0, "earned": [90.0, -5.0]})
    gross = savings.gross(effects, exposure)
    book = savings.Ledger((savings.Line(name="Paid", kind="incentive_payment", amount=85.0),))
    both = pd.concat(
        [
            savings.statement(gross, savings.net(gross, book), book),
            savings.benchmark_statement(acos),
        ]
    )
    second = both[both["measure"] == "benchmark"]
    assert second["amount"].tolist() == [300.0, 85.0, 215.0]
    assert len(vbc.figures.gross_to_net(both, level=0.95).axes) == 2
