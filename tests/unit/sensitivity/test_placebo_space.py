"""Placebos in space: against differences by hand, blocks, and what is refused."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.errors import DesignError, EstimationError
from vbceval.inference import Randomization
from vbceval.sensitivity import placebo_in_space

SPEND = vbc.Design(outcome="spend")
TWFE = vbc.did.TWFE().fit


def frame(treated: int = 2, clusters: int = 22, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({"aco": np.repeat(np.arange(clusters), 2), "year": [2015, 2016] * clusters})
    rows["entry"] = np.where(rows["aco"] < treated, 2016.0, np.nan)
    rows["market"] = np.where(rows["aco"] % 2 == 0, "even", "odd")
    rows["spend"] = rng.normal(size=len(rows)) - 2.0 * (rows["year"] >= rows["entry"])
    return rows


def panel(rows: pd.DataFrame, **options: Any) -> vbc.Panel:
    return vbc.Panel.from_frame(rows, unit="aco", period="year", cohort="entry", **options)


def changes(rows: pd.DataFrame) -> np.ndarray:
    return rows.sort_values(["aco", "year"])["spend"].to_numpy().reshape(-1, 2) @ [-1.0, 1.0]


def test_all_assignments_by_hand() -> None:
    rows = frame(clusters=12)
    law = Randomization(statistic="estimate", level=0.9)
    found = placebo_in_space(TWFE, panel(rows), SPEND, law=law).tidy(0.9).iloc[0]
    change = changes(rows)
    actual = change[:2].mean() - change[2:].mean()
    others = change[2:]
    drawn = np.array([
        others[list(pair)].mean() - np.delete(others, pair).mean()
        for pair in combinations(range(10), 2)
    ])  # fmt: skip
    assert len(drawn) == 45
    assert found["estimate"] == pytest.approx(actual)
    p = (1 + (np.abs(drawn) >= abs(actual)).sum()) / 46
    assert found["p_value"] == pytest.approx(p)
    assert found["placebo_p_value"] == found["p_value"]
    assert found["monte_carlo_error"] == 0
    assert found["placebo_mean"] == pytest.approx(drawn.mean())
    assert found["placebo_sd"] == pytest.approx(drawn.std(ddof=1))
    reach = np.sort(np.abs(drawn))[int(np.ceil(0.9 * 46)) - 1]
    assert found["conf_high"] == pytest.approx(actual + reach)


def test_t_statistics_compare_clusters_of_any_scale() -> None:
    rows = frame(seed=1, clusters=12)
    found = placebo_in_space(TWFE, panel(rows), SPEND)
    fitted = TWFE(panel(rows), SPEND)
    t = fitted.estimate[0] / fitted.std_error[0]
    drawn = (found.estimate[0] - found.draws()[:, 0]) / fitted.std_error[0]
    row = found.tidy().iloc[0]
    assert row["p_value"] == pytest.approx((1 + (np.abs(drawn) >= abs(t)).sum()) / 46)
    assert (row["p_value"] <= 0.05) == (not row["conf_low"] <= 0 <= row["conf_high"])
    assert row["fit_std_error"] == pytest.approx(fitted.std_error[0])


def test_treated_clusters_are_in_no_placebo_and_dates_stay_in_their_blocks() -> None:
    rows = frame(treated=5, clusters=30)
    rows = pd.concat([rows, rows.query("year == 2016").assign(year=2017)])
    rows.loc[rows["aco"].isin([0, 1]), "entry"] = 2017.0
    seen: list[pd.DataFrame] = []

    def fit(p: vbc.Panel, d: vbc.Design) -> vbc.Estimates:
        seen.append(p.frame)
        return TWFE(p, d)

    law = Randomization(draws=19, blocks="market", level=0.9)
    found = placebo_in_space(fit, panel(rows), SPEND, law=law)
    real = rows.drop_duplicates("aco").groupby("market")["entry"].value_counts()
    for used in seen[1:]:
        assert used["aco"].min() == 5
        given = used.drop_duplicates("aco").groupby("market")["entry"].value_counts()
        pd.testing.assert_series_equal(given.sort_index(), real.sort_index())
    assert len({tuple(used["entry"].fillna(0)) for used in seen}) > 15
    assert found.meta["placebo_in_space"]["used"] == 19
    again = placebo_in_space(fit, panel(rows.sample(frac=1.0, random_state=1)), SPEND, law=law)
    np.testing.assert_allclose(again.draws(), found.draws())
    row = found.tidy().iloc[0]
    p = row["placebo_p_value"]
    assert row["monte_carlo_error"] == pytest.approx(np.sqrt(p * (1 - p) / 19))
    # whatever the program does, placebos stay
    rows["spend"] -= 50.0 * (rows["year"] >= rows["entry"]) * (1 + rows["aco"])
    moved = placebo_in_space(fit, panel(rows), SPEND, law=law).frame
    assert moved["placebo_mean"][0] == pytest.approx(found.frame["placebo_mean"][0])


def test_errors_that_allow_for_few_treated_clusters_take_the_warning_back() -> None:
    data, law = panel(frame()), Randomization(draws=19, level=0.9)
    assert any("2 clusters treated" in w for w in TWFE(data, SPEND).meta["warnings"])
    found = placebo_in_space(TWFE, data, SPEND, law=law)
    assert not any("clusters treated" in w for w in found.meta["warnings"])


def test_a_placebo_without_estimate_is_none() -> None:
    calls = {"n": 0}

    def fit(p: vbc.Panel, d: vbc.Design) -> vbc.Estimates:
        calls["n"] += 1
        value = np.nan if calls["n"] == 5 else changes(p.frame).mean()
        row = pd.DataFrame({"estimand": ["att"], "outcome": ["spend"], "estimate": [value]})
        return vbc.Estimates(frame=row, covariance=np.zeros((1, 1)))  # no error is known

    law = Randomization(draws=20, level=0.9, statistic="estimate")
    found = placebo_in_space(fit, panel(frame()), SPEND, law=law)
    assert found.meta["placebo_in_space"]["failed"] == 1
    assert found.meta["placebo_in_space"]["first_reason"] == "a placebo has no estimate"
    assert np.isfinite(found.draws()).all()


def test_rows_without_error_and_several_rows_stay_joint() -> None:
    found = placebo_in_space(
        vbc.did.EventStudy().fit,
        panel(frame(seed=2)),
        SPEND,
        law=Randomization(draws=19, level=0.9),
    )
    table = found.tidy(0.9)
    assert table.loc[table["event_time"] == -1, "std_error"].isna().all()
    assert table.loc[table["event_time"] == 0, "p_value"].notna().all()


def test_a_share_enters_where_the_number_cannot() -> None:
    rows = frame(treated=13, clusters=22)
    rows = pd.concat([rows, rows.query("year == 2016").assign(year=2017)])
    rows.loc[rows["aco"] < 6, "entry"] = 2017.0
    with pytest.raises(DesignError, match="`9 never treated, 13 treated`"):
        placebo_in_space(TWFE, panel(rows), SPEND)
    seen: list[pd.DataFrame] = []

    def fit(p: vbc.Panel, d: vbc.Design) -> vbc.Estimates:
        seen.append(p.frame)
        return TWFE(p, d)

    law = Randomization(draws=19, level=0.9)
    placebo_in_space(fit, panel(rows), SPEND, entering="share", law=law)
    for used in seen[1:]:
        # 13 of 22 are 5 of 9, 6 of 13 dates are 2017
        given = used.drop_duplicates("aco")["entry"].value_counts()
        assert given.to_dict() == {2016.0: 3, 2017.0: 2}
    estimate = Randomization(statistic="estimate")
    with pytest.raises(DesignError, match="'share' with statistic='t'"):
        placebo_in_space(fit, panel(rows), SPEND, entering="share", law=estimate)


def test_runs_that_fail_are_counted_or_end_it() -> None:
    calls = {"n": 0, "every": 15}

    def fit(p: vbc.Panel, d: vbc.Design) -> vbc.Estimates:
        calls["n"] += 1
        if calls["n"] % calls["every"] == 0:
            raise EstimationError("a reason")
        return TWFE(p, d)

    law = Randomization(draws=20, level=0.9)
    found = placebo_in_space(fit, panel(frame()), SPEND, law=law)
    assert found.meta["placebo_in_space"]["failed"] == 1
    assert found.meta["placebo_in_space"]["used"] == 19
    calls.update(n=0, every=3)
    with pytest.raises(EstimationError, match="7 of 20 placebos could not be estimated"):
        placebo_in_space(fit, panel(frame()), SPEND, law=law)


def test_what_has_no_placebo_is_said() -> None:
    with pytest.raises(DesignError, match="0 clusters of 22 clusters are treated"):
        placebo_in_space(lambda p, d: TWFE(panel(frame()), d), panel(frame(treated=0)), SPEND)
    least = Randomization(draws=19, level=0.9)
    enough = placebo_in_space(TWFE, panel(frame(treated=1, clusters=10)), SPEND, law=least)
    assert enough.meta["placebo_in_space"]["assignments"] == 9  # the smallest p-value is .1
    with pytest.raises(DesignError, match="only 10 ways"):
        placebo_in_space(TWFE, panel(frame(treated=1, clusters=11)), SPEND)
    own = Randomization(blocks={a: "own" if a < 3 else "rest" for a in range(22)})
    with pytest.raises(DesignError, match="in 1 of 2 blocks, which do not have more"):
        placebo_in_space(TWFE, panel(frame(treated=2)), SPEND, law=own)
    mixed = panel(frame().assign(system=lambda x: x["aco"] // 8), cluster="system")
    with pytest.raises(DesignError, match="enter at different times"):
        placebo_in_space(TWFE, mixed, SPEND)
