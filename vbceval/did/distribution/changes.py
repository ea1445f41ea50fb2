"""Changes-in-changes and quantile difference-in-differences of four distributions."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from vbceval.core.errors import EstimationError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.did.distribution.laws import Law

Method = Literal["cic", "qdid"]
Ties = Literal["continuous", "independent", "lower", "upper"]
_SIGNS = (1.0, -1.0, -1.0, 1.0)
"""Of the laws in a difference-in-differences."""


class Four(NamedTuple):
    """Laws of the outcome: comparison before and after, treated before and after."""

    c0: Law
    c1: Law
    t0: Law
    t1: Law


class Effects(NamedTuple):
    """
    Mean effect, then an effect at each of k - 1 quantiles.

    Parameters
    ----------
    value : array, shape (k,)
        Effects.
    low, high : array, shape (k,)
        Bounds from ties and bins.
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray


class Influence(NamedTuple):
    """
    Influence on effects of one unit of weight, by its law and bin.

    Parameters
    ----------
    parts : array, shape (4, M, k)
        In order of `Four`, without the deviation of the outcome itself from its mean.
    linear : array, shape (4, k)
        Factor of that deviation in each law.
    """

    parts: FloatArray
    linear: FloatArray


class _Ranks(NamedTuple):
    """Ranks of the treated before entry in the comparison group: an interval for each bin."""

    low: FloatArray
    high: FloatArray
    spread: BoolArray


def outside_support(four: Four) -> float:
    """Return the share of treated outcomes before entry beyond those of the comparison group."""
    held = np.flatnonzero(four.c0.mass > 0)
    mass = four.t0.mass
    return float((mass[: held[0]].sum() + mass[held[-1] + 1 :].sum()) / mass.sum())


def _ranks(four: Four, ties: Ties) -> _Ranks:
    low, high = four.c0.below, four.c0.upto
    # ranks are not known within a bin, and by assumption uniform within a tie
    spread = four.c0.grid.wide | (ties == "independent")
    return _Ranks(low, high, spread & (high > low))


def changes_in_changes(four: Four, q: FloatArray, ties: Ties) -> Effects:
    """
    Map treated outcomes before entry by the change of the comparison group at the same rank.

    Parameters
    ----------
    four : Four
        Laws on one grid.
    q : array, shape (k - 1,)
        Probabilities.
    ties : {"continuous", "independent", "lower", "upper"}
        Rank of a value that the comparison group has more than once: the highest, as for
        continuous outcomes; uniform (conditional independence); or the one that makes the effect
        smallest or largest.

    References
    ----------
    .. [1] Athey, S. and Imbens, G. W. (2006). Identification and inference in nonlinear
       difference-in-differences models. *Econometrica* 74(2), 431-497. Theorems 3.1, 4.1
       and 4.2.
    """
    c1, t0, t1 = four.c1, four.t0, four.t1
    ranks = _ranks(four, ties)
    first, last = _ends(c1, ranks)
    lowest = _lowest(c1, ranks, first)
    mapped = _mapped(c1, ranks, first, ties)
    held = t0.mass > 0
    share = t0.mass / t0.mass.sum()
    mean = float(share[held] @ mapped[held])
    at, u = _rank_of_quantile(four, ranks, q, ties)
    value_q = _at_rank(c1, u, first[at], ties)
    low = np.r_[share[held] @ c1.grid.low[lowest[held]], c1.grid.low[lowest[at]]]
    high = np.r_[share[held] @ c1.grid.high[last[held]], c1.grid.high[last[at]]]
    own = t1.bin_of(q)
    return Effects(
        np.r_[t1.expectation - mean, t1.quantile(q) - value_q],
        np.r_[t1.expectation, t1.grid.low[own]] - high,
        np.r_[t1.expectation, t1.grid.high[own]] - low,
    )


def _ends(c1: Law, ranks: _Ranks) -> tuple[IntArray, IntArray]:
    """First and last bin of the comparison group after entry that ranks lead to."""
    last = c1.bin_of(ranks.high)
    return np.minimum(c1.bin_of(ranks.low, after=True), last), last


def _lowest(c1: Law, ranks: _Ranks, first: IntArray) -> IntArray:
    """First bin that ranks lead to, for any distribution within bins."""
    # a treated row may lie below all comparison rows of its bin, and then has the rank of the bin below
    return np.where(c1.grid.wide, np.minimum(c1.bin_of(ranks.low), first), first)


