"""The result of a settlement: named lines in order, over organizations and draws."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from vbceval.core.checks import listed
from vbceval.core.disclosure import say_people, suppress_small
from vbceval.core.errors import DataError
from vbceval.core.typing import Array, FloatArray
from vbceval.programs.terms import Used

Unit = Literal["usd", "rate", "people", "number", "flag", "text"]


@dataclass(frozen=True)
class Line:
    """
    One step of a settlement, kept in full precision.

    Attributes
    ----------
    name : str
        Name of the line.
    values : ndarray, shape (organizations,) or (organizations, draws)
        Amounts in `unit`; booleans for ``flag``, texts for ``text``.
    what : str
        What it is and how it follows from the lines before, a sentence.
    unit : str
        ``usd``, ``rate`` (a fraction), ``people``, ``number``, ``flag`` or ``text``.
    """

    name: str
    values: Array
    what: str
    unit: Unit


class Worksheet:
    """Collect the lines of a settlement in order.

    Parameters
    ----------
    n : int
        Number of organizations.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self.lines: list[Line] = []
        self.final = ""
        self.assumed: list[str] = []

    def assume(self, rows: Array, what: str) -> None:
        """
        Record what is assumed of some organizations because a column is missing.

        Parameters
        ----------
        rows : ndarray of bool, shape (organizations,)
            Of which; nothing is recorded without any.
        what : str
            Of which kind, what is assumed and why, the end of a sentence that starts with their
            number.
        """
        n = int(np.count_nonzero(rows))
        if n:
            self.assumed.append(f"{n:,} organization{'' if n == 1 else 's'} {what}")

    def add(
        self,
        name: str,
        values: ArrayLike,
        what: str,
        *,
        unit: Unit = "usd",
        final: bool = False,
    ) -> FloatArray:
        """
        Add a line and return its values as they are calculated with.

        Parameters
        ----------
        name : str
            Name of the line, once in a worksheet.
        values : array_like, shape (organizations, 1) or (organizations, draws)
            What it comes to.
        what : str
            A sentence that says so.
        unit : str
            Unit of the values.
        final : bool
            Whether this is the line that is paid (positive) or owed (negative).

        Returns
        -------
        ndarray, shape (organizations, 1) or (organizations, draws)
        """
        array = np.asarray(values)
        if array.ndim != 2 or array.shape[0] != self._n:
            array = np.broadcast_to(array, (self._n, array.shape[-1] if array.ndim == 2 else 1))
        if final:
            self.final = name
        self.lines.append(Line(name, array[:, 0] if array.shape[1] == 1 else array, what, unit))
        return array


