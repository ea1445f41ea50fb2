"""Regressors as functions of a cell, times a column of the row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray


@dataclass(frozen=True, kw_only=True)
class Term:
    """
    One regressor: a number of the row's cell, times a column of the row.

    Parameters
    ----------
    name : str
        Name of its coefficient.
    value : callable or float, default 1.0
        Takes the table of cells (columns: cluster, period, strata, attributes, by their own names;
        the period as float) and returns one number a cell: a treatment indicator, an event-time
        dummy. A number is the same in every cell.
    column : str, optional
        Covariate that multiplies it. Default: the constant 1.

    Examples
    --------
    >>> cells = pd.DataFrame({"quarter": [3.0, 4.0], "entry": [4.0, 4.0]})
    >>> Term(name="treated", value=lambda c: c["quarter"] >= c["entry"]).at(cells)
    array([0., 1.])
    """

    name: str
    value: Callable[[pd.DataFrame], Any] | float = 1.0
    column: str | None = None

    def at(self, cells: pd.DataFrame) -> FloatArray:
        """
        Return the number of every cell, shape (cells,).

        Raises
        ------
        DesignError
            If `value` does not give one finite number a cell.
        """
        found = self.value(cells) if callable(self.value) else self.value
        try:
            numbers = np.broadcast_to(np.asarray(found, dtype=float), (len(cells),)).copy()
        except (TypeError, ValueError):
            numbers = np.full(len(cells), np.nan)
        if not np.isfinite(numbers).all():
            raise DesignError(
                f"term `{self.name}`: `value` must return one finite number for each of the "
                f"{len(cells):,} cells. Missing attributes (never treated) need a rule, such as "
                "`(c['period'] >= c['cohort'])`, which is false where the cohort is missing."
            )
        return numbers


def levels_of(cells: pd.DataFrame, column: str, *, drop_first: bool) -> list[Term]:
    """Return a 0/1 term for each level of a column of the cells."""
    levels = sorted(cells[column].dropna().unique())[int(drop_first) :]

    def is_level(level: Any) -> Callable[[pd.DataFrame], Any]:
        return lambda table: table[column] == level

    return [
        Term(name=f"{column}={level:g}" if isinstance(level, float) else f"{column}={level}",
             value=is_level(level))
        for level in levels
    ]  # fmt: skip


def design_of(terms: Sequence[Term], cells: pd.DataFrame, covariates: Sequence[str]) -> FloatArray:
    """
    Return the regressors of every cell, shape (cells, p, 1 + q).

    The regressors of a row are this matrix times (1, covariates).

    Raises
    ------
    DesignError
        If terms share a name or name no covariate of the pass.
    """
    problems = Problems("the terms", error=DesignError)
    names = [t.name for t in terms]
    twice = [n for n in dict.fromkeys(names) if names.count(n) > 1]
    if not terms:
        problems.add("there are none. Name at least one regressor.")
    if twice:
        problems.add(f"{listed(twice)} stands more than once. Give each its own name.")
    for term in terms:
        if term.column is not None and term.column not in covariates:
            problems.add(
                f"`{term.name}` multiplies `{term.column}`, which is no covariate of this pass "
                f"({listed(covariates) or 'it has none'}). Add it to `covariates` and run the pass "
                "again."
            )
    problems.raise_if_any()
    out = np.zeros((len(cells), len(terms), 1 + len(covariates)))
    for j, term in enumerate(terms):
        place = 0 if term.column is None else 1 + list(covariates).index(term.column)
        out[:, j, place] = term.at(cells)
    return out


def shift(design: FloatArray, pivots: FloatArray) -> FloatArray:
    """
    Return the regressors for covariates less their pivots.

    Parameters
    ----------
    design : array, shape (cells, p, 1 + q)
        For (1, x).
    pivots : array, shape (q,)
        What was subtracted of x.
    """
    out = design.copy()
    out[:, :, 0] += design[:, :, 1:] @ pivots
    return out
