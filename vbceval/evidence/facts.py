"""Published results as a table: read it, check it, give it types."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed, missing_columns
from vbceval.core.disclosure import is_small
from vbceval.core.errors import DataError
from vbceval.evidence.rounding import PRINTED_NUMBER, half_unit

PRINTED_COLUMNS = (
    "program",
    "program_type",
    "evaluator",
    "period",
    "outcome",
    "outcome_family",
    "stratum",
    "estimate",
    "unit",
    "se",
    "ci_low",
    "ci_high",
    "ci_level",
    "baseline_mean",
    "percent_effect",
    "n_participants",
    "n_beneficiaries_or_episodes",
    "source",
    "source_year",
    "note",
)
"""What the source prints; a blank cell was not printed there."""

CODED_COLUMNS = (
    "fact",
    "report",
    "quantity",
    "scope",
    "population",
    "denominator",
    "baseline_from",
    "superseded_by",
)
"""What was decided on reading the source: keys, and which question the row can answer."""

CHOICES: dict[str, tuple[str, ...]] = {
    "program_type": ("aco", "bundle", "primary_care", "hospital", "other"),
    "outcome_family": ("spending", "net_savings", "utilization", "quality"),
    "quantity": (
        "effect",  # treated minus untreated, from an evaluation
        "net",  # the same after payments to participants; the unit states the sign
        "payment",  # what was paid to participants
        "benchmark",  # administrative comparison with a target; not an effect
        "association",  # cross-section or regression slope
        "level",  # a mean or rate, not a contrast
        "selection",  # who takes part or is treated: composition, exit
        "gap",  # difference of effects, or change of a difference, between groups
        "method",  # difference of two specifications
    ),
    "scope": (
        "",
        "total",  # everything Medicare (or the payer) spends per person or per episode
        "institutional",  # Part A: hospital and post-acute, without professional services
        "component",  # one service, setting, drug, condition or visit
    ),
    "population": ("overall", "cohort", "subgroup"),
    "denominator": (
        "",
        "treated_baseline_mean",
        "control_mean",
        "baseline_mean",
        "counterfactual",
        "benchmark",
        "other_group_mean",
        "national_spending",
        "not_stated",
    ),
    "ci_level": ("", "80", "90", "95", "99"),
}
"""Closed lists. A blank is allowed only where it is listed."""

NUMBERS = (
    "estimate",
    "se",
    "ci_low",
    "ci_high",
    "ci_level",
    "baseline_mean",
    "percent_effect",
    "source_year",
)
REQUIRED_TEXT = ("fact", "report", "program", "evaluator", "outcome", "stratum", "unit", "source")

_COUNT = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<million> million)?( [A-Za-z-]+)?")


def read_facts(path: Path | str) -> pd.DataFrame:
    """
    Read a table of published results, check it and give its columns types.

    Nothing is estimated or corrected here. A number that contradicts another one is not an error
    of the file: `vbceval.evidence.check_facts` reports it.

    Parameters
    ----------
    path : path-like
        A CSV file in UTF-8 with the columns `PRINTED_COLUMNS` and `CODED_COLUMNS`.

    Returns
    -------
    DataFrame
        One row a printed result, in file order, with a plain index. Text columns keep what is
        printed (blank is ""), number columns are floats (blank is missing) in the unit of column
        ``unit``, in nominal US dollars unless it says otherwise; ``ci_level`` is in percent.
        ``fact`` is the row's name: stored in the file, so it survives reordering and edits.
        Added: ``estimate_rounding``, ``se_rounding``, ``interval_rounding``,
        ``baseline_rounding``, ``percent_rounding``: half a unit of the last printed digit;
        ``participants_number``, ``sample_number``: the number in ``n_participants`` and
        ``n_beneficiaries_or_episodes`` where the text is one number and at most a noun
        ("41 ACOs", "10.4 million"), else missing ("480+ ACOs", "88807 OCM; 90478 comparison");
        ``year``: the last calendar year in ``period``.

    Raises
    ------
    DataError
        If the file is absent or not a whole CSV, or any row breaks the schema: all failures of
        the file are listed together.
    """
    file = Path(path)
    raw = read_text_table(file)
    problems = Problems(f"facts file `{file.name}`")
    absent = missing_columns(raw, [*CODED_COLUMNS, *PRINTED_COLUMNS])
    if absent:
        problems.add(f"columns {listed(absent)} are missing. Add them, blank where not printed.")
        problems.raise_if_any()
    raw = raw[[*CODED_COLUMNS[:2], *PRINTED_COLUMNS, *CODED_COLUMNS[2:]]]
    _check_names(raw, problems)
    _check_choices(raw, problems)
    _check_numbers(raw, problems)
    _check_intervals(raw, problems)
    _check_references(raw, problems)
    _check_coding(raw, problems)
    _check_disclosure(raw, problems)
    problems.raise_if_any()
    return _typed(raw)


def read_text_table(file: Path) -> pd.DataFrame:
    """Read a CSV file as text, blank cells as "", and refuse one with short or long rows."""
    if not file.is_file():
        raise DataError(f"there is no file `{file.name}` in `{file.parent.name}`. Check the path.")
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            lines = list(csv.reader(stream, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"`{file.name}` is not a whole CSV file in UTF-8 ({error}), so rows would be lost. "
            "Get the file again."
        ) from error
    if len(lines) < 2:
        raise DataError(f"`{file.name}` has no rows. Get the file again.")
    header, rows = lines[0], [line for line in lines[1:] if line]
    odd = [i for i, row in enumerate(rows, 2) if len(row) != len(header)]
    if odd:
        raise DataError(
            f"`{file.name}` has {len(odd)} rows with more or fewer cells than its {len(header)} "
            f"columns (record {listed(odd)}): it looks truncated or badly quoted. Get it again."
        )
    return pd.DataFrame(rows, columns=header, dtype="str").apply(_stripped)


def _stripped(column: pd.Series) -> pd.Series:
    return column.str.strip()


def numbers(column: pd.Series) -> pd.Series:
    """Return a text column as floats, blank as missing; text that is not a number is missing."""
    whole = column.where(column.map(lambda t: PRINTED_NUMBER.fullmatch(t) is not None), "nan")
    return whole.astype(float)


def _named(raw: pd.DataFrame, rows: Iterable[object]) -> str:
    """Name rows for a message: by their key, or by line where the key is blank."""
    mask = np.asarray(list(rows), dtype=bool)
    lines = np.flatnonzero(mask) + 2
    names = raw["fact"].to_numpy()[mask]
    return listed(name or f"line {line}" for name, line in zip(names, lines, strict=True))


def _check_names(raw: pd.DataFrame, problems: Problems) -> None:
    for column in REQUIRED_TEXT:
        blank = raw[column].eq("")
        if blank.any():
            problems.add(f"`{column}` is blank in {_named(raw, blank)}. Every row needs it.")
    twice = raw["fact"].duplicated(keep=False) & raw["fact"].ne("")
    if twice.any():
        problems.add(
            f"`fact` must name one row, but {listed(raw.loc[twice, 'fact'].unique())} names "
            "several. Number the rows of a report."
        )
    printed = raw[[*PRINTED_COLUMNS]]
    again = printed.duplicated(keep=False)
    if again.any():
        problems.add(
            f"{_named(raw, again)} repeat one result in every printed column, so it would count "
            "twice. Remove the copies."
        )


def _check_choices(raw: pd.DataFrame, problems: Problems) -> None:
    for column, allowed in CHOICES.items():
        wrong = ~raw[column].isin(allowed)
        if wrong.any():
            known = listed(c for c in allowed if c)
            problems.add(
                f"`{column}` is {listed(raw.loc[wrong, column].unique())} in {_named(raw, wrong)}, "
                f"which is none of {known}. Correct the spelling."
            )


def _check_numbers(raw: pd.DataFrame, problems: Problems) -> None:
    for column in NUMBERS:
        text = raw[column].ne("") & numbers(raw[column]).isna()
        if text.any() and column not in CHOICES:
            problems.add(
                f"`{column}` is not a plain number in {_named(raw, text)} "
                f"({listed(raw.loc[text, column].unique())}). Use digits, a hyphen for minus and "
                "no thousands mark; leave the cell blank where nothing is printed."
            )
    blank = raw["source_year"].eq("")
    if blank.any():
        problems.add(f"`source_year` is blank in {_named(raw, blank)}. Every citation has one.")


def _check_intervals(raw: pd.DataFrame, problems: Problems) -> None:
    low, high, level = (raw[c].ne("") for c in ("ci_low", "ci_high", "ci_level"))
    one_end = low ^ high
    if one_end.any():
        problems.add(f"only one end of the interval is given in {_named(raw, one_end)}. Give both.")
    no_level = (low & high) ^ level
    if no_level.any():
        problems.add(
            f"`ci_level` must stand exactly where an interval stands, but does not in "
            f"{_named(raw, no_level)}: a 90 % and a 95 % interval give different standard errors."
        )


def _check_references(raw: pd.DataFrame, problems: Problems) -> None:
    known = set(raw["fact"])
    for column in ("baseline_from", "superseded_by"):
        lost = raw[column].ne("") & (~raw[column].isin(known) | raw[column].eq(raw["fact"]))
        if lost.any():
            problems.add(
                f"`{column}` of {_named(raw, lost)} is {listed(raw.loc[lost, column].unique())}, "
                "which is not another row. Name an existing `fact`."
            )
    chained = raw["superseded_by"].isin(raw.loc[raw["superseded_by"].ne(""), "fact"])
    chained &= raw["superseded_by"].ne("")
    if chained.any():
        problems.add(
            f"`superseded_by` of {_named(raw, chained)} names a row that is itself superseded, so "
            "the sample could drop out. Name the last report."
        )


def _check_coding(raw: pd.DataFrame, problems: Problems) -> None:
    of_spending = raw["quantity"].eq("effect") & raw["outcome_family"].eq("spending")
    no_scope = of_spending & raw["scope"].eq("")
    if no_scope.any():
        problems.add(
            f"`scope` is blank in {_named(raw, no_scope)}, effects on spending, so a component "
            "could pass for the total. Code it."
        )
    relative = raw["percent_effect"].ne("") | raw["baseline_mean"].ne("")
    unnamed = relative ^ raw["denominator"].ne("")
    if unnamed.any():
        problems.add(
            f"`denominator` must stand exactly where a percent or a baseline is printed, but does "
            f"not in {_named(raw, unnamed)}. Say what it is of, or `not_stated`."
        )


def _check_disclosure(raw: pd.DataFrame, problems: Problems) -> None:
    small = is_small(_sample_numbers(raw["n_beneficiaries_or_episodes"]))
    if small.any():
        problems.add(
            f"`n_beneficiaries_or_episodes` of {_named(raw, small)} is a count of 1-10 people, "
            "which may not be shown. Leave it blank."
        )


def _sample_numbers(column: pd.Series) -> np.ndarray:
    """Return the number in a text of one number, an optional "million" and an optional noun."""
    values = np.full(len(column), np.nan)
    for i, text in enumerate(column):
        found = _COUNT.fullmatch(text)
        if found:
            values[i] = float(found["number"]) * (1e6 if found["million"] else 1.0)
    return values


def _typed(raw: pd.DataFrame) -> pd.DataFrame:
    """Return the checked text table with number columns and what was read beside them."""
    frame = raw.copy()
    for column in NUMBERS:
        frame[column] = numbers(raw[column])
    frame["source_year"] = frame["source_year"].astype("int64")
    for column, added in (
        ("estimate", "estimate_rounding"),
        ("se", "se_rounding"),
        ("baseline_mean", "baseline_rounding"),
        ("percent_effect", "percent_rounding"),
    ):
        frame[added] = [half_unit(t) if t else np.nan for t in raw[column]]
    # both ends of an interval are printed alike: "0.93 to 1.0" was 1.00
    frame["interval_rounding"] = [
        min(half_unit(lo), half_unit(hi)) if lo and hi else np.nan
        for lo, hi in zip(raw["ci_low"], raw["ci_high"], strict=True)
    ]
    frame["participants_number"] = _sample_numbers(raw["n_participants"])
    frame["sample_number"] = _sample_numbers(raw["n_beneficiaries_or_episodes"])
    years = [[int(y) for y in re.findall(r"(?:19|20)\d\d", t)] for t in raw["period"]]
    frame["year"] = [max(found) if found else np.nan for found in years]
    return frame
