"""Outcome change as a function of the dose in one cohort and period, and its influence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray
from vbceval.design import GroupTimePair
from vbceval.did.blocks import Block, Followed, side
from vbceval.did.dose.basis import Basis
from vbceval.did.solve import ComparisonFailure, fit_linear, standardise
from vbceval.inference import sum_by_cluster


class Curve(NamedTuple):
    """
    A curve of one cohort and period.

    Parameters
    ----------
    pair : GroupTimePair
        The comparison.
    theta : array, shape (J,)
        Coefficients of the basis; missing where no treated unit involves a function.
    psi : array, shape (G, J)
        Influence of clusters on them.
    weight : array, shape (n,)
        Weights of treated units, adding up to one.
    values : array, shape (n, J)
        Basis at their doses.
    dose : array, shape (n,)
        Their doses.
    own : array, shape (n, G)-like int
        Clusters of treated units.
    rss : float
        Weighted mean squared residual of treated units.
    n_comparison : int
        Comparison units.
    clusters : bool array, shape (G,)
        Clusters used.
    """

    pair: GroupTimePair
    theta: FloatArray
    psi: FloatArray
    weight: FloatArray
    values: FloatArray
    dose: FloatArray
    own: np.ndarray
    rss: float
    n_comparison: int
    clusters: BoolArray

    def supports(self, row: FloatArray) -> bool:
        """Return whether a combination of coefficients (J,) is estimated."""
        return bool(np.isfinite(self.theta[row != 0]).all())

    def at(self, row: FloatArray) -> tuple[float, FloatArray]:
        """Return a combination of coefficients (J,) and its influence (G,)."""
        used = row != 0
        return float(self.theta[used] @ row[used]), np.asarray(self.psi[:, used] @ row[used])

    def average(self, rows: FloatArray) -> tuple[float, FloatArray]:
        """
        Return the mean over treated units of combinations (n, J), and its influence.

        The dose distribution is estimated too: a unit moves the mean by its distance to it.
        """
        mean = self.weight @ rows
        estimate, psi = self.at(mean)
        # a coefficient may cancel in the mean, and still tell units apart
        used = (rows != 0).any(axis=0)
        each = rows[:, used] @ self.theta[used]
        moves = sum_by_cluster(self.weight * (each - estimate), self.own, len(psi))
        return estimate, psi + moves


def fit_curve(
    block: Block,
    index: Followed,
    periods: FloatArray,
    pair: GroupTimePair,
    dose: FloatArray,
    basis: Basis,
    last: float,
    n_clusters: int,
) -> Curve | None:
    """
    Fit the change since the base period on the dose among treated units.

    The expected change without treatment comes from a weighted regression on covariates (a
    constant without any) among comparison units, and is taken off first.

    Parameters
    ----------
    block : Block
        K cells.
    index : Followed
        Where each unit's cells are.
    periods : array
        Observed periods.
    pair : GroupTimePair
        Cohort, period, base, comparison.
    dose : array, shape (units,)
        Dose of each followed unit; 0 for the never treated, and where it is not known.
    basis : Basis
        Functions of the dose.
    last : float
        Last period plus anticipation.
    n_clusters : int
        G.

    Returns
    -------
    Curve or None
        None without a treated unit seen in both periods.

    Raises
    ------
    ComparisonFailure
        If nobody is left to compare with, or doses are too alike for the basis.

    References
    ----------
    .. [1] Callaway, B., Goodman-Bacon, A. and Sant'Anna, P. H. C. (2024).
       Difference-in-differences with a continuous treatment. Working paper, arXiv:2107.02637.
       Section 4.
    """
    before, after, earlier = (
        index.at[:, int(np.searchsorted(periods, t))]
        for t in (pair.base, pair.period, pair.earlier)
    )
    treated, comparison = side(block.cohort[index.first], pair, last)
    treated &= dose > 0
    seen = (before >= 0) & (after >= 0)
    keep = (treated | comparison) & seen
    on = treated[keep]
    if not on.any():
        return None
    before, after, earlier = before[keep], after[keep], earlier[keep]
    if on.all():
        raise ComparisonFailure(
            f"no comparison unit is seen at both {pair.base:g} and {pair.period:g}"
        )
    dy, w = block.y[after] - block.y[before], block.w[earlier]
    cluster = block.cluster[before]
    z = standardise(block.x[earlier], w, block.names, factors=block.factors)
    untreated = fit_linear(z, dy, w * ~on, "the comparison units")
    residual = (dy - z.x @ untreated.beta)[:, 0]
    values = basis.values(dose[keep][on])
    live = basis.uses(values)
    wt, b = w[on], values[:, live]
    gram = (b * wt[:, None]).T @ b
    if np.linalg.matrix_rank(gram, hermitian=True) < len(live) or (
        basis.kind == "spline" and len(live) < basis.size
    ):
        raise ComparisonFailure(
            "the doses of its units are too few or alike for the curve; use a lower `degree`, "
            "fewer `knots`, or basis='discrete'"
        )
    inverse = np.linalg.inv(gram)
    theta = inverse @ (b.T @ (wt * residual[on]))
    error = residual[on] - b @ theta
    psi = np.zeros((len(on), len(live)))
    psi[on] = (wt * error)[:, None] * (b @ inverse)
    # each comparison unit moves the untreated change, and with it every coefficient
    load = inverse @ (b * wt[:, None]).T @ z.x[on]
    psi[~on] = -(w * residual)[~on, None] * (z.x[~on] @ untreated.inverse @ load.T)
    full, full_psi = np.full(basis.size, np.nan), np.zeros((n_clusters, basis.size))
    full[live], full_psi[:, live] = theta, sum_by_cluster(psi, cluster, n_clusters)
    return Curve(
        pair, full, full_psi, wt / wt.sum(), values, dose[keep][on], cluster[on],
        float(wt @ error**2 / wt.sum()), int((~on).sum()),
        np.bincount(cluster, minlength=n_clusters) > 0,
    )  # fmt: skip
