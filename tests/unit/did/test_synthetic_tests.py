"""Tests of synthetic controls on awkward data: too few periods, donors alike, perfect fits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.did import InteractiveFE, SyntheticControl, SyntheticDiD
from vbceval.did.synthetic.conformal import period_test
from vbceval.did.synthetic.control import Paths
from vbceval.did.synthetic.weights import Problem, default_penalty, fit_weights

Y = vbc.Design(outcome="y")
PLAIN = SyntheticControl(augmented=False)


def panel(y: np.ndarray, n_pre: int, *, treated: int = 1, weight: object = 1.0) -> vbc.Panel:
    n, periods = y.shape
    entry = np.where(np.arange(n) < n - treated, np.nan, n_pre + 1.0)
    frame = pd.DataFrame({
        "unit": np.repeat([f"u{i:02d}" for i in range(n)], periods),
        "t": np.tile(np.arange(1.0, periods + 1), n), "entry": np.repeat(entry, periods),
        "y": y.ravel(), "w": np.ravel(np.broadcast_to(weight, y.shape)),
    })  # fmt: skip
    return vbc.Panel.from_frame(
        frame.sample(frac=1, random_state=1), unit="unit", period="t", cohort="entry", weight="w"
    )


def mean_gap(paths: Paths) -> np.ndarray:
    """Treated less the mean of donors, in place of a fit."""
    return np.asarray(paths.y1 - paths.y0.mean(axis=0))


def made(before: np.ndarray, after: float) -> Paths:
    y1 = np.append(before, after)
    return Paths(np.tile([[1.0], [-1.0]], len(y1)), y1, np.empty((2, 0)), np.empty(0), len(before))


@pytest.mark.parametrize("n_pre", [5, 18, 19, 60])
def test_an_interval_of_a_period_holds_what_is_not_rejected(n_pre: int) -> None:
    """By hand: with a fit that never moves, effects nearer than the largest gaps before entry."""
    before = np.random.default_rng(2).normal(size=n_pre)
    for after in (0.01, 1.5, 40.0):
        found = period_test(made(before, after), n_pre, mean_gap, level=0.95, grid=50)
        assert found.p_value == np.mean(np.abs([*before, after]) >= after)
        # rejected where fewer than 5% of all gaps are as large, its own counted
        rank = int(np.floor(0.05 * (n_pre + 1)))
        if rank == 0:
            assert (found.low, found.high) == (-np.inf, np.inf)
            continue
        reach = np.sort(np.abs(before))[-rank]
        step = 4 * after / 49
        for end, edge in ((found.low, after - reach), (found.high, after + reach)):
            assert end == pytest.approx(edge, abs=step * 1.001)
            assert abs(end - after) <= reach + 1e-6


def test_a_coarse_grid_does_not_lose_the_interval() -> None:
    """It was an error of numpy where every value tried was rejected."""
    before = np.linspace(-1e-3, 1e-3, 30)
    found = period_test(made(before, 5.0), 30, mean_gap, level=0.9, grid=50)
    assert found.low < 5.0 < found.high
    assert found.high - found.low <= 2e-3


def test_intervals_at_a_level_that_is_no_binary_fraction() -> None:
    """p = 0.1 is rejected at 0.9 as p = 0.05 is at 0.95: 1 - 0.9 is below 0.1 in a computer."""
    for level, n_pre in ((0.9, 9), (0.95, 19), (0.8, 4)):
        found = period_test(made(np.ones(n_pre), 3.0), n_pre, mean_gap, level=level, grid=50)
        assert 1.9 < found.low < 2.2
        assert 3.8 < found.high < 4.1


def test_random_orders_count_the_observed_one() -> None:
    rng = np.random.default_rng(4)
    y = rng.normal(size=(12, 40))
    y[-1, 36:] += 30.0
    for size in (19, 99):
        table = PLAIN.conformal(panel(y, 36), Y, permutations="iid", size=size)
        assert table["p_value"].iloc[-1] == pytest.approx(1 / (1 + size))


def test_options_out_of_range_are_named_together() -> None:
    data = panel(np.random.default_rng(0).normal(size=(5, 8)), 5)
    with pytest.raises(vbc.DesignError) as said:
        PLAIN.conformal(data, Y, level=95, permutations="all", size=0, power=0, grid=1)
    for name in ("level", "permutations", "size", "power", "grid"):
        assert f"`{name}` is" in str(said.value)
    with pytest.raises(vbc.DesignError, match="`level` is 1"):
        PLAIN.jackknife_plus(data, Y, level=1.0)


def test_the_solver_gives_no_order_to_perfect_fits() -> None:
    """Twelve donors around every path of three periods: what is left of gaps is the ridge."""
    rng = np.random.default_rng(6)
    y = rng.normal(size=(13, 5))
    y[-1, :4] = 0.0
    y[-1, 4] = 0.05
    table = PLAIN.conformal(panel(y, 3), Y)
    # followed in all periods, under no effect as well
    np.testing.assert_array_equal(table["p_value"].to_numpy()[[0, 2]], 1.0)
    rows = PLAIN.permutation(panel(y, 3), Y)
    assert rows["ratio"].iloc[0] == np.inf
    followed = rows["pre_rmspe"] < 1e-6
    assert followed.sum() > 1
    assert np.isinf(rows["ratio"][followed]).all()
    assert rows["p_value"].iloc[0] == pytest.approx(followed.mean())


@pytest.mark.parametrize("augmented", [False, True])
def test_donors_that_repeat_each_other(augmented: bool) -> None:
    """Ridge divided by the rounding of their mean: effects were 1e16."""
    rng = np.random.default_rng(7)
    y = np.vstack([np.tile(rng.normal(size=8), (6, 1)), rng.normal(size=8)])
    estimator = SyntheticControl(augmented=augmented)
    found = estimator.fit(panel(y, 5), Y)
    np.testing.assert_allclose(found.estimate, y[6] - y[0], atol=1e-9)
    assert np.isnan(found.std_error).all()
    rows = estimator.permutation(panel(y, 5), Y)
    assert rows["ratio"].isna().sum() == 6
    assert rows["p_value"].iloc[0] == 1.0


def test_a_small_penalty_does_not_enlarge_the_rounding_of_means() -> None:
    """Weights sum to one, however large outcomes are; their sum was off by 0.004 here."""
    rng = np.random.default_rng(8)
    y = 2e7 + 1e6 * rng.normal(size=(6, 12))
    estimator = SyntheticControl(penalty=1.0)
    table = estimator.weights(panel(y, 9), Y)
    used = table[table["kind"] == "unit"].set_index("name")["weight"]
    assert used.sum() == pytest.approx(1.0, abs=1e-9)
    small = SyntheticControl(penalty=1e-12)
    again = small.weights(panel((y - 2e7) / 1e6, 9), Y)
    again = again[again["kind"] == "unit"].set_index("name")["weight"]
    np.testing.assert_allclose(used, again[used.index], atol=1e-6)


def test_errors_that_are_rounding_are_missing() -> None:
    rng = np.random.default_rng(9)
    weight = np.exp(rng.normal(size=(8, 9)))
    # effects of organizations and periods alone: every placebo is the rounding of outcomes
    y = 1000 * np.add.outer(rng.normal(size=8), rng.normal(size=9))
    y[-1, 6:] += 2.0
    for method in ("sdid", "did"):
        found = SyntheticDiD(method=method).fit(panel(y, 6, weight=weight), Y, vcov="placebo")
        assert found.aggregate("simple").estimate.item() == pytest.approx(2.0)
        assert found.tidy()[["std_error", "p_value", "conf_low"]].isna().all().all()
    flat = np.tile(1234.567 * rng.normal(size=(8, 1)), (1, 9))
    with pytest.raises(vbc.EstimationError, match="there is none: 7 donors"):
        SyntheticDiD().fit(panel(flat, 6, weight=weight), Y)
    steady = InteractiveFE(n_factors=0).fit(panel(flat, 6), Y, vcov="none")
    np.testing.assert_allclose(steady.estimate, 0.0, atol=1e-9)


@pytest.mark.parametrize("method", ["sdid", "did", "sc"])
def test_covariates_that_effects_take_up_are_named(method: str) -> None:
    """Their coefficient was one rounding divided by another, and moved effects."""
    rng = np.random.default_rng(10)
    y = rng.normal(size=(9, 8)).cumsum(axis=1)
    data = panel(y, 5, treated=2)
    frame = data.frame.assign(
        own=data.frame["unit"].map({f"u{i:02d}": v for i, v in enumerate(rng.normal(size=9))}),
        common=np.sqrt(data.frame["t"]), same=0.3, x=rng.normal(size=len(data.frame)),
    )  # fmt: skip
    panels = vbc.Panel.from_frame(frame, unit="unit", period="t", cohort="entry")
    estimator = SyntheticDiD(method=method)

    def fit(*names: str) -> vbc.Estimates:
        return estimator.fit(panels, vbc.Design(outcome="y", covariates=list(names)), vcov="none")

    for name in ("common", "same", *(() if method == "sc" else ("own",))):
        with pytest.raises(vbc.EstimationError, match=f"covariate `?{name}`? does not vary"):
            fit("x", name)
    assert np.isfinite(fit("x").estimate).all()


def test_a_replicate_without_variation_of_a_covariate() -> None:
    """Drawn without the one donor in which it varies, its coefficient is zero."""
    rng = np.random.default_rng(3)
    y0, own = rng.normal(size=(7, 8)).cumsum(axis=1), rng.normal(size=8)
    x = np.tile(own[:, None, None], (1, 8, 1))
    problem = Problem(
        y0, y0[:3].mean(axis=0), x[1:], x[0], np.ones(7), 5, np.arange(8) >= 5
    )  # fmt: skip
    plain = problem._replace(x0=x[1:, :, :0], x1=x[0, :, :0])
    penalty = default_penalty(1.0, 1, 3, "sdid")
    with_x, without = (fit_weights(p, penalty, "sdid", "exact") for p in (problem, plain))
    assert with_x.beta == 0
    np.testing.assert_allclose(with_x.effects(problem), without.effects(plain), atol=1e-12)


def test_placebos_of_names_of_several_types() -> None:
    y = np.random.default_rng(12).normal(size=(9, 6)).cumsum(axis=1)
    frame = panel(y, 4).frame
    mixed = frame.assign(unit=frame["unit"].map(lambda u: int(u[1:]) if u < "u04" else u))
    for estimator in (PLAIN, SyntheticDiD()):
        found, same = (
            estimator.fit(
                vbc.Panel.from_frame(f, unit="unit", period="t", cohort="entry"), Y, vcov="placebo"
            )
            for f in (mixed, frame)
        )
        np.testing.assert_allclose(found.std_error, same.std_error, rtol=1e-6)


def test_nothing_to_match_on() -> None:
    data = panel(np.random.default_rng(13).normal(size=(5, 6)), 4)
    with pytest.raises(vbc.DesignError, match="nothing to match on"):
        SyntheticControl(augmented=False, lags=()).fit(data, Y)
