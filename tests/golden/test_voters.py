"""A cross-section through the public names, against R clubSandwich and fwildclusterboot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.inference import SSC, Wild

DESIGN = vbc.Design(
    outcome="proposition_vote", covariates=["log_income", "Q1", "Q2"], fixed_effects=()
)


@pytest.fixture(scope="module")
def voters(shared_dir: Path) -> vbc.Panel:
    needed = ["proposition_vote", "treatment", "log_income", "Q1_immigration", "Q2_defense"]
    frame = pd.read_csv(shared_dir / "golden/data/voters.csv").dropna(subset=needed)
    frame = frame.assign(
        Q1="q" + frame["Q1_immigration"].astype(str), Q2="q" + frame["Q2_defense"].astype(str),
        year=2020, entry=np.nan,
    )  # fmt: skip
    return vbc.Panel.from_frame(
        frame, unit="ID", period="year", cohort="entry", cluster="group_id1", people=False
    )


def expected(shared_dir: Path, case: str) -> dict[str, dict]:
    spec = json.loads((shared_dir / "golden/expected" / f"{case}.json").read_text())
    return {row["term"]: row for row in spec["expected"]}


@pytest.mark.parametrize(
    ("name", "vcov", "ssc"),
    [("CR0", "CR0", None), ("CR1", "CR1", SSC.cluster()), ("CR1S", "CR1", SSC.statsmodels()),
     ("CR2", "CR2", None), ("CR3", "CR3", None)],
)  # fmt: skip
def test_cluster_robust(shared_dir, voters, name, vcov, ssc) -> None:
    wanted = expected(shared_dir, "r_cr2_voters")
    est = vbc.did.TWFE(dose="treatment", covariate_rows=True).fit(
        voters, DESIGN, vcov=vcov, ssc=ssc
    )
    table = est.tidy().set_index("term")
    for term in ("treatment", "log_income"):
        row = wanted[f"{term} {name}"]
        assert table.loc[term, "estimate"] == pytest.approx(row["estimate"], rel=1e-10)
        assert table.loc[term, "std_error"] == pytest.approx(row["se"], rel=1e-9)
        if name in ("CR2", "CR3"):
            assert table.loc[term, "df"] == pytest.approx(row["df_satterthwaite"], rel=1e-8)
            assert table.loc[term, "p_value"] == pytest.approx(row["p"], rel=1e-7)


@pytest.mark.parametrize("weights", ["rademacher", "webb"])
def test_wild_bootstrap(shared_dir, voters, weights) -> None:
    row = expected(shared_dir, "wild_voters")["treatment"]
    est = vbc.did.TWFE(dose="treatment").fit(
        voters, DESIGN, vcov=Wild(weights=weights), ssc=SSC.statsmodels()
    )
    found = est.tidy().iloc[0]
    assert found["estimate"] == pytest.approx(row["estimate"], abs=6e-4)
    assert found["estimate"] / found["std_error"] == pytest.approx(row["t"], abs=6e-4)
    assert found["p_value"] == pytest.approx(row["p"], abs=1e-3)
    assert found["conf_low"] == pytest.approx(row["lower"], abs=2e-3)
    assert found["conf_high"] == pytest.approx(row["upper"], abs=2e-3)
