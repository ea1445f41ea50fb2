"""The two-by-two comparisons that two-way fixed effects average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.disclosure import SMALLEST_SHOWN
from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.design import Design
from vbceval.moments import Moments
from vbceval.panel import Panel

_TIE = 1e-9


@dataclass(frozen=True, kw_only=True)
class Decomposition:
    """
    A two-way fixed effects coefficient as a weighted mean.

    Parameters
    ----------
    comparisons : DataFrame
        One row a two-by-two comparison: ``comparison`` ("treated_vs_never", "treated_vs_always",
        "earlier_vs_later", "later_vs_earlier"), ``cohort`` that enters, ``comparison_cohort``
        (missing: never treated; minus infinity: always), ``weight``, ``estimate``, ``n_units`` of
        both. With covariates two rows, "within" cohorts and "between" them.
    estimate : float
        The coefficient; the weighted sum of the rows.
    outcome : str
        What it is an effect on.
    unit_of_measure : str, optional
        Unit of estimates, from the design.
    """

    comparisons: pd.DataFrame
    estimate: float
    outcome: str = ""
    unit_of_measure: str | None = None

    def summary(self) -> pd.DataFrame:
        """Return weight and weighted mean of each kind of comparison."""
        rows = self.comparisons.assign(
            part=self.comparisons["weight"] * self.comparisons["estimate"]
        )
        out = rows.groupby("comparison", sort=False)[["weight", "part"]].sum()
        out["estimate"] = out["part"] / out["weight"]
        return out[["weight", "estimate"]].reset_index()


def bacon(data: Panel | Moments, design: Design) -> Decomposition:
    """
    Decompose two-way fixed effects into two-by-two comparisons.

    Comparisons of later with earlier cohorts use cells as untreated that are treated already:
    where effects grow after entry, they enter with the wrong sign. Their weight says how far the
    coefficient may be trusted; the remedy is an estimator that leaves them out.

    Parameters
    ----------
    data : Panel or Moments
        Every unit in every period, without strata, weights constant over time.
    design : Design
        Outcome; with covariates the coefficient has a part from their change within cohorts, and
        only this split is defined.

    Returns
    -------
    Decomposition
        Cost: O(cells) and O(cohorts^2 periods).

    Raises
    ------
    DesignError
        If the panel is not balanced, weights change, nobody changes treatment, or the design has
        anticipation or a window, which leave out cells.

    References
    ----------
    .. [1] Goodman-Bacon, A. (2021). Difference-in-differences with variation in treatment timing.
       *Journal of Econometrics* 225(2), 254-277. Theorem 1, and section 5.2 for covariates.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABC"), 4), "year": [2013, 2014, 2015, 2016] * 3,
    ...     "entry": np.repeat([2014.0, 2016.0, np.nan], 4),
    ...     "spend": [10, 12, 13, 14, 10, 11, 11, 13, 10, 10, 11, 11]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> vbc.sensitivity.bacon(panel, vbc.Design(outcome="spend")).summary().round(3).values.tolist()
    [['treated_vs_never', 0.6, 2.0], ['earlier_vs_later', 0.2, 1.5], ['later_vs_earlier', 0.2, 0.5]]
    """
    table = _balanced(data, design, "The decomposition")
    treated = table.treated
    residual = _two_way(treated.astype(float)[:, :, None], table.weight)[:, :, 0]
    total = float(table.weight @ (residual**2).sum(axis=1))
    if total <= _TIE * table.weight.sum():
        raise DesignError(
            "no unit changes treatment at another time than all others, so there is no "
            "comparison. Check `cohort` and the periods."
        )
    if design.covariates:
        comparisons, estimate = _within_and_between(table, residual)
    else:
        comparisons = _pairs(table, total)
        estimate = float(table.weight @ (residual * table.y).sum(axis=1)) / total
    return Decomposition(
        comparisons=comparisons, estimate=estimate, outcome=design.outcome,
        unit_of_measure=design.unit_of_measure,
    )  # fmt: skip


class _Table(NamedTuple):
    """A balanced panel as arrays: units by periods."""

    y: FloatArray
    x: FloatArray
    treated: BoolArray
    weight: FloatArray
    cohort: FloatArray
    periods: FloatArray


def _balanced(data: Panel | Moments, design: Design, what: str) -> _Table:
    moments = (
        Moments.from_panel(data, outcomes=[design.outcome], covariates=design.covariates)
        if isinstance(data, Panel)
        else data.of(design.outcome)
    )
    problems = []
    if design.anticipation or design.window is not None:
        problems.append("`anticipation` and `window` leave out cells: remove them")
    if moments.strata:
        problems.append(f"there are strata ({', '.join(moments.strata)}): drop or coarsen them")
    cells = moments.cells
    periods = np.unique(cells["period"].to_numpy(dtype=float))
    unit, names = pd.factorize(cells["unit"])
    y = moments.y_mean[:, moments.column(design.outcome)]
    w = moments.w * design.weights_for(moments.attribute("cluster"))
    seen = np.isfinite(y) & (w > 0)
    if not problems and (
        cells.duplicated(["unit", "period"]).any() or seen.sum() != len(names) * len(periods)
    ):
        whole = int((np.bincount(unit[seen], minlength=len(names)) == len(periods)).sum())
        problems.append(
            f"the panel is not balanced: {whole:,} of {len(names):,} units are seen once in every "
            f"one of {len(periods)} periods. Keep those, or use `twfe_weights`, which needs no "
            "balance"
        )
    if problems:
        raise DesignError(f"{what} is not defined here: {'; '.join(problems)}.")
    place = np.lexsort([cells["period"].to_numpy(dtype=float), unit])
    shape = (len(names), len(periods))
    weight = w[place].reshape(shape)
    moved = np.abs(weight - weight[:, :1]) > _TIE * weight[:, :1]
    if moved.any():
        raise DesignError(
            f"{what} needs weights that do not change over time, and they do for "
            f"{int(moved.any(axis=1).sum()):,} of {len(names):,} units. Use the weight of a base "
            "period in all periods."
        )
    refuse_small_cohorts(moments)
    cohort = moments.attribute("cohort").to_numpy(dtype=float)[place].reshape(shape)[:, 0]
    x = moments.x_mean[:, moments.covariate_positions(design.covariates)][place]
    treated = periods[None, :] >= np.where(np.isnan(cohort), np.inf, cohort)[:, None]
    return _Table(
        y[place].reshape(shape), x.reshape(*shape, -1), treated, weight[:, 0], cohort, periods
    )


def refuse_small_cohorts(moments: Moments) -> None:
    """
    Refuse cohorts of 1-10 people: weights follow from their numbers, and these from the weights.

    Raises
    ------
    DesignError
        If units are people and a cohort is so small.
    """
    if not moments.people:
        return
    sizes = moments.units["cohort"].value_counts(dropna=False)
    small = int((sizes < SMALLEST_SHOWN).sum())
    if small:
        raise DesignError(
            f"{small} cohorts have fewer than {SMALLEST_SHOWN} people, and their number could be "
            "found from the weights. Merge cohorts, or use the means of organizations."
        )


def _two_way(values: FloatArray, weight: FloatArray) -> FloatArray:
    """Take out unit and period means of a balanced panel, shape (units, periods, columns)."""
    by_period = np.average(values, axis=0, weights=weight)
    by_unit = values.mean(axis=1, keepdims=True)
    return np.asarray(values - by_unit - by_period + by_period.mean(axis=0))


def _groups(table: _Table) -> tuple[FloatArray, IntArray]:
    """Return when cohorts enter, sorted, and the group of each unit; infinite: always or never."""
    ahead = np.searchsorted(table.periods, np.where(np.isnan(table.cohort), np.inf, table.cohort))
    # what counts is the first period that is treated
    first = np.array([-np.inf, *table.periods[1:], np.inf])[ahead]
    values, group = np.unique(first, return_inverse=True)
    return values, np.asarray(group.ravel(), dtype=np.int64)


def _pairs(table: _Table, total: float) -> pd.DataFrame:
    entries, group = _groups(table)
    size = np.bincount(group, weights=table.weight)
    count = np.bincount(group)
    mean = np.stack(
        [np.bincount(group, weights=table.weight * y) / size for y in table.y.T], axis=1
    )
    share = np.array([(table.periods >= e).mean() for e in entries])
    label = np.where(np.isposinf(entries), np.nan, entries)
    rows = []
    # entries are sorted: always treated first, never treated last
    for late in range(len(entries)):
        for early in range(late):
            never, always = np.isposinf(entries[late]), np.isneginf(entries[early])
            scale = size[early] * size[late] * len(table.periods) / size.sum() / total
            gap = share[early] - share[late]
            if share[early] < 1:
                used = table.periods < entries[late]
                rows.append({
                    "comparison": "treated_vs_never" if never else "earlier_vs_later",
                    "cohort": label[early], "comparison_cohort": label[late],
                    "weight": scale * gap * (1 - share[early]),
                    "estimate": _two_by_two(mean, early, late, used, table.periods >= entries[early]),
                    "n_units": int(count[early] + count[late]),
                })  # fmt: skip
            if not never:
                used = table.periods >= entries[early]
                rows.append({
                    "comparison": "treated_vs_always" if always else "later_vs_earlier",
                    "cohort": label[late],
                    "comparison_cohort": label[early],
                    "weight": scale * gap * share[late],
                    "estimate": _two_by_two(mean, late, early, used, table.periods >= entries[late]),
                    "n_units": int(count[early] + count[late]),
                })  # fmt: skip
    return pd.DataFrame(rows).sort_values(
        ["comparison", "cohort", "comparison_cohort"],
        key=lambda c: c.map(_ORDER.index) if c.name == "comparison" else c, ignore_index=True,
    )  # fmt: skip


_ORDER = ("treated_vs_never", "treated_vs_always", "earlier_vs_later", "later_vs_earlier")


def _two_by_two(mean: FloatArray, a: int, b: int, used: BoolArray, after: BoolArray) -> float:
    gap = mean[a] - mean[b]
    return float(gap[used & after].mean() - gap[used & ~after].mean())


def _within_and_between(table: _Table, residual: FloatArray) -> tuple[pd.DataFrame, float]:
    """Split treatment, covariates taken out, into its cohort means and what is left."""
    x = _two_way(table.x, table.weight)
    flat = x.reshape(-1, x.shape[2])
    root = np.sqrt(np.repeat(table.weight, x.shape[1]))[:, None]
    slope = np.linalg.lstsq(root * flat, root[:, 0] * residual.ravel(), rcond=None)[0]
    left = residual - x @ slope
    group = _groups(table)[1]
    size = np.bincount(group, weights=table.weight)
    mean = np.stack([np.bincount(group, weights=table.weight * d) / size for d in left.T], axis=1)
    parts = {"between": mean[group], "within": left - mean[group]}
    squares = {k: float(table.weight @ (d**2).sum(axis=1)) for k, d in parts.items()}
    total = sum(squares.values())
    rows = [
        {
            "comparison": k, "cohort": np.nan, "comparison_cohort": np.nan,
            "weight": squares[k] / total,
            "estimate": (
                float(table.weight @ (d * table.y).sum(axis=1)) / squares[k]
                if squares[k] > _TIE * total else 0.0
            ),
            "n_units": len(table.y),
        }
        for k, d in parts.items()
    ]  # fmt: skip
    estimate = float(table.weight @ (left * table.y).sum(axis=1)) / total
    return pd.DataFrame(rows), estimate
