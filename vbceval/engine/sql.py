"""
SQL written once for both engines: small builders of sqlglot expressions.

Nothing here or above pastes text into a query: names become quoted identifiers and values become
literals, so a column's name cannot change what a query does. Two operations have no common
spelling (an exact sum, a wide product); they are placeholders until `render` writes them for a
dialect, so use `render`, not the expression's own ``sql``.

Numbers are exact integers. A value of a column is taken times ``10 ** scale`` (cents for money at
scale 2) as a BIGINT; products and sums are integers of 38 digits. Integer addition does not depend on
order, so the same rows give the same bits at any number of threads and in both engines, and every
sum comes back as Arrow ``decimal128(38, 0)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbceval.core.errors import DataError
from vbceval.engine.relation import Column

if TYPE_CHECKING:
    from sqlglot import exp

LARGEST_SCALE = 12
"""Most decimal digits of a fixed-point column."""

LARGEST_EXACT_DOUBLE = 2.0**53
"""Below it every whole number is a double."""

MOST_DIGITS = 18
"""Most digits of a fixed-point value, before and after the point."""

# Up to 2**49 the spacing of doubles leaves a quarter of a unit: the integer is still certain.
_LARGEST_DOUBLE = 2**49
# A decimal number stored as a double and scaled is off by at most 2**-52 of itself.
_ROUNDING = 2.0**-51
_SUM, _WIDE = "VBCEVAL_EXACT_SUM", "VBCEVAL_WIDE_PRODUCT"


def column(name: str, of: str | None = None) -> exp.Column:
    """Return a quoted column, of a table or alias when `of` is given."""
    from sqlglot import exp

    return exp.column(
        exp.to_identifier(name, quoted=True),
        table=None if of is None else exp.to_identifier(of, quoted=True),
    )


def table(name: str) -> exp.Table:
    """Return a quoted table or view, by its one name."""
    from sqlglot import exp

    return exp.Table(this=exp.to_identifier(name, quoted=True))


def named(expression: exp.Expression, name: str) -> exp.Alias:
    """Return an expression under a quoted name, for the list of a select."""
    from sqlglot import exp

    return exp.Alias(this=expression, alias=exp.to_identifier(name, quoted=True))


def select(*expressions: exp.Expression, of: str) -> exp.Select:
    """Return a select from a registered or created table; add ``.where`` and ``.group_by``."""
    from sqlglot import exp

    return exp.Select(expressions=list(expressions)).from_(table(of))


def to_fixed(name: str, kind: Column, *, scale: int, checked: bool = False) -> exp.Expression:
    """
    Return a column times ``10 ** scale`` as an exact BIGINT.

    It is NULL where the column is missing and where `overflows` is true, and rounded where
    `loses_digits` is true: count both in the same query and refuse the column unless both are zero.

    Parameters
    ----------
    name : str
        Column of the query.
    kind : Column
        What the relation says of it: numbers of different kinds are scaled differently.
    scale : int
        Decimal digits kept, 0 to 12.
    checked : bool, default False
        Whether a scan has found that no value is NaN or overflows: then none is compared again, and
        one that is there nevertheless stops the query.

    Raises
    ------
    DataError
        If the column holds no numbers, or `scale` is out of range.
    """
    from sqlglot import exp

    _check(name, kind, scale)
    if kind.kind == "float":
        scaled = exp.Floor(
            this=exp.Add(this=_scaled_double(name, scale), expression=_double("0.5"))
        )
        fixed: exp.Expression = exp.cast(scaled, "BIGINT")
    elif kind.kind == "decimal":
        _, (precision, digits) = _digits(kind)
        exact = digits <= scale and precision + scale + 1 <= 2 * MOST_DIGITS
        # decimals must be narrow before they are multiplied: Spark rounds a product past 38 digits
        narrow = column(name) if exact else exp.cast(column(name), f"DECIMAL(19, {scale})")
        # DuckDB holds a product of narrow decimals in 18 digits, and refuses one more: where it may
        # have more, the power is wide
        wide = precision + scale + 1 > MOST_DIGITS
        power = exp.cast(
            exp.Literal.number(10**scale), f"DECIMAL({MOST_DIGITS + 1 if wide else scale + 1}, 0)"
        )
        fixed = exp.cast(exp.Mul(this=narrow, expression=power), "BIGINT")
    else:
        power = exp.cast(exp.Literal.number(10**scale), "BIGINT")
        fixed = exp.Mul(this=exp.cast(column(name), "BIGINT"), expression=power)
    held = None if checked else _held(name, kind, scale)
    if held is None:
        return fixed
    return exp.Case(ifs=[exp.If(this=held, true=fixed)])


def loses_digits(name: str, kind: Column, *, scale: int, tolerance: float = 1e-6) -> exp.Expression:
    """
    Return whether a value has digits beyond `scale`; NULL or false for a missing value.

    A double counts as exact when it is within `tolerance` units of the last digit kept, plus the
    rounding that storing a decimal number as a double costs. Columns of single precision mostly
    fail this: they do not hold cents.

    Parameters
    ----------
    name, kind, scale
        As in `to_fixed`.
    tolerance : float, default 1e-6
        In units of the last digit kept, for doubles; decimals and integers are compared exactly.
    """
    from sqlglot import exp

    _check(name, kind, scale)
    if not 0 <= tolerance < 0.25:
        raise DataError(f"`tolerance` is {tolerance}; it must be from 0 to below 0.25 of a unit.")
    if kind.kind == "float":
        beyond = exp.GT(
            this=beyond_digits(name, kind, scale=scale), expression=_double(repr(tolerance))
        )
        held = _held(name, kind, scale)
        return exp.Case(ifs=[exp.If(this=held, true=beyond)], default=exp.false())
    if kind.kind == "decimal":
        whole, (_, digits) = _digits(kind)
        if digits > scale:
            rounded = exp.cast(column(name), f"DECIMAL({min(whole + 1 + scale, 38)}, {scale})")
            return exp.NEQ(this=rounded, expression=column(name))
    return exp.false()


def beyond_digits(name: str, kind: Column, *, scale: int) -> exp.Expression:
    """
    Return how far a double is from a number of `scale` digits, in units of the last one.

    What storing a decimal number as a double costs is taken off, so a number of cents is at most 0
    away. NULL for a value that `overflows`, and for a missing one.
    """
    from sqlglot import exp

    scaled = _scaled_double(name, scale)
    near = exp.Floor(this=exp.Add(this=scaled.copy(), expression=_double("0.5")))
    gap = exp.Abs(this=exp.Sub(this=scaled.copy(), expression=exp.cast(near, "DOUBLE")))
    stored = exp.Mul(this=_double(repr(_ROUNDING)), expression=exp.Abs(this=scaled))
    held = _held(name, kind, scale)
    return exp.Case(ifs=[exp.If(this=held, true=exp.Sub(this=gap, expression=stored))])


def overflows(name: str, kind: Column, *, scale: int) -> exp.Expression:
    """
    Return whether a value cannot be held at `scale`; false for a missing value, NaN among them.

    True for infinity, for doubles whose scaled value passes 2**49 (beyond it a double has
    no digit to spare), and for decimals and integers whose scaled value has more than 18 digits.
    """
    from sqlglot import exp

    _check(name, kind, scale)
    held = _held(name, kind, scale)
    if held is None:
        return exp.false()
    present = exp.Not(this=exp.Is(this=column(name), expression=exp.null()))
    over = exp.And(this=present, expression=exp.Not(this=exp.Paren(this=held)))
    if kind.kind != "float":
        return over
    return exp.And(this=over, expression=exp.Not(this=exp.IsNan(this=column(name))))


def is_finite(name: str) -> exp.Expression:
    """Return whether a float is neither NaN nor infinite; NULL for NULL."""
    from sqlglot import exp

    # both engines order NaN above every number
    size = exp.Abs(this=exp.cast(column(name), "DOUBLE"))
    return exp.LTE(this=size, expression=_double("1.7976931348623157e308"))


def product(left: exp.Expression, right: exp.Expression, *, wide: bool = True) -> exp.Expression:
    """
    Return the exact product of two BIGINT expressions.

    Parameters
    ----------
    left, right : Expression
        Integers, such as from `to_fixed`.
    wide : bool, default True
        Multiply as integers of 38 digits. False multiplies as BIGINT, which is cheaper, and a
        product beyond 9.2e18 stops the query with a DataError.
    """
    from sqlglot import exp

    if wide:
        return exp.Anonymous(this=_WIDE, expressions=[left.copy(), right.copy()])
    return exp.Mul(
        this=exp.cast(left.copy(), "BIGINT"), expression=exp.cast(right.copy(), "BIGINT")
    )


def sum_exact(expression: exp.Expression, *, bound: float = float("inf")) -> exp.Expression:
    """
    Return the exact sum of an integer expression, ``decimal128(38, 0)``; NULL over no values.

    Parameters
    ----------
    expression : Expression
        Integers.
    bound : float, optional
        What no sum of sizes passes. Below 2**53 every partial sum is a whole number that a double
        holds, so doubles add up exactly, in any order, at half the memory.
    """
    from sqlglot import exp

    if bound < LARGEST_EXACT_DOUBLE:
        total = exp.Sum(this=exp.cast(expression.copy(), "DOUBLE"))
        return exp.cast(total, "DECIMAL(38, 0)")
    return exp.Anonymous(this=_SUM, expressions=[expression.copy()])


def count_if(condition: exp.Expression) -> exp.Expression:
    """Return the number of rows where a condition is true, BIGINT."""
    from sqlglot import exp

    one = exp.Literal.number(1)
    return exp.Count(this=exp.Case(ifs=[exp.If(this=condition.copy(), true=one)]))


def count_distinct(name: str) -> exp.Expression:
    """Return the number of different values that are not missing, BIGINT."""
    from sqlglot import exp

    return exp.Count(this=exp.Distinct(expressions=[column(name)]))


def render(expression: exp.Expression, dialect: str) -> str:
    """
    Write an expression in the SQL of a dialect.

    Parameters
    ----------
    expression : Expression
        Built with sqlglot; not changed.
    dialect : {"duckdb", "spark"}
        Dialect of the engine.
    """
    from sqlglot import exp

    def lower(node: exp.Expression) -> exp.Expression:
        if not isinstance(node, exp.Anonymous) or node.this not in (_SUM, _WIDE):
            return node
        if node.this == _WIDE:
            first, second = (
                exp.cast(part.transform(lower), _wide(part, dialect)) for part in node.expressions
            )
            return exp.Mul(this=first, expression=second)
        inner = node.expressions[0].transform(lower)
        # Spark adds BIGINT as BIGINT, which overflows
        added = exp.cast(inner, "DECIMAL(38, 0)") if dialect == "spark" else inner
        return exp.cast(exp.Sum(this=added), "DECIMAL(38, 0)")

    return expression.transform(lower).sql(dialect=dialect)


def _wide(factor: exp.Expression, dialect: str) -> str:
    """Return the type in which a factor is multiplied, so that the product has up to 38 digits."""
    from sqlglot import exp

    # DuckDB adds 128-bit integers faster than decimals; Spark has only decimals beyond BIGINT
    if dialect != "spark":
        return "INT128"
    is_product = isinstance(factor, exp.Anonymous) and factor.this == _WIDE
    return "DECIMAL(38, 0)" if is_product else "DECIMAL(19, 0)"


def _check(name: str, kind: Column, scale: int) -> None:
    if kind.kind not in ("integer", "decimal", "float", "boolean"):
        raise DataError(
            f"`{name}` holds {kind.engine_type}, which is not a number, so it has no exact sum. "
            "Convert it when the table is made, or name another column."
        )
    if not 0 <= scale <= LARGEST_SCALE:
        raise DataError(
            f"scale {scale} of `{name}` cannot be used. Give the decimal digits to keep, 0 to "
            f"{LARGEST_SCALE}: 2 for cents."
        )


def _digits(kind: Column) -> tuple[int, tuple[int, int]]:
    """Return a decimal's digits before the point, and (precision, scale)."""
    if kind.precision is None or kind.scale is None:
        raise DataError(f"`{kind.name}` is a decimal without its digits; read it with Column.read.")
    return kind.precision - kind.scale, (kind.precision, kind.scale)


