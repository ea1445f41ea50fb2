"""Who is in the study: sample flow, cohorts, and table 1."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vbceval import figures
from vbceval.data import MSSPResults
from vbceval.panel import Panel
from vbceval.study.context import StudyContext

_COUNTS = {"n_acos": "ACOs", "n_acos_first_year": "ACOs with a first year",
           "n_acos_second_year": "ACOs with a second year"}  # fmt: skip
_SHARES = {
    "female": ("n_ben_female", ("n_ben_female", "n_ben_male")),
    "age 85 and over": (
        "n_ben_age_85plus",
        ("n_ben_age_0_64", "n_ben_age_65_74", "n_ben_age_75_84", "n_ben_age_85plus"),
    ),
    "White": ("n_ben_race_white", ("n_ab",)),
    "Black": ("n_ben_race_black", ("n_ab",)),
}


def describe_sample(ctx: StudyContext, panel: Panel, results: MSSPResults) -> None:
    """
    Write tables ``sample_flow``, ``cohorts``, ``table1`` and figures of the first two.

    Parameters
    ----------
    ctx : StudyContext
        The run.
    panel : Panel
        Result of `EntryPanel.build`.
    results : MSSPResults
        The files.
    """
    flow = panel.attrition.rename(
        columns={"units": "aco_files", "clusters": "acos", "rows": "cells"}
    )
    ctx.table(
        "sample_flow", flow, title="From the files to the panel", keys=["step"],
        note="An ACO-file is an ACO as described by the file of one performance year; a cell is an "
        "ACO-file, enrollment type and calendar year.",
    )  # fmt: skip
    ctx.figure(
        "sample_flow",
        figures.sample_flow(flow, counts={"acos": "ACOs", "aco_files": "ACO-files"}),
        title="Sample flow",
    )
    cohorts = _cohorts(panel)
    ctx.table("cohorts", cohorts, title="Cohorts of entry", keys=["cohort"])
    ctx.figure(
        "cohort_sizes", figures.cohort_sizes(cohorts, counts=_COUNTS), title="Cohorts of entry"
    )
    ctx.table(
        "table1", _table1(panel, results), title="ACOs by cohort of entry", keys=["row"],
        note="Means over ACOs (SD) in the last year before entry, each ACO from its first file. "
        "Age, sex and race are of the first performance year in the files, after entry: they "
        "describe, and are not adjusted for. The difference is in pooled standard deviations.",
        formats={"entered": ",.2f", "entered_sd": ",.2f", "comparison_only": ",.2f",
                 "comparison_only_sd": ",.2f", "standardised_difference": ".2f"},
    )  # fmt: skip


def _cohorts(panel: Panel) -> pd.DataFrame:
    frame = panel.frame
    out = frame.groupby("cohort")["aco_id"].nunique().rename("n_acos").to_frame()
    treated = frame[frame["reference"] == "PY"]
    for name, event_time in (("first", 0), ("second", 1)):
        year = treated[treated["calendar_year"] - treated["cohort"] == event_time]
        counts = year.groupby("cohort")["aco_id"].nunique()
        out[f"n_acos_{name}_year"] = counts.reindex(out.index).fillna(0).astype(int)
    return out.reset_index()


def _table1(panel: Panel, results: MSSPResults) -> pd.DataFrame:
    """Characteristics of ACOs that enter in the study's years and of those that only compare."""
    frame = panel.frame
    first = frame.groupby("aco_id")["performance_year"].transform("min")
    base = frame[(frame["reference"] == "BY3") & (frame["performance_year"] == first)]
    by = base.assign(dollars=base["spend"] * base[panel.weight]).groupby("aco_id")
    acos = by[[panel.weight, "dollars"]].sum().rename(columns={panel.weight: "person-years"})
    acos["spending per person-year, USD"] = acos.pop("dollars") / acos["person-years"]
    names = {"hcc": "risk score (HCC)", "share_esrd": "share ESRD",
             "share_disabled": "share disabled", "share_aged_dual": "share aged, dual"}  # fmt: skip
    acos = acos.join(by[list(names)].first().rename(columns=names))
    acos = acos.join(_people(results, by["performance_year"].first()))
    treated = frame.loc[frame["reference"] == "PY", "aco_id"].unique()
    inside = acos.index.isin(treated)
    rows = [
        {"row": "ACOs", "entered": float(inside.sum()), "comparison_only": float((~inside).sum())}
    ]
    for name in acos:
        a, b = acos[name][inside], acos[name][~inside]
        pooled = np.sqrt((a.var() + b.var()) / 2)
        rows.append(
            {"row": name, "entered": a.mean(), "entered_sd": a.std(),
             "comparison_only": b.mean(), "comparison_only_sd": b.std(),
             "standardised_difference": (a.mean() - b.mean()) / pooled}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _people(results: MSSPResults, first_file: pd.Series) -> pd.DataFrame:
    """Shares of assigned people by sex, age, race in each ACO's first file."""
    people = results.demographics.merge(
        results.aco_year[["aco_id", "performance_year", "part", "n_ab"]],
        on=["aco_id", "performance_year", "part"], how="left", suffixes=("", "_about"),
    )  # fmt: skip
    keys = pd.MultiIndex.from_arrays([first_file.index, first_file.to_numpy()])
    people = people.set_index(["aco_id", "performance_year"]).reindex(keys)
    out = pd.DataFrame(index=first_file.index)
    for label, (top, bottom) in _SHARES.items():
        total = people[list(bottom)].sum(axis=1, skipna=False)
        out[f"share {label} (after entry)"] = (people[top] / total).to_numpy()
    return out
