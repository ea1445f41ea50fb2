"""Group-time effects of entry, their averages, strata, gaps and sensitivity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vbceval import equity, figures, sensitivity
from vbceval.design import Design
from vbceval.did import GroupTime
from vbceval.estimates import Estimates
from vbceval.estimates.aggregate import Kind
from vbceval.panel import Panel
from vbceval.study.context import StudyContext
from vbceval.study.entry.means import baseline_means, pair_means, trend_table

AGGREGATES: tuple[Kind, ...] = ("simple", "event_time", "cohort", "period")
_TEXT = {"estimate": ",.1f", "std_error": ",.1f", "conf_low": ",.1f", "conf_high": ",.1f",
         "band_low": ",.1f", "band_high": ",.1f", "p_value": ".3f", "percent": ".2f"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EntryEffects:
    """
    What later steps need of the effects.

    Parameters
    ----------
    primary : Estimates
        Identified group-time effects of the primary estimator, all together and by stratum.
    design : Design
        Its design.
    baseline : Series
        Treated mean before entry by stratum (missing = all together), unit of the outcome.
    estimators : mapping
        Every estimator's identified group-time effects, by name.
    """

    primary: Estimates
    design: Design
    baseline: pd.Series
    estimators: Mapping[str, Estimates]


def identified(estimates: Estimates) -> Estimates:
    """Return the group-time effects that have a comparison; the others are listed, not hidden."""
    return estimates.where(np.isfinite(estimates.estimate))


def estimate_effects(ctx: StudyContext, panel: Panel, settings: Mapping[str, Any]) -> EntryEffects:
    """
    Estimate effects of entry by outcome regression, doubly robust, and without covariates.

    Writes tables ``support``, ``pretrends``, ``group_time``, ``effects`` and figures
    ``event_study`` and ``trend``. The pre-entry checks come before any effect is shown.

    Parameters
    ----------
    ctx : StudyContext
        The run; it declares limits ``pretrend_p`` and ``largest_lead``.
    panel : Panel
        Units by calendar year.
    settings : mapping
        ``outcome``, ``unit_of_measure``, ``covariates``, ``window`` and ``level``.
    """
    window = (int(settings["window"][0]), int(settings["window"][1]))
    design = Design(
        outcome=settings["outcome"], comparison="not_yet_treated", window=window,
        covariates=settings["covariates"], unit_of_measure=settings["unit_of_measure"],
    )  # fmt: skip
    plain = Design(
        outcome=design.outcome, comparison="not_yet_treated", window=window,
        unit_of_measure=design.unit_of_measure,
    )  # fmt: skip
    fits = {
        "outcome regression": GroupTime(method="reg", **_OPTIONS).fit(panel, design),
        "doubly robust": GroupTime(method="dr", **_OPTIONS).fit(panel, design),
        "unadjusted": GroupTime(method="reg", **_OPTIONS).fit(panel, plain),
    }
    primary = fits["outcome regression"]
    _support(ctx, primary)
    estimators = {name: identified(fit) for name, fit in fits.items()}
    means = pair_means(panel, estimators["outcome regression"], design.outcome)
    baseline = baseline_means(means)
    _before_entry(ctx, estimators, float(baseline[np.nan]))
    effects = EntryEffects(
        primary=estimators["outcome regression"], design=design, baseline=baseline,
        estimators=estimators,
    )  # fmt: skip
    ctx.meta(effects.primary)
    _tables(ctx, effects, float(settings["level"]))
    _draw(ctx, effects, means)
    return effects


_OPTIONS: dict[str, Any] = {"cell_share": "pair", "on_failure": "skip"}


def _support(ctx: StudyContext, est: Estimates) -> None:
    """The (g, t) table: who is compared, and which effects have nobody to compare with."""
    frame = est.where(stratum=None).frame
    table = frame[["cohort", "period", "base", "event_time", "n_treated", "n_comparison"]].assign(
        identified=np.isfinite(frame["estimate"].to_numpy()), note=frame["note"]
    )
    ctx.table(
        "support", table, title="Treated and comparison ACOs behind each effect",
        keys=["cohort", "period"],
        note="Not-yet-entered ACOs with both years among their benchmark years are the comparison. "
        "Rows that are not identified are left out of every average.",
    )  # fmt: skip


def _before_entry(ctx: StudyContext, estimators: Mapping[str, Estimates], base: float) -> None:
    parts = []
    for name, est in estimators.items():
        leads = est.where(stratum=None)
        by_event = leads.aggregate("event_time").where(estimand="att_event_time")
        parts.append(sensitivity.pretrends(leads).assign(estimator=name, rows="cohort and period"))
        parts.append(sensitivity.pretrends(by_event).assign(estimator=name, rows="event time"))
    table = pd.concat(parts, ignore_index=True)
    first = ["estimator", "rows", "check"]
    ctx.table(
        "pretrends", table[[*first, *[c for c in table if c not in first]]],
        title="What the years before entry say", keys=first, formats={**_TEXT, "statistic": ".2f"},
        note="Examined before any effect was shown. A small statistic does not prove parallel "
        "trends: the equivalence row gives the size of differences that are excluded. With three "
        "benchmark years the comparison for a lead at e = -1 is mostly one later cohort, whose own "
        "lead at e = -2 is the same contrast with the other sign: leads are not separate pieces of "
        "evidence (see the rank), and a movement common to all cohorts before entry cancels.",
    )  # fmt: skip
    primary = table[(table["estimator"] == "outcome regression") & (table["rows"] == "event time")]
    values = primary.set_index("check")
    ctx.check("pretrend_p", float(values["p_value"]["joint"]))
    ctx.check("largest_lead", 100 * float(values["estimate"]["equivalence"]) / base)


def _tables(ctx: StudyContext, effects: EntryEffects, level: float) -> None:
    group_time, aggregated = [], []
    strata = effects.primary.frame["stratum"].unique()
    for name, est in effects.estimators.items():
        # bands hold over the rows of one stratum, as an event study of it is read
        for stratum in strata:
            part = est.where(stratum=stratum if isinstance(stratum, str) else None)
            group_time.append(part.tidy(level).assign(estimator=name))
            for kind in AGGREGATES:
                table = part.aggregate(kind).tidy(level)
                aggregated.append(table.assign(estimator=name, average=kind))
    frame = pd.concat(group_time, ignore_index=True)
    first = ["estimator", "stratum", "cohort", "period", "event_time"]
    drop = ["estimand", "outcome", "interval", "note", "n_units"]
    frame = frame[[*first, *[c for c in frame if c not in [*first, *drop]]]]
    ctx.table("group_time", frame, title="Group-time effects", keys=first[:4], formats=_TEXT)
    table = pd.concat(aggregated, ignore_index=True)
    table["percent"] = 100 * table["estimate"] / table["stratum"].map(effects.baseline)
    first = ["estimator", "average", "estimand", "stratum", "cohort", "period", "event_time"]
    table = table[[*first, *[c for c in table if c not in [*first, "outcome", "interval",
                                                           "n_units"]]]]  # fmt: skip
    ctx.table(
        "effects", table, title="Effects of entry on spending", keys=first, formats=_TEXT,
        note="Nominal USD per person-year, treated minus comparison; negative = lower spending. "
        "Percent is relative to the treated mean in the last year before entry. Intervals are "
        f"{100 * level:.0f}%, errors clustered by ACO with factor G/(G-1); bands hold over the rows "
        "of one estimator, average and stratum.",
    )  # fmt: skip


def _draw(ctx: StudyContext, effects: EntryEffects, means: pd.DataFrame) -> None:
    together = effects.primary.where(stratum=None)
    by_event = together.aggregate("event_time")
    ctx.figure(
        "event_study",
        figures.event_study(by_event.where(estimand="att_event_time"), count_label="Treated ACOs",
                            labels=ctx.settings["labels"]),
        title="Spending before and after entry",
    )  # fmt: skip
    # the bracket shows the primary outcome: event times weigh by their person-years
    overall = together.aggregate("simple")
    table = trend_table(means[means["stratum"].isna()])
    ctx.figure(
        "trend",
        figures.trend(table, overall, start=0, baseline=[-1],
                      baseline_mean=float(effects.baseline[np.nan]),
                      period_label="Years since entry", labels=ctx.settings["labels"]),
        title="Adjusted spending of entrants and of ACOs that had not yet entered",
    )  # fmt: skip


def show_strata(
    ctx: StudyContext, effects: EntryEffects, *, by: str, focal: str, reference: str, level: float
) -> Estimates:
    """
    Show effects by stratum and the gap between a focal and a reference stratum.

    Writes tables ``gaps`` and figure ``forest``. The composition term is the overall effect less
    the person-year weighted mean of the stratum effects, each compared within its stratum.

    Returns
    -------
    Estimates
        Overall effects by stratum.
    """
    simple = effects.primary.aggregate("simple")
    gaps = equity.gaps(simple, by=by, reference=reference)
    test = equity.equality(simple, by=by)
    pair = simple.by(by).where(stratum=[f"{by}={focal}", f"{by}={reference}"])
    both = pair.wald()
    focal_gap = gaps.where(stratum=f"{by}={focal} - {reference}")
    table = gaps.tidy(level).assign(test="gap")[
        ["test", "stratum", "estimate", "std_error", "conf_low", "conf_high", "p_value", "df"]
    ]
    extra = pd.DataFrame(
        [
            {"test": "all strata equal", "stratum": by, "statistic": test.statistic,
             "restrictions": test.restrictions, "df": test.df, "p_value": test.p_value},
            {"test": "both zero", "stratum": f"{focal} and {reference}",
             "statistic": both.statistic, "restrictions": both.restrictions, "df": both.df,
             "p_value": both.p_value},
            {"test": "composition term", "stratum": "overall less weighted strata",
             "estimate": _composition(effects.primary, by)},
        ]
    )  # fmt: skip
    ctx.table(
        "gaps", pd.concat([table, extra], ignore_index=True), keys=["test", "stratum"],
        title="Differences in effect between enrollment types", formats=_TEXT,
        note="Gaps and tests come from the joint influence of ACOs on all effects, not from "
        "separate runs.",
    )  # fmt: skip
    ctx.figure(
        "forest", figures.forest(simple, gap=focal_gap, labels=ctx.settings["labels"]),
        title="Effect by enrollment type, and the gap",
    )  # fmt: skip
    return simple


def _composition(est: Estimates, by: str) -> float:
    post = est.where("event_time >= 0")
    together = post.where(stratum=None)
    strata = post.by(by)
    if strata.shares is None or together.shares is None:
        return float("nan")
    weights = strata.shares.value / together.shares.value.sum()
    overall = float(together.estimate @ together.shares.value / together.shares.value.sum())
    return overall - float(strata.estimate @ weights)
