"""DuckDB: an embedded engine that spills to disk."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vbceval.core.checks import Problems
from vbceval.core.errors import DataError
from vbceval.core.files import atomic_path
from vbceval.engine import collations, sql
from vbceval.engine.base import Engine, free_folder
from vbceval.engine.files import ParquetFiles, is_path, open_files
from vbceval.engine.frames import is_frame, to_arrow
from vbceval.engine.relation import Relation, Source, choose, missing, read_columns
from vbceval.engine.spill import SpillFolder

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlglot import exp

_MEMORY = re.compile(r"\s*(\d+(\.\d+)?)\s*([KMGT]i?B)\s*", re.IGNORECASE)
_ATTACHED = "vbc_source"
# as the engine prints sizes
_UNITS = {
    unit: 1024**power for power, unit in enumerate(("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"))
}


class DuckDBEngine(Engine):
    """
    Tables in DuckDB, inside this process. Made by ``vbceval.connect("duckdb")``.

    The engine's own database is in memory and spills to `temp_directory`; a database given as
    `path` is attached for reading only. Rows come in no fixed order unless a query has ORDER BY
    (``preserve_insertion_order`` is off: it costs memory, and exact sums do not need it). Sums of
    doubles depend on the number of threads in their last digits; `sql.sum_exact` does not.
    """

    name = "duckdb"
    dialect = "duckdb"

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        memory_limit: str | None = None,
        threads: int | None = None,
        temp_directory: str | Path | None = None,
    ) -> None:
        super().__init__()
        _check_options(path, memory_limit, threads, temp_directory)
        self._path = path
        self._active: set[Any] = set()
        self._lock = threading.Lock()
        self._private: SpillFolder | None = None
        if temp_directory is None:
            self._private = SpillFolder()
            temp_directory = self._private.name
        settings: dict[str, Any] = {
            "temp_directory": str(temp_directory),
            "preserve_insertion_order": False,
            "TimeZone": "UTC",
            # a Python variable must never be read in place of a table that is missing
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
        }
        if memory_limit is not None:
            settings["memory_limit"] = memory_limit.replace(" ", "")
        if threads is not None:
            settings["threads"] = threads
        try:
            self._connection = self._attend(lambda: _open(settings, path))
        except BaseException:
            self._remove_private()
            raise

    def register(self, source: Any, columns: Sequence[str] | None = None) -> Relation:
        """Make a table known to the engine; see `Engine.register`."""
        if isinstance(source, Relation):
            return self._again(source, columns)
        if is_frame(source):
            return self._register_frame(source, columns)
        if is_path(source) or isinstance(source, list | tuple):
            return self._register_files(open_files(source, columns))
        if isinstance(source, str):
            return self._register_table(source, columns)
        raise DataError(
            f"a {type(source).__name__} cannot be registered with DuckDB. Give a path or a list of "
            "paths of Parquet files, a table of pandas, polars (collected) or Arrow, or a table's name."
        )

    def run(self, expression: exp.Expression) -> pa.Table:
        """Run a query and return the whole result as an Arrow table."""
        text = sql.render(expression, self.dialect)

        def work() -> pa.Table:
            with self._cursor() as cursor:
                return cursor.sql(text).to_arrow_table()

        return self._attend(work)

    def stream(self, expression: exp.Expression, rows: int = 100_000) -> Iterator[pa.RecordBatch]:
        """Run a query and yield its result in batches; see `Engine.stream`."""
        if rows < 1:
            raise DataError(f"`rows` is {rows}; a batch holds at least one row.")
        text = sql.render(expression, self.dialect)
        # its own cursor: an open result keeps its connection from running anything else
        with self._cursor() as cursor:
            reader = self._attend(lambda: cursor.sql(text).to_arrow_reader(rows))
            try:
                yield from self._batches(lambda: next(reader, None))
            finally:
                reader.close()

    def write_parquet(
        self, expression: exp.Expression, path: str | Path, partition_by: Sequence[str] = ()
    ) -> None:
        """Write a query's result as Parquet, whole or not at all; see `Engine.write_parquet`."""
        path = Path(path)
        text = sql.render(expression, self.dialect)
        if path.is_dir() or partition_by:
            free_folder(path, partition_by)

        def write(target: Path) -> None:
            with self._cursor() as cursor:
                relation = cursor.sql(text)
                absent = [name for name in partition_by if name not in relation.columns]
                if absent:
                    raise DataError(missing(absent[0], relation.columns))
                # its own temporary file has a name that is not hidden, and readers of the folder
                # would take what a killed run left for a part of the table
                relation.to_parquet(
                    str(target), compression="zstd", partition_by=list(partition_by) or None,
                    use_tmp_file=None if partition_by else False,
                )  # fmt: skip

        if not partition_by:
            with atomic_path(path) as temporary:
                self._attend(lambda: write(temporary))
            return
        beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            self._attend(lambda: write(beside / "parts"))
            (beside / "parts").rename(path)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def create(self, name: str, expression: exp.Expression) -> Relation:
        """Keep a query's result as a table in memory that spills; see `Engine.create`."""
        self._make("TABLE", self._own(name), expression)
        return self._describe(name, Source(origin="table", label=name))

    def define(self, name: str, expression: exp.Expression, source: Source) -> Relation:
        """Keep a query as a view; see `Engine.define`."""
        self._make("VIEW", self._own(name), expression)
        return self._describe(name, source)

    def drop(self, name: str) -> None:
        """Drop a table that this engine made."""
        from sqlglot import exp

        self._own(name)
        for kind in ("VIEW", "TABLE"):
            drop = exp.Drop(tables=[sql.table(name)], kind=kind, exists=True)
            # dropping a table as a view is an error even with IF EXISTS
            if self._kind(name) == kind:
                self._execute(drop)

    @property
    def memory(self) -> int | None:
        """Bytes a query may use before it spills."""

        def work() -> str:
            with self._cursor() as cursor:
                found = cursor.execute("SELECT current_setting('memory_limit')").fetchall()
            return str(found[0][0])

        size, unit = self._attend(work).split()
        return int(float(size) * _UNITS[unit])

    def _kind(self, name: str) -> str | None:
        def work() -> str | None:
            with self._cursor() as cursor:
                found = cursor.execute(
                    "SELECT table_type FROM information_schema.tables "
                    "WHERE table_catalog = 'memory' AND table_name = ?",
                    [name],
                ).fetchone()
            return None if found is None else "VIEW" if found[0] == "VIEW" else "TABLE"

        return self._attend(work)

    def _register_frame(self, source: Any, columns: Sequence[str] | None) -> Relation:
        table = to_arrow(source, columns)
        name, loaded = self.temporary("frame"), f"vbc_load_{self._token}"
        query = sql.select(*map(sql.column, table.column_names), of=loaded)

        def work() -> None:
            # a registered frame is seen by its own cursor only; a table is seen by all
            with self._cursor() as cursor:
                cursor.register(loaded, table)
                try:
                    cursor.execute(sql.render(_creation("TABLE", name, query), self.dialect))
                finally:
                    cursor.unregister(loaded)

        self._attend(work)
        return self._describe(name, Source(origin="frame", label="a table in memory"))

    def _register_files(self, files: ParquetFiles) -> Relation:
        from sqlglot import exp

        view = self.temporary("files")
        # Spark reads %20 in a folder's name as a blank, DuckDB as it stands: the decoded name wins
        spelled = [(files.folder_names.get(column, column), column) for column in files.columns]
        old = {row["name"] for row in self.run(_old_bounds(files)).to_pylist()}
        scan = exp.Select(expressions=[
            sql.named(_unbounded(raw) if raw in old else sql.column(raw), name)
            for raw, name in spelled
        ])  # fmt: skip
        self._make("VIEW", view, scan.from_(exp.Table(this=_reader(files))))
        source = Source(origin="files", label=files.label, files=files.described())
        return self._describe(view, source)

    def _register_table(self, source: str, columns: Sequence[str] | None) -> Relation:
        from sqlglot import errors, exp

        try:
            found = exp.to_table(source, dialect=self.dialect)
        except errors.SqlglotError:
            found = None
        if found is None or not isinstance(found.this, exp.Identifier):
            raise DataError(
                f"`{source}` is not the name of a table. Give `table` or `schema.table`."
            )
        schema = found.db or "main"
        if self._path is None:
            raise DataError(
                f"there is no file, folder or table `{source}`. Check the path; for a table of a "
                "database give its `path` to vbc.connect."
            )
        tables = self._tables()
        if (schema, found.name) not in tables:
            present = [name if place == "main" else f"{place}.{name}" for place, name in tables]
            said = missing(source, present).replace("column", "table")
            raise DataError(f"`{Path(self._path).name}`: {said}")
        place = exp.Table(
            this=exp.to_identifier(found.name, quoted=True),
            db=exp.to_identifier(schema, quoted=True),
            catalog=exp.to_identifier(_ATTACHED, quoted=True),
        )
        query = exp.Select(expressions=[exp.Star()]).from_(place)
        names = self._attend(lambda: self._types(query))
        chosen = choose([name for name, _ in names], columns, f"`{source}`")
        equal = self._collated(chosen, place)
        if equal:
            found = self.run(collations.spellings(equal, place)).to_pylist()[0]
            collations.check_spellings(found, source)
        name = self.temporary("table")
        kept = [
            sql.named(collations.spelled(x), x) if x in equal else sql.column(x) for x in chosen
        ]
        self._make("VIEW", name, exp.Select(expressions=kept).from_(place))
        return self._describe(name, Source(origin="table", label=source))

    def _collated(self, names: Sequence[str], place: exp.Expression) -> list[str]:
        """Return the columns of a table or view that have a collation, which types do not tell."""
        name = self.temporary("sample")
        self._make("TABLE", name, collations.sample(names, place))

        def work() -> str:
            with self._cursor() as cursor:
                found = cursor.execute(
                    "SELECT sql FROM duckdb_tables() WHERE table_name = ?", [name]
                ).fetchall()
            return str(found[0][0])

        made = self._attend(work)
        self.drop(name)
        return collations.collated(made, names)

    def _tables(self) -> list[tuple[str, str]]:
        def work() -> list[tuple[str, str]]:
            with self._cursor() as cursor:
                found = cursor.execute(
                    "SELECT table_schema, table_name FROM information_schema.tables "
                    "WHERE table_catalog = ? ORDER BY ALL",
                    [_ATTACHED],
                ).fetchall()
            return [(str(schema), str(name)) for schema, name in found]

        return self._attend(work)

    def _types(self, query: exp.Expression) -> list[tuple[str, str]]:
        with self._cursor() as cursor:
            relation = cursor.sql(sql.render(query, self.dialect))
            return [(n, str(t)) for n, t in zip(relation.columns, relation.types, strict=True)]

    def _describe(self, name: str, source: Source) -> Relation:
        from sqlglot import exp

        types = self._attend(lambda: self._types(sql.select(exp.Star(), of=name)))
        return self._remember(Relation(name=name, columns=read_columns(types), source=source))

    def _make(self, kind: str, name: str, query: exp.Expression) -> None:
        self._execute(_creation(kind, name, query))

    def _execute(self, statement: exp.Expression) -> None:
        text = sql.render(statement, self.dialect)

        def work() -> None:
            with self._cursor() as cursor:
                cursor.execute(text)

        self._attend(work)

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[Any]:
        cursor = self._connection.cursor()
        with self._lock:
            self._active.add(cursor)
        try:
            yield cursor
        finally:
            with self._lock:
                self._active.discard(cursor)
            cursor.close()

    def _interrupt(self) -> None:
        with self._lock:
            for cursor in self._active:
                cursor.interrupt()

    def _release(self) -> None:
        try:
            self._interrupt()
            self._connection.close()
        finally:
            self._remove_private()

    def _remove_private(self) -> None:
        if self._private is not None:
            self._private.remove()


