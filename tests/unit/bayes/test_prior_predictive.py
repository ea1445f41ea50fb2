"""Cells drawn from the prior: what a model believes before it has seen outcomes."""

from __future__ import annotations

import arviz
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import vbceval as vbc
from vbceval.bayes import (
    HierarchicalDiD,
    JointDiD,
    JointMetaAnalysis,
    Limits,
    MetaAnalysis,
    RatePriors,
)
from vbceval.bayes.averages import averages
from vbceval.bayes.cells import from_moments
from vbceval.bayes.coefficients import structure
from vbceval.bayes.draws import prior_effects
from vbceval.bayes.engines import Model
from vbceval.bayes.joint import simulated as joint_simulated
from vbceval.bayes.joint.correlated import Joint, stated_correlation
from vbceval.bayes.joint.stacked import stack_cells
from vbceval.bayes.meta_data import Columns, read_studies
from vbceval.bayes.meta_posterior import prior_errors
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
            spend, events = rng.normal(10_000, 300), rng.binomial(300, 0.2)
            rows.append((i, t, entry, spend, PEOPLE, events, 300, spend / 250))
    names = ["aco", "year", "entry", "spend", "people", "events", "trials", "visits"]
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


# ------------------------------------------------------------------ several outcomes


def close(values: np.ndarray, expected: float) -> None:
    """Compare a mean of independent values with what it should be, within 4 standard errors."""
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - expected) < 4 * error, (values.mean(), expected, error)


def two_outcomes(*, organizations: bool) -> Joint:
    single = []
    for name, sd in (("spend", PERSON_SD), ("visits", PERSON_SD / 500)):
        moments = vbc.Moments.from_panel(panel(weight="people"), outcomes=[name])
        single.append(from_moments(moments, vbc.Design(outcome=name), person_sd=sd))
    return Joint(
        stacked=stack_cells(single, ("spend", "visits")), shocks="none",
        organizations=organizations, person_log_sd=0.0, stated=np.ones(2, dtype=bool),
        person_correlation=stated_correlation(0.6, ("spend", "visits")), concentration=2.0,
    )  # fmt: skip


def test_two_outcomes_share_noise_and_nothing_else() -> None:
    """Differences of two changes, as above; a person's outcomes are correlated .6, effects are not."""
    joint, priors = two_outcomes(organizations=True), Priors(organization=1.5)
    cells = joint.stacked.cells
    drawn = np.vstack([joint_simulated.prior_cells(joint, priors, seed=k) for k in range(5)])
    frame = pd.DataFrame({"o": cells.stratum, "aco": cells.cluster, "t": cells.period})
    order = frame.sort_values(["o", "aco", "t"]).index.to_numpy()
    y, seen = (x[..., order].reshape(*x.shape[:-1], 2, 8, 3) for x in (drawn, cells.y))
    np.testing.assert_allclose(y.mean(axis=3), np.broadcast_to(seen.mean(axis=2), y.shape[:3]))
    change = y[..., 2] - y[..., 1]
    untreated, treated = change[:, :, 2] - change[:, :, 0], change[:, :, 1] - change[:, :, 0]
    noise = 4 * (100 * np.array([PERSON_SD, PERSON_SD / 500]) / cells.baseline) ** 2 / PEOPLE
    effect = prior_effects(joint.stacked.parts, priors, generator(1, "test"), 100_000)
    for o in range(2):
        close(untreated[:, o] ** 2, noise[o])
        # half-normal: the mean square is the scale squared
        close(treated[:, o] ** 2, noise[o] + effect[:, o].var() + 1.5**2)
    for found in (untreated, treated):
        close(found[:, 0] * found[:, 1], 0.6 * np.sqrt(noise[0] * noise[1]))


def test_the_tree_of_two_outcomes_has_cells_of_the_prior() -> None:
    designs = [vbc.Design(outcome=x) for x in ("spend", "visits")]
    est = JointDiD(
        person_sd={"spend": PERSON_SD, "visits": 40.0}, nodes=64, draws=100, shocks="none",
        alternatives=(),
    ).fit(panel(weight="people"), designs, limits=LOOSE)  # fmt: skip
    tree = est.to_arviz()
    before, after = (tree[f"{x}_predictive"]["y"].values for x in ("prior", "posterior"))
    assert before.shape == after.shape == (1, 200, 48)
    assert after.std(axis=1).mean() < 0.7 * before.std(axis=1).mean()
    arviz.plot_ppc_dist(tree, group="prior_predictive")
    plt.close("all")


