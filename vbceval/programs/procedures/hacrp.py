"""Hospital-Acquired Condition Reduction Program: the worst quarter loses one percent."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike

from vbceval.core.errors import DataError
from vbceval.core.typing import FloatArray
from vbceval.programs.conditions import refuse
from vbceval.programs.inputs import Inputs
from vbceval.programs.program import Program
from vbceval.programs.settlement import Worksheet
from vbceval.programs.terms import Terms, Used


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Settle hospitals of one fiscal year.

    A hospital without a score keeps its payments, and so does one outside the program, such as
    those of Maryland, whose measures count in the z-scores only.

    Raises
    ------
    DataError
        If no hospital has a score, or before 2020 measures are given and no total scores.

    References
    ----------
    .. [1] 42 CFR 412.172.
    """
    book = Worksheet(len(inputs.organizations))
    total = book.add(
        "total_score",
        _total_scores(terms, inputs, book),
        "Given, or the mean of the available z-scores.",
        unit="number",
    )
    in_percentile = inputs.flag("in_percentile", absent=True)
    of_table = quantile_of_known(np.where(in_percentile, total, np.nan), terms.one("percentile"))
    threshold = book.add(
        "threshold",
        np.where(np.isnan(inputs.number("threshold")), of_table, inputs.number("threshold")),
        "Published 75th percentile, or that of the table.",
        unit="number",
    )
    # a missing score is above nothing
    reduced = book.add(
        "reduced",
        (total > threshold) & in_percentile,
        "Whether the total score is above it; never outside the program.",
        unit="flag",
    )
    payments = book.add("payments", inputs.number("payments"), "Payments of the year.")
    book.add(
        "settlement",
        np.where(reduced, -terms.number("reduction") * payments, 0.0),
        "Change of payments.",
        final=True,
    )
    return book


def _total_scores(terms: Terms, inputs: Inputs, book: Worksheet) -> FloatArray:
    given = inputs.number("total_score")
    missing = bool(np.isnan(given).any())
    tables = terms.tables("measures", may_be_absent=True) if missing else []
    scores = []
    if tables:
        ends = terms.one("winsorised")
        for row in tables[0][1]:
            name = str(row[0])
            z = inputs.number(f"z_{name}")
            if name in inputs:
                z = np.where(np.isnan(z), winsorised_z(inputs.number(name), share=ends), z)
            scores.append(book.add(f"z_{name}", z, "Winsorised z-score.", unit="number"))
    total = np.where(np.isnan(given), _mean_of_known(scores), given) if scores else given
    refuse(
        terms,
        inputs,
        (
            np.broadcast_to(np.isnan(total).all(axis=0), total.shape),
            f"have no score that counts in {terms.performance_year}, nor has any other.",
            "Give `total_score`, or measures from 2020 on.",
        ),
    )
    return total


def _mean_of_known(scores: list[FloatArray]) -> FloatArray:
    with warnings.catch_warnings():
        # a hospital without any measure has no score, which is no accident
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return np.asarray(np.nanmean(np.stack(np.broadcast_arrays(*scores)), axis=0))


def z_score(
    value: ArrayLike, *, low: ArrayLike, high: ArrayLike, mean: ArrayLike, std_dev: ArrayLike
) -> FloatArray:
    """
    Return z-scores of values kept between two percentiles.

    Parameters
    ----------
    value : array_like
        Results of a measure.
    low, high : array_like
        5th and 95th percentile.
    mean, std_dev : array_like
        Of the results kept between them.

    Examples
    --------
    >>> round(float(z_score(1.40, low=0.20, high=2.10, mean=0.92, std_dev=0.45)), 4)
    1.0667
    """
    kept = np.clip(np.asarray(value, dtype=float), low, high)
    return np.asarray((kept - np.asarray(mean)) / np.asarray(std_dev))


def winsorised_z(values: ArrayLike, *, share: float) -> FloatArray:
    """
    Return z-scores over hospitals after results at both ends are set to the percentiles.

    Parameters
    ----------
    values : array_like, shape (hospitals, 1) or (hospitals, draws)
        Results; missing where a hospital has none.
    share : float
        Share of hospitals at either end.

    Returns
    -------
    ndarray
        In the shape of `values`; 0 where all hospitals have the same result.
    """
    values = np.asarray(values, dtype=float)
    if np.isnan(values).all():
        return values
    low, high = quantile_of_known(values, share), quantile_of_known(values, 1 - share)
    kept = np.clip(values, low, high)
    mean = np.nanmean(kept, axis=0, keepdims=True)
    n = (~np.isnan(kept)).sum(axis=0, keepdims=True)
    spread = np.sqrt(np.nansum((kept - mean) ** 2, axis=0, keepdims=True) / np.maximum(n - 1, 1))
    return z_score(values, low=low, high=high, mean=mean, std_dev=np.where(spread > 0, spread, 1.0))


