"""CR2 under both working models, its degrees of freedom and joint test, from dense rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import vbceval as vbc

DESIGN = vbc.Design(outcome="y", covariates=["x"])
EVENTS = (-2, 0, 1, 2)
MODELS = pytest.mark.parametrize("working", ["inverse_weight", "identity"])


class Known(NamedTuple):
    """Estimates, errors, degrees of freedom, and the joint test: F, its df and p-value."""

    estimate: np.ndarray
    std_error: np.ndarray
    df: np.ndarray
    joint: tuple[float, float]


def by_definition(frame: pd.DataFrame, contrast: np.ndarray, working: str) -> Known:
    """Bell and McCaffrey's adjustment with every dummy a column and every matrix n by n."""
    event = frame["period"] - frame["cohort"]
    parts = [pd.get_dummies(frame[[k]].astype(str), dtype=float) for k in ("unit", "period")]
    events = np.column_stack([(event == e).to_numpy(float) for e in EVENTS])
    x = np.column_stack([*parts, frame["x"], events])
    y, w = frame["y"].to_numpy(), frame["w"].to_numpy()
    if working == "inverse_weight":
        x, y, w = x * np.sqrt(w)[:, None], y * np.sqrt(w), np.ones(len(y))
    combine = np.zeros((x.shape[1], contrast.shape[0]))
    combine[-len(EVENTS) :] = contrast.T
    inverse = np.linalg.pinv(x.T @ (w[:, None] * x), rcond=1e-12)
    left = np.eye(len(y)) - x @ inverse @ (x.T * w)
    variance = left @ left.T
    codes = frame["cluster"].factorize()[0]
    psi, g = [], []
    for c in range(codes.max() + 1):
        rows = np.flatnonzero(codes == c)
        values, vectors = np.linalg.eigh(variance[np.ix_(rows, rows)])
        root = np.where(values > 1e-9, np.abs(values).clip(1e-300) ** -0.5, 0.0)
        a = (vectors * root) @ vectors.T @ (w[rows, None] * (x[rows] @ inverse @ combine))
        psi.append((left[rows] @ y) @ a)
        g.append(left[rows].T @ a)
    products = np.einsum("ins,jnt->ijst", np.array(g), np.array(g))
    same = np.einsum("ijss->ijs", products)
    df = np.einsum("iis->s", same) ** 2 / (same**2).sum(axis=(0, 1))
    estimate, vcov = combine.T @ inverse @ x.T @ (w * y), np.transpose(psi) @ psi
    values, vectors = np.linalg.eigh(np.einsum("iist->st", products))
    root = (vectors / np.sqrt(values)) @ vectors.T
    k = np.einsum("as,ijst,bt->ijab", root, products, root)
    q = len(contrast)
    total = np.einsum("ijss,ijtt->", k, k) + np.einsum("ijst,ijts->", k, k)
    eta = q * (q + 1) / total
    f = (eta - q + 1) / (eta * q) * estimate @ np.linalg.solve(vcov, estimate)
    joint = (eta - q + 1, float(stats.f.sf(f, q, eta - q + 1)))
    return Known(estimate, np.sqrt(np.diag(vcov)), df, joint)


@pytest.fixture
def frame(make_frame) -> pd.DataFrame:
    made = make_frame(
        3, units=45, periods=5, per_cluster=3, missing=0.1, time_varying=True,
        cohorts=(2.0, np.nan, np.nan),
    )  # fmt: skip
    return made.assign(w=np.random.default_rng(5).uniform(0.2, 3, len(made)))


def fitted(frame: pd.DataFrame, working: str) -> vbc.Estimates:
    panel = vbc.Panel.from_frame(
        frame, unit="unit", period="period", cohort="cohort", cluster="cluster", weight="w"
    )
    est = vbc.did.EventStudy().fit(panel, DESIGN, vcov="CR2", working=working)
    assert est.meta["working"] == working
    return est


@MODELS
def test_definition_by_rows(frame, working) -> None:
    est = fitted(frame, working).where(event_time=list(EVENTS))
    known = by_definition(frame, np.eye(4), working)
    np.testing.assert_allclose(est.estimate, known.estimate, rtol=1e-9)
    np.testing.assert_allclose(est.std_error, known.std_error, rtol=1e-9)
    np.testing.assert_allclose(est.frame["df"].astype(float), known.df, rtol=1e-8)