def _open(settings: Mapping[str, Any], path: str | Path | None) -> Any:
    import duckdb
    from sqlglot import exp

    connection = duckdb.connect(":memory:", config=dict(settings))
    if path is not None:
        place = exp.Literal.string(str(path)).sql(dialect="duckdb")
        connection.execute(f"ATTACH {place} AS {_ATTACHED} (READ_ONLY)")
    return connection


def _creation(kind: str, name: str, query: exp.Expression) -> exp.Create:
    from sqlglot import exp

    return exp.Create(this=sql.table(name), kind=kind, expression=query, replace=True)


def _reader(files: ParquetFiles) -> exp.Expression:
    from sqlglot import exp

    def option(name: str, value: exp.Expression) -> exp.Expression:
        return exp.EQ(this=exp.column(name), expression=value)

    arguments = [
        exp.Array(expressions=[exp.Literal.string(path) for path in files.paths]),
        option("hive_partitioning", exp.true() if files.keys else exp.false()),
        # bounds in Parquet leave NaN out, and DuckDB takes them to say that there is none: it then
        # answers isnan() and comparisons without looking at the rows
        option("can_have_nan", exp.true()),
    ]
    if files.keys:
        types = [
            exp.PropertyEQ(
                this=exp.to_identifier(files.folder_names[key], quoted=True),
                expression=exp.Literal.string(kind),
            )
            for key, kind in files.keys.items()
        ]
        arguments.append(option("hive_types", exp.Struct(expressions=types)))
    return exp.Anonymous(this="read_parquet", expressions=arguments)


