"""Input that would give wrong dollars is refused, with what to do."""

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval import savings
from vbceval.savings import Ledger, Line, RealDollars


def effects(**columns: object) -> vbc.Estimates:
    """Return two years of one cohort, overall and in two strata."""
    frame = pd.DataFrame(
        {"estimand": "att_group_time", "cohort": 2014.0, "period": [2014.0, 2015.0] * 3,
         "event_time": [0.0, 1.0] * 3, "unit_of_measure": "USD per person-year",
         "stratum": [None, None, "dual=no", "dual=no", "dual=yes", "dual=yes"],
         "estimate": [-10.0, -20.0, -8.0, -15.0, -12.0, -25.0]}
    ).assign(**columns)  # fmt: skip
    psi = np.random.default_rng(0).normal(size=(20, 6))
    return vbc.Estimates(frame=frame, psi=psi, clusters=pd.Index(range(20)))


def table(*, strata: bool = False, **columns: object) -> pd.DataFrame:
    frame = effects().frame[["cohort", "period", "stratum"]]
    frame = frame.iloc[2:] if strata else frame.iloc[:2].drop(columns="stratum")
    return frame.assign(person_years=100.0).assign(**columns)


def overall(**columns: object) -> vbc.Estimates:
    return effects(**columns).where(stratum=None)


def totals() -> vbc.Estimates:
    return savings.gross(overall(), table(), by=["period"])


def test_people_count_once() -> None:
    every = effects().frame[["cohort", "period", "stratum"]].assign(person_years=100.0)
    with pytest.raises(vbc.DataError, match="`stratum` is missing in some rows"):
        savings.gross(effects(), every)
    with pytest.raises(vbc.DesignError, match="row of all people and rows by `dual`"):
        savings.gross(effects(), [100.0] * 6)
    two = effects(stratum=["dual=no"] * 2 + ["rural=no"] * 2 + ["rural=yes"] * 2)
    with pytest.raises(vbc.DesignError, match="strata of `dual`, `rural`"):
        savings.gross(two, [100.0] * 6)
    mixed = overall(estimand=["att_period", "att_overall"] * 3)
    with pytest.raises(vbc.DesignError, match="several values of `estimand`"):
        savings.gross(mixed, [100.0, 100.0])
    assert savings.gross(mixed, [100.0, 0.0]).estimate.tolist() == [1000.0]
    with pytest.raises(vbc.DesignError, match="several values of `outcome`"):
        savings.gross(overall(outcome=["a", "b"] * 3), [100.0, 100.0])
    # a table by stratum is about the strata; the overall row is another way to count them
    assert savings.gross(effects(), table(strata=True)).estimate.tolist() == [6000.0]


def test_exposure_without_an_effect_is_shown() -> None:
    more = pd.DataFrame(
        {"cohort": [2014.0, 2015.0, 2014.0, np.nan, 2016.0],
         "period": [2013.0, 2015.0, 2016.0, 2015.0, 2016.0],
         "person_years": [1e6, 400.0, 300.0, 1e6, 5.0]}
    )  # fmt: skip
    out = savings.gross(
        overall(), pd.concat([table(), more]), by=["period", "cohort", "event_time"]
    )
    found = out.frame.set_index("period")["exposure_left_out"]
    assert found.iloc[0] == 705.0  # not the years before entry, and not those never treated
    assert found[[2014.0, 2015.0]].tolist() == [0.0, 400.0]
    small = savings.gross(overall(), pd.concat([table(), more.iloc[[4]]]))
    assert small.frame["exposure_left_out"].isna().all()  # 5 may not be shown
    assert totals().frame["exposure_left_out"].tolist() == [0.0, 0.0, 0.0]


def test_few_people_are_not_shown() -> None:
    with pytest.raises(vbc.DesignError, match=r"\(period\) \(2015\) cover fewer than 11 units"):
        savings.gross(overall(), table(person_years=[100.0, 10.0]), by=["period"])
    total = savings.gross(overall(), table(person_years=[100.0, 10.0]))
    assert total.estimate.tolist() == [1200.0]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"person_years": np.inf}, r"missing or negative for \(cohort, period\) \(2014, 2014\)"),
        ({"person_years": "many"}, "`person_years` holds text or dates"),
        ({"cohort": "early"}, "`cohort` holds text or dates"),
        ({"period": pd.Timestamp("2014-01-01")}, "`period` holds text or dates"),
        ({"period": [2014.0, np.nan]}, "`period` is missing in some rows"),
    ],
)
def test_exposure_that_is_no_number(columns, words) -> None:
    with pytest.raises(vbc.DataError, match=words):
        savings.gross(overall(), table(**columns))


@pytest.mark.parametrize(
    "unit",
    ["% of baseline USD", "log USD", "USD millions", "USD total", "USD (positive = savings)"],
)
def test_only_dollars_per_unit_become_savings(unit) -> None:
    with pytest.raises(vbc.DesignError, match="only dollars per unit of exposure"):
        savings.gross(overall(unit_of_measure=unit), table())


@pytest.mark.parametrize(
    ("unit", "column", "right"),
    [("USD PBPM", "person_years", "months"), ("USD per episode", "person_years", "episodes"),
     ("USD per person-year", "member_months", "years")],
)  # fmt: skip
def test_months_are_not_years(unit, column, right) -> None:
    given = table().rename(columns={"person_years": column})
    with pytest.raises(vbc.DesignError, match=f"Give exposure in `{right}`"):
        savings.gross(overall(unit_of_measure=unit), given, column=column)


