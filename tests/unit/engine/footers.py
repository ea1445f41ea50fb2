"""Parquet as writers of before 2.4 of the format left it: bounds in fields that are deprecated."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

Signed = Callable[[int, str], tuple[bytes, bytes] | None]


def deprecate_bounds(path: Path, bounds: Signed) -> None:
    """
    Move the bounds of every block to the fields ``min`` and ``max``, without a column order.

    `bounds` gives (min, max) of a block and a column; None keeps those that are there.
    """
    raw = path.read_bytes()
    size = struct.unpack("<I", raw[-8:-4])[0]
    footer, _ = _read(raw[-8 - size : -8], 0, 12)
    footer.pop(7, None)
    for block, group in enumerate(footer[4][1][1]):
        for chunk in group[1][1][1]:
            meta = chunk[3][1]
            found = meta[12][1]
            new = bounds(block, meta[3][1][1][0].decode())
            low, high = (found.pop(k, None) for k in (6, 5))
            found |= {2: low, 1: high} if new is None else {2: [8, new[0]], 1: [8, new[1]]}
            meta[12][1] = {k: v for k, v in found.items() if v is not None and k < 5}
    new_footer = _write(12, footer)
    end = new_footer + struct.pack("<I", len(new_footer)) + b"PAR1"
    path.write_bytes(raw[: -8 - size] + end)


# Thrift's compact protocol: a structure is {field: [type, value]}, a list (type, values)


def _read(b: bytes, i: int, kind: int) -> tuple[Any, int]:
    if kind in (1, 2):
        return kind == 1, i
    if kind in (4, 5, 6):
        n, i = _number(b, i)
        return (n >> 1) ^ -(n & 1), i
    if kind == 8:
        n, i = _number(b, i)
        return b[i : i + n], i + n
    if kind == 9:
        n, of, i = b[i] >> 4, b[i] & 15, i + 1
        if n == 15:
            n, i = _number(b, i)
        values = []
        for _ in range(n):
            value, i = _read(b, i, of)
            values.append(value)
        return (of, values), i
    assert kind in (3, 12)
    if kind == 3:
        return b[i], i + 1
    fields: dict[int, list[Any]] = {}
    last = 0
    while b[i]:
        step, of, i = b[i] >> 4, b[i] & 15, i + 1
        assert step, "fields far apart do not occur"
        last += step
        value, i = _read(b, i, of)
        fields[last] = [of, value]
    return fields, i + 1


def _write(kind: int, value: Any) -> bytes:
    if kind in (1, 2):
        return b""
    if kind == 3:
        return bytes([value])
    if kind in (4, 5, 6):
        return _varint(value * 2 if value >= 0 else -value * 2 - 1)
    if kind == 8:
        return _varint(len(value)) + value
    if kind == 9:
        of, values = value
        n = len(values)
        head = bytes([n << 4 | of]) if n < 15 else bytes([0xF0 | of]) + _varint(n)
        return head + b"".join(_write(of, x) for x in values)
    out, last = b"", 0
    for field in sorted(value):
        of, x = value[field]
        of = (1 if x else 2) if of in (1, 2) else of
        out += bytes([field - last << 4 | of]) + _write(of, x)
        last = field
    return out + b"\0"


def _number(b: bytes, i: int) -> tuple[int, int]:
    n = shift = 0
    while True:
        n, shift, i = n | (b[i] & 127) << shift, shift + 7, i + 1
        if b[i - 1] < 128:
            return n, i


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])
