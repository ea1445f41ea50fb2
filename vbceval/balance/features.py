"""Baseline features of what is assigned to treatment: one row an organization, entry not yet seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np
import pandas as pd

from vbceval.core.disclosure import say_people
from vbceval.core.typing import BoolArray, FloatArray, IntArray

Level = Literal["cluster", "unit"]
Base = Literal["weight", "one", "exposure"]


class SampleOptions(TypedDict, total=False):
    """Options of `features`, which every method of this room takes as well."""

    by_period: Sequence[str]
    baseline: tuple[float, float] | None
    anticipation: int
    cohorts: Sequence[float] | None
    level: Level
    base: Base | Mapping[Any, float] | pd.Series


@dataclass(frozen=True, eq=False, kw_only=True)
class Features:
    """
    Features of G organizations before entry.

    Parameters
    ----------
    labels : Index, length G
        What is weighted: clusters, or units; sorted.
    clusters : Index, length G
        Inference cluster of each.
    cohort : array, shape (G,)
        First treated period; NaN = never treated in these data.
    included : bool array, shape (G,)
        Treated of the chosen cohorts, and never treated; the others get weight 0.
    base : array, shape (G,)
        Base weights q: the size an organization has in the analysis before it is weighted.
    z : array, shape (G, p)
        Features, in their own units.
    within : array, shape (G, p)
        Variance of rows inside each organization, where rows are people; else zero.
    names : tuple of str
        Names of the p features.
    baseline : (float, float)
        First and last period measured.
    anticipation : int
        Periods before entry that were kept out as well.
    level : {"cluster", "unit"}
        What labels are.
    label_name : str
        Name of the column of labels.
    people : bool
        Whether labels are people, whose counts of 1-10 are not shown.
    """

    labels: pd.Index
    clusters: pd.Index
    cohort: FloatArray
    included: BoolArray
    base: FloatArray
    z: FloatArray
    within: FloatArray
    names: tuple[str, ...]
    baseline: tuple[float, float]
    anticipation: int
    level: Level
    label_name: str
    people: bool

    @property
    def treated(self) -> BoolArray:
        """Which organizations enter, of the chosen cohorts, shape (G,)."""
        return np.asarray(self.included & np.isfinite(self.cohort), dtype=bool)

    @property
    def comparison(self) -> BoolArray:
        """Which organizations never enter in these data, shape (G,)."""
        return np.asarray(self.included & np.isnan(self.cohort), dtype=bool)

    @property
    def first_entry(self) -> float:
        """First period in which an organization of the chosen cohorts is treated."""
        return float(self.cohort[self.treated].min())

    def count(self, number: int, *, noun: bool = False) -> str:
        """Write a number of organizations, or of people as it may be shown."""
        what = ("people" if self.people else "organizations") if noun else ""
        said = say_people(number, what) if self.people else f"{number:,} {what}"
        return said.rstrip()

    def centre_and_sd(self) -> tuple[FloatArray, FloatArray]:
        """Return base-weighted means and sds over included organizations, each of shape (p,)."""
        q = self.base * self.included
        centre = q @ self.z / q.sum()
        sd = np.sqrt(q @ (self.z - centre) ** 2 / q.sum())
        return centre, np.where(sd > 0, sd, 1.0)

    def standardised(self) -> FloatArray:
        """Return features with mean 0 and sd 1 over included organizations, shape (G, p)."""
        centre, sd = self.centre_and_sd()
        return np.asarray((self.z - centre) / sd)

    def independent(self, rows: BoolArray) -> tuple[IntArray, tuple[str, ...]]:
        """
        Return columns that vary and are not spanned by earlier ones among some rows.

        Parameters
        ----------
        rows : bool array, shape (G,)
            Organizations looked at.

        Returns
        -------
        int array
            Positions of the columns that are kept.
        tuple of str
            Names of the others.
        """
        q = self.base * rows
        basis = [np.sqrt(q / q.sum())]
        kept, lost = [], []
        for j in range(self.z.shape[1]):
            column = (self.z[:, j] - q @ self.z[:, j] / q.sum()) * basis[0]
            rest = column.copy()
            for _ in range(2):  # once more, for digits
                for b in basis:
                    rest -= (b @ rest) * b
            # a share of its own size: rounding of the column's mean is relative to its largest value
            size = max(np.linalg.norm(column), 1e-7 * np.abs(self.z[rows, j]).max(initial=0.0))
            if np.linalg.norm(rest) <= 1e-8 * size or size == 0:
                lost.append(self.names[j])
                continue
            basis.append(rest / np.linalg.norm(rest))
            kept.append(j)
        return np.array(kept, dtype=np.int64), tuple(lost)
