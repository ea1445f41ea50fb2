"""Tests of a synthetic control over periods: conformal inference and jackknife+."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from vbceval.core.checks import Problems
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import FloatArray
from vbceval.did.synthetic.control import NOTHING, Paths

Refit = Callable[[Paths], FloatArray]
"""Gaps, treated less synthetic in every period, of weights fitted on the periods before entry."""

Permutations = Literal["block", "iid"]

_FARTHEST = 2.0**20
_TIE = 1e-12


def check_options(
    level: float,
    permutations: str = "block",
    size: int = 1,
    power: float = 1.0,
    grid: int = 2,
) -> None:
    """Raise a DesignError that names every option out of range; see `SyntheticControl.conformal`."""
    problems = Problems("the options of tests over periods", DesignError)
    if not 0 < level < 1:
        problems.add(f"`level` is {level}: give a probability between 0 and 1.")
    if permutations not in ("block", "iid"):
        problems.add(f"`permutations` is {permutations!r}; use 'block' or 'iid'.")
    for name, value, least in (("size", size, 1), ("grid", grid, 2)):
        if value < least:
            problems.add(f"`{name}` is {value}; give {least} or more.")
    if not power > 0:
        problems.add(f"`power` is {power}; a norm needs a positive one.")
    problems.raise_if_any()


class PeriodTest(NamedTuple):
    """p-value of no effect, and the interval of effects that are not rejected."""

    p_value: float
    low: float
    high: float


def joint_p_value(
    paths: Paths,
    refit: Refit,
    *,
    permutations: Permutations,
    size: int,
    power: float,
    rng: np.random.Generator,
) -> float:
    """
    Test that there is no effect in any period after entry.

    Weights are fitted on every period, as if none were treated, and the size of the gaps after
    entry is compared with that of the same gaps in another order (Chernozhukov, Wuthrich and Zhu
    2021).

    Parameters
    ----------
    paths : Paths
        Paths of one cohort.
    refit : callable
        Fits weights.
    permutations : {"block", "iid"}
        Shifts of all gaps by 0, 1, 2, ... periods, or random orders.
    size : int
        Number of random orders.
    power : float
        The statistic is (sum |gap|^power / sqrt(n))^(1/power).
    rng : Generator
        Random numbers.
    """
    n = len(paths.y1)
    gaps = refit(paths._replace(n_pre=n))
    gaps[np.abs(gaps) <= _nothing(paths)] = 0.0
    if permutations == "block":
        orders = (np.arange(n)[None, :] + np.arange(n)[:, None]) % n
    else:
        orders = np.array([rng.permutation(n) for _ in range(size)])
    after = gaps[orders[:, paths.n_pre :]]
    scale = np.sqrt(n - paths.n_pre)

    def statistic(values: FloatArray) -> FloatArray:
        return np.asarray(((np.abs(values) ** power).sum(axis=-1) / scale) ** (1 / power))

    # shifting by nothing repeats the gaps themselves, up to rounding
    own = statistic(gaps[paths.n_pre :]) * (1 - _TIE)
    reached = own <= statistic(after)
    # random orders leave out the observed one, without which p could be zero
    return float(reached.mean() if permutations == "block" else (1 + reached.sum()) / (1 + size))


def period_test(paths: Paths, period: int, refit: Refit, *, level: float, grid: int) -> PeriodTest:
    """
    Test the effect of one period after entry, and invert the test.

    Under each value of the effect, weights are fitted on the periods before entry and this one,
    the effect taken out; the p-value is the share of gaps at least as large as this one, which is
    exact for permutations of any kind.

    Parameters
    ----------
    paths : Paths
        Paths of one cohort.
    period : int
        Position of the period.
    refit : callable
        Fits weights.
    level : float
        Probability of the interval. It is infinite where periods before entry are so few that no
        p-value can be as small as ``1 - level``.
    grid : int
        Number of values tried, within two root mean square effects of the estimate; 0 as well.
        Where one of the two outer values is not rejected, the search goes on beyond it; where all
        are, nearer to the estimate.
    """
    n = paths.n_pre
    gaps = refit(paths)
    centre = float(gaps[period])
    one = paths.take(np.append(np.arange(n), period), n + 1)
    tie = _nothing(paths)

    def p_value(effect: float) -> float:
        y1 = one.y1.copy()
        y1[-1] -= effect
        size = np.abs(refit(one._replace(y1=y1)))
        return float((size[-1] * (1 - _TIE) - tie <= size).mean())

    def kept(effect: float) -> bool:
        return p_value(effect) > 1 - level + _TIE  # 1 - 0.9 is a little below 0.1

    none = p_value(0.0)
    if 1 / (n + 1) > 1 - level + _TIE:
        return PeriodTest(none, -np.inf, np.inf)
    spread = max(2 * float(np.sqrt(np.mean(gaps[n:] ** 2))), tie)
    inside = np.zeros(0)
    while len(inside) < 2 and spread >= max(tie, abs(centre) * _TIE) > 0:
        tried = np.linspace(centre - spread, centre + spread, grid)
        inside = tried[[kept(float(value)) for value in tried]]
        spread /= 10
    if not len(inside):
        # the gap that is left at the estimate itself, or data without any variation
        return PeriodTest(none, centre, centre)
    low, high = float(inside[0]), float(inside[-1])
    step = float(tried[1] - tried[0])
    if low == tried[0]:
        low = _beyond(kept, low, -step)
    if high == tried[-1]:
        high = _beyond(kept, high, step)
    if none > 1 - level + _TIE:
        low, high = min(low, 0.0), max(high, 0.0)
    return PeriodTest(none, low, high)


def _beyond(kept: Callable[[float], bool], end: float, step: float) -> float:
    """Return the last value that is kept from `end` on, up to `step`; infinite if none is not."""
    inner, outer = 0.0, 1.0
    while kept(end + outer * step):
        inner, outer = outer, 2 * outer
        if outer > _FARTHEST:
            return float(np.copysign(np.inf, step))
    while outer - inner > 1:
        middle = (inner + outer) / 2
        inner, outer = (middle, outer) if kept(end + middle * step) else (inner, middle)
    return end + inner * step


def _nothing(paths: Paths) -> float:
    """Return the size of gaps that the solver leaves where donors follow the treated exactly."""
    return NOTHING * float(np.sqrt(np.mean((paths.y0 - paths.y1) ** 2)))


def jackknife_plus(paths: Paths, refit: Refit, *, level: float) -> tuple[FloatArray, FloatArray]:
    """
    Return lower and upper ends of effects after entry and of their mean, shape (T1 + 1,).

    Each period before entry is left out in turn; its own gap is the error of the predictions
    made without it (Barber et al. 2021; R `augsynth` `inf_type="jackknife+"`).

    Parameters
    ----------
    paths : Paths
        Paths of one cohort.
    refit : callable
        Fits weights.
    level : float
        Nominal probability; at least 2 level - 1 is guaranteed if periods are exchangeable.

    Raises
    ------
    EstimationError
        If there is one period before entry.
    """
    n = paths.n_pre
    if n < 2:
        raise EstimationError(
            "jackknife+ leaves out each period before entry, and there is one. Add earlier "
            "periods, or use `conformal`."
        )
    after = np.arange(n, len(paths.y1))
    every = []
    for t in range(n):
        rest = np.delete(np.arange(n), t)
        gaps = refit(paths.take(np.concatenate([rest, [t], after]), n - 1))[n - 1 :]
        error = abs(gaps[0])
        effect = np.append(gaps[1:], gaps[1:].mean())
        every.append((effect - error, effect + error))
    low, high = np.moveaxis(np.array(every), 1, 0)
    tail = (1 - level) / 2
    return np.quantile(low, tail, axis=0), np.quantile(high, 1 - tail, axis=0)
