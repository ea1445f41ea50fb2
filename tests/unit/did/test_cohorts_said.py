"""What results say of cohorts that enter before, after or between the periods of the data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc

did = vbc.did
ALL = [
    did.GroupTime(), did.TWFE(), did.EventStudy(), did.ETWFE(), did.SunAbraham(), did.Stacked(),
    did.Switching(), did.Efficient(), did.SyntheticDiD(),
]  # fmt: skip
DROP = [did.GroupTime(), did.ETWFE(), did.SunAbraham(), did.SyntheticDiD()]


def frame(outside: float, periods: int = 8) -> pd.DataFrame:
    """Sixty units in three arms, of which a tenth of the last one enters at another time."""
    rng = np.random.default_rng(0)
    unit, period = np.divmod(np.arange(60 * periods), periods)
    period = period + 1
    entry = np.select([unit % 3 == 1, unit % 3 == 2], [4.0, 6.0], np.nan)
    entry = np.where(unit % 10 == 9, outside, entry)
    y = (
        rng.normal(size=60)[unit]
        + 0.2 * period
        + 2.0 * (period >= entry)
        + rng.normal(size=len(unit))
    )
    return pd.DataFrame({"unit": unit, "period": period, "entry": entry, "y": y})


def said(estimator, data: pd.DataFrame, **design) -> list[str]:
    panel = vbc.Panel.from_frame(data, unit="unit", period="period", cohort="entry")
    found = estimator.fit(panel, vbc.Design(outcome="y", **design)).meta["warnings"]
    return [x for x in found if x.startswith("cohorts")]


def name(estimator) -> str:
    return type(estimator).__name__


@pytest.mark.parametrize("estimator", ALL, ids=name)
def test_a_cohort_that_is_always_treated_is_named(estimator) -> None:
    for entry in (-1.0, 1.0):
        (sentence,) = said(estimator, frame(entry))
        assert f"`{entry:g}` entered in the first period (1) or earlier" in sentence
        kept = name(estimator) in ("TWFE", "EventStudy")
        assert ("stay in the regression as always treated" in sentence) == kept


@pytest.mark.parametrize("estimator", ALL, ids=name)
def test_a_cohort_after_the_data_is_named_and_is_never_treated(estimator) -> None:
    (sentence,) = said(estimator, frame(99.0))
    assert sentence == (
        "cohorts `99` enter after the last period (8), and are never treated in these data."
    )
    results = []
    for data in (frame(99.0), frame(np.nan)):
        # the same outcomes: nobody is treated at 99
        panel = vbc.Panel.from_frame(data, unit="unit", period="period", cohort="entry")
        results.append(estimator.fit(panel, vbc.Design(outcome="y")).tidy()["estimate"])
    np.testing.assert_allclose(*results, rtol=1e-12)


@pytest.mark.parametrize("estimator", DROP, ids=name)
def test_what_has_no_effect_of_its_own_changes_none(estimator) -> None:
    data = frame(-1.0)
    design = vbc.Design(outcome="y", comparison="never_treated")
    results = []
    for rows in (data, data[data["entry"] != -1.0]):
        panel = vbc.Panel.from_frame(rows, unit="unit", period="period", cohort="entry")
        results.append(estimator.fit(panel, design).tidy()["estimate"])
    np.testing.assert_allclose(*results, rtol=1e-10)


def test_anticipation_moves_the_borders() -> None:
    assert said(did.GroupTime(), frame(2.0)) == []
    (early,) = said(did.GroupTime(), frame(2.0), anticipation=1)
    assert "cohorts `2` entered less 1 of anticipation in the first period" in early
    assert "never treated" in said(did.GroupTime(), frame(9.0))[0]
    assert said(did.GroupTime(), frame(9.0), anticipation=1) == []


def test_a_cohort_between_periods_is_named_and_one_in_a_gap_is_not() -> None:
    (sentence,) = said(did.GroupTime(), frame(3.5))
    assert "`3.5` enter between two periods" in sentence
    data = frame(5.0)
    assert said(did.GroupTime(), data[data["period"] != 5]) == []


def test_warnings_of_moments_travel_with_estimates() -> None:
    data = pd.concat([frame(np.nan), frame(np.nan).eval("y = y + 1")])
    with vbc.connect("duckdb", threads=1) as engine:
        moments = vbc.Moments.from_table(
            data, engine=engine, cluster="unit", period="period", cohort="entry", outcomes=["y"],
        )  # fmt: skip
    with pytest.warns(UserWarning, match="count twice"):
        twice = moments + moments
    found = did.GroupTime(method="reg").fit(twice, vbc.Design(outcome="y"))
    assert any("count twice" in x for x in found.meta["warnings"])
