"""
Heavier laws by the sampler: what they are for, at effects that were planted.

Regime: half of the organizations treated, five years. Student t: 4 of 24 organizations have shocks
eight times as large. Horseshoe: 12 organizations, six strata, one of which has an effect. One run
each, of minutes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.bayes import HierarchicalDiD, Limits
from vbceval.bayes.averages import PERCENT

pytestmark = pytest.mark.slow
LIMITS = Limits(r_hat=1.05, ess=100.0)
NUTS = {"engine": "nuts", "draws": 200, "tune": 250, "chains": 2, "alternatives": ()}


@pytest.fixture(autouse=True)
def _only_in_full(sim_size) -> None:
    if sim_size(2, 1) == 1:
        pytest.skip("a sampler's run takes minutes; set VBCEVAL_SIM=full")


def panel(n: int, strata: int, *, wild: float, special: float, seed: int) -> vbc.Panel:
    rng, rows = np.random.default_rng(seed), []
    for i in range(n):
        entry = 2017.0 if i % 2 else np.nan
        for s in range(strata):
            for t in range(2014, 2019):
                shock = rng.normal() * (wild if i < 4 else 1.0)
                effect = special if s == 0 and strata > 1 else (-2.0 if strata == 1 else 0.0)
                spend = 10_000 * (1 + (shock + effect * (t >= entry)) / 100)
                rows.append((i, f"s{s:02d}", t, entry, 60_000.0 + i, spend))
    frame = pd.DataFrame(rows, columns=["aco", "s", "year", "entry", "people", "spend"])
    return vbc.Panel.from_frame(
        frame, unit="aco", period="year", cohort="entry", weight="people",
        strata=["s"] if strata > 1 else [],
    )  # fmt: skip


def test_wild_organizations_do_not_widen_the_answer_of_student_shocks() -> None:
    data, design = panel(24, 1, wild=8.0, special=0.0, seed=1), vbc.Design(outcome="spend")
    overall = []
    for options in ({"alternatives": ()}, {"tails": "student", **NUTS}):
        est = HierarchicalDiD(person_sd=10_000.0, **options).fit(data, design, limits=LIMITS)
        row = est.where(estimand="att_overall", unit_of_measure=PERCENT)
        overall.append((row.estimate[0], row.draws().std()))
    scale = est.to_arviz()["posterior"]["shock_scale"].mean(("chain", "draw")).values
    wild = [i in (0, 1, 2, 3) for i in map(int, est.to_arviz()["posterior"]["cluster"].values)]
    assert scale[wild].min() > np.quantile(scale[~np.array(wild)], 0.9)
    for mean, sd in overall:
        assert abs(mean + 2.0) < 3 * sd
    assert overall[1][1] < 0.7 * overall[0][1]


def test_horseshoe_keeps_one_large_effect_among_many_that_are_zero() -> None:
    data, design = panel(12, 6, wild=1.0, special=-6.0, seed=2), vbc.Design(outcome="spend")
    away = []
    for options in ({"alternatives": ()}, {"pooling": "horseshoe", **NUTS}):
        est = HierarchicalDiD(
            person_sd=10_000.0, organization_effects=False, shocks="iid", **options
        ).fit(data, design, limits=LIMITS)
        rows = est.where(estimand="att_stratum", unit_of_measure=PERCENT)
        error = rows.estimate - np.where(rows.frame["stratum"].str.endswith("s00"), -6.0, 0.0)
        away.append(np.abs(error))
    assert away[1][0] < 2.0
    # nearer to zero where nothing was planted
    assert away[1][1:].mean() < away[0][1:].mean()
