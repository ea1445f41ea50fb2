"""What every estimator of this room does with its input before it estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from vbceval.balance import BalanceWeights
from vbceval.core.disclosure import suppress_small
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.groups import in_order
from vbceval.core.typing import FloatArray, IntArray
from vbceval.design import Design
from vbceval.inference import SSC, FewTreated, Multiplier, Randomization
from vbceval.inference.few_treated import few_treated_options
from vbceval.moments import Moments
from vbceval.panel import Panel

ONE_CLUSTER = "one treated cluster: its own sampling error is not in std_error"
"""``note`` of an effect on one cluster."""
_ROUNDING = 1e-13
"""Share of outcomes below which an influence is their rounding."""


def small_sample(
    estimator: str, vcov: str | Multiplier | Randomization, ssc: SSC | None
) -> tuple[SSC, Multiplier | None]:
    """
    Return the small-sample factor of an influence-only covariance, and its bootstrap if asked.

    Raises
    ------
    EstimationError
        If `vcov` is not known, or one without factor is given a factor.
    """
    multiplier = vcov if isinstance(vcov, Multiplier) else None
    if vcov == "bootstrap":
        multiplier = Multiplier()
    if multiplier is not None:
        return SSC.none() if ssc is None else ssc, multiplier
    few = few_treated_options(vcov)
    if few is not None:
        raise EstimationError(few_treated_refusal(few))
    if vcov not in ("CR0", "CR1"):
        raise EstimationError(
            f"{estimator} has no '{vcov}' covariance: its effects are not one regression. Use "
            "'CR1' (influence with small-sample factor), 'CR0', or 'bootstrap' (multiplier). With few "
            "clusters compare with the jackknife of `vbceval.sensitivity.leave_one_out`, and with "
            "ETWFE or SunAbraham, which have 'CR2' and 'wild'."
        )
    if vcov == "CR0":
        if ssc is not None and ssc != SSC.none():
            raise EstimationError(
                f"vcov='CR0' has no small-sample factor, but ssc is '{ssc.name}'. Use vcov='CR1' "
                "with it, or leave `ssc` out."
            )
        return SSC.none(), None
    return SSC.cluster() if ssc is None else ssc, None


def few_treated_refusal(few: FewTreated) -> str:
    """Return why errors cannot come from untreated clusters, and where they can."""
    return (
        f"vcov='{few.method}' puts residuals of untreated clusters in the place of treated ones, "
        "which needs a linear regression. Use TWFE or EventStudy with it for one cohort, SunAbraham "
        "or ETWFE for effects by cohort and period, Stacked, or TripleDifference."
    )


def as_moments(data: Panel | Moments, design: Design) -> Moments:
    """Return the moments an estimator reads; those of a panel are its rows."""
    if isinstance(data, Moments):
        # an outcome with gaps has moments of its own
        return data.of(design.outcome)
    return Moments.from_panel(data, outcomes=[design.outcome], covariates=design.covariates)


def sources_of(
    data: Panel | Moments, design: Design, outcomes: Sequence[str]
) -> tuple[list[tuple[Moments, list[str]]], pd.Index]:
    """
    Return the moments that hold outcomes, each with the names it holds, and all cluster labels.

    Raises
    ------
    DesignError
        If no outcome is named, or there is one cluster.
    """
    if not outcomes:
        raise DesignError(
            "`outcomes` is empty, so there is nothing to estimate. Name at least one outcome, or "
            "leave it out for the outcome of the design."
        )
    if isinstance(data, Panel):
        data = Moments.from_panel(data, outcomes=outcomes, covariates=design.covariates)
    sources: dict[int, tuple[Moments, list[str]]] = {}
    for name in outcomes:
        # an outcome with gaps has moments of its own
        moments = data.of(name)
        sources.setdefault(id(moments), (moments, []))[1].append(name)
    found = list(sources.values())
    return found, cluster_labels(*(moments for moments, _ in found))


def cluster_labels(*sources: Moments) -> pd.Index:
    """
    Return cluster labels of all sources, at least two, in their order.

    Raises
    ------
    DesignError
        If there is one cluster.
    """
    # by units that have cells: there are fewer of them than cells
    owners = [m.units["cluster"].take(pd.unique(m.place)) for m in sources]
    labels = in_order(pd.Index(pd.unique(pd.concat(owners))))
    if len(labels) < 2:
        raise DesignError(
            f"there is {len(labels)} cluster (`{sources[0].cluster_name}`), but the error of an "
            "effect is measured by variation between clusters. Cluster on what enters the "
            "program, at least two of them treated and two not."
        )
    return labels


def strata_of(moments: Moments) -> list[tuple[str | None, IntArray]]:
    """
    Return the cells of all together (stratum None), then of each level of each stratum.

    Levels that a shared copy made by merging ("no or yes") are no strata of their own.
    """
    out: list[tuple[str | None, IntArray]] = [(None, np.arange(len(moments)))]
    made = merged_levels(moments)
    for name in moments.strata:
        column = moments.cells[name]
        for level in sorted(set(column.unique()) - made.get(name, frozenset()), key=str):
            out.append((f"{name}={level}", np.flatnonzero(column == level)))
    return out


def merged_levels(moments: Moments) -> dict[str, frozenset[str]]:
    """Return the levels of each stratum that a shared copy made by merging others."""
    made = moments.meta.get("share", {}).get("strata", {})
    return {name: frozenset(made.get(name, {})) for name in moments.strata}


def design_meta(design: Design) -> dict[str, Any]:
    """Return a design as plain values; of balance weights how they were made, or that some are."""
    weights = design.balance_weights
    out = asdict(replace(design, balance_weights=None))
    if weights is not None:
        out["balance_weights"] = (
            weights.describe() if isinstance(weights, BalanceWeights) else "given"
        )
    return out


def without_small_strata(frame: pd.DataFrame, *, clusters: bool = False) -> pd.DataFrame:
    """
    Blank counts from which a suppressed count of people could be found by subtraction.

    Where a stratum has a suppressed count, so have the other strata of its variable in the same
    comparison. Sums of cohorts (``n_comparison``, and ``n_units`` of both sides) hold a small
    cohort in some rows and not in others, so their differences would tell it: where any count of
    a variable is suppressed, they are in all of its rows.

    Parameters
    ----------
    frame : DataFrame
        Rows with counts, missing where they are suppressed, ``cohort``, ``period``, ``stratum``.
    clusters : bool
        Whether clusters are people too, so that their number is such a sum.
    """
    out = frame.copy()
    sides = ["n_treated", "n_comparison"]
    variable = out["stratum"].astype("string").str.split("=").str[0]
    keys = [out["cohort"], out["period"], variable]
    for name in sides:
        hidden = out[name].isna().groupby(keys, dropna=True).transform("any")
        out.loc[hidden.fillna(False).astype(bool) & variable.notna(), name] = np.nan
    few = out[["n_units", *sides]].isna().any(axis=1)
    out.loc[few, "n_units"] = np.nan
    if "term" in out:
        # a slope is no comparison and has no sides
        few &= out["term"].isna()
    # strata hide a count for every outcome; all together, outcomes have their own cells
    outcome = out["outcome"].where(variable.isna(), "")
    told = few.groupby([variable, outcome], dropna=False).transform("any").astype(bool)
    out.loc[told, ["n_units", "n_comparison", *(["n_clusters"] if clusters else [])]] = np.nan
    return out


def without_rounding(psi: FloatArray, size: float | FloatArray) -> FloatArray:
    """
    Return influence with zeros where all of it is the rounding of outcomes.

    With one treated and one comparison cluster, or an effect that is zero by construction, nothing
    shows the sampling error: it is missing then, and not a number near zero.

    Parameters
    ----------
    psi : array, shape (G, k)
        Influence of clusters, in the unit of the estimates.
    size : float or array, shape (k,)
        Size of the numbers it was computed from, such as the largest outcome.
    """
    seen = np.sqrt((psi**2).sum(axis=0)) > _ROUNDING * np.asarray(size)
    return psi if seen.all() else np.where(seen, psi, 0.0)


def shown(count: int, people: bool) -> float:
    """Return a count as it may be shown: missing if it is of 1-10 people."""
    return float(suppress_small(count)) if people else float(count)


def vcov_name(ssc: SSC, multiplier: Multiplier | None) -> str:
    """Return how the covariance is named in results."""
    if multiplier is not None:
        return f"multiplier bootstrap ({multiplier.weights}, {multiplier.draws:,} draws)"
    return "CR0" if ssc == SSC.none() else "CR1"
