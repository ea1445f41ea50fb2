"""How likely is it that spending fell: the hierarchical model on the cells of the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from vbceval import bayes, figures
from vbceval.bayes.averages import PERCENT
from vbceval.bayes.prior_checks import overall_effect
from vbceval.bayes.priors import PriorName
from vbceval.estimates import Estimates
from vbceval.panel import Panel
from vbceval.study.context import StudyContext
from vbceval.study.entry.effects import EntryEffects

_KEYS = ["estimand", "unit_of_measure", "stratum", "cohort", "event_time"]
_SPAN = ["estimate", "std_error", "conf_low", "conf_high"]


def sample_posterior(
    ctx: StudyContext,
    effects: EntryEffects,
    panel: Panel,
    settings: Mapping[str, Any],
    *,
    level: float,
) -> Estimates:
    """
    Sample the hierarchical model, and again under other priors and spreads of persons.

    Writes tables ``bayes_effects``, ``bayes_probabilities``, ``bayes_sensitivity``,
    ``bayes_convergence``, ``bayes_checks``, ``aco_effects`` and figures ``threshold_curve``, ``aco_effects``.

    Parameters
    ----------
    ctx : StudyContext
        The run; its size gives ``draws``, ``tune``, ``chains`` of the posterior and the limits
        ``r_hat`` and ``ess``; the same with ``again_`` before for refits; and which ``priors`` and
        ``multiples`` of the assumed spread of persons these have.
    effects : EntryEffects
        Design and baseline means.
    panel : Panel
        The cells.
    settings : mapping
        ``thresholds_percent``, ``person_cv``, ``person_sd_uncertainty``; ``drawn``, the strata of
        the threshold curve.
    level : float
        Level of intervals.

    Returns
    -------
    Estimates
        The posterior under the default prior.
    """
    thresholds = [float(t) for t in settings["thresholds_percent"]]
    model = _model(ctx, effects, settings)
    with ctx.stage("sample the posterior"):
        est = model.fit(panel, effects.design, limits=_limits(ctx))
    ctx.meta(est)
    table = est.tidy(level).assign(
        mcse_estimate=lambda t: t["std_error"] / np.sqrt(_smallest_ess(est))
    )
    ctx.table(
        "bayes_effects", table[[*_KEYS, *_SPAN, "mcse_estimate"]], keys=_KEYS,
        title="Posterior of the effect of entry",
        formats=dict.fromkeys([*_SPAN, "mcse_estimate"], ",.2f"),
        note=f"Posterior mean, standard deviation and {100 * level:g}% credible interval; means "
        "over treated cells weighted by person-years before entry. Monte Carlo errors, here and "
        "below, take the smallest effective sample size of all averages.",
    )  # fmt: skip
    _probabilities(ctx, est, thresholds, list(settings["drawn"]))
    first = {"prior": "default", "multiple": 1.0}
    first |= overall_effect(est, thresholds=thresholds, level=level)
    _again(ctx, first, model, effects, panel, thresholds, level)
    _diagnose(ctx, est)
    _organizations(ctx, model, est, panel, effects, level)
    return est


def _model(
    ctx: StudyContext, effects: EntryEffects, settings: Mapping[str, Any]
) -> bayes.HierarchicalDiD:
    cv = float(settings["person_cv"])
    person_sd = {str(s): cv * float(m) for s, m in effects.baseline.items() if isinstance(s, str)}
    return bayes.HierarchicalDiD(
        # refits under other priors are a table of their own
        person_sd=person_sd, person_sd_uncertainty=float(settings["person_sd_uncertainty"]),
        alternatives=(),
        engine="nuts", draws=int(ctx.size["draws"]), tune=int(ctx.size["tune"]),
        chains=int(ctx.size["chains"]), seed=ctx.seed,
    )  # fmt: skip


def _limits(ctx: StudyContext, part: str = "") -> bayes.Limits:
    return bayes.Limits(r_hat=float(ctx.size[f"{part}r_hat"]), ess=float(ctx.size[f"{part}ess"]))


def _probabilities(
    ctx: StudyContext, est: Estimates, thresholds: Sequence[float], drawn: Sequence[str]
) -> None:
    shown = est.where("estimand in ['att_overall', 'att_stratum']", unit_of_measure=PERCENT)
    ess = _smallest_ess(est)
    rows = []
    for threshold in thresholds:
        p = shown.probability(below=threshold).to_numpy(dtype=float)
        # as if one more draw lay on either side: no probability is known without error
        near = (p * ess + 1) / (ess + 2)
        rows.append(
            shown.frame[["estimand", "stratum"]].assign(
                threshold=threshold, probability=p,
                mcse_probability=np.sqrt(near * (1 - near) / ess),
            )
        )  # fmt: skip
    ctx.table(
        "bayes_probabilities", pd.concat(rows, ignore_index=True),
        keys=["estimand", "stratum", "threshold"],
        title="Posterior probability that entry lowered spending by more than a threshold",
        formats={"probability": ".3f", "mcse_probability": ".3f"},
        note="Thresholds in percent of the mean before entry; 0 = lowered at all.",
    )  # fmt: skip
    curves = shown.where(f"estimand == 'att_overall' or stratum in {list(drawn)}")
    ctx.figure(
        "threshold_curve",
        figures.threshold_curve(curves, marks=tuple(thresholds), labels=ctx.settings["labels"]),
        title="Posterior probability that entry lowered spending by more than a threshold",
    )  # fmt: skip


def _again(
    ctx: StudyContext, first: Mapping[str, Any], model: bayes.HierarchicalDiD,
    effects: EntryEffects, panel: Panel, thresholds: Sequence[float], level: float,
) -> None:  # fmt: skip
    """Other priors, and other assumed spreads of a person's spending, with fewer draws."""
    limits = _limits(ctx, "again_")
    short = replace(
        model, draws=int(ctx.size["again_draws"]), tune=int(ctx.size["again_tune"]),
        chains=int(ctx.size["again_chains"]),
    )  # fmt: skip
    assert isinstance(model.person_sd, dict)  # `_model` made it
    rows = [dict(first)]
    runs: list[tuple[PriorName, float]] = [(prior, 1.0) for prior in ctx.size["priors"]]
    runs += [("default", float(multiple)) for multiple in ctx.size["multiples"]]
    for prior, multiple in runs:
        changed = replace(short, person_sd={k: multiple * v for k, v in model.person_sd.items()})
        with ctx.stage(f"sample again: {prior} prior, {multiple:g} times the spread of persons"):
            table = bayes.prior_sensitivity(
                changed, panel, effects.design, priors=(prior,),
                thresholds=tuple(thresholds), level=level, limits=limits,
            )  # fmt: skip
        found = table.iloc[0]
        rows.append({**{name: found.get(name) for name in first}, "multiple": multiple})
    chances = [c for c in first if c.startswith("probability")]
    out = pd.DataFrame(rows)
    out["mcse_estimate"] = out["std_error"] / np.sqrt(out["smallest_ess"])
    ctx.table(
        "bayes_sensitivity", out, keys=["prior", "multiple"],
        title="Overall effect, percent of baseline, under other priors and spreads of persons",
        formats=dict.fromkeys([*_SPAN, *chances, "mcse_estimate"], ".2f") | {"smallest_ess": ".0f"},
        note="`multiple` is of the assumed standard deviation of a person's spending. The data say "
        "a good deal about that themselves, so the result moves little. Refits have fewer draws.",
    )  # fmt: skip


