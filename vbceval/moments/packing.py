"""Several whole-number sums in one column of doubles: fewer columns to add up for the same bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from vbceval.engine import sql
from vbceval.moments import expressions as ex

if TYPE_CHECKING:
    from sqlglot import exp

# digits of a double: whole numbers up to 2**53 are held and added without rounding
_DIGITS = 53


@dataclass(frozen=True, kw_only=True)
class Part:
    """
    One sum that is wanted.

    Parameters
    ----------
    names : tuple of str
        Its columns in the result; more than one where terms are the same number.
    value : Expression
        What is added up: whole numbers as doubles.
    bound : float
        What no sum of their sizes passes.
    """

    names: tuple[str, ...]
    value: exp.Expression
    bound: float

    @property
    def digits(self) -> int:
        """Binary digits that hold the sum with its sign; half of their range is more than it."""
        return max(math.frexp(self.bound)[1], 1) + 1


@dataclass(frozen=True, kw_only=True)
class Word:
    """
    Sums that are added up as one: the first in the lowest digits, the next above it, and so on.

    Every partial sum is a whole number below 2**53, so that doubles add it exactly in any order.
    """

    parts: tuple[Part, ...]

    def total(self) -> exp.Expression:
        """Return the sum over rows, to be named and handed to `taken_apart`."""
        place, values = 0, []
        for part in self.parts:
            values.append(ex.scaled(part.value, place))
            place += part.digits
        return ex.add_up(reduce(ex.plus, values))

    def taken_apart(self, total: str) -> dict[str, exp.Expression]:
        """Return each sum by name, BIGINT, from the column with the total."""
        found: dict[str, exp.Expression] = {}
        rest: exp.Expression = sql.column(total)
        for part in self.parts[:-1]:
            # the digits below are less than half a unit of what is above them
            above = ex.rounded(ex.scaled(rest, -part.digits))
            value = ex.integer(ex.minus(rest, ex.scaled(above, part.digits)))
            found |= dict.fromkeys(part.names, value)
            rest = above
        return found | dict.fromkeys(self.parts[-1].names, ex.integer(rest))


def pack(parts: Sequence[Part]) -> list[Word]:
    """
    Put sums together in as few words as first fit by size finds.

    Parameters
    ----------
    parts : sequence of Part
        Sums over the same rows, each with a bound below 2**53.
    """
    words: list[tuple[int, list[Part]]] = []
    for part in sorted(parts, key=lambda p: -p.digits):
        for place, (used, held) in enumerate(words):
            if used + part.digits <= _DIGITS:
                words[place] = (used + part.digits, [*held, part])
                break
        else:
            words.append((part.digits, [part]))
    return [Word(parts=tuple(held)) for _, held in words]
