"""
Two-period estimators on the LaLonde data, panel and cross-sections, against Stata drdid.

Printed in the documentation of the Stata package (a page of F. Rios-Avila on DRDID and CSDID), to
seven digits: 425 controls of the experiment, taken as treated, and 15,992 people of the CPS.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.inference import SSC

COVARIATES = ["age", "educ", "black", "married", "nodegree", "hisp", "re74"]
# estimate; errors of followed people, of rows, and of rows clustered by person
PRINTED = {
    "dr": (-871.3271, 396.0211, 410.2751, 396.1635),
    "dr_imp": (-901.2703, 393.6127, 408.3107, 393.6127),
    "reg": (-1300.645, 349.8259, 418.5023, 349.8259),
    "ipw": (-1021.609, 397.5201, 495.464, 397.5201),
}


@pytest.fixture(scope="module")
def rows(shared_dir: Path) -> pd.DataFrame:
    frame = pd.read_csv(shared_dir / "golden/data/lalonde_cps_long.csv", low_memory=False)
    frame = frame[(frame["treated"] == 0) | (frame["sample"] == 2)]
    entry = np.where(frame["experimental"] == 1, 1978.0, np.nan)
    return frame.assign(cohort=entry, row=np.arange(len(frame)))


def fit(rows: pd.DataFrame, method: str, compatible: bool, **how: str) -> tuple[float, float]:
    panel = vbc.Panel.from_frame(rows, period="year", cohort="cohort", **how)
    estimator = vbc.did.GroupTime(method=method, drdid_compat=compatible)
    est = estimator.fit(panel, vbc.Design(outcome="re", covariates=COVARIATES), ssc=SSC.none())
    return est.estimate.item(), est.std_error.item()


CROSS = {"unit": "row", "kind": "repeated_cross_section"}


@pytest.mark.parametrize("method", sorted(PRINTED))
def test_lalonde(rows: pd.DataFrame, method: str) -> None:
    estimate, *errors = PRINTED[method]
    for how, error in zip(({"unit": "id"}, CROSS, {**CROSS, "cluster": "id"}), errors, strict=True):
        found = fit(rows, method, method == "dr" and how["unit"] == "row", **how)
        assert found == pytest.approx((estimate, error), rel=6e-7), how


def test_rows_of_followed_people_have_the_errors_of_people(rows: pd.DataFrame) -> None:
    """
    Cross-section formulas on both rows of each person, clustered by person.

    Nothing but the panel is left, so errors must be those of the panel. The derivative of the
    estimator gives that; the two terms with the other sign in DRDID do not.
    """
    panel = fit(rows, "dr", False, unit="id")
    assert fit(rows, "dr", False, **CROSS, cluster="id") == pytest.approx(panel, rel=1e-9)
    assert fit(rows, "dr", True, **CROSS, cluster="id")[1] == pytest.approx(396.1635, rel=6e-7)
