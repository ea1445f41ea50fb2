"""Differences between runs, and what the years before entry say."""

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval import sensitivity


def run(seed: int, shift: float = 0.0, clusters: range = range(40)) -> vbc.Estimates:
    rng = np.random.default_rng(0)
    psi = rng.normal(size=(100, 2))[list(clusters)] + 0.1 * np.random.default_rng(seed).normal(
        size=(len(clusters), 2)
    )
    frame = pd.DataFrame(
        {"estimand": "att_event_time", "outcome": "y", "event_time": [0.0, 1.0],
         "estimate": [shift, 2 * shift]}
    )  # fmt: skip
    return vbc.Estimates(frame=frame, psi=psi, clusters=pd.Index(clusters))


def test_difference_uses_shared_clusters() -> None:
    a, b = run(1, 1.0), run(2, 3.0)
    out = sensitivity.differences({"a": a, "b": b}, reference="a")
    table = out.tidy()
    gap = table[table["run"] == "b - a"]
    assert gap["estimate"].tolist() == [2.0, 4.0]
    assert gap["estimand"].tolist() == ["difference_att_event_time"] * 2
    assert gap["std_error"].iloc[0] == pytest.approx(np.linalg.norm((b.psi - a.psi)[:, 0]))
    # the runs are almost the same, so their difference is far better known than either
    assert gap["std_error"].iloc[0] < 0.3 * table["std_error"].iloc[0]


def test_clusters_are_aligned_by_label() -> None:
    a, b = run(1, 1.0, range(40)), run(1, 1.0, range(10, 50))
    gap = sensitivity.differences({"a": a, "b": b}, reference="a").tidy().iloc[-2]
    rows = a.influence().join(b.influence(), how="outer", suffixes=("a", "b")).fillna(0)
    expected = np.linalg.norm(rows["0b"] - rows["0a"])
    assert gap["std_error"] == pytest.approx(expected, rel=1e-12)


def test_rows_must_match() -> None:
    with pytest.raises(vbc.DesignError, match="does not have the rows"):
        sensitivity.differences({"a": run(1), "b": run(2).where(event_time=0.0)}, reference="a")
    with pytest.raises(vbc.DesignError, match="`reference` is 'c'"):
        sensitivity.differences({"a": run(1)}, reference="c")


def leads(estimates: list[float], psi: np.ndarray) -> vbc.Estimates:
    k = len(estimates)
    frame = pd.DataFrame(
        {"estimand": "att_event_time", "outcome": "y", "event_time": np.arange(-k + 1.0, 1.0),
         "estimate": estimates}
    )  # fmt: skip
    return vbc.Estimates(frame=frame, psi=psi, clusters=pd.Index(range(len(psi))))


def test_pretrends_by_hand() -> None:
    psi = np.random.default_rng(2).normal(size=(50, 4)) / 50
    est = leads([0.2, -0.1, 0.3, -5.0], psi)
    table = sensitivity.pretrends(est).set_index("check")
    b, v = est.estimate[:3], est.vcov()[:3, :3]
    assert table["statistic"]["joint"] == pytest.approx(b @ np.linalg.solve(v, b), rel=1e-9)
    assert table["df"]["joint"] == 3
    weights = np.array([-0.5, -0.5, 1.0])
    assert table["estimate"]["entry_dip"] == pytest.approx(weights @ b)
    se = np.sqrt(np.diag(v))
    assert table["estimate"]["equivalence"] == pytest.approx(max(abs(b) + 1.6448536 * se), rel=1e-6)


@pytest.mark.parametrize("comparison", ["never_treated", "not_yet_treated"])
def test_entry_dip_is_that_of_changes_whatever_the_base(comparison: str) -> None:
    """One cohort: differences of leads with one base are the leads of a varying base."""
    rng = np.random.default_rng(11)
    rows = pd.DataFrame(
        {"aco": np.repeat(np.arange(30), 7), "year": np.tile(range(2012, 2019), 30)}
    )
    rows["entry"] = np.where(rows["aco"] < 12, 2017.0, np.nan)
    rows["spend"] = rng.normal(size=len(rows)) + 2 * ((rows["aco"] < 12) & (rows["year"] == 2016))
    panel = vbc.Panel.from_frame(rows, unit="aco", period="year", cohort="entry")
    found = []
    for base in ("varying", "universal"):
        design = vbc.Design(outcome="spend", base_period=base, comparison=comparison)
        est = vbc.did.GroupTime().fit(panel, design)
        for shown in (est, est.aggregate("event_time")):
            found.append(sensitivity.pretrends(shown).set_index("check").loc["entry_dip"])
    names = ["statistic", "p_value", "estimate", "conf_low", "conf_high"]
    for other in found[1:]:
        np.testing.assert_allclose(other[names].astype(float), found[0][names].astype(float))
    study = vbc.did.EventStudy().fit(panel, vbc.Design(outcome="spend"))
    dip = sensitivity.pretrends(study).set_index("check").loc["entry_dip"]
    assert dip["estimate"] == pytest.approx(found[0]["estimate"])
    assert dip["estimate"] > 1
    assert dip["p_value"] < 0.05
    # one change is none to compare with
    short = est.where("event_time >= -2")
    assert "entry_dip" not in set(sensitivity.pretrends(short)["check"])


def test_mirrored_leads_are_tested_in_identified_directions() -> None:
    psi = np.random.default_rng(2).normal(size=(50, 3))
    psi[:, 1] = -psi[:, 0]
    table = sensitivity.pretrends(leads([0.2, -0.2, 1.0], psi)).set_index("check")
    assert table["df"]["joint"] == 1
    assert "rank 1" in table["note"]["joint"]


def test_no_leads() -> None:
    est = leads([1.0], np.ones((5, 1)))
    with pytest.raises(vbc.DesignError, match="no period before entry"):
        sensitivity.pretrends(est)
