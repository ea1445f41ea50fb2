"""
Bias, coverage and size of two stages, random timing, switching treatments and doses.

Regime: organization panels D1, D2 (TwoStage: 300 organizations); 120 to 200 units over 6 years with
autocorrelated shocks, effects that differ between units, G/(G-1) or the authors' factor. Limits are
4 Monte Carlo standard errors, sqrt(p(1 - p)/R) for shares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.rng import generator
from vbceval.simulate import diagnose, process

pytestmark = pytest.mark.slow
SEED = 20265
KEYS = {"unit": "unit", "period": "year", "cohort": "entry"}
YEARS = 6
DESIGN = vbc.Design(outcome="y")


@pytest.mark.parametrize("name", ["D1", "D2"])
def test_two_stages(name, sim_size) -> None:
    design = vbc.Design(outcome="spend")
    fits = {
        "TwoStage": lambda panel: (
            vbc.did.TwoStage(leads=False).fit(panel, design).aggregate("event_time")
        )
    }
    size = sim_size(500, 25)
    table = diagnose(
        replace(process(name), organizations=300), fits, replications=size, seed=SEED
    ).table
    assert (table["bias"] / table["bias_mc_se"]).abs().max() < 4
    assert ((0.95 - table["coverage"]) / table["coverage_mc_se"]).max() < 4


def shocks(rng: np.random.Generator, n: int, level: np.ndarray | None = None) -> np.ndarray:
    """Unit levels, common years, and shocks autocorrelated at .5."""
    level = 2.0 * rng.standard_normal(n) if level is None else level
    out = rng.standard_normal((n, YEARS))
    for j in range(1, YEARS):
        out[:, j] = 0.5 * out[:, j - 1] + np.sqrt(0.75) * out[:, j]
    return out + level[:, None] + 0.3 * np.arange(YEARS)


def frame_of(y: np.ndarray, **columns: np.ndarray) -> pd.DataFrame:
    n = len(y)
    out = {"unit": np.repeat(np.arange(n), YEARS), "year": np.tile(np.arange(YEARS), n)}
    out |= {k: v.ravel() if v.ndim == 2 else np.repeat(v, YEARS) for k, v in columns.items()}
    return pd.DataFrame({**out, "y": y.ravel()})


def check(
    draw: Callable[[np.random.Generator], tuple[float, float, float]], size: int, name: str
) -> np.ndarray:
    """Unbiased and covered: draws give estimate minus truth, standard error, quantile."""
    found = np.array([draw(generator(SEED, name, r)) for r in range(size)])
    error, se, quantile = found.T
    assert abs(error.mean()) < 4 * error.std(ddof=1) / np.sqrt(size), name
    coverage = np.mean(np.abs(error) <= quantile * se)
    assert coverage > 0.95 - 4 * np.sqrt(0.95 * 0.05 / size), (name, coverage)
    return found


def read(est: vbc.Estimates, truth: float) -> tuple[float, float, float]:
    row = est.tidy().iloc[0]
    quantile = (row["conf_high"] - row["estimate"]) / row["std_error"]
    return row["estimate"] - truth, row["std_error"], quantile


@pytest.mark.parametrize("beta", ["efficient", 1])
def test_random_timing(beta, sim_size) -> None:
    """Effects differ between units: the target is the average over the units at hand."""

    def draw(rng: np.random.Generator) -> tuple[float, float, float]:
        n = 160
        entry = rng.permutation(np.repeat([2.0, 4.0, np.nan, np.nan], n // 4))
        effect = -1.0 + 0.5 * rng.standard_normal(n)
        on = np.arange(YEARS) >= entry[:, None]
        y = shocks(rng, n) + effect[:, None] * on
        panel = vbc.Panel.from_frame(frame_of(y, entry=entry), **KEYS)
        est = vbc.did.Efficient(estimand="simple", beta=beta).fit(panel, DESIGN)
        # over random timings a cohort's average effect is that of all units
        return read(est, float(effect.mean()))

    check(draw, sim_size(800, 60), f"efficient {beta}")


def test_randomization_test_keeps_its_size(sim_size) -> None:
    size = sim_size(600, 40)
    rejected = 0
    for r in range(size):
        rng = generator(SEED, "permutations", r)
        entry = rng.permutation(np.repeat([2.0, 4.0, np.nan], 6))
        panel = vbc.Panel.from_frame(frame_of(shocks(rng, 18), entry=entry), **KEYS)
        est = vbc.did.Efficient(estimand="simple", permutations=39, seed=r).fit(panel, DESIGN)
        rejected += est.frame["fisher_p_value"].item() <= 0.05
    assert abs(rejected / size - 0.05) < 4 * np.sqrt(0.05 * 0.95 / size)


def test_programs_that_are_left(sim_size) -> None:
    """Entry and exit depend on unit levels, which parallel trends allow."""

    def draw(rng: np.random.Generator) -> tuple[float, float, float]:
        n = 200
        level = 2.0 * rng.standard_normal(n)
        joins = rng.random(n) < 1 / (1 + np.exp(-0.5 * level))
        entry = np.where(joins, rng.integers(2, 5, n), np.nan)
        leave = np.where(rng.random(n) < 0.4, entry, np.nan)
        years = np.arange(YEARS)
        on = (years >= entry[:, None]) & ~(years > leave[:, None])
        effect = -1.0 - 0.3 * rng.standard_normal(n)
        y = shocks(rng, n, level) + effect[:, None] * on
        panel = vbc.Panel.from_frame(frame_of(y, entry=entry, last=leave), **KEYS, exit="last")
        est = vbc.did.Switching(effects=2, placebos=1).fit(panel, DESIGN)
        # a year after entry those who left have no effect any more, and count as zero
        second = np.nan_to_num(entry + 1).astype(int)
        truth = (effect * on[np.arange(n), second])[np.isfinite(entry)].mean()
        return read(est.where(horizon=2), float(truth))

    check(draw, sim_size(500, 50), "switching")


def test_placebos_keep_their_size(sim_size) -> None:
    size = sim_size(600, 40)
    rejected = 0
    for r in range(size):
        rng = generator(SEED, "placebos", r)
        n = 160
        dose = np.zeros((n, YEARS))
        first = rng.integers(3, 9, n)
        dose[np.arange(YEARS) >= first[:, None]] = 1.0
        frame = frame_of(shocks(rng, n), entry=np.full(n, np.nan), dose=dose)
        est = vbc.did.Switching(dose="dose", effects=2, placebos=2).fit(
            vbc.Panel.from_frame(frame, **KEYS), DESIGN
        )
        rejected += est.wald("horizon < 0").p_value < 0.05
    assert rejected / size < 0.05 + 4 * np.sqrt(0.05 * 0.95 / size)


@pytest.mark.parametrize("estimand", ["level", "slope"])
def test_dose_curves(estimand, sim_size) -> None:
    def draw(rng: np.random.Generator) -> tuple[float, float, float]:
        n = 200
        entry = rng.choice([2.0, 4.0, np.nan], n)
        dose = rng.uniform(0.2, 1.0, n)
        on = np.arange(YEARS) >= entry[:, None]
        y = shocks(rng, n) + on * (-dose - dose**2)[:, None]
        share = np.where(np.isfinite(entry), dose, 0.0)
        panel = vbc.Panel.from_frame(frame_of(y, entry=entry, share=share), **KEYS)
        est = vbc.did.Dose(dose="share", degree=2, estimand=estimand, grid=[0.6]).fit(panel, DESIGN)
        return read(est, -0.6 - 0.36 if estimand == "level" else -1 - 1.2)

    check(draw, sim_size(600, 40), f"dose {estimand}")
