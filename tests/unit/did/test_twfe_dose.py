"""Two-way fixed effects on a column of treatment: against cohorts, dense dummies, and refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.errors import DesignError
from vbceval.did import TWFE
from vbceval.inference import FewTreated

Y = vbc.Design(outcome="y")


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    n, years = 30, np.arange(2014, 2020)
    entry = rng.choice([2016.0, 2018.0, np.nan], n)
    rows = pd.DataFrame({
        "aco": np.repeat(np.arange(n), 6), "year": np.tile(years, n),
        "entry": np.repeat(entry, 6), "w": np.repeat(rng.uniform(0.5, 2.0, n), 6),
        "x": rng.normal(size=6 * n),
    })  # fmt: skip
    rows["on"] = (rows["year"] >= rows["entry"]).astype(float)
    rows["share"] = rows["on"] * rng.uniform(0, 1, len(rows)).round(2)
    rows["y"] = rows["aco"] + 0.3 * rows["year"] - 2 * rows["share"] + rng.normal(size=len(rows))
    return rows


def panel(rows: pd.DataFrame, cohort: str = "entry", **options: object) -> vbc.Panel:
    given = {"weight": "w", **options}
    return vbc.Panel.from_frame(rows, unit="aco", period="year", cohort=cohort, **given)


@pytest.mark.parametrize("vcov", ["CR1", "CR2", "CR3", "wild"])
def test_a_dummy_of_entry_is_the_regression_on_entry(frame: pd.DataFrame, vcov: str) -> None:
    by_cohort = TWFE().fit(panel(frame), Y, vcov=vcov)
    by_column = TWFE(dose="on").fit(panel(frame.assign(never=np.nan), "never"), Y, vcov=vcov)
    for name in ("estimate", "std_error", "df", "p_value", "conf_low", "n_treated"):
        np.testing.assert_allclose(by_column.tidy()[name], by_cohort.tidy()[name], rtol=1e-9)
    np.testing.assert_allclose(by_column.influence(), by_cohort.influence(), atol=1e-12)
    assert by_column.frame["term"].tolist() == ["on"]


def test_a_share_against_dense_dummies(frame: pd.DataFrame) -> None:
    est = TWFE(dose="share").fit(panel(frame), vbc.Design(outcome="y", covariates=["x"]))
    z = np.column_stack([
        frame["share"], frame["x"], pd.get_dummies(frame["aco"], dtype=float),
        pd.get_dummies(frame["year"], dtype=float).iloc[:, 1:],
    ])  # fmt: skip
    w = frame["w"].to_numpy()
    bread = np.linalg.inv(z.T @ (z * w[:, None]))
    beta = bread @ z.T @ (w * frame["y"].to_numpy())
    score = z * (w * (frame["y"].to_numpy() - z @ beta))[:, None]
    by_aco = np.array([score[frame["aco"] == a].sum(axis=0) for a in range(30)]) @ bread
    factor = 30 / 29 * (len(z) - 1) / (len(z) - 8)  # share, x, five years, the constant
    assert est.estimate.item() == pytest.approx(beta[0], rel=1e-10)
    assert est.std_error.item() == pytest.approx(
        np.sqrt(factor * (by_aco[:, 0] ** 2).sum()), rel=1e-9
    )


def test_moments_of_people(frame: pd.DataFrame) -> None:
    """The share varies within cells of an organization and year; nothing is lost."""
    rng = np.random.default_rng(6)
    people = frame.loc[frame.index.repeat(3)].reset_index(drop=True)
    people["share"] = people["on"] * rng.uniform(0, 1, len(people))
    people["person"] = np.arange(len(people))
    rows = vbc.Panel.from_frame(
        people, unit="person", period="year", cohort="entry", cluster="aco",
        kind="repeated_cross_section",
    )  # fmt: skip
    cells = vbc.Moments.from_panel(rows, outcomes=["y"], covariates=["share"], by="cluster")
    one, two = (TWFE(dose="share").fit(data, Y, vcov="CR2") for data in (rows, cells))
    np.testing.assert_allclose(two.estimate, one.estimate, rtol=1e-10)
    np.testing.assert_allclose(two.std_error, one.std_error, rtol=1e-9)


def test_weights_of_clusters_and_periods(frame: pd.DataFrame) -> None:
    """The coefficient of outcomes that are an effect times the dose is their weighted mean."""
    est = TWFE(dose="share").fit(panel(frame), Y)
    said = est.meta["weights"]["all"]
    assert said["cluster_periods"] == int((frame["share"] > 0).sum())
    assert 0 <= said["negative"] < said["cluster_periods"]
    # few treated clusters are counted by cohort, which is not read
    assert not any("treated" in text for text in est.meta["warnings"])


@pytest.mark.parametrize(
    ("options", "design", "vcov", "said"),
    [
        ({"dose": "share"}, {"anticipation": 1}, "CR1", "`anticipation` of the design"),
        ({"dose": "share"}, {"window": (-2, 2)}, "CR1", "`window` of the design"),
        ({"dose": "share"}, {"comparison": "never_treated"}, "CR1", "`comparison` of the design"),
        ({"dose": "share"}, {"covariates": ["share"]}, "CR1", "Name it once"),
        ({"dose": "y"}, {}, "CR1", "Name it once"),
        ({"dose": "kind"}, {}, "CR1", "is a category"),
        ({"dose": "w"}, {}, "CR1", "nothing of it varies"),
        ({}, {"fixed_effects": "unit"}, "CR1", "`fixed_effects` is the text 'unit'"),
        ({"dose": "share"}, {}, "randomization", "would not move"),
        ({"dose": "share"}, {}, FewTreated(), "take treatment from cohorts"),
    ],
)
def test_refusals(frame, options, design, vcov, said) -> None:
    rows = frame.assign(kind=np.where(frame["share"] > 0.5, "high", "low"))
    with pytest.raises(DesignError, match=said):
        TWFE(**options).fit(panel(rows), vbc.Design(outcome="y", **design), vcov=vcov)