def _at_rank(c1: Law, u: FloatArray, first: IntArray, ties: Ties) -> FloatArray:
    """Quantile at ranks; the first value that ties lead to, if the effect is to be largest."""
    if ties != "upper":
        return c1.quantile(u)
    return np.where(c1.grid.wide[first], c1.quantile(u), c1.mean[first])


def _mapped(c1: Law, ranks: _Ranks, first: IntArray, ties: Ties) -> FloatArray:
    """Outcome without treatment of each bin of the treated before entry, shape (M,)."""
    one = _at_rank(c1, ranks.low if ties == "upper" else ranks.high, first, ties)
    width = np.where(ranks.spread, ranks.high - ranks.low, 1.0)
    average = (c1.integral(ranks.high) - c1.integral(ranks.low)) / width
    return np.where(ranks.spread, average, one)


def _rank_of_quantile(
    four: Four, ranks: _Ranks, q: FloatArray, ties: Ties
) -> tuple[IntArray, FloatArray]:
    """Bin of each quantile of the treated before entry, and its rank in the comparison group."""
    t0 = four.t0
    at = t0.bin_of(q)
    share = np.clip((q - t0.below[at]) / (t0.mass[at] / t0.mass.sum()), 0.0, 1.0)
    point = ranks.low[at] if ties == "upper" else ranks.high[at]
    inside = ranks.low[at] + share * (ranks.high[at] - ranks.low[at])
    return at, np.where(ranks.spread[at], inside, point)


def cic_influence(four: Four, q: FloatArray, ties: Ties) -> Influence:
    """
    Return the influence of rows on `changes_in_changes`.

    Theorems 5.1 and 5.3 of the paper, with the slope of the quantile function for one over the
    density.

    Parameters
    ----------
    four, q, ties
        As there.
    """
    c0, c1, t0, t1 = four
    size, k = len(c0.mass), len(q) + 1
    ranks = _ranks(four, ties)
    share = t0.mass / t0.mass.sum()
    mapped = _mapped(c1, ranks, _ends(c1, ranks)[0], ties)
    at, u = _rank_of_quantile(four, ranks, q, ties)
    # ranks at which the treated before entry are, and how much of them
    single = ranks.low if ties == "upper" else ranks.high
    points = np.where(ranks.spread, (ranks.low + ranks.high) / 2, single)
    slope = c1.sparsity(points) * share
    order = np.argsort(points, kind="stable")
    upto = np.r_[0.0, np.cumsum(slope[order])]

    def moved(u: FloatArray) -> FloatArray:
        """Sum of slopes at ranks that a row of rank u is below or at."""
        below = np.searchsorted(points[order], u - 1e-10, side="left")
        return np.asarray(upto[-1] - upto[below])

    parts = np.zeros((4, size, k))
    parts[0, :, 0] = -moved(np.where(ranks.spread, points, c0.upto))
    parts[1, :, 0] = moved((c1.below + c1.upto) / 2)
    parts[2, :, 0] = -mapped
    if len(q):
        s01 = c1.sparsity(u)
        parts[0, :, 1:] = -_step(at, c0) * s01
        parts[1, :, 1:] = _step(c1.bin_of(u), c1) * s01
        parts[2, :, 1:] = _step(at, t0) * s01 * _rank_slope(four, ranks, q, ties)
        parts[3, :, 1:] = -_step(t1.bin_of(q), t1) * t1.sparsity(q)
    linear = np.zeros((4, k))
    linear[3, 0] = 1.0
    return _centred(parts, linear, four)


def _step(at: IntArray, law: Law) -> FloatArray:
    """Whether a row of each bin is at or below bins `at`; half of the rows in a wide bin are."""
    bins = np.arange(len(law.mass))[:, None]
    inside = np.where(law.grid.wide[at], 0.5, 1.0)
    return np.where(bins < at, 1.0, np.where(bins == at, inside, 0.0))


def _rank_slope(four: Four, ranks: _Ranks, q: FloatArray, ties: Ties) -> FloatArray:
    """How fast the rank in the comparison group moves along quantiles of the treated."""
    h = four.t0.width_at(q)
    left, right = np.maximum(q - h, 0.0), np.minimum(q + h, 1.0)
    ends = [_rank_of_quantile(four, ranks, x, ties)[1] for x in (left, right)]
    return np.asarray((ends[1] - ends[0]) / (right - left))


