"""Savings against sums written out: strata by period, dollars of one year, draws."""

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval import savings
from vbceval.savings import Ledger, Line, RealDollars

PRICES = RealDollars(year=2016, index={2014: 95.0, 2015: 98.0, 2016: 100.0}, source="made up")
STRATA = ("dual=no", "dual=yes")
BY = ["cohort", "period", "event_time", "stratum", ("stratum", "period")]


@pytest.fixture
def effects() -> vbc.Estimates:
    rng = np.random.default_rng(11)
    cells = [
        (g, t, s) for s in STRATA for g in (2014.0, 2015.0) for t in (2013.0, 2014, 2015, 2016)
    ]
    frame = pd.DataFrame(cells, columns=["cohort", "period", "stratum"])
    frame["event_time"] = frame["period"] - frame["cohort"]
    frame = frame.assign(
        estimand="att_group_time", unit_of_measure="USD per person-year",
        estimate=rng.normal(-50, 30, len(frame)),
    )  # fmt: skip
    psi = rng.normal(size=(25, len(frame))) + rng.normal(size=(25, 1))
    return vbc.Estimates(frame=frame, psi=psi, clusters=pd.Index(range(25)))


@pytest.fixture
def exposure(effects) -> pd.DataFrame:
    table = effects.frame[["cohort", "period", "stratum"]].sample(frac=1, random_state=3)
    return table.assign(person_years=np.random.default_rng(2).uniform(100, 900, len(table)))


def written_out(effects, exposure, keys, factors) -> np.ndarray:
    """Return weights of every effect in savings with the given keys, one loop and no merge."""
    weights = np.zeros(len(effects))
    for i, row in effects.frame.iterrows():
        if row["period"] < row["cohort"] or any(row[k] != v for k, v in keys.items()):
            continue
        for _, cell in exposure.iterrows():
            if all(cell[k] == row[k] for k in ("cohort", "period", "stratum")):
                weights[i] -= cell["person_years"] * factors.get(row["period"], 1.0)
    return weights


def keys_of(frame: pd.DataFrame) -> list[dict[str, object]]:
    names = ["cohort", "period", "event_time", "stratum"]
    return [{k: row[k] for k in names if pd.notna(row[k])} for _, row in frame.iterrows()]


@pytest.mark.parametrize("dollars", [None, PRICES])
def test_parts_and_totals_have_their_joint_law(effects, exposure, dollars) -> None:
    out = savings.gross(effects, exposure, by=BY, dollars=dollars)
    assert len(out) == 1 + 2 + 3 + 3 + 2 + 6
    factors = {} if dollars is None else {2014.0: 100 / 95, 2015.0: 100 / 98, 2016.0: 1.0}
    weights = np.array([written_out(effects, exposure, k, factors) for k in keys_of(out.frame)])
    assert out.estimate == pytest.approx(weights @ effects.estimate, rel=1e-12)
    assert out.vcov() == pytest.approx(weights @ effects.vcov() @ weights.T, rel=1e-10)
    nominal = np.array([written_out(effects, exposure, k, {}) for k in keys_of(out.frame)])
    assert out.frame["exposure"].to_numpy() == pytest.approx(-nominal.sum(axis=1))
    assert (out.frame["exposure_left_out"] == 0).all()


def test_running_totals_stay_within_their_stratum(effects, exposure) -> None:
    gross = savings.gross(effects, exposure, by=["period", ("stratum", "period")])
    book = Ledger(
        tuple(
            Line(name="Fees", kind="model_payment", amount=100.0 * i, period=t, stratum=s)
            for i, (t, s) in enumerate((t, s) for t in (2014, 2015, 2016) for s in STRATA)
        )
    )
    net = savings.net(gross, book)
    total = savings.cumulative(net)
    table, frame = net.frame, total.frame
    assert len(total) == 9
    for i in range(9):
        t, s = frame.loc[i, "period"], frame.loc[i, "stratum"]
        same = table["stratum"].isna() if pd.isna(s) else table["stratum"] == s
        rows = np.flatnonzero(same & (table["period"] <= t))
        assert total.estimate[i] == pytest.approx(net.estimate[rows].sum(), rel=1e-12)
        assert total.std_error[i] == pytest.approx(np.sqrt(net.vcov()[np.ix_(rows, rows)].sum()))
        assert frame.loc[i, "payments"] == pytest.approx(table.loc[rows, "payments"].sum())
    last = total.where(stratum=None, period=2016)
    assert last.estimate[0] == pytest.approx(net.estimate[0])
    assert last.frame["payments"].item() == pytest.approx(1500.0)
    back = savings.return_on_investment(last)
    assert back.estimate[0] == pytest.approx(net.estimate[0] / 1500.0)


