"""
Calibration of effects by regression trees: what is drawn from the prior lies evenly in its posterior.

Regime: 30 organizations with correlated errors, two covariates, ten trees; 100 replications in full.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vbceval.bayes.trees.forest import Forest, Shape
from vbceval.bayes.trees.gibbs import Scales, measured, sample_chain

pytestmark = pytest.mark.slow
N, TREES, KEPT, THIN = 30, 10, 99, 25
SCALES = Scales(0.0, 2.0, 1.5, 1.0)
SHAPE = Shape(TREES, 0.95, 2.0, 3)


def ranks(seed: int) -> dict[str, int]:
    """How many of 99 posterior draws lie below what the data were made from."""
    rng = np.random.default_rng([7, seed])
    x = np.column_stack([np.argsort(rng.random(N)), rng.integers(0, 2, N)]).astype(float)
    factor = rng.normal(0, 0.4, N)
    v = np.diag(rng.uniform(0.3, 0.9, N) ** 2) + 0.2 + np.outer(factor, factor)
    covariate_sd, own_sd = abs(rng.normal(0, 1.5)), abs(rng.normal(0, 1.0))
    level, chance = rng.normal(0, 2.0), np.full(2, 0.5)
    prior = Forest(x, chance, SHAPE, int(rng.integers(2**31 - 1)))
    for _ in range(200):
        # errors so large that nothing is learned: draws from the prior
        prior.sweep(np.zeros(N), np.full(N, 1e12), covariate_sd**2 / TREES)
    expected = level + prior.fitted
    effect = expected + own_sd * rng.standard_normal(N)
    y = effect + rng.multivariate_normal(np.zeros(N), v)
    forest = Forest(x, chance, SHAPE, int(rng.integers(2**31 - 1)))
    found = sample_chain(
        measured(y, v), forest, TREES, SCALES, None, lambda f: f, draws=KEPT, tune=500, thin=THIN, rng=rng,
    )  # fmt: skip
    many = x[:, 1] == 1

    def gap(values: np.ndarray) -> np.ndarray:
        return values[..., many].mean(axis=-1) - values[..., ~many].mean(axis=-1)

    pairs = {
        "mean": (found.effect.mean(axis=1), effect.mean()),
        "organization_sd": (found.organization_sd, own_sd),
        "covariate_sd": (found.covariate_sd, covariate_sd),
        "gap": (gap(found.expected), gap(expected)),
        "one": (found.effect[:, 0], effect[0]),
        "spread": (found.expected.std(axis=1), expected.std()),
    }
    return {name: int((draws < truth).sum()) for name, (draws, truth) in pairs.items()}


def test_ranks_are_uniform(sim_size) -> None:
    pytest.importorskip(
        "stochtree", reason="stochtree is not installed: pip install 'vbceval[trees]'"
    )
    size = sim_size(100, 1)
    if size == 1:
        pytest.skip("100 replications take minutes; set VBCEVAL_SIM=full")
    found = [ranks(seed) for seed in range(size)]
    for name in found[0]:
        values = np.array([r[name] for r in found]) + 0.5
        # six quantities; 1e-3 each leaves a false alarm below one in a hundred
        assert stats.kstest(values / (KEPT + 1), "uniform").pvalue > 1e-3, name
        distance = (values.mean() / (KEPT + 1) - 0.5) * np.sqrt(12 * size)
        assert abs(distance) < 4, (name, distance)
