"""Randomization inference: against every assignment refitted from rows, and its size."""

from __future__ import annotations

from itertools import combinations, permutations
from typing import Literal

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.errors import DesignError, EstimationError
from vbceval.did import randomization_test
from vbceval.inference import Randomization

SPEND = vbc.Design(outcome="spend")
Statistic = Literal["t", "estimate"]


def frame(seed: int, entry: list[float], effect: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = len(entry)
    rows = pd.DataFrame({
        "aco": np.repeat([f"a{i}" for i in range(n)], 4), "year": np.tile([1, 2, 3, 4], n),
        "entry": np.repeat(entry, 4), "pair": np.repeat(np.arange(n) // 2, 4),
    })  # fmt: skip
    rows["spend"] = rng.normal(size=len(rows)) + np.repeat(rng.normal(size=n), 4)
    rows["spend"] += effect * (rows["year"] >= rows["entry"])
    return rows


def panel(rows: pd.DataFrame, **options: object) -> vbc.Panel:
    return vbc.Panel.from_frame(rows, unit="aco", period="year", cohort="entry", **options)  # type: ignore[arg-type]  # column names


def twfe(data: object, design: vbc.Design) -> vbc.Estimates:
    return vbc.did.TWFE().fit(data, design)  # type: ignore[arg-type]  # a panel or moments


def quick(moments: vbc.Moments, design: vbc.Design) -> vbc.Estimates:
    """Two-by-two differences of cluster means, entry in period 3, with influence by hand."""
    y = moments.y_mean[:, moments.column(design.outcome)].reshape(-1, 4)
    change = y[:, 2:].mean(axis=1) - y[:, :2].mean(axis=1)
    cohort = moments.units["cohort"]
    treated = cohort.notna().to_numpy()
    gap = change - np.where(treated, change[treated].mean(), change[~treated].mean())
    psi = gap * np.where(treated, 1 / treated.sum(), -1 / (~treated).sum())
    estimate = change[treated].mean() - change[~treated].mean()
    table = pd.DataFrame({
        "estimand": ["att_simple"], "outcome": [design.outcome], "estimate": [estimate],
    })  # fmt: skip
    return vbc.Estimates(frame=table, psi=psi[:, None], clusters=cohort.index)


ENTRY = [3.0, 2.0, np.nan, np.nan, np.nan, np.nan]


@pytest.mark.parametrize("statistic", ["t", "estimate"])
def test_p_value_is_that_of_all_assignments_refitted(statistic: Statistic) -> None:
    rows = frame(1, ENTRY, effect=-1.0)
    law = Randomization(statistic=statistic)
    found = randomization_test(twfe, panel(rows), SPEND, law=law)
    assert found.meta["randomization"]["assignments"] == 30  # 6! / 4!
    assert found.meta["randomization"]["enumerated"]

    def value(table: pd.DataFrame) -> float:
        est = twfe(panel(table), SPEND)
        return float(abs(est.estimate[0]) / (est.std_error[0] if statistic == "t" else 1.0))

    own = value(rows)
    seen = set(permutations([0.0 if np.isnan(g) else g for g in ENTRY]))
    others = [
        value(rows.assign(entry=np.repeat([np.nan if g == 0 else g for g in order], 4)))
        for order in seen
    ]
    expected = np.mean(np.array(others) >= own * (1 - 1e-9))
    assert found.frame["randomization_p_value"].iloc[0] == pytest.approx(expected)


def test_interval_holds_the_effects_that_are_not_rejected() -> None:
    rows = frame(2, [3.0, 3.0, 3.0, np.nan, np.nan, np.nan, np.nan], effect=-2.0)
    law = Randomization(level=0.9)
    row = randomization_test(quick, panel(rows), SPEND, law=law).frame.iloc[0]
    treated = rows["year"] >= rows["entry"]

    def p_value(effect: float) -> float:
        table = rows.assign(spend=rows["spend"] - effect * treated)
        found = randomization_test(quick, panel(table), SPEND, law=law)
        return float(found.frame["randomization_p_value"].iloc[0])

    assert row["randomization_low"] < row["estimate"] < row["randomization_high"]
    for end, outward in ((row["randomization_low"], -1), (row["randomization_high"], 1)):
        assert p_value(end + outward * 1e-3) <= 0.1
        assert p_value(end - outward * 1e-3) > 0.1


@pytest.mark.parametrize("statistic", ["t", "estimate"])
def test_interval_with_one_treated_cluster_of_many(statistic: Statistic) -> None:
    """Its error by cluster is a tenth of what assignments show: the interval was infinite."""
    n = 150
    rows = frame(12, [3.0] + [np.nan] * (n - 1), effect=1.0)
    law = Randomization(statistic=statistic)
    row = randomization_test(quick, panel(rows), SPEND, law=law).frame.iloc[0]
    wide = rows.pivot_table(index="aco", columns="year", values="spend", sort=False).to_numpy()
    change = wide[:, 2:].mean(axis=1) - wide[:, :2].mean(axis=1)

    def p_value(effect: float) -> float:
        """By hand: the effect and error of every cluster as if it were the one treated."""
        moved = np.append(change[0] - effect, change[1:])
        mean = (moved.sum() - moved) / (n - 1)
        gap = moved - mean
        square = (moved**2).sum() - moved**2 - (n - 1) * mean**2
        size = np.abs(gap) / (np.sqrt(square) / (n - 1) if statistic == "t" else 1.0)
        return float(np.mean(size >= size[0] * (1 - 1e-9)))

    assert row["randomization_p_value"] == pytest.approx(p_value(0.0))
    for end, outward in ((row["randomization_low"], -1), (row["randomization_high"], 1)):
        assert p_value(end + outward * 1e-3) <= 0.05
        assert p_value(end - outward * 1e-3) > 0.05


def test_the_smallest_p_value_can_reject_at_any_level() -> None:
    """One in ten at 0.9, as one in twenty at 0.95: 1 - 0.9 is below 0.1 in a computer."""
    for n, level in ((10, 0.9), (20, 0.95)):
        rows = frame(11, [3.0] + [np.nan] * (n - 1), effect=30.0)
        law = Randomization(level=level, statistic="estimate")
        row = randomization_test(quick, panel(rows), SPEND, law=law).frame.iloc[0]
        assert row["randomization_p_value"] == pytest.approx(1 / n)
        assert 20 < row["randomization_low"] < row["randomization_high"] < 40


@pytest.mark.filterwarnings("error")
def test_another_assignment_may_fit_perfectly() -> None:
    """Its t is infinite, without a warning of numpy."""
    rows = frame(13, [3.0] * 4 + [np.nan] * 4)
    changed = ["a0", "a1", "a2", "a4"]
    rows["spend"] = 2.0 * (rows["aco"].isin(changed) & (rows["year"] >= 3))
    found = randomization_test(quick, panel(rows), SPEND)
    # 16 sets share three with these four, and 16 with their complement; both fit perfectly
    assert found.frame["randomization_p_value"].iloc[0] == pytest.approx(34 / 70)


def test_blocks_change_places_within_only() -> None:
    entry = [3.0, np.nan] * 6
    rows = frame(3, entry)
    found = randomization_test(quick, panel(rows), SPEND, law=Randomization(blocks="pair"))
    assert found.meta["randomization"]["assignments"] == 2**6
    seen = []

    def fit(moments: vbc.Moments, design: vbc.Design) -> vbc.Estimates:
        seen.append(moments.units["cohort"].notna().to_numpy().reshape(6, 2).sum(axis=1))
        return quick(moments, design)

    clusters = {f"a{i}": i // 2 for i in range(12)}
    again = randomization_test(fit, panel(rows), SPEND, law=Randomization(blocks=clusters))
    assert np.all(np.array(seen) == 1)
    assert again.frame["randomization_p_value"].equals(found.frame["randomization_p_value"])


def test_drawn_assignments_agree_with_all_of_them() -> None:
    rows = frame(4, [3.0] * 4 + [np.nan] * 4)
    every = randomization_test(quick, panel(rows), SPEND, law=Randomization(draws=70))
    some = randomization_test(quick, panel(rows), SPEND, law=Randomization(draws=60, seed=5))
    assert every.meta["randomization"]["enumerated"]
    assert not some.meta["randomization"]["enumerated"]
    p, q = (float(x.frame["randomization_p_value"].iloc[0]) for x in (every, some))
    assert q == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 60) + 0.02)


def test_aggregates_of_group_time_effects_and_moments_of_people() -> None:
    rows = frame(5, [3.0, 2.0, 2.0, np.nan, np.nan, np.nan], effect=-1.0)
    moments = vbc.Moments.from_panel(panel(rows), outcomes=["spend"])

    def fit(data: vbc.Moments, design: vbc.Design) -> vbc.Estimates:
        return vbc.did.GroupTime().fit(data, design).aggregate("simple")

    one = randomization_test(fit, moments, SPEND)
    two = randomization_test(fit, panel(rows), SPEND)
    assert one.meta["randomization"]["assignments"] == 60
    assert one.frame["randomization_p_value"].equals(two.frame["randomization_p_value"])
    assert one.estimate[0] == fit(moments, SPEND).estimate[0]


def test_size_is_exact_over_all_assignments() -> None:
    """Without effect, each assignment may be the one observed: p is then at most alpha, alpha often."""
    rows = frame(9, [np.nan] * 6)
    p_values = []
    for treated in combinations(range(6), 3):
        entry = np.where(np.isin(np.arange(6), treated), 3.0, np.nan)
        table = rows.assign(entry=np.repeat(entry, 4))
        found = randomization_test(quick, panel(table), SPEND, law=Randomization(level=0.9))
        p_values.append(float(found.frame["randomization_p_value"].iloc[0]))
    # 20 assignments; a set of three and its complement have the same |t|
    for alpha in (0.1, 0.2, 0.5, 0.9):
        assert np.mean(np.array(p_values) <= alpha + 1e-9) == pytest.approx(alpha)


def test_as_covariance_of_an_estimator() -> None:
    rows = frame(8, [3.0, np.nan, 3.0, np.nan, 3.0, np.nan, 3.0, np.nan])
    law = Randomization(blocks="pair", level=0.9)
    for one in (vbc.did.TWFE(), vbc.did.Imputation(), vbc.did.GroupTime()):
        est = one.fit(panel(rows), SPEND, vcov=law)
        plain = one.fit(panel(rows), SPEND)
        np.testing.assert_array_equal(est.std_error, plain.std_error)
        assert est.meta["randomization"]["assignments"] == 16
        assert est.meta["vcov"].endswith("randomization inference")
        tested = np.isfinite(est.std_error)
        assert np.isfinite(est.frame["randomization_p_value"][tested]).all()
    with pytest.raises(DesignError, match="one outcome at a time"):
        vbc.did.TWFE().fit(panel(rows), SPEND, vcov="randomization", outcomes=["spend"])
    with pytest.raises(EstimationError, match="Efficient has no 'randomization'"):
        vbc.did.Efficient().fit(panel(rows), SPEND, vcov="randomization")


def test_the_table_shows_the_test() -> None:
    """Not the t test of the errors that studentise it; scaling moves its interval."""
    found = randomization_test(quick, panel(frame(1, ENTRY, effect=-1.0)), SPEND,
                               law=Randomization(level=0.9))  # fmt: skip
    own, shown = found.frame.iloc[0], found.tidy(0.9).iloc[0]
    assert shown["p_value"] == own["randomization_p_value"]
    assert shown["conf_low"] == own["randomization_low"]
    assert shown["conf_high"] == own["randomization_high"]
    assert np.isnan(found.tidy(0.95)["conf_low"].item())  # the test was inverted at one level
    negated = found.scale(-2.0, unit_of_measure="x").tidy(0.9).iloc[0]
    assert negated["p_value"] == shown["p_value"]
    assert negated["conf_low"] == -2 * shown["conf_high"]
    assert negated["conf_high"] == -2 * shown["conf_low"]
    # a sum of rows is another hypothesis, and so is an effect less a number
    assert "randomization_p_value" not in found.contrast({"x": {0: 2.0}}).frame


def test_what_cannot_be_tested() -> None:
    with pytest.raises(DesignError, match="only 6 assignments"):
        randomization_test(quick, panel(frame(6, [3.0, 3.0, np.nan, np.nan])), SPEND)
    rows = frame(7, ENTRY)
    with pytest.raises(DesignError, match="column `market`"):
        randomization_test(twfe, panel(rows), SPEND, law=Randomization(blocks="market"))
    with pytest.raises(DesignError, match="5 of 6 clusters have no block"):
        randomization_test(twfe, panel(rows), SPEND, law=Randomization(blocks={"a1": 1}))
    wide = rows.assign(group=rows["pair"] // 2)
    with pytest.raises(DesignError, match="2 clusters hold units"):
        randomization_test(twfe, panel(wide, cluster="group"), SPEND)
    with pytest.raises(EstimationError, match="have none"):
        randomization_test(
            lambda m, d: vbc.did.TWFE().fit(m, d, vcov="iid"), panel(rows), SPEND
        )  # fmt: skip
    with pytest.raises(DesignError, match="at least 19"):
        Randomization(draws=5)
