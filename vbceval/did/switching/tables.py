"""From a panel or moments to groups by period."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems
from vbceval.core.disclosure import say_people
from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.design import Design
from vbceval.did.extra_columns import Source, with_columns
from vbceval.did.switching.paths import Table
from vbceval.moments import Moments
from vbceval.panel import Panel


class Treated(NamedTuple):
    """
    Rows or cells with their treatment.

    Parameters
    ----------
    source : Source
        K cells.
    dose : array, shape (K,)
        Treatment.
    trend : array, shape (K,)
        Code of the set of groups.
    """

    source: Source
    dose: FloatArray
    trend: FloatArray


def read_treated(
    data: Panel | Moments, design: Design, *, dose: str | None, trends: str | None
) -> Treated:
    """
    Return cells with their treatment, checked.

    Parameters
    ----------
    data : Panel or Moments
        Where `dose` and `trends` are columns of the panel, or covariates of the moments.
    design : Design
        Outcome and covariates.
    dose, trends : str or None
        Column names.

    Raises
    ------
    DesignError
        If a column does not exist, or treatment is missing or varies within a cell.
    """
    source = with_columns(
        data, design, [] if dose is None else [dose], codes=[] if trends is None else [trends]
    )
    treatment = _on(source.moments) if dose is None else source.values[dose]
    _check(source, treatment, dose)
    if source.moments.xx is not None:
        treatment = _without_rounding(treatment)
    trend = np.zeros(len(source.moments)) if trends is None else source.values[trends]
    return Treated(source, treatment, trend)


def _on(moments: Moments) -> FloatArray:
    """Return 1 from cohort to exit, else 0."""
    period = moments.cells["period"].to_numpy(dtype=float)
    entry, exit = (
        moments.attribute(name).to_numpy(dtype=float, na_value=np.nan)
        for name in ("cohort", "exit")
    )
    return np.asarray(((period >= entry) & (np.isnan(exit) | (period <= exit))).astype(float))


def _without_rounding(dose: FloatArray) -> FloatArray:
    """Return doses, those that differ by the rounding of a mean only made equal."""
    values, place = np.unique(dose, return_inverse=True)
    apart = np.diff(values, prepend=-np.inf) > 1e-9 * np.abs(values).max(initial=0.0)
    return np.asarray(values[apart][np.cumsum(apart) - 1][place])


def _check(source: Source, dose: FloatArray, name: str | None) -> None:
    moments, problems = source.moments, Problems("the treatment", DesignError)
    lost = int(np.isnan(dose).sum())
    if lost:
        count = say_people(lost, "rows") if moments.people else f"{lost:,} rows"
        problems.add(
            f"`{name}` is missing or no number in {count}, so it is not known whether treatment "
            "changed. Fill it, or drop the rows."
        )
    if name is not None and moments.xx is not None:
        column = source.positions[name]
        inside = moments.xx[:, column, column]
        if (inside > 1e-9 * moments.w * np.maximum(dose**2, 1e-12)).any():
            problems.add(
                f"`{name}` varies within cells of a cluster and period, but it must be one for "
                "each group and period. Take moments by a finer cluster."
            )
    problems.raise_if_any()


def table_of(treated: Treated, rows: IntArray, clusters: pd.Index) -> Table:
    """
    Return groups by period for some cells.

    A group is a followed unit (within its stratum), else a cluster, whose cells of a period are
    averaged by weight.

    Raises
    ------
    DesignError
        If treatment varies within a group and period, or `trends` within a group.
    """
    moments = treated.source.moments
    block = treated.source.block(clusters).take(rows)
    group = block.entity if moments.kind == "panel" else block.cluster
    labels, code = np.unique(group, return_inverse=True)
    periods, at = np.unique(block.period, return_inverse=True)
    shape = (len(labels), len(periods))
    x = block.x
    seen = np.isfinite(block.y[:, 0]) & np.isfinite(x).all(axis=1) & (block.w > 0)
    place = code * shape[1] + at

    def mean(values: FloatArray, use: BoolArray) -> FloatArray:
        """Return weighted means by group and period, missing without a row."""
        w = np.bincount(place[use], weights=block.w[use], minlength=shape[0] * shape[1])
        total = np.bincount(
            place[use], weights=(block.w * values)[use], minlength=shape[0] * shape[1]
        )
        divided = np.divide(total, w, out=np.full(len(w), np.nan), where=w > 0)
        return np.asarray(divided.reshape(shape))

    dose, trend = treated.dose[rows], treated.trend[rows]
    exact = np.full(shape[0] * shape[1], np.nan)
    exact[place] = dose
    if (exact[place] != dose).any():
        raise DesignError(
            "treatment varies within a group and period, but it must be one for each. Follow "
            "finer units, or average it over the group first."
        )
    of_group = np.zeros(shape[0])
    of_group[code] = trend
    if (of_group[code] != trend).any():
        raise DesignError("`trends` varies within groups: name a column that is constant in each.")
    cluster = np.zeros(shape[0], dtype=np.int64)
    cluster[code] = block.cluster
    weight = np.bincount(place[seen], weights=block.w[seen], minlength=shape[0] * shape[1])
    return Table(
        y=mean(block.y[:, 0], seen), w=weight.reshape(shape), dose=exact.reshape(shape),
        x=np.stack([mean(x[:, j], seen) for j in range(x.shape[1])], axis=2)
        if x.shape[1] else np.zeros((*shape, 0)),
        cluster=cluster, trend=of_group.astype(np.int64), label=labels,
    )  # fmt: skip
