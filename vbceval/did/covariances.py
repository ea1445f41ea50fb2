"""Covariances of a regression: which are offered, and how each is built from scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import sparse

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.did.least_squares import Fit
from vbceval.did.sampled import joint_codes
from vbceval.inference import SSC, Multiplier
from vbceval.inference.bias_reduced import ClusterPart
from vbceval.inference.wild import Wild

Vcov = str | Multiplier | Wild | tuple[str, str, str]
_BATCH_VALUES = 1 << 23


class Law(NamedTuple):
    """
    A covariance as asked for.

    Parameters
    ----------
    kind : str
        "CR0", "CR1", "CR2", "CR3", "iid", "HC1" or "two_way".
    ssc : SSC
        Small-sample factor.
    keys : tuple of str
        The two cluster keys of "two_way".
    multiplier : Multiplier or None
        Bootstrap of the influence.
    wild : Wild or None
        Bootstrap of the scores.
    """

    kind: Literal["CR0", "CR1", "CR2", "CR3", "iid", "HC1", "two_way"]
    ssc: SSC
    keys: tuple[str, ...] = ()
    multiplier: Multiplier | None = None
    wild: Wild | None = None

    @property
    def name(self) -> str:
        """How results name it."""
        if self.multiplier is not None:
            m = self.multiplier
            return f"multiplier bootstrap ({m.weights}, {m.draws:,} draws)"
        if self.wild is not None:
            return "CR1, wild cluster bootstrap"
        if self.kind == "two_way":
            return f"two-way ({self.keys[0]}, {self.keys[1]})"
        return self.kind

    @property
    def by_cluster(self) -> bool:
        """Whether it is built from cluster influence, so that results carry it."""
        return self.kind in ("CR0", "CR1", "CR2", "CR3")


def read_law(vcov: Vcov, ssc: SSC | None) -> Law:
    """
    Read the options of a covariance.

    Raises
    ------
    EstimationError
        If it is not known, or takes no small-sample factor and is given one.
    """
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
    if vcov in ("CR0", "CR2", "CR3", "iid"):
        if ssc is not None and ssc != SSC.none():
            raise EstimationError(
                f"vcov='{vcov}' has its own correction and takes no small-sample factor, but ssc "
                f"is '{ssc.name}'. Use vcov='CR1' with it, or leave `ssc` out."
            )
        kind: Literal["CR0", "CR2", "CR3", "iid"] = vcov  # type: ignore[assignment]  # narrowed by the test above
        return Law(kind, SSC.none())
    raise EstimationError(
        f"`vcov` is {vcov!r}; regressions know 'CR0', 'CR1', 'CR2', 'CR3', 'wild' (or a Wild), "
        "'bootstrap' (or a Multiplier), 'iid', 'HC1' and ('two_way', key, key)."
    )


def cluster_parts(fit: Fit, n_clusters: int) -> Iterator[ClusterPart]:
    """
    Return cross-products of clusters, those with values in the same columns together.

    Parameters
    ----------
    fit : Fit
        Its eliminated effects are nested in clusters.
    n_clusters : int
        G.
    """
    rows = _root_rows(fit)
    owner = np.tile(fit.cells.block.cluster, 1 + len(fit.z.inner))
    order = np.argsort(owner, kind="stable")
    rows, bounds = rows[order], np.searchsorted(owner[order], np.arange(n_clusters + 1))
    groups: dict[bytes, list[int]] = {}
    columns: dict[bytes, IntArray] = {}
    for c in range(n_clusters):
        found = np.unique(rows.indices[rows.indptr[bounds[c]] : rows.indptr[bounds[c + 1]]])
        used = found[fit.kept[found]].astype(np.int64)
        if len(used):
            groups.setdefault(used.tobytes(), []).append(c)
            columns[used.tobytes()] = used
    levels = _levels_of(fit, n_clusters)
    place = np.zeros(len(fit.kept), dtype=np.int64)
    for key, members in groups.items():
        used = columns[key]
        # columns that were dropped fall into one more, which is cut off
        place[:] = len(used)
        place[used] = np.arange(len(used))
        step = max(_BATCH_VALUES // (len(used) + 1) ** 2, 1)
        for start in range(0, len(members), step):
            batch = np.array(members[start : start + step], dtype=np.int64)
            cross = _products_by_cluster(rows, bounds, batch, place, len(used) + 1)
            if levels is not None:
                cross -= _products_by_cluster(levels[1], levels[0], batch, place, len(used) + 1)
            yield ClusterPart(used, batch, cross[:, :-1, :-1])


def _products_by_cluster(
    rows: sparse.csr_array, bounds: IntArray, batch: IntArray, place: IntArray, width: int
) -> FloatArray:
    """Cross-products of each cluster's rows, from one product with columns of their own."""
    counts = bounds[batch + 1] - bounds[batch]
    own = rows[np.concatenate([np.arange(bounds[c], bounds[c + 1]) for c in batch])]
    cluster = np.repeat(np.repeat(np.arange(len(batch)), counts), np.diff(own.indptr))
    shape = (own.shape[0], len(batch) * width)
    apart = sparse.csr_array((own.data, cluster * width + place[own.indices], own.indptr), shape)
    product = sparse.coo_array(apart.T @ apart)
    out = np.zeros((len(batch), width, width))
    first, second = product.coords
    out[first // width, first % width, second % width] = product.data
    return out


def _root_rows(fit: Fit) -> sparse.csr_array:
    """Rows whose products add up to X'WX: cell means, then the root of variation inside cells."""
    z, block = fit.z, fit.cells.block
    size, q = len(block.w), len(z.inner)
    parts = [sparse.csr_array(sparse.diags_array(np.sqrt(block.w)) @ z.mean)]
    if q and block.xx is not None:
        values, vectors = np.linalg.eigh(block.xx[:, z.inner][:, :, z.inner])
        root = vectors * np.sqrt(np.clip(values, 0.0, None))[:, None, :]
        slopes = [z.rows[size * (i + 1) : size * (i + 2)] for i in range(q)]
        for f in range(q):
            scaled = [
                sparse.diags_array(np.ascontiguousarray(root[:, i, f])) @ slope
                for i, slope in enumerate(slopes)
            ]
            total = scaled[0]
            for more in scaled[1:]:
                total = total + more
            parts.append(sparse.csr_array(total))
    return sparse.csr_array(sparse.vstack(parts, format="csr"))


def _levels_of(fit: Fit, n_clusters: int) -> tuple[IntArray, sparse.csr_array] | None:
    """Sums of eliminated effects over the root of their weight, sorted by cluster, and bounds."""
    h = fit.cells.absorbed
    if h is None:
        return None
    owner = np.zeros(len(fit.level), dtype=np.int64)
    owner[h] = fit.cells.block.cluster
    order = np.argsort(owner, kind="stable")
    bounds = np.searchsorted(owner[order], np.arange(n_clusters + 1))
    scaled = sparse.csr_array(sparse.diags_array(1 / np.sqrt(fit.level)) @ fit.level_z)
    return bounds, sparse.csr_array(scaled[order])


def iid_covariance(fit: Fit, contrast: FloatArray) -> FloatArray:
    """
    Return the covariance under independent errors of one variance, shape (r, r).

    Raises
    ------
    EstimationError
        If no degree of freedom is left.
    """
    left = fit.n_rows - fit.n_full
    if left <= 0:
        raise EstimationError(
            f"{fit.n_full:,} parameters leave no degree of freedom, so the error variance cannot "
            "be estimated. Drop covariates or effects."
        )
    variance = float(fit.residual_squares()[0]) / left
    return np.asarray(variance * contrast.T @ fit.inverse @ contrast)


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
