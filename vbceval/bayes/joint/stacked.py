"""Cells of several outcomes as the cells of one model: its strata are outcome by stratum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import linalg

from vbceval.bayes.cells import Cells, Within, calendar_steps
from vbceval.bayes.coefficients import Structure, structure
from vbceval.bayes.layout import arrange
from vbceval.core.typing import FloatArray, IntArray


class Stacked(NamedTuple):
    """
    Several outcomes in one set of cells; O outcomes, S strata of all outcomes together.

    Parameters
    ----------
    cells : Cells
        Of all outcomes; organizations, units and periods have the same codes in each.
    parts : Structure
        Of all outcomes. Each has an effect at entry and parts of its own, with standard deviations
        of their own.
    outcomes : tuple of str
        Their names.
    outcome, group : array of int, shape (S,)
        Outcome of each stratum of `cells`; code of the analyst's stratum behind it.
    single : tuple of Cells
        The cells of each outcome alone.
    first_effect : array of int, shape (O + 1,)
        Where the effects of each outcome begin.
    """

    cells: Cells
    parts: Structure
    outcomes: tuple[str, ...]
    outcome: IntArray
    group: IntArray
    single: tuple[Cells, ...]
    first_effect: IntArray


def stack_cells(single: Sequence[Cells], outcomes: Sequence[str]) -> Stacked:
    """
    Stack the cells of several outcomes.

    Parameters
    ----------
    single : sequence of Cells
        As `vbceval.bayes.cells.from_moments` makes them, one for each outcome.
    outcomes : sequence of str
        Their names.
    """
    first_stratum = np.append(0, np.cumsum([c.n_strata for c in single]))
    first_effect = np.append(0, np.cumsum([len(c.effects) for c in single]))
    periods = np.unique(np.concatenate([c.periods for c in single]))
    clusters = _union([c.clusters for c in single])
    units = _union([c.units for c in single])
    cluster = np.concatenate([clusters.get_indexer(c.clusters)[c.cluster] for c in single])
    unit = np.concatenate([units.get_indexer(c.units)[c.unit] for c in single])
    period = np.concatenate([np.searchsorted(periods, c.periods)[c.period] for c in single])
    stratum = np.concatenate(
        [c.stratum + s for c, s in zip(single, first_stratum[:-1], strict=True)]
    )
    effect = np.concatenate(
        [
            np.where(c.effect_of_cell < 0, -1, c.effect_of_cell + j)
            for c, j in zip(single, first_effect[:-1], strict=True)
        ]
    )
    layout, order = arrange(
        cluster=cluster, stratum=stratum, unit=unit, period=calendar_steps(list(periods))[period],
        precision=np.concatenate([c.layout.precision for c in single]),
        treated=np.concatenate([c.layout.treated for c in single]),
    )  # fmt: skip
    cells = Cells(
        y=np.concatenate([c.y for c in single])[order],
        stratum=stratum[order],
        period=period[order],
        cluster=cluster[order],
        unit=unit[order],
        effect_of_cell=effect[order],
        x=linalg.block_diag(*[c.x for c in single])[order],
        exposure=np.concatenate([c.exposure for c in single])[order],
        effects=_effects(single, first_stratum),
        baseline=np.concatenate([c.baseline for c in single]),
        within=_within(single),
        restated=any(c.restated for c in single),
        layout=layout,
        strata=_labels(single, outcomes),
        periods=tuple(float(t) for t in periods),
        clusters=clusters,
        units=units,
        covariates=tuple(
            f"{name}: {x}" for name, c in zip(outcomes, single, strict=True) for x in c.covariates
        ),
        dropped={
            f"{name}: {why}": n
            for name, c in zip(outcomes, single, strict=True)
            for why, n in c.dropped.items()
        },
    )
    return Stacked(
        cells=cells,
        parts=_structure(single, outcomes, len(periods)),
        outcomes=tuple(outcomes),
        outcome=np.repeat(np.arange(len(single)), [c.n_strata for c in single]),
        group=_groups(single),
        single=tuple(single),
        first_effect=first_effect,
    )


def _labels(single: Sequence[Cells], outcomes: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        name if label is None else f"{name}, {label}"
        for name, c in zip(outcomes, single, strict=True)
        for label in c.strata
    )


def _groups(single: Sequence[Cells]) -> IntArray:
    """Return codes of the analyst's strata behind the strata of all outcomes."""
    labels = ["" if label is None else label for c in single for label in c.strata]
    return pd.factorize(np.array(labels, dtype=object))[0].astype(np.int64)


def _union(labels: Sequence[pd.Index]) -> pd.Index:
    found = labels[0]
    for more in labels[1:]:
        found = found.union(more)
    return found


def _effects(single: Sequence[Cells], first_stratum: IntArray) -> pd.DataFrame:
    tables = [
        c.effects.assign(stratum_code=c.effects["stratum_code"] + s)
        for c, s in zip(single, first_stratum[:-1], strict=True)
    ]
    out = pd.concat(tables, ignore_index=True)
    for name in ("cohort", "event_time"):
        out[f"{name}_code"] = pd.factorize(out[name], sort=True)[0]
    return out


def _within(single: Sequence[Cells]) -> Within | None:
    """Return variation within cells; nothing is counted where the spread of persons was stated."""
    if all(c.within is None for c in single):
        return None
    found = [
        Within(np.zeros(c.n_strata), np.zeros(c.n_strata)) if c.within is None else c.within
        for c in single
    ]
    return Within(
        np.concatenate([w.dof for w in found]), np.concatenate([w.squares for w in found])
    )


def _structure(single: Sequence[Cells], outcomes: Sequence[str], n_periods: int) -> Structure:
    loadings: list[FloatArray] = []
    part: list[int] = []
    names: list[str] = []
    for outcome, own in zip(outcomes, map(structure, single), strict=True):
        # entry is part 0 in each; its prior has a stated standard deviation, the same for all
        places = [0, *range(len(names) + 1, len(names) + len(own.names))]
        names += [f"{outcome}: {name}" for name in own.names[1:]]
        part += [places[k] for k in own.part]
        loadings.append(own.loading)
    return Structure(
        linalg.helmert(n_periods).T, linalg.block_diag(*loadings),
        np.array(part, dtype=np.int64), ("entry", *names),
    )  # fmt: skip
