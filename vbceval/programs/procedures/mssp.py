"""Settlement of the Medicare Shared Savings Program, all tracks and levels, 42 CFR part 425."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.core.checks import Problems
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.programs.inputs import Inputs, report_rows
from vbceval.programs.settlement import Worksheet
from vbceval.programs.steps import gate, interpolated, limited, sequestered
from vbceval.programs.terms import Terms

FIRST_FULL_YEAR = 2013
"""The first performance year of agreements of 2012 ended with 2013."""

HALVES = ("january_june", "july_december")
"""Parts of a year that were settled by themselves."""

_CHOICE_WIDTH = 5e-5  # published minimum rates have at most four decimals
_VARIABLE_WIDTH = 5e-4  # or three
_HALF_DOLLAR = 0.5
_JULY_STARTS = 2019  # agreements that start in this year start on its first of July
_WHOLE_YEAR = 0.75  # of benchmark a person times people: half-years' own totals are near a half


class _Quality(NamedTuple):
    """Whether the ACO shares in savings, the factor on its rate, and its score; (n, 1 or draws)."""

    passed: BoolArray
    factor: FloatArray
    score: FloatArray


class _Part(NamedTuple):
    """Part that counts of amounts shared, and of published relief; 1 but for half-years."""

    shared: FloatArray
    relief: FloatArray


class _Amounts(NamedTuple):
    """
    Benchmark and savings (losses if negative) in dollars, and whether the gate is met.

    `half` says who shares savings below the gate at a lower rate; `part` is what counts of a
    half-year.
    """

    benchmark: FloatArray
    gross: FloatArray
    met: BoolArray
    half: BoolArray
    part: _Part


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Settle ACOs: gate, quality, sharing, sequestration, then the limit of the payment.

    Savings are shared from the first dollar once they meet the minimum rate. Sequestration comes
    before the limit, so an ACO at the limit is paid all of it. Losses are limited, then reduced
    for extreme circumstances and by the months of an agreement that ended during the year, whose
    savings are not shared. A half-year whose totals are those of the calendar year counts for half.
    Recoupment of advance payments is a line after what is earned. What is assumed because a
    column is missing is said with the number of ACOs.

    Parameters
    ----------
    terms : Terms
        Those of the ACOs' tracks in the performance year.
    inputs : Inputs
        Checked columns.

    Raises
    ------
    DataError
        Listing ACOs without a quality score, choice of minimum rate or start of the agreement that
        their settlement needs, with half of what tells relief, or with a half-year in a year that
        has none.
    """
    book = Worksheet(len(inputs.organizations))
    benchmark = book.add("benchmark", inputs.number("benchmark"), "Updated benchmark.")
    spent = book.add("expenditure", inputs.number("expenditure"), "Expenditures of the year.")
    gross = book.add("gross", benchmark - spent, "Savings, or losses if negative.")
    book.add("gross_rate", gross / benchmark, "Savings as a share of the benchmark.", unit="rate")
    if "person_years" in inputs:
        per_head = gross / inputs.number("person_years")
        book.add("gross_per_person_year", per_head, "Savings a person-year.")
    minimum = book.add(
        "minimum_rate",
        _minimum_rate(terms, inputs),
        "Minimum savings rate; of two-sided tracks also the minimum loss rate.",
        unit="rate",
    )
    two_sided = terms.text("loss_rate_rule", absent="none") != "none"
    met = gate(gross, benchmark, savings=minimum, losses=np.where(two_sided, minimum, np.inf))
    book.add("minimum_met", met, "Whether the minimum rate is met or exceeded.", unit="flag")
    half = _half_rate(terms, inputs, gross, met)
    amounts = _Amounts(benchmark, gross, met, half, _part_of_year(terms, inputs, book))
    _check(terms, inputs, amounts)
    quality = _quality(terms, inputs, book)
    saved = _savings(terms, inputs, book, amounts, quality)
    owed = _losses(terms, inputs, book, amounts, quality)
    what = "Earned shared savings, or shared losses owed (negative)."
    earned = book.add("earned", saved + owed, what, final=True)
    advance = np.abs(inputs.number("adv_pay_recoup", absent=0.0))
    recouped = np.minimum(np.maximum(earned, 0.0), advance)
    recouped = book.add("recouped", -recouped, "Advance payments recouped from savings earned.")
    book.add("paid_out", earned + recouped, "Paid after recoupment.")
    _say_assumed(terms, inputs, book, amounts, owing=(earned < 0).any(axis=1))
    return book


