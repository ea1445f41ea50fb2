"""The Spark engine, and that it gives the bits DuckDB gives. One local session for the module."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import traceback
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlglot import exp

from vbceval import DataError
from vbceval.engine import QueryCancelled, connect, sql
from vbceval.engine.spark_session import open_session

from .conftest import NASTY, spark_reason

# pyspark 4.3 says of itself that it does not know pandas 3; no pandas object reaches it here
pytestmark = pytest.mark.filterwarnings("ignore:PySpark does not yet:FutureWarning")


def every(relation) -> exp.Select:
    return sql.select(exp.Star(), of=relation.name)


def generated(n: int = 3000) -> pa.Table:
    """A table with every kind of number, missing values, NaN, infinities and lost digits."""
    rng = np.random.default_rng(7)
    spend = np.round(rng.lognormal(6, 2, n), 2)
    odd = spend.copy()
    odd[:6] = [np.nan, np.inf, -np.inf, 0.005, 1e17, -2.5]
    cents = [Decimal(int(c)).scaleb(-2) for c in rng.integers(-(10**9), 10**9, n)]
    fine = [Decimal(int(c)).scaleb(-6) for c in rng.integers(-(10**12), 10**12, n)]
    wide = [Decimal(int(c)) * 10**11 for c in rng.integers(-(10**9), 10**9, n)]
    gone = rng.random(n) < 0.05
    return pa.table(
        {
            "g": rng.integers(0, 7, n),
            "spend": pa.array(spend, mask=gone),
            "odd": pa.array(odd, from_pandas=False),
            "single": pa.array(spend.astype(np.float32)),
            "cents": pa.array(cents, pa.decimal128(12, 2)),
            "fine": pa.array(fine, pa.decimal128(18, 6)),
            "wide": pa.array(wide, pa.decimal128(38, 4)),
            "small": pa.array(rng.integers(-100, 100, n), pa.int8()),
            "large": pa.array(rng.integers(-(2**62), 2**62, n), mask=gone),
            "flag": pa.array(rng.random(n) < 0.5),
        }
    )


def moments(relation) -> exp.Select:
    """Build sums, sums of products and counts of every column, by group."""
    asked: list[exp.Expression] = [sql.column("g")]
    for name, kind in relation.columns.items():
        if name == "g":
            continue
        value = sql.to_fixed(name, kind, scale=2)
        built = {
            "sum": sql.sum_exact(value),
            "square": sql.sum_exact(sql.product(value, value)),
            "loses": sql.count_if(sql.loses_digits(name, kind, scale=2)),
            "over": sql.count_if(sql.overflows(name, kind, scale=2)),
        }
        if kind.kind == "float":
            built["finite"] = sql.count_if(sql.is_finite(name))
        asked += [sql.named(made, f"{name} {what}") for what, made in built.items()]
    spend, small = (sql.to_fixed(n, relation.columns[n], scale=2) for n in ("spend", "small"))
    asked.append(sql.named(sql.sum_exact(sql.product(spend, small, wide=False)), "cross"))
    asked.append(sql.named(sql.count_distinct("small"), "different"))
    query = sql.select(*asked, of=relation.name)
    return query.group_by(sql.column("g")).order_by(sql.column("g"))


def test_both_engines_give_the_same_bits(duck, spark, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(generated(), path)
    here, there = duck.register(path), spark.register(path)
    assert list(here.columns) == list(there.columns)
    assert [c.kind for c in here.columns.values()] == [c.kind for c in there.columns.values()]
    assert here.source.files == there.source.files
    first, second = duck.run(moments(here)), spark.run(moments(there))
    assert first.schema == second.schema
    assert first.schema.field("spend sum").type == pa.decimal128(38, 0)
    assert first.equals(second)
    # NaN is missing
    assert sum(first["odd over"].to_pylist()) == 3
    assert sum(first["odd loses"].to_pylist()) == 1
    assert sum(first["single loses"].to_pylist()) > 1000
    assert sum(first["large over"].to_pylist()) > 100
    # and what Python adds
    units = np.rint(generated()["cents"].to_numpy(zero_copy_only=False).astype(float) * 100)
    assert sum(first["cents sum"].to_pylist()) == int(units.sum())


def test_a_table_in_memory_is_one_table_in_both(duck, spark) -> None:
    table = pa.table(
        {"u": pa.array([1, None], pa.uint64()), "c": pa.array(["x", "y"]).dictionary_encode()}
    )
    first, second = (engine.run(every(engine.register(table))) for engine in (duck, spark))
    assert first.equals(second)


def test_nasty_names(spark, tmp_path: Path) -> None:
    table = pa.table({name: [i, i + 100] for i, name in enumerate(NASTY)})
    pq.write_table(table, tmp_path / "n.parquet")
    for relation in (spark.register(table), spark.register(tmp_path / "n.parquet")):
        assert list(relation.columns) == list(NASTY)
        sums = [sql.named(sql.sum_exact(sql.column(name)), name) for name in NASTY]
        found = spark.run(sql.select(*sums, of=relation.name)).to_pylist()
        assert found == [{name: 2 * i + 100 for i, name in enumerate(NASTY)}]
    chosen = spark.register(table, columns=[NASTY[3], NASTY[0]])
    assert list(chosen.columns) == [NASTY[3], NASTY[0]]


def test_dataframes_views_and_names(spark) -> None:
    session = spark._session
    frame = session.createDataFrame(pa.table({"x": [1, 2]}))
    assert spark.run(every(spark.register(frame))).num_rows == 2
    frame.createOrReplaceTempView("my_view")
    relation = spark.register("`my_view`", columns=["x"])
    assert relation.source.origin == "table"
    assert spark.run(every(relation)).num_rows == 2
    for name in ("absent", "x; DROP VIEW v", "(SELECT 1)", "range(3)"):
        with pytest.raises(DataError, match=r"no table or view|not the name"):
            spark.register(name)
    with pytest.raises(DataError, match="upper and lower case"):
        spark.register(pa.table({"a": [1], "A": [2]}))
    assert session.catalog.tableExists("my_view")


def test_folders_named_key_value(duck, spark, write, tmp_path: Path) -> None:
    write("p/year=2021/arm%201=01/a.parquet", x=[1])
    write("p/year=2022/arm%201=a%20b/a.parquet", x=[2])
    seen = []
    for engine in (duck, spark):
        relation = engine.register(tmp_path / "p")
        assert [(c.name, c.kind) for c in relation.columns.values()] == [
            ("x", "integer"), ("year", "integer"), ("arm 1", "text"),
        ]  # fmt: skip
        seen.append(engine.run(every(relation).order_by("x")))
    assert seen[0].equals(seen[1])
    assert seen[0]["arm 1"].to_pylist() == ["01", "a b"]


def test_files_that_disagree_are_refused(spark, write, tmp_path: Path) -> None:
    write("p/a.parquet", spend=[1.5], n=[1])
    write("p/b.parquet", spend=[1], n=[1], more=[1])
    with pytest.raises(DataError, match="`spend` differs"):
        spark.register(tmp_path / "p")
    assert spark.run(every(spark.register(tmp_path / "p", columns=["n"]))).num_rows == 2
    with pytest.raises(DataError, match="no file or folder"):
        spark.register(tmp_path / "none.parquet")


def test_files_that_only_spark_sees_are_compared_too(spark, write, tmp_path: Path) -> None:
    write("p/k=1/a b.parquet", spend=[1.5], n=[1], s=["x"])
    write("p/k=2/b.parquet", n=[2], s=pa.array(["y"]).dictionary_encode(), more=[1])
    address = (tmp_path / "p").as_uri()
    relation = spark.register(address, columns=["n", "s", "k"])
    assert sorted(r["k"] for r in spark.run(every(relation)).to_pylist()) == [1, 2]
    with pytest.raises(DataError, match="`spend` differs between files") as error:
        spark.register(address, columns=["n", "spend"])
    assert "absent in 1 " in str(error.value)
    assert "k=2/b.parquet" in str(error.value)
    with pytest.raises(DataError, match="2 problems"):
        spark.register(address)
    write("q/a.parquet", n=[1])
    write("q/b.parquet", n=["1"])
    with pytest.raises(DataError, match="`string` in 1"):
        spark.register((tmp_path / "q").as_uri())


def test_streams(spark) -> None:
    relation = spark.register(pa.table({"x": list(range(250)), "d": [Decimal("1.50"), None] * 125}))
    batches = list(spark.stream(every(relation), rows=100))
    assert [batch.num_rows for batch in batches] == [100, 100, 50]
    found = pa.Table.from_batches(batches)
    assert found.schema == spark.run(every(relation)).schema
    assert sorted(found["x"].to_pylist()) == list(range(250))


def test_what_is_created_can_be_dropped(spark) -> None:
    relation = spark.register(pa.table({"x": [1, 2]}))
    name = spark.temporary("cells")
    made = spark.create(name, every(relation))
    assert spark.run(every(made)).num_rows == 2
    spark.drop(name)
    spark.drop(name)
    with pytest.raises(DataError, match="does not exist"):
        spark.run(every(made))
    with pytest.raises(DataError, match="not a temporary name"):
        spark.drop("mine")


def test_folders_are_written_whole(duck, spark, tmp_path: Path) -> None:
    relation = spark.register(pa.table({"x": [1, 2, 3], "s": ["a b", "c/d", "a b"]}))
    target = tmp_path / "parts"
    spark.write_parquet(every(relation), target, partition_by=["s"])
    for engine in (duck, spark):
        back = engine.run(every(engine.register(target)).order_by("x")).to_pylist()
        assert back == [{"x": 1, "s": "a b"}, {"x": 2, "s": "c/d"}, {"x": 3, "s": "a b"}]
    with pytest.raises(DataError, match="exists already"):
        spark.write_parquet(every(relation), target)
    failing = sql.select(exp.cast(sql.column("s"), "INT").as_("x"), of=relation.name)
    with pytest.raises(DataError, match="cannot be read"):
        spark.write_parquet(failing, tmp_path / "other")
    assert [p.name for p in tmp_path.iterdir()] == ["parts"]


def test_no_value_of_a_row_is_shown(spark, caplog, capfd) -> None:
    relation = spark.register(pa.table({"name": ["John Q. Public"], "big": [2**62]}))
    cases = {
        "cannot be read": exp.cast(sql.column("name"), "INT"),
        "too large": exp.Add(this=sql.column("big"), expression=sql.column("big")),
        "refused": exp.Anonymous(this="raise_error", expressions=[sql.column("name")]),
        "Did you mean `name`": sql.column("nmae"),
    }
    with caplog.at_level(logging.DEBUG, logger="SQLQueryContextLogger"):
        for said, made in cases.items():
            query = sql.select(sql.named(made, "x"), of=relation.name)
            for work in (lambda q=query: spark.run(q), lambda q=query: list(spark.stream(q))):
                with pytest.raises(Exception, match=said) as caught:
                    work()
                shown = "".join(traceback.format_exception(caught.value))
                assert "John" not in shown
                assert str(2**62) not in shown
                assert caught.value.__context__ is None
    assert "John" not in caplog.text
    printed = capfd.readouterr()
    assert "John" not in printed.out + printed.err


def test_a_sum_beyond_38_digits_is_an_error(spark) -> None:
    relation = spark.register(pa.table({"x": [10**18] * 101}))
    x = sql.column("x")
    with pytest.raises(DataError, match="too large"):
        spark.run(sql.select(sql.named(sql.sum_exact(sql.product(x, x)), "s"), of=relation.name))


def test_cancel_from_a_thread(spark) -> None:
    slow = (
        exp.select("SUM(SIN(a.id * b.id)) AS s").from_("range(10000000000) AS a").join("range(100) AS b", join_type="cross")
    )  # fmt: skip
    threading.Timer(1.5, spark.cancel).start()
    with pytest.raises(QueryCancelled):
        spark.run(slow)
    assert spark.run(exp.select("1 AS x")).to_pylist() == [{"x": 1}]


def test_the_session_is_given_back_as_it_was(spark) -> None:
    session = spark._session
    other = session.newSession()
    other.conf.set("spark.sql.ansi.enabled", "false")
    other.conf.set("spark.sql.session.timeZone", "America/New_York")
    with connect("spark", session=other) as engine:
        assert other.conf.get("spark.sql.ansi.enabled") == "true"
        relation = engine.register(pa.table({"x": [1]}))
        with pytest.raises(DataError, match="another Spark session"):
            engine.register(session.createDataFrame(pa.table({"x": [1]})))
    assert other.conf.get("spark.sql.ansi.enabled") == "false"
    assert other.conf.get("spark.sql.session.timeZone") == "America/New_York"
    assert not other.catalog.tableExists(relation.name)
    assert other.range(1).count() == 1


CONNECT = """
import sys, threading, pyarrow as pa
from sqlglot import exp
from vbceval.engine import QueryCancelled, connect, sql
from pyspark.sql import SparkSession
session = SparkSession.builder.remote("local[1]").getOrCreate()
with connect("spark", session=session) as engine:
    table = pa.table({"a.b `c`": [1, 2, None], "paid": [0.1, 2.5, 3.0]})
    relation = engine.register(table)
    x = sql.to_fixed("paid", relation.columns["paid"], scale=2)
    query = sql.select(sql.sum_exact(x).as_("s"), sql.sum_exact(sql.column("a.b `c`")).as_("n"), of=relation.name)
    found = engine.run(query)
    assert found.to_pylist() == [{"s": 560, "n": 3}]
    assert found.schema.field("s").type == pa.decimal128(38, 0)
    whole = sql.select(exp.Star(), of=relation.name)
    assert [b.num_rows for b in engine.stream(whole, rows=2)] == [2, 1]
    folder = sys.argv[1] + "/out"
    engine.write_parquet(whole, folder)
    again = engine.register(folder)
    assert again.source.files and engine.run(sql.select(exp.Star(), of=again.name)).num_rows == 3
    kept = engine.create(engine.temporary(), whole)
    engine.drop(kept.name)
    slow = exp.select("SUM(SIN(a.id * b.id)) AS s").from_("range(10000000000) AS a").join("range(100) AS b", join_type="cross")
    threading.Timer(1.5, engine.cancel).start()
    try:
        engine.run(slow)
    except QueryCancelled:
        print("all good")
