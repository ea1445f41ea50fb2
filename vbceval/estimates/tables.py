"""The tidy table of estimates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray
from vbceval.estimates import algebra, columns

if TYPE_CHECKING:
    from vbceval.estimates.estimates import Estimates

_TIE = 1e-9


def tidy(estimates: Estimates, level: float) -> pd.DataFrame:
    """Return estimates with intervals at `level`; see `Estimates.tidy`."""
    if not 0 < level < 1:
        raise DesignError(f"`level` is {level}: give a probability between 0 and 1.")
    out = estimates.frame.copy()
    sd, estimate = estimates.std_error, estimates.estimate
    df = out["df"].to_numpy(dtype=float)
    out["std_error"] = sd
    quantile = algebra.t_quantile((1 + level) / 2, df)
    symmetric = estimates.samples is not None and estimates.tails == "symmetric"
    if estimates.samples is not None and symmetric:
        size = np.sort(np.abs(estimates.samples - estimate), axis=0)
        half = np.where(np.isfinite(sd), _reach(size, level), np.nan)
        out["conf_low"], out["conf_high"] = estimate - half, estimate + half
        reached = 1 + (size >= np.abs(estimate) * (1 - _TIE)).sum(axis=0)
        out["p_value"] = np.where(np.isfinite(sd), reached / (1 + len(size)), np.nan)
    elif estimates.samples is not None:
        tails = np.quantile(estimates.samples, [(1 - level) / 2, (1 + level) / 2], axis=0)
        out["conf_low"], out["conf_high"] = tails[0], tails[1]
        out["p_value"] = np.nan
        if estimates.interval == "confidence":
            out["p_value"] = np.where(np.isfinite(sd), _from_draws(estimates.samples), np.nan)
    else:
        out["conf_low"] = estimate - quantile * sd
        out["conf_high"] = estimate + quantile * sd
        out["p_value"] = algebra.t_p_value(estimate / sd, df)
    for test in algebra.TESTS:
        if f"{test}_p_value" in out:
            out = _tested(out, test, level)
    analytic = estimates.samples is None and estimates.multiplier is None
    band = np.full(len(out), np.nan)
    for rows in out.groupby("estimand", sort=False, dropna=False).indices.values():
        live = np.asarray(rows)[np.isfinite(sd[rows])]
        if analytic and len(live) == 1:
            band[live] = quantile[live] * sd[live]
        elif len(live):
            largest = estimates.largest_t(live)
            reach = float(_reach(largest, level)) if symmetric else np.quantile(largest, level)
            band[live] = reach * sd[live]
    out["band_low"], out["band_high"] = estimate - band, estimate + band
    out["interval"] = estimates.interval
    first = [*columns.KEYS, *columns.VALUES]
    return out[[*first, *[c for c in out.columns if c not in first]]]


def described(estimates: Estimates) -> str:
    """Describe estimates without a label or a term of a cluster, which may be a person."""
    frame = estimates.frame

    def named(key: str) -> str:
        return ", ".join(str(v) for v in frame[key].dropna().unique()[:4])

    law = "influence" if estimates.psi is not None else "covariance"
    law = law if estimates.samples is None else "draws"
    made = [str(estimates.meta[k]) for k in ("estimator", "vcov") if estimates.meta.get(k)]
    said = ", ".join([*made, law])
    return f"Estimates({len(frame)} rows: {named('estimand')} of {named('outcome')}; {said})"


def _tested(out: pd.DataFrame, test: str, level: float) -> pd.DataFrame:
    """Return rows whose resampling test replaces the t test."""
    tested = out[f"{test}_p_value"].notna()
    # the interval inverts the test, so it is known at its own level only
    same = tested & (out[f"{test}_level"] == level)
    found = {"p_value": out["p_value"].mask(tested, out[f"{test}_p_value"])}
    for side in ("low", "high"):
        bound = out[f"{test}_{side}"].where(same)
        found[f"conf_{side}"] = out[f"conf_{side}"].mask(tested, bound)
    return out.assign(**found)


def _reach(size: FloatArray, level: float) -> FloatArray:
    """Return the size that one more draw exceeds with probability 1 - level, at most."""
    rank = math.ceil(level * (len(size) + 1) - _TIE)
    return np.asarray(size[rank - 1] if rank <= len(size) else np.full(size.shape[1:], np.inf))


def _from_draws(draws: FloatArray) -> FloatArray:
    """Return twice the share of bootstrap draws beyond zero, as their percentile interval tests."""
    beyond = np.minimum((draws <= 0).sum(axis=0), (draws >= 0).sum(axis=0))
    return np.asarray(np.minimum(2 * (1 + beyond) / (1 + len(draws)), 1.0))