# ------------------------------------------------------------------ effects of reports

REPORTS = pd.DataFrame(
    {
        "report": ["a", "a", "b", "c", "d"], "program": ["A", "A", "A", "B", "C"],
        "program_type": ["aco", "aco", "aco", "aco", "bundle"], "sample": [0, 0, 1, 2, 3],
        "estimate": [-1.4, -0.9, -2.0, -1.7, 0.1], "std_error": [0.6, 0.5, 1.0, 0.6, 0.4],
    }
)  # fmt: skip
MEAN, SPREAD = 2.0, 0.7


def test_effects_of_the_prior_have_the_covariance_of_the_levels() -> None:
    est = MetaAnalysis(robust=False, engine="grid", mean_sd=MEAN, sd_scale=SPREAD, rho=0.4).fit(
        REPORTS, sample="sample"
    )
    tree = est.to_arviz()
    y = tree["prior_predictive"]["estimate"].values[0]
    se, level = REPORTS["std_error"].to_numpy(), SPREAD**2
    assert est.meta["levels"] == ["type", "program", "report", "effect"]
    for (i, j), expected in {
        (0, 0): MEAN**2 + 4 * level + se[0] ** 2, (0, 1): MEAN**2 + 3 * level + 0.4 * se[0] * se[1],
        (0, 2): MEAN**2 + 2 * level, (0, 3): MEAN**2 + level, (0, 4): MEAN**2,
    }.items():  # fmt: skip
        close(y[:, i] * y[:, j], expected)
    # each set is of one draw of the prior
    mean = tree["prior"]["mean_effect"].values[0]
    close(y[:, 4] * mean, MEAN**2)
    arviz.plot_ppc_dist(tree, group="prior_predictive")
    plt.close("all")


def test_unprinted_errors_are_drawn_within_their_bounds() -> None:
    frame = REPORTS.assign(low=np.nan, high=np.nan)
    frame.loc[[1, 3], "std_error"] = np.nan
    frame.loc[1, "high"], frame.loc[3, "low"] = 0.5, 0.7
    columns = Columns(std_error_low="low", std_error_high="high")
    studies = read_studies(frame, columns, (), program_effects=True)
    drawn = prior_errors(studies, 2000, np.random.default_rng(1))
    assert (drawn[:, [0, 2, 4]] == frame["std_error"].to_numpy()[[0, 2, 4]]).all()
    assert drawn[:, 1].max() <= 0.5 <= 0.7 <= drawn[:, 3].min()
    # log-normal, cut off at the bounds
    law = studies.error_law
    normal = stats.norm(law.log_mean, law.log_sd)
    below = normal.cdf(np.log(0.4)) / normal.cdf(np.log(0.5))
    close((drawn[:, 1] < 0.4).astype(float), below)
    above = normal.sf(np.log(0.9)) / normal.sf(np.log(0.7))
    close((drawn[:, 3] > 0.9).astype(float), above)


def test_effects_on_two_outcomes_have_their_units_and_correlated_errors() -> None:
    half = REPORTS.assign(
        estimate=0.01 * REPORTS["estimate"], std_error=0.01 * REPORTS["std_error"]
    )
    frame = pd.concat(
        [
            REPORTS.assign(outcome="spending", unit_of_measure="percent"),
            half.assign(outcome="deaths", unit_of_measure="rate"),
        ]
    ).drop_duplicates(["report", "outcome"])
    est = JointMetaAnalysis(
        within=0.5, scale={"deaths": 0.01}, mean_sd=MEAN, sd_scale=SPREAD, nodes=256
    ).fit(frame.reset_index(drop=True))
    y = est.to_arviz()["prior_predictive"]["estimate"].values[0]
    level = SPREAD**2
    assert est.meta["levels"] == ["type", "program", "report"]
    # rows: spending of a, b, c, d, then deaths
    for (i, j), expected in {
        (0, 0): MEAN**2 + 3 * level + 0.36, (0, 1): MEAN**2 + 2 * level, (0, 2): MEAN**2 + level,
        (0, 3): MEAN**2, (4, 4): 1e-4 * (MEAN**2 + 3 * level + 0.36),
        # correlations of true effects are as likely above as below zero
        (0, 4): 0.01 * 0.5 * 0.36, (0, 5): 0.0,
    }.items():  # fmt: skip
        close(y[:, i] * y[:, j], expected)
