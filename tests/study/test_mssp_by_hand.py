"""Made-up files of every track and year not at hand, settled here a second time, ACO by ACO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vbceval.study.mssp_replication import replicate

RATE = {"T1": 0.50, "T1P": 0.50, "T2": 0.60, "T3": 0.75, "EN": 0.75, "A": 0.40, "B": 0.40,
        "C": 0.50, "D": 0.50, "E": 0.50}  # fmt: skip
GAIN = {"T2": 0.15, "T3": 0.20, "EN": 0.20}
LOSS = {"T1P": 0.04, "T3": 0.15, "EN": 0.15, "C": 0.01, "D": 0.02, "E": 0.04}
FLAGS = {
    "T1": "Current_Track_1", "T1P": "Current_Track_1_Plus", "T2": "Current_Track_2",
    "T3": "Current_Track_3", "EN": "Current_ENHANCED", **{t: f"Current_BASIC_{t}" for t in "ABCDE"},
}  # fmt: skip
PEOPLE = {4_999: 3.9, 5_000: 3.9, 9_999: 3.0, 12_000: 2.879976, 35_000: 2.349995, 70_000: 2.0}
"""Assigned people, and the variable minimum rate in percent at that number."""


def made_up(year: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for i in range(120):
        track = list(RATE)[i % 10] if year <= 2021 else ["A", "B", "C", "D", "E", "EN"][i % 6]
        people, variable = list(PEOPLE.items())[rng.integers(6)]
        chosen = rng.choice([0.0, 0.5, 1.0, 1.5, 2.0, np.nan])
        fixed = track not in ("T1", "A", "B") and people >= 5_000 and not np.isnan(chosen)
        width = rng.choice([0.05, 0.25])
        benchmark = int(rng.integers(9_000, 14_000)) * people
        old = track[0] == "T"
        half = year == 2019 and (not old or i % 3 == 0)
        rows.append({
            "track": track, "people": people, "minimum": chosen if fixed else variable, "half": half,
            "benchmark": benchmark, "spent": round(benchmark * (1 - rng.uniform(-width, width))),
            "score": round(rng.uniform(34, 99), 2), "met": rng.random() < 0.8,
            "alternative": rng.random() < 0.7, "low": rng.random() < 0.6,
            "start": (2018 if old else 2019) if year == 2019 else int(year - rng.integers(0, 3)),
            "relief": 1.0 if year in (2021, 2022) else rng.choice([0.0, 0.0, 0.4]),
        })  # fmt: skip
    return rows


def earned(row: dict[str, Any], year: int) -> tuple[float, int, float]:
    """Return what is earned or owed, the relief in whole dollars, and the sharing rate."""
    track, benchmark = row["track"], row["benchmark"]
    gross, score = benchmark - row["spent"], row["score"] / 100
    passed = row["met"] or (year >= 2023 and row["alternative"])
    scaled = year <= 2020 or not row["met"]
    rate = RATE[track] * (score if scaled else 1.0) if passed else 0.0
    part = 0.5 if row["half"] else 1.0
    kept = 1.0 if year < 2021 else 0.98  # sequestration was suspended when 2019 was paid
    if gross > 0:
        if gross / benchmark < row["minimum"] / 100:
            low = row["low"] and row["start"] >= 2024 and row["people"] >= 5_000
            rate *= 0.5 if low and track in "ABCDE" else 0.0
        return min(gross * rate * kept, GAIN.get(track, 0.10) * benchmark) * part, 0, rate
    if track in ("T1", "A", "B") or -gross / benchmark < row["minimum"] / 100:
        return 0.0, 0, rate
    share = 0.30
    if track in ("T2", "T3", "EN"):
        most = 0.60 if track == "T2" else 0.75
        share = min(max(1 - RATE[track] * score, 0.40), most) if passed else most
    by_year = {1: 0.05, 2: 0.075}.get(year - row["start"] + 1, 0.10)
    loss = min(-gross * share, LOSS.get(track, by_year) * benchmark) * part
    # what is printed is of the calendar year, of which a half-year has its part
    relief = round(loss * row["relief"] / part)
    owed = loss - relief * part
    return -owed if abs(owed) > 0.5 else 0.0, relief, rate


def published(rows: list[dict[str, Any]], year: int, *, halves: str) -> pd.DataFrame:
    sign = "%" if year in (2022, 2023) else ""
    out = []
    for i, row in enumerate(rows):
        amount, relief, rate = earned(row, year)
        part = 0.5 if row["half"] and halves == "halved" else 1.0
        benchmark, spent = part * row["benchmark"], part * row["spent"]
        cells = {
            "ACO_ID": f"A{1000 + i}", "ACO_Name": f"ACO {i}", "N_AB": f"{row['people']:,}",
            "Current_Start_Date": f"{7 if row['half'] and row['start'] == 2019 else 1}/1/{row['start']}",
            "Sav_rate": f"{100 * (benchmark - spent) / benchmark:.2f}{sign}",
            "MinSavPerc": f"{row['minimum']:.2f}{sign}", "DisAdj": f"{relief:,}" if relief else "-",
            "EarnSaveLoss": f"{round(amount):,}", "Met_QPS": int(row["met"]),
            "QualScore": f"{row['score']:.2f}{sign}", "FinalShareRate": f"{100 * rate:.2f}{sign}",
            "UpdatedBnchmk": f"{row['benchmark'] / row['people']:.0f}",
            "ABtotBnchmk": f"{benchmark:,.0f}", "ABtotExp": f"{spent:,.0f}",
            "Rev_Exp_Cat": "Low Revenue" if row["low"] else "High Revenue",
        }  # fmt: skip
        if year <= 2021:
            cells |= {flag: int(name == row["track"]) for name, flag in FLAGS.items()}
        else:
            cells["Current_Track"] = row["track"]
        if year == 2019:
            cells["Participation_Six_Months"] = int(row["half"])
        if year >= 2023:
            cells["Met_AltQPS"] = "" if row["met"] else int(row["alternative"])
        out.append(cells)
    return pd.DataFrame(out)


@pytest.mark.parametrize(
    ("year", "halves"),
    [(2019, "whole"), (2019, "halved"), *((y, "whole") for y in (2021, 2022, 2023, 2024))],
)
def test_every_track_comes_to_the_dollar(tmp_path: Path, year: int, halves: str) -> None:
    rows = made_up(year, np.random.default_rng(year))
    path = tmp_path / f"PY_Results_{year}.csv"
    published(rows, year, halves=halves).to_csv(path, index=False)
    done = replicate(path, performance_year=year)
    assert set(done.frame["outcome"]) == {"within_1_dollar", "zero"}
    counts = done.table().iloc[0]
    assert counts["paid"] > 25
    # in 2021 and 2022 the pandemic forgave all losses
    assert (counts["owing"] > 10) == (year not in (2021, 2022))


def test_losses_forgiven_in_full_are_not_due_by_the_rounding_of_a_score(tmp_path: Path) -> None:
    row = {"track": "EN", "people": 70_000, "minimum": 0.0, "half": False, "benchmark": 900_000_000,
           "spent": 940_000_000, "score": 61.23456, "met": True, "alternative": False, "low": False,
           "start": 2022, "relief": 1.0}  # fmt: skip
    path = tmp_path / "PY_Results_2023.csv"
    published([row], 2023, halves="whole").to_csv(path, index=False)
    done = replicate(path)
    # 1 - 0.75 x 61.23% of 40,000,000 is 1,368 dollars more than was owed and forgiven
    assert done.frame["computed"][0] == pytest.approx(-0.75 * 0.0000456 * 40e6, abs=1.0)
    assert done.frame["outcome"].tolist() == ["zero"]
    partly = pd.read_csv(path, dtype=str).assign(DisAdj="20,000,000")
    partly.to_csv(path, index=False)
    assert replicate(path).frame["outcome"].tolist() == ["unexplained"]
