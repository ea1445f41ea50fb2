"""A table whose columns are capped at exact quantiles of their group."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from vbceval.core.checks import listed, missing_columns
from vbceval.core.errors import DataError
from vbceval.core.files import only_writer, remove, say_full, write_text
from vbceval.engine import Engine, Relation, check_unchanged, sql
from vbceval.passes.conditions import all_of, any_of, equal
from vbceval.passes.provenance import identity_of, shown
from vbceval.passes.quantiles import Groups

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlglot import exp


@dataclass(frozen=True, eq=False, kw_only=True)
class Derived:
    """
    A table written from another.

    Parameters
    ----------
    path : Path or None
        Parquet; None where nothing was written.
    relation : Relation, optional
        The table as the engine that made it can read it, without a copy of its rows.
    limits : DataFrame, optional
        Limits that were applied, one row a group. They are values of rows: they stay where the rows
        are.
    meta : mapping
        Source, options, and counts; a count of 1-10 is missing. Also written beside the table, with
        ``.json`` after its name.
    """

    path: Path | None
    relation: Relation | None = None
    limits: pd.DataFrame | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


def winsorise(
    source: Any,
    engine: Engine,
    *,
    columns: Sequence[str],
    to: str | Path | None = None,
    by: Sequence[str] = (),
    upper: float | None = None,
    lower: float | None = None,
    limits: pd.DataFrame | None = None,
    weight: str | None = None,
    digits: Mapping[str, int] | None = None,
    keep: Sequence[str] | None = None,
) -> Derived:
    """
    Cap columns at exact quantiles of their group.

    A value above the upper limit of its group becomes the limit; missing values stay missing. The
    limits are those of the table, or `limits` of another. The Shared Savings Program truncates
    annualised spending at the 99th percentile of the *national* population of a year and enrolment
    type (42 CFR 425.604-425.605 and 425.652): its limits come from the national table.

    Parameters
    ----------
    source : path, paths, table or name
        As for `Engine.register`.
    engine : Engine
        From `vbceval.connect`.
    columns : sequence of str
        Columns that are capped, each at its own limits; their types do not change.
    to : str or Path, optional
        Where it is written: a file (DuckDB) or folder (Spark) of Parquet that appears when it is
        whole. Default: nowhere; `Derived.relation` then caps rows when this engine reads them.
    by, weight, digits
        As in `quantiles`.
    upper, lower : float or None
        Shares of the quantiles, such as 0.99; None leaves that side as it is.
    limits : DataFrame, optional
        Limits to apply in place of quantiles of this table: columns of `by`, ``column`` (what is
        capped), and ``upper``, ``lower`` or both, as in `Derived.limits`. One row for each group of
        the table.
    keep : sequence of str, optional
        Other columns that are written. Default: all.

    Returns
    -------
    Derived
        With the limits and the number of rows that changed.

    Raises
    ------
    DataError
        If a column cannot be counted exactly (see `quantiles`), a group has no limit, or `to`
        exists.
    """
    if isinstance(by, str):
        raise DataError(f"`by` is the text '{by}'; give a list, ['{by}'].")
    if isinstance(columns, str) or not columns:
        raise DataError("`columns` must be a list with at least one column to cap.")
    shares = _shares(lower, upper, limits, weight)
    if to is not None:
        free(Path(to))
    needed = (*by, *columns, *([] if weight is None else [weight]))
    chosen = None if keep is None else list(dict.fromkeys((*keep, *needed)))
    relation = engine.register(source, columns=chosen)
    groups = [
        Groups.open(relation, engine, column=c, by=by, weight=weight, digits=digits or {})
        for c in columns
    ]
    applied = {
        g.column: _limits(g, shares, pd.DataFrame() if limits is None else limits) for g in groups
    }
    known = {c: engine.register(table) for c, table in applied.items()}
    parameters = {
        "columns": list(columns), "by": list(by), "weight": weight, **shares,
        "limits": "quantiles" if limits is None else "given",
    }  # fmt: skip
    frame = _frame(groups, applied, shares)
    query = _capped(groups, known, shares)
    changed = engine.run(_changed(groups, known, shares)).to_pylist()[0]
    meta = {
        **identity_of("winsorise", relation, parameters, vintage=None, resumable=False),
        "engine": engine.name,
        "rows_changed": {c: shown(changed[c]) for c in columns},
    }
    if to is None:
        check_unchanged(relation)
        done = json.dumps(parameters) + frame.to_csv(index=False)
        source = replace(
            relation.source, label=f"{relation.source.label}, capped",
            derived=_chained(relation.source.derived, done),
        )  # fmt: skip
        capped = engine.define(engine.temporary("capped"), query, source)
        return Derived(path=None, relation=capped, limits=frame, meta=meta)
    with annotated(Path(to), meta):
        _write(query, engine, relation, Path(to))
    for table in known.values():
        engine.drop(table.name)
    return Derived(path=Path(to), limits=frame, meta=meta)


def _write(query: exp.Select, engine: Engine, relation: Relation, to: Path) -> None:
    """Write a table; it does not stay where its source changed meanwhile."""
    engine.write_parquet(query, to)
    try:
        check_unchanged(relation)
    except DataError:
        remove(to)
        raise


def _chained(before: str | None, done: str) -> str:
    """Return the hash of what was done to rows, after what had been done before."""
    return hashlib.sha256(f"{before}\n{done}".encode()).hexdigest()


def _shares(
    lower: float | None, upper: float | None, limits: pd.DataFrame | None, weight: str | None
) -> dict[str, float | None]:
    """Return the sides that are capped, with the share of the quantile where it is to be found."""
    found = {side: q for side, q in (("lower", lower), ("upper", upper)) if q is not None}
    if limits is not None:
        if found or weight is not None:
            raise DataError(
                "`limits` says what to apply, so `upper`, `lower` and `weight` have nothing to find. "
                "Give one or the other."
            )
        sides: dict[str, float | None] = {s: None for s in ("lower", "upper") if s in limits}
        if not sides:
            raise DataError("`limits` has neither a column `upper` nor `lower`.")
        return sides
    if not found:
        raise DataError("`upper`, `lower` and `limits` are all None, so there is nothing to cap.")
    if len(found) == 2 and found["lower"] > found["upper"]:
        raise DataError(f"`lower` ({lower}) is above `upper` ({upper}). Exchange them.")
    return dict(found)


def free(to: Path) -> None:
    """Raise DataError when a table cannot be written at a place because something is there."""
    if to.exists():
        raise DataError(
            f"`{to}` exists already, and a derived table is never mixed with another. Remove it, or "
            "give another name in `to`."
        )


@contextlib.contextmanager
def annotated(to: Path, meta: Mapping[str, Any]) -> Iterator[None]:
    """
    Write beside a derived table how it is made; nothing is left where the block fails.

    Nobody else writes the table meanwhile, so a table and what is said of it are of one run.
    """
    note = to.with_name(f"{to.name}.json")
    with only_writer(to):
        free(to)
        with say_full(note):
            write_text(note, json.dumps(dict(meta), indent=1))
        try:
            yield
        except BaseException:
            note.unlink(missing_ok=True)
            raise


def _limits(groups: Groups, shares: Mapping[str, float | None], given: pd.DataFrame) -> pa.Table:
    """Keys, and each limit twice: as the whole number that is compared, and as its value in text."""
    import pyarrow as pa

    table = groups.table.select([f"k{j}" for j in range(len(groups.by))])
    columns = {name: table.column(name) for name in table.column_names}
    for side, share in shares.items():
        found = _given(groups, given, side) if share is None else groups.find(share)
        columns[f"{side}_fixed"] = pa.array(
            [int(v.scaleb(groups.digits)) for v in found], pa.int64()
        )
        columns[f"{side}_value"] = pa.array([f"{v:f}" for v in found], pa.string())
    return pa.table(columns)


def _given(groups: Groups, limits: pd.DataFrame, side: str) -> list[Decimal]:
    """Look the limit of every group up; each must be there once, with the column's digits."""
    absent = missing_columns(limits, [*groups.by, "column", side])
    if absent:
        raise DataError(f"`limits` has no column {listed(absent)}. See `Derived.limits`.")
    mine = limits.loc[limits["column"] == groups.column, [*groups.by, side]].dropna()
    # a name that no column of `by` has
    place = f"place {' '.join(groups.by)}"
    keys = groups.keys.assign(**{place: range(groups.table.num_rows)})
    found = keys.merge(mine, how="left") if groups.by else keys.merge(mine, how="cross")
    short = int(found[side].isna().sum()) + groups.table.num_rows - found[place].nunique()
    if short or len(found) != groups.table.num_rows:
        raise DataError(
            f"`limits` does not have one `{side}` of `{groups.column}` for each of the "
            f"{groups.table.num_rows:,} groups ({short:,} have none). Give one row a group."
        )
    values = [Decimal(repr(float(v))) for v in found.sort_values(place)[side]]
    finer = sum(v != round(v, groups.digits) for v in values)
    if finer:
        raise DataError(
            f"{finer:,} limits of `{groups.column}` have more than its {groups.digits} decimal "
            "digits. Round them."
        )
    return values


