"""Who paid whom: every amount that stands between gross and net savings, one line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed, missing_columns
from vbceval.core.errors import DataError
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

    Raises
    ------
    DataError
        Listing every line of an unknown kind, or with a missing or negative amount.

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

    def __post_init__(self) -> None:
        object.__setattr__(self, "lines", tuple(self.lines))
        problems = Problems("the ledger")
        unknown = sorted({line.kind for line in self.lines} - set(KINDS))
        if unknown:
            problems.add(f"kinds {listed(unknown)} are not known; use {listed(KINDS, most=99)}.")
        for line in self.lines:
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
        lines = []
        for i in range(len(frame)):
            cell = {c: frame[c].iloc[i] if c in frame else None for c in _COLUMNS}
            has = {c: value for c, value in cell.items() if value is not None and value == value}
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
    def from_settlements(cls, settlements: Iterable[Settlement]) -> Ledger:
        """
        Read what programs pay and are owed: two lines a settlement, added up over organizations.

        The period of a line is the performance year. Draws stay draws, joint over settlements.

        Raises
        ------
        DataError
            If the payment of an organization is missing.
        """
        lines = []
        for found in settlements:
            payment = found.payment
            if np.isnan(payment).any():
                raise DataError(
                    f"payments of `{found.program}` {found.performance_year} are missing for some "
                    "organizations, so totals would be too small. Leave them out before settling."
                )
            period, source = float(found.performance_year), "settled by the program's rules"
            for kind, sign, word in (("incentive_payment", 1, "paid"), ("repayment", -1, "owed")):
                total = np.asarray(np.clip(sign * payment, 0.0, None).sum(axis=0))
                amount = total if total.ndim else float(total)
                name = f"{found.title}: {word}"
                lines.append(
                    Line(name=name, kind=kind, amount=amount, period=period, source=source)
                )
        return cls(tuple(lines))

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
            If a period or stratum is asked for and a line states none: its part is not known.
        """
        at = PARTIES.index(party)
        used = [line for line in self.lines if KINDS[line.kind][at]]
        for word, value in (("period", period), ("stratum", stratum)):
            if value is None:
                continue
            silent = [line.name for line in used if getattr(line, word) is None]
            if silent:
                raise DataError(
                    f"lines {listed(silent)} state no `{word}`, so their part in {word} {value} is "
                    f"not known. Give one line for each {word}, or ask for totals only."
                )
            used = [line for line in used if getattr(line, word) == value]
        total = sum((KINDS[line.kind][at] * np.asarray(line.amount) for line in used), np.zeros(()))
        return total if np.ndim(total) else float(total)

    def real(self, dollars: RealDollars) -> Ledger:
        """
        Return the ledger in dollars of one year; every line states its period.

        Raises
        ------
        DataError
            If the ledger is real already, or a line has no period that the index knows.
        """
        if self.unit == dollars.unit:
            return self
        if self.unit != "USD":
            raise DataError(f"the ledger is in {self.unit}; convert the nominal one.")
        years = [np.nan if line.period is None else line.period for line in self.lines]
        factors = dollars.factors(years)
        lines = (replace(x, amount=x.amount * f) for x, f in zip(self.lines, factors, strict=True))
        return Ledger(tuple(lines), dollars.unit)

    def tidy(self) -> pd.DataFrame:
        """
        Return one row a line: its amount (mean of draws) and what it adds to each party.

        Returns
        -------
        DataFrame
            ``line``, ``kind``, ``period``, ``stratum``, ``amount``, ``payer``, ``providers``,
            ``beneficiaries``, ``source``; dollars.
        """
        rows = []
        for line in self.lines:
            amount = float(np.mean(line.amount))
            payer, providers, beneficiaries = (sign * amount for sign in KINDS[line.kind])
            rows.append(
                {"line": line.name, "kind": line.kind, "period": line.period,
                 "stratum": line.stratum, "amount": amount, "payer": payer, "providers": providers,
                 "beneficiaries": beneficiaries, "source": line.source}
            )  # fmt: skip
        return pd.DataFrame(rows)
