"""What Efficient refuses, and what it says of what it leaves out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    u, t = np.repeat(np.arange(30), 5), np.tile(np.arange(2011, 2016), 30)
    return pd.DataFrame({
        "unit": u, "period": t, "cohort": np.array([2013.0, 2014.0, np.nan])[u % 3][: len(u)],
        "y": rng.standard_normal(150), "x": rng.standard_normal(150), "w": 1.0 + (u % 2),
        "pair": u // 2, "trio": u % 3,
    })  # fmt: skip


def fit(data: pd.DataFrame, panel: dict | None = None, design: dict | None = None, **options):
    made = vbc.Panel.from_frame(
        data, unit="unit", period="period", cohort="cohort", **(panel or {})
    )
    return vbc.did.Efficient(**options).fit(made, vbc.Design(outcome="y", **(design or {})))


def test_rows_are_named(frame) -> None:
    table = fit(frame).tidy()
    assert set(table["average"]) == {"simple", "cohort", "period", "event_time"}
    assert table.groupby("average").size().to_dict() == {
        "simple": 1, "cohort": 3, "period": 4, "event_time": 4,
    }  # fmt: skip
    assert table[["n_units", "n_treated", "n_comparison"]].notna().all().all()
    assert (table["n_units"] == table["n_treated"] + table["n_comparison"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimand": "dynamic"}, "`estimand` is"),
        ({"estimand": ()}, "`estimand` is"),
        ({"beta": "one"}, "`beta` is 'one'"),
        ({"before": "all", "beta": 1}, "many contrasts"),
        ({"before": "base_period"}, "`before` is"),
        ({"without_base": "ignore"}, "`without_base` is"),
        ({"singletons": "ignore"}, "`singletons` is"),
        ({"permutations": -1}, "`permutations` is -1"),
        ({"permutations": 9.5}, "use a whole number"),
        ({"beta": "1"}, "`beta` is '1'"),
    ],
)
def test_options(options, message) -> None:
    with pytest.raises(vbc.DesignError, match=message):
        vbc.did.Efficient(**options)


def test_what_does_not_apply(frame) -> None:
    with pytest.raises(vbc.DesignError, match="weights do not apply"):
        fit(frame, panel={"weight": "w"})
    assert fit(frame.assign(w=2.0), panel={"weight": "w"}).estimate.size
    with pytest.raises(vbc.DesignError, match="no `covariates`"):
        fit(frame, design={"covariates": ["x"]})
    with pytest.raises(vbc.EstimationError, match="means of followed units"):
        fit(frame, panel={"kind": "repeated_cross_section", "cluster": "unit"})
    with pytest.raises(vbc.DesignError, match="hold units of more than one cohort"):
        fit(frame, panel={"cluster": "pair"})
    with pytest.raises(vbc.DesignError, match="there is 1 cluster"):
        fit(frame.assign(all=1), panel={"cluster": "all"})


def test_a_cohort_of_one(frame) -> None:
    alone = frame.assign(cohort=frame["cohort"].where(frame["unit"] != 0, 2015.0))
    with pytest.raises(vbc.DesignError, match="`2015` has one cluster"):
        fit(alone)
    found = fit(alone, singletons="drop")
    assert found.meta["left_out"]["all"]["singletons"] == [2015.0]
    assert "2015" in found.meta["warnings"][0]
    np.testing.assert_allclose(found.estimate, fit(frame[frame["unit"] != 0]).estimate)


def test_treated_from_the_start(frame) -> None:
    early = frame.assign(cohort=frame["cohort"].replace(2013.0, 2011.0))
    kept, dropped = fit(early, estimand="cohort"), fit(early, estimand="cohort", beta=1)
    assert kept.frame["cohort"].dropna().tolist() == [2011.0, 2014.0]
    assert dropped.frame["cohort"].dropna().tolist() == [2014.0]
    assert dropped.meta["left_out"]["all"]["without_base"] == [2011.0]
    again = fit(early, estimand="cohort", without_base="drop")
    assert again.frame["cohort"].dropna().tolist() == [2014.0]


def test_where_everybody_enters_the_last_cohort_is_the_comparison(frame) -> None:
    late = frame.assign(cohort=frame["cohort"].fillna(2015.0))
    for comparison in ("never_treated", "not_yet_treated"):
        found = fit(late, estimand="group_time", design={"comparison": comparison})
        assert found.frame[["cohort", "period"]].values.tolist() == [
            [2013.0, 2013.0], [2013.0, 2014.0], [2014.0, 2014.0],
        ]  # fmt: skip
    with pytest.raises(vbc.DesignError, match="no effect"):
        fit(late.assign(cohort=late["cohort"].replace({2013.0: 2015.0, 2014.0: 2015.0}).where(
            late["unit"] > 3, 2020.0)), design={"window": (3, 4)}, estimand="event_time")  # fmt: skip


@pytest.mark.parametrize(
    "options", [{"before": "all"}, {"beta": "efficient"}, {"beta": 1}], ids=str
)
def test_a_row_that_is_the_adjustment_itself_is_zero_without_error(frame, options) -> None:
    """Not rounding over rounding, whose p-value would be noise and which would widen bands."""
    design = {"comparison": "never_treated", "window": (-2, 1)}
    found = fit(frame, estimand=("event_time", "group_time"), design=design, **options)
    table = found.tidy()
    zero = (table["event_time"] < 0) if "before" in options else (table["event_time"] == -1)
    assert (table.loc[zero, "estimate"] == 0).all()
    assert table.loc[zero, ["std_error", "p_value", "band_high"]].isna().all().all()
    assert table.loc[~zero, ["std_error", "p_value", "band_high"]].notna().all().all()


def test_units_that_miss_a_period_are_left_out_and_counted(frame) -> None:
    gaps = frame[~((frame["unit"] == 4) & (frame["period"] == 2012))]
    found = fit(gaps, panel={"people": False})
    assert found.meta["left_out"]["all"]["unbalanced_units"] == 1
    np.testing.assert_allclose(found.estimate, fit(frame[frame["unit"] != 4]).estimate)
    missing = frame.assign(y=frame["y"].where((frame["unit"] != 4) | (frame["period"] > 2012)))
    np.testing.assert_allclose(fit(missing).estimate, found.estimate)


def test_no_count_of_few_people_is_shown(frame) -> None:
    found = fit(frame, panel={"people": True})
    assert found.frame[["n_units", "n_treated", "n_comparison"]].isna().all().all()
    assert found.frame["n_clusters"].isna().all()
    many = pd.concat(
        [frame.assign(unit=frame["unit"] + 100 * k, y=frame["y"] + k) for k in range(2)]
    )
    found = fit(many, panel={"people": True})
    assert found.frame["n_treated"].notna().all()


def test_what_left_fewer_than_two_cohorts_is_said(frame) -> None:
    """Units that each miss a period are the common cause, and not the times of entry."""
    gaps = frame[frame["period"] != 2011 + frame["unit"] % 5]
    with pytest.raises(vbc.DesignError, match="30 units lack `y` in some of 5 periods") as caught:
        fit(gaps)
    assert "Leave out periods that units miss" in str(caught.value)
    few = frame[frame["unit"].isin([0, 1, 2, 3])]
    with pytest.raises(vbc.DesignError, match="cohort `2014`, `never treated` has one cluster"):
        fit(few, singletons="drop")
    early = frame.assign(cohort=frame["cohort"].replace({2013.0: 2011.0, 2014.0: 2010.0}))
    with pytest.raises(vbc.DesignError, match="cohort `2010`, `2011` is treated from the first"):
        fit(early, beta=1)
    found = fit(frame[frame["cohort"].notna() | (frame["unit"] == 2)], singletons="drop")
    assert "cohorts left out: `never treated`" in found.meta["warnings"]


def test_cohorts_kept_in_levels_are_called_so(frame) -> None:
    """The sentence of other estimators, that they have no effect, was said beside their effects."""
    early = frame.assign(cohort=frame["cohort"].replace(2013.0, 2011.0))
    said = [w for w in fit(early).meta["warnings"] if "first period" in w]
    assert len(said) == 1
    assert said[0].endswith(
        "They are compared in levels, which rests on random timing alone; leave them out with "
        "without_base='drop'."
    )
    for options in ({"beta": 1}, {"without_base": "drop"}):
        said = [w for w in fit(early, **options).meta["warnings"] if "first period" in w]
        assert said[0].endswith("they have no effect of their own.")
