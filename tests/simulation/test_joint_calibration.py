"""
Calibration of models of several outcomes: what is drawn from the prior lies evenly in its posterior.

Regime: two outcomes of 10 organizations, half of them treated, in three years; nine effects on two
outcomes of five reports on three programs, and the same rows as one outcome. Limits are 4 standard
errors of a mean over replications, and a chi-square of counts that a right engine exceeds once in
ten thousand.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import linalg

import vbceval as vbc
from vbceval.bayes import meta_calibration
from vbceval.bayes.averages import averages
from vbceval.bayes.calibration import uniformity
from vbceval.bayes.cells import from_moments
from vbceval.bayes.joint import calibration as joint_calibration
from vbceval.bayes.joint.correlated import Joint
from vbceval.bayes.joint.stacked import stack_cells
from vbceval.bayes.meta_data import Columns, read_studies
from vbceval.bayes.meta_outcomes import calibration as outcomes_calibration
from vbceval.bayes.meta_outcomes import data as outcomes_data
from vbceval.bayes.meta_outcomes.density import Density
from vbceval.bayes.priors import Priors

pytestmark = pytest.mark.slow
SD = {"spend": 15_000.0, "visits": 60.0}


def judge(places: list[dict[str, float]]) -> None:
    table = uniformity(places, bins=20 if len(places) >= 200 else 4).set_index("quantity")
    assert "log_likelihood" in table.index
    assert table["z"].abs().max() < 4, table["z"].to_string()
    assert table["p_value"].min() > 1e-4, table["p_value"].to_string()


def joint_model() -> tuple[Joint, Priors, np.ndarray]:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(
        [
            (i, t, 2017.0 + i % 4 // 2 if i % 2 else np.nan, np.exp(rng.normal(8, 0.6)))
            for i in range(10) for t in range(2015, 2018 + 1)
        ],
        columns=["aco", "year", "entry", "size"],
    )  # fmt: skip
    frame["size"] = frame.groupby("aco")["size"].transform("first")
    frame = frame.assign(spend=10_000.0 + rng.normal(size=len(frame)))
    frame = frame.assign(visits=40.0 + 0.01 * rng.normal(size=len(frame)))
    panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry", weight="size")
    designs = [vbc.Design(outcome=name) for name in SD]
    single = [
        from_moments(
            vbc.Moments.from_panel(panel, outcomes=[d.outcome]), d, person_sd=SD[d.outcome]
        )
        for d in designs
    ]
    stacked = stack_cells(single, list(SD))
    joint = Joint(
        stacked=stacked, shocks="ar1", organizations=True, person_log_sd=0.0,
        stated=np.ones(stacked.cells.n_strata, dtype=bool), person_correlation=None, concentration=2.0,
    )  # fmt: skip
    weights = [averages(c, d).weights for c, d in zip(single, designs, strict=True)]
    return joint, Priors(), linalg.block_diag(*weights)


def effects() -> pd.DataFrame:
    report = np.array([0, 0, 1, 1, 2, 2, 3, 4, 4])
    return pd.DataFrame(
        {
            "report": report, "program": report // 2, "program_type": report % 2, "sample": report,
            "outcome": [f"outcome {k}" for k in (0, 1, 0, 1, 0, 1, 0, 0, 1)],
            "unit_of_measure": "percent", "estimate": 0.0,
            "std_error": 0.3 + 0.1 * (np.arange(9) % 5),
        }
    )  # fmt: skip


def test_truths_of_two_outcomes_lie_evenly(sim_size) -> None:
    model = joint_model()
    judge(
        [
            joint_calibration.places_of_truth(*model, nodes=256, draws=199, seed=seed)
            for seed in range(sim_size(500, 10))
        ]
    )


def test_truths_of_outcomes_of_reports_lie_evenly(sim_size) -> None:
    columns = outcomes_data.Columns(
        "estimate", "std_error", "outcome", "unit_of_measure", "report", "program", "program_type",
        "sample",
    )  # fmt: skip
    rows = outcomes_data.read_rows(effects(), columns, scale={}, within=0.4, known=None)
    density = Density(rows=rows, mean_sd=3.0, sd_scale=1.0, concentration=2.0)
    judge(
        [
            outcomes_calibration.places_of_truth(density, nodes=256, draws=199, seed=seed)
            for seed in range(sim_size(500, 10))
        ]
    )


def test_truths_of_the_meta_analysis_by_grid_lie_evenly(sim_size) -> None:
    studies = read_studies(effects(), Columns(sample="sample"), (), program_effects=True)
    priors = meta_calibration.Priors(3.0, 1.0, None, 0.4)
    judge(
        [
            meta_calibration.places_by_grid(studies, priors, draws=199, seed=seed)
            for seed in range(sim_size(500, 20))
        ]
    )
