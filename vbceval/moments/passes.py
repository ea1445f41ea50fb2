"""The pass over a table inside an engine: one query whose result is the sums of every cell."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.disclosure import suppress_small
from vbceval.core.errors import DataError
from vbceval.core.progress import counting
from vbceval.engine import Engine, Relation, check_unchanged, sql
from vbceval.moments import expressions as ex
from vbceval.moments.histograms import edges_of, histograms_wanted, nested, positions
from vbceval.moments.inspection import Inspection, inspect
from vbceval.moments.queries import (
    bins_by_cell,
    cluster_table,
    is_once_a_period,
    people_by_cell,
    plain,
    refuse_nested,
    refuse_own_names,
    sums_by_cell,
)
from vbceval.moments.schema import LARGEST, Schema, histogram_column
from vbceval.moments.sums import Sums, people_column
from vbceval.moments.whole import as_periods, narrow, one_zero

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlglot import exp

# bytes that adding up may take; with more, another scan of the table is cheaper
_MEMORY = 2**30
# bytes of memory that one sum of one cell is given: each thread has one, and tables grow by doubling
_STATE = 128


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
    histograms: Sequence[str] | Mapping[str, Sequence[float] | None],
    dominance: bool,
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
    wanted = histograms_wanted(histograms, outcomes=outcomes, keys=keys)
    weights = tuple(x for x in (weight, exposure) if x is not None)
    numbers = tuple(dict.fromkeys((*weights, *covariates, *outcomes)))
    others = [x for x in (cohort, exit, unit) if x is not None]
    relation = engine.register(source, columns=list(dict.fromkeys((*keys, *others, *numbers))))
    _check_keys(relation, cluster)
    whole = tuple(dict.fromkeys((*keys, *([unit] if unit is not None else []))))
    problems = Problems(relation.source.title)
    clusters = cluster_table(engine, relation, cluster, cohort, exit, never, problems)
    found = inspect(
        engine, relation, keys=whole, within=keys[1:], period=period, numbers=numbers,
        weights=weights, digits=digits, pivots=pivots, problems=problems,
    )  # fmt: skip
    facts = found.columns
    once = unit is not None and is_once_a_period(
        engine, relation, unit=unit, period=period, span=found.periods
    )
    schema = Schema(
        cluster=cluster, period=period, strata=tuple(strata), outcomes=tuple(outcomes),
        covariates=tuple(covariates), weight=weight, exposure=exposure, unit=unit,
        digits={name: fact.digits for name, fact in facts.items()},
        pivots={name: fact.pivot for name, fact in facts.items() if fact.digits is None},
        separate=tuple(y for y in outcomes if facts[y].missing), once_a_period=once,
        histograms={y: edges_of(y, given, facts[y].digits) for y, given in wanted.items()},
        dominance=dominance,
    )  # fmt: skip
    query, added = sums_by_cell(relation, schema, facts, rows=int(clusters["rows"].max()))
    table = _table(engine, relation, query, schema, found, clusters, added=added)
    kept = clusters[["cohort", "exit"]].loc[sorted(table.column(cluster).unique().to_pandas())]
    sums = Sums(table=table, schema=schema, clusters=kept)
    origin = {
        "source": _describe(relation),
        "engine": engine.name,
        "query": _said(query, engine, relation),
        "rows": found.rows,
    }
    return sums, {**origin, **_how(sums, found)}


def _table(
    engine: Engine, relation: Relation, query: exp.Select, schema: Schema, found: Inspection,
    clusters: pd.DataFrame, *, added: int,
) -> pa.Table:  # fmt: skip
    """Return every sum of every cell, its people and its histograms."""
    _check_names(schema, relation)
    cells = _cells(clusters, found.levels)
    parts = _parts(engine, relation, schema.cluster, clusters, cells=cells, sums=added)
    table = _run(engine, query, parts, schema)
    if table.num_rows == 0:
        raise DataError(
            "no row has a positive weight and all covariates, so there is nothing to sum."
        )
    if schema.unit is not None:
        people = table
        if not schema.once_a_period:
            counted = people_by_cell(relation, schema, found.columns, unit=schema.unit)
            people = _run(engine, counted, [None], schema)
        table = _with_people(table, people, schema)
    for y in schema.histograms:
        lists = _histogram(engine, relation, schema, found, clusters, y, table)
        table = table.append_column(histogram_column(y), lists)
    # several scans were made, which must be of one state of the source
    check_unchanged(relation)
    return table


def _histogram(
    engine: Engine, relation: Relation, schema: Schema, found: Inspection, clusters: pd.DataFrame,
    outcome: str, table: pa.Table,
) -> pa.Array:  # fmt: skip
    """Return the histogram of an outcome in each cell of a table."""
    most = int(clusters["rows"].max())
    query = bins_by_cell(relation, schema, found.columns, outcome, rows=most)
    bins = len(schema.histograms[outcome]) + 1
    cells = _cells(clusters, {**found.levels, histogram_column(outcome): bins})
    parts = _parts(engine, relation, schema.cluster, clusters, cells=cells, sums=3)
    rows = _run(engine, query, parts, schema)
    return nested(rows, positions(rows, table, schema.keys), len(table))


def _how(sums: Sums, found: Inspection) -> dict[str, Any]:
    """Say what was left out, and how columns were summed."""
    schema = sums.schema
    used = sum(int(x) for x in sums.table.column(schema.rows).to_pylist())
    left_out = float(suppress_small([found.rows - used])[0])
    return {
        "rows_left_out": None if np.isnan(left_out) else int(left_out),
        "digits": dict(schema.digits),
        "pivots": dict(schema.pivots),
        "ranges": {name: [fact.low, fact.high] for name, fact in found.columns.items()},
        "separate": list(schema.separate),
        "counts": "people" if schema.unit is not None else "rows",
    }


def _parts(
    engine: Engine, relation: Relation, cluster: str, clusters: pd.DataFrame, *, cells: int,
    sums: int,
) -> list[exp.Expression | None]:  # fmt: skip
    """
    Split clusters into ranges whose sums fit into memory together; None takes all of them.

    Each range costs a scan of the table, and less than what spilling costs. Its ends are compared
    by the engine that sorted them, so that each row is in one range.
    """
    memory = engine.memory
    kind = relation.column(cluster)
    if memory is None or kind.kind not in ("integer", "text") or kind.engine_type == "ENUM":
        return [None]
    wanted = math.ceil(cells * sums * _STATE / min(memory, _MEMORY))
    if wanted <= 1:
        return [None]
    share = clusters["rows"].cumsum() / clusters["rows"].sum()
    starts = [int(np.searchsorted(share, k / wanted)) for k in range(1, wanted)]
    cuts = [clusters.index[at] for at in sorted(set(starts)) if 0 < at < len(clusters)]
    ends = [None, *(x if isinstance(x, str) else int(x) for x in cuts), None]
    return [
        None if low is None and high is None else ex.between(cluster, low, high)
        for low, high in itertools.pairwise(ends)
    ]


def _cells(clusters: pd.DataFrame, levels: Mapping[str, int]) -> int:
    """Return a number of cells that is hardly exceeded."""
    each = math.prod(max(n, 1) for n in levels.values())
    return int(np.minimum(clusters["rows"], each).sum())


def _run(
    engine: Engine, query: exp.Select, parts: Sequence[exp.Expression | None], schema: Schema
) -> pa.Table:
    """Run a query over each range of clusters; the result is sorted by keys."""
    import pyarrow as pa

    tables = []
    with counting("ranges of clusters", len(parts)) as advance:
        for part in parts:
            # handed over, so that what the engine sent goes as its columns are replaced
            own = query if part is None else query.where(part, copy=True)
            tables.append(_typed(engine.run(own), schema))
            # Arrow keeps what it has freed, which the engine and the arrays of moments need
            pa.default_memory_pool().release_unused()
            advance()
    return narrow(pa.concat_tables(tables))


def _typed(table: pa.Table, schema: Schema) -> pa.Table:
    """Sorted, sums without a value as 0."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = plain(table)
    for place, field in enumerate(table.schema):
        column = table.column(place)
        if field.name in schema.keys:
            is_period = field.name == schema.period
            key = as_periods(column, field.name) if is_period else one_zero(column)
            table = table.set_column(place, field.name, key)
            continue
        if column.null_count:
            column = pc.fill_null(column, pa.scalar(0, field.type))
            table = table.set_column(place, field.name, column)
    return table.sort_by([(key, "ascending") for key in schema.keys])


