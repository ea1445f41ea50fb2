"""Tables in memory, brought to Arrow types that both engines hold alike."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DataError
from vbceval.engine.relation import choose

if TYPE_CHECKING:
    import pyarrow as pa

_LABEL = "the table in memory"


def is_frame(source: object) -> bool:
    """Return whether a source is a table in memory: of pandas, of Arrow, or one that becomes Arrow."""
    # Spark's become Arrow as well, by computing all of their rows here
    return hasattr(source, "__arrow_c_stream__") and not hasattr(source, "sparkSession")


def to_arrow(source: Any, columns: Sequence[str] | None = None) -> pa.Table:
    """
    Return a table as Arrow, with categories as text and unsigned integers as signed.

    NaN of pandas, which stands for a missing value there, becomes NULL; NaN in an Arrow table stays.

    Parameters
    ----------
    source : DataFrame or Arrow table
        Of pandas, or of a library that gives Arrow tables.
    columns : sequence of str, optional
        Columns to keep; others may be of any kind. Default keeps all.

    Raises
    ------
    DataError
        If a name is not text or is missing, a column mixes types or is of a type that engines do not
        read, or a decimal has more than 38 digits.
    """
    import pyarrow as pa

    if isinstance(source, pd.DataFrame):
        odd = [name for name in source.columns if not isinstance(name, str)]
        if odd:
            raise DataError(
                f"{len(odd)} column name(s) of the frame are not text: {listed(odd)}. Rename them."
            )
        inside = [x for x in columns or () if x in source.index.names and x not in source]
        if inside:
            raise DataError(
                f"{listed(inside)} is in the index of the frame, which is not read. Make it a column with "
                "`reset_index()`."
            )
        table = _from_pandas(source, choose(source.columns, columns, _LABEL))
    else:
        table = source if isinstance(source, pa.Table) else _from_stream(source)
        table = table.select(choose(table.column_names, columns, _LABEL))
    wide = [f.name for f in table.schema if pa.types.is_decimal256(f.type)]
    if wide:
        raise DataError(
            f"{listed(wide)} holds decimals of more than 38 digits, which no engine adds up exactly. "
            "Convert it to fewer digits, or to doubles."
        )
    held, strange = {}, []
    for field in table.schema:
        try:
            held[field.name] = _signed(_decoded(table.column(field.name)))
        except pa.ArrowNotImplementedError:
            strange.append(f"{field.name} ({field.type})")
    if strange:
        raise DataError(
            f"{listed(strange)} is of a type that no engine reads. Cast it to numbers or text, or leave "
            "it out."
        )
    return pa.table(held)


def _from_pandas(frame: pd.DataFrame, names: Sequence[str]) -> pa.Table:
    import pyarrow as pa

    mixed: list[str] = []
    strange: list[str] = []
    held = {}
    for name in names:
        series: Any = frame[name]
        if isinstance(series.dtype, pd.SparseDtype):
            series = series.sparse.to_dense()
        try:
            held[name] = pa.array(series, from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            mixed.append(name)
        except (pa.ArrowException, OverflowError, TypeError):
            strange.append(f"{name} ({series.dtype})")
    problems = Problems(_LABEL)
    if mixed:
        problems.add(
            f"columns {listed(mixed)} mix values of different types, such as text among numbers. "
            "Convert each to one type."
        )
    if strange:
        problems.add(
            f"columns {listed(strange)} hold values that Arrow has no type for, such as complex numbers, "
            "integers beyond 64 bits, or infinite decimals. Convert them, or leave them out."
        )
    problems.raise_if_any()
    return pa.table(held)


def _from_stream(source: Any) -> pa.Table:
    """Read a table of polars, DuckDB or another library through Arrow's interface between libraries."""
    import pyarrow as pa

    try:
        return pa.table(source)
    except (pa.ArrowException, TypeError, ValueError) as error:
        # types are read before rows, so this holds no value
        reason = str(error)
    raise DataError(
        f"the {type(source).__name__} cannot be read as an Arrow table ({reason}). Give a table, with "
        "columns of types that Arrow has: cast 128-bit integers to 64 bits, decimals or text."
    )


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column whose categories, if it has any, are of a text that Arrow can take them from."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type) or column.type.value_type != pa.string_view():
        return column
    chunks = [
        pa.DictionaryArray.from_arrays(chunk.indices, chunk.dictionary.cast(pa.string()))
        for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, type=pa.dictionary(column.type.index_type, pa.string()))


def _signed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column in the type that engines hold; what a 64-bit integer holds is one."""
    import pyarrow as pa

    held = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if held == pa.uint64():
        with contextlib.suppress(pa.ArrowInvalid):
            return column.cast(held).cast(pa.int64())
    return column.cast(_plain(column.type))


def _plain(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if kind in (pa.large_string(), pa.string_view()):
        return pa.string()
    if pa.types.is_decimal(kind) and kind.scale < 0:
        # at most 38 digits, which the cast checks: engines have no negative scale
        return pa.decimal128(min(kind.precision - kind.scale, 38), 0)
    known = {
        pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(),
        # DuckDB does not read it, and 32 bits hold each of its values
        pa.float16(): pa.float32(),
        # a column without a value, of which nobody knows the type: a cohort, where nobody enters
        pa.null(): pa.float64(),
    }  # fmt: skip
    return known.get(kind, pa.decimal128(20, 0) if kind == pa.uint64() else kind)
