"""Exact integers of up to 38 digits in arrays: pairs of doubles, and sums of squares without loss."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from vbceval.core.typing import FloatArray, IntArray

_SPLIT = 134217729.0  # 2**27 + 1: halves the 53 digits of a double (Dekker 1971)


class Wide(NamedTuple):
    """
    Numbers as unevaluated sums of two doubles, about 106 binary digits.

    Parameters
    ----------
    high, low : array
        ``high`` is the nearest double, ``low`` what is left.
    """

    high: FloatArray
    low: FloatArray


def from_decimal(column: Any) -> Wide:
    """
    Return the integers of an Arrow decimal128 column of scale 0.

    Parameters
    ----------
    column : pyarrow Array or ChunkedArray
        Without missing values.
    """
    import pyarrow as pa

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    raw = np.frombuffer(array.buffers()[1], dtype="<u8")
    limbs = raw[2 * array.offset : 2 * (array.offset + len(array))].reshape(-1, 2)
    upper, lower = limbs[:, 1].view("<i8"), limbs[:, 0].view("<i8")
    if np.array_equal(upper, lower >> 63):
        return from_integer(lower)
    parts = [
        (upper >> 32).astype(float) * 2.0**96,
        (upper & 0xFFFFFFFF).astype(float) * 2.0**64,
        (limbs[:, 0] >> np.uint64(32)).astype(float) * 2.0**32,
        (limbs[:, 0] & np.uint64(0xFFFFFFFF)).astype(float),
    ]
    # each part is exact; adding them from the largest keeps 106 digits, enough for 2**126 / 2**20
    total = Wide(parts[0], np.zeros(len(array)))
    for part in parts[1:]:
        total = add(total, Wide(part, np.zeros_like(part)))
    return total


def from_integer(values: IntArray) -> Wide:
    """Return integers of 64 bits: the nearest double, and what it leaves."""
    high = values.astype(float)
    if np.abs(high).max(initial=0.0) < 2.0**53:
        return from_double(high)
    top = values >> 32
    return add(
        from_double(top.astype(float) * 2.0**32), from_double((values & 0xFFFFFFFF).astype(float))
    )


def from_column(column: Any) -> Wide:
    """Return the numbers of an Arrow column, whole or doubles, without missing values."""
    import pyarrow as pa

    if pa.types.is_decimal(column.type):
        return from_decimal(column)
    if pa.types.is_integer(column.type):
        return from_integer(column.to_numpy().astype(np.int64, copy=False))
    return from_double(column.to_numpy(zero_copy_only=False).astype(float))


def from_double(values: FloatArray) -> Wide:
    """Return doubles as they are."""
    return Wide(np.asarray(values, dtype=float), np.zeros(np.shape(values)))


def from_number(value: float, size: int) -> Wide:
    """Return one number `size` times; a Python integer of up to 106 binary digits as it is."""
    high = float(value)
    low = float(value - int(high)) if isinstance(value, int) else 0.0
    return Wide(np.full(size, high), np.full(size, low))


def add(a: Wide, b: Wide) -> Wide:
    """Return a + b."""
    total, error = _two_sum(a.high, b.high)
    low, rest = _two_sum(a.low, b.low)
    high, error = _fast_two_sum(total, error + low)
    return Wide(*_fast_two_sum(high, error + rest))


def subtract(a: Wide, b: Wide) -> Wide:
    """Return a - b."""
    return add(a, Wide(-b.high, -b.low))


def multiply(a: Wide, b: Wide) -> Wide:
    """Return a b."""
    product, error = _two_product(a.high, b.high)
    return Wide(*_fast_two_sum(product, error + (a.high * b.low + a.low * b.high)))


def divide(a: Wide, b: Wide) -> Wide:
    """Return a / b; b is not zero."""
    first = a.high / b.high
    rest = subtract(a, multiply(b, from_double(first)))
    second = rest.high / b.high
    rest = subtract(rest, multiply(b, from_double(second)))
    return add(Wide(*_fast_two_sum(first, second)), from_double(rest.high / b.high))


def _two_sum(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _fast_two_sum(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    total = a + b
    return total, b - (total - a)


def _two_product(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    product = a * b
    a1, b1 = _SPLIT * a, _SPLIT * b
    a1, b1 = a1 - (a1 - a), b1 - (b1 - b)
    a2, b2 = a - a1, b - b1
    return product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2
