"""Which printed results are effects on total spending, in percent of baseline, with precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from vbceval.evidence import attrition, screen, spending_effects
from vbceval.study.context import StudyContext

_EFFECT = ["fact", "program_type", "label", "percent_effect", "se_percent", "se_percent_low",
           "se_percent_high", "se_source"]  # fmt: skip
_BASELINE = ["fact", "unit", "estimate", "baseline", "baseline_source", "baseline_fact",
             "denominator", "percent_low", "percent_high", "flags", "source"]  # fmt: skip


def select_effects(ctx: StudyContext, facts: pd.DataFrame) -> pd.DataFrame:
    """
    Select the analysis set by the protocol's rules.

    Writes tables ``attrition``, ``analysis_set`` and ``baselines``.

    Parameters
    ----------
    ctx : StudyContext
        The run.
    facts : DataFrame
        From `vbceval.evidence.read_facts`.

    Returns
    -------
    DataFrame
        From `vbceval.evidence.spending_effects`.
    """
    effects = spending_effects(facts)
    ctx.table(
        "attrition", attrition(screen(facts)), title="From printed results to the analysis set",
        keys=["step"],
        note="A row is counted under the first reason that applies. Rows are printed results, "
        "reports are publications.",
    )  # fmt: skip
    ctx.table(
        "analysis_set", effects[_EFFECT], title="Effects that are analysed", keys=["fact"],
        formats=dict.fromkeys(_EFFECT[3:7], ".2f"),
        note="Percent of baseline, treated minus untreated; negative = lower spending. `_low` and "
        "`_high` of a standard error: what rounding allows; where only a P value below or above a "
        "bound is printed (`p_bound`), the standard error is missing and these are its bounds.",
    )  # fmt: skip
    ctx.table(
        "baselines", effects[_BASELINE], title="What the percents are of", keys=["fact"],
        formats={"estimate": ",.1f", "baseline": ",.0f", "percent_low": ".2f",
                 "percent_high": ".2f"},
        note="Baselines are printed, implied by dollars and percent of the row itself, or borrowed "
        "from another row. `percent_low` and `percent_high`: what the rounding of printed digits "
        "allows the percent to be; a baseline is coarse where that is more than 10 % either way. "
        "Percents of different denominators are not converted into each other.",
    )  # fmt: skip
    return effects


def list_screened(ctx: StudyContext, facts: pd.DataFrame) -> None:
    """Write table ``screening``: every printed result, and why it is left out where it is."""
    ctx.table(
        "screening", screen(facts)[["fact", "report", "program_type", "kept", "why"]],
        title="Every printed result, and why it is left out", keys=["fact"],
    )  # fmt: skip


def widened(
    facts: pd.DataFrame, effects: pd.DataFrame, commercial: list[str]
) -> Mapping[str, pd.DataFrame]:
    """
    Return the analysis sets of the sensitivity list, by name.

    Parameters
    ----------
    facts : DataFrame
        From `vbceval.evidence.read_facts`.
    effects : DataFrame
        The headline set.
    commercial : list of str
        Programs of commercial payers.

    Returns
    -------
    mapping of str to DataFrame
        Each differs from the headline set by the one rule that its name says.
    """
    years = effects.assign(last=effects["year"].fillna(0.0))
    cohort = years.groupby(["report", "program", "stratum"])["last"]
    sized = spending_effects(facts, precision="any")
    known = sized["se_source"].ne("none")
    sized["se_percent"] = sized["se_percent"].where(known, effects["se_percent"].max())
    sets: dict[str, Any] = {
        "institutional": spending_effects(facts, scopes=("total", "institutional")),
        "no_borrowed": effects[effects["baseline_source"] != "borrowed"],
        "no_coarse": effects[~effects["flags"].str.contains("coarse_baseline")],
        "intervals_only": effects[effects["se_source"].isin(["printed", "interval"])],
        "all_reports": spending_effects(facts, overlap="all"),
        "last_year": effects[years["last"] == cohort.transform("max")],
        "sizes_only": sized,
        "medicare": effects[~effects["program"].isin(commercial)],
    }
    return {name: table.reset_index(drop=True) for name, table in sets.items()}
