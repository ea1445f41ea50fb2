"""
Histograms of cells: the edges of bins, the column of lists that holds them, and adding them up.

A histogram is a list in the row of its cell: bins with at least one row, each with its number, rows,
weight and weighted sum. A file of moments stays one table that any reader of Parquet can unnest, and
whatever selects, joins or stores cells takes their histograms along.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import numpy as np

from vbceval.core.checks import listed
from vbceval.core.errors import DataError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.moments.schema import histogram_column

if TYPE_CHECKING:
    import pyarrow as pa

FIELDS = ("bin", "n", "w", "wy")
"""What is held of a bin: its number, rows, sum of weights, sum of weighted values."""

RESULTS = ("bin", "low", "high", "n", "w", "mean", "q", "value")
"""Columns of the frames made of histograms, beside the keys."""

_PER_OCTAVE = 16
_TOP = 10**7
_SINGLE = 256
# whole numbers of a column have at most 18 digits
_LARGEST = 10**18


def histograms_wanted(
    histograms: Sequence[str] | Mapping[str, Sequence[float] | None],
    *,
    outcomes: Sequence[str],
    keys: Sequence[str],
) -> dict[str, Sequence[float] | None]:
    """
    Return for each outcome with a histogram its edges, or None for the usual ones.

    Raises
    ------
    DataError
        If one is no outcome, or a key is named as a column of the result.
    """
    if isinstance(histograms, str):
        raise DataError(f"`histograms` is the text '{histograms}'; give a list, ['{histograms}'].")
    wanted = dict(histograms) if isinstance(histograms, Mapping) else dict.fromkeys(histograms)
    strange = [y for y in wanted if y not in outcomes]
    if strange:
        raise DataError(f"`histograms` name {listed(strange)}, which is not among `outcomes`.")
    taken = [k for k in keys if k in RESULTS] if wanted else []
    if taken:
        raise DataError(
            f"{listed(taken)} is a key, and what a column of a histogram is called. Rename it in "
            "the source."
        )
    return wanted


def edges_of(
    name: str, given: Sequence[float] | None, digits: int | None
) -> tuple[int, ...] | tuple[float, ...]:
    """
    Return the edges of an outcome in the numbers that are compared.

    Usual edges depend on nothing but the digits, so that drops of data have the same: 0 and the next
    value that the column can have (a bin for zeros, one for negative values), then from 1 to 10^7
    sixteen to a doubling, in cents (methods, section 1.2). Whole numbers have a bin each up to 256.

    Parameters
    ----------
    name : str
        The outcome, for messages.
    given : sequence of float, optional
        Edges in the unit of the column, increasing. One between two values that the column can have
        is moved up to the second, which changes no bin.
    digits : int or None
        Decimal digits of the column; None for doubles.

    Raises
    ------
    DataError
        If edges are not increasing numbers, or too close or too large for the digits.

    Examples
    --------
    >>> edges_of("spend", [0, 0.01, 99.995], 2)
    (0, 1, 10000)
    >>> len(edges_of("spend", None, 2)), len(edges_of("visits", None, 0))
    (376, 502)
    """
    values = _usual(digits) if given is None else list(given)
    try:
        exact = [Decimal(str(x)) for x in values]
    except InvalidOperation:
        exact = []
    if not exact or not all(x.is_finite() for x in exact):
        raise DataError(f"`histograms` of `{name}`: edges are finite numbers, at least one.")
    found = [float(x) if digits is None else math.ceil(x.scaleb(digits)) for x in exact]
    if any(b <= a for a, b in itertools.pairwise(found)):
        raise DataError(
            f"`histograms` of `{name}`: edges must increase, with a value between any two that the "
            f"column can have ({'doubles' if digits is None else f'{digits} digits'})."
        )
    if digits is not None and max(map(abs, found)) >= _LARGEST:
        raise DataError(
            f"`histograms` of `{name}`: an edge has more than 18 digits, which no value has."
        )
    return tuple(found)


def _usual(digits: int | None) -> list[Decimal]:
    next_to_zero = Decimal(str(math.ulp(0.0))) if digits is None else Decimal(1).scaleb(-digits)
    count = math.floor(_PER_OCTAVE * math.log2(_TOP))
    cents = 2 if digits is None else min(digits, 2)
    steps = [2.0 ** (k / _PER_OCTAVE) for k in range(count + 1)]
    found = {Decimal(0), next_to_zero, Decimal(_TOP), *(Decimal(f"{x:.{cents}f}") for x in steps)}
    if digits == 0:
        found |= {Decimal(x) for x in range(_SINGLE + 1)}
    return sorted(found)


def limits(edges: Sequence[float], digits: int | None) -> tuple[FloatArray, FloatArray]:
    """
    Return the first and the last value that each bin can hold, in the unit of the column.

    Parameters
    ----------
    edges : sequence of numbers, length b
        From `edges_of`.
    digits : int or None
        As there.

    Returns
    -------
    tuple of array, each shape (b + 1,)
        Infinite where a bin is open.
    """
    if digits is None:
        first = np.asarray(edges, dtype=float)
        last = np.nextafter(first, -np.inf)
    else:
        # whole numbers, divided once: the double next to the decimal number, as in the source
        first = np.array([x / 10**digits for x in edges])
        last = np.array([(x - 1) / 10**digits for x in edges])
    return np.r_[-np.inf, first], np.r_[last, np.inf]


def is_histogram(name: str) -> bool:
    """Return whether a column of a table of sums holds histograms."""
    return name.startswith(histogram_column("")[:-1])


def positions(table: pa.Table, among: pa.Table, keys: Sequence[str]) -> IntArray:
    """Return for each row of a table the row of another that has its keys."""
    import pyarrow as pa

    plain = [f"k{i}" for i in range(len(keys))]

    def numbered(of: pa.Table, name: str) -> pa.Table:
        renamed = of.select(list(keys)).rename_columns(plain)
        return renamed.append_column(name, pa.array(np.arange(len(of))))

    pairs = numbered(table, "row").join(numbered(among, "place"), keys=plain).sort_by("row")
    return np.asarray(pairs.column("place").to_numpy(), dtype=np.int64)


def nested(bins: pa.Table, place: IntArray, size: int) -> pa.Array:
    """
    Return histograms as lists.

    Parameters
    ----------
    bins : Table
        A row a bin and cell, with columns named by `histogram_column` of `FIELDS`.
    place : int array
        Position of the cell of each row.
    size : int
        Number of cells.
    """
    import pyarrow as pa

    columns = [bins.column(histogram_column(name)).combine_chunks() for name in FIELDS]
    columns[0] = columns[0].cast(pa.int32())
    for i in range(2, len(FIELDS)):
        if not pa.types.is_floating(columns[i].type):
            # one type whatever their size, so that histograms of other rows can be added
            columns[i] = columns[i].cast(pa.decimal128(38, 0))
    order = np.lexsort((columns[0].to_numpy(), place))
    offsets = np.searchsorted(place[order], np.arange(size + 1)).astype(np.int32)
    taken = [column.take(pa.array(order)) for column in columns]
    fields = [pa.field(name, x.type) for name, x in zip(FIELDS, taken, strict=True)]
    values = pa.StructArray.from_arrays(taken, fields=fields)
    # the name that Parquet gives to what is in a list, so that a file comes back as it was
    of = pa.list_(pa.field("element", values.type))
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=of)


def flat(column: Any) -> tuple[pa.Table, IntArray]:
    """Return the bins of a column of histograms as `nested` takes them, and the cell of each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
    parts = array.flatten().flatten()
    return pa.table(parts, names=[histogram_column(x) for x in FIELDS]), np.repeat(
        np.arange(len(array)), lengths
    )


def added(column: Any, place: IntArray, size: int) -> pa.Array:
    """
    Return histograms of merged cells.

    Parameters
    ----------
    column : Array or ChunkedArray
        Histograms of the cells that are merged.
    place : int array
        Position of the merged cell of each.
    size : int
        Number of merged cells.
    """
    import pyarrow as pa

    bins, parent = flat(column)
    number, *sums = bins.column_names
    out = bins.append_column("cell", pa.array(place[parent]))
    out = out.group_by(["cell", number], use_threads=False).aggregate([(x, "sum") for x in sums])
    out = out.rename_columns({f"{x}_sum": x for x in sums})
    return nested(out.select(bins.column_names).cast(bins.schema), out["cell"].to_numpy(), size)
