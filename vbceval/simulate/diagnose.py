"""Run an estimator on many draws of a process and compare with what is true."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems
from vbceval.core.errors import DesignError, EstimationError, VbcevalError
from vbceval.core.rng import generator
from vbceval.estimates import Estimates
from vbceval.estimates.algebra import t_quantile
from vbceval.panel import Panel
from vbceval.simulate.truth import KEYS, Truth


class Process(Protocol):
    """What can be diagnosed: a name, a truth and a way to draw a panel."""

    @property
    def name(self) -> str:
        """Name, part of the seed."""

    def truth(self) -> Truth:
        """Return what is true."""

    def panel(self, rng: np.random.Generator) -> Panel:
        """Draw a panel."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Diagnosis:
    """
    Repeated-sampling properties of estimators.

    Parameters
    ----------
    table : DataFrame
        One row an estimator and estimand; see `diagnose`.
    failures : DataFrame
        Columns ``estimator``, ``reason`` and ``share`` of replications that failed with it.
    draws : DataFrame
        One row a replication, estimator and estimand: ``estimate``, ``std_error``, ``conf_low``,
        ``conf_high`` (for zip plots and paired comparisons).
    """

    table: pd.DataFrame
    failures: pd.DataFrame
    draws: pd.DataFrame


def diagnose(
    process: Process,
    estimators: Mapping[str, Callable[[Panel], Estimates]],
    *,
    replications: int,
    seed: int,
    level: float = 0.95,
    averages: Mapping[str, Any] | None = None,
) -> Diagnosis:
    """
    Estimate on `replications` draws of a process and report bias, coverage and size.

    Every estimator sees the same draws, replication r from the random numbers of (seed, name of
    the process, r), so a subset of replications can be run again. An error of the package is a
    failure, counted by its reason; the other columns are over replications that succeeded.

    Parameters
    ----------
    process : Process
        For example `OrganizationPanel`.
    estimators : mapping of str to callable
        From a panel to group-time effects or their averages, for example
        ``{"dr": lambda p: GroupTime().fit(p, design).aggregate("simple")}``.
    replications : int
        Number of draws, 2 or more.
    seed : int
        Seed.
    level : float, default 0.95
        Probability of the intervals whose coverage is counted.
    averages : mapping, optional
        ``balance`` and ``window``, if estimators average with them, so that the truth does too.

    Returns
    -------
    Diagnosis
        Its table has the keys of the estimand, ``truth``, ``bias`` (mean estimate minus truth)
        with ``bias_mc_se``, ``sd``, ``mean_std_error``, ``se_bias`` (mean standard error / sd - 1)
        with ``se_bias_mc_se``, ``coverage`` with ``coverage_mc_se`` (at the nominal level),
        ``rejection`` (share of intervals without zero: size if the truth is 0, else power),
        ``rmse``, ``mean_length``, ``replications`` used and ``share_failed``. In the unit of the
        outcome.

    Raises
    ------
    DesignError
        If there are fewer than two replications.
    EstimationError
        If an estimator failed in every replication.

    References
    ----------
    .. [1] Morris, T. P., White, I. R. and Crowther, M. J. (2019). Using simulation studies to
       evaluate statistical methods. *Statistics in Medicine* 38(11), 2074-2102. Table 6.
    """
    if replications < 2:
        raise DesignError(f"`replications` is {replications}: a spread needs 2 or more.")
    truth = process.truth()
    kept: list[pd.DataFrame] = []
    failed: list[dict[str, Any]] = []
    for r in range(replications):
        panel = process.panel(generator(seed, process.name, r))
        for label, estimator in estimators.items():
            try:
                estimates = estimator(panel)
            except VbcevalError as error:
                failed.append({"estimator": label, "reason": _reason(error)})
                continue
            kept.append(
                _draw(estimates, truth, level, averages or {}).assign(
                    estimator=label, replication=r
                )
            )
    failures = pd.DataFrame(failed, columns=["estimator", "reason"])
    problems = Problems("this simulation", EstimationError)
    for name, reasons in failures.groupby("estimator"):
        if len(reasons) == replications:
            problems.add(f"`{name}` failed in every replication: {reasons['reason'].iloc[0]}")
    problems.raise_if_any()
    draws = pd.concat(kept, ignore_index=True)
    table = pd.DataFrame(
        [
            _summary(group, dict(zip(["estimator", *KEYS], key, strict=True)), replications, level)
            for key, group in draws.groupby(["estimator", *KEYS], sort=False, dropna=False)
        ]
    )
    counted = failures.value_counts().rename("share").reset_index()
    counted["share"] /= replications
    return Diagnosis(table=table, failures=counted, draws=draws)


def _reason(error: VbcevalError) -> str:
    """The error's class and the first line of its message."""
    return f"{type(error).__name__}: {str(error).splitlines()[0]}"


def _draw(
    estimates: Estimates, truth: Truth, level: float, averages: Mapping[str, Any]
) -> pd.DataFrame:
    estimates = estimates.where(np.isfinite(estimates.estimate))
    # the intervals of `tidy`, without its simultaneous bands, which cost far more
    sd = estimates.std_error
    half = t_quantile((1 + level) / 2, estimates.frame["df"].to_numpy(dtype=float)) * sd
    return estimates.frame[KEYS].assign(
        estimate=estimates.estimate,
        std_error=sd,
        conf_low=estimates.estimate - half,
        conf_high=estimates.estimate + half,
        truth=truth.of(estimates, **averages),
    )


def _summary(
    draws: pd.DataFrame, keys: Mapping[str, Any], replications: int, level: float
) -> dict[str, Any]:
    n = len(draws)
    truth = float(draws["truth"].iloc[0])
    estimate = draws["estimate"].to_numpy(dtype=float)
    low, high = (draws[c].to_numpy(dtype=float) for c in ("conf_low", "conf_high"))
    sd = float(estimate.std(ddof=1)) if n > 1 else np.nan
    error = estimate - truth
    std_error = draws["std_error"].to_numpy(dtype=float)
    mean_se = float(std_error.mean())
    ratio, ratio_se = np.nan, np.nan
    if sd > 0:
        # by the delta method: standard errors vary between draws, and the sd is estimated too
        ratio = mean_se / sd
        ratio_se = np.sqrt((std_error.std(ddof=1) / sd) ** 2 / n + ratio**2 / (2 * (n - 1)))
    return {
        **keys,
        "truth": truth,
        "bias": float(error.mean()),
        "bias_mc_se": sd / np.sqrt(n),
        "sd": sd,
        "mean_std_error": mean_se,
        "se_bias": ratio - 1,
        "se_bias_mc_se": float(ratio_se),
        "coverage": _share((low <= truth) & (truth <= high)),
        "coverage_mc_se": float(np.sqrt(level * (1 - level) / n)),
        "rejection": _share((low > 0) | (high < 0)),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mean_length": float((high - low).mean()),
        "replications": n,
        "share_failed": 1 - n / replications,
    }


def _share(mask: np.ndarray) -> float:
    return float(mask.mean())
