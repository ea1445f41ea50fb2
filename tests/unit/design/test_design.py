"""Design and the comparisons it implies, with no estimate computed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.design import GroupTimePair, group_time_pairs

PERIODS = np.array([2012.0, 2013.0, 2014.0, 2015.0])


def pairs(cohorts=(2013.0, 2015.0), periods=PERIODS, **options):
    return group_time_pairs(periods, np.array(cohorts), vbc.Design(outcome="y", **options))


def test_every_wrong_value_is_reported_together() -> None:
    with pytest.raises(vbc.DesignError) as caught:
        vbc.Design(
            outcome="y", comparison="not_yet", base_period="long", anticipation=-1,
            covariates="hcc", window=(2, 0),
        )  # fmt: skip
    message = str(caught.value)
    assert "5 problems" in message
    for part in ("'not_yet'", "'long'", "-1", "the text 'hcc'", "(2, 0)"):
        assert part in message


def test_covariates_become_a_tuple() -> None:
    assert vbc.Design(outcome="y", covariates=["a", "b"]).covariates == ("a", "b")


def test_varying_base() -> None:
    """Before entry the base is the period just before; after it, the last before entry."""
    found, dropped = pairs(comparison="never_treated")
    assert [(p.cohort, p.period, p.base) for p in found] == [
        (2013, 2013, 2012), (2013, 2014, 2012), (2013, 2015, 2012),
        (2015, 2013, 2012), (2015, 2014, 2013), (2015, 2015, 2014),
    ]  # fmt: skip
    assert len(dropped) == 0
    assert all(p.controls == () for p in found)


def test_universal_base_has_a_reference_row() -> None:
    found, _ = pairs(base_period="universal")
    assert [(p.period, p.base, p.is_reference) for p in found if p.cohort == 2015] == [
        (2012, 2014, False), (2013, 2014, False), (2014, 2014, True), (2015, 2014, False),
    ]  # fmt: skip


def test_not_yet_treated_controls_enter_after_both_periods() -> None:
    found, _ = pairs(cohorts=(2013.0, 2014.0, 2015.0))
    by_key = {(p.cohort, p.period): p.controls for p in found}
    assert by_key[2013, 2013] == (2014.0, 2015.0)
    assert by_key[2013, 2014] == (2015.0,)
    assert by_key[2013, 2015] == ()
    assert by_key[2015, 2013] == (2014.0,)


def test_anticipation_moves_the_base_and_the_controls() -> None:
    found, dropped = pairs(cohorts=(2013.0, 2014.0, 2015.0), anticipation=1)
    assert dropped.tolist() == [2013.0]
    base = {(p.cohort, p.period): p.base for p in found}
    assert base[2014, 2013] == 2012
    assert base[2014, 2014] == 2012
    assert base[2015, 2014] == 2013
    controls = {(p.cohort, p.period): p.controls for p in found}
    assert controls[2014, 2013] == (2015.0,)
    assert controls[2014, 2014] == ()


def test_base_periods_are_positions_in_the_calendar_seen() -> None:
    found, _ = pairs(cohorts=(2014.0,), periods=np.array([2010.0, 2012.0, 2014.0, 2016.0]))
    assert [(p.period, p.base) for p in found] == [(2012, 2010), (2014, 2012), (2016, 2012)]


def test_a_cohort_after_the_last_period_is_a_comparison() -> None:
    found, _ = pairs(cohorts=(2014.0, 2017.0))
    assert {p.cohort for p in found} == {2014.0}
    assert all(p.controls == () for p in found)


def test_window_keeps_event_times() -> None:
    found, _ = pairs(window=(0, 1))
    assert {p.event_time for p in found} == {0.0, 1.0}
    with pytest.raises(vbc.DesignError, match=r"no event time lies in `window` \(7, 9\)"):
        pairs(window=(7, 9))


def test_cohorts_without_a_period_before_entry() -> None:
    _, dropped = pairs(cohorts=(2012.0, 2014.0))
    assert dropped.tolist() == [2012.0]
    with pytest.raises(vbc.DesignError) as caught:
        pairs(cohorts=(2012.0,))
    message = str(caught.value)
    assert "periods run from 2012 to 2015" in message
    assert "'2012'" in message
    assert "Add earlier periods" in message


def test_earlier_of_base_and_period() -> None:
    lead = GroupTimePair(2015.0, 2012.0, 2014.0, 2014.0, ())
    assert (lead.earlier, lead.event_time) == (2012.0, -3.0)


def test_balance_weights_reach_rows_by_label() -> None:
    design = vbc.Design(outcome="y", balance_weights=pd.Series({"b": 2.0, "a": 0.5}))
    assert design.weights_for(pd.Series(list("aabb"))).tolist() == [0.5, 0.5, 2.0, 2.0]
    with pytest.raises(vbc.DesignError, match="1 of 3 clusters have no balance weight"):
        design.weights_for(pd.Series(list("abc")))


@pytest.mark.parametrize(
    ("weights", "said"),
    [({"a": -1.0, "b": 1.0}, "1 negative"), ({"a": np.nan}, "1 negative or non-finite"),
     ({"a": 0.0}, "none above zero")],
)  # fmt: skip
def test_balance_weights_are_non_negative(weights, said) -> None:
    with pytest.raises(vbc.DesignError, match=said):
        vbc.Design(outcome="y", balance_weights=weights)