@dataclass(frozen=True)
class Explanation:
    """How one organization was settled: `table`, and in words when printed."""

    text: str
    table: pd.DataFrame = field(repr=False)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Settlement:
    """
    Settled amounts of organizations in one performance year, with every step.

    Attributes
    ----------
    program : str
        Name of the program.
    title : str
        Its title, for words.
    performance_year : int
        The year.
    organizations, variants : ndarray of str, shape (organizations,)
        Who was settled, and under which track or option.
    lines : tuple of Line
        The steps in the program's own order.
    final : str
        Name of the line that is paid (positive) or owed (negative).
    used : tuple of Used
        Values of the rules that were looked up, with status and source.
    notes : tuple of str
        What the settlement assumes of every organization, sentences.
    assumed : tuple of str
        What it assumed of some for want of a column, with their number, sentences.
    """

    program: str
    title: str
    performance_year: int
    organizations: Array
    variants: Array
    lines: tuple[Line, ...]
    final: str
    used: tuple[Used, ...]
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.organizations)

    def __getitem__(self, name: str) -> Array:
        """Return the values of a line, shape (organizations,) or (organizations, draws)."""
        return self.line(name).values

    def line(self, name: str) -> Line:
        """Return a line by its name; a DataError names those there are."""
        for line in self.lines:
            if line.name == name:
                return line
        raise DataError(
            f"the settlement has no line `{name}`. It has {listed((x.name for x in self.lines), most=40)}."
        )

    @property
    def payment(self) -> FloatArray:
        """Dollars paid (positive) or owed (negative), of the final line."""
        return np.asarray(self[self.final], dtype=float)

    def tidy(self, *, level: float = 0.95) -> pd.DataFrame:
        """
        Return one row an organization and line.

        Parameters
        ----------
        level : float
            Probability of the interval over draws.

        Returns
        -------
        DataFrame
            ``organization variant performance_year step line value text conf_low conf_high unit
            what``; `value` is the mean over draws, for a flag the share of draws (0 or 1 without
            draws); the interval is missing for a line that does not vary over draws. `text` holds
            the value of lines of texts. Counts of 1-10 people are missing.
        """
        blocks = []
        for step, line in enumerate(self.lines, 1):
            block = pd.DataFrame(
                {
                    "organization": self.organizations,
                    "variant": self.variants,
                    "performance_year": self.performance_year,
                    "step": step,
                    "line": line.name,
                    **_summary(line, level),
                    "unit": line.unit,
                    "what": line.what,
                }
            )
            block["_row"] = np.arange(len(self))
            blocks.append(block)
        stacked = pd.concat(blocks, ignore_index=True)
        return stacked.sort_values(["_row", "step"], ignore_index=True).drop(columns="_row")

    def wide(self) -> pd.DataFrame:
        """Return one row an organization and one column a line; means over draws."""
        columns = {
            line.name: line.values if line.unit == "text" else _summary(line, 0.95)["value"]
            for line in self.lines
        }
        frame = pd.DataFrame({"organization": self.organizations, "variant": self.variants})
        return pd.concat([frame, pd.DataFrame(columns)], axis=1)

    def summary(self, line: str | None = None, *, level: float = 0.95) -> pd.DataFrame:
        """
        Summarise an amount over draws: mean, spread, interval, chance of a payment and of owing.

        Parameters
        ----------
        line : str, optional
            Name of a line in dollars; default the final one.
        level : float
            Probability of the interval.

        Returns
        -------
        DataFrame
            One row an organization, and a last row ``(all)`` for their sum: ``mean std_dev
            conf_low conf_high chance_paid chance_owing``. Without draws chances are 0 or 1 and
            the interval is the amount.
        """
        values = np.asarray(self[line or self.final], dtype=float)
        values = values[:, None] if values.ndim == 1 else values
        every = np.vstack([values, values.sum(axis=0)])
        low, high = _interval(every, level)
        return pd.DataFrame(
            {
                "organization": [*self.organizations, "(all)"],
                "mean": every.mean(axis=1),
                "std_dev": every.std(axis=1),
                "conf_low": low,
                "conf_high": high,
                "chance_paid": (every > 0).mean(axis=1),
                "chance_owing": (every < 0).mean(axis=1),
            }
        )

    def unconfirmed(self) -> pd.DataFrame:
        """Return the values used whose source is not confirmed, one row a value."""
        return self.values_used().query("status == 'unconfirmed'").reset_index(drop=True)

    def values_used(self) -> pd.DataFrame:
        """Return every value of the rules that was looked up: ``parameter value variants ...``."""
        rows = [
            {
                "parameter": used.parameter,
                "value": used.value,
                "variants": ", ".join(used.variants),
                "years": used.years,
                "status": used.status,
                "source": used.source,
            }
            for used in self.used
        ]
        columns = ["parameter", "value", "variants", "years", "status", "source"]
        return pd.DataFrame(rows, columns=columns)

    def explain(self, organization: str) -> Explanation:
        """
        Say step by step how one organization was settled.

        Parameters
        ----------
        organization : str
            Its name or identifier.

        Raises
        ------
        DataError
            If it was not settled.
        """
        where = np.flatnonzero(self.organizations == str(organization))
        if len(where) == 0:
            raise DataError(
                f"`{organization}` is not among the {len(self)} organizations settled, such as "
                f"{listed(self.organizations[:3])}."
            )
        row = int(where[0])
        said = [(line.name, written(line, row), line.what) for line in self.lines]
        table = pd.DataFrame(said, columns=["line", "value", "what"])
        variant = str(self.variants[row])
        head = f"{organization}, {self.title}, {variant}, performance year {self.performance_year}"
        steps = [f"{i}. {name}: {value}. {what}" for i, (name, value, what) in enumerate(said, 1)]
        doubtful = sorted(
            {u.parameter for u in self.used if u.status == "unconfirmed" and variant in u.variants}
        )
        rest = [f"Not confirmed: {listed(doubtful, most=20)}."] if doubtful else []
        said_of_some = [f"Assumed: {sentence}" for sentence in self.assumed]
        return Explanation("\n".join([head, *steps, *self.notes, *said_of_some, *rest]), table)


def written(line: Line, row: int) -> str:
    """Write the value of a line for one organization, rounded for display only."""
    values = line.values[row]
    if line.unit == "text":
        return str(values)
    numbers = np.atleast_1d(np.asarray(values, dtype=float))
    if np.isnan(numbers).all():
        return "none"
    if line.unit == "flag":
        share = float(numbers.mean())
        if share in (0.0, 1.0):
            return "yes" if share else "no"
        return f"yes in {share:.1%} of the draws"
    shown = _amount(float(numbers.mean()), line.unit)
    if len(numbers) > 1:
        low, high = np.quantile(numbers, [0.025, 0.975])
        shown += (
            f" (95% of draws {_amount(float(low), line.unit)} to {_amount(float(high), line.unit)})"
        )
    return shown


def _amount(value: float, unit: Unit) -> str:
    if not np.isfinite(value):
        return "no limit" if value > 0 else "none"
    if unit == "usd":
        return f"-${-value:,.2f}" if value < 0 else f"${value:,.2f}"
    if unit == "rate":
        return f"{value:.4%}"
    return f"{value:,.6g}" if unit == "number" else say_people(value)


def _summary(line: Line, level: float) -> dict[str, Array]:
    n = len(line.values)
    missing = np.full(n, np.nan)
    texts = np.full(n, None, dtype=object)
    if line.unit == "text":
        return {"value": missing, "text": line.values, "conf_low": missing, "conf_high": missing}
    values = np.asarray(line.values, dtype=float)
    if line.unit == "people":
        values = suppress_small(values)
    if values.ndim == 1:
        return {"value": values, "text": texts, "conf_low": missing, "conf_high": missing}
    low, high = _interval(values, level)
    return {"value": values.mean(axis=1), "text": texts, "conf_low": low, "conf_high": high}


def _interval(values: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    if not 0 < level < 1:
        raise DataError(f"`level` is {level:g}; it is a probability between 0 and 1, such as 0.95.")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=1)
    return low, high
