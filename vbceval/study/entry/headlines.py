"""The key results in sentences, each from the estimates and by the protocol's decision rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vbceval import equity
from vbceval.bayes.averages import PERCENT
from vbceval.estimates import Estimates
from vbceval.estimates.columns import OVERALL
from vbceval.figures.numbers import interval, number, p_statement
from vbceval.figures.style import get_style
from vbceval.study.context import StudyContext
from vbceval.study.entry.effects import EntryEffects
from vbceval.study.entry.money import Account

Row = dict[str, float]


def state_results(
    ctx: StudyContext,
    effects: EntryEffects,
    variants: Estimates,
    posterior: Estimates,
    account: Account,
    luck: pd.DataFrame,
    *,
    by: str,
    focal: str,
    reference: str,
    thresholds: Sequence[float],
    level: float,
) -> None:
    """
    Write the key results of the report.

    Parameters
    ----------
    ctx : StudyContext
        The run.
    effects : EntryEffects
        Effects of the primary estimator.
    variants : Estimates
        Result of `compare_rules`.
    posterior : Estimates
        Result of `sample_posterior`.
    account : Account
        Gross and net impact savings.
    luck : DataFrame
        Result of `profile_acos`.
    by, focal, reference : str
        The stratifying variable and the two strata of the gap.
    thresholds : sequence of float
        Percent of baseline, at which posterior probabilities are said.
    level : float
        Level of intervals.
    """
    style = get_style("jama", language="effect")
    simple = effects.primary.aggregate("simple")
    row = _first(simple.where(stratum=None), level)
    percent = 100 * row["estimate"] / float(effects.baseline[np.nan])
    ctx.headline(
        f"**{_verdict(row)}** Effect of entry in the first two years: "
        f"{_dollars(row, level)} per person-year, {number(percent, style, digits=1)}% of the mean "
        f"before entry ({p_statement(row['p_value'], style)})."
    )
    _range(ctx, variants, level)
    _chances(ctx, posterior, thresholds, level)
    gap = equity.gaps(simple, by=by, reference=reference)
    gap_row = _first(gap.where(stratum=f"{by}={focal} - {reference}"), level)
    labels = ctx.settings["labels"]
    ctx.headline(
        f"{labels.get(focal, focal)} less {labels.get(reference, reference).lower()}: "
        f"{_dollars(gap_row, level)} per person-year ({p_statement(gap_row['p_value'], style)}); "
        f"the interval {'excludes' if _clear(gap_row) else 'includes'} no difference."
    )
    _money(ctx, account, level)
    every = luck[luck["period"].isna()].sort_values("person_cv_multiple")
    shares = ", ".join(
        f"{number(100 * share, style)}% at {multiple:g} times"
        for share, multiple in zip(every["chance_share"], every["person_cv_multiple"], strict=True)
    )
    ctx.headline(
        f"Of {int(every['rewarded'].iloc[0]):,} rewarded ACO-years, the number that chance alone "
        "would give if no ACO saved, as a share of those rewarded, by the assumed spread of a "
        f"person's spending: {shares} the published value."
    )
    ctx.headline(
        "Not identified: who is attributed is decided anew every year, entry may follow unusually "
        "high spending, and later years rest on trends chained between ACOs; see the protocol."
    )


def _first(estimates: Estimates, level: float) -> Row:
    """The first row's numbers."""
    table = estimates.tidy(level)
    names = ["estimate", "conf_low", "conf_high", "p_value"]
    return {name: float(table[name].to_numpy(dtype=float)[0]) for name in names}


def _clear(row: Row) -> bool:
    return bool(row["conf_low"] > 0 or row["conf_high"] < 0)


def _verdict(row: Row) -> str:
    if row["conf_high"] < 0:
        return "Entry lowered spending."
    style = get_style("jama")
    low, high = (number(row[x], style, prefix="$") for x in ("conf_low", "conf_high"))
    return f"No evidence that entry lowered spending; effects outside {low} to {high} are excluded."


def _range(ctx: StudyContext, variants: Estimates, level: float) -> None:
    """Say how far the estimate moves over the other runs, and which of them lose significance."""
    runs = variants.where(estimand="att_simple").tidy(level)
    others = runs[runs["run"] != "primary"]
    style = get_style("jama")
    low, high = (number(x, style, prefix="$") for x in (others["estimate"].min(),
                                                       others["estimate"].max()))  # fmt: skip
    weak = others.loc[others["conf_high"] >= 0, "run"].tolist()
    said = f"; the interval includes zero for: {', '.join(weak)}" if weak else ""
    larger = int((others["estimate"].abs() > runs["estimate"].abs().iloc[0]).sum())
    ctx.headline(
        f"Over the {len(others)} other specifications of the protocol the estimate ranges from "
        f"{low} to {high}; {larger} of them {'is' if larger == 1 else 'are'} larger in size than the primary one{said}. The "
        "range is part of the result."
    )


def _chances(
    ctx: StudyContext, posterior: Estimates, thresholds: Sequence[float], level: float
) -> None:
    """Say how probable it is that spending fell, and by how much."""
    style = get_style("jama")
    overall = posterior.where(estimand=OVERALL, unit_of_measure=PERCENT)
    row = _first(overall, level)
    ends = interval(row["conf_low"], row["conf_high"], style, digits=1)
    said = [
        f"{'at all' if limit == 0 else f'by more than {-limit:g}%'} {_percent(p)}"
        for limit in thresholds
        for p in [float(overall.probability(below=limit).iloc[0])]
    ]
    ctx.headline(
        "Hierarchical model, posterior probability that entry lowered spending: "
        f"{', '.join(said)}; effect {number(row['estimate'], style, digits=1)}% "
        f"({100 * level:g}% credible interval, {ends}) of the mean before entry."
    )


def _percent(probability: float) -> str:
    """Write a probability; draws say nothing about the last percent at either end."""
    if probability < 0.01:
        return "below 1%"
    if probability > 0.99:
        return "above 99%"
    return f"{100 * probability:.0f}%"


def _dollars(row: Row, level: float) -> str:
    style = get_style("jama")
    ends = interval(row["conf_low"], row["conf_high"], style, prefix="$")
    return f"{number(row['estimate'], style, prefix='$')} ({100 * level:g}% CI, {ends})"


def _money(ctx: StudyContext, account: Account, level: float) -> None:
    style = get_style("jama")
    gross, net = (
        _first(part.where("period != period").scale(1e-6, unit_of_measure="USD millions"), level)
        for part in account
    )
    paid = float(account.net.frame["payments"].to_numpy(dtype=float)[0]) / 1e6
    ctx.headline(
        "Impact savings over the person-years covered, USD millions: gross "
        f"{_dollars(gross, level)}; payments {number(paid, style, prefix='$')}; "
        f"net {_dollars(net, level)}. "
        + ("Net savings." if net["conf_low"] > 0 else "The interval of net savings includes zero.")
    )
