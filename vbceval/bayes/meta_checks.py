"""What a meta-analysis hangs on: a program, other types, the priors, the shape of its laws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from vbceval.bayes.groups import same_data
from vbceval.bayes.meta import MetaAnalysis
from vbceval.bayes.meta_data import Columns, Studies, read_studies
from vbceval.bayes.meta_posterior import (
    Posterior,
    correlated,
    covariance,
    new_deviations,
    new_program,
    target_covariance,
)
from vbceval.bayes.meta_tree import log_mean_and_spreads
from vbceval.bayes.weights import LARGEST_K, smoothed, summary
from vbceval.core.errors import DesignError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray, IntArray
from vbceval.estimates import Estimates

_DRAWS = 1000
_SHOWN = ("mean_effect", "type_mean", "predictive")


def leave_one_out(
    model: MetaAnalysis,
    data: pd.DataFrame,
    estimates: Estimates,
    *,
    by: Literal["program", "report"] = "program",
    level: float = 0.95,
) -> pd.DataFrame:
    """
    Return the means and predictions with each program, or each report, left out in turn.

    The posterior draws of the scales are reweighted by the inverse of the exact density of the rows
    left out given the others, and given the scales the means are computed exactly, so nothing is
    sampled again; the levels of the model stay as they are. Where the weights are too uneven the
    model is fitted again without the rows.

    Parameters
    ----------
    model : MetaAnalysis
        The model of `estimates`.
    data : DataFrame
        The table it was fitted to.
    estimates : Estimates
        Result of ``model.fit(data, ...)``.
    by : {"program", "report"}
        What is left out.
    level : float, default 0.95
        Probability of the intervals.

    Returns
    -------
    DataFrame
        One row for each group left out and each of ``mean_effect``, ``type_mean``, ``predictive``:
        ``left_out``, ``n_effects`` (rows left out), ``estimand``, ``stratum``, ``estimate``,
        ``std_error``, ``conf_low``, ``conf_high`` (percent), ``shift`` (from the full fit),
        ``pareto_k`` and ``method`` ("reweighted" or "refitted").

    Raises
    ------
    DesignError
        If `model`, `data` and `estimates` do not belong together, or fewer than three groups.

    References
    ----------
    .. [1] Vehtari, A., Simpson, D., Gelman, A., Yao, Y. and Gabry, J. (2024). Pareto smoothed
       importance sampling. *Journal of Machine Learning Research* 25(72), 1-58.
    """
    studies, posterior = belonging(model, data, estimates)
    if by not in ("program", "report") or len(studies.labels[by]) < 3:
        raise DesignError(
            f"`by` is '{by}' ('program' or 'report'), with {len(studies.labels.get(by, []))} "
            "groups: leaving one of fewer than three out says little."
        )
    size = len(posterior.mean)
    thin = posterior.take(np.unique(np.linspace(0, size - 1, min(size, _DRAWS)).astype(np.int64)))
    full = estimates.where(estimand=list(_SHOWN)).frame
    rng = generator(model.seed, "meta", "leave_one_out", by)
    pulls = _Pulls(model, studies, thin)
    parts = []
    for group, label in enumerate(studies.labels[by]):
        rows = np.flatnonzero(studies.index[by] == group)
        weight, k = smoothed(pulls.log_weight(rows))
        if k <= LARGEST_K:
            draws = pulls.targets(rows, rng)
            table = full[["estimand", "stratum"]].reset_index(drop=True)
            table = table.join(summary(draws, weight, level)).assign(method="reweighted")
        else:
            table = _refit(
                model, data.iloc[np.setdiff1d(np.arange(len(data)), rows)], estimates, level
            )
        parts.append(table.assign(left_out=str(label), n_effects=len(rows), pareto_k=k))
    out = pd.concat(parts, ignore_index=True)
    return _with_shift(out, full, ["left_out", "n_effects"])


class _Pulls:
    """Inverse covariances of the estimates at each draw, from which any rows can be left out."""

    def __init__(self, model: MetaAnalysis, studies: Studies, posterior: Posterior) -> None:
        total = covariance(
            studies,
            posterior.sd,
            posterior.mixing,
            posterior.std_error,
            mean_sd=model.mean_sd,
            rho=model.rho,
        )
        self.model, self.studies, self.posterior = model, studies, posterior
        self.inverse = np.linalg.inv(total)
        self.pull = self.inverse @ studies.estimate
        self.target = target_covariance(studies, posterior.sd, model.mean_sd)

    def _block(self, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return the precision of the rows given the others, and its inverse times their pull."""
        precision = self.inverse[:, rows[:, None], rows[None, :]]
        return precision, np.linalg.solve(precision, self.pull[:, rows, None])[:, :, 0]

    def log_weight(self, rows: IntArray) -> FloatArray:
        """Return minus the log density of the rows given the others, up to a constant."""
        precision, surprise = self._block(rows)
        log_det = np.linalg.slogdet(precision)[1]
        return np.asarray(0.5 * (np.einsum("si,si->s", surprise, self.pull[:, rows]) - log_det))

    def targets(self, rows: IntArray, rng: np.random.Generator) -> FloatArray:
        """Draw (mean, type means, predictions) given the rows that stay, shape (S, 1 + 2K)."""
        precision, surprise = self._block(rows)
        spread = self.target @ self.inverse
        mean = np.einsum("skn,n->sk", spread, self.studies.estimate)
        mean -= np.einsum("skg,sg->sk", spread[:, :, rows], surprise)
        variance = np.full(mean.shape, float(self.model.mean_sd) ** 2)
        if "type" in self.posterior.sd:
            variance[:, 1:] += self.posterior.sd["type"][:, None] ** 2
        variance -= np.einsum("skn,skn->sk", spread, self.target)
        back = np.linalg.solve(precision, spread[:, :, rows].swapaxes(1, 2)).swapaxes(1, 2)
        variance += np.einsum("skg,skg->sk", back, spread[:, :, rows])
        drawn = mean + np.sqrt(np.maximum(variance, 0)) * rng.standard_normal(mean.shape)
        new = new_program(self.studies, self.posterior, self.model.deviation_df, rng)
        return np.concatenate([drawn, drawn[:, 1:] + new[:, None]], axis=1)


