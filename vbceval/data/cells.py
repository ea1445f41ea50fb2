"""Cells of a published table: marks, money, percents and dates as text, read as numbers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.typing import BoolArray, FloatArray

SUPPRESSED = "*"
"""How CMS prints a cell of 1-10 people."""

MISSING = frozenset(
    {"", "-", "--", "–", ".", "/", "^", "~", "na", "n/a", "#n/a", "nan", "null", "none"}
    | {"not applicable", "not available"}
)
"""Marks that mean no value, in lower case."""

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_ACCOUNTING = re.compile(r"\((.*)\)")
_TIME = r"(?:[ T].*)?"
_US_DATE = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](20\d\d|\d\d)" + _TIME)
_ISO_DATE = re.compile(r"(20\d\d)[/-](\d{1,2})[/-](\d{1,2})" + _TIME)
_EXCEL_EPOCH = pd.Timestamp("1899-12-30")


@dataclass(frozen=True)
class Cells:
    """
    One column, read.

    Attributes
    ----------
    numbers : ndarray of float, shape (n,)
        Values as printed (a percent sign is not applied), NaN where there is none.
    starred, unreadable : ndarray of bool, shape (n,)
        Cells that are `*`; that are text.
    """

    numbers: FloatArray
    starred: BoolArray
    unreadable: BoolArray


def read_numbers(column: pd.Series) -> Cells:
    """
    Read a text column of numbers: `$`, thousands separators, `%`, `(1,234)` and marks allowed.

    Parameters
    ----------
    column : Series of str, shape (n,)
        Cells as printed.

    Examples
    --------
    >>> cells = read_numbers(pd.Series(["$1,234", "6.46%", "*", "-", "(12)", "P4R"], dtype="str"))
    >>> cells.numbers.tolist()
    [1234.0, 6.46, nan, nan, -12.0, nan]
    >>> cells.unreadable.tolist()
    [False, False, False, False, False, True]
    """
    texts = [str(text).strip() for text in column.tolist()]
    numbers = np.full(len(texts), np.nan)
    starred = np.array([text == SUPPRESSED for text in texts], dtype=bool)
    unreadable = np.zeros(len(texts), dtype=bool)
    for position, text in enumerate(texts):
        if starred[position] or text.lower() in MISSING:
            continue
        plain = text if _NUMBER.fullmatch(text) else _plain(text)
        if plain and math.isfinite(float(plain)):
            numbers[position] = float(plain)
        else:
            unreadable[position] = True
    return Cells(numbers, starred, unreadable)


# minus signs of other alphabets become "-"; signs around a number go
_DROPPED = str.maketrans({"$": None, "%": None, "\u00a0": " ", "−": "-"})
# a comma between thousands and a space beside a number go; "12,5" and "1 2" are no numbers
_SEPARATOR = re.compile(r"(?<=\d),(?=\d{3}(?!\d))|(?<!\d) +| +(?!\d)")


def _plain(text: str) -> str:
    # the number without its dress, or nothing where it is not a number
    bare = _SEPARATOR.sub("", text.translate(_DROPPED))
    accounting = _ACCOUNTING.fullmatch(bare)
    bare = f"-{accounting.group(1)}" if accounting else bare
    return bare if _NUMBER.fullmatch(bare) else ""


def read_dates(column: pd.Series) -> tuple[pd.Series, BoolArray]:
    """
    Read start dates in any published spelling; return them and the cells that are not dates.

    Month first, as CMS prints them; years are 2000-2099, in two digits or four; a time of day is
    dropped; a bare number between 30,000 and 60,000 is a spreadsheet's day count.

    Parameters
    ----------
    column : Series of str, shape (n,)
        Cells as printed.

    Examples
    --------
    >>> spellings = ["1/1/14", "1/1/16 00:00", "01/01/2018 12:00:00 AM", "7/1/2019", "2020-01-01"]
    >>> dates, bad = read_dates(pd.Series(spellings, dtype="str"))
    >>> dates.dt.strftime("%Y-%m-%d").tolist()
    ['2014-01-01', '2016-01-01', '2018-01-01', '2019-07-01', '2020-01-01']
    """
    values: list[pd.Timestamp | None] = []
    bad = np.zeros(len(column), dtype=bool)
    for position, cell in enumerate(column.tolist()):
        text = str(cell).strip()
        value = None if text.lower() in MISSING or text == SUPPRESSED else _date(text)
        values.append(value)
        bad[position] = value is None and text.lower() not in MISSING and text != SUPPRESSED
    return pd.Series(values, index=column.index, dtype="datetime64[us]"), bad


def _date(text: str) -> pd.Timestamp | None:
    if re.fullmatch(r"[3-5]\d{4}(\.0*)?", text):
        return _EXCEL_EPOCH + pd.Timedelta(days=int(float(text)))
    if parts := _ISO_DATE.fullmatch(text):
        year, month, day = map(int, parts.groups())
    elif parts := _US_DATE.fullmatch(text):
        month, day, year = map(int, parts.groups())
    else:
        return None
    try:
        return pd.Timestamp(year=year % 100 + 2000, month=month, day=day)
    except ValueError:
        return None


def read_flags(column: pd.Series) -> tuple[pd.Series, BoolArray]:
    """Read 1/0, yes/no, true/false as a nullable boolean; return it and the other cells."""
    truth = {"1": True, "1.0": True, "yes": True, "y": True, "true": True}
    truth |= {"0": False, "0.0": False, "no": False, "n": False, "false": False}
    texts = [str(text).strip().lower() for text in column.tolist()]
    values = pd.array([truth.get(text) for text in texts], dtype="boolean")
    bad = np.array(
        [text not in truth and text not in MISSING and text != SUPPRESSED for text in texts],
        dtype=bool,
    )
    return pd.Series(values, index=column.index), bad


def percent_scale(
    cells: Cells, *, low: float, high: float, labels: list[str]
) -> tuple[float, str | None]:
    """
    Decide whether a column of percents is printed as fractions or as percents, by its values.

    A non-zero value lies between `low` and `high` once it is a fraction. Because `low` is more
    than `high` / 100, no value can be read both ways, and neither the year nor a percent sign is
    needed (the 2013 file prints fractions with one: `0.023373146%` is 2.3 percent).

    Parameters
    ----------
    cells : Cells
        The column.
    low, high : float
        Bounds of a non-zero absolute value as a fraction, `low` > `high` / 100.
    labels : list of str, length n
        Names of the rows, for the message.

    Returns
    -------
    tuple of float and str or None
        Factor that makes fractions (1 or 0.01), and what is wrong when no single factor fits.

    Examples
    --------
    >>> cells = read_numbers(pd.Series(["0", "98.08", "86.2"], dtype="str"))
    >>> percent_scale(cells, low=0.02, high=1.0, labels=["A1", "A2", "A3"])
    (0.01, None)
    """
    size = np.abs(cells.numbers)
    used = np.flatnonzero(np.isfinite(size) & (size > 0))
    if used.size == 0:
        return 1.0, None
    # half a unit of a number rounded to four digits at either end
    fits = {
        scale: (size * scale >= low - 5e-5) & (size * scale <= high + 5e-5) for scale in (1.0, 0.01)
    }
    best = max(fits, key=lambda scale: int(fits[scale][used].sum()))
    odd = used[~fits[best][used]]
    if odd.size == 0:
        return best, None
    meant = "fractions" if best == 1.0 else "percents"
    shown = listed(f"{labels[i]}: {cells.numbers[i]:g}" for i in odd)
    return best, (
        f"{odd.size} of {used.size} values do not fit a column of {meant} between "
        f"{low / best:g} and {high / best:g} ({shown})"
    )
