"""The balance table by hand, and the weights as an object."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

import vbceval as vbc


def test_table_by_hand(frame, panel) -> None:
    weights = vbc.balance.propensity(panel(frame), ["a", "kind"])
    table = weights.balance().set_index("feature")
    z = weights.features.z[:, 0]
    d, c, w = weights.features.treated, weights.features.comparison, weights.weight
    sd = np.sqrt((z[d].var(ddof=1) + z[c].var(ddof=1)) / 2)
    row = table.loc["a"]
    np.testing.assert_allclose(row["smd_before"], (z[d].mean() - z[c].mean()) / sd)
    after = np.average(z[c], weights=w[c])
    np.testing.assert_allclose(row["smd_after"], (z[d].mean() - after) / sd)
    np.testing.assert_allclose(row["ks_before"], ks_2samp(z[d], z[c]).statistic)
    np.testing.assert_allclose(row["variance_ratio_before"], z[d].var(ddof=1) / z[c].var(ddof=1))
    # weights of whole numbers are copies
    y = weights.features.z[:, 1]
    p = [y[d].mean(), y[c].mean()]
    binary = np.sqrt((p[0] * (1 - p[0]) + p[1] * (1 - p[1])) / 2)
    np.testing.assert_allclose(table.loc["kind[y]", "sd"], binary)
    assert np.isnan(table.loc["kind[y]", "variance_ratio_after"])
    by_treated = weights.balance(denominator="treated").set_index("feature")
    np.testing.assert_allclose(by_treated.loc["a", "sd"], z[d].std(ddof=1))


def test_ks_after_is_that_of_copies(frame, panel) -> None:
    weights = vbc.balance.match(panel(frame), ["a", "b"], replace=True, caliper=None)
    z = weights.features.z[:, 0]
    d, c = weights.features.treated, weights.features.comparison
    copies = np.repeat(z[c], np.rint(weights.weight[c]).astype(int))
    np.testing.assert_allclose(
        weights.balance().loc[0, "ks_after"], ks_2samp(z[d], copies).statistic
    )


def test_spread_of_people(frame, panel) -> None:
    rng = np.random.default_rng(1)
    people = frame.loc[frame.index.repeat(4)].reset_index(drop=True)
    people["id"] = np.arange(len(people))
    people["a"] += 3 * rng.standard_normal(len(people))
    data = panel(people, unit="id", cluster="aco", kind="repeated_cross_section")
    weights = vbc.balance.propensity(data, ["a"])
    before = people[people["year"] < 2013]
    enters = before["entry"].notna()
    by_hand = np.sqrt((before[enters]["a"].var(ddof=0) + before[~enters]["a"].var(ddof=0)) / 2)
    # between organizations the variance is unbiased for few of them
    table = weights.balance(sd="people")
    np.testing.assert_allclose(table.loc[0, "sd"], by_hand, rtol=5e-3)
    assert table.loc[0, "sd"] > 1.5 * weights.balance().loc[0, "sd"]
    with pytest.raises(vbc.DesignError, match="needs the spread"):
        vbc.balance.propensity(panel(frame), ["b"]).balance(sd="people")
    with pytest.raises(vbc.DesignError, match="`sd` is 'rows'"):
        weights.balance(sd="rows")


def test_flags_and_warnings(frame, panel) -> None:
    weights = vbc.balance.entropy(panel(frame), ["a"])
    assert set(weights.balance()["flag"]) == {"ok"}
    loose = vbc.balance.entropy(panel(frame), ["a"], tolerance=0.1)
    assert loose.balance()["flag"].tolist() == ["ok"]
    np.testing.assert_allclose(loose.balance()["smd_after"].abs(), 0.1, rtol=1e-9)
    looser = vbc.balance.entropy(panel(frame), ["a"], tolerance=0.3)
    assert looser.balance()["flag"].tolist() == ["fail"]
    assert "leave `a` more than 0.25" in looser.warnings[-1]
    harsh = vbc.balance.calibrate(panel(frame), ["a"], totals={"a": 1.4})
    told = harsh.summary()
    assert told["ess_share"] < 0.3
    w = harsh.weight[harsh.features.comparison]
    np.testing.assert_allclose(told["ess_comparison"], w.sum() ** 2 / (w**2).sum())
    np.testing.assert_allclose(told["largest_share"], w.max() / w.sum())
    assert len(harsh.warnings) >= 2


def test_small_counts_of_people_are_not_told(frame, panel) -> None:
    rare = frame.assign(rare=frame["aco"].isin([1, 2, 3, 40, 50]) * 1.0)
    weights = vbc.balance.propensity(panel(rare, people=True), ["a", "rare"], penalty="ridge")
    row = weights.balance().set_index("feature").loc["rare"]
    assert row["flag"] == "suppressed"
    assert row.drop("flag").isna().all()
    shown = vbc.balance.propensity(panel(rare), ["a", "rare"], penalty="ridge")
    assert shown.balance()["flag"].isin(["ok", "above 0.1", "fail"]).all()
    few = panel(frame[frame["aco"] < 15], people=True)
    weights = vbc.balance.propensity(few, ["a"])
    assert "fewer than 11 treated" in repr(weights)
    # equal weights would show the number of people as an effective number, and as a share
    told = weights.summary()
    assert told[["n_treated", "ess_treated", "ess_comparison", "largest_share"]].isna().all()
    assert any("much of the comparison weight" in x for x in weights.warnings)
    # a few of many without a match: their number is the number of all less that in effect
    matched = vbc.balance.match(panel(frame, people=True), ["a", "b"], caliper=0.4)
    lost = int((matched.weight[matched.features.treated] == 0).sum())
    assert 0 < lost < 11
    assert np.isnan(matched.summary()["ess_treated"])
    organizations = vbc.balance.match(panel(frame), ["a", "b"], caliper=0.4)
    assert organizations.summary()["treated_without_match"] == lost


def test_mapping_and_record(frame, panel) -> None:
    weights = vbc.balance.entropy(panel(frame), ["a"])
    assert len(weights) == 60
    assert weights[7] == weights.to_series()[7]
    assert list(weights) == list(range(60))
    assert weights.fixed().step is None
    np.testing.assert_array_equal(weights.fixed().weight, weights.weight)
    assert vbc.balance.entropy(panel(frame), ["a"], weights_random=False).step is None
    told = weights.describe()
    assert told["method"] == "entropy balancing"
    assert told["weights_random"]
    assert told["baseline"] == (2010.0, 2012.0)


def test_a_design_refuses_features_that_anticipation_reaches(frame, panel) -> None:
    weights = vbc.balance.entropy(panel(frame), ["a"])
    vbc.Design(outcome="y", balance_weights=weights)
    with pytest.raises(vbc.DesignError, match="use features up to 2012"):
        vbc.Design(outcome="y", balance_weights=weights, anticipation=1)
    shorter = vbc.balance.entropy(panel(frame), ["a"], anticipation=1)
    vbc.Design(outcome="y", balance_weights=shorter, anticipation=1)
