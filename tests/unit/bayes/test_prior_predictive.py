"""Cells drawn from the prior: what a model believes before it has seen outcomes."""

from __future__ import annotations

import arviz
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.bayes import HierarchicalDiD, Limits, RatePriors
from vbceval.bayes.averages import averages
from vbceval.bayes.cells import from_moments
from vbceval.bayes.coefficients import structure
from vbceval.bayes.draws import prior_effects
from vbceval.bayes.engines import Model
from vbceval.bayes.model import active_scales
from vbceval.bayes.priors import Priors
from vbceval.bayes.simulated import prior_cells
from vbceval.core.rng import generator

SPEND, EVENTS = vbc.Design(outcome="spend"), vbc.Design(outcome="events")
PEOPLE, PERSON_SD = 5_000.0, 20_000.0
LOOSE = Limits(ess=50.0)


def panel(n: int = 8, **columns: str) -> vbc.Panel:
    rng, rows = np.random.default_rng(4), []
    for i in range(n):
        for t in (2016, 2017, 2018):
            entry = 2018.0 if i % 2 else np.nan
            rows.append((i, t, entry, rng.normal(10_000, 300), PEOPLE, rng.binomial(300, 0.2), 300))
    names = ["aco", "year", "entry", "spend", "people", "events", "trials"]
    frame = pd.DataFrame(rows, columns=names)
    return vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry", **columns)


def test_changes_of_treated_units_have_the_variance_of_noise_and_of_the_effect() -> None:
    """Without shocks a difference of two changes has nothing else; the level of units is observed."""
    moments = vbc.Moments.from_panel(panel(weight="people"), outcomes=["spend"])
    cells = from_moments(moments, SPEND, person_sd=PERSON_SD)
    parts, priors = structure(cells), Priors()
    active = active_scales(cells, shocks="none", organizations=False)
    model = Model(cells, parts, priors, active, 0.0, averages(cells, SPEND).weights)
    drawn = np.vstack([prior_cells(model, seed=seed) for seed in range(5)])
    y, seen = drawn.reshape(-1, 8, 3), cells.y.reshape(8, 3)
    np.testing.assert_allclose(y.mean(axis=2), np.tile(seen.mean(axis=1), (len(y), 1)), rtol=1e-12)
    change = y[:, :, 2] - y[:, :, 1]
    both = change[:, 1] - change[:, 0]
    effect = prior_effects(parts, priors, generator(1, "test"), 100_000)[:, 0]
    noise = 4 * (100 * PERSON_SD / cells.baseline[0]) ** 2 / PEOPLE
    # Monte Carlo error of a variance of 1,000 draws of a law with heavy tails: 6 percent
    assert both.var() == pytest.approx(noise + effect.var(), rel=0.24)
    untreated = (change[:, 2] - change[:, 0]).var()
    assert untreated == pytest.approx(noise, rel=0.18)


def test_the_tree_has_them_and_arviz_draws_them() -> None:
    est = HierarchicalDiD(person_sd=PERSON_SD, nodes=64, draws=100, alternatives=()).fit(
        panel(weight="people"), SPEND, limits=LOOSE
    )
    tree = est.to_arviz()
    before, after = (tree[f"{x}_predictive"]["y"].values for x in ("prior", "posterior"))
    assert before.shape == after.shape == (1, 200, 24)
    # outcomes teach: what is new is nearer to what was seen
    assert after.std(axis=1).mean() < 0.7 * before.std(axis=1).mean()
    arviz.plot_ppc_dist(tree, group="prior_predictive")
    plt.close("all")


@pytest.mark.parametrize("family", ["binomial", "poisson", "negative_binomial"])
def test_counts_are_drawn_from_the_prior(family: str) -> None:
    # the widest priors there are
    priors = RatePriors(level=1.0 if family == "binomial" else 5.0)
    est = HierarchicalDiD(
        family=family, prior=priors, nodes=64, draws=100, alternatives=()
    ).fit(panel(exposure="trials"), EVENTS, limits=LOOSE)  # fmt: skip
    drawn = est.to_arviz()["prior_predictive"]["events"].values
    assert drawn.shape == (1, 200, 24)
    assert (drawn == np.rint(drawn)).all()
    assert drawn.min() >= 0
    if family == "binomial":
        assert drawn.max() <= 300
        # the rate of a cell is as likely above as below the observed level
        assert 0.35 < (drawn[0, :, 0] > 300 * 0.2).mean() < 0.65
    else:
        assert np.isfinite(drawn).all()
