"""
Balance weights and difference-in-differences on the LaLonde data against printed results.

Propensity odds with comparison of means is the normalised inverse probability estimator, and
inverse probability tilting (entropy balancing) with comparison of means is the improved doubly
robust estimator of Sant'Anna and Zhao (2020). R and Stata packages print both for the earnings of
425 controls of the experiment, taken as treated, and 15,992 people of the CPS.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc

COVARIATES = ["age", "educ", "black", "married", "nodegree", "hisp", "re74"]


@pytest.fixture(scope="module")
def panel(shared_dir: Path) -> vbc.Panel:
    frame = pd.read_csv(shared_dir / "golden" / "data" / "lalonde_cps_long.csv", low_memory=False)
    frame = frame[(frame["treated"] == 0) | (frame["sample"] == 2)]
    frame["cohort"] = np.where(frame["experimental"] == 1, 1978.0, np.nan)
    return vbc.Panel.from_frame(frame, unit="id", period="year", cohort="cohort", people=True)


# estimate, standard error without and with G/(G-1), as printed by Stata drdid (with and without
# its gmm option) and by R DRDID
PRINTED = {
    "drimp": (-901.2703, 393.6127, 393.6247),
    "stdipw": (-1021.609, 397.5201, 397.5322),
}


@pytest.mark.parametrize(
    ("case", "method"), [("drimp", "entropy"), ("drimp", "ipt"), ("stdipw", "logit")]
)
def test_lalonde(case: str, method: str, panel: vbc.Panel) -> None:
    if method == "entropy":
        weights = vbc.balance.entropy(panel, COVARIATES)
    else:
        weights = vbc.balance.propensity(panel, COVARIATES, method=method)
    design = vbc.Design(outcome="re", balance_weights=weights)
    estimate, plain, scaled = PRINTED[case]
    for vcov, error in (("CR0", plain), ("CR1", scaled)):
        est = vbc.did.GroupTime().fit(panel, design, vcov=vcov)
        np.testing.assert_allclose(est.estimate, estimate, rtol=5e-7)
        np.testing.assert_allclose(est.std_error, error, atol=6e-5)


def test_all_digits_of_the_direct_estimators(panel: vbc.Panel) -> None:
    """Against this package's own estimators of the same names, which share no code with weights."""
    for weights, method in (
        (vbc.balance.entropy(panel, COVARIATES), "dr_imp"),
        (vbc.balance.propensity(panel, COVARIATES), "ipw"),
    ):
        direct = vbc.did.GroupTime(method=method).fit(
            panel, vbc.Design(outcome="re", covariates=COVARIATES)
        )
        by_weights = vbc.did.GroupTime().fit(
            panel, vbc.Design(outcome="re", balance_weights=weights)
        )
        np.testing.assert_allclose(by_weights.estimate, direct.estimate, rtol=1e-9)
        np.testing.assert_allclose(by_weights.std_error, direct.std_error, rtol=1e-9)
