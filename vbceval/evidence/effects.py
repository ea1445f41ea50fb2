"""The analysis set of a meta-analysis: percent effects on total spending, and what was left out."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import numpy as np
import pandas as pd

from vbceval.core.errors import DataError
from vbceval.evidence.convert import interval_shape
from vbceval.evidence.size import COARSE_BASELINE, size_effects

Overlap = Literal["latest", "all"]
Precision = Literal["printed", "any"]

REASONS: dict[str, str] = {
    "not_spending": "outcome is utilization or quality",
    "net_or_payment": "spending net of payments, or the payments themselves",
    "benchmark": "benchmark-based comparison, not an effect",
    "not_an_effect": "association, level, selection, gap or difference of specifications",
    "component": "one component of spending",
    "institutional": "institutional (Part A) spending only",
    "subgroup": "a subgroup of the program",
    "superseded": "replaced by a later or fuller report on the same sample",
    "no_percent": "no effect in percent of a baseline is printed or follows",
    "no_precision": "no interval, standard error or P value is printed",
}
"""Why a row is left out, in the order in which the reasons are tried: the first one counts."""

EFFECT_COLUMNS = (
    "fact",
    "report",
    "program",
    "program_type",
    "evaluator",
    "label",
    "outcome",
    "stratum",
    "population",
    "scope",
    "period",
    "year",
    "unit",
    "estimate",
    "std_error",
    "ci_low",
    "ci_high",
    "ci_level",
    "baseline",
    "baseline_source",
    "baseline_fact",
    "denominator",
    "percent_effect",
    "percent_low",
    "percent_high",
    "se_percent",
    "se_percent_low",
    "se_percent_high",
    "se_source",
    "censored",
    "flags",
    "n_participants",
    "n_beneficiaries_or_episodes",
    "source",
    "source_year",
)


def spending_effects(
    facts: pd.DataFrame,
    *,
    scopes: Collection[str] = ("total",),
    overlap: Overlap = "latest",
    precision: Precision = "printed",
) -> pd.DataFrame:
    """
    Select the evaluated effects on spending and put them in percent of baseline.

    A row is kept if it is a gross effect (before payments to participants) from an evaluation, on
    spending of a wanted scope, for a whole program or an entry cohort. Cohorts and years of one
    report are kept as rows that share ``report``: they share a comparison group, so a model must
    let them depend on each other. Of overlapping reports by one team on one sample only the last
    or fullest is kept (column ``superseded_by`` of `facts`); reports by different teams on one
    program are both kept. `screen` gives the decision for every row.

    Parameters
    ----------
    facts : DataFrame
        From `read_facts`.
    scopes : collection of {"total", "institutional"}, default ("total",)
        Which spending counts. Institutional spending is most of a joint-replacement episode, so a
        percent effect on it is larger than on the whole.
    overlap : {"latest", "all"}, default "latest"
        "all" keeps superseded reports, flagged.
    precision : {"printed", "any"}, default "printed"
        "any" keeps rows without a printed interval, standard error or P value; their
        ``se_percent`` is missing and never filled in.

    Returns
    -------
    DataFrame
        One row an effect, in file order, columns `EFFECT_COLUMNS`. ``estimate`` and ``std_error``
        are in ``unit`` (nominal US dollars, treated minus untreated; negative is lower spending).
        ``baseline`` is in the same unit; ``baseline_source`` is "printed", "implied" (by printed
        dollars and percent of one row), "borrowed" (from row ``baseline_fact``, same unit after
        conversion between months, quarters and years) or "none"; ``denominator`` names the mean
        that the percent is of. ``percent_effect`` and ``se_percent`` are percent of baseline;
        their ``_low`` and ``_high`` are what rounding of printed numbers allows. ``se_source`` is
        "printed", "interval", "p_value", "p_bound" or "none". For "p_bound" ``se_percent`` is
        missing and ``censored`` says "below" (P < bound: the standard error is at most
        ``se_percent_high``) or "above" (at least ``se_percent_low``); else it is "". ``flags`` are
        separated by "; ": `coarse_baseline`, `asymmetric_interval`, `superseded`.

    Raises
    ------
    DataError
        If an option is unknown, or a baseline is borrowed from a row that has none or whose unit
        has another basis (an episode is not a month).

    References
    ----------
    .. [1] Hedges, L. V., Tipton, E. and Johnson, M. C. (2010). Robust variance estimation in
       meta-regression with dependent effect size estimates. *Research Synthesis Methods* 1(1),
       39-65.
    """
    decisions = screen(facts, scopes=scopes, overlap=overlap, precision=precision)
    kept = facts[decisions["kept"].to_numpy()]
    sized = size_effects(facts).loc[kept.index]
    frame = pd.concat([kept.drop(columns=["percent_effect"]), sized], axis=1)
    lender = frame["baseline_fact"].where(frame["baseline_fact"].ne(""), frame["fact"])
    frame["denominator"] = lender.map(facts.set_index("fact")["denominator"])
    frame["label"] = [_label(row) for row in kept.to_dict("records")]
    frame["flags"] = _flags(kept, sized)
    return frame[[*EFFECT_COLUMNS]].reset_index(drop=True)


def screen(
    facts: pd.DataFrame,
    *,
    scopes: Collection[str] = ("total",),
    overlap: Overlap = "latest",
    precision: Precision = "printed",
) -> pd.DataFrame:
    """
    Say for every fact whether `spending_effects` keeps it, and if not, why.

    Parameters
    ----------
    facts : DataFrame
        From `read_facts`.
    scopes, overlap, precision
        As in `spending_effects`.

    Returns
    -------
    DataFrame
        One row a fact, same order and index as `facts`: ``fact``, ``report``, ``program_type``,
        ``kept``, ``reason`` (a key of `REASONS`, "" if kept), ``why`` (in words).

    Raises
    ------
    DataError
        If an option is unknown.
    """
    _check_options(scopes, overlap, precision)
    sized = size_effects(facts)
    tests = {
        "not_spending": facts["outcome_family"].isin(["utilization", "quality"]),
        "net_or_payment": facts["outcome_family"].eq("net_savings")
        | facts["quantity"].isin(["net", "payment"]),
        "benchmark": facts["quantity"].eq("benchmark"),
        "not_an_effect": facts["quantity"].ne("effect"),
        "component": facts["scope"].eq("component"),
        "institutional": ~facts["scope"].isin(list(scopes)),
        "subgroup": facts["population"].eq("subgroup"),
        "superseded": facts["superseded_by"].ne("") & (overlap == "latest"),
        "no_percent": sized["percent_effect"].isna(),
        "no_precision": sized["se_source"].eq("none") & (precision == "printed"),
    }
    reason = np.select([tests[r].to_numpy(bool) for r in REASONS], [*REASONS], default="")
    frame = facts[["fact", "report", "program_type"]].copy()
    frame["kept"] = reason == ""
    frame["reason"] = reason
    frame["why"] = [REASONS.get(r, "") for r in reason]
    return frame


def attrition(decisions: pd.DataFrame) -> pd.DataFrame:
    """
    Count what each reason leaves out, in the order in which the reasons are tried.

    Parameters
    ----------
    decisions : DataFrame
        From `screen`.

    Returns
    -------
    DataFrame
        First row all facts, then one row a reason: ``step``, ``rows_left_out``, ``rows_left``,
        ``reports_left``. Counts are of printed results and of reports.
    """
    left = np.ones(len(decisions), dtype=bool)
    steps = [("all published results", 0, len(decisions), decisions["report"].nunique())]
    for reason, words in REASONS.items():
        out = decisions["reason"].eq(reason).to_numpy()
        left &= ~out
        reports = decisions.loc[left, "report"].nunique()
        steps.append((words, int(out.sum()), int(left.sum()), reports))
    return pd.DataFrame(steps, columns=["step", "rows_left_out", "rows_left", "reports_left"])


def _check_options(scopes: Collection[str], overlap: str, precision: str) -> None:
    unknown = set(scopes) - {"total", "institutional"}
    if unknown or not scopes or isinstance(scopes, str):
        raise DataError(
            f"`scopes` is {scopes!r}; it must hold 'total', 'institutional' or both: a component "
            "of spending cannot stand for all of it."
        )
    if overlap not in ("latest", "all") or precision not in ("printed", "any"):
        raise DataError(
            f"`overlap` is {overlap!r} ('latest' or 'all') and `precision` is {precision!r} "
            "('printed' or 'any'). Choose listed values."
        )


def _label(row: dict[Any, Any]) -> str:
    """Return a short name for a forest plot: program, cohort, period, who and when."""
    who = row["report"] if row["evaluator"] == "academic" else row["evaluator"].split(",")[0]
    parts = [row["program"], row["stratum"] if row["population"] == "cohort" else "", row["period"]]
    return f"{', '.join(p for p in parts if p)} ({who} {row['source_year']})"


def _flags(kept: pd.DataFrame, sized: pd.DataFrame) -> list[str]:
    shape = interval_shape(
        kept["estimate"],
        kept["ci_low"],
        kept["ci_high"],
        rounding=kept[["estimate_rounding", "interval_rounding"]].max(axis=1),
    )
    coarse = sized["baseline_half"] / sized["baseline"].abs() > COARSE_BASELINE
    found = {
        "coarse_baseline": coarse.to_numpy(),
        "asymmetric_interval": np.isin(shape, ["asymmetric", "log"]),
        "superseded": kept["superseded_by"].ne("").to_numpy(),
    }
    return ["; ".join(n for n, mask in found.items() if mask[i]) for i in range(len(kept))]
