"""Files that are damaged and columns with odd names: an error, or the same numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vbceval as vbc
from vbceval.core.errors import DataError

KEY = b"vbceval.moments"


def rows(n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    provider = rng.integers(0, 6, n)
    return pd.DataFrame({
        "person": np.arange(n), "provider": np.array([*"ABCDEF"])[provider],
        "quarter": rng.integers(1, 4, n), "entry": np.where(provider % 2 == 0, 2.0, np.nan),
        "dual": np.where(rng.random(n) < 0.4, "yes", "no"), "spend": rng.integers(0, 9999, n) / 100,
        "gap": np.where(rng.random(n) < 0.3, np.nan, 1.0 * rng.integers(0, 9, n)),
        "old": rng.integers(0, 2, n), "months": rng.integers(1, 4, n),
    })  # fmt: skip


ROLES = {
    "unit": "person", "cluster": "provider", "period": "quarter", "cohort": "entry",
    "strata": ["dual"], "outcomes": ["spend", "gap"], "covariates": ["old"], "weight": "months",
}  # fmt: skip


def taken(frame: pd.DataFrame, **options: object) -> vbc.Moments:
    with vbc.connect("duckdb", threads=1) as engine:
        return vbc.Moments.from_table(frame, engine=engine, **{**ROLES, **options})


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[vbc.Moments, Path]:
    moments = taken(rows())
    path = tmp_path_factory.mktemp("saved") / "whole.parquet"
    moments.save(path)
    return moments, path


def is_same(a: vbc.Moments, b: vbc.Moments) -> bool:
    return (
        a.sums.table.equals(b.sums.table)
        and a.sums.schema == b.sums.schema
        and a.sums.clusters.equals(b.sums.clusters)
        and dict(a.meta) == dict(b.meta)
    )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_byte_that_changed_is_found(saved, tmp_path, data) -> None:
    """Also one in a page of numbers, which Parquet does not check by itself."""
    moments, path = saved
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(raw)), st.integers(0, len(raw))))
    (tmp_path / "changed.parquet").write_bytes(bytes(raw[:cut]))
    try:
        found = vbc.Moments.load(tmp_path / "changed.parquet")
    except DataError:
        return
    assert is_same(found, moments)


def with_meta(change: Callable[[dict[str, Any]], Any]) -> Callable[[pa.Table], pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        stored = json.loads(table.schema.metadata[KEY])
        change(stored)
        return table.replace_schema_metadata({KEY: json.dumps(stored).encode()})

    return changed


def without_hash(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata({KEY: table.schema.metadata[KEY]})


CHANGES: dict[str, Callable[[pa.Table], pa.Table]] = {
    "no json": lambda t: t.replace_schema_metadata({KEY: b"{x"}),
    "no mapping": lambda t: t.replace_schema_metadata({KEY: b"[1]"}),
    "no schema": with_meta(lambda s: s.pop("schema")),
    "no clusters": with_meta(lambda s: s.pop("clusters")),
    "no meta": with_meta(lambda s: s.pop("meta")),
    "another field": with_meta(lambda s: s["schema"].update(more=1)),
    "no weight": with_meta(lambda s: s["schema"].update(weight=None)),
    "no outcomes": with_meta(lambda s: s["schema"].update(outcomes=[])),
    "no digits of one": with_meta(lambda s: s["schema"]["digits"].pop("spend")),
    "no pivots": with_meta(lambda s: s["schema"].pop("pivots")),
    "a cluster less": with_meta(lambda s: [x.pop() for x in s["clusters"].values()]),
    "a cluster twice": with_meta(lambda s: [x.extend(x) for x in s["clusters"].values()]),
    "a cohort less": with_meta(lambda s: s["clusters"]["cohort"].pop()),
    "a cohort of text": with_meta(lambda s: s["clusters"].update(cohort=["x"] * 6)),
    "cells twice": lambda t: pa.concat_tables([without_hash(t)] * 2),
    "a column more": lambda t: without_hash(t).append_column("x", pa.array(range(len(t)))),
    "other metadata": lambda t: t.replace_schema_metadata(
        {**t.schema.metadata, KEY: t.schema.metadata[KEY].replace(b'"spend": 2', b'"spend": 3')}
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_file_that_does_not_fit_itself_is_refused(saved, tmp_path, case: str) -> None:
    table = CHANGES[case](pq.read_table(saved[1]))
    pq.write_table(table, tmp_path / "changed.parquet")
    with pytest.raises(DataError, match="is damaged"):
        vbc.Moments.load(tmp_path / "changed.parquet")


@pytest.mark.parametrize("kind", ["absent", "text", "missing"])
def test_every_column_has_to_be_there(saved, tmp_path, kind: str) -> None:
    table = pq.read_table(saved[1])
    numbers = [x for x in table.column_names if x not in ("provider", "dual")]
    for name in numbers if kind != "absent" else table.column_names:
        place = table.column_names.index(name)
        if kind == "absent":
            changed = table.drop_columns([name])
        else:
            of = pa.string() if kind == "text" else table.schema.field(name).type
            values = pa.array(["x"] * len(table)) if kind == "text" else pa.nulls(len(table), of)
            changed = table.set_column(place, name, values)
        pq.write_table(changed, tmp_path / "changed.parquet")
        with pytest.raises(DataError, match="is damaged"):
            vbc.Moments.load(tmp_path / "changed.parquet")


NAMES = st.one_of(
    st.sampled_from([
        "select", "from", "null", "order", "group by", "people where x", "v0", "v1_double", "k0",
        "x where y", "a.b", "Robert'); DROP TABLE t;--", '"', "''", "`", "\\", "%s", "{x}", "$1",
    ]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8),
)  # fmt: skip


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(names=st.lists(NAMES, min_size=9, max_size=9, unique_by=lambda x: x.casefold()))
def test_any_names_give_the_same_numbers(saved, tmp_path, names: list[str]) -> None:
    moments, _ = saved
    frame = rows()
    new = dict(zip(frame.columns, names, strict=True))
    roles = {k: [new[x] for x in v] if isinstance(v, list) else new[v] for k, v in ROLES.items()}
    try:
        found = taken(frame.rename(columns=new), **roles)
    except DataError as error:
        refused = "column of sums is called|up to upper and lower|two different sums"
        assert re.search(refused, str(error))  # noqa: PT017 - which names are refused is not known
        return
    for name in ("n", "n_units", "w", "x_mean", "y_mean", "xx", "xy", "yy"):
        np.testing.assert_array_equal(getattr(found, name), getattr(moments, name))
    found.save(tmp_path / "named.parquet")
    assert is_same(vbc.Moments.load(tmp_path / "named.parquet"), found)


def test_a_name_that_reads_as_a_product_is_refused() -> None:
    """`sum(a * b)` would be a column and a product of two."""
    frame = rows().rename(columns={"spend": "old * months", "months": "m"})
    roles = {"outcomes": ["old * months"], "covariates": ["old", "months"], "weight": None}
    with pytest.raises(DataError, match=r"`sum\(old \* months\)` would be the name of two"):
        taken(frame.assign(months=frame["m"]), **roles)


def test_a_cluster_is_text_or_a_number() -> None:
    frame = rows().assign(provider=lambda f: pd.to_datetime("2020-01-01") + pd.to_timedelta(
        f["provider"].map("ABCDEF".index), "D"))  # fmt: skip
    with pytest.raises(DataError, match=r"labelled by text or a whole number\. .* to BIGINT"):
        taken(frame)


def test_labels_of_an_enumeration_do_not_leave(tmp_path) -> None:
    """An enumeration names levels and clusters that no row has."""
    import duckdb

    frame = rows(3000)
    base = tmp_path / "base.db"
    with duckdb.connect(str(base)) as connection:
        connection.register("frame", frame)
        connection.execute("CREATE TYPE who AS ENUM ('A','B','C','D','E','F','secret')")
        connection.execute("CREATE TYPE yesno AS ENUM ('no', 'yes', 'hidden')")
        connection.execute("CREATE TABLE t AS SELECT * REPLACE "
                           "(provider::who AS provider, dual::yesno AS dual) FROM frame")  # fmt: skip
    with vbc.connect("duckdb", path=str(base), threads=1) as engine:
        found = vbc.Moments.from_table("t", engine=engine, **ROLES)
    assert found.sums.table.equals(taken(frame).sums.table)
    copy = found.shareable(margins=[])
    copy.save(tmp_path / "copy.parquet")
    raw = (tmp_path / "copy.parquet").read_bytes()
    assert b"secret" not in raw
    assert b"hidden" not in raw
