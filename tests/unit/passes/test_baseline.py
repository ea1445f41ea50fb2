"""Covariates at a base period, joined to all rows of a unit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import vbceval as vbc
from vbceval.core.errors import DataError
from vbceval.passes import baseline

from .conftest import panel

OPTIONS = {"unit": "person", "period": "q", "covariates": ["hcc"]}


def read(done) -> pd.DataFrame:
    return pq.read_table(done.path).to_pandas().sort_values(["person", "q"], ignore_index=True)


def expected(frame: pd.DataFrame, base: pd.Series, *, how: str) -> pd.DataFrame:
    """Rows with the covariate of the row at each person's base period."""
    at = frame[frame["q"] == frame["person"].map(base)]
    right = at[["person", "hcc"]].rename(columns={"hcc": "base_hcc"})
    return frame.merge(right, on="person", how=how).sort_values(["person", "q"], ignore_index=True)


@pytest.mark.parametrize("buckets", [1, 5])
def test_the_first_period_seen(duck, tmp_path, buckets) -> None:
    frame = panel(200)
    done = baseline(frame, duck, **OPTIONS, to=tmp_path / "b", buckets=buckets)
    first = frame.groupby("person")["q"].min()
    pd.testing.assert_frame_equal(
        read(done), expected(frame, first, how="inner"), check_dtype=False
    )
    assert done.meta["units"] == frame["person"].nunique()
    assert done.meta["units_without_base"] == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "b.json"]


@pytest.mark.parametrize(("without", "how"), [("drop", "inner"), ("missing", "left")])
def test_a_fixed_period_that_some_do_not_have(duck, tmp_path, without, how) -> None:
    frame = panel(200)
    done = baseline(frame, duck, **OPTIONS, at=2, without=without, to=tmp_path / "b", buckets=3)
    base = pd.Series(2, index=frame["person"].unique())
    pd.testing.assert_frame_equal(read(done), expected(frame, base, how=how), check_dtype=False)
    have = frame.loc[frame["q"] == 2, "person"].nunique()
    assert done.meta["units_without_base"] == frame["person"].nunique() - have > 10


def test_the_last_period_before_the_cohort(duck, tmp_path) -> None:
    frame = panel(200)
    done = baseline(
        frame, duck, **OPTIONS, at="before_cohort", cohort="entry", never_before=4,
        without="missing", to=tmp_path / "b", buckets=4,
    )  # fmt: skip
    before = frame[frame["q"] < frame["entry"].fillna(4)]
    base = before.groupby("person")["q"].max()
    pd.testing.assert_frame_equal(read(done), expected(frame, base, how="left"), check_dtype=False)


def test_text_units_and_covariates_and_chosen_columns(duck, tmp_path) -> None:
    frame = panel(200).assign(
        person=lambda f: "p-" + f["person"].astype(str),
        dual=lambda f: np.where(f["q"] % 2 == 0, "yes", "no"),
    )
    done = baseline(
        frame, duck, unit="person", period="q", covariates=["dual", "hcc"], keep=["person", "q"],
        to=tmp_path / "b", buckets=6,
    )  # fmt: skip
    found = read(done)
    assert list(found.columns) == ["person", "q", "base_dual", "base_hcc"]
    first = frame.sort_values("q").groupby("person")["dual"].first()
    assert (found["base_dual"] == found["person"].map(first)).all()


def test_a_derived_table_is_read_by_moments(duck, tmp_path) -> None:
    frame = panel(200)
    done = baseline(frame, duck, **OPTIONS, to=tmp_path / "b", buckets=3)
    found = vbc.Moments.from_table(
        done.path, engine=duck, cluster="provider", period="q", cohort="entry",
        outcomes=["spend"], covariates=["base_hcc"],
    )  # fmt: skip
    assert found.n.sum() == len(frame)


def test_two_rows_at_base_or_two_cohorts_are_errors(duck, tmp_path) -> None:
    frame = panel(200)
    twice = pd.concat([frame, frame[frame["q"] == frame["q"].min()].head(1)])
    with pytest.raises(DataError, match="fewer than 11 rows of one bucket are second rows"):
        baseline(twice, duck, **OPTIONS, to=tmp_path / "b")
    frame.loc[frame.index[0], "entry"] = 6.0
    with pytest.raises(DataError, match="`entry` changes within fewer than 11 people"):
        baseline(
            frame, duck, **OPTIONS, at="before_cohort", cohort="entry", never_before=4,
            to=tmp_path / "b",
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_options_that_do_not_fit_are_errors(duck, tmp_path) -> None:
    frame = panel(50)
    to = tmp_path / "b"
    with pytest.raises(DataError, match="it can be 'first', 'before_cohort', or a period"):
        baseline(frame, duck, **OPTIONS, at="last", to=to)
    with pytest.raises(DataError, match="give both or neither"):
        baseline(frame, duck, **OPTIONS, at="before_cohort", to=to)
    with pytest.raises(DataError, match=r"`entry` is missing in .* never treated"):
        baseline(frame, duck, **OPTIONS, at="before_cohort", cohort="entry", to=to)
    zero = frame.assign(entry=frame["entry"].fillna(0))
    with pytest.raises(DataError, match="Never treated is a missing cohort"):
        baseline(zero, duck, **OPTIONS, at="before_cohort", cohort="entry", to=to)
    with pytest.raises(DataError, match="`base_hcc` is there already"):
        baseline(frame.assign(base_hcc=1), duck, **OPTIONS, to=to)
    with pytest.raises(DataError, match="whole numbers or text"):
        baseline(frame.assign(person=frame["person"] + 0.5), duck, **OPTIONS, to=to)
    to.mkdir()
    with pytest.raises(DataError, match="exists already"):
        baseline(frame, duck, **OPTIONS, to=to)


@pytest.mark.parametrize("name", ["p", "T", "two"])
def test_a_unit_named_as_queries_name_their_columns_is_itself(duck, name, tmp_path) -> None:
    frame = panel(60)
    found = []
    for unit in ("person", name):
        options = {"unit": unit, "period": "q", "covariates": ["hcc"], "at": "first"}
        path = tmp_path / f"{unit}.parquet"
        baseline(frame.rename(columns={"person": unit}), duck, to=path, **options)
        table = pd.read_parquet(path).rename(columns={unit: "person"})
        found.append(table.sort_values(["person", "q"], ignore_index=True))
    pd.testing.assert_frame_equal(*found, check_like=True)


def test_a_column_called_as_a_new_one_up_to_case_is_named(duck, tmp_path) -> None:
    frame = panel(60).assign(BASE_HCC=1.0)
    with pytest.raises(DataError, match="`base_hcc` is there already"):
        baseline(frame, duck, **OPTIONS, to=tmp_path / "b")
