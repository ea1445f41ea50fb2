"""
The exact engine against long runs of the sampler, every combination of options.

Regime: 12 organizations, half of them treated in one of two cohorts, five years, one stratum or two;
cells of one unit with a stated spread of persons, or known up to a factor; rows of people; files
that restate the same years; a covariate. Limits are four Monte Carlo standard errors of a mean; of a
standard deviation four more and 3 percent. It runs at full size only: 80 runs of the sampler, about
half a minute of processor time each. `VBCEVAL_SIM=full pytest -k "restated and iid"` runs some.
"""

from __future__ import annotations

import itertools

import arviz
import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.bayes import HierarchicalDiD, Limits

pytestmark = pytest.mark.slow

CELLS = ("stated", "factor", "people", "restated", "covariate")
OPTIONS = [
    (cells, strata, shocks, own, scale)
    for cells, strata, shocks, own, scale in itertools.product(
        CELLS, (1, 2), ("ar1", "iid", "none"), (True, False), ("equal", "stratum")
    )
    # shocks of a stratum exist where there are two, and are asked for
    if scale == "equal" or (strata == 2 and shocks != "none")
]
# a short run may miss the limits of a published one by chance; what is compared says how long it was
LIMITS = Limits(r_hat=1.05, ess=100.0)


def table(cells: str, strata: int) -> pd.DataFrame:
    """Effects of -2 percent, shocks of 1.5, noise of persons about 0.5 to 1 percent."""
    rng, rows = np.random.default_rng(11), []
    people = 5 if cells == "people" else 1
    for i in range(12):
        entry = 2016.0 + i // 2 % 2 if i % 2 else np.nan
        shock, own = rng.normal(0, 1.5, 5), rng.normal(0, 1)
        for unit in range(1 + (cells == "restated")):
            for s in range(strata):
                level, special = 10_000 * np.exp(0.1 * rng.normal()), rng.normal(0, 1, 5)
                for t in range(5):
                    size = 1.0 if cells == "people" else 4_000.0 + 300 * i + 50 * t
                    percent = 2.0 * t + shock[t] + special[t] + (own - 2.0) * (2014 + t >= entry)
                    for _ in range(people):
                        noise = rng.normal(0, 300 if cells == "people" else 1.5e4 / size**0.5)
                        spend = level * (1 + percent / 100) + noise
                        key = (f"A{i}", f"{i}-{unit}", f"s{s}", 2014 + t, entry)
                        rows.append((*key, spend, size, 0.2 * i + 0.3 * unit))
    names = ["aco", "unit", "s", "year", "entry", "spend", "size", "x"]
    return pd.DataFrame(rows, columns=names)


def data(cells: str, strata: int) -> vbc.Panel | vbc.Moments:
    frame = table(cells, strata)
    keys = {
        "period": "year", "cohort": "entry", "cluster": "aco", "strata": ["s"] if strata > 1 else [],
    }  # fmt: skip
    if cells != "people":
        return vbc.Panel.from_frame(frame, unit="unit", weight="size", **keys)
    frame["person"] = np.arange(len(frame))
    panel = vbc.Panel.from_frame(frame, unit="person", kind="repeated_cross_section", **keys)
    return vbc.Moments.from_panel(panel, outcomes=["spend"], by="cluster")


@pytest.mark.parametrize(("cells", "strata", "shocks", "own", "scale"), OPTIONS)
def test_the_sampler_has_the_same_posterior(cells, strata, shocks, own, scale, sim_size) -> None:
    draws = sim_size(800, 1)
    if draws == 1:
        pytest.skip("80 runs of the sampler: VBCEVAL_SIM=full")
    found = data(cells, strata)
    design = vbc.Design(outcome="spend", covariates=("x",) if cells == "covariate" else ())
    options = {
        "person_sd": None if cells == "people" else 15_000.0,
        "person_sd_uncertainty": 0.5 if cells == "factor" else 0.0,
        "shocks": shocks, "shock_scale": scale, "organization_effects": own, "alternatives": (),
    }  # fmt: skip
    ours = HierarchicalDiD(**options).fit(found, design)
    theirs = HierarchicalDiD(
        **options, engine="nuts", draws=draws, tune=500, chains=2, target_accept=0.95
    ).fit(found, design, limits=LIMITS)
    tree = theirs.to_arviz()["posterior"].to_dataset()[["average"]]
    of_mean, of_sd = (np.asarray(arviz.ess(tree, method=m)["average"]) for m in ("mean", "sd"))
    sd, independent = theirs.draws().std(axis=0), ours.meta["convergence"]["ess_bulk"]
    away = np.abs(ours.estimate - theirs.estimate) / sd
    assert (away < 4 * np.sqrt(1 / of_mean + 1 / independent)).all()
    wider = np.abs(ours.draws().std(axis=0) / sd - 1)
    assert (wider < 0.03 + 4 * np.sqrt(0.5 / of_sd + 0.5 / independent)).all()
