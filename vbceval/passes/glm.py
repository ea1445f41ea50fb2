"""Logit, Poisson and gamma regression by streaming Newton: one pass inside the engine a step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.errors import DataError, DesignError, EstimationError
from vbceval.core.progress import counting
from vbceval.core.typing import Array, FloatArray
from vbceval.engine import Engine, check_unchanged, sql
from vbceval.inference import SSC, sum_by_cluster
from vbceval.moments import expressions as ex
from vbceval.passes.conditions import all_of, equal, number
from vbceval.passes.families import Family, begin, check_family, check_outcome, pieces
from vbceval.passes.fits import Fit, Recipe, inverse
from vbceval.passes.provenance import identity_of, shown
from vbceval.passes.rows import Table, attributes_of, key_columns, open_table
from vbceval.passes.terms import Term, design_of, levels_of, shift
from vbceval.passes.work import WorkFolder, open_folder

if TYPE_CHECKING:
    from sqlglot import exp

Information = Literal["observed", "expected"]

_CLOSE = 1e-10
"""Largest step, in units of the linear predictor, at which it has converged."""

_COLLINEAR = (
    "they are linear combinations of other terms, the constant and period effects. Leave them out."
)
_SEPARATED = (
    "some rows are predicted perfectly, so the likelihood has no maximum (separation: for a logit a "
    "group with only zeros or ones, for Poisson a group with only zeros). Merge or leave out these "
    "levels, leave their rows out, or take a linear model."
)


def glm(
    source: Any,
    engine: Engine,
    *,
    outcome: str,
    family: Family,
    terms: Sequence[Term],
    cluster: str,
    period: str,
    covariates: Sequence[str] = (),
    strata: Sequence[str] = (),
    attributes: Sequence[str] = (),
    period_effects: bool = True,
    weight: str | None = None,
    exposure: str | None = None,
    unit: str | None = None,
    ssc: SSC | None = None,
    information: Information = "observed",
    max_iterations: int = 25,
    work: str | Path | None = None,
    vintage: str | None = None,
) -> Fit:
    """
    Fit a logit, Poisson or gamma regression (log link) with continuous covariates, exactly.

    Each Newton step is one query: sums over the rows of every (cluster, period, strata) of products
    of (1, covariates), weighted at the current coefficients. Memory depends on the cells alone.

    Parameters
    ----------
    source : path, paths, table or name
        As for `Engine.register`.
    engine : Engine
        From `vbceval.connect`.
    outcome : str
        From 0 to 1 for a logit, 0 or more for Poisson, above 0 for gamma. Poisson needs no counts:
        it is consistent for the mean of any outcome that is 0 or more (Gourieroux, Monfort and
        Trognon 1984), so it is the choice for dollars with zeros.
    family : {"logit", "poisson", "gamma"}
    terms : sequence of Term
        Regressors. A constant is added.
    cluster, period : str
        Errors are clustered by `cluster`; the period is a number.
    covariates, strata, attributes : sequence of str
        As in `within`. Rows that miss a covariate or the outcome are left out.
    period_effects : bool, default True
        Add an effect for each period but the first.
    weight : str, optional
        Analysis weight, 0 or more.
    exposure : str, optional
        Denominator above 0 whose logarithm enters with coefficient 1; log links only.
    unit : str, optional
        People; needed to cluster by them later with `by_unit`.
    ssc : SSC, optional
        Small-sample factor. Default: `SSC.fixest`, which here is that of statsmodels.
    information : {"observed", "expected"}
        Whose inverse is the bread. They are one for logit and Poisson, whose links are canonical.
        For gamma with a log link the observed one makes `psi` the derivative of the coefficients
        by a cluster's weight, right also where the variance is not that of a gamma (statsmodels'
        and Stata's robust covariances use it); R's `sandwich` and fixest use the expected one.
    max_iterations : int, default 25
        Most Newton steps; each reads the rows once.
    work, vintage
        As in `within`: finished steps are kept, and a killed run goes on after the last.

    Returns
    -------
    Fit
        Terms first, then ``constant`` and period effects.

    Raises
    ------
    DataError
        If the table or outcome is unusable, or the source changed.
    EstimationError
        If terms are collinear, the outcome is predicted perfectly, or it does not converge.

    References
    ----------
    .. [1] McCullagh, P. and Nelder, J. A. (1989). *Generalized Linear Models*, section 2.5.
    .. [2] Wooldridge, J. M. (2023). Simple approaches to nonlinear difference-in-differences with
       panel data. *The Econometrics Journal* 26(3), C31-C66.
    """
    _check_options(family, information, weight=weight, exposure=exposure)
    # the exposure is a number every row needs, not a weight: rows of weight 0 are left out
    numbers = (outcome, *covariates, *([] if exposure is None else [exposure]))
    table = open_table(
        source, engine, unit=unit, keys=(cluster, period, *strata), numbers=numbers,
        weights=() if weight is None else (weight,), others=tuple(attributes),
    )  # fmt: skip
    rows = _check_range(table, family, outcome, exposure)
    clusters = attributes_of(table, attributes)
    cells = table.cells.join(clusters, on=cluster)
    every = [*terms, Term(name="constant")]
    if period_effects:
        every += levels_of(cells, period, drop_first=True)
    design = design_of(every, cells, covariates)
    pivots = np.array([table.pivots[x] for x in covariates])
    names = [t.name for t in every]
    parameters = {
        "outcome": outcome, "family": family, "cluster": cluster, "period": period,
        "covariates": list(covariates), "strata": list(strata), "weight": weight,
        "exposure": exposure, "terms": names, "design": _digest(design), "pivots": table.pivots,
    }  # fmt: skip
    identity = identity_of(
        "glm", table.relation, parameters, vintage=vintage, resumable=work is not None
    )
    with open_folder(work, identity) as folder:
        solved = _Newton(
            table=table, family=family, outcome=outcome, covariates=tuple(covariates),
            exposure=exposure, design=shift(design, pivots), names=names, folder=folder, rows=rows,
        ).solve(max_iterations, information)  # fmt: skip
    recipe = Recipe(
        outcome=outcome, covariates=tuple(covariates), unit=unit, cluster=cluster, period=period,
        strata=tuple(strata), weight=weight, exposure=exposure,
        cells=cells[[cluster, period, *strata]], design=design, offset=np.zeros(len(cells)),
        coefficients=solved.coefficients, bread=solved.bread, family=family,
    )  # fmt: skip
    return _fit(recipe, solved, table, clusters.index, names, SSC.fixest() if ssc is None else ssc)


def _fit(
    recipe: Recipe, solved: _Solved, table: Table, clusters: pd.Index, names: Sequence[str],
    ssc: SSC,
) -> Fit:  # fmt: skip
    """Cluster the scores of cells."""
    place = clusters.get_indexer(pd.Index(recipe.cells[recipe.cluster]))
    scores = sum_by_cluster(solved.scores, np.asarray(place, dtype=np.int64), len(clusters))
    psi = scores @ solved.bread
    factor = ssc.factor(n_clusters=len(clusters), n_rows=solved.rows, n_params=len(names))
    return Fit(
        names=tuple(names), coefficients=solved.coefficients, covariance=factor * psi.T @ psi,
        psi=psi, clusters=clusters, df=ssc.df(len(clusters)), recipe=recipe,
        meta={
            "estimator": f"{recipe.family} regression", "source": table.relation.source.label,
            "engine": table.engine.name, "rows": table.rows,
            "rows_left_out": shown(table.rows - solved.rows), "iterations": solved.passes,
            "ssc": ssc.name, "ssc_factor": factor, "vcov": f"clustered by {recipe.cluster}",
            "exactness": "streaming",
        },
    )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class _Solved:
    """Coefficients, inverse information, scores by cell, rows, and passes that were needed."""

    coefficients: FloatArray
    bread: FloatArray
    scores: FloatArray
    rows: int
    passes: int


@dataclass(frozen=True, eq=False, kw_only=True)
class _Newton:
    """Sums of a pass over the rows, and the steps that follow from them."""

    table: Table
    family: str
    outcome: str
    covariates: tuple[str, ...]
    exposure: str | None
    design: FloatArray
    names: Sequence[str]
    folder: WorkFolder
    rows: int

    def solve(self, most: int, information: Information) -> _Solved:
        """Take steps until they are of rounding."""
        counter = itertools.count()
        with counting(f"{self.family} regression", most) as advance:

            def read(b: FloatArray | None) -> dict[str, Array]:
                step = f"pass-{next(counter):05d}"
                found = self.folder.load(step)
                if found is None:
                    found = self._sums(b)
                    check_unchanged(self.table.relation)
                    self.folder.save(step, found)
                advance()
                return found

            first = read(None)
            if int(first["rows"].sum()) != self.rows:
                raise DataError(
                    f"{self.table.relation.source.label} had other rows a moment ago: it changes "
                    "while it is read. Run again when it is complete."
                )
            gram, score = self._totals(first)
            raw = np.diag(gram)
            start = inverse(gram, raw, self.names, why=_COLLINEAR) @ score
            size = np.sqrt(raw / float(first["step"][:, 0].sum()))
            b, found = self._climb(start, read, raw, size, most)
        # weights of the first step of gamma regression are 1, those of its expected information
        expected = self.family == "gamma" and information == "expected"
        last = gram if expected else self._totals(found)[0]
        bread = inverse(last, raw, self.names, why=_SEPARATED)
        scores = np.einsum("cpk,ck->cp", self.design, found["score"])
        return _Solved(
            coefficients=b, bread=bread, scores=scores, rows=int(first["rows"].sum()),
            passes=next(counter),
        )  # fmt: skip

    def _climb(
        self, b: FloatArray, read: Callable[[FloatArray | None], dict[str, Array]],
        raw: FloatArray, size: FloatArray, most: int,
    ) -> tuple[FloatArray, dict[str, Array]]:  # fmt: skip
        """Take Newton steps, halved where the likelihood falls, until they are of rounding."""
        found = read(b)
        move = np.zeros(len(b))
        for _ in range(most):
            gram, score = self._totals(found)
            if not np.isfinite(gram).all():
                break
            move = inverse(gram, raw, self.names, why=_SEPARATED) @ score
            if np.max(np.abs(move) * size) <= _CLOSE:
                return b, found
            gain, share = float(found["gain"].sum()), 1.0
            found = read(b + move)
            # rounding of the sums is no fall
            while not float(found["gain"].sum()) >= gain - 1e-11 * abs(gain) and share > 1e-6:
                share /= 2
                found = read(b + share * move)
            b = b + share * move
        moving = np.abs(move) * size
        worst = [n for n, m in zip(self.names, moving, strict=True) if m >= 0.5 * moving.max()]
        raise EstimationError(
            f"the {self.family} regression did not converge in {most} steps: {listed(worst)} still "
            f"move. Most likely {_SEPARATED}"
        )

    def _totals(self, found: dict[str, Array]) -> tuple[FloatArray, FloatArray]:
        """Sums over (1, covariates) in every cell to sums over the regressors."""
        k = self.design.shape[2]
        rows, columns = np.triu_indices(k)
        full = np.empty((len(self.design), k, k))
        full[:, rows, columns] = full[:, columns, rows] = found["step"]
        half = np.einsum("cpk,ckl->cpl", self.design, full)
        gram = np.einsum("cpl,crl->pr", half, self.design, optimize=True)
        return (gram + gram.T) / 2, np.einsum("cpk,ck->p", self.design, found["score"])

    def _sums(self, b: FloatArray | None) -> dict[str, Array]:
        """Run one pass; `b` None is the start, whose score is that of the working response."""
        import pyarrow as pa

        n, k = len(self.design), self.design.shape[2]
        keys = self.table.keys
        at = np.zeros((n, k)) if b is None else np.einsum("cpk,p->ck", self.design, b)
        cells = pa.table(
            {f"k{j}": pa.array(self.table.cells[key]) for j, key in enumerate(keys)}
            | {"id": pa.array(np.arange(n))}
            | {f"c{a}": pa.array(at[:, a]) for a in range(k)}
        )
        engine = self.table.engine
        known = engine.register(cells)
        try:
            found = engine.run(self._query(known.name, start=b is None)).to_pandas()
        finally:
            engine.drop(known.name)
        found = found.set_index("id").reindex(range(n), fill_value=0)
        pairs = [f"s{a}_{c}" for a, c in zip(*np.triu_indices(k), strict=True)]
        return {
            "step": found[pairs].to_numpy(dtype=float),
            "score": found[[f"g{a}" for a in range(k)]].to_numpy(dtype=float),
            "gain": found["gain"].to_numpy(dtype=float),
            "rows": found["rows"].to_numpy(dtype=np.int64),
        }

    def _query(self, cells: str, *, start: bool) -> exp.Select:
        """Rows, with their cell's coefficients; then the linear predictor; then sums by cell."""
        from sqlglot import exp

        k = self.design.shape[2]
        eta: exp.Expression = sql.column("c0", of="g")
        for a in range(1, k):
            slope = ex.multiply(sql.column(f"c{a}", of="g"), sql.column(f"v{a}", of="r"))
            eta = exp.Add(this=eta, expression=slope)
        eta = exp.Add(this=eta, expression=sql.column("o", of="r"))
        kept = [sql.column(x, of="r") for x in ("y", "w", "o", *(f"v{a}" for a in range(1, k)))]
        same = [equal(f"k{j}", "r", "g") for j in range(len(self.table.keys))]
        rows = (
            exp.Select(expressions=[sql.column("id", of="g"), *kept, sql.named(eta, "eta")])
            .from_(self._rows(k).subquery("r"))
            .join(exp.alias_(sql.table(cells), "g", table=True), on=all_of(*same))
        )
        if start:
            step, response = begin(self.family, self.table.pivots[self.outcome])
            less = exp.Paren(this=exp.Sub(this=response, expression=sql.column("o")))
            score: exp.Expression = ex.multiply(step.copy(), less)
            gain: exp.Expression = number(0.0)
        else:
            found = pieces(self.family)
            step, score, gain = found.step, found.score, found.gain
        weighed = [
            sql.named(ex.multiply(sql.column("w"), part), name)
            for name, part in (("h", step), ("r", score), ("l", gain))
        ]
        inner = exp.Select(
            expressions=[sql.column("id"), *(sql.column(f"v{a}") for a in range(1, k)), *weighed]
        ).from_(rows.subquery("e"))
        return ex.grouped(inner, self._columns(k), by=("id",), keep=())

    def _columns(self, k: int) -> list[exp.Expression]:
        def times(name: str, *places: int) -> exp.Expression:
            value: exp.Expression = sql.column(name)
            for a in places:
                value = ex.multiply(value, sql.column(f"v{a}")) if a else value
            return ex.add_up(value)

        pairs = list(zip(*np.triu_indices(k), strict=True))
        return [
            sql.column("id"),
            sql.named(ex.count_rows(), "rows"),
            *(sql.named(times("h", int(a), int(c)), f"s{a}_{c}") for a, c in pairs),
            *(sql.named(times("r", a), f"g{a}") for a in range(k)),
            sql.named(times("l"), "gain"),
        ]

    def _rows(self, k: int) -> exp.Select:
        from sqlglot import exp

        relation = self.table.relation
        one = number(1.0)
        weight, exposure = self.table.weight, self.exposure
        columns = [
            *key_columns(self.table),
            sql.named(ex.value(self.outcome, relation.column(self.outcome)), "y"),
            sql.named(one if weight is None else ex.value(weight, relation.column(weight)), "w"),
            sql.named(
                number(0.0) if exposure is None
                else exp.Ln(this=ex.value(exposure, relation.column(exposure))), "o",
            ),
        ]  # fmt: skip
        for a, x in zip(range(1, k), self.covariates, strict=True):
            shifted = ex.shifted(x, relation.column(x), self.table.pivots[x])
            columns.append(sql.named(shifted, f"v{a}"))
        return sql.select(*columns, of=relation.name).where(self.table.where())


