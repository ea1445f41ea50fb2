"""One MSSP results file, from text to numbers; every failure of the file is reported together."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.data.cells import (
    MISSING,
    SUPPRESSED,
    percent_scale,
    read_dates,
    read_flags,
    read_numbers,
)
from vbceval.data.mssp_check import check_arithmetic, savings_rate_scale
from vbceval.data.mssp_layout import FIRST_YEAR, Cell, Column, Layout, layout
from vbceval.data.mssp_vintage import labels_of_2013, performance_year_of
from vbceval.data.text_table import TextTable

PAY_FOR_REPORTING = "P4R"
"""Printed in place of a quality score in an ACO's first performance year."""

CHECKED = (
    "benchmark", "expenditure", "benchmark_minus_expenditure", "sav_rate", "person_years",
    "per_capita_total",
)  # fmt: skip
"""Columns of `MSSPResults.aco_year` without which a row of a file after 2013 checks nothing."""

_TRACK_NAMES = {
    **{letter: f"BASIC_{letter}" for letter in "ABCDE"}, **{n: f"TRACK_{n}" for n in "123"},
    "EN": "ENHANCED", "ENHANCED": "ENHANCED", "1+": "TRACK_1_PLUS", "1PLUS": "TRACK_1_PLUS",
}  # fmt: skip

JULY_2019 = pd.Timestamp("2019-07-01")
"""Start of the agreements whose first half-year CMS published in a file of its own."""


@dataclass
class Parsed:
    """
    A results file read as numbers, nothing suppressed yet.

    Attributes
    ----------
    table : TextTable
        The text it came from.
    performance_year : int
        Performance year of every row.
    fields : DataFrame
        One row an ACO; columns named as in `MSSPResults.aco_year`, percents as fractions.
    cells : dict of Cell to ndarray, shape (n,)
        Values by measure, enrollment type and reference year.
    wide : DataFrame
        Every other column, under its code; text where not numeric.
    labels : dict of str to str
        Name of each code in lower case with underscores, for the columns of `wide`.
    starred : dict of str or Cell to ndarray of bool, shape (n,)
        Cells printed as `*`, by column of `fields`, code of `wide`, or cell.
    scales : dict of str to float
        Factor that made fractions of each column of percents.
    relabelled : bool
        True where the labels of the 2013 file were moved by one column.
    """

    table: TextTable
    performance_year: int
    fields: pd.DataFrame
    cells: dict[Cell, FloatArray]
    wide: pd.DataFrame
    labels: dict[str, str]
    starred: dict[str | Cell, BoolArray] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    relabelled: bool = False


def parse_table(table: TextTable, year: int | None = None) -> Parsed:
    """
    Read one results file and check it.

    Parameters
    ----------
    table : TextTable
        The file as text.
    year : int, optional
        Performance year of a file without a column for it; default reads it from the name.

    Raises
    ------
    DataError
        With every failure of the file listed together: rows cut short, columns missing or
        doubled, text in numeric columns, duplicated ACOs, arithmetic that fails.
    """
    found = Problems(f"file `{table.path.name}`")
    lay = layout()
    text, performance_year, labels, relabelled = open_table(table, year, found)
    absent = lay.missing(list(text.columns), performance_year)
    if absent:
        found.add(
            f"{len(absent)} columns of a {performance_year} results file are missing: "
            f"{listed(absent, most=12)}. Either it is another file, or columns were dropped; "
            "download the whole file."
        )
        # without them the rest of the messages would only repeat this one
        found.raise_if_any()
    parsed = Parsed(table, performance_year, pd.DataFrame(), {}, pd.DataFrame(), labels)
    parsed.relabelled = relabelled
    read_fields(parsed, text, lay, found)
    _read_cells(parsed, text, lay, found)
    _read_wide(parsed, text, lay, found)
    check_rows(parsed, found)
    check_arithmetic(
        parsed.fields,
        parsed.cells,
        full_year=performance_year > FIRST_YEAR,
        names=row_names(parsed.fields),
        found=found,
    )
    found.raise_if_any()
    return parsed


