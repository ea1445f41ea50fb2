"""Checks of a table that depend on the rules of the year, all failures reported together."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from vbceval.core.checks import Problems
from vbceval.programs.inputs import Inputs, report_rows
from vbceval.programs.terms import Terms


def refuse_outside(what: str, *, low: float, high: float, **values: ArrayLike) -> None:
    """
    Raise one error for all numbers that are not between two bounds; missing ones are left.

    Parameters
    ----------
    what : str
        What the numbers are, a plural.
    low, high : float
        Bounds, both allowed.
    **values : array_like
        Numbers by name.

    Raises
    ------
    DataError
        If a number is out of bounds.
    """
    found = Problems(f"the {what}")
    for name, given in values.items():
        held = np.asarray(given, dtype=float)
        wrong = int(((held < low) | (held > high)).sum())
        if wrong:
            found.add(
                f"{wrong} of {held.size} values of `{name}` are not between {low:g} and {high:g}. "
                "Correct them."
            )
    found.raise_if_any()


def refuse(terms: Terms, inputs: Inputs, *cases: tuple[ArrayLike, str, str]) -> None:
    """
    Raise one error for all organizations that the rules of the year cannot settle.

    Parameters
    ----------
    terms : Terms
        The rules, for the name of the table.
    inputs : Inputs
        The organizations.
    *cases : tuple of (array_like of bool, str, str)
        Which organizations fail, shape (organizations, 1) or (organizations, draws); the problem,
        which follows their names ("have no ..."); and the remedy, a sentence.

    Raises
    ------
    DataError
        If an organization fails any case.
    """
    found = Problems(f"the table for `{terms.program}` {terms.performance_year}")
    for rows, problem, remedy in cases:
        failed = np.atleast_2d(np.asarray(rows, dtype=bool)).any(axis=1)
        report_rows(found, failed, inputs.organizations, problem, remedy)
    found.raise_if_any()
