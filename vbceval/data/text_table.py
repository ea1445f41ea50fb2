"""A published table as text: decoded, its rows counted, nothing interpreted."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DataError
from vbceval.data.xlsx import sheet_rows

EXTENSIONS = (".csv", ".csv.gz", ".json", ".json.gz", ".txt", ".xlsx")
"""Endings of files that may hold a table."""


@dataclass(frozen=True)
class TextTable:
    """
    A table whose every cell is text.

    Attributes
    ----------
    path : Path
        File it came from.
    header : list of str
        Column labels as printed, stripped.
    rows : DataFrame
        One row for each complete, non-blank row of the file; string columns 0, 1, ... in the
        order of `header`; the index is the line number in the file.
    blank_rows : int
        Rows without any text, left out.
    encoding : str
        ``utf-8`` or ``windows-1252``.
    sha256 : str
        Hash of the file's bytes as stored.
    problems : tuple of str
        Rows that do not fit the header: sentences for `Problems`.
    """

    path: Path
    header: list[str]
    rows: pd.DataFrame
    blank_rows: int
    encoding: str
    sha256: str
    problems: tuple[str, ...]


def read_table(path: Path) -> TextTable:
    """
    Read a CSV, JSON (list of records) or .xlsx file, plain or gzipped, as text.

    Parameters
    ----------
    path : Path
        File to read.

    Raises
    ------
    DataError
        If the file is absent or empty, is not a table (a web page, a pointer, another encoding),
        or its compression is cut short. Rows that do not fit the header are not raised: they are
        listed in `problems`, so that they are reported with whatever else is wrong.
    """
    stored = _bytes(path)
    content = _decompressed(stored, path)
    if content[:4] == b"PK\x03\x04":
        records, encoding = sheet_rows(content, path.name), "utf-8"
        lines = list(range(1, len(records) + 1))
        problems: list[str] = []
    else:
        text, encoding = _decoded(content, path)
        if text.lstrip()[:1] in ("[", "{"):
            records, problems = _from_json(text, path)
            lines = list(range(len(records)))
        else:
            records, lines, problems = _from_csv(text)
    header = [label.strip() for label in records[0]] if records else []
    filled = [i for i, record in enumerate(records) if any(field.strip() for field in record)]
    if not any(header) or len(filled) < 2:
        found = Problems(f"file `{path.name}`")
        found.add("it holds no complete row of data. Download it again.")
        for problem in problems:
            found.add(problem)
        found.raise_if_any()
    body = pd.DataFrame(
        [records[i] for i in filled[1:]], index=[lines[i] for i in filled[1:]], dtype="str"
    )
    # a trailing comma in the header is not a column
    kept = [i for i, label in enumerate(header) if label or (body[i].str.strip() != "").any()]
    body = body[kept].set_axis(pd.RangeIndex(len(kept)), axis=1)
    return TextTable(
        path=path,
        header=[header[i] for i in kept],
        rows=body,
        blank_rows=len(records) - len(filled),
        encoding=encoding,
        sha256=hashlib.sha256(stored).hexdigest(),
        problems=tuple(problems),
    )


def _bytes(path: Path) -> bytes:
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"`{path}` cannot be opened ({error.strerror or error}), so it cannot be read. Check "
            "the path and its permissions."
        ) from error
    if not stored.strip():
        raise DataError(
            f"`{path.name}` is empty (0 bytes of data), as a download that failed leaves it. "
            "Download it again."
        )
    return stored


def _decompressed(stored: bytes, path: Path) -> bytes:
    if stored[:2] != b"\x1f\x8b":
        return stored
    try:
        return gzip.decompress(stored)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"`{path.name}` is a gzip file that ends too early or is damaged, so rows would be "
            "lost. Copy or download it again."
        ) from error


def _decoded(content: bytes, path: Path) -> tuple[str, str]:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in content[:4096]:
        raise DataError(
            f"`{path.name}` is not UTF-8 text (it looks like UTF-16 or a binary file), so its "
            "columns cannot be told apart. Save it as CSV in UTF-8."
        )
    try:
        text, encoding = content.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        try:
            # some releases were saved by a Windows spreadsheet: names with accents or dashes
            text, encoding = content.decode("windows-1252"), "windows-1252"
        except UnicodeDecodeError as error:
            raise DataError(
                f"`{path.name}` is text in neither UTF-8 nor Windows-1252 (byte {error.start:,} "
                "fits neither), so names and numbers may be wrong. Save it as CSV in UTF-8."
            ) from error
    start = text.lstrip()[:200].lower()
    if start.startswith(("<!doctype", "<html", "<?xml")):
        raise DataError(
            f"`{path.name}` is a web page, not a table: the address answered with a page. Download "
            "the CSV itself."
        )
    if start.startswith("version https://git-lfs"):
        raise DataError(
            f"`{path.name}` is a pointer to a file kept elsewhere (git-lfs), not the table. Fetch "
            "the file it points to."
        )
    return text, encoding


def _from_csv(text: str) -> tuple[list[list[str]], list[int], list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records: list[list[str]] = []
    lines: list[int] = []
    problems: list[str] = []
    short: list[int] = []
    long: list[int] = []
    try:
        for record in reader:
            blank = not any(field.strip() for field in record)
            if not records and blank:
                continue
            width = len(records[0]) if records else len(record)
            if len(record) == width or blank:
                records.append(record)
                lines.append(reader.line_num)
            else:
                (short if len(record) < width else long).append(reader.line_num)
    except csv.Error as error:
        problems.append(
            f"line {reader.line_num} is not valid CSV ({error}): a quoted name is not closed, as "
            "when a file is cut short. Download it again."
        )
    width = len(records[0]) if records else 0
    if short:
        problems.append(
            f"{len(short)} rows have fewer fields than the {width} columns of the header (lines "
            f"{listed(short)}), so the file was cut short or edited. Download it again."
        )
    if long:
        problems.append(
            f"{len(long)} rows have more fields than the {width} columns of the header (lines "
            f"{listed(long)}): a comma outside quotes shifts the values. Download it again."
        )
    if width == 1 and any(mark in records[0][0] for mark in ";\t|"):
        problems.append("the header has one column: the fields are not separated by commas.")
    return records, lines, problems


def _from_json(text: str, path: Path) -> tuple[list[list[str]], list[str]]:
    try:
        table = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"`{path.name}` is JSON that ends too early or is damaged (line {error.lineno}), so "
            "rows would be lost. Download it again."
        ) from error
    if not isinstance(table, list) or not all(isinstance(row, dict) for row in table):
        raise DataError(
            f"`{path.name}` is JSON but not a list of records, so it holds no table. Download the "
            "data, not their description."
        )
    header = list(table[0]) if table else []
    uneven = [number for number, row in enumerate(table, 1) if set(row) != set(header)]
    problems = []
    if uneven:
        problems.append(
            f"{len(uneven)} records lack a field of the first record or add one (records "
            f"{listed(uneven)}). Download the file again."
        )
    records = [header]
    for row in table:
        if set(row) == set(header):
            records.append(["" if row[k] is None else str(row[k]) for k in header])
    return records, problems
