"""Errors of an engine, said again in words that hold no value of a row.

Engines quote values ("Could not convert string '...'"), and values may be people's. So a message
is composed here from the class of the failure; of the engine's own text only names that the query
itself contains are kept, and only from failures that happen before a row is read.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable

from vbceval.core.errors import DataError, EstimationError, VbcevalError
from vbceval.engine.relation import missing

MEMORY = (
    "the engine ran out of memory. Give it more (`memory_limit` of vbc.connect, or the memory of "
    "Spark's driver and executors), a `temp_directory` with room to spill to, fewer `threads`, or "
    "fewer columns at once."
)
DISK = (
    "the disk is full: the engine could not write or spill. Nothing was left under the final "
    "name. Free space, or give a `temp_directory` (Spark: `spark.local.dir`) on a larger disk."
)
GONE = (
    "the process of the engine ended while the query ran: it was stopped, or had no memory left "
    "(Spark: `spark.driver.memory`, `spark.executor.memory`). Nothing was written under a final name. "
    "Start a new Python process, with more memory or fewer columns at once."
)
OVERFLOW = (
    "a number is too large for its type, so the exact result cannot be held. Use fewer decimal "
    "digits (a smaller scale), check the column for impossible amounts, or decline the fixed scale "
    "and accept doubles. The value is not shown, because it may be a person's."
)
CONVERSION = (
    "a value cannot be read as the type it is used as{target}. Look for text among the "
    "numbers, or name another column. The value is not shown, because it may be a person's."
)
DAMAGED = (
    "a file of the source is damaged: its columns can be read, and some of its rows cannot. Copy or write "
    "it again; `size` in `source.files` of the relation can be compared with the original's."
)
MOVED = (
    "a file of the source was removed or moved while it was read, so that its rows would be missing. "
    "Run again when the files are in place."
)
ILLEGAL = (
    "Spark does not read the type of a column of the source from Parquet, of time stamps in nanoseconds, "
    "times of day or half-precision numbers, say, whether it is kept or not. Cast it when the file is "
    "written (time stamps to microseconds), leave it out of the file, or use DuckDB."
)
CANCELLED = "the query was cancelled before it finished; nothing was written. Run it again."

# A word of the failure, and what to say. The first that is found wins, so the order matters:
# what the disk or the memory did comes before the operation that suffered from it.
_CLASSES: tuple[tuple[str, type[VbcevalError], str], ...] = (
    (r"No space left on device|Disk quota exceeded|File too large|max_temp_directory_size|\"errno\":\"28\"", EstimationError, DISK),
    (r"^Out of Memory Error|OutOfMemory|UNABLE_TO_ACQUIRE_MEMORY|Java heap", EstimationError, MEMORY),
    (
        r"^Out of Range Error|ARITHMETIC_OVERFLOW|NUMERIC_VALUE_OUT_OF_RANGE|CAST_OVERFLOW"
        r"|out of range for the destination|^Conversion Error: Could not cast value",
        DataError,
        OVERFLOW,
    ),
    (r"^Conversion Error|CAST_INVALID_INPUT|CANNOT_PARSE|^Invalid Input Error: Failed to cast",
     DataError, CONVERSION),
    (r"PARQUET_TYPE_ILLEGAL|PARQUET_TYPE_NOT_|UNSUPPORTED_TIME_TYPE", DataError, ILLEGAL),
    (r"^IO Error: (Cannot open file|No files found)|FAILED_READ_FILE\.FILE_NOT_EXIST", DataError, MOVED),
    (
        r"^Parquet file is likely corrupted|Corrupted file\?$|^Varint-decoding|^don't know what type"
        r"|^TProtocolException|^invalid TType|^Variable-length int over|^Out of buffer$"
        r"|^Invalid Input Error: Failed to read file .*: (Snappy|ZSTD|GZIP|LZ4|BROTLI|Brotli)"
        r"|^Invalid Input Error: Invalid string encoding found in Parquet"
        r"|^IO Error: Could not read enough bytes|FAILED_READ_FILE\.NO_HINT",
        DataError,
        DAMAGED,
    ),
)  # fmt: skip

# Only failures of binding, which come before any row is read: their text holds names.
_MISSING_COLUMN = re.compile(
    r"Binder Error: Referenced column \"(?P<duck>.*?)\" not found"
    r"|Binder Error: .*? does not have a column named \"(?P<alias>.*?)\""
    r"|\[UNRESOLVED_COLUMN[.\w]*\] .*? with name (?P<spark>.*?) cannot be resolved",
    re.DOTALL,
)
_MISSING_TABLE = re.compile(r"Catalog Error: Table with name|\[TABLE_OR_VIEW_NOT_FOUND\]")
_TYPE = re.compile(r"\b(U?INT(?:8|16|32|64|128)|BIGINT|INT|DOUBLE|FLOAT|DECIMAL|DATE|TIMESTAMP)\b")


_CAUSES = 6


class QueryCancelled(EstimationError):
    """Raise when a query was stopped by `Engine.cancel`, so that a caller may resume later."""


def translate(error: BaseException, *, columns: Iterable[str] = ()) -> VbcevalError:
    """
    Say an engine's failure in the words of the package, without any value of a row.

    Parameters
    ----------
    error : BaseException
        What the engine's driver raised. Raise the result outside the `except` block: a chained
        error would print the driver's text, values included.
    columns : iterable of str
        Columns known to the engine, for the closest name when one is missing.

    Returns
    -------
    VbcevalError
        Of the class that fits: `DataError`, `EstimationError` or `QueryCancelled`.
    """
    if isinstance(error, VbcevalError):
        return error
    text = str(error)
    if is_gone(error):
        return EstimationError(GONE)
    if re.match(r"INTERRUPT Error|Query interrupted|.*OPERATION_CANCELED", text):
        return QueryCancelled(CANCELLED)
    name = _MISSING_COLUMN.match(text)
    if name is not None:
        found = next(group for group in name.groups() if group is not None)
        return DataError(missing(found.removeprefix("`").removesuffix("`"), columns))
    if _MISSING_TABLE.match(text):
        return DataError(
            "a table of the query does not exist in the engine: it was dropped, or the engine "
            "that made it was closed. Register it again with this engine."
        )
    for pattern, kind, message in _CLASSES:
        if re.search(pattern, text):
            return kind(message.replace("{target}", _target(text)))
    before_rows = re.match(r"(?:Binder|Catalog|Parser) Error: [^\n]*", text)
    if before_rows is not None:
        return EstimationError(f"the engine cannot run the query. {before_rows.group()}")
    return EstimationError(
        f"the engine refused the query ({_label(error)}). Its own message is not shown, because "
        "it may hold values of rows."
    )


def is_gone(error: BaseException) -> bool:
    """Return whether a driver says that nobody answers at the other end."""
    return isinstance(error, ConnectionError | EOFError) or (
        type(error).__name__ == "Py4JNetworkError"
    )


def _target(text: str) -> str:
    # the last type named is the target; it comes from a fixed list, never from the row
    types = _TYPE.findall(text.split("\n", 1)[0])
    return f" ({types[-1]})" if types else ""


def _label(error: BaseException) -> str:
    condition = getattr(error, "getCondition", lambda: None)()
    parts = [type(error).__name__, *([condition] if isinstance(condition, str) else [])]
    cause = getattr(error, "java_exception", None)
    # names of classes only: messages may hold values; the machine may be gone, and then says none
    with contextlib.suppress(Exception):
        while cause is not None and len(parts) < _CAUSES:
            parts.append(str(cause.getClass().getSimpleName()))
            cause = cause.getCause()
    return " ".join(parts)
