"""What is measured, when, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.balance import features


def test_means_before_the_first_entry(frame, panel) -> None:
    found = features(panel(frame), ["a", "kind"], by_period=["y"])
    before = frame[frame["year"] < 2013]
    by_hand = before.groupby("aco")["a"].mean()
    assert found.names == ("a", "kind[y]", "kind[z]", "y 2010", "y 2011", "y 2012")
    assert found.baseline == (2010.0, 2012.0)
    np.testing.assert_allclose(found.z[:, 0], by_hand, atol=1e-12)
    np.testing.assert_array_equal(found.z[:, 1], before.groupby("aco")["kind"].first() == "y")
    np.testing.assert_array_equal(found.z[:, 4], frame.loc[frame["year"] == 2011, "y"])
    np.testing.assert_array_equal(found.base, 1.0)


def test_anticipation_and_baseline_shorten_it(frame, panel) -> None:
    assert features(panel(frame), ["a"], anticipation=1).baseline == (2010.0, 2011.0)
    assert features(panel(frame), ["a"], baseline=(2011, 2012)).baseline == (2011.0, 2012.0)
    late = features(panel(frame), ["a"], cohorts=[2014])
    assert late.baseline == (2010.0, 2013.0)
    assert not (late.treated & (late.cohort == 2013)).any()
    assert not late.included[late.cohort == 2013].any()


def test_a_cohort_after_the_data_is_comparison(frame, panel) -> None:
    frame.loc[frame["aco"] == 0, "entry"] = 2020.0
    assert features(panel(frame), ["a"]).comparison[0]


def test_rows_of_people_and_moments_of_them_agree(frame, panel) -> None:
    """Cells by organization have the same means, weights and spread as the rows behind them."""
    rng = np.random.default_rng(1)
    people = frame.loc[frame.index.repeat(rng.integers(2, 6, len(frame)))].reset_index(drop=True)
    people["id"] = np.arange(len(people))
    people["a"] += rng.standard_normal(len(people))
    options = {"unit": "id", "cluster": "aco", "kind": "repeated_cross_section", "weight": "size"}
    rows = panel(people, **options)
    cells = vbc.Moments.from_panel(rows, outcomes=["y"], covariates=["a", "b"], by="cluster")
    ours, theirs = features(rows, ["a", "b"]), features(cells, ["a", "b"])
    assert not ours.people
    assert ours.labels.equals(theirs.labels)
    for name in ("z", "within", "base", "cohort"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=1e-10)
    before = people[people["year"] < 2013]
    one = before[before["aco"] == 7]
    mean = np.average(one["a"], weights=one["size"])
    np.testing.assert_allclose(ours.z[7, 0], mean)
    np.testing.assert_allclose(
        ours.within[7, 0], np.average((one["a"] - mean) ** 2, weights=one["size"])
    )
    np.testing.assert_allclose(ours.base[7], one.groupby("year")["size"].sum().mean())


def test_base_weights(frame, panel) -> None:
    weighted = panel(frame, weight="size", exposure="size")
    size = frame.groupby("aco")["size"].first()
    np.testing.assert_allclose(features(weighted, ["a"]).base, size)
    np.testing.assert_allclose(features(weighted, ["a"], base="exposure").base, size)
    np.testing.assert_array_equal(features(weighted, ["a"], base="one").base, 1.0)
    np.testing.assert_allclose(features(weighted, ["a"], base=2 * size).base, 2 * size)
    with pytest.raises(vbc.DesignError, match="no positive base weight"):
        features(weighted, ["a"], base={0: 1.0})
    with pytest.raises(vbc.DesignError, match="have no exposure"):
        features(panel(frame), ["a"], base="exposure")


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({}, {"baseline": (2010, 2013)}, "reaches the first entry, 2013"),
        ({}, {"baseline": (2010, 2012), "anticipation": 1}, "reaches the first entry, 2012"),
        ({}, {"baseline": (2000, 2001)}, "no period in `baseline`"),
        ({}, {"cohorts": [2013, 1999]}, "`cohorts` names `1999`, in which no"),
        ({}, {"cohorts": []}, "no organization enters by"),
        ({}, {"anticipation": -1}, "positive whole number"),
        ({}, {"level": "state"}, "use 'cluster' or 'unit'"),
        ({}, {"base": "size"}, "use 'weight', 'one', 'exposure'"),
        ({"entry": np.nan}, {}, "no organization enters by"),
        ({"entry": 2013.0}, {}, "nobody is left"),
        ({"entry": lambda f: f["entry"].where(f["entry"].isna(), 2010.0)}, {}, "no period lies"),
        ({"a": 1.0}, {}, "do not vary"),
        ({"a": lambda f: f["a"].where(f["aco"] > 2)}, {}, "no value before entry for 3 of 60"),
    ],
)
def test_refusals(frame, panel, change, options, said) -> None:
    data = frame.assign(**change)
    with pytest.raises(vbc.DesignError, match=said):
        features(panel(data), ["a"], **options)


def test_names_are_a_list_and_there_are_some(frame, panel) -> None:
    with pytest.raises(vbc.DesignError, match="give a list"):
        features(panel(frame), "a")
    with pytest.raises(vbc.DesignError, match="no feature is named"):
        features(panel(frame))
    made = features(panel(frame), ["a"])
    with pytest.raises(vbc.DesignError, match="measured already"):
        vbc.balance.entropy(made, ["b"])
    with pytest.raises(vbc.DesignError, match="measured already"):
        vbc.balance.entropy(made, level="unit")


def test_clusters_of_several_cohorts_are_weighted_by_unit(frame, panel) -> None:
    data = panel(frame, cluster="state")
    with pytest.raises(vbc.DesignError, match="level='unit'"):
        features(data, ["a"])
    by_unit = features(data, ["a"], level="unit")
    assert len(by_unit.labels) == 60
    assert by_unit.clusters.nunique() == 30


def test_people_are_counted_as_people(frame, panel) -> None:
    data = panel(frame.assign(a=frame["a"].where(frame["aco"] > 2)), people=True)
    with pytest.raises(vbc.DesignError, match="for fewer than 11 of 60 people"):
        features(data, ["a"])


def test_spanned_columns_are_found(frame, panel) -> None:
    data = panel(frame.assign(c=2 * frame["b"] - 1, d=7.0))
    found = features(data, ["a", "b", "c", "d"])
    kept, lost = found.independent(found.included)
    assert kept.tolist() == [0, 1]
    assert lost == ("c", "d")
    weights = vbc.balance.propensity(found)
    np.testing.assert_allclose(
        weights.weight, vbc.balance.propensity(data, ["a", "b"]).weight, rtol=1e-12
    )
    assert weights.meta["left_out"] == ("c", "d")
    assert pd.isna(weights.balance().set_index("feature").loc["d", "smd_after"])


def test_people_without_base_weight_are_not_counted(frame, panel) -> None:
    base = {u: 0.0 if u < 3 else 1.0 for u in range(60)}
    with pytest.raises(vbc.DesignError, match=r"^fewer than 11 people have no positive base"):
        features(panel(frame, people=True), ["a"], base=base)
    with pytest.raises(vbc.DesignError, match=r"^3 of 60 organizations have no positive base"):
        features(panel(frame), ["a"], base=base)
