"""Benchmarks of agreements of the Shared Savings Program that start before 2019, 42 CFR 425.602-603."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vbceval.core.typing import Array, FloatArray
from vbceval.programs.benchmark_steps import historical, risk_of_continuing, updated_in_dollars
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
from vbceval.programs.terms import Terms

NEW = ("new_hcc_ratio", "new_share")
"""Columns about people newly assigned; without them all are taken for assigned before."""


def benchmark_before_2019(frame: pd.DataFrame, terms: Terms) -> MSSPBenchmark:
    """
    Build benchmarks of ACOs whose agreements start before 2019; see `mssp_benchmark`.

    First agreements, and those rebased in 2016, are updated by dollars; those rebased in 2017 and
    2018 are adjusted for the region and updated by its growth.

    Parameters
    ----------
    frame : DataFrame
        One row an ACO and enrollment type.
    terms : Terms
        Those of the start year.

    Raises
    ------
    DataError
        Listing what is wrong with the table.
    """
    later = frame["rebased"].to_numpy() > 0 if "rebased" in frame else np.zeros(len(frame), bool)
    parts = [
        _built(frame[rows], terms, kind)
        for kind, rows in (("first", ~later), ("rebased", later))
        if rows.any()
    ]
    types = pd.concat([part.types for part in parts], ignore_index=True)
    organizations = pd.concat([part.organizations for part in parts], ignore_index=True)
    return MSSPBenchmark(
        types.sort_values(list(KEYS), ignore_index=True),
        organizations.sort_values("aco_id", ignore_index=True),
        terms.used(),
        tuple(sentence for part in parts for sentence in part.assumed),
    )


def _built(frame: pd.DataFrame, terms: Terms, kind: str) -> MSSPBenchmark:
    rule = str(terms.text(f"update_rule_{kind}")[0, 0])
    prior = kind == "rebased" and bool(terms.flag("prior_savings_added", absent=False)[0, 0])
    regional = rule == "regional"
    growth = ["regional_per_capita", "regional_growth"] if regional else ["national_dollars"]
    read = {"rebased", *(["agreement"] if regional else []), *(["prior_savings"] if prior else [])}
    # columns of whole ACOs that say nothing of these do no harm
    other = [n for n in OF_ACO if n not in read and n in frame]
    unread = [n for n in other if (frame[n].notna() & (frame[n] != OF_ACO[n])).any()]
    frame = frame.drop(columns=[n for n in other if n not in unread])
    new = [name for name in NEW if name in frame]
    check_table(frame, [*BASELINE, *growth, *(NEW if new else ())], unread=unread)
    table = frame.sort_values(list(KEYS), ignore_index=True)
    person_years, share = shares_of_people(table)
    base = _historical(terms, table, kind)
    added = np.zeros_like(base)
    names: Array = np.full(len(base), "none", dtype=object)
    if regional:
        added, names = _adjusted(terms, table, base, share)
    elif prior:
        added = np.broadcast_to(of_aco(table, "prior_savings", 0.0), base.shape)
        names = np.where(added[:, 0] != 0, "prior savings", "none")
    new_ratio, new_share = (
        matrix(table, name) if name in table else np.zeros_like(base) for name in NEW
    )
    ratio = risk_of_continuing(
        matrix(table, "hcc_ratio"), matrix(table, "demographic_ratio"), new_ratio, new_share
    )
    update = matrix(table, growth[-1])
    adjusted = base + added
    updated = adjusted * ratio * update if regional else updated_in_dollars(adjusted, ratio, update)
    weights = np.nan_to_num(adjusted * person_years)
    organizations = pd.DataFrame(
        {
            "aco_id": table["aco_id"].drop_duplicates().to_numpy(),
            "historical": average(base, share),
            "adjustment": average(added, share),
            "adjustment_kind": names,
            "risk_growth": (np.nan_to_num(ratio) * weights).sum(axis=1) / weights.sum(axis=1),
            "risk_limit": np.nan,
            "regional_risk_growth": np.nan,
            "regional_risk_limit": np.nan,
            "updated": average(updated, share),
            "updated_two_way": np.nan,
        }
    )
    steps = {
        "historical": base, "regional_adjustment": added if regional else np.zeros_like(base),
        "added": added, "adjusted_historical": adjusted, "update": update, "risk_ratio": ratio,
        "updated": updated,
    }  # fmt: skip
    count = len(organizations)
    assumed = (
        f"{count:,} ACO{'' if count == 1 else 's'}: all people taken for assigned before, since "
        f"`{NEW[0]}` and `{NEW[1]}` are missing; for those newly assigned HCC scores count.",
    )
    return MSSPBenchmark(long(table, steps), organizations, (), () if new else assumed)


def _historical(terms: Terms, table: pd.DataFrame, kind: str) -> FloatArray:
    rows = {str(row[0]): row[1:] for row in terms.table("benchmark_weights")}
    spent = np.stack([matrix(table, f"per_capita_by{k}") for k in (1, 2, 3)], axis=-1)
    risk = np.stack([matrix(table, f"risk_by{k}") for k in (1, 2, 3)], axis=-1)
    first, second = matrix(table, "trend_by1"), matrix(table, "trend_by2")
    trend = np.stack([first, second, np.ones_like(first)], axis=-1)
    return historical(spent, trend, risk, np.array(rows[kind], dtype=float))


def _adjusted(
    terms: Terms, table: pd.DataFrame, base: FloatArray, share: FloatArray
) -> tuple[FloatArray, Array]:
    """Return the regional adjustment by type, without limits, and what it is called."""
    rows = np.array(terms.table("regional_weight"), dtype=float)
    agreement = of_aco(table, "agreement", OF_ACO["agreement"])
    at = np.clip(np.searchsorted(rows[:, 0], agreement, side="right") - 1, 0, None)
    apart = matrix(table, "regional_per_capita") - base
    added = np.where(apart > 0, rows[at, 1], rows[at, 2]) * apart
    return added, np.where(average(added, share) != 0, "regional", "none")
