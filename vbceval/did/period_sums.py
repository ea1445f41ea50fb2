"""Outcome regression of two cross-sections from sums by period, cohort and cluster."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.core.typing import FloatArray, IntArray
from vbceval.design import GroupTimePair
from vbceval.did.blocks import Block, side
from vbceval.did.least_squares import Groups
from vbceval.did.regressors import joint_codes
from vbceval.did.solve import ComparisonFailure, Regressors, invert, standardise
from vbceval.inference import sum_by_cluster

type Sides = dict[tuple[bool, bool], slice | IntArray]
"""Groups of a comparison by whether they are treated and of the later period."""


class PeriodSums(NamedTuple):
    """
    Weighted products of (1, covariates) with themselves and with outcomes, in P groups of cells.

    Parameters
    ----------
    period, cohort : array, shape (P,)
        Of the group; periods do not decrease.
    cluster : int array, shape (P,)
        Of the group.
    gram : array, shape (P, 1 + q, 1 + q)
        Covariates from their overall mean, in units of their standard deviation.
    cross : array, shape (P, m, 1 + q)
        Outcomes from their overall mean.
    xx : array, shape (P, q, q), or None
        Second moments within cells, in units of the covariates.
    mean, scale : array, shape (q,)
        Of the covariates.
    """

    period: FloatArray
    cohort: FloatArray
    cluster: IntArray
    gram: FloatArray
    cross: FloatArray
    xx: FloatArray | None
    mean: FloatArray
    scale: FloatArray

    @classmethod
    def of(cls, block: Block) -> PeriodSums:
        """Add up the cells of a block."""
        w, size, q, m = block.w, *block.x.shape, block.y.shape[1]
        mean = w @ block.x / w.sum()
        scale = np.sqrt(w @ (block.x - mean) ** 2 / w.sum())
        scale[scale == 0] = 1.0
        keys = [np.unique(v, return_inverse=True)[1] for v in (block.period, block.cohort)]
        of, first = joint_codes([*(k.astype(np.int64) for k in keys), block.cluster])
        groups = Groups(of, len(first))
        x = np.column_stack([np.ones(size), (block.x - mean) / scale])
        weighted = groups.sums(w)
        gram = np.empty((len(first), 1 + q, 1 + q))
        for i in range(1 + q):
            gram[:, i] = weighted @ (x[:, [i]] * x)
        y = block.y - w @ block.y / w.sum()
        cross = np.stack([weighted @ (x[:, [i]] * y) for i in range(1 + q)], axis=2)
        plain = groups.sums(np.ones(size))
        xx = None
        if block.xx is not None:
            xx = (plain @ block.xx.reshape(size, q * q)).reshape(len(first), q, q)
            gram[:, 1:, 1:] += xx / np.outer(scale, scale)
        if block.xy is not None:
            inside = (plain @ block.xy.reshape(size, q * m)).reshape(len(first), q, m)
            cross[:, :, 1:] += np.swapaxes(inside / scale[:, None], 1, 2)
        return cls(
            block.period[first], block.cohort[first], block.cluster[first], gram, cross, xx, mean,
            scale,
        )  # fmt: skip

    def sides(self, pair: GroupTimePair, last: float) -> Sides:
        """Return the groups of a pair: treated or not, in its later period or not."""
        out: Sides = {}
        for later, period in ((True, pair.period), (False, pair.base)):
            start, end = np.searchsorted(self.period, [period, np.nextafter(period, np.inf)])
            chosen = side(self.cohort[start:end], pair, last)
            for treated, mask in zip((True, False), chosen, strict=True):
                rows = start + np.flatnonzero(mask)
                together = len(rows) and rows[-1] - rows[0] == len(rows) - 1
                # groups one after the other are not copied
                out[treated, later] = slice(rows[0], rows[-1] + 1) if together else rows
        return out

    def standardised(self, total: FloatArray, z: Regressors) -> FloatArray:
        """Return the matrix that takes these columns to those of a comparison, (k, 1 + q)."""
        ratio = self.scale[z.kept] / z.scale
        out = np.zeros((1 + len(z.kept), len(total)))
        out[0, 0] = 1.0
        out[np.arange(1, len(out)), 1 + z.kept] = ratio
        out[1:, 0] = -ratio * total[1 + z.kept] / total[0]
        return out

    def inside(self, sides: Sides) -> FloatArray | None:
        """Return second moments within the cells of all sides, (1, q, q)."""
        if self.xx is None:
            return None
        return np.sum([self.xx[at].sum(axis=0) for at in sides.values()], axis=0)[None]


def regressed(
    block: Block,
    rows: IntArray,
    cells: tuple[int, int],
    sums: PeriodSums,
    pair: GroupTimePair,
    last: float,
    psi: FloatArray,
) -> FloatArray:
    """
    Return effects by outcome regression of the rows of one pair, and write their influence.

    Parameters
    ----------
    block : Block
        K cells.
    rows : int array, shape (n,)
        Cells of the pair.
    cells : tuple of int
        Comparison cells of the earlier and of the later period.
    sums : PeriodSums
        Of these cells, and maybe of others.
    pair : GroupTimePair
        The comparison.
    last : float
        Last period plus anticipation.
    psi : array, shape (m, G)
        Zeros, to which the influence of clusters is added.
    """
    sides = sums.sides(pair, last)
    inside = sums.inside(sides)
    z = standardise(block.x[rows], block.w[rows], block.names, inside, block.factors)
    return outcome_regression(sums, sides, z, cells, psi)


def outcome_regression(
    sums: PeriodSums, sides: Sides, z: Regressors, cells: tuple[int, int], psi: FloatArray
) -> FloatArray:
    """
    Compare the treated change in means with the change predicted from comparison cells.

    Parameters
    ----------
    sums : PeriodSums
        Groups of cells.
    sides : dict
        Groups of one comparison.
    z : Regressors
        Columns of the comparison; those that do not vary there are left out.
    cells : tuple of int
        Comparison cells of the earlier and of the later period.
    psi : array, shape (m, G)
        Zeros, to which the influence of clusters is added.

    Returns
    -------
    array, shape (m,)
        Effects on the treated, one an outcome.

    Raises
    ------
    ComparisonFailure
        If there are fewer rows than columns, or columns are collinear.

    References
    ----------
    .. [1] Sant'Anna, P. H. C. and Zhao, J. (2020). Doubly robust difference-in-differences
       estimators. *Journal of Econometrics* 219(1), 101-122. Section 2, repeated cross-sections.
    """
    first = {key: sums.gram[at, 0] for key, at in sides.items()}
    total = {key: value.sum(axis=0) for key, value in first.items()}
    turn = sums.standardised(np.sum(list(total.values()), axis=0), z)
    treated = total[True, True] + total[True, False]
    mean_x = treated / treated[0]
    fits = {}
    # the two periods share no cell, so each is worked on alone
    for later in (True, False):
        where = f"the comparison rows of the {'later' if later else 'earlier'} period"
        if cells[later] < len(turn) and z.xx is None:
            raise ComparisonFailure(f"{where} are too few for {len(turn)} regression coefficients")
        at = sides[False, later]
        gram = turn @ sums.gram[at].sum(axis=0) @ turn.T
        inverse = turn.T @ invert(gram, z.names, where) @ turn
        fits[later] = inverse @ mean_x, inverse @ sums.cross[at].sum(axis=0).T
    slope = fits[True][1] - fits[False][1]
    predicted = mean_x @ slope
    change = np.zeros(len(psi))
    for later, sign in ((True, 1), (False, -1)):
        target, beta = fits[later]
        at = sides[False, later]
        own = sign * (_along(sums.gram[at], target) @ beta - _along(sums.cross[at], target))
        psi += sum_by_cluster(own, sums.cluster[at], psi.shape[1]).T
        at, weight = sides[True, later], total[True, later][0]
        x, y = first[True, later], sums.cross[at, :, 0]
        mean = y.sum(axis=0) / weight
        change += sign * mean
        own = sign / weight * (y - x[:, :1] * mean)
        own -= (x @ slope - x[:, :1] * predicted) / treated[0]
        psi += sum_by_cluster(own, sums.cluster[at], psi.shape[1]).T
    return np.asarray(change - predicted)


def _along(values: FloatArray, target: FloatArray) -> FloatArray:
    """Return (n, a, k) times (k,) in one product, shape (n, a)."""
    n, a, k = values.shape
    return np.asarray((values.reshape(n * a, k) @ target).reshape(n, a))
