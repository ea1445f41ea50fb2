"""Each unit's covariates at a base period, joined to all of its rows."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vbceval.core.checks import Problems, listed
from vbceval.core.disclosure import say_people
from vbceval.core.errors import DataError
from vbceval.engine import Engine, Relation, sql
from vbceval.moments import expressions as ex
from vbceval.moments.inspection import inspect
from vbceval.moments.queries import OWN, refuse_own_names
from vbceval.passes.buckets import PARTS, Size, bucketed, check_unit
from vbceval.passes.conditions import all_of, any_of, equal, number
from vbceval.passes.provenance import identity_of, is_known, shown
from vbceval.passes.winsor import Derived, annotated, free

if TYPE_CHECKING:
    from sqlglot import exp

PREFIX = "base_"
"""What the names of baseline covariates begin with."""


def baseline(
    source: Any,
    engine: Engine,
    *,
    unit: str,
    period: str,
    covariates: Sequence[str],
    to: str | Path,
    at: float | Literal["first", "before_cohort"] = "first",
    cohort: str | None = None,
    never_before: float | None = None,
    without: Literal["drop", "missing"] = "drop",
    keep: Sequence[str] | None = None,
    work: str | Path | None = None,
    memory: str = "1GB",
    buckets: int | None = None,
    vintage: str | None = None,
) -> Derived:
    """
    Join each unit's covariates at a base period to all of its rows, and write the table.

    Covariates measured after entry are outcomes: a program that changes coding changes risk scores.
    The base period of a unit is its first period seen, a fixed period, or the last period seen
    before its cohort. Written bucket by bucket of units, so that memory stays bounded and a killed
    run goes on at the last finished bucket.

    Parameters
    ----------
    source : path, paths, table or name
        As for `Engine.register`.
    engine : Engine
        From `vbceval.connect`.
    unit : str
        People: whole numbers or text. At most one row in the base period.
    period : str
        Number.
    covariates : sequence of str
        Columns of any kind. Their values at base are in new columns, ``base_`` and the name; a value
        that is missing in the base row stays missing.
    to : str or Path
        Folder of Parquet that is made; it appears when it is whole.
    at : "first", "before_cohort" or number
        Which period is the base.
    cohort : str, optional
        First treated period, missing for those never treated; needed for ``at="before_cohort"``.
    never_before : float, optional
        For ``at="before_cohort"``: those never treated have their last period before this one as
        base. Needed when there are any.
    without : {"drop", "missing"}
        What happens to units without a row in their base period: their rows are left out, or kept
        with missing covariates. They are counted either way.
    keep : sequence of str, optional
        Columns that are written beside the new ones. Default: all.
    work : str or Path, optional
        Folder of the run while it lasts, on the disk of `to`. Default: `to` with ``.run`` after its
        name. It is removed at the end.
    memory, buckets, vintage
        As in `within`.

    Returns
    -------
    Derived
        ``meta["units"]`` and ``meta["units_without_base"]`` count units; counts of 1-10 are missing.

    Raises
    ------
    DataError
        If the table or options are unusable, a unit has two rows in its base period or two cohorts,
        the source changed, or the folder is in use.
    """
    to = Path(to)
    free(to)
    _check_options(at, cohort, never_before, without)
    needed = [unit, period, *covariates, *([] if cohort is None else [cohort])]
    chosen = None if keep is None else list(dict.fromkeys((*keep, *needed)))
    relation = engine.register(source, columns=chosen)
    rows = _check_table(engine, relation, unit, period, covariates, cohort, never_before, needed)
    base = _Base(
        relation=relation, unit=unit, period=period, covariates=tuple(covariates),
        written=tuple(relation.columns if keep is None else keep),
        when=_when(relation, period, at, cohort, never_before), cohort=cohort, without=without,
    )  # fmt: skip
    parameters = {
        "engine": engine.name, "unit": unit, "period": period, "covariates": list(covariates),
        "at": at, "cohort": cohort, "never_before": never_before, "without": without,
        "keep": list(base.written), "to": str(to),
    }  # fmt: skip
    identity = identity_of(
        "baseline", relation, parameters, vintage=vintage, resumable=work is not None
    )
    # the engine holds the base rows, and what it joins to them it streams
    size = Size(rows=rows, bytes_a_row=16 * (4 + len(covariates)), memory=memory, buckets=buckets)
    return _write(base, engine, to, work, size=size, identity=identity, vintage=vintage)


def _write(
    base: _Base, engine: Engine, to: Path, work: str | Path | None, *, size: Size,
    identity: Mapping[str, Any], vintage: str | None,
) -> Derived:  # fmt: skip
    """Write the parts in the folder of the run, and move them to their place when all are there."""
    folder = None if work is None else Path(work)
    if work is None and is_known(base.relation, vintage):
        folder = to.with_name(f"{to.name}.run")
    counts = {"units": 0, "based": 0}
    to.parent.mkdir(parents=True, exist_ok=True)
    with bucketed(
        engine, base.relation, unit=base.unit, title="baseline covariates", size=size,
        identity=identity, work=folder, beside=to.parent,
    ) as run:  # fmt: skip
        if run.folder.path.stat().st_dev != to.parent.stat().st_dev:
            raise DataError(
                f"`work` ({run.folder.path}) is on another disk than `to` ({to}), to which the parts "
                "are moved when they are whole. Name a folder on the same disk, or leave it out."
            )
        for _, found in run.parts(base.rows, count=lambda where: base.count(engine, where)):
            counts = {name: counts[name] + found[name] for name in counts}
        meta = {
            **identity, "buckets": run.count, "rows_read": size.rows,
            "units": shown(counts["units"]),
            "units_without_base": shown(counts["units"] - counts["based"]),
        }  # fmt: skip
        with annotated(to, meta):
            (run.folder.path / PARTS).rename(to)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return Derived(path=to, meta=meta)


@dataclass(frozen=True, kw_only=True)
class _Base:
    """The queries of a bucket."""

    relation: Relation
    unit: str
    period: str
    covariates: tuple[str, ...]
    written: tuple[str, ...]
    when: exp.Expression
    cohort: str | None
    without: str

    def rows(self, condition: exp.Expression) -> exp.Select:
        """Rows of a bucket with what their unit had in its base period."""
        from sqlglot import exp

        columns = [sql.column(name, of="r") for name in self.written]
        columns += [sql.column(f"{PREFIX}{x}", of="x") for x in self.covariates]
        rows = self._select(sql.column(self.unit), *map(sql.column, self.written))
        how = "inner" if self.without == "drop" else "left"
        return (
            exp.Select(expressions=columns)
            .from_(rows.where(condition).subquery("r"))
            .join(
                self._base_rows(condition).subquery("x"),
                on=equal(self.unit, "r", "x"),
                join_type=how,
            )
        )

    def count(self, engine: Engine, condition: exp.Expression) -> dict[str, int]:
        """Count the units of a bucket and those with a base row; refuse two rows or two cohorts."""
        from sqlglot import exp

        columns = [
            sql.named(ex.count_rows(), "units"),
            sql.named(ex.count(sql.column(f"{OWN}p")), "based"),
            sql.named(ex.count(sql.column(f"{OWN}two")), "two"),
        ]
        periods = exp.Select(expressions=columns).from_(self._periods(condition).subquery("b"))
        found = engine.run(periods).to_pylist()[0]
        rows = exp.Select(expressions=[sql.named(ex.count_rows(), "n")])
        n = engine.run(rows.from_(self._base_rows(condition).subquery("x"))).to_pylist()[0]["n"]
        problems = Problems(self.relation.source.title)
        if n != found["based"]:
            problems.add(
                f"{say_people(n - found['based'], 'rows')} of one bucket are second rows of a unit "
                f"in its base period, so that all of its rows would be doubled. Add rows of one "
                f"`{self.unit}` and `{self.period}` up in the source."
            )
        if found["two"]:
            problems.add(
                f"`{self.cohort}` changes within {say_people(found['two'])} of one bucket, so their "
                "base is not defined. Give each stay as a unit of its own, or correct the source."
            )
        problems.raise_if_any()
        return {"units": int(found["units"]), "based": int(found["based"])}

    def _periods(self, condition: exp.Expression) -> exp.Select:
        """One row a unit: its base period, and 1 where it has two cohorts."""
        from sqlglot import exp

        two: exp.Expression = exp.null()
        if self.cohort is not None:
            value = ex.value(self.cohort, self.relation.column(self.cohort))
            low, high = ex.smallest(value), ex.largest(value.copy())
            differ = any_of(
                exp.NEQ(this=low, expression=high),
                exp.And(
                    this=exp.GT(this=ex.count(value.copy()), expression=exp.Literal.number(0)),
                    expression=exp.LT(this=ex.count(value.copy()), expression=ex.count_rows()),
                ),
            )
            two = ex.where(differ, exp.Literal.number(1))
        columns = [sql.column(self.unit), sql.named(self.when, f"{OWN}p")]
        columns.append(sql.named(exp.cast(two, "INT"), f"{OWN}two"))
        return self._select(*columns).where(condition.copy()).group_by(sql.column(self.unit))

    def _base_rows(self, condition: exp.Expression) -> exp.Select:
        from sqlglot import exp

        time = ex.value(self.period, self.relation.column(self.period))
        names = [sql.named(sql.column(x), f"{PREFIX}{x}") for x in self.covariates]
        rows = self._select(sql.column(self.unit), sql.named(time, f"{OWN}t"), *names)
        columns = [sql.column(self.unit, of="c")]
        columns += [sql.column(f"{PREFIX}{x}", of="c") for x in self.covariates]
        at_base = exp.EQ(
            this=sql.column(f"{OWN}t", of="c"), expression=sql.column(f"{OWN}p", of="b")
        )
        return (
            exp.Select(expressions=columns)
            .from_(rows.where(condition.copy()).subquery("c"))
            .join(
                self._periods(condition).subquery("b"),
                on=all_of(equal(self.unit, "c", "b"), at_base),
                join_type="inner",
            )
        )

    def _select(self, *columns: exp.Expression) -> exp.Select:
        kept = {c.alias_or_name: c for c in columns}
        return sql.select(*kept.values(), of=self.relation.name)


def _when(
    relation: Relation, period: str, at: float | str, cohort: str | None, never: float | None
) -> exp.Expression:
    """Return the base period of a unit, as an aggregate over its rows; NULL where it has none."""
    from sqlglot import exp

    time = ex.value(period, relation.column(period))
    if at == "first":
        return ex.smallest(time)
    if at != "before_cohort" or cohort is None:
        same = exp.EQ(this=time.copy(), expression=number(float(at)))
        return ex.smallest(ex.where(same, time))
    first: exp.Expression = ex.value(cohort, relation.column(cohort))
    if never is not None:
        first = exp.Coalesce(this=first, expressions=[number(never)])
    return ex.largest(ex.where(exp.LT(this=time.copy(), expression=first), time))


def _check_options(at: object, cohort: str | None, never: float | None, without: str) -> None:
    problems = Problems("the options of `baseline`")
    is_number = isinstance(at, Real) and not isinstance(at, bool)
    if at not in ("first", "before_cohort") and not is_number:
        problems.add(f"`at` is {at!r}; it can be 'first', 'before_cohort', or a period.")
    if (at == "before_cohort") != (cohort is not None):
        problems.add("`cohort` goes with at='before_cohort': give both or neither.")
    if never is not None and at != "before_cohort":
        problems.add("`never_before` goes with at='before_cohort'. Leave it out.")
    if without not in ("drop", "missing"):
        problems.add(f"`without` is {without!r}; it can be 'drop' or 'missing'.")
    problems.raise_if_any()


def _check_table(
    engine: Engine, relation: Relation, unit: str, period: str, covariates: Sequence[str],
    cohort: str | None, never: float | None, needed: Sequence[str],
) -> int:  # fmt: skip
    """Return the number of rows, after everything that can be wrong before a bucket is read."""
    problems = Problems(relation.source.title)
    if not covariates or isinstance(covariates, str):
        raise DataError("`covariates` must be a list with at least one column.")
    for name in needed:
        relation.column(name)
    check_unit(relation.column(unit))
    refuse_own_names([unit])
    # SQL does not tell BASE_HCC from base_hcc
    there = {x.lower() for x in relation.columns}
    taken = [f"{PREFIX}{x}" for x in covariates if f"{PREFIX}{x}".lower() in there]
    if taken:
        problems.add(f"{listed(taken)} is there already. Rename it, or leave it out of `keep`.")
    found = inspect(
        engine, relation, keys=(unit, period), within=(), period=period, numbers=(), weights=(),
        digits={}, pivots={},
    )  # fmt: skip
    if cohort is not None:
        kinds = _cohorts(engine, relation, cohort)
        if kinds["zero"]:
            problems.add(
                f"`{cohort}` is 0 in some rows. Never treated is a missing cohort here; 0 would be a "
                "date of entry. Make it missing."
            )
        if kinds["never"] and never is None:
            problems.add(
                f"`{cohort}` is missing in {say_people(kinds['never'], 'rows')}: never treated, so "
                "that no period is before their entry. Give `never_before`, such as the first "
                "cohort."
            )
    problems.raise_if_any()
    return found.rows


def _cohorts(engine: Engine, relation: Relation, cohort: str) -> Mapping[str, int]:
    from sqlglot import exp

    column = relation.column(cohort)
    zero = exp.EQ(this=ex.value(cohort, column), expression=number(0.0))
    columns = [
        sql.named(sql.count_if(zero), "zero"),
        sql.named(sql.count_if(ex.is_missing(cohort, column)), "never"),
    ]
    found: Mapping[str, int] = engine.run(sql.select(*columns, of=relation.name)).to_pylist()[0]
    return found
