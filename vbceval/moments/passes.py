"""The pass over a table inside an engine: one query whose result is the sums of every cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.disclosure import suppress_small
from vbceval.core.errors import DataError
from vbceval.engine import Engine, Relation, sql
from vbceval.moments import expressions as ex
from vbceval.moments.inspection import Facts, inspect
from vbceval.moments.schema import Schema
from vbceval.moments.sums import Sums, people_column

if TYPE_CHECKING:
    from sqlglot import exp

# a product of BIGINT up to here cannot overflow
_LARGEST = 2**62


def sum_table(
    source: Any,
    engine: Engine,
    *,
    cluster: str,
    period: str,
    cohort: str,
    strata: Sequence[str],
    outcomes: Sequence[str],
    covariates: Sequence[str],
    weight: str | None,
    exposure: str | None,
    exit: str | None,
    unit: str | None,
    never: float | None,
    digits: Mapping[str, int | None],
    pivots: Mapping[str, float],
) -> tuple[Sums, dict[str, Any]]:
    """
    Sum a table by cell; parameters are those of `Moments.from_table`.

    Returns
    -------
    Sums
    dict
        Where they came from: source, query, engine, rows read and left out.
    """
    keys = (cluster, period, *strata)
    check_roles(keys=keys, weight=weight, outcomes=outcomes, covariates=covariates)
    numbers = tuple(dict.fromkeys(
        [x for x in (weight, exposure) if x is not None] + [*covariates, *outcomes]
    ))  # fmt: skip
    others = [x for x in (cohort, exit, unit) if x is not None]
    relation = engine.register(source, columns=list(dict.fromkeys((*keys, *others, *numbers))))
    whole = tuple(dict.fromkeys((*keys, *([unit] if unit is not None else []))))
    weights = tuple(x for x in (weight, exposure) if x is not None)
    rows, facts = inspect(
        engine, relation, keys=whole, period=period, numbers=numbers, weights=weights,
        digits=digits, pivots=pivots,
    )  # fmt: skip
    schema = Schema(
        cluster=cluster, period=period, strata=tuple(strata), outcomes=tuple(outcomes),
        covariates=tuple(covariates), weight=weight, exposure=exposure, unit=unit,
        digits={name: fact.digits for name, fact in facts.items()},
        pivots={name: fact.pivot for name, fact in facts.items() if fact.digits is None},
        separate=tuple(y for y in outcomes if facts[y].missing),
    )  # fmt: skip
    clusters = _clusters(engine, relation, cluster, cohort, exit, never)
    query = _query(relation, schema, facts)
    table = engine.run(query)
    if table.num_rows == 0:
        raise DataError(
            "no row has a positive weight and all covariates, so there is nothing to sum."
        )
    table = _typed(table, schema)
    kept = table.column(cluster).unique().to_pandas()
    sums = Sums(table=table, schema=schema, clusters=clusters.loc[sorted(kept)])
    origin = {
        "source": _describe(relation),
        "engine": engine.name,
        "query": sql.render(query, engine.dialect),
        "rows": rows,
    }
    return sums, {**origin, **_how(sums, rows)}


def _how(sums: Sums, rows: int) -> dict[str, Any]:
    """Say what was left out, and how columns were summed."""
    schema = sums.schema
    used = sum(int(x) for x in sums.table.column(schema.rows).to_pylist())
    left_out = float(suppress_small([rows - used])[0])
    return {
        "rows_left_out": None if np.isnan(left_out) else int(left_out),
        "digits": dict(schema.digits),
        "pivots": dict(schema.pivots),
        "separate": list(schema.separate),
        "counts": "people" if schema.unit is not None else "rows",
    }


def _query(relation: Relation, schema: Schema, facts: Mapping[str, Facts]) -> exp.Expression:
    """Rows to whole numbers once, in a subquery; then every sum, by cell."""
    names = {name: f"v{j}" for j, name in enumerate(facts)}
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
    rows = sql.select(*inner, of=relation.name)
    keep = [ex.is_present(names[x]) for x in schema.covariates]
    if schema.weight is not None:
        keep.append(ex.is_positive(names[schema.weight]))
    outer: list[exp.Expression] = [sql.column(key) for key in schema.keys]
    for block in schema.blocks:
        alone = block[0] if block[0] in schema.separate else None
        present = None if alone is None else ex.is_present(names[alone])
        if schema.unit is not None:
            people = ex.count_people(schema.unit, present)
            outer.append(sql.named(people, people_column(alone)))
        for term in schema.terms(block):
            total = _total(term.factors, names, facts, present)
            outer.append(sql.named(total, term.name))
    if schema.separate == schema.outcomes:
        outer.append(sql.named(ex.count_rows(), schema.rows))
    return ex.grouped(rows, outer, by=schema.keys, keep=keep)


def _total(
    factors: tuple[str, ...], names: Mapping[str, str], facts: Mapping[str, Facts],
    present: exp.Expression | None,
) -> exp.Expression:  # fmt: skip
    if not factors:
        return ex.count_rows() if present is None else sql.count_if(present)
    value: exp.Expression = sql.column(names[factors[0]])
    doubles = facts[factors[0]].digits is None
    bound = facts[factors[0]].largest * 10.0 ** (facts[factors[0]].digits or 0)
    for name in factors[1:]:
        other = sql.column(names[name])
        if doubles or facts[name].digits is None:
            value, doubles = ex.multiply(value, other), True
            continue
        bound *= max(facts[name].largest * 10.0 ** (facts[name].digits or 0), 1.0)
        value = sql.product(value, other, wide=bound > _LARGEST)
    if present is not None:
        value = ex.where(present, value)
    return ex.add_up(value) if doubles else sql.sum_exact(value)


def _clusters(
    engine: Engine, relation: Relation, cluster: str, cohort: str, exit: str | None,
    never: float | None,
) -> pd.DataFrame:  # fmt: skip
    """One row a cluster: cohort and exit, the same in all of its rows."""
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
    found = engine.run(sql.select(*parts, of=relation.name).group_by(sql.column(cluster)))
    frame = found.to_pandas().set_index(cluster).sort_index()
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
    return table


def _typed(table: Any, schema: Schema) -> Any:
    """Sorted, counts as whole numbers, sums without a value as 0."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for place, field in enumerate(table.schema):
        if field.name in schema.keys:
            if field.name == schema.period:
                cast = table.column(place).cast(pa.float64())
                table = table.set_column(place, field.name, cast)
            continue
        column = pc.fill_null(table.column(place), pa.scalar(0, field.type))
        table = table.set_column(place, pa.field(field.name, field.type), column)
    return table.sort_by([(key, "ascending") for key in schema.keys])


