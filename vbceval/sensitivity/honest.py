"""How far may trends differ before a conclusion fails (Rambachan and Roth 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy import special

from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates
from vbceval.sensitivity.event_path import EventPath, Varying, event_path
from vbceval.sensitivity.restrictions import Bound, Direction, Restriction, Sign, differences
from vbceval.sensitivity.robust_set import Grid, Method, Problem, RobustSet

Target = Literal["first", "average"] | Mapping[float, float] | Sequence[float] | FloatArray

RELATIVE_SIZES = tuple(np.arange(9) / 4)
"""Default sizes of relative restrictions: 0, .25, ..., 2."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Honest:
    """
    Robust confidence sets of one effect for trends of growing size.

    Parameters
    ----------
    table : DataFrame
        See `tidy`.
    breakdown : float
        The smallest size of the restriction at which `null` is in the set: 0 if it is in the
        smallest set, infinity if in none. Relative restrictions: a multiple of the largest change
        before entry; smoothness: in the unit of the outcome a period. Missing if not asked for.
    null : float
        The value of the effect that the breakdown is about.
    restriction : str
        Name of the restriction in the paper, such as "DeltaRM".
    relative : bool
        Whether sizes are multiples of what is seen before entry.
    method : str
        "FLCI", "C-LF", "C-F" or "conditional".
    level : float
        Confidence level of every set.
    target : str
        The effect, in words.
    path : EventPath
        The coefficients used.
    notes : tuple of str
        What was done beyond the method, and what to beware of.
    """

    table: pd.DataFrame
    breakdown: float
    null: float
    restriction: str
    relative: bool
    method: str
    level: float
    target: str
    path: EventPath
    notes: tuple[str, ...]

    def tidy(self) -> pd.DataFrame:
        """
        Return one row for the interval under parallel trends, then one for each size.

        Returns
        -------
        DataFrame
            ``outcome, unit_of_measure, target, restriction, method, m`` (missing: parallel trends),
            ``estimate`` (of "FLCI" its own, which extrapolates trends; missing for other sets),
            ``conf_low, conf_high, level, excludes_null, pieces`` (0: no effect is compatible with
            the restriction; 2 or more: the set has holes), ``note``.
        """
        return self.table.copy()


