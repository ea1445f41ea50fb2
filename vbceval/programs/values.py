"""Values of a payment rule: for which variants and years, how sure, and where it is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Status = Literal["confirmed", "secondary", "unconfirmed", "user"]
Kind = Literal["rate", "usd", "number", "flag", "text", "bands", "table"]

KINDS: tuple[Kind, ...] = get_args(Kind)

Cell = float | str
Scalar = float | bool | str
Value = Scalar | tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Dated:
    """
    One value of a parameter, and when it holds.

    Attributes
    ----------
    value : float, bool, str, or tuple of tuples
        Rates are fractions; a table is a tuple of rows.
    variants : frozenset of str
        Variants of the program (tracks, risk options) it holds for.
    years : frozenset of int
        Performance years it holds for.
    status : str
        ``confirmed``, ``secondary``, ``unconfirmed``, or ``user`` for a value set by the user.
    source : str
        Rule or document it is read from.
    """

    value: Value
    variants: frozenset[str]
    years: frozenset[int]
    status: Status
    source: str


@dataclass(frozen=True)
class Parameter:
    """
    A quantity that a rule fixes, with its values by variant and performance year.

    Attributes
    ----------
    name : str
        Name in the file of rules.
    what : str
        What it is, a phrase.
    kind : str
        ``rate`` (a fraction), ``usd``, ``number``, ``flag``, ``text``, ``bands`` (pairs of upper
        end and share, ends rising, the last `inf`) or ``table`` (rows of `columns`).
    columns : tuple of str
        Names of the columns of a ``table``.
    low, high : float
        Bounds of a number, or of every number of a table; shares of bands lie between 0 and 1.
    choices : tuple of str
        Allowed texts; any where empty.
    values : tuple of Dated
        The first that covers a variant and year holds, so values set by the user come first.
    """

    name: str
    what: str
    kind: Kind
    columns: tuple[str, ...] = ()
    low: float = 0.0
    high: float = float("inf")
    choices: tuple[str, ...] = ()
    values: tuple[Dated, ...] = ()

    def at(self, variant: str, year: int) -> Dated | None:
        """Return the value that holds for a variant in a performance year, or None."""
        return next((v for v in self.values if variant in v.variants and year in v.years), None)

    def check(self, raw: object) -> tuple[Value | None, str]:
        """Return a raw value of a file in the form it is kept in, or None and what is wrong."""
        if self.kind == "flag":
            return (raw, "") if isinstance(raw, bool) else (None, "must be true or false")
        if self.kind == "text":
            if not isinstance(raw, str) or (self.choices and raw not in self.choices):
                return None, f"must be {' or '.join(self.choices) or 'text'}"
            return raw, ""
        if self.kind in ("bands", "table"):
            return self._check_table(raw)
        if isinstance(raw, bool) or not isinstance(raw, int | float):
            return None, "must be a number"
        wrong = self._outside(raw)
        return (None, wrong) if wrong else (float(raw), "")

    def _outside(self, raw: float) -> str:
        high = (
            min(self.high, 1.0) if self.kind == "rate" and self.high == float("inf") else self.high
        )
        if not self.low <= raw <= high:
            hint = "; rates are fractions" if self.kind == "rate" else ""
            return f"must lie between {self.low:g} and {high:g}{hint}"
        return ""

    def _check_table(self, raw: object) -> tuple[Value | None, str]:
        width = 2 if self.kind == "bands" else len(self.columns)
        names = "upper end, share" if self.kind == "bands" else ", ".join(self.columns)
        shape = f"must be rows of {width} cells ({names})"
        if not isinstance(raw, Sequence) or isinstance(raw, str) or not raw:
            return None, shape
        rows: list[tuple[Cell, ...]] = []
        for row in raw:
            if not isinstance(row, Sequence) or isinstance(row, str) or len(row) != width:
                return None, shape
            if any(
                isinstance(cell, bool) or not isinstance(cell, int | float | str) for cell in row
            ):
                return None, f"{shape}; each cell a number or a text"
            rows.append(tuple(cell if isinstance(cell, str) else float(cell) for cell in row))
        if self.kind == "bands":
            if any(isinstance(cell, str) for row in rows for cell in row):
                return None, f"{shape}; each cell a number"
            ends = [float(row[0]) for row in rows]
            if ends != sorted(set(ends)) or ends[0] <= 0 or ends[-1] != float("inf"):
                return None, "must have rising upper ends above 0, the last one `inf`"
        low, high, checked = self.low, self.high, [cell for row in rows for cell in row]
        if self.kind == "bands":
            low, high, checked = 0.0, 1.0, [row[1] for row in rows]
        if not all(isinstance(cell, str) or low <= cell <= high for cell in checked):
            return None, f"must hold numbers between {low:g} and {high:g}; rates are fractions"
        return tuple(rows), ""


def read_years(raw: object) -> frozenset[int] | None:
    """
    Read years written as a number or as ranges; None where they cannot be read.

    Examples
    --------
    >>> sorted(read_years("2019-2021,2023")), sorted(read_years(2018))
    ([2019, 2020, 2021, 2023], [2018])
    >>> read_years("from 2018") is None
    True
    """
    if isinstance(raw, int) and not isinstance(raw, bool):
        return frozenset({raw})
    if not isinstance(raw, str):
        return None
    years: set[int] = set()
    for part in raw.split(","):
        found = re.fullmatch(r"\s*(\d{4})(?:\s*-\s*(\d{4}))?\s*", part)
        if found is None:
            return None
        first = int(found[1])
        years |= set(range(first, int(found[2] or first) + 1))
    return frozenset(years) or None


def write_years(years: frozenset[int]) -> str:
    """
    Write years as ranges.

    Examples
    --------
    >>> write_years(frozenset({2019, 2020, 2021, 2023}))
    '2019-2021, 2023'
    """
    runs: list[list[int]] = []
    for year in sorted(years):
        if runs and year == runs[-1][-1] + 1:
            runs[-1].append(year)
        else:
            runs.append([year])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)
