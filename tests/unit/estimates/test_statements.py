"""Statements about a posterior against the normal law, and what they refuse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vbceval import equity
from vbceval.core.errors import DesignError, EstimationError
from vbceval.estimates import Estimates

SIZE = 40_000


def posterior(*, units: tuple[str, ...] = ("percent",), ess: float | None = None) -> Estimates:
    """Normal(-1, 0.5) and, where two units are asked, the same times 100."""
    draws = -1.0 + 0.5 * stats.norm.ppf((np.arange(SIZE) + 0.5) / SIZE)
    frame = pd.DataFrame({"estimand": "att_overall", "unit_of_measure": units, "estimate": -1.0})
    meta = {} if ess is None else {"convergence": {"ess_bulk": 2 * ess, "ess_tail": ess}}
    samples = np.column_stack([draws * 100.0**k for k in range(len(units))])
    return Estimates(frame=frame, samples=samples, interval="credible", meta=meta)


def test_statements_are_those_of_the_normal_law() -> None:
    table = posterior().statements(thresholds=(0.0, -1.5), rope=(-0.5, 0.5))
    found = table.set_index(["statement", "threshold"])["value"]
    law = stats.norm(-1.0, 0.5)
    assert found["below", 0.0] == pytest.approx(law.cdf(0), abs=1e-4)
    assert found["below", -1.5] == pytest.approx(law.cdf(-1.5), abs=1e-4)
    assert found["direction", 0.0] == found["below", 0.0]
    assert found["in_rope", 0.5] == pytest.approx(law.cdf(0.5) - law.cdf(-0.5), abs=1e-4)
    # mean of max(0, x - t) of a normal law, t = -1.5: one standard deviation below the mean
    kept = 0.5 * (stats.norm.pdf(-1) + 1.0 * stats.norm.cdf(1))
    assert found["loss_if_kept", -1.5] == pytest.approx(kept, abs=1e-4)
    # what is lost one way less what is lost the other is the distance of the mean
    assert found["loss_if_kept", -1.5] - found["loss_if_dropped", -1.5] == pytest.approx(0.5)


def test_monte_carlo_errors_count_effective_draws() -> None:
    few, many = (posterior(ess=n).statements(thresholds=(-1.0,)) for n in (100.0, 2_500.0))
    below = few["statement"] == "below"
    assert few.loc[below, "mcse"].iloc[0] == pytest.approx(0.05, rel=0.02)
    assert many.loc[below, "mcse"].iloc[0] == pytest.approx(0.01, rel=0.02)
    # of two parts the one with fewer draws counts
    parts = {"any": {"ess_bulk": 900.0}, "if_any": {"ess_bulk": 500.0, "ess_tail": 100.0}}
    both = posterior()
    both.meta["convergence"] = parts
    assert both.statements(thresholds=(-1.0,))["mcse"].iloc[0] == pytest.approx(0.05, rel=0.02)
    # no probability is known without error
    sure = posterior(ess=100.0).statements(thresholds=(50.0,))
    assert sure.loc[sure["statement"] == "below", ["value", "mcse"]].to_numpy().ravel() == (
        pytest.approx([1.0, 0.0098], abs=1e-4)
    )


def test_thresholds_need_one_unit_and_a_posterior() -> None:
    both = posterior(units=("percent", "USD"))
    assert len(both.statements()) == 8
    with pytest.raises(DesignError, match="2 units"):
        both.statements(thresholds=(-1.0,))
    with pytest.raises(DesignError, match="lower end"):
        posterior().statements(rope=(1.0, -1.0))
    plain = Estimates(frame=both.frame, covariance=np.eye(2))
    with pytest.raises(EstimationError, match="no posterior"):
        plain.statements()


def strata(*, unit: str = "USD", baseline: bool = True) -> Estimates:
    """Dual patients cost 3,000 more before entry; their effect is 100 lower, give or take 100."""
    rng = np.random.default_rng(5)
    samples = np.column_stack([rng.normal(-200, 80, SIZE), rng.normal(-100, 60, SIZE)])
    frame = pd.DataFrame(
        {"estimand": "att_stratum", "stratum": ["dual=yes", "dual=no"], "unit_of_measure": unit,
         "estimate": samples.mean(axis=0), "baseline": [12_000.0, 9_000.0]}
    )  # fmt: skip
    frame = frame if baseline else frame.drop(columns="baseline")
    return Estimates(frame=frame, samples=samples, interval="credible")


def test_a_gap_narrows_with_the_probability_that_the_larger_mean_falls_more() -> None:
    row = equity.narrowing(strata(), by="dual", reference="no").iloc[0]
    assert row["gap_before"] == 3_000.0
    # the difference of effects is normal, -100 with standard deviation 100
    assert row["narrows"] == pytest.approx(stats.norm.cdf(1.0), abs=4 * row["mcse"])
    assert row["percent_closed"] == pytest.approx(100 * 100 / 3_000, abs=0.05)
    # the same seen from the other side
    other = equity.narrowing(strata(), by="dual", reference="yes").iloc[0]
    assert (other["gap_before"], other["narrows"]) == (-3_000.0, row["narrows"])
    for bad in (strata(unit="percent"), strata(baseline=False)):
        with pytest.raises(DesignError, match="in the unit of the outcome"):
            equity.narrowing(bad, by="dual", reference="no")


def test_every_gap_is_before_entry_that_of_its_own_rows() -> None:
    one = strata()
    frame = pd.concat(
        [one.frame.assign(outcome="spend"),
         one.frame.assign(outcome="visits", baseline=[40.0, 30.0], estimate=one.estimate / 300)],
        ignore_index=True,
    )  # fmt: skip
    samples = np.hstack([one.draws(), one.draws() / 300])
    both = Estimates(frame=frame, samples=samples, interval="credible")
    found = equity.narrowing(both, by="dual", reference="no").set_index("outcome")
    assert found["gap_before"].to_dict() == {"spend": 3_000.0, "visits": 10.0}
    assert found.loc["spend", "narrows"] == found.loc["visits", "narrows"]
    lost = one.with_frame(one.frame.assign(baseline=[np.nan, 9_000.0]))
    with pytest.raises(DesignError, match="in column `baseline`"):
        equity.narrowing(lost, by="dual", reference="no")
