"""How far a posterior depends on its priors: refits under others, and power-scaling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from vbceval.bayes.averages import PERCENT
from vbceval.bayes.checks import Limits
from vbceval.bayes.counts.priors import RatePriors
from vbceval.bayes.draws import flatten
from vbceval.bayes.hierarchical import HierarchicalDiD
from vbceval.bayes.priors import PriorName, Priors
from vbceval.bayes.sample import Progress
from vbceval.core.errors import EstimationError
from vbceval.design import Design
from vbceval.estimates import Estimates
from vbceval.estimates.columns import OVERALL
from vbceval.moments import Moments
from vbceval.panel import Panel

_NOTABLE = 0.05


def overall_effect(
    estimates: Estimates, *, thresholds: Sequence[float], level: float
) -> dict[str, Any]:
    """
    Return the overall effect of a posterior in one row, percent of baseline.

    Parameters
    ----------
    estimates : Estimates
        Result of `HierarchicalDiD.fit`.
    thresholds : sequence of float
        Percent of baseline.
    level : float
        Level of the interval.

    Returns
    -------
    dict
        ``estimate``, ``std_error``, ``conf_low``, ``conf_high``; ``probability_below_...`` of each
        threshold; ``smallest_ess``, the least effective sample size of a reported average.
    """
    overall = estimates.where(estimand=OVERALL, unit_of_measure=PERCENT)
    row = overall.tidy(level).iloc[0]
    seen = estimates.meta["convergence"]
    return {
        **{k: float(row[k]) for k in ("estimate", "std_error", "conf_low", "conf_high")},
        **{
            f"probability_below_{t:g}": float(overall.probability(below=t).iloc[0])
            for t in thresholds
        },
        "smallest_ess": float(min(seen["ess_bulk"], seen["ess_tail"])),
    }


def prior_sensitivity(
    estimator: HierarchicalDiD,
    data: Panel | Moments,
    design: Design,
    *,
    priors: tuple[PriorName | Priors | RatePriors, ...] = ("default", "skeptical", "flat"),
    thresholds: tuple[float, ...] = (0.0, -1.0, -2.0),
    level: float = 0.95,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """
    Refit under other priors and tabulate the overall effect.

    Parameters
    ----------
    estimator : HierarchicalDiD
        Its other options are kept.
    data, design
        As in `HierarchicalDiD.fit`.
    priors : tuple
        Named sets (see `vbceval.bayes.priors.NAMED`) or `Priors`.
    thresholds : tuple of float
        Percent of baseline; columns ``probability_below_...``.
    level : float, default 0.95
        Level of intervals.
    limits : Limits, optional
        As in `HierarchicalDiD.fit`.
    progress : callable, optional
        As in `vbceval.bayes.sample.sample`.

    Returns
    -------
    DataFrame
        One row a prior: ``prior``, ``prior_sd_percent`` (of the effect at entry), ``estimate``,
        ``std_error``, ``conf_low``, ``conf_high`` (percent of baseline), the probabilities and
        ``smallest_ess``.

    Raises
    ------
    EstimationError
        If a name is not known (before anything is fitted), or draws cannot be trusted.
    """
    rows = []
    # all names are looked up before the first fit, which takes minutes
    for prior, scales in [(prior, estimator.scales(prior)) for prior in priors]:
        changed = replace(estimator, prior=scales, alternatives=())
        est = changed.fit(data, design, limits=limits, progress=progress)
        rows.append(
            {
                "prior": prior if isinstance(prior, str) else "custom",
                # of its own prior, the first line
                "prior_sd_percent": est.meta["prior_sensitivity"][0]["prior_sd_percent"],
                **overall_effect(est, thresholds=thresholds, level=level),
            }
        )
    return pd.DataFrame(rows)


def power_scaling(estimates: Estimates) -> pd.DataFrame:
    """
    Say how far prior and data each move the reported averages, without refitting.

    Prior of the effect (its level and the standard deviations of its parts) and likelihood are
    raised to powers near one, and the change of each average's distribution is measured.

    Parameters
    ----------
    estimates : Estimates
        Result of `HierarchicalDiD.fit`.

    Returns
    -------
    DataFrame
        Keys of the rows, ``prior`` and ``likelihood`` (sensitivities), ``flagged`` (the prior's is
        above .05) and ``diagnosis``: prior and data in conflict, a strong prior with weak data, or
        nothing.

    Raises
    ------
    EstimationError
        If the rows are not those of the fit: their draws are read from its tree.

    References
    ----------
    .. [1] Kallioinen, N., Paananen, T., Buerkner, P.-C. and Vehtari, A. (2024). Detecting and
       diagnosing prior and likelihood sensitivity with power-scaling. *Statistics and Computing*
       34, 57.
    """
    import arviz

    tree = estimates.to_arviz()
    if not np.array_equal(flatten(tree, "average"), estimates.draws()):
        raise EstimationError(
            "power-scaling reads the averages of the fit, and these estimates are a selection or "
            "a combination of them. Pass the result of `HierarchicalDiD.fit`, and select rows of "
            "the table afterwards."
        )
    found = arviz.psense_summary(tree, var_names=["average"], alphas=(0.8, 1.25), round_to=6)
    keys = ["estimand", "outcome", "unit_of_measure", "cohort", "event_time", "stratum"]
    out = estimates.frame[keys].copy()
    for name in ("prior", "likelihood", "diagnosis"):
        out[name] = found[name].to_numpy()
    out["diagnosis"] = out["diagnosis"].str.strip("\u2713 ")
    out.insert(len(keys) + 2, "flagged", out["prior"].to_numpy(dtype=float) > _NOTABLE)
    return out


def headline(estimates: Estimates) -> str:
    """
    Return the overall effect in words, under the fitted prior and others, with power scaling.

    Parameters
    ----------
    estimates : Estimates
        Result of `HierarchicalDiD.fit`, `TwoPartDiD.fit`, `JointDiD.fit`, `MetaAnalysis.fit` or
        `given_evidence`; its record under other priors, ``meta["prior_sensitivity"]``, is read. Power scaling reads the tree of the former.

    Returns
    -------
    str
        One line a prior, then, for a `HierarchicalDiD`, one about power scaling. Percent of
        baseline, negative is lower spending.

    Raises
    ------
    EstimationError
        If the estimates carry no record under other priors.
    """
    lines = [x for x in estimates.meta.get("prior_sensitivity", []) if _shown(x)]
    if not lines:
        raise EstimationError(
            "the estimates carry no result under other priors. Pass the result of "
            "`HierarchicalDiD.fit` (with `alternatives`) or of `given_evidence`."
        )
    several = len({x["outcome"] for x in lines}) > 1
    out = [(f"{x['outcome']}: " if several else "") + _line(x) for x in lines]
    if estimates.meta.get("estimator") in ("HierarchicalDiD", "JointDiD"):
        scaled = power_scaling(estimates)
        rows = (scaled["estimand"] == OVERALL) & (scaled["unit_of_measure"] == PERCENT)
        flagged = scaled[scaled["flagged"]]
        found = [
            (f"{row['outcome']} " if several else "")
            + f"prior {row['prior']:.2f}, likelihood {row['likelihood']:.2f} "
            f"({row['diagnosis'] or 'nothing notable'})"
            for _, row in scaled[rows].iterrows()
        ]
        out.append(
            f"Power scaling: {', '.join(found)}; {len(flagged)} of {len(scaled)} rows move notably "
            "with the prior."
        )
    return "\n".join(out)


def _shown(line: Mapping[str, Any]) -> bool:
    return line["unit_of_measure"] in (PERCENT, "percent")


def _line(line: Mapping[str, Any]) -> str:
    normal = f"Normal({line['prior_mean_percent']:.3g}, {line['prior_sd_percent']:.3g})"
    law = line.get("prior_law", normal)
    where = f" of {line['stratum']}" if line["estimand"] in ("type_mean", "predictive") else ""
    name = f"{line['estimand']}{where}, {line['prior']} prior {law}"
    if not np.isfinite(line["estimate"]):
        return f"{name}: {line['method']}."
    return (
        f"{name}: {line['estimate']:.2f} percent of baseline, {100 * line['level']:g}% interval "
        f"{line['conf_low']:.2f} to {line['conf_high']:.2f}, probability below 0 "
        f"{line['probability_below_0']:.3f} ({line['method']})."
    )
