"""Printed numbers are rounded: what a number may have been before it was printed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

PRINTED_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
"""A number as tables print it, with a plain hyphen for the minus sign and no thousands mark."""

SMALLEST_ROUNDED_TOTAL = 100_000
"""Whole numbers from here on (dollar totals, populations) are taken as rounded at their zeros."""


@dataclass(frozen=True, slots=True)
class Span:
    """The values that a printed number, or something computed from printed numbers, can have.

    Parameters
    ----------
    low, high : float
        Ends, both included, in the unit of the number; `low` is at most `high`.

    Examples
    --------
    >>> Span.around(2.0, 0.5) * Span.around(10.0, 1.0)
    Span(low=13.5, high=27.5)
    """

    low: float
    high: float

    @classmethod
    def around(cls, value: float, half: float) -> Span:
        """Return the span `value` - `half` to `value` + `half`."""
        return cls(value - half, value + half)

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Span) -> Span:
        return Span(self.low - other.high, self.high - other.low)

    def __mul__(self, other: Span | float) -> Span:
        by = (other.low, other.high) if isinstance(other, Span) else (other, other)
        ends = [a * b for a in (self.low, self.high) for b in by]
        return Span(min(ends), max(ends))

    def __truediv__(self, other: Span) -> Span:
        if other.low <= 0 <= other.high:
            return Span(-math.inf, math.inf)
        return self * Span(1 / other.high, 1 / other.low)

    def __abs__(self) -> Span:
        if self.low <= 0 <= self.high:
            return Span(0.0, max(-self.low, self.high))
        return Span(*sorted((abs(self.low), abs(self.high))))

    def log(self) -> Span:
        """Return the span of the natural logarithm; not finite where a value is not positive."""
        ends = [math.log(v) if v > 0 else -math.inf for v in (self.low, self.high)]
        return Span(ends[0], ends[1])

    def gap(self, other: Span) -> float:
        """Return the distance to another span, 0 where the two share a value."""
        return max(0.0, self.low - other.high, other.low - self.high)

    def overlaps(self, other: Span) -> bool:
        """Return whether the two spans share a value, up to floating point."""
        size = max(map(abs, (self.low, self.high, other.low, other.high)))
        return self.gap(other) <= 1e-9 * size


def half_unit(text: str) -> float:
    """
    Return half a unit of the last printed digit.

    The zeros that end a whole number of 100,000 or more are taken as rounding: "131000000" is
    131 million to the nearest million. Fewer printed digits only make a later check more lenient.

    Parameters
    ----------
    text : str
        A number as printed, for example ``"-3.97"``.

    Returns
    -------
    float
        Half-width of the values that print as `text`, in the number's unit.

    Examples
    --------
    >>> [half_unit(t) for t in ("-3.97", "17956", "131000000")]
    [0.005, 0.5, 500000.0]
    """
    digits = text.lstrip("+-")
    if "." in digits:
        return 0.5 * 10.0 ** -len(digits.split(".")[1])
    if int(digits) < SMALLEST_ROUNDED_TOTAL:
        return 0.5
    return 0.5 * 10.0 ** (len(digits) - len(digits.rstrip("0")))
