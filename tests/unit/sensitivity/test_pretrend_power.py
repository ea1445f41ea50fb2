"""Power of tests of the leads, equivalence bounds, and the table that shows all."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import vbceval as vbc
from vbceval.core.rng import generator
from vbceval.sensitivity import equivalence, from_numbers, precheck, pretrend_power
from vbceval.sensitivity.rectangle import inside_rectangle


def study(k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = generator(21, "power", k)
    root = rng.normal(size=(k + 3, 2 * k)) + 0.8 * rng.normal(size=(k + 3, 1))
    return rng.normal(size=k + 3), root @ root.T / (2 * k)


BETA, V = study()
EST = from_numbers(BETA, V, pre=3)


@pytest.mark.parametrize("test", ["individual", "wald"])
def test_power_and_means_against_draws(test: str) -> None:
    """A million draws of the estimates under the trend."""
    slope, size = 0.6, 1_000_000
    out = pretrend_power(EST, slope=slope, test=test, power=())  # type: ignore[arg-type]  # from a table
    delta = slope * np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])
    x = generator(4, "draws", test).multivariate_normal(delta, V, size)
    pre = x[:, :3]
    if test == "individual":
        passes = (np.abs(pre) <= stats.norm.ppf(0.975) * np.sqrt(np.diag(V)[:3])).all(axis=1)
    else:
        wald = np.einsum("si,ij,sj->s", pre, np.linalg.inv(V[:3, :3]), pre)
        passes = wald <= stats.chi2.ppf(0.95, 3)
        assert out.size == pytest.approx(0.05, abs=1e-9)
    error = np.sqrt(out.power * (1 - out.power) / size)
    assert 1 - passes.mean() == pytest.approx(out.power, abs=4 * error + 1e-5)
    table = out.table[~out.table["reference"]]
    spread = x[passes].std(axis=0) / np.sqrt(passes.sum())
    gap = np.abs(table["expected_if_passed"].to_numpy() - x[passes].mean(axis=0))
    assert (gap < 4.5 * spread + 1e-4).all()
    assert out.table.loc[out.table["reference"], "expected_if_passed"].item() == 0


def test_rectangle_against_the_distribution_function() -> None:
    """Genz's integrals, and independent coordinates far in the tail."""
    for k in (1, 2, 5):
        _, v = study(k)
        v, mean = v[:k, :k], np.linspace(-1, 1, k)
        half = 1.5 * np.sqrt(np.diag(v))
        law = stats.multivariate_normal(mean, v)
        direct = float(law.cdf(half, lower_limit=-half, rng=np.random.default_rng(1)))
        assert inside_rectangle(mean, v, half).probability == pytest.approx(direct, abs=1e-4)
    far = inside_rectangle(np.array([12.0, -12.0]), np.eye(2), np.array([2.0, 2.0]))
    one = stats.norm.sf(10.0) - stats.norm.sf(14.0)
    assert far.probability == pytest.approx(one**2, rel=1e-2)
    assert far.mean == pytest.approx([2.0, -2.0], abs=0.2)


def test_likelihood_ratio_and_slopes() -> None:
    out = pretrend_power(EST, slope=0.4, power=[0.3, 0.5, 0.9])
    delta = 0.4 * np.array([-3.0, -2.0, -1.0])
    law = [stats.multivariate_normal(m, V[:3, :3]).pdf(BETA[:3]) for m in (delta, 0 * delta)]
    assert out.likelihood_ratio == pytest.approx(law[0] / law[1])
    assert out.bayes_factor == pytest.approx((1 - out.power) / (1 - out.size))
    assert out.slopes["slope"].is_monotonic_increasing
    for power, slope in out.slopes.to_numpy():
        assert pretrend_power(EST, slope=slope, power=()).power == pytest.approx(power, abs=1e-7)
    # the test does not know the sign of a trend
    assert pretrend_power(EST, slope=-0.4, power=()).power == pytest.approx(out.power, abs=1e-5)


def test_trends_in_every_form() -> None:
    wanted = pretrend_power(EST, slope=0.3, power=())
    e = np.array([-4.0, -3, -2, 0, 1, 2])
    for trend in (
        lambda t: 0.3 * t + 5.0, {x: 0.3 * x for x in [*e, -1.0]}, list(0.3 * (e + 1)),
    ):  # fmt: skip
        out = pretrend_power(EST, trend=trend, power=())
        assert out.power == pytest.approx(wanted.power, abs=1e-12)
        np.testing.assert_allclose(out.table["trend"], wanted.table["trend"], atol=1e-12)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"slope": 1.0, "trend": [0] * 6}, "not both"),
        ({"trend": [1.0]}, "at each event time"),
        ({"trend": {-4.0: 1.0}}, "at each event time"),
        ({"power": [0.01]}, "between that and 1"),
        ({"power": []}, "give a `slope`"),
        ({"test": "joint"}, "`test` is 'joint'"),
        ({"critical": -1.0}, "positive critical"),
        ({"slope": np.nan}, "`slope` is nan"),
        ({"trend": dict.fromkeys(EST.frame["event_time"], np.nan)}, "at each event time"),
    ],
)
def test_power_refuses(options: dict, said: str) -> None:
    with pytest.raises(vbc.DesignError, match=said):
        pretrend_power(EST, **options)


