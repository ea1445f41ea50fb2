"""What a settlement needs of one results file, without the rest of its columns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.data.cells import read_flags
from vbceval.data.mssp_find import recognise
from vbceval.data.mssp_frames import standard_fields
from vbceval.data.mssp_layout import FIRST_YEAR, layout
from vbceval.data.mssp_parse import Parsed, check_rows, open_table, read_fields
from vbceval.data.text_table import read_table

NEEDED = ("n_ab", "benchmark", "expenditure")
"""Columns without which no amount follows; `track` comes from flags or one column."""

_FLAGS = {"met_alternative": "metaltqps", "rev_loss_limit": "revlosslimit"}
_MOST_DIGITS = 12
_FEWEST_KNOWN = 5
"""Columns by which a file that lacks others is still known for a results file."""


@dataclass(frozen=True)
class SettlementRows:
    """
    One row an ACO with the columns that its settlement reads, as published.

    Attributes
    ----------
    frame : DataFrame
        Columns named as in `MSSPResults.aco_year`, and ``met_alternative`` and ``rev_loss_limit``
        where the file has them. Money in nominal US dollars, percents as fractions.
    performance_year : int
        Year of the file.
    half_widths : dict of str to float
        Half a unit of the last published digit of ``qual_score`` and ``final_share_rate``, as
        fractions.
    """

    frame: pd.DataFrame
    performance_year: int
    half_widths: dict[str, float]


def is_results_file(path: str | Path) -> bool:
    """
    Return whether a file is a published results file of the program, told by its columns.

    A file that lacks some columns counts, so that they are named as published; a table made for a
    settlement, with columns ``benchmark`` and ``expenditure``, does not.
    """
    table = read_table(Path(path))
    found = recognise(table)
    if found is not None:
        return found.kind == "results"
    lay = layout()
    codes = {lay.code_of(label) for label in table.header}
    known = sum(lay.find(name, list(codes)) is not None for name in lay.columns)
    identity = any(lay.find(name, list(codes)) for name in ("aco_id", "aco_num", "name"))
    return identity and known >= _FEWEST_KNOWN and not {"benchmark", "expenditure"} & codes


def read_settlement_rows(path: str | Path, year: int | None = None) -> SettlementRows:
    """
    Read what a settlement needs of a results file; other columns may be missing or damaged.

    Parameters
    ----------
    path : str or Path
        CSV, JSON or .xlsx file, plain or gzipped.
    year : int, optional
        Performance year of a file without a column for it; default reads it from the name.

    Raises
    ------
    DataError
        Listing every missing column, unreadable cell, row without an identifier and repeated ACO.
    """
    table = read_table(Path(path))
    found = Problems(f"file `{table.path.name}`")
    lay = layout()
    text, performance_year, labels, relabelled = open_table(table, year, found)
    present = list(text.columns)
    absent = [lay.columns[n].codes[0] for n in NEEDED if lay.find(n, present) is None]
    tracks = {"currenttrack", *(code for codes in lay.tracks.values() for code in codes)}
    if not tracks.intersection(present):
        absent.append("the track (`currenttrack`, or flags such as `currenttrack1`)")
    if not any(lay.find(n, present) for n in ("aco_id", "aco_num", "name")):
        absent.append("acoid")
    if performance_year > FIRST_YEAR and not any(
        lay.find(n, present) for n in ("qual_score", "met_qps")
    ):
        absent.append("qualscore")
    if absent:
        found.add(
            f"columns that a settlement reads are missing: {listed(absent, most=20)}. "
            "Spelling with capitals, blanks and underscores is accepted. Download the whole file."
        )
        found.raise_if_any()
    parsed = Parsed(table, performance_year, pd.DataFrame(), {}, pd.DataFrame(), labels)
    parsed.relabelled = relabelled
    read_fields(parsed, text, lay, found)
    check_rows(parsed, found)
    for name, code in _FLAGS.items():
        if code in text:
            parsed.fields[name], _ = read_flags(text[code])
    found.raise_if_any()
    frame = standard_fields(parsed)
    # an ACO with two half-years in one file is settled twice
    twice = frame["aco_id"].duplicated(keep=False)
    frame["aco_id"] = frame["aco_id"].mask(twice, frame["aco_id"] + " " + frame["part"])
    widths = {name: half_width(frame[name]) for name in ("qual_score", "final_share_rate")}
    return SettlementRows(frame, performance_year, widths)


def half_width(values: pd.Series) -> float:
    """
    Return half a unit of the last decimal that a column of published numbers uses; 0 without any.

    Examples
    --------
    >>> half_width(pd.Series([0.91, 0.8, None]))
    0.005
    """
    held = values.dropna().to_numpy(dtype=float)
    for digits in range(_MOST_DIGITS if len(held) else 0):
        if np.allclose(np.round(held, digits), held, rtol=0.0, atol=1e-11):
            return 0.5 * 10.0**-digits
    return 0.0
