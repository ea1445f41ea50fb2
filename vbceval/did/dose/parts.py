"""Curves of one stratum, doses of its units, and its numbers as group-time effects."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems
from vbceval.core.disclosure import is_small, say_people
from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.did.blocks import Block, Followed
from vbceval.did.dose.basis import SAME, Basis
from vbceval.did.dose.curves import Curve
from vbceval.did.inputs import shown
from vbceval.estimates import Estimates, Shares
from vbceval.estimates.columns import GROUP_TIME
from vbceval.moments import Moments


class Part(NamedTuple):
    """
    Curves of one stratum.

    Parameters
    ----------
    stratum : str or None
        Its name; None is all together.
    curves : list of Curve
        One a cohort and period.
    masses : dict of float to array, shape (G,)
        Weight of each cohort by cluster.
    basis : Basis
        Functions of the dose.
    grid : array
        Doses that are reported.
    clusters : bool array, shape (G,)
        Clusters used.
    size : float
        Size of the numbers that effects are computed from.
    """

    stratum: str | None
    curves: list[Curve]
    masses: dict[float, FloatArray]
    basis: Basis
    grid: FloatArray
    clusters: BoolArray
    size: float


def unit_doses(
    block: Block,
    index: Followed,
    dose: FloatArray,
    last: float,
    people: bool,
    name: str,
    within: str,
) -> tuple[FloatArray, BoolArray]:
    """
    Return the dose of each followed unit, 0 without entry, and which units have one.

    Units that enter and are not seen afterwards have no known dose: they are left out.

    Raises
    ------
    DesignError
        If treated cells have no positive dose, or a unit has several.
    """
    cohort = block.cohort[index.first]
    treated = np.isfinite(cohort) & (cohort <= last)
    on = np.isfinite(block.cohort) & (block.cohort <= last) & (block.period >= block.cohort)
    problems = Problems(f"{within}the dose `{name}`", DesignError)
    for what, rows, remedy in (
        ("missing or no number", on & np.isnan(dose), "Fill it"),
        ("zero or negative", on & (dose <= 0), "Units without a dose are never treated: make their cohort missing"),
    ):  # fmt: skip
        if rows.any():
            count = int(rows.sum())
            said = say_people(count, "rows") if people else f"{count:,} rows"
            problems.add(f"it is {what} in {said} of treated periods. {remedy}, or drop the rows.")
    problems.raise_if_any()
    seen = np.where((index.at >= 0) & on[index.at], dose[index.at], np.nan)
    known = np.isfinite(seen).any(axis=1)
    high = np.max(np.nan_to_num(seen, nan=-np.inf), axis=1, initial=-np.inf)
    low = np.min(np.nan_to_num(seen, nan=np.inf), axis=1, initial=np.inf)
    if not (treated & known).any():
        raise DesignError(
            f"{within}no treated unit is seen in or after the period of its entry, where its dose "
            f"`{name}` is read. Add such periods."
        )
    varying = int((high[known] - low[known] > SAME * high[known]).sum())
    if varying:
        said = say_people(varying, "units") if people else f"{varying:,} units"
        raise DesignError(
            f"{within}the dose `{name}` changes in treated periods of {said}, but Dose takes one "
            "for each unit. Use its value at entry, or Switching for a treatment that changes."
        )
    return np.where(known & treated, _levels(high, known & treated), 0.0), treated & known


def _levels(dose: FloatArray, known: BoolArray) -> FloatArray:
    """Return doses that differ by rounding (0.1 + 0.2 and 0.3) as the lowest of them."""
    found = np.unique(dose[known])
    apart = found[np.r_[True, np.diff(found) > SAME * found[1:]]]
    return np.asarray(apart[np.maximum(np.searchsorted(apart, dose, side="right") - 1, 0)])


def refuse_failed(found: list[Curve], failed: list[str], n_pairs: int, within: str) -> None:
    """
    Refuse curves that cannot be estimated.

    Parameters
    ----------
    found : list of Curve
        Those that can.
    failed : list of str
        A line for each that cannot.
    n_pairs : int
        Cohorts and periods asked for.
    within : str
        How messages name the stratum.

    Raises
    ------
    DesignError
        If any failed, or there is none.
    """
    if not found and not failed:
        raise DesignError(
            f"{within}no treated unit is seen in its base period and in one of the periods asked "
            "for, so no change is known. Check missing outcomes, or widen `window`."
        )
    if failed:
        lines = "".join(f"\n  {line}" for line in failed)
        raise DesignError(
            f"{within}{len(failed)} of {n_pairs} dose curves cannot be estimated:{lines}\n"
            "Where nobody is left to compare with, end `window` earlier or leave out these "
            "periods; where doses are too few or alike, leave the cohort out or use a simpler "
            "curve; a collinear covariate leave out."
        )


def group_time(
    curves: list[Curve],
    values: list[tuple[float, FloatArray]],
    masses: dict[float, FloatArray],
    labels: pd.Index,
    used: BoolArray,
) -> Estimates:
    """Return one number of each curve as group-time effects, with the shares of cohorts."""
    frame = pd.DataFrame({
        "estimand": GROUP_TIME, "cohort": [c.pair.cohort for c in curves],
        "period": [c.pair.period for c in curves],
        "event_time": [c.pair.event_time for c in curves], "base": [c.pair.base for c in curves],
        "estimate": [value for value, _ in values],
    })  # fmt: skip
    mass = np.column_stack([masses[c.pair.cohort] for c in curves])
    return Estimates(
        frame=frame, psi=np.column_stack([psi for _, psi in values])[used], clusters=labels[used],
        shares=Shares(value=mass.sum(axis=0), psi=mass[used]),
    )  # fmt: skip


def joined(shares: list[Shares], root: FloatArray) -> Shares:
    """Return the shares of all strata, with the root of each row's small-sample factor."""
    return Shares(
        value=np.concatenate([s.value for s in shares]),
        psi=np.concatenate([s.psi for s in shares if s.psi is not None], axis=1),
        vcov_scale=root,
    )


def counts(part: Part, moments: Moments) -> dict[str, float]:
    """Return counts of a stratum: units of the largest comparison, and clusters."""
    by_cohort = {c.pair.cohort: len(c.dose) for c in part.curves}
    small = moments.people and any(bool(is_small(n)) for n in by_cohort.values())
    treated = sum(by_cohort.values())
    comparison = max(c.n_comparison for c in part.curves)
    counts = {"n_treated": treated, "n_comparison": comparison}
    out = {k: np.nan if small else shown(v, moments.people) for k, v in counts.items()}
    own = moments.people and moments.unit_name == moments.cluster_name
    return {
        **out, "n_units": out["n_treated"] + out["n_comparison"],
        "n_clusters": shown(int(part.clusters.sum()), own),
    }  # fmt: skip
