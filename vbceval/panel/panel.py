"""`Panel`: one row a unit and period, checked once when it is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from vbceval.core.disclosure import say_people
from vbceval.core.errors import DataError
from vbceval.core.groups import Groups
from vbceval.core.typing import PanelKind
from vbceval.panel.checks import check_columns, check_frame, check_once, increasing


@dataclass(frozen=True, eq=False, kw_only=True)
class Panel:
    """
    A checked table of units by period; build it with `Panel.from_frame`.

    Parameters
    ----------
    frame : DataFrame
        One row a unit, period and stratum, sorted; the caller's frame is never changed.
    unit, period, cohort, cluster : str
        Names of the key columns. `unit` is what is followed, `cluster` what is sampled or enters
        together, `cohort` the first treated period (missing = never treated).
    strata : tuple of str
        Columns of an equity analysis.
    exposure : str or None
        Denominator of a rate (person-years, member months), non-negative.
    weight : str or None
        Analysis weight, non-negative; None weighs rows equally.
    exit : str or None
        Last treated period, for programs that can be left.
    kind : {"panel", "repeated_cross_section"}
        Whether units are followed over periods.
    people : bool
        Whether units are (or may be) people, episodes or claims, whose counts of 1-10 are never
        shown; organizations may be counted.
    attrition : DataFrame
        Columns ``step, rows, units, clusters``: what is left after each step.
    """

    frame: pd.DataFrame
    unit: str
    period: str
    cohort: str
    cluster: str
    strata: tuple[str, ...] = ()
    exposure: str | None = None
    weight: str | None = None
    exit: str | None = None
    kind: PanelKind = "panel"
    people: bool = True
    attrition: pd.DataFrame

    def __post_init__(self) -> None:
        # `replace` builds a panel too: the rule that estimators rely on is checked every time
        if self.kind == "panel":
            check_once(self.frame, [self.unit, self.period, *self.strata], people=self.people)

    @classmethod
    def from_frame(
        cls,
        df: pd.DataFrame,
        *,
        unit: str,
        period: str,
        cohort: str,
        cluster: str | None = None,
        strata: Sequence[str] = (),
        exposure: str | None = None,
        weight: str | None = None,
        exit: str | None = None,
        kind: PanelKind = "panel",
        never: float | None = None,
        people: bool | None = None,
    ) -> Panel:
        """
        Check a frame and make a panel of it.

        Parameters
        ----------
        df : DataFrame
            One row a unit and period (and stratum). Not changed.
        unit, period, cohort : str
            Column names. `period` and `cohort` are numbers on the same scale.
        cluster : str, optional
            Column of clusters, constant within a unit. Default: the unit.
        strata : sequence of str
            Columns that split the results. A unit may have a row for each stratum in a period.
        exposure, weight : str, optional
            Columns of non-negative numbers. Rows of zero weight are dropped and counted.
        exit : str, optional
            Column of the last treated period; missing = still in the program.
        kind : {"panel", "repeated_cross_section"}
            With "repeated_cross_section" rows are not followed (episodes, person-years), and a
            unit may have many rows in a period.
        never : float, optional
            The value by which `cohort` codes never treated, for example 0.
        people : bool, optional
            Whether units are people, episodes or claims. Default: yes, unless the unit is the
            cluster of a followed panel; say ``people=False`` where a finer unit is an organization.

        Returns
        -------
        Panel

        Raises
        ------
        DataError
            Listing every failure together: missing columns or values, text in numeric columns,
            repeated unit-periods, a cohort, exit or cluster that changes within a unit, an exit
            before entry, negative weights or exposure, a cohort coded 0 or infinite without
            `never`.

        Examples
        --------
        >>> df = pd.DataFrame({"aco": ["A", "A", "B", "B"], "year": [2014, 2015, 2014, 2015],
        ...                    "entry": [2015, 2015, None, None], "spend": [10.0, 9.0, 8.0, 8.5]})
        >>> panel = Panel.from_frame(df, unit="aco", period="year", cohort="entry")
        >>> panel.n_units, panel.periods
        (2, (2014.0, 2015.0))
        """
        if isinstance(strata, str):
            raise DataError(f"`strata` is the text '{strata}'; give a list, ['{strata}'].")
        check_columns(df, [unit, period, cohort, cluster, *strata, exposure, weight, exit])
        cluster = unit if cluster is None else cluster
        people = (kind != "panel" or unit != cluster) if people is None else people
        # columns are replaced, never written into, so the caller's frame stays as it is
        frame = df.copy(deep=False)
        if never is not None and cohort in frame:
            # compared as numbers, because a code may be read as text; other text is refused below
            codes = pd.to_numeric(frame[cohort], errors="coerce")
            frame[cohort] = frame[cohort].where(codes != never)
        check_frame(
            frame, unit=unit, period=period, cohort=cohort, cluster=cluster,
            strata=tuple(strata), exposure=exposure, weight=weight, exit=exit, kind=kind,
            people=people,
        )  # fmt: skip
        for name in (period, cohort, exposure, weight, exit):
            if name is not None:
                frame[name] = pd.to_numeric(frame[name]).astype(float)
        rows = [_count("rows given", frame, unit, cluster)]
        if weight is not None:
            positive = frame[weight] > 0
            if not positive.all():
                frame = frame[positive]
                rows.append(_count("positive weight", frame, unit, cluster))
        if frame.empty:
            raise DataError("no row has a positive weight, so nothing can be estimated.")
        order = [unit, *strata, period]
        if increasing(frame, order):
            frame = frame.reset_index(drop=True)
        else:
            frame = frame.sort_values(order, kind="stable", ignore_index=True)
        return cls(
            frame=frame, unit=unit, period=period, cohort=cohort, cluster=cluster,
            strata=tuple(strata), exposure=exposure, weight=weight, exit=exit, kind=kind,
            people=people,
            attrition=pd.DataFrame(rows),
        )  # fmt: skip

    @property
    def n_units(self) -> int:
        """Number of distinct units."""
        return int(self.frame[self.unit].nunique())

    @property
    def n_clusters(self) -> int:
        """Number of distinct clusters."""
        return int(self.frame[self.cluster].nunique())

    @property
    def periods(self) -> tuple[float, ...]:
        """Observed periods, increasing."""
        return tuple(float(x) for x in np.sort(self.frame[self.period].unique()))

    def keep(self, rows: pd.Series | np.ndarray, *, step: str) -> Panel:
        """
        Return the panel with some of its rows, and a step of attrition that says so.

        Parameters
        ----------
        rows : array of bool, one a row of ``frame``
            What stays.
        step : str
            What the remaining rows are, for the table of attrition.

        Raises
        ------
        DataError
            If no row stays.
        """
        frame = self.frame[np.asarray(rows, dtype=bool)].reset_index(drop=True)
        if frame.empty:
            raise DataError(f"no row of the panel is left after the step '{step}'.")
        left = pd.DataFrame([_count(step, frame, self.unit, self.cluster)])
        attrition = pd.concat([self.attrition, left], ignore_index=True)
        return replace(self, frame=frame, attrition=attrition)

    def preceded_by(self, steps: pd.DataFrame) -> Panel:
        """Return the panel with the steps that led to its rows in place of "rows given"."""
        attrition = pd.concat([steps, self.attrition.iloc[1:]], ignore_index=True)
        return replace(self, attrition=attrition)

    def __repr__(self) -> str:
        """Describe the panel without a value of any row."""
        count = self.n_units
        units = say_people(count, "units") if self.people else f"{count:,} units"
        span = f"{self.periods[0]:g} to {self.periods[-1]:g}"
        return (
            f"Panel({units} in {self.n_clusters:,} clusters (`{self.cluster}`), "
            f"{len(self.periods)} periods {span}, kind='{self.kind}')"
        )


def _count(step: str, frame: pd.DataFrame, unit: str, cluster: str) -> dict[str, object]:
    units = len(Groups.of(frame[unit]))
    return {
        "step": step,
        "rows": len(frame),
        "units": units,
        "clusters": units if cluster == unit else len(Groups.of(frame[cluster])),
    }
