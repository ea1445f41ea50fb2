"""What an engine knows of a registered table: its columns, their types, and where they came from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DataError

Kind = Literal["integer", "decimal", "float", "text", "boolean", "date", "other"]
Origin = Literal["files", "frame", "table", "spark_frame"]

_KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        **dict.fromkeys(("tinyint", "smallint", "integer", "int", "bigint", "hugeint"), "integer"),
        **dict.fromkeys(
            ("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint", "bignum"), "integer"
        ),
        **dict.fromkeys(("float", "double", "real"), "float"),
        **dict.fromkeys(("varchar", "string", "char", "enum"), "text"),
        **dict.fromkeys(("date", "timestamp", "timestamp_ntz"), "date"),
        # no row has a value, as in a cohort where nobody enters: any number does
        **dict.fromkeys(("null", "void"), "integer"),
        "decimal": "decimal",
        "boolean": "boolean",
    }
)


@dataclass(frozen=True, kw_only=True)
class Column:
    """
    One column of a relation.

    Attributes
    ----------
    name : str
        Name as the engine has it.
    kind : Kind
        Family of the type: integer, decimal, float, text, boolean, date (also time stamps), other.
    engine_type : str
        The engine's own name of the type, in capitals; the labels of an enumeration, which are
        values of the data, are left out.
    precision, scale : int or None
        Digits in all and digits after the point of a decimal; None for every other kind.
    """

    name: str
    kind: Kind
    engine_type: str
    precision: int | None = None
    scale: int | None = None

    @classmethod
    def read(cls, name: str, engine_type: str) -> Column:
        """Read the family of a column from the engine's name of its type.

        Examples
        --------
        >>> Column.read("paid", "DECIMAL(12,2)").scale
        2
        >>> Column.read("spend", "double").kind
        'float'
        """
        # DuckDB writes "NULL" in quotation marks
        engine_type = engine_type.strip().strip('"')
        found = re.match(r"\w+", engine_type)
        word = found.group().lower() if found else ""
        rest = engine_type[len(word) :]
        is_plain = rest == "" or re.fullmatch(r"\(\d+(,\s*\d+)?\)", rest) is not None
        with_zone = word == "timestamp" and rest.upper() == " WITH TIME ZONE"
        if word == "enum":
            return cls(name=name, kind="text", engine_type="ENUM")
        # INTEGER[] and STRUCT(...) begin with a known word and are not numbers
        kind = _KINDS.get(word, "other") if is_plain or with_zone else "other"
        if kind == "decimal":
            digits = re.findall(r"\d+", rest) or ["18", "3"]
            return cls(
                name=name, kind=kind, engine_type=engine_type.upper(),
                precision=int(digits[0]), scale=int(digits[1]),
            )  # fmt: skip
        return cls(name=name, kind=kind, engine_type=engine_type.upper())


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """
    One file that a relation reads, as recorded for provenance.

    Attributes
    ----------
    path : str
        Path as found, or the address that Spark gives.
    size : int or None
        Bytes; None for a file only Spark can see.
    modified : str or None
        Time of the last change, ISO 8601, UTC.
    footer_sha256 : str or None
        SHA-256 of the Parquet footer: schema, place, size and statistics of every block of every
        column. Not a hash of the values: cheap at any size, and it moves when the file is written
        again with other content.
    """

    path: str
    size: int | None = None
    modified: str | None = None
    footer_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """
    Where a relation came from.

    Attributes
    ----------
    origin : Origin
        What was registered.
    label : str
        A name to show.
    files : tuple of SourceFile
        Its files, if it has any.
    derived : str or None
        SHA-256 of what was done to its rows since (query and parameters); None for nothing.
    """

    origin: Origin
    label: str
    files: tuple[SourceFile, ...] = ()
    derived: str | None = None

    @property
    def title(self) -> str:
        """How messages name it."""
        return "the table in memory" if self.origin == "frame" else f"the table {self.label}"


@dataclass(frozen=True, kw_only=True)
class Relation:
    """
    A table that an engine can query.

    Attributes
    ----------
    name : str
        Name of the temporary view or table inside the engine; use it with `sql.table`.
    columns : mapping of str to Column
        Columns in order.
    source : Source
        What was registered.
    """

    name: str
    columns: Mapping[str, Column]
    source: Source

    def column(self, name: str) -> Column:
        """Return one column; raise DataError, naming the closest columns, when there is none."""
        if name not in self.columns:
            raise DataError(missing(name, self.columns))
        return self.columns[name]


def read_columns(types: Iterable[tuple[str, str]]) -> Mapping[str, Column]:
    """Return the columns of (name, engine type) pairs, in order, as a mapping that cannot change."""
    return MappingProxyType({name: Column.read(name, kind) for name, kind in types})


def missing(name: str, columns: Iterable[str]) -> str:
    """Say that a column is not there and which existing ones are closest."""
    names = list(columns)
    lower = {other.lower(): other for other in names}
    close = [lower[found] for found in get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    remedy = f"Did you mean {listed(close)}?" if close else f"The columns are {listed(names)}."
    return f"there is no column `{name}`. {remedy}"


def choose(columns: Iterable[str], wanted: Iterable[str] | None, what: str) -> list[str]:
    """
    Check the names of a table and return those wanted, in order.

    Names that differ only in upper and lower case are refused: SQL does not tell them apart, so
    that one would be read in place of the other without a word.

    Raises
    ------
    DataError
        If a wanted column is missing, or a name cannot be used in SQL.
    """
    names = list(columns)
    problems = Problems(what)
    seen: dict[str, list[str]] = {}
    for name in names:
        seen.setdefault(name.lower(), []).append(name)
    for same in seen.values():
        if len(same) > 1:
            problems.add(
                f"{len(same)} columns have one name up to upper and lower case ({listed(same)}), "
                "and SQL cannot tell them apart. Rename all but one."
            )
    unusable = sum(not name or "\0" in name for name in names)
    if unusable:
        problems.add(
            f"{unusable} column name(s) are empty or hold a NUL character. Give them names."
        )
    chosen = names if wanted is None else list(dict.fromkeys(wanted))
    for name in chosen:
        if name not in names:
            problems.add(missing(name, names))
    if not chosen:
        problems.add("it has no columns to read. Name at least one in `columns`.")
    problems.raise_if_any()
    return chosen
