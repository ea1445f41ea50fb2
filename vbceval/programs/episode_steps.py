"""Steps that programs paying for episodes share: arrays in, arrays out.

Amounts are US dollars; organizations in rows, draws in columns; every function broadcasts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vbceval.core.typing import FloatArray, IntArray
from vbceval.programs.conditions import refuse_outside


def counted_spending(
    spending: ArrayLike, above: ArrayLike, *, share_above: ArrayLike
) -> FloatArray:
    """
    Return spending with the part above a threshold of the episode counted in part.

    Parameters
    ----------
    spending : array_like
        Spending of the episodes.
    above : array_like
        The part of it above the threshold of each episode, added up.
    share_above : array_like
        Share of that part which is counted.

    Examples
    --------
    >>> float(counted_spending(90_000.0, 30_000.0, share_above=0.2))
    66000.0
    """
    above = np.asarray(above, dtype=float)
    return np.asarray(np.asarray(spending) - (1 - np.asarray(share_above)) * above, dtype=float)


def quality_adjusted(
    amount: ArrayLike, score: ArrayLike, *, gain: ArrayLike, loss: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """
    Return the share that quality takes off a reconciliation amount, and what remains of it.

    A perfect score keeps all of a gain and takes the full share off a loss.

    Parameters
    ----------
    amount : array_like
        Reconciliation amount: positive to be paid, negative to be repaid.
    score : array_like
        Composite quality score, 0 to 100.
    gain, loss : array_like
        Largest share taken off a positive and off a negative amount.

    Returns
    -------
    share, remaining : ndarray of float

    Examples
    --------
    >>> share, left = quality_adjusted([60_000.0, -140_000.0], 60.0, gain=0.1, loss=0.1)
    >>> share.round(4).tolist(), left.round(2).tolist()
    ([0.04, 0.06], [57600.0, -131600.0])
    """
    amount = np.asarray(amount, dtype=float)
    good = np.asarray(score, dtype=float) / 100.0
    share = np.where(amount > 0, np.asarray(gain) * (1 - good), np.asarray(loss) * good)
    return np.asarray(share), np.asarray(amount * (1 - share))


def step(value: ArrayLike, rows: Sequence[Sequence[float]]) -> FloatArray:
    """
    Return the points of the highest step that a value reaches; 0 below the first.

    Parameters
    ----------
    value : array_like
        Values, such as percentiles.
    rows : sequence of (from, points)
        Steps in any order; a value equal to `from` reaches the step.

    Examples
    --------
    >>> step([95.0, 90.0, 29.9], [(90.0, 10.0), (30.0, 5.5)]).tolist()
    [10.0, 10.0, 0.0]
    """
    table = np.asarray(sorted((float(r[0]), float(r[1])) for r in rows))
    reached = np.searchsorted(table[:, 0], np.asarray(value, dtype=float), side="right")
    points = np.concatenate([[0.0], table[:, 1]])[reached]
    return np.asarray(np.where(np.isnan(np.asarray(value, dtype=float)), np.nan, points))


def category(
    score: ArrayLike, *, acceptable: ArrayLike, good: ArrayLike, excellent: ArrayLike
) -> IntArray:
    """
    Return the quality category of a score: 0 below acceptable, 1 acceptable, 2 good, 3 excellent.

    Acceptable and good begin at their scores; excellent begins above its score.
    """
    score = np.asarray(score, dtype=float)
    return np.asarray(
        (score >= np.asarray(acceptable)).astype(np.int64)
        + (score >= np.asarray(good))
        + (score > np.asarray(excellent))
    )


def volume_weighted_score(scores: ArrayLike, volumes: ArrayLike) -> FloatArray:
    """
    Return composite quality scores: measure scores weighted by the episodes they apply to.

    TEAM and BPCI Advanced form their scores so, from percentiles of measures.

    Parameters
    ----------
    scores : array_like, shape (hospitals, measures)
        Scores or percentiles, 0 to 100; missing where a measure has none.
    volumes : array_like, shape (hospitals, measures)
        Episodes that each measure applies to.

    Returns
    -------
    ndarray, shape (hospitals,)
        Missing where no measure has a score and episodes.

    Raises
    ------
    DataError
        If a score is not between 0 and 100 or a number of episodes is negative.

    Examples
    --------
    >>> volume_weighted_score([[80.0, 40.0, np.nan]], [[300, 100, 50]]).tolist()
    [70.0]
    """
    refuse_outside("scores of measures", scores=scores, low=0.0, high=100.0)
    refuse_outside("episodes of measures", volumes=volumes, low=0.0, high=np.inf)
    scores = np.asarray(scores, dtype=float)
    weights = np.where(np.isnan(scores), 0.0, np.asarray(volumes, dtype=float))
    total = weights.sum(axis=-1)
    added = (np.nan_to_num(scores) * weights).sum(axis=-1)
    return np.asarray(np.divide(added, total, out=np.full(total.shape, np.nan), where=total > 0))