def prior_sensitivity(
    model: MetaAnalysis,
    data: pd.DataFrame,
    estimates: Estimates,
    *,
    alternatives: Mapping[str, Mapping[str, float]] | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """
    Return the means and predictions under other priors.

    The draws are reweighted by the ratio of the priors; where the weights are too uneven the model
    is fitted again.

    Parameters
    ----------
    model, data, estimates
        As in `leave_one_out`.
    alternatives : mapping, optional
        Name of each alternative, with the values of `mean_sd` and `sd_scale` it changes (percent
        points). Default: each half and double, and a mean prior of 10 points, nearly flat.
    level : float, default 0.95
        Probability of the intervals.

    Returns
    -------
    DataFrame
        One row for each prior (the model's own first) and each of ``mean_effect``, ``type_mean``,
        ``predictive``: ``prior``, ``mean_sd``, ``sd_scale``, ``estimand``, ``stratum``,
        ``estimate``, ``std_error``, ``conf_low``, ``conf_high`` (percent), ``below_zero``
        (probability), ``shift`` (from the model's own prior), ``pareto_k``, ``method``.

    Raises
    ------
    DesignError
        If `model`, `data` and `estimates` do not belong together, or an alternative changes
        anything but the two scales.
    """
    posterior = belonging(model, data, estimates)[1]
    if alternatives is None:
        alternatives = {
            "spread prior halved": {"sd_scale": model.sd_scale / 2},
            "spread prior doubled": {"sd_scale": model.sd_scale * 2},
            "mean prior halved": {"mean_sd": model.mean_sd / 2},
            "mean prior doubled": {"mean_sd": model.mean_sd * 2},
            "mean prior nearly flat": {"mean_sd": 10.0},
        }
    wrong = {k for changes in alternatives.values() for k in changes} - {"mean_sd", "sd_scale"}
    if wrong:
        raise DesignError(
            f"a prior has `mean_sd` and `sd_scale`; {sorted(wrong)} are not its parts."
        )
    shown = estimates.where(estimand=list(_SHOWN))
    keys = shown.frame[["estimand", "stratum"]].reset_index(drop=True)
    own = _log_prior(model, posterior)
    parts = []
    for name, changes in {"as fitted": {}, **alternatives}.items():
        other = replace(
            model,
            mean_sd=changes.get("mean_sd", model.mean_sd),
            sd_scale=changes.get("sd_scale", model.sd_scale),
        )
        weight, k = smoothed(_log_prior(other, posterior) - own)
        if k <= LARGEST_K:
            table = keys.join(summary(shown.draws(), weight, level)).assign(method="reweighted")
        else:
            table = _refit(other, data, estimates, level)
        parts.append(
            table.assign(prior=name, mean_sd=other.mean_sd, sd_scale=other.sd_scale, pareto_k=k)
        )
    out = pd.concat(parts, ignore_index=True)
    out.loc[out["prior"] == "as fitted", "method"] = "as fitted"
    return _with_shift(out, shown.frame, ["prior", "mean_sd", "sd_scale"])


def borrowing(model: MetaAnalysis, data: pd.DataFrame, estimates: Estimates) -> pd.DataFrame:
    """
    Return how much of the mean of each program type comes from effects of that type.

    Given standard deviations and standard errors, the posterior mean of a type is a weighted mean
    of the estimates and of the prior's zero. The weights are averaged over the posterior draws.

    Parameters
    ----------
    model, data, estimates
        As in `leave_one_out`.

    Returns
    -------
    DataFrame
        One row a program type: ``stratum``, and the weights ``own`` of its effects, ``others`` of
        the effects of other types and ``prior`` of zero, which add up to 1.

    Raises
    ------
    DesignError
        If `model`, `data` and `estimates` do not belong together.
    """
    studies, posterior = belonging(model, data, estimates)
    size, types = len(posterior.mean), studies.labels["type"]
    weight = np.zeros((len(types), len(studies)))
    for rows in np.array_split(np.arange(size), -(-size // _DRAWS)):
        part = posterior.take(rows)
        total = covariance(
            studies, part.sd, part.mixing, part.std_error, mean_sd=model.mean_sd, rho=model.rho
        )
        across = target_covariance(studies, part.sd, model.mean_sd)[:, 1:]
        pulled = np.linalg.solve(total, across.swapaxes(1, 2))
        weight += pulled.sum(axis=0).T / size
    own = np.arange(len(types))[:, None] == studies.index["type"]
    table = pd.DataFrame({"stratum": [f"program_type={x}" for x in types]})
    table["own"] = np.sum(weight * own, axis=1)
    table["others"] = np.sum(weight * ~own, axis=1)
    return table.assign(prior=1 - weight.sum(axis=1))


def _log_prior(model: MetaAnalysis, posterior: Posterior) -> FloatArray:
    return log_mean_and_spreads(
        posterior.mean, list(posterior.sd.values()), mean_sd=model.mean_sd, sd_scale=model.sd_scale
    )


def posterior_predictive(
    model: MetaAnalysis, data: pd.DataFrame, estimates: Estimates, *, level: float = 0.95
) -> pd.DataFrame:
    """
    Compare the table with tables that the fitted model would produce.

    New programs, reports, effects and sampling errors are drawn for every row; program types and
    standard errors stay.

    Parameters
    ----------
    model, data, estimates
        As in `leave_one_out`.
    level : float, default 0.95
        Probability of the intervals of replicated values.

    Returns
    -------
    DataFrame
        One row a statistic: ``statistic``, ``observed``, ``replicated`` (mean), ``low``, ``high``,
        and ``tail``, the probability that a replicated value is at least the observed one: near 0
        or 1 the model misses that side of the data.

    Raises
    ------
    DesignError
        If `model`, `data` and `estimates` do not belong together.
    """
    studies, posterior = belonging(model, data, estimates)
    rng = generator(model.seed, "meta", "predictive")
    centre = posterior.type_mean[:, studies.index["type"]]
    replicated = centre + new_deviations(studies, posterior, model.deviation_df, rng)
    # sampling errors of one sample are drawn as independent unless `rho` says otherwise
    replicated += posterior.std_error * correlated(studies, len(centre), model.rho, rng)
    observed = np.broadcast_to(studies.estimate, replicated.shape)
    rows = []
    tails = [(1 - level) / 2, (1 + level) / 2]
    for name, statistic in _STATISTICS.items():
        new_value = statistic(replicated, centre, posterior.std_error)
        old_value = statistic(observed, centre, posterior.std_error)
        low, high = np.quantile(new_value, tails)
        rows.append(
            {
                "statistic": name,
                "observed": float(old_value.mean()),
                "replicated": float(new_value.mean()),
                "low": float(low),
                "high": float(high),
                "tail": float((new_value >= old_value).mean()),
            }
        )
    return pd.DataFrame(rows)


_STATISTICS: dict[str, Any] = {
    "lowest effect, percent": lambda y, m, s: y.min(axis=1),
    "highest effect, percent": lambda y, m, s: y.max(axis=1),
    "standard deviation of effects, percent": lambda y, m, s: y.std(axis=1, ddof=1),
    "share of effects below zero": lambda y, m, s: (y < 0).mean(axis=1),
    "share beyond 1.96 standard errors": lambda y, m, s: (np.abs(y / s) > 1.96).mean(axis=1),
    "largest distance from type mean, standard errors": lambda y, m, s: np.abs((y - m) / s).max(
        axis=1
    ),
}


def belonging(
    model: MetaAnalysis, data: pd.DataFrame, estimates: Estimates
) -> tuple[Studies, Posterior]:
    """Read studies and draws again, and refuse a mix of one model's draws with another's data."""
    meta = estimates.meta
    if meta.get("estimator") != "MetaAnalysis" or meta["options"] != asdict(model):
        raise DesignError(
            "the estimates are not from this model: pass the `MetaAnalysis` that made them, with "
            "the same options."
        )
    studies = read_studies(
        data, Columns(**meta["columns"]), [], program_effects=model.program_effects
    )
    tree = estimates.to_arviz()
    if not same_data(tree, studies.observed()):
        raise DesignError(
            f"the estimates were made from {tree['observed_data'].sizes['row']} effects, and `data` holds "
            f"{len(studies)} or different ones. Pass the table that was fitted."
        )
    return studies, Posterior.from_tree(tree, studies)


def _refit(
    model: MetaAnalysis, data: pd.DataFrame, estimates: Estimates, level: float
) -> pd.DataFrame:
    # twice the draws: a table of many fits should not fail because one of them is a little short
    longer = replace(model, draws=2 * model.draws)
    again = longer.fit(data, **estimates.meta["columns"]).where(estimand=list(_SHOWN))
    weight = np.full(len(again.draws()), 1 / len(again.draws()))
    keys = again.frame[["estimand", "stratum"]].reset_index(drop=True)
    return keys.join(summary(again.draws(), weight, level)).assign(method="refitted")


def _with_shift(table: pd.DataFrame, full: pd.DataFrame, first: list[str]) -> pd.DataFrame:
    keys = ["estimand", "stratum"]
    table = table.merge(full[[*keys, "estimate"]], on=keys, how="left", suffixes=("", "_full"))
    table["shift"] = table["estimate"] - table.pop("estimate_full")
    middle = [*keys, "estimate", "std_error", "conf_low", "conf_high", "below_zero", "shift"]
    return table[[*first, *middle, "pareto_k", "method"]]
