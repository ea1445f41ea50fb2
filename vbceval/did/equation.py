"""What an estimator of the regression family hands to the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.design import Design
from vbceval.did.least_squares import Fit
from vbceval.did.regressors import Term
from vbceval.did.sampled import Sample


class Shares(NamedTuple):
    """
    Weights by which group-time effects are averaged.

    Parameters
    ----------
    value : array, shape (r,)
        Treated weight of each row.
    psi : array, shape (G, r), or None
        Influence on it; None takes shares as fixed.
    """

    value: FloatArray
    psi: FloatArray | None


class Estimated(Protocol):
    """Means or weights of an equation that are estimated."""

    def influence(self, fit: Fit, outcome: int, contrast: FloatArray) -> FloatArray:
        """Return influence on the reported rows through them, shape (G, r)."""


class Equation(NamedTuple):
    """
    One regression: its cells, columns, and the combinations that are reported.

    Parameters
    ----------
    sample : Sample
        Cells.
    effects : tuple of str
        Fixed effects unless the design names others.
    terms : tuple of Term
        Covariates and treatments; covariates may have role "effect" where they are redundant by
        construction.
    rows : list of dict
        Keys of each reported row.
    contrast : array, shape (r, k)
        Combinations of the k treatment columns.
    support : int array, shape (K,)
        Which row's treated cells each cell belongs to; -1 is none.
    pooled : mapping of int to tuple of int
        Rows that are averages of other rows, for counts.
    shares : Shares or None
        Of group-time effects.
    estimated : Estimated or None
        Influence through means or weights that are not taken as fixed.
    meta : mapping
        What was left out.
    """

    sample: Sample
    effects: tuple[str, ...]
    terms: tuple[Term, ...]
    rows: list[dict[str, Any]]
    contrast: FloatArray
    support: IntArray
    pooled: Mapping[int, tuple[int, ...]] = {}
    shares: Shares | None = None
    estimated: Estimated | None = None
    meta: Mapping[str, Any] = {}

    def take(self, rows: IntArray, n_clusters: int) -> Equation:
        """Return the regression on some of its cells, with shares as fixed."""
        terms = [
            t._replace(codes=t.codes[rows], centre=None if t.centre is None else t.centre[rows])
            for t in self.terms
        ]
        out = self._replace(
            sample=self.sample.take(rows), terms=tuple(terms), support=self.support[rows]
        )
        if self.shares is None:
            return out
        shares = treated_shares(out.sample, out.support, (n_clusters, len(self.rows)), random=False)
        return out._replace(shares=shares)


def treated_shares(
    sample: Sample, support: IntArray, shape: tuple[int, int], *, random: bool
) -> Shares:
    """Return treated weight of each row, and whose it is if its sampling error counts."""
    mass = cluster_sums(sample, sample.cells.block.w, support, shape)
    return Shares(mass.sum(axis=0), mass if random else None)


def refuse_never_treated(sample: Sample, design: Design, estimator: str, instead: str) -> None:
    """
    Refuse a comparison with the never treated where cohorts are pooled.

    Raises
    ------
    DesignError
        If several cohorts enter: their treated cells are compared with each other.
    """
    cohorts = np.unique(sample.cohort[np.isfinite(sample.cohort)])
    if design.comparison == "never_treated" and len(cohorts) > 1:
        raise DesignError(
            f"{estimator} compares with treated cells of other cohorts ({len(cohorts)} enter), so "
            f"comparison='never_treated' cannot be kept. Use {instead}."
        )


def without_partly_treated(sample: Sample, design: Design) -> Sample:
    """Leave out cells in the periods of anticipation, and treated ones outside the window."""
    e = sample.event_time
    left_out = (e < 0) & (e >= -design.anticipation)
    if design.window is not None:
        left_out |= (e >= 0) & ((e < design.window[0]) | (e > design.window[1]))
    return sample.take(~left_out)


def plain_covariates(sample: Sample) -> list[Term]:
    """Return the covariates as they are, one column each."""
    zero = np.zeros(len(sample.units), dtype=np.int64)
    return [
        Term(zero, (name,), "covariate", variable=i, centre=_centre(sample, i))
        for i, name in enumerate(sample.cells.block.names)
    ]


def _centre(sample: Sample, i: int) -> FloatArray:
    """Overall mean, which effects or the constant absorb; it keeps digits."""
    block = sample.cells.block
    return np.full(len(block.w), np.average(block.x[:, i], weights=block.w))


def cluster_sums(
    sample: Sample, values: FloatArray, codes: IntArray, shape: tuple[int, int]
) -> FloatArray:
    """Return sums of values by cluster (rows) and code (columns); code -1 is none."""
    live = codes >= 0
    flat = sample.cells.block.cluster[live] * shape[1] + codes[live]
    out = np.bincount(flat, weights=values[live], minlength=shape[0] * shape[1])
    return out.reshape(shape)
