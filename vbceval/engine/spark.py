"""Spark, classic or through Connect: for tables that one machine has outgrown."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from vbceval.core.checks import Problems
from vbceval.core.errors import DataError
from vbceval.core.progress import counting
from vbceval.engine import sql
from vbceval.engine.base import Engine, free_folder
from vbceval.engine.collations import refuse_collated
from vbceval.engine.failures import is_gone
from vbceval.engine.files import ParquetFiles, check_agreement, is_path, open_files, root_of
from vbceval.engine.frames import is_frame, to_arrow
from vbceval.engine.relation import Relation, Source, SourceFile, choose, missing, read_columns
from vbceval.engine.spark_session import open_session, runs_here

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession
    from sqlglot import exp

# Overflow must be an error, not NULL; time stamps must not depend on the machine.
_SETTINGS = {"spark.sql.ansi.enabled": "true", "spark.sql.session.timeZone": "UTC"}
# Schemas of files that are read at once.
_READERS = 8
_ADDRESS = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*:/")


class SparkEngine(Engine):
    """
    Tables in Spark. Made by ``vbceval.connect("spark")``.

    While the engine is open its session has ANSI mode on and the time zone UTC; both are set back
    at close. Files on this machine are checked here, footer by footer, when Spark runs on this
    machine (``local``); elsewhere Spark resolves the paths and reads the schemas.
    """

    name = "spark"
    dialect = "spark"

    def __init__(self, *, session: SparkSession | None = None, remote: str | None = None) -> None:
        super().__init__()
        self._session, self._ours = open_session(session, remote)
        self._connected = "connect" in type(self._session).__module__
        self._kept: dict[str, DataFrame] = {}
        self._tag = f"vbceval-{self._token}"
        self._before = {key: self._session.conf.get(key, None) for key in _SETTINGS}
        for key, value in _SETTINGS.items():
            self._session.conf.set(key, value)
        # a Connect server may be anywhere, so its paths are its own
        self._local = not self._connected and runs_here(self._session)

    def register(self, source: Any, columns: Sequence[str] | None = None) -> Relation:
        """Make a table known to the engine; see `Engine.register`."""
        if isinstance(source, Relation):
            return self._again(source, columns)
        if is_frame(source):
            table = to_arrow(source, columns)
            frame = self._do(lambda: self._session.createDataFrame(table))
            return self._view(
                "frame", frame, None, Source(origin="frame", label="a table in memory")
            )
        if hasattr(source, "sparkSession"):
            if source.sparkSession is not self._session:
                raise DataError(
                    "the DataFrame belongs to another Spark session. Give that session to "
                    "vbc.connect('spark', session=...)."
                )
            label = Source(origin="spark_frame", label="a Spark DataFrame")
            return self._view("frame", source, columns, label)
        if isinstance(source, list | tuple) or is_path(source) or _is_address(source):
            if self._local and not _is_address(source):
                return self._local_files(open_files(source, columns), columns)
            return self._remote_files(source, columns)
        if isinstance(source, str):
            return self._table(source, columns)
        raise DataError(
            f"a {type(source).__name__} cannot be registered with Spark. Give a path or a list of "
            "paths of Parquet files, a table of pandas, polars (collected), Arrow or Spark, or a "
            "table's name."
        )

    def run(self, expression: exp.Expression) -> pa.Table:
        """Run a query and return the whole result as an Arrow table."""
        text = sql.render(expression, self.dialect)
        return self._do(lambda: _plain(self._session.sql(text).toArrow()))

    def stream(self, expression: exp.Expression, rows: int = 100_000) -> Iterator[pa.RecordBatch]:
        """
        Run a query and yield its result in batches; see `Engine.stream`.

        Rows pass through Python objects, which is slow (tens of thousands a second): meant for
        results of cells, not for the rows behind them.
        """
        import pyarrow as pa
        from pyspark.sql.pandas.types import to_arrow_schema

        if rows < 1:
            raise DataError(f"`rows` is {rows}; a batch holds at least one row.")
        text = sql.render(expression, self.dialect)

        def begin() -> tuple[pa.Schema, Iterator[Any]]:
            frame = self._session.sql(text)
            return to_arrow_schema(frame.schema, timezone="UTC"), iter(frame.toLocalIterator())

        schema, found = self._do(begin)
        fields = [field.with_nullable(True).remove_metadata() for field in schema]

        def fetch() -> pa.RecordBatch | None:
            held = [row for _, row in zip(range(rows), found, strict=False)]
            if not held:
                return None
            values = zip(*held, strict=True)
            arrays = [pa.array(v, type=f.type) for v, f in zip(values, fields, strict=True)]
            return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

        yield from self._batches(lambda: self._tagged(fetch))

    def write_parquet(
        self, expression: exp.Expression, path: str | Path, partition_by: Sequence[str] = ()
    ) -> None:
        """
        Write a query's result as a folder of Parquet; see `Engine.write_parquet`.

        On this machine the folder is renamed when it is whole. On another file system Spark's own
        commit moves the parts in place when the job is done and ends with a file ``_SUCCESS``.
        """
        text = sql.render(expression, self.dialect)

        def write(target: str) -> None:
            frame = self._session.sql(text)
            absent = [name for name in partition_by if name not in frame.columns]
            if absent:
                raise DataError(missing(absent[0], frame.columns))
            frame.write.mode("error").option("compression", "zstd").parquet(
                target, partitionBy=list(partition_by) or None
            )

        if not self._local or _is_address(path):
            self._do(lambda: write(str(path)))
            return
        path = free_folder(Path(path), partition_by)
        beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            self._do(lambda: write(str(beside / "parts")))
            (beside / "parts").rename(path)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def create(self, name: str, expression: exp.Expression) -> Relation:
        """Compute a query and keep its result on the executors; see `Engine.create`."""
        self._own(name)
        text = sql.render(expression, self.dialect)

        def work() -> DataFrame:
            frame = self._session.sql(text).persist()
            frame.count()
            frame.createOrReplaceTempView(name)
            return frame

        self._kept[name] = self._do(work)
        return self._describe(name, Source(origin="table", label=name))

    def define(self, name: str, expression: exp.Expression, source: Source) -> Relation:
        """Keep a query as a view; see `Engine.define`."""
        self._own(name)
        text = sql.render(expression, self.dialect)
        self._do(lambda: self._session.sql(text).createOrReplaceTempView(name))
        return self._describe(name, source)

    def drop(self, name: str) -> None:
        """Drop a view that this engine made, and free what it kept."""
        self._own(name)

        def work() -> None:
            self._session.catalog.dropTempView(name)
            if name in self._kept:
                self._kept.pop(name).unpersist()

        self._do(work)

    @property
    def memory(self) -> int | None:
        """None: Spark decides for its workers."""
        return None

    def _local_files(self, files: ParquetFiles, columns: Sequence[str] | None) -> Relation:
        def work() -> DataFrame:
            from pyspark.sql.types import LongType, StringType, StructType

            schema = StructType(self._session.read.parquet(files.paths[0]).schema.fields)
            for path in files.paths[1:]:
                # files may lack columns that are not kept, so one schema does not have all
                if set(files.columns) <= {*schema.fieldNames(), *files.keys}:
                    break
                schema = StructType(self._session.read.parquet(path).schema.fields)
            reader = self._session.read
            if files.keys:
                reader = reader.option("basePath", root_of(files))
                for key, kind in files.keys.items():
                    schema = schema.add(key, LongType() if kind == "BIGINT" else StringType())
            return reader.schema(schema).parquet(*files.paths)

        frame = self._do(work)
        source = Source(origin="files", label=files.label, files=files.described())
        return self._view("files", frame, files.columns if columns is None else columns, source)

    def _remote_files(self, source: Any, columns: Sequence[str] | None) -> Relation:
        paths = [str(item) for item in ([source] if isinstance(source, str | Path) else source)]
        if not paths:
            raise DataError("the list of files is empty. Name at least one Parquet file.")

        def find() -> list[str]:
            return sorted(self._session.read.parquet(*paths).inputFiles())

        def merge() -> DataFrame:
            return self._session.read.option("mergeSchema", "true").parquet(*paths)

        label = paths[0] if len(paths) == 1 else f"{len(paths):,} paths"
        files = self._do(find)
        schemas = self._remote_schemas(files)
        inside = {name for schema in schemas.values() for name in schema}
        problems = Problems(f"`{label}`")
        kept = inside if columns is None else inside & set(columns)
        check_agreement(schemas, sorted(kept), problems)
        problems.raise_if_any()
        frame = self._do(merge)
        found = tuple(SourceFile(path=path) for path in files)
        return self._view("files", frame, columns, Source(origin="files", label=label, files=found))

    def _remote_schemas(self, files: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return each file's columns and types: a merged schema does not tell who lacks a column."""

        def schema(file: str) -> dict[str, str]:
            # addresses come back encoded, and are taken as they stand
            fields = self._session.read.parquet(unquote(file)).schema.fields
            return {field.name: field.dataType.simpleString() for field in fields}

        def work() -> dict[str, dict[str, str]]:
            with (
                ThreadPoolExecutor(_READERS) as pool,
                counting("schemas of files", len(files)) as advance,
            ):
                found = {}
                for file, one in zip(files, pool.map(schema, files), strict=True):
                    found[file] = one
                    advance()
            return found

        return self._do(work)

    def _table(self, source: str, columns: Sequence[str] | None) -> Relation:
        from sqlglot import errors, exp

        try:
            found = exp.to_table(source, dialect=self.dialect)
        except errors.SqlglotError:
            found = None
        if found is None or not isinstance(found.this, exp.Identifier):
            raise DataError(
                f"`{source}` is not the name of a table. Give `table` or `schema.table`."
            )
        place = exp.Table(
            **{
                part: exp.to_identifier(found.args[part].name, quoted=True)
                for part in ("this", "db", "catalog")
                if found.args.get(part) is not None
            }
        )
        text = sql.render(exp.Select(expressions=[exp.Star()]).from_(place), self.dialect)

        def work() -> DataFrame:
            qualified = sql.render(place, self.dialect)
            if not self._session.catalog.tableExists(qualified):
                raise DataError(
                    f"there is no table or view `{source}` in Spark's catalog. Check the name, with "
                    "its schema, or register the files."
                )
            return self._session.sql(text)

        return self._view("table", self._do(work), columns, Source(origin="table", label=source))

    def _view(
        self, prefix: str, frame: DataFrame, columns: Sequence[str] | None, source: Source
    ) -> Relation:
        names = self._do(lambda: frame.columns)
        chosen = choose(names, columns, f"`{source.label}`")
        name = self.temporary(prefix)
        whole = name if chosen == names else self.temporary(prefix)

        def work() -> None:
            frame.createOrReplaceTempView(whole)
            if whole != name:
                query = sql.select(*map(sql.column, chosen), of=whole)
                self._session.sql(sql.render(query, self.dialect)).createOrReplaceTempView(name)

        self._do(work)
        relation = self._describe(name, source)
        refuse_collated(relation)
        return relation

    def _describe(self, name: str, source: Source) -> Relation:
        from sqlglot import exp

        text = sql.render(sql.select(exp.Star(), of=name), self.dialect)

        def work() -> list[tuple[str, str]]:
            fields = self._session.sql(text).schema.fields
            return [(field.name, field.dataType.simpleString()) for field in fields]

        types = self._do(work)
        return self._remember(Relation(name=name, columns=read_columns(types), source=source))

    def _do[T](self, work: Callable[[], T]) -> T:
        return self._attend(lambda: self._tagged(work))

    def _tagged[T](self, work: Callable[[], T]) -> T:
        """Do work whose jobs `cancel` can find, with the driver's log of values turned off."""
        with _quiet():
            if self._connected:
                self._session.addTag(self._tag)
                try:
                    return work()
                finally:
                    self._session.removeTag(self._tag)
            context = self._session.sparkContext
            # job tags are not handed to the thread that collects Arrow; the job group is
            before = context.getLocalProperty("spark.jobGroup.id")
            context.setJobGroup(self._tag, "vbceval", interruptOnCancel=True)
            try:
                return work()
            finally:
                context.setLocalProperty("spark.jobGroup.id", before)  # type: ignore[arg-type]  # None takes it away

    def _interrupt(self) -> None:
        if self._connected:
            self._session.interruptTag(self._tag)
        else:
            self._session.sparkContext.cancelJobGroup(self._tag)

    def _release(self) -> None:
        try:
            self._give_back()
        except Exception as error:
            # where Spark is gone there is nothing to give back, and that it went has been said
            if not is_gone(error):
                raise

    def _give_back(self) -> None:
        if self._ours:
            self._session.stop()
            return
        for frame in self._kept.values():
            frame.unpersist()
        for name in self._names:
            self._session.catalog.dropTempView(name)
        for key, value in self._before.items():
            if value is None:
                self._session.conf.unset(key)
            else:
                self._session.conf.set(key, value)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # pyspark logs the text of every failed query's error in Python, with values of rows
    logger = logging.getLogger("SQLQueryContextLogger")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _is_address(source: object) -> bool:
    return isinstance(source, str) and _ADDRESS.match(source) is not None


def _plain(table: pa.Table) -> pa.Table:
    """Drop Spark's notes on columns, and that they cannot be NULL: both engines give one schema."""
    import pyarrow as pa

    fields = [field.with_nullable(True).remove_metadata() for field in table.schema]
    return table.cast(pa.schema(fields))
