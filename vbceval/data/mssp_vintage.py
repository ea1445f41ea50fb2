"""Which year's results file it is, and the year whose labels are wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.data.cells import read_numbers
from vbceval.data.mssp_layout import FIRST_YEAR, layout
from vbceval.data.text_table import TextTable


def performance_year_of(
    text: pd.DataFrame, table: TextTable, found: Problems, *, given: int | None = None
) -> int:
    """Return the performance year: the file's own column, else `given`, else the file's name.

    Raises
    ------
    DataError
        If nothing tells it, or if the column holds several years or another than `given`.
    """
    code = layout().find("year", list(text.columns))
    cells = [] if code is None else [cell.strip().upper().removeprefix("PY") for cell in text[code]]
    printed = sorted({cell.strip()[:4] for cell in cells if cell})
    if len(printed) == 1 and printed[0].isdigit():
        if given in (None, int(printed[0])):
            return int(printed[0])
        found.add(
            f"`year` is {given}, but column `{code}` says {printed[0]}, so calendar years would be "
            "wrong. Leave `year` out."
        )
        found.raise_if_any()
    if printed:
        found.add(
            f"column `{code}` holds {len(printed)} performance years ({listed(printed)}); a file "
            "holds one. Split the file by year."
        )
        found.raise_if_any()
    year = given if given is not None else year_in_name(table.path.name)
    if year is None:
        found.add(
            "neither a column nor the file name tells the performance year, and columns mean "
            "different years in different files. Put it in the name (`py2016.csv`), or pass `year`."
        )
        found.raise_if_any()
    return year or 0


def year_in_name(name: str) -> int | None:
    """
    Return the performance year in a file name, or None.

    A year after `PY` or `Y` wins, then the first year; dates such as 20250925 are not years.

    Examples
    --------
    >>> year_in_name("PY_Financial_and_Quality_Results_2024_revised 2026_07_17.csv")
    2024
    >>> year_in_name("PY 2024 ACO Results PUF_Rerun_20250925.csv"), year_in_name("2019A.csv")
    (2024, 2019)
    """
    years = re.findall(r"(?<!\d)(20[1-4]\d)(?!\d)", name)
    after = re.findall(r"(?<![a-z])p?y[ _-]?(20[1-4]\d)(?!\d)", name.lower())
    chosen = next((int(y) for y in [*after, *years] if int(y) >= FIRST_YEAR), None)
    return chosen


def labels_of_2013(codes: Sequence[str], rows: pd.DataFrame) -> tuple[list[str], bool]:
    """
    Put the labels of the 2013 file over their columns; tell whether they had to be moved.

    As distributed, that file leaves out the label of the expenditures and prints the following
    21 labels one column early: "Total savings/losses" stands over expenditures, "Shared savings"
    over benchmark minus expenditure, and so on up to "spending per assigned beneficiary", which
    stands over the number of people of other race. The dollar columns show which it is.
    """
    first, last = "totalbenchmarkexpenditures", "percapitaexptotalpy"
    codes = list(codes)
    if first not in codes or last not in codes or "totalperformanceyearexpenditures" in codes:
        return codes, False
    start, end = codes.index(first) + 1, codes.index(last)
    if end - start < 2 or codes[start] != "totalsavingslosses":
        return codes, False
    benchmark, second, third = (read_numbers(rows[start - 1 + k]).numbers for k in range(3))
    with np.errstate(invalid="ignore"):
        off = np.abs(benchmark - second - third) <= 2
    if not off.any() or off.mean() < 0.5:
        return codes, False
    codes[start : end + 1] = ["totalperformanceyearexpenditures", *codes[start:end]]
    return codes, True
