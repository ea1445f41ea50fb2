"""Gaps between strata use the joint influence, not separate errors."""

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval import equity


@pytest.fixture
def strata() -> vbc.Estimates:
    frame = pd.DataFrame(
        {
            "estimand": "att_simple",
            "outcome": "spend",
            "stratum": [None, "dual=no", "dual=yes", "dual=partial"],
            "estimate": [-10.0, -8.0, -20.0, -11.0],
        }
    )
    psi = np.random.default_rng(5).normal(size=(30, 4))
    return vbc.Estimates(frame=frame, psi=psi, clusters=pd.Index(range(30)))


def test_gap_and_its_error(strata) -> None:
    gaps = equity.gaps(strata, by="dual", reference="no")
    assert gaps.frame["stratum"].tolist() == ["dual=yes - no", "dual=partial - no"]
    assert gaps.estimate.tolist() == pytest.approx([-12.0, -3.0])
    psi = strata.psi
    assert gaps.std_error[0] == pytest.approx(np.linalg.norm(psi[:, 2] - psi[:, 1]), rel=1e-12)


def test_gap_of_event_times_keeps_keys(strata) -> None:
    frame = strata.frame.assign(event_time=[0.0, 0.0, 0.0, 0.0])
    gaps = equity.gaps(strata.with_frame(frame), by="dual", reference="no")
    assert gaps.frame["event_time"].tolist() == [0.0, 0.0]
    assert set(gaps.frame["estimand"]) == {"gap_att_simple"}


def test_equality_is_the_wald_test_of_all_gaps(strata) -> None:
    test = equity.equality(strata, by="dual")
    gaps = equity.gaps(strata, by="dual", reference="no")
    b, v = gaps.estimate, gaps.vcov()
    assert test.statistic == pytest.approx(b @ np.linalg.solve(v, b), rel=1e-10)
    assert test.restrictions == 2


def test_unknown_stratum_and_level(strata) -> None:
    with pytest.raises(vbc.DesignError, match="no stratum `rural`"):
        equity.gaps(strata, by="rural", reference="no")
    with pytest.raises(vbc.DesignError, match="levels"):
        equity.gaps(strata, by="dual", reference="never")
    with pytest.raises(vbc.DesignError, match="only the reference level 'no'"):
        equity.gaps(strata.where(stratum="dual=no"), by="dual", reference="no")
    with pytest.raises(vbc.DesignError, match="Aggregate"):
        equity.equality(vbc.stack([strata, strata]), by="dual")