def test_effects_in_real_dollars_stay_in_them() -> None:
    prices = RealDollars(year=2020, index={2014: 90.0, 2015: 95.0, 2020: 100.0}, source="CPI")
    real = overall(unit_of_measure="USD of 2016 per person-year")
    assert savings.gross(real, table()).frame["dollars"].item() == "USD of 2016"
    with pytest.raises(vbc.DesignError, match="dollars of 2016 already"):
        savings.gross(real, table(), dollars=prices)
    with pytest.raises(vbc.DesignError, match="dollars of `2016`, `2018`"):
        savings.gross(overall(unit_of_measure=["2016 dollars", "USD of 2018"] * 3), table())
    other = RealDollars(year=2020, index={2014: 80.0, 2015: 90.0, 2020: 100.0}, source="MEI")
    book = Ledger((Line(name="a", kind="model_payment", amount=9.0, period=2014),))
    deflated = savings.gross(overall(), table(), dollars=prices)
    with pytest.raises(vbc.DesignError, match="converted by `CPI` and the ledger by `MEI`"):
        savings.net(deflated, book.real(other))
    with pytest.raises(vbc.DataError, match="by `MEI` already"):
        book.real(other).real(prices)


def test_parts_need_a_key_that_rows_have() -> None:
    for by in (["stratum"], [("stratum", "period")]):
        with pytest.raises(vbc.DesignError, match="no estimate that counts has a value of it"):
            savings.gross(overall(), table(), by=by)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda g: savings.net(g, 300.0), "one number for each of the 3 rows"),
        (lambda g: savings.net(g, [1.0, 2.0]), "one number for each of the 3 rows"),
        (lambda g: savings.net(g, [0.0] * 3, share=np.nan), "`share` is nan"),
        (lambda g: savings.net(g, [0.0] * 3, share=-0.2), "a fraction from 0 to 1"),
        (lambda g: savings.net(savings.per_unit(g), [0.0] * 3), "call `gross` first"),
        (lambda g: savings.net(savings.cumulative(g), [0.0] * 2), "call `gross` first"),
        (lambda g: savings.per_unit(savings.per_unit(g)), "gross_per_unit`. Pass the result"),
        (lambda g: savings.cumulative(savings.cumulative(g)), "gross_cumulative`. Pass"),
        (lambda g: savings.gross(g, [1.0, 0.0, 0.0]), "only dollars per unit"),
    ],
)
def test_amounts_of_one_kind_do_not_pass_for_another(call, words) -> None:
    with pytest.raises(vbc.DesignError, match=words):
        call(totals())


def test_lines_of_another_name_or_year_are_not_zero() -> None:
    parts = savings.gross(effects(), table(strata=True), by=["stratum"])
    typo = Ledger(
        tuple(
            Line(name="Fees", kind="model_payment", amount=50.0, stratum=s)
            for s in ("dual=no", "dual=Yes")
        )
    )
    with pytest.raises(vbc.DataError, match="no line is of stratum dual=yes"):
        savings.net(parts, typo)
    late = Ledger((Line(name="Fees", kind="model_payment", amount=50.0, period=1),))
    with pytest.raises(vbc.DataError, match="of periods `2014`, `2015` and the lines"):
        savings.net(totals(), late)


def test_ledger_tables_are_numbers() -> None:
    good = pd.DataFrame({"name": ["a"], "kind": ["repayment"], "amount": [1.0], "period": [2014]})
    for columns in ({"amount": "x"}, {"period": "2014-2015"}):
        with pytest.raises(vbc.DataError, match="holds text or dates"):
            Ledger.from_frame(good.assign(**columns))
    empty = good.assign(amount=pd.array([pd.NA], dtype="Float64"))
    with pytest.raises(vbc.DataError, match="`a` has missing or negative amounts"):
        Ledger.from_frame(empty)
    with pytest.raises(vbc.DataError, match="`a` has the period '2014'"):
        Ledger((Line(name="a", kind="repayment", amount=1.0, period="2014"),))
    with pytest.raises(vbc.DesignError, match="`party` is 'patients'; use one of `payer`"):
        Ledger.from_frame(good).total("patients")


def test_breakeven_says_what_payments_cannot_tell() -> None:
    total = totals().where([0])  # 3,000 dollars
    jump = savings.breakeven(total, lambda x: 5_000.0 * (x > 0.25), between=(0.0, 1.0))
    assert jump["estimate"].item() == pytest.approx(0.25)
    with pytest.raises(vbc.DataError, match="rise and fall"):
        savings.breakeven(total, lambda x: 9e3 * np.sin(4 * x), between=(0.0, 1.0))
    with pytest.raises(vbc.DataError, match="missing or infinite"):
        savings.breakeven(total, lambda x: np.nan, between=(0.0, 1.0))
    with pytest.raises(vbc.DesignError, match="lower end first"):
        savings.breakeven(total, lambda x: 1e4 * x, between=(1.0, 0.0))


def test_benchmark_tables_are_whole() -> None:
    good = pd.DataFrame(
        {"period": [2014, 2015], "benchmark": 9.0, "expenditure": 8.0, "earned": 0.5}
    )
    for columns, words in (
        ({"period": [2014, np.nan]}, "`period` in 1"),
        ({"earned": ["1", "x"]}, "`earned` hold text"),
        ({"benchmark": [9.0, 0.0]}, "`benchmark` is not positive in 1 rows"),
    ):
        with pytest.raises(vbc.DataError, match=words):
            savings.benchmark_savings(good.assign(**columns), by=["period"])
    with pytest.raises(vbc.DesignError, match="give a list of keys"):
        savings.benchmark_savings(good, by="period")
