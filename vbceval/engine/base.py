"""The interface every engine has, and what engines share: names, attendance, closing."""

from __future__ import annotations

import itertools
import re
import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from vbceval.core.errors import DataError
from vbceval.engine import sql
from vbceval.engine.failures import CANCELLED, QueryCancelled, translate
from vbceval.engine.relation import Relation, Source, choose

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlglot import exp

Dialect = Literal["duckdb", "spark"]


class Engine(ABC):
    """
    Where tables live and queries run. Make one with `vbceval.connect`.

    Queries are sqlglot expressions, built with `vbceval.engine.sql`; the engine writes them in its
    own dialect. Everything an engine makes is temporary and gone after `close`, except what
    `write_parquet` wrote. Use it as a context manager.

    Ctrl-C stops the running query and raises KeyboardInterrupt; `cancel` does the same from another
    thread, and the query raises `QueryCancelled`.

    Attributes
    ----------
    name : str
        Name of the engine, for messages and provenance.
    dialect : str
        Dialect of SQL, as sqlglot names it.
    """

    name: ClassVar[str]
    dialect: ClassVar[Dialect]

    def __init__(self) -> None:
        self._token = secrets.token_hex(4)
        self._count = itertools.count(1)
        self._names: set[str] = set()
        self._known: dict[str, None] = {}
        self._cancels = 0
        self._closed = False
        self._worker: ThreadPoolExecutor | None = None

    @abstractmethod
    def register(self, source: Any, columns: Sequence[str] | None = None) -> Relation:
        """
        Make a table known to the engine and return what it holds. Nothing is computed.

        Parameters
        ----------
        source : str, Path, list of paths, pandas.DataFrame, pyarrow.Table, pyspark DataFrame, Relation
            Parquet: a file, a folder (read with its subfolders), a pattern such as
            ``"panel/*.parquet"``, or a list of files. Folders named ``key=value`` become columns:
            BIGINT when every value is a whole number, text otherwise. Or a table in memory, of pandas
            (NaN becomes NULL), Arrow, or a library that gives Arrow tables, such as polars; or the name of a table or view: of the database given as
            ``path`` of DuckDB, of Spark's catalog. With Spark, also a DataFrame of its session. Or a
            relation that this engine made.
        columns : sequence of str, optional
            Columns to keep, in this order. Default keeps all.

        Raises
        ------
        DataError
            If nothing is found, a file is not Parquet, files disagree about a kept column (all
            files, columns and types are listed), or a column is missing.
        """

    @abstractmethod
    def run(self, expression: exp.Expression) -> pa.Table:
        """Run a query and return the whole result as an Arrow table."""

    @abstractmethod
    def stream(self, expression: exp.Expression, rows: int = 100_000) -> Iterator[pa.RecordBatch]:
        """
        Run a query and yield its result in Arrow batches of at most `rows` rows.

        Memory stays bounded by a batch (DuckDB) or by one partition (Spark). Closing the
        iterator early ends the query.
        """

    @abstractmethod
    def write_parquet(
        self, expression: exp.Expression, path: str | Path, partition_by: Sequence[str] = ()
    ) -> None:
        """
        Run a query and write its result as Parquet; `path` appears only when all is written.

        DuckDB writes one file, or a folder when `partition_by` names columns; Spark always writes a
        folder of parts. An existing file is replaced; an existing folder is a DataError, so that
        two runs cannot mix their parts.
        """

    @abstractmethod
    def create(self, name: str, expression: exp.Expression) -> Relation:
        """Run a query, keep its result under a name from `temporary`, and return what it holds."""

    @abstractmethod
    def define(self, name: str, expression: exp.Expression, source: Source) -> Relation:
        """
        Keep a query under a name from `temporary`; it is run when the relation is read.

        Parameters
        ----------
        name : str
            From `temporary`.
        expression : Expression
            What the relation holds.
        source : Source
            Where its rows come from, for provenance.
        """

    @abstractmethod
    def drop(self, name: str) -> None:
        """Drop a table that this engine made; do nothing when it is gone already."""

    @property
    @abstractmethod
    def memory(self) -> int | None:
        """Bytes a query may use in this process before it spills; None when it runs elsewhere."""

    @abstractmethod
    def _interrupt(self) -> None:
        """Stop every running query of this engine."""

    @abstractmethod
    def _release(self) -> None:
        """Give back what the engine holds; called once."""

    def temporary(self, prefix: str = "t") -> str:
        """Return a new name for `create`; no other engine or process has it."""
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", prefix):
            raise DataError(
                f"`{prefix}` cannot begin a temporary name. Use small letters, digits and `_`."
            )
        name = f"vbc_{prefix}_{self._token}_{next(self._count)}"
        self._names.add(name)
        return name

    def cancel(self) -> None:
        """Stop every running query; each raises `QueryCancelled`. Call it from any thread."""
        self._cancels += 1
        self._interrupt()

    def close(self) -> None:
        """Drop what was made, remove the private temporary folder; may be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            self._release()
        finally:
            if self._worker is not None:
                self._worker.shutdown(wait=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _own(self, name: str) -> str:
        """Return a name if `temporary` made it: nothing else is ever created or dropped."""
        if name not in self._names:
            raise DataError(
                f"`{name}` is not a temporary name of this engine. Get one from `temporary`; "
                "tables of yours are never replaced or dropped."
            )
        return name

    def _again(self, relation: Relation, columns: Sequence[str] | None) -> Relation:
        """Return a relation of this engine, with the columns wanted."""
        if relation.name not in self._names:
            raise DataError(
                f"the relation of {relation.source.label} was made by another engine. Register its "
                "source with this one."
            )
        chosen = choose(relation.columns, columns, relation.source.label)
        if chosen == list(relation.columns):
            return relation
        query = sql.select(*map(sql.column, chosen), of=relation.name)
        return self.define(self.temporary("part"), query, relation.source)

    def _remember(self, relation: Relation) -> Relation:
        # for the closest name in a message; the order of registration is kept
        self._known.update(dict.fromkeys(relation.columns))
        return relation

    def _attend[T](self, work: Callable[[], T]) -> T:
        """
        Do work inside the engine; translate its failures, and let Ctrl-C through.

        A driver does not look at signals while it computes. So the main thread waits for a second
        thread, and stays free to stop the query.
        """
        if self._closed:
            raise DataError(f"this {self.name} engine is closed. Make one with vbc.connect.")
        before = self._cancels
        try:
            if threading.current_thread() is not threading.main_thread():
                return work()
            return self._wait(work)
        except Exception as error:
            failure = translate(error, columns=self._known)
        if self._cancels != before:
            failure = QueryCancelled(CANCELLED)
        # outside the except block: a chained error would print the driver's text, with values
        raise failure

    def _wait[T](self, work: Callable[[], T]) -> T:
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="vbceval-engine")
        future = self._worker.submit(work)
        try:
            return future.result()
        except KeyboardInterrupt:
            self.cancel()
            # the query must be over before anything else may use the engine
            future.exception()
            raise

    def _batches(self, fetch: Callable[[], pa.RecordBatch | None]) -> Iterator[pa.RecordBatch]:
        while (batch := self._attend(fetch)) is not None:
            if batch.num_rows:
                yield batch


def free_folder(path: Path, columns: Iterable[str] = ()) -> Path:
    """Return a folder that may be written; raise DataError when it is there already."""
    if path.exists():
        by = f" partitioned by {', '.join(columns)}" if columns else ""
        raise DataError(
            f"`{path}` exists already, and a folder of Parquet{by} is never mixed with "
            "another's parts. Remove it, or name a new folder."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
