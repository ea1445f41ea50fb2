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
