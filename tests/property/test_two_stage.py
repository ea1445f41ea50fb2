"""Two stages against their definition: dense dummies, and the GMM influence written out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.inference import SSC

KEYS = {"unit": "unit", "period": "period", "cohort": "cohort", "cluster": "cluster", "weight": "w"}
RC = "repeated_cross_section"


def dummies(values: pd.Series) -> np.ndarray:
    return (values.to_numpy()[:, None] == np.unique(values)).astype(float)


def by_definition(
    frame: pd.DataFrame, second: np.ndarray, x: list[str], entity: str = "unit", a: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Second-stage coefficients, and influence (clusters, columns), of any second stage."""
    treated = (frame["period"] >= frame["cohort"] - a).to_numpy()
    w, y = frame["w"].to_numpy(), frame["y"].to_numpy()
    first = np.column_stack([dummies(frame[entity]), dummies(frame["period"]), frame[x]])
    inside = first * ~treated[:, None]
    inverse = np.linalg.pinv((inside * w[:, None]).T @ inside, rcond=1e-11)
    residual = y - first @ (inverse @ (inside.T @ (w * y)))
    bread = np.linalg.inv((second * w[:, None]).T @ second)
    beta = bread @ (second.T @ (w * residual))
    score_two = second * (w * (residual - second @ beta))[:, None]
    score_one = inside * (w * residual)[:, None]
    each = (score_two - score_one @ inverse @ (first * w[:, None]).T @ second) @ bread
    return beta, pd.DataFrame(each).groupby(frame["cluster"].to_numpy()).sum().to_numpy()


CASES: dict[str, dict] = {
    "balanced": {},
    "unbalanced": {"draw": {"missing": 0.15}},
    "clusters above the unit": {"draw": {"missing": 0.1, "per_cluster": 3, "units": 60}},
    "covariates": {"draw": {"missing": 0.1, "time_varying": True}, "x": ["x", "z"]},
    "cross-sections": {
        "draw": {"units": 90, "per_cluster": 5, "time_varying": True}, "x": ["x"], "kind": RC,
        "entity": "cluster",
    },
    "anticipation": {"draw": {"cohorts": (3.0, 4.0, np.nan)}, "a": 1},
}  # fmt: skip


def fit(frame: pd.DataFrame, case: dict, **options) -> vbc.Estimates:
    panel = vbc.Panel.from_frame(frame, **KEYS, kind=case.get("kind", "panel"))
    design = vbc.Design(outcome="y", covariates=case.get("x", []), anticipation=case.get("a", 0))
    return vbc.did.TwoStage(**options).fit(panel, design, ssc=SSC.none())


@pytest.mark.parametrize("name", CASES)
def test_event_study_and_static_effect(name, make_frame) -> None:
    case = CASES[name]
    frame = make_frame(31, **case.get("draw", {}))
    found = fit(frame, case)
    given = {"x": case.get("x", []), "entity": case.get("entity", "unit"), "a": case.get("a", 0)}
    static = (frame["period"] >= frame["cohort"]).to_numpy(dtype=float)[:, None]
    beta, psi = by_definition(frame, static, **given)
    average = found.aggregate("simple")
    np.testing.assert_allclose(average.estimate, beta, atol=1e-10)
    np.testing.assert_allclose(average.influence(), psi, atol=1e-11)
    e = (frame["period"] - frame["cohort"]).to_numpy()
    times = np.unique(e[np.isfinite(e)])
    beta, psi = by_definition(frame, (e[:, None] == times).astype(float), **given)
    study = found.aggregate("event_time").where("estimand == 'att_event_time'")
    np.testing.assert_array_equal(study.frame["event_time"], times)
    np.testing.assert_allclose(study.estimate, beta, atol=1e-10)
    np.testing.assert_allclose(study.influence(), psi, atol=1e-11)


def test_group_time_rows(make_frame) -> None:
    frame = make_frame(32, missing=0.1)
    found = fit(frame, {})
    own = frame[["cohort", "period"]].to_numpy()
    pairs = found.frame[["cohort", "period"]].to_numpy()
    columns = (own[:, None, :] == pairs[None]).all(axis=2).astype(float)
    beta, psi = by_definition(frame, columns, [])
    np.testing.assert_allclose(found.estimate, beta, atol=1e-10)
    np.testing.assert_allclose(found.influence(), psi, atol=1e-11)


@pytest.mark.parametrize("kind", ["simple", "event_time", "cohort", "period"])
def test_influence_is_the_derivative(kind, make_frame, weight_derivative) -> None:
    frame = make_frame(33, missing=0.1, per_cluster=2, units=48)

    def estimate(data: pd.DataFrame) -> vbc.Estimates:
        return fit(data, {}).aggregate(kind)

    found = estimate(frame)
    for label in found.clusters[:3]:
        expected = weight_derivative(estimate, frame, label)
        np.testing.assert_allclose(found.influence().loc[label], expected, atol=1e-8)


def test_effects_are_those_of_imputation(make_frame) -> None:
    frame = make_frame(34, missing=0.1, time_varying=True)
    panel, design = vbc.Panel.from_frame(frame, **KEYS), vbc.Design(outcome="y", covariates=["x"])
    for options in ({}, {"covariate_effect": "trend"}):
        two = vbc.did.TwoStage(leads=False, **options).fit(panel, design)
        one = vbc.did.Imputation(**options).fit(panel, design)
        np.testing.assert_allclose(two.estimate, one.estimate, atol=1e-11)
        assert not np.allclose(two.std_error, one.std_error, rtol=1e-3)


def test_leads_are_of_the_first_stage_and_can_be_left_out(make_frame) -> None:
    frame = make_frame(35, cohorts=(2.0, 3.0, np.nan, 9.0))
    with_leads, without = fit(frame, {}), fit(frame, {}, leads=False)
    after = with_leads.where("event_time >= 0")
    np.testing.assert_allclose(after.estimate, without.estimate, atol=1e-12)
    np.testing.assert_allclose(after.influence(), without.influence(), atol=1e-12)
    # nobody enters in period 9 in these data, so its units have no leads
    assert set(with_leads.frame["cohort"]) == {2.0, 3.0}
    # a cohort's residuals before entry add up to zero by its own effect
    before = with_leads.where("event_time < 0").frame
    weight = frame.groupby(["cohort", "period"])["w"].sum()
    for g, rows in before.groupby("cohort"):
        w = weight.loc[g].loc[rows["period"]].to_numpy()
        assert w @ rows["estimate"] == pytest.approx(0.0, abs=1e-10)


def test_never_treated_comparison_and_window(make_frame) -> None:
    frame = make_frame(36)
    panel = vbc.Panel.from_frame(frame, **KEYS)
    design = vbc.Design(outcome="y", comparison="never_treated", window=(-1, 1))
    found = vbc.did.TwoStage().fit(panel, design, ssc=SSC.none())
    assert found.frame["event_time"].min() == -1
    assert found.frame["event_time"].max() == 1
    for g in (2.0, 3.0):
        alone = frame[frame["cohort"].isna() | (frame["cohort"] == g)]
        own = fit(alone, {}).where("event_time >= -1 and event_time <= 1")
        part = found.where(cohort=g)
        np.testing.assert_allclose(part.estimate, own.estimate, atol=1e-11)
        np.testing.assert_allclose(part.std_error, own.std_error, rtol=1e-9)
