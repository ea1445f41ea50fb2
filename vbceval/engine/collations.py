"""Columns with a collation: texts that are spelled apart and that their table takes for one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vbceval.core.checks import listed
from vbceval.core.errors import DataError
from vbceval.engine import sql
from vbceval.engine.relation import Relation

if TYPE_CHECKING:
    from sqlglot import exp


def refuse_collated(relation: Relation) -> None:
    """
    Refuse columns of Spark that have a collation, which their types tell.

    Raises
    ------
    DataError
        If there are such columns.
    """
    found = [x for x, column in relation.columns.items() if " COLLATE " in column.engine_type]
    if found:
        raise DataError(
            f"{listed(found)} of `{relation.source.label}` has a collation, by which values may be "
            "one though they are spelled in several ways, and everything outside Spark tells them "
            "apart. Give each value one spelling, such as lower(...), and read it as "
            "`collate(..., 'UTF8_BINARY')`."
        )


def sample(names: Sequence[str], place: exp.Expression) -> exp.Select:
    """Return the query of a table without rows whose creation says the collations of columns."""
    from sqlglot import exp

    columns = [sql.named(sql.column(name), f"c{j}") for j, name in enumerate(names)]
    return exp.Select(expressions=columns).from_(place).limit(0)


def collated(creation: str, names: Sequence[str]) -> list[str]:
    """
    Return the columns of `sample` that have a collation.

    Examples
    --------
    >>> collated("CREATE TABLE t(c0 VARCHAR COLLATE nocase, c1 VARCHAR);", ["person", "dual"])
    ['person']
    """
    return [names[int(j)] for j in re.findall(r"\bc(\d+) VARCHAR COLLATE ", creation)]


def spelled(name: str) -> exp.Expression:
    """Return a column whose values are equal where they are spelled alike."""
    from sqlglot import exp

    return exp.Collate(this=sql.column(name), expression=exp.to_identifier("C"))


def spellings(names: Sequence[str], place: exp.Expression) -> exp.Select:
    """Return the query that says of each column whether some values are spelled in several ways."""
    from sqlglot import exp

    def count(value: exp.Expression) -> exp.Expression:
        return exp.Count(this=exp.Distinct(expressions=[value]))

    apart = [
        sql.named(exp.NEQ(this=count(sql.column(x)), expression=count(spelled(x))), x)
        for x in names
    ]
    return exp.Select(expressions=apart).from_(place)


def check_spellings(found: Mapping[str, bool], label: str) -> None:
    """
    Refuse columns some of whose values are spelled in several ways.

    The table takes them for one value and files, Arrow and other engines for several, so that
    the number of clusters or people would be another in each, and only its owner knows which is meant.

    Raises
    ------
    DataError
        If there are such columns.
    """
    apart = [name for name, differs in found.items() if differs]
    if apart:
        raise DataError(
            f"{listed(apart)} of `{label}` has a collation, and values that it takes for one though they "
            "are spelled in several ways (as `a` and `A`, without regard to case). Everything outside this "
            "database tells them apart, so that the number of clusters or people would be another. Give "
            "each value one spelling in a view or table of the database, such as lower(...), or read the "
            "spellings as they stand with `COLLATE C`."
        )
