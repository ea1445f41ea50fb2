"""A payment program: its rules as data, and the settlement they lead to."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DesignError
from vbceval.programs import procedures
from vbceval.programs.inputs import Input, Inputs, read_inputs, report_rows
from vbceval.programs.settlement import Settlement, Worksheet
from vbceval.programs.terms import Terms
from vbceval.programs.values import Dated, Parameter, read_years, write_years

Procedure = Callable[[Terms, Inputs], Worksheet]


@dataclass(frozen=True)
class Variant:
    """A track, level or option of a program: its name, title, and performance years."""

    name: str
    title: str
    years: frozenset[int]


@dataclass(frozen=True)
class Example:
    """
    A worked example: a table of organizations and what some lines come to.

    Attributes
    ----------
    title : str
        What it shows.
    performance_year : int
        The year.
    table : mapping of str to value or list
        Columns; a single value stands for one organization.
    gives : mapping of str to number or list
        Values of lines of the settlement.
    """

    title: str
    performance_year: int
    table: Mapping[str, object]
    gives: Mapping[str, object]

    def frame(self) -> pd.DataFrame:
        """Return the table, one row an organization."""
        columns = {k: v if isinstance(v, list) else [v] for k, v in self.table.items()}
        return pd.DataFrame(columns)


@dataclass(frozen=True)
class Program:
    """
    Rules of a payment program by variant and performance year.

    Programs come from files (`vbceval.programs.get`). `settle` turns a table of organizations
    into a `Settlement`; the procedure named by the file composes the steps in the program's order.

    Attributes
    ----------
    name, title, authority : str
        Name, title, and the law or agreement it rests on.
    procedure : str
        Module of `vbceval.programs.procedures` that settles it.
    organization : str
        Column of names or identifiers of organizations.
    variant_column : str or None
        Column that holds the variant; None for a program with one variant.
    years : frozenset of int
        Performance years.
    variants : mapping of str to Variant
        Tracks, levels or options.
    inputs : mapping of str to Input
        Columns that a settlement reads.
    parameters : mapping of str to Parameter
        The rules.
    verified : str
        Number cited outside this project that a worked example settles to; empty where there is
        none, and the program is then unverified.
    notes : tuple of str
        What is not modelled, sentences.
    examples : tuple of Example
        Worked examples, run by the tests.
    """

    name: str
    title: str
    authority: str
    procedure: str
    organization: str
    variant_column: str | None
    years: frozenset[int]
    variants: Mapping[str, Variant]
    inputs: Mapping[str, Input]
    parameters: Mapping[str, Parameter]
    verified: str = ""
    notes: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()

    def open_in(self, performance_year: int) -> list[str]:
        """Return the variants that exist in a performance year."""
        return [v.name for v in self.variants.values() if performance_year in v.years]

    def terms(self, performance_year: int, variants: ArrayLike) -> Terms:
        """
        Return the terms of organizations with the given variants in a performance year.

        Raises
        ------
        DesignError
            If the program has no such performance year.
        """
        if performance_year not in self.years:
            raise DesignError(
                f"`{self.name}` has no performance year {performance_year}; its rules cover "
                f"{write_years(self.years)}. Give one of these as `performance_year`."
            )
        held = np.asarray(variants, dtype=object)
        return Terms(self.name, self.parameters, performance_year, held)

    def settle(
        self,
        frame: pd.DataFrame,
        *,
        performance_year: int,
        draws: Mapping[str, ArrayLike] | None = None,
    ) -> Settlement:
        """
        Settle organizations in one performance year.

        Parameters
        ----------
        frame : DataFrame
            One row an organization; columns as declared in `inputs`.
        performance_year : int
            The year whose rules hold.
        draws : mapping of str to array_like, shape (organizations, draws), optional
            Joint draws of some inputs, such as expenditures; thresholds and caps act on each draw.

        Returns
        -------
        Settlement

        Raises
        ------
        DataError
            Listing everything that is wrong with the table or the draws.
        DesignError
            If the program has no such performance year, or a rule is missing for a variant.
        """
        self.terms(performance_year, [])
        inputs = read_inputs(
            frame,
            self.inputs,
            organization=self.organization,
            variant=self.variant_column,
            variants=list(self.variants),
            available=self.open_in(performance_year),
            performance_year=performance_year,
            draws=draws,
            what=f"the table for `{self.name}` {performance_year}",
        )
        settle: Procedure = importlib.import_module(
            f"{procedures.__name__}.{self.procedure}"
        ).settle
        terms = self.terms(performance_year, inputs.variants)
        book = settle(terms, inputs)
        settled = Settlement(
            program=self.name,
            title=self.title,
            performance_year=performance_year,
            organizations=inputs.organizations,
            variants=inputs.variants,
            lines=tuple(book.lines),
            final=book.final,
            used=terms.used(),
            notes=self.notes,
            assumed=tuple(book.assumed),
        )
        unknown = np.isnan(settled.payment).reshape(len(settled), -1).any(axis=1)
        found = Problems(f"the table for `{self.name}` {performance_year}")
        report_rows(
            found,
            unknown,
            settled.organizations,
            f"have no `{settled.final}`, since a column that the procedure `{self.procedure}` reads "
            "is missing or not declared.",
            "Declare it under `inputs` and fill it in.",
        )
        found.raise_if_any()
        return settled

    def with_values(
        self,
        *,
        variants: Iterable[str] | None = None,
        years: str | int | None = None,
        source: str = "set by the user",
        **values: object,
    ) -> Program:
        """
        Return the program with some values replaced, for a replay under other rules.

        Parameters
        ----------
        variants : iterable of str, optional
            Variants for which the values hold; default all.
        years : str or int, optional
            Performance years, such as ``"2019-2021"``; default all.
        source : str
            Where the values come from.
        **values
            Parameter names and values, checked like those of a file.

        Raises
        ------
        DesignError
            Listing unknown parameters, variants and years, and values of the wrong type.

        Examples
        --------
        >>> from vbceval.programs import get
        >>> get("mssp").with_values(sequestration=0.0, years=2018).value("sequestration", "TRACK_1", 2018).value
        0.0
        """
        found = Problems(f"these values of `{self.name}`", DesignError)
        names = [variants] if isinstance(variants, str) else list(variants or self.variants)
        unknown = [name for name in names if name not in self.variants]
        if unknown:
            found.add(f"{listed(unknown)} are no variants. Use {listed(self.variants, most=20)}.")
        held = self.years if years is None else read_years(years)
        if held is None or not held <= self.years:
            found.add(
                f"years `{years}` are not within {write_years(self.years)}. Write them like "
                '`2018` or `"2019-2021"`.'
            )
        if not values:
            found.add("no value is given. Name a parameter and its value.")
        parameters = dict(self.parameters)
        for name, raw in values.items():
            if name not in parameters:
                found.add(f"`{name}` is no parameter. Use {listed(self.parameters, most=40)}.")
                continue
            value, wrong = parameters[name].check(raw)
            if wrong or value is None:
                found.add(f"`{name}` {wrong}; it is {raw!r}.")
                continue
            dated = Dated(value, frozenset(names), held or frozenset(), "user", source)
            parameters[name] = dataclasses.replace(
                parameters[name], values=(dated, *parameters[name].values)
            )
        found.raise_if_any()
        # what was verified, and the examples, are of the rules as they stand
        return dataclasses.replace(self, parameters=parameters, verified="", examples=())

    def value(self, parameter: str, variant: str, performance_year: int) -> Dated:
        """
        Return the value of a parameter for a variant and year, with status and source.

        Raises
        ------
        DesignError
            If there is no such parameter or the rules have no value there.
        """
        if parameter not in self.parameters:
            raise DesignError(
                f"`{self.name}` has no parameter `{parameter}`. It has "
                f"{listed(self.parameters, most=40)}."
            )
        dated = self.parameters[parameter].at(variant, performance_year)
        if dated is None:
            raise DesignError(
                f"`{self.name}` has no `{parameter}` for `{variant}` in {performance_year}."
            )
        return dated

    def table(self) -> pd.DataFrame:
        """Return every value of the rules: ``parameter variants years value status source``."""
        rows = [
            {
                "parameter": parameter.name,
                "what": parameter.what,
                "variants": self.said(dated.variants),
                "years": write_years(self.in_force(dated)),
                "value": dated.value,
                "status": dated.status,
                "source": dated.source,
            }
            for parameter in self.parameters.values()
            for dated in parameter.values
        ]
        return pd.DataFrame(rows)

    def in_force(self, dated: Dated) -> frozenset[int]:
        """Return the years in which a value holds for a variant that exists."""
        exist = (self.variants[name].years for name in dated.variants)
        return dated.years & frozenset().union(*exist)

    def said(self, variants: Iterable[str]) -> str:
        """Write variants in the order of the program; all of them as ``all``."""
        held = set(variants)
        if held == set(self.variants):
            return "all"
        return ", ".join(name for name in self.variants if name in held)


def known_procedures() -> list[str]:
    """Return the names of the settlement procedures."""
    return sorted(found.name for found in pkgutil.iter_modules(procedures.__path__))
