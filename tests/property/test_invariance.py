"""What must not matter to any estimator: order, labels, units of measure, size of weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc

RC = "repeated_cross_section"


@dataclass(frozen=True)
class Case:
    estimator: object
    kind: str = "panel"
    covariates: tuple[str, ...] = ("x",)

    def fit(self, frame: pd.DataFrame, outcome: str = "y", **keys) -> vbc.Estimates:
        names = {"unit": "unit", "period": "period", "cohort": "cohort", "cluster": "cluster"}
        panel = vbc.Panel.from_frame(frame, **{**names, "weight": "w", "kind": self.kind, **keys})
        design = vbc.Design(outcome=outcome, covariates=self.covariates)
        est = self.estimator.fit(panel, design)
        return vbc.stack([est, est.aggregate("event_time")])


CASES = {
    "reg": Case(vbc.did.GroupTime(method="reg")),
    "dr": Case(vbc.did.GroupTime(method="dr")),
    "dr, cross-sections of a panel": Case(vbc.did.GroupTime(method="dr", unbalanced="rc")),
    "dr_imp": Case(vbc.did.GroupTime(method="dr_imp")),
    "dr, cross-sections": Case(vbc.did.GroupTime(method="dr"), kind=RC),
    "imputation": Case(vbc.did.Imputation()),
    "imputation, trends": Case(vbc.did.Imputation(covariate_effect="trend")),
    "imputation, cross-sections": Case(vbc.did.Imputation(), kind=RC),
    "imputation, leave one out": Case(vbc.did.Imputation(leave_one_out=True), covariates=()),
    "two stages": Case(vbc.did.TwoStage()),
    "two stages, cross-sections": Case(vbc.did.TwoStage(), kind=RC),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@pytest.fixture
def frame(make_frame) -> pd.DataFrame:
    return make_frame(21, units=72, per_cluster=2, missing=0.08, time_varying=True)


def assert_same(a: vbc.Estimates, b: vbc.Estimates, *, scale: float = 1.0, tol: float = 1e-9):
    """Equal estimates and influence, by cluster label."""
    size = abs(scale) * np.abs(a.estimate).max()
    np.testing.assert_allclose(b.estimate, scale * a.estimate, atol=tol * size)
    pa, pb = a.influence().sort_index(), b.influence().sort_index()
    assert pa.index.tolist() == pb.index.tolist()
    np.testing.assert_allclose(pb, scale * pa, atol=tol * size)
    np.testing.assert_allclose(
        np.diag(b.vcov()), scale**2 * np.diag(a.vcov()), rtol=1e-7, atol=(tol * size) ** 2
    )


@every_case
def test_order_of_rows(case, frame) -> None:
    whole = case.fit(frame)
    shuffled = frame.sample(frac=1.0, random_state=5)
    assert_same(whole, case.fit(shuffled), tol=1e-11)


@every_case
def test_labels_of_units(case, frame) -> None:
    """New names in another order; clusters keep theirs."""
    units = frame["unit"].unique()
    names = dict(zip(units, np.random.default_rng(2).permutation(len(units)), strict=True))
    assert_same(case.fit(frame), case.fit(frame.assign(unit=frame["unit"].map(names))), tol=1e-11)


@every_case
def test_input_is_not_changed(case, frame) -> None:
    before = frame.copy(deep=True)
    case.fit(frame)
    pd.testing.assert_frame_equal(frame, before)


@every_case
def test_period_effects_change_nothing(case, frame) -> None:
    bump = np.array([0.0, 5.0, -3.0, 2.0, 7.0])[frame["period"]]
    assert_same(case.fit(frame), case.fit(frame.assign(y=frame["y"] + bump)), tol=1e-9)


@pytest.mark.parametrize("name", [name for name in CASES if "cross-sections" not in name])
def test_unit_effects_change_nothing(name, frame) -> None:
    """Where units are followed; the mix of units matters to cross-sections."""
    case = CASES[name]
    levels = dict(zip(frame["unit"].unique(), range(999), strict=False))
    moved = frame.assign(y=frame["y"] + frame["unit"].map(levels))
    assert_same(case.fit(frame), case.fit(moved), tol=1e-9)


@every_case
@pytest.mark.parametrize("factor", [1e-4, -1.0, 1e6])
def test_rescaling_the_outcome(case, frame, factor) -> None:
    moved = case.fit(frame.assign(y=factor * frame["y"]))
    assert_same(case.fit(frame), moved, scale=factor, tol=1e-10)


@every_case
@pytest.mark.parametrize("factor", [1e-6, 3.0, 1e8])
def test_scaling_all_weights(case, frame, factor) -> None:
    assert_same(case.fit(frame), case.fit(frame.assign(w=factor * frame["w"])), tol=1e-9)


@every_case
def test_splitting_units_into_halves(case, frame) -> None:
    """Each unit becomes two with the same values and half the weight, in the same cluster."""
    half = frame.assign(w=frame["w"] / 2)
    twice = pd.concat([half, half.assign(unit=half["unit"] + "'")], ignore_index=True)
    assert_same(case.fit(frame), case.fit(twice), tol=1e-9)


@every_case
def test_rescaling_a_covariate(case, frame) -> None:
    moved = frame.assign(x=1000.0 + 50.0 * frame["x"])
    assert_same(case.fit(frame), case.fit(moved), tol=1e-7)


@every_case
def test_a_cluster_without_weight_is_as_good_as_absent(case, frame) -> None:
    label = frame["cluster"].iloc[0]
    absent = case.fit(frame[frame["cluster"] != label])
    zero = case.fit(frame.assign(w=frame["w"].where(frame["cluster"] != label, 0.0)))
    assert_same(absent, zero, tol=1e-11)
