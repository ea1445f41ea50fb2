"""Column names of the MSSP results files, read from `mssp_layout.toml`."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

from vbceval.core.errors import DataError

EnrollmentType = Literal["esrd", "disabled", "aged_dual", "aged_non_dual"]
Reference = Literal["BY1", "BY2", "BY3", "PY"]
Measure = Literal["per_capita", "hcc_score", "person_years"]

ENROLLMENT_TYPES: tuple[EnrollmentType, ...] = get_args(EnrollmentType)
REFERENCES: tuple[Reference, ...] = get_args(Reference)
MEASURES: tuple[Measure, ...] = get_args(Measure)

FIRST_YEAR = 2013
"""First performance year with a results file."""


class Cell(NamedTuple):
    """Which measure, enrollment type and reference year a column holds."""

    measure: Measure
    enrollment_type: EnrollmentType
    reference: Reference


@dataclass(frozen=True)
class Column:
    """How one column of the results is spelled and read.

    Attributes
    ----------
    name : str
        Name in the frames of `MSSPResults`.
    codes : tuple of str
        Accepted spellings, lower case without punctuation; the first present is used.
    kind : str
        ``text``, ``date``, ``year``, ``flag``, ``nonzero`` (a flag where any number but 0 says
        yes), ``number``, ``money``, ``person_years``, ``percent`` or ``rate``.
    since : int or None
        First performance year whose file must have the column; None where it may be absent.
    low, high : float
        Bounds of a non-zero ``percent``, as a fraction.
    """

    name: str
    codes: tuple[str, ...]
    kind: str
    since: int | None = None
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True)
class Layout:
    """Every known column of the results files."""

    aliases: Mapping[str, str]
    columns: Mapping[str, Column]
    cells: Mapping[str, Cell]
    tracks: Mapping[str, tuple[str, ...]]
    families: Mapping[str, tuple[str, ...]]
    rates: Mapping[str, tuple[str, ...]]
    states: Mapping[str, str]

    def code_of(self, header: str) -> str:
        """Return the code of a printed header, long labels replaced by the short ones."""
        code = normalise(header)
        return normalise(self.aliases[code]) if code in self.aliases else code

    def label_of(self, header: str) -> str:
        """Return the lower-case name with underscores that a header gets in the wide table.

        Examples
        --------
        >>> layout().label_of("QualityID_134_eCQM-CQM")
        'qualityid_134_ecqm_cqm'
        """
        printed = self.aliases.get(normalise(header), header)
        return re.sub(r"[^a-z0-9]+", "_", printed.lower()).strip("_")

    def find(self, name: str, present: Sequence[str]) -> str | None:
        """Return the code under which column `name` is `present`, or None."""
        return next((code for code in self.columns[name].codes if code in present), None)

    def missing(self, present: Sequence[str], performance_year: int) -> list[str]:
        """Return the columns that the file of a year must have and has not, as CMS spells them."""
        absent = [
            column.codes[0]
            for column in self.columns.values()
            if column.since is not None
            and performance_year >= column.since
            and self.find(column.name, present) is None
        ]
        if performance_year > FIRST_YEAR:
            held = {self.cells[code] for code in present if code in self.cells}
            absent += [
                f"{cell.measure} of {cell.enrollment_type} in {cell.reference}"
                for cell in _required_cells()
                if cell not in held
            ]
        return absent


def normalise(header: str) -> str:
    """Return a header in lower case with only its letters and digits.

    Examples
    --------
    >>> normalise("N_AB_Year_AGED_NonDual_BY3"), normalise(" n_ab_year_aged_nondual_by3")
    ('nabyearagednondualby3', 'nabyearagednondualby3')
    """
    return re.sub(r"[^a-z0-9]", "", header.lower())


@functools.lru_cache(maxsize=1)
def layout() -> Layout:
    """Return the layout table that comes with the package."""
    text = resources.files("vbceval.data").joinpath("mssp_layout.toml").read_text("utf-8")
    table = tomllib.loads(text)
    columns = {
        name: Column(name=name, **{**entry, "codes": tuple(entry["codes"])})
        for name, entry in table["columns"].items()
    }
    for column in columns.values():
        # The promise of the file: a value cannot be both a fraction and a percent.
        if column.kind == "percent" and column.low <= column.high / 100:
            raise DataError(f"layout column `{column.name}`: `low` must exceed `high` / 100.")
    return Layout(
        aliases=MappingProxyType(dict(table["aliases"])),
        columns=MappingProxyType(columns),
        cells=MappingProxyType(_cells(table["stratified"], table["strata"])),
        tracks=_tuples(table["tracks"]),
        families=_tuples(table["families"]),
        rates=_tuples(table["rates"]),
        states=MappingProxyType(dict(table["states"])),
    )


def _tuples(table: Mapping[str, list[str]]) -> Mapping[str, tuple[str, ...]]:
    return MappingProxyType({key: tuple(values) for key, values in table.items()})


def _cells(
    measures: Mapping[Measure, Mapping[str, str]],
    strata: Mapping[EnrollmentType, list[str]],
) -> dict[str, Cell]:
    codes: dict[str, Cell] = {}
    for measure, entry in measures.items():
        for stratum, spellings in strata.items():
            for spelling in spellings:
                stem = entry["prefix"] + spelling
                for reference in REFERENCES:
                    codes[stem + reference.lower()] = Cell(measure, stratum, reference)
                # 2014 prints the performance year without a suffix
                codes[stem] = Cell(measure, stratum, "PY")
    return codes


def _required_cells() -> list[Cell]:
    # Person-years are published for the last benchmark year and the performance year only.
    return [
        Cell(measure, stratum, reference)
        for measure in MEASURES
        for reference in (("BY3", "PY") if measure == "person_years" else REFERENCES)
        for stratum in ENROLLMENT_TYPES
    ]
