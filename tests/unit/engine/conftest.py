"""Engines for the tests: DuckDB each time, Spark once a module."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vbceval.engine import connect
from vbceval.engine.duckdb import DuckDBEngine
from vbceval.engine.spark import SparkEngine
from vbceval.engine.spark_session import java_found

NASTY = (
    'double " quote', "single ' quote", "back`tick", "dots.in.it", "line\nfeed", "select", "ünï ☃",
    "tab\tand  spaces", "x; DROP TABLE t; --", '"; DELETE FROM t; --', "`; DROP VIEW v; --", "/* c */",
    "back\\slash", "$1", "{brace}", "%s", "?", "-- not a comment", "ends in backslash\\", "''", '""',
    "a:b=c", "*", "1", "NULL", ",",
)  # fmt: skip
"""Names of columns that a query pasted from text would break on."""


def spark_reason() -> str | None:
    """Return why Spark cannot run here, or None."""
    if importlib.util.find_spec("pyspark") is None:
        return "pyspark is not installed: pip install 'vbceval[spark]'"
    if not java_found():
        return "no Java was found: Spark needs Java 17 or later (JAVA_HOME or PATH)"
    return None


@pytest.fixture
def duck() -> Iterator[DuckDBEngine]:
    with connect("duckdb", memory_limit="1GB", threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkEngine]:
    reason = spark_reason()
    if reason:
        pytest.skip(reason)
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.memory": "1g",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
    }
    session = SparkSession.builder.master("local[1]").config(map=settings).getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    with connect("spark", session=session) as engine:
        yield engine
    session.stop()


@pytest.fixture
def write(tmp_path: Path):
    """Return a function that writes a Parquet file below the test's folder and gives its path."""

    def write_one(name: str, **columns: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
        return path

    return write_one
