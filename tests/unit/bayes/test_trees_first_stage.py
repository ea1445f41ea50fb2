"""Effects of organizations that are not pooled: the first stage of effects by regression trees."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.bayes import EffectTrees, HierarchicalDiD, organization_estimates
from vbceval.core.errors import DesignError, EstimationError


@pytest.fixture(scope="module")
def first() -> SimpleNamespace:
    """Twelve organizations, two of three years treated in half of them, sizes unequal."""
    rng, rows = np.random.default_rng(5), []
    for i in range(12):
        entry = 2017.0 if i % 2 else np.nan
        for t in (2015, 2016, 2017, 2018):
            spend = 10_000 + 300 * i + 100 * (t - 2015) - (100 + 40 * i) * (t >= entry)
            rows.append((f"A{i}", t, entry, spend + rng.normal(0, 150), 20_000.0 + 3_000 * i))
    frame = pd.DataFrame(rows, columns=["aco", "year", "entry", "spend", "people"])
    panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry", weight="people")
    design = vbc.Design(outcome="spend")
    model = HierarchicalDiD(person_sd=15_000.0, nodes=128, draws=250, alternatives=())
    return SimpleNamespace(
        frame=frame, panel=panel, design=design, model=model, est=model.fit(panel, design)
    )


def test_unpooled_effects_are_those_of_dense_algebra(first) -> None:
    """At each draw: contrasts of cells, effects of organizations with a prior of 1,000 percent."""
    found = organization_estimates(first.model, first.est, first.panel, first.design, size=3)
    frame, tree = first.frame, first.est.to_arviz()["posterior"].to_dataset()
    names = list(found.frame["cluster"])
    before = frame[frame["entry"].notna() & (frame["year"] == 2016)]
    percent = 100 / np.average(before["spend"], weights=before["people"])
    org, year = pd.factorize(frame["aco"])[0], frame["year"].to_numpy(dtype=float)
    d = (frame["year"] >= frame["entry"]).to_numpy(dtype=float)
    later = d * (year == 2018)
    basis = np.eye(12)[org]
    contrast = np.linalg.svd(basis)[0][:, 12:].T
    same, gap = org[:, None] == org, np.abs(year[:, None] - year)
    own = np.array([(frame["aco"] == o).to_numpy() * d for o in names])
    means, covariances = [], []
    flat = {k: v.values.reshape(-1, *v.shape[2:]) for k, v in tree.data_vars.items()}
    for i in np.linspace(0, len(flat["rho"]) - 1, 3).round().astype(int):
        v = 100**2 * ((gap == 0) - 1 / 4) + np.diag((percent * 15_000) ** 2 / frame["people"])
        v = v + flat["common_shock"][i] ** 2 * same * flat["rho"][i] ** gap
        # level, a step from the first event time to the second, and organizations
        step = flat["event_time_sd"][i]
        v = v + 9 * np.outer(d, d) + step**2 * np.outer(later, later) + 1000**2 * own.T @ own
        half = np.array([own_o.sum() for own_o in own * later]) / np.array([o.sum() for o in own])
        with_y = (
            9 * np.outer(np.ones(len(names)), d) + step**2 * np.outer(half, later) + 1000**2 * own
        )
        prior = 9 + step**2 * np.outer(half, half) + 1000**2 * np.eye(len(names))
        w = contrast @ v @ contrast.T
        gain = np.linalg.solve(w, contrast @ with_y.T).T
        means.append(gain @ contrast @ (percent * frame["spend"].to_numpy()))
        covariances.append(prior - gain @ contrast @ with_y.T)
    assert found.estimate == pytest.approx(np.mean(means, axis=0), abs=1e-5)
    expected = np.mean(covariances, axis=0) + np.cov(np.transpose(means), bias=True)
    # the difference of two numbers of about a million leaves about nine digits
    assert np.abs(found.vcov() - expected).max() < 1e-5
    assert found.frame["unit_of_measure"].unique().tolist() == ["percent of baseline"]


def test_unpooled_effects_are_wider_and_further_apart_than_pooled_ones(first) -> None:
    found = organization_estimates(first.model, first.est, first.panel, first.design)
    pooled = first.model.organizations(first.est, first.panel, first.design)
    assert list(found.frame["cluster"]) == list(pooled.frame["cluster"])
    assert (found.std_error > pooled.std_error).all()
    assert np.ptp(found.estimate) > np.ptp(pooled.estimate)
    with pytest.raises(DesignError, match="shrunken twice"):
        EffectTrees().fit(pooled, pd.DataFrame(), columns=["x"])


def test_first_stage_refuses_what_has_no_normal_law(first) -> None:
    t = HierarchicalDiD(person_sd=15_000.0, tails="student", engine="nuts")
    with pytest.raises(DesignError, match="tails='student'"):
        organization_estimates(t, first.est, first.panel, first.design)
    with pytest.raises(DesignError, match="`size` is 1"):
        organization_estimates(first.model, first.est, first.panel, first.design, size=1)
    with pytest.raises(EstimationError, match="other cells"):
        organization_estimates(first.model, first.est, first.panel, first.design, baseline=9_000.0)
