"""Adjusted p-values: against other code, in limits, and under the null."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

import vbceval as vbc
from vbceval.inference import step_down


def estimates(t: np.ndarray, covariance: np.ndarray, df: float = np.inf) -> vbc.Estimates:
    frame = pd.DataFrame({
        "estimand": "att_simple", "outcome": [f"y{i}" for i in range(len(t))],
        "stratum": ["a", "b"] * (len(t) // 2) + ["a"] * (len(t) % 2),
        "estimate": t * np.sqrt(np.diag(covariance)), "df": df,
    })  # fmt: skip
    return vbc.Estimates(frame=frame, covariance=covariance)


@pytest.mark.parametrize(("method", "name"), [("holm", "holm"), ("bh", "fdr_bh"), ("by", "fdr_by")])
def test_adjustments_of_p_values_equal_statsmodels(method: str, name: str) -> None:
    t = np.random.default_rng(1).normal(1.0, 1.5, 25)
    est = estimates(t, np.diag(np.linspace(1, 9, 25)))
    found = vbc.sensitivity.multiplicity(est, method=method).tidy()  # type: ignore[arg-type]  # a name
    expected = multipletests(found["p_value"], method=name)[1]
    np.testing.assert_allclose(found["p_adjusted"], expected, rtol=1e-12)


def test_independent_tests_step_down_as_sidak() -> None:
    t = np.array([2.0, 3.1, -2.5, 0.3])
    p = 2 * stats.norm.sf(np.abs(t))
    expected = multipletests(p, method="holm-sidak")[1]
    np.testing.assert_allclose(step_down(t, np.eye(4)), expected, atol=2e-4)


def test_equal_tests_need_no_adjustment() -> None:
    t = np.array([2.2, 2.2, 2.2])
    np.testing.assert_allclose(step_down(t, np.ones((3, 3))), 2 * stats.norm.sf(2.2), atol=1e-4)


def test_degrees_of_freedom_widen_the_law() -> None:
    t = np.array([2.5])
    found = step_down(t, np.eye(1), df=7.0)
    np.testing.assert_allclose(found, 2 * stats.t.sf(2.5, 7), atol=3e-4)


def test_step_down_agrees_with_plain_simulation() -> None:
    rng = np.random.default_rng(5)
    root = rng.normal(size=(6, 6)) + 1.5
    vcov = root @ root.T
    t = np.array([2.9, -0.4, 2.1, 2.4, -2.6, 1.0])
    corr = vcov / np.sqrt(np.outer(np.diag(vcov), np.diag(vcov)))
    z = np.abs(rng.multivariate_normal(np.zeros(6), corr, 400_000))
    expected = np.empty(6)
    left, floor = list(range(6)), 0.0
    while left:
        first = max(left, key=lambda i: abs(t[i]))
        floor = max(floor, float(np.mean(z[:, left].max(axis=1) >= abs(t[first]))))
        expected[first] = floor
        left.remove(first)
    np.testing.assert_allclose(step_down(t, vcov), expected, atol=0.0035)  # 4 Monte Carlo errors


def test_families_are_adjusted_apart_and_rows_without_error_left_out() -> None:
    est = estimates(np.array([3.0, 2.0, 1.0, 0.0]), np.diag([1.0, 1.0, 1.0, 0.0]))
    found = vbc.sensitivity.multiplicity(est, method="holm", family="stratum").tidy()
    p = found["p_value"].to_numpy()
    np.testing.assert_allclose(found["p_adjusted"], [2 * p[0], p[1], p[2], np.nan])
    assert found["p_adjustment"].isna().tolist() == [False, False, False, True]


def test_mistakes_are_named() -> None:
    est = estimates(np.ones(2), np.eye(2))
    with pytest.raises(vbc.DesignError, match="no column `site`"):
        vbc.sensitivity.multiplicity(est, family="site")
    with pytest.raises(vbc.DesignError, match="'bonferoni'"):
        vbc.sensitivity.multiplicity(est, method="bonferoni")  # type: ignore[arg-type]  # a mistake
    with pytest.raises(vbc.DesignError, match="201 rows"):
        vbc.sensitivity.multiplicity(estimates(np.ones(201), np.eye(201)))


def test_any_false_rejection_at_the_level_under_the_null() -> None:
    """Family-wise error at 5 % with correlated tests, 2,000 replications (MC error .005)."""
    rng = np.random.default_rng(3)
    corr = np.full((8, 8), 0.6) + 0.4 * np.eye(8)
    smallest = []
    law = np.linalg.cholesky(corr)
    for _ in range(2000):
        t = law @ rng.normal(size=8)
        smallest.append(np.abs(t).max())
    # the first step decides whether any is rejected
    critical = step_down(np.quantile(smallest, 0.95) * np.ones(8), corr)[0]
    assert abs(critical - 0.05) < 0.015
