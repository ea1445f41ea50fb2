"""Leaks that were found by attacking shared files: few people behind a sum, its squares and its gaps."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vbceval as vbc
from vbceval.core.errors import DataError
from vbceval.moments.few import Few, Spread, Weights
from vbceval.moments.forms import Form
from vbceval.moments.share import shareable

OPTIONS = {
    "unit": "person", "cluster": "provider", "period": "quarter", "cohort": "entry",
    "outcomes": ["spend"],
}  # fmt: skip
HIT = ("P1", 2)
"""The provider and quarter in which few people have something."""


def rows(each: int = 60, providers: int = 4, quarters: int = 2) -> pd.DataFrame:
    """As many people in every cell, all with spending."""
    n = providers * quarters * each
    provider = np.repeat(np.arange(providers), quarters * each)
    rng = np.random.default_rng(3)
    return pd.DataFrame({
        "person": np.arange(n), "provider": np.array([f"P{i}" for i in range(providers)])[provider],
        "quarter": np.tile(np.repeat(np.arange(1, quarters + 1), each), providers),
        "entry": np.where(provider % 2 == 0, 2.0, np.nan),
        "spend": np.round(np.exp(rng.normal(7, 1, n)), 2),
    })  # fmt: skip


def hit(frame: pd.DataFrame) -> pd.Series:
    return (frame["provider"] == HIT[0]) & (frame["quarter"] == HIT[1])


def taken(frame: pd.DataFrame, **options: object) -> vbc.Moments:
    with vbc.connect("duckdb", threads=1) as engine:
        return vbc.Moments.from_table(frame, engine=engine, **{**OPTIONS, **options})


def is_alone(copy: vbc.Moments) -> bool:
    return HIT[0] in copy.units.index


def users(scale: float = 1.0, repaid: float = 0.0) -> pd.DataFrame:
    """Half of the people have spending; where it is hit, one person."""
    frame = rows()
    half = np.random.default_rng(0).random(len(frame)) < 0.5
    frame["spend"] = np.where(half & ~hit(frame), frame["spend"], 0.0)
    frame.loc[hit(frame).idxmax(), "spend"] = 1234.56
    if repaid:
        frame.loc[5, "spend"] = -repaid
    frame["months"] = np.where(np.arange(len(frame)) % 3 == 0, 12, 7)
    frame["years"] = frame["months"] / 12
    frame["spend"] *= scale
    return frame


@pytest.mark.parametrize("weight", [None, "months", "years"])
@pytest.mark.parametrize("scale", [1.0, 1.0372711])
@pytest.mark.parametrize("repaid", [0.0, 50.0])
def test_one_person_with_an_amount_is_seen(weight, scale, repaid) -> None:
    """The square of a sum is the sum of squares: in cents, doubles, with weights and repayments."""
    full = taken(users(scale, repaid), weight=weight)
    n, y, q = full.w, full.y_mean[:, 0], full.yy[:, 0]
    alone = np.isclose((n * y) ** 2, (q + n * y**2) * (1 if weight is None else 12), rtol=1e-9)
    if weight == "months":
        assert alone.any()
    copy = shareable(full, margins=[])
    assert not is_alone(copy)
    assert copy.meta["share"]["merged_because_of"] == ["few rows behind a sum and its squares"]


def test_weights_that_can_be_any_number_are_named() -> None:
    """Survey weights: no square of a sum is known to be of one row."""
    frame = rows().assign(w=lambda f: np.round(1 + np.sqrt(f.index), 6))
    said = shareable(taken(frame, weight="w"), margins=[]).meta["share"]["not_checked"]
    assert any(x.startswith("one row behind an amount: `w`") for x in said)
    gaps = frame.assign(gap=frame["spend"].where(frame.index % 3 > 0))
    said = shareable(taken(gaps, outcomes=["gap"]), margins=[]).meta["share"]["not_checked"]
    assert not any(x.startswith(("one row", "a person can")) for x in said)


def test_months_that_are_written_as_years_are_months() -> None:
    """Person-years of 11/12 in a cell of 60 are one person who is a month short."""
    frame = rows().assign(months=12)
    short = frame.groupby(["provider", "quarter"]).head(12).index
    frame.loc[short, "months"] = 11
    frame.loc[short[hit(frame.loc[short])][1:], "months"] = 12
    copies = [
        shareable(taken(frame.assign(years=frame["months"] / 12), exposure=x), margins=[])
        for x in ("months", "years")
    ]
    for copy in copies:
        assert not is_alone(copy)
    missing = [copies[0].n * 12 - copies[0].exposure, 12 * (copies[1].n - copies[1].exposure)]
    np.testing.assert_allclose(missing[0], missing[1], atol=1e-9)
    assert not ((missing[0] > 0.5) & (missing[0] < 10.5)).any()


def test_thirds_are_three_values() -> None:
    """Doubles 0, 1/3 and 2/3: rows, sum and squares say how many have each."""
    frame = rows(each=200).assign(share=lambda f: (f.index % 3) / 3)
    top = frame.index[hit(frame) & (frame["share"] > 0.5)]
    frame.loc[top[3:], "share"] = 0.0
    copy = shareable(taken(frame, outcomes=["share"]), margins=[])
    assert not is_alone(copy)
    assert "share=largest: 0 or at least 11" in copy.meta["share"]["rules"]


@pytest.mark.parametrize("weight", [None, "w"])
def test_three_values_in_unequal_steps_are_counted(weight) -> None:
    """Months 1, 6 and 12: rows, sum and squares say how many have each."""
    frame = rows(each=200).assign(months=lambda f: np.take([1, 6, 12, 12], f.index % 4), w=2)
    six = frame.index[hit(frame) & (frame["months"] == 6)]
    frame.loc[six[3:], "months"] = 12
    copy = shareable(taken(frame, outcomes=["months"], weight=weight), margins=[])
    assert not is_alone(copy)
    assert any(x.startswith("months=middle: 0 or at least 11") for x in copy.meta["share"]["rules"])


@pytest.mark.parametrize("values", [(0, 1), (3, 7)])
def test_values_of_rows_that_are_not_summed_hide_nothing(values) -> None:
    """The range is that of all rows: some without a covariate have a code that nobody else has."""
    frame = rows(each=100).assign(flag=lambda f: f.index % 2, age=lambda f: f.index % 50, w=2)
    frame.loc[frame.index[hit(frame)][3:], "flag"] = 1
    frame.loc[frame.index[hit(frame)][:3], "flag"] = 0
    more = frame.head(12).assign(age=np.nan, flag=0, person=-np.arange(1, 13))
    both = pd.concat([frame, more])
    both["flag"] = np.array(values)[both["flag"]]
    both.loc[both["age"].isna(), "flag"] = 9
    copy = shareable(taken(both, outcomes=["flag"], covariates=["age"], weight="w"), margins=[])
    assert not is_alone(copy)


def test_rows_that_lack_one_of_two_outcomes() -> None:
    """All who lack `paid` lack `drugs`; three others lack it too, by which the rows differ."""
    frame = rows(each=100).assign(drugs=lambda f: f["spend"] / 4)
    first = frame.groupby(["provider", "quarter"]).cumcount()
    frame.loc[first < 20, ["spend", "drugs"]] = np.nan
    frame.loc[(first >= 20) & (first < 40) & ~hit(frame), "drugs"] = np.nan
    frame.loc[(first >= 20) & (first < 23) & hit(frame), "drugs"] = np.nan
    copy = shareable(taken(frame, outcomes=["spend", "drugs"]), margins=[])
    assert not is_alone(copy)
    differ = copy.blocks["spend"].n - copy.blocks["drugs"].n
    assert not ((differ > 0) & (differ < 11)).any()


def test_the_rows_that_lack_an_outcome_have_spreads_of_their_own() -> None:
    """One of those without spending has all the visits of those without spending."""
    frame = rows(each=100).assign(visits=lambda f: f.index % 6, gap=lambda f: f["spend"])
    first = frame.groupby(["provider", "quarter"]).cumcount()
    frame.loc[first < 20, "gap"] = np.nan
    frame.loc[hit(frame) & (first < 20), "visits"] = 0
    frame.loc[hit(frame) & (first == 0), "visits"] = 12
    copy = shareable(taken(frame, outcomes=["spend", "gap"], covariates=["visits"]), margins=[])
    assert not is_alone(copy)


def test_labels_that_are_people_are_refused() -> None:
    frame = rows()
    frame["person"] = frame["provider"].str[1:].astype(int) * 60 + np.arange(len(frame)) % 60
    frame["id"] = "B" + frame["person"].astype(str)
    for options in (
        {"cluster": "person"}, {"cluster": "id"}, {"strata": ["id"]},
        {"outcomes": ["spend", "person"]},
    ):  # fmt: skip
        with pytest.raises(DataError, match="names people") as caught:
            shareable(taken(frame, **options))
        assert "B1" not in str(caught.value)


@pytest.mark.parametrize(("lacking", "said"), [(0, None), (3, None), (12, 12)])
def test_rows_left_out_are_many_or_not_told(lacking, said) -> None:
    """Not none where there are none and nothing where there are few: nothing would be few."""
    frame = rows().assign(age=lambda f: (f.index % 50).astype(float))
    frame.loc[frame.index[:lacking], "age"] = np.nan
    copy = shareable(taken(frame, covariates=["age"]), margins=[])
    assert copy.meta["rows_left_out"] == said


def test_a_cohort_that_people_leave_is_named() -> None:
    """Three are gone in the next quarter: not a cell, but the difference of two."""
    frame = rows(quarters=3)
    gone = frame[hit(frame) | hit(frame.assign(quarter=frame["quarter"] - 1))]
    left = frame.drop(gone.groupby("quarter").head(3).index)
    said = shareable(taken(left), margins=[]).meta["share"]["not_checked"]
    assert any(x.startswith("differences of periods: rows never increase") for x in said)
    some = left.drop(left.index[(left["provider"] == "P0") & (left["quarter"] == 1)][:1])
    said = shareable(taken(some), margins=[]).meta["share"]["not_checked"]
    assert not any(x.startswith("differences of periods") for x in said)


def test_the_copy_holds_no_size_of_a_person() -> None:
    """Not in rules, where the largest weight is a factor, and not in the query, in how sums are put."""
    frame = rows().assign(w=lambda f: 3 + f.index % 71, died=lambda f: f.index % 2)
    copy = shareable(taken(frame, outcomes=["died"], weight="w"), margins=[])
    assert "query" not in copy.meta
    rules = copy.meta["share"]["rules"]
    assert "died=1: 0 or at least 11 times the largest weight" in rules
    assert str(11 * 73) not in str(copy.meta)


def test_the_middle_of_four_values_is_seen() -> None:
    """Of 0 to 3 with sum and squares of these, three people have 1 whatever the others have."""
    frame = rows(each=200).assign(stage=lambda f: f.index % 4)
    frame.loc[hit(frame), "stage"] = np.repeat([0, 1, 3], [1, 3, 196])
    copy = shareable(taken(frame, outcomes=["stage"]), margins=[])
    assert not is_alone(copy)


NO_FORM = Form(name="", terms={}, limit=0)


def exposed(k: list[int], w: list[int], limit: int) -> bool:
    spread = Spread(
        steps=NO_FORM, squares=NO_FORM, weights=NO_FORM, rows=NO_FORM, most=4,
        weight=Weights(least=1, largest=2, unit=1), inner=True,
    )  # fmt: skip
    x, v = np.array(k, dtype=float), np.array(w, dtype=float)
    sums = np.array([v @ x, v @ x**2, v.sum(), len(v)]).reshape(4, 1, 1)
    cell = Few(sums=sums, spreads=(spread,), limit=limit)
    return bool(cell.exposed(np.zeros(1, dtype=np.int64), slice(None), 1)[0])


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 2)), min_size=5, max_size=5),
    limit=st.integers(2, 3),
)
def test_weighted_rows_are_called_few_only_where_they_are(rows, limit) -> None:
    """Against all rows with the same sums: rows at an end, or away from two neighbours, are few."""
    k, w = (np.array(x) for x in zip(*rows, strict=True))
    if not exposed(list(k), list(w), limit):
        return
    same = [
        c for c in itertools.combinations_with_replacement(list(itertools.product(range(5), (1, 2))), 5)
        if sum(b for _, b in c) == w.sum() and sum(a * b for a, b in c) == w @ k
        and sum(a * a * b for a, b in c) == w @ k**2
    ]  # fmt: skip
    a = int((w @ k) // w.sum())
    kinds = [{1, 2, 3, 4}, set(range(5)) - {a, a + 1}, *({v} for v in range(5))]
    numbers = [[sum(x in kind for x, _ in c) for c in same] for kind in kinds]
    known = any(min(n) > 0 and max(n) < limit for n in numbers)
    one = (w @ k) ** 2 % (w @ k**2) == 0 and (w @ k) ** 2 // (w @ k**2) <= 2
    assert known or one
