"""
Bias and coverage of the synthetic family where trends are not parallel.

Process: 36 organizations, 16 periods, two factors; the loading on the trend is larger among the
treated, so that difference-in-differences is biased. One, or six, organizations enter in period
12 with effect 1. Limits are 4 Monte Carlo standard errors, except where the text says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.rng import generator
from vbceval.did import InteractiveFE, SyntheticControl, SyntheticDiD

pytestmark = pytest.mark.slow
DESIGN = vbc.Design(outcome="y")
SEED = 20264


def draw(rng: np.random.Generator, treated: int, *, confounded: bool) -> vbc.Panel:
    n, periods, entry = 36, 16, 12
    enters = np.arange(n) < treated
    trend = np.linspace(0, 3, periods) + 0.3 * rng.normal(size=periods)
    loading = rng.uniform(0, 1, size=n)
    if confounded:
        loading[enters] = rng.uniform(0.6, 0.9, size=treated)
    y = rng.normal(size=n)[:, None] + loading[:, None] * trend
    y += 0.5 * rng.normal(size=(n, 1)) * rng.normal(size=periods)
    y += 0.4 * rng.normal(size=(n, periods)) + np.outer(enters, np.arange(1, periods + 1) >= entry)
    frame = pd.DataFrame({
        "unit": np.repeat(np.arange(n), periods), "t": np.tile(np.arange(1, periods + 1), n),
        "g": np.repeat(np.where(enters, float(entry), np.nan), periods), "y": y.ravel(),
    })  # fmt: skip
    return vbc.Panel.from_frame(frame, unit="unit", period="t", cohort="g")


def repeat(
    fit: Callable[[vbc.Panel], vbc.Estimates],
    replications: int,
    treated: int,
    *,
    confounded: bool,
) -> dict[str, float]:
    estimate, covered, error = [], [], []
    for r in range(replications):
        panel = draw(generator(SEED, treated, r), treated, confounded=confounded)
        row = fit(panel).aggregate("simple").tidy().iloc[0]
        estimate.append(row["estimate"])
        error.append(row["std_error"])
        covered.append(row["conf_low"] <= 1 <= row["conf_high"])
    spread = float(np.std(estimate, ddof=1))
    return {
        "bias": float(np.mean(estimate)) - 1,
        "bias_mc": spread / np.sqrt(replications),
        "coverage": float(np.mean(covered)),
        "coverage_mc": float(np.sqrt(0.95 * 0.05 / replications)),
        "ratio": float(np.mean(error)) / spread,
    }


FITS = {
    "sdid placebo": (1, lambda p: SyntheticDiD().fit(p, DESIGN)),
    "sdid bootstrap": (6, lambda p: SyntheticDiD(replications=60).fit(p, DESIGN)),
    "sdid jackknife": (6, lambda p: SyntheticDiD().fit(p, DESIGN, vcov="jackknife")),
    "control placebo": (1, lambda p: SyntheticControl(demean=True).fit(p, DESIGN)),
    "gsc parametric": (
        6, lambda p: InteractiveFE(n_factors=2, replications=60).fit(p, DESIGN),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FITS)
def test_coverage_when_entry_is_random(name: str, sim_size) -> None:
    treated, fit = FITS[name]
    out = repeat(fit, sim_size(400, 25), treated, confounded=False)
    assert abs(out["bias"]) < 4 * out["bias_mc"], out
    assert out["coverage"] > 0.95 - 4 * out["coverage_mc"], out


def test_weights_remove_what_difference_in_differences_does_not(sim_size) -> None:
    size = sim_size(400, 30)
    plain = repeat(
        lambda p: SyntheticDiD(method="did").fit(p, DESIGN, vcov="none"), size, 6, confounded=True
    )
    weighted = repeat(
        lambda p: SyntheticDiD().fit(p, DESIGN, vcov="none"), size, 6, confounded=True
    )
    factors = repeat(
        lambda p: InteractiveFE(n_factors=2).fit(p, DESIGN, vcov="none"), size, 6, confounded=True
    )
    assert plain["bias"] > 4 * plain["bias_mc"]
    # eleven periods before entry: regularised weights halve the bias, factors leave a sixth
    assert abs(weighted["bias"]) < 0.75 * plain["bias"]
    assert abs(factors["bias"]) < 0.45 * plain["bias"]
