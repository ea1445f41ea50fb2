"""Exact quantiles of groups, and a table capped at them."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vbceval as vbc
from vbceval.core.errors import DataError
from vbceval.passes import quantiles, winsorise, within

from .conftest import panel

SHARES = [0, 0.01, 0.25, 0.5, 0.99, 1]


def by_sorting(values: np.ndarray, weights: np.ndarray, q: float) -> float:
    """The smallest value up to which rows hold a share q of the weight, in whole numbers."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    need = Fraction(str(q)) * int(total[-1])
    return float(values[order][next(i for i, t in enumerate(total) if t >= need and t > 0)])


@pytest.mark.parametrize("weight", [None, "months"])
def test_quantiles_are_those_of_sorted_rows(duck, weight) -> None:
    frame = panel()
    found = quantiles(frame, duck, column="spend", q=SHARES, by=["q", "provider"], weight=weight)
    assert len(found) == 6 * 12 * len(SHARES)
    for (q, provider), group in frame.groupby(["q", "provider"]):
        mine = found[(found["q"] == q) & (found["provider"] == provider)]
        w = np.ones(len(group)) if weight is None else group[weight].to_numpy()
        expected = [by_sorting(group["spend"].to_numpy(), w, s) for s in SHARES]
        assert mine["value"].tolist() == expected


def test_without_weight_they_are_those_of_numpy(duck) -> None:
    frame = panel()
    for share in SHARES:
        found = quantiles(frame, duck, column="spend", q=share)["value"].item()
        assert found == np.quantile(frame["spend"], share, method="inverted_cdf")


@settings(max_examples=25)
@given(
    st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=30),
    st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.99, 1.0]),
)
def test_any_whole_numbers(duck, values, share) -> None:
    table = pa.table({"x": pa.array(values, pa.int64())})
    found = quantiles(table, duck, column="x", q=share)["value"].item()
    assert found == by_sorting(np.array(values), np.ones(len(values)), share)


def test_missing_values_are_left_out_and_order_does_not_matter(duck) -> None:
    frame = panel()
    gaps = frame.assign(spend=frame["spend"].where(frame["provider"] != "C03"))
    found = quantiles(gaps, duck, column="spend", q=0.9, by=["provider"])
    assert "C03" not in set(found["provider"])
    shuffled = gaps.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(
        found, quantiles(shuffled, duck, column="spend", q=0.9, by=["provider"])
    )


def test_what_cannot_be_counted_is_an_error(duck) -> None:
    frame = panel()
    with pytest.raises(DataError, match="`cost` has no fixed number of decimal digits"):
        quantiles(frame, duck, column="cost", q=0.5)
    with pytest.raises(DataError, match="from 0 to 1"):
        quantiles(frame, duck, column="spend", q=99)
    with pytest.raises(DataError, match="negative"):
        quantiles(frame.assign(months=-1), duck, column="spend", q=0.5, weight="months")
    with pytest.raises(DataError, match="is missing in"):
        quantiles(frame, duck, column="spend", q=0.5, by=["entry"])
    with pytest.raises(DataError, match="`share` cannot be in `by`"):
        quantiles(frame.assign(share=1), duck, column="spend", q=0.5, by=["share"])


def test_a_capped_table_is_read_by_moments(duck, tmp_path) -> None:
    frame = panel()
    frame.loc[frame.index[::9], "spend"] = np.nan
    limits = frame.groupby("q")["spend"].apply(
        lambda x: np.quantile(x.dropna(), 0.95, method="inverted_cdf")
    )
    expected = frame.assign(spend=np.minimum(frame["spend"], frame["q"].map(limits)))
    done = winsorise(
        frame, duck, columns=["spend"], by=["q"], upper=0.95, to=tmp_path / "capped.parquet"
    )  # fmt: skip
    found = pq.read_table(done.path).to_pandas()
    order = ["person", "q"]
    pd.testing.assert_frame_equal(
        found.sort_values(order, ignore_index=True),
        expected.sort_values(order, ignore_index=True), check_dtype=False,
    )  # fmt: skip
    assert done.limits.set_index("q")["upper"].to_dict() == limits.to_dict()
    changed = (frame["spend"] > frame["q"].map(limits)).sum()
    assert done.meta["rows_changed"] == {"spend": changed}
    assert json.loads((tmp_path / "capped.parquet.json").read_text())["parameters"]["upper"] == 0.95
    options = {
        "engine": duck, "cluster": "provider", "period": "q", "cohort": "entry",
        "outcomes": ["spend"],
    }  # fmt: skip
    one = vbc.Moments.from_table(done.path, **options)
    two = vbc.Moments.from_table(expected, **options)
    assert np.array_equal(one.y_mean, two.y_mean)


def test_both_sides_several_columns_and_types_that_stay(duck, tmp_path) -> None:
    frame = panel()[["person", "spend", "visits"]]
    table = pa.Table.from_pandas(frame).set_column(
        1, "spend", pa.array(frame["spend"].round(2)).cast(pa.decimal128(14, 2))
    )
    done = winsorise(
        table, duck, columns=["spend", "visits"], lower=0.1, upper=0.9, to=tmp_path / "x.parquet"
    )
    found = pq.read_table(done.path)
    assert found.schema.field("spend").type == pa.decimal128(14, 2)
    assert pa.types.is_integer(found.schema.field("visits").type)
    low, high = np.quantile(frame["visits"], [0.1, 0.9], method="inverted_cdf")
    expected = np.sort(np.clip(frame["visits"], low, high))
    assert np.array_equal(np.sort(found["visits"].to_numpy()), expected)
    cents = done.limits.set_index("column").loc["spend"]
    assert float(max(found["spend"].to_pylist())) == cents["upper"]


