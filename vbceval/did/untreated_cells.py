"""Which cells are untreated, whose effect is imputed, and what cannot be; nothing is estimated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.disclosure import is_small, say_people
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.design import Design
from vbceval.did.blocks import Block, complete, make_block
from vbceval.did.inputs import shown
from vbceval.did.solve import ComparisonFailure
from vbceval.did.untreated import Cells, UntreatedFit, fit_untreated
from vbceval.moments import Moments


class Arranged(NamedTuple):
    """
    Complete cells of one stratum (or all together) with the effects they belong to.

    Parameters
    ----------
    block : Block
        K cells.
    entity, time : int arrays, shape (K,)
        Codes of the entity and time effect of each cell.
    time_names : tuple of str
        Names of times, for messages.
    n_units : int array, shape (K,)
        Units in each cell.
    n_rows : int array, shape (K,)
        Rows in each cell.
    followed : bool
        Whether units are followed over periods.
    """

    block: Block
    entity: IntArray
    time: IntArray
    time_names: tuple[str, ...]
    n_units: IntArray
    n_rows: IntArray
    followed: bool

    def take(self, rows: BoolArray | IntArray) -> Arranged:
        """Return some complete cells, entities coded without gaps, without absent categories."""
        return self._replace(
            block=self.block.take(rows).without_absent_levels(),
            entity=np.unique(self.entity[rows], return_inverse=True)[1].astype(np.int64),
            time=self.time[rows],
            n_units=self.n_units[rows],
            n_rows=self.n_rows[rows],
        )

    def cells(self, x: FloatArray) -> Cells:
        """Return the arrays that a fit reads, with `x` as covariates."""
        b = self.block
        xy = None if b.xy is None else b.xy[:, :, 0]
        return Cells(self.entity, self.time, b.cluster, b.y[:, 0], b.w, x, b.xx, xy)

    def count_units(self, rows: BoolArray) -> int:
        """Return the number of distinct units in some cells."""
        if self.block.xx is None:
            return len(np.unique(self.block.unit[rows]))
        # cells are sums: a unit is counted in each period and stratum it is seen in
        return int(self.n_units[rows].sum())


def arrange(moments: Moments, design: Design, clusters: pd.Index) -> tuple[Arranged, BoolArray]:
    """
    Return all cells with their effects, and which of them are complete.

    Raises
    ------
    DesignError
        If `fixed_effects` of the design are not an entity and a period.
    """
    entity, keys = _effects(moments, design)
    levels = moments.cells[keys].drop_duplicates().sort_values(keys, ignore_index=True)
    time = pd.MultiIndex.from_frame(levels).get_indexer(
        pd.MultiIndex.from_frame(moments.cells[keys])
    )
    names = tuple(
        f"{moments.period_name} "
        + " ".join(f"{v:g}" if i == 0 else str(v) for i, v in enumerate(r))
        for r in levels.itertuples(index=False)
    )
    block = make_block(moments, design, clusters)
    arranged = Arranged(
        block=block, entity=entity, time=time.astype(np.int64), time_names=names,
        n_units=moments.n_units, n_rows=moments.n, followed=moments.kind == "panel",
    )  # fmt: skip
    return arranged, complete(block)


def _effects(moments: Moments, design: Design) -> tuple[IntArray, list[str]]:
    """Entity code of each cell, and the columns of its time effect."""
    followed = moments.kind == "panel"
    unit, cluster, period = moments.unit_name, moments.cluster_name, moments.period_name
    asked = design.fixed_effects
    if asked is None:
        asked = (unit if followed else cluster, period)
    entities = [cluster, unit] if followed else [cluster]
    times = [period, *(f"{period}:{s}" for s in moments.strata)]
    if len(asked) != 2 or asked[0] not in entities or asked[1] not in times:
        raise DesignError(
            f"`fixed_effects` is {tuple(asked)}, but imputation fits one effect of an entity and "
            f"one of a time: give one of {listed(dict.fromkeys(entities))} and one of "
            f"{listed(times)}."
        )
    owner = moments.cells["unit"] if asked[0] != cluster else moments.attribute("cluster")
    keys = [owner, *[moments.cells[s] for s in moments.strata]]
    entity = pd.MultiIndex.from_arrays(keys).factorize()[0].astype(np.int64)
    return entity, ["period", *asked[1].split(":", 1)[1:]]


class Sample(NamedTuple):
    """
    Cells of one fit.

    Parameters
    ----------
    arranged : Arranged
        Cells that are untreated or whose effect is wanted.
    untreated, treated : bool arrays, shape (K,)
        Cells the fit is made on; cells whose effect is imputed.
    """

    arranged: Arranged
    untreated: BoolArray
    treated: BoolArray

    def covariates(self, effect: str) -> tuple[FloatArray, tuple[str, ...]]:
        """
        Return covariate columns as they enter the fit, and their names.

        With ``effect="trend"`` each is multiplied by the dummies of periods that have untreated
        cells; followed units keep the value of their first period.

        Raises
        ------
        EstimationError
            If trends are asked for from cells in which covariates vary.
        """
        block = self.arranged.block
        if effect == "level" or not block.names:
            return block.x, block.names
        if block.xx is not None:
            raise EstimationError(
                "covariate_effect='trend' needs the covariates of each row, and these moments hold "
                "cells in which covariates vary. Use moments by='row', or covariate_effect='level'."
            )
        x = block.x
        if self.arranged.followed:
            order = np.lexsort((block.period, block.entity))
            _, first, where = np.unique(block.entity[order], return_index=True, return_inverse=True)
            x = np.empty_like(x)
            x[order] = block.x[order][first][where]
        columns, names = [], []
        periods = np.unique(block.period[self.untreated])
        for j, name in enumerate(block.names):
            for period in (
                periods[1:] if _constant_within(x[:, j], self.arranged.entity) else periods
            ):
                columns.append(x[:, j] * (block.period == period))
                names.append(f"{name} x {period:g}")
        return np.column_stack(columns), tuple(names)


def _constant_within(x: FloatArray, entity: IntArray) -> bool:
    low, high = np.full(entity.max() + 1, np.inf), np.full(entity.max() + 1, -np.inf)
    np.minimum.at(low, entity, x)
    np.maximum.at(high, entity, x)
    return bool((low == high).all())


def samples(arranged: Arranged, design: Design) -> Iterator[Sample]:
    """
    Yield the fits of a design: one on every untreated cell, or one a cohort.

    With ``comparison="never_treated"`` a cohort's effects are imputed from the never treated and
    from its own untreated periods only.

    Raises
    ------
    DesignError
        If there is no treated cell, or no comparison.
    """
    block = arranged.block
    if len(block.y) == 0:
        raise DesignError(
            "no cell has the outcome, every covariate and a positive weight, so nothing "
            "can be fitted. Check these columns."
        )
    e = block.period - block.cohort
    treated = e >= -design.anticipation
    untreated = ~treated
    if design.window is not None:
        treated &= (e >= design.window[0]) & (e <= design.window[1])
    if not treated.any():
        raise DesignError(
            f"no cell is treated (periods {block.period.min():g} to "
            f"{block.period.max():g}, cohorts "
            f"{listed(f'{g:g}' for g in np.unique(block.cohort[np.isfinite(block.cohort)])) or 'none'}, "
            f"window {design.window}). Check the coding of cohorts, or widen `window`."
        )
    if not untreated.any():
        raise DesignError(
            "no cell is untreated, so nothing tells what would have happened without the "
            "program. Add periods before entry, or units that have not entered."
        )
    if design.comparison == "not_yet_treated":
        yield _sample(arranged, untreated, treated)
        return
    never = np.isnan(block.cohort) | (block.cohort > block.period.max() + design.anticipation)
    if not never.any():
        raise DesignError(
            "no unit is never treated, so comparison='never_treated' has nobody to "
            "compare with. Use comparison='not_yet_treated', and end `window` where the last "
            "cohort enters."
        )
    for cohort in np.unique(block.cohort[treated]):
        own = block.cohort == cohort
        yield _sample(arranged, untreated & (never | own), treated & own)


def _sample(arranged: Arranged, untreated: BoolArray, treated: BoolArray) -> Sample:
    rows = untreated | treated
    return Sample(arranged.take(rows), untreated[rows], treated[rows])


def fit_sample(
    sample: Sample,
    x: FloatArray,
    names: tuple[str, ...],
    *,
    n_clusters: int,
) -> UntreatedFit:
    """
    Fit the untreated cells of a sample with covariates `x`, shape (K, p).

    Raises
    ------
    EstimationError
        If a column is absorbed or collinear, with its name.
    """
    arranged = sample.arranged
    try:
        return fit_untreated(
            arranged.cells(x).take(sample.untreated),
            n_entities=int(arranged.entity.max()) + 1,
            n_times=len(arranged.time_names),
            n_clusters=n_clusters,
            time_names=arranged.time_names,
            names=names,
        )
    except ComparisonFailure as error:
        raise EstimationError(
            f"untreated outcomes cannot be fitted: {error}. Leave the column out; a "
            "covariate that is constant within units can enter with covariate_effect='trend'; "
            "fewer `leads` leave earlier periods as reference."
        ) from error


class Lost(NamedTuple):
    """Units of one cohort and period whose untreated outcome the fit does not imply."""

    stratum: str | None
    cohort: float
    period: float
    reason: str
    units: int


NO_PERIOD = "no untreated unit is seen in the period"
NO_HISTORY = "the unit has no untreated period"
NO_LINK = "the unit's untreated periods share no unit with the period's untreated units"


def lost_cells(
    sample: Sample, covered: BoolArray, has_history: BoolArray, has_period: BoolArray,
    stratum: str | None,
) -> list[Lost]:  # fmt: skip
    """
    List what cannot be imputed.

    Parameters
    ----------
    sample : Sample
        K cells.
    covered, has_history, has_period : bool arrays, shape (K,)
        Whether the fit covers a cell, its entity and its time.
    stratum : str or None
        Name of the stratum.
    """
    block = sample.arranged.block
    out = []
    for reason, rows in (
        (NO_PERIOD, ~has_period),
        (NO_HISTORY, has_period & ~has_history),
        (NO_LINK, has_period & has_history & ~covered),
    ):
        wanted = rows & sample.treated
        for g, t in sorted(set(zip(block.cohort[wanted], block.period[wanted], strict=True))):
            cell = wanted & (block.cohort == g) & (block.period == t)
            units = sample.arranged.count_units(cell)
            out.append(Lost(stratum, float(g), float(t), reason, units))
    return out


def raise_lost(lost: list[Lost], *, people: bool) -> None:
    """Raise one DesignError that names cohorts, periods and counts; nothing when none is lost."""
    if not lost:
        return
    groups: dict[tuple[str | None, str, float], list[Lost]] = {}
    for x in lost:
        groups.setdefault((x.stratum, x.reason, x.cohort), []).append(x)
    lines = []
    for (stratum, reason, cohort), rows in groups.items():
        most = max(x.units for x in rows)
        few = people and bool(is_small(most))
        units = say_people(most, "units") if few else f"at most {most:,} units"
        within = "" if stratum is None else f"stratum `{stratum}`, "
        periods = ", ".join(f"{x.period:g}" for x in rows)
        lines.append(f"\n  {within}cohort {cohort:g} at period {periods} ({units}): {reason}")
    raise DesignError(
        f"untreated outcomes of {len(lost)} cohort-periods cannot be imputed, and averages without "
        f"them would be of fewer units than they say:{''.join(lines)}\nTo go on, end `window` "
        "earlier, leave these cohorts out, or pass drop_unimputable=True, which leaves these "
        'units out and records them in meta["unimputable"].'
    )


def lost_records(lost: list[Lost], *, people: bool) -> list[dict[str, Any]]:
    """Return what was left out as records for `meta`; counts of 1-10 people are missing."""
    records = [x._asdict() for x in lost]
    for record in records:
        record["units"] = shown(record["units"], people)
    return records
