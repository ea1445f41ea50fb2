"""Ladders: differences by hand, and the omitted-variable formula for what coding takes out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.errors import DesignError, EstimationError
from vbceval.sensitivity import coding_intensity, ladder

RUNGS = {"none": (), "demographics": ("age",), "concurrent": ("age", "score")}


@pytest.fixture(scope="module")
def rungs() -> dict[str, vbc.Estimates]:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"aco": np.repeat(np.arange(20), 5), "year": np.tile(np.arange(5), 20)})
    rows["entry"] = np.where(rows["aco"] < 8, 3.0, np.nan)
    on = rows["year"] >= rows["entry"]
    rows["age"] = 70 + rng.normal(0, 1, 100) + 0.3 * rows["year"] * (rows["aco"] < 8)
    rows["score"] = 1 + rng.normal(0, 0.05, 100) + 0.04 * on
    rows["spend"] = 8000 * rows["score"] + 30 * rows["age"] + rng.normal(0, 100, 100) - 150 * on
    data = vbc.Panel.from_frame(rows, unit="aco", period="year", cohort="entry")
    fits = {
        name: vbc.did.TWFE(covariate_rows=True).fit(
            data, vbc.Design(outcome="spend", covariates=x, unit_of_measure="USD"), vcov="CR0"
        )
        for name, x in RUNGS.items()
    }
    fits["score"] = vbc.did.TWFE().fit(
        data, vbc.Design(outcome="score", covariates=["age"]), vcov="CR0"
    )
    fits["path"] = vbc.did.EventStudy().fit(data, vbc.Design(outcome="spend"))
    fits["path by age"] = vbc.did.EventStudy().fit(
        data, vbc.Design(outcome="spend", covariates=["age"])
    )
    return fits


def effects(rungs: dict[str, vbc.Estimates]) -> dict[str, vbc.Estimates]:
    return {name: rungs[name].where("estimand != 'coefficient'") for name in RUNGS}


def test_differences_are_contrasts_of_the_stack(rungs) -> None:
    parts = effects(rungs)
    table = ladder(parts, after_entry=["concurrent"]).tidy()
    assert table["rung"].tolist() == list(RUNGS)
    joint = vbc.stack(list(parts.values()))
    hand = joint.contrast(np.array([[-1.0, 0, 1], [0, -1, 1]])).tidy()
    for against, row in zip(("first", "previous"), hand.itertuples(), strict=True):
        last = table.iloc[2]
        assert last[f"from_{against}_estimate"] == pytest.approx(row.estimate)
        assert last[f"from_{against}_std_error"] == pytest.approx(row.std_error)
        assert last[f"from_{against}_conf_high"] == pytest.approx(row.conf_high)
        assert np.isnan(table.iloc[0][f"from_{against}_estimate"])
    assert table["note"].str.contains("a part of the effect").tolist() == [False, False, True]
    np.testing.assert_array_equal(table["std_error"], [e.std_error[0] for e in parts.values()])


def test_notes_of_fits_stay(rungs) -> None:
    parts = effects(rungs)
    noted = parts["concurrent"].frame.assign(note="one treated cluster")
    parts["concurrent"] = parts["concurrent"].with_frame(noted)
    notes = ladder(parts, after_entry=["concurrent"]).tidy()["note"]
    assert notes[2].startswith("one treated cluster; adjusted for")
    assert notes[0] == ""


def test_differences_of_rungs_on_other_samples_against_leaving_out_each_cluster(rungs) -> None:
    """Influence of a difference is its derivative by a cluster's weight, also of one in one rung."""
    rng = np.random.default_rng(4)
    rows = pd.DataFrame({"aco": np.repeat(np.arange(18), 3), "year": np.tile(np.arange(3), 18)})
    rows["entry"] = np.where(rows["aco"] < 8, 2.0, np.nan)
    rows["spend"] = rng.normal(size=54)
    stay = rows["aco"] % 5 != 0

    def step(moved: int | None = None, by: float = 0.0) -> vbc.Estimates:
        weighed = rows.assign(w=1.0 + by * (rows["aco"] == moved))
        fits = {
            name: vbc.did.TWFE().fit(
                vbc.Panel.from_frame(part, unit="aco", period="year", cohort="entry", weight="w"),
                vbc.Design(outcome="spend"), vcov="CR0",
            )
            for name, part in {"all": weighed, "stayers": weighed[stay]}.items()
        }  # fmt: skip
        return ladder(fits).estimates.where(against="first")

    psi = step().influence()[0]
    for aco in (0, 3, 10, 11):
        slope = (step(aco, 1e-4).estimate[0] - step(aco, -1e-4).estimate[0]) / 2e-4
        assert psi[aco] == pytest.approx(slope, abs=1e-7)
    assert step().std_error[0] == pytest.approx(np.sqrt((psi**2).sum()))


