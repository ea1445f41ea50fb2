"""Columns of a panel as fixed effects and second clusters: against dense dummies."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.errors import DesignError
from vbceval.did import TWFE, GLMDiD
from vbceval.inference import SSC


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Hospitals in counties in states; systems reach over states."""
    rng = np.random.default_rng(12)
    n = 48
    hospital, year = np.repeat(np.arange(n), 5), np.tile(np.arange(2014, 2019), n)
    rows = pd.DataFrame({
        "hospital": hospital, "year": year, "county": hospital // 3, "state": hospital // 6,
        "system": np.array([f"s{i % 5}" for i in range(n)])[hospital],
        "entry": np.where(rng.random(n) < 0.4, 2017.0, np.nan)[hospital],
        "w": rng.uniform(0.5, 2, n)[hospital], "x": rng.normal(size=5 * n),
    })  # fmt: skip
    rows["visits"] = np.exp(1 + 0.1 * rng.normal(size=5 * n) + 0.2 * (hospital % 5 == 1))
    rows["spend"] = hospital + 0.4 * rows["x"] + rng.normal(size=5 * n)
    return rows.drop(index=[7, 31, 32, 100]).reset_index(drop=True)


def panel(rows: pd.DataFrame, cluster: str = "state") -> vbc.Panel:
    return vbc.Panel.from_frame(
        rows, unit="hospital", period="year", cohort="entry", cluster=cluster, weight="w"
    )


def dense(rows: pd.DataFrame, effects: list[pd.Series], clusters: list[np.ndarray]) -> tuple:
    """Coefficient of treatment and its scores summed by each cluster, with every dummy."""
    d = (rows["year"] >= rows["entry"]).astype(float)
    z = np.column_stack([d, rows["x"], *(pd.get_dummies(e, dtype=float) for e in effects)])
    w, y = rows["w"].to_numpy(), rows["spend"].to_numpy()
    bread = np.linalg.pinv(z.T @ (z * w[:, None]), rcond=1e-12)
    beta = bread @ z.T @ (w * y)
    psi = (z * (w * (y - z @ beta))[:, None]) @ bread[:, 0]
    return beta[0], [np.bincount(c, weights=psi) for c in clusters]


def test_effects_of_regions_by_period(frame: pd.DataFrame) -> None:
    system_year = frame["system"] + frame["year"].astype(str)
    beta, (psi,) = dense(frame, [frame["hospital"], system_year], [frame["state"].to_numpy()])
    design = vbc.Design(outcome="spend", covariates=["x"], fixed_effects=("unit", "system:period"))
    est = TWFE().fit(panel(frame), design, vcov="CR0")
    assert est.estimate.item() == pytest.approx(beta, rel=1e-9)
    assert est.std_error.item() == pytest.approx(np.sqrt(psi @ psi), rel=1e-8)
    # treatment, x and 25 levels of system and year, of which effects of hospitals span four
    for ssc, levels in ((SSC.fixest(), 25), (SSC.stata(), 21)):
        factor = 8 / 7 * (len(frame) - 1) / (len(frame) - 2 - levels)
        est = TWFE().fit(panel(frame), design, ssc=ssc)
        assert est.std_error.item() == pytest.approx(np.sqrt(factor * (psi @ psi)), rel=1e-8)


@pytest.mark.parametrize("vcov", ["CR1", "CR2"])
def test_effects_inside_clusters_are_absorbed(frame: pd.DataFrame, vcov: str) -> None:
    """Counties are inside states: not counted by the factor, and eliminated exactly."""
    design = vbc.Design(outcome="spend", covariates=["x"], fixed_effects=("county", "period"))
    est = TWFE().fit(panel(frame), design, vcov=vcov)
    beta, (psi,) = dense(frame, [frame["county"], frame["year"]], [frame["state"].to_numpy()])
    assert est.estimate.item() == pytest.approx(beta, rel=1e-9)
    if vcov == "CR1":
        factor = 8 / 7 * (len(frame) - 1) / (len(frame) - 2 - 5)
        assert est.std_error.item() == pytest.approx(np.sqrt(factor * (psi @ psi)), rel=1e-8)
    # the same when the county is the unit of rows that are not followed
    rows = frame.assign(row=np.arange(len(frame)))
    other = vbc.Panel.from_frame(
        rows, unit="row", period="year", cohort="entry", cluster="state", weight="w",
        kind="repeated_cross_section", strata=[],
    )  # fmt: skip
    again = TWFE().fit(other, design, vcov=vcov)
    np.testing.assert_allclose(again.estimate, est.estimate, rtol=1e-9)
    np.testing.assert_allclose(again.std_error, est.std_error, rtol=1e-8)
    np.testing.assert_allclose(again.frame["df"], est.frame["df"], rtol=1e-7)


def test_second_cluster_is_a_column(frame: pd.DataFrame) -> None:
    system = frame["system"].factorize()[0]
    both = (frame["system"] + "-" + frame["state"].astype(str)).factorize()[0]
    design = vbc.Design(outcome="spend", covariates=["x"])
    beta, sums = dense(
        frame, [frame["hospital"], frame["year"]], [frame["state"].to_numpy(), system, both]
    )
    est = TWFE().fit(panel(frame), design, vcov=("two_way", "state", "system"), ssc=SSC.none())
    a, b, ab = (psi @ psi for psi in sums)
    assert est.estimate.item() == pytest.approx(beta, rel=1e-9)
    assert est.std_error.item() == pytest.approx(np.sqrt(a + b - ab), rel=1e-8)


def test_poisson_with_effects_of_a_column(frame: pd.DataFrame) -> None:
    """A column that is constant adds nothing to period effects."""
    rows = frame.assign(one="all")
    fits = [
        GLMDiD(effect="common", scale="link").fit(
            panel(rows), vbc.Design(outcome="visits", fixed_effects=effects)
        )
        for effects in (("cohort", "period"), ("cohort", "period:one"))
    ]
    np.testing.assert_allclose(fits[1].estimate, fits[0].estimate, rtol=1e-9)
    np.testing.assert_allclose(fits[1].std_error, fits[0].std_error, rtol=1e-9)


def test_refusals(frame: pd.DataFrame) -> None:
    rows = frame.assign(gap=frame["system"].where(frame.index != 3))
    with pytest.raises(DesignError, match="`gap` groups rows in fixed"):
        TWFE().fit(panel(rows), vbc.Design(outcome="spend", fixed_effects=("unit", "gap")))
    with pytest.raises(DesignError, match="no key of these data"):
        TWFE().fit(panel(rows), vbc.Design(outcome="spend", fixed_effects=("unit", "nothing")))
    cells = vbc.Moments.from_panel(panel(rows, "hospital"), outcomes=["spend"], by="cluster")
    with pytest.raises(DesignError, match="no key of these data"):
        TWFE().fit(cells, vbc.Design(outcome="spend", fixed_effects=("cluster", "system")))
