"""Columns of whole numbers: as narrow as their values allow, whatever was added to get them."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vbceval as vbc
from vbceval.core.errors import DataError
from vbceval.moments import whole

LARGE = 2**53 // 4
OPTIONS = {
    "cluster": "g", "period": "t", "cohort": "entry", "strata": ["s"], "outcomes": ["y"],
    "unit": "person",
}  # fmt: skip
SQUARES = "sum(y * y)"


def rows(y: list[int]) -> pd.DataFrame:
    n = len(y)
    return pd.DataFrame({
        "person": np.arange(n), "g": ["a"] * n, "t": 1, "s": np.arange(n) % 2, "entry": np.nan, "y": y,
    })  # fmt: skip


def taken(y: list[int], path=None) -> vbc.Moments:
    with vbc.connect("duckdb", threads=1) as engine:
        found = vbc.Moments.from_table(rows(y), engine=engine, **OPTIONS)
    if path is None:
        return found
    found.save(path)
    return vbc.Moments.load(path)


def kind(moments: vbc.Moments, name: str = SQUARES) -> pa.DataType:
    return moments.sums.table.schema.field(name).type


def test_a_column_is_as_narrow_as_what_it_holds() -> None:
    borders = [-(2**63), 2**63 - 1]
    table = pa.table({
        "fits": pa.array([Decimal(x) for x in borders], pa.decimal128(38, 0)),
        "not": pa.array([Decimal(0), Decimal(2**63)], pa.decimal128(38, 0)),
        "half": [0.5, 1.5],
    })  # fmt: skip
    found = whole.narrow(table)
    assert found.schema.types == [pa.int64(), pa.decimal128(38, 0), pa.float64()]
    assert found["fits"].to_pylist() == borders
    assert found["not"].to_pylist() == [0, 2**63]


def test_adding_does_not_pass_the_end_of_64_bits(tmp_path) -> None:
    y = [3_000_000_000] * 2
    parts = [taken(y, tmp_path / "one.parquet"), taken(y)]
    assert kind(parts[0]) == pa.int64()
    total = parts[0] + parts[1]
    # 4 squares of 9e18, two in each stratum, pass 2**63 - 1
    assert kind(total) == pa.decimal128(38, 0)
    assert total.sums.table[SQUARES].to_pylist() == [2 * 9 * 10**18] * 2
    merged = parts[0].coarsen(drop=["s"])
    assert merged.sums.table[SQUARES].to_pylist() == [2 * 9 * 10**18]


@pytest.mark.parametrize("first", [True, False])
def test_wide_and_narrow_sums_can_be_added(first: bool) -> None:
    wide, narrow = taken([4_000_000_000] * 2), taken([7, 8])
    assert (kind(wide), kind(narrow)) == (pa.decimal128(38, 0), pa.int64())
    total = wide + narrow if first else narrow + wide
    assert total.sums.table[SQUARES].to_pylist() == [16 * 10**18 + 49, 16 * 10**18 + 64]


def test_what_is_added_is_the_table_of_all_rows() -> None:
    def sums(moments: vbc.Moments) -> pa.Table:
        # people of two drops in one period are known from below only
        return moments.sums.table.drop_columns(["people"])

    one, two = [4_000_000_000, 5, 6, 7], [1, 2, 4_000_000_000, 9]
    assert sums(taken(one) + taken(two)).equals(sums(taken(one + two)))
    small = taken([1, 2, 3, 4]), taken([5, 6, 7, 8])
    assert sums(small[0] + small[1]).equals(sums(taken(list(range(1, 9)))))


def test_centred_moments_are_those_of_the_integers() -> None:
    y = [LARGE + k for k in (1, 3, 8, 5)]
    found = taken(y)
    sums = found.sums.table["sum(y)"].to_pylist()
    assert sums == [y[0] + y[2], y[1] + y[3]]
    assert found.y_mean[:, 0].tolist() == [(y[0] + y[2]) / 2, (y[1] + y[3]) / 2]
    # (7/2)^2 + (7/2)^2 and 1 + 1, which doubles of the squares do not hold
    assert found.yy[:, 0].tolist() == [24.5, 2.0]


def test_files_of_decimals_are_read(tmp_path) -> None:
    path = tmp_path / "old.parquet"
    new = taken([1, 2, 3, 4], path)
    table = pq.read_table(path)
    stored = json.loads(table.schema.metadata[b"vbceval.moments"])
    stored["schema"]["format"] = 2
    for name in ("sum(y)", SQUARES):
        place = table.column_names.index(name)
        table = table.set_column(place, name, table[name].cast(pa.decimal128(38, 0)))
    text = {b"vbceval.moments": json.dumps(stored).encode()}
    pq.write_table(table.replace_schema_metadata(text), path)
    assert vbc.Moments.load(path).sums.table.equals(new.sums.table)


def test_histograms_of_large_and_of_small_sums_can_be_added() -> None:
    edges = [10, 1_000_000_000]

    def of(y: list[int], t: int) -> vbc.Moments:
        with vbc.connect("duckdb", threads=1) as engine:
            return vbc.Moments.from_table(
                rows(y).assign(t=t, w=1_000_000), engine=engine, histograms={"y": edges},
                weight="w", **OPTIONS,
            )  # fmt: skip

    small, large = of([1, 2, 300, 4], 1), of([4_000_000_000_000_000, 5, 6, 7], 2)
    total = (small + large).histogram("y")
    assert total["n"].tolist() == [1, 1, 2, 1, 1, 2]
    assert total["mean"].tolist() == [1, 300, 3, 6, 4e15, 6]


def test_the_same_rows_give_the_same_file(tmp_path) -> None:
    rows([1, 2, 3, 4]).to_parquet(tmp_path / "rows.parquet")
    made = []
    for name in ("one", "two"):
        with vbc.connect("duckdb", threads=1) as engine:
            found = vbc.Moments.from_table(tmp_path / "rows.parquet", engine=engine, **OPTIONS)
        found.save(tmp_path / name)
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]


def test_periods_are_coarsened_to_finite_numbers() -> None:
    found = taken([1, 2])
    for periods in (str, lambda q: float("inf")):
        with pytest.raises(DataError, match="are no finite numbers, and cohorts are on the scale"):
            found.coarsen(periods=periods)
    with pytest.raises(TypeError):
        found + 3
