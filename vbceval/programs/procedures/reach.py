"""Full and shared risk without a minimum rate: ACO REACH, GPDC and LEAD.

Order: adjusted benchmark, discount, quality withhold and what is earned back, corridors,
sequestration, cash already advanced.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from vbceval.core.errors import DataError
from vbceval.core.typing import FloatArray
from vbceval.programs.bands import by_bands
from vbceval.programs.conditions import refuse, refuse_outside
from vbceval.programs.inputs import Inputs
from vbceval.programs.program import Program
from vbceval.programs.settlement import Worksheet
from vbceval.programs.steps import corridor, sequestered
from vbceval.programs.terms import Terms, Used


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Settle organizations of one performance year.

    Raises
    ------
    DataError
        If a difference of trends is given for a year whose rules have no such adjustment, or an
        adjustment leaves a benchmark of zero.
    """
    book = Worksheet(len(inputs.organizations))
    discounted, payable = _benchmarks(terms, inputs, book)
    spent = book.add("expenditure", inputs.number("expenditure"), "Expenditures of the year.")
    gross = book.add("gross", payable - spent, "Payable benchmark less expenditures.")
    base = np.where(terms.text("corridor_base") == "after_withhold", payable, discounted)
    saved = by_bands(terms, "savings_bands", np.maximum(gross, 0.0), base)
    lost = by_bands(terms, "loss_bands", np.minimum(gross, 0.0), base)
    shared = book.add("shared", saved + lost, "The organization's part in the corridors.")
    earned = book.add(
        "earned",
        sequestered(shared, terms.number("sequestration")),
        "After sequestration of savings.",
    )
    pool = book.add(
        "pool_payment",
        inputs.number("pool_payment", absent=0.0),
        "From the pool of high performers.",
    )
    advanced = book.add(
        "advanced", inputs.number("advanced", absent=0.0), "Cash already advanced, recouped here."
    )
    book.add(
        "settlement",
        earned + pool - advanced,
        "Paid to the organization, or owed by it where negative.",
        final=True,
    )
    return book


def _benchmarks(terms: Terms, inputs: Inputs, book: Worksheet) -> tuple[FloatArray, FloatArray]:
    given = book.add("benchmark", inputs.number("benchmark"), "Benchmark before adjustments.")
    trend = _trend_adjustment(terms, inputs, book)
    adjusted = book.add(
        "adjusted_benchmark",
        given * (1 + terms.number("addition") + trend)
        + inputs.number("equity_adjustment", absent=0.0),
        "With addition, adjustment for trend and health-equity adjustment.",
    )
    refuse(
        terms,
        inputs,
        (
            adjusted <= 0,
            "have a benchmark of zero or less after adjustments, so no corridor follows.",
            "Correct `equity_adjustment` or `trend_difference`.",
        ),
    )
    discounted = book.add(
        "discounted", adjusted * (1 - terms.number("discount")), "Less the discount."
    )
    withheld = book.add(
        "withheld", discounted * terms.number("withhold"), "Withheld until quality is known."
    )
    kept: FloatArray | float = 1.0
    if "cisep_failed" in inputs:
        kept = np.where(inputs.flag("cisep_failed"), terms.number("cisep_share"), 1.0)
    earned = book.add(
        "earned_back",
        withheld * inputs.number("quality_score") * kept,
        "Withheld amount times the quality score; a part of it where the test of improvement failed.",
    )
    book.add("forfeited", withheld - earned, "Part of the withheld amount that is lost.")
    payable = book.add(
        "payable_benchmark",
        discounted - withheld + earned,
        "Benchmark that savings are counted from.",
    )
    return discounted, payable


def _trend_adjustment(terms: Terms, inputs: Inputs, book: Worksheet) -> FloatArray:
    if "trend_difference" not in inputs:
        return np.zeros((len(inputs.organizations), 1))
    bands = terms.tables("trend_bands", may_be_absent=True)
    difference = inputs.number("trend_difference", absent=0.0)
    without = (
        ~np.any([mask for mask, _ in bands], axis=0) if bands else np.ones(len(difference), bool)
    )
    refuse(
        terms,
        inputs,
        (
            without & (difference != 0),
            f"hold a `trend_difference`, and {terms.performance_year} has no adjustment for it.",
            "Leave the column out.",
        ),
    )
    counted = np.zeros(difference.shape)
    for mask, rows in bands:
        counted[mask] = corridor(difference[mask], 1.0, rows)
    large = np.abs(difference) > terms.number("trend_threshold", absent=np.inf)
    return book.add(
        "trend_adjustment",
        np.where(large, counted, 0.0),
        "Difference of trends in its bands, where it is above the threshold.",
        unit="rate",
    )


def equity_adjustment(
    program: Program, *, performance_year: int, months: ArrayLike
) -> tuple[FloatArray, tuple[Used, ...]]:
    """
    Return health-equity benchmark adjustments from months by decile of deprivation.

    Parameters
    ----------
    program : Program
        ``get("reach")``, or the program with other values.
    performance_year : int
        The year, 2023 or later.
    months : array_like, shape (organizations, 10)
        Months of aligned beneficiaries by decile of the deprivation score, least to most deprived.

    Returns
    -------
    dollars : ndarray, shape (organizations,)
        For the column ``equity_adjustment`` of a settlement; negative where few are deprived.
    used : tuple of Used
        The table of the year with status and source.

    Raises
    ------
    DataError
        If months are negative or missing, or not of ten deciles.
    DesignError
        If the year has no such adjustment.

    Examples
    --------
    >>> from vbceval.programs import get
    >>> months = [[1_000] * 10, [0] * 9 + [1_000]]
    >>> equity_adjustment(get("reach"), performance_year=2023, months=months)[0].tolist()
    [0.0, 30000.0]
    """
    counts = np.atleast_2d(np.asarray(months, dtype=float))
    if counts.shape[1] != 10 or np.isnan(counts).any():
        raise DataError(
            f"`months` has shape {counts.shape} or missing values; give one row an organization with "
            "the months of the ten deciles, 0 where nobody is in one."
        )
    refuse_outside("months by decile", low=0.0, high=np.inf, months=counts)
    terms = program.terms(performance_year, program.open_in(performance_year)[:1])
    rows = np.asarray(terms.table("equity_pbpm"), dtype=float)
    return np.asarray(counts @ rows[np.argsort(rows[:, 0]), 1]), terms.used()