def _check_options(
    path: str | Path | None,
    memory_limit: str | None,
    threads: int | None,
    temp_directory: str | Path | None,
) -> None:
    problems = Problems('vbc.connect("duckdb")')
    if path is not None and not Path(path).is_file():
        problems.add(f"there is no database file `{path}`. It is read, never made: check `path`.")
    if memory_limit is not None:
        found = _MEMORY.fullmatch(memory_limit) if isinstance(memory_limit, str) else None
        if found is None or float(found.group(1)) == 0:
            problems.add(
                f"`memory_limit` is {memory_limit!r}. Give a size with its unit, such as '4GB'."
            )
    whole = isinstance(threads, int) and not isinstance(threads, bool)
    if threads is not None and (not whole or threads < 1):
        problems.add(f"`threads` is {threads!r}. Give a whole number from 1.")
    if temp_directory is not None and Path(temp_directory).is_file():
        problems.add(f"`temp_directory` ({temp_directory}) is a file. Give a folder.")
    problems.raise_if_any()


def _old_bounds(files: ParquetFiles) -> exp.Select:
    """Return the query for columns of which some file has bounds in the deprecated fields alone."""
    from sqlglot import exp

    def absent(*names: str) -> exp.Condition:
        return exp.and_(*(exp.Is(this=sql.column(x), expression=exp.null()) for x in names))

    paths = exp.Array(expressions=[exp.Literal.string(path) for path in files.paths])
    name = sql.named(sql.column("path_in_schema"), "name")
    query = exp.Select(expressions=[name], distinct=exp.Distinct())
    query = query.from_(exp.Table(this=exp.Anonymous(this="parquet_metadata", expressions=[paths])))
    old = exp.Not(this=exp.Paren(this=absent("stats_min", "stats_max")))
    return query.where(old, absent("stats_min_value", "stats_max_value"))


def _unbounded(name: str) -> exp.Expression:
    """
    Return a column as an expression through which DuckDB does not see the bounds of the file.

    The deprecated fields ``min`` and ``max`` (parquet.thrift, `Statistics`) are in the order of
    signed bytes also for text and decimals. DuckDB takes them for bounds, and leaves out rows of a
    range or a join, or keeps too many.
    """
    from sqlglot import exp

    value = exp.PropertyEQ(this=exp.to_identifier("value"), expression=sql.column(name))
    one = exp.Anonymous(this="union_value", expressions=[value])
    return exp.Dot(this=one, expression=exp.to_identifier("value"))
