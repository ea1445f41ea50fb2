"""Disclosure control: no count of 1-10 people, episodes or claims leaves the package.

The threshold is the CMS cell size suppression policy: cells of 1-10 may not be shown, nor
derived; zero may. Counts of organizations, periods or tables are not covered.
"""

from __future__ import annotations

import numpy as np

from vbceval.core.typing import BoolArray

SMALLEST_SHOWN = 11
"""Smallest non-zero number of people that may be shown."""


def is_small(counts: object, *, minimum: int = SMALLEST_SHOWN) -> BoolArray:
    """Return True where a count is of 1 to `minimum` - 1 people; zero and missing are not small."""
    values = np.asarray(counts, dtype=float)
    with np.errstate(invalid="ignore"):
        return np.asarray((values > 0) & (values < minimum), dtype=bool)


def say_people(count: float, noun: str = "people", *, minimum: int = SMALLEST_SHOWN) -> str:
    """Write a count of people for a message; a small one becomes "fewer than 11".

    Examples
    --------
    >>> say_people(1234)
    '1,234 people'
    >>> say_people(3, "episodes")
    'fewer than 11 episodes'
    """
    if bool(is_small(count, minimum=minimum)):
        return f"fewer than {minimum} {noun}"
    return f"{count:,.0f} {noun}"


def suppress_small(counts: object, *, minimum: int = SMALLEST_SHOWN) -> np.ndarray:
    """Return `counts` as floats with small ones missing (primary suppression only)."""
    values = np.array(counts, dtype=float)
    values[is_small(values, minimum=minimum)] = np.nan
    return values