def test_draws_and_influence_give_the_same_weights(effects, exposure) -> None:
    draws = effects.simulate_draws(300, np.random.default_rng(4))
    posterior = vbc.Estimates(
        frame=effects.frame.assign(estimate=draws.mean(axis=0)), samples=draws, interval="credible"
    )
    out = savings.gross(posterior, exposure, by=[("stratum", "period")])
    weights = np.array([written_out(effects, exposure, k, {}) for k in keys_of(out.frame)])
    assert out.draws() == pytest.approx(draws @ weights.T, rel=1e-10)
    paid = 0.5 * np.abs(out.draws()[:, 0]) + 0.5 * np.median(out.draws()[:, 0])
    book = Ledger((Line(name="Paid", kind="incentive_payment", amount=paid),))
    total = out.where([0])
    net = savings.net(total, book)
    chance = savings.chance_positive(net).item()
    assert 0.2 < chance < 0.8
    assert chance == pytest.approx(((draws @ weights[0] - paid) > 0).mean())
    idle = savings.net(total, book, party="beneficiaries")
    assert savings.chance_positive(idle).item() == 0.0  # nothing, in every draw, is not above 0
    row = savings.statement(total, net, book, level=0.8).iloc[1]
    ends = np.quantile(paid, [0.1, 0.9])
    assert [row["conf_low"], row["conf_high"]] == pytest.approx(list(ends))
    line = book.tidy(0.8).iloc[0]
    assert [line["conf_low"], line["conf_high"]] == pytest.approx(list(ends))


def test_per_unit_is_everything_over_exposure(effects, exposure) -> None:
    net = savings.net(savings.gross(effects, exposure, by=["period"]), [600.0, 100.0, 200.0, 300.0])
    each = savings.per_unit(net)
    covered = net.frame["exposure"].to_numpy()
    assert each.estimate == pytest.approx(net.estimate / covered)
    assert each.vcov() == pytest.approx(net.vcov() / np.outer(covered, covered))
    assert each.frame["payments"].tolist() == pytest.approx([600, 100, 200, 300] / covered)
    # labels of figures read the sign from the unit
    assert set(each.frame["unit_of_measure"]) == {"USD per unit of exposure (positive = savings)"}


def test_averages_take_a_table_by_their_own_keys(effects) -> None:
    one = effects.where(stratum="dual=no")
    by_period = one.where("event_time >= 0")
    frame = by_period.frame.assign(estimand="att_period", cohort=np.nan, event_time=np.nan)
    averages = by_period.with_frame(frame).where([0, 1, 2])
    table = pd.DataFrame({"period": [2014, 2015, 2016], "episodes": [100, 200, 300]})
    averages = averages.with_frame(averages.frame.assign(unit_of_measure="USD per episode"))
    out = savings.gross(averages, table, column="episodes")
    assert out.estimate[0] == pytest.approx(-(averages.estimate @ [100, 200, 300]))
    with pytest.raises(vbc.DesignError, match="no estimate at or after entry has `cohort`"):
        savings.gross(averages, table.assign(cohort=2014), column="episodes")


def test_statement_of_one_year_uses_the_lines_of_that_year(effects, exposure) -> None:
    gross = savings.gross(effects, exposure, by=["period"])
    lines = [
        Line(name="Paid", kind="incentive_payment", amount=a, period=t)
        for a, t in ((500.0, 2014), (70.0, 2015), (30.0, 2016))
    ]
    book = Ledger((*lines, Line(name="Back", kind="recoupment", amount=20.0, period=2015)))
    net = savings.net(gross, book)
    year = {"period": 2015.0}
    table = savings.statement(gross.where(year), net.where(year), book)
    assert table["component"].tolist() == ["Gross", "Paid", "Back", "Net"]
    assert table["amount"].tolist()[1:3] == [70.0, -20.0]
    assert table["conf_low"].isna().tolist() == [False, True, True, False]
