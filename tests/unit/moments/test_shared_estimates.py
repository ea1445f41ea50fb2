"""Estimates from a shared file, against those from a pass over rows that have its labels."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.errors import DesignError, EstimationError

did = vbc.did
FAMILIES = {
    "twfe": (did.TWFE(), "CR1"), "wild": (did.TWFE(), "wild"), "iid": (did.TWFE(), "iid"),
    "event study": (did.EventStudy(), "CR2"), "etwfe": (did.ETWFE(), "CR1"),
    "sun-abraham": (did.SunAbraham(), "CR1"), "stacked": (did.Stacked(), "CR1"),
    "reg": (did.GroupTime(method="reg"), "CR1"), "dr": (did.GroupTime(method="dr"), "CR1"),
    "imputation": (did.Imputation(), "CR1"), "two-stage": (did.TwoStage(), "CR1"),
}  # fmt: skip
OPTIONS = {
    "unit": "person", "cluster": "provider", "period": "quarter", "cohort": "entry",
    "strata": ["dual"], "outcomes": ["spend"], "covariates": ["hcc"],
}  # fmt: skip


def taken(frame: pd.DataFrame) -> vbc.Moments:
    with vbc.connect("duckdb", threads=1) as engine:
        return vbc.Moments.from_table(frame, engine=engine, **OPTIONS)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[vbc.Moments, vbc.Moments]:
    """The file, loaded, and moments of rows under its labels, without strata."""
    rng = np.random.default_rng(7)
    size = np.concatenate([np.full(6, 0.03), np.linspace(0.3, 1, 18)])
    provider = rng.choice(24, 16_000, p=size / size.sum())
    frame = pd.DataFrame({
        "person": np.arange(16_000), "provider": np.array([f"P{i:02d}" for i in range(24)])[provider],
        "quarter": rng.integers(1, 8, 16_000),
        "entry": np.select([provider % 3 == 0, provider % 3 == 1], [4.0, 6.0], np.nan),
        "dual": np.where(rng.random(16_000) < 0.3, "yes", "no"),
        "hcc": np.round(rng.gamma(4, 0.25, 16_000), 3),
        "spend": np.round(rng.gamma(1, 900, 16_000), 2),
    })  # fmt: skip
    path = tmp_path_factory.mktemp("shared") / "copy.parquet"
    taken(frame).shareable().save(path)
    copy = vbc.Moments.load(path)
    label = {x: k for k, held in copy.meta["share"]["clusters"].items() for x in held}
    assert label
    rows = frame.assign(provider=frame["provider"].replace(label))
    rows = rows[rows["provider"].isin(copy.units.index)]
    return copy.coarsen(drop=["dual"]), taken(rows).coarsen(drop=["dual"])


@pytest.mark.parametrize("name", FAMILIES)
def test_the_file_gives_what_its_rows_give(both, name) -> None:
    estimator, vcov = FAMILIES[name]
    design = vbc.Design(outcome="spend", covariates=[] if name == "dr" else ["hcc"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, two = (estimator.fit(x, design, vcov=vcov).tidy() for x in both)
    for column in ("estimate", "std_error", "df"):
        np.testing.assert_allclose(
            one[column].to_numpy(dtype=float), two[column].to_numpy(dtype=float), rtol=1e-10,
            atol=1e-10, err_msg=column,
        )  # fmt: skip


def test_the_posterior_is_the_same(both) -> None:
    model = vbc.bayes.HierarchicalDiD(draws=1000, chains=2, seed=1)
    one, two = (model.fit(x, vbc.Design(outcome="spend")).tidy() for x in both)
    np.testing.assert_allclose(one["estimate"], two["estimate"], rtol=1e-10)


def test_what_needs_people_says_so(both) -> None:
    design = vbc.Design(outcome="spend", covariates=["hcc"])
    with pytest.raises(EstimationError, match=r"the propensity of each row.*method='reg'"):
        did.GroupTime(method="dr").fit(both[0], design)
    with pytest.raises(EstimationError, match="distributions of `spend` need its rows"):
        did.ChangesInChanges().fit(both[0], vbc.Design(outcome="spend"))


@pytest.fixture(scope="module")
def merged() -> vbc.Moments:
    """A copy in which some organizations kept their strata and others did not."""
    rng = np.random.default_rng(3)
    n = 12_000
    provider = rng.integers(0, 12, n)
    frame = pd.DataFrame({
        "person": np.arange(n), "provider": provider, "quarter": rng.integers(1, 7, n),
        "entry": np.where(provider % 2 == 0, 4.0, np.nan),
        "dual": np.where(rng.random(n) < np.where(provider < 4, 0.03, 0.4), "yes", "no"),
        "hcc": np.round(rng.gamma(4, 0.25, n), 3), "spend": np.round(rng.gamma(1, 900, n), 2),
    })  # fmt: skip
    copy = taken(frame).shareable()
    assert set(copy.cells["dual"]) == {"no", "yes", "no or yes"}
    return copy


@pytest.mark.parametrize(
    "estimator",
    [did.TWFE(), did.EventStudy(), did.ETWFE(), did.SunAbraham(), did.Stacked(), did.TwoStage(),
     did.GLMDiD(family="poisson"), did.GroupTime(method="reg"), did.Imputation(), did.Switching()],
    ids=lambda e: type(e).__name__,
)  # fmt: skip
def test_a_merged_level_is_no_stratum_of_its_own(merged, estimator) -> None:
    found = estimator.fit(merged, vbc.Design(outcome="spend"))
    strata = found.frame["stratum"].dropna()
    assert set(strata) == {"dual=no", "dual=yes"}
    # all together hold the merged cells too
    alone = estimator.fit(merged.coarsen(drop=["dual"]), vbc.Design(outcome="spend"))
    assert found.frame["stratum"].isna().sum() == len(alone)


def test_what_no_shared_copy_gives_says_so(merged) -> None:
    design = vbc.Design(outcome="spend")
    with pytest.raises(DesignError, match=r"merged in this shared copy \(`no or yes`\)"):
        did.TripleDifference(by="dual").fit(merged, design)
    with pytest.raises(EstimationError, match="these never leave in a shared copy"):
        did.ChangesInChanges().fit(merged, design)
