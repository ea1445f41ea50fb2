"""What the result depends on: the headline with one thing changed at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from vbceval.bayes.meta_checks import leave_one_out, prior_sensitivity
from vbceval.estimates import Estimates
from vbceval.study.context import StudyContext
from vbceval.study.pooled.effects import widened
from vbceval.study.pooled.model import KEYS, Pooled, fitted

HEADLINE = "headline"
_SHOWN = ["mean_effect", "type_mean", "predictive"]
_SPREAD = "between_report_sd"
_NUMBERS = ["estimate", "std_error", "conf_low", "conf_high", "shift"]


def vary(
    ctx: StudyContext,
    fit: Pooled,
    facts: pd.DataFrame,
    settings: Mapping[str, Any],
    *,
    thresholds: Sequence[float],
    level: float,
) -> pd.DataFrame:
    """
    Repeat the headline with one rule, prior, distribution or program changed.

    Other rows and another distribution are fitted again; other priors, and programs left out, are
    computed from the headline draws where they can be. Writes table ``sensitivity``.

    Parameters
    ----------
    ctx : StudyContext
        The run; its size names the runs that are fitted again in ``refits``, and says in
        ``leave_out`` whether programs are left out.
    fit : Pooled
        The headline fit.
    facts : DataFrame
        From `vbceval.evidence.read_facts`.
    settings : mapping
        ``commercial``, programs of commercial payers; ``priors``, changed scales by name.
    thresholds : sequence of float
        Percent of baseline.
    level : float
        Level of intervals.

    Returns
    -------
    DataFrame
        Table ``sensitivity``.
    """
    full = _summary(fit.estimates, level, thresholds).assign(
        run=HEADLINE, method="fitted", **_counts(fit.effects)
    )
    sets = widened(facts, fit.effects, list(settings["commercial"]))
    parts = [full, *_refitted(ctx, fit, sets, level, thresholds)]
    parts.append(_priors(ctx, fit, settings["priors"], level))
    if ctx.size["leave_out"]:
        parts.append(_left_out(ctx, fit, sets, level))
    table = pd.concat(parts, ignore_index=True)
    own = full.set_index(KEYS)["estimate"]
    before = own.reindex(pd.MultiIndex.from_frame(table[KEYS])).to_numpy()
    table["shift"] = table["estimate"] - before
    probabilities = [_below(t) for t in thresholds]
    columns = ["run", *KEYS, "n_effects", "n_reports", *_NUMBERS, *probabilities, "method"]
    ctx.table(
        "sensitivity", table[columns], keys=["run", *KEYS],
        title="The headline with one thing changed",
        formats=dict.fromkeys([*_NUMBERS, *probabilities], ".2f"),
        note="Percent of baseline; `shift` is the difference from the headline. `below_1`: "
        "probability that the effect is below -1 percent. Runs whose method is `reweighted` come "
        "from the headline draws, and their further probabilities and spreads are not computed. A "
        "type whose only programs are left out keeps a mean and a prediction from the other types.",
    )  # fmt: skip
    return table


def _below(threshold: float) -> str:
    return f"below_{abs(threshold):g}"


def _counts(effects: pd.DataFrame) -> dict[str, int]:
    return {"n_effects": len(effects), "n_reports": int(effects["report"].nunique())}


def _summary(est: Estimates, level: float, thresholds: Sequence[float]) -> pd.DataFrame:
    shown = est.where(estimand=[*_SHOWN, _SPREAD])
    draws = shown.draws()
    table = shown.tidy(level)[[*KEYS, *_NUMBERS[:4]]].reset_index(drop=True)
    effect = table["estimand"].isin(_SHOWN)
    for limit in thresholds:
        table[_below(limit)] = np.where(effect, (draws < limit).mean(axis=0), np.nan)
    return table


def _refitted(
    ctx: StudyContext,
    fit: Pooled,
    sets: Mapping[str, pd.DataFrame],
    level: float,
    thresholds: Sequence[float],
) -> list[pd.DataFrame]:
    """Runs on other rows, and with normal deviations, each from a fit of its own."""
    draws, tune = int(ctx.size["refit_draws"]), int(ctx.size["refit_tune"])
    model = replace(fit.model, draws=draws, tune=tune)
    parts = []
    for name in ctx.size["refits"]:
        effects = sets.get(name, fit.effects)
        with ctx.stage(f"fit again: {name}"):
            est = fitted(replace(model, robust=name != "normal"), effects)
        parts.append(
            _summary(est, level, thresholds).assign(run=name, method="fitted", **_counts(effects))
        )
    return parts


def _priors(
    ctx: StudyContext, fit: Pooled, priors: Mapping[str, Mapping[str, float]], level: float
) -> pd.DataFrame:
    with ctx.stage("other priors"):
        table = prior_sensitivity(
            fit.model, fit.effects, fit.estimates, alternatives=priors, level=level
        )
    table = table[table["prior"].isin(list(priors))]
    return table.rename(columns={"prior": "run", "below_zero": _below(0)}).assign(
        **_counts(fit.effects)
    )


def _left_out(
    ctx: StudyContext, fit: Pooled, sets: Mapping[str, pd.DataFrame], level: float
) -> pd.DataFrame:
    """Each program left out; rules that leave out just one program have its name as well."""
    with ctx.stage("leave out one program at a time"):
        table = leave_one_out(fit.model, fit.effects, fit.estimates, by="program", level=level)
    rows = fit.effects.groupby("program")["fact"].agg(set)
    reports = fit.effects.groupby("program")["report"].nunique()
    table = table.assign(
        run="leave_out_" + table["left_out"],
        n_effects=len(fit.effects) - table["n_effects"],
        n_reports=fit.effects["report"].nunique() - table["left_out"].map(reports),
    )
    parts = [table]
    for name, effects in sets.items():
        dropped = set(fit.effects["fact"]) - set(effects["fact"])
        same = [program for program, facts in rows.items() if facts == dropped]
        if same and name not in ctx.size["refits"]:
            parts.append(table[table["left_out"] == same[0]].assign(run=name))
    return pd.concat(parts, ignore_index=True)
