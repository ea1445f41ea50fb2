"""What a simulated panel makes true, in the shape of estimates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates, Shares, columns

KEYS = ["estimand", "cohort", "period", "event_time", "stratum"]
"""Columns that tell one true value from another."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Truth:
    """
    Effects of a data-generating process, before any sampling.

    Parameters
    ----------
    effects : DataFrame
        One row a stratum (missing = all together), cohort and period: ``stratum``, ``cohort``,
        ``period``, ``event_time``, ``effect`` (treated minus untreated, in the unit of the
        outcome; 0 before entry) and ``share``, the expected share of the cohort's weight in all
        weight (of the stratum).
    outcome : str
        Name of the outcome.
    unit_of_measure : str
        Unit of ``effect``.

    Examples
    --------
    >>> effects = pd.DataFrame({"stratum": None, "cohort": [2016.0, 2016.0, 2017.0, 2017.0],
    ...     "period": [2016.0, 2017.0, 2016.0, 2017.0], "event_time": [0.0, 1.0, -1.0, 0.0],
    ...     "effect": [-100.0, -200.0, 0.0, -50.0], "share": [0.3, 0.3, 0.1, 0.1]})
    >>> Truth(effects=effects, outcome="spend", unit_of_measure="USD").overall
    -135.71428571428572
    """

    effects: pd.DataFrame
    outcome: str
    unit_of_measure: str

    @property
    def overall(self) -> float:
        """Average effect of all together over treated cohorts and periods, by cohort shares."""
        table = self.average("simple").frame
        return float(table.loc[table["stratum"].isna(), "estimate"].item())

    def by_stratum(self) -> pd.Series:
        """Return the average effect of each stratum, as `overall`, by its name."""
        table = self.average("simple").frame.dropna(subset="stratum")
        return pd.Series(table["estimate"].to_numpy(dtype=float), index=table["stratum"].to_list())

    def as_estimates(self) -> Estimates:
        """Return the effects as group-time estimates without error, to average them as such."""
        frame = self.effects.rename(columns={"effect": "estimate"}).assign(
            estimand=columns.GROUP_TIME,
            outcome=self.outcome,
            unit_of_measure=self.unit_of_measure,
        )
        k = len(frame)
        shares = Shares(value=frame.pop("share").to_numpy(dtype=float))
        return Estimates(frame=frame, covariance=np.zeros((k, k)), shares=shares)

    def average(self, kind: str, **options: Any) -> Estimates:
        """Return true averages; `kind` and options as in `Estimates.aggregate`."""
        # a wrong kind is refused there
        return self.as_estimates().aggregate(cast(Any, kind), **options)

    def of(self, estimates: Estimates, **options: Any) -> FloatArray:
        """
        Return the truth of each row of estimates.

        Parameters
        ----------
        estimates : Estimates
            Group-time effects, or averages of them made by `Estimates.aggregate`.
        **options
            ``balance`` and ``window``, if the averages were made with them.

        Returns
        -------
        array, shape (k,)

        Raises
        ------
        DesignError
            If a row is of nothing this process defines.
        """
        known = [self.as_estimates().frame]
        kind = estimates.meta.get("aggregate")
        if kind is not None:
            known.append(self.average(kind, **options).frame)
        values = {
            _key(row): row[-1]
            for table in known
            for row in table[[*KEYS, "estimate"]].itertuples(index=False)
        }
        rows = [_key(row) for row in estimates.frame[KEYS].itertuples(index=False)]
        absent = [row for row in rows if row not in values]
        if absent:
            raise DesignError(
                f"{len(absent)} of {len(rows)} estimates have no truth in this process, the first "
                f"with {dict(zip(KEYS, absent[0], strict=True))}. Compare group-time effects or "
                "their averages, with the strata of the process."
            )
        return np.array([values[row] for row in rows], dtype=float)

    def null(self) -> Truth:
        """Return the same cohorts and periods with no effect."""
        return replace(self, effects=self.effects.assign(effect=0.0))


def _key(row: Any) -> tuple[Any, ...]:
    return tuple(None if pd.isna(value) else value for value in row[: len(KEYS)])
