"""An estimate given published evidence: closed forms, quadrature, and what is left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vbceval.bayes import MetaAnalysis, Priors, evidence_prior, given_evidence, headline
from vbceval.bayes.evidence_prior import Effects, EvidencePrior
from vbceval.core.errors import DataError, DesignError, EstimationError
from vbceval.estimates import Estimates
from vbceval.evidence import independent_of

PUBLISHED = pd.DataFrame(
    {
        "label": ["A in 2013", "A in 2016", "A later", "B", "C", "D", "E"],
        "program": ["A", "A (clinics)", "a", "B", "C", "D", "E"],
        "report": ["r1", "r2", "r3", "r4", "r5", "r6", "r7"],
        "program_type": ["aco", "aco", "aco", "aco", "aco", "bundle", "bundle"],
        "period": ["PY2013", "2015-2016", "first years", "2012", "2014", "2018", "2019"],
        "percent_effect": [-5.0, -5.0, -5.0, -1.0, -1.4, -0.8, -1.6],
        "se_percent": [0.3, 0.3, 0.3, 0.4, 0.5, 0.6, 0.5],
    }
).assign(se_percent_low=np.nan, se_percent_high=np.nan)
GRID = MetaAnalysis(robust=False, engine="grid", draws=1000)


def one(
    estimate: float, error: float, *, unit: str = "USD per year", df: float = np.inf
) -> Estimates:
    frame = pd.DataFrame(
        {"estimand": ["att_overall"], "unit_of_measure": [unit], "estimate": [estimate], "df": [df]}
    )
    return Estimates(frame=frame, covariance=np.array([[error**2]]))


def mixture(centre: list[float], sd: list[float]) -> EvidencePrior:
    """Equal parts, each repeated so that weights are worth enough draws."""
    law = Effects(np.repeat(centre, 1000), np.repeat(np.square(sd), 1000), np.zeros(1000 * len(sd)))
    used = PUBLISHED.iloc[3:]
    return EvidencePrior(
        effects=law, used=used, left_out=used.assign(why="x").iloc[:0], program=("A", "Alpha"),
        program_type="aco", meta={},
    )  # fmt: skip


def test_one_estimate_and_a_normal_prior_are_the_weighted_mean() -> None:
    found = given_evidence(one(-200.0, 100.0), Priors(effect=1.5, effect_mean=-0.5), baseline=1e4)
    w = 1.5**2 / (1.5**2 + 1.0)
    mean, sd = w * -2.0 + (1 - w) * -0.5, np.sqrt(w)
    percent, money = found.where([0]), found.where([1])
    assert percent.estimate[0] == pytest.approx(mean, abs=1e-12)
    assert money.estimate[0] == pytest.approx(100 * mean, abs=1e-10)
    assert percent.frame["weight_of_estimate"][0] == pytest.approx(w)
    # four Monte Carlo standard errors of 4,000 draws
    assert percent.draws().mean() == pytest.approx(mean, abs=4 * sd / np.sqrt(4000))
    assert percent.draws().std() == pytest.approx(sd, abs=4 * sd / np.sqrt(8000))
    assert np.allclose(money.draws(), 100 * percent.draws())


def test_mixture_prior_and_student_errors_agree_with_quadrature() -> None:
    prior = mixture([-4.0, 0.5], [0.5, 1.0])
    found = given_evidence(one(-1.5, 1.0, unit="percent", df=6.0), prior, draws=20_000)
    x = np.linspace(-9.0, 6.0, 20_001)
    density = stats.norm.pdf(x, -4.0, 0.5) + stats.norm.pdf(x, 0.5, 1.0)
    density *= stats.t.pdf((-1.5 - x) / 1.0, 6)
    density /= density.sum()
    mean = density @ x
    assert found.estimate[0] == pytest.approx(mean, abs=0.05)
    assert found.std_error[0] == pytest.approx(np.sqrt(density @ (x - mean) ** 2), rel=0.05)
    assert found.probability(below=-1.0)[0] == pytest.approx(density[x < -1].sum(), abs=0.03)


def test_rows_of_one_program_borrow_from_each_other() -> None:
    frame = pd.DataFrame(
        {"estimand": "att_cohort", "cohort": [2013.0, 2014.0], "unit_of_measure": "percent",
         "estimate": [-3.0, -1.0]}
    )  # fmt: skip
    noise = np.array([[0.5, 0.2], [0.2, 2.0]])
    law = Effects(np.full(8000, -1.0), np.full(8000, 1.5), np.full(8000, 0.4))
    prior = mixture([-1.0], [1.0])
    object.__setattr__(prior, "effects", law)
    found = given_evidence(Estimates(frame=frame, covariance=noise), prior)
    own = 1.5 + 0.4 * np.eye(2)
    gain = own @ np.linalg.inv(own + noise)
    mean = -1.0 + gain @ (np.array([-3.0, -1.0]) + 1.0)
    assert found.estimate == pytest.approx(mean, abs=1e-10)
    assert found.vcov() == pytest.approx(own - gain @ own, abs=0.06)
    # the second row is imprecise, and is drawn towards the first
    assert found.estimate[1] < -1.0


def test_results_of_the_same_program_are_left_out_and_named() -> None:
    prior = evidence_prior(PUBLISHED, program="A", program_type="aco", model=GRID)
    assert prior.left_out["label"].tolist() == ["A in 2013", "A in 2016", "A later"]
    assert set(prior.left_out["why"]) == {"same program"}
    # what is left lies near -1.2; with the program itself it would be drawn to -5
    assert -2.0 < prior.mean < -0.5
    assert "A in 2013 (same program)" in prior.describe()
    found = given_evidence(one(-50.0, 80.0), prior, baseline=1e4)
    assert [x["label"] for x in found.meta["left_out"]] == ["A in 2013", "A in 2016", "A later"]
    assert [x["prior"] for x in found.meta["prior_sensitivity"]] == [
        "evidence", "default", "skeptical", "flat"
    ]  # fmt: skip
    assert headline(found).count("\n") == 3
    law = prior.priors(spread=0.5)
    assert (law.effect_mean, law.effect, law.spread) == (prior.mean, prior.sd, 0.5)


def test_years_keep_results_of_other_years_and_a_new_type_is_wider() -> None:
    some = evidence_prior(
        PUBLISHED, program="A", program_type="aco", years=(2016, 2019), model=GRID
    )
    assert some.left_out["why"].tolist() == [
        "same program, overlapping years", "same program, years not printed"
    ]  # fmt: skip
    old = evidence_prior(PUBLISHED, program="A", program_type="aco", model=GRID)
    new = evidence_prior(PUBLISHED, program="A", program_type="hospital", model=GRID)
    assert (new.program_type, new.sd > old.sd) == ("new", True)


def test_what_has_no_posterior_is_refused() -> None:
    with pytest.raises(DesignError, match="no positive `baseline`"):
        given_evidence(one(-200.0, 100.0), "flat")
    with pytest.raises(DesignError, match="beyond 100 percent"):
        given_evidence(one(-200.0, 100.0), "flat", baseline=10.0)
    two = one(-2.0, 1.0, unit="percent").contrast(np.array([[1.0], [2.0]]))
    with pytest.raises(DesignError, match="combinations of others"):
        given_evidence(two, "flat")
    prior, centre = mixture([-1.0], [0.1]), np.random.default_rng(1).normal(-1.0, 1.0, 8000)
    object.__setattr__(prior, "effects", Effects(centre, np.full(8000, 0.01), np.zeros(8000)))
    with pytest.raises(EstimationError, match="so far from the prior"):
        given_evidence(one(60.0, 0.1, unit="percent"), prior)
    with pytest.raises(DesignError, match="2 published effects are left"):
        evidence_prior(PUBLISHED.iloc[2:5], program="a", program_type="aco", model=GRID)
    with pytest.raises(DataError, match="names none"):
        evidence_prior(PUBLISHED, program=" ", program_type="aco", model=GRID)
    with pytest.raises(EstimationError, match="no result under other priors"):
        headline(one(-2.0, 1.0))


def test_a_posterior_brings_its_own_prior_and_the_result_says_so() -> None:
    first = given_evidence(one(-2.0, 1.0, unit="percent"), "skeptical")
    assert first.meta["warnings"] == []
    assert "whose prior counts" in given_evidence(first, "skeptical").meta["warnings"][0]


def test_percentage_points_are_not_percent_of_a_mean() -> None:
    points = one(-1.0, 0.5, unit="percentage points")
    # the mean of a share is a share: it is no baseline of effects in points
    own = points.with_frame(points.frame.assign(baseline=0.2))
    for est in (points, own):
        with pytest.raises(DesignError, match="1 rows in `percentage points` have no positive"):
            given_evidence(est, "flat")
    found = given_evidence(own, Priors(effect=2.5), baseline=20.0)
    # an effect of -5 percent with standard error 2.5
    assert found.estimate.tolist() == pytest.approx([-2.5, -0.5])
    assert found.frame["unit_of_measure"].tolist() == ["percent of baseline", "percentage points"]


def test_options_and_rows_that_would_be_read_wrongly_are_refused() -> None:
    percent = one(-2.0, 1.0, unit="percent")
    with pytest.raises(DesignError, match="would change nothing"):
        given_evidence(percent, "flat", baseline=1e4)
    with pytest.raises(DesignError, match="2 values for 1 rows"):
        given_evidence(one(-200.0, 100.0), "flat", baseline=[1e4, 1e4])
    frame = pd.DataFrame(
        {"estimand": "att_overall", "outcome": ["spend", "visits"], "estimate": [-1.0, -2.0],
         "unit_of_measure": "percent"}
    )  # fmt: skip
    with pytest.raises(DesignError, match="rows are of 2 outcomes"):
        given_evidence(Estimates(frame=frame, covariance=np.eye(2)), "flat")


def test_monte_carlo_error_counts_the_draws_of_the_prior() -> None:
    """Answers from other draws of one prior differ by what `statements` says."""
    found, said = [], []
    for seed in range(20):
        centre = np.random.default_rng(seed).normal(0.0, 1.0, 4000)
        prior = mixture([0.0], [1.0])
        law = Effects(centre, np.full(4000, 1e-4), np.zeros(4000))
        object.__setattr__(prior, "effects", law)
        est = given_evidence(
            one(-1.0, 0.2, unit="percent"), prior, alternatives=(), seed=seed, draws=8000
        )
        row = est.statements(thresholds=(-1.0,)).set_index("statement").loc["below"]
        found.append(row["value"])
        said.append(row["mcse"])
    assert np.std(found) == pytest.approx(np.mean(said), rel=0.5)
    # parts that are all the same are no source of error
    same = given_evidence(one(-1.0, 1.0, unit="percent"), "skeptical")
    assert same.meta["convergence"]["ess_bulk"] == pytest.approx(4000)


def test_another_prior_that_fails_leaves_the_posterior_standing() -> None:
    frame = pd.DataFrame(
        {"estimand": "att_cohort", "cohort": [2013.0, 2014.0], "unit_of_measure": "percent",
         "estimate": [-20.0, 20.0]}
    )  # fmt: skip
    prior = mixture([0.0], [1.0])
    law = Effects(np.zeros(4000), np.ones(4000), np.full(4000, 400.0))
    object.__setattr__(prior, "effects", law)
    est = Estimates(frame=frame, covariance=0.01 * np.eye(2))
    found = given_evidence(est, prior, alternatives=("skeptical",))
    assert found.estimate == pytest.approx([-20.0, 20.0], abs=0.1)
    own, other = pd.DataFrame(found.meta["prior_sensitivity"]).groupby("prior", sort=False)
    assert np.isfinite(own[1]["estimate"]).all()
    assert other[1]["method"].str.startswith("failed: the estimates are so far").all()
    assert other[1]["estimate"].isna().all()
    assert "failed" in headline(found)


def test_years_in_two_digits_and_programs_that_the_table_does_not_have() -> None:
    table = pd.DataFrame({"program": "A", "period": ["2013-15", "2010-07..2011-06", "2012/13"]})
    found = independent_of(table, "a", years=(2014, 2019))
    assert found["last_year"].tolist() == [2015.0, 2011.0, 2013.0]
    assert found["kept"].tolist() == [False, True, True]
    # a name that no result has is said: it may be spelled otherwise in the table
    assert "nothing, as no such result of `A`, `Alpha` is in" in mixture([0.0], [1.0]).describe()
