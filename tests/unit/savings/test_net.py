"""From gross to net: ledgers, parties, dollars of one year, break-even."""

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval import figures, savings
from vbceval.savings import Ledger, Line, RealDollars

PRICES = RealDollars(year=2016, index={2014: 96.0, 2015: 98.0, 2016: 100.0}, source="made up")


@pytest.fixture
def effects() -> vbc.Estimates:
    frame = pd.DataFrame(
        {
            "estimand": "att_group_time",
            "cohort": [2014.0, 2014.0, 2015.0, 2014.0],
            "period": [2014.0, 2015.0, 2015.0, 2014.0],
            "event_time": [0.0, 1.0, 0.0, 0.0],
            "stratum": ["dual=no", "dual=no", "dual=no", "dual=yes"],
            "estimate": [-10.0, -20.0, 4.0, -30.0],
        }
    )
    psi = np.random.default_rng(3).normal(size=(12, 4))
    return vbc.Estimates(frame=frame, psi=psi, clusters=pd.Index(range(12)))


@pytest.fixture
def exposure(effects) -> pd.DataFrame:
    table = effects.frame[["cohort", "period", "stratum"]]
    return table.assign(person_years=[100.0, 50.0, 25.0, 11.0])


@pytest.fixture
def book() -> Ledger:
    return Ledger(
        (
            Line(name="Shared savings", kind="incentive_payment", amount=300.0, period=2014),
            Line(name="Shared savings", kind="incentive_payment", amount=500.0, period=2015),
            Line(name="Shared losses", kind="repayment", amount=50.0, period=2015),
            Line(name="Waived cost sharing", kind="cost_sharing_support", amount=20.0, period=2014),
            Line(name="Care managers", kind="participation_cost", amount=70.0, period=2014),
        )
    )


def one_effect(effect: float, sd: float) -> vbc.Estimates:
    frame = pd.DataFrame({"estimand": ["att_overall"], "estimate": [effect]})
    return vbc.Estimates(frame=frame, covariance=np.array([[sd**2]]))


def test_worked_example_of_a_bundle() -> None:
    # 10,000 episodes, -743 dollars each; 9.0 million paid, 1.0 million repaid
    book = Ledger.from_frame(
        pd.DataFrame(
            {
                "name": ["Reconciliation payments", "Repayments"],
                "kind": ["incentive_payment", "repayment"],
                "amount": [9.0e6, 1.0e6],
            }
        )
    )
    gross = savings.gross(one_effect(-743.0, 100.0), 10_000)
    net = savings.net(gross, book)
    assert net.estimate.tolist() == [-570_000.0]
    assert savings.per_unit(net).estimate.tolist() == pytest.approx([-57.0])
    assert net.std_error.tolist() == pytest.approx([1e6])
    back = savings.return_on_investment(net)
    assert back.estimate.tolist() == pytest.approx([-570 / 8000])


def test_rows_by_stratum_and_period(effects, exposure) -> None:
    gross = savings.gross(effects, exposure, by=["period", "stratum"])
    keys = list(zip(gross.frame["period"], gross.frame["stratum"], strict=True))
    assert [(str(t), None if pd.isna(s) else s) for t, s in keys] == [
        ("nan", None), ("2014.0", None), ("2015.0", None), ("nan", "dual=no"), ("nan", "dual=yes"),
    ]  # fmt: skip
    assert gross.estimate.tolist() == [2230.0, 1330.0, 900.0, 1900.0, 330.0]


def test_each_party_has_its_own_account(effects, exposure, book) -> None:
    gross = savings.gross(effects, exposure, by=["period"])
    payer = savings.net(gross, book, share=0.8)
    people = savings.net(gross, book, party="beneficiaries", share=0.2)
    providers = savings.net(gross, book, party="providers")
    assert payer.estimate == pytest.approx([0.8 * 2230 - 770, 0.8 * 1330 - 320, 0.8 * 900 - 450])
    assert people.estimate == pytest.approx([446 + 20, 266 + 20, 180])
    assert providers.estimate.tolist() == [680.0, 230.0, 450.0]
    assert np.isnan(providers.std_error).all()
    # transfers cancel: what is left over is gross savings less what was spent outside
    together = payer.estimate + people.estimate + providers.estimate
    assert together == pytest.approx(gross.estimate - np.array([70.0, 70.0, 0.0]))
    assert payer.std_error == pytest.approx(0.8 * gross.std_error)


def test_payments_that_are_draws_are_subtracted_draw_by_draw(effects, exposure) -> None:
    draws = effects.simulate_draws(400, np.random.default_rng(1))
    posterior = vbc.Estimates(
        frame=effects.frame.assign(estimate=draws.mean(axis=0)), samples=draws, interval="credible"
    )
    gross = savings.gross(posterior, exposure)
    paid = np.maximum(gross.draws()[:, 0] - 2230.0, 0.0)
    book = Ledger((Line(name="Shared savings", kind="incentive_payment", amount=paid),))
    net = savings.net(gross, book)
    assert net.draws()[:, 0] == pytest.approx(gross.draws()[:, 0] - paid)
    assert net.estimate == pytest.approx(net.draws().mean(axis=0))
    assert net.std_error[0] < gross.std_error[0]  # payments move with savings
    with pytest.raises(vbc.EstimationError, match="400 joint draws and the estimates carry none"):
        savings.net(savings.gross(effects, exposure), book)