def _centred(parts: FloatArray, linear: FloatArray, four: Four) -> Influence:
    """Influence of a law has mean zero in it."""
    share = np.stack([law.mass / law.mass.sum() for law in four])
    return Influence(parts - np.einsum("gm,gmk->gk", share, parts)[:, None], linear)


def quantile_did(four: Four, q: FloatArray, *, linear_quantiles: bool) -> Effects:
    """
    Add the change of the comparison group's quantile to the same quantile of the treated.

    The mean adds the change at the rank of each treated outcome before entry; without shared values it
    is in large samples the difference-in-differences of means, whose influence it has.

    Parameters
    ----------
    four : Four
        Laws on one grid.
    q : array, shape (k - 1,)
        Probabilities.
    linear_quantiles : bool
        Interpolate between order statistics, as R `qte` does by default.

    References
    ----------
    .. [1] Athey, S. and Imbens, G. W. (2006). Identification and inference in nonlinear
       difference-in-differences models. *Econometrica* 74(2), 431-497. Section 3.4.
    """
    c0, c1, t0, t1 = four
    share = t0.mass / t0.mass.sum()

    def at(law: Law, u: FloatArray) -> FloatArray:
        return law.linear_quantile(u) if linear_quantiles else law.quantile(u)

    held = np.flatnonzero(t0.mass > 0)
    wide = t0.grid.wide[held]
    below, upto = t0.below[held], t0.upto[held]
    change = at(c1, upto) - at(c0, upto)
    if wide.any():
        # ranks are uniform within a bin, and the highest of a single value
        width = np.where(wide, upto - below, 1.0)
        whole = [law.integral(upto) - law.integral(below) for law in (c1, c0)]
        change = np.where(wide, (whole[0] - whole[1]) / width, change)
    value = np.r_[
        t1.expectation - t0.expectation - share[held] @ change,
        at(t1, q) - at(t0, q) - at(c1, q) + at(c0, q),
    ]
    if linear_quantiles:
        return Effects(value, value.copy(), value.copy())
    edges = [
        _edges(law, law.bin_of(q), law.bin_of(q), sign)
        for law, sign in zip(four, _SIGNS, strict=True)
    ]
    # of the change at ranks within bins
    first = [np.where(wide, law.bin_of(below, after=True), law.bin_of(upto)) for law in (c1, c0)]
    moves = [
        _edges(law, start, law.bin_of(upto), sign)
        for law, start, sign in zip((c1, c0), first, (1.0, -1.0), strict=True)
    ]  # fmt: skip
    fixed = t1.expectation - t0.expectation
    low = fixed - share[held] @ sum(m[1] for m in moves)
    high = fixed - share[held] @ sum(m[0] for m in moves)
    if not t0.grid.wide.any():
        # rounding aside, the bounds of rows are the value
        low = high = value[0]
    return Effects(
        value, np.r_[low, sum(e[0] for e in edges)], np.r_[high, sum(e[1] for e in edges)]
    )


def _edges(law: Law, first: IntArray, last: IntArray, sign: float) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest value of bins from `first` to `last`, times a sign."""
    ends = law.grid.low[np.minimum(first, last)], law.grid.high[last]
    return ends if sign > 0 else (-ends[1], -ends[0])


def qdid_influence(four: Four, q: FloatArray) -> Influence:
    """
    Return the influence of rows on `quantile_did`.

    Parameters
    ----------
    four, q
        As there.
    """
    parts = np.zeros((4, len(four.c0.mass), len(q) + 1))
    for part, law, sign in zip(parts, four, _SIGNS, strict=True):
        part[:, 1:] = -sign * _step(law.bin_of(q), law) * law.sparsity(q)
    linear = np.zeros((4, len(q) + 1))
    linear[:, 0] = _SIGNS
    return _centred(parts, linear, four)


def check_support(four: Four, most: float, where: str) -> None:
    """
    Refuse treated outcomes before entry that the comparison group does not have.

    Raises
    ------
    EstimationError
        If their share is above `most`.
    """
    share = outside_support(four)
    if share > most:
        raise EstimationError(
            f"{where}: {share:.0%} of treated outcomes before entry are below or above all of the "
            f"comparison group (limit {most:.0%}), and their change without treatment is not "
            "known there. Choose a comparison group with such outcomes, or raise `most_outside`: "
            "beyond the ends its lowest and highest outcomes are then used."
        )