def _say_assumed(
    terms: Terms, inputs: Inputs, book: Worksheet, amounts: _Amounts, *, owing: BoolArray
) -> None:
    """Say what is assumed of how many ACOs for want of a column, where it can change an amount."""
    start = terms.number("half_rate_from", absent=np.inf)
    category, began = inputs.known("rev_exp_cat"), inputs.known("current_start_date")
    could = (inputs.number("n_ab") >= terms.number("half_rate_people", absent=np.inf)) & ~(
        category & began
    )
    could = could & (~category | (inputs.text("rev_exp_cat") == "low"))
    could = could & (~began | (inputs.number("current_start_date") >= start))
    book.assume(
        ((amounts.gross > 0) & ~amounts.met & could).any(axis=1),
        "with savings below the minimum rate in BASIC: none shared, since `rev_exp_cat` or "
        "`current_start_date` is missing; if of low revenue in an agreement from 2024 on, half the "
        "rate would be.",
    )
    by_revenue = np.isfinite(terms.number("loss_limit_revenue", absent=np.inf))
    by_revenue = by_revenue & inputs.flag("rev_loss_limit", absent=True)
    by_revenue = by_revenue & ~inputs.known("participant_revenue")
    book.assume(
        owing & by_revenue[:, 0],
        "owing losses: limited by a share of the benchmark alone, since `participant_revenue` is "
        "missing; a share of revenue may be a smaller limit.",
    )
    unknown = inputs.flag("ended_in_year") & ~inputs.known("months_in_program")
    book.assume(
        owing & unknown[:, 0],
        "owing losses whose agreement ended during the year: counted in full, since "
        "`months_in_program` is missing.",
    )


def _check(terms: Terms, inputs: Inputs, amounts: _Amounts) -> None:
    found = Problems(f"the table for `{terms.program}` {terms.performance_year}")
    names, rule = inputs.organizations, terms.text("quality_rule")
    # the score sets the rate unless a standard replaces it, and some tracks' share of losses;
    # where nothing is shared, or neither standard is met, it changes nothing
    met = inputs.known("met_qps") & inputs.flag("met_qps")
    failed = inputs.known("met_qps") & ~inputs.flag("met_qps")
    out = failed & ((rule != "standard_or_scaled") | ~_alternative(inputs))
    unscored = ~out & ~inputs.known("qual_score") & ~_reporting_only(terms, inputs)
    unknown = (rule != "scaled") & ~inputs.known("met_qps") & ~inputs.known("final_share_rate")
    halved, undated = _half_relief(inputs), _undated(terms, inputs, amounts)
    saving, losing = _at_stake(amounts, unscored | unknown | halved | undated)
    by_quality = losing & (terms.text("loss_rate_rule", absent="none") == "one_minus_sharing")
    needed = saving & ((rule == "scaled") | ((rule == "standard_or_scaled") & ~met))
    unscored = unscored & (needed | by_quality)
    report_rows(
        found,
        unscored[:, 0],
        names,
        "have no `qual_score`, and the share of savings or losses follows from it.",
        "Fill it in, or put `pay_for_reporting` in `qual_status` where complete reporting counted.",
    )
    unknown = unknown & (saving | by_quality)
    report_rows(
        found,
        unknown[:, 0],
        names,
        "have no `met_qps`, and nothing is paid unless the quality standard is met.",
        "Fill it in with true or false.",
    )
    unchosen = (terms.text("minimum_rate_rule") == "chosen") & ~inputs.known("min_sav_perc")
    report_rows(
        found,
        unchosen[:, 0],
        names,
        "have no `min_sav_perc`, and a two-sided ACO chooses its minimum rate.",
        "Fill in the minimum savings rate.",
    )
    _report_losses(inputs, found, halved=halved & losing, undated=undated & losing)
    whole = np.isnan(terms.number("half_year_share", absent=np.nan))
    report_rows(
        found,
        (np.isin(inputs.text("part"), HALVES) & whole)[:, 0],
        names,
        f"hold a half-year in `part`, and {terms.performance_year} was settled whole.",
        "Correct the year, or put `full_year`.",
    )
    guarded = inputs.flag("guardrail")
    if guarded.any():
        report_rows(
            found,
            (guarded & ~terms.flag("three_way_guardrail", absent=False))[:, 0],
            names,
            f"say `guardrail`, and updates of {terms.performance_year} had none.",
            "Correct the year, or put false.",
        )
    found.raise_if_any()


