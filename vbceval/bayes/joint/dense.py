"""
Normal equations of several outcomes: dense covariances of an organization's cells, in batches.

Elimination stratum by stratum (`vbceval.bayes.elimination`) needs noise and shocks of different
strata to be independent given what they share. Outcomes of the same people are not, so the cells
of an organization are taken together: n^3 operations for n cells, once for each distinct pattern.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vbceval.bayes.cells import Cells, calendar_steps, codes
from vbceval.bayes.coefficients import Reference, Structure
from vbceval.bayes.equations import Equations, Terms, arrange
from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray, IntArray

_MEMORY = 2e9
"""Bytes that the arrays of cell by cell may take."""


class Covariances(NamedTuple):
    """
    Covariances between strata of one organization; S strata, each of an outcome.

    Parameters
    ----------
    shocks : array, shape (S, S)
        Of shocks in the same period, percent of baseline squared.
    lasting : array, shape (S, S)
        Of organizations' own effects.
    noise : array, shape (S, S)
        Of noise of the same unit, stratum and period, before it is divided by the root of both
        cells' precisions.
    rho : float
        Autocorrelation of shocks.
    overlap : float
        Share of noise that cells of one organization, stratum and period have in common.
    """

    shocks: FloatArray
    lasting: FloatArray
    noise: FloatArray
    rho: float
    overlap: float


class Batch(NamedTuple):
    """
    P patterns of one group with as many cells, n, and intercepts, b; M organizations.

    Parameters
    ----------
    group : int
        Which group of `Equations` (patterns with the same regressors).
    stratum : array of int, shape (P, n)
        Stratum of each cell.
    gap : array, shape (P, n, n)
        Distance in time.
    treated : array, shape (P, n)
        1 in treated cells.
    own, shared : array, shape (P, n, n)
        What noise of persons is multiplied by: within a unit, and between units that restate the
        same stratum and period.
    intercepts : array, shape (P, n, b)
        1 in the cells of each unit and stratum.
    multiplier : array, shape (P, n, w)
        1 and the covariates.
    place : array of int, shape (P, n)
        Place of each cell among those of its group.
    pattern, cluster : array of int, shape (M,)
        Pattern and code of each organization.
    cells : array of int, shape (M, n)
        Its cells.
    """

    group: int
    stratum: IntArray
    gap: FloatArray
    treated: FloatArray
    own: FloatArray
    shared: FloatArray
    intercepts: FloatArray
    multiplier: FloatArray
    place: IntArray
    pattern: IntArray
    cluster: IntArray
    cells: IntArray


@dataclass(frozen=True, eq=False, kw_only=True)
class DenseEquations:
    """
    Cells arranged for normal equations with any covariance between strata.

    Parameters
    ----------
    equations : Equations
        Groups and their regressors.
    batches : tuple of Batch
        Patterns of equal size.
    n_clusters : int
        Number of organizations.
    """

    equations: Equations
    batches: tuple[Batch, ...]
    n_clusters: int

    @property
    def n_coefficients(self) -> int:
        """Number of coefficients, Q."""
        return self.equations.n_coefficients

    def at(self, y: FloatArray, law: Covariances) -> Terms:
        """
        Return the terms of the posterior of the coefficients.

        Parameters
        ----------
        y : array, shape (K,)
            Outcome of the cells.
        law : Covariances
            Covariances between strata.

        Raises
        ------
        LinAlgError
            If a covariance is not positive definite.
        """
        groups = self.equations.groups
        grams = [np.zeros((len(g.x), len(g.x))) for g in groups]
        targets = [np.zeros(len(g.x)) for g in groups]
        log_likelihood = 0.0
        for batch in self.batches:
            q, logdet = _precision(batch, law)
            score = np.einsum("mij,mj->mi", q[batch.pattern], y[batch.cells])
            log_likelihood -= 0.5 * float(logdet[batch.pattern].sum())
            log_likelihood -= 0.5 * float((score * y[batch.cells]).sum())
            copies = np.bincount(batch.pattern, minlength=len(q))
            _add(batch, q * copies[:, None, None], score, grams[batch.group], targets[batch.group])
        total = sum(g.x.T @ gram @ g.x for g, gram in zip(groups, grams, strict=True))
        target = sum(g.x.T @ own for g, own in zip(groups, targets, strict=True))
        total = np.asarray(total)
        return Terms(Reference(0.5 * (total + total.T), np.asarray(target)), log_likelihood)

    def clusters(self, residuals: FloatArray, law: Covariances) -> FloatArray:
        """
        Return the log likelihood of each organization's cells, shape (D, C).

        Parameters
        ----------
        residuals : array, shape (D, K)
            Cells minus their mean, for D draws that have the same variances.
        law : Covariances
            Covariances between strata.
        """
        out = np.zeros((len(residuals), self.n_clusters))
        for batch in self.batches:
            q, logdet = _precision(batch, law)
            r = residuals[:, batch.cells]
            fit = np.einsum("dmi,mij,dmj->dm", r, q[batch.pattern], r)
            out[:, batch.cluster] = -0.5 * (logdet[batch.pattern] + fit)
        return out

    def precision(self, cluster: int, law: Covariances) -> tuple[IntArray, FloatArray]:
        """
        Return the cells of an organization, and their precision with intercepts projected out.

        Parameters
        ----------
        cluster : int
            Its code.
        law : Covariances
            Covariances between strata.
        """
        batch = next(b for b in self.batches if cluster in b.cluster)
        place = int(np.flatnonzero(batch.cluster == cluster)[0])
        return batch.cells[place], _precision(batch, law)[0][batch.pattern[place]]

    def simulate(self, law: Covariances, rng: np.random.Generator) -> FloatArray:
        """Return new residuals of all cells without intercepts, shape (K,)."""
        out = np.empty(sum(batch.cells.size for batch in self.batches))
        for batch in self.batches:
            root = np.linalg.cholesky(_covariance(batch, law))[batch.pattern]
            noise = rng.standard_normal((*batch.cells.shape, 1))
            out[batch.cells] = (root @ noise)[..., 0]
        return out


def _covariance(batch: Batch, law: Covariances) -> FloatArray:
    """Return the covariance of the cells of each pattern, (P, n, n)."""
    pair = batch.stratum[:, :, None], batch.stratum[:, None, :]
    both = batch.treated[:, :, None] * batch.treated[:, None, :]
    v = law.shocks[pair] * law.rho**batch.gap + law.lasting[pair] * both
    v += law.noise[pair] * ((1.0 - law.overlap) * batch.own + law.overlap * batch.shared)
    return np.asarray(v)


def _precision(batch: Batch, law: Covariances) -> tuple[FloatArray, FloatArray]:
    """Return V^-1 with intercepts projected out, (P, n, n), and log det (2 pi V) after it, (P,)."""
    v = _covariance(batch, law)
    root = np.linalg.cholesky(v)
    inverse = np.linalg.inv(v)
    sides = inverse @ batch.intercepts
    inner = np.swapaxes(batch.intercepts, 1, 2) @ sides
    q = inverse - sides @ np.linalg.solve(inner, np.swapaxes(sides, 1, 2))
    free = v.shape[1] - inner.shape[1]
    logdet = 2.0 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    logdet = logdet + np.linalg.slogdet(inner)[1] + free * np.log(2.0 * np.pi)
    return 0.5 * (q + np.swapaxes(q, 1, 2)), logdet


def _add(
    batch: Batch, q: FloatArray, score: FloatArray, gram: FloatArray, target: FloatArray
) -> None:
    """Add Z'QZ and Z'Qy of a batch: Z has a column for each multiplier and place."""
    width = batch.multiplier.shape[2]
    n_places = len(target) // width
    for a in range(width):
        own = a * n_places + batch.place
        slope = batch.multiplier[batch.pattern, :, a] * score
        target += np.bincount(own[batch.pattern].ravel(), slope.ravel(), minlength=len(target))
        for b in range(width):
            to = own[:, :, None] * len(target) + (b * n_places + batch.place)[:, None, :]
            value = batch.multiplier[:, :, None, a] * q * batch.multiplier[:, None, :, b]
            gram += np.bincount(to.ravel(), value.ravel(), minlength=gram.size).reshape(gram.shape)


def arrange_dense(cells: Cells, parts: Structure, group: IntArray) -> DenseEquations:
    """
    Arrange cells for dense normal equations.

    Parameters
    ----------
    cells : Cells
        Sorted cells of all outcomes.
    parts : Structure
        Coefficients of the mean.
    group : array of int, shape (S,)
        The analyst's stratum behind each stratum: cells of one unit, period and group are of the
        same people.

    Raises
    ------
    EstimationError
        If organizations have too many cells.
    """
    found = arrange(cells, parts)
    at = found.patterns
    n_strata = cells.n_strata
    starts = at.row_start[::n_strata]
    sizes = np.diff(starts)
    needed = 8.0 * 3.0 * float((sizes.astype(float) ** 2).sum())
    if needed > _MEMORY:
        raise EstimationError(
            f"{len(sizes):,} organizations with up to {sizes.max():,} cells each (outcomes times "
            f"strata times periods) need {needed / 1e9:.1f} GB of memory (limit "
            f"{_MEMORY / 1e9:g}): cells of several outcomes are solved together. Merge strata or "
            "periods (`Moments.coarsen`), or fit outcomes one by one with `HierarchicalDiD`."
        )
    alike: dict[tuple[int, int, int], list[int]] = {}
    members = [
        found.order[at.y_start[first:last, None] + np.arange(size)]
        for first, last, size in zip(at.member_start[:-1], at.member_start[1:], sizes, strict=True)
    ]
    blocks = [codes(cells.unit[m[0]], cells.stratum[m[0]]) for m in members]
    for number, own in enumerate(found.groups):
        for p in range(own.start, own.stop):
            key = (number, members[p].shape[1], int(blocks[p].max()) + 1)
            alike.setdefault(key, []).append(p)
    batches = [
        _batch(cells, group, found, key[0], some, [members[p] for p in some],
               np.array([np.eye(key[2])[blocks[p]] for p in some]))
        for key, some in alike.items()
    ]  # fmt: skip
    return DenseEquations(equations=found, batches=tuple(batches), n_clusters=len(cells.clusters))


def _batch(
    cells: Cells, group: IntArray, found: Equations, number: int, patterns: list[int],
    members: list[IntArray], intercepts: FloatArray,
) -> Batch:  # fmt: skip
    at = found.patterns
    starts = at.row_start[:: cells.n_strata]
    firsts = np.array([m[0] for m in members])
    places = np.array([np.arange(starts[p], starts[p + 1]) for p in patterns])
    stratum, unit = cells.stratum[firsts], cells.unit[firsts]
    steps = calendar_steps(cells.periods)[cells.period[firsts]]
    people = group[stratum]
    alike = (people[:, :, None] == people[:, None]) & (steps[:, :, None] == steps[:, None])
    variance = 1.0 / cells.layout.precision[firsts]
    # mean noise of the cells of one outcome, stratum and period: what restated cells share
    copies = (alike & (stratum[:, :, None] == stratum[:, None])).astype(float)
    spread = np.einsum("pij,pj->pi", copies, variance) / copies.sum(axis=2)
    counts = [len(m) for m in members]
    flat = np.concatenate(members)
    return Batch(
        group=number,
        stratum=stratum,
        gap=np.abs(steps[:, :, None] - steps[:, None]),
        treated=cells.layout.treated[firsts],
        own=(alike & (unit[:, :, None] == unit[:, None])) * _outer_root(variance),
        shared=alike * _outer_root(spread),
        intercepts=intercepts,
        multiplier=at.multiplier[places],
        place=at.place[places],
        pattern=np.repeat(np.arange(len(members)), counts),
        cluster=cells.cluster[flat[:, 0]],
        cells=flat,
    )


def _outer_root(variance: FloatArray) -> FloatArray:
    root = np.sqrt(variance)
    return np.asarray(root[:, :, None] * root[:, None])
