"""One path from untreated outcomes to group-time effects, for every way of averaging them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems
from vbceval.core.disclosure import suppress_small
from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.core.version import versions
from vbceval.design import Design
from vbceval.did.imputed import Imputed, effect_rows
from vbceval.did.inputs import (
    as_moments,
    cluster_labels,
    design_meta,
    shown,
    small_sample,
    strata_of,
    vcov_name,
    without_small_strata,
)
from vbceval.did.randomization import with_randomization
from vbceval.did.strata import naming
from vbceval.did.untreated import Cells, UntreatedFit
from vbceval.did.untreated_cells import (
    Arranged,
    Lost,
    Sample,
    arrange,
    fit_sample,
    lost_cells,
    lost_records,
    raise_lost,
    samples,
)
from vbceval.did.weight_step import with_weight_step
from vbceval.estimates import Estimates, Shares
from vbceval.inference import SSC, Multiplier, Randomization
from vbceval.moments import Moments
from vbceval.panel import Panel


class _Part(NamedTuple):
    """Effects of one stratum: rows, averages of each fit, clusters used (G,), what is lost."""

    rows: list[dict[str, Any]]
    results: list[Imputed]
    clusters: BoolArray
    lost: list[Lost]


@dataclass(frozen=True, kw_only=True)
class UntreatedEffects(ABC):
    """
    What estimators share that subtract outcomes fitted on untreated cells.

    Parameters
    ----------
    covariate_effect : {"level", "trend"}
        How covariates of the design enter: "level", x'b with the covariates of each cell;
        "trend", a coefficient for each period, with followed units keeping the covariates of
        their first period.
    drop_unimputable : bool, default False
        Leave out treated cells whose untreated outcome the fit does not imply (units always
        treated, periods in which all are treated) and record them in ``meta["unimputable"]``;
        otherwise they are an error.
    """

    covariate_effect: Literal["level", "trend"] = "level"
    drop_unimputable: bool = False

    influence: ClassVar[str]
    """What the influence of results is."""

    def __post_init__(self) -> None:
        if self.covariate_effect not in ("level", "trend"):
            raise DesignError(
                f"`covariate_effect` is {self.covariate_effect!r}; use 'level' or 'trend'."
            )

    @abstractmethod
    def _average(self, fit: UntreatedFit, cells: Cells, target: IntArray, m: int) -> Imputed:
        """Average outcomes minus fitted ones of cells by target."""

    def _wanted(self, sample: Sample, design: Design) -> BoolArray:
        """Return which cells of a sample are averaged."""
        return sample.treated

    def _problems(self, rows: list[dict[str, Any]]) -> Problems | None:
        """Return why an option cannot be applied to the rows found; None where it can."""
        return None

    @with_randomization
    @with_weight_step
    def fit(
        self,
        data: Panel | Moments,
        design: Design,
        *,
        vcov: str | Multiplier | Randomization = "CR1",
        ssc: SSC | None = None,
    ) -> Estimates:
        """
        Fit untreated outcomes and average effects by cohort and period.

        Parameters
        ----------
        data : Panel or Moments
            With strata, effects are estimated for all together and within each stratum, with one
            joint influence matrix; units have an effect of their own in each stratum.
        design : Design
            Outcome, anticipation (periods before entry that are not used as untreated; their
            effects are rows), window (which effects are reported), covariates, balance weights.
            With ``comparison="never_treated"`` a cohort's outcomes are imputed from the never
            treated and its own untreated periods only. ``fixed_effects`` names the entity (unit
            or cluster column) and the time (period column, or ``"period:stratum"``).
        vcov : {"CR1", "CR0", "bootstrap", "randomization"}, Multiplier or Randomization
            Cluster-robust covariance from the influence: with or without small-sample factor.
        ssc : SSC, optional
            Small-sample factor. Default `SSC.cluster`, G/(G-1), for "CR1"; `SSC.none` for "CR0".

        Returns
        -------
        Estimates
            One row a cohort and period (and stratum), in the unit of the outcome, with columns
            ``n_treated``, ``n_comparison`` (units untreated in the period) and ``note``; counts of
            1-10 people are missing where units may be people.

        Raises
        ------
        DesignError
            If treated cells cannot be imputed (with cohorts, periods and counts), there is one
            cluster, no cell is treated or untreated, or an option does not apply.
        EstimationError
            If covariates are absorbed or collinear.
        """
        factor, multiplier = small_sample(type(self).__name__, vcov, ssc)
        refuse_base(design, type(self).__name__)
        moments = as_moments(data, design)
        labels = cluster_labels(moments)
        whole, complete = arrange(moments, design, labels)
        parts = []
        for stratum, rows in strata_of(moments):
            arranged = whole.take(rows[complete[rows]])
            with naming(stratum):
                parts.append(self._fit_part(arranged, moments, design, stratum, len(labels)))
        lost = [x for part in parts for x in part.lost]
        if not self.drop_unimputable:
            raise_lost(lost, people=moments.people)
        rows_out = [row for part in parts for row in part.rows]
        if not rows_out:
            raise DesignError(
                f"none of the {len(lost)} treated cohort-periods can be imputed: every unit needs "
                "an untreated period, and every period an untreated unit. Add earlier periods or "
                "units that have not entered."
            )
        problems = self._problems(rows_out)
        if problems is not None:
            problems.raise_if_any()
        used = np.any([part.clusters for part in parts], axis=0)
        meta = {
            **self._meta(moments, design, vcov_name(factor, multiplier), factor, int(used.sum())),
            "unimputable": lost_records(lost, people=moments.people),
            "incomplete_cells": shown(int((~complete).sum()), moments.people),
            "first_period": float(whole.block.period[complete].min()),
            "influence": self.influence,
            "warnings": sorted({row["note"] for row in rows_out if row["note"]}),
        }
        # a stratum found in few clusters has their factor and degrees of freedom, not those of all
        sizes = [int(part.clusters.sum()) for part in parts for _ in part.rows]
        frame = framed(rows_out, [factor.df(size) for size in sizes], moments)
        if moments.people:
            frame = without_small_strata(frame, clusters=people_are_clusters(moments))
        root = np.sqrt([factor.factor(n_clusters=size) for size in sizes])
        results = [result for part in parts for result in part.results]
        psi = np.concatenate([x.psi for x in results], axis=1)[used]
        return Estimates(
            frame=frame, psi=psi, psi_vcov=psi * root, clusters=labels[used],
            cluster_name=moments.cluster_name, shares=_shares(results, used, root),
            multiplier=multiplier, meta=meta,
        )  # fmt: skip

    def _fit_part(
        self,
        arranged: Arranged,
        moments: Moments,
        design: Design,
        stratum: str | None,
        n_clusters: int,
    ) -> _Part:
        rows: list[dict[str, Any]] = []
        results, lost = [], []
        clusters = np.zeros(n_clusters, dtype=bool)
        for sample in samples(arranged, design):
            x, names = sample.covariates(self.covariate_effect)
            fit = fit_sample(sample, x, names, n_clusters=n_clusters)
            cells = sample.arranged.cells(x)
            covered = fit.covers(cells)
            history, seen = fit.part_of_entity[cells.entity] >= 0, fit.part_of_time[cells.time] >= 0
            lost += lost_cells(sample, covered, history, seen, stratum)
            used = self._wanted(sample, design) & covered
            clusters[cells.cluster[sample.untreated | used]] = True
            if not used.any():
                continue
            block = sample.arranged.block
            pairs, target = np.unique(
                np.column_stack([block.cohort[used], block.period[used]]), axis=0,
                return_inverse=True,
            )  # fmt: skip
            result = self._average(fit, cells.take(used), target.astype(np.int64), len(pairs))
            rows += effect_rows(
                sample, used, pairs, result, people=moments.people, design=design, stratum=stratum
            )
            results.append(result)
        return _Part(rows, results, clusters, lost)

    def _meta(
        self, moments: Moments, design: Design, vcov: str, ssc: SSC, n_clusters: int
    ) -> dict[str, Any]:
        return {
            "estimator": type(self).__name__,
            "options": asdict(self),
            "design": design_meta(design),
            "vcov": vcov,
            "ssc": ssc.name,
            "exactness": "moments",
            "n_clusters": n_clusters,
            "cluster": moments.cluster_name,
            "language": "effect",
            "versions": versions("numpy", "scipy", "pandas"),
        }


def _shares(results: list[Imputed], used: BoolArray, root: FloatArray) -> Shares:
    """Treated weight of each row, with its sampling error where the estimator has it."""
    value = np.concatenate([x.weight for x in results])
    masses = [x.masses for x in results if x.masses is not None]
    psi = np.concatenate(masses, axis=1)[used] if len(masses) == len(results) else None
    return Shares(value=value, psi=psi, vcov_scale=root)


def framed(rows: list[dict[str, Any]], dfs: list[float], moments: Moments) -> pd.DataFrame:
    """Return rows as a frame with degrees of freedom; counts of clusters that are people shown."""
    frame = pd.DataFrame(rows).assign(df=dfs)
    if people_are_clusters(moments):
        frame["n_clusters"] = suppress_small(frame["n_clusters"])
    return frame


def people_are_clusters(moments: Moments) -> bool:
    """Whether each person is a cluster."""
    return moments.people and moments.xx is None and moments.unit_name == moments.cluster_name


def refuse_base(design: Design, name: str) -> None:
    """Raise where a design asks for a base period, which these estimators do not have."""
    if design.base_period == "universal":
        raise DesignError(
            f"{name} has no base period: every untreated period of a unit is its base. Leave "
            "`base_period` at its default; leads come from `Imputation.pretrend`."
        )
