"""`Moments`: weighted first and second moments by organization, period and stratum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.disclosure import say_people
from vbceval.core.errors import DataError
from vbceval.core.typing import BoolArray, FloatArray, IntArray, PanelKind
from vbceval.moments.build import accumulate, covariate_columns, outcome_columns
from vbceval.panel import Panel
from vbceval.panel.checks import check_once


@dataclass(frozen=True, eq=False, kw_only=True)
class Moments:
    """
    Weighted moments of (1, covariates, outcomes) in each cell.

    A cell is a unit (or cluster), period and stratum. An ordinary frame is the trivial case: each
    row is a cell without variation inside it, and `xx`, `xy`, `yy` are None. Coefficients, their
    cluster-robust covariance and the Gaussian likelihood follow from moments exactly.

    Parameters
    ----------
    cells : DataFrame, K rows
        Keys: ``unit``, ``period`` and one column a stratum, sorted.
    n, n_units : array, shape (K,)
        Rows and distinct units in the cell.
    w, w2 : array, shape (K,)
        Sum of analysis weights and of their squares.
    x_mean : array, shape (K, p)
        Weighted means of covariates.
    y_mean : array, shape (K, m)
        Weighted means of outcomes; missing where the cell has no value.
    xx : array, shape (K, p, p), or None
        Centred sums ``sum w (x - mean)(x - mean)'``.
    xy : array, shape (K, p, m), or None
        Centred sums of covariates with outcomes.
    yy : array, shape (K, m), or None
        Centred sums of squares of each outcome.
    exposure : array, shape (K,), or None
        Sum of the panel's exposure.
    units : DataFrame
        Indexed by unit: ``cluster``, ``cohort`` (missing = never treated), ``exit``.
    outcomes, covariates, strata : tuple of str
        Names, in the order of the arrays.
    factors : mapping
        For a categorical covariate, the columns of `covariates` that stand for it.
    unit_name, period_name, cluster_name : str
        Names of the keys in the source.
    kind : {"panel", "repeated_cross_section"}
        Whether cells of one unit may be differenced over time as the same people.
    people : bool
        Whether the owners of cells (``cells["unit"]``) are people, episodes or claims, whose counts
        of 1-10 are never shown. `n` and `n_units` may count people in any case.
    meta : mapping
        Source, units of measure, counts of dropped rows.
    """

    cells: pd.DataFrame
    n: IntArray
    n_units: IntArray
    w: FloatArray
    w2: FloatArray
    x_mean: FloatArray
    y_mean: FloatArray
    xx: FloatArray | None
    xy: FloatArray | None
    yy: FloatArray | None
    exposure: FloatArray | None
    units: pd.DataFrame
    outcomes: tuple[str, ...]
    covariates: tuple[str, ...]
    strata: tuple[str, ...]
    factors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unit_name: str = "unit"
    period_name: str = "period"
    cluster_name: str = "cluster"
    kind: PanelKind = "panel"
    people: bool = True
    meta: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_panel(
        cls,
        panel: Panel,
        *,
        outcomes: Sequence[str],
        covariates: Sequence[str] = (),
        strata: Sequence[str] | None = None,
        by: Literal["row", "cluster"] = "row",
    ) -> Moments:
        """
        Take the moments of a panel.

        Parameters
        ----------
        panel : Panel
            Source of the rows.
        outcomes, covariates : sequence of str
            Columns. Outcomes must be numeric; a categorical covariate becomes one 0/1 column for
            each level but the first.
        strata : sequence of str, optional
            Stratum columns kept in the key. Default: those of the panel.
        by : {"row", "cluster"}
            "row": every row is a cell, and nothing is lost. "cluster": rows are added up within
            cluster, period and stratum, and the result is a repeated cross-section of clusters.

        Returns
        -------
        Moments

        Raises
        ------
        DataError
            If columns are absent, an outcome holds text, or ``by="cluster"`` meets outcomes with
            missing values of different rows (take their moments one at a time).
        """
        for name, value in (("outcomes", outcomes), ("covariates", covariates), ("strata", strata)):
            if isinstance(value, str):
                raise DataError(f"`{name}` is the text '{value}'; give a list, ['{value}'].")
        keys = tuple(panel.strata if strata is None else strata)
        y = outcome_columns(panel.frame, tuple(outcomes))
        x, names, factors = covariate_columns(panel.frame, tuple(covariates))
        frame = panel.frame
        ones = np.ones(len(frame))
        w = ones if panel.weight is None else frame[panel.weight].to_numpy(dtype=float)
        exposure = None if panel.exposure is None else frame[panel.exposure].to_numpy(dtype=float)
        shared: dict[str, Any] = {
            "outcomes": tuple(outcomes), "covariates": names, "strata": keys, "factors": factors,
            "period_name": panel.period, "cluster_name": panel.cluster,
        }  # fmt: skip
        absent = [s for s in keys if s not in frame]
        if absent:
            raise DataError(f"the panel has no stratum column {listed(absent)}.")
        unknown = [s for s in keys if frame[s].isna().any()]
        if unknown:
            raise DataError(
                f"stratum {listed(unknown)} is missing in some rows, which would belong to no "
                "stratum. Name the missing level, for example with `fillna('unknown')`."
            )
        if by == "row":
            if panel.kind == "panel":
                check_once(frame, [panel.unit, panel.period, *keys], people=panel.people)
            cells = frame[[panel.unit, panel.period, *keys]].set_axis(
                ["unit", "period", *keys], axis=1
            )
            one = np.ones(len(frame), dtype=np.int64)
            return cls(
                cells=cells, n=one, n_units=one, w=w, w2=w * w, x_mean=x, y_mean=y,
                xx=None, xy=None, yy=None, exposure=exposure, units=_unit_table(panel, panel.unit),
                unit_name=panel.unit, kind=panel.kind, people=panel.people,
                **shared,
            )  # fmt: skip
        parts = accumulate(
            frame[[panel.cluster, panel.period, *keys]].set_axis(["unit", "period", *keys], axis=1),
            unit=frame[panel.unit], w=w, x=x, y=y, exposure=exposure,
        )  # fmt: skip
        return cls(
            **parts, units=_unit_table(panel, panel.cluster), unit_name=panel.cluster,
            kind="repeated_cross_section",
            people=panel.people and panel.unit == panel.cluster, **shared,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.cells)

    def take(self, rows: IntArray | BoolArray) -> Moments:
        """Return some cells, by position or mask."""
        names = ("n", "n_units", "w", "w2", "x_mean", "y_mean", "xx", "xy", "yy", "exposure")
        kept: dict[str, Any] = {}
        for name in names:
            value = getattr(self, name)
            kept[name] = None if value is None else value[rows]
        positions = np.arange(len(self))[rows]
        return replace(self, cells=self.cells.iloc[positions].reset_index(drop=True), **kept)

    def column(self, outcome: str) -> int:
        """Return the position of an outcome.

        Raises
        ------
        DataError
            If the moments do not hold it.
        """
        if outcome not in self.outcomes:
            raise DataError(
                f"moments hold no outcome `{outcome}` (they hold {listed(self.outcomes)}); add it "
                "to `outcomes=` and take the moments again."
            )
        return self.outcomes.index(outcome)

    def covariate_positions(self, covariates: Sequence[str]) -> IntArray:
        """Return positions of covariates, a categorical one standing for its 0/1 columns.

        Raises
        ------
        DataError
            If the moments do not hold one.
        """
        wanted = [name for c in covariates for name in self.factors.get(c, (c,))]
        absent = [c for c in wanted if c not in self.covariates]
        if absent:
            raise DataError(
                f"moments hold no column {listed(absent)} (they hold "
                f"{listed(self.covariates) or 'no covariate'}); add it to `covariates=` and take "
                "the moments again."
            )
        return np.array([self.covariates.index(c) for c in wanted], dtype=np.int64)

    @property
    def unit_labels(self) -> pd.Series:
        """Unit of each cell, shape (K,)."""
        return self.cells["unit"]

    def attribute(self, name: Literal["cluster", "cohort", "exit"]) -> pd.Series:
        """Return an attribute of each cell's unit, shape (K,)."""
        return self.cells["unit"].map(self.units[name]).reset_index(drop=True)