def open_table(
    table: TextTable, year: int | None, found: Problems
) -> tuple[pd.DataFrame, int, dict[str, str], bool]:
    """
    Name the columns of a file by their codes and tell its performance year.

    Returns
    -------
    tuple
        The text with codes for columns, the year, the label of each code, and whether the labels
        of the 2013 file were moved.

    Raises
    ------
    DataError
        If columns appear twice, or the year cannot be told.
    """
    for problem in table.problems:
        found.add(problem)
    lay = layout()
    # a column without a label (a row number) is kept under its position
    codes = [lay.code_of(label) or f"column{i}" for i, label in enumerate(table.header)]
    doubled = sorted({code for code in codes if codes.count(code) > 1})
    if doubled:
        found.add(
            f"columns {listed(doubled)} appear twice, so it is unclear which counts. Drop one."
        )
        found.raise_if_any()
    labels = dict(zip(codes, map(lay.label_of, table.header), strict=True))
    codes, relabelled = labels_of_2013(codes, table.rows)
    text = table.rows.set_axis(pd.Index(codes), axis=1)
    return text, performance_year_of(text, table, found, given=year), labels, relabelled


def row_names(fields: pd.DataFrame) -> list[str]:
    """Return what to call each row in a message: its identifier, else its name, else its line."""
    names = fields["aco_id"].fillna(fields["aco_num"]).fillna(fields["name"])
    return [f"line {line}" if pd.isna(name) else str(name) for line, name in names.items()]


def read_fields(parsed: Parsed, text: pd.DataFrame, lay: Layout, found: Problems) -> None:
    """Read the columns of `MSSPResults.aco_year` that a file has into `parsed.fields`."""
    present = list(text.columns)
    read: dict[str, pd.Series] = {}
    for column in lay.columns.values():
        code = lay.find(column.name, present)
        if code is None:
            read[column.name] = _absent(column, text.index)
            continue
        cells = text[code].str.strip()
        bad = np.zeros(len(cells), dtype=bool)
        if column.kind in ("text", "year"):
            read[column.name] = cells.where(~cells.str.lower().isin(MISSING), None)
        elif column.kind == "date":
            read[column.name], bad = read_dates(cells)
        elif column.kind == "flag":
            read[column.name], bad = read_flags(cells)
        elif column.kind == "nonzero":
            # printed as 0 and 1; the name of the column would also fit an amount
            amount = read_numbers(cells)
            marked = pd.Series(amount.numbers, index=cells.index).ne(0).astype("boolean")
            read[column.name], bad = marked.mask(np.isnan(amount.numbers)), amount.unreadable
        else:
            read[column.name], bad = _read_amount(parsed, column, cells, found)
        _report_text(found, code, cells, bad, column.kind)
        if column.name in CHECKED and parsed.performance_year > FIRST_YEAR:
            _report_blank(found, code, read[column.name].isna().to_numpy() & ~bad, text.index)
    parsed.fields = pd.DataFrame(read)
    _complete(parsed)
    parsed.fields["qual_status"] = _quality_status(parsed, text, lay)
    parsed.fields["track"] = _tracks(text, lay, found)
    parsed.fields["part"] = _parts(parsed)


def _absent(column: Column, index: pd.Index) -> pd.Series:
    dtypes = {"text": "str", "year": "str", "date": "datetime64[us]"}
    dtypes |= {"flag": "boolean", "nonzero": "boolean"}
    return pd.Series([None] * len(index), index=index, dtype=dtypes.get(column.kind, "float64"))


def _read_amount(
    parsed: Parsed, column: Column, cells: pd.Series, found: Problems
) -> tuple[pd.Series, BoolArray]:
    scored = cells.mask(cells == PAY_FOR_REPORTING, "") if column.name == "qual_score" else cells
    read = read_numbers(scored)
    parsed.starred[column.name] = read.starred
    scale = 1.0
    if column.kind == "percent":
        lines = [f"line {line}" for line in cells.index]
        scale, problem = percent_scale(read, low=column.low, high=column.high, labels=lines)
        parsed.scales[column.name] = scale
        if problem:
            found.add(
                f"column `{column.name}`: {problem}. A mixed column cannot be scaled; fix it."
            )
    return pd.Series(read.numbers * scale, index=cells.index), read.unreadable


