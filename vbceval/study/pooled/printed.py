"""Do the printed numbers agree with each other? Failures are shown, nothing is corrected."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vbceval.evidence import check_facts
from vbceval.study.context import StudyContext

_MEANING = {
    "interval_contains": "the estimate lies in its interval",
    "interval_symmetric": "the estimate lies in the middle of its interval",
    "interval_se": "interval and standard error agree",
    "interval_p": "interval and P value agree",
    "percent_baseline": "percent times baseline is the estimate",
    "percent_sign": "percent and estimate have one direction",
    "components": "parts add up to their total",
    "net": "gross minus payments is net",
    "product": "a total is its rate times its units",
    "same_value": "two sources print one number",
    "same_count": "two sources count the same",
}


def check_printed(ctx: StudyContext, facts: pd.DataFrame, relations: pd.DataFrame) -> pd.DataFrame:
    """
    Compare printed numbers that must agree.

    Writes tables ``consistency``, counts by kind of comparison, and ``consistency_failures``,
    every comparison that fails.

    Parameters
    ----------
    ctx : StudyContext
        The run.
    facts, relations : DataFrame
        From `vbceval.evidence.read_facts` and `read_relations`.

    Returns
    -------
    DataFrame
        Every comparison, from `vbceval.evidence.check_facts`.
    """
    findings = check_facts(facts, relations)
    counts = findings.groupby("check")["passed"].agg(["size", "sum"])
    table = pd.DataFrame(
        {
            "check": list(_MEANING),
            "what_must_hold": list(_MEANING.values()),
            "comparisons": counts["size"].reindex(list(_MEANING)).fillna(0).astype(int).to_numpy(),
            "failures": (counts["size"] - counts["sum"]).reindex(list(_MEANING)).fillna(0)
            .astype(int).to_numpy(),
        }
    )  # fmt: skip
    ctx.table(
        "consistency", table, title="Comparisons of printed numbers", keys=["check"],
        note="Each printed number is treated as all the values that print so, and the spans are "
        "carried through the arithmetic: a failure cannot be rounding.",
    )  # fmt: skip
    failed = _rounded(findings[~findings["passed"]])
    ctx.table(
        "consistency_failures",
        failed[["check", "rows", "expected", "found", "slack", "note"]],
        title="Every comparison that fails", keys=["check", "rows", "note"],
        formats=dict.fromkeys(["expected", "found", "slack"], ",.12g"),
        note="Expected: what the other numbers say. Found: what is printed. Slack: the largest "
        "difference that rounding explains; numbers are rounded far below it. A failure can be a "
        "misprint, a mistake in transcription, or two numbers that are not the same quantity; "
        "none is corrected, and none decides which rows are analysed.",
    )  # fmt: skip
    return findings


def _rounded(findings: pd.DataFrame) -> pd.DataFrame:
    """Round each row to two digits of its slack, or to six where printed digits allow none."""
    sizes = np.log10(findings["slack"].where(findings["slack"] > 0, 1e-6))
    digits = np.maximum(0, 1 - np.floor(sizes)).astype(int)
    numbers = {
        name: [round(value, int(d)) for value, d in zip(findings[name], digits, strict=True)]
        for name in ("expected", "found", "slack")
    }
    return findings.assign(**numbers)
