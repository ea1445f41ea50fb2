"""Columns of numbers in Arrow: whole ones in 64 bits where these hold them, keys that compare as equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vbceval.core.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_LARGEST = 2**63


def narrow(table: pa.Table) -> pa.Table:
    """
    Return a table whose decimals are 64-bit integers in columns that these hold.

    What a column holds decides its type, not how it came about, so equal sums are equal tables.
    """
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if not pa.types.is_decimal(field.type):
            continue
        try:
            column = table.column(place).cast(pa.int64())
        except pa.ArrowInvalid:
            continue
        table = table.set_column(place, field.name, column)
    return table


def one_zero(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a key whose -0.0 is 0.0: engines take them for one value, and Arrow for two."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_floating(column.type):
        return column
    return pc.add(column, pa.scalar(0.0, column.type))


def as_periods(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """
    Return periods as doubles.

    Raises
    ------
    DataError
        If some are whole numbers that doubles do not hold.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_decimal(column.type):
        # Arrow multiplies by a power of ten, which gives other doubles than reading the digits
        values = pc.unique(column)
        doubles = pa.array([float(x) for x in values.to_pylist()], type=pa.float64())
        return doubles.take(pc.index_in(column, value_set=values))
    try:
        return one_zero(column.cast(pa.float64()))
    except pa.ArrowInvalid:
        raise DataError(
            f"`{name}` has whole numbers beyond 2^53, as time in nanoseconds has, and two periods "
            "would become one. Number the periods, or give their year, when the table is made."
        ) from None


def stacked(tables: Sequence[pa.Table]) -> pa.Table:
    """Return tables of the same columns below each other, whole numbers in the wider type."""
    import pyarrow as pa

    wide = {
        field.name for table in tables for field in table.schema if pa.types.is_decimal(field.type)
    }
    return pa.concat_tables([_widened(table, wide) for table in tables])


def to_be_added(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Return a table in which the sum over any rows of these columns is held by their type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wide = set()
    for name in names:
        column = table.column(name)
        if pa.types.is_integer(column.type) and len(column):
            ends = pc.min_max(column).as_py()
            if max(abs(ends["min"]), abs(ends["max"])) * len(column) >= _LARGEST:
                wide.add(name)
    return _widened(table, wide)


def _widened(table: pa.Table, names: set[str]) -> pa.Table:
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if field.name in names and not pa.types.is_decimal(field.type):
            column = table.column(place).cast(pa.decimal128(38, 0))
            table = table.set_column(place, field.name, column)
    return table
