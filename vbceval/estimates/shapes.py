"""Whether the parts of estimates fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbceval.estimates import algebra

if TYPE_CHECKING:
    from vbceval.estimates.estimates import Estimates


def misfits(estimates: Estimates) -> list[str]:
    """Return which parts of estimates have other shapes than their rows and clusters."""
    k = len(estimates)
    wrong = []
    if estimates.psi is not None:
        labels = -1 if estimates.clusters is None else len(estimates.clusters)
        if estimates.psi.shape != (labels, k):
            wrong.append(f"`psi` is {estimates.psi.shape}, expected ({labels} clusters, {k} rows)")
        if estimates.psi_vcov is not None and estimates.psi_vcov.shape != estimates.psi.shape:
            wrong.append(f"`psi_vcov` is {estimates.psi_vcov.shape}, `psi` {estimates.psi.shape}")
        if estimates.clusters is not None and estimates.clusters.has_duplicates:
            wrong.append("`clusters` has repeated labels")
    if estimates.samples is not None and (
        estimates.samples.ndim != 2 or estimates.samples.shape[1] != k
    ):
        wrong.append(f"`samples` is {estimates.samples.shape}, expected (draws, {k})")
    if estimates.covariance is not None and estimates.covariance.shape != (k, k):
        wrong.append(f"`covariance` is {estimates.covariance.shape}, expected ({k}, {k})")
    elif estimates.covariance is not None and not algebra.is_covariance(estimates.covariance):
        wrong.append(
            "`covariance` is not symmetric (give both triangles) or has negative eigenvalues"
        )
    if estimates.degrees is not None and estimates.degrees.mix.shape[0] != k:
        wrong.append(f"`degrees` has {estimates.degrees.mix.shape[0]} rows, expected {k}")
    if estimates.shares is not None and estimates.shares.value.shape != (k,):
        wrong.append(f"`shares` is {estimates.shares.value.shape}, expected ({k},)")
    return wrong
