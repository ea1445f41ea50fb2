"""Estimates without one cluster, cohort or market at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.progress import counting
from vbceval.core.typing import FloatArray
from vbceval.design import Design
from vbceval.estimates import Estimates, columns
from vbceval.panel import Panel
from vbceval.sensitivity.given import require_estimates, require_fit

FitCall = Callable[[Panel, Design], Estimates]
"""Anything that estimates, such as ``vbc.did.TWFE().fit`` or a function around several steps."""


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut:
    """
    Estimates with one group left out at a time.

    Parameters
    ----------
    full : Estimates, k rows
        With all groups.
    estimates : DataFrame
        ``left_out``, then columns of `vbceval.estimates.columns` of the run, ``change`` (the run
        less the full estimate) and ``change_std_error``, from the joint influence of both.
    failed : DataFrame
        ``left_out`` and ``reason`` of groups without which the effect cannot be estimated.
    by : str
        What was left out.
    """

    full: Estimates
    estimates: pd.DataFrame
    failed: pd.DataFrame
    by: str

    def tidy(self) -> pd.DataFrame:
        """Return the runs, those that change an estimate most first."""
        size = self.estimates["change"].abs()
        return self.estimates.iloc[np.argsort(-size, kind="stable")].reset_index(drop=True)

    def jackknife(self) -> Estimates:
        """
        Return the full estimates with the jackknife over clusters as their covariance (CR3).

        ``(G-1)/G`` times the sum of squared changes; it needs no influence, so it holds an
        estimator's own influence to account. Degrees of freedom are G - 1.

        Raises
        ------
        EstimationError
            If other groups than clusters were left out, or a run failed.
        """
        if self.by != "cluster" or len(self.failed):
            what = f"{len(self.failed)} runs failed" if self.by == "cluster" else f"by='{self.by}'"
            raise EstimationError(
                f"the jackknife needs every run without one cluster ({what}). Merge cohorts of one "
                "cluster, or use the influence of the full estimate."
            )
        k = len(self.full)
        changes = self.estimates["change"].to_numpy(dtype=float).reshape(-1, k)
        g = len(changes)
        return Estimates(
            frame=self.full.frame.assign(df=float(g - 1)),
            covariance=(g - 1) / g * changes.T @ changes,
            meta={**self.full.meta, "vcov": "CR3 jackknife", "n_clusters": g},
        )


def leave_one_out(
    fit: FitCall, panel: Panel, design: Design, *, by: str = "cluster"
) -> LeaveOneOut:
    """
    Estimate again without each cluster, cohort, or value of a column.

    Parameters
    ----------
    fit : callable
        ``fit(panel, design)``, with the same rows whatever is left out: aggregate group-time
        effects inside, for example ``lambda p, d: GroupTime().fit(p, d).aggregate("simple")``.
    panel : Panel
        With every group.
    design : Design
        Passed on.
    by : str, default "cluster"
        "cluster", "cohort" (never treated are not left out), or a column of the panel that is
        constant within clusters, such as the market.

    Returns
    -------
    LeaveOneOut
        Cost: as many fits as groups.

    Raises
    ------
    DesignError
        If there is nothing to leave out, groups are people, or rows differ between runs.

    Notes
    -----
    A run that cannot be estimated is listed with its reason in ``failed`` and is not dropped
    silently. The change has an interval of its own: both runs share nearly all clusters.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCDEF"), 2), "year": [2015, 2016] * 6,
    ...     "entry": np.repeat([2016.0, 2016.0, 2016.0, np.nan, np.nan, np.nan], 2),
    ...     "spend": [10.0, 8, 11, 10, 12, 4, 10, 11, 9, 9, 11, 12]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> found = vbc.sensitivity.leave_one_out(
    ...     vbc.did.TWFE().fit, panel, vbc.Design(outcome="spend"))
    >>> found.tidy()[["left_out", "estimate", "change"]].head(2).round(2).values.tolist()
    [['C', -2.17, 2.17], ['B', -5.67, -1.33]]
    """
    require_fit(fit)
    label = _groups(panel, by)
    names = list(dict.fromkeys(sorted(label.dropna().unique(), key=_sortable)))
    if len(names) < 2:
        raise DesignError(
            f"`{by}` has {len(names)} groups, and leaving out the only one leaves nothing. Give "
            "'cluster', 'cohort' or a column with several values."
        )
    full = fit(panel, design)
    require_estimates(full, "fit(panel, design)")
    if full.psi is None:
        raise DesignError(
            "the estimates carry no influence, so changes between runs have no interval. Use a "
            "covariance by cluster in `fit`."
        )
    runs, failed = [], []
    with counting(f"leaving out one {by} of {len(names)}", len(names)) as done:
        for name in names:
            try:
                run = fit(panel.keep(label != name, step=f"without one {by}"), design)
            except (DesignError, EstimationError) as error:
                failed.append({"left_out": name, "reason": str(error)})
            else:
                runs.append(_compared(name, run, full))
            done()
    if not runs:
        raise EstimationError(
            f"without any one {by} nothing can be estimated; the first reason: "
            f"{failed[0]['reason']}"
        )
    return LeaveOneOut(
        full=full, estimates=pd.concat(runs, ignore_index=True),
        failed=pd.DataFrame(failed, columns=["left_out", "reason"]), by=by,
    )  # fmt: skip


def _sortable(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then text."""
    if isinstance(value, (int, float, np.number)):
        return (0, float(value), "")
    return (1, 0.0, str(value))


def _groups(panel: Panel, by: str) -> pd.Series:
    """Return what each row belongs to."""
    frame = panel.frame
    column = {"cluster": panel.cluster, "cohort": panel.cohort}.get(by, by)
    if column not in frame:
        raise DesignError(
            f"the panel has no column `{by}` to leave out by; give 'cluster', 'cohort' or one of "
            f"{listed(list(frame.columns))}."
        )
    if panel.people and column == panel.unit:
        raise DesignError(
            "units are people, and an estimate without one of them would show that person. Leave "
            "out organizations: name a coarser column."
        )
    values = frame.drop_duplicates([panel.cluster, column])[panel.cluster]
    several = int((values.value_counts() > 1).sum())
    if several:
        raise DesignError(
            f"`{by}` changes within {several:,} clusters, so leaving out a value would leave parts "
            "of clusters. Use a column that is constant within clusters."
        )
    return frame[column]


def _compared(name: Any, run: Estimates, full: Estimates) -> pd.DataFrame:
    """One run as a table, with its change against the full estimates."""
    keys = list(columns.KEYS)
    same = run.frame[keys].astype(object).equals(full.frame[keys].astype(object))
    if run.psi_vcov is None or not same:
        raise DesignError(
            f"without '{name}' the estimates have other rows ({len(run)} against {len(full)}), so "
            "runs cannot be compared. Let `fit` return an aggregate that every run has."
        )
    own = pd.DataFrame(run.psi_vcov, index=run.clusters)
    other = pd.DataFrame(full.psi_vcov, index=full.clusters)
    gap: FloatArray = own.sub(other, fill_value=0.0).to_numpy(dtype=float)
    table = run.tidy()
    table.insert(0, "left_out", name)
    # bands are over the rows of one run
    return table.drop(columns=["band_low", "band_high"]).assign(
        change=run.estimate - full.estimate, change_std_error=np.sqrt((gap**2).sum(axis=0))
    )
