"""Dollars of one year, from a price index that is stated and never assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DataError
from vbceval.core.typing import FloatArray


@dataclass(frozen=True, kw_only=True)
class RealDollars:
    """
    Turn nominal dollars into dollars of one year.

    There is no default index: consumer prices, medical care prices and the price updates of
    Medicare differ by several percent over a few years, and the choice belongs to the evaluation.

    Parameters
    ----------
    year : int
        Year whose dollars are wanted.
    index : mapping of int to float
        Price level by year, on any base; it needs `year`.
    source : str
        Name of the index and where it was taken from; it is kept with results, and savings and
        payments converted by different ones are not set against each other.

    Raises
    ------
    DataError
        If the index lacks `year`, or a level is not positive.

    Examples
    --------
    >>> prices = RealDollars(year=2020, index={2018: 100.0, 2020: 104.0}, source="example")
    >>> prices.factors([2018, 2020]).tolist()
    [1.04, 1.0]
    """

    year: int
    index: Mapping[int, float]
    source: str

    def __post_init__(self) -> None:
        problems = Problems("the price index")
        bad = [year for year, level in self.index.items() if not 0 < level < np.inf]
        if bad:
            problems.add(f"the level of {listed(bad)} is not a positive number.")
        if self.year not in self.index:
            problems.add(f"it has no level for {self.year}, the year whose dollars are wanted.")
        if not self.source.strip():
            problems.add("`source` is empty; name the index, because choices differ by percents.")
        problems.raise_if_any()

    @property
    def unit(self) -> str:
        """Unit of amounts, with the year."""
        return f"USD of {self.year}"

    def factors(self, years: ArrayLike) -> FloatArray:
        """
        Return what nominal dollars of each year are multiplied by, the shape of `years`.

        Raises
        ------
        DataError
            If the index lacks a year, or a year is missing.
        """
        asked = np.asarray(years, dtype=float)
        absent = sorted({y for y in asked.ravel() if y not in self.index}, key=str)
        if absent:
            raise DataError(
                f"the price index has no level for {listed(f'{y:g}' for y in absent)}, so these "
                "amounts cannot be turned into dollars of one year. Add the levels, or state the "
                "year of each amount."
            )
        levels = np.array([self.index[y] for y in asked.ravel()], dtype=float)
        return np.asarray(self.index[self.year] / levels.reshape(asked.shape))
