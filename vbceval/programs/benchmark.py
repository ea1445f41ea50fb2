"""The benchmark of the Shared Savings Program from baseline data, 42 CFR 425.601 and 425.652.

Arrays have organizations in rows and enrollment types in columns; amounts are nominal US dollars a
person-year. The rules are those of agreements that start in 2019 or later.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from vbceval.core.checks import Problems, listed, missing_columns
from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.programs.program import Program
from vbceval.programs.registry import get
from vbceval.programs.terms import Terms, Used

KEYS = ("aco_id", "enrollment_type")
NUMBERS = (
    "per_capita_by1", "per_capita_by2", "per_capita_by3", "risk_by1", "risk_by2", "risk_by3",
    "trend_by1", "trend_by2", "person_years", "regional_per_capita", "national_per_capita",
    "national_growth", "regional_growth", "national_share", "hcc_ratio", "demographic_ratio",
)  # fmt: skip
"""Columns of numbers that `mssp_benchmark` needs."""

OF_ACO = {
    "agreement": 1.0,
    "rebased": 0.0,
    "prior_savings": 0.0,
    "proration": 1.0,
    "population": 0.0,
    "dual_share": 0.0,
    "mean_risk": 1.0,
}
"""Columns of an ACO as a whole, and the value where the table does not have them."""

SHARES = ("rebased", "dual_share")
"""Those of them that lie between 0 and 1."""


@dataclass(frozen=True)
class MSSPBenchmark:
    """
    Benchmarks with every step.

    Attributes
    ----------
    types : DataFrame
        One row an ACO and enrollment type: ``historical regional_adjustment added
        adjusted_historical update risk_ratio updated``.
    organizations : DataFrame
        One row an ACO, averages by person-years of the performance year: ``historical adjustment
        adjustment_kind risk_growth risk_limit updated updated_two_way``; the last is without the
        prospective trend, for `guardrail`.
    used : tuple of Used
        Values of the rules, with status and source.
    """

    types: pd.DataFrame
    organizations: pd.DataFrame
    used: tuple[Used, ...]


def historical(
    per_capita: ArrayLike, trend: ArrayLike, risk: ArrayLike, weights: ArrayLike
) -> FloatArray:
    """
    Return the historical benchmark: benchmark years trended and risk-adjusted to the last.

    Parameters
    ----------
    per_capita, trend, risk : array_like, shape (..., 3)
        Expenditures a person-year, growth to the third year (1 for itself) and mean risk score of
        the three benchmark years.
    weights : array_like, shape (..., 3)
        Weights of the years.

    Returns
    -------
    ndarray of float, shape (...)

    Examples
    --------
    >>> spent, trend, risk = [10_000, 10_300, 10_700], [1.08, 1.04, 1], [1, 1, 1.02]
    >>> float(historical(spent, trend, risk, [0.1, 0.3, 0.6]).round(3))
    10799.472
    """
    risk = np.asarray(risk, dtype=float)
    adjusted = np.asarray(per_capita) * np.asarray(trend) * risk[..., 2:] / risk
    return np.asarray((adjusted * np.asarray(weights)).sum(axis=-1))


def blended(national: ArrayLike, regional: ArrayLike, national_share: ArrayLike) -> FloatArray:
    """Return growth that blends the nation's and the region's by the ACO's share of its region."""
    share = np.asarray(national_share, dtype=float)
    return np.asarray(share * np.asarray(national) + (1 - share) * np.asarray(regional))


