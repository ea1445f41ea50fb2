"""Covariances of a regression: which are offered, and how each is built from scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from scipy import sparse

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.did.inputs import few_treated_refusal
from vbceval.did.least_squares import Fit, Groups, inside_sums
from vbceval.did.like_rows import scaled
from vbceval.did.regressors import joint_codes
from vbceval.inference import SSC, FewTreated, Multiplier, Randomization
from vbceval.inference.few_treated import few_treated_options
from vbceval.inference.frames import Pattern
from vbceval.inference.wild import Wild

Working = Literal["inverse_weight", "identity"]
Vcov = str | Multiplier | Wild | Randomization | FewTreated | tuple[str, str, str]


class Law(NamedTuple):
    """
    A covariance as asked for.

    Parameters
    ----------
    kind : str
        "CR0", "CR1", "CR2", "CR3", "iid", "HC1", "two_way" or "few_treated".
    ssc : SSC
        Small-sample factor.
    keys : tuple of str
        The two cluster keys of "two_way".
    multiplier : Multiplier or None
        Bootstrap of the influence.
    wild : Wild or None
        Bootstrap of the scores.
    working : {"inverse_weight", "identity"}
        For "CR2": variance of errors in its working model.
    few : FewTreated or None
        Draws of errors from untreated clusters.
    """

    kind: Literal["CR0", "CR1", "CR2", "CR3", "iid", "HC1", "two_way", "few_treated"]
    ssc: SSC
    keys: tuple[str, ...] = ()
    multiplier: Multiplier | None = None
    wild: Wild | None = None
    working: Working = "inverse_weight"
    few: FewTreated | None = None

    @property
    def name(self) -> str:
        """How results name it."""
        if self.multiplier is not None:
            m = self.multiplier
            return f"multiplier bootstrap ({m.weights}, {m.draws:,} draws)"
        if self.wild is not None:
            return "CR1, wild cluster bootstrap"
        if self.few is not None:
            return f"{self.few.method} ({self.few.tails} tails)"
        if self.kind == "two_way":
            return f"two-way ({self.keys[0]}, {self.keys[1]})"
        return self.kind

    @property
    def by_cluster(self) -> bool:
        """Whether it is built from cluster influence, so that results carry it."""
        return self.kind in ("CR0", "CR1", "CR2", "CR3")


_WITHOUT_FACTOR: Mapping[str, Literal["CR0", "CR2", "CR3", "iid"]] = {
    "CR0": "CR0", "CR2": "CR2", "CR3": "CR3", "iid": "iid",
}  # fmt: skip


def read_law(
    vcov: Vcov,
    ssc: SSC | None,
    working: Working = "inverse_weight",
    *,
    linear: bool = False,
) -> Law:
    """
    Read the options of a covariance.

    Parameters
    ----------
    vcov : str, tuple or options
        As asked for.
    ssc : SSC or None
        Small-sample factor, None for its default.
    working : {"inverse_weight", "identity"}
        Working model of "CR2".
    linear : bool, default False
        Whether estimates are linear regressions, whose errors can come from untreated clusters.

    Raises
    ------
    EstimationError
        If it is not known, or takes no small-sample factor or working model and is given one.
    """
    if working not in ("inverse_weight", "identity"):
        raise EstimationError(f"`working` is {working!r}; use 'inverse_weight' or 'identity'.")
    if working == "identity":
        if vcov != "CR2":
            raise EstimationError(
                f"working='identity' is the working model of vcov='CR2', but vcov is {vcov!r}, "
                "which has none to choose. Leave `working` out, or use vcov='CR2'."
            )
        return read_law(vcov, ssc)._replace(working=working)
    few = few_treated_options(vcov)
    if few is not None:
        if not linear:
            raise EstimationError(few_treated_refusal(few))
        _require_no_factor(few.method, ssc)
        return Law("few_treated", SSC.none(), few=few)
    if isinstance(vcov, Multiplier) or vcov == "bootstrap":
        multiplier = vcov if isinstance(vcov, Multiplier) else Multiplier()
        return Law("CR1", SSC.none() if ssc is None else ssc, multiplier=multiplier)
    if isinstance(vcov, Wild) or vcov == "wild":
        wild = vcov if isinstance(vcov, Wild) else Wild()
        return Law("CR1", SSC.fixest() if ssc is None else ssc, wild=wild)
    if isinstance(vcov, tuple) and len(vcov) == 3 and vcov[0] == "two_way":
        return Law("two_way", SSC.fixest() if ssc is None else ssc, keys=vcov[1:])
    if vcov == "CR1":
        return Law("CR1", SSC.fixest() if ssc is None else ssc)
    if vcov == "HC1":
        return Law("HC1", SSC(G=True, K="full", name="N/(N-K)") if ssc is None else ssc)
    if isinstance(vcov, str) and vcov in _WITHOUT_FACTOR:
        _require_no_factor(vcov, ssc)
        return Law(_WITHOUT_FACTOR[vcov], SSC.none())
    raise EstimationError(
        f"`vcov` is {vcov!r}; regressions know 'CR0', 'CR1', 'CR2', 'CR3', 'wild' (or a Wild), "
        "'bootstrap' (or a Multiplier), 'iid', 'HC1' and ('two_way', key, key); least squares also "
        "'randomization' (or a Randomization), 'ferman-pinto' and 'conley-taber' (or a FewTreated)."
    )


def _require_no_factor(vcov: str, ssc: SSC | None) -> None:
    if ssc is not None and ssc != SSC.none():
        raise EstimationError(
            f"vcov='{vcov}' has its own correction and takes no small-sample factor, but ssc "
            f"is '{ssc.name}'. Use vcov='CR1' with it, or leave `ssc` out."
        )


@dataclass(frozen=True, eq=False)
class ClusterProducts:
    """
    Cross-products of the columns of a regression, by cluster.

    Parameters
    ----------
    fit : Fit
        Its eliminated effects are nested in clusters.
    n_clusters : int
        G.
    """

    fit: Fit
    n_clusters: int

    @cached_property
    def _rows(self) -> _Rows:
        """Pairs of rows: cell means, and slopes inside cells, by kind of cells of a cluster."""
        fit, cluster = self.fit, self.fit.cells.block.cluster
        moved = scaled(fit.z.mean, fit.cells.block.w)
        left, right, owner = [fit.z.mean], [moved], [cluster]
        if fit.z.inner:
            inside, q = (
                inside_sums(fit.cells, fit.z, Groups(cluster, self.n_clusters)),
                len(fit.z.inner),
            )
            left.append(fit.z.slopes[inside.rows])
            right.append(inside.moved(fit.z.slopes))
            owner.append(np.repeat(inside.group, q))
        together = np.concatenate(owner)
        order = np.argsort(together, kind="stable")
        return _Rows(
            _stacked(left)[order], _stacked(right)[order],
            np.searchsorted(together[order], np.arange(self.n_clusters + 1)),
        )  # fmt: skip

    @cached_property
    def _levels(self) -> tuple[sparse.csr_array, IntArray]:
        """What eliminated effects take out: rows in the order of clusters, and where these begin."""
        fit, h = self.fit, self.fit.cells.absorbed
        owner = np.zeros(len(fit.level), dtype=np.int64)
        if h is not None:
            owner[h] = fit.cells.block.cluster
        order = np.argsort(owner, kind="stable")
        rows = scaled(fit.level_z, 1 / np.sqrt(fit.level))
        return rows[order], np.searchsorted(owner[order], np.arange(self.n_clusters + 1))

    def patterns(self) -> list[Pattern]:
        """Return clusters by the columns in which they have values, dropped ones left out."""
        rows, _, bounds = self._rows
        used = np.zeros((self.n_clusters, rows.shape[1]), dtype=bool)
        used[np.repeat(np.arange(self.n_clusters), np.diff(rows.indptr[bounds])), rows.indices] = (
            True
        )
        used &= self.fit.kept
        found, of = np.unique(np.packbits(used, axis=1), axis=0, return_inverse=True)
        columns = np.unpackbits(found, axis=1, count=used.shape[1])
        members = np.split(np.argsort(of, kind="stable"), np.cumsum(np.bincount(of.ravel()))[:-1])
        return [
            Pattern(np.flatnonzero(row), clusters)
            for row, clusters in zip(columns, members, strict=True)
            if row.any()
        ]

    def alike(self, pattern: Pattern) -> IntArray:
        """Return for each column of a pattern which of them it equals in all of its clusters."""
        rows = self._rows.left[_ranges(self._rows.bounds, pattern.clusters)]
        by_column = sparse.csc_array(rows)
        first: dict[bytes, int] = {}
        out = []
        for i, j in enumerate(pattern.columns):
            part = slice(*by_column.indptr[j : j + 2])
            key = by_column.indices[part].tobytes() + by_column.data[part].tobytes()
            out.append(first.setdefault(key, i))
        return np.array(out, dtype=np.int64)

    def cross(self, clusters: IntArray, columns: IntArray) -> FloatArray:
        """Return X_c'WX_c of some columns, eliminated effects taken out, shape (b, a, a)."""
        # all other columns fall into one more, which is cut off
        place = np.full(len(self.fit.kept), len(columns), dtype=np.int64)
        place[columns] = np.arange(len(columns))
        out = _products_by_cluster(self._rows, clusters, place, len(columns) + 1)
        levels, bounds = self._levels
        rows = levels[_ranges(bounds, clusters)]
        taken = np.zeros((rows.shape[0], len(columns) + 1))
        row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
        taken[row, place[rows.indices]] = rows.data
        ends = np.cumsum(bounds[clusters + 1] - bounds[clusters])
        for product, part in zip(out, np.split(taken, ends[:-1]), strict=True):
            product -= part.T @ part
        return out[:, :-1, :-1]


