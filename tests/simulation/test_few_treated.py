"""
Size of tests with 1, 2 and 4 treated of 40 clusters, where no effect exists.

Regime: 6 years, shocks autocorrelated at .5, sizes equal, or log-normal with small treated clusters
and variance ``a + b / size``. Outcomes are drawn many at a time for each draw of sizes. Limits are 4
Monte Carlo standard errors.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.rng import generator
from vbceval.inference import FewTreated

pytestmark = pytest.mark.slow
SEED = 20267
CLUSTERS, YEARS = 40, 6
OUTCOMES = 40
LAWS = {
    "CR1": "CR1",
    "conley-taber": FewTreated(method="conley-taber", draws=499),
    "ferman-pinto": FewTreated(draws=499),
}


def draw(rng: np.random.Generator, treated: int, *, unequal: bool) -> tuple[vbc.Panel, list[str]]:
    size = np.exp(0.7 * rng.standard_normal(CLUSTERS)) if unequal else np.ones(CLUSTERS)
    if unequal:
        size[:treated] = 0.4
    shape = (CLUSTERS, YEARS, OUTCOMES)
    shock = rng.standard_normal(shape) / np.sqrt(size)[:, None, None]
    shock += 0.3 * rng.standard_normal(shape)
    for t in range(1, YEARS):
        shock[:, t] += 0.5 * shock[:, t - 1]
    names = [f"y{i}" for i in range(OUTCOMES)]
    c = np.repeat(np.arange(CLUSTERS), YEARS)
    frame = pd.DataFrame(shock.reshape(-1, OUTCOMES), columns=names).assign(
        c=c, t=np.tile(np.arange(YEARS), CLUSTERS), g=np.where(c < treated, 3.0, np.nan), w=size[c]
    )
    return vbc.Panel.from_frame(frame, unit="c", period="t", cohort="g", weight="w"), names


def rejections(treated: int, samples: int, *, unequal: bool) -> pd.Series:
    """Share of tests at 5 percent that reject no effect."""
    found = {name: [] for name in LAWS}
    for r in range(samples):
        panel, names = draw(generator(SEED, treated, int(unequal), r), treated, unequal=unequal)
        for name, law in LAWS.items():
            table = vbc.did.TWFE().fit(
                panel, vbc.Design(outcome="y0"), vcov=law, outcomes=names
            ).tidy()  # fmt: skip
            found[name].append((table["p_value"] <= 0.05).mean())
    return pd.Series({name: np.mean(shares) for name, shares in found.items()})


@pytest.mark.parametrize("treated", [1, 2, 4])
def test_clusters_of_one_size(treated, sim_size) -> None:
    samples = sim_size(50, 2)
    found = rejections(treated, samples, unequal=False)
    # 36 to 39 untreated clusters measure noise as well as a t law with as many degrees of freedom,
    # and conley-taber leaves the comparison mean's noise out: 10% of the variance with 4 treated
    limit = 4 * np.sqrt(0.05 * 0.95 / (samples * OUTCOMES))
    assert abs(found["ferman-pinto"] - 0.055) < 0.015 + limit, found
    assert abs(found["conley-taber"] - 0.065) < 0.02 + limit, found
    if treated == 1:
        assert found["CR1"] > 0.5, found


@pytest.mark.parametrize("treated", [1, 2, 4])
def test_small_treated_clusters(treated, sim_size) -> None:
    samples = sim_size(50, 2)
    found = rejections(treated, samples, unequal=True)
    limit = 4 * np.sqrt(0.05 * 0.95 / (samples * OUTCOMES))
    assert found["ferman-pinto"] < 0.09 + limit, found
    if samples >= 50:
        # the noise of larger clusters is too small for them
        assert found["conley-taber"] > found["ferman-pinto"] + 0.02, found
