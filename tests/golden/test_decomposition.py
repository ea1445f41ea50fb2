"""The decomposition of two-way fixed effects against R bacondecomp."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import vbceval as vbc
from vbceval.sensitivity import bacon


@pytest.fixture(scope="module")
def case(shared_dir: Path) -> dict[str, dict[str, float]]:
    path = shared_dir / "golden" / "expected" / "bacon_math_reform.json"
    return {row["term"]: row for row in json.loads(path.read_text())["expected"]}


@pytest.fixture(scope="module")
def found(shared_dir: Path) -> vbc.sensitivity.Decomposition:
    rows = pd.read_csv(shared_dir / "golden" / "data" / "math_reform.csv")
    panel = vbc.Panel.from_frame(
        rows.rename(columns={"class": "year"}), unit="state", period="year", cohort="reformyr_math"
    )
    return bacon(panel, vbc.Design(outcome="incearn_ln"))


def test_summary(case: dict[str, dict[str, float]], found: vbc.sensitivity.Decomposition) -> None:
    names = {
        "earlier_vs_later": "earlier_vs_later", "later_vs_earlier": "later_vs_earlier",
        "treated_vs_untreated": "treated_vs_never",
    }  # fmt: skip
    table = found.summary().set_index("comparison")
    for theirs, ours in names.items():
        assert table.loc[ours, "weight"] == pytest.approx(
            case[f"weight.{theirs}"]["estimate"], abs=6e-6
        )
        assert table.loc[ours, "estimate"] == pytest.approx(
            case[f"avg.{theirs}"]["estimate"], abs=6e-6
        )


def test_single_comparisons(
    case: dict[str, dict[str, float]], found: vbc.sensitivity.Decomposition
) -> None:
    table = found.comparisons.set_index(["cohort", "comparison_cohort"])
    for treated, other in ((1987.0, 1985.0), (1985.0, 1987.0)):
        expected = case[f"2x2 treated {treated:g} untreated {other:g}"]
        row = table.loc[(treated, other)]
        assert row["estimate"] == pytest.approx(expected["estimate"], abs=6e-9)
        assert row["weight"] == pytest.approx(expected["weight"], abs=6e-10)


@pytest.fixture(scope="module")
def castle(shared_dir: Path) -> vbc.Panel:
    """Log homicide in 50 states; a law in force in any part of a year counts for it."""
    rows = pd.read_csv(shared_dir / "golden" / "data" / "castle_bacon.csv")
    rows["entry"] = rows["state"].map(rows[rows["post"] == 1].groupby("state")["year"].min())
    return vbc.Panel.from_frame(rows, unit="state", period="year", cohort="entry")


def test_castle_doctrine(castle: vbc.Panel) -> None:
    """As R bacondecomp prints it: vignette "bacon" on CRAN, index.ipynb of evanjflack/bacondecomp."""
    design = vbc.Design(outcome="l_homicide")
    found = bacon(castle, design)
    table = found.summary().set_index("comparison")
    printed = {
        "earlier_vs_later": (0.05976, -0.00554), "later_vs_earlier": (0.03190, 0.07032),
        "treated_vs_never": (0.90834, 0.08796),
    }  # fmt: skip
    for name, numbers in printed.items():
        assert table.loc[name, ["weight", "estimate"]].tolist() == pytest.approx(numbers, abs=6e-6)
    largest = found.comparisons.sort_values("weight").iloc[-1]
    assert largest["cohort"] == 2006
    assert largest["estimate"] == pytest.approx(0.06823587, abs=6e-9)
    assert largest["weight"] == pytest.approx(0.5923947, abs=6e-8)
    two_way = vbc.did.TWFE().fit(castle, design).estimate.item()
    assert two_way == pytest.approx(0.0818116169306475, abs=1e-13)
