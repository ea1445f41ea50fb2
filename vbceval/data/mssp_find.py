"""Which files of a folder are MSSP results, and of which year, told by their columns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from vbceval.core.checks import Problems
from vbceval.core.errors import DataError
from vbceval.data.mssp_layout import layout
from vbceval.data.mssp_link import is_crosswalk
from vbceval.data.mssp_vintage import performance_year_of, year_in_name
from vbceval.data.text_table import EXTENSIONS, TextTable, read_table

Kind = Literal["results", "crosswalk", "county"]

_NAMED_CROSSWALK = re.compile(r"crosswalk|xwalk", re.IGNORECASE)
_NAMED = re.compile(r"py|puf|results|mssp|aco|^20\d\d[ab]?\.", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """A recognised file.

    Attributes
    ----------
    path : Path
        Where it is.
    kind : str
        ``results``, ``crosswalk`` or ``county``.
    year : int or None
        Performance year of results, where it can be told.
    table : TextTable or None
        Its content; None where it could not be read.
    """

    path: Path
    kind: Kind
    year: int | None
    table: TextTable | None


def find_files(path: str | Path | Iterable[str | Path]) -> list[Found]:
    """
    Return the MSSP files in a folder, or among the files named.

    Parameters
    ----------
    path : str, Path, or iterable of them
        A folder (not searched below), a file, or several files.

    Returns
    -------
    list of Found
        Sorted by name. In a folder, files that are something else are left out.

    Raises
    ------
    DataError
        If the folder or a file does not exist, or a file named by the caller is not a table.
    """
    named = [path] if isinstance(path, str | Path) else list(path)
    found: list[Found] = []
    for item in map(Path, named):
        if item.is_dir():
            inside = [p for p in sorted(item.iterdir()) if _may_hold_table(p)]
            found += [f for f in (_in_folder(p) for p in inside) if f is not None]
        elif item.exists():
            # a file that the caller names is meant to be read, so it is never left out silently
            table = read_table(item)
            found.append(recognise(table) or Found(item, "results", _year(table), table))
        else:
            raise DataError(
                f"`{item}` does not exist, so there is nothing to read. Check the path, or get the "
                "files with `vbceval data get mssp`."
            )
    return found


def _may_hold_table(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(EXTENSIONS) and path.name[0] != "."


def _in_folder(path: Path) -> Found | None:
    try:
        return recognise(read_table(path))
    except DataError:
        # A damaged file that calls itself the crosswalk or results of a year is reported, with its
        # reasons, when it is read; other damaged files in the folder are none of our business.
        if _NAMED_CROSSWALK.search(path.name):
            return Found(path, "crosswalk", None, None)
        year = year_in_name(path.name) if _NAMED.search(path.name) else None
        return Found(path, "results", year, None) if year is not None else None


def recognise(table: TextTable) -> Found | None:
    """Return what MSSP file this is, by its columns; None where it is something else."""
    codes = {layout().code_of(label) for label in table.header}
    if is_crosswalk(table.header):
        return Found(table.path, "crosswalk", None, table)
    if codes >= {"stateid", "countyid"}:
        return Found(table.path, "county", year_in_name(table.path.name), table)
    benchmark = layout().columns["benchmark"].codes
    identity = [*layout().columns["name"].codes, *layout().columns["aco_id"].codes]
    if not codes.intersection(benchmark) or not codes.intersection(identity):
        return None
    return Found(table.path, "results", _year(table), table)


def _year(table: TextTable) -> int | None:
    text = table.rows.set_axis(pd.Index([layout().code_of(h) for h in table.header]), axis=1)
    try:
        return performance_year_of(text, table, Problems(table.path.name))
    except DataError:
        return None