def _capped(
    groups: Sequence[Groups], known: Mapping[str, Relation], shares: Mapping[str, float | None]
) -> exp.Select:
    """Every column of the source, those with limits within them."""
    from sqlglot import exp

    place = {g.column: (f"g{j}", g) for j, g in enumerate(groups)}
    relation = groups[0].relation
    columns: list[exp.Expression] = []
    for name, column in relation.columns.items():
        plain = sql.column(name, of="r")
        if name not in place:
            columns.append(plain)
            continue
        alias, group = place[name]
        kind = exp.DataType.build(column.engine_type, dialect=group.engine.dialect)
        ifs = [
            exp.If(this=outside, true=exp.cast(sql.column(f"{side}_value", of=alias), kind.copy()))
            for side, outside in _outside(group, alias, shares).items()
        ]
        columns.append(sql.named(exp.Case(ifs=ifs, default=plain), name))
    return _joined(columns, groups, known)


def _changed(
    groups: Sequence[Groups], known: Mapping[str, Relation], shares: Mapping[str, float | None]
) -> exp.Select:

    columns = [
        sql.named(sql.count_if(any_of(*_outside(g, f"g{j}", shares).values())), g.column)
        for j, g in enumerate(groups)
    ]
    return _joined(columns, groups, known)


def _outside(groups: Groups, alias: str, sides: Iterable[str]) -> dict[str, exp.Expression]:
    """Return for each side whether a value is beyond its limit; false or NULL for a missing value."""
    from sqlglot import exp

    column = groups.relation.column(groups.column)
    fixed = sql.to_fixed(groups.column, column, scale=groups.digits)
    # the tables of limits have other names, but a name in two tables must be said to be ours
    fixed = fixed.transform(
        lambda n: sql.column(n.name, of="r") if isinstance(n, exp.Column) else n
    )
    kinds = {"lower": exp.LT, "upper": exp.GT}
    return {
        side: exp.Paren(this=kinds[side](
            this=fixed.copy(), expression=sql.column(f"{side}_fixed", of=alias)
        ))
        for side in sides
    }  # fmt: skip


def _joined(
    columns: Sequence[exp.Expression], groups: Sequence[Groups], known: Mapping[str, Relation]
) -> exp.Select:
    from sqlglot import exp

    name = groups[0].relation.name
    query = exp.Select(expressions=list(columns)).from_(
        exp.alias_(sql.table(name), "r", table=True)
    )
    for j, group in enumerate(groups):
        table = exp.alias_(sql.table(known[group.column].name), f"g{j}", table=True)
        same = [equal(key, "r", f"g{j}", other=f"k{i}") for i, key in enumerate(group.by)]
        query = query.join(table, on=all_of(*same), join_type="left")
    return query


def _frame(
    groups: Sequence[Groups], limits: Mapping[str, pa.Table], shares: Mapping[str, float | None]
) -> pd.DataFrame:
    tables = []
    for group in groups:
        table = group.keys.assign(column=group.column)
        for side in shares:
            texts = limits[group.column].column(f"{side}_value").to_pylist()
            table[side] = [float(text) for text in texts]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
