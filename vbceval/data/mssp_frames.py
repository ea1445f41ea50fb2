"""The tidy frames of one results file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from vbceval.data.mssp_layout import (
    ENROLLMENT_TYPES,
    FIRST_YEAR,
    MEASURES,
    REFERENCES,
    Cell,
    layout,
)
from vbceval.data.mssp_link import ATTRITION
from vbceval.data.mssp_parse import Parsed
from vbceval.data.mssp_suppress import suppress

KEYS = ["aco_id", "performance_year", "part"]
"""Columns that identify a row of `aco_year`, `demographics` and `extra`."""

FIRST_AGREEMENTS_END = 2015
"""Last performance year in which every ACO is in its first agreement: the earliest began in 2012
and agreements last three performance years, the first of them to the end of 2013."""

ACO_YEAR = [
    *KEYS, "source_file", "aco_num", "name", "state", "start_date", "current_start_date", "cohort",
    "agreement_period", "agreement_type", "first_agreement", "track", "risk_model", "assign_type",
    "rev_exp_cat", "n_ab", "person_years", "person_years_dual", "person_years_non_dual",
    "per_capita_total", "benchmark", "expenditure", "benchmark_minus_expenditure", "sav_rate",
    "min_sav_perc", "min_loss_perc", "gen_save_loss", "dis_adj", "ended_in_year", "earn_save_loss",
    "qual_score", "qual_status", "met_qps", "max_share_rate", "final_share_rate", "final_loss_rate",
    "updated_bnchmk", "hist_bnchmk", "prior_sav_adj", "reg_adj", "guardrail", "adv_pay", "aim",
    "adv_pay_amt", "adv_pay_recoup",
]  # fmt: skip
"""Columns of `MSSPResults.aco_year`, in order."""

SPENDING = [
    *KEYS, "enrollment_type", "reference", "calendar_year", "per_capita", "hcc_score",
    "person_years",
]  # fmt: skip
"""Columns of `MSSPResults.spending`, in order."""

TWO_SIDED = frozenset({"TRACK_1_PLUS", "TRACK_2", "TRACK_3", "ENHANCED"}) | {
    f"BASIC_{level}" for level in "CDE"
}
"""Tracks in which an ACO owes a share of losses."""


@dataclass(frozen=True)
class FileFrames:
    """The frames of one file, as in `MSSPResults`, before identifiers are linked."""

    aco_year: pd.DataFrame
    spending: pd.DataFrame
    demographics: pd.DataFrame
    extra: pd.DataFrame
    flags: pd.DataFrame
    attrition: pd.DataFrame
    source: dict[str, object]


def tidy(parsed: Parsed) -> FileFrames:
    """
    Suppress the small cells of a parsed file and put the rest in tidy frames.

    Parameters
    ----------
    parsed : Parsed
        One file as read and checked; not changed.
    """
    safe, cells = suppress(parsed)
    aco_year = _aco_year(safe)
    keys = aco_year[KEYS]
    people = [code for code in safe.wide if str(code).startswith("nben")]
    demographics = safe.wide[people].rename(columns=safe.labels)
    extra = safe.wide.drop(columns=people).rename(columns=safe.labels)
    row = cells["row"].to_numpy()
    flags = pd.concat([keys.iloc[row].reset_index(drop=True), cells[["column", "kind"]]], axis=1)
    return FileFrames(
        aco_year=aco_year,
        spending=_spending(safe, aco_year),
        demographics=_beside(keys, demographics),
        extra=_beside(keys, extra),
        flags=flags,
        attrition=_attrition(parsed, cells),
        source=_source(parsed),
    )


def _beside(keys: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([keys, frame.reset_index(drop=True)], axis=1)


def _aco_year(safe: Parsed) -> pd.DataFrame:
    return standard_fields(safe)[ACO_YEAR]


def standard_fields(safe: Parsed) -> pd.DataFrame:
    """Return the fields of a file with identifiers, dates and categories in one form for all years."""
    frame = safe.fields.reset_index(drop=True).copy()
    year = safe.performance_year
    frame["performance_year"] = np.full(len(frame), year, dtype=np.int64)
    frame["source_file"] = pd.Series([safe.table.path.name] * len(frame), dtype="str")
    frame["aco_id"] = frame["aco_id"].fillna(frame["aco_num"]).fillna(_by_name(frame))
    frame["state"] = frame["state"].map(_state_codes, na_action="ignore").astype("str")
    agreement = frame["agreement_type"].str.lower().str.replace("-", "_").str.replace(" ", "_")
    period = frame["agreement_period"].astype("Int64")
    if year <= FIRST_AGREEMENTS_END and period.isna().all():
        period, agreement = period.fillna(1), agreement.fillna("initial")
    frame["agreement_period"], frame["agreement_type"] = period, agreement
    frame["first_agreement"] = ((period == 1) & (agreement == "initial")).fillna(False).astype(bool)
    # from 2022 the first start date is not printed; it is the current one in a first agreement
    first = frame["first_agreement"].to_numpy(dtype=bool)
    start = frame["start_date"].where(frame["start_date"].notna() | ~first)
    frame["start_date"] = start.fillna(frame["current_start_date"].where(first))
    frame["cohort"] = frame["start_date"].dt.year.astype("Int64")
    sides = frame["track"].map(lambda t: "two_sided" if t in TWO_SIDED else "one_sided")
    printed = frame["risk_model"].str.lower().str.replace("-", "_")
    frame["risk_model"] = printed.fillna(sides.where(frame["track"].notna()))
    frame["assign_type"] = frame["assign_type"].str.lower()
    frame["rev_exp_cat"] = frame["rev_exp_cat"].str.lower().str.replace(" revenue", "")
    return frame


def _by_name(frame: pd.DataFrame) -> pd.Series:
    # without an identifier (one release of 2013) the name stands in until it is linked
    names = "name:" + frame["name"].str.lower().str.replace(r"[^a-z0-9]+", "-", regex=True)
    again = names.groupby(names).cumcount()
    return names.where(again == 0, names + "-" + (again + 1).astype("str"))


def _state_codes(printed: str) -> str:
    names = {name.lower(): code for name, code in layout().states.items()}
    parts = [" ".join(part.split()) for part in printed.split(",")]
    return ", ".join(names.get(part.lower(), part) for part in parts if part)


def _spending(safe: Parsed, aco_year: pd.DataFrame) -> pd.DataFrame:
    blocks = []
    for stratum in ENROLLMENT_TYPES:
        for reference in REFERENCES:
            block = aco_year[KEYS].copy()
            block["enrollment_type"] = pd.Series([stratum] * len(block), dtype="str")
            block["reference"] = pd.Series([reference] * len(block), dtype="str")
            block["calendar_year"] = _calendar_year(safe, aco_year, reference)
            for measure in MEASURES:
                cell = Cell(measure, stratum, reference)
                block[measure] = safe.cells.get(cell, np.full(len(block), np.nan))
            block["_row"] = np.arange(len(block))
            blocks.append(block)
    stacked = pd.concat(blocks, ignore_index=True)
    return stacked.sort_values("_row", kind="stable", ignore_index=True)[SPENDING]


def _calendar_year(safe: Parsed, aco_year: pd.DataFrame, reference: str) -> pd.Series:
    if reference == "PY":
        year = aco_year["performance_year"].astype("Int64")
        # the first performance year of those that began in 2012 runs to the end of 2013
        if safe.performance_year == FIRST_YEAR:
            year = year.where((aco_year["cohort"] == FIRST_YEAR).fillna(False))
        return year
    # benchmark years of a first agreement are the three calendar years before entry; those of a
    # later agreement overlap the earlier one and are not dated here
    back = 4 - int(reference[-1])
    return (aco_year["cohort"] - back).where(aco_year["first_agreement"])


def _attrition(parsed: Parsed, cells: pd.DataFrame) -> pd.DataFrame:
    steps = [
        ("rows of the file", "rows", len(parsed.fields) + parsed.table.blank_rows),
        ("blank rows left out", "rows", parsed.table.blank_rows),
        ("rows read", "rows", len(parsed.fields)),
        ("agreements after the first: benchmark years not dated", "rows", _later(parsed)),
        ("cells suppressed by the publisher", "cells", _kind(cells, "published")),
        ("cells of 1-10 suppressed by the reader", "cells", _kind(cells, "small")),
        ("amounts of such cells suppressed", "cells", _kind(cells, "dependent")),
        ("cells suppressed to protect others", "cells", _kind(cells, "complementary")),
    ]
    frame = pd.DataFrame(steps, columns=["step", "unit", "n"])
    frame.insert(0, "source_file", parsed.table.path.name)
    frame.insert(1, "performance_year", parsed.performance_year)
    return frame.astype(ATTRITION)


def _later(parsed: Parsed) -> int:
    return int((parsed.fields["agreement_period"] > 1).sum())


def _kind(cells: pd.DataFrame, kind: str) -> int:
    return int((cells["kind"] == kind).sum())


def _source(parsed: Parsed) -> dict[str, object]:
    scales = ", ".join(f"{name} x {scale:g}" for name, scale in sorted(parsed.scales.items()))
    parts = sorted(set(parsed.fields["part"]))
    return {
        "source_file": parsed.table.path.name,
        "performance_year": parsed.performance_year,
        "parts": ", ".join(parts),
        "sha256": parsed.table.sha256,
        "encoding": parsed.table.encoding,
        "n_columns": len(parsed.table.header),
        "percent_scales": scales,
        "labels_moved": parsed.relabelled,
    }
