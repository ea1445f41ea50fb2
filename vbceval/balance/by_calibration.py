"""Comparison weights that reach the treated means exactly, or totals from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal, Unpack

import numpy as np

from vbceval.balance import calibration
from vbceval.balance.features import Features, SampleOptions
from vbceval.balance.measure import as_features
from vbceval.balance.tables import pooled_sd
from vbceval.balance.weights import BalanceWeights, Step
from vbceval.core.checks import listed
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.moments import Moments
from vbceval.panel import Panel


def entropy(
    data: Panel | Moments | Features,
    covariates: Sequence[str] = (),
    *,
    moments: Literal[1, 2, 3] = 1,
    interactions: bool = False,
    tolerance: float = 0.0,
    weights_random: bool = True,
    **sample: Unpack[SampleOptions],
) -> BalanceWeights:
    """
    Weight the comparison so that its means are those of the treated (entropy balancing).

    Of all positive weights that balance, those nearest to the base weights in relative entropy.
    Treated keep weight 1; base times balance weight adds up to the same number on both sides.

    Parameters
    ----------
    data : Panel, Moments or Features
        Data, or features measured by `vbceval.balance.features`.
    covariates : sequence of str
        Columns that become features; see `features`.
    moments : {1, 2, 3}
        Balance means; also variances; also skewness. Features of two values have means only.
    interactions : bool, default False
        Also balance products of each two features.
    tolerance : float, default 0
        Allowed difference of means, in standard deviations of the balance table (pooled, between
        organizations). Above zero the weights vary less.
    weights_random : bool, default True
        Let errors of effects include the estimation of the weights.
    **sample
        Options of `features`: ``by_period``, ``baseline``, ``anticipation``, ``cohorts``,
        ``level``, ``base``.

    Returns
    -------
    BalanceWeights

    Raises
    ------
    DesignError
        As `features`; or if no positive weights reach the treated means: it names the features
        that stand in the way and the smallest tolerance that can be met.
    EstimationError
        If the means lie at the very edge of what weights can reach.

    References
    ----------
    .. [1] Hainmueller, J. (2012). Entropy balancing for causal effects. *Political Analysis* 20(1),
       25-46. Section 3.2.
    .. [2] Zhao, Q. and Percival, D. (2017). Entropy balancing is doubly robust. *Journal of Causal
       Inference* 5(1).
    .. [3] Zubizarreta, J. R. (2015). Stable weights that balance covariates for estimation with
       incomplete outcome data. *Journal of the American Statistical Association* 110(511).

    Examples
    --------
    >>> import pandas as pd
    >>> import vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": list("ABCDEF") * 2, "year": [2014] * 6 + [2015] * 6,
    ...     "entry": [2015.0, 2015.0, None, None, None, None] * 2,
    ...     "hcc": [1.0, 1.2, 0.8, 1.0, 1.2, 1.4] * 2})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> weights = vbc.balance.entropy(panel, ["hcc"], tolerance=0.0)
    >>> weights.to_series().round(3).tolist()
    [1.0, 1.0, 0.5, 0.5, 0.5, 0.5]
    """
    if moments not in (1, 2, 3):
        raise DesignError(f"`moments` is {moments}; use 1 (means), 2 or 3.")
    made = as_features(data, covariates, sample)
    return _calibrate(
        made, "entropy balancing", calibration.raking(), tolerance=tolerance, moments=moments,
        interactions=interactions, totals=None, weights_random=weights_random,
    )  # fmt: skip


def calibrate(
    data: Panel | Moments | Features,
    covariates: Sequence[str] = (),
    *,
    totals: Mapping[str, float] | None = None,
    distance: Literal["raking", "linear", "bounded"] = "raking",
    bounds: tuple[float, float] = (0.1, 10.0),
    tolerance: float = 0.0,
    weights_random: bool = True,
    **sample: Unpack[SampleOptions],
) -> BalanceWeights:
    """
    Weight the comparison to means of the treated or from outside, with a choice of distance.

    Parameters
    ----------
    data : Panel, Moments or Features
        As in `entropy`.
    covariates : sequence of str
        As in `entropy`.
    totals : mapping of str to float, optional
        Means to reach, for every feature, for example of all providers of a region. Default: those
        of the treated. Numbers given here are taken as known.
    distance : {"raking", "linear", "bounded"}
        Ratio of weight to base weight: exp(u), positive (entropy balancing); 1 + u (generalised
        regression), an error if a weight is negative; logistic between `bounds`.
    bounds : (float, float)
        Smallest and largest ratio for "bounded", around 1, after base weights are scaled to add up
        to the treated.
    tolerance : float, default 0
        As in `entropy`.
    weights_random : bool, default True
        As in `entropy`.
    **sample
        Options of `features`.

    Returns
    -------
    BalanceWeights

    Raises
    ------
    DesignError
        As `entropy`, or if totals name other features.

    References
    ----------
    .. [1] Deville, J.-C. and Sarndal, C.-E. (1992). Calibration estimators in survey sampling.
       *Journal of the American Statistical Association* 87(418), 376-382.
    """
    if distance not in ("raking", "linear", "bounded"):
        raise DesignError(f"`distance` is '{distance}'; use 'raking', 'linear' or 'bounded'.")
    if distance == "bounded" and not 0 <= bounds[0] < 1 < bounds[1] < np.inf:
        raise DesignError(f"`bounds` are {bounds}; give a low end in 0..1 and a high end above 1.")
    if distance != "bounded" and bounds != (0.1, 10.0):
        raise DesignError(f"`bounds` belong to distance='bounded', not to '{distance}'.")
    made = as_features(data, covariates, sample)
    if totals is not None:
        different = set(totals) ^ set(made.names)
        if different:
            raise DesignError(
                f"`totals` and the features differ in {listed(sorted(different))}: give a mean "
                f"for each of {listed(made.names)}, a category by its columns."
            )
    if distance == "bounded":
        law = calibration.bounded(*bounds)
    else:
        law = calibration.linear() if distance == "linear" else calibration.raking()
    return _calibrate(
        made, f"calibration, {distance}", law, tolerance=tolerance, moments=1, interactions=False,
        totals=totals, weights_random=weights_random,
    )  # fmt: skip


def _calibrate(
    made: Features,
    method: str,
    distance: calibration.Distance,
    *,
    tolerance: float,
    moments: int,
    interactions: bool,
    totals: Mapping[str, float] | None,
    weights_random: bool,
) -> BalanceWeights:
    if not 0 <= tolerance < np.inf:
        raise DesignError(f"`tolerance` is {tolerance}; give standard deviations, 0 or more.")
    wide = _expanded(made, moments, interactions)
    kept, lost = wide.independent(wide.included)
    centre, sd = (v[kept] for v in wide.centre_and_sd())
    x = np.column_stack([np.ones(len(wide.z)), (wide.z[:, kept] - centre) / sd])
    names = [wide.names[j] for j in kept]
    target = x
    if totals is not None:
        given = np.array([float(totals[name]) for name in names])
        target = np.tile(np.append(1.0, (given - centre) / sd), (len(x), 1))
    d, c = wide.treated, wide.comparison
    q = wide.base[c] * (wide.base @ d / (wide.base @ c))
    total = (wide.base * d) @ target
    # one standard deviation of the balance table, in the units of each column
    width = np.append(0.0, pooled_sd(wide)[kept] / sd)
    spanned: tuple[str, ...] = ()
    if tolerance == 0:
        columns, spanned = _free_of_span(wide, x, q, total, names)
        x, target, total, width = x[:, columns], target[:, columns], total[columns], width[columns]
        names = calibration.named(columns[1:].tolist(), names)
    try:
        fit = calibration.calibrated(x[c], q, total, distance, width * tolerance)
    except EstimationError:
        # a solution proves that one exists; without one, a linear program says why
        blocked = calibration.blocking(x[c], q, total, distance, width, tolerance)
        if blocked is None:
            raise
        raise _infeasible(method, *blocked, names, tolerance) from None
    weight = np.where(d, 1.0, 0.0)
    weight[c] = fit.ratio * (wide.base @ d / (wide.base @ c))
    step = None
    if weights_random:
        step = Step(*calibration.influence(fit, x, wide.base, target, d, c))
    slack = [names[j - 1] for j in range(1, x.shape[1]) if j not in fit.active]
    return BalanceWeights(
        method=method, features=made, weight=weight, step=step,
        meta={
            "tolerance": tolerance, "moments": moments, "interactions": interactions,
            "totals": "given" if totals is not None else "treated", "left_out": (*lost, *spanned),
            "slack": tuple(slack),
        },
    )  # fmt: skip


def _expanded(made: Features, moments: int, interactions: bool) -> Features:
    """Return features with powers and products of the standardised ones."""
    z = made.standardised()
    columns, names = [made.z], list(made.names)
    many = [j for j in range(z.shape[1]) if len(np.unique(z[made.included, j])) > 2]
    for power in range(2, moments + 1):
        columns.append(z[:, many] ** power)
        names += [f"{made.names[j]}^{power}" for j in many]
    if interactions:
        pairs = list(combinations(range(z.shape[1]), 2))
        columns.append(np.column_stack([z[:, i] * z[:, j] for i, j in pairs] or [z[:, :0]]))
        names += [f"{made.names[i]} x {made.names[j]}" for i, j in pairs]
    all_z = np.column_stack(columns)
    return replace(made, z=all_z, within=np.zeros_like(all_z), names=tuple(names))


def _free_of_span(
    made: Features, x: FloatArray, q: FloatArray, total: FloatArray, names: list[str]
) -> tuple[IntArray, tuple[str, ...]]:
    """
    Return columns that the comparison does not span, the constant first, and the other features.

    Raises
    ------
    DesignError
        If the totals of the others do not agree with what spans them: no weights can reach them.
    """
    only = replace(made, z=x[:, 1:], within=np.zeros_like(x[:, 1:]), names=tuple(names))
    free, spanned = only.independent(made.comparison)
    columns = np.append(0, free + 1)
    others = np.setdiff1d(np.arange(x.shape[1]), columns)
    rows = x[made.comparison] * np.sqrt(q)[:, None]
    slope = np.linalg.lstsq(rows[:, columns], rows[:, others], rcond=None)[0]
    gap = np.abs(total[columns] @ slope - total[others]) / total[0]
    far = calibration.named(others[gap > 1e-8].tolist(), names)
    if far:
        raise DesignError(
            f"{listed(far)} cannot be balanced: among comparison organizations it does not vary "
            "apart from the other features, and the treated differ in it. Leave it out, or leave "
            "out the treated organizations (or cohorts) that have no counterpart."
        )
    return columns, spanned


def _infeasible(
    method: str, least: float, alone: IntArray, names: list[str], tolerance: float
) -> DesignError:
    within = f" within {tolerance:g} standard deviations" if tolerance else ""
    culprits = calibration.named(alone.tolist(), names)
    how = (
        f"Without {' or '.join(f'`{x}`' for x in culprits)} the others can be balanced: leave it "
        "out"
        if culprits
        else "Leaving out one feature is not enough: leave out several"
    )
    ways = ["leave out treated organizations without a counterpart"]
    if least < 10:
        ways.append(f"use tolerance={np.ceil(least * 100) / 100:g} or more")
    return DesignError(
        f"{method} is not possible: no admissible weights of comparison organizations reach the "
        f"means asked for{within}, because they lie outside of what is found in the comparison. "
        f"{how}, or {', or '.join(ways)}."
    )
