"""The first sheet of an .xlsx workbook as rows of text, without a spreadsheet library."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from xml.etree import ElementTree

from vbceval.core.errors import DataError

MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def sheet_rows(content: bytes, name: str) -> list[list[str]]:
    """
    Return the cells of the first sheet as text, row by row, gaps filled with ''.

    Formats are not applied: a date comes as its serial number, a percent as a fraction.

    Parameters
    ----------
    content : bytes
        The workbook.
    name : str
        File name, for the message.

    Raises
    ------
    DataError
        If the bytes are not a workbook with a first sheet.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as book:
            strings = _shared_strings(book)
            sheets = [n for n in book.namelist() if re.fullmatch(r"xl/worksheets/[^/]+\.xml", n)]
            first = min(sheets, key=lambda n: (len(n), n))
            root = ElementTree.fromstring(book.read(first))
    except (zipfile.BadZipFile, ElementTree.ParseError, KeyError, ValueError) as error:
        raise DataError(
            f"`{name}` starts like a workbook or zip archive but holds no readable sheet, so "
            "nothing can be read from it. Open it, save the sheet as CSV, and pass that file."
        ) from error
    rows = [dict(_cells(row, strings)) for row in root.iter(f"{MAIN}row")]
    width = 1 + max((max(row, default=-1) for row in rows), default=-1)
    return [[row.get(position, "") for position in range(width)] for row in rows]


def _shared_strings(book: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in book.namelist():
        return []
    root = ElementTree.fromstring(book.read("xl/sharedStrings.xml"))
    return ["".join(t.text or "" for t in item.iter(f"{MAIN}t")) for item in root]


def _cells(row: ElementTree.Element, strings: list[str]) -> Iterator[tuple[int, str]]:
    for order, cell in enumerate(row.iter(f"{MAIN}c")):
        letters = re.match(r"[A-Z]+", cell.get("r", ""))
        kind = cell.get("t")
        if kind == "inlineStr":
            text = "".join(t.text or "" for t in cell.iter(f"{MAIN}t"))
        else:
            value = cell.find(f"{MAIN}v")
            text = (value.text or "") if value is not None else ""
            if kind == "s" and text:
                text = strings[int(text)]
        yield (_position(letters.group()) if letters else order), text


def _position(letters: str) -> int:
    # A is 0, Z is 25, AA is 26
    position = 0
    for letter in letters:
        position = position * 26 + ord(letter) - ord("A") + 1
    return position - 1
