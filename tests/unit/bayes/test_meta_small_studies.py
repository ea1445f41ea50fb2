"""Small-study check: robust least squares against closed forms, planted slope, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vbceval.bayes.meta_small_studies import clustered_least_squares, small_study_check
from vbceval.core.errors import DataError, DesignError


def effects(slope: float, *, seed: int = 1, reports: int = 30) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    report = np.repeat(np.arange(reports), 2)
    se = rng.uniform(0.2, 2.0, reports)[report]
    own = rng.normal(0, 0.3, reports)[report]
    y = -1.0 + slope * se + own + se * rng.standard_normal(len(se))
    return pd.DataFrame({"estimate": y, "std_error": se, "report": report})


def test_one_row_a_cluster_is_the_leverage_correction() -> None:
    rng = np.random.default_rng(2)
    x = np.column_stack([np.ones(12), rng.normal(size=12)])
    v, y = rng.uniform(0.5, 2.0, 12), rng.normal(size=12)
    beta, cov, _ = clustered_least_squares(y, x, v, np.arange(12))
    w = 1 / v
    bread = np.linalg.inv((x * w[:, None]).T @ x)
    expected = bread @ (x * w[:, None]).T @ y
    leverage = w * np.einsum("ij,jk,ik->i", x, bread, x)
    meat = (x * (w * (y - x @ expected) / np.sqrt(1 - leverage))[:, None]).T
    assert beta == pytest.approx(expected)
    assert cov == pytest.approx(bread @ (meat @ meat.T) @ bread)


def test_a_mean_of_equal_clusters_has_one_degree_less_than_clusters() -> None:
    y = np.random.default_rng(3).normal(size=24)
    _, cov, df = clustered_least_squares(y, np.ones((24, 1)), np.ones(24), np.repeat(range(8), 3))
    means = y.reshape(8, 3).mean(axis=1)
    assert df[0] == pytest.approx(7.0)
    assert cov[0, 0] == pytest.approx(means.var(ddof=1) / 8)


def test_a_planted_slope_is_found_and_none_is_not() -> None:
    found = small_study_check(effects(-1.5)).set_index("term")
    assert found.loc["slope", "conf_low"] < -1.5 < found.loc["slope", "conf_high"] < 0
    assert not found["caution"].any()
    rejected = [
        small_study_check(effects(0.0, seed=s)).loc[1, "p_value"] < 0.05 for s in range(200)
    ]
    # four Monte Carlo standard errors about the nominal size
    assert abs(np.mean(rejected) - 0.05) < 4 * np.sqrt(0.05 * 0.95 / len(rejected))
    assert any(rejected)


def test_few_reports_are_said_and_too_few_refused() -> None:
    few = effects(0.0, reports=6)
    assert small_study_check(few)["caution"].all()
    few.loc[0, "std_error"] = np.nan
    assert (small_study_check(few)["n_left_out"] == 1).all()
    with pytest.raises(DesignError, match="3 reports"):
        small_study_check(effects(0.0, reports=3))
    with pytest.raises(DataError, match="no column `std_error`"):
        small_study_check(few.drop(columns="std_error"))


def test_rows_that_lack_a_value_are_counted() -> None:
    bad = effects(0.0, reports=6)
    bad.loc[[0, 1], "estimate"] = np.nan
    bad.loc[2, "std_error"] = 0.0
    bad["report"] = bad["report"].astype(float).replace(5.0, np.nan)
    with pytest.raises(DataError, match="3 problems") as caught:
        small_study_check(bad)
    for word in (
        "`estimate` is missing in 2 rows",
        "not positive in 1",
        "`report` is missing in 2",
    ):
        assert word in str(caught.value)


def test_a_slope_that_hangs_on_one_report_is_refused() -> None:
    bad = effects(0.0, reports=12).assign(std_error=0.5)
    bad.loc[[0, 1], ["std_error", "estimate"]] = [2.0, -6.0]
    with pytest.raises(DesignError, match="all reports but one"):
        small_study_check(bad)
