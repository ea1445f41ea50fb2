"""Settle the published MSSP results again and compare with what was earned and owed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vbceval.core.errors import DataError
from vbceval.core.typing import FloatArray
from vbceval.data.mssp_settlement import SettlementRows, read_settlement_rows
from vbceval.programs import Program, Settlement, get

DOLLAR = 1.0
"""Benchmarks, expenditures and what is earned are published in whole dollars."""

OUTCOMES = ("within_1_dollar", "within_rounding", "unexplained", "zero")
"""What the comparison of an ACO comes to; ``zero`` where no money is due, but for rounding."""


@dataclass(frozen=True)
class Replication:
    """
    Recomputed settlements of one file beside the published ones.

    Attributes
    ----------
    settlement : Settlement
        The settlement of every ACO.
    frame : DataFrame
        One row an ACO: ``organization name track published computed low high outcome note``,
        nominal dollars; `low` and `high` bound what the published rounding of the quality score
        and the sharing rate allows. `note` says what may be behind losses smaller than computed.
    """

    settlement: Settlement
    frame: pd.DataFrame

    def table(self) -> pd.DataFrame:
        """
        Return one row of counts.

        Returns
        -------
        DataFrame
            ``performance_year acos money_due paid owing within_1_dollar within_rounding
            median_half_width unexplained zero``. `within_rounding` includes those within a
            dollar; `median_half_width` is in dollars, over ACOs with money due.
        """
        frame = self.frame
        due = frame["outcome"] != "zero"
        exact = int((frame["outcome"] == "within_1_dollar").sum())
        half = (frame["high"] - frame["low"]).where(due) / 2
        row = {
            "performance_year": self.settlement.performance_year,
            "acos": len(frame),
            "money_due": int(due.sum()),
            "paid": int((frame["published"] > 0).sum()),
            "owing": int((frame["published"] < 0).sum()),
            "within_1_dollar": exact,
            "within_rounding": exact + int((frame["outcome"] == "within_rounding").sum()),
            "median_half_width": float(half.median()) if due.any() else np.nan,
            "unexplained": int((frame["outcome"] == "unexplained").sum()),
            "zero": int((~due).sum()),
        }
        return pd.DataFrame([row])

    def unexplained(self) -> pd.DataFrame:
        """Return the ACOs whose published amount the rules do not give."""
        return self.frame[self.frame["outcome"] == "unexplained"].reset_index(drop=True)


def replicate(
    path: str | Path, *, performance_year: int | None = None, program: Program | None = None
) -> Replication:
    """
    Recompute what every ACO of a results file earned or owed, and compare.

    The sharing rate comes from the track and the quality score; the published rate is read only
    for whether it is zero where the file does not say if the quality standard was met, and for
    the interval that its rounding allows.

    Parameters
    ----------
    path : str or Path
        A published results file of performance year 2013 or later.
    performance_year : int, optional
        Year of a file that does not tell it.
    program : Program, optional
        Rules other than those of ``mssp``, settled by the same procedure.

    Raises
    ------
    DataError
        Listing what is wrong with the file, or if it does not hold what was earned.
    """
    rows = read_settlement_rows(path, performance_year)
    if not has_published(rows):
        raise DataError(
            f"`{Path(path).name}` has no amounts earned or owed (`EarnSaveLoss`), so there is "
            "nothing to compare with. Settle it without the comparison."
        )
    return compare(rows, program=program)


def has_published(rows: SettlementRows) -> bool:
    """Return whether a file says what any ACO earned or owed."""
    return bool(rows.frame["earn_save_loss"].notna().any())


def compare(rows: SettlementRows, *, program: Program | None = None) -> Replication:
    """
    Settle rows that were read, and compare; see `replicate`.

    Parameters
    ----------
    rows : SettlementRows
        Rows of a results file with what was earned and owed.
    program : Program, optional
        Rules other than those of ``mssp``, settled by the same procedure.
    """
    program, year, frame = program or get("mssp"), rows.performance_year, rows.frame
    settlement = program.settle(frame, performance_year=year)
    published = frame["earn_save_loss"].fillna(0.0).to_numpy(dtype=float)
    computed = settlement.payment
    low, high = _allowed(program, settlement, rows)
    apart = np.abs(computed - published)
    slack = _dollar_rounding(settlement)
    inside = (published >= low - slack) & (published <= high + slack)
    # losses forgiven in full: a rounded score leaves a part of them, which was not due
    none_due = (published == 0) & ((apart <= DOLLAR) | inside)
    outcome = np.select(
        [none_due, apart <= DOLLAR, inside],
        ["zero", "within_1_dollar", "within_rounding"],
        "unexplained",
    )
    compared = pd.DataFrame(
        {
            "organization": settlement.organizations,
            "name": frame["name"].to_numpy(),
            "track": settlement.variants,
            "published": published,
            "computed": computed,
            "low": low,
            "high": high,
            "outcome": outcome,
        }
    )
    compared["note"] = _notes(program, settlement, compared, frame)
    return Replication(settlement, compared)


def _notes(
    program: Program, settlement: Settlement, compared: pd.DataFrame, frame: pd.DataFrame
) -> list[str]:
    """Return what may be behind losses that are smaller than computed, of each ACO; else blank."""
    year, rule = settlement.performance_year, program.parameters["loss_limit_revenue"]
    ended = frame["ended_in_year"].fillna(False).to_numpy(dtype=bool)
    relief = settlement["disaster_relief"]
    notes = []
    for i, row in enumerate(compared.to_dict("records")):
        share = rule.at(row["track"], year)
        smaller = row["outcome"] == "unexplained" and row["computed"] < row["published"] < 0
        if smaller and ended[i]:
            months = 12 * (row["published"] - relief[i]) / settlement["limited_losses"][i]
            note = (
                f"the agreement ended during the year; {months:.2f} months of losses would give it"
            )
        elif smaller and share is not None:
            revenue = (relief[i] - row["published"]) / float(str(share.value))
            note = (
                "participants' revenue is not published; the limit of losses would give it at a "
                f"revenue of {revenue:,.0f}"
            )
        else:
            note = ""
        notes.append(note)
    return notes


def _dollar_rounding(settlement: Settlement) -> FloatArray:
    """Return what the rounding of benchmark, expenditures, relief and result to dollars allows."""
    rate = settlement["sharing_rate"] + settlement["loss_rate"]
    return np.asarray(DOLLAR * rate + DOLLAR / 2 * (1 + (settlement["disaster_relief"] != 0)))


def _allowed(
    program: Program, settlement: Settlement, rows: SettlementRows
) -> tuple[FloatArray, FloatArray]:
    """Return the ends of what the published rounding of score and sharing rate allows."""
    low, high = _by_score(program, settlement, rows)
    rate = settlement["sharing_rate"]
    published = rows.frame["final_share_rate"].to_numpy(dtype=float)
    stated = (rate > 0) & (published > 0)
    # a half-year that is settled on the totals of the year
    halved = any(line.name == "year_share" for line in settlement.lines)
    part = settlement["year_share"] if halved else np.ones(len(settlement))
    with np.errstate(invalid="ignore", divide="ignore"):
        per_rate = settlement["after_sequestration"] / rate
    width = rows.half_widths["final_share_rate"]
    ends = [
        part * np.minimum(per_rate * (published + side * width), settlement["gain_limit"])
        for side in (-1, 1)
    ]
    low = np.where(stated, np.maximum(low, ends[0]), low)
    high = np.where(stated, np.minimum(high, ends[1]), high)
    return low, high


def _by_score(
    program: Program, settlement: Settlement, rows: SettlementRows
) -> tuple[FloatArray, FloatArray]:
    published = rows.frame["qual_score"].to_numpy(dtype=float)[:, None]
    sides = np.array([-1.0, 0.0, 1.0]) * rows.half_widths["qual_score"]
    # a score that is not published has no rounding; the settlement says what counted
    counted = np.nan_to_num(settlement["quality_score"])[:, None]
    scores = np.where(np.isnan(published), counted, np.clip(published + sides, 0.0, 1.0))
    payments = program.settle(
        rows.frame,
        performance_year=settlement.performance_year,
        draws={"qual_score": np.broadcast_to(scores, (len(scores), 3))},
    ).payment
    payments = payments.reshape(len(scores), -1)
    return payments.min(axis=1), payments.max(axis=1)
