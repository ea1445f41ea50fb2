"""Errors clustered by unit: a second pass that adds up every unit's score."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import IntArray
from vbceval.engine import Engine
from vbceval.inference import SSC
from vbceval.passes.buckets import Arrays, Size, bucketed, check_unit
from vbceval.passes.families import residual
from vbceval.passes.fits import Fit, Recipe
from vbceval.passes.provenance import identity_of
from vbceval.passes.rows import Rows, Table, open_table, read_rows
from vbceval.passes.terms import shift
from vbceval.passes.within import bytes_a_row, deviations

if TYPE_CHECKING:
    from sqlglot import exp

# numbers of regressors laid out at once
_BLOCK = 4_000_000


def by_unit(
    fit: Fit,
    source: Any,
    engine: Engine,
    *,
    ssc: SSC | None = None,
    work: str | Path | None = None,
    memory: str = "1GB",
    buckets: int | None = None,
    vintage: str | None = None,
) -> Fit:
    """
    Cluster the errors of a regression by unit, in a second pass over its rows.

    Parameters
    ----------
    fit : Fit
        Of `within`, of `glm`, or made from a `Recipe`: a regression from moments can have its
        coefficients and bread described there.
    source, engine
        The rows that gave `fit`.
    ssc : SSC, optional
        Small-sample factor. Default: `SSC.fixest`: unit effects are nested in the unit and not
        counted.
    work, memory, buckets, vintage
        As in `within`.

    Returns
    -------
    Fit
        The same coefficients, another covariance. There is no influence: it would be a row a person.

    Raises
    ------
    DesignError
        If the recipe names no unit.
    EstimationError
        If the scores do not add up to zero: the rows are not those of the regression.
    DataError
        As in `within`.

    Notes
    -----
    The covariance is B (sum over units of s s') B with B the bread and s the sum of a unit's scores
    (Liang and Zeger 1986; Arellano 1987 for unit effects).
    """
    recipe = fit.recipe
    if recipe.unit is None:
        raise DesignError("the regression names no `unit`; give it to the pass that made it.")
    ssc = SSC.fixest() if ssc is None else ssc
    extra = () if recipe.exposure is None else (recipe.exposure,)
    table = open_table(
        source, engine, unit=recipe.unit, keys=(recipe.cluster, recipe.period, *recipe.strata),
        numbers=(recipe.outcome, *recipe.covariates, *extra),
        weights=() if recipe.weight is None else (recipe.weight,),
    )  # fmt: skip
    check_unit(table.relation.column(recipe.unit))
    identity = identity_of(
        "by_unit", table.relation, {"unit": recipe.unit, "regression": _digest(recipe)},
        vintage=vintage, resumable=work is not None,
    )  # fmt: skip
    size = Size(
        rows=table.rows, bytes_a_row=bytes_a_row(table), memory=memory, buckets=buckets,
        fixed=8 * 3 * _BLOCK,
    )  # fmt: skip
    with bucketed(
        engine, table.relation, unit=recipe.unit, title="errors by unit", size=size,
        identity=identity, work=work,
    ) as run:  # fmt: skip
        total = run.total(lambda condition: _sums(table, recipe, condition))
    n_units, n_rows = int(total["units"]), int(total["rows"])
    _check_zero(total)
    p = len(recipe.coefficients) + recipe.absorbed
    if recipe.within and ssc.K == "full":
        p += n_units - recipe.absorbed
    factor = ssc.factor(n_clusters=n_units, n_rows=n_rows, n_params=p)
    covariance = factor * recipe.bread @ total["meat"] @ recipe.bread
    return replace(
        fit, covariance=(covariance + covariance.T) / 2, psi=None, clusters=None,
        df=ssc.df(n_units),
        meta={**fit.meta, "ssc": ssc.name, "ssc_factor": factor, "exactness": "unit pass",
              "vcov": f"clustered by {recipe.unit}"},
    )  # fmt: skip


def _check_zero(total: Arrays) -> None:
    """Scores of the regression's own rows add up to zero, as far as its coefficients are exact."""
    size = np.sqrt(np.diag(total["meat"]))
    off = np.abs(total["score"]) > 1e-5 * np.sqrt(float(total["units"])) * size
    if off.any():
        raise EstimationError(
            f"the scores of {int(off.sum()):,} coefficients do not add up to zero over the rows "
            "read, so these are not the rows, weights or columns of the regression, and its errors "
            "would be wrong. Give the same source."
        )


def _sums(table: Table, recipe: Recipe, condition: exp.Expression) -> Arrays:
    """Return the sums of one bucket."""
    p = len(recipe.coefficients)
    out: Arrays = {
        "meat": np.zeros((p, p)), "score": np.zeros(p), "units": np.array(0), "rows": np.array(0),
    }  # fmt: skip
    found = read_rows(table, condition, recipe.cells)
    rows = None if found is None else _of_sample(found)
    if rows is None:
        return out
    names = (*recipe.covariates, *([] if recipe.exposure is None else [recipe.exposure]))
    pivots = np.array([table.pivots[x] for x in names])
    q = len(recipe.covariates)
    design = shift(recipe.design, pivots[:q])
    y = rows.numbers[:, 0] + table.pivots[recipe.outcome]
    x = np.column_stack([np.ones(len(y)), rows.numbers[:, 1 : 1 + q]])
    # eta of a row is (its cell's coefficients) @ (1, x)
    slopes = np.einsum("cpk,p->ck", design, recipe.coefficients)
    eta = recipe.offset[rows.cell] + np.einsum("nk,nk->n", slopes[rows.cell], x)
    if recipe.exposure is not None:
        eta += np.log(rows.numbers[:, 1 + q] + pivots[q])
    e = residual(recipe.family, y, eta)
    if recipe.within:
        e = deviations(rows, e[:, None])[:, 0]
    weighed = (rows.weight * e)[:, None] * x
    for low, high in _blocks(rows.starts, len(y), p * (1 + q)):
        z = np.einsum("npk,nk->np", design[rows.cell[low:high]], weighed[low:high])
        starts = rows.starts[(rows.starts >= low) & (rows.starts < high)] - low
        unit = np.add.reduceat(z, starts, axis=0)
        out["meat"] += unit.T @ unit
        out["score"] += unit.sum(axis=0)
    out["units"], out["rows"] = np.array(len(rows.starts)), np.array(len(y))
    return out


def _of_sample(rows: Rows) -> Rows | None:
    """Leave out rows whose cell is not in the regression."""
    keep = rows.cell >= 0
    if keep.all():
        return rows
    if not keep.any():
        return None
    return Rows(
        unit=np.asarray(pd.factorize(rows.unit[keep])[0]), cell=rows.cell[keep],
        weight=rows.weight[keep], numbers=rows.numbers[keep],
    )  # fmt: skip


def _blocks(starts: IntArray, n: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows that hold whole units and, but for a unit larger than that, few numbers."""
    most = max(1, _BLOCK // width)
    ends = np.append(starts[1:], n)
    low = 0
    while low < n:
        fitting = int(np.searchsorted(ends, low + most, side="right"))
        next_unit = int(np.searchsorted(ends, low, side="right"))
        high = int(ends[max(fitting - 1, next_unit)])
        yield low, high
        low = high


def _digest(recipe: Recipe) -> str:
    digest = hashlib.sha256()
    for part in (recipe.design, recipe.offset, recipe.coefficients, recipe.bread):
        digest.update(np.ascontiguousarray(part).tobytes())
    named = (
        recipe.outcome, recipe.covariates, recipe.weight, recipe.exposure, recipe.family,
        recipe.within, recipe.cells.to_csv(index=False),
    )  # fmt: skip
    digest.update(repr(named).encode())
    return digest.hexdigest()