def _with_people(table: pa.Table, people: pa.Table, schema: Schema) -> pa.Table:
    """Add a column of people for each group of outcomes: rows, where people do not repeat."""
    for block in schema.blocks:
        name = people_column(schema.alone(block))
        counted = name if name in people.column_names else schema.name(block)
        table = table.append_column(name, people.column(counted))
    return table


def _said(query: exp.Select, engine: Engine, relation: Relation) -> str:
    """Return the query; the name that a view of files or of a frame has for an hour is left out."""
    text = sql.render(query, engine.dialect)
    return text if relation.source.origin == "table" else text.replace(relation.name, "source")


def _describe(relation: Relation) -> dict[str, Any]:
    source = relation.source
    return {
        "origin": source.origin,
        "label": source.label,
        "derived": source.derived,
        "files": [
            {"path": f.path, "size": f.size, "footer_sha256": f.footer_sha256} for f in source.files
        ],
    }


def _check_keys(relation: Relation, name: str) -> None:
    """Refuse names that queries make, and a cluster that has no plain label."""
    refuse_own_names(relation.columns)
    cluster = relation.column(name)
    if cluster.kind not in ("integer", "text", "boolean", "float"):
        raise DataError(
            f"`{cluster.name}` holds {cluster.engine_type}, and a cluster is labelled by text or a whole "
            "number. Cast it when the table is made: to BIGINT where its values are whole numbers, else "
            "to VARCHAR."
        )


def _check_names(schema: Schema, relation: Relation) -> None:
    """Refuse strata that have no plain label, and columns whose sums would have one name."""
    refuse_nested(relation, schema.strata)
    people = [people_column(schema.alone(block)) for block in schema.blocks]
    names = [*schema.keys, *schema.sum_columns, *dict.fromkeys(people)]
    twice = [x for x in dict.fromkeys(names) if names.count(x) > 1]
    if twice:
        raise DataError(
            f"{listed(twice)} would be the name of two different sums, because a column has a name "
            "such as `a * b` or `a) where b`. Rename it in the source."
        )


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
    taken = [k for k in keys if k.startswith(("people", "sum(", "count(", "histogram(", LARGEST))]
    if taken:
        problems.add(
            f"{listed(taken)} is what a column of sums is called. Rename it in the source."
        )
    problems.raise_if_any()
