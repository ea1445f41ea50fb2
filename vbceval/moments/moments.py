"""`Moments`: weighted first and second moments by organization, period and stratum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.disclosure import SMALLEST_SHOWN
from vbceval.core.errors import DataError
from vbceval.core.typing import BoolArray, FloatArray, IntArray, PanelKind
from vbceval.engine import Engine
from vbceval.moments.build import accumulate, covariate_columns, outcome_columns, unit_table
from vbceval.moments.passes import sum_table
from vbceval.moments.storage import read, write
from vbceval.moments.sums import Sums, people_column
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
    sums : Sums, optional
        The exact sums behind moments that were taken inside an engine; what `+`, `coarsen` and
        `save` work on.
    blocks : mapping of str to Moments
        Outcomes that are missing in some rows: each has moments of its own, over its rows.
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
    sums: Sums | None = None
    blocks: Mapping[str, Moments] = field(default_factory=dict)

    @classmethod
    def from_table(
        cls,
        source: Any,
        *,
        engine: Engine,
        cluster: str,
        period: str,
        cohort: str,
        outcomes: Sequence[str],
        covariates: Sequence[str] = (),
        strata: Sequence[str] = (),
        unit: str | None = None,
        weight: str | None = None,
        exposure: str | None = None,
        exit: str | None = None,
        never: float | None = None,
        digits: Mapping[str, int | None] | None = None,
        pivots: Mapping[str, float] | None = None,
    ) -> Moments:
        """
        Take the moments of a table inside an engine, in one pass; the rows are never loaded.

        A first scan checks every column and chooses how it is summed; the second adds up products
        within cluster, period and stratum. Columns with digits are summed as whole numbers, so the
        result is the same bits whatever the order of rows, the number of threads and the engine.

        Parameters
        ----------
        source : path, pattern, list of paths, DataFrame, Arrow table or table name
            See `vbceval.engine.Engine.register`.
        engine : Engine
            From `vbceval.connect`.
        cluster, period, cohort : str
            Columns. Rows of a cluster have one cohort; it is missing for those never treated.
        outcomes, covariates : sequence of str
            Numeric columns. Rows without a covariate are left out, and counted. An outcome that is
            missing in some rows gets moments of its own, over the rows that have it.
        strata : sequence of str
            Columns kept in the key.
        unit : str, optional
            What counts people. Without it `n_units` counts rows.
        weight, exposure : str, optional
            Analysis weight of a row; denominator, added up.
        exit : str, optional
            Last treated period of a cluster.
        never : float, optional
            Code of `cohort` for never treated.
        digits : mapping of str to int or None, optional
            Decimal digits of a column (2: cents); a value with more is an error. None sums plain
            doubles about a pivot. Default: 0 for integers, those of the type for decimals; for
            doubles the fewest of 0, 2, 4 and 6 that lose nothing, else None.
        pivots : mapping of str to float, optional
            What is subtracted from columns summed as doubles; to add moments of a later drop of
            data, give those of the first (``meta["pivots"]``).

        Returns
        -------
        Moments
            Of kind "repeated_cross_section", cells by cluster, period and stratum.

        Raises
        ------
        DataError
            With everything that is wrong with the table.
        """
        if isinstance(strata, str):
            raise DataError(f"`strata` is the text '{strata}'; give a list, ['{strata}'].")
        sums, meta = sum_table(
            source, engine, cluster=cluster, period=period, cohort=cohort, strata=strata,
            outcomes=outcomes, covariates=covariates, weight=weight, exposure=exposure, exit=exit,
            unit=unit, never=never, digits=digits or {}, pivots=pivots or {},
        )  # fmt: skip
        return cls._from_sums(sums, meta)

    @classmethod
    def _from_sums(cls, sums: Sums, meta: Mapping[str, Any]) -> Moments:
        made = [cls._from_block(sums, block, meta) for block in sums.schema.blocks]
        alone = {m.outcomes[0]: m for m in made if m.outcomes[0] in sums.schema.separate}
        return replace(made[0], sums=sums, blocks=alone)

    @classmethod
    def _from_block(cls, sums: Sums, block: tuple[str, ...], meta: Mapping[str, Any]) -> Moments:
        schema = sums.schema
        parts = sums.arrays(block)
        rows = parts.pop("rows")
        table = sums.table.select(list(schema.keys)).to_pandas()[rows].reset_index(drop=True)
        cells = table.rename(columns={schema.cluster: "unit", schema.period: "period"})
        people = parts["n"]
        if schema.unit is not None:
            people = sums.table.column(people_column(schema.alone(block))).to_numpy()[rows]
        units = sums.clusters.assign(cluster=sums.clusters.index)[["cluster", "cohort", "exit"]]
        return cls(
            **parts, cells=cells, n_units=people, units=units.rename_axis("unit"),
            outcomes=block, covariates=schema.covariates, strata=schema.strata,
            unit_name=schema.cluster, period_name=schema.period, cluster_name=schema.cluster,
            kind="repeated_cross_section", people=False, meta=dict(meta),
        )  # fmt: skip

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
                xx=None, xy=None, yy=None, exposure=exposure, units=unit_table(panel, panel.unit),
                unit_name=panel.unit, kind=panel.kind, people=panel.people,
                **shared,
            )  # fmt: skip
        parts = accumulate(
            frame[[panel.cluster, panel.period, *keys]].set_axis(["unit", "period", *keys], axis=1),
            unit=frame[panel.unit], w=w, x=x, y=y, exposure=exposure,
        )  # fmt: skip
        return cls(
            **parts, units=unit_table(panel, panel.cluster), unit_name=panel.cluster,
            kind="repeated_cross_section",
            people=panel.people and panel.unit == panel.cluster, **shared,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.cells)

    def of(self, outcome: str) -> Moments:
        """Return the moments that hold an outcome: these, or those of its own rows."""
        return self.blocks.get(outcome, self)

    def __add__(self, other: Moments) -> Moments:
        """
        Return the moments of the rows of both, exactly; for drops of data that come in parts.

        Raises
        ------
        DataError
            If they were not taken inside an engine, or do not hold the same sums.
        """
        meta = {**self.meta, "parts": [*self._parts(), *other._parts()]}
        meta["rows"] = sum(part["rows"] for part in meta["parts"])
        return self._from_sums(self._need_sums() + other._need_sums(), meta)

    def coarsen(
        self,
        *,
        drop: Sequence[str] = (),
        periods: Mapping[Any, Any] | Callable[[Any], Any] | None = None,
    ) -> Moments:
        """
        Return moments of coarser cells, exactly: add up over strata, or merge periods.

        The number of distinct people in a merged cell is not known from its parts; the largest of
        them is kept, of which the true number is never less.

        Parameters
        ----------
        drop : sequence of str
            Strata.
        periods : mapping or callable, optional
            New period of each period.
        """
        return self._from_sums(self._need_sums().coarsen(drop=drop, periods=periods), self.meta)

    def save(self, path: str | Path) -> None:
        """
        Write the sums to a Parquet file that any tool can read, with what is needed to load them.

        Whole numbers are stored as decimals; the schema, the source, the query and the version are
        in the file's metadata. The file appears under its name when all of it is written. It is for
        use inside the enclave: cells of few people are in it.

        Raises
        ------
        DataError
            If the moments were not taken inside an engine.
        """
        write(Path(path), self._need_sums(), self.meta)

    @classmethod
    def load(cls, path: str | Path) -> Moments:
        """
        Read moments that `save` wrote.

        Raises
        ------
        DataError
            If the file is no moments file, or of a later format.
        """
        return cls._from_sums(*read(Path(path)))

    def _parts(self) -> list[dict[str, Any]]:
        if "parts" in self.meta:
            return list(self.meta["parts"])
        return [{k: self.meta[k] for k in ("source", "engine", "rows")}]

    def _need_sums(self) -> Sums:
        if self.sums is None:
            raise DataError(
                "these moments were taken from a panel in memory and hold no sums. Take them with "
                "Moments.from_table (any frame can be its source)."
            )
        return self.sums

    def shareable(self, *, minimum: int = SMALLEST_SHOWN, **options: Any) -> Moments:
        """
        Return the copy that may leave, audited, with its report in ``meta["share"]``.

        Parameters
        ----------
        minimum : int
            Smallest number of people that may be known.
        **options
            Those of `vbceval.moments.share.shareable`, which says what is done.

        Raises
        ------
        DataError
            If the moments do not count people, or a small count could be derived.
        """
        from vbceval.moments.share import shareable

        return shareable(self, minimum=minimum, **options)

    def take(self, rows: IntArray | BoolArray) -> Moments:
        """Return some cells, by position or mask."""
        names = ("n", "n_units", "w", "w2", "x_mean", "y_mean", "xx", "xy", "yy", "exposure")
        kept: dict[str, Any] = {}
        for name in names:
            value = getattr(self, name)
            kept[name] = None if value is None else value[rows]
        positions = np.arange(len(self))[rows]
        cells = self.cells.iloc[positions].reset_index(drop=True)
        # sums and separate blocks are of all cells
        return replace(self, cells=cells, sums=None, blocks={}, **kept)

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
