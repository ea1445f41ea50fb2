"""Values of a ratio that its data do not reject."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from vbceval.core.typing import FloatArray

Shape = Literal["interval", "outside", "line", "empty", "several"]


class Robust(NamedTuple):
    """
    Values that a test does not reject.

    Parameters
    ----------
    low, high : float
        Ends; of "outside", the ends of the part that is rejected.
    shape : {"interval", "outside", "line", "empty", "several"}
        From `low` to `high`; all below `low` or above `high`; every value; none; or several
        intervals, of which these are the outer ends.
    """

    low: float
    high: float
    shape: Shape


def fieller(numerator: float, denominator: float, vcov: FloatArray, limit: float) -> Robust:
    """
    Return the ratios L for which numerator - L denominator is not far from zero.

    Parameters
    ----------
    numerator, denominator : float
        Estimates.
    vcov : array, shape (2, 2)
        Their covariance, numerator first.
    limit : float
        Quantile that the squared t statistic may reach: of chi-square(1), or F(1, df).

    Returns
    -------
    Robust
        An interval where the denominator differs from zero at this limit.

    References
    ----------
    .. [1] Fieller, E. C. (1954). Some problems in interval estimation. *Journal of the Royal
       Statistical Society B* 16(2), 175-185.

    Examples
    --------
    >>> import numpy as np
    >>> fieller(-3.0, 0.5, np.diag([1.0, 0.0]), 4.0)
    Robust(low=-10.0, high=-2.0, shape='interval')
    """
    # (a - L b)^2 <= limit (V_aa - 2 L V_ab + L^2 V_bb), a quadratic in L
    square = denominator * denominator - limit * vcov[1, 1]
    linear = -2 * (numerator * denominator - limit * vcov[0, 1])
    constant = numerator * numerator - limit * vcov[0, 0]
    inside = linear * linear - 4 * square * constant
    if square <= 0 and inside <= 0:
        if constant > 0:
            # the denominator is known to be zero and the numerator is not
            return Robust(np.nan, np.nan, "empty")
        return Robust(-np.inf, np.inf, "line")
    if square == 0:
        # one end only
        end = float(-constant / linear)
        return Robust(-np.inf, end, "interval") if linear > 0 else Robust(end, np.inf, "interval")
    # near the limit one end is far out; by the textbook formula the other would lose its digits
    larger = -(linear + np.copysign(np.sqrt(max(inside, 0.0)), linear)) / 2
    ends = sorted([larger / square, constant / larger if larger != 0 else 0.0])
    return Robust(float(ends[0]), float(ends[1]), "interval" if square > 0 else "outside")
