"""
Size of tests with few clusters, where no effect exists; bias where effects differ by cohort.

Regime: 20 organizations of unequal size over 6 years, 10 or 4 of them treated from the fourth on;
shocks autocorrelated at .7. Limits are 4 Monte Carlo standard errors.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.rng import generator
from vbceval.inference.wild import Wild
from vbceval.simulate import diagnose, process

pytestmark = pytest.mark.slow
SEED = 20264
DESIGN = vbc.Design(outcome="y")


def draw(rng: np.random.Generator, treated: int, *, n: int = 20, years: int = 6) -> vbc.Panel:
    c, t = np.repeat(np.arange(n), years), np.tile(np.arange(years), n)
    shock = rng.standard_normal((n, years))
    for j in range(1, years):
        shock[:, j] = 0.7 * shock[:, j - 1] + np.sqrt(1 - 0.49) * shock[:, j]
    size = np.exp(0.3 * rng.standard_normal(n))[c]
    frame = pd.DataFrame({
        "c": c, "t": t, "g": np.where(c < treated, 3.0, np.nan), "w": size,
        "y": shock.ravel() + rng.standard_normal(n)[c] + 0.5 * t,
    })  # fmt: skip
    return vbc.Panel.from_frame(frame, unit="c", period="t", cohort="g", weight="w")


def rejections(treated: int, replications: int) -> pd.Series:
    """Share of tests at 5 percent that reject no effect."""
    count = {"CR1": 0, "CR2": 0, "wild": 0}
    for r in range(replications):
        panel = draw(generator(SEED, treated, r), treated)
        for name in ("CR1", "CR2"):
            table = vbc.did.TWFE().fit(panel, DESIGN, vcov=name).tidy()
            count[name] += int(table["p_value"].item() < 0.05)
        est = vbc.did.TWFE().fit(panel, DESIGN, vcov=Wild(draws=399, seed=r))
        count["wild"] += int(est.frame["wild_p_value"].item() < 0.05)
    return pd.Series(count) / replications


def error(share: float, replications: int) -> float:
    return float(np.sqrt(share * (1 - share) / replications))


def test_half_treated(sim_size) -> None:
    size = sim_size(2000, 80)
    found = rejections(10, size)
    limit = 4 * error(0.05, size)
    assert (found[["CR2", "wild"]] < 0.05 + limit).all(), found
    assert (found[["CR2", "wild"]] > 0.05 - limit).all(), found
    assert found["CR1"] < 0.08 + limit, found


def test_four_treated(sim_size) -> None:
    """CR1 rejects too often; CR2 with its degrees of freedom and the wild bootstrap do not."""
    size = sim_size(2000, 80)
    found = rejections(4, size)
    limit = 4 * error(0.05, size)
    assert (found[["CR2", "wild"]] < 0.05 + limit).all(), found
    assert found["CR1"] > found["CR2"], found
    assert found["CR1"] > 0.05, found


def test_effects_that_grow_and_differ(sim_size) -> None:
    """Saturated regressions are unbiased and their intervals cover."""
    design = vbc.Design(outcome="spend")
    estimators = {
        "SunAbraham": lambda p: vbc.did.SunAbraham().fit(p, design).aggregate("event_time"),
        "ETWFE": lambda p: vbc.did.ETWFE().fit(p, design).aggregate("event_time"),
    }
    out = diagnose(process("D2"), estimators, replications=sim_size(500, 20), seed=SEED)
    table = out.table[~(out.table["event_time"] < 0)]
    worst = (table["bias"] / table["bias_mc_se"]).abs()
    assert worst.max() < 4, table.loc[worst.idxmax()].to_dict()
    short = (0.95 - table["coverage"]) / table["coverage_mc_se"]
    assert short.max() < 4, table.loc[short.idxmax()].to_dict()
    assert (table["share_failed"] == 0).all()


def staggered(rng: np.random.Generator, *, n: int = 40, years: int = 8) -> vbc.Panel:
    """Two cohorts, two strata: effect e + 1 on "yes", none on "no"; organizations' trends shared."""
    c, t, yes = (a.ravel() for a in np.meshgrid(range(n), range(years), [0, 1], indexing="ij"))
    entry = np.where(c < 10, 3.0, np.where(c < 20, 5.0, np.nan))
    e = t - entry
    market = np.cumsum(rng.standard_normal((n, years)), axis=1)[c, t]
    effect = np.where(e >= 0, e + 1, 0.0)
    frame = pd.DataFrame({
        "c": c, "t": t, "g": entry, "dual": np.where(yes == 1, "yes", "no"),
        "plain": effect + 0.5 * t + rng.standard_normal((n, years))[c, t],
        "y": effect * yes + market + rng.standard_normal(n)[c] * yes + rng.standard_normal(len(c)),
    })  # fmt: skip
    return vbc.Panel.from_frame(frame, unit="c", period="t", cohort="g", strata=["dual"])


def test_event_study_stacked_and_triple_differences(sim_size) -> None:
    """Unbiased and covering where their assumptions hold: effects equal across cohorts."""
    size = sim_size(500, 15)
    plain = vbc.Design(outcome="plain", window=(-3, 2))
    fits = {
        "event study": lambda p: vbc.did.EventStudy().fit(p, plain, vcov="CR2"),
        "stacked": lambda p: vbc.did.Stacked().fit(p, plain, vcov="CR2"),
        "triple": lambda p: (
            vbc.did.TripleDifference(by="dual")
            .fit(p, DESIGN, vcov="CR2")
            .aggregate("event_time", window=(0, 2))
        ),
    }
    rows = []
    for r in range(size):
        panel = staggered(generator(SEED, "staggered", r))
        for name, fit in fits.items():
            table = fit(panel).tidy()
            table = table[table["event_time"].between(0, 2) & table["stratum"].isna()]
            assert sorted(table["event_time"]) == [0, 1, 2], name
            truth = table["event_time"] + 1
            covers = (table["conf_low"] <= truth) & (truth <= table["conf_high"])
            rows += [{"name": name, "e": e, "error": x, "covers": k} for e, x, k in
                     zip(table["event_time"], table["estimate"] - truth, covers, strict=True)]  # fmt: skip
    found = pd.DataFrame(rows).groupby(["name", "e"])
    bias = found["error"].mean() / (found["error"].std() / np.sqrt(size))
    assert bias.abs().max() < 4, bias
    coverage = found["covers"].mean()
    assert coverage.min() > 0.95 - 4 * error(0.95, size), coverage