def _unit_table(panel: Panel, key: str) -> pd.DataFrame:
    """One row a unit (or cluster): cluster, cohort, exit."""
    frame = panel.frame
    table = pd.DataFrame(
        {
            "unit": frame[key],
            "cluster": frame[panel.cluster],
            "cohort": frame[panel.cohort],
            "exit": np.nan if panel.exit is None else frame[panel.exit],
        }
    )
    mixed = table.groupby("unit")["cohort"].nunique(dropna=False)
    if panel.kind == "repeated_cross_section" and key == panel.unit:
        clusters = table.groupby("unit")["cluster"].nunique()
        for name, changes in ((panel.cohort, mixed > 1), (panel.cluster, clusters > 1)):
            if changes.any():
                raise DataError(
                    f"`{name}` changes within {say_people(int(changes.sum()), 'units')}, but rows "
                    "of one unit belong to one cohort and cluster. Use a row number as `unit` if "
                    "rows are not linked."
                )
    if key == panel.cluster and (mixed > 1).any():
        raise DataError(
            f"`{panel.cohort}` changes within {int((mixed > 1).sum()):,} clusters of "
            f"`{panel.cluster}`, so cells by cluster would mix cohorts. Take moments with "
            "by='row', or cluster on what enters together."
        )
    return table.drop_duplicates("unit").set_index("unit")
