"""A table of people by period, checked once, read bucket by bucket as arrays in order of the unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.disclosure import say_people
from vbceval.core.errors import DataError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.engine import Engine, Relation, sql
from vbceval.moments import expressions as ex
from vbceval.moments.inspection import Facts, inspect
from vbceval.moments.queries import OWN, refuse_nested, refuse_own_names
from vbceval.moments.whole import one_zero
from vbceval.passes.conditions import all_of, is_value

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlglot import exp


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """
    A checked table inside an engine.

    Parameters
    ----------
    engine : Engine
        Where it is.
    relation : Relation
        What is known of it.
    unit : str or None
        Column that names people.
    keys : tuple of str
        Cluster, period, and strata.
    weight : str or None
        Analysis weight; rows of weight zero are not read.
    numbers : tuple of str
        Columns read as numbers; rows that miss one of them are not read.
    rows : int
        Rows of the source.
    facts : mapping of str to Facts
        What the scan found of every number and weight.
    cells : DataFrame
        Keys that occur among the rows read, sorted; the period as a number.
    """

    engine: Engine
    relation: Relation
    unit: str | None
    keys: tuple[str, ...]
    weight: str | None
    numbers: tuple[str, ...]
    rows: int
    facts: Mapping[str, Facts]
    cells: pd.DataFrame

    @property
    def pivots(self) -> dict[str, float]:
        """A value near the mean of every number."""
        return {name: self.facts[name].pivot for name in self.numbers}

    def where(self, condition: exp.Expression | None = None) -> exp.Expression:
        """Return the condition under which a row is read."""
        found = [is_value(name, self.relation) for name in self.numbers]
        if self.weight is not None:
            found.append(ex.is_positive(self.weight))
        return all_of(*found, *([] if condition is None else [condition]))


def open_table(
    source: Any, engine: Engine, *, unit: str | None, keys: Sequence[str], numbers: Sequence[str],
    weights: Sequence[str] = (), others: Sequence[str] = (),
) -> Table:  # fmt: skip
    """
    Register a table, check it, and find its cells.

    Parameters
    ----------
    source, engine
        As for `Engine.register`.
    unit : str or None
        Column that names people.
    keys : sequence of str
        Cluster, period, then strata.
    numbers : sequence of str
        Outcomes and covariates.
    weights : sequence of str
        Weight, then exposure; the first is the weight.
    others : sequence of str
        Further columns to keep.

    Raises
    ------
    DataError
        With everything that is wrong with the table.
    """
    named = (*keys, *([] if unit is None else [unit]), *numbers, *weights)
    twice = [n for n in dict.fromkeys(named) if named.count(n) > 1]
    if twice:
        raise DataError(f"{listed(twice)} has two roles in this pass. Name a column once.")
    relation = engine.register(source, columns=list(dict.fromkeys((*named, *others))))
    refuse_own_names(relation.columns)
    refuse_nested(relation, keys)
    present = tuple(dict.fromkeys((*keys, *([] if unit is None else [unit]))))
    summed = tuple(dict.fromkeys((*weights, *numbers)))
    # doubles about a pivot near the mean: these passes do not promise bits
    found = inspect(
        engine, relation, keys=present, within=(), period=keys[1], numbers=summed,
        weights=tuple(weights), digits=dict.fromkeys(summed), pivots={},
    )  # fmt: skip
    table = Table(
        engine=engine, relation=relation, unit=unit, keys=tuple(keys), numbers=tuple(numbers),
        weight=weights[0] if weights else None, rows=found.rows, facts=found.columns, cells=pd.DataFrame(),
    )  # fmt: skip
    query = sql.select(*map(sql.column, keys), of=relation.name).where(table.where())
    cells = engine.run(query.group_by(*map(sql.column, keys))).to_pandas()
    if not len(cells):
        raise DataError("no row has a positive weight and all columns of this pass.")
    cells[keys[1]] = cells[keys[1]].astype(float)
    return replace(table, cells=cells.sort_values(list(keys)).reset_index(drop=True))


def attributes_of(table: Table, names: Sequence[str]) -> pd.DataFrame:
    """
    Return columns that are the same in all rows of a cluster, one row a cluster, sorted.

    A key of the cells, such as the cluster itself or a stratum, is checked and left out.

    Raises
    ------
    DataError
        If one changes within a cluster.
    """
    cluster = table.keys[0]
    parts: list[exp.Expression] = [sql.column(cluster), sql.named(ex.count_rows(), f"{OWN}rows")]
    for j, name in enumerate(names):
        value = (
            ex.value(name, table.relation.column(name))
            if table.relation.column(name).kind in ("float", "decimal", "integer")
            else sql.column(name)
        )
        parts += [
            sql.named(ex.smallest(value), f"{OWN}low{j}"),
            sql.named(ex.largest(value.copy()), f"{OWN}high{j}"),
            sql.named(ex.count(value.copy()), f"{OWN}some{j}"),
        ]
    query = sql.select(*parts, of=table.relation.name).where(table.where())
    found = table.engine.run(query.group_by(sql.column(cluster))).to_pandas()
    found = found.set_index(cluster).sort_index()
    problems = Problems("the attributes of clusters")
    out = pd.DataFrame(index=found.index)
    for j, name in enumerate(names):
        low, high, some = (found[f"{OWN}{side}{j}"] for side in ("low", "high", "some"))
        mixed = ((some > 0) & (low != high)) | ((some > 0) & (some < found[f"{OWN}rows"]))
        if mixed.any():
            problems.add(
                f"`{name}` changes within {int(mixed.sum()):,} of {len(found):,} clusters of "
                f"`{cluster}`, and an attribute belongs to the whole cluster. Correct the source, "
                "or name it among the strata or covariates."
            )
        # cells have their keys already
        if name not in table.keys:
            out[name] = low
    problems.raise_if_any()
    return out


@dataclass(frozen=True, eq=False, kw_only=True)
class Rows:
    """
    Rows of a bucket, those of a unit together, in order of period.

    Parameters
    ----------
    unit : int array, shape (n,)
        0, 1, ... in order of appearance.
    cell : int array, shape (n,)
        Row of `Table.cells`; -1 for a cell that is not among those given.
    weight : array, shape (n,)
    numbers : array, shape (n, k)
        Columns, less their pivots.
    """

    unit: IntArray
    cell: IntArray
    weight: FloatArray
    numbers: FloatArray

    @property
    def starts(self) -> IntArray:
        """First row of every unit, shape (units,)."""
        return np.flatnonzero(np.r_[True, self.unit[1:] != self.unit[:-1]])


def read_rows(
    table: Table, condition: exp.Expression, cells: pd.DataFrame | None = None
) -> Rows | None:
    """
    Read the rows of a bucket; None when it has none.

    Parameters
    ----------
    table : Table
        What is read.
    condition : Expression
        Which rows.
    cells : DataFrame, optional
        Cells to look rows up in, columns as `Table.keys`. Default: those of the table.
    """
    if table.unit is None:
        raise DataError("this pass needs `unit`.")
    columns = [sql.named(sql.column(table.unit), "unit"), *key_columns(table)]
    if table.weight is not None:
        columns.append(sql.named(ex.value(table.weight, table.relation.column(table.weight)), "w"))
    for j, name in enumerate(table.numbers):
        column = table.relation.column(name)
        columns.append(sql.named(ex.shifted(name, column, table.facts[name].pivot), f"v{j}"))
    query = sql.select(*columns, of=table.relation.name).where(table.where(condition))
    # the engine sorts: it spills, and the order of rows is then the same on every run
    order = [sql.column("unit"), *(sql.column(f"k{j}") for j in (1, 0))]
    found = table.engine.run(query.order_by(*order))
    if found.num_rows == 0:
        return None
    n = found.num_rows
    numbers = [_doubles(found, f"v{j}") for j in range(len(table.numbers))]
    return Rows(
        unit=_runs(found.column("unit")),
        cell=_places(found, table.cells if cells is None else cells, table.keys),
        weight=np.ones(n) if table.weight is None else _doubles(found, "w"),
        numbers=np.column_stack(numbers) if numbers else np.empty((n, 0)),
    )


def key_columns(table: Table) -> list[exp.Expression]:
    """Return the keys of a row as ``k0``, ``k1`` (the period, a double), and so on."""
    period = table.keys[1]
    time = ex.value(period, table.relation.column(period))
    return [
        sql.named(time if key == period else sql.column(key), f"k{j}")
        for j, key in enumerate(table.keys)
    ]


def _doubles(found: pa.Table, name: str) -> FloatArray:
    return np.asarray(found.column(name).to_numpy(), dtype=float)


def _runs(column: pa.ChunkedArray) -> IntArray:
    """Number values that stand together."""
    import pyarrow.compute as pc

    whole = column.combine_chunks()
    new: BoolArray = np.asarray(pc.not_equal(whole[1:], whole[:-1]).to_numpy(zero_copy_only=False))
    return np.concatenate([[0], np.cumsum(new)]).astype(np.int64)


def _places(found: pa.Table, cells: pd.DataFrame, keys: Sequence[str]) -> IntArray:
    """Look rows up in a table of cells, through the codes of each key."""
    import pyarrow as pa
    import pyarrow.compute as pc

    code = np.zeros(found.num_rows, dtype=np.int64)
    known: BoolArray = np.ones(found.num_rows, dtype=bool)
    wanted = np.zeros(len(cells), dtype=np.int64)
    for j, key in enumerate(keys):
        column = one_zero(found.column(f"k{j}"))
        levels = pd.Index(cells[key].unique()).sort_values()
        values = one_zero(pa.chunked_array([pa.array(levels, from_pandas=True)])).cast(column.type)
        place = pc.index_in(column, value_set=values).combine_chunks()
        known &= np.asarray(place.is_valid().to_numpy(zero_copy_only=False))
        code = code * len(levels) + np.asarray(place.fill_null(0).to_numpy())
        wanted = wanted * len(levels) + levels.get_indexer(pd.Index(cells[key]))
    order = np.argsort(wanted, kind="stable")
    at = np.minimum(np.searchsorted(wanted[order], code), len(order) - 1)
    hit = known & (wanted[order][at] == code)
    return np.where(hit, order[at], -1)


def check_panel(rows: Rows, table: Table, clusters: pd.Index) -> IntArray:
    """
    Return the place of every unit's cluster among `clusters`, shape (units,).

    Raises
    ------
    DataError
        If a unit has two rows in one period, or is in two clusters.
    """
    cluster, period = table.keys[:2]
    codes = clusters.get_indexer(pd.Index(table.cells[cluster]))[rows.cell]
    times = table.cells[period].to_numpy()[rows.cell]
    same = rows.unit[1:] == rows.unit[:-1]
    problems = Problems(table.relation.source.title)
    if (rows.cell < 0).any():
        raise DataError(
            f"rows of {table.relation.source.label} are in cells that were not there when it was "
            "first read: it changed meanwhile. Run again when it is complete."
        )
    twice = len(np.unique(rows.unit[1:][same & (times[1:] == times[:-1])]))
    if twice:
        problems.add(
            f"{say_people(twice)} of one bucket have two rows of one `{period}`, which would count "
            "twice. Add their rows up in the source."
        )
    moved = len(np.unique(rows.unit[1:][same & (codes[1:] != codes[:-1])]))
    if moved:
        problems.add(
            f"`{cluster}` changes within {say_people(moved)} of one bucket, and clusters must lie "
            f"above units. Name each stay as a unit of its own (`{table.unit}` with `{cluster}`), "
            f"keep the first `{cluster}` of everyone, or cluster on something coarser."
        )
    problems.raise_if_any()
    return np.asarray(codes[rows.starts], dtype=np.int64)
