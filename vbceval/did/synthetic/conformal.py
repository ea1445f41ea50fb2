"""Tests of a synthetic control over periods: conformal inference and jackknife+."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray
from vbceval.did.synthetic.control import Paths

Refit = Callable[[Paths], FloatArray]
"""Gaps, treated less synthetic in every period, of weights fitted on the periods before entry."""

Permutations = Literal["block", "iid"]


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
    if permutations == "block":
        orders = (np.arange(n)[None, :] + np.arange(n)[:, None]) % n
    else:
        orders = np.array([rng.permutation(n) for _ in range(size)])
    after = gaps[orders[:, paths.n_pre :]]
    scale = np.sqrt(n - paths.n_pre)

    def statistic(values: FloatArray) -> FloatArray:
        return np.asarray(((np.abs(values) ** power).sum(axis=-1) / scale) ** (1 / power))

    # shifting by nothing repeats the gaps themselves, up to rounding
    own = statistic(gaps[paths.n_pre :]) * (1 - 1e-12)
    return float((own <= statistic(after)).mean())


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
        Probability of the interval.
    grid : int
        Number of values tried, within two root mean square effects of the estimate; 0 as well.
    """
    n = paths.n_pre
    gaps = refit(paths)
    spread = 2 * float(np.sqrt(np.mean(gaps[n:] ** 2)))
    tried = np.append(np.linspace(gaps[period] - spread, gaps[period] + spread, grid), 0.0)
    one = paths.take(np.append(np.arange(n), period), n + 1)
    p = np.empty(len(tried))
    for i, value in enumerate(tried):
        y1 = one.y1.copy()
        y1[-1] -= value
        size = np.abs(refit(one._replace(y1=y1)))
        p[i] = (size[-1] * (1 - 1e-12) <= size).mean()
    kept = tried[p >= 1 - level]
    return PeriodTest(float(p[-1]), float(kept.min()), float(kept.max()))


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
