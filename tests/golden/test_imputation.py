"""Imputation against R didimputation on 46,500 unit-years, to the digits it prints."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.inference import SSC

CASE = "didimputation_df_het"


@pytest.fixture(scope="module")
def reference(shared_dir: Path) -> dict[str, dict]:
    spec = json.loads((shared_dir / "golden" / "expected" / f"{CASE}.json").read_text())
    return {row["term"]: row for row in spec["expected"]}


@pytest.fixture(scope="module")
def frame(shared_dir: Path) -> pd.DataFrame:
    return pd.read_csv(shared_dir / "golden" / "data" / "df_het_didimputation.csv")


@pytest.fixture(scope="module")
def panel(frame: pd.DataFrame) -> vbc.Panel:
    return vbc.Panel.from_frame(frame, unit="unit", period="year", cohort="g", never=0)


@pytest.fixture(scope="module")
def effects(panel: vbc.Panel) -> vbc.Estimates:
    return vbc.did.Imputation().fit(panel, vbc.Design(outcome="dep_var"), ssc=SSC.none())


def errors(est: vbc.Estimates) -> np.ndarray:
    return np.sqrt(np.diag(est.vcov()))


def test_static_effect(effects, reference) -> None:
    average = effects.aggregate("simple")
    assert average.estimate.item() == pytest.approx(reference["treat"]["estimate"], abs=1e-6)
    assert errors(average).item() == pytest.approx(reference["treat"]["se"], abs=1e-6)


def test_event_time_effects(effects, reference) -> None:
    average = effects.aggregate("event_time")
    checked = 0
    for row, se in zip(average.frame.itertuples(), errors(average), strict=True):
        if row.estimand != "att_event_time":
            continue
        expected = reference[f"rel_year[{row.event_time:.0f}]"]
        assert row.estimate == pytest.approx(expected["estimate"], abs=1e-6)
        assert se == pytest.approx(expected["se"], abs=1e-6)
        checked += 1
    assert checked == 21


def test_leads(panel, frame, reference) -> None:
    """Leads agree; the standard errors printed for them assume iid errors, as shown here."""
    est = vbc.did.Imputation().pretrend(panel, vbc.Design(outcome="dep_var"), leads=5)
    assert est.frame["event_time"].tolist() == [-5, -4, -3, -2, -1]
    expected = [reference[f"rel_year[{e}]"] for e in range(-5, 0)]
    np.testing.assert_allclose(est.estimate, [r["estimate"] for r in expected], atol=1e-7)
    untreated = frame[(frame["g"] == 0) | (frame["year"] < frame["g"])]
    codes = untreated["unit"].factorize()[0]
    event = np.where(untreated["g"] > 0, untreated["year"] - untreated["g"], 0)
    x = np.column_stack([
        (untreated["year"].to_numpy()[:, None] == np.unique(untreated["year"])[1:]),
        event[:, None] == np.arange(-5, 0),
    ]).astype(float)  # fmt: skip
    columns = np.column_stack([x, untreated["dep_var"]])
    size = np.bincount(codes)
    means = np.array([np.bincount(codes, c) for c in columns.T]).T / size[:, None]
    within = columns - means[codes]
    inverse = np.linalg.inv(within[:, :-1].T @ within[:, :-1])
    beta = inverse @ (within[:, :-1].T @ within[:, -1])
    np.testing.assert_allclose(est.estimate, beta[-5:], atol=1e-10)
    left = len(x) - len(size) - x.shape[1]
    variance = np.sum((within[:, -1] - within[:, :-1] @ beta) ** 2) / left
    iid = np.sqrt(variance * np.diag(inverse))[-5:]
    np.testing.assert_allclose(iid, [r["se"] for r in expected], atol=1e-8)
    clustered = errors(est)
    assert np.all(np.abs(clustered / iid - 1) < 0.05)
    assert est.wald().p_value > 0.5


def test_clusters_above_the_unit(frame, effects) -> None:
    panel = vbc.Panel.from_frame(
        frame, unit="unit", period="year", cohort="g", cluster="state", never=0
    )
    coarse = vbc.did.Imputation().fit(panel, vbc.Design(outcome="dep_var"), ssc=SSC.none())
    np.testing.assert_allclose(coarse.estimate, effects.estimate, atol=1e-12)
    assert coarse.influence().shape[0] == frame["state"].nunique()
    assert not np.allclose(errors(coarse), errors(effects), rtol=1e-3)