@MODELS
def test_degrees_of_freedom_follow_contrasts(frame, working) -> None:
    est = fitted(frame, working)
    plan = np.array([[0.0, -1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0]])
    known = by_definition(frame, plan, working)
    shown = est.where(event_time=list(EVENTS)).scale(3.0, unit_of_measure="thirds")
    twice = shown.contrast(plan).contrast(2 * np.eye(2))
    np.testing.assert_allclose(twice.frame["df"].astype(float), known.df, rtol=1e-8)
    np.testing.assert_allclose(twice.std_error, 6 * known.std_error, rtol=1e-9)
    # neither is the smaller of the rows that it combines
    least = shown.frame["df"].astype(float).min()
    assert (np.abs(known.df / least - 1) > 0.01).all()
    stacked = vbc.stack([est, est]).contrast({"sum": {1: 1.0, 3: 1.0, 4: 1.0}})
    assert stacked.frame["df"].item() < est.frame["df"].max()


@MODELS
def test_joint_test(frame, working) -> None:
    est = fitted(frame, working)
    found = est.wald({"event_time": [0, 1, 2]})
    known = by_definition(frame, np.eye(4)[1:], working)
    assert found.method == "HTZ"
    assert found.df == pytest.approx(known.joint[0], rel=1e-8)
    assert found.p_value == pytest.approx(known.joint[1], rel=1e-8)
    one = est.wald({"event_time": 1})
    row = est.where(event_time=1).tidy()
    assert one.df == pytest.approx(row["df"].item(), rel=1e-9)
    assert one.p_value == pytest.approx(row["p_value"].item(), rel=1e-9)
    plain = vbc.did.EventStudy().fit(_panel(frame), DESIGN).wald({"event_time": [0, 1, 2]})
    assert plain.method == "Wald"


def _panel(frame: pd.DataFrame) -> vbc.Panel:
    return vbc.Panel.from_frame(
        frame, unit="unit", period="period", cohort="cohort", cluster="cluster", weight="w"
    )


def test_joint_test_that_clusters_cannot_support(frame) -> None:
    few = frame[frame["cluster"].isin(sorted(frame["cluster"].unique())[:5])]
    est = vbc.did.EventStudy().fit(_panel(few), vbc.Design(outcome="y"), vcov="CR2")
    with pytest.raises(vbc.EstimationError, match=r"5 clusters cannot support.*4 estimates"):
        est.wald({"estimand": "att_event_time"})
    with pytest.raises(vbc.EstimationError, match="linearly dependent"):
        est.wald("event_time >= 0 or estimand == 'att_overall'")


def test_aggregates_have_their_own_degrees_of_freedom(frame) -> None:
    """The mean of effects is a column of its own when one coefficient is all there is."""
    data = frame.assign(cohort=np.where(frame["cohort"].notna(), 4.0, np.nan), w=1.0)
    design = vbc.Design(outcome="y")
    one = vbc.did.ETWFE().fit(_panel(data), design, vcov="CR2").aggregate("simple")
    two = vbc.did.TWFE().fit(_panel(data), design, vcov="CR2")
    assert one.frame["df"].item() == pytest.approx(two.frame["df"].item(), rel=1e-9)
    several = vbc.did.ETWFE().fit(_panel(frame), design, vcov="CR2")
    mean = several.aggregate("simple")
    weights = several.shares.value / several.shares.value.sum()
    known = several.contrast(weights)
    assert mean.frame["df"].item() == pytest.approx(known.frame["df"].item(), rel=1e-12)
    assert mean.frame["df"].item() > several.frame["df"].min()


def test_both_working_models_are_one_without_weights(frame) -> None:
    data = frame.assign(w=2.0)
    one, two = (fitted(data, working) for working in ("inverse_weight", "identity"))
    np.testing.assert_array_equal(one.std_error, two.std_error)


def test_refusals(frame) -> None:
    panel = _panel(frame)
    fit = vbc.did.EventStudy().fit
    with pytest.raises(vbc.EstimationError, match="vcov is 'CR1'"):
        fit(panel, DESIGN, working="identity")
    with pytest.raises(vbc.EstimationError, match="use 'inverse_weight' or 'identity'"):
        fit(panel, DESIGN, vcov="CR2", working="equal")
    crossed = vbc.Panel.from_frame(
        frame, unit="unit", period="period", cohort="cohort", cluster="cluster", weight="w",
        kind="repeated_cross_section",
    )  # fmt: skip
    sums = vbc.Moments.from_panel(crossed, outcomes=["y"], covariates=["x"], by="cluster")
    with pytest.raises(vbc.EstimationError, match="Fit the rows as a Panel"):
        fit(sums, DESIGN, vcov="CR2", working="identity")
