"""
Coverage of robust sets where trends do differ, at the border of what is assumed.

Regime: normal estimates with the covariance of 4 leads and 3 effects of one cohort, correlated
through the reference period. Limits are 4 Monte Carlo standard errors.
"""

from __future__ import annotations

import numpy as np
import pytest

from vbceval.core.rng import generator
from vbceval.sensitivity import from_numbers
from vbceval.sensitivity.event_path import event_path
from vbceval.sensitivity.restrictions import Restriction
from vbceval.sensitivity.robust_set import Problem

pytestmark = pytest.mark.slow
SEED = 2023
N_PRE, N_POST = 4, 3
# differences from the reference share its noise
VCOV = np.eye(N_PRE + N_POST) + 1.0
EFFECT = np.array([1.0, 2.0, 3.0])

# the worst trends: after entry they go one way at the largest speed that is allowed
CASES = {
    "one large change before entry": (
        "relative_magnitudes", 1.0, {}, [0.0, 0.0, 0.0, -6.0], [6.0, 12.0, 18.0],
    ),
    "no change before entry": (
        "relative_magnitudes", 1.0, {}, [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0],
    ),
    "change of slope": ("smoothness", 1.0, {}, [-4.0, -3.0, -2.0, -1.0], [2.0, 5.0, 9.0]),
    "change of slope, known sign": (
        "smoothness", 1.0, {"bias": "positive"}, [-4.0, -3.0, -2.0, -1.0], [2.0, 5.0, 9.0],
    ),
    "relative change of slope": (
        "relative_smoothness", 1.0, {}, [0.0, 0.0, 0.0, -5.0], [15.0, 40.0, 75.0],
    ),
    "relative, known direction": (
        "relative_magnitudes", 0.5, {"monotone": "increasing"}, [-8.0, -4.0, -4.0, 0.0],
        [2.0, 4.0, 6.0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("method", ["C-LF", "conditional"])
def test_coverage_under_violations(case: str, method: str, sim_size) -> None:
    bound, m, shape, before, after = CASES[case]
    size = sim_size(2000, 150)
    delta = np.array([*before, *after])
    truth = delta + np.append(np.zeros(N_PRE), EFFECT)
    restriction = Restriction(bound=bound, **shape)  # type: ignore[arg-type]  # from a table
    assert any(
        (box.a @ delta <= box.d + 1e-9).all() for box in restriction.polyhedra(m, N_PRE, N_POST)
    )
    target = np.array([0.0, 1.0, 0.0])
    rng = generator(SEED, case)
    covered = 0
    for beta in rng.multivariate_normal(truth, VCOV, size):
        problem = Problem(
            path=event_path(from_numbers(beta, VCOV, pre=N_PRE)), target=target,
            restriction=restriction, method=method, alpha=0.05, first_share=0.1,  # type: ignore[arg-type]  # from a table
        )  # fmt: skip
        covered += problem.accepts(m, float(target @ EFFECT))
    share = covered / size
    assert share >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / size), share


def test_fixed_length_interval_covers_exactly_at_the_worst_trend(sim_size) -> None:
    """Its coverage is the level at its worst bias, and more without bias."""
    size = sim_size(20_000, 2000)
    target = np.array([1.0, 0.0, 0.0])
    problem = Problem(
        path=event_path(from_numbers(np.ones(7), VCOV, pre=N_PRE)), target=target,
        restriction=Restriction(bound="smoothness"), method="FLCI", alpha=0.05, first_share=0.1,
    )  # fmt: skip
    m = 0.7
    interval = problem.fixed_length(m, 0.05)
    draws = generator(SEED, "fixed").multivariate_normal(np.zeros(7), VCOV, size)
    error = draws @ interval.weights
    for bias, exact in ((interval.bias, True), (0.0, False)):
        share = float((np.abs(error + bias) <= interval.half_length).mean())
        limit = 4 * np.sqrt(0.95 * 0.05 / size)
        assert share >= 0.95 - limit
        assert not exact or share <= 0.95 + limit


def test_ignoring_the_trend_does_not_cover(sim_size) -> None:
    """The conventional interval misses in the same regime: the sets are not wide for nothing."""
    size = sim_size(2000, 300)
    bound, _, _, before, after = CASES["one large change before entry"]
    assert bound == "relative_magnitudes"
    truth = np.array([*before, *after]) + np.append(np.zeros(N_PRE), EFFECT)
    draws = generator(SEED, "plain").multivariate_normal(truth, VCOV, size)
    covered = np.abs(draws[:, N_PRE + 1] - EFFECT[1]) <= 1.96 * np.sqrt(VCOV[5, 5])
    assert covered.mean() < 0.05