def test_real_dollars_apply_to_savings_and_payments_alike(effects, exposure, book) -> None:
    gross = savings.gross(effects, exposure, dollars=PRICES, by=["period"])
    assert gross.estimate == pytest.approx(
        [1330 / 0.96 + 900 / 0.98, 1330 / 0.96, 900 / 0.98], rel=1e-14
    )
    with pytest.raises(vbc.DesignError, match="savings are in USD of 2016 and the ledger in USD"):
        savings.net(gross, book)
    net = savings.net(gross, book.real(PRICES))
    assert net.estimate[0] == pytest.approx(gross.estimate[0] - 320 / 0.96 - 450 / 0.98)
    assert book.real(PRICES).real(PRICES) == book.real(PRICES)
    assert net.frame["payments"].to_numpy()[1] == pytest.approx(320 / 0.96)


def test_running_totals(effects, exposure, book) -> None:
    net = savings.net(savings.gross(effects, exposure, by=["period"]), book)
    total = savings.cumulative(net)
    assert total.frame["period"].tolist() == [2014.0, 2015.0]
    assert total.estimate == pytest.approx([net.estimate[1], net.estimate[0]])
    assert total.std_error[1] == pytest.approx(net.std_error[0])
    assert total.frame["payments"].tolist() == pytest.approx([320.0, 770.0])


def test_breakeven_is_where_payments_equal_savings() -> None:
    gross = savings.gross(one_effect(-500.0, 100.0), 1_000)

    def payments(discount: float) -> float:
        return 1_000 * 25_000 * (0.05 - discount)

    found = savings.breakeven(gross, payments, between=(-0.1, 0.05)).iloc[0]
    row = gross.tidy().iloc[0]
    assert payments(found["estimate"]) == pytest.approx(row["estimate"], abs=1e-3)
    assert payments(found["conf_low"]) == pytest.approx(row["conf_high"], abs=1e-3)
    assert payments(found["conf_high"]) == pytest.approx(row["conf_low"], abs=1e-3)
    short = savings.breakeven(gross, payments, between=(0.025, 0.035)).iloc[0]
    assert short["conf_low"] == -np.inf
    assert short["conf_high"] == np.inf
    with pytest.raises(vbc.DesignError, match="does not break even"):
        savings.breakeven(gross, payments, between=(0.04, 0.05))
    with pytest.raises(vbc.DataError, match="no value of the parameter"):
        savings.breakeven(gross, lambda _: 1.0, between=(0, 1))


def test_statement_is_what_the_waterfall_draws(effects, exposure, book) -> None:
    gross = savings.gross(effects, exposure)
    table = savings.statement(gross, savings.net(gross, book), book)
    assert table["component"].tolist() == [
        "Gross", "Shared savings", "Shared losses", "Waived cost sharing", "Net",
    ]  # fmt: skip
    assert table["amount"].tolist() == pytest.approx([2230.0, 800.0, -50.0, 20.0, 1460.0])
    assert figures.gross_to_net(table, level=0.95) is not None
    with pytest.raises(vbc.DesignError, match="not those of the rows"):
        savings.statement(gross, savings.net(gross, book, share=0.8), book)


def test_ledger_lists_all_that_is_wrong() -> None:
    table = pd.DataFrame(
        {"name": ["a", "b", "c"], "kind": ["bonus", "repayment", "repayment"],
         "amount": [1.0, -2.0, np.nan]}
    )  # fmt: skip
    with pytest.raises(vbc.DataError) as caught:
        Ledger.from_frame(table)
    for words in ("kinds `bonus`", "`b` has missing or negative", "`c` has missing or negative"):
        assert words in str(caught.value)
    with pytest.raises(vbc.DataError, match="no column `kind`, `amount`"):
        Ledger.from_frame(table[["name"]])
    with pytest.raises(vbc.DataError, match="joint draws"):
        Ledger(
            (
                Line(name="a", kind="repayment", amount=np.ones(3)),
                Line(name="b", kind="repayment", amount=np.ones(4)),
            )
        )


def test_a_line_without_a_period_has_no_part_in_a_year(effects, exposure, book) -> None:
    silent = Ledger((*book.lines, Line(name="Fees", kind="model_payment", amount=5.0)))
    gross = savings.gross(effects, exposure, by=["period"])
    with pytest.raises(vbc.DataError, match="lines `Fees` state no `period`"):
        savings.net(gross, silent)
    assert savings.net(gross.where([0]), silent).estimate.tolist() == [2230.0 - 775.0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda g, b: savings.net(g, 1.0, party="providers"), "give a `Ledger`"),
        (lambda g, b: savings.net(g, b, party="hospitals"), "use one of payer"),
        (lambda g, b: savings.net(g, [np.inf]), "missing or infinite"),
        (lambda g, b: savings.return_on_investment(g), "pass the result of `net`"),
        (lambda g, b: savings.return_on_investment(savings.net(g, 0.0)), "paid nothing"),
        (lambda g, b: savings.cumulative(g), "no savings by period"),
        (lambda g, b: savings.breakeven(savings.net(g, 1.0), float, between=(0, 1)), "one row"),
    ],
)
def test_bad_requests_say_what_to_do(effects, exposure, book, call, words) -> None:
    with pytest.raises(vbc.DesignError, match=words):
        call(savings.gross(effects, exposure), book)


def test_exposure_as_numbers_needs_one_for_each_row(effects) -> None:
    with pytest.raises(vbc.DataError, match="one number, 0 or more, for each of the 4"):
        savings.gross(effects, 10.0)
    early = effects.with_frame(effects.frame.assign(event_time=[-1.0, 0, 0, 0]))
    with pytest.raises(vbc.DesignError, match="1 estimates before entry have exposure"):
        savings.gross(early, [1.0, 1.0, 1.0, 1.0])


def test_a_price_index_says_what_it_lacks() -> None:
    with pytest.raises(vbc.DataError) as caught:
        RealDollars(year=2020, index={2014: -1.0}, source=" ")
    assert len(str(caught.value).splitlines()) == 4
    with pytest.raises(vbc.DataError, match="no level for `2019`"):
        PRICES.factors([2014, 2019])
