"""The queries of a pass: rows to whole numbers, their sums by cell, people, and clusters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DataError
from vbceval.engine import Engine, Relation, sql
from vbceval.moments import expressions as ex
from vbceval.moments.histograms import FIELDS
from vbceval.moments.inspection import Facts
from vbceval.moments.packing import Part, pack
from vbceval.moments.schema import Schema, Term, histogram_column
from vbceval.moments.sums import people_column

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlglot import exp

# a product of BIGINT up to here cannot overflow
_LARGEST = 2**62
OWN = "vbc "
"""What names of columns begin with that queries make beside those of the source, in any case."""
# types without an order or a label: STRUCT(a BIGINT), BIGINT[], ARRAY<BIGINT>, INTERVAL DAY TO SECOND
_NESTED, _INTERVAL = ("]", ">"), ("STRUCT", "MAP", "UNION", "ARRAY", "LIST", "INTERVAL")
# a set of periods fits into the bits of a BIGINT
_MOST_PERIODS = 62


def sums_by_cell(
    relation: Relation, schema: Schema, facts: Mapping[str, Facts], *, rows: int
) -> tuple[exp.Select, int]:
    """
    Return the query whose result has a row a cell and a column a sum, and how many it adds up.

    Rows become whole numbers once, in a subquery. Small sums are added up together and taken apart
    afterwards (`vbceval.moments.packing`).

    Parameters
    ----------
    relation, schema, facts
        The table, what is summed, and what the scan found of it.
    rows : int
        Rows that no cell exceeds: how large sums can be decides how they are added up.
    """
    from sqlglot import exp

    keys: list[exp.Expression] = [sql.column(key) for key in schema.keys]
    added: list[exp.Expression] = []
    found: dict[str, exp.Expression] = {}
    for block in schema.blocks:
        present = _present(schema, facts, block)
        small: dict[tuple[str, ...], list[Term]] = {}
        for term in schema.terms(block):
            if term.kind != "largest" and term.factors and _is_light(term.factors, facts, rows):
                same = (term.kind, *sorted(_once(term.factors, facts)))
                small.setdefault(same, []).append(term)
                continue
            found[term.name] = sql.column(term.name)
            added.append(sql.named(_total(term, facts, present, rows), term.name))
        for word in pack([_part(terms, facts, present, rows) for terms in small.values()]):
            total = f"{OWN}word {len(added)}"
            added.append(sql.named(word.total(), total))
            found |= word.taken_apart(total)
    if schema.separate == schema.outcomes:
        found[schema.rows] = sql.column(schema.rows)
        added.append(sql.named(ex.count_rows(), schema.rows))
    sums = _grouped(_rows(relation, schema, facts), schema, facts, [*keys, *added])
    order = [term.name for block in schema.blocks for term in schema.terms(block)]
    columns = [sql.named(found[name].copy(), name) for name in dict.fromkeys([*order, *found])]
    query = exp.Select(expressions=[*(key.copy() for key in keys), *columns])
    return query.from_(sums.subquery("s", copy=False), copy=False), len(added)


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
    bits = sql.named(ex.set_of(period, int(low)), f"{OWN}seen")
    each = sql.select(sql.named(ex.count_rows(), f"{OWN}n"), bits, of=relation.name)
    each = each.group_by(sql.column(unit))
    twice = exp.NEQ(this=ex.size_of_set(f"{OWN}seen"), expression=sql.column(f"{OWN}n"))
    query = exp.Select(expressions=[sql.named(ex.count_rows(), "people")])
    found = engine.run(query.from_(each.subquery("u")).where(twice))
    return int(found.to_pylist()[0]["people"]) == 0


def cluster_table(
    engine: Engine, relation: Relation, cluster: str, cohort: str, exit: str | None,
    never: float | None, problems: Problems,
) -> pd.DataFrame:  # fmt: skip
    """
    Return a row a cluster, in the engine's order: ``cohort``, ``exit``, ``rows``.

    What is wrong, such as rows of a cluster that differ in cohort or exit, is added to `problems`;
    the table is then not to be used.
    """
    parts: list[exp.Expression] = [sql.column(cluster), sql.named(ex.count_rows(), f"{OWN}rows")]
    columns = {"cohort": cohort} | ({} if exit is None else {"exit": exit})
    for role, name in list(columns.items()):
        column = relation.column(name)
        if column.kind not in ("integer", "decimal", "float"):
            problems.add(
                f"`{name}` holds {column.engine_type}; {role} is a number on the scale of the "
                "periods, missing for those never treated. Convert it."
            )
            del columns[role]
            continue
        parts += [
            sql.named(ex.smallest(ex.value(name, column, never=never)), f"{OWN}{role}_low"),
            sql.named(ex.largest(ex.value(name, column, never=never)), f"{OWN}{role}_high"),
            sql.named(ex.count(ex.value(name, column, never=never)), f"{OWN}{role}_rows"),
            sql.named(sql.count_if(ex.is_infinite(name, column)), f"{OWN}{role}_infinite"),
        ]
    query = sql.select(*parts, of=relation.name).group_by(sql.column(cluster))
    found = plain(engine.run(query.order_by(sql.column(cluster))))
    frame = found.to_pandas().set_index(cluster)
    table = pd.DataFrame(index=frame.index)
    for role, name in columns.items():
        low, high = (frame[f"{OWN}{role}_{side}"].astype(float) for side in ("low", "high"))
        some = frame[f"{OWN}{role}_rows"]
        mixed = (low != high) & (some > 0) | (some > 0) & (some < frame[f"{OWN}rows"])
        # rows without a cluster are no cluster
        mixed &= frame.index.notna()
        if mixed.any():
            problems.add(
                f"`{name}` changes within {int(mixed.sum()):,} of {len(frame):,} clusters of "
                f"`{cluster}`, but all rows of a cluster enter together. Cluster on what enters "
                "together, or correct the source."
            )
        endless = int((frame[f"{OWN}{role}_infinite"] > 0).sum()) if never != math.inf else 0
        codes = (("0", int((low == 0).sum()), "0"), ("infinite", endless, "float('inf')"))
        for said, count, wanted in codes if role == "cohort" else ():
            if count and (said != "0" or never is None):
                problems.add(
                    f"`{name}` is {said} in {count:,} clusters. Never treated is a missing cohort "
                    f"here, so this would be a date of entry. Pass never={wanted}."
                )
        table[role] = low
    if exit is None:
        table["exit"] = np.nan
    return table.assign(rows=frame[f"{OWN}rows"])


def plain(table: pa.Table) -> pa.Table:
    """Return a table whose enumerations are text; their labels name more than what is there."""
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            column = table.column(place).cast(field.type.value_type)
            table = table.set_column(place, field.name, column)
    return table


def refuse_own_names(names: Iterable[str]) -> None:
    """
    Refuse columns that are called as those are that queries make.

    Raises
    ------
    DataError
        If there is one.
    """
    own = [x for x in names if x.lower().startswith(OWN)]
    if own:
        raise DataError(
            f"{listed(own)} begins with `{OWN}`, as columns that the pass makes do, and one would be "
            "read in place of the other. Rename it in the source."
        )


def refuse_nested(relation: Relation, names: Sequence[str]) -> None:
    """
    Refuse keys whose values are lists, structures or spans of time, which have no order or no label.

    Raises
    ------
    DataError
        If there are some.
    """
    problems = Problems("the strata")
    for name in names:
        held = relation.column(name).engine_type
        if held.endswith(_NESTED) or held.startswith(_INTERVAL):
            problems.add(
                f"`{name}` holds {held}; a stratum is named by one value. Convert it when the table "
                "is made."
            )
    problems.raise_if_any()


def _present(
    schema: Schema, facts: Mapping[str, Facts], block: tuple[str, ...]
) -> exp.Expression | None:
    alone = schema.alone(block)
    return None if alone is None else ex.is_present(_short(facts)[alone])


def _short(facts: Mapping[str, Facts]) -> dict[str, str]:
    return {name: f"{OWN}{j}" for j, name in enumerate(facts)}


def _rows(relation: Relation, schema: Schema, facts: Mapping[str, Facts]) -> exp.Select:
    """Keys, and numbers as they are summed; whole numbers as BIGINT and as doubles."""
    names = _short(facts)
    inner: list[exp.Expression] = [sql.column(key) for key in schema.keys]
    if schema.unit is not None and schema.unit not in schema.keys:
        inner.append(sql.column(schema.unit))
    for name, short in names.items():
        column, digits = relation.column(name), facts[name].digits
        value = (
            ex.shifted(name, column, facts[name].pivot)
            if digits is None
            # digits were found to hold every value; NaN may be among those that are missing
            else sql.to_fixed(name, column, scale=digits, checked=facts[name].missing == 0)
        )
        inner.append(sql.named(value, short))
        if digits is not None:
            inner.append(sql.named(ex.as_double(value), _double(short)))
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
    exact, light = _is_exact(term.factors, facts), _is_light(term.factors, facts, rows)
    value = _value(term, facts, present, light=light)
    if term.kind == "largest":
        return ex.whole(ex.largest(value)) if exact else ex.largest(value)
    if not exact:
        return ex.add_up(value)
    return sql.sum_exact(value, bound=_bound(term.factors, facts, rows))


def _part(
    terms: Sequence[Term], facts: Mapping[str, Facts], present: exp.Expression | None, rows: int
) -> Part:
    """Return what is added up for terms that have one sum."""
    return Part(
        names=tuple(term.name for term in terms),
        value=_value(terms[0], facts, present, light=True),
        bound=_bound(terms[0].factors, facts, rows),
    )


def _value(
    term: Term, facts: Mapping[str, Facts], present: exp.Expression | None, *, light: bool
) -> exp.Expression:
    """Return what a row adds: of whole numbers, products as doubles (`light`) or as integers."""
    names = _short(facts)

    def column(name: str) -> exp.Expression:
        # the size of an amount is that of the amount itself
        pivot = 0.0 if term.kind == "sum" else facts[name].pivot
        return ex.unshifted(sql.column(names[name]), pivot)

    if light:
        doubles = [sql.column(_double(names[x])) for x in _once(term.factors, facts)]
        value: exp.Expression = doubles[0]
        for other in doubles[1:]:
            value = ex.multiply(value, other)
    else:
        value = _heavy(term.factors, facts, column)
    if term.kind != "sum":
        value = ex.size(value)
    return value if present is None else ex.where(present, value)


def _is_exact(factors: Sequence[str], facts: Mapping[str, Facts]) -> bool:
    return all(facts[name].digits is not None for name in factors)


def _is_light(factors: Sequence[str], facts: Mapping[str, Facts], rows: int) -> bool:
    """Whether doubles hold the sum of these products; they cost a third less than integers."""
    bound = _bound(factors, facts, rows)
    return _is_exact(factors, facts) and bound < sql.LARGEST_EXACT_DOUBLE


def _bound(factors: Sequence[str], facts: Mapping[str, Facts], rows: int) -> float:
    """Return what no sum of the sizes of these products passes."""
    return math.prod(facts[name].scaled for name in factors) * rows


def _once(factors: Sequence[str], facts: Mapping[str, Facts]) -> list[str]:
    """Return factors without repeating those that are 0 or 1: their squares are themselves."""
    bits = {x for x in factors if facts[x].digits == 0 and 0 <= facts[x].low <= facts[x].high <= 1}
    return [x for k, x in enumerate(factors) if x not in bits or x not in factors[:k]]


def _heavy(
    factors: Sequence[str], facts: Mapping[str, Facts], column: Callable[[str], exp.Expression]
) -> exp.Expression:
    """Multiply as integers as long as columns have digits, then as doubles."""
    first, *others = factors
    value, doubles, bound = column(first), facts[first].digits is None, facts[first].scaled
    for name in others:
        other = column(name)
        if doubles or facts[name].digits is None:
            value, doubles = ex.multiply(value, other), True
            continue
        bound *= facts[name].scaled
        value = sql.product(value, other, wide=bound > _LARGEST)
    return value


def _double(short: str) -> str:
    """Return the name of a column of whole numbers as doubles."""
    return f"{short} double"
