"""Unit effects on panels with gaps: one pass by unit, then any regression on it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.engine import Engine
from vbceval.inference import SSC
from vbceval.passes.buckets import Arrays, Size, bucketed, check_unit
from vbceval.passes.fits import Fit, Recipe, inverse
from vbceval.passes.provenance import identity_of, shown
from vbceval.passes.rows import Rows, Table, attributes_of, check_panel, open_table, read_rows
from vbceval.passes.terms import Term, design_of, levels_of, shift

if TYPE_CHECKING:
    from sqlglot import exp

# people whose periods are laid out at once: a block of them stays in the processor's memory
_BLOCK = 2048
_NOT_IDENTIFIED = (
    "after unit and period effects they do not vary, or only together with other terms. A term that "
    "is the same in all periods of a unit has no coefficient beside unit effects; event-time terms "
    "need two references where everyone is treated. Leave terms out."
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Within:
    """
    Products of deviations from unit means, by cluster, of columns laid out by period and stratum.

    Every regressor that is a function of (cluster, period, strata) times 1 or a covariate is a sum
    of these columns, so that regressions with unit effects and errors clustered above the unit
    follow without a return to the rows. Made by `within`.

    Parameters
    ----------
    gram : array, shape (G, K (K + 1) / 2), K = slots x (1 + covariates)
        Weighted products of the columns' deviations: the upper triangle, row by row.
    cross : array, shape (G, K, outcomes)
        Their products with the outcomes' deviations.
    raw : array, shape (G, K)
        Weighted sums of squares of the columns, before unit means are taken out.
    rows, units, alone : int array, shape (G,)
        Rows; units; units with one row, which say nothing.
    clusters : DataFrame
        Indexed by cluster: its attributes.
    slots : DataFrame
        Period and strata: what rows of a cluster are laid out by.
    outcomes, covariates : tuple of str
    pivots : array, shape (covariates,)
        What was subtracted of the covariates.
    unit, cluster, period : str
    strata : tuple of str
    weight : str or None
    meta : mapping
    """

    gram: FloatArray
    cross: FloatArray
    raw: FloatArray
    rows: IntArray
    units: IntArray
    alone: IntArray
    clusters: pd.DataFrame
    slots: pd.DataFrame
    outcomes: tuple[str, ...]
    covariates: tuple[str, ...]
    pivots: FloatArray
    unit: str
    cluster: str
    period: str
    strata: tuple[str, ...] = ()
    weight: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cells(self) -> pd.DataFrame:
        """Every cluster in every slot, with the cluster's attributes: what terms are given."""
        clusters = self.clusters.rename_axis(self.cluster).reset_index()
        cells = clusters.merge(self.slots, how="cross")
        return cells[[self.cluster, *self.slots.columns, *self.clusters.columns]]

    def fit(self, outcome: str, terms: Sequence[Term], *, ssc: SSC | None = None) -> Fit:
        """
        Regress an outcome on terms with unit and period effects, errors clustered by cluster.

        Parameters
        ----------
        outcome : str
            One of the outcomes of the pass.
        terms : sequence of Term
            Regressors. Period effects are added: one for each period but the first.
        ssc : SSC, optional
            Small-sample factor. Default: `SSC.fixest`, which does not count unit effects.

        Returns
        -------
        Fit
            Terms first, then period effects ("quarter=2", ...).

        Raises
        ------
        DesignError
            If the outcome or a covariate is not of this pass.
        EstimationError
            If a term is not identified, or there is one cluster.

        Notes
        -----
        Rows of the design are functions of the cell, so each product is a quadratic form in `gram`:
        the same numbers as least squares on rows less their unit means, to rounding (Frisch and
        Waugh 1933; Wooldridge 2010, section 10.5).
        """
        ssc = SSC.fixest() if ssc is None else ssc
        cells = self.cells
        every = [*terms, *levels_of(cells, self.period, drop_first=True)]
        design = design_of(every, cells, self.covariates)
        grams, scores, raw = self.products(design, outcome)
        bread = inverse(
            grams.sum(axis=0), raw, [t.name for t in every], why=_NOT_IDENTIFIED
        )  # fmt: skip
        coefficients = bread @ scores.sum(axis=0)
        # one step of refinement: normal equations square the condition number
        coefficients += bread @ (scores - grams @ coefficients).sum(axis=0)
        psi = (scores - grams @ coefficients) @ bread
        n_terms, n_rows = len(terms), int(self.rows.sum())
        periods = self.slots[self.period].nunique()
        levels = periods - 1 if ssc.K == "full" else periods
        units = int(self.units.sum()) if ssc.K == "full" else 0
        factor = ssc.factor(
            n_clusters=len(psi), n_rows=n_rows, n_params=n_terms + levels + units
        )  # fmt: skip
        recipe = Recipe(
            outcome=outcome, covariates=self.covariates, unit=self.unit, cluster=self.cluster,
            period=self.period, strata=self.strata, weight=self.weight,
            cells=cells[[self.cluster, self.period, *self.strata]], design=design,
            offset=np.zeros(len(cells)), coefficients=coefficients, bread=bread, within=True, absorbed=1,
        )  # fmt: skip
        return Fit(
            names=tuple(t.name for t in every), coefficients=coefficients,
            covariance=factor * psi.T @ psi, psi=psi, clusters=self.clusters.index,
            df=ssc.df(len(psi)), recipe=recipe,
            meta={**self.meta, "estimator": "unit effects", "ssc": ssc.name,
                  "ssc_factor": factor, "vcov": f"clustered by {self.cluster}",
                  "exactness": "unit pass"},
        )  # fmt: skip

    def products(
        self, design: FloatArray, outcome: str
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """
        Return each cluster's products of regressors and outcome, unit effects taken out.

        They are the X'X and X'y of a cluster that any cluster-robust covariance and wild bootstrap
        need: unit effects are nested in clusters, so taking them out first changes nothing
        (Pustejovsky and Tipton 2018, theorem 2). Period effects must be among the regressors.

        Parameters
        ----------
        design : array, shape (cells, p, 1 + q)
            Regressors of the rows of `cells`, for (1, covariates); see `design_of`.
        outcome : str

        Returns
        -------
        array, shape (G, p, p)
            X'X.
        array, shape (G, p)
            X'y.
        array, shape (p,)
            Diagonal of X'X over all clusters before unit means are taken out.

        Raises
        ------
        DesignError
            If the outcome is not of this pass.
        """
        if outcome not in self.outcomes:
            raise DesignError(
                f"`{outcome}` is no outcome of this pass ({listed(self.outcomes)}). Name it in "
                "`outcomes` and run the pass again."
            )
        design = shift(design, self.pivots)
        n, p = len(self.clusters), design.shape[1]
        # (cluster, slot, p, 1 + q) to (cluster, p, slot and column)
        maps = design.reshape(n, len(self.slots), p, -1).transpose(0, 2, 1, 3).reshape(n, p, -1)
        cross = self.cross[:, :, self.outcomes.index(outcome)]
        k = maps.shape[2]
        upper = np.triu_indices(k)
        grams, whole = np.empty((n, p, p)), np.empty((k, k))
        for c in range(n):
            whole[upper] = whole.T[upper] = self.gram[c]
            grams[c] = maps[c] @ whole @ maps[c].T
        return (
            grams,
            np.einsum("cpk,ck->cp", maps, cross),
            np.einsum("cpk,ck->p", maps**2, self.raw),
        )


def within(
    source: Any,
    engine: Engine,
    *,
    unit: str,
    cluster: str,
    period: str,
    outcomes: Sequence[str],
    covariates: Sequence[str] = (),
    strata: Sequence[str] = (),
    attributes: Sequence[str] = (),
    weight: str | None = None,
    work: str | Path | None = None,
    memory: str = "1GB",
    buckets: int | None = None,
    vintage: str | None = None,
) -> Within:
    """
    Take out unit effects in one pass by unit, on panels with or without gaps.

    Rows are read bucket by bucket; what is kept of them is of the size of clusters x (periods x
    strata x (1 + covariates)) squared / 2. Any number of regressions follow from it with `Within.fit`.

    Parameters
    ----------
    source : path, paths, table or name
        As for `Engine.register`.
    engine : Engine
        From `vbceval.connect`.
    unit : str
        People: whole numbers or text. Each has at most one row a period.
    cluster : str
        What lies above the unit; the same in all rows of a unit.
    period : str
        Number.
    outcomes, covariates : sequence of str
        Numbers. Rows that miss one of them are left out: take outcomes with gaps one at a time.
    strata : sequence of str
        Columns that terms may depend on beside cluster and period, such as dual eligibility; they
        may change within a unit.
    attributes : sequence of str
        Columns that are the same in a whole cluster, such as the cohort, for terms.
    weight : str, optional
        Analysis weight, 0 or more.
    work : str or Path, optional
        Folder that keeps what is finished: the same call goes on after a kill. It holds no people,
        but sums over few; it stays where the rows are. Default: a temporary one.
    memory : str, default "1GB"
        Memory of this process for a bucket and its sums, beside that of the engine.
    buckets : int, optional
        Number of buckets. Default: as many as `memory` asks for.
    vintage : str, optional
        Name of the state of a source whose files cannot be seen, to be able to resume.

    Returns
    -------
    Within

    Raises
    ------
    DataError
        If the table is unusable, a unit changes its cluster or has two rows in a period, the
        source changed, or the folder is in use.
    EstimationError
        If the engine or the disk has no room.
    """
    weights = () if weight is None else (weight,)
    table = open_table(
        source, engine, unit=unit, keys=(cluster, period, *strata), numbers=(*outcomes, *covariates),
        weights=weights, others=tuple(attributes),
    )  # fmt: skip
    check_unit(table.relation.column(unit))
    clusters = attributes_of(table, attributes)
    slots = table.cells[[period, *strata]].drop_duplicates().sort_values([period, *strata])
    slots = slots.reset_index(drop=True)
    k = len(slots) * (1 + len(covariates))
    parameters = {
        "unit": unit, "cluster": cluster, "period": period, "outcomes": list(outcomes),
        "covariates": list(covariates), "strata": list(strata), "weight": weight,
        # means of doubles depend on the order of rows: buckets about two pivots are never added
        "pivots": table.pivots,
    }  # fmt: skip
    identity = identity_of(
        "within", table.relation, parameters, vintage=vintage, resumable=work is not None
    )
    size = Size(
        rows=table.rows, bytes_a_row=bytes_a_row(table), memory=memory, buckets=buckets,
        # the sums of a bucket, and those of all before it
        fixed=2 * 8 * len(clusters) * k * ((k + 3) // 2 + len(outcomes)),
    )  # fmt: skip
    with bucketed(
        engine, table.relation, unit=unit, title="unit effects", size=size, identity=identity,
        work=work,
    ) as run:  # fmt: skip
        total = run.total(lambda where: _sums(table, where, clusters, slots, len(outcomes)))
    return Within(
        **total, clusters=clusters, slots=slots, outcomes=tuple(outcomes), covariates=tuple(covariates), pivots=np.array([table.pivots[x] for x in covariates]),
        unit=unit, cluster=cluster, period=period, strata=tuple(strata), weight=weight,
        meta={
            "source": table.relation.source.label, "engine": engine.name, "buckets": run.count,
            "rows": table.rows, "rows_left_out": shown(table.rows - int(total["rows"].sum())),
        },
    )  # fmt: skip


def bytes_a_row(table: Table) -> int:
    """Return the memory that a row takes while its bucket is worked on."""
    # the engine's result, the arrays made of it, and their products: about four copies
    return 8 * 4 * (4 + len(table.numbers))


def _sums(
    table: Table, condition: exp.Expression, clusters: pd.DataFrame, slots: pd.DataFrame, m: int
) -> Arrays:
    """Return the sums of one bucket, by cluster."""
    n, t, q = len(clusters), len(slots), len(table.numbers) - m
    k = t * (1 + q)
    out: Arrays = {
        "gram": np.zeros((n, k * (k + 1) // 2)), "cross": np.zeros((n, k, m)),
        "raw": np.zeros((n, k)),
    } | {name: np.zeros(n, dtype=np.int64) for name in ("rows", "units", "alone")}  # fmt: skip
    rows = read_rows(table, condition)
    if rows is None:
        return out
    codes = check_panel(rows, table, clusters.index)
    names = pd.MultiIndex.from_frame(slots)
    slot = names.get_indexer(pd.MultiIndex.from_frame(table.cells[list(slots)]))[rows.cell]
    owner = codes[rows.unit]
    x = np.column_stack([np.ones(len(slot)), rows.numbers[:, m:]])
    size = np.diff(np.r_[rows.starts, len(slot)])
    out["rows"] = np.bincount(owner, minlength=n)
    out["units"] = np.bincount(codes, minlength=n)
    out["alone"] = np.bincount(codes[size == 1], minlength=n)
    place = (owner * t + slot) * (1 + q)
    y = deviations(rows, rows.numbers[:, :m])
    steps = np.arange(t) * (1 + q)
    for a in range(1 + q):
        at = place + a
        wx = rows.weight * x[:, a]
        out["raw"] += np.bincount(at, wx * x[:, a], minlength=n * k).reshape(n, k)
        for j in range(m):
            out["cross"][:, :, j] += np.bincount(at, wx * y[:, j], minlength=n * k).reshape(n, k)
        # of its own slot only: the upper triangle holds row i from i k - i (i - 1) / 2 on
        row = steps + a
        start = row * k - row * (row - 1) // 2 - row
        for b in range(a, 1 + q):
            cell = np.bincount(owner * t + slot, wx * x[:, b], minlength=n * t).reshape(n, t)
            out["gram"][:, start + steps + b] += cell
    _take_out_means(out["gram"], rows, codes, slot, x, k)
    return out


def deviations(rows: Rows, values: FloatArray) -> FloatArray:
    """Return columns less their weighted unit means, shape (n, m)."""
    total = np.add.reduceat(rows.weight, rows.starts)
    means = np.add.reduceat(rows.weight[:, None] * values, rows.starts, axis=0) / total[:, None]
    return np.asarray(values - means[rows.unit])


def _take_out_means(
    gram: FloatArray, rows: Rows, codes: IntArray, slot: IntArray, x: FloatArray, k: int
) -> None:
    """Subtract from each cluster's products those of its unit means, in blocks of people."""
    width, upper = x.shape[1], np.triu_indices(k)
    total = np.add.reduceat(rows.weight, rows.starts)
    part = (rows.weight / np.sqrt(total)[rows.unit])[:, None] * x
    first = np.r_[rows.starts, len(slot)]
    order = np.argsort(codes, kind="stable")
    bounds = np.flatnonzero(np.r_[True, codes[order][1:] != codes[order][:-1], True])
    for low, high in itertools.pairwise(bounds):
        for start in range(low, high, _BLOCK):
            people = order[start : min(start + _BLOCK, high)]
            sizes = first[people + 1] - first[people]
            line = np.repeat(np.arange(len(people)), sizes)
            at = np.repeat(first[people] - np.r_[0, np.cumsum(sizes)[:-1]], sizes)
            at = at + np.arange(len(line))
            laid = np.zeros((len(people), k))
            for a in range(width):
                laid[line, slot[at] * width + a] = part[at, a]
            gram[codes[people[0]]] -= (laid.T @ laid)[upper]