def _held(name: str, kind: Column, scale: int) -> exp.Expression | None:
    """Return the condition under which a value fits at `scale`; None when every value does."""
    from sqlglot import exp

    if kind.kind == "float":
        size = exp.Abs(this=_scaled_double(name, scale))
        return exp.LTE(this=size, expression=_double(repr(float(_LARGEST_DOUBLE))))
    if kind.kind == "boolean":
        return None
    if kind.kind == "decimal" and _digits(kind)[0] + scale <= MOST_DIGITS:
        return None
    if kind.kind == "integer" and _INTEGER_DIGITS.get(kind.engine_type, 39) + scale <= MOST_DIGITS:
        return None
    limit = exp.Literal.number(10 ** (MOST_DIGITS - scale) - 1)
    return exp.And(
        this=exp.GTE(this=column(name), expression=exp.Neg(this=limit)),
        expression=exp.LTE(this=column(name), expression=limit.copy()),
    )


_INTEGER_DIGITS = {
    "TINYINT": 3, "SMALLINT": 5, "INTEGER": 10, "INT": 10, "UTINYINT": 3, "USMALLINT": 5,
    "UINTEGER": 10,
}  # fmt: skip


def _scaled_double(name: str, scale: int) -> exp.Expression:
    from sqlglot import exp

    # cast before multiplying: REAL times a number is single precision in DuckDB
    return exp.Mul(this=exp.cast(column(name), "DOUBLE"), expression=_double(repr(10.0**scale)))


def _double(digits: str) -> exp.Expression:
    from sqlglot import exp

    return exp.cast(exp.Literal.string(digits), "DOUBLE")
