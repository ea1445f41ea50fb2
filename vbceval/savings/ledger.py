"""Who paid whom: every amount that stands between gross and net savings, one line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, is_date, listed, missing_columns, text_rows
from vbceval.core.errors import DataError, DesignError
from vbceval.core.typing import FloatArray
from vbceval.programs import Settlement
from vbceval.savings.dollars import RealDollars

Party = Literal["payer", "providers", "beneficiaries"]
PARTIES: tuple[Party, ...] = ("payer", "providers", "beneficiaries")

# What a dollar of each kind adds to the payer, to providers and to beneficiaries.
KINDS: Mapping[str, tuple[int, int, int]] = {
    "incentive_payment": (-1, 1, 0),
    "repayment": (1, -1, 0),
    "model_payment": (-1, 1, 0),
    "advance_payment": (-1, 1, 0),
    "recoupment": (1, -1, 0),
    "apm_bonus": (-1, 1, 0),
    "other_program_payment": (-1, 1, 0),
    "overlap": (-1, 0, 0),
    "operating_cost": (-1, 0, 0),
    "participation_cost": (0, -1, 0),
    "cost_sharing_support": (-1, 0, 1),
}

_COLUMNS = ("name", "kind", "amount", "period", "stratum", "source")


@dataclass(frozen=True, kw_only=True)
class Line:
    """
    One line of a ledger.

    Parameters
    ----------
    name : str
        Words for tables and figures.
    kind : str
        ``incentive_payment`` (shared savings, reconciliation payments, bonuses), ``repayment``
        (shared losses), ``model_payment`` (care-management and enhanced fees), ``advance_payment``
        and ``recoupment`` of it, ``apm_bonus`` (paid because of participation),
        ``other_program_payment`` (what the program caused another to pay), ``overlap`` (gross
        savings that another program counts as well), ``operating_cost`` (of the payer),
        ``participation_cost`` (of providers) and ``cost_sharing_support`` (waived cost sharing and
        rewards to beneficiaries).
    amount : float or array, shape (draws,)
        Dollars, 0 or more in the direction of the kind; draws where the amount is not known, for
        example a settlement of posterior draws.
    period : float, optional
        Year of the dollars and of the savings that the line belongs to.
    stratum : str, optional
        Stratum of organizations that the line belongs to.
    source : str, default ""
        Document or table of the amount.
    """

    name: str
    kind: str
    amount: float | FloatArray
    period: float | None = None
    stratum: str | None = None
    source: str = ""

    def adds(self, party: Party) -> int:
        """Return what a dollar of the line adds to a party: 1, 0 or -1."""
        if party not in PARTIES:
            raise DesignError(f"`party` is {party!r}; use one of {listed(PARTIES)}.")
        return KINDS[self.kind][PARTIES.index(party)]


@dataclass(frozen=True)
class Ledger:
    """
    The lines between gross and net savings.

    Parameters
    ----------
    lines : sequence of Line
        Nominal dollars; `real` converts them.
    unit : str, default "USD"
        Unit of the amounts.
    price_index : str, default ""
        Source of the index by which they were converted.

    Raises
    ------
    DataError
        Listing every line of an unknown kind, with a missing or negative amount, or a period that
        is no number.

    Examples
    --------
    >>> book = Ledger((
    ...     Line(name="Reconciliation payments", kind="incentive_payment", amount=9.0e6),
    ...     Line(name="Repayments", kind="repayment", amount=1.0e6),
    ... ))
    >>> book.total("payer"), book.total("providers"), book.total("beneficiaries")
    (-8000000.0, 8000000.0, 0.0)
    """

    lines: tuple[Line, ...]
    unit: str = "USD"
    price_index: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "lines", tuple(self.lines))
        problems = Problems("the ledger")
        unknown = sorted({line.kind for line in self.lines} - set(KINDS))
        if unknown:
            problems.add(f"kinds {listed(unknown)} are not known; use {listed(KINDS, most=99)}.")
        for line in self.lines:
            year = np.asarray(np.nan if line.period is None else line.period)
            if not np.issubdtype(year.dtype, np.number):
                problems.add(f"`{line.name}` has the period {line.period!r}; give a number.")
            amount = np.asarray(line.amount, dtype=float)
            if amount.ndim > 1 or not amount.size:
                problems.add(
                    f"`{line.name}` has amounts of shape {amount.shape}; give one number, or draws."
                )
            elif not np.isfinite(amount).all() or (amount < 0).any():
                problems.add(
                    f"`{line.name}` has missing or negative amounts. An amount is 0 or more in the "
                    "direction of its kind: what providers owe is a `repayment` or a `recoupment`."
                )
        sizes = {np.size(line.amount) for line in self.lines if np.ndim(line.amount)}
        if len(sizes) > 1:
            problems.add(f"lines have {listed(sorted(sizes))} draws; they must be joint draws.")
        problems.raise_if_any()

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, *, unit: str = "USD") -> Ledger:
        """
        Read lines from a table with columns ``name``, ``kind``, ``amount``.

        ``period``, ``stratum`` and ``source`` are optional columns.

        Raises
        ------
        DataError
            If a column is missing, or a line is not valid.
        """
        absent = missing_columns(frame, ["name", "kind", "amount"])
        if absent:
            raise DataError(f"the ledger table has no column {listed(absent)}.")
        problems = Problems("the ledger table")
        for column in ("amount", "period"):
            if column in frame and (is_date(frame[column]) or len(text_rows(frame[column]))):
                problems.add(f"`{column}` holds text or dates. Make it numbers.")
        problems.raise_if_any()
        lines = []
        for i in range(len(frame)):
            cell = {c: frame[c].iloc[i] if c in frame else None for c in _COLUMNS}
            has = {c: value for c, value in cell.items() if not pd.isna(value)}
            lines.append(
                Line(
                    name=str(has.get("name", "")),
                    kind=str(has.get("kind", "")),
                    amount=float(has.get("amount", np.nan)),
                    period=float(has["period"]) if "period" in has else None,
                    stratum=str(has["stratum"]) if "stratum" in has else None,
                    source=str(has.get("source", "")),
                )
            )
        return cls(tuple(lines), unit)

    @classmethod
    def from_settlements(
        cls,
        settlements: Iterable[Settlement],
        *,
        kind: str = "incentive_payment",
        strata: Mapping[str, str] | None = None,
    ) -> Ledger:
        """
        Read what programs pay and are owed, added up over organizations, in lines of their own.

        A settlement gives a line of what is paid and one of what is owed, and one of advance payments
        that it recoups (its line ``recouped``, where there is any). The advance payments themselves
        are lines of the year in which they were made.

        Parameters
        ----------
        settlements : iterable of Settlement
            The period of their lines is the performance year. Draws stay draws, joint over
            settlements.
        kind : str, default "incentive_payment"
            Kind of what is paid: ``model_payment`` for care-management fees, ``apm_bonus`` for bonuses
            of Advanced APMs. What is owed is a ``repayment``.
        strata : mapping of str to str, optional
            Stratum of each organization as the savings name it, such as ``"rural=yes"``: the lines
            are then by stratum.

        Raises
        ------
        DataError
            If an organization has no stratum, or its payment is missing or not in dollars.
        """
        return cls(tuple(line for found in settlements for line in _settled(found, kind, strata)))

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def total(
        self, party: Party, *, period: float | None = None, stratum: str | None = None
    ) -> float | FloatArray:
        """
        Return what the lines add to a party: a number, or draws where a line has them.

        Raises
        ------
        DataError
            If a period or stratum is asked for and a line states none, so that its part is not
            known; or no line is of the stratum.
        """
        lines = self.lines_of(party, period=period, stratum=stratum)
        total = sum((line.adds(party) * np.asarray(line.amount) for line in lines), np.zeros(()))
        return total if np.ndim(total) else float(total)

    def lines_of(
        self, party: Party, *, period: float | None = None, stratum: str | None = None
    ) -> tuple[Line, ...]:
        """
        Return the lines that touch a party, of one period or stratum where it is given.

        Raises
        ------
        DataError
            If a period or stratum is asked for and a line states none, or no line is of the stratum.
        """
        used = [line for line in self.lines if line.adds(party)]
        if stratum is not None and used and stratum not in {line.stratum for line in used}:
            named = sorted({line.stratum for line in used if line.stratum is not None})
            if named:
                raise DataError(
                    f"no line is of stratum {stratum} (lines are of {listed(named)}). Name strata "
                    "as the savings do, and give a line of 0 where nothing was paid."
                )
        for word, value in (("period", period), ("stratum", stratum)):
            if value is None:
                continue
            silent = [line.name for line in used if getattr(line, word) is None]
            if silent:
                raise DataError(
                    f"lines {listed(dict.fromkeys(silent))} state no `{word}`, so their part in "
                    f"{word} {value} is not known. Give one line for each {word}, or ask for totals "
                    "only."
                )
            used = [line for line in used if getattr(line, word) == value]
        return tuple(used)

    def real(self, dollars: RealDollars) -> Ledger:
        """
        Return the ledger in dollars of one year; every line states its period.

        Raises
        ------
        DataError
            If the ledger is in other real dollars, or a line has no period that the index knows.
        """
        if (self.unit, self.price_index) == (dollars.unit, dollars.source):
            return self
        if self.unit != "USD":
            by = f" by `{self.price_index}`" if self.price_index else ""
            raise DataError(f"the ledger is in {self.unit}{by} already; convert the nominal one.")
        years = [np.nan if line.period is None else line.period for line in self.lines]
        factors = dollars.factors(years)
        lines = (
            replace(
                line,
                amount=np.asarray(line.amount) * f if np.ndim(line.amount) else line.amount * f,
            )
            for line, f in zip(self.lines, factors, strict=True)
        )
        return Ledger(tuple(lines), dollars.unit, dollars.source)

    def tidy(self, level: float = 0.95) -> pd.DataFrame:
        """
        Return one row a line: its amount (mean of draws) and what it adds to each party.

        Parameters
        ----------
        level : float, default 0.95
            Probability of intervals over draws.

        Returns
        -------
        DataFrame
            ``line``, ``kind``, ``period``, ``stratum``, ``amount``, ``conf_low``, ``conf_high`` (of
            `amount`, missing where it is known), ``payer``, ``providers``, ``beneficiaries``,
            ``source``; dollars.
        """
        rows = []
        for line in self.lines:
            amount = float(np.mean(line.amount))
            low, high = interval(np.asarray(line.amount, dtype=float), level)
            rows.append(
                {"line": line.name, "kind": line.kind, "period": line.period,
                 "stratum": line.stratum, "amount": amount, "conf_low": low, "conf_high": high,
                 "payer": line.adds("payer") * amount,
                 "providers": line.adds("providers") * amount,
                 "beneficiaries": line.adds("beneficiaries") * amount, "source": line.source}
            )  # fmt: skip
        return pd.DataFrame(rows)


def interval(draws: FloatArray, level: float) -> tuple[float, float]:
    """
    Return the equal-tailed interval of draws; missing for an amount that is known.

    Raises
    ------
    DataError
        If the level is no probability.
    """
    if not 0 < level < 1:
        raise DataError(f"`level` is {level:g}; it is a probability between 0 and 1, such as 0.95.")
    if draws.size == 1:
        return np.nan, np.nan
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def dollars_paid(found: Settlement) -> FloatArray:
    """
    Return what each organization is paid or owes, shape (organizations, draws); 1 draw if known.

    Raises
    ------
    DataError
        If a payment is missing.
    """
    payment = found.payment[:, None] if found.payment.ndim == 1 else found.payment
    if np.isnan(payment).any():
        raise DataError(
            f"payments of `{found.program}` {found.performance_year} are missing for "
            f"{int(np.isnan(payment).any(axis=1).sum())} organizations, so totals would be too small. "
            "Leave them out before settling, or fill in what they lack."
        )
    return payment


def _settled(found: Settlement, kind: str, strata: Mapping[str, str] | None) -> Iterator[Line]:
    """Yield what a settlement pays and is owed, by stratum where strata are given."""
    payment = dollars_paid(found)
    names = [str(x) for x in found.organizations]
    absent = [x for x in names if strata is not None and pd.isna(strata.get(x, np.nan))]
    if absent:
        raise DataError(
            f"{len(absent)} organizations of `{found.program}` {found.performance_year} have no "
            f"stratum: {listed(absent)}. Add them."
        )
    held = np.array(["" if strata is None else str(strata[x]) for x in names], dtype=object)
    for stratum in pd.unique(held):
        inside = held == stratum
        amounts = [
            (kind, "paid", np.clip(payment[inside], 0.0, None)),
            ("repayment", "owed", np.clip(-payment[inside], 0.0, None)),
        ]
        if "recouped" in {line.name for line in found.lines}:
            recouped = -np.asarray(found["recouped"], dtype=float)[inside]
            if recouped.any():
                amounts.append(("recoupment", "advance payments recouped", recouped))
        for of, words, each in amounts:
            total = np.atleast_1d(each.sum(axis=0))
            yield Line(
                name=f"{found.title}: {words}", kind=of,
                amount=total if total.size > 1 else float(total[0]),
                period=float(found.performance_year), stratum=stratum or None,
                source="settled by the program's rules",
            )  # fmt: skip
