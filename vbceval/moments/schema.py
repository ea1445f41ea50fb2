"""What a moments table holds: keys, sums of products, and the digits of every column."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

from vbceval.core.checks import listed
from vbceval.core.errors import DataError

FORMAT = 3
"""Version of the file format; a reader refuses what it does not know."""

READ = (1, 2, FORMAT)
"""Formats that are read: 1 had no histograms and no largest amounts, 1 and 2 no 64-bit sums."""

LARGEST = "largest(|"
"""How the name of a column begins whose numbers are not added but of which the largest is kept."""

Kind = Literal["sum", "sizes", "largest"]
"""What is taken of a product: its sum; the sum of its sizes, whatever their sign; the largest size."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """
    One number over the rows of a cell.

    Parameters
    ----------
    name : str
        Its column in the table of sums.
    factors : tuple of str
        Columns that are multiplied; none counts rows.
    kind : {"sum", "sizes", "largest"}
        What is taken of the product.
    """

    name: str
    factors: tuple[str, ...]
    kind: Kind = "sum"


@dataclass(frozen=True, kw_only=True)
class Schema:
    """
    Names and scales of a moments table.

    Parameters
    ----------
    cluster, period : str
        Key columns; the strata are keys as well.
    strata, outcomes, covariates : tuple of str
        Columns of the source.
    weight, exposure, unit : str or None
        Analysis weight; denominator; what counts people.
    digits : mapping of str to int or None
        Decimal digits kept of every column that is summed. Values times ten to that power are whole
        numbers, and so are their sums. None: plain doubles.
    pivots : mapping of str to float
        What is subtracted from a column of doubles before it is multiplied.
    separate : tuple of str
        Outcomes that are missing in some rows: they have sums of their own, over their rows.
    once_a_period : bool
        Whether a unit has at most one row in a period, so that the people of cells of one period
        can be added.
    histograms : mapping of str to tuple of numbers
        Outcomes with a histogram in every cell, and its edges: whole numbers in the last digit of
        the column, or doubles. Bin k holds the values from edge k - 1 to below edge k; the first and
        the last bin are open.
    dominance : bool
        Whether the largest size of an amount, and the sum of sizes, are kept of every outcome.
    without_squares : tuple of str
        Outcomes whose sum of squares is not kept, in a shared copy.
    """

    cluster: str
    period: str
    strata: tuple[str, ...] = ()
    outcomes: tuple[str, ...]
    covariates: tuple[str, ...] = ()
    weight: str | None = None
    exposure: str | None = None
    unit: str | None = None
    digits: Mapping[str, int | None] = field(default_factory=dict)
    pivots: Mapping[str, float] = field(default_factory=dict)
    separate: tuple[str, ...] = ()
    once_a_period: bool = False
    histograms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    dominance: bool = False
    without_squares: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns that name a cell."""
        return (self.cluster, self.period, *self.strata)

    @property
    def rows(self) -> str:
        """Column with the number of rows of a cell."""
        return "count()"

    @property
    def blocks(self) -> tuple[tuple[str, ...], ...]:
        """Outcomes that share sums, in groups: those without missing values, then each other one."""
        shared = tuple(y for y in self.outcomes if y not in self.separate)
        alone = tuple((y,) for y in self.separate)
        return (shared, *alone) if shared else alone

    @property
    def sum_columns(self) -> tuple[str, ...]:
        """Columns that hold sums, each as often as it is named."""
        found = [term.name for block in self.blocks for term in self.terms(block)]
        if self.separate == self.outcomes:
            found.append(self.rows)
        return tuple(found)

    def alone(self, block: tuple[str, ...]) -> str | None:
        """Return the outcome of a group that has sums of its own; None for the shared group."""
        return block[0] if block[0] in self.separate else None

    def terms(self, block: tuple[str, ...]) -> tuple[Term, ...]:
        """Return the sums of one group of outcomes."""
        alone = self.alone(block)
        w: tuple[str, ...] = () if self.weight is None else (self.weight,)
        found: list[tuple[str, ...]] = [()]
        if w:
            found += [w, w + w]
        found += [(*w, x) for x in (*self.covariates, *block)]
        squares = itertools.combinations_with_replacement(self.covariates, 2)
        found += [(*w, *pair) for pair in squares]
        found += [(*w, x, y) for x in self.covariates for y in block]
        found += [(*w, y, y) for y in block if y not in self.without_squares]
        if self.exposure is not None and (self.exposure,) not in found:
            found.append((self.exposure,))
        terms: list[tuple[tuple[str, ...], Kind]] = [(factors, "sum") for factors in found]
        if self.dominance:
            terms += [((*w, y), kind) for y in block for kind in ("sizes", "largest")]
        return tuple(
            Term(name=_name(factors, alone, kind), factors=factors, kind=kind)
            for factors, kind in terms
        )

    def name(self, block: tuple[str, ...], *factors: str, kind: Kind = "sum") -> str:
        """Return the column that holds a number; factors in any order."""
        return self._names[block, kind, tuple(sorted(factors))]

    @cached_property
    def _names(self) -> dict[tuple[tuple[str, ...], Kind, tuple[str, ...]], str]:
        """Columns of numbers by group of outcomes, kind and factors in sorted order."""
        return {
            (block, term.kind, tuple(sorted(term.factors))): term.name
            for block in self.blocks
            for term in self.terms(block)
        }

    def to_dict(self) -> dict[str, Any]:
        """Return what a file stores."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Schema:
        """
        Return the schema of a file.

        Raises
        ------
        DataError
            If the file is of a later format.
        """
        values = dict(stored)
        version = values.pop("format", None)
        if version not in READ:
            raise DataError(
                f"the moments file has format {version}; this version of vbceval reads formats "
                f"{READ[0]} to {READ[-1]}. Install the version that wrote it (see its `written_by`)."
            )
        if version == 1:
            values |= {"histograms": {}, "dominance": False}
        # what shared copies do without came later; every other field is there
        values.setdefault("without_squares", [])
        if absent := [x.name for x in fields(cls) if x.name not in values]:
            raise KeyError(absent[0])
        for name in ("strata", "outcomes", "covariates", "separate", "without_squares"):
            values[name] = tuple(values[name])
        held = values.pop("histograms")
        return cls(histograms={y: tuple(edges) for y, edges in held.items()}, **values)

    def differences(self, other: Schema) -> list[str]:
        """Say in which fields two schemas differ, so that their sums cannot be added."""
        mine, theirs = self.to_dict(), other.to_dict()
        apart = [k for k in mine if mine[k] != theirs[k] and k != "once_a_period"]
        later = "which a later drop takes from the first, out of its `meta`"
        found = [
            f"`{k}` is {mine[k]!r} and {theirs[k]!r}"
            + (f", {later}" if k in ("digits", "pivots") else "")
            for k in apart if k != "histograms"
        ]  # fmt: skip
        if "histograms" in apart:
            one, two = self.histograms, other.histograms
            names = [y for y in {**one, **two} if one.get(y) != two.get(y)]
            found.append(f"`histograms` of {listed(names)} have other edges, or one has none")
        return found


def histogram_column(outcome: str) -> str:
    """Return the column that holds the histogram of an outcome."""
    return f"histogram({outcome})"


def _name(factors: tuple[str, ...], alone: str | None, kind: Kind) -> str:
    inside = " * ".join(factors)
    where = "" if alone is None else f" where {alone}"
    if not factors:
        return f"count(){where}"
    plain = {
        "sum": f"sum({inside})",
        "sizes": f"sum(|{inside}|)",
        "largest": f"{LARGEST}{inside}|)",
    }
    return f"{plain[kind]}{where}"
