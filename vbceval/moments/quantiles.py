"""Histograms of cells as frames, and quantiles from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.errors import DataError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.moments import wide
from vbceval.moments.histograms import FIELDS, added, flat, limits
from vbceval.moments.schema import histogram_column
from vbceval.moments.sums import Sums


def histogram(sums: Sums, outcome: str) -> pd.DataFrame:
    """
    Return a row a cell and bin; see `vbceval.moments.moments.Moments.histogram`.

    Raises
    ------
    DataError
        If the sums hold no histogram of the outcome.
    """
    bins, cell = _bins(sums, outcome, np.arange(len(sums)))
    keys = sums.table.select(list(sums.schema.keys)).to_pandas()
    out: pd.DataFrame = pd.concat([keys.iloc[cell].reset_index(drop=True), bins], axis=1)
    return out


def quantile(
    sums: Sums, outcome: str, q: float | Sequence[float], *, by: Sequence[str] | None
) -> pd.DataFrame:
    """
    Return quantiles by keys; see `vbceval.moments.moments.Moments.quantile`.

    Raises
    ------
    DataError
        If the sums hold no histogram of the outcome, `by` names no key, or `q` is no probability.
    """
    schema = sums.schema
    if isinstance(by, str):
        raise DataError(f"`by` is the text '{by}'; give a list, ['{by}'].")
    names = list(schema.keys if by is None else by)
    strange = [k for k in names if k not in schema.keys]
    if strange:
        raise DataError(f"`by` names {listed(strange)}; keys are {listed(schema.keys)}.")
    wanted = np.atleast_1d(np.asarray(q, dtype=float))
    if wanted.ndim != 1 or not ((wanted >= 0) & (wanted <= 1)).all():
        raise DataError(f"`q` is {q}; it is a probability, 0 to 1, or several.")
    groups = pd.DataFrame(index=[0])
    place = np.zeros(len(sums), dtype=np.int64)
    if names:
        keys = sums.table.select(names).to_pandas()
        groups = keys.drop_duplicates().sort_values(names, ignore_index=True)
        place = keys.groupby(names, sort=True, observed=True).ngroup().to_numpy(dtype=np.int64)
    bins, group = _bins(sums, outcome, place)
    held = np.unique(group)
    w, mean, low, high = (bins[x].to_numpy(dtype=float) for x in ("w", "mean", "low", "high"))
    found = [quantiles(group, w, mean, low, high, p) for p in wanted]
    out = groups.iloc[np.repeat(held, len(wanted))].reset_index(drop=True)
    out["q"] = np.tile(wanted, len(held))
    for j, name in enumerate(("low", "high", "value")):
        out[name] = np.column_stack([parts[j] for parts in found]).ravel()
    return out


def quantiles(
    group: IntArray, w: FloatArray, mean: FloatArray, low: FloatArray, high: FloatArray, q: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """
    Return the bracket of a quantile in each group of bins, and its value.

    Within a bin the distribution is linear from `low` to the mean and from there to `high`, with the
    share (high - mean) / (high - low) below the mean: this has the mean of the bin.

    Parameters
    ----------
    group : int array, shape (b,)
        Group of each bin, in increasing order, bins in increasing order within.
    w, mean, low, high : array, shape (b,)
        Weight, mean, first and last value of each bin.
    q : float
        Probability.

    Returns
    -------
    tuple of array, each shape (number of groups,)
        First and last value of the bin, and the value between.

    Examples
    --------
    >>> quantiles(*map(np.array, ([0, 0], [4.0, 4.0], [1.0, 5.0], [0.0, 4.0], [4.0, 8.0])), 0.25)
    (array([0.]), array([4.]), array([0.66666667]))
    """
    to_here = pd.Series(w).groupby(group).cumsum().to_numpy()
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    sizes = np.diff(np.r_[starts, len(group)])
    target = q * to_here[starts + sizes - 1]
    place = np.arange(len(group))
    reached = np.where(to_here >= np.repeat(target, sizes), place, len(group))
    at = np.minimum.reduceat(reached, starts)
    a, b, m, held = low[at], high[at], mean[at], w[at]
    m = np.clip(m, a, b)
    share = np.clip((target - (to_here[at] - held)) / held, 0.0, 1.0)
    open_ = ~np.isfinite(b - a)
    with np.errstate(invalid="ignore", divide="ignore"):
        below = (b - m) / (b - a)
        lower = a + (m - a) * share / below
        upper = m + (b - m) * (share - below) / (1.0 - below)
    value = np.where(open_ | (a == b), m, np.where(share <= below, lower, upper))
    return a, b, np.clip(value, a, b)


def _bins(sums: Sums, outcome: str, place: IntArray) -> tuple[pd.DataFrame, IntArray]:
    """Bins of groups of cells in the unit of the outcome, and the group of each."""
    schema = sums.schema
    if outcome not in schema.histograms:
        raise DataError(
            f"the moments hold no histogram of `{outcome}` (histograms: "
            f"{listed(tuple(schema.histograms)) or 'none'}). Take them again with "
            f"histograms=['{outcome}']."
        )
    column = sums.table.column(histogram_column(outcome))
    bins, group = flat(added(column, place, int(place.max(initial=-1)) + 1))
    number, n, w, wy = (wide.from_column(bins.column(histogram_column(x))) for x in FIELDS)
    weight = () if schema.weight is None else (schema.weight,)
    low, high = limits(schema.histograms[outcome], schema.digits[outcome])
    at = number.high.astype(np.int64)
    frame = {
        "bin": at,
        "low": low[at],
        "high": high[at],
        "n": n.high.astype(np.int64),
        "w": w.high / sums.unit(*weight),
        "mean": wide.divide(wy, w).high / sums.unit(outcome),
    }
    return pd.DataFrame(frame), group