def honest(
    est: Estimates,
    *,
    restriction: Bound = "relative_magnitudes",
    m: Sequence[float] | FloatArray | None = None,
    target: Target = "first",
    bias: Sign | None = None,
    monotone: Direction | None = None,
    method: Method | None = None,
    level: float = 0.95,
    null: float = 0.0,
    breakdown: bool = True,
    grid: Grid | Literal["honestdid"] | None = None,
    anticipation: int | None = None,
    varying: Varying = "refuse",
    first_share: float = 0.1,
    inflate_below: float = 20.0,
) -> Honest:
    """
    Bound an effect when trends may differ, by how much is assumed.

    The estimates are read as effect plus difference in trends, which is zero at the last period
    before entry and equals the leads before it. A restriction says which differences after entry
    are possible given those before; the set of a size covers every effect compatible with it.

    Parameters
    ----------
    est : Estimates
        An event study with leads, group-time effects, or `from_numbers`.
    restriction : {"relative_magnitudes", "smoothness", "relative_smoothness"}
        "relative_magnitudes": the difference in trends changes between two periods after entry by
        at most M times the largest change before entry (DeltaRM). "smoothness": its slope changes
        between periods by at most M (DeltaSD); 0 is a linear trend. "relative_smoothness": its
        slope changes by at most M times the largest change of slope before entry (DeltaSDRM).
    m : sequence of float, optional
        Sizes M. Default: 0, .25, ..., 2; for "smoothness" ten from 0 to the upper 95 % confidence
        bound of the largest change of slope before entry.
    target : {"first", "average"}, mapping or array, default "first"
        The effect in the first period at or after entry, the mean of all of them, weights by event
        time, or weights of the coefficients after the reference period in order.
    bias : {"positive", "negative"}, optional
        Known sign of the difference in trends after entry.
    monotone : {"increasing", "decreasing"}, optional
        Known direction of the difference in trends.
    method : {"FLCI", "C-LF", "C-F", "conditional"}, optional
        "FLCI": shortest interval of fixed length, for smoothness without sign or direction, where
        it is the default. "C-LF", "C-F": conditional test after a least favourable, or a
        fixed-length, first stage; "C-F" is the default for smoothness with a sign or direction,
        "C-LF" for relative restrictions. "conditional": no first stage.
    level : float, default 0.95
        Confidence level.
    null : float, default 0
        Value of the effect whose breakdown is sought, in the unit of the outcome.
    breakdown : bool, default True
        Search for it.
    grid : (low, high, points) or "honestdid", optional
        Report the accepted points of a grid, not refined; "honestdid" is the default grid of the R
        package. Default: a grid that is widened until the set ends inside, with ends refined.
    anticipation, varying
        See `vbceval.sensitivity.event_path.event_path`: periods before entry whose effect may not
        be zero, and what to do with leads of a varying base.
    first_share : float, default 0.1
        Share of 1 - level spent in the first stage of a hybrid.
    inflate_below : float, default 20
        With fewer degrees of freedom the covariance is multiplied by the squared ratio of t to
        normal quantile, since the methods assume normal errors; 0 never does.

    Returns
    -------
    Honest

    Raises
    ------
    DesignError
        If leads are too few or of a varying base, options do not fit together, `target` is of the
        wrong length, or `null` or `grid` are no numbers in order.
    EstimationError
        If the covariance is singular.

    References
    ----------
    .. [1] Rambachan, A. and Roth, J. (2023). A more credible approach to parallel trends. *Review
       of Economic Studies* 90(5), 2555-2591.

    Examples
    --------
    >>> from vbceval.sensitivity.event_path import from_numbers
    >>> est = from_numbers([0.1, -0.1, 2.0, 3.0], 0.04 * np.eye(4), pre=2)
    >>> out = honest(est, m=[0, 1])
    >>> out.tidy()[["m", "conf_low", "conf_high"]].round(1).values.tolist()
    [[nan, 1.6, 2.4], [0.0, 1.6, 2.4], [1.0, 1.2, 2.8]]
    >>> round(out.breakdown, 1)
    2.9
    """
    path = event_path(est, anticipation=anticipation, varying=varying)
    path = path.inflated(inflate_below, level)
    allowed = Restriction(bound=restriction, bias=bias, monotone=monotone)
    allowed.require(path.n_pre)
    if not 0 < level < 1 or not 0 < first_share < 1:
        raise DesignError(
            f"`level` is {level} and `first_share` {first_share}: both lie between 0 and 1."
        )
    if not np.isfinite(null):
        raise DesignError(f"`null` is {null}: give the value of the effect that is sought.")
    _require_grid(grid)
    weights, words = target_weights(path, target)
    problem = Problem(
        path=path, target=weights, restriction=allowed, method=_method(method, allowed),
        alpha=1 - level, first_share=first_share,
    )  # fmt: skip
    sizes = _sizes(m, problem)
    sets = [problem.robust_set(x, problem.honestdid_grid(x) if grid == "honestdid" else grid)
            for x in sizes]  # fmt: skip
    scale = 1.0 if allowed.relative else max(problem.std_error, 1e-300)
    table = _table(problem, sizes, sets, words, null)
    return Honest(
        table=table, breakdown=problem.breakdown(null, scale) if breakdown else np.nan, null=null,
        restriction=allowed.label, relative=allowed.relative, method=problem.method, level=level,
        target=words, path=path, notes=(*path.notes, *table["note"].dropna().unique()),
    )  # fmt: skip


def _require_grid(grid: Grid | Literal["honestdid"] | None) -> None:
    if grid is None or isinstance(grid, str):
        if grid not in (None, "honestdid"):
            raise DesignError(f"`grid` is {grid!r}; use 'honestdid' or (low, high, points).")
        return
    low, high, points = grid
    if not (-np.inf < low < high < np.inf and points >= 2 and points == int(points)):
        raise DesignError(
            f"`grid` is {tuple(grid)}; give its lower end, its upper end, and a number of points of 2 "
            "or more."
        )


def target_weights(path: EventPath, target: Target) -> tuple[FloatArray, str]:
    """
    Return the weights of the coefficients after the reference, and the effect in words.

    Raises
    ------
    DesignError
        If `target` names no such effect or has another length.
    """
    times = path.event_time[path.n_pre :]
    weights = np.zeros(len(times))
    entered = np.flatnonzero(times >= 0)
    if isinstance(target, str):
        if target not in ("first", "average"):
            raise DesignError(f"`target` is {target!r}; use 'first', 'average' or weights.")
        if not len(entered):
            raise DesignError("there is no effect at or after entry; give weights as `target`.")
        if target == "first":
            weights[entered[0]] = 1.0
            return weights, f"effect at event time {times[entered[0]]:g}"
        weights[entered] = 1 / len(entered)
        return weights, f"mean effect at event times {times[entered[0]]:g} to {times[-1]:g}"
    if isinstance(target, Mapping):
        unknown = [f"{e:g}" for e in target if e not in times]
        if unknown:
            raise DesignError(
                f"`target` has weights at event times {', '.join(unknown)}, but effects are known "
                f"at {', '.join(f'{t:g}' for t in times)}."
            )
        for e, weight in target.items():
            weights[times == e] = weight
    else:
        given = np.asarray(target, dtype=float).ravel()
        if len(given) != len(times):
            raise DesignError(
                f"`target` has {len(given)} weights, but {len(times)} coefficients follow the "
                f"reference period (event times {', '.join(f'{t:g}' for t in times)})."
            )
        weights = given
    if not np.isfinite(weights).all() or not weights.any():
        raise DesignError("`target` needs finite weights that are not all zero.")
    used = np.flatnonzero(weights)
    if len(used) == 1 and weights[used[0]] == 1:
        return weights, f"effect at event time {times[used[0]]:g}"
    parts = [f"{weights[i]:.3g} at {times[i]:g}" for i in used]
    return weights, f"weighted effects: {', '.join(parts)}"


