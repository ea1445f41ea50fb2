"""Counts that sums give away: each is a combination of the columns of a table of sums."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from vbceval.core.typing import FloatArray, IntArray
from vbceval.moments import wide
from vbceval.moments.sums import Sums

# values that stand in names
_CODES = (*range(10), 100)
# a gcd above is not tried for divisors one by one
_MOST_TRIED = 10**6
# parts of a range that doubles are tried for: halves, thirds, months, weeks, days of a year
_MOST_PARTS = 366
# of a column of doubles: smaller amounts are taken for nothing
_SMALL = 1e-6
# cells that values have to fit which no range says
_ENOUGH = 6

Part = tuple[str, float, float]
"""A column x and two numbers a, b: the factor ``a + b x`` of a row."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Form:
    """
    A count that is a sum of columns of a table of sums, each times a number.

    Parameters
    ----------
    name : str
        What is counted.
    terms : mapping of str to float
        Number of each column; integers where the columns are whole numbers.
    unit : float
        What the total is divided by.
    limit : float
        Smallest count other than 0 that may be known.
    whole : bool
        Whether it is a whole number.
    distinct : bool
        Whether it counts different people, who may be in two cells.
    listed : bool
        Whether a report lists it though it is small nowhere.
    printed : bool
        Whether reports print totals of it: people and events, not products of events.
    uses : frozenset of str
        Columns of the source.
    """

    name: str
    terms: Mapping[str, float]
    limit: float
    unit: float = 1.0
    whole: bool = True
    distinct: bool = False
    listed: bool = False
    printed: bool = True
    uses: frozenset[str] = frozenset()

    def of(self, sums: Sums) -> FloatArray:
        """Return the count in each cell."""
        value = total(sums, self.terms).high / self.unit
        return np.rint(value) if self.whole else value

    def less(self, other: Form, name: str) -> Form:
        """Return this count less another one that has the same unit of its own."""
        one, two = self.unit, other.unit
        unit, mine, theirs = one, 1.0, one / two
        if float(one).is_integer() and float(two).is_integer():
            unit = math.lcm(int(one), int(two))
            mine, theirs = unit // int(one), unit // int(two)
        terms = {k: c * mine for k, c in self.terms.items()}
        for k, c in other.terms.items():
            terms[k] = terms.get(k, 0) - c * theirs
        return replace(self, name=name, terms=terms, unit=unit, listed=False)


def total(sums: Sums, terms: Mapping[str, float]) -> wide.Wide:
    """Return a combination of columns; exact where the columns and the numbers are whole."""
    used = [(sums._number(name), number) for name, number in terms.items() if number]
    whole = all(sums.is_whole(name) and float(c).is_integer() for name, c in terms.items() if c)
    most = sum(abs(c) * np.abs(x.high).max(initial=0.0) for x, c in used)
    found = wide.from_double(np.zeros(len(sums)))
    if whole and most < 2.0**53:
        # nothing is rounded, so doubles are enough
        return wide.from_double(sum((c * x.high for x, c in used), found.high))
    for x, c in used:
        found = wide.add(found, wide.multiply(x, wide.from_number(c, len(sums))))
    return found