def _report_text(found: Problems, code: str, cells: pd.Series, bad: BoolArray, kind: str) -> None:
    if bad.any():
        what = {"date": "dates", "flag": "0/1 flags", "track": "tracks A-E or EN"}.get(
            kind, "numbers"
        )
        # what stands in a cell about people is not repeated: it may hold a small number
        people = code.startswith(("nab", "nben"))
        shown = listed(
            f"line {line}" if people else f"line {line}: {cell}"
            for line, cell in cells[bad].items()
        )
        found.add(
            f"column `{code}` has {int(bad.sum())} cells that are not {what} ({shown}), so they "
            "would be lost. Correct them, or download the file again."
        )


def _report_blank(found: Problems, code: str, blank: BoolArray, lines: pd.Index) -> None:
    if blank.any():
        found.add(
            f"column `{code}` is blank in {int(blank.sum())} of {len(blank)} rows "
            f"({listed(f'line {line}' for line in lines[blank])}), so these rows cannot be checked "
            "and totals would lack them. Fill it in, or download the file again."
        )


def _complete(parsed: Parsed) -> None:
    fields = parsed.fields
    if parsed.performance_year == FIRST_YEAR:
        _complete_2013(fields)
    rate = fields["sav_rate"].to_numpy(dtype=float)
    exact = ((fields["benchmark"] - fields["expenditure"]) / fields["benchmark"]).to_numpy(float)
    parsed.scales["sav_rate"] = savings_rate_scale(rate, exact)
    fields["sav_rate"] = rate * parsed.scales["sav_rate"]


def _complete_2013(fields: pd.DataFrame) -> None:
    # What 2013 prints in pieces: savings as earned and owed, and no savings rate.
    if fields["benchmark_minus_expenditure"].isna().all():
        fields["benchmark_minus_expenditure"] = fields["benchmark"] - fields["expenditure"]
    if fields["expenditure"].isna().all():
        fields["expenditure"] = fields["benchmark"] - fields["benchmark_minus_expenditure"]
    if fields["earn_save_loss"].isna().all():
        owed = fields["owed_losses"].abs()
        fields["earn_save_loss"] = fields["earned_savings"].fillna(0) - owed.fillna(0)
        unknown = fields["earned_savings"].isna() & owed.isna()
        fields.loc[unknown, "earn_save_loss"] = np.nan
    if fields["sav_rate"].isna().all():
        fields["sav_rate"] = (fields["benchmark"] - fields["expenditure"]) / fields["benchmark"]


def _quality_status(parsed: Parsed, text: pd.DataFrame, lay: Layout) -> pd.Series:
    code = lay.find("qual_score", list(text.columns))
    status = pd.Series("missing", index=text.index, dtype="str")
    if code is None:
        return status
    status[parsed.fields["qual_score"].notna()] = "scored"
    status[text[code].str.strip() == PAY_FOR_REPORTING] = "pay_for_reporting"
    if parsed.performance_year == FIRST_YEAR:
        # the first year's score is 1 for complete reporting and 0 otherwise, for every ACO
        status[parsed.fields["qual_score"].notna()] = "pay_for_reporting"
    return status


def _tracks(text: pd.DataFrame, lay: Layout, found: Problems) -> pd.Series:
    track = pd.Series([None] * len(text), index=text.index, dtype="str")
    if "currenttrack" in text:
        letters = text["currenttrack"].str.strip().str.upper()
        # "E", "Level E" and "BASIC Track Level E" are one; tracks with a number were open until 2021
        short = letters.str.replace(r"[^A-Z0-9+]|BASIC|TRACK|LEVEL", "", regex=True)
        known = short.map(_TRACK_NAMES).astype("str")
        bad = (known.isna() & ~letters.str.lower().isin(MISSING)).to_numpy(dtype=bool)
        _report_text(found, "currenttrack", letters, bad, "track")
        return known
    if "track2aco" in text:
        # 2013 flags Track 2 only; there was no other choice than Track 1
        track[:] = "TRACK_1"
    for name, codes in lay.tracks.items():
        for code in codes:
            if code in text:
                flag, bad = read_flags(text[code])
                _report_text(found, code, text[code], bad, "flag")
                track[flag.fillna(False).to_numpy(dtype=bool)] = name
    return track


