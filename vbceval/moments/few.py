"""What a sum, a sum of squares and a number of rows tell of the rows behind them: that they are few."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.inference import sum_by_cluster
from vbceval.moments.forms import Form
from vbceval.moments.sums import Sums

# of equal numbers that were added up as doubles
_EQUAL = 1e-8
# of a column with more values, sums and squares tell little of each
_MOST_VALUES = 12
# in whole numbers, up to this many values, and rows with a fourth value
_MOST_WHOLE, _TRIED = 6, 13


@dataclass(frozen=True, eq=False, kw_only=True)
class Weights:
    """
    What readers know of the weight of one row; of rows without weights it is 1.

    Parameters
    ----------
    least, largest : float
        Smallest and largest; `least` is 0 where it is not known.
    unit : float
        Every weight is a whole number of these; 0 where that is not known.
    """

    least: float = 1.0
    largest: float = 1.0
    unit: float = 1.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Spread:
    """
    Steps of a column from one end, their squares, weights and rows.

    Parameters
    ----------
    steps, squares, weights, rows : Form
        Sums over rows of w k, w k squared, w and 1, for k steps and weight w.
    most : float
        Largest number of steps of a row; infinite where it is not known.
    whole : bool
        Whether steps are whole numbers. Those of a column of doubles are small parts of its range.
    signed : bool
        Whether steps can be negative, where the end is zero and not the least value.
    inner : bool
        Whether rows between the ends are looked at, which one end of a column is enough for.
    weight : Weights
        What is known of the weight of a row.
    """

    steps: Form
    squares: Form
    weights: Form
    rows: Form
    most: float
    whole: bool = True
    signed: bool = False
    inner: bool = True
    weight: Weights = Weights()

    def less(self, other: Spread) -> Spread:
        """Return it for the rows of this one that are not of another."""
        names = ("steps", "squares", "weights", "rows")
        forms = {x: getattr(self, x).less(getattr(other, x), "") for x in names}
        return replace(self, **forms)


@dataclass(frozen=True, eq=False, kw_only=True)
class Few:
    """
    What bounds the rows that are not at one end of a column, in every cell of the source.

    Parameters
    ----------
    sums : array, shape (4, K, m)
        Steps, squares, weights and rows of each spread.
    spreads : tuple of Spread
        What they are of.
    limit : int
        Smallest number of people that may be known.
    """

    sums: FloatArray
    spreads: tuple[Spread, ...]
    limit: int

    @classmethod
    def of(cls, spreads: Sequence[Spread], sums: Sums, limit: int) -> Few:
        """Return them of a table."""
        found = np.zeros((4, len(sums), len(spreads)))
        for j, x in enumerate(spreads):
            for i, form in enumerate((x.steps, x.squares, x.weights, x.rows)):
                found[i, :, j] = form.of(sums)
        return cls(sums=found, spreads=tuple(spreads), limit=limit)

    def merged(self, place: IntArray, size: int) -> Few:
        """Return them of merged cells, of which `place` is the number, shape (K,)."""
        found = [sum_by_cluster(parts, place, size) for parts in self.sums]
        return replace(self, sums=np.stack(found))

    def exposed(self, place: IntArray, rows: IntArray | slice, size: int) -> BoolArray:
        """
        Return where rows of a column are known to be some, and fewer than the limit.

        Those that are not at the end of the column, those that are, those between, and of columns
        with few values those with each of them.

        Parameters
        ----------
        place : int array
            Merged cell of each of `rows`.
        rows : int array or slice
            Cells of the source.
        size : int
            Number of merged cells.
        """
        out = np.zeros(size, dtype=bool)
        for j, spread in enumerate(self.spreads):
            cells = self.sums[:, rows, j]
            s, q, w, n = (np.bincount(place, weights=x, minlength=size) for x in cells)
            # what all weights are short of the largest is what one can be short of it
            short = np.maximum(n * spread.weight.largest - w, 0.0)
            least = np.maximum(spread.weight.least, spread.weight.largest - short)
            ends = _at_ends(spread, s, q, w, n, least, self.limit)
            out |= (ends | _is_one(spread, s, q)) & (w > 0)
            if spread.inner and spread.whole:
                out |= _between(s, q, w, least, self.limit) & (w > 0)
                if spread.most < _MOST_VALUES:
                    counted = spread.weight.least == spread.weight.largest
                    out |= _of_a_value(
                        s, q, w, least, self.limit, round(spread.most) + 1, counted=counted
                    )
        return out


def _at_ends(
    spread: Spread, s: FloatArray, q: FloatArray, w: FloatArray, n: FloatArray, least: FloatArray,
    limit: int,
) -> BoolArray:  # fmt: skip
    """
    Return where the rows not at the end of a column, or those at it, are known to be few.

    Of rows with at least one step, the squares are largest when one row, of the least weight, has
    all steps but one for each other, and smallest when all have the same; no row passes the largest.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled, squares = s / least, q / least
        # (k - 1) k of all rows is at most z (z + 1), with z the steps beyond the first of each
        z = (np.sqrt(1.0 + 4.0 * np.maximum(squares - scaled, 0.0)) - 1.0) / 2.0
        if spread.whole and spread.weight.largest == spread.weight.least:
            z = np.ceil(z - 1e-6)
        upper = np.where(least > 0, scaled - z, np.inf)
        if np.isfinite(spread.most):
            upper = np.minimum(
                upper, np.where(least > 0, (s - (q - s) / spread.most) / least, np.inf)
            )
        # of steps that may be negative, where nothing says that some are
        sound = q * least <= s**2 * (1 + _EQUAL) if spread.signed else np.ones(len(s), dtype=bool)
        some = (s > 0.5) & (np.floor(upper + 1e-6) < limit)
        others = np.where(q > 0, (w - s**2 / q) / least, w / least)
        one_at_least = least * upper < w * (1 - _EQUAL)
        none = one_at_least & (np.floor(others + 1e-6) < limit) & (least > 0)
    return np.asarray((some | none) & sound)


