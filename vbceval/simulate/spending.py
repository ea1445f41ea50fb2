"""Annual spending of a person relative to the mean: zero, routine or acute."""

from __future__ import annotations

import numpy as np

from vbceval.core.typing import FloatArray

# Fitted to the concentration of Medicare spending (top 1/5/10/20/50 percent of people hold
# 14.9/41.5/60.0/79.1/95.7 percent of it; Wallis et al., EClinicalMedicine 2021). The last log-SD
# was fitted as 0.71; 0.699 is the one at which the coefficient of variation is 2.17.
_SHARE = np.array([0.05, 0.822, 0.128])
_MEDIAN = np.array([0.0, 2_073.0, 35_103.0])
_LOG_SD = np.array([0.0, 1.42, 0.699])

_MEANS = _MEDIAN * np.exp(_LOG_SD**2 / 2)
_MEAN = float(_SHARE @ _MEANS)
PERSON_CV = float(np.sqrt(_SHARE @ (_MEANS**2 * np.exp(_LOG_SD**2)) - _MEAN**2) / _MEAN)
"""Coefficient of variation of a person-year, 2.17."""


def person_years(n: int, rng: np.random.Generator) -> FloatArray:
    """
    Draw spending of person-years relative to its mean.

    A mixture: 5 percent of person-years without spending, 82.2 percent routine (lognormal, median
    $2,073) and 12.8 percent with acute care (lognormal, median $35,103).

    Parameters
    ----------
    n : int
        Person-years.
    rng : Generator
        Source of randomness.

    Returns
    -------
    array, shape (n,)
        Mean 1, coefficient of variation `PERSON_CV`.
    """
    kind = rng.choice(3, size=n, p=_SHARE)
    return np.asarray(_MEDIAN[kind] * np.exp(_LOG_SD[kind] * rng.standard_normal(n)) / _MEAN)
