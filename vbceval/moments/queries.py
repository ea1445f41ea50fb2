"""The queries of a pass: rows to whole numbers, their sums by cell, people, and clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vbceval.core.errors import DataError
from vbceval.engine import Engine, Relation, sql
from vbceval.moments import expressions as ex
from vbceval.moments.histograms import FIELDS
from vbceval.moments.inspection import Facts
from vbceval.moments.schema import Schema, Term, histogram_column
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
            total = _total(term, facts, present, rows)
            outer.append(sql.named(total, term.name))
    if schema.separate == schema.outcomes:
        outer.append(sql.named(ex.count_rows(), schema.rows))
    return _grouped(_rows(relation, schema, facts), schema, facts, outer)


def bins_by_cell(
    relation: Relation, schema: Schema, facts: Mapping[str, Facts], outcome: str, *, rows: int
) -> exp.Select:
    """
    Return the query whose result has a row for each cell and bin of an outcome in which rows are.

    Its columns are the keys and `histogram_column` of each of `FIELDS`. Parameters are those of
    `sums_by_cell`.
    """
    from sqlglot import exp

    # edges are compared with values, not with what they are less a pivot
    plain = {name: replace(fact, pivot=0.0) for name, fact in facts.items()}
    number, *names = (histogram_column(x) for x in FIELDS)
    value = _short(plain)[outcome]
    bin_ = sql.named(ex.position(value, schema.histograms[outcome]), number)
    values = _rows(relation, schema, plain)
    binned = exp.Select(expressions=[exp.Star(), bin_]).from_(values.subquery("v"), copy=False)
    w = () if schema.weight is None else (schema.weight,)
    outer: list[exp.Expression] = [sql.column(x) for x in (*schema.keys, number)]
    for name, factors in zip(names, ((), w, (*w, outcome)), strict=True):
        total = _total(Term(name=name, factors=factors), plain, None, rows)
        outer.append(sql.named(total, name))
    return _grouped(binned, schema, plain, outer, bin_of=outcome)


def people_by_cell(
    relation: Relation, schema: Schema, facts: Mapping[str, Facts], *, unit: str
) -> exp.Select:
    """Return the query that counts different people in every cell, for each group of outcomes."""
    outer: list[exp.Expression] = [sql.column(key) for key in schema.keys]
    for block in schema.blocks:
        people = ex.count_people(unit, _present(schema, facts, block))
        outer.append(sql.named(people, people_column(schema.alone(block))))
    return _grouped(_rows(relation, schema, facts), schema, facts, outer)


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


def _rows(relation: Relation, schema: Schema, facts: Mapping[str, Facts]) -> exp.Select:
    """Keys, and numbers as they are summed."""
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
    return sql.select(*inner, of=relation.name)


def _grouped(
    rows: exp.Select, schema: Schema, facts: Mapping[str, Facts], outer: Sequence[exp.Expression],
    *, bin_of: str | None = None,
) -> exp.Select:  # fmt: skip
    names = _short(facts)
    keep = [ex.is_present(names[x]) for x in schema.covariates]
    if schema.weight is not None:
        keep.append(ex.is_positive(names[schema.weight]))
    by = schema.keys
    if bin_of is not None:
        keep.append(ex.is_present(names[bin_of]))
        by = (*by, histogram_column(FIELDS[0]))
    return ex.grouped(rows, outer, by=by, keep=keep)


def _total(
    term: Term, facts: Mapping[str, Facts], present: exp.Expression | None, rows: int
) -> exp.Expression:
    if not term.factors:
        return ex.count_rows() if present is None else sql.count_if(present)
    names = _short(facts)

    def column(name: str) -> exp.Expression:
        # the size of an amount is that of the amount itself
        pivot = 0.0 if term.kind == "sum" else facts[name].pivot
        return ex.unshifted(sql.column(names[name]), pivot)

    first, *others = term.factors
    value, doubles, bound = column(first), facts[first].digits is None, facts[first].scaled
    for name in others:
        other = column(name)
        if doubles or facts[name].digits is None:
            value, doubles = ex.multiply(value, other), True
            continue
        bound *= facts[name].scaled
        value = sql.product(value, other, wide=bound > _LARGEST)
    if term.kind != "sum":
        value = ex.size(value)
    if present is not None:
        value = ex.where(present, value)
    if term.kind == "largest":
        return ex.largest(value) if doubles else ex.whole(ex.largest(value))
    return ex.add_up(value) if doubles else sql.sum_exact(value, bound=bound * rows)