def quantile_of_known(values: FloatArray, share: float) -> FloatArray:
    """
    Return a quantile over hospitals, missing values left out, in every draw.

    Parameters
    ----------
    values : ndarray, shape (hospitals, draws)
        Results; missing where there is none.
    share : float
        The quantile as a fraction; values between hospitals are interpolated in straight lines.

    Returns
    -------
    ndarray, shape (1, draws)
        Missing in draws without any value.
    """
    ordered = np.sort(values, axis=0)  # missing values come last
    n = (~np.isnan(ordered)).sum(axis=0, keepdims=True)
    place = share * np.maximum(n - 1, 0)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(n - 1, 0))
    first = np.take_along_axis(ordered, low, axis=0)
    last = np.take_along_axis(ordered, high, axis=0)
    return np.asarray(first + (place - low) * (last - first))


def tenth_points(values: ArrayLike) -> FloatArray:
    """
    Return points by tenth of hospitals: 1 for the lowest results to 10 for the highest.

    Parameters
    ----------
    values : array_like, shape (hospitals,)
        Results of a measure, higher is worse; missing where a hospital has none.

    Returns
    -------
    ndarray, shape (hospitals,)
        A result equal to a percentile is in the tenth below it.

    Examples
    --------
    >>> tenth_points([0.2, 1.4, 0.9, None, 3.0]).tolist()
    [1.0, 7.0, 4.0, nan, 10.0]
    """
    held = np.asarray(values, dtype=float)
    known = ~np.isnan(held)
    if not known.any():
        return np.full(held.shape, np.nan)
    edges = np.quantile(held[known], np.linspace(0.1, 0.9, 9))
    return np.where(known, np.searchsorted(edges, held, side="left") + 1.0, np.nan)


def domain_total_scores(
    program: Program,
    *,
    performance_year: int,
    patient_safety: ArrayLike,
    infections: ArrayLike,
) -> tuple[FloatArray, tuple[Used, ...]]:
    """
    Return Total HAC Scores of fiscal years 2015 to 2019, the weighted scores of two domains.

    A hospital with one domain has its score. Tenths and percentiles are those of the hospitals given,
    so give all of them.

    Parameters
    ----------
    program : Program
        ``get("hacrp")``, or the program with other values.
    performance_year : int
        Fiscal year, 2015 to 2019.
    patient_safety : array_like, shape (hospitals,)
        Patient-safety composite; missing where a hospital has none.
    infections : array_like, shape (hospitals, measures)
        Infection ratios of the year's measures; the domain is the mean of those available.

    Returns
    -------
    scores : ndarray, shape (hospitals,)
        For the column ``total_score`` of a settlement; missing without any measure.
    used : tuple of Used
        Values of the rules with status and source.

    Raises
    ------
    DataError
        If the two have not the same hospitals.
    DesignError
        If the year has no domains.

    Examples
    --------
    >>> from vbceval.programs import get
    >>> ratios = [[0.5, 0.9], [1.0, 1.0], [2.0, None]]
    >>> given = {"patient_safety": [0.8, 0.9, None], "infections": ratios}
    >>> domain_total_scores(get("hacrp"), performance_year=2016, **given)[0].round(2).tolist()
    [1.0, 8.12, 10.0]
    """
    first = np.asarray(patient_safety, dtype=float)
    others = np.asarray(infections, dtype=float)
    if first.ndim != 1 or others.ndim != 2 or len(first) != len(others):
        raise DataError(
            f"`patient_safety` has shape {first.shape} and `infections` {others.shape}; give one value "
            "and one row a hospital, in the same order."
        )
    terms = program.terms(performance_year, ["ALL"])
    weights = np.asarray(terms.table("domain_weights")[0], dtype=float)
    if terms.text("domain_points")[0, 0] == "tenths":
        points = [tenth_points(column) for column in (first, *others.T)]
    else:
        ends = terms.one("winsorised")
        points = [winsorised_z(c[:, None], share=ends)[:, 0] for c in (first, *others.T)]
    domains = np.column_stack([points[0], _mean_of_known(points[1:])])
    shares = np.where(np.isnan(domains), 0.0, weights)
    total = shares.sum(axis=1)
    added = (shares * np.nan_to_num(domains)).sum(axis=1)
    return np.divide(added, total, out=np.full(len(first), np.nan), where=total > 0), terms.used()
