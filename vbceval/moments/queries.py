"""The queries of a pass: rows to whole numbers, their sums by cell, people, and clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vbceval.core.errors import DataError
from vbceval.engine import Engine, Relation, sql
from vbceval.moments import expressions as ex
from vbceval.moments.inspection import Facts
from vbceval.moments.schema import Schema
from vbceval.moments.sums import people_column

if TYPE_CHECKING:
    from sqlglot import exp

# a product of BIGINT up to here cannot overflow
_LARGEST = 2**62
# a set of periods fits into the bits of a BIGINT
_MOST_PERIODS = 62


def sums_by_cell(
    relation: Relation, schema: Schema, facts: Mapping[str, Facts], *, rows: int
) -> exp.Select:
    """
    Return the query whose result has a row a cell and a column a sum.

    Rows become whole numbers once, in a subquery.

    Parameters
    ----------
    relation, schema, facts
        The table, what is summed, and what the scan found of it.
    rows : int
        Rows that no cell exceeds: how large sums can be decides how they are added up.
    """
    outer: list[exp.Expression] = [sql.column(key) for key in schema.keys]
    for block in schema.blocks:
        present = _present(schema, facts, block)
        for term in schema.terms(block):
            total = _total(term.factors, facts, present, rows)
            outer.append(sql.named(total, term.name))
    if schema.separate == schema.outcomes:
        outer.append(sql.named(ex.count_rows(), schema.rows))
    return _grouped(relation, schema, facts, outer)


def people_by_cell(
    relation: Relation, schema: Schema, facts: Mapping[str, Facts], *, unit: str
) -> exp.Select:
    """Return the query that counts different people in every cell, for each group of outcomes."""
    outer: list[exp.Expression] = [sql.column(key) for key in schema.keys]
    for block in schema.blocks:
        people = ex.count_people(unit, _present(schema, facts, block))
        outer.append(sql.named(people, people_column(schema.alone(block))))
    return _grouped(relation, schema, facts, outer)


def is_once_a_period(
    engine: Engine, relation: Relation, *, unit: str, period: str, span: tuple[float, float]
) -> bool:
    """
    Say whether every person has at most one row in a period; False where it is not known.

    The periods of a person are kept as bits, so one group a person is enough. People of cells of
    one period can then be added, and are counted as rows.

    Parameters
    ----------
    engine, relation
        The table.
    unit, period : str
        Columns.
    span : tuple of float
        First and last period.
    """
    from sqlglot import exp

    low, high = span
    if relation.column(period).kind != "integer" or high - low >= _MOST_PERIODS:
        return False
    bits = sql.named(ex.set_of(period, int(low)), "seen")
    each = sql.select(sql.named(ex.count_rows(), "n"), bits, of=relation.name)
    each = each.group_by(sql.column(unit))
    twice = exp.NEQ(this=ex.size_of_set("seen"), expression=sql.column("n"))
    query = exp.Select(expressions=[sql.named(ex.count_rows(), "people")])
    found = engine.run(query.from_(each.subquery("u")).where(twice))
    return int(found.to_pylist()[0]["people"]) == 0


def cluster_table(
    engine: Engine, relation: Relation, cluster: str, cohort: str, exit: str | None,
    never: float | None,
) -> pd.DataFrame:  # fmt: skip
    """
    Return a row a cluster, in the engine's order: ``cohort``, ``exit``, ``rows``.

    Raises
    ------
    DataError
        If rows of a cluster differ in cohort or exit.
    """
    parts: list[exp.Expression] = [sql.column(cluster), sql.named(ex.count_rows(), "rows")]
    columns = {"cohort": cohort} | ({} if exit is None else {"exit": exit})
    for role, name in columns.items():
        column = relation.column(name)
        if column.kind not in ("integer", "decimal", "float"):
            raise DataError(
                f"`{name}` holds {column.engine_type}; {role} is a number on the scale of the "
                "periods, missing for those never treated. Convert it."
            )
        parts += [
            sql.named(ex.smallest(ex.value(name, column, never=never)), f"{role}_low"),
            sql.named(ex.largest(ex.value(name, column, never=never)), f"{role}_high"),
            sql.named(ex.count(ex.value(name, column, never=never)), f"{role}_rows"),
        ]
    query = sql.select(*parts, of=relation.name).group_by(sql.column(cluster))
    frame = engine.run(query.order_by(sql.column(cluster))).to_pandas().set_index(cluster)
    table = pd.DataFrame(index=frame.index)
    for role, name in columns.items():
        low, high = (frame[f"{role}_{side}"].astype(float) for side in ("low", "high"))
        some = frame[f"{role}_rows"]
        mixed = (low != high) & (some > 0) | (some > 0) & (some < frame["rows"])
        if mixed.any():
            raise DataError(
                f"`{name}` changes within {int(mixed.sum()):,} of {len(frame):,} clusters of "
                f"`{cluster}`, but all rows of a cluster enter together. Cluster on what enters "
                "together, or correct the source."
            )
        zero = int((low == 0).sum())
        if role == "cohort" and zero and never is None:
            raise DataError(
                f"`{name}` is 0 in {zero:,} clusters. Never treated is a missing cohort here, so 0 "
                "would count as a date of entry. Pass never=0."
            )
        table[role] = low
    if exit is None:
        table["exit"] = np.nan
    return table.assign(rows=frame["rows"])


def _present(
    schema: Schema, facts: Mapping[str, Facts], block: tuple[str, ...]
) -> exp.Expression | None:
    alone = schema.alone(block)
    return None if alone is None else ex.is_present(_short(facts)[alone])


def _short(facts: Mapping[str, Facts]) -> dict[str, str]:
    return {name: f"v{j}" for j, name in enumerate(facts)}


def _grouped(
    relation: Relation, schema: Schema, facts: Mapping[str, Facts], outer: Sequence[exp.Expression]
) -> exp.Select:
    names = _short(facts)
    inner: list[exp.Expression] = [sql.column(key) for key in schema.keys]
    if schema.unit is not None and schema.unit not in schema.keys:
        inner.append(sql.column(schema.unit))
    for name, short in names.items():
        column, digits = relation.column(name), facts[name].digits
        value = (
            ex.shifted(name, column, facts[name].pivot)
            if digits is None
            else sql.to_fixed(name, column, scale=digits)
        )
        inner.append(sql.named(value, short))
    keep = [ex.is_present(names[x]) for x in schema.covariates]
    if schema.weight is not None:
        keep.append(ex.is_positive(names[schema.weight]))
    rows = sql.select(*inner, of=relation.name)
    return ex.grouped(rows, outer, by=schema.keys, keep=keep)


def _total(
    factors: tuple[str, ...], facts: Mapping[str, Facts], present: exp.Expression | None, rows: int
) -> exp.Expression:
    if not factors:
        return ex.count_rows() if present is None else sql.count_if(present)
    names = _short(facts)
    value: exp.Expression = sql.column(names[factors[0]])
    doubles = facts[factors[0]].digits is None
    bound = facts[factors[0]].scaled
    for name in factors[1:]:
        other = sql.column(names[name])
        if doubles or facts[name].digits is None:
            value, doubles = ex.multiply(value, other), True
            continue
        bound *= facts[name].scaled
        value = sql.product(value, other, wide=bound > _LARGEST)
    if present is not None:
        value = ex.where(present, value)
    return ex.add_up(value) if doubles else sql.sum_exact(value, bound=bound * rows)
