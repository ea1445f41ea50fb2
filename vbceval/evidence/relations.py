"""Which printed numbers must agree, declared as data: parts and totals, gross and net, counts."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed, missing_columns
from vbceval.evidence.facts import numbers, read_text_table
from vbceval.evidence.rounding import PRINTED_NUMBER, Span, half_unit

RELATION_COLUMNS = (
    "relation",
    "check",
    "role",
    "term",
    "fact",
    "field",
    "value",
    "multiplier",
    "note",
)
CHECKS = ("components", "net", "product", "same_value", "same_count")
LEFT, RIGHT = ("total", "net"), ("part", "gross", "payment")
"""Roles on the two sides of a relation. `scale` (net only) names the gross effect per person."""

ROUNDINGS = {
    "estimate": "estimate_rounding",
    "baseline_mean": "baseline_rounding",
    "percent_effect": "percent_rounding",
    "participants_number": None,
    "sample_number": None,
}
"""Number columns a relation may use, with the column of their rounding (none: half a person)."""

TEXT_FIELDS = ("note", "stratum", "outcome", "n_participants", "n_beneficiaries_or_episodes")
"""Text columns a typed value may be quoted from."""


def read_relations(path: Path | str) -> pd.DataFrame:
    """
    Read the file that says which printed numbers must agree.

    A relation is the rows with one name in ``relation``. Its members are multiplied within a
    ``term`` and added over terms, once for the left roles (`LEFT`) and once for the right ones
    (`RIGHT`); the two sides must be equal within rounding. A member is column ``field`` of row
    ``fact``; or the number ``value`` quoted from a text ``field``; or, with a blank ``fact``, the
    constant ``value``. Each is multiplied by ``multiplier``, which carries signs and units.
    Relations with check "net" are written with savings positive: net = gross - payments.

    Parameters
    ----------
    path : path-like
        A CSV file with the columns `RELATION_COLUMNS`.

    Returns
    -------
    DataFrame
        One row a member, in file order; ``value`` stays text, ``multiplier`` is a float (1 where
        blank).

    Raises
    ------
    DataError
        If the file is absent or truncated, or rows break the schema, all listed together.
    """
    file = Path(path)
    raw = read_text_table(file)
    problems = Problems(f"relations file `{file.name}`")
    absent = missing_columns(raw, RELATION_COLUMNS)
    if absent:
        problems.add(f"columns {listed(absent)} are missing. Add them.")
        problems.raise_if_any()
    for column, allowed in (("check", CHECKS), ("role", (*LEFT, *RIGHT, "scale"))):
        wrong = ~raw[column].isin(allowed)
        if wrong.any():
            problems.add(
                f"`{column}` is {listed(raw.loc[wrong, column].unique())}, which is none of "
                f"{listed(allowed)}. Correct the spelling."
            )
    for column in ("value", "multiplier"):
        text = raw[column].ne("") & ~raw[column].map(_is_number)
        if text.any():
            problems.add(
                f"`{column}` is not a number in {listed(raw.loc[text, 'relation'].unique())}. "
                "Use digits and a hyphen for minus."
            )
    kinds = raw[["relation", "check"]].drop_duplicates()
    mixed = kinds.loc[kinds["relation"].duplicated(), "relation"].unique()
    if len(mixed):
        problems.add(f"{listed(mixed)} have two kinds of `check`. Give each one.")
    has_left = raw["role"].isin(LEFT).groupby(raw["relation"], sort=False).any()
    has_right = raw["role"].isin(RIGHT).groupby(raw["relation"], sort=False).any()
    one_sided = has_left.index[~(has_left & has_right)]
    if len(one_sided):
        problems.add(
            f"{listed(one_sided)} have only one side, so nothing would be compared. Give each a "
            "total (or net) and its parts (or gross)."
        )
    problems.raise_if_any()
    table = raw[[*RELATION_COLUMNS]].copy()
    table["multiplier"] = numbers(raw["multiplier"]).fillna(1.0)
    return table


def resolve(relations: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    """
    Look up the number behind each member of each relation.

    Parameters
    ----------
    relations : DataFrame
        From `read_relations`.
    facts : DataFrame
        From `vbceval.evidence.read_facts`.

    Returns
    -------
    DataFrame
        `relations` with ``number``, already times its multiplier, and ``half``, how far rounding
        may have moved it.

    Raises
    ------
    DataError
        If a member names a row that is not there, a blank cell, or a value that its text does
        not contain, all listed together.
    """
    rows = {row["fact"]: row for row in facts.to_dict("records")}
    problems = Problems("the relations between facts")
    found = [_member(member, rows, problems) for member in relations.to_dict("records")]
    problems.raise_if_any()
    table = relations.copy()
    size = np.abs(table["multiplier"].to_numpy())
    table["number"] = np.array([value for value, _ in found]) * table["multiplier"].to_numpy()
    table["half"] = np.array([half for _, half in found]) * size
    return table


def side(members: pd.DataFrame, roles: tuple[str, ...]) -> tuple[float, Span]:
    """Return the sum over terms of products of members, as printed and with its rounding."""
    value, span = 0.0, Span(0.0, 0.0)
    for _, term in members[members["role"].isin(roles)].groupby("term", sort=False):
        product, spans = 1.0, Span(1.0, 1.0)
        for number, half in zip(term["number"], term["half"], strict=True):
            product, spans = product * number, spans * Span.around(number, half)
        value, span = value + product, span + spans
    return value, span


def _is_number(text: str) -> bool:
    return PRINTED_NUMBER.fullmatch(text) is not None


def _quotes(text: str, digits: str) -> bool:
    """Return whether `text` prints the number `digits`, not as a part of a longer one."""
    return re.search(rf"(?<![\d.]){re.escape(digits)}(?!\d|\.\d)", text) is not None


def _member(
    member: dict[Any, Any], rows: dict[str, dict[Any, Any]], problems: Problems
) -> tuple[float, float]:
    """Return one member's number and its rounding; add a problem where it has none."""
    relation, fact, field, value = (member[c] for c in ("relation", "fact", "field", "value"))
    if not fact:
        if value:
            return float(value), 0.0
        problems.add(f"a member of `{relation}` has neither a `fact` nor a `value`. Give one.")
    elif fact not in rows:
        problems.add(f"`{relation}` names `{fact}`, which is not a fact. Correct the name.")
    elif value:
        text = rows[fact][field] if field in TEXT_FIELDS else ""
        if _quotes(text, value.lstrip("-")):
            return float(value), half_unit(value)
        problems.add(f"`{relation}` quotes {value} from `{field}` of `{fact}`, which lacks it.")
    elif field in ROUNDINGS and not math.isnan(rows[fact][field]):
        rounding = ROUNDINGS[field]
        return rows[fact][field], rows[fact][rounding] if rounding else 0.5
    else:
        problems.add(f"`{relation}` uses `{field}` of `{fact}`, which has no number there.")
    return math.nan, math.nan
