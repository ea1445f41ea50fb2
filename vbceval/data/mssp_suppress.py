"""Small cells of the results files: none of 1-10 people leaves the reader, nor can be derived."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from vbceval.core.disclosure import SMALLEST_SHOWN, is_small
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.data.mssp_layout import ENROLLMENT_TYPES, Cell, layout
from vbceval.data.mssp_parse import Parsed

PUBLISHED, SMALL, DEPENDENT, COMPLEMENTARY = "published", "small", "dependent", "complementary"
"""Why a cell is missing: `*` in the file; 1-10 people; an amount of such a cell; protects one."""


class _Flags:
    """Collect which cells were made missing and why, by row position."""

    def __init__(self) -> None:
        self.found: list[pd.DataFrame] = []

    def add(self, hidden: BoolArray, column: str, kind: str) -> None:
        rows = np.flatnonzero(hidden)
        if rows.size:
            self.found.append(pd.DataFrame({"row": rows, "column": column, "kind": kind}))

    def frame(self) -> pd.DataFrame:
        empty = pd.DataFrame({"row": np.zeros(0, np.int64), "column": [], "kind": []})
        table = pd.concat([empty.astype({"column": "str", "kind": "str"}), *self.found])
        return table.astype({"row": "int64", "column": "str", "kind": "str"}).reset_index(drop=True)


def suppress(parsed: Parsed) -> tuple[Parsed, pd.DataFrame]:
    """
    Return the file without cells of 1-10 people, and the list of cells that were made missing.

    Missing become: numbers of people and person-years of 1-10; per-capita spending and risk score
    of an enrollment type with so few person-years; rates per 1,000 and shares whose number of
    events or people, or of the other people, is 1-10; and, where one missing part of a known total could be had by
    subtraction, or the missing parts together are fewer than 11, the next smallest part.

    Parameters
    ----------
    parsed : Parsed
        A file as read; not changed.

    Returns
    -------
    tuple of Parsed and DataFrame
        The table of cells has columns `row` (position), `column` and `kind`: ``published`` (`*`
        in the file), ``small``, ``dependent`` or ``complementary``.

    References
    ----------
    CMS cell size suppression policy: cells of 1-10 and what reveals them are not shown.
    """
    flags = _Flags()
    safe = dataclasses.replace(
        parsed,
        fields=parsed.fields.copy(),
        cells={cell: values.copy() for cell, values in parsed.cells.items()},
        wide=parsed.wide.copy(),
    )
    for key, starred in parsed.starred.items():
        flags.add(starred, _label(parsed, key), PUBLISHED)
    _people(safe, flags)
    _person_years(safe, flags)
    _rates(parsed, safe, flags)
    return safe, flags.frame()


def _label(parsed: Parsed, key: str | Cell) -> str:
    if isinstance(key, Cell):
        return f"{key.measure}_{key.enrollment_type}_{key.reference.lower()}"
    return key if key in parsed.fields else parsed.labels[key]


def complement(values: FloatArray, hidden: BoolArray, total: FloatArray) -> BoolArray:
    """
    Return what else must be hidden so that no hidden part of a total can be had by subtraction.

    Parameters
    ----------
    values : ndarray of float, shape (n, k)
        Parts of each row's total; NaN counts as nothing.
    hidden : ndarray of bool, shape (n, k)
        Parts that are not shown.
    total : ndarray of float, shape (n,)
        Known totals; NaN where unknown.

    Returns
    -------
    ndarray of bool, shape (n, k)
        Parts to hide besides: the smallest shown ones, until at least two are hidden, they hold
        at least 11 people together, and their sum does not tell each of them.

    Examples
    --------
    >>> parts = np.array([[900.0, 60.0, 4.0, 36.0]])
    >>> complement(parts, parts < 11, np.array([1000.0])).tolist()
    [[False, False, False, True]]
    """
    more = np.zeros_like(hidden)
    for row in np.flatnonzero(hidden.any(axis=1)):
        shown = ~hidden[row] & (np.nan_to_num(values[row]) > 0)
        rest = total[row] - np.nansum(values[row][~hidden[row]])
        count = int(hidden[row].sum())
        # stars of the publisher also stand for larger parts, so their sum tells none of them
        few = count if np.isfinite(values[row][hidden[row]]).all() else 0
        while shown.any() and (count < 2 or rest < SMALLEST_SHOWN or _forced(rest, few, count)):
            position = int(np.argmin(np.where(shown, values[row], np.inf)))
            shown[position] = False
            more[row, position] = True
            rest += values[row, position]
            count += 1
    return more


def _forced(rest: float, few: int, count: int) -> bool:
    # `few` parts of 1-10 and others of 11 or more have this sum in one way only
    others = count - few
    most = (SMALLEST_SHOWN - 1) * few if others == 0 else np.inf
    return few > 0 and rest in (few + SMALLEST_SHOWN * others, most)


def _hide_family(
    values: FloatArray, starred: BoolArray, total: FloatArray, labels: Sequence[str], flags: _Flags
) -> tuple[FloatArray, BoolArray]:
    small = is_small(values)
    more = complement(values, small | starred, total)
    for position, label in enumerate(labels):
        flags.add(small[:, position], label, SMALL)
        flags.add(more[:, position], label, COMPLEMENTARY)
    return np.where(small | more, np.nan, values), small


def _people(safe: Parsed, flags: _Flags) -> None:
    total = safe.fields["n_ab"].to_numpy(dtype=float)
    grouped: list[str] = []
    for family in layout().families.values():
        codes = [code for code in family if code in safe.wide]
        grouped += codes
        if codes:
            values = safe.wide[codes].to_numpy(dtype=float)
            starred = np.column_stack([safe.starred[code] for code in codes])
            labels = [safe.labels[code] for code in codes]
            safe.wide[codes], _ = _hide_family(values, starred, total, labels, flags)
    for code in safe.wide.columns:
        if code.startswith("nben") and code not in grouped:
            small = is_small(safe.wide[code].to_numpy(dtype=float))
            flags.add(small, safe.labels[code], SMALL)
            safe.wide.loc[small, code] = np.nan


def _person_years(safe: Parsed, flags: _Flags) -> None:
    fields = safe.fields
    total = fields["person_years"].to_numpy(dtype=float)
    unknown = np.full(len(fields), np.nan)
    for reference in ("BY1", "BY2", "BY3", "PY"):
        keys = [Cell("person_years", stratum, reference) for stratum in ENROLLMENT_TYPES]
        keys = [key for key in keys if key in safe.cells]
        if not keys:
            continue
        values = np.column_stack([safe.cells[key] for key in keys])
        starred = np.column_stack([safe.starred[key] for key in keys])
        labels = [_label(safe, key) for key in keys]
        if reference == "PY":
            shown, small = _hide_family(values, starred, total, labels, flags)
        else:
            # no total is published for benchmark years, so nothing can be had by subtraction
            small = is_small(values)
            shown = np.where(small, np.nan, values)
            for position, label in enumerate(labels):
                flags.add(small[:, position], label, SMALL)
        for position, key in enumerate(keys):
            safe.cells[key] = shown[:, position]
            _hide_amounts(safe, key, small[:, position], flags)
    pair = ["person_years_dual", "person_years_non_dual"]
    values = fields[pair].to_numpy(dtype=float)
    starred = np.column_stack([safe.starred.get(name, unknown > 0) for name in pair])
    fields[pair], _ = _hide_family(values, starred, total, pair, flags)


def _hide_amounts(safe: Parsed, key: Cell, small: BoolArray, flags: _Flags) -> None:
    for measure in ("per_capita", "hcc_score"):
        cell = key._replace(measure=measure)
        if cell in safe.cells:
            hidden = small & np.isfinite(safe.cells[cell])
            flags.add(hidden, _label(safe, cell), DEPENDENT)
            safe.cells[cell] = np.where(hidden, np.nan, safe.cells[cell])


def _rates(parsed: Parsed, safe: Parsed, flags: _Flags) -> None:
    person_years = parsed.fields["person_years"].to_numpy(dtype=float)
    discharges = np.full(len(person_years), np.nan)
    if "admstrm" in parsed.wide:
        discharges = parsed.wide["admstrm"].to_numpy(dtype=float) * person_years / 1000
    denominators = {
        "per_thousand_person_years": person_years / 1000,
        "per_thousand_discharges": discharges / 1000,
        "shares_of_people": person_years,
    }
    for group, denominator in denominators.items():
        for code in layout().rates[group]:
            if code in safe.wide:
                events = np.round(parsed.wide[code].to_numpy(dtype=float) * denominator)
                small = is_small(events)
                if group == "shares_of_people":
                    # the others are the total less these
                    small |= is_small(np.round(denominator) - events)
                flags.add(small, safe.labels[code], SMALL)
                safe.wide.loc[small, code] = np.nan
