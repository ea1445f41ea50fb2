"""Differences of features before and after weighting: standardised, in variance, in distribution."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from vbceval.balance.features import Features
from vbceval.core.disclosure import is_small
from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray

Sd = Literal["organization", "people"]
Denominator = Literal["pooled", "treated", "comparison"]

TARGET, FAIL = 0.10, 0.25
"""Absolute standardised differences above which a feature misses the target, and fails."""


def effective_size(w: FloatArray) -> float:
    """Return (sum w)^2 / sum w^2, the number of equal weights that is worth as much.

    Examples
    --------
    >>> effective_size(np.array([1.0, 1.0, 0.0])), effective_size(np.array([3.0, 1.0]))
    (2.0, 1.6)
    """
    return float(w.sum() ** 2 / (w**2).sum())


def balance_table(
    features: Features, weight: FloatArray, *, sd: Sd = "organization",
    denominator: Denominator = "pooled",
) -> pd.DataFrame:  # fmt: skip
    """
    Compare features of treated and comparison, before and after weighting.

    Means before are weighted by base weights, after by base times balance weight. The standard
    deviation is that before weighting, in both columns, so that a difference cannot shrink because
    the spread grew.

    Parameters
    ----------
    features : Features
        G organizations.
    weight : array, shape (G,)
        Balance weights.
    sd : {"organization", "people"}
        Spread between organizations, or of the rows behind them as well.
    denominator : {"pooled", "treated", "comparison"}
        Root of the mean variance of both sides, or one side's.

    Returns
    -------
    DataFrame
        One row a feature: ``feature``, ``mean_treated_before``, ``mean_comparison_before``,
        ``mean_treated_after``, ``mean_comparison_after`` (units of the feature), ``sd``,
        ``smd_before``, ``smd_after`` (treated minus comparison over sd), ``variance_ratio_before``,
        ``variance_ratio_after`` (treated over comparison, between organizations; missing for
        features that are 0 or 1), ``ks_before``, ``ks_after`` (largest gap of the weighted
        distribution functions), ``flag``: "ok", "above 0.1" or "fail" (above 0.25). Where
        organizations are people, features that are 0 or 1 for 1-10 of a side are missing, with
        flag "suppressed".

    Raises
    ------
    DesignError
        If an option is not known, or the data hold no spread of people.

    References
    ----------
    .. [1] Austin, P. C. (2009). Balance diagnostics for comparing the distribution of baseline
       covariates between treatment groups in propensity-score matched samples. *Statistics in
       Medicine* 28(25), 3083-3107. Section 2.
    """
    if sd not in ("organization", "people") or denominator not in (
        "pooled", "treated", "comparison",
    ):  # fmt: skip
        raise DesignError(
            f"`sd` is '{sd}' and `denominator` '{denominator}'; use 'organization' or 'people', "
            "and 'pooled', 'treated' or 'comparison'."
        )
    if sd == "people" and not features.within.any():
        raise DesignError(
            "sd='people' needs the spread of rows inside organizations, and each has one row a "
            "period here. Use sd='organization'."
        )
    before, after = features.base, features.base * weight
    sides = (features.treated, features.comparison)
    records = []
    for j, name in enumerate(features.names):
        z = features.z[:, j]
        binary = bool(np.isin(z[sides[0] | sides[1]], (0.0, 1.0)).all())
        record: dict[str, object] = {"feature": name}
        spread = [_variance(z, before, s, binary) for s in sides]
        if sd == "people":
            within = [before[s] @ features.within[s, j] / before[s].sum() for s in sides]
            total = [v + u for v, u in zip(spread, within, strict=True)]
        else:
            total = spread
        scale = np.sqrt({"pooled": (total[0] + total[1]) / 2, "treated": total[0],
                         "comparison": total[1]}[denominator])  # fmt: skip
        for when, w in (("before", before), ("after", after)):
            m1, m0 = (w[s] @ z[s] / w[s].sum() for s in sides)
            record |= {f"mean_treated_{when}": m1, f"mean_comparison_{when}": m0}
            record[f"smd_{when}"] = (m1 - m0) / scale if scale > 0 else np.nan
            v1, v0 = (_variance(z, w, s, False) for s in sides)
            record[f"variance_ratio_{when}"] = np.nan if binary or not v0 > 0 else v1 / v0
            record[f"ks_{when}"] = _ks(z, w, *sides)
        record["sd"] = scale
        gap = abs(float(np.nan_to_num(record["smd_after"])))  # type: ignore[call-overload]  # a number
        # a tolerance of as much is met to rounding
        over = [limit for limit in (TARGET, FAIL) if gap > limit + 1e-9]
        record["flag"] = ("ok", f"above {TARGET:g}", "fail")[len(over)]
        if features.people and binary and _tells_people(z, sides):
            record = {key: name if key == "feature" else np.nan for key in record}
            record["flag"] = "suppressed"
        records.append(record)
    order = ["feature", "mean_treated_before", "mean_comparison_before", "mean_treated_after",
             "mean_comparison_after", "sd", "smd_before", "smd_after", "variance_ratio_before",
             "variance_ratio_after", "ks_before", "ks_after", "flag"]  # fmt: skip
    return pd.DataFrame(records)[order]


def pooled_sd(features: Features) -> FloatArray:
    """Return the root of the mean variance of both sides before weighting, shape (p,)."""
    out = []
    for z in features.z.T:
        binary = bool(np.isin(z[features.included], (0.0, 1.0)).all())
        v = [_variance(z, features.base, s, binary)
             for s in (features.treated, features.comparison)]  # fmt: skip
        out.append(np.sqrt((v[0] + v[1]) / 2))
    return np.array(out)


def _variance(z: FloatArray, w: FloatArray, side: BoolArray, binary: bool) -> float:
    """Weighted variance, unbiased for equal weights; p (1 - p) for a feature of 0 and 1."""
    z, w = z[side], w[side]
    total = w.sum()
    mean = w @ z / total
    if binary:
        return float(mean * (1 - mean))
    free = total - (w**2).sum() / total
    return float(w @ (z - mean) ** 2 / free) if free > 1e-12 * total else 0.0


def _ks(z: FloatArray, w: FloatArray, treated: BoolArray, comparison: BoolArray) -> float:
    """Largest gap between weighted distribution functions."""
    order = np.argsort(z, kind="stable")
    steps = np.where(treated, w / w[treated].sum(), 0.0)
    steps -= np.where(comparison, w / w[comparison].sum(), 0.0)
    gap = np.cumsum(steps[order])
    last = np.append(z[order][1:] != z[order][:-1], True)
    return float(np.abs(gap[last]).max())


def _tells_people(z: FloatArray, sides: tuple[BoolArray, BoolArray]) -> bool:
    counts = [n for s in sides for n in (z[s].sum(), s.sum() - z[s].sum())]
    return bool(is_small(counts).any())
