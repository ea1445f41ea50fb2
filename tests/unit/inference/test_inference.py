"""Small-sample factors, sums by cluster, bands, joint tests, multiplier bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import vbceval as vbc
from vbceval.inference import SSC, Multiplier, sum_by_cluster, sup_t, wald_test


@pytest.mark.parametrize(
    ("ssc", "factor", "df"),
    [(SSC.none(), 1.0, np.inf), (SSC.cluster(), 20 / 19, 19.0),
     (SSC.fixest(), 20 / 19 * 99 / 92, 19.0), (SSC.stata(), 20 / 19 * 99 / 92, 19.0),
     (SSC.statsmodels(), 20 / 19 * 99 / 92, 19.0), (SSC(G=False, K="full"), 99 / 92, np.inf)],
    ids=lambda x: getattr(x, "name", None),
)  # fmt: skip
def test_factors_by_name(ssc, factor, df) -> None:
    assert ssc.factor(n_clusters=20, n_rows=100, n_params=8) == pytest.approx(factor, rel=1e-15)
    assert ssc.df(20) == df


def test_factors_say_what_they_lack() -> None:
    with pytest.raises(vbc.EstimationError, match="1 cluster"):
        SSC.cluster().factor(n_clusters=1)
    with pytest.raises(vbc.EstimationError, match=r"'fixest' needs \(N-1\)/\(N-K\)"):
        SSC.fixest().factor(n_clusters=20)
    with pytest.raises(vbc.EstimationError, match="8 rows and 8 parameters"):
        SSC.stata().factor(n_clusters=20, n_rows=8, n_params=8)


def test_sums_by_cluster() -> None:
    codes = np.array([2, 0, 2, 0, 3])
    values = np.arange(10.0).reshape(5, 2)
    expected = [[8, 10], [0, 0], [4, 6], [8, 9]]
    np.testing.assert_array_equal(sum_by_cluster(values, codes, 4), expected)
    np.testing.assert_array_equal(sum_by_cluster(values[:, 0], codes, 4), [8, 0, 4, 8])
    assert sum_by_cluster(values[:0], codes[:0], 3).shape == (3, 2)


@pytest.mark.parametrize("df", [np.inf, 12.0])
def test_band_of_one_estimate_is_pointwise(df) -> None:
    expected = stats.t.ppf(0.975, df) if np.isfinite(df) else stats.norm.ppf(0.975)
    assert np.quantile(sup_t(np.eye(1), df=df), 0.95) == pytest.approx(expected, rel=2e-3)


def test_band_of_independent_estimates_is_sidak() -> None:
    expected = stats.norm.ppf((1 + 0.95 ** (1 / 6)) / 2)
    assert np.quantile(sup_t(np.diag(np.arange(1.0, 7.0))), 0.95) == pytest.approx(
        expected, rel=3e-3
    )


def test_band_of_identical_estimates_is_pointwise() -> None:
    """Less than full rank, and a reference row without variance."""
    vcov = np.ones((4, 4))
    vcov[3] = vcov[:, 3] = 0.0
    assert np.quantile(sup_t(vcov), 0.95) == pytest.approx(stats.norm.ppf(0.975), rel=1e-3)
    assert sup_t(np.zeros((2, 2))).tolist() == [0.0]


@pytest.mark.parametrize("rank", [12, 30])
def test_rounding_does_not_move_a_band(rank) -> None:
    """Equal correlations have no eigenvectors of their own: any rotation of them is as good."""
    rng = np.random.default_rng(4)
    psi = np.kron(np.eye(2), rng.standard_normal((60, 6))) if rank == 12 else np.eye(30)
    vcov = psi.T @ psi
    if rank == 12:
        turn = np.column_stack([np.eye(12), np.eye(12)])  # every row twice: half of the rank
        vcov = turn.T @ vcov @ turn
    shaken = vcov * (1 + 1e-14 * rng.standard_normal(vcov.shape))
    shaken = (shaken + shaken.T) / 2
    one, two = (np.quantile(sup_t(v, df=40), [0.5, 0.95, 0.99]) for v in (vcov, shaken))
    np.testing.assert_allclose(two, one, rtol=1e-10)


def test_joint_test_by_hand() -> None:
    """b = (1, 2), V = diag(1, 4): W = 1 + 1 = 2; chi-square(2) and F(2, 10)."""
    b, v = np.array([1.0, 2.0]), np.diag([1.0, 4.0])
    test = wald_test(b, v)
    assert (test.statistic, test.restrictions) == (pytest.approx(2.0), 2)
    assert test.p_value == pytest.approx(np.exp(-1.0))
    assert wald_test(b, v, df=10).p_value == pytest.approx(stats.f.sf(1.0, 2, 10))


def test_joint_tests_refuse_what_is_not_defined() -> None:
    singular = np.ones((2, 2))
    with pytest.raises(vbc.EstimationError, match="rank 1"):
        wald_test(np.array([1.0, 1.0]), singular)
    test = wald_test(np.array([1.0, 1.0]), singular, allow_rank_deficient=True)
    assert (test.restrictions, test.statistic) == (1, pytest.approx(1.0))
    with pytest.raises(vbc.EstimationError, match="1 of 2 tested estimates have no variance"):
        wald_test(np.zeros(2), np.diag([1.0, 0.0]))
    with pytest.raises(vbc.EstimationError, match="no estimates"):
        wald_test(np.zeros(0), np.zeros((0, 0)))


@pytest.mark.parametrize("weights", ["rademacher", "mammen"])
def test_multiplier_draws_have_the_covariance_of_the_influence(weights) -> None:
    psi = np.random.default_rng(3).standard_normal((80, 3)) @ np.array(
        [[1, 0.5, 0], [0, 1, 0], [0, 0, 2.0]]
    )
    bootstrap = Multiplier(draws=20_000, weights=weights)
    draws = bootstrap.draw(psi)
    assert draws.shape == (20_000, 3)
    vcov = psi.T @ psi
    size = np.sqrt(np.outer(np.diag(vcov), np.diag(vcov)))
    assert np.abs(draws.mean(axis=0) / np.sqrt(np.diag(vcov))).max() < 4 / np.sqrt(20_000)
    assert (np.abs(np.cov(draws, rowvar=False) - vcov) / size).max() < 0.06
    np.testing.assert_array_equal(draws, bootstrap.draw(psi))
    np.testing.assert_allclose(bootstrap.std_error(draws), np.sqrt(np.diag(vcov)), rtol=0.06)


def test_multiplier_options_are_checked() -> None:
    with pytest.raises(vbc.DesignError, match="at least 100"):
        Multiplier(draws=10)
