"""
Calibration of models that are sampled: what is drawn from the prior lies evenly in its posterior.

Regime: 12 organizations, half of them treated, two strata, four years, gaps; and a table of 12
effects of 6 reports. 100 replications each in full, of minutes; generators and replaced data are tested in
`tests/unit/bayes/test_sampled_calibration.py` at every run. Limits are those of the exact engine.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.bayes import meta_calibration, sampled_calibration
from vbceval.bayes.averages import averages
from vbceval.bayes.calibration import uniformity
from vbceval.bayes.cells import from_moments
from vbceval.bayes.coefficients import structure
from vbceval.bayes.engines import Model
from vbceval.bayes.meta_data import Columns, Studies, read_studies
from vbceval.bayes.model import active_scales
from vbceval.bayes.priors import Priors
from vbceval.bayes.sampled_calibration import Placed, Run

pytestmark = pytest.mark.slow
DESIGN = vbc.Design(outcome="spend")


def model(*, student: bool, horseshoe: bool) -> Model:
    rng = np.random.default_rng(4)
    rows = []
    for i in range(12):
        entry = 2017.0 + i % 4 // 2 if i % 2 else np.nan
        for s in "ab":
            for t in range(2015, 2019):
                if rng.random() > 0.05:
                    rows.append((i, s, t, entry, 10_000.0 + rng.normal(), 3_000.0 + 200 * i))
    frame = pd.DataFrame(rows, columns=["aco", "s", "year", "entry", "spend", "size"])
    panel = vbc.Panel.from_frame(
        frame, unit="aco", period="year", cohort="entry", strata=["s"], weight="size"
    )
    cells = from_moments(
        vbc.Moments.from_panel(panel, outcomes=["spend"]), DESIGN, person_sd=15_000.0
    )
    active = active_scales(
        cells, shocks="ar1", organizations=True, student=student, horseshoe=horseshoe
    )
    weights = averages(cells, DESIGN).weights
    return Model(cells, structure(cells), Priors(), active, 0.0, weights)


def studies() -> Studies:
    report = np.repeat(np.arange(6), 2)
    frame = pd.DataFrame(
        {
            "report": report, "program": report // 2, "program_type": report % 2,
            "estimate": 0.0, "std_error": 0.3 + 0.1 * (np.arange(12) % 5), "high": np.nan,
            "sample": report,
        }
    )  # fmt: skip
    frame.loc[3, "std_error"], frame.loc[3, "high"] = np.nan, 0.8
    columns = Columns(std_error_high="high", sample="sample")
    return read_studies(frame, columns, (), program_effects=True)


def judge(found: list[Placed]) -> None:
    table = uniformity([x.places for x in found], bins=10).set_index("quantity")
    assert table["z"].abs().max() < 4, table["z"].to_string()
    assert table["p_value"].min() > 1e-4, table["p_value"].to_string()


@pytest.fixture
def size(sim_size) -> int:
    found = sim_size(100, 1)
    if found == 1:
        pytest.skip("compiled and sampled for minutes; set VBCEVAL_SIM=full")
    return found


@pytest.mark.parametrize("law", ["student", "horseshoe"])
def test_truths_of_heavy_laws_lie_evenly_among_draws(size: int, law: str) -> None:
    ready = sampled_calibration.repeated(
        model(student=law == "student", horseshoe=law == "horseshoe")
    )
    judge([sampled_calibration.places_of_truth(ready, run=Run(), seed=s) for s in range(size)])


def test_truths_of_the_meta_analysis_lie_evenly_among_draws(size: int) -> None:
    ready = meta_calibration.repeated(studies(), meta_calibration.Priors(3.0, 1.0, 4.0, 0.4))
    run = Run(draws=200, target_accept=0.95)
    judge([meta_calibration.places_of_truth(ready, run=run, seed=s) for s in range(size)])