@pytest.mark.parametrize("df", [np.inf, 9.0])
def test_equivalence_by_hand(df: float) -> None:
    est = from_numbers(BETA, V, pre=3, df=df)
    out = equivalence(est, margin=2.0, slope_margin=3.0, baseline=50.0).tidy().set_index("check")
    law = stats.norm if np.isinf(df) else stats.t(df)
    b, v = BETA[:3], V[:3, :3]
    se = np.sqrt(np.diag(v))
    bounds = np.abs(b) + law.ppf(0.95) * se
    assert out["smallest_margin"]["max"] == pytest.approx(bounds.max())
    assert out["percent_of_baseline"]["max"] == pytest.approx(2 * bounds.max())
    one_sided = np.maximum(law.cdf((b - 2.0) / se), law.cdf((-b - 2.0) / se))
    assert out["p_value"]["max"] == pytest.approx(one_sided.max())
    x = np.array([-3.0, -2.0, -1.0])
    slope, error = x @ b / (x @ x), np.sqrt(x @ v @ x) / (x @ x)
    assert out["estimate"]["slope"] == pytest.approx(slope)
    assert out["smallest_margin"]["slope"] == pytest.approx(abs(slope) + law.ppf(0.95) * error)
    mean = abs(b.mean()) + law.ppf(0.95) * np.sqrt(v.sum()) / 3
    assert out["smallest_margin"]["mean"] == pytest.approx(mean)
    # the smallest margin is where the test begins to reject
    for check, name in (("max", "margin"), ("slope", "slope_margin")):
        at = {name: float(out["smallest_margin"][check])}
        again = equivalence(est, **at).tidy().set_index("check")
        assert again["p_value"][check] == pytest.approx(0.05, abs=1e-9)
    assert bool(out["equivalent"]["max"]) == (out["p_value"]["max"] < 0.05)


@pytest.mark.parametrize("test", ["individual", "wald"])
def test_trends_that_never_pass(test) -> None:
    """There is no mean given that the test passes, and nothing is divided by zero."""
    with np.errstate(divide="raise", invalid="raise"):
        out = pretrend_power(EST, slope=1e4, test=test)
    assert out.power == 1.0
    assert out.bayes_factor == 0.0
    leads = out.tidy()["event_time"] < out.path.reference
    assert out.tidy()["expected_if_passed"][leads].isna().all()


def test_equivalence_refuses() -> None:
    for options in ({"margin": 0.0}, {"baseline": -5.0}, {"level": 1.0}, {"level": 0.5}):
        with pytest.raises(vbc.DesignError):
            equivalence(EST, **options)


def test_precheck_shows_everything() -> None:
    table = precheck(EST, baseline=10.0).set_index("check")
    assert list(table.index) == [
        "joint", "entry_dip", "equivalence_max", "equivalence_mean", "equivalence_slope",
        "slope_power_50", "slope_power_80", "breakdown_relative", "breakdown_smoothness",
    ]  # fmt: skip
    wald = BETA[:3] @ np.linalg.solve(V[:3, :3], BETA[:3])
    assert table["statistic"]["joint"] == pytest.approx(wald)
    # the change into the reference, less the mean of the two changes before it
    weights = np.array([0.5, 0.0, -1.5])
    assert table["estimate"]["entry_dip"] == pytest.approx(weights @ BETA[:3])
    assert table["statistic"]["entry_dip"] ** 2 == pytest.approx(
        (weights @ BETA[:3]) ** 2 / (weights @ V[:3, :3] @ weights)
    )
    assert "% of baseline" in table["note"]["equivalence_max"]
    assert table["estimate"][1:].notna().all()


def test_precheck_says_what_it_cannot_show() -> None:
    meta = {"estimator": "GroupTime", "design": {"base_period": "varying", "anticipation": 0}}
    frame = EST.frame.assign(estimate=EST.estimate + 0.0)
    varying = vbc.Estimates(frame=frame, covariance=EST.vcov(), meta=meta)
    table = precheck(varying).set_index("check")
    assert np.isfinite(table["p_value"]["joint"])
    for check in ("equivalence", "slope_power", "breakdown_relative", "breakdown_smoothness"):
        assert "leads use a varying base" in table["note"][check]
