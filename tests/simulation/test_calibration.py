"""
Calibration of the exact engine: what is drawn from the prior lies evenly in its posterior.

Regime: 20 organizations, half of them treated, two strata, five years, gaps and unequal sizes;
parameters and outcomes from the model's own prior. Limits are 4 standard errors of a mean over
replications, and a chi-square of counts that a right engine exceeds once in ten thousand.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.bayes.averages import averages
from vbceval.bayes.calibration import places_of_truth, uniformity
from vbceval.bayes.cells import from_moments
from vbceval.bayes.coefficients import structure
from vbceval.bayes.engines import Model
from vbceval.bayes.model import active_scales
from vbceval.bayes.priors import Priors

pytestmark = pytest.mark.slow
DESIGN = vbc.Design(outcome="spend")


def model() -> Model:
    rng = np.random.default_rng(4)
    rows = []
    for i in range(20):
        size = float(np.exp(rng.normal(8, 0.6)))
        entry = 2017.0 + i % 4 // 2 if i % 2 else np.nan
        for s in "ab":
            for t in range(2015, 2020):
                if rng.random() > 0.05:
                    rows.append((i, s, t, entry, 10_000.0 + rng.normal(), size))
    frame = pd.DataFrame(rows, columns=["aco", "s", "year", "entry", "spend", "size"])
    panel = vbc.Panel.from_frame(
        frame, unit="aco", period="year", cohort="entry", strata=["s"], weight="size"
    )
    moments = vbc.Moments.from_panel(panel, outcomes=["spend"])
    cells = from_moments(moments, DESIGN, person_sd=15_000.0)
    active = active_scales(cells, shocks="ar1", organizations=True)
    weights = averages(cells, DESIGN).weights
    return Model(cells, structure(cells), Priors(), active, 0.3, weights)


def test_truths_from_the_prior_lie_evenly_in_their_posteriors(sim_size) -> None:
    found = model()
    places = [
        places_of_truth(found, nodes=256, draws=199, seed=seed) for seed in range(sim_size(500, 20))
    ]
    table = uniformity(places, bins=20 if len(places) >= 200 else 4)
    assert {"rho", "organization_sd", "person_factor[0]", "log_likelihood"} <= set(
        table["quantity"]
    )
    assert table["z"].abs().max() < 4, table.set_index("quantity")["z"].to_string()
    assert table["p_value"].min() > 1e-4, table.set_index("quantity")["p_value"].to_string()
