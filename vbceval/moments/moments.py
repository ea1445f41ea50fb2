"""`Moments`: weighted first and second moments by organization, period and stratum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.disclosure import SMALLEST_SHOWN
from vbceval.core.errors import DataError
from vbceval.core.groups import Groups
from vbceval.core.typing import BoolArray, FloatArray, IntArray, PanelKind
from vbceval.engine import Engine
from vbceval.moments.build import block_fields, panel_fields
from vbceval.moments.drops import fitted
from vbceval.moments.origin import described, joined_meta
from vbceval.moments.passes import sum_table
from vbceval.moments.quantiles import histogram, quantile
from vbceval.moments.storage import read, write
from vbceval.moments.sums import Sums
from vbceval.panel import Panel


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
    n, n_units, w, w2 : array, shape (K,)
        Rows and distinct units in the cell; sum of analysis weights and of their squares.
    x_mean : array, shape (K, p)
        Weighted means of covariates.
    y_mean : array, shape (K, m)
        Weighted means of outcomes; missing where the cell has no value.
    xx : array, shape (K, p, p), or None
        Centred sums ``sum w (x - mean)(x - mean)'``.
    xy : array, shape (K, p, m), or None
        Centred sums of covariates with outcomes.
    yy : array, shape (K, m), or None
        Centred sums of squares of each outcome; missing where a shared copy does without them.
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
        histograms: Sequence[str] | Mapping[str, Sequence[float] | None] = (),
        dominance: bool = False,
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
            Numbers; NULL and NaN are missing. Rows without a covariate are left out, and counted. An
            outcome missing in some rows gets moments of its own, over the rows that have it.
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
        histograms : sequence of str, or mapping of str to sequence of float or None
            Outcomes of which every cell keeps a histogram, or their edges, increasing, in the unit
            of the outcome; bins are open at both ends. Without edges: 0 by itself, values below 0
            together, sixteen bins to a doubling from 1 to 10^7 (to the cent), and for whole numbers
            a bin each up to 256. Each costs one more scan. See `histogram` and `quantile`.
        dominance : bool
            Keep the largest size of an amount, ``|weight * outcome|`` of a row, and the sum of
            sizes, so that `shareable` knows what share one row has of a cell. Two more numbers an
            outcome. They are never in a shared copy.

        Returns
        -------
        Moments
            Of kind "repeated_cross_section", cells by cluster, period and stratum.

        Raises
        ------
        DataError
            With everything that is wrong with the table; if a file changes while it is read.
        """
        if isinstance(strata, str):
            raise DataError(f"`strata` is the text '{strata}'; give a list, ['{strata}'].")
        sums, meta = sum_table(
            source, engine, cluster=cluster, period=period, cohort=cohort, strata=strata,
            outcomes=outcomes, covariates=covariates, weight=weight, exposure=exposure, exit=exit,
            unit=unit, never=never, digits=digits or {}, pivots=pivots or {},
            histograms=histograms, dominance=dominance,
        )  # fmt: skip
        return cls._from_sums(sums, meta)

    @classmethod
    def _from_sums(cls, sums: Sums, meta: Mapping[str, Any]) -> Moments:
        made = [cls(**block_fields(sums, block, meta)) for block in sums.schema.blocks]
        alone = {m.outcomes[0]: m for m in made if m.outcomes[0] in sums.schema.separate}
        return replace(made[0], sums=sums, blocks=alone)

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
        return cls(
            **panel_fields(panel, outcomes=outcomes, covariates=covariates, strata=strata, by=by)
        )

    def __len__(self) -> int:
        return len(self.cells)

    __repr__ = described

    def of(self, outcome: str) -> Moments:
        """Return the moments that hold an outcome: these, or those of its own rows."""
        return self.blocks.get(outcome, self)

    def __add__(self, other: Moments) -> Moments:
        """
        Return the moments of the rows of both, exactly, such as drops of data; warn of one in both.

        Raises
        ------
        DataError
            If they hold no sums, or others, or are copies that do not fit.
        """
        if not isinstance(other, Moments):
            return NotImplemented
        one, two = fitted(self._need_sums(), other._need_sums())
        added = one + two
        return self._from_sums(added, joined_meta((one, self.meta), (two, other.meta)))

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

    def histogram(self, outcome: str) -> pd.DataFrame:
        """
        Return the histogram of an outcome in every cell; for use inside the enclave.

        Parameters
        ----------
        outcome : str
            One of ``histograms`` of `from_table`.

        Returns
        -------
        DataFrame
            One row a cell and bin that holds rows: the keys; ``bin``, its number; ``low`` and
            ``high``, the first and last value that it can hold, in the unit of the outcome, infinite
            where it is open; ``n`` rows; ``w``, their weight; ``mean``, their weighted mean, exact.

        Raises
        ------
        DataError
            If the moments hold no histogram of it.
        """
        return histogram(self._need_sums(), outcome)

    def quantile(
        self, outcome: str, q: float | Sequence[float], *, by: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """
        Return weighted quantiles of an outcome from its histograms.

        A quantile is the smallest value that at least a share `q` of the weight does not pass. The
        bin that holds it is known; within the bin it is interpolated.

        Parameters
        ----------
        outcome : str
            One of ``histograms`` of `from_table`.
        q : float or sequence of float
            Probabilities, 0 to 1.
        by : sequence of str, optional
            Keys (cluster, period, strata) by which rows are grouped; empty: all rows together.
            Default: every cell.

        Returns
        -------
        DataFrame
            One row a group and probability: the keys, ``q``, ``low`` and ``high`` (the quantile of
            the rows is never outside), and ``value``: interpolated linearly on both sides of the
            mean of the bin, so that the mean is kept; in an open bin it is the mean.

        Raises
        ------
        DataError
            If the moments hold no histogram of it, or an option does not fit.

        Notes
        -----
        Section 1.2 of the methods.
        """
        return quantile(self._need_sums(), outcome, q, by=by)

    def save(self, path: str | Path) -> None:
        """
        Write the sums to a Parquet file that any tool can read, with what is needed to load them.

        Whole numbers are 64-bit integers, decimals where these are too small; schema, source, query
        and version are in the file's metadata. The file appears under its name when all of it is
        written. It is for use inside the enclave: cells of few people are in it.

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
        held = {name: getattr(self, name) for name in names}
        kept: dict[str, Any] = {k: None if x is None else x[rows] for k, x in held.items()}
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

    def attribute(self, name: Literal["cluster", "cohort", "exit"]) -> pd.Series:
        """Return an attribute of each cell's unit, shape (K,)."""
        return self.units[name].take(self.place).reset_index(drop=True)

    @cached_property
    def place(self) -> IntArray:
        """Position of each cell's unit in `units`, shape (K,)."""
        owners = Groups.of(self.cells["unit"])
        labels = self.cells["unit"].iloc[owners.first]
        return np.asarray(self.units.index.get_indexer(pd.Index(labels))[owners.code])