def _smallest_ess(est: Estimates) -> float:
    seen = est.meta["convergence"]
    return float(min(seen["ess_bulk"], seen["ess_tail"]))


def _diagnose(ctx: StudyContext, est: Estimates) -> None:
    seen = est.meta["convergence"]
    names = ("r_hat", "ess_bulk", "ess_tail", "divergences", "bfmi", "n_draws")
    ctx.table(
        "bayes_convergence",
        pd.DataFrame({"statistic": names, "value": [float(seen[name]) for name in names]}),
        keys=["statistic"], title="Convergence of the draws", formats={"value": ",.4g"},
        note=f"The run fails where R-hat of a reported average exceeds {ctx.size['r_hat']:g}, an "
        f"effective sample size is below {ctx.size['ess']:g}, more than one in a thousand draws "
        "diverges, or E-BFMI is below .3.",
    )  # fmt: skip
    tree = est.to_arviz()
    rows = []
    for name in ("person_factor", "rho", "overlap", "organization_sd"):
        values = tree["posterior"][name]
        mean = np.atleast_1d(values.mean(("chain", "draw")).to_numpy())
        labels = [f"[{s}]" for s in values["stratum"].to_numpy()] if len(mean) > 1 else [""]
        rows += [
            {"statistic": f"{name}{label}", "value": float(v)}
            for label, v in zip(labels, mean, strict=True)
        ]
    for name, found in est.meta["posterior_predictive"].items():
        rows.append({"statistic": name, "value": found["observed"], **found})
    columns = ["statistic", "value", "replicated", "p_value"]
    ctx.table(
        "bayes_checks", pd.DataFrame(rows)[columns], keys=["statistic"],
        title="What the model found, and whether it makes data like the observed",
        formats={"value": ",.4g", "replicated": ",.4g", "p_value": ".3f"},
        note="Posterior means of the factor on the assumed spread of persons, of the "
        "autocorrelation of shocks, of the part of the noise that files of one ACO share, and of "
        "the standard deviation of ACOs' own effects (percent). Below them, statistics of the "
        "residuals, their mean in replicated data, and the share of draws in which the replicated "
        "value is at least as large: near 0 or 1 is a misfit. Normal shocks of equal variance in "
        "every enrollment type are an approximation, and the misfits say where it is rough.",
    )  # fmt: skip


def _organizations(
    ctx: StudyContext, model: bayes.HierarchicalDiD, est: Estimates, panel: Panel,
    effects: EntryEffects, level: float,
) -> None:  # fmt: skip
    own = model.organizations(est, panel, effects.design)
    columns = ["cluster", "cohort", "estimate", "conf_low", "conf_high", "raw", "shrinkage"]
    ctx.table(
        "aco_effects", own.tidy(level)[columns], keys=["cluster"],
        title="Effect of entry in each ACO, shrunken, percent of baseline",
        formats=dict.fromkeys(columns[2:], ".2f"),
        note="`raw` is the ACO's own effect before it is drawn to the mean of its cohort and "
        "years; `shrinkage` the share of its deviation that is taken away. An ACO's own effect "
        "cannot be told from a shock that came with entry, so these are not rankings.",
    )  # fmt: skip
    ctx.figure(
        "aco_effects",
        figures.caterpillar(
            own, organizations="ACOs", reference=0.0, reference_label="No effect",
            axis_label="Effect on spending, % of baseline\n(negative = lower spending)",
            level=level,
        ),
        title="Effect of entry in each ACO, shrunken",
    )  # fmt: skip
