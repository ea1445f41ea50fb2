"""
Bias and coverage of effects with estimated balance weights; what taking them as fixed does.

Regime: 120 organizations over 4 years, about two in five entering in the third. Entry is a logit of
a feature x that also moves trends, linearly, so that an unweighted comparison is biased and the
models behind odds, entropy and overlap weights are right. The effect is 2 for all. Limits are 4
Monte Carlo standard errors; intervals with estimated weights are those of large samples, and may
fall 2 points short with 120 organizations.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.rng import generator

pytestmark = pytest.mark.slow
SEED = 20265
EFFECT = 2.0
METHODS = {
    "entropy": lambda p: vbc.balance.entropy(p, ["x"]),
    "odds": lambda p: vbc.balance.propensity(p, ["x"]),
    "overlap": lambda p: vbc.balance.overlap(p, ["x"]),
    "match": lambda p: vbc.balance.match(p, ["x"], replace=True),
}


def draw(rng: np.random.Generator, n: int = 120) -> vbc.Panel:
    x = rng.standard_normal(n)
    enters = rng.random(n) < 1 / (1 + np.exp(0.5 - 0.7 * x))
    u, t = np.repeat(np.arange(n), 4), np.tile(np.arange(4), n)
    y = (
        rng.standard_normal(n)[u] + 0.8 * x[u] * t + EFFECT * (enters[u] & (t >= 2))
        + rng.standard_normal(len(u))
    )  # fmt: skip
    frame = pd.DataFrame({"u": u, "t": t, "x": x[u], "y": y, "g": np.where(enters, 2.0, np.nan)[u]})
    return vbc.Panel.from_frame(frame, unit="u", period="t", cohort="g")


def replicate(replications: int) -> pd.DataFrame:
    rows = []
    for r in range(replications):
        panel = draw(generator(SEED, r))
        for name, make in {"none": None, **METHODS}.items():
            given = None if make is None else make(panel)
            for random in (True, False):
                weights = given if random or given is None else given.fixed()
                design = vbc.Design(outcome="y", balance_weights=weights)
                est = vbc.did.GroupTime().fit(panel, design).aggregate("simple").tidy().iloc[0]
                rows.append({
                    "method": name, "random": random, "estimate": est["estimate"],
                    "std_error": est["std_error"],
                    "covered": est["conf_low"] <= EFFECT <= est["conf_high"],
                })  # fmt: skip
    return pd.DataFrame(rows)


def test_bias_and_coverage(sim_size) -> None:
    size = sim_size(1000, 24)
    found = replicate(size).groupby(["method", "random"])
    mean, sd = found["estimate"].mean(), found["estimate"].std()
    z = (mean - EFFECT) / (sd / np.sqrt(size))
    error, covered = found["std_error"].mean(), found["covered"].mean()
    limit = 4 * np.sqrt(0.95 * 0.05 / size)
    assert abs(z["none", True]) > 8, "without weights the comparison should be biased here"
    for name in ("entropy", "overlap", "odds"):
        if name != "odds":  # these balance the feature exactly, so no bias is left in small samples
            assert abs(z[name, True]) < 4, (name, mean[name, True])
        assert abs(mean[name, True] - EFFECT) < 0.2 * abs(mean["none", True] - EFFECT), name
        assert covered[name, True] > 0.93 - limit, (name, covered[name, True])
        # the error is that of the estimate; a sample sd has relative error 1 / sqrt(2 R)
        ratio = error[name, True] / sd[name, True]
        assert abs(ratio - 1) < 0.08 + 4 / np.sqrt(2 * size), (name, ratio)
    # balancing removes what moves trends; an error that leaves this out is too large
    for name in ("entropy", "overlap"):
        assert error[name, False] > 1.1 * error[name, True], name
    # pairs differ a little in x, so matching keeps a little of the bias
    assert abs(mean["match", False] - EFFECT) < 0.35 * abs(mean["none", True] - EFFECT)
