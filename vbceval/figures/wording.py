"""Words on exhibits: names of outcomes and series, units, and the sign convention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError
from vbceval.figures.style import Style

Labels = Mapping[str, str]

_MONEY = ("usd", "dollar", "$")
_SPENDING = ("spend", "expenditure", "cost", "payment", "paid", "allowed", "pbpm", "pbpy", "pmpm")


def is_money(unit: str) -> bool:
    """Return True for a unit of measure in dollars."""
    return any(word in unit.lower() for word in _MONEY)


def display(name: object, labels: Labels | None = None) -> str:
    """
    Return the words for a name: the given label, else the name with underscores opened.

    A stratum ``"variable=level"`` becomes ``"variable: level"``.
    """
    text = str(name)
    if labels and text in labels:
        return labels[text]
    variable, equals, level = text.partition("=")
    if equals:
        return f"{display(variable, labels)}: {display(level, labels)}"
    return text.replace("_", " ")


def one_of(frame: pd.DataFrame, key: str, *, what: str) -> str:
    """
    Return the only value of a key, "" where it is unused.

    Raises
    ------
    DesignError
        If there are several: one axis carries one outcome in one unit.
    """
    values = [] if key not in frame else [str(v) for v in frame[key].dropna().unique()]
    if len(values) > 1:
        raise DesignError(
            f"{what} would mix {len(values)} values of `{key}` on one axis "
            f"({', '.join(values[:6])}). Select one with `where({key}=...)`."
        )
    return values[0] if values else ""


def unit_text(unit: str) -> str:
    """Return the unit of measure for a label; a missing one is said to be missing."""
    return unit or "unit not stated"


def sign_convention(outcome: str, unit: str, labels: Labels | None = None) -> str:
    """
    Say what the sign means: "negative = lower spending" for effects, "positive = savings".

    Savings are the only quantities whose sign was flipped, and they say so in name or unit.
    """
    if _saves(outcome, unit):
        return "positive = savings"
    words = f"{outcome} {display(outcome, labels)}".lower()
    if is_money(unit) or any(word in words for word in _SPENDING):
        return "negative = lower spending"
    return f"negative = lower {display(outcome, labels) if outcome else 'outcome'}"


def _saves(outcome: str, unit: str) -> bool:
    return "saving" in f"{outcome} {unit}".lower()


def effect_label(outcome: str, unit: str, style: Style, labels: Labels | None = None) -> str:
    """Return the axis label of an estimate: what, in which unit, and what its sign means."""
    of = display(outcome, labels) if outcome else "outcome"
    if _saves(outcome, unit):
        name = of if "saving" in of.lower() else f"savings in {of}"
        bare = unit.replace("(positive = savings)", "").strip()
        return f"{name[:1].upper()}{name[1:]}, {unit_text(bare)}\n(positive = savings)"
    first = f"Effect on {of}" if style.language == "effect" else f"Differential change in {of}"
    return f"{first}, {unit_text(unit)}\n({sign_convention(outcome, unit, labels)})"


def currency(unit: str) -> str:
    """Return the currency sign printed before numbers in a unit."""
    return "$" if is_money(unit) else ""


def series_of(frame: pd.DataFrame, labels: Labels | None = None) -> pd.Series:
    """
    Return the name of the series of each row: its run, its stratum, or both; "" where neither.

    Rows of all strata together, beside rows of strata, are called "All".
    """
    parts: list[np.ndarray] = []
    for key in ("run", "stratum"):
        if key in frame and frame[key].notna().any():
            words = [
                display(v, labels) if _given(v) else ("All" if key == "stratum" else "")
                for v in frame[key]
            ]
            parts.append(np.asarray(words, dtype=object))
    if not parts:
        return pd.Series([""] * len(frame), index=frame.index, dtype=object)
    joined = [", ".join(w for w in row if w) for row in zip(*parts, strict=True)]
    joined = [capital(text) for text in joined]
    return pd.Series(joined, index=frame.index, dtype=object)


def _given(value: Any) -> bool:
    return value is not None and value == value


def capital(text: str) -> str:
    """Return a text with its first letter as a capital, the others as they are."""
    return f"{text[:1].upper()}{text[1:]}"


def listing(words: list[str]) -> str:
    """Join words as prose: "a", "a and b", "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def in_sentence(label: str) -> str:
    """
    Return a label as it stands inside a sentence: an acronym keeps its capitals.

    Examples
    --------
    >>> in_sentence("Organizations"), in_sentence("ACOs")
    ('organizations', 'ACOs')
    """
    first, *rest = label.split(" ") or [""]
    return " ".join([first.lower() if first[1:] == first[1:].lower() else first, *rest])


def one_line(label: str) -> str:
    """Return a label of several lines on one."""
    return " ".join(label.split("\n"))
