"""
Coverage of market totals with estimated shares, and size of placebos in space.

Regime of totals: 80 markets of log-normal size, 32 treated, attributed shares that vary over markets
and grow with their size, other effects on the attributed than on others. Truth is the share-weighted
effect in the law that markets are drawn from. Regime of placebos: 3 treated of 22 clusters, heavy
tails. Limits are 4 Monte Carlo standard errors.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.rng import generator
from vbceval.inference import Randomization

pytestmark = pytest.mark.slow
SEED = 20271
SPEND = vbc.Design(outcome="spend")
ATTRIBUTED, OTHERS = -100.0, -30.0


def markets(rng: np.random.Generator) -> pd.DataFrame:
    z = rng.standard_normal(80)
    size = np.exp(0.4 * z)
    # larger markets have more attributed people, so that the share of all is not the mean share
    part = 0.3 + 0.15 * np.tanh(z) + 0.05 * rng.uniform(-1, 1, 80)
    rows = pd.DataFrame(
        [(m, t, a) for m in range(80) for a in ("yes", "no") for t in range(4)],
        columns=["market", "year", "attributed"],
    )
    m, own = rows["market"].to_numpy(), (rows["attributed"] == "yes").to_numpy()
    rows["people"] = size[m] * np.where(own, part[m], 1 - part[m])
    rows["entry"] = np.where(m < 32, 2.0, np.nan)
    shock = rng.normal(0, 40, (80, 4))
    rows["spend"] = shock[m, rows["year"]] + rng.normal(0, 30, len(rows))
    rows["spend"] += np.where(own, ATTRIBUTED, OTHERS) * (rows["year"] >= rows["entry"])
    return rows


def true_share() -> float:
    z = np.linspace(-7, 7, 20_001)
    mass = np.exp(0.4 * z - z**2 / 2)
    return float(mass @ (0.3 + 0.15 * np.tanh(z)) / mass.sum())


def test_totals_cover_with_the_error_of_their_shares(sim_size) -> None:
    size = sim_size(1000, 30)
    truth = true_share() * ATTRIBUTED + (1 - true_share()) * OTHERS
    found = []
    for r in range(size):
        data = vbc.Panel.from_frame(
            markets(generator(SEED, "total", r)), unit="market", period="year", cohort="entry",
            strata=["attributed"], weight="people",
        )  # fmt: skip
        est = vbc.did.TWFE().fit(data, SPEND)
        share = vbc.sensitivity.attributed_share(data, SPEND, by="attributed", level="yes")
        sides = [est.where(stratum=f"attributed={x}") for x in ("yes", "no")]
        total = vbc.sensitivity.spillover(*sides, shares=share).where(population="all")
        row = total.tidy().iloc[0]
        found.append(
            (row["estimate"], row["std_error"], row["conf_low"] < truth < row["conf_high"])
        )
    estimate, error, covered = np.array(found, dtype=float).T
    assert abs(estimate.mean() - truth) < 4 * estimate.std(ddof=1) / np.sqrt(size)
    assert abs(covered.mean() - 0.95) < 0.02 + 4 * np.sqrt(0.95 * 0.05 / size)
    assert abs(error.mean() / estimate.std(ddof=1) - 1) < 0.05 + 4 / np.sqrt(2 * size)


OUTCOMES = [f"y{i}" for i in range(40)]


def mean_changes(panel: vbc.Panel, design: vbc.Design) -> vbc.Estimates:
    """Differences in mean changes of many outcomes: fast, and an estimator like any other."""
    y = panel.frame[OUTCOMES].to_numpy()
    change = y[1::2] - y[::2]
    on = panel.frame[panel.cohort].notna().to_numpy()[::2]
    value = change[on].mean(axis=0) - change[~on].mean(axis=0)
    variance = sum(change[s].var(axis=0, ddof=1) / s.sum() for s in (on, ~on))
    frame = pd.DataFrame({"estimand": "att", "outcome": OUTCOMES, "estimate": value})
    return vbc.Estimates(frame=frame, covariance=np.diag(variance))


@pytest.mark.parametrize("statistic", ["t", "estimate"])
def test_placebos_in_space_have_their_size(statistic, sim_size) -> None:
    size = sim_size(100, 6)
    p_values = []
    for r in range(size):
        rng = generator(SEED, "space", r)
        rows = pd.DataFrame(rng.standard_t(3, (44, 40)), columns=OUTCOMES)
        rows = rows.assign(aco=np.repeat(np.arange(22), 2), year=[0, 1] * 22)
        rows["entry"] = np.where(rows["aco"] < 3, 1.0, np.nan)
        data = vbc.Panel.from_frame(rows, unit="aco", period="year", cohort="entry")
        law = Randomization(draws=39, statistic=statistic, seed=r)
        found = vbc.sensitivity.placebo_in_space(
            mean_changes, data, vbc.Design(outcome="y0"), law=law
        )
        p_values.append(found.frame["placebo_p_value"])
    rejected = np.mean(np.concatenate(p_values) <= 0.05)
    # placebos are compared with 16 others and the effect with 19, so size is not exact
    assert abs(rejected - 0.055) < 0.02 + 4 * np.sqrt(0.05 * 0.95 / (size * 40)), rejected