def _describe(relation: Relation) -> dict[str, Any]:
    source = relation.source
    return {
        "origin": source.origin,
        "label": source.label,
        "files": [
            {"path": f.path, "size": f.size, "footer_sha256": f.footer_sha256} for f in source.files
        ],
    }


def check_roles(
    *, keys: tuple[str, ...], weight: str | None, outcomes: Sequence[str], covariates: Sequence[str]
) -> None:
    """Refuse columns with two roles, text where a list is meant, and keys named as a sum is."""
    problems = Problems("the columns named")
    for role, value in (("outcomes", outcomes), ("covariates", covariates)):
        if isinstance(value, str):
            raise DataError(f"`{role}` is the text '{value}'; give a list, ['{value}'].")
    if not outcomes:
        problems.add("`outcomes` is empty. Name at least one column.")
    summed = [*outcomes, *covariates, *([] if weight is None else [weight])]
    for role, names in (("keys (cluster, period, strata)", keys), ("summed columns", summed)):
        twice = [x for x in dict.fromkeys(names) if list(names).count(x) > 1]
        if twice:
            problems.add(f"{listed(twice)} stands twice among the {role}. Name it once.")
    taken = [k for k in keys if k.startswith(("people", "sum(", "count("))]
    if taken:
        problems.add(
            f"{listed(taken)} is what a column of sums is called. Rename it in the source."
        )
    problems.raise_if_any()