def capped_risk(
    hcc: ArrayLike, demographic: ArrayLike, weights: ArrayLike, *, cap: float, together: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """
    Return risk ratios with the cap on their growth.

    Parameters
    ----------
    hcc, demographic : array_like, shape (organizations, types)
        Ratio of mean scores of the performance year to the last benchmark year.
    weights : array_like, shape (organizations, types)
        Historical benchmark dollars: per capita times person-years.
    cap : float
        Most growth.
    together : bool
        Cap all types if their weighted ratio exceeds the demographic one by more than `cap`, at
        that limit, else leave them; without it each type is capped at ``1 + cap``.

    Returns
    -------
    tuple of ndarray
        Ratios used, shape (organizations, types); weighted growth and its limit, (organizations,).
    """
    hcc, weights = np.asarray(hcc, dtype=float), np.asarray(weights, dtype=float)
    share = weights / weights.sum(axis=1, keepdims=True)
    growth = (share * hcc).sum(axis=1)
    if not together:
        return np.minimum(hcc, 1 + cap), growth, np.full(len(hcc), 1 + cap)
    limit = (share * np.asarray(demographic)).sum(axis=1) + cap
    binds = (growth > limit)[:, None]
    return np.where(binds, np.minimum(hcc, limit[:, None]), hcc), growth, limit


def prior_savings_adjustment(
    average: ArrayLike, proration: ArrayLike, national: ArrayLike, *, share: float, cap: float
) -> FloatArray:
    """
    Return what prior savings add to the benchmark, dollars a person-year.

    Examples
    --------
    >>> float(prior_savings_adjustment(400.0, 0.9, 12_000.0, share=0.5, cap=0.05))
    180.0
    """
    added = share * np.maximum(average, 0.0) * np.minimum(proration, 1.0)
    return np.asarray(np.minimum(added, cap * np.asarray(national)))


def updated_in_dollars(
    historical_benchmark: ArrayLike, risk_ratio: ArrayLike, growth: ArrayLike
) -> FloatArray:
    """
    Return updated benchmarks of agreements whose update is an amount of dollars.

    First agreements that start before 2019 add the growth of national expenditures in dollars to the
    risk-adjusted historical benchmark. The ratio is that of HCC scores for people newly assigned, and
    of demographic scores for others unless their HCC ratio is lower; it must be given.

    Parameters
    ----------
    historical_benchmark, risk_ratio, growth : array_like
        By enrollment type: dollars a person-year, a ratio, dollars a person-year.

    References
    ----------
    .. [1] 42 CFR 425.602(b), 425.604(a). Details are not confirmed in the text of the rule.

    Examples
    --------
    >>> float(updated_in_dollars(10_000.0, 0.99, 250.0))
    10150.0
    """
    adjusted = np.asarray(historical_benchmark, dtype=float) * np.asarray(risk_ratio, dtype=float)
    return np.asarray(adjusted + np.asarray(growth, dtype=float))


def guardrail(
    three_way: ArrayLike, two_way: ArrayLike, expenditure: ArrayLike, minimum_loss_rate: ArrayLike
) -> tuple[FloatArray, BoolArray]:
    """
    Return benchmarks after the guardrail, and where it holds.

    Where the update with the prospective trend leaves losses that would be shared, the update
    without it is used if it is higher; savings that come from it are not shared.

    Parameters
    ----------
    three_way, two_way : array_like
        Updated benchmarks with and without the prospective trend, dollars in total or a person-year.
    expenditure : array_like
        Expenditures in the same unit.
    minimum_loss_rate : array_like
        Fraction of the benchmark from which losses are shared.

    Returns
    -------
    benchmark : ndarray of float
    holds : ndarray of bool
        For the column ``guardrail`` of a settlement.

    References
    ----------
    .. [1] 42 CFR 425.652(b). That it works so is not confirmed in the text of the rule.

    Examples
    --------
    >>> benchmark, holds = guardrail([100.0, 100.0], [102.0, 99.0], [103.0, 103.0], 0.02)
    >>> benchmark.tolist(), holds.tolist()
    ([102.0, 100.0], [True, False])
    """
    first, second = np.asarray(three_way, dtype=float), np.asarray(two_way, dtype=float)
    spent = np.asarray(expenditure, dtype=float)
    holds = (spent - first >= np.asarray(minimum_loss_rate) * first) & (spent > first)
    holds = holds & (second > first)
    return np.where(holds, second, first), np.asarray(holds)


def mssp_benchmark(
    frame: pd.DataFrame, *, agreement_start: int, program: Program | None = None
) -> MSSPBenchmark:
    """
    Build updated benchmarks of ACOs whose agreements start in one year.

    The historical benchmark of each enrollment type is adjusted for the region, or by prior
    savings or the population adjustment where these are higher, updated, and multiplied by the
    capped risk ratio. From 2024 an offset shrinks negative regional adjustments. Not modelled: the
    cap on the region's own risk scores.

    Parameters
    ----------
    frame : DataFrame
        One row an ACO and enrollment type, with `KEYS` and `NUMBERS`: expenditures and mean risk
        scores of benchmark years, growth of the first two to the third, person-years of the
        performance year, expenditures of region and nation (risk-adjusted), growth since the
        third year, the ACO's share of its region, and the ratios of scores. ``acpt``, the
        prospective growth, is needed from 2024. Of the ACO: ``agreement`` (agreements subject to
        the regional adjustment, 1 by default), ``rebased``, ``prior_savings`` and ``proration``,
        ``population`` (the population adjustment), ``dual_share`` (person-years with dual status) and
        ``mean_risk`` (mean risk score, the nation 1), which make the offset; none without them.
    agreement_start : int
        Year in which the agreements start, 2019 or later.
    program : Program, optional
        Rules other than those of ``mssp``.

    Returns
    -------
    MSSPBenchmark

    Raises
    ------
    DataError
        Listing missing columns and values, and numbers that cannot be.
    DesignError
        If the rules do not cover the year.
    """
    program = program or get("mssp")
    if agreement_start < 2019 or agreement_start not in program.years:
        raise DesignError(
            f"the benchmark rules of agreements that start in {agreement_start} are not declared; "
            "give a start year from 2019 on."
        )
    terms = program.terms(agreement_start, program.open_in(agreement_start)[:1])
    acpt_weight = terms.one("prospective_weight")
    _check(frame, acpt_needed=acpt_weight > 0)
    table = frame.sort_values(list(KEYS), ignore_index=True)
    by_type = {name: _matrix(table, name) for name in (*NUMBERS, "acpt") if name in table}
    person_years = np.nan_to_num(by_type["person_years"])
    share = person_years / person_years.sum(axis=1, keepdims=True)
    of_aco = {name: _of_aco(table, name, absent) for name, absent in OF_ACO.items()}
    base = _historical(terms, by_type, of_aco["rebased"])
    added, kind, regional = _adjustment(terms, by_type, of_aco, base, share)
    adjusted = base + added
    two_way = blended(
        by_type["national_growth"], by_type["regional_growth"], by_type["national_share"]
    )
    update = two_way
    if acpt_weight > 0:
        update = acpt_weight * by_type["acpt"] + (1 - acpt_weight) * two_way
    ratio, growth, limit = capped_risk(
        np.nan_to_num(by_type["hcc_ratio"]), np.nan_to_num(by_type["demographic_ratio"]),
        np.nan_to_num(adjusted * person_years), cap=terms.one("risk_cap"),
        together=terms.text("risk_cap_rule")[0, 0] == "together",
    )  # fmt: skip
    updated = adjusted * update * ratio
    steps = {
        "historical": base, "regional_adjustment": regional, "added": added,
        "adjusted_historical": adjusted, "update": update, "risk_ratio": ratio, "updated": updated,
    }  # fmt: skip
    organizations = pd.DataFrame(
        {
            "aco_id": table["aco_id"].drop_duplicates().to_numpy(),
            "historical": _average(base, share),
            "adjustment": _average(added, share),
            "adjustment_kind": kind,
            "risk_growth": growth,
            "risk_limit": limit,
            "updated": _average(updated, share),
            "updated_two_way": _average(adjusted * two_way * ratio, share),
        }
    )
    return MSSPBenchmark(_long(table, steps), organizations, terms.used())


def _historical(terms: Terms, by_type: dict[str, FloatArray], rebased: FloatArray) -> FloatArray:
    rows = terms.table("benchmark_weights")
    weights = {str(row[0]): np.array(row[1:], dtype=float) for row in rows}
    spent = np.stack([by_type[f"per_capita_by{k}"] for k in (1, 2, 3)], axis=-1)
    risk = np.stack([by_type[f"risk_by{k}"] for k in (1, 2, 3)], axis=-1)
    last = np.ones_like(by_type["trend_by1"])
    trend = np.stack([by_type["trend_by1"], by_type["trend_by2"], last], axis=-1)
    chosen = np.where(rebased[..., None] > 0, weights["rebased"], weights["first"])
    return historical(spent, trend, risk, chosen)


def _adjustment(
    terms: Terms,
    by_type: dict[str, FloatArray],
    of_aco: dict[str, FloatArray],
    base: FloatArray,
    share: FloatArray,
) -> tuple[FloatArray, list[str], FloatArray]:
    """Return what is added by type, which adjustment it is, and the regional one alone."""
    rows = np.array(terms.table("regional_weight"), dtype=float)
    agreement = of_aco["agreement"]
    at = np.clip(np.searchsorted(rows[:, 0], agreement, side="right") - 1, 0, None)
    apart, national = by_type["regional_per_capita"] - base, by_type["national_per_capita"]
    regional = np.where(apart > 0, rows[at, 1], rows[at, 2]) * apart
    regional = np.clip(
        regional, -terms.one("regional_floor") * national, terms.one("regional_cap") * national
    )
    if terms.flag("regional_offset", absent=False)[0, 0]:
        offset = of_aco["dual_share"] + np.maximum(of_aco["mean_risk"] - 1.0, 0.0)
        regional = np.where(regional < 0, regional * (1 - np.clip(offset, 0.0, 1.0)), regional)
    overall = _average(regional, share)[:, None]
    if terms.flag("negative_region_removed")[0, 0]:
        regional = np.where(overall < 0, 0.0, regional)
        overall = np.maximum(overall, 0.0)
    cap = terms.one("added_cap", absent=0.0)
    nation = _average(national, share)[:, None]
    prior = prior_savings_adjustment(
        of_aco["prior_savings"], of_aco["proration"], nation,
        share=terms.one("prior_savings_share", absent=0.0), cap=cap,
    )  # fmt: skip
    population = np.minimum(of_aco["population"], cap * nation)
    highest = np.maximum(prior, population)
    # where a negative regional adjustment stays, it is added to prior savings
    both = (overall < 0) & (prior > 0)
    replaced = (highest > np.maximum(overall, 0.0)) & ~both
    added = np.where(both, regional + prior, np.where(replaced, highest, regional))
    names = np.select(
        [both, replaced & (prior >= population), replaced, overall != 0],
        ["regional and prior savings", "prior savings", "population", "regional"],
        "none",
    )
    return added, names[:, 0].tolist(), regional


def _check(frame: pd.DataFrame, *, acpt_needed: bool) -> None:
    found = Problems("the table of baseline data")
    numbers = [*NUMBERS, *(["acpt"] if acpt_needed else [])]
    absent = missing_columns(frame, [*KEYS, *numbers])
    if absent:
        found.add(f"{len(absent)} columns are missing: {listed(absent, most=20)}.")
        found.raise_if_any()
    if frame.duplicated(list(KEYS)).any():
        found.add("an ACO has two rows of one enrollment type. Keep one.")
    for name in numbers:
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float)
        bad = ~np.isfinite(values) | (values < 0)
        if name.startswith(("risk_", "person", "national_per", "hcc", "demographic")):
            bad |= values <= 0
        if bad.any():
            rows = frame.loc[bad, "aco_id"].astype(str).unique()
            found.add(
                f"`{name}` is missing, negative or zero in rows of {len(rows)} ACOs "
                f"({listed(rows)}). Leave out an enrollment type without people."
            )
    for name in (n for n in OF_ACO if n in frame):
        if frame[["aco_id", name]].drop_duplicates()["aco_id"].duplicated().any():
            found.add(f"`{name}` differs between the rows of an ACO; it belongs to the whole ACO.")
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float)
        bad = ~np.isfinite(values)
        bad |= (values < 0) if name != "prior_savings" else False
        bad |= (values > 1) if name in SHARES else False
        if bad.any():
            rows = frame.loc[bad, "aco_id"].astype(str).unique()
            bounds = "a fraction between 0 and 1" if name in SHARES else "a number from 0 on"
            found.add(
                f"`{name}` is not {'a number' if name == 'prior_savings' else bounds} in rows of "
                f"{len(rows)} ACOs ({listed(rows)}). Correct it, or leave the column out."
            )
    found.raise_if_any()


def _matrix(table: pd.DataFrame, name: str) -> FloatArray:
    row, acos = pd.factorize(table["aco_id"])
    column, types = pd.factorize(table["enrollment_type"], sort=True)
    wide = np.full((len(acos), len(types)), np.nan)
    wide[row, column] = table[name].to_numpy(dtype=float)
    return wide


def _of_aco(table: pd.DataFrame, name: str, absent: float) -> FloatArray:
    if name not in table:
        return np.full((table["aco_id"].nunique(), 1), absent)
    return table.groupby("aco_id")[name].first().to_numpy(dtype=float)[:, None]


def _average(values: FloatArray, share: FloatArray) -> FloatArray:
    return np.asarray(np.where(share > 0, values * share, 0.0).sum(axis=1))


def _long(table: pd.DataFrame, steps: dict[str, FloatArray]) -> pd.DataFrame:
    there = np.isfinite(_matrix(table, "person_years"))
    columns = {name: values[there] for name, values in steps.items()}
    return pd.concat([table[list(KEYS)], pd.DataFrame(columns)], axis=1)
