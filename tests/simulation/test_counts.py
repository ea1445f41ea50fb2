"""
Models of counts: calibration, and the sampler as a check on Laplace's approximation.

Regime of the calibration: 16 organizations, half of them treated, two strata, four periods, about
60 trials a cell and 15 events; parameters and counts from the model's own prior. Limits are 4
standard errors of a mean over replications, and a chi-square of counts that a right engine exceeds
once in ten thousand.

Regime of the sampler: 12 organizations, three periods, about 40 trials a cell, two chains of 1,000
draws, some 50 seconds of processor time. Limits are four Monte Carlo standard errors of a mean; of a
standard deviation four more and 3 percent. It runs at full size only.
"""

from __future__ import annotations

import arviz
import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.bayes import HierarchicalDiD, Limits, RatePriors
from vbceval.bayes.calibration import uniformity
from vbceval.bayes.counts.calibration import places_of_truth
from vbceval.bayes.counts.cells import from_counts
from vbceval.bayes.counts.families import COUNTS
from vbceval.bayes.counts.fit import marginal_of
from vbceval.bayes.model import active_scales

pytestmark = pytest.mark.slow
DESIGN = vbc.Design(outcome="events")


def panel(n: int, strata: int, periods: int, trials: float) -> vbc.Panel:
    rng = np.random.default_rng(8)
    i, s, t = (x.ravel() for x in np.indices((n, strata, periods)))
    entry = np.where(i % 2 == 1, periods // 2 + i // 2 % 2, np.nan)
    size = (trials * np.exp(rng.normal(0, 0.5, n)))[i].astype(int) + 1
    shock = rng.normal(0, 0.15, (n, periods))[i, t]
    eta = -1.3 + rng.normal(0, 0.3, n)[i] + 0.2 * s + shock - 0.15 * (t >= entry)
    frame = pd.DataFrame({"hospital": i, "s": s, "t": t, "entry": entry, "n": size})
    frame["events"] = rng.binomial(size, 1 / (1 + np.exp(-eta)))
    strata_names = ["s"] if strata > 1 else []
    return vbc.Panel.from_frame(
        frame, unit="hospital", period="t", cohort="entry", strata=strata_names, exposure="n"
    )


@pytest.mark.parametrize("family", COUNTS)
def test_truths_from_the_prior_lie_evenly_in_their_posteriors(family, sim_size) -> None:
    moments = vbc.Moments.from_panel(panel(16, 2, 4, 60.0), outcomes=["events"])
    data = from_counts(moments, DESIGN, family)
    active = active_scales(data.cells, shocks="ar1", organizations=True)
    model, rows = marginal_of(data, DESIGN, RatePriors(level=0.5, period=0.3), active)
    reduced = 2 if family == "binomial" else 1
    places = [
        places_of_truth(model, rows, nodes=256, draws=199, seed=seed)
        for seed in range(sim_size(500, reduced))
    ]
    table = uniformity(places, bins=20 if len(places) >= 200 else 1)
    assert {"rho", "organization_sd", "average[0]", "log_likelihood"} <= set(table["quantity"])
    assert table["z"].abs().max() < 4, table.set_index("quantity")["z"].to_string()
    if len(places) >= 200:
        assert table["p_value"].min() > 1e-4, table.set_index("quantity")["p_value"].to_string()


@pytest.mark.parametrize("family", COUNTS)
@pytest.mark.parametrize("shocks", ["ar1", "iid", "none"])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("strata", [1, 2])
def test_the_sampler_has_the_same_posterior(family, shocks, own, strata, sim_size) -> None:
    draws = sim_size(1000, 1)
    if draws == 1:
        pytest.skip("36 runs of the sampler: VBCEVAL_SIM=full")
    data = panel(12, strata, 3, 40.0)
    model = {"family": family, "shocks": shocks, "organization_effects": own, "alternatives": ()}
    ours = HierarchicalDiD(**model).fit(data, DESIGN)
    # a short run may miss the limits of a published one; what is compared says how long it was
    theirs = HierarchicalDiD(
        **model, engine="nuts", draws=draws, tune=500, chains=2, target_accept=0.98
    ).fit(data, DESIGN, limits=Limits(r_hat=1.05, ess=100.0))
    tree = theirs.to_arviz()["posterior"].to_dataset()[["average"]]
    of_mean, of_sd = (np.asarray(arviz.ess(tree, method=m)["average"]) for m in ("mean", "sd"))
    sd, independent = theirs.draws().std(axis=0), ours.meta["convergence"]["ess_bulk"]
    away = np.abs(ours.estimate - theirs.estimate) / sd
    assert (away < 4 * np.sqrt(1 / of_mean + 1 / independent)).all()
    wider = np.abs(ours.draws().std(axis=0) / sd - 1)
    assert (wider < 0.03 + 4 * np.sqrt(0.5 / of_sd + 0.5 / independent)).all()