def _report_losses(
    inputs: Inputs, found: Problems, *, halved: BoolArray, undated: BoolArray
) -> None:
    report_rows(
        found,
        halved[:, 0],
        inputs.organizations,
        "have one of `affected_share` and `affected_months`, and losses forgiven follow from both.",
        "Fill in the other, or `dis_adj`.",
    )
    report_rows(
        found,
        undated[:, 0],
        inputs.organizations,
        "have no `current_start_date`, and the limit of losses rises with the year of the agreement.",
        "Fill in the year in which it starts.",
    )


def _half_relief(inputs: Inputs) -> BoolArray:
    """Return who has one of the two numbers that tell relief, and no published relief."""
    one = inputs.known("affected_share") != inputs.known("affected_months")
    return np.asarray(one & ~inputs.known("dis_adj"))


def _undated(terms: Terms, inputs: Inputs, amounts: _Amounts) -> BoolArray:
    """Return who has no start of the agreement, and losses at a limit that rises with its years."""
    lowest = np.full((len(inputs.organizations), 1), np.inf)
    for mask, rows in terms.tables("loss_limit_benchmark", may_be_absent=True):
        if len(rows) > 1:
            lowest[mask] = min(share for _, share in rows)
    undated = np.isfinite(lowest) & ~inputs.known("current_start_date")
    if undated.any():
        most = -amounts.gross * terms.number("loss_rate_high", absent=0.0)
        at_limit = (most > lowest * amounts.benchmark).any(axis=1, keepdims=True)
        undated = undated & at_limit
    return undated


def _at_stake(amounts: _Amounts, asked: BoolArray) -> tuple[BoolArray, BoolArray]:
    """Return which of the ACOs asked for share savings, and losses, in some draw; (n, 1)."""
    saving, losing = np.zeros(asked.shape, dtype=bool), np.zeros(asked.shape, dtype=bool)
    rows = asked[:, 0]
    if rows.any():
        gross, met = amounts.gross[rows], amounts.met[rows]
        shared = (met | amounts.half[rows]) & (gross > 0)
        saving[rows] = shared.any(axis=1, keepdims=True)
        losing[rows] = (met & (gross < 0)).any(axis=1, keepdims=True)
    return saving, losing


def _minimum_rate(terms: Terms, inputs: Inputs) -> FloatArray:
    people, stated = inputs.number("n_ab"), inputs.number("min_sav_perc")
    bands = terms.table("minimum_rate_table")
    variable = interpolated(people, bands)
    # the table says "at least" for the fewest people, and a file then states the rate
    variable = np.where(people <= bands[0][1], np.fmax(variable, stated), variable)
    choices = np.array([row[0] for row in terms.table("minimum_rate_choices")])
    distance = np.nan_to_num(np.abs(stated[..., None] - choices), nan=np.inf)
    nearest = choices[np.argmin(distance, axis=-1)]
    fixed_choice = np.min(distance, axis=-1) < _CHOICE_WIDTH
    # a rate that is none of the fixed ones is the variable rate, rounded, or else holds as stated
    near = np.abs(stated - variable) < _VARIABLE_WIDTH
    chosen = np.where(fixed_choice, nearest, np.where(near, variable, stated))
    chosen = np.where(people < terms.number("variable_rate_below", absent=0.0), variable, chosen)
    rule = terms.text("minimum_rate_rule")
    fixed = terms.number("fixed_minimum_rate", absent=np.nan)
    rate = np.where(rule == "fixed", fixed, np.where(rule == "chosen", chosen, variable))
    return np.asarray(rate, dtype=float)


