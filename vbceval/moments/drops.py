"""Drops of data that come one after another: made to fit exactly, and found where one comes twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.typing import BoolArray
from vbceval.moments.schema import Schema, Term, histogram_column
from vbceval.moments.sums import Sums, people_column
from vbceval.moments.whole import narrow

if TYPE_CHECKING:
    import pyarrow as pa

# fewer cells of rare events may have equal sums by chance
_FEWEST = 3
_LARGEST = 2**63
_ROUNDING = 1e-9


def fitted(one: Sums, two: Sums) -> tuple[Sums, Sums]:
    """
    Return two drops with the same columns where what they hold decides that they are the same.

    A month in which nobody lacks an outcome has sums of all its rows, and these are the sums over the
    rows that have it; whole dollars are cents that end in 00. So what a scan found of one drop alone
    is no reason to refuse it. Everything else that differs is left as it is.

    Parameters
    ----------
    one, two : Sums
        Drops of one table.

    Returns
    -------
    tuple of Sums
        Each the same numbers, to the last digit.
    """
    schemas = (one.schema, two.schema)
    if any(s.without_squares for s in schemas) or one.schema.outcomes != two.schema.outcomes:
        return one, two
    separate = tuple(y for y in one.schema.outcomes if any(y in s.separate for s in schemas))
    return _fit(one, two.schema, separate), _fit(two, one.schema, separate)


def _fit(sums: Sums, other: Schema, separate: tuple[str, ...]) -> Sums:
    """Return sums with the outcomes of either drop apart, and the digits of the finer one."""
    old = sums.schema
    new = replace(old, separate=separate, digits=_finer(old, other))
    if new == old or _has_clash(new):
        return sums
    import pyarrow as pa

    columns = {key: sums.table.column(key) for key in new.keys}
    for block in new.blocks:
        # an outcome that nobody lacks is among those that share sums
        held = block if old.alone(block) else old.blocks[0]
        for term in new.terms(block):
            column = sums.table.column(old.name(held, *term.factors, kind=term.kind))
            columns[term.name] = _scaled(column, _steps(term, old, new))
    if new.separate == new.outcomes:
        columns[new.rows] = sums.table.column(new.rows)
    for block in new.blocks if new.unit is not None else ():
        held = block if old.alone(block) else old.blocks[0]
        columns[people_column(new.alone(block))] = sums.table.column(people_column(old.alone(held)))
    for y in new.histograms:
        columns[histogram_column(y)] = sums.table.column(histogram_column(y))
    return replace(sums, table=narrow(pa.table(columns)), schema=new)


def _has_clash(schema: Schema) -> bool:
    """Whether two columns would have one name; such a schema is not made."""
    names = [*schema.keys, *schema.sum_columns]
    return len(set(names)) < len(names)


def _finer(schema: Schema, other: Schema) -> dict[str, int | None]:
    """Return digits of every column, those of the finer drop where that changes no histogram."""
    fixed = {*schema.histograms, *([schema.weight] if schema.histograms else [])}
    out = dict(schema.digits)
    for name, digits in schema.digits.items():
        theirs = other.digits.get(name)
        if digits is not None and theirs is not None and name not in fixed:
            out[name] = max(digits, theirs)
    return out


def _steps(term: Term, old: Schema, new: Schema) -> int:
    """Return by how many digits the numbers of a term grow."""
    return sum((new.digits[f] or 0) - (old.digits[f] or 0) for f in term.factors)


def _scaled(column: pa.ChunkedArray, digits: int) -> pa.ChunkedArray:
    """Return whole numbers times a power of ten, exactly; doubles are of no digits."""
    import pyarrow as pa

    if digits == 0:
        return column
    factor = 10**digits
    if pa.types.is_floating(column.type):
        # a product with a column of doubles: what it is divided by grows with it
        return pa.chunked_array([pa.array(column.to_numpy() * float(factor))])
    if pa.types.is_integer(column.type):
        values = column.to_numpy()
        if np.abs(values.astype(float)).max(initial=0.0) * factor < _LARGEST / 2:
            return pa.chunked_array([pa.array(values.astype(np.int64) * factor)])
    whole = [int(x) * factor for x in column.to_pylist()]
    return pa.chunked_array([pa.array(whole, type=pa.decimal128(38, 0))])


def in_both(
    one: tuple[Sums, Mapping[str, Any]], two: tuple[Sums, Mapping[str, Any]], parts: Sequence[Any]
) -> list[str]:
    """
    Say where one drop seems to hold rows of the other, as far as files and sums show it.

    Parameters
    ----------
    one, two : tuple of Sums and mapping
        The drops, of one schema, and where they come from.
    parts : pair of sequence of mapping
        What each was added up from: ``source`` with ``files``.

    Returns
    -------
    list of str
        Sentences: of files that are in both, and of cells with equal sums that hold most rows of the
        cells that both have.
    """
    said = []
    files = [{key: None for part in side for key in _files(part)} for side in parts]
    again = [key[0] for key in files[0] if key in files[1]]
    if again:
        said.append(
            f"{len(again):,} file(s) are in both of the moments that were added "
            f"({listed(again, most=3)}), so their rows count twice. Add each file once."
        )
    shared, equal, most = _equal_cells(one[0], two[0])
    if equal >= _FEWEST and most and not again:
        said.append(
            f"{equal:,} of the {shared:,} cells that both of the moments that were added have hold the "
            "same sums, so the same rows seem to be in both and count twice. Add each drop once; a "
            "month that is delivered again takes the place of its first delivery."
        )
    return said


def _files(part: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    files = part.get("source", {}).get("files", [])
    return [
        (Path(f["path"]).name, f["size"], f["footer_sha256"])
        for f in files if f.get("footer_sha256") is not None
    ]  # fmt: skip


def _equal_cells(one: Sums, two: Sums) -> tuple[int, int, bool]:
    """Return cells in both, how many have equal sums that vary, and whether most rows are in them."""
    keys = list(one.schema.keys)
    index = [pd.MultiIndex.from_frame(s.table.select(keys).to_pandas()) for s in (one, two)]
    place = index[1].get_indexer(index[0])
    mine = np.flatnonzero(place >= 0)
    theirs = place[mine]
    if len(mine) < _FEWEST:
        return len(mine), 0, False
    schema = one.schema
    w = () if schema.weight is None else (schema.weight,)
    same: BoolArray = np.ones(len(mine), dtype=bool)
    varies: BoolArray = np.zeros(len(mine), dtype=bool)
    for block in schema.blocks:
        held = {t.name: one._number(t.name).high[mine] for t in schema.terms(block)}
        for name, values in held.items():
            same &= values == two._number(name).high[theirs]
        for y in block:
            # cells of one amount, or of none, may be alike and of other rows
            if y not in schema.without_squares:
                factors = (w, (*w, y), (*w, y, y))
                size, first, second = (held[schema.name(block, *f)] for f in factors)
                varies |= np.abs(size * second - first**2) > _ROUNDING * np.abs(size * second)
    rows = one._number(schema.rows).high[mine]
    alike = same & varies
    return len(mine), int(alike.sum()), bool(2 * rows[alike].sum() > rows.sum())
