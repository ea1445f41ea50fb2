"""Least squares on the simplex: against a general solver, a grid, and its own certificate."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from vbceval.did.synthetic.control import (
    Match,
    Paths,
    choose_penalty,
    fit_control,
    match_outcomes,
    ridge_weights,
)
from vbceval.did.synthetic.pooled import pooled_weights
from vbceval.did.synthetic.simplex import frank_wolfe, gram, solve_simplex, sparsify


def general(h: np.ndarray) -> np.ndarray:
    """The same problem by a solver that knows nothing of simplices."""
    n = len(h)
    found = optimize.minimize(
        lambda x: x @ h @ x, np.full(n, 1 / n), jac=lambda x: 2 * h @ x, bounds=[(0, 1)] * n,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1, "jac": lambda x: np.ones(n)},
        method="SLSQP", options={"maxiter": 5000, "ftol": 1e-16},
    )  # fmt: skip
    return np.asarray(found.x)


@pytest.mark.parametrize(("rows", "columns", "ridge"), [(12, 8, 0.5), (6, 25, 0.3), (40, 5, 0.0)])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_a_general_solver(rows, columns, ridge, seed) -> None:
    rng = np.random.default_rng(seed)
    h = gram(rng.normal(size=(rows, columns)), rng.normal(size=rows)) + ridge * np.eye(columns)
    found, other = solve_simplex(h), general(h)
    assert found.weights.min() >= 0
    assert found.weights.sum() == pytest.approx(1, abs=1e-12)
    assert found.objective <= other @ h @ other * (1 + 1e-7)
    np.testing.assert_allclose(found.weights, other, atol=2e-4)
    assert found.gap <= 1e-10 * np.trace(h)


def test_agrees_with_every_point_of_a_fine_grid() -> None:
    rng = np.random.default_rng(7)
    rows, target = rng.normal(size=(5, 3)), rng.normal(size=5)
    grid = np.linspace(0, 1, 401)
    a, b = (v.ravel() for v in np.meshgrid(grid, grid))
    points = np.column_stack([a, b, 1 - a - b])[a + b <= 1]
    distance = ((points @ rows.T - target) ** 2).sum(axis=1)
    found = solve_simplex(gram(rows, target)).weights
    assert ((rows @ found - target) ** 2).sum() <= distance.min() + 1e-12
    np.testing.assert_allclose(found, points[distance.argmin()], atol=0.005)


@pytest.mark.parametrize("seed", range(5))
def test_start_changes_nothing(seed) -> None:
    rng = np.random.default_rng(seed)
    h = gram(rng.normal(size=(20, 15)), rng.normal(size=20)) + 0.1 * np.eye(15)
    start = rng.random(15) * (rng.random(15) < 0.4)
    np.testing.assert_allclose(
        solve_simplex(h, start=start).weights, solve_simplex(h).weights, atol=1e-10
    )


def test_the_gap_bounds_the_distance_to_the_minimum() -> None:
    rng = np.random.default_rng(3)
    h = gram(rng.normal(size=(20, 15)), rng.normal(size=20))
    best = solve_simplex(h).objective
    for _ in range(20):
        x = rng.dirichlet(np.ones(15))
        gap = 2 * (x @ h @ x - (h @ x).min())
        assert x @ h @ x - best <= gap + 1e-9


def test_perfect_fit_and_equal_donors() -> None:
    same = solve_simplex(gram(np.ones((4, 3)), np.ones(4)))
    np.testing.assert_allclose(same.weights, 1 / 3)
    twins = solve_simplex(gram(np.array([[0.0, 0.0, 4.0]]), np.array([1.0]))).weights
    np.testing.assert_allclose(twins, [0.375, 0.375, 0.25], atol=1e-6)


def test_several_simplices_at_once() -> None:
    """Without coupling, each group has the solution of its own problem."""
    rng = np.random.default_rng(5)
    one, two = (gram(rng.normal(size=(9, n)), rng.normal(size=9)) for n in (6, 4))
    h = np.zeros((10, 10))
    h[:6, :6], h[6:, 6:] = one, two
    found = solve_simplex(h, group=np.repeat([0, 1], [6, 4]))
    expected = np.concatenate([solve_simplex(one).weights, solve_simplex(two).weights])
    np.testing.assert_allclose(found.weights, expected, atol=1e-7)


def test_frank_wolfe_stops_before_the_minimum() -> None:
    rng = np.random.default_rng(1)
    h = gram(rng.normal(size=(15, 10)), rng.normal(size=15))
    early, late = (
        frank_wolfe(h, np.full(10, 0.1), min_decrease=least, max_steps=20_000)
        for least in (1e-2, 1e-12)
    )
    exact = solve_simplex(h)
    values = [x @ h @ x for x in (early, late)]
    assert exact.objective <= values[1] <= values[0]
    assert values[1] == pytest.approx(exact.objective, rel=1e-4)
    np.testing.assert_allclose(sparsify(np.array([0.5, 0.1, 0.4])), [5 / 9, 0, 4 / 9])


def paths(seed: int, donors: int = 12, periods: int = 14, n_pre: int = 10) -> Paths:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(donors + 1, 2)) @ rng.normal(size=(2, periods))
    y += 0.2 * rng.normal(size=y.shape)
    return Paths(y[1:], y[0], np.zeros((donors, 0)), np.zeros(0), n_pre)


def test_ridge_weights_are_the_regression_of_the_outcome() -> None:
    """Weights times outcomes equal the bias correction by ridge regression, equation 10."""
    p = paths(2)
    match = match_outcomes(p).centred()
    simplex = fit_control(match, augmented=False, penalty=None, one_se=True).weights
    for penalty in (0.01, 1.0, 50.0):
        added = ridge_weights(match, simplex, np.array([penalty]))[0]
        outcome = p.y0[:, -1] - p.y0[:, -1].mean()
        slope = np.linalg.solve(
            match.x0.T @ match.x0 + penalty * np.eye(p.n_pre), match.x0.T @ outcome
        )
        assert added @ p.y0[:, -1] == pytest.approx((match.x1 - simplex @ match.x0) @ slope)
        assert added.sum() == pytest.approx(0, abs=1e-12)


def test_penalty_is_the_one_of_cross_validation_by_hand() -> None:
    p = paths(4)
    match = match_outcomes(p).centred()
    simplex = fit_control(match, augmented=False, penalty=None, one_se=True).weights
    ridge = choose_penalty(match, simplex, one_se=False, hold_out="all")
    largest = np.linalg.svd(match.x0, compute_uv=False)[0] ** 2
    np.testing.assert_allclose(ridge.penalties, largest * 10.0 ** (-8 * np.arange(21) / 20))
    errors = []
    for penalty in ridge.penalties:
        squared = []
        for t in range(p.n_pre - 1):
            rest = np.delete(np.arange(p.n_pre), t)
            x0, x1 = match.x0[:, rest], match.x1[rest]
            w = solve_simplex(gram(x0.T, x1)).weights
            inverse = np.linalg.inv(x0.T @ x0 + penalty * np.eye(len(rest)))
            w = w + (x1 - w @ x0) @ inverse @ x0.T
            squared.append((match.x1[t] - w @ match.x0[:, t]) ** 2)
        errors.append(np.mean(squared))
    np.testing.assert_allclose(ridge.error, errors, rtol=1e-5)
    assert ridge.penalty == ridge.penalties[int(np.argmin(errors))]
    careful = choose_penalty(match, simplex, one_se=True, hold_out="all")
    assert careful.penalty >= ridge.penalty


def test_pooling_trades_the_balance_of_the_average_for_that_of_each() -> None:
    matches = [match_outcomes(paths(s, donors=4)) for s in (1, 2, 3)]
    sizes = np.array([2.0, 1.0, 3.0])

    def imbalance(pooling: float) -> tuple[float, float]:
        weights = pooled_weights(matches, sizes, pooling)
        gaps = [m.x1 - w @ m.x0 for m, w in zip(matches, weights, strict=True)]
        share = sizes / sizes.sum()
        own = sum(s * np.mean(g**2) for s, g in zip(share, gaps, strict=True))
        average = sum(s * g for s, g in zip(share, gaps, strict=True))
        return own, float(np.mean(average**2))

    separate, half, together = (imbalance(v) for v in (0.0, 0.5, 1.0))
    assert separate[0] <= half[0] <= together[0]
    assert together[1] <= half[1] <= separate[1]
    assert together[1] < separate[1]


def test_a_match_without_a_column_counts_its_outcomes() -> None:
    match = Match(np.ones((3, 4)), np.ones(4), 3)
    assert match.without(0).n_outcomes == 2
    assert match.without(3).n_outcomes == 3


def test_a_start_without_weight_says_nothing() -> None:
    """The donor that had all weight may have left."""
    h = gram(np.random.default_rng(3).normal(size=(6, 5)), np.ones(6))
    np.testing.assert_allclose(
        solve_simplex(h, start=np.zeros(5)).weights, solve_simplex(h).weights, atol=1e-12
    )


def test_donors_that_fit_alike_have_no_gap() -> None:
    """Outcomes that are all equal before entry: no division by zero, and even weights."""
    flat = Match(np.zeros((4, 3)), np.zeros(3), 3)
    control = fit_control(flat, augmented=True, penalty=None, one_se=True)
    assert control.gap == 0
    np.testing.assert_allclose(control.weights, 0.25)


def test_a_covariate_that_donors_share_moves_no_weight() -> None:
    p = paths(5)
    shared = p._replace(z0=np.full((len(p.y0), 1), 0.3), z1=np.array([0.7]))
    np.testing.assert_allclose(
        fit_control(match_outcomes(shared), augmented=True, penalty=1.0, one_se=True).weights,
        fit_control(match_outcomes(p), augmented=True, penalty=1.0, one_se=True).weights,
        atol=1e-12,
    )
