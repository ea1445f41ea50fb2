"""Propensities against statsmodels and brute force; overlap; separation."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.optimize import minimize

import vbceval as vbc
from vbceval.balance import features
from vbceval.balance.logit import RIDGE


def design_matrix(found) -> np.ndarray:
    return sm.add_constant(found.z)


def test_logit_is_that_of_statsmodels(frame, panel) -> None:
    data = panel(frame, weight="size")
    weights = vbc.balance.propensity(data, ["a", "b", "kind"])
    found = weights.features
    model = sm.GLM(
        found.treated.astype(float), design_matrix(found), family=sm.families.Binomial(),
        freq_weights=found.base,
    ).fit(tol=1e-14, maxiter=100)  # fmt: skip
    p = model.fittedvalues
    np.testing.assert_allclose(weights.propensity, p, rtol=1e-10)
    odds = np.where(found.treated, 1.0, p / (1 - p))
    np.testing.assert_allclose(weights.weight, odds, rtol=1e-9)
    assert dict(weights) == dict(zip(found.labels, weights.weight, strict=True))


@pytest.mark.parametrize(
    ("estimand", "treated", "comparison"),
    [
        ("att", lambda p: 1 + 0 * p, lambda p: p / (1 - p)),
        ("ate", lambda p: 1 / p, lambda p: 1 / (1 - p)),
        ("atc", lambda p: (1 - p) / p, lambda p: 1 + 0 * p),
        ("overlap", lambda p: 1 - p, lambda p: p),
    ],
)
def test_estimands(frame, panel, estimand, treated, comparison) -> None:
    weights = vbc.balance.propensity(panel(frame), ["a", "b"], estimand=estimand)
    p, d = weights.propensity, weights.features.treated
    np.testing.assert_allclose(weights.weight, np.where(d, treated(p), comparison(p)))


def test_cohorts_by_multinomial_logit(frame, panel) -> None:
    weights = vbc.balance.propensity(panel(frame), ["a", "b"], by="cohort")
    found = weights.features
    code = np.nan_to_num(found.cohort - 2012, nan=0.0).astype(int)
    model = sm.MNLogit(code, design_matrix(found)).fit(disp=0, method="newton", tol=1e-12)
    p = model.predict()
    expected = np.where(found.treated, 1.0, p[:, 1:].sum(axis=1) / p[:, 0])
    np.testing.assert_allclose(weights.weight, expected, rtol=1e-8)


def test_overlap_weights_balance_exactly(frame, panel) -> None:
    table = vbc.balance.overlap(panel(frame, weight="size"), ["a", "b", "kind"]).balance()
    assert table["smd_before"].abs().max() > 0.3
    assert table["smd_after"].abs().max() < 1e-10


def test_firth_maximises_its_penalised_likelihood(frame, panel) -> None:
    data = panel(frame, weight="size")
    weights = vbc.balance.propensity(data, ["a", "b"], penalty="firth")
    found = weights.features
    x, d, q = design_matrix(found), found.treated, found.base

    def loss(beta: np.ndarray) -> float:
        eta = x @ beta
        p = 1 / (1 + np.exp(-eta))
        information = (x * (q * p * (1 - p))[:, None]).T @ x
        return float(q @ (np.logaddexp(0, eta) - d * eta) - 0.5 * np.linalg.slogdet(information)[1])

    best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(weights.propensity, 1 / (1 + np.exp(-(x @ best))), rtol=1e-6)


def test_separation_is_found_by_name_and_penalised(frame, panel) -> None:
    split = frame.assign(c=frame["entry"].notna() * 1.0 + frame["b"] * 0.01)
    data = panel(split)
    with pytest.raises(vbc.EstimationError, match=r"`c`.* tell exactly who enters"):
        vbc.balance.propensity(data, ["a", "c"], penalty="none")
    weights = vbc.balance.propensity(data, ["a", "c"])
    assert weights.meta["penalty"] == "ridge"
    assert "ridge penalty" in weights.warnings[0]
    assert np.isfinite(weights.weight).all()
    # the ridge maximises its own criterion
    found = weights.features
    x = np.column_stack([np.ones(60), found.standardised()])
    p = weights.propensity
    eta = np.log(p / (1 - p))
    beta = np.linalg.lstsq(x, eta, rcond=None)[0]
    score = x.T @ (found.treated - p) - 60 * RIDGE * np.append(0.0, beta[1:])
    np.testing.assert_allclose(score, 0, atol=1e-7)
    firth = vbc.balance.propensity(data, ["a", "c"], penalty="firth")
    assert np.isfinite(firth.weight).all()


def test_quasi_separation_is_separation(frame, panel) -> None:
    """A category that only the treated have, beside one that both have."""
    only = frame.assign(c=((frame["entry"] == 2013.0) & (frame["aco"] % 2 == 0)) * 1.0)
    with pytest.raises(vbc.EstimationError, match="`c`"):
        vbc.balance.propensity(panel(only), ["a", "c"], penalty="none")


def test_tilting_is_entropy_balancing(frame, panel) -> None:
    data = panel(frame, weight="size")
    tilted = vbc.balance.propensity(data, ["a", "b"], method="ipt")
    balanced = vbc.balance.entropy(data, ["a", "b"])
    np.testing.assert_array_equal(tilted.weight, balanced.weight)
    # log odds are linear in the features
    found = tilted.features
    rows = design_matrix(found)[found.comparison]
    index = np.log(tilted.weight[found.comparison])
    np.testing.assert_allclose(rows @ np.linalg.lstsq(rows, index, rcond=None)[0], index, atol=1e-9)


def test_invariances(frame, panel) -> None:
    data = panel(frame)
    one = vbc.balance.propensity(data, ["a", "b"]).to_series()
    shuffled = frame.sample(frac=1, random_state=1).assign(a=1e6 * frame["a"] + 5)
    np.testing.assert_allclose(
        vbc.balance.propensity(panel(shuffled), ["b", "a"]).to_series(), one, rtol=1e-8
    )
    named = frame.assign(aco="p" + (99 - frame["aco"]).astype(str))
    other = vbc.balance.propensity(panel(named), ["a", "b"]).to_series()
    np.testing.assert_allclose(other.to_numpy()[::-1], one.to_numpy(), rtol=1e-10)
    base = vbc.balance.propensity(data, ["a", "b"], base=dict.fromkeys(range(60), 9.0))
    np.testing.assert_allclose(base.to_series(), one, rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "probit"}, "`method` is 'probit'"),
        ({"estimand": "all"}, "`estimand` is 'all'"),
        ({"by": "year"}, "`by` is 'year'"),
        ({"penalty": "lasso"}, "`penalty` is 'lasso'"),
        ({"by": "cohort", "estimand": "ate"}, "adds up odds of cohorts"),
        ({"by": "cohort", "penalty": "firth"}, "adds up odds of cohorts"),
        ({"method": "ipt", "estimand": "overlap"}, "tilts the comparison"),
    ],
)
def test_refusals(frame, panel, options, said) -> None:
    with pytest.raises(vbc.DesignError, match=said):
        vbc.balance.propensity(panel(frame), ["a"], **options)


def test_histogram_counts_organizations_and_hides_few_people(frame, panel) -> None:
    counts = vbc.balance.propensity(panel(frame), ["a", "b"]).propensities(10)
    assert counts[["n_treated", "n_comparison"]].sum().sum() == 60
    hidden = vbc.balance.propensity(panel(frame, people=True), ["a", "b"]).propensities(10)
    few = (counts[["n_treated", "n_comparison"]] > 0) & (
        counts[["n_treated", "n_comparison"]] <= 10
    )
    assert few.any().any()
    assert hidden[["n_treated", "n_comparison"]].isna().equals(few)
    with pytest.raises(vbc.DesignError, match="has no propensity"):
        vbc.balance.entropy(panel(frame), ["a"]).propensities()
    assert features(panel(frame, people=True), ["a"]).people
