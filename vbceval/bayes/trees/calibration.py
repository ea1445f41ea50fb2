"""Simulation-based calibration of effects by trees, as `sampled_calibration` of cell means."""

from __future__ import annotations

import numpy as np

from vbceval.bayes.sampled_calibration import places
from vbceval.bayes.trees.forest import Forest, Shape
from vbceval.bayes.trees.gibbs import Scales, measured, sample_chain
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray

_N, _TREES, _FROM_PRIOR = 30, 10, 200
_KEPT, _THIN, _TUNE = 99, 25, 500
_SCALES = Scales(0.0, 2.0, 1.5, 1.0)
_SHAPE = Shape(_TREES, 0.95, 2.0, 3)


def places_of_truth(seed: int) -> dict[str, float]:
    """
    Simulate once from the prior, sample, and say where the truth lies among 99 draws.

    Regime: 30 organizations with correlated errors, two covariates, ten trees.

    Parameters
    ----------
    seed : int
        Seed of simulation and sampler.
    """
    rng = generator(seed, "calibration", "trees")
    x = np.column_stack([np.argsort(rng.random(_N)), rng.integers(0, 2, _N)]).astype(float)
    factor = rng.normal(0, 0.4, _N)
    v = np.diag(rng.uniform(0.3, 0.9, _N) ** 2) + 0.2 + np.outer(factor, factor)
    covariate_sd, own_sd = abs(rng.normal(0, 1.5)), abs(rng.normal(0, 1.0))
    level, chance = rng.normal(0, 2.0), np.full(2, 0.5)
    prior = Forest(x, chance, _SHAPE, int(rng.integers(2**31 - 1)))
    for _ in range(_FROM_PRIOR):
        # errors so large that nothing is learned: draws from the prior
        prior.sweep(np.zeros(_N), np.full(_N, 1e12), covariate_sd**2 / _TREES)
    expected = level + prior.fitted
    effect = expected + own_sd * rng.standard_normal(_N)
    y = effect + rng.multivariate_normal(np.zeros(_N), v)
    forest = Forest(x, chance, _SHAPE, int(rng.integers(2**31 - 1)))
    found = sample_chain(
        measured(y, v), forest, _TREES, _SCALES, None, lambda f: f, draws=_KEPT, tune=_TUNE,
        thin=_THIN, rng=rng,
    )  # fmt: skip
    many = x[:, 1] == 1

    def gap(values: FloatArray) -> FloatArray:
        return np.asarray(values[..., many].mean(axis=-1) - values[..., ~many].mean(axis=-1))

    ours = {
        "mean": found.effect.mean(axis=1), "organization_sd": found.organization_sd,
        "covariate_sd": found.covariate_sd, "gap": gap(found.expected), "one": found.effect[:, 0],
        "spread": found.expected.std(axis=1),
    }  # fmt: skip
    true = {
        "mean": effect.mean(), "organization_sd": own_sd, "covariate_sd": covariate_sd,
        "gap": float(gap(expected)), "one": effect[0], "spread": expected.std(),
    }  # fmt: skip
    return places(ours, true)
