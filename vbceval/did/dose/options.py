"""Options of a dose curve, checked and as plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vbceval.core.checks import Problems
from vbceval.core.errors import DesignError

_CHOICES = {
    "estimand": ("level", "slope"), "aggregation": ("dose", "group_time"),
    "average": ("cohort", "simple"), "basis": ("spline", "discrete", "bins"),
}  # fmt: skip
_READ_WITH = (
    ("degree", 3, "basis", "spline"), ("knots", 0, "basis", "spline"), ("bins", 3, "basis", "bins"),
    ("grid", None, "aggregation", "dose"), ("average", "cohort", "aggregation", "dose"),
)  # fmt: skip
"""Option, default, and the choice without which it is not read."""


def checked(options: dict[str, Any]) -> dict[str, Any]:
    """
    Return the options of `Dose` as plain numbers and tuples.

    Parameters
    ----------
    options : dict
        Its fields.

    Raises
    ------
    DesignError
        If some are not among the choices, or no such numbers.
    """
    problems = Problems("the options of Dose", DesignError)
    out = dict(options)
    for name, allowed in _CHOICES.items():
        if out[name] not in allowed:
            problems.add(f"`{name}` is {out[name]!r}; use one of {allowed}.")
    for name, least, instead in (
        ("degree", 1, ", or basis='bins'"), ("bins", 2, ", or GroupTime"), ("knots", 0, "")
    ):  # fmt: skip
        value = out[name]
        if name == "knots" and (isinstance(value, str) or np.ndim(value)):
            continue
        if not _whole(value) or value < least:
            problems.add(f"`{name}` is {value!r}; use a whole number, {least} or more{instead}.")
        else:
            out[name] = int(value)
    if out["knots"] != "bic" and (isinstance(out["knots"], str) or np.ndim(out["knots"])):
        out["knots"] = _numbers(out["knots"], "knots", "a number, the knots, or 'bic'", problems)
    if out["grid"] is not None:
        out["grid"] = _numbers(out["grid"], "grid", "a sequence of doses", problems)
        if not out["grid"]:
            problems.add("`grid` is empty; name at least one dose, or leave it out.")
    if out["basis"] == "bins" and out["estimand"] == "slope":
        problems.add("basis='bins' has no slope; use 'spline' or 'discrete'.")
    problems.raise_if_any()
    return out


def unread(options: dict[str, Any]) -> list[str]:
    """Return a sentence for each option that was given and has no part in the result."""
    return [
        f"`{name}` is an option of {choice}='{value}' and was not used."
        for name, default, choice, value in _READ_WITH
        if options[name] != default and options[choice] != value
    ]


def _whole(value: Any) -> bool:
    try:
        return float(value) == int(value)
    except (TypeError, ValueError, OverflowError):
        return False


def _numbers(values: Any, name: str, wanted: str, problems: Problems) -> tuple[float, ...]:
    """Return finite numbers; a problem where they are not."""
    found: tuple[float, ...] = (np.nan,)
    if isinstance(values, Sequence | np.ndarray) and not isinstance(values, str):
        try:
            found = tuple(float(v) for v in values)
        except (TypeError, ValueError):
            found = (np.nan,)
    if not np.isfinite(found).all():
        problems.add(f"`{name}` is {values!r}; use {wanted}.")
    return found
