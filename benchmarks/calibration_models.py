"""The models of `calibration.py`, by the names of its cases, on small panels."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from hierarchical_panel import OTHERS, OUTCOME, PERSON_SD, count_panel, hierarchical_panel
from scipy import linalg

import vbceval as vbc
from vbceval.bayes import calibration, meta_calibration, sampled_calibration
from vbceval.bayes.averages import averages
from vbceval.bayes.cells import from_moments
from vbceval.bayes.coefficients import structure
from vbceval.bayes.counts import calibration as count_calibration
from vbceval.bayes.counts.cells import from_counts
from vbceval.bayes.counts.engine import CountMarginal
from vbceval.bayes.counts.families import COUNTS, Counts
from vbceval.bayes.counts.fit import marginal_of
from vbceval.bayes.counts.priors import RatePriors
from vbceval.bayes.counts.rows import Rows
from vbceval.bayes.engines import Model
from vbceval.bayes.joint import calibration as joint_calibration
from vbceval.bayes.joint.correlated import Joint
from vbceval.bayes.joint.stacked import stack_cells
from vbceval.bayes.meta_data import Columns, Studies, read_studies
from vbceval.bayes.meta_outcomes import calibration as outcomes_calibration
from vbceval.bayes.meta_outcomes import data as outcomes_data
from vbceval.bayes.meta_outcomes.density import Density
from vbceval.bayes.model import active_scales
from vbceval.bayes.priors import Priors
from vbceval.bayes.sampled_calibration import Placed, Run
from vbceval.bayes.trees import calibration as tree_calibration
from vbceval.core.typing import FloatArray

MEANS = ("plain", "uncertain spread of persons", "rows of people")
HEAVY = ("student", "horseshoe")
JOINT = ("two outcomes", "three outcomes")
NODES, DRAWS = 512, 999
JOINT_NODES, JOINT_DRAWS = 512, 199
COUNT_NODES, COUNT_DRAWS = 256, 199
META_RUN = Run(draws=200, tune=150, target_accept=0.95)
# narrower than the defaults, under which many a rate is near 0 or 1: no program looks like that
COUNT_PRIORS = RatePriors(level=0.5, period=0.3)


class Case(NamedTuple):
    """
    A model to be calibrated.

    Parameters
    ----------
    place : callable
        Of a seed; returns the places of one truth.
    replications : int
        By default: fewer of a model that is sampled.
    """

    place: Callable[[int], Placed]
    replications: int = 500


@cache
def model(case: str) -> Model:
    """Return a model of 24 organizations, two strata and six periods; of heavy laws 14 and four."""
    heavy = case in HEAVY
    people = 4 if case == "rows of people" else 0
    size = (14, 2, 4) if heavy else (24, 2, 6)
    panel = hierarchical_panel(*size, seed=1, people=people)
    design = vbc.Design(outcome=OUTCOME)
    moments = vbc.Moments.from_panel(panel, outcomes=[OUTCOME], by="cluster" if people else "row")
    cells = from_moments(moments, design, person_sd=None if people else 15_000.0)
    active = active_scales(
        cells, shocks="ar1", organizations=True, student=case == "student",
        horseshoe=case == "horseshoe",
    )  # fmt: skip
    uncertainty = 0.5 if case == "uncertain spread of persons" else 0.0
    return Model(
        cells, structure(cells), Priors(), active, uncertainty, averages(cells, design).weights
    )


@cache
def joint_model(case: str) -> tuple[Joint, Priors, FloatArray]:
    """Return two outcomes of 12 organizations in two strata, or three in one, and four periods."""
    several = case == "three outcomes"
    panel = hierarchical_panel(12, 1 if several else 2, 4, seed=1, people=4 if several else 0)
    names = [OUTCOME, *OTHERS] if several else [OUTCOME, *OTHERS][:2]
    designs = [vbc.Design(outcome=name) for name in names]
    single = []
    for design in designs:
        by: Any = "cluster" if several else "row"
        moments = vbc.Moments.from_panel(panel, outcomes=[design.outcome], by=by)
        sd = None if several else PERSON_SD / OTHERS.get(design.outcome, 1.0)
        single.append(from_moments(moments, design, person_sd=sd))
    stacked = stack_cells(single, names)
    joint = Joint(
        stacked=stacked, shocks="ar1", organizations=True, person_log_sd=0.0,
        stated=np.full(stacked.cells.n_strata, not several), person_correlation=None,
        concentration=2.0,
    )  # fmt: skip
    weights = [averages(c, d).weights for c, d in zip(single, designs, strict=True)]
    return joint, Priors(), linalg.block_diag(*weights)


@cache
def count_model(family: Counts) -> tuple[CountMarginal, Rows]:
    """Return a model of counts of 16 organizations, two strata and four periods, 60 trials a cell."""
    design = vbc.Design(outcome="events")
    moments = vbc.Moments.from_panel(count_panel(16, 2, 4, seed=1), outcomes=["events"])
    data = from_counts(moments, design, family)
    active = active_scales(data.cells, shocks="ar1", organizations=True)
    return marginal_of(data, design, COUNT_PRIORS, active)


@cache
def studies(*, bounded: bool = True) -> Studies:
    """Return 18 effects of 10 reports on 8 programs of three types; two errors may be unprinted."""
    report = [0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 5, 6, 6, 7, 8, 8, 9, 9]
    program_of = [0, 0, 1, 2, 3, 3, 4, 5, 6, 7]
    type_of = ["aco", "aco", "aco", "bundle", "bundle", "bundle", "clinic", "clinic"]
    program = [program_of[r] for r in report]
    error = [0.3 + 0.1 * (k * 7 % 11) for k in range(len(report))]
    frame = pd.DataFrame(
        {
            "report": report, "program": program, "program_type": [type_of[p] for p in program],
            "estimate": 0.0, "std_error": error, "low": float("nan"), "high": float("nan"),
            "sample": [f"{r} {k % 2}" for k, r in enumerate(report)],
        }
    )  # fmt: skip
    if bounded:
        frame.loc[[3, 11], "std_error"] = float("nan")
        frame.loc[3, "high"], frame.loc[11, "low"] = 0.8, 0.4
    columns = Columns(std_error_low="low", std_error_high="high", sample="sample")
    return read_studies(frame, columns, (), program_effects=True)


@cache
def several_outcomes() -> Density:
    """Return 20 effects on three outcomes, of 8 reports on 6 programs of two types."""
    report = [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 4, 5, 5, 6, 7, 7, 7]
    sample = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    outcome = [0, 1, 2, 0, 1, 0, 1, 2, 0, 2, 0, 1, 0, 1, 1, 2, 0, 0, 1, 2]
    program_of, type_of = [0, 0, 1, 2, 3, 3, 4, 5], [0, 0, 0, 1, 1, 1]
    program = [program_of[r] for r in report]
    frame = pd.DataFrame(
        {
            "report": report, "program": program, "program_type": [type_of[p] for p in program],
            "sample": sample, "outcome": [f"outcome {k}" for k in outcome],
            "unit_of_measure": "percent", "estimate": 0.0,
            "std_error": [0.3 + 0.1 * (k * 7 % 11) for k in range(len(report))],
        }
    )  # fmt: skip
    columns = outcomes_data.Columns(
        "estimate", "std_error", "outcome", "unit_of_measure", "report", "program", "program_type",
        "sample",
    )  # fmt: skip
    rows = outcomes_data.read_rows(frame, columns, scale={}, within=0.4, known=None)
    return Density(rows=rows, mean_sd=3.0, sd_scale=1.0, concentration=2.0)


@cache
def compiled(case: str) -> sampled_calibration.Repeated:
    """Return a model of cell means, ready for its sampler."""
    return sampled_calibration.repeated(model(case))


@cache
def compiled_meta() -> meta_calibration.Repeated:
    """Return the meta-analysis with its default options and correlated errors, ready."""
    return meta_calibration.repeated(studies(), meta_calibration.Priors(3.0, 1.0, 4.0, 0.4))


def means(case: str, seed: int) -> Placed:
    """Calibrate the exact engine."""
    return Placed(calibration.places_of_truth(model(case), nodes=NODES, draws=DRAWS, seed=seed))


def joint(case: str, seed: int) -> Placed:
    """Calibrate the exact engine of several outcomes."""
    return Placed(
        joint_calibration.places_of_truth(
            *joint_model(case), nodes=JOINT_NODES, draws=JOINT_DRAWS, seed=seed
        )
    )


def counts(family: Counts, seed: int) -> Placed:
    """Calibrate nested Laplace."""
    return Placed(
        count_calibration.places_of_truth(
            *count_model(family), nodes=COUNT_NODES, draws=COUNT_DRAWS, seed=seed
        )
    )


def heavy(case: str, seed: int) -> Placed:
    """Calibrate the sampler of cell means."""
    # other truths in each case
    apart = seed + 10_000 * HEAVY.index(case)
    return sampled_calibration.places_of_truth(compiled(case), run=Run(), seed=apart)


def meta(seed: int) -> Placed:
    """Calibrate the sampler of the meta-analysis."""
    return meta_calibration.places_of_truth(compiled_meta(), run=META_RUN, seed=seed)


def meta_grid(seed: int) -> Placed:
    """Calibrate the numerical integration of the meta-analysis with normal deviations."""
    priors = meta_calibration.Priors(3.0, 1.0, None, 0.4)
    return Placed(
        meta_calibration.places_by_grid(studies(bounded=False), priors, draws=DRAWS, seed=seed)
    )


def meta_outcomes(seed: int) -> Placed:
    """Calibrate the meta-analysis of several outcomes."""
    return Placed(
        outcomes_calibration.places_of_truth(
            several_outcomes(), nodes=NODES, draws=DRAWS, seed=seed
        )
    )


def trees(seed: int) -> Placed:
    """Calibrate effects by trees."""
    return Placed(tree_calibration.places_of_truth(seed))


CASES = {
    **{case: Case(partial(means, case)) for case in MEANS},
    **{case: Case(partial(joint, case)) for case in JOINT},
    **{family: Case(partial(counts, family)) for family in COUNTS},
    **{case: Case(partial(heavy, case), 100) for case in HEAVY},
    "meta-analysis by grid": Case(meta_grid), "several outcomes of reports": Case(meta_outcomes),
    "meta-analysis": Case(meta, 100), "trees": Case(trees, 100),
}  # fmt: skip
