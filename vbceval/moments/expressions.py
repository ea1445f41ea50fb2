"""Expressions of the moments pass, in sqlglot; both engines write them in their dialect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vbceval.engine import Column, sql

if TYPE_CHECKING:
    from sqlglot import exp


def count_rows() -> exp.Expression:
    """Return the number of rows."""
    from sqlglot import exp

    return exp.Count(this=exp.Star())


def is_present(name: str) -> exp.Expression:
    """Return whether a column is not NULL."""
    from sqlglot import exp

    return exp.Not(this=exp.Is(this=sql.column(name), expression=exp.null()))


def is_missing(name: str, column: Column) -> exp.Expression:
    """Return whether a value is NULL or not a number."""
    from sqlglot import exp

    missing = exp.Is(this=sql.column(name), expression=exp.null())
    if column.kind != "float":
        return missing
    return exp.Or(this=missing, expression=exp.IsNan(this=sql.column(name)))


def is_infinite(name: str, column: Column) -> exp.Expression:
    """Return whether a value is infinite; false for a missing value."""
    from sqlglot import exp

    if column.kind != "float":
        return exp.false()
    size = exp.Abs(this=exp.cast(sql.column(name), "DOUBLE"))
    number = exp.Not(this=exp.IsNan(this=sql.column(name)))
    return exp.And(this=number, expression=exp.GT(this=size, expression=_double(_LAST)))


def is_positive(name: str) -> exp.Expression:
    """Return whether a value is above zero."""
    from sqlglot import exp

    return exp.GT(this=sql.column(name), expression=exp.Literal.number(0))


def value(name: str, column: Column, *, never: float | None = None) -> exp.Expression:
    """Return a column as a double: NULL where it is missing, infinite, or `never`."""
    from sqlglot import exp

    plain = exp.cast(sql.column(name), "DOUBLE")
    conditions = []
    if column.kind == "float":
        conditions.append(sql.is_finite(name))
    if never is not None:
        conditions.append(exp.NEQ(this=plain.copy(), expression=_double(never)))
    if not conditions:
        return plain
    return exp.Case(ifs=[exp.If(this=exp.and_(*conditions), true=plain)])


def shifted(name: str, column: Column, pivot: float) -> exp.Expression:
    """Return a column of doubles less a constant."""
    from sqlglot import exp

    return exp.Sub(this=value(name, column), expression=_double(pivot))


def unshifted(expression: exp.Expression, pivot: float) -> exp.Expression:
    """Return what was less a constant, with it."""
    from sqlglot import exp

    return exp.Add(this=expression, expression=_double(pivot)) if pivot else expression


def position(name: str, edges: Sequence[float], first: int = 0) -> exp.Expression:
    """
    Return how many edges are at or below a value, plus `first`.

    Only comparisons decide, each of which halves the edges that are left: a logarithm would round
    in another way in every engine.

    Parameters
    ----------
    name : str
        Column of the query, BIGINT or DOUBLE.
    edges : sequence
        Increasing; whole numbers for a BIGINT.
    first : int
        Added.
    """
    from sqlglot import exp

    if not edges:
        return exp.Literal.number(first)
    half = len(edges) // 2
    edge = edges[half]
    number = _double(edge) if isinstance(edge, float) else _key(edge)
    below = exp.LT(this=sql.column(name), expression=number)
    return exp.Case(
        ifs=[exp.If(this=below, true=position(name, edges[:half], first))],
        default=position(name, edges[half + 1 :], first + half + 1),
    )


def size(expression: exp.Expression) -> exp.Expression:
    """Return the absolute value."""
    from sqlglot import exp

    return exp.Abs(this=expression)


def whole(expression: exp.Expression) -> exp.Expression:
    """Return an integer as sums of integers are returned, ``decimal128(38, 0)``."""
    from sqlglot import exp

    return exp.cast(expression, "DECIMAL(38, 0)")


def integer(expression: exp.Expression) -> exp.Expression:
    """Return a whole number as a BIGINT."""
    from sqlglot import exp

    return exp.cast(expression.copy(), "BIGINT")


def smallest(expression: exp.Expression) -> exp.Expression:
    """Return the minimum."""
    from sqlglot import exp

    return exp.Min(this=expression)


def largest(expression: exp.Expression) -> exp.Expression:
    """Return the maximum."""
    from sqlglot import exp

    return exp.Max(this=expression)


def mean(expression: exp.Expression) -> exp.Expression:
    """Return the mean."""
    from sqlglot import exp

    return exp.Avg(this=expression)


def count(expression: exp.Expression) -> exp.Expression:
    """Return the number of values that are not missing."""
    from sqlglot import exp

    return exp.Count(this=expression)


def count_people(name: str, condition: exp.Expression | None) -> exp.Expression:
    """Return the number of different values in rows where a condition is true."""
    from sqlglot import exp

    counted: exp.Expression = sql.column(name)
    if condition is not None:
        counted = where(condition, counted)
    return exp.Count(this=exp.Distinct(expressions=[counted]))


def set_of(name: str, first: int) -> exp.Expression:
    """Return whole numbers from `first` as a set of bits in a BIGINT."""
    from sqlglot import exp

    place = exp.Sub(this=sql.column(name), expression=exp.Literal.number(first))
    one = exp.cast(exp.Literal.number(1), "BIGINT")
    return exp.BitwiseOrAgg(this=exp.BitwiseLeftShift(this=one, expression=exp.cast(place, "INT")))


def size_of_set(name: str) -> exp.Expression:
    """Return how many bits are set."""
    from sqlglot import exp

    return exp.Anonymous(this="BIT_COUNT", expressions=[sql.column(name)])


def about_how_many(name: str) -> exp.Expression:
    """Return about how many different values a column has."""
    from sqlglot import exp

    return exp.ApproxDistinct(this=sql.column(name))


def between(name: str, low: int | str | None, high: int | str | None) -> exp.Expression:
    """Return whether a key is from `low` to below `high`; an open end is None."""
    from sqlglot import exp

    above = exp.true() if low is None else exp.GTE(this=sql.column(name), expression=_key(low))
    below = exp.true() if high is None else exp.LT(this=sql.column(name), expression=_key(high))
    return exp.And(this=above, expression=below)


def where(condition: exp.Expression, expression: exp.Expression) -> exp.Expression:
    """Return an expression where a condition is true, and NULL elsewhere."""
    from sqlglot import exp

    return exp.Case(ifs=[exp.If(this=condition.copy(), true=expression)])


def as_double(expression: exp.Expression) -> exp.Expression:
    """Return a number as a double."""
    from sqlglot import exp

    return exp.cast(expression.copy(), "DOUBLE")


def plus(left: exp.Expression, right: exp.Expression) -> exp.Expression:
    """Return the sum of two numbers."""
    from sqlglot import exp

    return exp.Add(this=exp.Paren(this=left.copy()), expression=exp.Paren(this=right.copy()))


def minus(left: exp.Expression, right: exp.Expression) -> exp.Expression:
    """Return the difference of two numbers."""
    from sqlglot import exp

    return exp.Sub(this=exp.Paren(this=left.copy()), expression=exp.Paren(this=right.copy()))


def scaled(expression: exp.Expression, digits: int) -> exp.Expression:
    """Return a double times a power of 2, which is exact."""
    from sqlglot import exp

    if not digits:
        return expression
    return exp.Mul(this=exp.Paren(this=expression.copy()), expression=_double(2.0**digits))


def rounded(expression: exp.Expression) -> exp.Expression:
    """Return the whole number next to a double, as a double."""
    from sqlglot import exp

    return as_double(exp.Floor(this=plus(expression, _double(0.5))))


def multiply(left: exp.Expression, right: exp.Expression) -> exp.Expression:
    """Return the product of doubles."""
    from sqlglot import exp

    return exp.Mul(this=exp.cast(left, "DOUBLE"), expression=exp.cast(right, "DOUBLE"))


def add_up(expression: exp.Expression) -> exp.Expression:
    """Return the sum of doubles."""
    from sqlglot import exp

    return exp.Sum(this=expression)


def grouped(
    rows: exp.Select, columns: Sequence[exp.Expression], *, by: Sequence[str],
    keep: Sequence[exp.Expression],
) -> exp.Select:  # fmt: skip
    """Return columns computed over groups of the rows of a query that meet all conditions."""
    from sqlglot import exp

    # nobody else holds these expressions, and copying hundreds of edges takes a second
    out = exp.Select(expressions=list(columns)).from_(rows.subquery("r", copy=False), copy=False)
    for condition in keep:
        out = out.where(condition, copy=False)
    return out.group_by(*[sql.column(key) for key in by], copy=False)


_LAST = 1.7976931348623157e308


def _key(value: int | str) -> exp.Expression:
    from sqlglot import exp

    if isinstance(value, str):
        return exp.Literal.string(value)
    return exp.Literal.number(value)


def _double(number: float) -> exp.Expression:
    from sqlglot import exp

    return exp.cast(exp.Literal.string(repr(float(number))), "DOUBLE")
