"""The specification curve: joint law, tests of the whole, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.errors import DesignError
from vbceval.sensitivity import specification_curve


def runs(psi: np.ndarray, estimate: np.ndarray, **columns: object) -> dict[str, vbc.Estimates]:
    out = {}
    for j, value in enumerate(estimate):
        frame = pd.DataFrame([
            {"estimand": "att_simple", "outcome": "spend", "unit_of_measure": "USD",
             "estimate": value, **columns}
        ])  # fmt: skip
        out[f"s{j}"] = vbc.Estimates(
            frame=frame, psi=psi[:, [j]], clusters=pd.RangeIndex(len(psi)), cluster_name="aco"
        )
    return out


def influence(rng: np.random.Generator, n_specs: int, shared: float = 2.0) -> np.ndarray:
    psi = shared * rng.normal(size=(60, 1)) + rng.normal(size=(60, n_specs))
    return np.asarray((psi - psi.mean(axis=0)) / 60)


def test_sorted_with_choices_and_joint_errors() -> None:
    psi = influence(np.random.default_rng(1), 3)
    choices = {"s0": {"base": "one"}, "s1": {"base": "all"}, "s2": {"base": "one"}}
    curve = specification_curve(runs(psi, np.array([-1.0, -3.0, -2.0])), choices=choices)
    table = curve.tidy()
    assert table["run"].tolist() == ["s1", "s2", "s0"]
    assert table["base"].tolist() == ["all", "one", "one"]
    gap = curve.difference("s1", "s0").tidy().iloc[0]
    assert gap["estimate"] == -2.0
    assert gap["std_error"] == pytest.approx(np.linalg.norm(psi[:, 1] - psi[:, 0]))
    moved = curve.choice_effects().set_index("value")
    assert moved.loc["all", "estimate"] == pytest.approx(-3 + 1.5)
    expected = np.linalg.norm(psi[:, 1] - (psi[:, 0] + psi[:, 2]) / 2)
    assert moved.loc["all", "std_error"] == pytest.approx(expected)
    # two values of one choice: one moves it as much as the other, to the other side
    assert moved.loc["one", "estimate"] == pytest.approx(1.5)


def test_tests_of_the_curve_agree_with_plain_simulation() -> None:
    rng = np.random.default_rng(2)
    psi = influence(rng, 5)
    estimate = np.array([-0.3, -0.5, -0.7, -0.6, -0.1])
    found = specification_curve(runs(psi, estimate)).tests().set_index("statement")
    vcov = psi.T @ psi
    noise = rng.multivariate_normal(np.zeros(5), vcov, 200_000)
    se = np.sqrt(np.diag(vcov))
    largest = np.abs(estimate / se).max()
    p = np.mean(np.abs(noise / se).max(axis=1) >= largest)
    assert found.loc["any effect", "value"] == pytest.approx(largest)
    assert found.loc["any effect", "p_value"] == pytest.approx(p, abs=0.005)
    medians = np.median(noise, axis=1)
    row = found.loc["median effect"]
    assert row["value"] == -0.5
    assert row["p_value"] == pytest.approx(np.mean(np.abs(medians) >= 0.5), abs=0.015)
    assert row["conf_low"] == pytest.approx(-0.5 + np.quantile(medians, 0.025), abs=0.02)
    share = np.mean(estimate < -1.96 * se)
    both = np.maximum((noise < -1.96 * se).mean(axis=1), (noise > 1.96 * se).mean(axis=1))
    row = found.loc["significant, same sign"]
    assert row["value"] == pytest.approx(share)
    assert row["p_value"] == pytest.approx(np.mean(both >= share), abs=0.015)


def test_size_of_the_tests_without_effect() -> None:
    """Rejections at 5 % in 120 curves (MC error .02)."""
    rng = np.random.default_rng(3)
    rejected = []
    for _ in range(120):
        psi = influence(rng, 4)
        estimate = rng.multivariate_normal(np.zeros(4), psi.T @ psi)
        rejected.append(specification_curve(runs(psi, estimate)).tests()["p_value"] < 0.05)
    # the share takes few values, so its test may be smaller than its level
    assert np.all(np.mean(rejected, axis=0) < 0.05 + 3 * 0.02)
    assert np.all(np.mean(rejected, axis=0)[:2] > 0)


def test_other_questions_are_no_specifications() -> None:
    psi = influence(np.random.default_rng(4), 2)
    two = runs(psi, np.array([1.0, 2.0]))
    dollars = runs(psi, np.array([1.0, 2.0]), unit_of_measure="percent")
    with pytest.raises(DesignError, match="different units of measure"):
        specification_curve({"a": two["s0"], "b": dollars["s1"]})
    with pytest.raises(DesignError, match="different estimands"):
        specification_curve({
            "a": two["s0"], "b": runs(psi, np.ones(2), estimand="att_overall")["s1"],
        })  # fmt: skip
    with pytest.raises(DesignError, match="`both` have more rows"):
        specification_curve({"a": two["s0"], "both": vbc.stack(list(two.values()))})
    with pytest.raises(DesignError, match="`s1` missing, `s9` not among"):
        specification_curve(two, choices={"s0": {"a": 1}, "s9": {"a": 2}})
    with pytest.raises(DesignError, match="no specification `s9`"):
        specification_curve(two).difference("s0", "s9")
    with pytest.raises(DesignError, match="at least two"):
        specification_curve({"a": two["s0"]})
