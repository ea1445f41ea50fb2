"""The benchmark of the Shared Savings Program from baseline data, 42 CFR 425.601-603 and 425.652.

Arrays have organizations in rows and enrollment types in columns; amounts are nominal US dollars a
person-year.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray
from vbceval.programs.benchmark_before_2019 import benchmark_before_2019
from vbceval.programs.benchmark_steps import (
    blended,
    capped_region,
    capped_risk,
    historical,
    prior_savings_adjustment,
)
from vbceval.programs.benchmark_table import (
    BASELINE,
    KEYS,
    OF_ACO,
    MSSPBenchmark,
    average,
    check_table,
    long,
    matrix,
    of_aco,
    shares_of_people,
)
from vbceval.programs.program import Program
from vbceval.programs.registry import get
from vbceval.programs.terms import Terms

NUMBERS = (
    *BASELINE, "regional_per_capita", "national_per_capita", "national_growth", "regional_growth",
    "national_share",
)  # fmt: skip
"""Columns of numbers of agreements that start in 2019 or later."""

REGION = ("regional_hcc_ratio", "regional_demographic_ratio")
"""Columns by which growth of the region's own risk scores is capped, from 2024."""

FIRST_BLENDED = 2019


def mssp_benchmark(
    frame: pd.DataFrame, *, agreement_start: int, program: Program | None = None
) -> MSSPBenchmark:
    """
    Build updated benchmarks of ACOs whose agreements start in one year.

    From 2019 the historical benchmark of each enrollment type is adjusted for the region, or by prior
    savings or the population adjustment where these are higher, updated, and multiplied by the
    capped risk ratio. From 2024 an offset shrinks negative regional adjustments, and growth of the
    region's own risk scores is capped. Before 2019 first agreements, and those rebased in 2016, are
    updated by dollars; those rebased in 2017 and 2018 are adjusted for the region, without
    limits, and updated by its growth.

    Parameters
    ----------
    frame : DataFrame
        One row an ACO and enrollment type, with `KEYS` and `BASELINE`: expenditures and mean risk
        scores of benchmark years, growth of the first two to the third, person-years of the
        performance year, and the ratios of scores, performance year to the third. From 2019 also
        `NUMBERS`: expenditures of region and nation (risk-adjusted), their growth since the third
        year, and the ACO's share of its region; from 2024 ``acpt``, the prospective growth, and
        `REGION`, without which growth of the region is not capped. Before 2019
        ``national_dollars``, growth in dollars, or ``regional_per_capita`` and ``regional_growth``
        of rebased agreements of 2017 and 2018; and ``new_hcc_ratio`` and ``new_share`` of people
        newly assigned, while ``hcc_ratio`` and ``demographic_ratio`` are of those assigned before.
        Of the ACO: ``agreement`` (agreements subject to
        the regional adjustment, 1 by default), ``rebased``, ``prior_savings`` (before 2019 the amount
        published as the adjustment) and ``proration``, ``population`` (the population adjustment),
        ``dual_share`` (person-years with dual status) and ``mean_risk`` (mean risk score, the
        nation 1), which make the offset; none without them.
    agreement_start : int
        Year in which the agreements start.
    program : Program, optional
        Rules other than those of ``mssp``.

    Returns
    -------
    MSSPBenchmark

    Raises
    ------
    DataError
        Listing missing columns and values, numbers that cannot be, and columns for which the start
        year has no rule.
    DesignError
        If the rules do not cover the year.
    """
    program = program or get("mssp")
    if agreement_start not in program.years:
        raise DesignError(
            f"the benchmark rules of agreements that start in {agreement_start} are not declared; "
            f"give a start year from {min(program.years)} to {max(program.years)}."
        )
    terms = program.terms(agreement_start, program.open_in(agreement_start)[:1])
    if agreement_start < FIRST_BLENDED:
        return benchmark_before_2019(frame, terms)
    return _blended_benchmark(frame, terms)