@dataclass(frozen=True, kw_only=True)
class Steps:
    """
    The values of a column, as far as the sums and the range of the column show them.

    Parameters
    ----------
    name : str
        The column.
    low : float
        Least value, as it is summed; an integer where the column has digits.
    high : float or None
        Largest value; None where it is not known.
    step : float
        Every value is the least one and a whole number of steps.
    labels : tuple of str
        The values where there are two or three, else empty.
    whole : bool
        Whether steps are whole numbers: not those of amounts that are doubles.
    middle : float, optional
        The value between the least and the largest, where there are three.
    sure : bool
        Whether the values are known from the range; otherwise sums of all cells fit them.
    """

    name: str
    low: float
    high: float | None
    step: float
    labels: tuple[str, ...]
    whole: bool = True
    middle: float | None = None
    sure: bool = True

    @property
    def ends(self) -> tuple[tuple[str, Part], ...]:
        """Steps from either end, with a name: for two values, rows that have the other one."""
        up = f"events ({self.name})" if self.low == 0 else f"steps above the least ({self.name})"
        names = (up, f"steps below the largest ({self.name})")
        if len(self.labels) == 2:
            names = (f"{self.name}={self.labels[1]}", f"{self.name}={self.labels[0]}")
        found = [(names[0], (self.name, -self.low, 1))]
        if self.high is not None:
            found.append((names[1], (self.name, self.high, -1)))
        return tuple(found)

    @property
    def between(self) -> tuple[tuple[str, tuple[Part, Part], float], ...]:
        """Rows with each of three values: two factors, and what their product is then."""
        if self.middle is None or self.high is None:
            return ()
        x, first, second = self.name, self.middle - self.low, self.high - self.middle
        low, mid = (x, -self.low, 1), (x, -self.middle, 1)
        down, up = (x, self.middle, -1), (x, self.high, -1)
        names = [f"{x}={label}" for label in self.labels]
        return (
            (names[0], (down, up), first * (first + second)),
            (names[1], (low, up), first * second),
            (names[2], (low, mid), second * (first + second)),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Cellwise:
    """
    Sums of products over the rows of a group of outcomes, with or without weights.

    Parameters
    ----------
    sums : Sums
        The table.
    block : tuple of str
        The group.
    weighted : bool
        Whether rows are weighted.
    ranges : mapping of str to sequence of float
        Smallest and largest value of columns, where they are known.
    """

    sums: Sums
    block: tuple[str, ...]
    weighted: bool
    ranges: Mapping[str, tuple[float, float]]

    @property
    def prefix(self) -> tuple[str, ...]:
        """The weight, where rows have one."""
        weight = self.sums.schema.weight
        return () if weight is None or not self.weighted else (weight,)

    def form(self, name: str, *parts: Part, unit: float = 1.0, limit: float) -> Form:
        """Return the count that is a sum over rows of a product of up to two factors."""
        digits = [self.sums.schema.digits[w] for w in self.prefix]
        return Form(
            name=name, terms=self._terms(*parts), limit=limit,
            unit=unit * 10.0 ** sum(d or 0 for d in digits),
            whole=all(d == 0 for d in digits), uses=frozenset(x for x, _, _ in parts),
        )  # fmt: skip

    def _terms(self, *parts: Part) -> dict[str, float]:
        products: dict[tuple[str, ...], float] = {(): 1}
        for x, constant, slope in parts:
            new: dict[tuple[str, ...], float] = {}
            for factors, number in products.items():
                new[factors] = new.get(factors, 0) + number * constant
                new[(*factors, x)] = number * slope
            products = new
        name = self.sums.schema.name
        found = {name(self.block, *self.prefix, *f): c for f, c in products.items() if c}
        return found or {name(self.block, *self.prefix): 0}

    def steps(self, name: str) -> Steps | None:
        """Return the values of a column; None where nothing can be counted by its sums."""
        digits = self.sums.schema.digits[name]
        one: float = 1.0 if digits is None else 10**digits
        low, high = self._range(name, digits)
        if low is not None and low == high:
            return None
        two = self._two_values(name, one, low, high)
        if two is not None:
            labels = self._labels(name, one, *two)
            return Steps(name=name, low=two[0], high=two[1], step=two[1] - two[0], labels=labels,
                         sure=two in ((low, high), (0, 1)))  # fmt: skip
        if low is None:
            if digits is None or (total(self.sums, self._terms((name, 0, 1))).high < 0).any():
                return None
            low = 0
        if digits is None:
            step = None if high is None else self.part(name, low, high)
        else:
            step = self._step(name, int(low), None if high is None else int(high))
        if step is None:
            return None
        found = Steps(name=name, low=low, high=high, step=step, labels=())
        middle = None if high is None else self._middle(name, low, high, step)
        if high is None or middle is None:
            return found
        equal = abs(high - low - 2 * step) <= 1e-9 * step
        labels = self._labels(name, one, low, middle, high)
        return replace(found, labels=labels, middle=middle, sure=equal)

    def _middle(self, name: str, low: float, high: float, step: float) -> float | None:
        """Return the third value of a column that has no others, as far as whole numbers fit it."""
        span = round((high - low) / step)
        if span == 2:
            return low + step
        if span > _MOST_PARTS or len(self.sums) < _ENOUGH:
            return None
        for k in range(1, span):
            tried = Steps(name=name, low=low, high=high, step=step, middle=low + k * step,
                          labels=("", "", ""))  # fmt: skip
            counts = (
                self.form("", *parts, unit=unit, limit=0.0) for _, parts, unit in tried.between
            )
            if all(self._is_count(form) for form in counts):
                return tried.middle
        return None

    def _is_count(self, form: Form) -> bool:
        """Whether a form is a whole number, and not negative, in every cell."""
        value = total(self.sums, form.terms).high / form.unit
        return form.whole and _are_whole(value) and bool((value > -0.5).all())

    def amount(self, name: str) -> Steps | None:
        """Return a column of doubles in small parts of its range; None where it has no range."""
        low, high = self._range(name, self.sums.schema.digits[name])
        if low is None or high is None or low == high:
            return None
        step = _SMALL * (high - low)
        return Steps(name=name, low=low, high=high, step=step, labels=(), whole=False)

    def zero(self, name: str) -> float:
        """Return what zero is, as a column is summed."""
        return -self.sums.schema.pivots.get(name, 0.0)

    def near(self, steps: Steps) -> tuple[str, Part]:
        """Return the end of a column that has fewer steps from it in all rows together."""
        sizes = [total(self.sums, self._terms(part)).high.sum() for _, part in steps.ends]
        return steps.ends[int(np.argmin(sizes))]

    def line(self, name: str) -> Steps | None:
        """Return the steps of a column whose squares are not summed; None where there are none."""
        digits = self.sums.schema.digits[name]
        low, high = self._range(name, digits)
        if low is None or high is None or low == high:
            return None
        if digits is None:
            step = self.part(name, low, high, squares=False)
            if step is None:
                return self.amount(name)
        else:
            step = self._common(name, int(low), int(high))
        return Steps(name=name, low=low, high=high, step=step, labels=())

    def _range(self, name: str, digits: int | None) -> tuple[float | None, float | None]:
        if name not in self.ranges:
            return None, None
        low, high = self.ranges[name]
        if digits is not None:
            return round(low * 10**digits), round(high * 10**digits)
        pivot = self.sums.schema.pivots.get(name, 0.0)
        return low - pivot, high - pivot

    def _labels(self, name: str, one: float, *values: float) -> tuple[str, ...]:
        pivot = self.sums.schema.pivots.get(name, 0.0)
        plain = [value / one + pivot for value in values]
        if all(round(x, 9) in _CODES for x in plain):
            return tuple(f"{x:g}" for x in plain)
        # a value that is no code may be one person's amount, and names are in reports
        return ("least", "middle", "largest") if len(plain) == 3 else ("least", "largest")

    def _two_values(
        self, name: str, one: float, low: float | None, high: float | None
    ) -> tuple[float, float] | None:
        """
        Return the two values of a column that has no others.

        The range is that of all rows, and rows that are not summed may have other values. Sums over
        rows with values a and b alone have ``q = (a + b) s - a b n`` in every cell, with squares q.
        """
        tried = [] if low is None or high is None else [(low, high)]
        tried.append((self.zero(name), self.zero(name) + one))
        n, s, q = (
            total(self.sums, self._terms(*[(name, 0, 1)] * k)).high for k in range(3)
        )  # fmt: skip
        # more cells than unknown numbers, or any two would do
        enough = len(self.sums) >= _ENOUGH
        found, _, rank, _ = np.linalg.lstsq(np.column_stack([s, -n]), q, rcond=1e-12)
        spread = found[0] ** 2 - 4 * found[1]
        if enough and rank == 2 and spread > 0:
            ends = np.sort((found[0] + np.array([-1.0, 1.0]) * np.sqrt(spread)) / 2)
            whole = self.sums.schema.digits[name] is not None
            tried.append(tuple((np.rint(ends) if whole else ends).tolist()))
        for a, b in tried:
            if a < b and self._is_nothing((name, -a, 1), (name, b, -1)):
                return a, b
        return None

    def _is_nothing(self, *parts: Part) -> bool:
        """Whether a sum is 0 in every cell: of products that no row has below 0."""
        terms = self._terms(*parts)
        value = np.abs(total(self.sums, terms).high)
        if self.sums.schema.digits[parts[0][0]] is not None:
            return not value.any()
        size = sum(np.abs(c * self.sums._number(name).high) for name, c in terms.items())
        return bool((value <= 1e-9 * size).all())

    def _step(self, name: str, low: int, high: int | None) -> int:
        """Return the largest step that all values can be apart: 25 for 0, 25, 75."""
        step = self._common(name, low, high)
        if step == 1:
            return 1
        # weights can have a divisor in common as well; squares of steps tell
        squares = np.abs(total(self.sums, self._terms((name, -low, 1), (name, -low, 1))).high)
        if squares.max() >= 2.0**53:
            return 1 if self.weighted else step
        above = np.abs(total(self.sums, self._terms((name, -low, 1))).high).astype(np.int64)
        return _largest_step(above, squares.astype(np.int64), step)

    def part(self, name: str, low: float, high: float, *, squares: bool = True) -> float | None:
        """Return the part of a range of which all values of a column of doubles are multiples."""
        sums = [total(self.sums, self._terms((name, -low, 1))).high]
        if squares:
            sums.append(total(self.sums, self._terms((name, -low, 1), (name, -low, 1))).high)
        for parts in range(2, _MOST_PARTS + 1):
            step = (high - low) / parts
            if all(_are_whole(x / step**k) for k, x in enumerate(sums, start=1)):
                return step
        return None

    def _common(self, name: str, low: int, high: int | None) -> int:
        """Return the largest number that divides the steps of every cell."""
        above = np.abs(total(self.sums, self._terms((name, -low, 1))).high)
        if above.max(initial=0.0) >= 2.0**53:
            return 1
        span = 0 if high is None else high - low
        return max(math.gcd(int(np.gcd.reduce(above.astype(np.int64))), span), 1)


def _largest_step(above: IntArray, squares: IntArray, most: int) -> int:
    """Return the largest step that fits sums and squares of steps: k (k - 1) is even for each row."""
    for d in sorted(_divisors(most), reverse=True):
        if d >= 2**31 or (squares % d**2).any():
            continue
        if not ((squares // d**2 - above // d) % 2).any():
            return d
    return 1


def _are_whole(values: FloatArray) -> bool:
    """Whether numbers are whole, as far as sums of doubles keep it."""
    error = np.abs(values - np.rint(values))
    return bool((error <= 1e-6 + 1e-12 * np.abs(values)).all() and (np.abs(values) < 1e11).all())


def _divisors(number: int) -> list[int]:
    small = [d for d in range(1, min(math.isqrt(number), _MOST_TRIED) + 1) if number % d == 0]
    return [*small, *(number // d for d in small)]