def test_rungs_of_several_rows_keep_their_places(rungs) -> None:
    parts = {"none": rungs["path"], "age": rungs["path by age"]}
    table = ladder(parts).tidy()
    k = len(rungs["path"])
    assert len(table) == 2 * k
    np.testing.assert_allclose(
        table["from_first_estimate"][k:], parts["age"].estimate - parts["none"].estimate
    )
    assert table["from_first_estimate"][:k].isna().all()
    np.testing.assert_array_equal(table["event_time"][k:], rungs["path"].frame["event_time"])


def test_coding_is_what_adjustment_takes_out(rungs) -> None:
    """Omitted-variable formula: exact in the estimate and in the influence of each cluster."""
    parts = effects(rungs)
    price = rungs["concurrent"].where(term="score")
    found = coding_intensity(
        rungs["score"], dollars_per_point=price, unit_of_measure="USD", spending=parts["demographics"]
    )  # fmt: skip
    step = ladder(parts).estimates.where(rung="concurrent", against="previous")
    coding = found.where("estimand.str.startswith('coding')")
    assert coding.estimate[0] == pytest.approx(-step.estimate[0])
    gap = coding.influence().to_numpy() + step.influence().to_numpy()
    assert np.abs(gap).max() < 1e-8 * np.abs(coding.influence().to_numpy()).max()
    both = found.where("estimand.str.startswith('with')")
    assert both.estimate[0] == pytest.approx(coding.estimate[0] + parts["demographics"].estimate[0])
    joint = vbc.stack([coding, parts["demographics"]]).contrast(np.ones(2))
    assert both.std_error == pytest.approx(joint.std_error)


def test_a_price_that_is_a_rule_rescales(rungs) -> None:
    found = coding_intensity(rungs["score"], dollars_per_point=11_000.0, unit_of_measure="USD")
    table = found.tidy()
    assert table["estimate"][1] == pytest.approx(11_000 * table["estimate"][0])
    assert table["p_value"][1] == pytest.approx(table["p_value"][0])
    assert table["unit_of_measure"].tolist() == [None, "USD"]


def test_what_does_not_fit_is_said(rungs) -> None:
    parts = effects(rungs)
    with pytest.raises(DesignError, match="at least two rungs"):
        ladder({"none": parts["none"]})
    with pytest.raises(DesignError, match="`hcc` is none of"):
        ladder(parts, after_entry=["hcc"])
    percent = parts["demographics"].scale(1.0, unit_of_measure="percent")
    with pytest.raises(DesignError, match="different units of measure"):
        ladder({"none": parts["none"], "demographics": percent})
    with pytest.raises(DesignError, match="`spending` is in `USD`"):
        coding_intensity(
            rungs["score"], dollars_per_point=1.0, unit_of_measure="USD per month",
            spending=parts["none"],
        )  # fmt: skip
    apart = parts["none"].with_frame(parts["none"].frame.assign(stratum="dual=yes"))
    with pytest.raises(DesignError, match="do not have the same"):
        coding_intensity(
            rungs["score"], dollars_per_point=1.0, unit_of_measure="USD", spending=apart
        )
    with pytest.raises(DesignError, match="does not have the rows"):
        ladder({"none": parts["none"], "path": rungs["path"]})
    alone = vbc.Estimates(frame=parts["none"].frame, covariance=parts["none"].vcov())
    with pytest.raises(EstimationError, match="cannot be stacked"):
        ladder({"none": alone, "demographics": parts["demographics"]})
    with pytest.raises(DesignError, match="`dollars_per_point` has"):
        coding_intensity(rungs["path"], dollars_per_point=rungs["path"], unit_of_measure="USD")
    with pytest.raises(EstimationError, match="`spending` carries no influence"):
        coding_intensity(
            rungs["score"], dollars_per_point=1.0, unit_of_measure="USD", spending=alone
        )