def _is_one(spread: Spread, s: FloatArray, q: FloatArray) -> BoolArray:
    """
    Return where one row has all the steps, as far as anybody can tell.

    Then the square of the sum is the sum of squares, times the weight of the row. Of many rows it
    is so by chance in a thousand million, even where some steps are negative.
    """
    if spread.weight.unit <= 0:
        return np.zeros(len(s), dtype=bool)
    weight = np.divide(s**2, q, out=np.zeros_like(s), where=q > 0) / spread.weight.unit
    known = np.abs(weight - np.rint(weight)) <= _EQUAL * np.maximum(weight, 1.0)
    most = spread.weight.largest / spread.weight.unit * (1 + _EQUAL)
    return np.asarray((np.abs(s) > 0.5) & (np.rint(weight) >= 1) & known & (weight <= most))


def _between(
    s: FloatArray, q: FloatArray, w: FloatArray, least: FloatArray, limit: int
) -> BoolArray:
    """
    Return where few rows are away from the two whole numbers next to the mean, or at one of them.

    ``(k - a) (k - a - 1) / 2`` is 0 at a and a + 1, and at least 1 elsewhere.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        a = np.floor(np.where(w > 0, s / w, 0.0) + 1e-9)
        away = (q - (2 * a + 1) * s + a * (a + 1) * w) / 2.0
        above = s - a * w
        # squares of many steps are known to some digits only
        nothing = np.maximum(1e-6 * least, 1e-12 * q)
        parts = [np.where(away > nothing, away, np.where(away < -nothing, np.inf, 0.0))]
        parts += [np.where(away > nothing, np.inf, x) for x in (above, w - above)]
        few = [(x > nothing) & (np.floor(x / least + 1e-6) < limit) for x in parts]
    return np.asarray(np.logical_or.reduce(few) & (least > 0))


def _of_a_value(
    s: FloatArray, q: FloatArray, w: FloatArray, least: FloatArray, limit: int, values: int,
    *, counted: bool,
) -> BoolArray:  # fmt: skip
    """
    Return where few rows have one of the values 0, 1, 2, ... of a column, for certain.

    The weights of rows by value are numbers of at least 0 with three sums. The least and the largest
    of each are at corners, where at most three values have rows. Rows that are counted, not weighted,
    are whole numbers, so that 0 has to be possible in whole numbers.
    """
    low, high = np.full((values, len(s)), np.inf), np.full((values, len(s)), -np.inf)
    near = 1e-7 * np.maximum(w, 1.0)
    for corner in itertools.combinations(range(values), 3):
        parts = _at_corner(corner, s, q, w)
        fits = np.logical_and.reduce([x > -near for x in parts])
        for v in range(values):
            x = parts[corner.index(v)] if v in corner else np.zeros(len(s))
            low[v] = np.where(fits, np.minimum(low[v], x), low[v])
            high[v] = np.where(fits, np.maximum(high[v], x), high[v])
    with np.errstate(divide="ignore", invalid="ignore"):
        some = (low > 1e-6 * least) & np.isfinite(low)
        few = np.floor(high / least + 1e-6) < limit
    if counted and values <= _MOST_WHOLE:
        # whole numbers end below the corner: tables with the same sums are up to three apart
        few = high < limit + 3 - 1e-6
        for v in range(values):
            at = np.flatnonzero(few[v] & ~some[v] & (high[v] > 0.5))
            some[v, at] = ~_without(v, values, s[at], q[at], w[at])
    return np.asarray((some & few).any(axis=0) & (least > 0))


def _at_corner(
    corner: Sequence[int], s: FloatArray, q: FloatArray, w: FloatArray
) -> list[FloatArray]:
    """Return how many rows have each of three values, where no row has another."""
    found = []
    for a in corner:
        b, c = (x for x in corner if x != a)
        # (k - b) (k - c) is 0 at the other two
        found.append((q - (b + c) * s + b * c * w) / ((a - b) * (a - c)))
    return found


def _without(v: int, values: int, s: FloatArray, q: FloatArray, w: FloatArray) -> BoolArray:
    """Return where rows were found of which none has a value: three others, and a few with a fourth."""
    out = np.zeros(len(s), dtype=bool)
    others = [x for x in range(values) if x != v]
    for corner in itertools.combinations(others, 3):
        rest = [x for x in others if x not in corner]
        for fourth, number in [(0, 0), *itertools.product(rest, range(1, _TRIED))]:
            left = [w - number, s - number * fourth, q - number * fourth**2]
            parts = _at_corner(corner, left[1], left[2], left[0])
            out |= np.logical_and.reduce(
                [(x > -1e-6) & (np.abs(x - np.rint(x)) < 1e-6) for x in parts]
            )
    return out
