"""
Coverage of the hierarchical posterior over panels with autocorrelated shocks.

Regime: 40 organizations, half of them treated in one of two cohorts, six years, equal sizes, shocks
with autocorrelation .7 and a standard deviation of 1 percent, noise of persons about 0.7 percent.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.bayes import HierarchicalDiD, Limits
from vbceval.bayes.averages import PERCENT

pytestmark = pytest.mark.slow
DESIGN = vbc.Design(outcome="spend")
# a single short fit may miss the limits of a published one by chance
LIMITS = Limits(ess=100)
PERIODS = np.arange(2014, 2020)
LEVEL = 0.8


def panel(rng: np.random.Generator, *, effect: float, n: int = 40) -> vbc.Panel:
    """Effects in percent of a mean near 10,000 dollars."""
    rows = []
    for i in range(n):
        entry = (np.nan, 2017.0, np.nan, 2018.0)[i % 4]
        level, shock = 10_000 + 800 * rng.standard_normal(), rng.standard_normal()
        for j, t in enumerate(PERIODS):
            if j:
                shock = 0.7 * shock + np.sqrt(1 - 0.7**2) * rng.standard_normal()
            percent = 2.0 * j + 1.0 * shock + effect * (t >= entry)
            spend = level + 100 * percent + 6_000 / np.sqrt(8_000) * rng.standard_normal()
            rows.append((i, t, entry, spend, 8_000.0))
    frame = pd.DataFrame(rows, columns=["aco", "year", "entry", "spend", "people"])
    return vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry", weight="people")


def covered(replications: int, *, shocks: str) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the posterior mean, and whether intervals hold the truth, -2 percent."""
    model = HierarchicalDiD(
        alternatives=(),
        person_sd=6_000.0, shocks=shocks, draws=500, chains=2, nodes=512,
        organization_effects=False,
    )  # fmt: skip
    errors, inside = [], []
    for seed in range(replications):
        rng = np.random.default_rng([20_262, seed])
        est = model.fit(panel(rng, effect=-2.0), DESIGN, limits=LIMITS)
        row = est.where(estimand="att_overall", unit_of_measure=PERCENT).tidy(LEVEL).iloc[0]
        base = est.frame["baseline"].iloc[0]
        truth = -2.0 * 10_000 / base
        errors.append(row["estimate"] - truth)
        inside.append(row["conf_low"] < truth < row["conf_high"])
    return np.array(errors), np.array(inside)


def test_intervals_cover_under_autocorrelated_shocks(sim_size) -> None:
    errors, inside = covered(sim_size(200, 4), shocks="ar1")
    mc = errors.std(ddof=1) / np.sqrt(len(errors))
    assert abs(errors.mean()) < 4 * mc
    short = (LEVEL - inside.mean()) / np.sqrt(LEVEL * (1 - LEVEL) / len(inside))
    assert short < 4


def test_intervals_are_too_narrow_without_shocks(sim_size) -> None:
    """Why shocks are on by default."""
    _, inside = covered(sim_size(200, 4), shocks="none")
    assert inside.mean() < LEVEL - 0.1