def largest_slope_change(path: EventPath, level: float = 0.95) -> float:
    """
    Return an upper confidence bound of the largest change of slope before entry.

    The largest one-sided bound over periods and signs, as a benchmark for the size of a smoothness
    restriction; with one coefficient before the reference, its standard error.
    """
    rows = differences(path.n_pre, path.n_post, 2)[: path.n_pre - 1]
    if not len(rows):
        return float(path.std_error[0])
    size = np.abs(rows @ path.estimate)
    sd = np.sqrt(np.einsum("rk,kl,rl->r", rows, path.vcov, rows))
    return float((size + special.ndtri(level) * sd).max())


def _method(method: Method | None, allowed: Restriction) -> Method:
    if method is None:
        if allowed.relative:
            return "C-LF"
        return "C-F" if allowed.shaped else "FLCI"
    if method not in get_args(Method):
        raise DesignError(f"`method` is {method!r}; use one of {', '.join(get_args(Method))}.")
    if method in ("FLCI", "C-F") and allowed.relative:
        raise DesignError(
            f"`method` {method!r} needs bounds that do not depend on the data, so it fits "
            "restriction='smoothness' only; use 'C-LF' or 'conditional'."
        )
    if method == "FLCI" and allowed.shaped:
        raise DesignError(
            "an interval of fixed length cannot use a sign or a direction of the bias: it would be "
            "the one without. Use 'C-F' or 'C-LF'."
        )
    return method


def _sizes(m: Sequence[float] | FloatArray | None, problem: Problem) -> list[float]:
    if m is None and problem.restriction.relative:
        return list(RELATIVE_SIZES)
    if m is None:
        return list(np.linspace(0.0, largest_slope_change(problem.path), 10))
    sizes = [float(x) for x in np.atleast_1d(np.asarray(m, dtype=float))]
    if not sizes or any(not 0 <= x < np.inf for x in sizes):
        raise DesignError("`m` needs sizes that are finite and not negative.")
    return sizes


def _table(
    problem: Problem, sizes: list[float], sets: list[RobustSet], words: str, null: float
) -> pd.DataFrame:
    path = problem.path
    z = float(special.ndtri(1 - problem.alpha / 2))
    point, se = problem.point, problem.std_error
    rows: list[dict[str, Any]] = [{
        "restriction": "parallel trends", "method": "normal", "m": np.nan, "estimate": point,
        "conf_low": point - z * se, "conf_high": point + z * se, "pieces": 1, "note": None,
    }]  # fmt: skip
    for size, found in zip(sizes, sets, strict=True):
        rows.append({
            "restriction": problem.restriction.label, "method": problem.method, "m": size,
            "estimate": found.center, "conf_low": found.low, "conf_high": found.high,
            "pieces": found.pieces, "note": _note(found),
        })  # fmt: skip
    table = pd.DataFrame(rows)
    table["excludes_null"] = ~((table["conf_low"] <= null) & (table["conf_high"] >= null))
    table["level"] = 1 - problem.alpha
    table["outcome"], table["unit_of_measure"] = path.outcome or None, path.unit_of_measure or None
    table["target"] = words
    return table[[
        "outcome", "unit_of_measure", "target", "restriction", "method", "m", "estimate",
        "conf_low", "conf_high", "level", "excludes_null", "pieces", "note",
    ]]  # fmt: skip


def _note(found: RobustSet) -> str | None:
    if not found.pieces:
        return "no effect is compatible with the restriction: trends before entry violate it"
    if found.on_grid:
        return "the set reaches the end of the grid"
    if not np.isfinite([found.low, found.high]).all():
        return "the set has no end within the values searched"
    if found.pieces > 1:
        return "the set has holes; its ends are shown"
    return None
