"""Trend: the bracket shows the estimate or nothing is drawn; gaps stay gaps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vbceval import figures
from vbceval.core.errors import DataError


def line(fig, label: str) -> np.ndarray:
    return next(x.get_xydata() for x in fig.axes[0].get_lines() if x.get_label() == label)


def test_the_bracket_equals_the_estimate(means, effect) -> None:
    fig = figures.trend(means, effect, start=2014)
    bracket = line(fig, "_bracket")[:, 1]
    assert bracket.max() - bracket.min() == pytest.approx(90.0, abs=1e-9)
    row = fig.vbceval_data.query("role == 'bracket'").iloc[0]
    assert row["mean"] == pytest.approx(float(effect.estimate[0]), abs=1e-9)
    # standard error 41
    text = "DiD = \u2212$90\n(95% CI, \u2212$170 to \u2212$10)"
    assert [t.get_text() for t in fig.axes[0].texts] == [text]


def test_an_estimate_of_another_fit_is_refused(means, effect) -> None:
    other = effect.shifted(effect.frame, np.array([1.0]))
    with pytest.raises(DataError, match=r"bracket would show -90, .* estimate is -89"):
        figures.trend(means, other, start=2014)


def test_periods_and_weights_of_the_bracket(means, effect) -> None:
    last = effect.shifted(effect.frame, np.array([-30.0]))
    fig = figures.trend(means, last, start=2014, over=[2016])
    assert fig.vbceval_data.query("role == 'bracket'")["mean"].iloc[0] == pytest.approx(-120.0)
    weight = np.where(means["period"] == 2014, 2.0, 1.0)
    weighted = effect.shifted(effect.frame, np.array([90.0 - (2 * 60 + 90 + 120) / 4]))
    figures.trend(means.assign(weight=weight), weighted, start=2014)
    with pytest.raises(DataError, match="`over` has 2019"):
        figures.trend(means, effect, start=2014, over=[2014, 2019])


def test_the_counterfactual_is_baseline_plus_the_comparisons_change(means, effect) -> None:
    fig = figures.trend(means, effect, start=2014)
    drawn = {x: y for x, y in line(fig, "Counterfactual") if x >= 2014}
    wide = means.pivot_table(index="period", columns="arm", values="mean")
    before = wide.loc[:2013].mean()
    for year, value in drawn.items():
        expected = before["treated"] + wide.loc[year, "comparison"] - before["comparison"]
        assert value == pytest.approx(expected)
    dashes = [x for x in fig.axes[0].get_lines() if x.get_label() == "Counterfactual"]
    assert dashes[0].get_linestyle() == "--"


def test_a_given_counterfactual_is_drawn_as_it_is(means, effect) -> None:
    path = pd.DataFrame(
        {"period": [2014, 2015, 2016], "arm": "counterfactual", "mean": [10530.0, 10670.0, 10810.0]}
    )
    fig = figures.trend(pd.concat([means, path]), effect, start=2014)
    assert {y for x, y in line(fig, "Counterfactual") if x >= 2014} == set(path["mean"])


def test_suppressed_cells_leave_a_gap_and_are_never_interpolated(means, effect) -> None:
    small = means.copy()
    hit = (small["arm"] == "comparison") & (small["period"] == 2012)
    small.loc[hit, "n_people"] = 4
    fig = figures.trend(small, effect, start=2014, baseline=[2013])
    drawn = line(fig, "Comparison")
    assert np.isnan(drawn[drawn[:, 0] == 2012, 1]).all()
    assert np.isfinite(drawn[drawn[:, 0] != 2012, 1]).all()
    row = fig.vbceval_data.query("arm == 'comparison' and period == 2012").iloc[0]
    assert row[["mean", "conf_low", "conf_high", "n_people"]].isna().all()
    assert "1 to 10 people" in fig.vbceval_note


def test_a_missing_period_breaks_the_line(means, effect) -> None:
    fig = figures.trend(means[~((means["arm"] == "comparison") & (means["period"] == 2012))],
                        effect, start=2014, baseline=[2013])  # fmt: skip
    drawn = line(fig, "Comparison")
    assert np.isnan(drawn[drawn[:, 0] == 2012, 1]).all()


def test_a_bracket_on_a_suppressed_mean_is_refused(means, effect) -> None:
    small = means.assign(n_people=np.where(means["period"] == 2015, 9, 5000))
    with pytest.raises(DataError, match="suppressed") as error:
        figures.trend(small, effect, start=2014)
    assert " 9 " not in str(error.value)


def test_the_percent_names_its_denominator(means, effect) -> None:
    fig = figures.trend(means, effect, start=2014, baseline_mean=9000.0)
    assert "\u22121.0% of baseline mean" in fig.axes[0].texts[0].get_text()
    assert "relative to the treated baseline mean of 9000" in fig.vbceval_note


def test_every_problem_of_the_table_is_listed(means, effect) -> None:
    bad = means.assign(arm=means["arm"].replace("comparison", "control"))
    with pytest.raises(DataError, match="2 problems") as error:
        figures.trend(bad, effect, start=2014)
    assert "control" in str(error.value)
    with pytest.raises(DataError, match="repeat an arm and period"):
        figures.trend(pd.concat([means, means.iloc[:1]]), effect, start=2014)
    with pytest.raises(DataError, match="before and from `start`"):
        figures.trend(means, effect, start=2030)
    with pytest.raises(DataError, match="holds text"):
        figures.trend(means.assign(mean="high"), effect, start=2014)


def test_one_estimate_only(means, strata) -> None:
    with pytest.raises(DataError, match="6 were given"):
        figures.trend(means, strata, start=2014)
