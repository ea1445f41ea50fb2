"""Effects whose sampling error nothing shows: it is missing, and not the rounding of outcomes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc

KEYS = {"unit": "unit", "period": "period", "cohort": "cohort"}
ESTIMATORS = {
    "followed": vbc.did.GroupTime(),
    "cross-section formulas": vbc.did.GroupTime(method="reg", unbalanced="rc"),
    "Imputation": vbc.did.Imputation(),
    "TwoStage": vbc.did.TwoStage(leads=False),
    "Switching": vbc.did.Switching(effects=2, placebos=0),
}


def draw(cohorts: list[float]) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    u = np.repeat(np.arange(len(cohorts)), 5)
    return pd.DataFrame({
        "unit": u, "period": np.tile(np.arange(1.0, 6.0), len(cohorts)),
        "cohort": np.array(cohorts)[u], "w": rng.uniform(0.5, 2, len(cohorts))[u],
        "y": 1e4 + 0.1 + 100 * rng.standard_normal(len(u)),
    })  # fmt: skip


def shown(estimates: vbc.Estimates) -> pd.DataFrame:
    return estimates.tidy()[["std_error", "conf_low", "conf_high", "p_value"]]


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("vcov", ["CR0", "CR1"])
def test_one_treated_and_one_comparison_cluster(name: str, vcov: str) -> None:
    panel = vbc.Panel.from_frame(draw([3.0, np.nan]), **KEYS, weight="w")
    found = ESTIMATORS[name].fit(panel, vbc.Design(outcome="y"), vcov=vcov)
    assert np.isfinite(found.estimate).all()
    assert shown(found).isna().all().all()
    more = vbc.Panel.from_frame(draw([3.0, 3.0, np.nan, np.nan]), **KEYS, weight="w")
    again = ESTIMATORS[name].fit(more, vbc.Design(outcome="y"), vcov=vcov)
    assert shown(again).notna().all().all()


def test_a_lead_that_is_zero_by_construction() -> None:
    """A cohort alone in a period before entry, or with one such period, is fitted exactly there."""
    frame = draw([3.0] * 3 + [4.0] * 3 + [np.nan] * 4)
    frame = frame[(frame["period"] > 1) | (frame["cohort"] == 4)]
    panel = vbc.Panel.from_frame(frame, **KEYS, weight="w")
    found = vbc.did.TwoStage().fit(panel, vbc.Design(outcome="y"))
    alone = "(cohort == 4 and period == 1) or (cohort == 3 and period == 2)"
    np.testing.assert_allclose(found.where(alone).estimate, 0.0, atol=1e-9)
    assert shown(found.where(alone)).isna().all().all()
    assert shown(found.where(f"not ({alone})")).notna().all().all()
