"""Normal equations of the mean, and terms of single clusters, at given variances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from vbceval.bayes.cells import Cells, calendar_steps
from vbceval.bayes.coefficients import Reference, Structure
from vbceval.bayes.elimination import Patterns, compiled
from vbceval.core.typing import FloatArray, IntArray

_CHUNK = 200_000
"""Numbers in the factor of one batch of patterns: few enough to stay in fast memory."""


class Group(NamedTuple):
    """
    Patterns whose cells have the same regressors: never treated, or of the same cohorts.

    Parameters
    ----------
    start, stop : int
        Its patterns.
    x : array, shape ((1 + p) n, Q)
        Regressors at unit scale of its n places; then of each covariate, to be multiplied by it.
    """

    start: int
    stop: int
    x: FloatArray


class Terms(NamedTuple):
    """
    What a Gaussian posterior of the coefficients needs, at given variances.

    Parameters
    ----------
    around : Reference
        X'V^-1 X and X'V^-1 y.
    log_likelihood : float
        Log density of the cells, intercepts projected out, where all coefficients are zero.
    """

    around: Reference
    log_likelihood: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Equations:
    """
    Cells arranged for normal equations.

    Parameters
    ----------
    patterns : Patterns
        Distinct patterns.
    groups : tuple of Group
        In the order of the patterns.
    order : array of int, shape (K,) or fewer
        Cells in the order of clusters of each pattern, so that ``y[order]`` is laid out as
        `Patterns` says.
    members : array of int, shape (C,)
        Codes of clusters in that order.
    """

    patterns: Patterns
    groups: tuple[Group, ...]
    order: IntArray
    members: IntArray

    @property
    def n_coefficients(self) -> int:
        """Number of coefficients, Q."""
        return int(self.groups[0].x.shape[1])

    def at(
        self, y: FloatArray, phi: FloatArray, shared: FloatArray, scales: FloatArray,
        ratio: FloatArray | None = None,
    ) -> Terms:  # fmt: skip
        """
        Return the terms of the posterior of the coefficients.

        Parameters
        ----------
        y : array, shape (K,)
            Outcome of the cells.
        phi, shared, scales : array, shapes (S,), (S,), (4,)
            As in `vbceval.bayes.marginal.compiled`.
        ratio : array, shape (S,), optional
            By which the variance of a stratum's shocks is multiplied; default 1.
        """
        at, y = self.patterns, y[self.order]
        ratio = np.ones(len(phi)) if ratio is None else ratio
        accumulate = compiled().accumulate
        total = np.zeros((self.n_coefficients, self.n_coefficients))
        target = np.zeros(self.n_coefficients)
        log_likelihood = 0.0
        for group in self.groups:
            width = len(group.x)
            gram, own = np.zeros((width, width)), np.zeros(width)
            rows = at.gap.shape[1] + 1
            step = min(max(1, _CHUNK // (rows * width)), group.stop - group.start)
            half = np.empty((step * rows, width))
            for start in range(group.start, group.stop, step):
                stop = min(start + step, group.stop)
                found = accumulate(start, stop, phi, shared, ratio, scales, at, y, gram, own, half)
                log_likelihood -= 0.5 * (found[0] + found[1])
                gram -= half.T @ half
            total += group.x.T @ (gram @ group.x)
            target += group.x.T @ own
        return Terms(Reference(0.5 * (total + total.T), target), log_likelihood)

    def clusters(
        self, residuals: FloatArray, phi: FloatArray, shared: FloatArray, scales: FloatArray,
        ratio: FloatArray | None = None,
    ) -> tuple[FloatArray, FloatArray]:  # fmt: skip
        """
        Return log likelihoods of clusters and the law of their own effects.

        Parameters
        ----------
        residuals : array, shape (D, K)
            Cells minus their mean, for D draws that have the same variances.
        phi, shared, scales : array, shapes (S,), (S,), (4,)
            As in `vbceval.bayes.marginal.compiled`.
        ratio : array, shape (S,), optional
            As in `at`.

        Returns
        -------
        array, shape (D, C)
            Log likelihood of each cluster's cells.
        array, shape (D, C, 2)
            Mean and standard deviation of its own effect.
        """
        laid = np.ascontiguousarray(residuals[:, self.order])
        ratio = np.ones(len(phi)) if ratio is None else ratio
        found = compiled().clusters(phi, shared, ratio, scales, self.patterns, laid)
        back = np.argsort(self.members)
        return found[0][:, back], found[1][:, back]


def arrange(cells: Cells, parts: Structure, *, every: int = 1) -> Equations:
    """
    Find the patterns of cells and the regressors behind them.

    Clusters share a pattern when their units have cells of the same strata, periods, sizes,
    effects and covariates.

    Parameters
    ----------
    cells : Cells
        Sorted cells.
    parts : Structure
        Coefficients of the mean.
    every : int, default 1
        Keep one pattern in so many.
    """
    found = _patterns(cells)[::every]
    order = np.concatenate([i for _, members in found for _, i in members])
    firsts = [members[0][1] for _, members in found]
    kept = np.concatenate(firsts)
    multiplier = np.column_stack([np.ones(len(kept)), cells.x[kept]])
    starts = np.append(0, np.cumsum([len(i) for i in firsts]))
    keys = [key for key, _ in found]
    edges = [i for i in range(len(keys)) if i == 0 or keys[i] != keys[i - 1]]
    groups, place = [], np.empty(len(kept), dtype=np.int64)
    for start, stop in zip(edges, [*edges[1:], len(keys)], strict=True):
        cells_here = slice(starts[start], starts[stop])
        x, place[cells_here] = _regressors(cells, parts, kept[cells_here])
        groups.append(Group(start, stop, x))
    lengths = [len(i) for _, members in found for _, i in members]
    patterns = Patterns(
        row_start=_rows(cells, firsts), slot=np.concatenate([_slots(cells, i)[0] for i in firsts]),
        unit=cells.unit[kept], place=place, precision=cells.layout.precision[kept],
        treated=cells.layout.treated[kept], multiplier=multiplier,
        n_periods=np.array([len(_slots(cells, i)[1]) for i in firsts]),
        gap=_gaps(cells, firsts),
        member_start=np.append(0, np.cumsum([len(members) for _, members in found])),
        y_start=np.append(0, np.cumsum(lengths))[:-1],
    )  # fmt: skip
    members = np.array([c for _, members in found for c, _ in members])
    return Equations(patterns=patterns, groups=tuple(groups), order=order, members=members)


def _patterns(cells: Cells) -> list[tuple[tuple[int, ...], list[tuple[int, IntArray]]]]:
    """Return (cohorts, [(cluster, its cells in order)]) of each distinct pattern, by cohorts."""
    order = np.lexsort((cells.period, cells.unit, cells.stratum, cells.cluster))
    edges = np.flatnonzero(np.diff(cells.cluster[order])) + 1
    cohorts = np.append(cells.effects["cohort_code"].to_numpy(), -1)[cells.effect_of_cell]
    found: dict[Any, list[tuple[int, IntArray]]] = {}
    for i in np.split(order, edges):
        codes = np.unique(cohorts[i])
        key = tuple(int(k) for k in codes[codes >= 0])
        unit = np.unique(cells.unit[i], return_inverse=True)[1]
        same = (cells.stratum[i], unit, cells.period[i], cells.layout.precision[i],
                cells.effect_of_cell[i], cells.x[i])  # fmt: skip
        pattern = (key, *(np.ascontiguousarray(a).tobytes() for a in same))
        found.setdefault(pattern, []).append((int(cells.cluster[i[0]]), i))
    return sorted(((key[0], members) for key, members in found.items()), key=lambda x: x[0])


def _regressors(cells: Cells, parts: Structure, i: IntArray) -> tuple[FloatArray, IntArray]:
    """Return the regressors of the places of some cells, and the place of each cell."""
    keys = np.column_stack([cells.stratum[i], cells.period[i], cells.effect_of_cell[i]])
    found, place = np.unique(keys, axis=0, return_inverse=True)
    basis, effects = parts.zero_sum[found[:, 1]], np.vstack([parts.loading, 0 * parts.loading[:1]])
    n, width = basis.shape
    p = cells.x.shape[1]
    x = np.zeros((1 + p, n, (cells.n_strata + p) * width + effects.shape[1]))
    x[0, :, (cells.n_strata + p) * width :] = effects[found[:, 2]]
    for s in range(cells.n_strata):
        x[0, :, s * width : (s + 1) * width] = basis * (found[:, :1] == s)
    for j in range(p):
        x[1 + j, :, (cells.n_strata + j) * width : (cells.n_strata + j + 1) * width] = basis
    return x.reshape(-1, x.shape[2]), place.ravel()


def _rows(cells: Cells, firsts: list[IntArray]) -> IntArray:
    counts = [np.bincount(cells.stratum[i], minlength=cells.n_strata) for i in firsts]
    return np.append(0, np.cumsum(np.concatenate(counts)))


def _slots(cells: Cells, i: IntArray) -> tuple[IntArray, IntArray]:
    """Return the place of each cell's period among its cluster's, and the periods."""
    periods, slot = np.unique(cells.period[i], return_inverse=True)
    return slot.ravel(), periods


def _gaps(cells: Cells, firsts: list[IntArray]) -> FloatArray:
    steps = calendar_steps(cells.periods)
    gaps = [np.diff(steps[_slots(cells, i)[1]], prepend=0.0) for i in firsts]
    out = np.ones((len(firsts), max(len(g) for g in gaps)))
    for row, gap in zip(out, gaps, strict=True):
        row[: len(gap)] = gap
    return out