def _blended_benchmark(frame: pd.DataFrame, terms: Terms) -> MSSPBenchmark:
    acpt_weight = terms.one("prospective_weight")
    region = [name for name in REGION if name in frame]
    capped = not np.isnan(terms.one("regional_risk_cap", absent=np.nan))
    needed = [*NUMBERS, *(["acpt"] if acpt_weight > 0 else [])]
    needed += REGION if region and capped else ()
    check_table(frame, needed, unread=[] if capped else region)
    table = frame.sort_values(list(KEYS), ignore_index=True)
    by_type = {name: matrix(table, name) for name in needed if name in table}
    person_years, share = shares_of_people(table)
    held = {name: of_aco(table, name, absent) for name, absent in OF_ACO.items()}
    base = _historical(terms, by_type, held["rebased"])
    added, kind, regional = _adjustment(terms, by_type, held, base, share)
    adjusted = base + added
    dollars = np.nan_to_num(adjusted * person_years)
    growth_of_region, *of_region = _growth_of_region(terms, by_type, dollars)
    two_way = blended(by_type["national_growth"], growth_of_region, by_type["national_share"])
    update = two_way
    if acpt_weight > 0:
        update = acpt_weight * by_type["acpt"] + (1 - acpt_weight) * two_way
    ratio, growth, limit = capped_risk(
        np.nan_to_num(by_type["hcc_ratio"]), np.nan_to_num(by_type["demographic_ratio"]),
        dollars, cap=terms.one("risk_cap"),
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
            "historical": average(base, share),
            "adjustment": average(added, share),
            "adjustment_kind": kind,
            "risk_growth": growth,
            "risk_limit": limit,
            "regional_risk_growth": of_region[0],
            "regional_risk_limit": of_region[1],
            "updated": average(updated, share),
            "updated_two_way": average(adjusted * two_way * ratio, share),
        }
    )
    count = len(organizations)
    assumed = (
        f"{count:,} ACO{'' if count == 1 else 's'}: growth of the region's own risk scores not "
        f"capped, since `{REGION[0]}` and `{REGION[1]}` are missing.",
    )
    return MSSPBenchmark(
        long(table, steps), organizations, terms.used(), assumed if capped and not region else ()
    )


def _growth_of_region(
    terms: Terms, by_type: dict[str, FloatArray], dollars: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return growth of the region, where its risk scores are capped; their growth and its limit."""
    growth = by_type["regional_growth"]
    if REGION[0] not in by_type:
        nothing = np.full(len(growth), np.nan)
        return growth, nothing, nothing
    scores, demographic = by_type[REGION[0]], by_type[REGION[1]]
    ratio, scored, limit = capped_region(
        np.nan_to_num(scores), np.nan_to_num(demographic), dollars,
        np.nan_to_num(by_type["national_share"]), cap=terms.one("regional_risk_cap"),
        by_share=bool(terms.flag("regional_cap_by_share", absent=False)[0, 0]),
    )  # fmt: skip
    return growth * scores / np.where(ratio > 0, ratio, np.nan), scored, limit


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
    held: dict[str, FloatArray],
    base: FloatArray,
    share: FloatArray,
) -> tuple[FloatArray, list[str], FloatArray]:
    """Return what is added by type, which adjustment it is, and the regional one alone."""
    rows = np.array(terms.table("regional_weight"), dtype=float)
    agreement = held["agreement"]
    at = np.clip(np.searchsorted(rows[:, 0], agreement, side="right") - 1, 0, None)
    apart, national = by_type["regional_per_capita"] - base, by_type["national_per_capita"]
    regional = np.where(apart > 0, rows[at, 1], rows[at, 2]) * apart
    regional = np.clip(
        regional, -terms.one("regional_floor") * national, terms.one("regional_cap") * national
    )
    if terms.flag("regional_offset", absent=False)[0, 0]:
        offset = held["dual_share"] + np.maximum(held["mean_risk"] - 1.0, 0.0)
        regional = np.where(regional < 0, regional * (1 - np.clip(offset, 0.0, 1.0)), regional)
    overall = average(regional, share)[:, None]
    if terms.flag("negative_region_removed")[0, 0]:
        regional = np.where(overall < 0, 0.0, regional)
        overall = np.maximum(overall, 0.0)
    cap = terms.one("added_cap", absent=0.0)
    nation = average(national, share)[:, None]
    prior = prior_savings_adjustment(
        held["prior_savings"], held["proration"], nation,
        share=terms.one("prior_savings_share", absent=0.0), cap=cap,
    )  # fmt: skip
    population = np.minimum(held["population"], cap * nation)
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
