"""Checks at the door: every failure of a table is collected and reported together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from vbceval.core.errors import DataError, VbcevalError


class Problems:
    """Collect what is wrong with one input and raise it all at once.

    Parameters
    ----------
    what : str
        Name of the input, for the first line of the message.
    error : type, default DataError
        Class of the error raised by `raise_if_any`.

    Examples
    --------
    >>> problems = Problems("table `costs`")
    >>> problems.add("2 rows have no `year`. Fill it.")
    >>> problems.raise_if_any()
    Traceback (most recent call last):
    ...
    vbceval.core.errors.DataError: table `costs` cannot be used: 2 rows have no `year`. Fill it.
    """

    def __init__(self, what: str, error: type[VbcevalError] = DataError) -> None:
        self.what = what
        self.error = error
        self.found: list[str] = []

    def add(self, message: str) -> None:
        """Record one problem, a full sentence with its remedy."""
        self.found.append(message)

    def raise_if_any(self) -> None:
        """Raise one error that lists every recorded problem; do nothing when there is none."""
        if not self.found:
            return
        if len(self.found) == 1:
            raise self.error(f"{self.what} cannot be used: {self.found[0]}")
        lines = "\n".join(f"  {i}. {message}" for i, message in enumerate(self.found, 1))
        raise self.error(f"{self.what} cannot be used, {len(self.found)} problems:\n{lines}")


def listed(values: Iterable[object], *, most: int = 8) -> str:
    """Write values for a message, in backticks, cut after `most` with the number left out."""
    items = [f"`{v}`" for v in values]
    if len(items) <= most:
        return ", ".join(items)
    return ", ".join(items[:most]) + f" and {len(items) - most} more"


def missing_columns(frame: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Return the names in `columns` that `frame` does not have, in order, once each."""
    return [c for c in dict.fromkeys(columns) if c not in frame.columns]


def is_date(column: pd.Series) -> bool:
    """Return whether a column holds dates, times or calendar periods instead of numbers."""
    return (
        pd.api.types.is_datetime64_any_dtype(column)
        or pd.api.types.is_timedelta64_dtype(column)
        or isinstance(column.dtype, pd.PeriodDtype)
    )


def text_rows(column: pd.Series) -> np.ndarray:
    """Return the positions of values that are present but cannot be read as numbers."""
    if pd.api.types.is_numeric_dtype(column):
        return np.zeros(0, dtype=np.int64)
    numbers = pd.to_numeric(column, errors="coerce")
    return np.flatnonzero(np.asarray(numbers.isna() & column.notna()))