def _parts(parsed: Parsed) -> pd.Series:
    fields = parsed.fields
    half = fields["six_months"].fillna(False).to_numpy(dtype=bool)
    late = (fields["current_start_date"] >= JULY_2019).to_numpy(dtype=bool)
    part = np.where(half & late, "july_december", np.where(half, "january_june", "full_year"))
    return pd.Series(part, index=fields.index, dtype="str")


def _read_cells(parsed: Parsed, text: pd.DataFrame, lay: Layout, found: Problems) -> None:
    for code in text.columns:
        cell = lay.cells.get(code)
        if cell is None:
            continue
        read = read_numbers(text[code])
        _report_text(found, code, text[code], read.unreadable, "number")
        if cell in parsed.cells:
            found.add(
                f"two columns hold {cell.measure} of {cell.enrollment_type} in {cell.reference}. Drop one."
            )
            continue
        parsed.cells[cell] = read.numbers
        parsed.starred[cell] = read.starred


def _read_wide(parsed: Parsed, text: pd.DataFrame, lay: Layout, found: Problems) -> None:
    used = {code for column in lay.columns.values() for code in column.codes}
    used |= set(lay.cells) | {code for codes in lay.tracks.values() for code in codes}
    used |= {"currenttrack"}
    numeric = {code for codes in lay.families.values() for code in codes}
    numeric |= {code for codes in lay.rates.values() for code in codes}
    wide: dict[str, pd.Series] = {}
    for code in text.columns:
        if code in used:
            continue
        read = read_numbers(text[code])
        if code in numeric:
            _report_text(found, code, text[code], read.unreadable, "number")
        cells = text[code].str.strip()
        texts = cells.where(~cells.isin(["", SUPPRESSED]), None)
        wide[code] = texts if read.unreadable.any() else pd.Series(read.numbers, index=text.index)
        parsed.starred[code] = read.starred
    parsed.wide = pd.DataFrame(wide, index=text.index)
    _scale_shares(parsed, lay)


def _scale_shares(parsed: Parsed, lay: Layout) -> None:
    # Shares of people (dual, COVID-19, institutional) have no lower bound that tells fractions
    # from percents, but one file prints all of them alike, and some ACO exceeds 1 percent.
    # one with text in it is kept as printed: the text was reported
    numeric = parsed.wide.select_dtypes("number")
    shares = [code for code in lay.rates["shares_of_people"] if code in numeric]
    values = parsed.wide[shares].to_numpy(dtype=float)
    scale = 0.01 if np.nanmax(values, initial=0.0) > 1.0 else 1.0
    for code in shares:
        parsed.wide[code] = parsed.wide[code] * scale
        parsed.scales[parsed.labels[code]] = scale


def check_rows(parsed: Parsed, found: Problems) -> None:
    """Add to `found` rows without an identifier, repeated ACOs, and agreements that start late."""
    fields = parsed.fields
    identified = fields["aco_id"].fillna(fields["aco_num"])
    if identified.isna().any() and not identified.isna().all():
        found.add(
            f"{int(identified.isna().sum())} rows have no ACO identifier (lines "
            f"{listed(fields.index[identified.isna()])}), so they cannot be followed. Fill it in."
        )
    if parsed.performance_year > FIRST_YEAR and identified.isna().all():
        found.add("no row has an ACO identifier (`ACO_ID` or `ACO_Num`). Download the file again.")
    keys = pd.DataFrame({"id": identified, "part": fields["part"]}).dropna()
    twice = keys[keys.duplicated(keep=False)]["id"].unique()
    if twice.size:
        found.add(
            f"{twice.size} ACOs appear more than once ({listed(sorted(twice))}), so their people "
            "and dollars would be counted twice. Keep one row for each."
        )
    starts = fields["current_start_date"]
    late = starts.notna() & (starts.dt.year > parsed.performance_year)
    if late.any():
        found.add(
            f"{int(late.sum())} agreements start after performance year {parsed.performance_year} "
            f"({listed(_names(fields, late))}), so the year is wrong. Correct the file name or `year`."
        )


def _names(fields: pd.DataFrame, chosen: pd.Series) -> list[str]:
    return [name for name, take in zip(row_names(fields), chosen, strict=True) if take]