def _check_options(
    family: str, information: str, *, weight: str | None, exposure: str | None
) -> None:
    check_family(family)
    if information not in get_args(Information):
        raise DesignError(f"`information` is {information!r}; it can be 'observed' or 'expected'.")
    if family == "logit" and exposure is not None:
        raise DataError("`exposure` goes with a log link (poisson, gamma), not with a logit.")
    if exposure is not None and weight == exposure:
        raise DataError("`weight` and `exposure` are one column. Give the one that is meant.")


def _check_range(table: Table, family: str, outcome: str, exposure: str | None) -> int:
    """Refuse values that a family cannot have; return the number of rows that are read."""
    columns = [sql.named(ex.count_rows(), "rows")]
    for name in (outcome, *([] if exposure is None else [exposure])):
        value = ex.value(name, table.relation.column(name))
        columns += [
            sql.named(ex.smallest(value), f"low {name}"),
            sql.named(ex.largest(value.copy()), f"high {name}"),
        ]
    query = sql.select(*columns, of=table.relation.name).where(table.where())
    found = table.engine.run(query).to_pylist()[0]
    check_outcome(family, outcome, found[f"low {outcome}"], found[f"high {outcome}"])
    if exposure is not None and found[f"low {exposure}"] <= 0:
        raise DataError(
            f"`{exposure}` is 0 or less in some rows, and its logarithm is needed. Leave these rows "
            "out, or correct it."
        )
    return int(found["rows"])


def _digest(design: FloatArray) -> str:
    import hashlib

    return hashlib.sha256(np.ascontiguousarray(design).tobytes()).hexdigest()
