"""When the units of a data set enter, and in which periods they are seen."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from vbceval.core.groups import Groups
from vbceval.core.typing import FloatArray
from vbceval.moments import Moments
from vbceval.panel import Panel


class Entries(NamedTuple):
    """
    Entry of each unit.

    Parameters
    ----------
    cluster : Series, length n
        Cluster of each unit.
    cohort : array, shape (n,)
        Its first treated period, NaN = never treated.
    periods : array
        Periods of all rows or cells.
    """

    cluster: pd.Series
    cohort: FloatArray
    periods: FloatArray


def entries_of(data: Panel | Moments) -> Entries:
    """Return the entries of a data set."""
    if isinstance(data, Moments):
        units = data.units
        periods = data.cells["period"].to_numpy(dtype=float)
        return Entries(units["cluster"], units["cohort"].to_numpy(dtype=float), periods)
    frame = data.frame
    periods = frame[data.period].to_numpy(dtype=float)
    first = Groups.of(frame[data.unit]).first
    cohort = frame[data.cohort].to_numpy(dtype=float)[first]
    return Entries(frame[data.cluster].iloc[first], cohort, periods)