def test_a_table_that_exists_is_not_replaced_and_few_rows_are_not_counted(duck, tmp_path) -> None:
    frame = panel().head(100)
    done = winsorise(frame, duck, columns=["spend"], upper=0.95, to=tmp_path / "a.parquet")
    assert done.meta["rows_changed"] == {"spend": None}  # 5 rows: not shown
    with pytest.raises(DataError, match="exists already"):
        winsorise(frame, duck, columns=["spend"], upper=0.9, to=tmp_path / "a.parquet")
    with pytest.raises(DataError, match="nothing to cap"):
        winsorise(frame, duck, columns=["spend"], to=tmp_path / "b.parquet")


def test_a_table_is_capped_without_a_copy(duck, tmp_path) -> None:
    source = tmp_path / "panel.parquet"
    panel().to_parquet(source)
    options = {"columns": ["spend", "visits"], "by": ["q"], "upper": 0.9}
    written = winsorise(source, duck, **options, to=tmp_path / "capped.parquet")
    seen = winsorise(source, duck, **options)
    assert seen.path is None
    pd.testing.assert_frame_equal(seen.limits, written.limits)
    keys = {"cluster": "provider", "period": "q", "cohort": "entry", "outcomes": ["spend"]}
    one, two = (
        vbc.Moments.from_table(table, engine=duck, **keys)
        for table in (written.path, seen.relation)
    )
    assert one.sums.table.equals(two.sums.table)
    assert two.meta["source"]["files"][0]["path"] == str(source)
    again = winsorise(seen.relation, duck, columns=["spend"], upper=0.5)
    assert again.relation.source.derived not in (None, seen.relation.source.derived)
    found = quantiles(again.relation, duck, column="spend", q=[0.5, 1])
    assert len(set(found["value"])) == 1
    with vbc.connect("duckdb") as other, pytest.raises(DataError, match="made by another engine"):
        quantiles(seen.relation, other, column="spend", q=0.5)


def test_a_run_on_a_capped_table_knows_its_limits(duck, tmp_path) -> None:
    source = tmp_path / "panel.parquet"
    panel(60).to_parquet(source)
    options = {"unit": "person", "cluster": "provider", "period": "q", "outcomes": ["spend"]}
    for share in (0.9, 0.8):
        capped = winsorise(source, duck, columns=["spend"], upper=share).relation
        if share == 0.9:
            within(capped, duck, **options, work=tmp_path / "w")
            continue
        with pytest.raises(DataError, match="`source: derived`"):
            within(capped, duck, **options, work=tmp_path / "w")


def test_a_group_may_have_the_name_of_anything(duck, tmp_path) -> None:
    frame = panel(100).assign(place=lambda f: np.where(f["q"] < 3, "home", "office"))
    options = {"columns": ["spend"], "by": ["place"]}
    limits = quantiles(frame, duck, column="spend", q=0.8, by=["place"])
    given = limits.rename(columns={"value": "upper"}).assign(column="spend").iloc[::-1]
    done = winsorise(frame, duck, **options, limits=given)
    assert done.limits.set_index("place")["upper"].to_dict() == dict(
        zip(limits["place"], limits["value"], strict=True)
    )
    assert (
        winsorise(frame, duck, **options, upper=0.8).meta["rows_changed"]
        == (done.meta["rows_changed"])
    )


def test_a_source_that_shrinks_between_rounds_ends_with_an_error(duck, monkeypatch) -> None:
    """The weight looked for is never reached: that was a loop without end."""
    run, calls = duck.run, []

    def fewer(query):
        found = run(query)
        calls.append(1)
        return found.slice(0, 0) if len(calls) > 3 else found

    monkeypatch.setattr(duck, "run", fewer)
    with pytest.raises(DataError, match="changes while it is read"):
        quantiles(panel(), duck, column="spend", q=0.5)


def test_limits_of_another_table_are_applied(duck, tmp_path) -> None:
    nation, here = panel(400), panel(100, seed=9)
    options = {"columns": ["spend"], "by": ["q"]}
    limits = winsorise(nation, duck, **options, upper=0.9, to=tmp_path / "n.parquet").limits
    done = winsorise(here, duck, **options, limits=limits, to=tmp_path / "h.parquet")
    cap = nation.groupby("q")["spend"].apply(
        lambda x: np.quantile(x, 0.9, method="inverted_cdf")
    )  # fmt: skip
    expected = np.minimum(here["spend"], here["q"].map(cap))
    assert np.array_equal(
        np.sort(pq.read_table(done.path)["spend"].to_numpy()), np.sort(expected.to_numpy())
    )
    with pytest.raises(DataError, match=r"6 groups \(1 have none"):
        winsorise(here, duck, **options, limits=limits.iloc[1:], to=tmp_path / "x.parquet")
    fine = limits.assign(upper=limits["upper"] + 0.001)
    with pytest.raises(DataError, match="more than its 2 decimal digits"):
        winsorise(here, duck, **options, limits=fine, to=tmp_path / "x.parquet")
    with pytest.raises(DataError, match="Give one or the other"):
        winsorise(here, duck, **options, limits=limits, upper=0.9, to=tmp_path / "x.parquet")
    with pytest.raises(DataError, match="is above `upper`"):
        winsorise(here, duck, **options, lower=0.9, upper=0.1, to=tmp_path / "x.parquet")
    everyone = pd.DataFrame({"column": ["spend"], "upper": [2e4]})
    flat = winsorise(here, duck, columns=["spend"], limits=everyone, to=tmp_path / "f.parquet")
    assert max(pq.read_table(flat.path)["spend"].to_pylist()) == 2e4
