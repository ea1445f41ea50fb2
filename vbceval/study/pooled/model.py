"""The random-effects meta-analysis of the analysis set, its gates and its checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from vbceval.bayes import MetaAnalysis
from vbceval.bayes.meta_checks import borrowing, posterior_predictive
from vbceval.bayes.random_effects import reml
from vbceval.bayes.weighted import WeightedMeta
from vbceval.estimates import Estimates
from vbceval.study.context import StudyContext
from vbceval.study.pooled import monte_carlo
from vbceval.study.pooled.figure_forest import forest

KEYS = ["estimand", "stratum"]
_SUMMARY = ["estimate", "std_error", "conf_low", "conf_high", "inner_low", "inner_high"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pooled:
    """
    The headline fit.

    Parameters
    ----------
    model : WeightedMeta
        The model.
    effects : DataFrame
        The analysis set.
    estimates : Estimates
        Its posterior, percent of baseline.
    types : tuple of str
        Program types of the analysis set, in the order in which they are shown.
    borrowed : DataFrame
        Weights of own effects, of other types and of the prior in the mean of each type, from
        `vbceval.bayes.meta_checks.borrowing`, with ``program_type``.
    """

    model: WeightedMeta
    effects: pd.DataFrame
    estimates: Estimates
    types: tuple[str, ...]
    borrowed: pd.DataFrame

    @property
    def chains(self) -> int:
        """Number of chains; the draws of one follow each other."""
        return self.model.chains

    def draws(self, estimand: str, program_type: str | None = None) -> np.ndarray:
        """Return the draws of one quantity, shape (S,)."""
        stratum = None if program_type is None else f"program_type={program_type}"
        return self.estimates.where(estimand=estimand, stratum=stratum).draws()[:, 0]


def pool(
    ctx: StudyContext, effects: pd.DataFrame, settings: Mapping[str, Any], *, level: float
) -> Pooled:
    """
    Fit the model of the protocol, stop unless its draws can be trusted, and show it.

    Writes tables ``posterior``, ``borrowing``, ``study_effects``, ``diagnostics``,
    ``predictive_check`` and figure ``forest``.

    Parameters
    ----------
    ctx : StudyContext
        The run; it declares limits ``pareto_k`` and ``effective_draws``.
    effects : DataFrame
        The analysis set.
    settings : mapping
        ``mean_sd``, ``sd_scale``, ``nu`` of the model; ``inner_level``; ``predicted``, the program
        types for which a new program is predicted.
    level : float
        Level of intervals.
    """
    model = WeightedMeta(
        mean_sd=float(settings["mean_sd"]), sd_scale=float(settings["sd_scale"]),
        nu=float(settings["nu"]), program_effects=False, seed=ctx.seed,
        chains=int(ctx.size["chains"]), proposals=int(ctx.size["proposals"]),
        draws=int(ctx.size["draws"]),
    )  # fmt: skip
    est = fitted(model, effects)
    present = set(effects["program_type"])
    types = tuple(kind for kind in ctx.settings["labels"] if kind in present)
    borrowed = borrowing(model, effects, est).assign(estimand="type_mean")
    fit = Pooled(
        model=model, effects=effects, estimates=est, types=types,
        borrowed=by_type(borrowed, types),
    )  # fmt: skip
    _gates(ctx, fit)
    ctx.meta(est)
    inner = float(settings["inner_level"])
    _posterior(ctx, fit, level=level, inner=inner)
    _borrowed(ctx, fit)
    _shrunken(ctx, fit, level)
    ctx.figure(
        "forest",
        forest(fit, list(settings["predicted"]), labels=ctx.settings["labels"], level=level),
        title="Published effects on total spending, means by program type, and new programs",
    )
    ctx.table(
        "predictive_check", posterior_predictive(model, effects, est, level=level),
        title="Would the model produce a table like the observed one?", keys=["statistic"],
        formats=dict.fromkeys(["observed", "replicated", "low", "high", "tail"], ".2f"),
        note="Replicated: mean and interval over tables drawn from the fitted model. Tail: "
        "probability that a replicated value is at least the observed one; near 0 or 1 the model "
        "misses that side of the data.",
    )  # fmt: skip
    return fit


def fitted(model: MetaAnalysis, effects: pd.DataFrame) -> Estimates:
    """Return the posterior of a model for an analysis set, bounds of standard errors included."""
    return model.fit(
        effects,
        estimate="percent_effect",
        std_error="se_percent",
        std_error_low="se_percent_low",
        std_error_high="se_percent_high",
        keep=["fact", "label"],
    )


def effective_draws(est: Estimates) -> float:
    """Return the number of independent draws that the weighted draws of all chains are worth."""
    return float(est.to_arviz()["sample_stats"]["effective"].sum())


def _gates(ctx: StudyContext, fit: Pooled) -> None:
    stats = fit.estimates.to_arviz()["sample_stats"]
    found = {
        "pareto_k": float(stats["pareto_k"]),
        "effective_draws": effective_draws(fit.estimates),
        "effective_draws_of_a_chain": float(stats["effective"].min()),
        "chains": float(fit.chains),
        "proposals_of_a_chain": float(fit.model.proposals),
    }
    ctx.check("pareto_k", found["pareto_k"])
    ctx.check("effective_draws", found["effective_draws"])
    ctx.table(
        "diagnostics", pd.DataFrame({"diagnostic": list(found), "value": list(found.values())}),
        title="Quality of the weighted draws", keys=["diagnostic"],
        note="Draws are proposals weighted by the exact likelihood, in independent chains. "
        "`pareto_k`: largest shape of the tail of the weights; effective draws: what they are "
        "worth, all chains together and in the worst chain. The run stops where a limit is broken.",
    )  # fmt: skip


def _posterior(ctx: StudyContext, fit: Pooled, *, level: float, inner: float) -> None:
    frame = fit.estimates.frame
    shown = fit.estimates.where(~frame["estimand"].eq("study_effect").to_numpy())
    table = shown.tidy(level)
    ends = shown.tidy(inner)
    table = table.assign(inner_low=ends["conf_low"], inner_high=ends["conf_high"])
    summaries = {
        "estimate": monte_carlo.mean, "std_error": monte_carlo.spread,
        "conf_low": monte_carlo.quantile((1 - level) / 2),
        "conf_high": monte_carlo.quantile((1 + level) / 2),
        "inner_low": monte_carlo.quantile((1 - inner) / 2),
        "inner_high": monte_carlo.quantile((1 + inner) / 2),
    }  # fmt: skip
    for name, summary in summaries.items():
        table[f"mcse_{name}"] = monte_carlo.error(shown.draws(), summary, fit.chains)
    table = by_type(table, fit.types).rename(
        columns={"n_units": "n_effects", "n_clusters": "n_reports"}
    )
    columns = ["estimand", "program_type", "n_effects", "n_reports", *_SUMMARY,
               *[f"mcse_{c}" for c in _SUMMARY]]  # fmt: skip
    ctx.table(
        "posterior", table[columns], keys=columns[:2],
        formats={**dict.fromkeys(_SUMMARY, ".2f"), **dict.fromkeys(columns[-6:], ".3f")},
        title="Means by program type, spreads, and new programs",
        note=f"Percent of baseline. Intervals: {100 * level:g}% and, as inner, {100 * inner:g}%. "
        "`predictive` is the true effect of a new program of the type. `mean_effect` counts each "
        "type once, `mean_of_reports` each report. Columns `mcse_` are Monte Carlo standard "
        "errors.",
    )  # fmt: skip


def by_type(table: pd.DataFrame, types: Sequence[str]) -> pd.DataFrame:
    """Return rows with ``program_type`` instead of ``stratum``, quantities and types in order."""
    kind = table["stratum"].str.removeprefix("program_type=").fillna("")
    quantity = pd.Categorical(table["estimand"], table["estimand"].unique(), ordered=True)
    order = pd.DataFrame({"a": quantity, "b": pd.Categorical(kind, ["", *types], ordered=True)})
    out = table.assign(program_type=kind).drop(columns="stratum").reset_index(drop=True)
    return out.iloc[order.sort_values(["a", "b"], kind="stable").index].reset_index(drop=True)


def _borrowed(ctx: StudyContext, fit: Pooled) -> None:
    shares = ["own", "others", "prior"]
    ctx.table(
        "borrowing", fit.borrowed[["program_type", *shares]], keys=["program_type"],
        formats=dict.fromkeys(shares, ".2f"), title="Where the mean of a type comes from",
        note="Weights in the posterior mean of a type, averaged over the draws; they add up to 1. "
        "`own`: effects of that type. `others`: effects of other types. `prior`: the zero of the "
        "prior of the mean over types.",
    )  # fmt: skip


def _shrunken(ctx: StudyContext, fit: Pooled, level: float) -> None:
    table = fit.estimates.where(estimand="study_effect")
    tidy = table.tidy(level).assign(
        mcse_estimate=monte_carlo.error(table.draws(), monte_carlo.mean, fit.chains)
    )
    columns = ["fact", "label", "observed", "observed_se", "estimate",
               "std_error", "conf_low", "conf_high", "mcse_estimate"]  # fmt: skip
    ctx.table(
        "study_effects", tidy[columns], keys=["fact"],
        formats={**dict.fromkeys(columns[2:-1], ".2f"), "mcse_estimate": ".3f"},
        title="Each effect as printed, and shrunken towards its type",
        note="Percent of baseline. A standard error that is only known within bounds is shown at "
        "its posterior mean.",
    )  # fmt: skip


def check_draws(ctx: StudyContext, fit: Pooled, *, level: float) -> None:
    """
    Set the weighted draws beside an exact calculation, and a normal model beside classical answers.

    The draws are compared with numerical integration where that is possible: normal deviations
    and printed standard errors. Classical answers take one row a report, rows of one report
    averaged by precision. Writes tables ``check_exact`` and ``check_classical``.

    Parameters
    ----------
    ctx : StudyContext
        The run; it declares the limit ``exact_error``, the largest difference in Monte Carlo
        standard errors.
    fit : Pooled
        The headline fit.
    level : float
        Level of intervals.
    """
    known = fit.effects[fit.effects["se_percent"].notna()].reset_index(drop=True)
    normal = replace(fit.model, robust=False)
    exact_model = _integrated(normal)
    sampled, exact = fitted(normal, known), fitted(exact_model, known)
    table = sampled.frame[KEYS].copy()
    table["fact"] = [*[""] * (len(table) - len(known)), *known["fact"]]
    errors = []
    for name, est in (("weighted", sampled), ("exact", exact)):
        table[name], table[f"{name}_sd"] = est.estimate, est.draws().std(axis=0)
        errors.append(monte_carlo.error(est.draws(), monte_carlo.mean, fit.chains))
    table["mcse_difference"] = np.hypot(*errors)
    table["errors_apart"] = (table["weighted"] - table["exact"]) / table["mcse_difference"]
    ctx.check("exact_error", float(table["errors_apart"].abs().max()))
    table = by_type(table, fit.types)[["estimand", "program_type", *table.columns[2:]]]
    ctx.table(
        "check_exact", table, keys=["estimand", "program_type", "fact"],
        title="Weighted draws beside numerical integration",
        formats=dict.fromkeys(map(str, table.columns[3:]), ".3f"),
        note="The headline model with normal deviations, on the rows with a printed standard "
        "error: the case that can be integrated numerically. `errors_apart`: difference in Monte "
        "Carlo standard errors.",
    )  # fmt: skip
    _classical(ctx, known, exact_model, level)


def _integrated(model: WeightedMeta) -> MetaAnalysis:
    """Return the same normal model, its standard deviations integrated numerically."""
    shared = {f.name: getattr(model, f.name) for f in fields(MetaAnalysis)}
    return MetaAnalysis(**{**shared, "engine": "grid", "robust": False})


def _classical(ctx: StudyContext, known: pd.DataFrame, model: MetaAnalysis, level: float) -> None:
    weight = known["se_percent"] ** -2
    sums = known.assign(w=weight, wy=weight * known["percent_effect"]).groupby("report", sort=False)
    reports = sums[["w", "wy"]].sum().join(sums["program_type"].first())
    reports["estimate"] = reports["wy"] / reports["w"]
    reports["std_error"] = reports["w"] ** -0.5
    groups = {"all types": reports}
    groups |= {str(k): v for k, v in reports.groupby("program_type", sort=False) if len(v) > 1}
    rows: list[dict[str, object]] = []
    for name, part in groups.items():
        y, se = part["estimate"].to_numpy(), part["std_error"].to_numpy()
        fit = reml(y, se)
        low, high = fit.interval(level)
        ahead = fit.prediction_interval(level)
        rows.append(
            {"reports_of": name, "method": "REML, Hartung-Knapp", "n_reports": len(part),
             "estimate": fit.mean, "conf_low": low, "conf_high": high, "sd": fit.tau2**0.5,
             "predict_low": ahead[0], "predict_high": ahead[1]}
        )  # fmt: skip
        one = part.reset_index().assign(program=part.index, program_type=name)
        est = model.fit(one).tidy(level).set_index("estimand")
        mean, new = est.loc["type_mean"], est.loc["predictive"]
        rows.append(
            {"reports_of": name, "method": "Bayes, normal, exact", "n_reports": len(part),
             "estimate": mean["estimate"], "conf_low": mean["conf_low"],
             "conf_high": mean["conf_high"], "sd": est.loc["between_report_sd", "estimate"],
             "predict_low": new["conf_low"], "predict_high": new["conf_high"]}
        )  # fmt: skip
    table = pd.DataFrame(rows)
    ctx.table(
        "check_classical", table, keys=["reports_of", "method"],
        title="A simpler model beside its classical answer",
        formats=dict.fromkeys(map(str, table.columns[3:]), ".2f"),
        note="One row a report, one normal between-report spread, no program types: restricted "
        "maximum likelihood, and the same model with the priors of the headline. Reports without "
        "a printed standard error are left out. With two reports the Hartung-Knapp interval rests "
        "on one degree of freedom; where reports differ by less than their standard errors "
        "explain (`sd` 0) it can be too short, and so can the predictive interval beside it.",
    )  # fmt: skip
