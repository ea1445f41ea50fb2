"""How far published historical benchmarks follow from published baseline data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.errors import DataError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.data import MSSPResults
from vbceval.data.mssp_layout import REFERENCES
from vbceval.programs import get
from vbceval.programs.benchmark_steps import historical, updated_in_dollars

_FEWEST = 30
"""ACOs needed to estimate eight growth factors and still have something to check."""

REBASED = 2016
"""Start year of the only rebased agreements without a regional adjustment."""

RATIOS = ("none", "hcc", "lower")
"""Risk ratios of `check_updated`: 1; that of HCC scores; the lower of the two."""

_TYPES = ("esrd", "disabled", "aged_dual", "aged_non_dual")


def check_historical(
    results: MSSPResults, *, weights: tuple[float, float, float] | None = None
) -> pd.DataFrame:
    """
    Compare published historical benchmarks with the rule.

    The rule is the weighted mean of the benchmark years, risk-adjusted and trended to the third,
    by enrollment type, and in agreements rebased in 2016 the published adjustment for prior
    savings. The national growth factors are not in the files: two for each enrollment type,
    common to all ACOs that started together, they are estimated by least squares. What is left
    shows whether weights and risk adjustment are right. Agreements rebased later have a regional
    adjustment that is not published, and are left out.

    Parameters
    ----------
    results : MSSPResults
        Published results, as `vbceval.data.read_file` or `read_mssp` returns them.
    weights : tuple of float, optional
        Weights of the three benchmark years; default those of the rule.

    Returns
    -------
    DataFrame
        One row a file, kind of agreement and start year with at least 30 ACOs: ``performance_year
        agreement start n_organizations median_apart p90_apart most_apart typical``, dollars a
        person-year; `typical` is the median published benchmark.

    Raises
    ------
    DataError
        If no start year has enough ACOs.
    """
    rows = [row for year in results.years for row in _of_year(results, year, weights)]
    if not rows:
        raise DataError(
            f"the results of {listed(results.years)} have no start year with {_FEWEST} ACOs whose "
            "baseline data are whole, so there is nothing to check."
        )
    return pd.DataFrame(rows)


def check_updated(results: MSSPResults) -> pd.DataFrame:
    """
    Compare published updated benchmarks of first agreements that start before 2016 with the rule.

    The update is dollars of national growth, one amount an enrollment type for all who started
    together; it is not in the files and is estimated by least squares. Nor is the risk ratio, which
    lies between that of HCC scores and that of demographic scores, which is near 1: three ratios
    are tried, and what is left says how much of the update the published columns explain.

    Parameters
    ----------
    results : MSSPResults
        Published results, of years in which ACOs are in first agreements that start before 2016.

    Returns
    -------
    DataFrame
        One row a file, start year with at least 30 ACOs, and ratio of `RATIOS`: ``performance_year
        start ratio n_organizations median_apart p90_apart typical``, dollars a person-year.

    Raises
    ------
    DataError
        If no start year has enough ACOs.
    """
    rows = []
    for year in results.years:
        given = _published(results, year)
        weights = rule_weights("first")
        for start in np.unique(given.started[given.first & (given.started < REBASED)]):
            at = np.flatnonzero(given.first & (given.started == start))
            growth = _fitted_growth(given, at, weights)
            if growth is None:
                continue
            factors = np.column_stack([growth.reshape(2, 4).T, np.ones(4)])
            base = historical(given.spent[at], factors, given.risk[at], weights)
            hcc = given.risk_now[at] / given.risk[at][..., 2]
            ratios = dict(zip(RATIOS, (np.ones_like(hcc), hcc, np.minimum(hcc, 1.0)), strict=True))
            for name, ratio in ratios.items():
                apart = _apart_from_update(given, at, updated_in_dollars(base, ratio, 0.0))
                rows.append(
                    {
                        "performance_year": year, "start": int(start), "ratio": name,
                        "n_organizations": len(apart), "median_apart": float(np.median(apart)),
                        "p90_apart": float(np.quantile(apart, 0.9)),
                        "typical": float(np.median(given.updated[at])),
                    }
                )  # fmt: skip
    if not rows:
        raise DataError(
            f"the results of {listed(results.years)} have no first agreements of one start year before "
            f"{REBASED} with {_FEWEST} ACOs, so there is nothing to check."
        )
    return pd.DataFrame(rows)


class _Published(NamedTuple):
    """Columns of one file: (n,), (n, types) or (n, types, benchmark years)."""

    first: BoolArray
    second: BoolArray
    started: FloatArray
    historical: FloatArray
    updated: FloatArray
    spent: FloatArray
    risk: FloatArray
    risk_now: FloatArray
    share: FloatArray
    share_now: FloatArray


def _published(results: MSSPResults, year: int) -> _Published:
    acos = results.aco_year.query("performance_year == @year and part == 'full_year'")
    acos = acos.set_index("aco_id")
    spending = results.spending.query("performance_year == @year and part == 'full_year'")
    spent, risk, people = (
        _by_type(spending, name, acos.index) for name in ("per_capita", "hcc_score", "person_years")
    )
    prior = acos["prior_sav_adj"].fillna(0.0).to_numpy(dtype=float)
    return _Published(
        first=acos["first_agreement"].to_numpy(dtype=bool),
        second=(acos["agreement_period"] == 2).fillna(False).to_numpy(dtype=bool),
        started=acos["current_start_date"].dt.year.fillna(acos["cohort"]).to_numpy(dtype=float),
        historical=acos["hist_bnchmk"].to_numpy(dtype=float) - prior,
        updated=acos["updated_bnchmk"].to_numpy(dtype=float),
        spent=spent[..., :3],
        risk=risk[..., :3],
        risk_now=risk[..., 3],
        share=people[..., 2] / people[..., 2].sum(axis=1, keepdims=True),
        share_now=people[..., 3] / people[..., 3].sum(axis=1, keepdims=True),
    )


def _of_year(
    results: MSSPResults, year: int, weights: tuple[float, ...] | None
) -> Iterator[dict[str, object]]:
    given = _published(results, year)
    kinds = {"first": given.first, "rebased": given.second & (given.started == REBASED)}
    for kind, chosen in kinds.items():
        for start in np.unique(given.started[chosen & np.isfinite(given.started)]):
            at = np.flatnonzero(chosen & (given.started == start))
            rest, regressors = _regression(given, at, weights or rule_weights(kind))
            growth = _solved(rest, regressors)
            apart = np.abs(rest - regressors @ growth)
            if len(apart) >= _FEWEST:
                yield {
                    "performance_year": year,
                    "agreement": kind,
                    "start": int(start),
                    "n_organizations": len(apart),
                    "median_apart": float(np.median(apart)),
                    "p90_apart": float(np.quantile(apart, 0.9)),
                    "most_apart": float(apart.max()),
                    "typical": float(np.median(given.historical[at])),
                }


def _regression(
    given: _Published, at: IntArray, weights: tuple[float, ...]
) -> tuple[FloatArray, FloatArray]:
    """Return what growth must explain, and what each year and type contributes before growth."""
    year = np.eye(3) * np.array(weights)
    # shape (3, organizations, types)
    parts = np.stack(
        [
            given.share[at] * historical(given.spent[at], np.ones(3), given.risk[at], year[k])
            for k in range(3)
        ]
    )
    rest = given.historical[at] - parts[2].sum(axis=1)
    regressors = np.concatenate([parts[0], parts[1]], axis=1)
    whole = np.isfinite(regressors).all(axis=1) & np.isfinite(rest)
    return rest[whole], regressors[whole]


def _solved(rest: FloatArray, regressors: FloatArray) -> FloatArray:
    """Return the growth factors that fit best: four types from the first year, then the second."""
    growth, *_ = np.linalg.lstsq(regressors, rest, rcond=None)
    return np.asarray(growth)


def _fitted_growth(
    given: _Published, at: IntArray, weights: tuple[float, ...]
) -> FloatArray | None:
    rest, regressors = _regression(given, at, weights)
    return _solved(rest, regressors) if len(rest) >= _FEWEST else None


def _apart_from_update(given: _Published, at: IntArray, adjusted: FloatArray) -> FloatArray:
    """Return how far updated benchmarks are from `adjusted` with the dollars that fit best."""
    share = given.share_now[at]
    rest = given.updated[at] - (share * adjusted).sum(axis=1)
    whole = np.isfinite(rest) & np.isfinite(share).all(axis=1)
    growth, *_ = np.linalg.lstsq(share[whole], rest[whole], rcond=None)
    return np.asarray(np.abs(rest[whole] - share[whole] @ growth))


def rule_weights(agreement: str) -> tuple[float, ...]:
    """Return the rule's weights of the benchmark years in a ``first`` or ``rebased`` agreement."""
    rows = get("mssp").value("benchmark_weights", "TRACK_1", REBASED).value
    assert isinstance(rows, tuple)  # a table, as the rules declare
    return next(tuple(float(cell) for cell in row[1:]) for row in rows if row[0] == agreement)


def _by_type(spending: pd.DataFrame, name: str, index: pd.Index) -> FloatArray:
    """Return a measure by ACO, enrollment type and year, BY1 to BY3 and PY, shape (n, 4, 4)."""
    keyed = spending.set_index(["enrollment_type", "reference", "aco_id"])[name].sort_index()
    return np.stack(
        [
            np.column_stack([keyed.loc[kind, year].reindex(index) for year in REFERENCES])
            for kind in _TYPES
        ],
        axis=1,
    ).astype(float)