def _reporting_only(terms: Terms, inputs: Inputs) -> BoolArray:
    year = max(terms.performance_year, FIRST_FULL_YEAR)
    first = np.maximum(inputs.number("start_date"), FIRST_FULL_YEAR) == year
    first = first & terms.flag("first_year_reporting_only", absent=False)
    stated = inputs.text("qual_status") == "pay_for_reporting"
    return np.asarray(stated | (first & ~inputs.known("qual_score")), dtype=bool)


def _alternative(inputs: Inputs) -> BoolArray:
    """Return who meets the alternative standard; unstated, a published rate above 0 says so."""
    shares = inputs.number("final_share_rate", absent=0.0) > 0
    stated = inputs.known("met_alternative")
    return np.asarray(np.where(stated, inputs.flag("met_alternative"), shares), dtype=bool)


def _part_of_year(terms: Terms, inputs: Inputs, book: Worksheet) -> _Part:
    # performance years of six months were reconciled on the calendar year and pro-rated; files
    # may print totals of either, which the benchmark a person tells apart, but relief of the year
    year = terms.performance_year
    stated = np.isin(inputs.text("part"), HALVES)
    late = (inputs.number("current_start_date") == year) & (year == _JULY_STARTS)
    with np.errstate(invalid="ignore"):
        people = inputs.number("benchmark") / inputs.number("updated_bnchmk")
        whole = people > _WHOLE_YEAR * inputs.number("n_ab")
    half = terms.number("half_year_share", absent=1.0)
    share = np.where((stated | late) & whole, half, np.float64(1.0))
    if (share != 1).any():
        what = "Part of shared amounts that counts: a half-year, settled on totals of the year."
        book.add("year_share", share, what, unit="rate")
    return _Part(share, np.where(stated | late, half, np.float64(1.0)))


def _half_rate(terms: Terms, inputs: Inputs, gross: FloatArray, met: BoolArray) -> BoolArray:
    """Return who shares savings below the minimum rate, (organizations, 1 or draws)."""
    low = (inputs.text("rev_exp_cat") == "low") & (
        inputs.number("current_start_date") >= terms.number("half_rate_from", absent=np.inf)
    )
    enough = inputs.number("n_ab") >= terms.number("half_rate_people", absent=np.inf)
    return np.asarray((gross > 0) & ~met & low & enough)


def _quality(terms: Terms, inputs: Inputs, book: Worksheet) -> _Quality:
    rule = terms.text("quality_rule")
    published = inputs.number("qual_score")
    complete = _reporting_only(terms, inputs) & (published != 0)
    score = np.where(complete, 1.0, published)
    what = "Quality score; 100% where only complete reporting counted."
    book.add("quality_score", score, what, unit="rate")
    # without a statement about the standard, a published sharing rate of zero says it was failed
    shares = inputs.number("final_share_rate", absent=1.0) > 0
    standard = np.where(inputs.known("met_qps"), inputs.flag("met_qps"), shares)
    alternative = _alternative(inputs) & (rule == "standard_or_scaled") & ~standard
    passed = standard | alternative
    what = "Whether the quality standard or its alternative is met; else no savings are paid."
    book.add("quality_passed", passed, what, unit="flag")
    factor = np.where((rule == "scaled") | alternative, score, 1.0)
    return _Quality(passed, factor, score)


def _savings(
    terms: Terms, inputs: Inputs, book: Worksheet, amounts: _Amounts, quality: _Quality
) -> FloatArray:
    half = amounts.half
    what = "Whether savings below the minimum rate are shared at a lower rate (low revenue)."
    book.add("half_rate", half, what, unit="flag")
    part = np.where(half, terms.number("half_rate", absent=0.0), amounts.met & (amounts.gross > 0))
    # where the guardrail replaced the benchmark, losses count and savings do not; an agreement
    # that ended during the year shares none either
    none = inputs.flag("guardrail") | inputs.flag("ended_in_year")
    part = np.where(quality.passed & ~none, part, 0.0)
    rate = np.where(part > 0, terms.number("sharing_rate") * quality.factor * part, 0.0)
    what = "Share of savings paid: the track's rate with quality; 0 where nothing is shared."
    rate = book.add("sharing_rate", rate, what, unit="rate")
    shared = np.maximum(amounts.gross, 0.0) * rate
    shared = book.add("shared_savings", shared, "Savings times their share.")
    after = sequestered(shared, terms.number("sequestration"))
    after = book.add("after_sequestration", after, "Shared savings less sequestration.")
    cap = terms.number("gain_cap") * amounts.benchmark
    cap = book.add("gain_limit", cap, "Limit of the payment.")
    kept = limited(after, gain=cap) * amounts.part.shared
    return book.add("earned_savings", kept, "Within the limit.")


