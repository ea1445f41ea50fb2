"""
Saturated regressions against R etwfe: its other comparison, no covariate, and Poisson.

Numbers of the package's own tests, inst/tinytest of grantmcdermott/etwfe: test_etwfe.R at 01ff817441
(coefficients), test_emfx.R at 10f502c078 (averages, whose errors R differentiates numerically).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.did import ETWFE, GLMDiD

COHORTS = ("cohort", "period")
NOT_YET = {
    (2004, 2004): (-0.0193723636759116, 0.0223952764912568),
    (2004, 2005): (-0.0783190990620529, 0.030506236091693),
    (2004, 2006): (-0.136078114440309, 0.0354768817979489),
    (2004, 2007): (-0.104707471576594, 0.0338947465597152),
    (2006, 2006): (0.00251386194191313, 0.0199448451562706),
    (2006, 2007): (-0.0391927355917248, 0.0240232361043774),
    (2007, 2007): (-0.0431060328087001, 0.0184422693090335),
}
NEVER = {
    (2004, 2004): (-0.0105032462209509, 0.0233633078987137),
    (2004, 2007): (-0.100811363085397, 0.0345251351219756),
    (2006, 2003): (-0.00376929367371485, 0.0314933678411734),
    (2006, 2004): (0.00275081875051886, 0.0196530028296998),
    (2006, 2007): (-0.041224471546218, 0.0203268606975245),
    (2007, 2003): (0.00330635669251332, 0.0245699429153858),
    (2007, 2005): (0.0310871193896906, 0.0179638358765074),
    (2007, 2007): (-0.0260544107191967, 0.0167358589135634),
}
NEVER_BY_EVENT_TIME = {
    -2: (0.0234649547538384, 0.0145314904277398), 0: (-0.0211467366918433, 0.0113935648352396),
    1: (-0.0533558653415615, 0.0157744281621729), 2: (-0.141080104628566, 0.0322891808795742),
    3: (-0.107544274673025, 0.0329231688783015),
}  # fmt: skip
# teen employment in a county, and the same on the index
POISSON = {
    "response": {
        0: (-25.3497484355494, 15.8862762958862), 1: (1.09175116997388, 40.2952222352926),
        2: (-75.1246321552693, 23.1541376499351), 3: (-101.823979344829, 27.0877431076141),
    },
    "link": {
        0: (-0.0325653634930092, 0.0128503810792558), 1: (-0.0675071046997911, 0.0183966910997271),
        2: (-0.132971344933511, 0.0237253182969748), 3: (-0.117022779216096, 0.0225005664705109),
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def wages(shared_dir: Path) -> vbc.Panel:
    frame = pd.read_csv(shared_dir / "golden/data/mpdta.csv")
    return vbc.Panel.from_frame(
        frame.assign(emp=np.exp(frame["lemp"])), unit="countyreal", period="year",
        cohort="first.treat", never=0,
    )  # fmt: skip


def by_event_time(est: vbc.Estimates) -> pd.DataFrame:
    table = est.aggregate("event_time").tidy()
    return table[table["estimand"] == "att_event_time"].set_index("event_time")


@pytest.mark.parametrize(
    ("comparison", "expected"), [("not_yet_treated", NOT_YET), ("never_treated", NEVER)]
)
def test_coefficients(wages: vbc.Panel, comparison: str, expected: dict) -> None:
    design = vbc.Design(outcome="lemp", comparison=comparison, fixed_effects=COHORTS)
    table = ETWFE().fit(wages, design).tidy().set_index(["cohort", "period"])
    for cell, numbers in expected.items():
        found = table.loc[cell, ["estimate", "std_error"]].tolist()
        assert found == pytest.approx(numbers, abs=1e-11), cell


def test_never_treated_with_a_covariate(wages: vbc.Panel) -> None:
    design = vbc.Design(
        outcome="lemp", covariates=["lpop"], comparison="never_treated", fixed_effects=COHORTS
    )
    table = by_event_time(ETWFE().fit(wages, design))
    for e, (estimate, error) in NEVER_BY_EVENT_TIME.items():
        assert table.loc[e, "estimate"] == pytest.approx(estimate, abs=1e-11), e
        assert table.loc[e, "std_error"] == pytest.approx(error, rel=1e-6), e


@pytest.mark.parametrize("scale", sorted(POISSON))
def test_poisson(wages: vbc.Panel, scale: str) -> None:
    """R stops its iterations at 1e-8 of the deviance: errors differ by up to 1.1e-5 of their size."""
    design = vbc.Design(outcome="emp", covariates=["lpop"])
    table = by_event_time(GLMDiD(scale=scale).fit(wages, design))
    for e, (estimate, error) in POISSON[scale].items():
        assert table.loc[e, "estimate"] == pytest.approx(estimate, rel=3e-8), e
        assert table.loc[e, "std_error"] == pytest.approx(error, rel=1.2e-5), e
