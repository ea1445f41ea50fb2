"""Which bucket a unit is in, and how many buckets the memory given asks for."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest

import vbceval as vbc
from vbceval.core.errors import DataError
from vbceval.engine import Column, sql
from vbceval.passes import buckets, within

from .conftest import TERMS, panel

COLUMNS = {
    "unit": "person", "cluster": "provider", "period": "q", "outcomes": ["spend"],
    "covariates": ["hcc"], "attributes": ["entry"],
}  # fmt: skip


def test_every_unit_is_in_one_bucket(duck) -> None:
    numbers = np.r_[np.arange(-500, 500), np.arange(10**12, 10**12 + 200_000, 200)]
    table = pa.table({"n": pa.array(numbers), "t": pa.array([f"id {x}" for x in numbers])})
    relation = duck.register(table)
    for name in ("n", "t"):
        for count in (1, 2, 7, 16):
            found = []
            for b in range(count):
                where = buckets.in_bucket(relation.column(name), b, count)
                query = sql.select(sql.column("n"), of=relation.name).where(where)
                found.append(duck.run(query).column("n").to_pylist())
            assert sorted(itertools.chain(*found)) == sorted(numbers.tolist())
            assert max(map(len, found)) < 1.35 * len(numbers) / count
    with pytest.raises(DataError, match="whole numbers or text"):
        buckets.in_bucket(Column.read("x", "DOUBLE"), 0, 2)


@pytest.mark.parametrize(
    ("text", "size"), [("1GB", 10**9), ("512MiB", 512 << 20), (" 1.5 kb ", 1500), ("2TiB", 2 << 40)]
)
def test_sizes_are_read(text, size) -> None:
    assert buckets.bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "GB", "1", "-1GB", "1 XB", "0GB", 5])
def test_no_size_is_an_error(text) -> None:
    with pytest.raises(DataError, match="Give a size with its unit"):
        buckets.bytes_of(text)


def test_the_number_of_buckets_follows_the_memory() -> None:
    options = {"rows": 10**6, "bytes_a_row": 200}
    assert buckets.choose_buckets(**options, memory="1GB") == 1
    assert buckets.choose_buckets(**options, memory="40MB") == 5
    assert buckets.choose_buckets(**options, memory="40MB", fixed=20_000_000) == 10
    assert buckets.choose_buckets(**options, memory="1GB", buckets=3) == 3
    with pytest.raises(DataError, match="is too little"):
        buckets.choose_buckets(**options, memory="10MB", fixed=20_000_000)
    with pytest.raises(DataError, match="whole number from 1"):
        buckets.choose_buckets(**options, memory="1GB", buckets=0)


def test_a_fifth_of_the_memory_gives_the_same_numbers() -> None:
    frame = panel()
    # 12 clusters, 6 periods of 1 and a covariate: two sets of sums
    fixed = 2 * 8 * 12 * 12 * ((12 + 3) // 2 + 1)
    wanted = len(frame) * 8 * 4 * 6
    with vbc.connect("duckdb", memory_limit="500MB", threads=1) as engine:
        whole = within(frame, engine, **COLUMNS, memory=f"{(wanted + fixed) / 1e3:.3f}KB")
    with vbc.connect("duckdb", memory_limit="100MB", threads=1) as engine:
        memory = f"{(wanted / 5 + fixed) / 1e3:.3f}KB"
        little = within(frame, engine, **COLUMNS, memory=memory)
    assert (whole.meta["buckets"], little.meta["buckets"]) == (1, 5)
    one, two = whole.fit("spend", TERMS), little.fit("spend", TERMS)
    np.testing.assert_allclose(one.coefficients, two.coefficients, rtol=1e-11)
    np.testing.assert_allclose(one.covariance, two.covariance, rtol=1e-10)
