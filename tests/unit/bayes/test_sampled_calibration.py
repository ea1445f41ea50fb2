"""Calibration of sampled models: draws from the prior, and data replaced behind compiled densities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from pytensor.graph.traversal import ancestors
from scipy import stats

import vbceval as vbc
from vbceval.bayes import meta_calibration, sampled_calibration
from vbceval.bayes.averages import averages
from vbceval.bayes.cells import from_moments
from vbceval.bayes.coefficients import reference, structure
from vbceval.bayes.engines import Model
from vbceval.bayes.heavy import SLAB, draw_heavy, subgroup_coefficients
from vbceval.bayes.likelihood import Scales, density
from vbceval.bayes.meta_data import Columns, Studies, read_studies
from vbceval.bayes.meta_density import design, log_density
from vbceval.bayes.model import active_scales
from vbceval.bayes.priors import Priors
from vbceval.bayes.simulated import from_prior
from vbceval.core.rng import generator

DESIGN = vbc.Design(outcome="spend")


@pytest.fixture(autouse=True)
def _uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave models as they are: their densities are read here, and compiling takes seconds."""
    for room in (sampled_calibration, meta_calibration):
        monkeypatch.setattr(room, "compiled", lambda model: model)


def model(*, student: bool = False, horseshoe: bool = False) -> Model:
    rows = [
        (i, s, t, 2017.0 + i % 4 // 2 if i % 2 else np.nan, 10_000.0 + 7 * i * t % 50, 900.0 + i)
        for i in range(8) for s in "ab" for t in range(2015, 2019)
    ]  # fmt: skip
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
    report = np.array([0, 0, 1, 1, 2, 3])
    frame = pd.DataFrame(
        {
            "report": report, "program": report // 2, "program_type": [0, 0, 1, 1, 0, 1],
            "estimate": 0.0, "std_error": [0.5, 0.9, 0.4, np.nan, 0.7, 0.6],
            "high": [np.nan, np.nan, np.nan, 0.8, np.nan, np.nan], "sample": report,
        }
    )  # fmt: skip
    columns = Columns(std_error_high="high", sample="sample")
    return read_studies(frame, columns, (), program_effects=True)


def function_of(model: Any) -> Any:
    """The function behind the one operation of a model."""
    found = [x.owner.op for x in ancestors(model.potentials) if x.owner is not None]
    return next(op.function for op in found if type(op).__name__ == "Joint")


def test_shocks_with_drawn_scales_are_student_t() -> None:
    rng, u = np.random.default_rng(3), []
    parts = structure(model().cells)
    for _ in range(400):
        found = draw_heavy(parts, np.ones(4), 5, rng, student=True, horseshoe=False)
        assert found["degrees"] > 2
        shocks = found["shock_scale"] * rng.standard_normal(5)
        u.append(stats.t(found["degrees"]).cdf(shocks))
    assert stats.kstest(np.concatenate(u), "uniform").pvalue > 1e-3


def test_drawn_horseshoe_scales_of_subgroups_stay_below_the_slab() -> None:
    found = model(horseshoe=True)
    rng = np.random.default_rng(3)
    sds = np.array([0.5, 1.0, 2.0, 4.0])
    local = draw_heavy(found.parts, sds, 8, rng, student=False, horseshoe=True)["local_scale"]
    own = subgroup_coefficients(found.parts)
    assert np.all(np.delete(local, own) == 1.0)
    assert np.all(local[own] * sds[found.parts.part[own] - 1] <= SLAB)


@pytest.mark.parametrize("laws", [{"student": True}, {"horseshoe": True}])
def test_replaced_outcomes_reach_the_density_that_was_compiled(laws: dict[str, bool]) -> None:
    found = model(**laws)
    cells, parts, priors, active, _, _ = found
    before = cells.y.copy()
    ready = sampled_calibration.repeated(found)
    truth = from_prior(found, generator(5, "test"))
    ready.put(truth.cells)
    around = reference(truth.cells, parts, priors, active)
    z = np.linspace(-1, 1, len(around.target))
    one = np.ones(())
    scales = Scales(
        np.linspace(0.5, 1, len(parts.names) - 1), one, 2 * one, one, 0.4 * one, 0.0 * one,
        np.ones(2), np.linspace(0.5, 2, 8), np.linspace(0.5, 1, len(parts.part)),
    )  # fmt: skip
    ours, expected = (
        function_of(ready.program)(z, *scales),
        density(truth.cells, parts, priors, around, z, scales),
    )
    assert ours[0] == expected[0]
    np.testing.assert_array_equal(ours[1], expected[1])
    # what was given is left as it was
    np.testing.assert_array_equal(cells.y, before)


def test_replaced_estimates_reach_the_density_of_the_meta_analysis() -> None:
    found, priors = studies(), meta_calibration.Priors(3.0, 1.0, 4.0, 0.4)
    ready = meta_calibration.repeated(found, priors)
    ready.studies.estimate[:] = np.linspace(-2, 1, 6)
    point = np.array([0.4, 0.5, 0.6, 0.7]), np.array([0.5, 1.0, 2.0, 1.0]), np.array([0.3])
    at = design(ready.studies, mean_sd=3.0, rho=0.4)._replace(estimate=np.linspace(-2, 1, 6))
    assert function_of(ready.program)(*point)[0] == log_density(at, *point)[0]
    assert np.all(found.estimate == 0.0)


def test_estimates_drawn_from_the_prior_have_the_covariance_of_the_model() -> None:
    found, priors = studies(), meta_calibration.Priors(2.0, 1.0, 12.0, 0.4)
    rng = np.random.default_rng(8)
    drawn = []
    for _ in range(2000):
        truth = meta_calibration.from_prior(found, priors, rng)
        assert truth.std_error[0, 3] <= 0.8
        drawn.append(meta_calibration.estimates(found, truth, priors.rho, rng))
    y = np.array(drawn)
    se = found.std_error
    # mean, type, program, report and effect; the errors of one sample are correlated
    alone, same_report = 4.0 + 4.0 + se[0] ** 2, 4.0 + 3.0 + 0.4 * se[0] * se[1]
    pairs = {(0, 0): alone, (0, 1): same_report, (0, 2): 4.0 + 1.0, (0, 4): 4.0 + 1.0, (0, 5): 4.0}
    for (i, j), expected in pairs.items():
        product = y[:, i] * y[:, j]
        assert abs(product.mean() - expected) < 4 * product.std() / np.sqrt(len(y)), (i, j)


def test_kept_draws_are_at_even_distances() -> None:
    assert sampled_calibration.evenly(40).tolist() == list(range(1, 38, 2))