class _Rows(NamedTuple):
    """Rows whose products, left by right, add up to X_c'WX_c, and where clusters begin."""

    left: sparse.csr_array
    right: sparse.csr_array
    bounds: IntArray


def _products_by_cluster(values: _Rows, batch: IntArray, place: IntArray, width: int) -> FloatArray:
    """Cross-products of each cluster's rows, from one product with columns of their own."""
    counts = values.bounds[batch + 1] - values.bounds[batch]
    chosen = _ranges(values.bounds, batch)
    start = np.repeat(np.arange(len(batch)) * width, counts)
    left, right = (
        _apart(rows[chosen], start, place, len(batch) * width)
        for rows in (values.left, values.right)
    )
    product = sparse.csr_array(left.T @ right)
    out = np.zeros(len(batch) * width * width)
    # row r of cluster c begins at (c width + r) width, and its columns are counted from c width
    row = np.arange(len(batch) * width)
    flat = np.repeat(row * width - row // width * width, np.diff(product.indptr))
    flat += product.indices
    out[flat] = product.data
    return out.reshape(len(batch), width, width)


def _ranges(bounds: IntArray, which: IntArray) -> IntArray:
    """Return the rows of some clusters, one after the other."""
    counts = bounds[which + 1] - bounds[which]
    ends = np.cumsum(counts)
    return np.asarray(np.arange(ends[-1]) + np.repeat(bounds[which] - (ends - counts), counts))


def _apart(rows: sparse.csr_array, start: IntArray, place: IntArray, size: int) -> sparse.csr_array:
    """Move columns to their place behind where those of the row's cluster start."""
    column = np.repeat(start, np.diff(rows.indptr)) + place[rows.indices]
    return sparse.csr_array((rows.data, column, rows.indptr), shape=(rows.shape[0], size))


def _stacked(parts: Sequence[sparse.csr_array]) -> sparse.csr_array:
    return sparse.csr_array(sparse.vstack(parts, format="csr"))


def iid_covariance(fit: Fit, contrast: FloatArray) -> FloatArray:
    """
    Return the covariance under independent errors of one variance, shape (r, r).

    Raises
    ------
    EstimationError
        If no degree of freedom is left.
    """
    _require_squares(fit)
    left = fit.n_rows - fit.n_full
    if left <= 0:
        raise EstimationError(
            f"{fit.n_full:,} parameters leave no degree of freedom, so the error variance cannot "
            "be estimated. Drop covariates or effects."
        )
    variance = float(fit.residual_squares()[0]) / left
    return np.asarray(variance * contrast.T @ fit.inverse @ contrast)


def _require_squares(fit: Fit) -> None:
    """Refuse cells whose sums of squares stayed behind when they were shared."""
    if fit.cells.yy is not None and np.isnan(fit.cells.yy).any():
        raise EstimationError(
            "this shared copy was made without squares of the outcome, so variation within cells "
            "is unknown. Use a cluster-robust covariance such as 'CR1'."
        )


def hc_cell_covariance(fit: Fit, contrast: FloatArray) -> FloatArray:
    """
    Return the heteroskedasticity-robust covariance (HC0) from cells that are sums of rows.

    Exact where every regressor is constant within a cell and its rows weigh the same.

    Raises
    ------
    EstimationError
        If a covariate varies inside cells: then rows are needed.
    """
    cells = fit.cells
    if fit.z.inner or cells.yy is None:
        raise EstimationError(
            "vcov='HC1' needs rows, or regressors that are constant within cells: these cells are "
            "sums of rows with covariates inside. Use a cluster-robust covariance such as 'CR1'."
        )
    _require_squares(fit)
    w = cells.block.w
    squares = w / cells.n * (cells.yy[:, 0] + w * fit.residual[:, 0] ** 2)
    direction = fit.project(fit.inverse @ contrast)
    return np.asarray(direction.T @ (squares[:, None] * direction))


def codes_of(keys: Sequence[IntArray]) -> IntArray:
    """Return codes without gaps of combinations of keys."""
    return joint_codes(keys)[0]


def check_keys(keys: tuple[str, ...], known: Sequence[str]) -> None:
    """Raise DesignError for a cluster key that the data do not have."""
    unknown = [k for k in keys if k not in known]
    if unknown:
        raise DesignError(
            f"vcov names the cluster {listed(unknown)}, which is no key of these data: "
            f"{listed(known)}."
        )
