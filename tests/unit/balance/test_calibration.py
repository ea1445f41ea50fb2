"""Entropy balancing and calibration against general solvers, and what cannot be balanced."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import vbceval as vbc


def sides(weights):
    found = weights.features
    return found.z[found.treated], found.z[found.comparison], found.base


def test_entropy_is_the_constrained_minimum(frame, panel) -> None:
    """The primal problem, solved by a general solver that knows nothing of the dual."""
    few = frame[frame["aco"] < 25]
    weights = vbc.balance.entropy(panel(few, weight="size"), ["a", "b"])
    z1, z0, q = sides(weights)
    d, c = weights.features.treated, weights.features.comparison
    target = q[d] @ z1 / q[d].sum()
    share = q[c] / q[c].sum()

    def divergence(w: np.ndarray) -> tuple[float, np.ndarray]:
        ratio = np.log(np.maximum(w, 1e-300) / share)
        return float(w @ ratio), ratio + 1

    best = minimize(
        divergence, share, jac=True, method="SLSQP", bounds=[(1e-12, 1)] * len(share),
        constraints=[
            {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)},
            {"type": "eq", "fun": lambda w: w @ z0 - target, "jac": lambda w: z0.T},
        ],
        options={"ftol": 1e-15, "maxiter": 1000},
    ).x  # fmt: skip
    ours = (weights.weight * q)[c]
    np.testing.assert_allclose(ours.sum(), q[d].sum(), rtol=1e-12)
    np.testing.assert_allclose(ours / ours.sum(), best, atol=1e-6)
    np.testing.assert_allclose(ours @ z0 / ours.sum(), target, atol=1e-11)
    np.testing.assert_array_equal(weights.weight[d], 1.0)


def test_moments_and_interactions(frame, panel) -> None:
    data = panel(frame)
    second = vbc.balance.entropy(data, ["a", "b"], moments=2, interactions=True)
    z1, z0, _ = sides(second)
    w = second.weight[second.features.comparison]
    for power in (lambda z: z, lambda z: z**2, lambda z: z[:, :1] * z[:, 1:]):
        np.testing.assert_allclose(w @ power(z0) / w.sum(), power(z1).mean(axis=0), atol=1e-9)
    third = vbc.balance.entropy(data, ["b"], moments=3)
    z1, z0, _ = sides(third)
    w = third.weight[third.features.comparison]
    np.testing.assert_allclose(w @ z0**3 / w.sum(), (z1**3).mean(axis=0), atol=1e-9)


def test_balanced_data_keep_their_base_weights(frame, panel) -> None:
    """Two copies of every organization, one of them entering."""
    twin = frame.assign(aco=frame["aco"] + 100, entry=2013.0)
    data = panel(pd.concat([frame.assign(entry=np.nan), twin]), weight="size")
    for weights in (
        vbc.balance.entropy(data, ["a", "b", "kind"]),
        vbc.balance.calibrate(data, ["a", "b"], distance="linear"),
        vbc.balance.calibrate(data, ["a", "b"], distance="bounded"),
        vbc.balance.entropy(data, ["a"], tolerance=0.05),
    ):
        np.testing.assert_allclose(weights.weight, 1.0, atol=1e-9)


def test_linear_distance_is_the_regression_weight(frame, panel) -> None:
    weights = vbc.balance.calibrate(panel(frame, weight="size"), ["kind"], distance="linear")
    d, c, q = weights.features.treated, weights.features.comparison, weights.features.base
    x = np.column_stack([np.ones(60), weights.features.z])
    s = q * q[d].sum() / q[c].sum()
    gram = (x[c] * s[c, None]).T @ x[c]
    total = q[d] @ x[d]
    expected = (1 + x[c] @ np.linalg.solve(gram, total - s[c] @ x[c])) * s[c] / q[c]
    np.testing.assert_allclose(weights.weight[c], expected, rtol=1e-10)


def test_negative_weights_are_refused(frame, panel) -> None:
    with pytest.raises(vbc.DesignError, match="negative or non-finite"):
        vbc.balance.calibrate(panel(frame), ["a", "b", "kind"], distance="linear")


def test_bounds_hold(frame, panel) -> None:
    data = panel(frame)
    bounds = (0.05, 3.0)
    weights = vbc.balance.calibrate(data, ["a", "b"], distance="bounded", bounds=bounds)
    d, c = weights.features.treated, weights.features.comparison
    ratio = weights.weight[c] * c.sum() / d.sum()
    assert ratio.min() > bounds[0]
    assert ratio.max() < bounds[1]
    assert weights.balance()["smd_after"].abs().max() < 1e-9
    assert vbc.balance.entropy(data, ["a", "b"]).weight[c].max() * c.sum() / d.sum() > bounds[1]
    with pytest.raises(vbc.DesignError, match="no admissible weights"):
        vbc.balance.calibrate(data, ["a", "b"], distance="bounded", bounds=(0.9, 1.1))


def test_totals_from_outside(frame, panel) -> None:
    totals = {"a": 0.05, "kind[y]": 0.3, "kind[z]": 0.35}
    weights = vbc.balance.calibrate(panel(frame), ["a", "kind"], totals=totals)
    _, z0, _ = sides(weights)
    w = weights.weight[weights.features.comparison]
    np.testing.assert_allclose(w @ z0 / w.sum(), list(totals.values()), atol=1e-11)
    with pytest.raises(vbc.DesignError, match=r"differ in `kind`, `kind\[y\]`, `kind\[z\]`"):
        vbc.balance.calibrate(panel(frame), ["a", "kind"], totals={"a": 0.1, "kind": 0.2})


def test_tolerance_is_met_and_is_the_constrained_minimum(frame, panel) -> None:
    few = frame[frame["aco"] < 40].assign(c=np.cos(frame["aco"]), d=np.sin(9 * frame["aco"]))
    names = ["a", "b", "c", "d"]
    weights = vbc.balance.entropy(panel(few), names, tolerance=0.2)
    table = weights.balance()
    assert table["smd_after"].abs().max() < 0.2 + 1e-9
    z1, z0, _ = sides(weights)
    c = weights.features.comparison
    width = 0.2 * table["sd"].to_numpy()

    def divergence(w: np.ndarray) -> tuple[float, np.ndarray]:
        ratio = np.log(np.maximum(w, 1e-300) * len(w))
        return float(w @ ratio), ratio + 1

    best = minimize(
        divergence, np.full(c.sum(), 1 / c.sum()), jac=True, method="SLSQP",
        bounds=[(1e-12, 1)] * int(c.sum()),
        constraints=[
            {"type": "eq", "fun": lambda w: w.sum() - 1},
            {"type": "ineq", "fun": lambda w: width - (w @ z0 - z1.mean(axis=0))},
            {"type": "ineq", "fun": lambda w: width + (w @ z0 - z1.mean(axis=0))},
        ],
        options={"ftol": 1e-15, "maxiter": 1000},
    ).x  # fmt: skip
    ours = weights.weight[c] / weights.weight[c].sum()
    np.testing.assert_allclose(ours, best, atol=1e-6)
    assert weights.meta["slack"], "some column should not bind in this test"
    # a copy of a feature changes nothing
    again = vbc.balance.entropy(panel(few.assign(e=-few["a"])), [*names, "e"], tolerance=0.2)
    np.testing.assert_allclose(again.weight, weights.weight, rtol=1e-8)
    sharper = vbc.balance.entropy(panel(few), names)
    assert weights.summary()["ess_comparison"] > sharper.summary()["ess_comparison"]


def test_what_cannot_be_balanced_is_named(frame, panel) -> None:
    far = frame.assign(c=frame["b"] + np.where(frame["entry"].notna(), 9.0, 0.0))
    with pytest.raises(vbc.DesignError, match=r"Without `c` the others can be balanced") as error:
        vbc.balance.entropy(panel(far), ["a", "c"])
    least = float(str(error.value).partition("tolerance=")[2].partition(" ")[0])
    assert vbc.balance.entropy(panel(far), ["a", "c"], tolerance=least + 0.02).weight.min() > 0
    with pytest.raises(vbc.DesignError, match="no admissible weights"):
        vbc.balance.entropy(panel(far), ["a", "c"], tolerance=least - 0.02)
    only = frame.assign(c=((frame["entry"] == 2013.0) & (frame["aco"] % 2 == 0)) * 1.0)
    with pytest.raises(vbc.DesignError, match="`c` cannot be balanced"):
        vbc.balance.entropy(panel(only), ["a", "c"])


def test_invariances(frame, panel) -> None:
    one = vbc.balance.entropy(panel(frame), ["a", "b"]).to_series()
    moved = frame.sample(frac=1, random_state=1).assign(a=1e5 * frame["a"] - 3)
    np.testing.assert_allclose(
        vbc.balance.entropy(panel(moved), ["b", "a"]).to_series(), one, rtol=1e-8
    )
    # an organization in two halves has the weight of the whole in each
    half = frame.assign(size=np.where(frame["aco"] == 4, 0.5, 1.0))
    other = half[half["aco"] == 4].assign(aco=1000)
    split = vbc.balance.entropy(
        panel(pd.concat([half, other]), weight="size"), ["a", "b"]
    ).to_series()
    np.testing.assert_allclose(split[:60], one, rtol=1e-9)
    np.testing.assert_allclose(split[1000], one[4], rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "options", "said"),
    [
        (vbc.balance.entropy, {"tolerance": -0.1}, "`tolerance` is -0.1"),
        (vbc.balance.entropy, {"moments": 4}, "`moments` is 4"),
        (vbc.balance.calibrate, {"distance": "chi"}, "`distance` is 'chi'"),
        (vbc.balance.calibrate, {"distance": "bounded", "bounds": (1.2, 3)}, "`bounds` are"),
        (vbc.balance.calibrate, {"bounds": (0.2, 3)}, "belong to distance='bounded'"),
    ],
)
def test_refusals(frame, panel, call, options, said) -> None:
    with pytest.raises(vbc.DesignError, match=said):
        call(panel(frame), ["a"], **options)


def test_a_message_without_a_tolerance_is_a_sentence(frame, panel) -> None:
    """Where only an absurd tolerance would do, none is named."""
    far = frame.assign(a=np.where(frame["entry"].notna(), 1e4 + frame["a"], frame["a"] / 1e3))
    with pytest.raises(
        vbc.DesignError, match=r"or leave out treated organizations .* counterpart\.$"
    ):
        vbc.balance.calibrate(panel(far), ["a", "b"], totals={"a": -1e6, "b": 0.0})
