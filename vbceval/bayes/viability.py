"""How large a contract must be for rewards and penalties not to be luck."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from vbceval.bayes.luck import Luck, SavingsNoise, paid_by_luck
from vbceval.core.errors import DataError, DesignError
from vbceval.core.typing import FloatArray

# Thresholds are numbers, or functions of size where a program has a table of minimum savings rates.
Threshold = float | Callable[[FloatArray], ArrayLike]

# Published tables have steps up to 60,000 people. Every size to here is looked at, because a step may
# undo what larger contracts won; beyond, sizes that differ by a ratio.
_EVERY = 200_000
_STEP = 1.0002


def viability(
    sizes: Sequence[float],
    *,
    noise: SavingsNoise,
    msr: Threshold,
    mlr: Threshold | None = None,
    true_saving: float = 0.03,
) -> pd.DataFrame:
    """
    Return chances of undeserved rewards and penalties, and of missed savings, by size.

    Parameters
    ----------
    sizes : sequence of float
        Person-years, or episodes, of a contract and year.
    noise : SavingsNoise
        Sampling error of one person-year or episode.
    msr, mlr : float or callable
        Minimum savings and loss rates, fractions of the benchmark; a function takes sizes. Without
        `mlr` nothing is owed.
    true_saving : float, default 0.03
        True savings that should be rewarded, fraction of the benchmark.

    Returns
    -------
    DataFrame
        ``size``, ``sd`` (of the observed rate without savings), ``false_reward`` and
        ``false_penalty`` (without savings), ``missed_reward`` and ``wrong_penalty`` (with
        `true_saving`).

    Raises
    ------
    DataError
        If a size is not positive, or a rate or the true saving is not a fraction.

    References
    ----------
    .. [1] DeLia, D., Hoover, D. and Cantor, J. C. (2012). Statistical uncertainty in the Medicare
       Shared Savings Program. *Medicare & Medicaid Research Review* 2(4), E1-E16.

    Examples
    --------
    >>> noise = SavingsNoise(person_cv=2.0)
    >>> viability([10_000, 40_000], noise=noise, msr=0.02)[["size", "false_reward"]].round(3)
          size  false_reward
    0  10000.0         0.159
    1  40000.0         0.023
    """
    if not 0 < true_saving < 1:
        raise DataError(
            f"`true_saving` is {true_saving:g}; it is a fraction of the benchmark between 0 and 1 that "
            "should be rewarded. Divide percents by 100."
        )
    n = np.asarray(sizes, dtype=float)
    none = _chances(n, noise, msr, mlr, 0.0)
    some = _chances(n, noise, msr, mlr, true_saving)
    return pd.DataFrame(
        {
            "size": n,
            "sd": none.sd,
            "false_reward": none.reward,
            "false_penalty": none.penalty,
            "missed_reward": 1 - some.reward,
            "wrong_penalty": some.penalty,
        }
    )


def viable_size(
    *,
    noise: SavingsNoise,
    msr: Threshold,
    mlr: Threshold | None = None,
    false_reward: float | None = None,
    false_penalty: float | None = None,
    largest: float = 1e7,
) -> int:
    """
    Return the smallest size from which on chances stay at or below the stated ones.

    Parameters
    ----------
    noise : SavingsNoise
        Sampling error of one person-year or episode.
    msr, mlr : float or callable
        Minimum savings and loss rates, as for `viability`. A table that falls with size keeps
        chances about constant, so that no size may be enough.
    false_reward, false_penalty : float, optional
        Largest accepted chance of a reward, and of a penalty, without savings; one or both.
    largest : float, default 10,000,000
        Sizes are looked at up to here: each of them to 200,000, beyond that in steps of 0.02
        percent.

    Returns
    -------
    int
        Person-years or episodes, rounded up.

    Raises
    ------
    DesignError
        If no size up to `largest` is enough, or no chance is stated.
    DataError
        If a chance is not between 0 and .5, or a penalty has no minimum loss rate.

    Examples
    --------
    >>> viable_size(noise=SavingsNoise(person_cv=2.0), msr=0.02, false_reward=0.05)
    27056
    """
    limits = {"false_reward": false_reward, "false_penalty": false_penalty}
    stated = {name: limit for name, limit in limits.items() if limit is not None}
    if not stated:
        raise DesignError(
            "state the largest accepted chance, as `false_reward` or `false_penalty`."
        )
    if any(not 0 < limit < 0.5 for limit in stated.values()):
        raise DataError(
            "`false_reward` and `false_penalty` are chances between 0 and .5: half of all contracts "
            "without savings are above 0 whatever their size."
        )
    if false_penalty is not None and mlr is None:
        raise DataError("without `mlr` nothing is owed, so there is no chance of a penalty.")

    def enough(n: FloatArray) -> np.ndarray:
        found = _chances(n, noise, msr, mlr, 0.0)
        held = {"false_reward": found.reward, "false_penalty": found.penalty}
        good: np.ndarray = np.logical_and.reduce([held[x] <= limit for x, limit in stated.items()])
        return good

    if not 1 <= largest < np.inf:
        raise DataError(f"`largest` is {largest}; it is a number of person-years, 1 or more.")
    grid = np.arange(1.0, min(_EVERY, largest) + 1)
    if largest > _EVERY:
        steps = 2 + int(np.log(largest / _EVERY) / np.log(_STEP))
        grid = np.union1d(grid, np.round(np.geomspace(_EVERY, largest, steps)))
    fails = np.flatnonzero(~enough(grid))
    if not fails.size:
        return 1
    if fails[-1] == grid.size - 1:
        raise DesignError(
            f"no size up to {largest:,.0f} keeps {' and '.join(stated)} at the stated chances. The "
            "error has a part that does not fall with size (`icc`, `trend_sd`), or the minimum rate "
            "falls as fast as the error."
        )
    between = np.arange(grid[fails[-1]], grid[fails[-1] + 1] + 1)
    return int(between[np.flatnonzero(~enough(between))[-1] + 1])


def _chances(
    n: FloatArray, noise: SavingsNoise, msr: Threshold, mlr: Threshold | None, saving: float
) -> Luck:
    reach = msr(n) if callable(msr) else msr
    owe = np.nan if mlr is None else mlr(n) if callable(mlr) else mlr
    return paid_by_luck(n, noise=noise, msr=reach, mlr=owe, true_saving=saving)
