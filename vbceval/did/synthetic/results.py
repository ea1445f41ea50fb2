"""Rows of a result, and its error law."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.core.version import versions
from vbceval.design import Design
from vbceval.did.inputs import design_meta, without_rounding
from vbceval.did.synthetic.cohorts import Cohort
from vbceval.did.synthetic.replicates import Part, used_clusters
from vbceval.did.synthetic.wide import Source
from vbceval.estimates import Estimates, Shares
from vbceval.estimates.columns import GROUP_TIME
from vbceval.inference import SSC


def refuse_factor(ssc: SSC | None, estimator: str) -> None:
    """Raise an EstimationError if a small-sample factor is asked for."""
    if ssc is not None and ssc != SSC.none():
        raise EstimationError(
            f"{estimator} takes errors from placebos or resampling, which have no small-sample "
            f"factor, but ssc is '{ssc.name}'. Leave `ssc` out."
        )


def require_known(vcov: str | None, known: Sequence[str], estimator: str) -> None:
    """Raise an EstimationError if the kind of error is not one of `known`."""
    if vcov is not None and vcov not in known:
        raise EstimationError(
            f"{estimator} has no '{vcov}' covariance: its weights are not regular functions of "
            f"the data. Use {', '.join(repr(name) for name in known)}, or leave `vcov` out."
        )


def rows_of(parts: Sequence[Part], design: Design) -> pd.DataFrame:
    """Return keys and counts of each cohort and shown period, one part after another."""
    records: list[dict[str, Any]] = []
    for part, cohort, column in _shown(parts):
        wide = part.wide
        seen = np.isfinite(wide.y[:, column])
        treated, donors = cohort.treated[seen[cohort.treated]], cohort.donors[seen[cohort.donors]]
        t = float(wide.periods[column])
        records.append({
            "estimand": GROUP_TIME, "outcome": design.outcome,
            "unit_of_measure": design.unit_of_measure, "cohort": cohort.entry, "period": t,
            "event_time": t - cohort.entry, "stratum": wide.stratum,
            "n_units": float(len(treated) + len(donors)),
            "n_clusters": len(np.unique(wide.cluster[np.concatenate([treated, donors])])),
            "n_treated": float(len(treated)), "n_comparison": float(len(donors)),
        })  # fmt: skip
    return pd.DataFrame(records)


def treated_weight(parts: Sequence[Part], n_clusters: int) -> FloatArray:
    """Return the treated weight behind each row, by cluster, shape (G, k)."""
    columns = []
    for part, cohort, column in _shown(parts):
        wide = part.wide
        rows = cohort.treated[np.isfinite(wide.y[cohort.treated, column])]
        columns.append(np.bincount(wide.cluster[rows], wide.weight[rows], minlength=n_clusters))
    return np.column_stack(columns)


def _shown(parts: Sequence[Part]) -> Iterator[tuple[Part, Cohort, int]]:
    for part in parts:
        for cohort in part.cohorts:
            for column in cohort.columns[cohort.shown]:
                yield part, cohort, int(column)


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """
    Effects that wait for their error law.

    Parameters
    ----------
    frame : DataFrame, k rows
        Keys and counts.
    value : array, shape (k,)
        Effects.
    treated : array, shape (G, k)
        Treated weight behind each row, by cluster.
    clusters : Index, length G
        Labels of all clusters.
    cluster_name : str
        Name of the cluster variable.
    meta : mapping
        Record of the fit.
    size : float
        Largest outcome: errors that are its rounding are missing.
    """

    frame: pd.DataFrame
    value: FloatArray
    treated: FloatArray
    clusters: pd.Index
    cluster_name: str
    meta: Mapping[str, Any]
    size: float

    def with_placebos(self, draws: FloatArray) -> Estimates:
        """
        Return estimates whose covariance is that of placebo effects, (B, k), around their mean.

        Divided by B, as in R `synthdid`; with every donor in turn that is the exact variance of
        the placebo distribution.
        """
        centred = (draws - draws.mean(axis=0)) / np.sqrt(len(draws))
        centred = without_rounding(centred, self.size)
        return self._made(covariance=centred.T @ centred)

    def with_draws(self, draws: FloatArray) -> Estimates:
        """Return estimates with bootstrap draws, (B, k)."""
        return self._made(samples=draws, meta=self._with_gaps(draws))

    def without_errors(self) -> Estimates:
        """Return estimates whose errors are not known."""
        return self._made(covariance=np.full((len(self.value), len(self.value)), np.nan))

    def with_influence(self, left: FloatArray, used: IntArray) -> Estimates:
        """
        Return estimates whose influence is that of leaving out each cluster in turn.

        Parameters
        ----------
        left : array, shape (G', k)
            Effects without each cluster.
        used : int array, shape (G',)
            Codes of these clusters.
        """
        root = np.full(left.shape[1], np.sqrt((len(used) - 1) / len(used)))
        psi = without_rounding(left.mean(axis=0) - left, self.size)
        shares = Shares(value=self.treated.sum(axis=0), psi=self.treated[used], vcov_scale=root)
        return self._made(
            psi=psi, psi_vcov=psi * root, clusters=self.clusters[used], shares=shares,
            meta=self._with_gaps(left),
        )  # fmt: skip

    def _with_gaps(self, replicates: FloatArray) -> dict[str, Any]:
        """Return the record, with a warning where a replicate has no effect in some row."""
        meta = dict(self.meta)
        lost = int((~np.isfinite(replicates)).any(axis=0).sum())
        if lost:
            meta["warnings"] = [
                *meta["warnings"],
                f"{lost} of {len(self.value)} effects have no error, nor have averages with them: "
                "so few treated organizations are seen in their periods that a replicate has "
                "none. End `window` before, or leave these periods out.",
            ]
        return meta

    def _made(self, **law: Any) -> Estimates:
        return Estimates(**{
            "frame": self.frame.assign(estimate=self.value), "cluster_name": self.cluster_name,
            "shares": Shares(value=self.treated.sum(axis=0)), "meta": self.meta, **law,
        })  # fmt: skip


def make(
    source: Source, parts: Sequence[Part], value: FloatArray, design: Design, meta: dict[str, Any]
) -> Made:
    """Return effects of all parts with their rows and treated weights."""
    return Made(
        frame=rows_of(parts, design), value=value,
        treated=treated_weight(parts, len(source.clusters)), clusters=source.clusters,
        cluster_name=source.moments.cluster_name, meta=meta,
        size=max(float(np.nanmax(np.abs(part.wide.y))) for part in parts),
    )  # fmt: skip


def record(
    estimator: str,
    options: Mapping[str, Any],
    source: Source,
    design: Design,
    parts: Sequence[Part],
    **more: Any,
) -> dict[str, Any]:
    """Return the record of a fit."""
    used = np.unique(np.concatenate([used_clusters(part) for part in parts]))
    return {
        "estimator": estimator,
        "options": dict(options),
        "design": design_meta(design),
        "ssc": "none",
        "exactness": "moments",
        "n_clusters": len(used),
        "cluster": source.moments.cluster_name,
        "first_period": float(min(part.wide.periods[0] for part in parts)),
        "language": "effect",
        "versions": versions("numpy", "scipy", "pandas"),
        **more,
    }
