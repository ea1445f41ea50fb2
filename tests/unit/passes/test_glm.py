"""Streaming Newton: the maximum likelihood and covariance of statsmodels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from vbceval.core.errors import DataError, DesignError, EstimationError
from vbceval.inference import SSC
from vbceval.passes import Term, by_unit, glm

from .conftest import TERMS, panel, regressors

COLUMNS = {
    "terms": TERMS, "cluster": "provider", "period": "q", "covariates": ["hcc"],
    "attributes": ["entry"], "unit": "person",
}  # fmt: skip
FAMILIES = {
    "logit": ("any", sm.families.Binomial()),
    "poisson": ("visits", sm.families.Poisson()),
    "gamma": ("cost", sm.families.Gamma(sm.families.links.Log())),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_digits_of_statsmodels(duck, family) -> None:
    frame = panel()
    outcome, kind = FAMILIES[family]
    exposure = None if family == "logit" else "months"
    fit = glm(frame, duck, outcome=outcome, family=family, exposure=exposure, **COLUMNS)
    people = by_unit(fit, frame, duck, buckets=3)
    offset = None if exposure is None else np.log(frame[exposure])
    x = regressors(frame, periods=True)
    model = sm.GLM(frame[outcome], x, family=kind, offset=offset)
    options = {"tol": 1e-14, "maxiter": 200, "cov_type": "cluster"}
    one = model.fit(**options, cov_kwds={"groups": pd.factorize(frame["provider"])[0]})
    two = model.fit(**options, cov_kwds={"groups": pd.factorize(frame["person"])[0]})
    assert fit.names == tuple(x.columns)
    np.testing.assert_allclose(fit.coefficients, one.params, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(fit.std_error, one.bse, rtol=1e-8)
    np.testing.assert_allclose(people.std_error, two.bse, rtol=1e-8)
    assert fit.meta["iterations"] < 12


def test_the_expected_information_is_that_of_r(duck) -> None:
    """Gamma with a log link is not canonical: R's sandwich has (X'WX)^-1 as bread."""
    frame = panel()
    options = {"outcome": "cost", "family": "gamma", "weight": "months", **COLUMNS}
    fit = glm(frame, duck, **options, information="expected", ssc=SSC.none())
    x = regressors(frame, periods=True)
    kind = sm.families.Gamma(sm.families.links.Log())
    model = sm.GLM(frame["cost"], x, family=kind, var_weights=frame["months"])
    found = model.fit(tol=1e-14, maxiter=200)
    residual = frame["months"] * (frame["cost"] / found.mu - 1)
    scores = x.mul(residual, axis=0).groupby(frame["provider"]).sum().to_numpy()
    bread = found.normalized_cov_params.to_numpy()
    np.testing.assert_allclose(fit.coefficients, found.params, rtol=1e-8)
    np.testing.assert_allclose(fit.covariance, bread @ scores.T @ scores @ bread, rtol=1e-7)
    observed = glm(frame, duck, **options, ssc=SSC.none())
    assert np.max(np.abs(observed.std_error / fit.std_error - 1)) > 1e-3
    count = {**options, "outcome": "visits", "family": "poisson"}
    one, two = (glm(frame, duck, **count, information=i) for i in ("observed", "expected"))
    assert np.array_equal(one.covariance, two.covariance)
    with pytest.raises(DesignError, match="`information` is 'both'"):
        glm(frame, duck, **options, information="both")


def test_terms_may_depend_on_strata(duck) -> None:
    rng = np.random.default_rng(2)
    frame = panel(250)
    frame["dual"] = rng.integers(0, 2, len(frame)).astype(bool)
    terms = [*TERMS[:2], Term(name="dual", value=lambda c: c["dual"])]
    options = {**COLUMNS, "terms": terms, "strata": ["dual"]}
    fit = glm(frame, duck, outcome="visits", family="poisson", **options)
    x = regressors(frame, periods=True).drop(columns="treated x hcc")
    x.insert(2, "dual", frame["dual"] * 1.0)
    model = sm.GLM(frame["visits"], x, family=sm.families.Poisson())
    for found, group in ((fit, "provider"), (by_unit(fit, frame, duck, buckets=2), "person")):
        expected = model.fit(
            tol=1e-14, maxiter=200, cov_type="cluster",
            cov_kwds={"groups": pd.factorize(frame[group])[0]},
        )  # fmt: skip
        np.testing.assert_allclose(found.coefficients, expected.params, rtol=1e-8)
        np.testing.assert_allclose(found.std_error, expected.bse, rtol=1e-8)


def test_weights_are_repeated_rows(duck) -> None:
    frame = panel(200)
    weighted = glm(frame, duck, outcome="visits", family="poisson", weight="months", **COLUMNS)
    rows = frame.loc[frame.index.repeat(frame["months"])]
    repeated = glm(rows, duck, outcome="visits", family="poisson", **COLUMNS)
    np.testing.assert_allclose(weighted.coefficients, repeated.coefficients, rtol=1e-9)
    np.testing.assert_allclose(weighted.psi, repeated.psi, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_influence_is_the_derivative_by_a_clusters_weight(duck, family) -> None:
    frame = panel(150).assign(w=1.0)
    outcome = FAMILIES[family][0]
    options = {"outcome": outcome, "family": family, "weight": "w", **COLUMNS}
    fit = glm(frame, duck, **options)
    up, down = (
        glm(
            frame.assign(w=np.where(frame["provider"] == "C04", 1 + h, 1.0)), duck, **options
        ).coefficients
        for h in (1e-4, -1e-4)
    )
    row = fit.psi[list(fit.clusters).index("C04")]
    np.testing.assert_allclose((up - down) / 2e-4, row, atol=1e-6 * np.abs(fit.psi).max())


def test_without_period_effects_and_with_other_levels_of_a_covariate(duck) -> None:
    frame = panel(200)
    options = {**COLUMNS, "terms": [TERMS[1]], "outcome": "any", "family": "logit"}
    plain = glm(frame, duck, **options, period_effects=False)
    assert plain.names == ("hcc", "constant")
    moved = glm(frame.assign(hcc=frame["hcc"] * 1e4 + 1e6), duck, **options, period_effects=False)
    np.testing.assert_allclose(moved.coefficients[0] * 1e4, plain.coefficients[0], rtol=1e-8)
    np.testing.assert_allclose(moved.std_error[0] * 1e4, plain.std_error[0], rtol=1e-8)


def test_separation_is_an_error_that_names_the_term(duck) -> None:
    frame = panel(60)
    zero = frame.assign(any=np.where(frame["q"] == 3, 0, frame["any"]))
    with pytest.raises(EstimationError, match=r"`q=3`.*predicted perfectly"):
        glm(zero, duck, outcome="any", family="logit", **COLUMNS)
    none = frame.assign(visits=np.where(frame["q"] == 5, 0, frame["visits"]))
    with pytest.raises(EstimationError, match=r"`q=5`.*predicted perfectly"):
        glm(none, duck, outcome="visits", family="poisson", **COLUMNS)


def test_collinear_terms_are_named(duck) -> None:
    twin = Term(name="twin", value=TERMS[0].value)
    options = {**COLUMNS, "terms": [TERMS[0], twin]}
    with pytest.raises(EstimationError, match="`treated`, `twin` are not identified: they are lin"):
        glm(panel(100), duck, outcome="any", family="logit", **options)


@pytest.mark.parametrize(
    ("family", "outcome", "change", "said"),
    [
        ("logit", "any", 2, "must lie from 0 to 1"),
        ("poisson", "visits", -1, "must be 0 or more"),
        ("gamma", "cost", 0, "two parts"),
    ],
)
def test_outcomes_that_do_not_fit_the_family(duck, family, outcome, change, said) -> None:
    frame = panel(100)
    frame[outcome] = frame[outcome].astype(float)
    frame.loc[frame.index[0], outcome] = change
    with pytest.raises(DataError, match=said):
        glm(frame, duck, outcome=outcome, family=family, **COLUMNS)


def test_options_that_do_not_fit_are_errors(duck) -> None:
    frame = panel(100)
    with pytest.raises(DesignError, match="`family` is 'probit'"):
        glm(frame, duck, outcome="any", family="probit", **COLUMNS)
    with pytest.raises(DataError, match="goes with a log link"):
        glm(frame, duck, outcome="any", family="logit", exposure="months", **COLUMNS)
    rows = frame.assign(months=0)
    with pytest.raises(DataError, match="0 or less"):
        glm(rows, duck, outcome="visits", family="poisson", exposure="months", **COLUMNS)
    with pytest.raises(DataError, match="the same in every row"):
        glm(frame.assign(any=1), duck, outcome="any", family="logit", **COLUMNS)
    fit = glm(frame, duck, outcome="any", family="logit", **{**COLUMNS, "unit": None})
    with pytest.raises(DesignError, match="names no `unit`"):
        by_unit(fit, frame, duck)


def test_the_factor_is_that_of_statsmodels(duck) -> None:
    frame = panel(100)
    options = {"outcome": "any", "family": "logit", **COLUMNS}
    plain = glm(frame, duck, **options, ssc=SSC.none())
    n = len(frame)
    factor = 12 / 11 * (n - 1) / (n - 9)
    assert glm(frame, duck, **options).covariance == pytest.approx(factor * plain.covariance)
