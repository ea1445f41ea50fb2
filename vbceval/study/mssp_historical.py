"""How far published historical benchmarks follow from published baseline data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.errors import DataError
from vbceval.core.typing import FloatArray
from vbceval.data import MSSPResults
from vbceval.programs import get
from vbceval.programs.benchmark import historical

_FEWEST = 30
"""ACOs needed to estimate eight growth factors and still have something to check."""

REBASED = 2016
"""Start year of the only rebased agreements without a regional adjustment."""

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


def _of_year(
    results: MSSPResults, year: int, weights: tuple[float, ...] | None
) -> Iterator[dict[str, object]]:
    acos = results.aco_year.query("performance_year == @year and part == 'full_year'")
    acos = acos.set_index("aco_id")
    spending = results.spending.query("performance_year == @year and part == 'full_year'")
    spent, risk = (_by_type(spending, name, acos.index) for name in ("per_capita", "hcc_score"))
    people = _by_type(spending, "person_years", acos.index)[..., 2]
    share = people / people.sum(axis=1, keepdims=True)
    prior = acos["prior_sav_adj"].fillna(0.0).to_numpy(dtype=float)
    published = acos["hist_bnchmk"].to_numpy(dtype=float) - prior
    started = acos["current_start_date"].dt.year.fillna(acos["cohort"]).to_numpy(dtype=float)
    first = acos["first_agreement"].to_numpy(dtype=bool)
    second = (acos["agreement_period"] == 2).fillna(False).to_numpy(dtype=bool)
    kinds = {"first": first, "rebased": second & (started == REBASED)}
    for kind, chosen in kinds.items():
        for start in np.unique(started[chosen & np.isfinite(started)]):
            at = np.flatnonzero(chosen & (started == start))
            apart = _apart(
                published[at], spent[at], risk[at], share[at], weights or rule_weights(kind)
            )
            if len(apart) >= _FEWEST:
                yield {
                    "performance_year": year,
                    "agreement": kind,
                    "start": int(start),
                    "n_organizations": len(apart),
                    "median_apart": float(np.median(apart)),
                    "p90_apart": float(np.quantile(apart, 0.9)),
                    "most_apart": float(apart.max()),
                    "typical": float(np.median(published[at])),
                }


def _apart(
    published: FloatArray,
    spent: FloatArray,
    risk: FloatArray,
    share: FloatArray,
    weights: tuple[float, ...],
) -> FloatArray:
    """Return how far benchmarks are from the rule with the growth that fits best."""
    year = np.eye(3) * np.array(weights)
    # what each year contributes before growth, shape (3, organizations, types)
    parts = np.stack([share * historical(spent, np.ones(3), risk, year[k]) for k in range(3)])
    rest = published - parts[2].sum(axis=1)
    regressors = np.concatenate([parts[0], parts[1]], axis=1)
    whole = np.isfinite(regressors).all(axis=1) & np.isfinite(rest)
    growth, *_ = np.linalg.lstsq(regressors[whole], rest[whole], rcond=None)
    return np.asarray(np.abs(rest[whole] - regressors[whole] @ growth))


def rule_weights(agreement: str) -> tuple[float, ...]:
    """Return the rule's weights of the benchmark years in a ``first`` or ``rebased`` agreement."""
    rows = get("mssp").value("benchmark_weights", "TRACK_1", REBASED).value
    assert isinstance(rows, tuple)  # a table, as the rules declare
    return next(tuple(float(cell) for cell in row[1:]) for row in rows if row[0] == agreement)


def _by_type(spending: pd.DataFrame, name: str, index: pd.Index) -> FloatArray:
    """Return a measure by ACO, enrollment type and benchmark year, shape (n, 4, 3)."""
    keyed = spending.set_index(["enrollment_type", "reference", "aco_id"])[name].sort_index()
    return np.stack(
        [
            np.column_stack([keyed.loc[kind, f"BY{k}"].reindex(index) for k in (1, 2, 3)])
            for kind in _TYPES
        ],
        axis=1,
    ).astype(float)
