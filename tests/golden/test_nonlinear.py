"""Nonlinear difference-in-differences against R fixest; distributions by the formulas of R qte."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.did import ChangesInChanges, GLMDiD


@pytest.fixture(scope="module")
def table(shared_dir: Path):
    return lambda name: pd.read_csv(shared_dir / "golden" / "data" / f"{name}.csv")


def counties(frame: pd.DataFrame, **options) -> vbc.Panel:
    frame = frame.assign(emp=np.exp(frame["lemp"]))
    return vbc.Panel.from_frame(
        frame, unit="countyreal", period="year", cohort="first.treat", never=0, **options
    )


def test_fepois(shared_dir: Path, table) -> None:
    """Effects of counties eliminated; factor of fixest, which does not count them."""
    path = shared_dir / "golden" / "expected" / "r_fepois_mpdta.json"
    (expected,) = json.loads(path.read_text())["expected"]
    design = vbc.Design(outcome="emp", fixed_effects=("unit", "period"))
    est = GLMDiD(effect="common", scale="link").fit(counties(table("mpdta")), design)
    assert est.estimate.item() == pytest.approx(expected["estimate"], abs=1e-12)
    assert est.std_error.item() == pytest.approx(expected["se"], abs=1e-11)


def test_cohort_and_unit_effects_agree_on_a_balanced_panel(table) -> None:
    """Without covariates a balanced Poisson panel has the same coefficients with either effects."""
    panel = counties(table("mpdta"))
    fits = [
        GLMDiD(scale="link").fit(panel, vbc.Design(outcome="emp", fixed_effects=effects))
        for effects in (("cohort", "period"), ("unit", "period"))
    ]
    np.testing.assert_allclose(fits[0].estimate, fits[1].estimate, rtol=1e-9)


@pytest.mark.parametrize("name", ["lalonde_exp_panel", "lalonde_psid_panel"])
def test_lalonde_by_the_formulas_of_qte(table, name) -> None:
    """Type 1 quantiles at ranks for changes-in-changes, type 7 for quantile differences."""
    frame = table(name)
    frame = frame[frame["year"].isin([1975, 1978])].assign(
        entry=lambda f: f["treat"].where(f["treat"] == 1) * 1978
    )
    panel = vbc.Panel.from_frame(frame, unit="id", period="year", cohort="entry")
    y = {
        (d, t): np.sort(frame.loc[(frame["treat"] == d) & (frame["year"] == t), "re"])
        for d in (0, 1) for t in (1975, 1978)
    }  # fmt: skip
    probs = np.arange(1, 20) / 20

    def type1(values: np.ndarray, p: np.ndarray) -> np.ndarray:
        place = np.ceil(len(values) * p - 1e-9).astype(int)
        return values[np.maximum(place, 1) - 1]

    rank = np.searchsorted(y[0, 1975], y[1, 1975], side="right") / len(y[0, 1975])
    without = np.sort(type1(y[0, 1978], rank))
    design = vbc.Design(outcome="re")
    cic = ChangesInChanges(quantiles=probs).fit(panel, design)
    assert cic.estimate[0] == pytest.approx(y[1, 1978].mean() - without.mean(), rel=1e-10)
    np.testing.assert_allclose(
        cic.estimate[1:], type1(y[1, 1978], probs) - type1(without, probs), atol=1e-8
    )
    q = {key: np.quantile(values, probs) for key, values in y.items()}
    qdid = ChangesInChanges(method="qdid", quantiles=probs).fit(panel, design)
    np.testing.assert_allclose(
        qdid.estimate[1:], q[1, 1978] - q[1, 1975] - q[0, 1978] + q[0, 1975], atol=1e-8
    )
    own = np.searchsorted(y[1, 1975], y[1, 1975], side="right") / len(y[1, 1975])
    change = np.quantile(y[0, 1978], own) - np.quantile(y[0, 1975], own)
    expected = y[1, 1978].mean() - y[1, 1975].mean() - change.mean()
    assert qdid.estimate[0] == pytest.approx(expected, rel=1e-10)
