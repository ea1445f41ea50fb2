"""The table that a settlement reads, checked at the door, with draws in place of some columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from vbceval.core.checks import Problems, listed, text_rows
from vbceval.core.typing import Array, BoolArray, FloatArray

InputKind = Literal["usd", "rate", "people", "number", "year", "flag", "text"]
_ISO_DATE = r"\d{4}-\d{2}-\d{2}([T ].*)?"
INPUT_KINDS: tuple[InputKind, ...] = get_args(InputKind)


@dataclass(frozen=True)
class Input:
    """
    A column that a settlement reads.

    Attributes
    ----------
    name : str
        Name of the column.
    what : str
        What it holds, a phrase.
    kind : str
        ``usd``, ``rate`` (a fraction), ``people`` (people, person-years or episodes), ``number``,
        ``year`` (a calendar year, or a date whose year is read), ``flag`` or ``text``.
    required : bool
        Whether the column must be there and filled in every row.
    above : float or None
        The value must be larger than this.
    low, high : float
        Bounds of a number.
    choices : tuple of str
        Allowed texts; any where empty.
    """

    name: str
    what: str
    kind: InputKind
    required: bool = True
    above: float | None = None
    low: float = float("-inf")
    high: float = float("inf")
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """
    Columns of a checked table, ready for arithmetic over organizations and draws.

    Attributes
    ----------
    organizations : ndarray of str, shape (organizations,)
        Names or identifiers of organizations.
    variants : ndarray of str, shape (organizations,)
        Variant (track, risk option) of each.
    """

    organizations: Array
    variants: Array
    _numbers: Mapping[str, FloatArray] = field(repr=False)
    _texts: Mapping[str, Array] = field(repr=False)

    def __contains__(self, name: str) -> bool:
        return name in self._numbers or name in self._texts

    def number(self, name: str, *, absent: float = np.nan) -> FloatArray:
        """
        Return a column of numbers, shape (organizations, 1) or (organizations, draws).

        Parameters
        ----------
        name : str
            A declared input.
        absent : float
            Put where an optional column, or a cell of it, is missing.
        """
        if name not in self._numbers:
            return np.full((len(self.organizations), 1), absent)
        values = self._numbers[name]
        return values if np.isnan(absent) else np.where(np.isnan(values), absent, values)

    def flag(self, name: str, *, absent: bool = False) -> BoolArray:
        """Return a column of flags, shape (organizations, 1); see `number`."""
        return np.asarray(self.number(name, absent=float(absent)) > 0)

    def known(self, name: str) -> BoolArray:
        """Return which organizations have the value, shape (organizations, 1)."""
        if name in self._texts:
            return np.asarray(pd.notna(self._texts[name]))
        return np.asarray(~np.isnan(self.number(name)).any(axis=1, keepdims=True))

    def text(self, name: str) -> Array:
        """Return a column of texts, shape (organizations, 1); None where missing."""
        if name not in self._texts:
            return np.full((len(self.organizations), 1), None, dtype=object)
        return self._texts[name]


def read_inputs(
    frame: pd.DataFrame,
    declared: Mapping[str, Input],
    *,
    organization: str,
    variant: str | None,
    variants: Sequence[str],
    available: Sequence[str],
    performance_year: int,
    draws: Mapping[str, ArrayLike] | None = None,
    what: str = "this table",
) -> Inputs:
    """
    Check a table against declared inputs and return its columns as arrays.

    Parameters
    ----------
    frame : DataFrame
        One row an organization.
    declared : mapping of str to Input
        Inputs of the program.
    organization : str
        Column of names; the index where the table does not have it.
    variant : str or None
        Column of variants; None for a program with one variant.
    variants, available : sequence of str
        Variants of the program, and those open in the year.
    performance_year : int
        The year, for messages.
    draws : mapping of str to array_like, shape (organizations, draws), optional
        Draws that take the place of columns of numbers.
    what : str
        What the table is called in messages.

    Raises
    ------
    DataError
        Listing every failure: missing columns and cells, text in numbers, values out of bounds,
        repeated organizations, unknown variants or variants not open in the year, draws of
        another shape.
    """
    found = Problems(what)
    drawn = {name: np.asarray(values, dtype=float) for name, values in (draws or {}).items()}
    if len(frame) == 0:
        found.add("it has no rows. Give one row an organization.")
        found.raise_if_any()
    needed = [i.name for i in declared.values() if i.required and i.name not in drawn]
    absent = [name for name in [*([variant] if variant else []), *needed] if name not in frame]
    if absent:
        found.add(
            f"columns are missing: {listed(absent, most=20)}. They are "
            f"{'; '.join(f'`{n}`: {declared[n].what}' for n in absent if n in declared) or 'needed'}."
        )
    names = _organizations(frame, organization, found)
    held = _variants(frame, variant, variants, available, performance_year, names, found)
    n_draws = _check_draws(drawn, declared, len(frame), found)
    numbers: dict[str, FloatArray] = {}
    texts: dict[str, Array] = {}
    for entry in declared.values():
        if entry.name in drawn and n_draws:
            _check_bounds(entry, drawn[entry.name], names, found)
            numbers[entry.name] = drawn[entry.name]
        elif entry.name in frame and entry.kind == "text":
            texts[entry.name] = _text(frame[entry.name], entry, names, found)[:, None]
        elif entry.name in frame:
            values = _numbers(frame[entry.name], entry, names, found)[:, None]
            _check_bounds(entry, values, names, found)
            numbers[entry.name] = values
    found.raise_if_any()
    return Inputs(names, held, numbers, texts)


def report_rows(found: Problems, rows: Array, names: Array, problem: str, remedy: str) -> None:
    """Record a problem of some rows, naming their organizations; do nothing without rows."""
    where = np.flatnonzero(rows)
    if len(where) == 1:
        verb, rest = problem.split(" ", 1)
        one = {"have": "has", "hold": "holds", "are": "is"}.get(verb, verb)
        found.add(f"1 row ({listed(names[where])}) {one} {rest} {remedy}")
    elif len(where):
        found.add(f"{len(where)} rows ({listed(names[where])}) {problem} {remedy}")


def _organizations(frame: pd.DataFrame, column: str, found: Problems) -> Array:
    series = frame[column] if column in frame else frame.index.to_series()
    names = series.astype("str").to_numpy(dtype=object)
    report_rows(
        found,
        series.isna().to_numpy(),
        frame.index.to_numpy(),
        f"have no `{column}`.",
        "Fill it in.",
    )
    twice = pd.Series(names).duplicated(keep=False).to_numpy()
    if twice.any():
        again = sorted(set(names[twice]))
        one = len(again) == 1
        found.add(
            f"{'1 organization appears' if one else f'{len(again)} organizations appear'} more than "
            f"once ({listed(again)}), so {'it' if one else 'they'} would be paid twice. Keep one row "
            "for each."
        )
    return names


def _variants(
    frame: pd.DataFrame,
    column: str | None,
    variants: Sequence[str],
    available: Sequence[str],
    year: int,
    names: Array,
    found: Problems,
) -> Array:
    if column is None:
        return np.full(len(frame), variants[0], dtype=object)
    if column not in frame:
        return np.full(len(frame), "", dtype=object)
    series = frame[column]
    held = series.astype("str").to_numpy(dtype=object)
    blank = series.isna().to_numpy()
    report_rows(
        found, blank, names, f"have no `{column}`.", f"It is one of {listed(variants, most=20)}."
    )
    unknown = ~blank & ~np.isin(held, list(variants))
    report_rows(
        found, unknown, names,
        f"hold in `{column}` {listed(sorted(set(held[unknown])))}, which is none of the program's.",
        f"Use {listed(variants, most=20)}.",
    )  # fmt: skip
    closed = ~blank & ~unknown & ~np.isin(held, list(available))
    report_rows(
        found, closed, names,
        f"hold in `{column}` {listed(sorted(set(held[closed])))}, which did not exist in {year}.",
        f"In {year} there were {listed(available, most=20) or 'none'}.",
    )  # fmt: skip
    return held


def _check_draws(
    drawn: Mapping[str, FloatArray], declared: Mapping[str, Input], n: int, found: Problems
) -> int:
    widths = set()
    for name, values in drawn.items():
        if name not in declared or declared[name].kind in ("text", "flag"):
            numeric = [i.name for i in declared.values() if i.kind not in ("text", "flag")]
            found.add(
                f"`draws` holds `{name}`, which is no number this program reads. Use {listed(numeric)}."
            )
        elif values.ndim != 2 or values.shape[0] != n or values.shape[1] == 0:
            found.add(
                f"the draws of `{name}` have shape {values.shape}, and ({n}, draws) is needed: one "
                "row an organization, in the order of the table."
            )
        elif np.isnan(values).any():
            found.add(
                f"the draws of `{name}` hold missing values, so no payment follows. Leave them out."
            )
        else:
            widths.add(values.shape[1])
    if len(widths) > 1:
        found.add(
            f"the draws have {listed(sorted(widths))} columns; joint draws have the same number of columns."
        )
    return max(widths, default=0) if not found.found else 0


def _numbers(column: pd.Series, entry: Input, names: Array, found: Problems) -> FloatArray:
    if entry.kind == "flag" and pd.api.types.is_bool_dtype(column):
        column = column.astype("Float64")
    if entry.kind == "year" and pd.api.types.is_datetime64_any_dtype(column):
        column = column.dt.year
    elif entry.kind == "year" and not pd.api.types.is_numeric_dtype(column):
        # a date written as text, as a CSV file has it
        written = column.astype("str").str.strip()
        column = column.where(~written.str.fullmatch(_ISO_DATE), written.str.slice(0, 4), axis=0)
    rows = text_rows(column)
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    text = np.zeros(len(values), dtype=bool)
    text[rows] = True
    report_rows(found, text, names, f"hold text in `{entry.name}`.", "Make it numbers.")
    if entry.required:
        report_rows(
            found, np.isnan(values) & ~text, names, f"have no `{entry.name}` ({entry.what}).",
            "Fill it in, or leave these organizations out.",
        )  # fmt: skip
    return values


def _check_bounds(entry: Input, values: FloatArray, names: Array, found: Problems) -> None:
    low = 0.0 if entry.kind in ("rate", "people", "flag") and entry.low == -np.inf else entry.low
    high = 1.0 if entry.kind in ("rate", "flag") and entry.high == np.inf else entry.high
    outside = (values < low) | (values > high) | np.isinf(values)
    bounds = f"{low:g} or more" if high == np.inf else f"between {low:g} and {high:g}"
    if low == -np.inf:
        bounds = "finite" if high == np.inf else f"{high:g} or less"
    if entry.above is not None:
        outside |= values <= entry.above
        bounds = f"above {entry.above:g}"
    remedy = (
        "Rates are fractions: divide percents by 100." if entry.kind == "rate" else "Correct them."
    )
    report_rows(
        found, outside.any(axis=1), names,
        f"hold a `{entry.name}` ({entry.what}) that is not {bounds}.", remedy,
    )  # fmt: skip


def _text(column: pd.Series, entry: Input, names: Array, found: Problems) -> Array:
    blank = column.isna().to_numpy()
    values = column.astype("str").to_numpy(dtype=object)
    values[blank] = None
    if entry.required:
        report_rows(found, blank, names, f"have no `{entry.name}` ({entry.what}).", "Fill it in.")
    if entry.choices:
        wrong = ~blank & ~np.isin(column.astype("str").to_numpy(dtype=object), entry.choices)
        report_rows(
            found, wrong, names, f"hold another `{entry.name}` than {listed(entry.choices)}.",
            "Use one of these.",
        )  # fmt: skip
    return values
