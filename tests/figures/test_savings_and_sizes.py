"""Running totals of savings, and chances of undeserved payments by size of a contract."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.figures.conftest import chances_by_size, running_totals
from vbceval import figures, stack
from vbceval.core.errors import DataError, DesignError
from vbceval.estimates import Estimates
from vbceval.savings import cumulative, gross, net


@pytest.fixture(scope="module")
def totals() -> tuple[Estimates, Estimates]:
    """Gross and net savings to date; years share clusters."""
    frame = pd.DataFrame(
        {"estimand": "att_period", "period": [2016.0, 2017.0, 2018.0], "estimate": [-40.0, -120.0, -180.0],
         "unit_of_measure": "USD per person-year, nominal", "outcome": "spending"}
    )  # fmt: skip
    shared = np.random.default_rng(1).normal(0, 9, (40, 1))
    est = Estimates(frame=frame, psi=shared + np.zeros((40, 3)), clusters=pd.RangeIndex(40))
    saved = gross(est, [200e3] * 3, by=["period"])
    years = saved.where(range(1, 4))
    return cumulative(years), cumulative(net(years, [10e6, 12e6, 14e6]))


def test_running_totals_carry_the_covariance_of_years(totals) -> None:
    saved, left = totals
    fig = figures.cumulative_savings(stack([saved, left]))
    data = fig.vbceval_data
    assert data["estimate"].to_numpy() == pytest.approx(
        np.r_[np.cumsum([8e6, 24e6, 36e6]), np.cumsum([-2e6, 12e6, 22e6])]
    )
    width = (data["conf_high"] - data["conf_low"]).to_numpy()
    # errors that are the same every year add up, they do not average out
    assert width[:3] == pytest.approx(width[0] * np.arange(1, 4))
    assert data.groupby("series")["breakeven_period"].first().to_dict() == {
        "Gross savings": 2016.0, "Net savings": 2017.0
    }  # fmt: skip
    assert "Net savings: at or above zero from 2017 on." in fig.vbceval_note
    lines = [x for x in fig.axes[0].lines if x.get_label() == "Net savings"]
    assert lines[0].get_ydata() == pytest.approx([-2.0, 10.0, 32.0])
    assert [x.get_xdata()[0] for x in fig.axes[0].lines if x.get_label() == "_breakeven"] == [2017]


def test_totals_that_fall_again_break_even_late_or_never() -> None:
    table = running_totals().query("series == 'Net savings'").assign(series="Net")
    for amounts, said in (
        ([1e6, -1e6, 2e6], "Net: at or above zero from 2018 on."),
        ([1e6, 2e6, -1e6], "Net: below zero at the end of the last year."),
    ):
        fig = figures.cumulative_savings(table.assign(estimate=amounts), level=0.95)
        assert said in fig.vbceval_note


def test_yearly_amounts_and_doubled_periods_are_refused(totals) -> None:
    saved, _ = totals
    yearly = saved.with_frame(saved.frame.assign(estimand="impact_savings_gross"))
    with pytest.raises(DesignError, match="cannot be added up by eye"):
        figures.cumulative_savings(yearly)
    table = running_totals().assign(series="one")
    with pytest.raises(DesignError, match="a period twice"):
        figures.cumulative_savings(table, level=0.95)
    with pytest.raises(DataError, match="does not say their level"):
        figures.cumulative_savings(running_totals())
    with pytest.raises(DesignError, match="without period"):
        figures.cumulative_savings(running_totals().assign(period=np.nan), level=0.9)


def test_the_viable_size_is_the_first_from_which_on_the_chance_is_accepted() -> None:
    table = chances_by_size()
    # a step of the program's table undoes what larger contracts had won
    table.loc[20, "false_reward"] = 0.06
    fig = figures.viability_curve(table[["size", "false_reward", "false_penalty"]])
    data = fig.vbceval_data.groupby("series")["viable_size"].first()
    assert data["Paid without savings"] == table["size"][21]
    assert data["Owing without losses"] == table["size"][table["false_penalty"] <= 0.05].min()
    assert "at or below 5% from" in fig.vbceval_note
    none = figures.viability_curve(table[["size", "false_reward"]], accepted=1e-9)
    assert none.vbceval_data["viable_size"].isna().all()
    assert "at the largest size drawn" in none.vbceval_note
    same = table.assign(false_penalty=table["false_reward"])[
        ["size", "false_reward", "false_penalty"]
    ]
    assert "coincide" in figures.viability_curve(same, accepted=None).vbceval_note


def test_tables_that_cannot_be_drawn_say_everything() -> None:
    table = chances_by_size()
    with pytest.raises(DataError, match="need `true_saving`"):
        figures.viability_curve(table)
    wrong = table.assign(size=-table["size"], false_reward=2.0)[["size", "false_reward"]]
    with pytest.raises(DataError) as caught:
        figures.viability_curve(wrong, accepted=5.0)
    for part in ("not positive", "not between 0 and 1", "`accepted` is 5"):
        assert part in str(caught.value)
    with pytest.raises(DataError, match="it has none of"):
        figures.viability_curve(table[["size"]])
