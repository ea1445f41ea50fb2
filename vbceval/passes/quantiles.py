"""Exact quantiles of groups by finer and finer histograms, and columns capped at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING, Any

import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DataError
from vbceval.core.progress import counting
from vbceval.engine import Engine, Relation, check_unchanged, sql
from vbceval.moments import expressions as ex
from vbceval.moments.inspection import inspect
from vbceval.moments.queries import refuse_nested
from vbceval.passes.conditions import all_of, equal, is_value

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlglot import exp

# bins of one round, over all groups: its result stays small whatever the rows
_BINS = 2**20
_MOST, _FEWEST = 2**12, 2**4
_RESERVED = ("share", "value", "column", "lower", "upper")


@dataclass(frozen=True, kw_only=True)
class _Search:
    """Where the quantile of one group lies: in [low, high], with `below` of the weight before."""

    low: int
    high: int
    below: int
    need: int


def quantiles(
    source: Any,
    engine: Engine,
    *,
    column: str,
    q: float | Sequence[float],
    by: Sequence[str] = (),
    weight: str | None = None,
    digits: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """
    Return exact quantiles of a column in every group.

    The q-quantile is the smallest value v of the group such that the rows with a value up to v hold
    at least a share q of the weight (the inverse of the distribution function: type 1 of Hyndman
    and Fan 1996; ``method="inverted_cdf"`` of numpy). It is always a value that occurs. Rows are not
    sorted: each round counts the weight in bins of the interval that holds the quantile, and takes
    the bin as the next interval, so that memory depends on the groups alone. Weights and values are
    whole numbers, so that every engine and every run gives the same result.

    Parameters
    ----------
    source : path, paths, table or name
        As for `Engine.register`.
    engine : Engine
        From `vbceval.connect`.
    column : str
        Numbers; rows that miss it are left out.
    q : float or sequence of float
        From 0 (the smallest value) to 1; read as decimal numbers, so 0.99 is 99/100.
    by : sequence of str
        Columns whose values make groups. Default: all rows are one.
    weight : str, optional
        Weight of a row, 0 or more, such as months of enrollment.
    digits : mapping of str to int, optional
        Decimal digits of `column` and `weight`, as in `Moments.from_table`.

    Returns
    -------
    DataFrame
        Columns of `by`, ``share``, ``value``; one row a group and share. A value is that of a row: it stays
        where the rows are.

    Raises
    ------
    DataError
        If the column or the weight has no fixed number of decimal digits, or a key is missing.
    """
    wanted = [q] if isinstance(q, int | float) else list(q)
    if isinstance(by, str):
        raise DataError(f"`by` is the text '{by}'; give a list, ['{by}'].")
    needed = dict.fromkeys((*by, column, *([] if weight is None else [weight])))
    relation = engine.register(source, columns=list(needed))
    groups = Groups.open(relation, engine, column=column, by=by, weight=weight, digits=digits or {})
    tables = []
    for share in wanted:
        table = groups.keys.copy()
        table["share"], table["value"] = float(share), [float(v) for v in groups.find(share)]
        tables.append(table)
    found = pd.concat(tables, ignore_index=True)
    return found.sort_values([*by, "share"], ignore_index=True)


@dataclass(frozen=True, eq=False, kw_only=True)
class Groups:
    """The groups of a table with their range, ready to be searched."""

    engine: Engine
    relation: Relation
    column: str
    by: tuple[str, ...]
    rows: exp.Select
    table: pa.Table
    digits: int

    @classmethod
    def open(
        cls, relation: Relation, engine: Engine, *, column: str, by: Sequence[str],
        weight: str | None, digits: Mapping[str, int],
    ) -> Groups:  # fmt: skip
        """Check the table, and find the range and the weight of every group."""
        taken = [name for name in by if name in _RESERVED]
        if taken:
            raise DataError(
                f"{listed(taken)} cannot be in `by`: it is a column of the result. Rename it."
            )
        numbers = (column, *([] if weight is None else [weight]))
        for name in dict.fromkeys((*by, *numbers)):
            relation.column(name)
        refuse_nested(relation, by)
        # the column itself stands for a period: both must be numbers
        facts = inspect(
            engine, relation, keys=tuple(by), within=(), period=column, numbers=numbers,
            weights=numbers[1:], digits=digits, pivots={},
        ).columns  # fmt: skip
        problems = Problems(f"the quantiles of `{column}`")
        for name in numbers:
            if facts[name].digits is None:
                problems.add(
                    f"`{name}` has no fixed number of decimal digits up to 6, so its values cannot "
                    "be counted exactly. Round it in the source, to cents for money, or declare "
                    "more `digits`."
                )
        problems.raise_if_any()
        scale = {name: facts[name].digits or 0 for name in numbers}
        fixed = {n: sql.to_fixed(n, relation.column(n), scale=scale[n]) for n in numbers}
        size = sql.named(_one() if weight is None else fixed[weight], "w")
        parts = [sql.named(sql.column(key), f"k{j}") for j, key in enumerate(by)]
        rows = sql.select(*parts, sql.named(fixed[column], "x"), size, of=relation.name)
        rows = rows.where(is_value(column, relation))
        if weight is not None:
            rows = rows.where(ex.is_positive(weight))
        return cls(
            engine=engine, relation=relation, column=column, by=tuple(by), rows=rows,
            table=_ranges(engine, rows, len(by)), digits=scale[column],
        )  # fmt: skip

    @property
    def keys(self) -> pd.DataFrame:
        """Values of the groups, one row a group."""
        frame = self.table.select([f"k{j}" for j in range(len(self.by))]).to_pandas()
        if not self.by:
            frame = pd.DataFrame(index=range(self.table.num_rows))
        named: pd.DataFrame = frame.set_axis(list(self.by), axis=1)
        return named

    def find(self, share: float) -> list[Decimal]:
        """Return the quantile of every group."""
        if not 0 <= share <= 1:
            raise DataError(f"`q` is {share}; a quantile is from 0 to 1.")
        exact = Fraction(str(share))
        searches = [
            _Search(low=low, high=high, below=0, need=max(1, ceil(exact * int(total))))
            for low, high, total in zip(
                *(self.table.column(c).to_pylist() for c in ("low", "high", "total")), strict=True
            )
        ]
        bins = max(_FEWEST, min(_MOST, _BINS // max(1, len(searches))))
        widest = max((s.high - s.low for s in searches), default=0)
        rounds = max(1, ceil(widest.bit_length() / (bins.bit_length() - 1)))
        with counting(f"quantile {share} of {self.column}", rounds) as advance:
            while any(s.low < s.high for s in searches):
                before = searches
                searches = self._narrow(before, bins)
                check_unchanged(self.relation)
                if searches == before:
                    raise DataError(
                        f"{self.relation.source.label} has fewer rows than a moment ago: it changes "
                        "while it is read. Run again when it is complete."
                    )
                advance()
        return [Decimal(s.low).scaleb(-self.digits) for s in searches]

    def _narrow(self, searches: Sequence[_Search], bins: int) -> list[_Search]:
        """Count the weight in bins of every open interval, and keep the bin that is looked for."""
        import pyarrow as pa
        from sqlglot import exp

        open_ = [i for i, s in enumerate(searches) if s.low < s.high]
        shifts = [max(0, (s.high - s.low).bit_length() - bins.bit_length() + 1) for s in searches]
        chosen = self.table.select([f"k{j}" for j in range(len(self.by))]).take(open_)
        if not self.by:
            chosen = pa.table({"all": pa.array([True])})
        for name, numbers in (
            ("id", range(len(searches))), ("low", [s.low for s in searches]),
            ("high", [s.high for s in searches]), ("shift", shifts),
        ):  # fmt: skip
            values = list(numbers)
            chosen = chosen.append_column(name, pa.array([values[i] for i in open_], pa.int64()))
        known = self.engine.register(chosen)
        try:
            x, low = sql.column("x", of="r"), sql.column("low", of="g")
            bin_ = exp.BitwiseRightShift(
                this=exp.Paren(this=exp.Sub(this=x, expression=low)),
                expression=exp.cast(sql.column("shift", of="g"), "INT"),
            )
            inside = all_of(
                exp.GTE(this=x.copy(), expression=low.copy()),
                exp.LTE(this=x.copy(), expression=sql.column("high", of="g")),
            )
            same = [equal(f"k{j}", "r", "g") for j in range(len(self.by))]
            binned = (
                exp.Select(expressions=[
                    sql.column("id", of="g"), sql.named(bin_, "b"), sql.column("w", of="r"),
                ])
                .from_(self.rows.subquery("r"))
                .join(exp.alias_(sql.table(known.name), "g", table=True), on=all_of(*same, inside))
            )  # fmt: skip
            total = sql.named(sql.sum_exact(sql.column("w")), "w")
            query = ex.grouped(
                binned, [sql.column("id"), sql.column("b"), total], by=("id", "b"), keep=()
            )
            found = self.engine.run(query).sort_by([("id", "ascending"), ("b", "ascending")])
        finally:
            self.engine.drop(known.name)
        out = list(searches)
        done: set[int] = set()
        for i, b, w in zip(*(found.column(c).to_pylist() for c in ("id", "b", "w")), strict=True):
            if i in done:
                continue
            s = out[i]
            if s.below + int(w) >= s.need:
                low_ = searches[i].low + (b << shifts[i])
                high = min(searches[i].high, low_ + (1 << shifts[i]) - 1)
                out[i] = _Search(low=low_, high=high, below=s.below, need=s.need)
                done.add(i)
            else:
                out[i] = _Search(low=s.low, high=s.high, below=s.below + int(w), need=s.need)
        return out


def _ranges(engine: Engine, rows: exp.Select, n_keys: int) -> pa.Table:
    """Return the smallest and largest value and the weight of every group, sorted."""
    keys = [f"k{j}" for j in range(n_keys)]
    columns = [
        *map(sql.column, keys),
        sql.named(ex.smallest(sql.column("x")), "low"),
        sql.named(ex.largest(sql.column("x")), "high"),
        sql.named(sql.sum_exact(sql.column("w")), "total"),
    ]
    found = engine.run(ex.grouped(rows, columns, by=keys, keep=()))
    # without groups, no rows give one row without values
    if found.num_rows == 0 or found.column("total")[0].as_py() is None:
        raise DataError("no row has a value and a positive weight, so there is no quantile.")
    return found.sort_by([(k, "ascending") for k in keys]) if keys else found


def _one() -> exp.Expression:
    from sqlglot import exp

    return exp.cast(exp.Literal.number(1), "BIGINT")
