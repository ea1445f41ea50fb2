"""
Readmissions of hospitals, public files of the Hospital Readmissions Reduction Program.

Windows of payment years 2016 (July 2011 to June 2014) and 2019 (July 2014 to June 2017) share no
discharge. An arbitrary half of the hospitals stands in the place of a program: the truth is zero.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.bayes import HierarchicalDiD

CONDITIONS = {"READM-30-HF-HRRP": "heart failure", "READM-30-PN-HRRP": "pneumonia"}
STATES = ["CT", "MA", "RI"]


def hospitals(folder: Path) -> pd.DataFrame:
    """One row a hospital, condition and window, where both counts are published in both windows."""
    columns = {
        "program_fy": "window", "Facility ID": "hospital", "Measure Name": "measure",
        "Number of Discharges": "discharges", "Number of Readmissions": "readmissions",
        "State": "state",
    }  # fmt: skip
    path = folder / "data" / "hospital" / "hrrp_fy2016_2017_2019_2020.csv.gz"
    frame = pd.read_csv(path, usecols=list(columns), dtype=str)
    frame = frame.rename(columns=columns)
    frame["window"] = frame["window"].astype(int)
    frame = frame[frame["window"].isin([2016, 2019]) & frame["state"].isin(STATES)]
    frame["condition"] = frame["measure"].map(CONDITIONS)
    for name in ("discharges", "readmissions"):
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    frame = frame.dropna(subset=["condition", "discharges", "readmissions"])
    both = frame.groupby(["hospital", "condition"])["window"].transform("nunique") == 2
    frame = frame[both]
    odd = frame["hospital"].str[-1].astype(int) % 2 == 1
    return frame.assign(entry=np.where(odd, 2019.0, np.nan))


def test_an_arbitrary_half_of_the_hospitals_did_nothing(shared_dir: Path) -> None:
    frame = hospitals(shared_dir)
    panel = vbc.Panel.from_frame(
        frame, unit="hospital", period="window", cohort="entry", strata=["condition"],
        exposure="discharges",
    )  # fmt: skip
    model = HierarchicalDiD(
        family="binomial", organization_effects=False, draws=500, alternatives=()
    )
    est = model.fit(panel, vbc.Design(outcome="readmissions"))
    overall = est.where(estimand="att_overall").tidy().set_index("unit_of_measure")
    points = overall.loc["percentage points"]
    assert frame["hospital"].nunique() > 60
    assert points["conf_low"] < 0 < points["conf_high"]
    # about one in five comes back, and a point is what so many hospitals can tell apart
    assert overall.loc["percentage points", "baseline"] == pytest.approx(0.2, abs=0.04)
    assert points["std_error"] < 1.0
    # rates of all discharges, compared by hand: within the noise of hospitals
    frame["treated"] = frame["entry"].notna()
    sums = frame.pivot_table(
        index="condition", columns=["treated", "window"], values=["readmissions", "discharges"],
        aggfunc="sum",
    )  # fmt: skip
    rate = sums["readmissions"] / sums["discharges"]
    change = (rate[True, 2019] - rate[True, 2016]) - (rate[False, 2019] - rate[False, 2016])
    assert points["estimate"] == pytest.approx(100 * change.mean(), abs=2 * points["std_error"])
    assert max(est.meta["laplace"]["mean_shift"], est.meta["laplace"]["weight_shift"]) < 0.1
