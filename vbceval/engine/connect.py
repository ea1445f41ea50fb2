"""Choose an engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from vbceval.core.checks import listed
from vbceval.core.errors import DataError
from vbceval.engine.base import Engine
from vbceval.engine.duckdb import DuckDBEngine
from vbceval.engine.spark import SparkEngine

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@overload
def connect(
    engine: Literal["duckdb"] = "duckdb",
    *,
    path: str | Path | None = None,
    memory_limit: str | None = None,
    threads: int | None = None,
    temp_directory: str | Path | None = None,
) -> DuckDBEngine: ...


@overload
def connect(
    engine: Literal["spark"],
    *,
    session: SparkSession | None = None,
    remote: str | None = None,
) -> SparkEngine: ...


def connect(engine: str = "duckdb", **options: Any) -> Engine:
    """
    Open an engine that holds tables too large for memory.

    Parameters
    ----------
    engine : {"duckdb", "spark"}
        DuckDB runs inside this process, spills to disk, and suits one machine. Spark needs the
        extra ``vbceval[spark]`` and, unless `remote` is given, Java 17 or later.
    path : str or Path, optional
        DuckDB: a database file whose tables may be registered by name. It is opened for reading
        only. Default: none.
    memory_limit : str, optional
        DuckDB: for example ``"4GB"`` or ``"512MiB"``. Default: 80% of the machine.
    threads : int, optional
        DuckDB: number of threads. Default: one a core.
    temp_directory : str or Path, optional
        DuckDB: folder to spill to. Default: a private folder that is removed at close.
    session : SparkSession, optional
        Spark: a classic or Connect session. ANSI mode and the time zone UTC are set on it, and
        set back at close; it is never stopped.
    remote : str, optional
        Spark: address of a Connect server, ``"sc://host:port"``. The session is made here and
        stopped at close.

    Returns
    -------
    Engine
        Use it as a context manager. Spark without `session` and `remote` takes the active session
        of the process if there is one; otherwise it starts one on this machine's cores
        (``local[*]``) and a quarter of its memory, with Spark's log turned off since it would quote
        values of rows, and stops it at close.

    Raises
    ------
    DataError
        If the engine or an option is not known, or what it needs is not installed.

    Examples
    --------
    >>> import pandas as pd
    >>> from vbceval.engine import sql
    >>> with connect("duckdb", memory_limit="1GB", threads=1) as engine:
    ...     table = engine.register(pd.DataFrame({"paid": [10.25, 0.75]}))
    ...     cents = sql.to_fixed("paid", table.column("paid"), scale=2)
    ...     total = sql.sum_exact(cents).as_("total")
    ...     engine.run(sql.select(total, of=table.name)).to_pylist()
    [{'total': Decimal('1100')}]
    """
    engines: dict[str, tuple[type[Engine], tuple[str, ...]]] = {
        "duckdb": (DuckDBEngine, ("path", "memory_limit", "threads", "temp_directory")),
        "spark": (SparkEngine, ("session", "remote")),
    }
    if engine not in engines:
        raise DataError(f"there is no engine `{engine}`. Choose one of {listed(engines)}.")
    kind, known = engines[engine]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise DataError(
            f"{listed(unknown)} cannot be used with the engine `{engine}`; it takes {listed(known)}."
        )
    return kind(**options)
