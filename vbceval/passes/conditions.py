"""Small expressions of the passes by unit, in sqlglot."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from vbceval.engine import Relation, sql
from vbceval.moments import expressions as ex

if TYPE_CHECKING:
    from sqlglot import exp


def number(value: float) -> exp.Expression:
    """Return a double that is read digit by digit."""
    from sqlglot import exp

    return exp.cast(exp.Literal.string(repr(float(value))), "DOUBLE")


def is_value(name: str, relation: Relation) -> exp.Expression:
    """Return whether a column has a value: neither NULL nor not a number."""
    from sqlglot import exp

    return exp.Not(this=exp.Paren(this=ex.is_missing(name, relation.column(name))))


def equal(name: str, left: str, right: str, *, other: str | None = None) -> exp.Expression:
    """Return whether a column of one table equals that of another (under its `other` name)."""
    from sqlglot import exp

    second = sql.column(name if other is None else other, of=right)
    return exp.EQ(this=sql.column(name, of=left), expression=second)


def all_of(*conditions: exp.Expression) -> exp.Expression:
    """Return whether all conditions hold; true when there are none."""
    from sqlglot import exp

    if not conditions:
        return exp.true()
    return reduce(lambda a, b: exp.And(this=a, expression=b), map(_one, conditions))


def any_of(*conditions: exp.Expression) -> exp.Expression:
    """Return whether one of the conditions holds; false when there are none."""
    from sqlglot import exp

    if not conditions:
        return exp.false()
    return reduce(lambda a, b: exp.Or(this=a, expression=b), map(_one, conditions))


def _one(condition: exp.Expression) -> exp.Expression:
    from sqlglot import exp

    return exp.Paren(this=condition.copy())
