"""The terms that hold for each organization in one performance year, with a record of their use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.core.typing import Array, BoolArray, FloatArray
from vbceval.programs.values import Dated, Parameter, Value, write_years


@dataclass(frozen=True)
class Used:
    """A value that a settlement used: parameter, value, status and source."""

    parameter: str
    value: Value
    variants: tuple[str, ...]
    years: str
    status: str
    source: str


@dataclass(frozen=True)
class Terms:
    """
    Values of the rules for organizations of given variants in one performance year.

    Every look-up is recorded, so that the settlement can say which values it rests on.

    Parameters
    ----------
    program : str
        Name of the program, for messages.
    parameters : mapping of str to Parameter
        The rules.
    performance_year : int
        The year.
    variants : ndarray of str, shape (organizations,)
        Variant (track, risk option) of each organization.
    """

    program: str
    parameters: Mapping[str, Parameter]
    performance_year: int
    variants: Array
    _used: dict[tuple[str, Dated], set[str]] = field(default_factory=dict)

    def _found(
        self, name: str, *, may_be_absent: bool = False
    ) -> Iterator[tuple[BoolArray, Value]]:
        parameter = self.parameters.get(name)
        if parameter is None:
            if may_be_absent:
                return
            raise DesignError(
                f"`{self.program}` declares no parameter `{name}`, which its procedure reads. Add "
                "it to the file of rules."
            )
        without = []
        for variant in np.unique(self.variants):
            dated = parameter.at(str(variant), self.performance_year)
            if dated is None:
                without.append(str(variant))
                continue
            self._used.setdefault((name, dated), set()).add(str(variant))
            yield np.asarray(self.variants == variant, dtype=bool), dated.value
        if without and not may_be_absent:
            raise DesignError(
                f"the rules of `{self.program}` have no `{name}` for {listed(without)} in "
                f"{self.performance_year}, so nothing can be settled. Set it with `with_values`, "
                "or leave these organizations out."
            )

    def number(self, name: str, *, absent: float | None = None) -> FloatArray:
        """
        Return a number for each organization, shape (organizations, 1).

        Parameters
        ----------
        name : str
            Parameter of kind ``rate``, ``usd`` or ``number``.
        absent : float, optional
            Value where the rules have none; without it this is an error.

        Raises
        ------
        DesignError
            If the rules have no value for a variant in the year and `absent` is not given.
        """
        fill = np.nan if absent is None else absent
        out = np.full((len(self.variants), 1), fill, dtype=float)
        for mask, value in self._found(name, may_be_absent=absent is not None):
            out[mask] = value
        return out

    def one(self, name: str, *, absent: float | None = None) -> float:
        """Return the number of the first organization, where the rule is one for all; see `number`."""
        return float(self.number(name, absent=absent)[0, 0])

    def flag(self, name: str, *, absent: bool | None = None) -> BoolArray:
        """Return a flag for each organization, shape (organizations, 1); see `number`."""
        out = np.full((len(self.variants), 1), bool(absent), dtype=bool)
        for mask, value in self._found(name, may_be_absent=absent is not None):
            out[mask] = bool(value)
        return out

    def text(self, name: str, *, absent: str | None = None) -> Array:
        """Return a text for each organization, shape (organizations, 1); see `number`."""
        out = np.full((len(self.variants), 1), absent, dtype=object)
        for mask, value in self._found(name, may_be_absent=absent is not None):
            out[mask] = str(value)
        return out

    def tables(
        self, name: str, *, may_be_absent: bool = False
    ) -> list[tuple[BoolArray, Sequence[Sequence[float]]]]:
        """
        Return the tables or bands of the variants, each with the organizations it holds for.

        Returns
        -------
        list of (ndarray of bool, rows)
            Masks of shape (organizations,) that do not overlap; variants with the same table are
            one entry. Cells are numbers except in columns of text.
        """
        held: dict[Any, BoolArray] = {}
        for mask, value in self._found(name, may_be_absent=may_be_absent):
            held[value] = held[value] | mask if value in held else mask
        return [(mask, rows) for rows, mask in held.items()]

    def table(self, name: str) -> Sequence[Sequence[float]]:
        """Return the one table that holds for every organization."""
        tables = self.tables(name)
        if len(tables) != 1:
            raise DesignError(
                f"`{name}` of `{self.program}` differs between the variants of the organizations, "
                "and this step uses one for all. Settle the variants separately."
            )
        return tables[0][1]

    def used(self) -> tuple[Used, ...]:
        """Return the values looked up so far, each once."""
        return tuple(
            Used(name, d.value, tuple(sorted(who)), write_years(d.years), d.status, d.source)
            for (name, d), who in self._used.items()
        )
