"""A meta-analysis under a skeptical and a flat prior of the mean, beside every fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from vbceval.bayes.weights import LARGEST_K, smoothed, summary
from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray

SHOWN = ("mean_effect", "type_mean", "predictive")
FLAT = 20.0
"""Standard deviation of the flat prior of the mean, percent points (or scales of an outcome)."""

_LEVEL, _LEAST = 0.95, 200.0
_VALUES = ("estimate", "std_error", "conf_low", "conf_high", "below_zero")


def meta_lines(
    frame: pd.DataFrame, draws: FloatArray, mean: FloatArray, *, mean_sd: float, usual: bool,
    unit_scale: FloatArray | float = 1.0, again: Callable[[float], FloatArray] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """
    Return means and predictions under the fitted prior, a skeptical one and a flat one.

    The skeptical prior halves the standard deviation of the mean, the flat one has 20; those of
    standard deviations stay (`vbceval.bayes.meta_checks.prior_sensitivity` varies them). Draws are
    reweighted; where weights cannot be trusted the model is integrated again, or the record has no
    numbers and says so.

    Parameters
    ----------
    frame : DataFrame, k rows
        Keys of the result.
    draws : array, shape (S, k)
        Draws.
    mean : array, shape (S,) or (S, J)
        Draws of the means, in the unit of `mean_sd`.
    mean_sd : float
        Of the fitted prior.
    usual : bool
        Whether the fitted prior is the default one.
    unit_scale : array, shape (k,), or float, default 1
        Unit of `mean_sd` in that of each row.
    again : callable, optional
        Of another `mean_sd`: draws of the same rows.

    Returns
    -------
    list of dict
        Keys of the row; ``prior``, ``prior_mean_percent``, ``prior_sd_percent`` (in the unit of the
        row), mean, interval, ``probability_below_0``, ``level``, ``method`` and ``pareto_k``.
    """
    rows = np.flatnonzero(frame["estimand"].isin(SHOWN))
    scale = np.broadcast_to(unit_scale, (len(frame),))[rows]
    keys = frame.iloc[rows][["estimand", "outcome", "unit_of_measure", "stratum"]]
    square = np.square(mean.reshape(len(mean), -1)).sum(axis=1)
    out = []
    sets = {"default" if usual else "custom": mean_sd, "skeptical": mean_sd / 2.0, "flat": FLAT}
    for k, (name, other) in enumerate(sets.items()):
        weight, shape, method = np.full(len(draws), 1.0 / len(draws)), np.nan, "as fitted"
        values = draws[:, rows]
        if k > 0:
            weight, shape = smoothed(-0.5 * square * (other**-2 - mean_sd**-2))
            method = "draws reweighted"
            if not (shape <= LARGEST_K and 1.0 / np.square(weight).sum() >= _LEAST):
                values, weight, method = _again(again, other, rows)
        found = pd.DataFrame(np.nan, index=range(len(rows)), columns=list(_VALUES))
        if len(values):
            found = summary(values, weight, _LEVEL)
        found = found.rename(columns={"below_zero": "probability_below_0"})
        for i, key in enumerate(keys.to_dict("records")):
            out.append(
                {
                    **{str(x): v for x, v in key.items()}, "prior": name,
                    "prior_mean_percent": 0.0, "prior_sd_percent": float(other * scale[i]),
                    **{str(x): float(v) for x, v in found.iloc[i].items()},
                    "level": _LEVEL, "method": method, "pareto_k": shape,
                }
            )  # fmt: skip
    return out


def _again(
    again: Callable[[float], FloatArray] | None, mean_sd: float, rows: Any
) -> tuple[FloatArray, FloatArray, str]:
    """Return draws under another prior with equal weights, or none and why."""
    none = np.zeros((0, len(rows)))
    if again is None:
        why = f"the draws say too little of that prior; fit again with mean_sd={mean_sd:g}"
        return none, np.zeros(0), f"failed: {why}"
    try:
        draws = again(mean_sd)[:, rows]
    except EstimationError as error:
        return none, np.zeros(0), f"failed: {error}"
    return draws, np.full(len(draws), 1.0 / len(draws)), "integrated again"
