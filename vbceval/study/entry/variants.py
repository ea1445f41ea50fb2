"""What the result depends on: rules for the data, estimators, and chained parallel trends."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from vbceval import sensitivity
from vbceval.data import MSSPResults
from vbceval.did import GroupTime, Imputation
from vbceval.estimates import Estimates
from vbceval.panel import EntryPanel
from vbceval.study.context import StudyContext
from vbceval.study.entry.effects import EntryEffects, identified

_KEYS = ["run", "estimand", "event_time"]


def compare_rules(
    ctx: StudyContext,
    effects: EntryEffects,
    results: MSSPResults,
    options: EntryPanel,
    *,
    level: float,
) -> Estimates:
    """
    Repeat the primary estimate under other data rules and estimators, with joint differences.

    Writes table ``sensitivity``: runs and their differences from the primary run.

    Parameters
    ----------
    ctx : StudyContext
        The run.
    effects : EntryEffects
        Effects of the primary panel.
    results : MSSPResults
        The files.
    options : EntryPanel
        Options of the primary panel.
    level : float
        Level of intervals.

    Returns
    -------
    Estimates
        The average effect of every run (column ``run``), and the differences.
    """
    together = {name: est.where(stratum=None) for name, est in effects.estimators.items()}
    runs = {"primary": together.pop("outcome regression")} | together
    others = {
        "years before entry from the first file": replace(options, base_file="first_file"),
        "years before entry from the last file": replace(options, base_file="last_file"),
        "no limit on the risk score": replace(options, hcc_limit=None),
    }
    estimator = GroupTime(method="reg", cell_share="pair", on_failure="skip")
    for name, other in others.items():
        runs[name] = identified(estimator.fit(other.build(results), effects.design)).where(
            stratum=None
        )
    simple = {name: run.aggregate("simple") for name, run in runs.items()}
    by_event = {
        name: run.aggregate("event_time").where("event_time >= 0") for name, run in runs.items()
    }
    parts = [sensitivity.differences(x, reference="primary") for x in (simple, by_event)]
    table = pd.concat([part.tidy(level) for part in parts], ignore_index=True)
    values = ["estimate", "std_error", "conf_low", "conf_high", "p_value", "df"]
    ctx.table(
        "sensitivity", table[[*_KEYS, *values]], keys=_KEYS,
        title="The same effect under other rules, and its difference from the primary estimate",
        formats=dict.fromkeys(values[:4], ",.1f") | {"p_value": ".3f"},
        note="The interval of a difference comes from the joint influence of both runs.",
    )  # fmt: skip
    return parts[0]


def chain_later_years(
    ctx: StudyContext, effects: EntryEffects, results: MSSPResults, options: EntryPanel,
    *, level: float,
) -> Estimates:  # fmt: skip
    """
    Give later event times by imputation with ACO-file effects.

    These rest on parallel trends chained over calendar years between ACOs that are never observed
    in the same two years, which the primary estimate does not need. Writes table ``chained``.

    Returns
    -------
    Estimates
        Averages by event time.
    """
    estimator = Imputation(covariate_effect="trend", drop_unimputable=True)
    est = estimator.fit(options.build(results), replace(effects.design, window=None))
    ctx.meta(est)
    by_event = est.where(stratum=None).aggregate("event_time")
    table = by_event.tidy(level)
    columns = ["estimand", "event_time", "estimate", "std_error", "conf_low", "conf_high",
               "p_value", "n_treated"]  # fmt: skip
    ctx.table(
        "chained", table[columns], keys=["estimand", "event_time"],
        title="Later years, under chained parallel trends (imputation)",
        formats=dict.fromkeys(columns[2:6], ",.1f") | {"p_value": ".3f"},
        note="Not part of the primary result, of the headline or of any dollar total.",
    )  # fmt: skip
    return by_event
