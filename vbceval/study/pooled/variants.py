"""What the result depends on: the headline with one thing changed at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.estimates import Estimates
from vbceval.study.context import StudyContext
from vbceval.study.pooled import monte_carlo
from vbceval.study.pooled.effects import widened
from vbceval.study.pooled.model import KEYS, Pooled, effective_draws, fitted
from vbceval.study.pooled.weighted import WeightedMeta

HEADLINE = "headline"
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

    Writes table ``sensitivity``.

    Parameters
    ----------
    ctx : StudyContext
        The run.
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
    parts = [_summary(HEADLINE, fit.effects, fit.estimates, fit.chains, level, thresholds)]
    for name, (model, effects) in _variants(fit, facts, settings).items():
        with ctx.stage(f"fit again: {name}"):
            est = fitted(model, effects)
        parts.append(_summary(name, effects, est, model.chains, level, thresholds))
    table = pd.concat(parts, ignore_index=True)
    headline = parts[0].set_index(KEYS)["estimate"]
    own = headline.reindex(pd.MultiIndex.from_frame(table[KEYS])).to_numpy()
    table["shift"] = table["estimate"] - own
    probabilities = [_below(t) for t in thresholds]
    columns = ["run", *KEYS, "n_effects", "n_reports", *_NUMBERS, *probabilities, "mcse_estimate",
               "effective_draws"]  # fmt: skip
    ctx.table(
        "sensitivity", table[columns], keys=["run", *KEYS],
        title="The headline with one thing changed",
        formats={**dict.fromkeys([*_NUMBERS, *probabilities], ".2f"), "mcse_estimate": ".3f",
                 "effective_draws": ",.0f"},
        note="Percent of baseline; `shift` is the difference from the headline. `below_1`: "
        "probability that the effect is below -1 percent. A type without rows has no mean in a "
        "run.",
    )  # fmt: skip
    return table


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
        runs[f"leave_out_{program}"] = Variant(fit.model, others)
    return runs


def _below(threshold: float) -> str:
    return f"below_{abs(threshold):g}"


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
        table[_below(limit)] = np.where(effect, (draws < limit).mean(axis=0), np.nan)
    return table.assign(
        run=run,
        n_effects=len(effects),
        n_reports=effects["report"].nunique(),
        mcse_estimate=monte_carlo.error(draws, monte_carlo.mean, chains),
        effective_draws=effective_draws(est),
    )
