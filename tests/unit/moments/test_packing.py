"""Sums that are added up as one: taken apart they are the sums, to the last digit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vbceval as vbc
from vbceval.engine import sql
from vbceval.moments import queries
from vbceval.moments.expressions import as_double
from vbceval.moments.packing import Part, Word, pack


@pytest.fixture(scope="module")
def duck():
    with vbc.connect("duckdb", memory_limit="1GB", threads=1) as engine:
        yield engine


def parts(bounds: list[float]) -> list[Part]:
    return [
        Part(names=(f"s{j}",), value=as_double(sql.column(f"x{j}")), bound=float(b))
        for j, b in enumerate(bounds)
    ]


def sums(engine, frame: pd.DataFrame, words: list[Word]) -> dict[str, int]:
    from sqlglot import exp

    relation = engine.register(frame)
    totals = [sql.named(word.total(), f"t{k}") for k, word in enumerate(words)]
    found = {n: v for k, word in enumerate(words) for n, v in word.taken_apart(f"t{k}").items()}
    query = exp.Select(expressions=[sql.named(v, n) for n, v in found.items()])
    row = engine.run(query.from_(sql.select(*totals, of=relation.name).subquery("s"))).to_pylist()
    return {name: int(value) for name, value in row[0].items()}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 52), min_size=1, max_size=8),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["any", "highest", "lowest"]),
)
def test_any_sums_within_their_bounds(duck, sizes, seed, kind) -> None:
    rng = np.random.default_rng(seed)
    rows, frame, bounds = 5, {}, []
    for j, size in enumerate(sizes):
        most = max(2**size // rows, 1)
        x = {
            "any": rng.integers(-most, most + 1, rows),
            "highest": np.full(rows, most),
            "lowest": np.full(rows, -most),
        }[kind]
        frame[f"x{j}"] = x
        bounds.append(most * rows)
    words = pack(parts(bounds))
    assert sum(len(word.parts) for word in words) == len(sizes)
    found = sums(duck, pd.DataFrame(frame), words)
    assert found == {f"s{j}": int(frame[f"x{j}"].sum()) for j in range(len(sizes))}


def test_small_sums_share_a_column_and_large_ones_do_not() -> None:
    words = pack(parts([10, 10, 10, 2.0**40, 2.0**52]))
    held = [[part.names[0] for part in word.parts] for word in words]
    assert held == [["s4"], ["s3", "s0", "s1"], ["s2"]]


def test_moments_are_the_same_bits_packed_or_not(duck, monkeypatch) -> None:
    rng = np.random.default_rng(4)
    n = 500
    provider = rng.integers(0, 5, n)
    frame = pd.DataFrame(
        {
            "provider": provider, "quarter": rng.integers(1, 4, n),
            "entry": np.where(provider < 2, 2.0, np.nan), "flag": rng.integers(0, 2, n),
            "minus": rng.integers(-1, 1, n), "spend": np.round(rng.normal(0, 1e5, n), 2),
            "visits": np.where(rng.random(n) < 0.1, np.nan, rng.integers(0, 9, n)),
            "months": rng.integers(0, 4, n),
        }
    )  # fmt: skip
    options = {
        "engine": duck, "cluster": "provider", "period": "quarter", "cohort": "entry",
        "outcomes": ["spend", "visits", "minus"], "covariates": ["flag"], "weight": "months",
        "dominance": True,
    }  # fmt: skip
    found = vbc.Moments.from_table(frame, **options).sums.table
    rows = frame[frame["months"] > 0].assign(
        flags=lambda f: f["months"] * f["flag"] * f["flag"],
        squares=lambda f: f["months"] * f["minus"] * f["minus"],
    )
    wanted = rows.groupby(["provider", "quarter"])[["flags", "squares"]].sum()
    assert found["sum(months * flag * flag)"].to_pylist() == wanted["flags"].tolist()
    assert found["sum(months * minus * minus)"].to_pylist() == wanted["squares"].tolist()

    def alone(these: list[Part]) -> list[Word]:
        return [Word(parts=(part,)) for part in these]

    monkeypatch.setattr(queries, "pack", alone)
    assert vbc.Moments.from_table(frame, **options).sums.table.equals(found)
    assert "spend * spend" in " ".join(found.column_names)
