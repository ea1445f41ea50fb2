"""The models of `calibration.py`, by the names of its cases, on small panels."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import pandas as pd
from hierarchical_panel import OUTCOME, count_panel, hierarchical_panel

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
from vbceval.bayes.meta_data import Columns, Studies, read_studies
from vbceval.bayes.model import active_scales
from vbceval.bayes.priors import Priors
from vbceval.bayes.sampled_calibration import Placed, Run
from vbceval.bayes.trees import calibration as tree_calibration

MEANS = ("plain", "uncertain spread of persons", "rows of people")
HEAVY = ("student", "horseshoe")
NODES, DRAWS = 512, 999
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
def count_model(family: Counts) -> tuple[CountMarginal, Rows]:
    """Return a model of counts of 16 organizations, two strata and four periods, 60 trials a cell."""
    design = vbc.Design(outcome="events")
    moments = vbc.Moments.from_panel(count_panel(16, 2, 4, seed=1), outcomes=["events"])
    data = from_counts(moments, design, family)
    active = active_scales(data.cells, shocks="ar1", organizations=True)
    return marginal_of(data, design, COUNT_PRIORS, active)


@cache
def studies() -> Studies:
    """Return 18 effects of 10 reports on 8 programs of three types; two errors are not printed."""
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
    frame.loc[[3, 11], "std_error"] = float("nan")
    frame.loc[3, "high"], frame.loc[11, "low"] = 0.8, 0.4
    columns = Columns(std_error_low="low", std_error_high="high", sample="sample")
    return read_studies(frame, columns, (), program_effects=True)


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


def trees(seed: int) -> Placed:
    """Calibrate effects by trees."""
    return Placed(tree_calibration.places_of_truth(seed))


CASES = {
    **{case: Case(partial(means, case)) for case in MEANS},
    **{family: Case(partial(counts, family)) for family in COUNTS},
    **{case: Case(partial(heavy, case), 100) for case in HEAVY},
    "meta-analysis": Case(meta, 100), "trees": Case(trees, 100),
}  # fmt: skip
