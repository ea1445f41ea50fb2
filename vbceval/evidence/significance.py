"""What a note says about a P value: an exact one, a bound, or only a word."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from vbceval.evidence.rounding import Span, half_unit

Relation = Literal["equal", "below", "above"]

SIGNIFICANT_AT = 0.10
NOT_SIGNIFICANT_AT = 0.05
"""Levels read into the bare words "significant" and "not significant".

Contractor reports test at 10 %, journals at 5 %. Where no level is printed, each word is given the
weaker of its two meanings: P < .10, and P > .05.
"""

_P = re.compile(r"(?<!\w)p\s*(?P<relation><=|=<|≤|<|=|>)?\s*(?P<number>0?\.\d+)", re.IGNORECASE)
_OF_SOMETHING_ELSE = re.compile(r"threshold|interaction", re.IGNORECASE)
_NAMED_AFTER = re.compile(
    r"\s*(\(|(for|of|as) (the )?)?(interaction|(significance )?threshold)", re.I
)
_SIGNIFICANT = re.compile(r"(statistically )?significant", re.IGNORECASE)
_NOT_SIGNIFICANT = re.compile(
    r"(ns|n\.s\.|not (statistically )?significant|no significant (effect|difference|change))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class PrintedP:
    """A printed two-sided P value.

    Parameters
    ----------
    relation : {"equal", "below", "above"}
        Whether the P value is printed, or only that it is below or above `value`.
    value : float
        The printed number, between 0 and 1.
    half : float
        Half a unit of its last digit; 0 for a bound.
    """

    relation: Relation
    value: float
    half: float = 0.0

    @property
    def span(self) -> Span:
        """The P values that are consistent with what is printed."""
        if self.relation == "below":
            return Span(0.0, self.value)
        if self.relation == "above":
            return Span(self.value, 1.0)
        return Span(max(0.0, self.value - self.half), min(1.0, self.value + self.half))


def printed_p(note: str) -> PrintedP | None:
    """
    Read the P value of a row's estimate from its note.

    The first P value counts that is not of an interaction and not a threshold for significance.
    Without one, a clause that is only the word "significant" or "ns" gives a bound. Sentences about
    significance of something else ("no significant impact for low-risk cancers") are not read.

    Parameters
    ----------
    note : str
        Clauses separated by semicolons; may be empty.

    Returns
    -------
    PrintedP or None
        None where nothing is printed about the P value of the estimate.

    Examples
    --------
    >>> printed_p("P=.005; MSA-level 2SLS")
    PrintedP(relation='equal', value=0.005, half=0.0005)
    >>> printed_p("significance threshold p<=0.10") is None
    True
    >>> printed_p("significant; 534 comparison practices")
    PrintedP(relation='below', value=0.1, half=0.0)
    """
    clauses = [clause.strip() for clause in note.split(";")]
    for clause in clauses:
        for match in _P.finditer(clause):
            before, after = clause[: match.start()], clause[match.end() :]
            if _OF_SOMETHING_ELSE.search(before) or _NAMED_AFTER.match(after):
                continue
            value = float(match["number"])
            relation = match["relation"] or "="
            if relation == "=":
                return PrintedP("equal", value, half_unit("0" + match["number"].lstrip("0")))
            return PrintedP("above" if relation == ">" else "below", value)
    for clause in clauses:
        if _SIGNIFICANT.fullmatch(clause):
            return PrintedP("below", SIGNIFICANT_AT)
        if _NOT_SIGNIFICANT.fullmatch(clause):
            return PrintedP("above", NOT_SIGNIFICANT_AT)
    return None
