"""The key results in sentences, each computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from vbceval.figures.numbers import interval, interval_name, number
from vbceval.figures.style import get_style
from vbceval.figures.wording import listing
from vbceval.study.context import StudyContext
from vbceval.study.pooled.model import Pooled
from vbceval.study.pooled.net import TOGETHER
from vbceval.study.pooled.predict import below_name
from vbceval.study.pooled.variants import HEADLINE, described

_STYLE = get_style("jama", language="effect")
_FEW_REPORTS = 5
"""Below this many reports in every type it is said how much of their means is borrowed."""


def state_results(
    ctx: StudyContext,
    facts: pd.DataFrame,
    findings: pd.DataFrame,
    fit: Pooled,
    probabilities: pd.DataFrame,
    net: pd.DataFrame,
    sensitivity: pd.DataFrame,
    *,
    predicted: Sequence[str],
    thresholds: Sequence[float],
    level: float,
) -> None:
    """
    Write the key results of the report.

    Parameters
    ----------
    ctx : StudyContext
        The run.
    facts, findings : DataFrame
        Printed results, and every comparison of `check_printed`.
    fit : Pooled
        The headline fit.
    probabilities, net, sensitivity : DataFrame
        Results of `predict`, `net_savings` and `vary`.
    predicted : sequence of str
        Program types that are spoken of.
    thresholds : sequence of float
        Percent of baseline, as in `predict`.
    level : float
        Level of intervals.
    """
    effects = fit.effects
    failed = int((~findings["passed"]).sum())
    ctx.headline(
        f"Of {len(facts):,} printed results, {len(effects)} effects on total spending from "
        f"{effects['report'].nunique()} reports on {effects['program'].nunique()} programs have "
        f"what a synthesis needs. Of {len(findings):,} comparisons of printed numbers that must "
        f"agree, {failed} fail beyond rounding; all are listed."
    )
    labels = {kind: str(ctx.settings["labels"][kind]).lower() for kind in predicted}
    for kind in predicted:
        ctx.headline(_type_sentence(fit, kind, labels[kind], probabilities, thresholds, level))
    reports = effects.groupby("program_type")["report"].nunique()
    if reports.max() < _FEW_REPORTS:
        ctx.headline(
            f"**No type has more than {reports.max()} reports.** {_borrowed_sentence(fit, labels)}"
        )
    ctx.headline(_net_sentence(net, labels))
    ctx.headline(_sensitivity_sentence(sensitivity, labels, ctx.settings["sensitivity"]["words"]))
    ctx.headline(
        "The collection has no search strategy, and results are printed with their precision "
        "less often when they are clear. Benchmark-based results are not effects; none is pooled."
    )


def _type_sentence(
    fit: Pooled,
    kind: str,
    label: str,
    probabilities: pd.DataFrame,
    thresholds: Sequence[float],
    level: float,
) -> str:
    rows = fit.estimates.where(stratum=f"program_type={kind}").tidy(level).set_index("estimand")
    said_of = {str(name): row for name, row in rows.iterrows()}
    mean, new = said_of["type_mean"], said_of["predictive"]
    chances = probabilities[
        (probabilities["estimand"] == "predictive") & (probabilities["program_type"] == kind)
    ].iloc[0]
    said = [
        f"{number(100 * float(chances[below_name(limit)]), _STYLE)}% that it is below "
        f"{number(limit, _STYLE)}" + ("%" if limit else "")
        for limit in thresholds
    ]
    name = interval_name(level, "credible")
    return (
        f"**{label[0].upper()}{label[1:]}**: mean effect on total spending {_percent(mean, name)}, "
        f"from {int(mean['n_clusters'])} reports. The effect of a new program: "
        f"{_percent(new, name)}; probability {listing(said)}."
    )


def _borrowed_sentence(fit: Pooled, labels: Mapping[str, str]) -> str:
    weights = fit.borrowed.set_index("program_type").to_dict("index")
    said = []
    for kind, label in labels.items():
        own, others, prior = (
            f"{number(100 * float(weights[kind][name]), _STYLE)}%"
            for name in ("own", "others", "prior")
        )
        said.append(f"of {label} {own}, {others} and {prior}")
    return (
        "Weights of a type's own effects, of other types and of the prior: in the mean "
        f"{listing(said)}. The differences between types say little."
    )


def _percent(row: pd.Series, name: str) -> str:
    ends = interval(float(row["conf_low"]), float(row["conf_high"]), _STYLE, digits=1)
    return f"{number(float(row['estimate']), _STYLE, digits=1)}% ({name}, {ends})"


def _net_sentence(net: pd.DataFrame, labels: dict[str, str]) -> str:
    """Say the one number of each type that has known payments, and what it averages over."""
    total = net[net["program"] == TOGETHER].set_index("program_type")["probability"].to_dict()
    said = []
    for kind, label in labels.items():
        if kind in total:
            programs = net[(net["program_type"] == kind) & (net["program"] != TOGETHER)]
            paid = [
                f"{program} {number(percent, _STYLE, digits=1)}%"
                for program, percent in zip(
                    programs["program"], programs["payments_percent"], strict=True
                )
            ]
            share = float(total[kind])
            said.append(f"{number(100 * share, _STYLE)}% for {label} (paying as {listing(paid)})")
    if not said:
        return "No payments are known for these program types."
    return (
        "Probability that a new program saves money **after paying its participants** what such "
        f"programs are known to have paid, in percent of baseline: {listing(said)}."
    )


def _sensitivity_sentence(
    sensitivity: pd.DataFrame, labels: dict[str, str], words: Mapping[str, str]
) -> str:
    others = sensitivity[sensitivity["run"] != HEADLINE]
    said = []
    for kind, label in labels.items():
        means = others[(others["estimand"] == "type_mean") & (others["program_type"] == kind)]
        ends = means.sort_values("estimate").iloc[[0, -1]]
        low, high = (
            f"{number(float(mean), _STYLE, digits=1)}% ({described(run, words)})"
            for mean, run in zip(ends["estimate"], ends["run"], strict=True)
        )
        said.append(f"{label} from {low} to {high}")
    return f"Over the analyses of the sensitivity list the means run: {listing(said)}."