"""


def test_a_connect_session(tmp_path: Path) -> None:
    reason = spark_reason()
    if reason:
        pytest.skip(reason)
    # in its own process: one process cannot hold a classic and a Connect session
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, str(tmp_path)], capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert "all good" in done.stdout, done.stderr[-3000:]


def test_what_spark_needs_is_said_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="both given"):
        open_session(object(), "sc://x")  # type: ignore[arg-type]  # never used
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "pyspark.sql", None)
        with pytest.raises(DataError, match=r"pip install 'vbceval\[spark\]'"):
            connect("spark")
    if spark_reason() is None:
        from pyspark.sql import SparkSession

        monkeypatch.setattr(SparkSession, "getActiveSession", classmethod(lambda _: None))
        monkeypatch.setenv("JAVA_HOME", "/nowhere")
        with pytest.raises(DataError, match="needs Java 17"):
            connect("spark")


@pytest.mark.skipif(spark_reason() is not None, reason=str(spark_reason()))
def test_an_address_without_a_server_is_said_without_its_token() -> None:
    for remote in ("localhost:1", "http://localhost:1", "sc://", "sc://localhost:none"):
        with pytest.raises(DataError, match="not the address"):
            connect("spark", remote=remote)
    with pytest.raises(DataError, match=r"localhost, port 1 \(connection refused\)") as caught:
        connect("spark", remote="sc://localhost:1/;token=hidden")
    assert "hidden" not in str(caught.value)


ENDED = """
import os, signal, sys, threading
import pandas as pd
import sqlglot
import vbceval as vbc
from vbceval.core.errors import EstimationError
from vbceval.engine import spark_session