def _losses(
    terms: Terms, inputs: Inputs, book: Worksheet, amounts: _Amounts, quality: _Quality
) -> FloatArray:
    low = terms.number("loss_rate_low", absent=0.0)
    high = terms.number("loss_rate_high", absent=0.0)
    by_quality = np.clip(1 - terms.number("sharing_rate") * quality.score, low, high)
    by_quality = np.where(quality.passed, by_quality, high)
    fixed = terms.text("loss_rate_rule", absent="none") == "fixed"
    rate = np.where(fixed, terms.number("loss_rate", absent=0.0), by_quality)
    rate = np.where(amounts.met & (amounts.gross < 0), rate, 0.0)
    rate = book.add(
        "loss_rate", rate, "Share of losses owed; 0 where nothing is shared.", unit="rate"
    )
    shared = np.minimum(amounts.gross, 0.0) * rate
    shared = book.add("shared_losses", shared, "Losses times their share.")
    limit = book.add("loss_limit", _loss_limit(terms, inputs, amounts), "Limit of losses.")
    capped = limited(shared, loss=limit) * amounts.part.shared
    capped = book.add("limited_losses", capped, "Within the limit.")
    if inputs.flag("ended_in_year").any():
        months = inputs.number("months_in_program", absent=12.0) / 12
        capped = capped * np.where(inputs.flag("ended_in_year"), months, 1.0)
        what = "Losses of the months in the program, where the agreement ended during the year."
        capped = book.add("months_losses", capped, what)
    relief = np.minimum(_relief(terms, inputs, capped, amounts.part.relief), -capped)
    what = "Losses forgiven for extreme and uncontrollable circumstances."
    relief = book.add("disaster_relief", relief, what)
    return book.add("owed_losses", capped + relief, "Losses owed (negative).")


def _relief(terms: Terms, inputs: Inputs, owed: FloatArray, part: FloatArray) -> FloatArray:
    months = inputs.number("affected_months", absent=0.0) / 12
    computed = -owed * months * inputs.number("affected_share", absent=0.0)
    if "dis_adj" not in inputs:
        return computed
    published = np.abs(inputs.number("dis_adj", absent=0.0)) * part
    # whole dollars are published, so losses forgiven in full can differ by half of one; where all of
    # a year was affected, relief that is less than the losses says that an unpublished limit was
    full = -owed - published <= _HALF_DOLLAR
    full = full | ((published > 0) & terms.flag("relief_is_full", absent=False))
    return np.where(inputs.known("dis_adj"), np.where(full, -owed, published), computed)


def _loss_limit(terms: Terms, inputs: Inputs, amounts: _Amounts) -> FloatArray:
    # the limit may rise with the performance year of the agreement, counted from its start
    start = np.maximum(inputs.number("current_start_date", absent=-np.inf), FIRST_FULL_YEAR)
    of_agreement = np.maximum(terms.performance_year - start + 1, 1)
    share = np.zeros_like(start)
    for mask, rows in terms.tables("loss_limit_benchmark", may_be_absent=True):
        for first, value in rows:
            share = np.where(mask[:, None] & (of_agreement >= first), value, share)
    by_revenue = terms.number("loss_limit_revenue", absent=np.inf)
    by_revenue = by_revenue * inputs.number("participant_revenue", absent=np.inf)
    by_revenue = np.where(inputs.flag("rev_loss_limit", absent=True), by_revenue, np.inf)
    return np.minimum(share * amounts.benchmark, by_revenue)
