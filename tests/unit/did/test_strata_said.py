"""A stratum that cannot be estimated is named, with what to do about it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc

ESTIMATORS = {
    "TWFE": vbc.did.TWFE(),
    "EventStudy": vbc.did.EventStudy(),
    "ETWFE": vbc.did.ETWFE(),
    "SunAbraham": vbc.did.SunAbraham(),
    "Stacked": vbc.did.Stacked(),
    "GroupTime": vbc.did.GroupTime(),
    "Imputation": vbc.did.Imputation(),
    "TwoStage": vbc.did.TwoStage(),
    "Switching": vbc.did.Switching(),
    "GLMDiD": vbc.did.GLMDiD(family="poisson"),
    "TwoPart": vbc.did.TwoPart(),
}


@pytest.fixture(scope="module")
def panel() -> vbc.Panel:
    """Three strata; nobody of the last ever enters."""
    rng = np.random.default_rng(5)
    unit, period = np.divmod(np.arange(120 * 8), 8)
    level = np.array(["low", "middle", "top"])[unit % 3]
    cohort = np.where((unit % 2 == 0) & (level != "top"), 4.0, np.nan)
    frame = pd.DataFrame(
        {
            "unit": unit, "period": period, "level": level, "cohort": cohort,
            "y": rng.poisson(0.7, len(unit)).astype(float),
        }
    )  # fmt: skip
    return vbc.Panel.from_frame(
        frame, unit="unit", period="period", cohort="cohort", strata=["level"], people=False
    )


@pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS.keys())
def test_stratum_without_treated(estimator, panel) -> None:
    with pytest.raises(vbc.DesignError) as caught:
        estimator.fit(panel, vbc.Design(outcome="y"))
    message = str(caught.value)
    assert message.startswith("stratum 'level=top': ")
    assert message.endswith("leave its rows out or merge it with another level.")
    assert message.count("level=top") == 1
