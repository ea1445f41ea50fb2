"""
Two-way fixed effects on a treatment that is a share and is taken back, against clubSandwich.

State laws on the drinking age, 1970-1983: ``legal`` is the share of people of 18 to 20 who may
drink. Printed to two decimals (CR2) in jrnold/masteringmetrics, docs/mlda-dd.md at 2a26a40905, with
the data that R clubSandwich carries as MortalityRates.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc

# coefficient and standard error of legal alone, weighted by people, and with the tax on beer
PRINTED = {
    "All": [(10.80, 4.48), (12.41, 4.78), (10.98, 4.60), (1.51, 9.02)],
    "Motor Vehicle": [(7.59, 2.43), (7.50, 2.30), (7.59, 2.51), (3.82, 5.27)],
    "Suicide": [(0.59, 0.57), (1.49, 0.92), (0.45, 0.58), (-3.05, 1.61)],
    "Internal": [(1.33, 1.53), (1.89, 1.83), (1.46, 1.56), (-1.36, 3.02)],
}


@pytest.fixture(scope="module")
def rates(shared_dir: Path) -> pd.DataFrame:
    frame = pd.read_csv(shared_dir / "golden/data/mortalityrates_clubsandwich.csv")
    return frame[frame["year"] <= 1983].assign(entry=np.nan)


def states(frame: pd.DataFrame, **options: str) -> vbc.Panel:
    return vbc.Panel.from_frame(
        frame, unit="state", period="year", cohort="entry", people=False, **options
    )


@pytest.mark.parametrize("cause", sorted(PRINTED))
def test_drinking_age(rates: pd.DataFrame, cause: str) -> None:
    frame = rates[rates["cause"] == cause]
    taxed = vbc.Design(outcome="mrate", covariates=["beertaxa"])
    fits = [
        vbc.did.TWFE(dose="legal").fit(states(frame), vbc.Design(outcome="mrate"), vcov="CR2"),
        vbc.did.TWFE(dose="legal").fit(
            states(frame, weight="pop"), vbc.Design(outcome="mrate"), vcov="CR2",
            working="identity",
        ),
        vbc.did.TWFE(dose="legal", covariate_rows=True).fit(states(frame), taxed, vcov="CR2"),
    ]  # fmt: skip
    found = [(row.estimate, row.std_error) for est in fits for row in est.tidy().itertuples()]
    np.testing.assert_allclose(found, PRINTED[cause], atol=0.0051)
    assert fits[2].frame["term"].tolist() == ["legal", "beertaxa"]