spark_session._memory = lambda: "512m"
with vbc.connect("spark") as engine:
    java = engine._session.sparkContext._gateway.proc.pid
    rows, length = 10, 10
    if sys.argv[1] == "killed":
        threading.Timer(0.5, os.kill, (java, signal.SIGKILL)).start()
    else:
        rows, length = 2_000_000, 2_000
    query = sqlglot.parse_one(
        f"SELECT REPEAT(CAST(id AS STRING), {length}) AS x FROM RANGE({rows})", read="spark"
    )
    try:
        while True:
            engine.run(query)
    except EstimationError as error:
        print("SAID", error)
print("CLOSED")
"""


@pytest.mark.parametrize("how", ["killed", "no memory"])
def test_a_spark_that_ends_is_said_in_one_message(how: str) -> None:
    """Neither a page of refused connections nor a query that waits for ever."""
    reason = spark_reason()
    if reason is None and how == "no memory" and os.environ.get("VBCEVAL_SIM") != "full":
        reason = "fills the memory of a Java process: only with VBCEVAL_SIM=full"
    if reason:
        pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, "-c", ENDED, how], timeout=240, check=False, capture_output=True, text=True
    )
    assert "SAID the process of the engine ended while the query ran" in done.stdout, done.stderr
    assert "CLOSED" in done.stdout
    assert "ConnectionRefused" not in done.stderr


def test_text_with_a_collation_is_named(spark) -> None:
    table = spark._session.sql("SELECT collate('a', 'UTF8_LCASE') AS dual, 'b' AS provider")
    with pytest.raises(DataError, match="`dual` of `a Spark DataFrame` has a collation"):
        spark.register(table)
    assert list(spark.register(table, columns=["provider"]).columns) == ["provider"]


def test_types_that_spark_does_not_read_are_said(spark, tmp_path) -> None:
    when = pa.array([1], pa.timestamp("ns"))
    pq.write_table(pa.table({"x": [1], "when": when}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"time stamps in nanoseconds.* to microseconds"):
        spark.register(tmp_path / "a.parquet", columns=["x"])
