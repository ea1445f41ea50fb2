"""What the result depends on: the headline with one thing changed at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.bayes.weighted import WeightedMeta
from vbceval.estimates import Estimates
from vbceval.study.context import StudyContext
from vbceval.study.pooled import monte_carlo
from vbceval.study.pooled.effects import widened
from vbceval.study.pooled.model import KEYS, Pooled, by_type, effective_draws, fitted
from vbceval.study.pooled.predict import below_name

HEADLINE = "headline"
_LEFT_OUT = "leave_out_"
_SHOWN = ["mean_effect", "type_mean", "predictive", "between_report_sd"]
_EFFECTS = _SHOWN[:3]
_NUMBERS = ["estimate", "std_error", "conf_low", "conf_high", "shift"]


class Variant(NamedTuple):
    """One run of the sensitivity list: a model and its analysis set."""

    model: WeightedMeta
    effects: pd.DataFrame


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

    Writes tables ``sensitivity``, one row a run, and ``sensitivity_all``.

    Parameters
    ----------
    ctx : StudyContext
        The run.
    fit : Pooled
        The headline fit.
    facts : DataFrame
        From `vbceval.evidence.read_facts`.
    settings : mapping
        ``commercial``, programs of commercial payers; ``priors``, changed scales by name;
        ``words``, what each run changes; ``shown``, the program types of the short table.
    thresholds : sequence of float
        Percent of baseline.
    level : float
        Level of intervals.

    Returns
    -------
    DataFrame
        Table ``sensitivity_all``.
    """
    parts = [_summary(HEADLINE, fit.effects, fit.estimates, fit.chains, level, thresholds)]
    for name, (model, effects) in _variants(fit, facts, settings).items():
        with ctx.stage(f"fit again: {name}"):
            est = fitted(model, effects)
        parts.append(_summary(name, effects, est, model.chains, level, thresholds))
    table = pd.concat(parts, ignore_index=True)
    headline = parts[0].set_index(KEYS)["estimate"]
    own = headline.reindex(pd.MultiIndex.from_frame(table[KEYS])).to_numpy()
    table["shift"] = table["estimate"] - own
    probabilities = [below_name(t) for t in thresholds]
    table = _ordered(table, list(ctx.settings["labels"]))
    keys = ["run", "estimand", "program_type"]
    columns = [*keys, "n_effects", "n_reports", *_NUMBERS, *probabilities, "mcse_estimate",
               "effective_draws"]  # fmt: skip
    words = settings["words"]
    _compact(ctx, table, words, list(settings["shown"]), probabilities)
    ctx.table(
        "sensitivity_all", table[columns], keys=keys,
        title="The same, with intervals and all program types",
        formats={**dict.fromkeys([*_NUMBERS, *probabilities], ".2f"), "mcse_estimate": ".3f",
                 "effective_draws": ",.0f"},
        note="Percent of baseline; `shift` is the difference from the headline. `below_1`: "
        "probability that the effect is below -1 percent. A type without rows has no mean in a "
        "run.",
    )  # fmt: skip
    return table


def described(run: str, words: Mapping[str, str]) -> str:
    """Say what a run changes."""
    return words.get(run, run.replace(_LEFT_OUT, "without "))


def _ordered(table: pd.DataFrame, types: Sequence[str]) -> pd.DataFrame:
    runs = [by_type(part, types) for _, part in table.groupby("run", sort=False)]
    return pd.concat(runs, ignore_index=True)


def _compact(
    ctx: StudyContext,
    table: pd.DataFrame,
    words: Mapping[str, str],
    types: Sequence[str],
    probabilities: Sequence[str],
) -> None:
    """One row a run and type: the mean, and probabilities for a new program."""
    keys = ["run", "program_type"]
    chosen = table[table["program_type"].isin(types)]
    mean = chosen[chosen["estimand"] == "type_mean"]
    new = chosen.loc[chosen["estimand"] == "predictive", [*keys, *probabilities]]
    numbers = ["estimate", "conf_low", "conf_high", "shift"]
    short = mean[[*keys, "n_effects", "n_reports", *numbers, "mcse_estimate"]].merge(
        new.rename(columns={name: f"new_{name}" for name in probabilities}), on=keys
    )
    short["changed"] = [described(str(run), words) for run in short["run"]]
    shares = [f"new_{name}" for name in probabilities]
    order = ["changed", "program_type", "n_effects", "n_reports", *numbers, *shares,
             "mcse_estimate"]  # fmt: skip
    ctx.table(
        "sensitivity", short[order], title="The headline with one thing changed",
        keys=["changed", "program_type"],
        formats={**dict.fromkeys([*numbers, *shares], ".2f"), "mcse_estimate": ".3f"},
        note="Mean effect of the type, percent of baseline, with its interval; `shift` is its "
        "difference from the headline. `n_effects`, `n_reports`: of all types. `new_below_1`: "
        "probability that the effect of a new program is below -1 percent. `mcse_estimate`: Monte "
        "Carlo standard error of the mean. Changes that leave out the same rows give the same "
        "numbers.",
    )  # fmt: skip


def _variants(fit: Pooled, facts: pd.DataFrame, settings: Mapping[str, Any]) -> dict[str, Variant]:
    sets = widened(facts, fit.effects, list(settings["commercial"]))
    runs = {name: Variant(fit.model, effects) for name, effects in sets.items()}
    runs["normal"] = Variant(replace(fit.model, robust=False), fit.effects)
    for name, scales in settings["priors"].items():
        changed = replace(
            fit.model,
            mean_sd=float(scales.get("mean_sd", fit.model.mean_sd)),
            sd_scale=float(scales.get("sd_scale", fit.model.sd_scale)),
        )
        runs[name] = Variant(changed, fit.effects)
    for program in fit.effects["program"].unique():
        others = fit.effects[fit.effects["program"] != program].reset_index(drop=True)
        runs[f"{_LEFT_OUT}{program}"] = Variant(fit.model, others)
    return runs


def _summary(
    run: str,
    effects: pd.DataFrame,
    est: Estimates,
    chains: int,
    level: float,
    thresholds: Sequence[float],
) -> pd.DataFrame:
    shown = est.where(estimand=_SHOWN)
    draws = shown.draws()
    table = shown.tidy(level)[[*KEYS, *_NUMBERS[:4]]].reset_index(drop=True)
    effect = table["estimand"].isin(_EFFECTS)
    for limit in thresholds:
        table[below_name(limit)] = np.where(effect, (draws < limit).mean(axis=0), np.nan)
    return table.assign(
        run=run,
        n_effects=len(effects),
        n_reports=effects["report"].nunique(),
        mcse_estimate=monte_carlo.error(draws, monte_carlo.mean, chains),
        effective_draws=effective_draws(est),
    )
