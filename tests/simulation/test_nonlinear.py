"""
Bias and coverage of nonlinear, distributional and instrumental estimators.

Regime: 60 to 80 organizations, half of them treated in two cohorts, outcomes correlated within
them. Limits are 4 Monte Carlo standard errors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.rng import generator
from vbceval.did import IV, ChangesInChanges, GLMDiD, TwoPart

pytestmark = pytest.mark.slow
SEED = 20265
KEYS = {"unit": "id", "period": "t", "cohort": "g", "cluster": "org"}


def people(rng: np.random.Generator, orgs: int, each: int, years: int = 4) -> pd.DataFrame:
    """People seen once, in organizations that enter in year 2 or 3, or never."""
    org = np.tile(np.repeat(np.arange(orgs), each), years)
    t = np.repeat(np.arange(years), orgs * each)
    g = np.array([2.0, 3.0, np.nan, np.nan])[org % 4]
    level = 0.2 * rng.standard_normal(orgs)[org] + 0.1 * rng.standard_normal((orgs, years))[org, t]
    return pd.DataFrame({
        "id": np.arange(len(org)), "org": org, "t": t, "g": g, "on": t >= g,
        "index": level + 0.1 * t + 0.2 * (org % 4 == 0),
    })  # fmt: skip


def panel(d: pd.DataFrame) -> vbc.Panel:
    return vbc.Panel.from_frame(d, **KEYS, kind="repeated_cross_section")


def check(draws: Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray]], size: int) -> None:
    """Each draw gives errors of estimates, and ends of their intervals less the truth."""
    error, low, high = (np.array(x) for x in zip(*[draws(r) for r in range(size)], strict=True))
    bias, spread = error.mean(axis=0), error.std(axis=0, ddof=1)
    assert (np.abs(bias) < 4 * spread / np.sqrt(size)).all(), (bias, spread / np.sqrt(size))
    coverage = ((low <= 0) & (high >= 0)).mean(axis=0)
    assert (coverage > 0.95 - 4 * np.sqrt(0.95 * 0.05 / size)).all(), coverage


def against(
    est: vbc.Estimates, truth: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tidy = est.tidy(level)
    return est.estimate - truth, tidy["conf_low"] - truth, tidy["conf_high"] - truth


@pytest.mark.parametrize("family", ["poisson", "logit"])
def test_nonlinear_means(sim_size, family) -> None:
    """Treated rows differ in their level, so the truth is that of the rows of each draw."""
    size = sim_size(1000, 40)
    mean = np.exp if family == "poisson" else lambda eta: 1 / (1 + np.exp(-eta))

    def draw(r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = generator(SEED, family, r)
        d = people(rng, 60, 30)
        with_, without = mean(d["index"] - 0.3), mean(d["index"])
        mu = np.where(d["on"], with_, without)
        d["y"] = rng.poisson(mu) if family == "poisson" else (rng.random(len(d)) < mu)
        est = GLMDiD(family=family, weights_random=True).fit(panel(d), vbc.Design(outcome="y"))
        truth = float((with_ - without)[d["on"]].mean())
        return against(est.aggregate("simple"), np.array([truth]))

    check(draw, size)


def _parts(d: pd.DataFrame, p1, p0, m1, m0) -> np.ndarray:
    """Parts from the means of each cohort and period, which is what regressions on them see."""
    rows = d.assign(p1=p1, p0=p0, y1=p1 * m1, y0=p0 * m0)[d["on"]]
    cell = rows.groupby(["g", "t"])
    mean, share = cell[["p1", "p0", "y1", "y0"]].mean(), cell.size() / len(rows)
    level1, level0 = mean["y1"] / mean["p1"], mean["y0"] / mean["p0"]
    extensive = (mean["p1"] - mean["p0"]) * (level1 + level0) / 2
    return np.array([share @ extensive, share @ (mean["y1"] - mean["y0"] - extensive)])


def test_two_parts(sim_size) -> None:
    def draw(r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = generator(SEED, "two", r)
        d = people(rng, 60, 40)
        eta = d["index"].to_numpy()
        p1, p0 = (1 / (1 + np.exp(-(0.5 + eta + s))) for s in (-0.3, 0.0))
        m1, m0 = (np.exp(5 + eta + s) for s in (-0.1, 0.0))
        on = d["on"].to_numpy()
        some = rng.random(len(d)) < np.where(on, p1, p0)
        d["y"] = some * np.where(on, m1, m0) * rng.gamma(1.5, 1 / 1.5, len(d))
        est = TwoPart(weights_random=True).fit(panel(d), vbc.Design(outcome="y"))
        simple = est.aggregate("simple")
        parts = simple.where(outcome=["y, extensive part", "y, intensive part"])
        return against(parts, _parts(d, p1, p0, m1, m0))

    check(draw, sim_size(1000, 30))


def test_changes_in_changes(sim_size) -> None:
    """Quantiles move by a transformation of the comparison group; treated start elsewhere."""

    def draw(r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = generator(SEED, "cic", r)
        n = 80 * 12
        org, t = np.repeat(np.arange(80), 12), np.repeat([0, 1], n)
        own = rng.standard_normal(n) + 0.3 * rng.standard_normal(80)[org] + 0.3 * (org % 2)
        e = 0.6 * np.tile(own, 2) + 0.6 * rng.standard_normal(2 * n)
        treated = np.tile(org % 2 == 1, 2)
        y = np.exp(np.where(t == 0, 5 + 0.7 * e, 5.2 + 0.9 * e)) - 30.0 * (treated & (t == 1))
        d = pd.DataFrame({
            "id": np.tile(np.arange(n), 2), "org": np.tile(org, 2), "t": t,
            "g": np.where(treated, 1.0, np.nan), "y": y,
        })  # fmt: skip
        followed = vbc.Panel.from_frame(d, **KEYS)
        est = ChangesInChanges(quantiles=(0.25, 0.5, 0.75)).fit(followed, vbc.Design(outcome="y"))
        return against(est, np.full(4, -30.0))

    check(draw, sim_size(1000, 30))


def markets(rng: np.random.Generator, strength: float) -> pd.DataFrame:
    """Markets assigned by lot in blocks of four; what they do also depends on their outcome."""
    orgs, years = 60, 4
    org, t = np.repeat(np.arange(orgs), years), np.tile(np.arange(years), orgs)
    lot = np.concatenate([rng.permutation(4) for _ in range(orgs // 4)])
    on = (lot[org] < 2) & (t >= 2)
    shock = 0.6 * rng.standard_normal(orgs)[org] * t + rng.standard_normal(len(org))
    dose = (strength * on + 0.4 * shock + 0.5 * rng.standard_normal(len(org))) * (t >= 2)
    return pd.DataFrame({
        "id": org, "org": org, "t": t, "g": np.where(lot[org] < 2, 2.0, np.nan),
        "block": org // 4, "dose": dose, "y": 3 * rng.standard_normal(orgs)[org] + shock - 2 * dose,
    })  # fmt: skip


def test_strong_instruments(sim_size) -> None:
    """With effects of 15 blocks and 60 markets CR1 is some 10 percent short; CR2 is not."""

    def draw(r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        d = markets(generator(SEED, "strong", r), 3.0)
        est = IV(dose="dose", blocks=["block"]).fit(
            vbc.Panel.from_frame(d, **KEYS), vbc.Design(outcome="y"), vcov="CR2"
        )
        return against(est.where(estimand="late"), np.array([-2.0]))

    check(draw, sim_size(1000, 30))


def test_anderson_rubin_sets_cover_with_weak_instruments(sim_size) -> None:
    size = sim_size(1000, 80)
    inside = []
    for r in range(size):
        d = markets(generator(SEED, "weak", r), 0.4)
        est = IV(dose="dose").fit(vbc.Panel.from_frame(d, **KEYS), vbc.Design(outcome="y"))
        row = est.where(estimand="late").frame.iloc[0]
        between = row["ar_low"] <= -2.0 <= row["ar_high"]
        inside.append(between if row["ar_set"] != "outside" else not between)
    coverage = np.mean(inside)
    limit = 4 * np.sqrt(0.95 * 0.05 / size)
    assert abs(coverage - 0.95) < limit, coverage
