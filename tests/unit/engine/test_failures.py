"""What engines say is said again without any value of a row."""

from __future__ import annotations

import traceback

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlglot import exp

from vbceval import DataError, EstimationError, VbcevalError
from vbceval.engine import Column, QueryCancelled, sql
from vbceval.engine.failures import translate

SECRET = "John Q. Public"


@pytest.fixture
def people(duck):
    return duck.register(
        pa.table({"name": [SECRET, "7"], "big": [2**62, 2**62], "paid": [1.5, 1e300]})
    )


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: exp.cast(sql.column("name"), "INT"), DataError, "cannot be read as the type"),
        (lambda: exp.cast(sql.column("name"), "DATE"), DataError, "cannot be read as the type"),
        (lambda: exp.cast(sql.column("paid"), "BIGINT"), DataError, "too large"),
        (lambda: exp.Add(this=sql.column("big"), expression=sql.column("big")), DataError, "too large"),
        (lambda: sql.product(sql.column("big"), sql.column("big"), wide=False), DataError, "too large"),
        (lambda: exp.Anonymous(this="error", expressions=[sql.column("name")]), EstimationError, "refused"),
        (lambda: sql.column("nmae"), DataError, "Did you mean `name`"),
        (lambda: sql.column("name", of="elsewhere"), EstimationError, "cannot run the query"),
    ],
)  # fmt: skip
def test_no_value_of_a_row_is_shown(duck, people, make, kind, said) -> None:
    query = sql.select(sql.named(make(), "x"), of=people.name)
    for work in (lambda: duck.run(query), lambda: list(duck.stream(query))):
        with pytest.raises(kind, match=said) as caught:
            work()
        shown = "".join(traceback.format_exception(caught.value))
        for value in (SECRET, "John", str(2**62), "1e+300"):
            assert value not in shown
        # also for tools that print the chain
        assert caught.value.__context__ is None
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "text",
    [
        f'Conversion Error: Could not convert string "Referenced column "{SECRET}" not found" to INT64',
        f"Invalid Input Error: Binder Error: Referenced column \"{SECRET}\" not found",
        f"Invalid Input Error: [UNRESOLVED_COLUMN] with name `{SECRET}` cannot be resolved",
        f"[CAST_INVALID_INPUT] The value '{SECRET}' of the type \"STRING\" cannot be cast to \"INT\"",
        f"something new: {SECRET}",
    ],
)  # fmt: skip
def test_a_value_that_looks_like_a_message_is_not_shown(text: str) -> None:
    assert "John" not in str(translate(RuntimeError(text), columns=["name"]))


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("INTERRUPT Error: Interrupted!", QueryCancelled, "cancelled"),
        ("(org.apache.spark.SparkSQLException) [OPERATION_CANCELED] x", QueryCancelled, "cancelled"),
        ("Out of Memory Error: failed to allocate", EstimationError, "temp_directory"),
        ("java.lang.OutOfMemoryError: Java heap space", EstimationError, "driver and executors"),
        ("IO Error: Could not write: No space left on device", EstimationError, "disk is full"),
        ("IO Error: Could not write: Disk quota exceeded", EstimationError, "disk is full"),
        ("Out of Memory Error: max_temp_directory_size exceeded", EstimationError, "disk is full"),
        ("[ARITHMETIC_OVERFLOW] overflow", DataError, "too large"),
        ("[FAILED_READ_FILE.NO_HINT] Encountered error", DataError, "is damaged"),
        ("[FAILED_READ_FILE.FILE_NOT_EXIST] Encountered error", DataError, "removed or moved"),
        ("[UNRESOLVED_COLUMN.WITH_SUGGESTION] A column with name `spnd` cannot be resolved.",
         DataError, "`spend`"),
    ],
)  # fmt: skip
def test_failures_say_what_to_do(text: str, kind: type[VbcevalError], said: str) -> None:
    found = translate(RuntimeError(text), columns=["spend"])
    assert type(found) is kind
    assert said in str(found)


@pytest.mark.parametrize("compression", ["snappy", "zstd"])
def test_a_damaged_file_and_one_that_went_are_said(duck, tmp_path, compression) -> None:
    path = tmp_path / "a.parquet"
    values = np.random.default_rng(0).normal(size=20_000)
    pq.write_table(pa.table({"x": values}), path, compression=compression, use_dictionary=False)
    query = sql.select(sql.count_distinct("x"), of=duck.register(path).name)
    raw = bytearray(path.read_bytes())
    raw[4:400] = b"\xff" * 396
    path.write_bytes(bytes(raw))
    with pytest.raises(DataError, match="is damaged"):
        duck.run(query)
    path.unlink()
    with pytest.raises(DataError, match="removed or moved while it was read"):
        duck.run(query)


class Java:
    """A throwable of the Java side: its class, and what caused it."""

    def __init__(self, name: str, cause: Java | None = None) -> None:
        self.name, self.cause = name, cause

    def getClass(self) -> Java:  # the name of Java
        return self

    def getSimpleName(self) -> str:  # the name of Java
        return self.name

    def getCause(self) -> Java | None:  # the name of Java
        return self.cause


def test_of_a_java_failure_the_classes_are_said_and_no_text() -> None:
    class Py4JJavaError(Exception):
        java_exception = Java("SparkException", Java("TimeoutException"))

    found = str(translate(Py4JJavaError("value 'John' of a row")))
    assert "(Py4JJavaError SparkException TimeoutException)" in found
    assert "John" not in found


@pytest.mark.parametrize(
    ("raw", "kind", "digits"),
    [
        ("BIGINT", "integer", None), ("int", "integer", None), ("HUGEINT", "integer", None),
        ("DECIMAL(12,2)", "decimal", 2), ("decimal(38,6)", "decimal", 6), ("REAL", "float", None),
        ("string", "text", None), ("varchar(10)", "text", None), ("ENUM('John', 'Mary')", "text", None),
        ("TIMESTAMP WITH TIME ZONE", "date", None), ("timestamp_ntz", "date", None),
        ("boolean", "boolean", None), ("INTEGER[]", "other", None), ("array<int>", "other", None),
        ("STRUCT(a INTEGER)", "other", None), ("INTERVAL", "other", None), ("BLOB", "other", None),
    ],
)  # fmt: skip
def test_types_are_read_into_families(raw: str, kind: str, digits: int | None) -> None:
    column = Column.read("x", raw)
    assert (column.kind, column.scale) == (kind, digits)
    assert "John" not in column.engine_type
