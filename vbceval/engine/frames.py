"""Tables in memory, brought to Arrow types that both engines hold alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


def is_frame(source: object) -> bool:
    """Return whether a source is a pandas or Arrow table."""
    import pyarrow as pa

    return isinstance(source, pd.DataFrame | pa.Table)


def to_arrow(source: Any) -> pa.Table:
    """
    Return a table as Arrow, with categories as text and unsigned integers as signed.

    NaN of pandas, which stands for a missing value there, becomes NULL; NaN in an Arrow table stays.

    Raises
    ------
    DataError
        If a name is not text, a column mixes types, or a decimal has more than 38 digits.
    """
    import pyarrow as pa

    if isinstance(source, pd.DataFrame):
        odd = [name for name in source.columns if not isinstance(name, str)]
        if odd:
            raise DataError(
                f"{len(odd)} column name(s) of the frame are not text: {listed(odd)}. Rename them."
            )
        source = _from_pandas(source)
    wide = [f.name for f in source.schema if pa.types.is_decimal256(f.type)]
    if wide:
        raise DataError(
            f"{listed(wide)} holds decimals of more than 38 digits, which no engine adds up exactly. "
            "Convert it to fewer digits, or to doubles."
        )
    fields = [field.with_type(_plain(field.type)).remove_metadata() for field in source.schema]
    return source.cast(pa.schema(fields))


def _from_pandas(frame: pd.DataFrame) -> pa.Table:
    import pyarrow as pa

    mixed: list[str] = []
    arrays = []
    for position, name in enumerate(frame.columns):
        try:
            arrays.append(pa.array(frame.iloc[:, position], from_pandas=True))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            mixed.append(str(name))
    if mixed:
        raise DataError(
            f"columns {listed(mixed)} mix values of different types, such as text among numbers. "
            "Convert each to one type."
        )
    return pa.Table.from_arrays(
        [a if isinstance(a, pa.ChunkedArray) else pa.chunked_array([a]) for a in arrays],
        names=list(frame.columns),
    )


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
    }  # fmt: skip
    return known.get(kind, pa.decimal128(20, 0) if kind == pa.uint64() else kind)
