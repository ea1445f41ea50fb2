"""What an estimate means given a prior: the posterior of its effects, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.bayes.alternatives import STANDARD
from vbceval.bayes.averages import PERCENT
from vbceval.bayes.evidence_prior import Effects, EvidencePrior, of_priors
from vbceval.bayes.priors import PriorName, Priors, named
from vbceval.bayes.weights import FEWEST_EFFECTIVE, LARGEST_K, resampled, smoothed, summary
from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray
from vbceval.core.version import versions
from vbceval.estimates import Estimates
from vbceval.estimates.columns import KEYS

_SINGULAR = 1e-8
_CHAINS = 4


class _Given(NamedTuple):
    """Estimates in percent of baseline: k of them, their covariance, and baselines (missing: none)."""

    y: FloatArray
    covariance: FloatArray
    baseline: FloatArray
    df: float


class _Posterior(NamedTuple):
    """
    Posterior of k rows.

    Means (k,), draws (N, k), share of a row's own estimate in its mean (k,), shape of the tail of the
    weights, the number of independent draws that the draws are worth, and the prior's draws (S, k).
    """

    mean: FloatArray
    draws: FloatArray
    share: FloatArray
    pareto_k: float
    worth: float
    predicted: FloatArray


def given_evidence(
    estimates: Estimates,
    prior: EvidencePrior | PriorName | Priors,
    *,
    baseline: float | Sequence[float] | None = None,
    alternatives: Sequence[PriorName | Priors] = STANDARD,
    draws: int = 4000,
    seed: int = 20210101,
    level: float = 0.95,
) -> Estimates:
    """
    Return the posterior of effects, given their estimates and what was known before.

    The estimates are taken as normal about the true effects, with their joint covariance (as
    Student t, where they have finite degrees of freedom); the prior is a mixture of normal laws, so
    everything is in closed form for each part of it. With one estimate y of standard error s and a
    prior Normal(m, t) the posterior mean is (y / s^2 + m / t^2) / (1 / s^2 + 1 / t^2).

    Several rows are effects of one program: they share its deviation from other programs, and each
    has one of its own. Strata are treated like cohorts in this. Evidence on total spending speaks
    of estimates of total spending only.

    Parameters
    ----------
    estimates : Estimates, k rows
        Effects, treated minus untreated, of any estimator. No row may be a combination of others:
        select with `Estimates.where`. Those of a Bayesian model bring their own prior, which then
        counts as well: the result says so.
    prior : EvidencePrior, Priors or {"default", "skeptical", "flat"}
        From `evidence_prior`; or the normal law of the effect in a set of priors.
    baseline : float or sequence of float, optional
        Mean outcome that effects in money are a percent of, per person or episode and year or month
        like the estimates: that of the treated before entry. Taken as known. By default column
        ``baseline`` of the estimates; those in percent of a mean need none. For estimates in
        percentage points state it, in percentage points.
    alternatives : sequence of str or Priors
        Other priors that are reported beside, in ``meta["prior_sensitivity"]``.
    draws : int, default 4000
        Draws, a multiple of 4.
    seed : int, default 20210101
        Seed.
    level : float, default 0.95
        Level of intervals in ``meta``.

    Returns
    -------
    Estimates
        With draws: each row in percent of baseline and, where it came in money, in money. Columns
        ``observed``, ``observed_se``, ``baseline`` and ``weight_of_estimate``, the share of the
        row's own estimate in its posterior mean, the prior (and other rows) having the rest. In
        ``meta``: the prior in words,
        published effects used and left out, ``prior_predictive`` (probability of an estimate at
        least as far from the prior's centre as the one seen: near 0 prior and estimate are in
        conflict), ``prior_sensitivity`` and ``convergence``: draws of a mixture are worth fewer
        than their number.

    Raises
    ------
    DesignError
        If rows have no error, are combinations of each other or of several outcomes, or their
        `baseline` is missing, of another unit or of no use.
    EstimationError
        If the estimate is so far from the prior that its draws cannot stand for the posterior.

    References
    ----------
    .. [1] Spiegelhalter, D. J., Abrams, K. R. and Myles, J. P. (2004). *Bayesian Approaches to
       Clinical Trials and Health-Care Evaluation*. Wiley. Sections 3.7, 5.4 and 5.5.

    Examples
    --------
    >>> frame = pd.DataFrame({"estimand": ["att_overall"], "unit_of_measure": ["USD per year"],
    ...                       "estimate": [-200.0]})
    >>> est = Estimates(frame=frame, covariance=np.array([[100.0**2]]))
    >>> found = given_evidence(est, "skeptical", baseline=10_000.0)
    >>> found.frame[["unit_of_measure", "estimate", "weight_of_estimate"]].round(2).values.tolist()
    [['percent of baseline', -1.38, 0.69], ['USD per year', -138.46, 0.69]]
    """
    if draws < _CHAINS or draws % _CHAINS:
        raise DesignError(f"`draws` is {draws}; use a multiple of {_CHAINS}, such as 4000.")
    given = _read(estimates, baseline)
    effects = prior.effects if isinstance(prior, EvidencePrior) else of_priors(named(prior))
    found = _posterior(given, effects, draws, seed)
    frame = _frame(estimates, given, found)
    money = np.flatnonzero(~np.isnan(given.baseline))
    scaled = given.baseline[money] / 100.0
    meta = {
        "estimator": "given_evidence",
        "of": {k: estimates.meta[k] for k in ("estimator", "options", "design") if k in estimates.meta},
        **_said(prior),
        "prior_predictive": _surprise(given, found, estimates),
        "prior_sensitivity": _beside(estimates, given, prior, found, alternatives, draws, seed, level),
        "pareto_k": found.pareto_k,
        "convergence": {"ess_bulk": found.worth},
        "seed": seed,
        "versions": versions("numpy"),
        "warnings": _warnings(estimates),
    }  # fmt: skip
    return Estimates(
        frame=frame, samples=np.hstack([found.draws, found.draws[:, money] * scaled]),
        interval="credible", cluster_name=estimates.cluster_name, meta=meta,
        tree=_tree(given, found),
    )  # fmt: skip


def _read(estimates: Estimates, baseline: float | Sequence[float] | None) -> _Given:
    """Put estimates in percent of baseline, and refuse what has no posterior."""
    problems = Problems("the estimates", DesignError)
    frame, k = estimates.frame, len(estimates)
    units = frame["unit_of_measure"].astype("string").fillna("")
    # percentage points are the unit of a share, not a percent of it
    money = ~((units == "percent") | units.str.startswith("percent of")).to_numpy(bool)
    base = np.full(k, np.nan)
    if baseline is not None:
        stated = np.asarray(baseline, dtype=float)
        if stated.shape not in ((), (k,)):
            problems.add(
                f"`baseline` has {stated.size} values for {k} rows. Give one, or one a row."
            )
        elif not money.any():
            problems.add(
                "`baseline` is given, and all rows are in percent already, where it would change "
                "nothing. Leave it out."
            )
        else:
            base[money] = np.broadcast_to(stated, (k,))[money]
    elif "baseline" in frame:
        # the mean of a share is a share, and effects on it are in points
        own = money & ~units.str.startswith("percentage").to_numpy(bool)
        base[own] = frame["baseline"].to_numpy(dtype=float)[own]
    problems.raise_if_any()
    outcomes = frame["outcome"].map(str).unique()
    if len(outcomes) > 1:
        problems.add(
            f"rows are of {len(outcomes)} outcomes ({listed(outcomes)}), and would be taken for effects "
            "on one. Select one with `where(outcome=...)`."
        )
    if not (base[money] > 0).all():
        named_units = frame.loc[money, "unit_of_measure"].map(str).unique()
        problems.add(
            f"{int(money.sum())} rows in {listed(named_units)} have no positive `baseline`, so they cannot "
            "be put in percent, in which the prior is. State the mean of the treated before entry, "
            "in the unit of the rows."
        )
    if np.isnan(estimates.std_error).any():
        problems.add(
            f"{int(np.isnan(estimates.std_error).sum())} rows have no standard error (a reference "
            "period?). Leave them out with `where`."
        )
    problems.raise_if_any()
    factor = np.where(money, 100.0 / np.where(money, base, 1.0), 1.0)
    covariance = estimates.vcov() * np.outer(factor, factor)
    y, sd = estimates.estimate * factor, np.sqrt(np.diag(covariance))
    if (np.abs(y) > 100).any():
        problems.add(
            "effects are beyond 100 percent of `baseline`, which is then in another unit (a month "
            "for a year, thousands for dollars). Correct it."
        )
    if np.linalg.eigvalsh(covariance / np.outer(sd, sd))[0] < _SINGULAR:
        problems.add(
            f"some of the {k} rows are combinations of others (an overall effect beside its parts, "
            "one effect in two units, or more rows than clusters), so they are not separate "
            "effects. Select rows with `where`."
        )
    problems.raise_if_any()
    return _Given(y, covariance, base, float(frame["df"].min()))


def _posterior(given: _Given, effects: Effects, size: int, seed: int) -> _Posterior:
    """Weigh the parts of the prior by how likely they make the estimates, and draw."""
    rng = generator(seed, "given evidence")
    k, n = len(given.y), len(effects.centre)
    centre, prior = effects.of_rows(k, rng)
    scale = np.ones(n)
    if np.isfinite(given.df):
        scale = given.df / rng.chisquare(given.df, n)
    error = given.covariance * scale[:, None, None]
    total = prior + error
    away = given.y - centre[:, None]
    pulled = np.linalg.solve(total, away[:, :, None])[:, :, 0]
    log_weight = -0.5 * (np.einsum("sk,sk->s", away, pulled) + np.linalg.slogdet(total)[1])
    weight, shape = smoothed(log_weight)
    effective = 1.0 / np.square(weight).sum()
    if shape > LARGEST_K or effective < FEWEST_EFFECTIVE:
        raise EstimationError(
            f"the estimates are so far from the prior that {n:,} draws of it are worth "
            f"{effective:.0f} (at least {FEWEST_EFFECTIVE}; Pareto k-hat {shape:.2f}, at most "
            f"{LARGEST_K}). Check units and sign. If they are right, prior and estimate contradict "
            "each other, and no posterior of this prior is of use."
        )
    gain = np.linalg.solve(total, prior).swapaxes(1, 2)
    means = centre[:, None] + np.einsum("skj,sj->sk", gain, away)
    mean, worth = _worth(weight, means, np.einsum("skj,sjk->sk", gain, error), size)
    rows = resampled(weight, size, rng)
    # a draw of effect and error from the prior, moved by what the estimate says of both
    roots = np.linalg.cholesky(prior[rows] + 1e-12 * np.eye(k)), np.linalg.cholesky(error[rows])
    steps = [np.einsum("skj,sj->sk", r, rng.standard_normal((size, k))) for r in roots]
    before = centre[rows, None] + steps[0]
    drawn = before + np.einsum("skj,sj->sk", gain[rows], given.y - before - steps[1])
    share = weight @ np.einsum("skk->sk", gain)
    anew = np.linalg.cholesky(total)
    predicted = centre[:, None] + np.einsum("skj,sj->sk", anew, rng.standard_normal((n, k)))
    return _Posterior(mean, drawn, share, shape, worth, predicted)


def _worth(
    weight: FloatArray, means: FloatArray, variances: FloatArray, size: int
) -> tuple[FloatArray, float]:
    """
    Return the posterior means and how many independent draws the draws are worth, at least.

    Two errors add up: that of the weights of the prior's draws, in which means differ, and that of
    `size` draws.
    """
    mean = weight @ means
    away = np.square(means - mean)
    total = weight @ (variances + away)
    error = np.square(weight) @ away + total / size
    return mean, float((total / error).min())


def _frame(estimates: Estimates, given: _Given, found: _Posterior) -> pd.DataFrame:
    keys = estimates.frame[[*KEYS, "n_units", "n_clusters"]]
    out = keys.assign(
        estimate=found.mean, observed=given.y, observed_se=np.sqrt(np.diag(given.covariance)),
        baseline=given.baseline, weight_of_estimate=found.share,
    )  # fmt: skip
    money = out[~np.isnan(given.baseline)].copy()
    for name in ("estimate", "observed", "observed_se"):
        money[name] *= money["baseline"] / 100.0
    return pd.concat([out.assign(unit_of_measure=PERCENT), money], ignore_index=True)


def _said(prior: EvidencePrior | PriorName | Priors) -> dict[str, Any]:
    """Return the prior in words, with what it rests on."""
    if not isinstance(prior, EvidencePrior):
        scales = named(prior)
        return {"prior": f"Normal({scales.effect_mean:g}, {scales.effect:g}) percent of baseline"}
    shown = [c for c in ("fact", "label", "report", "program", "period") if c in prior.used]
    return {
        "prior": prior.describe(),
        "evidence": prior.used[shown].to_dict("records"),
        "left_out": prior.left_out[[*shown, "why"]].to_dict("records"),
        "meta_analysis": prior.meta,
    }


def _surprise(given: _Given, found: _Posterior, estimates: Estimates) -> list[dict[str, Any]]:
    """Return how unusual each estimate is under the prior, two-sided."""
    below = (found.predicted <= given.y).mean(axis=0)
    tail = 2.0 * np.minimum(below, 1.0 - below)
    keys = estimates.frame[["estimand", "stratum", "cohort", "event_time"]].to_dict("records")
    return [
        {**{str(k): v for k, v in key.items()}, "tail": float(t)}
        for key, t in zip(keys, tail, strict=True)
    ]


def _beside(
    estimates: Estimates, given: _Given, fitted: EvidencePrior | PriorName | Priors,
    found: _Posterior, alternatives: Sequence[PriorName | Priors], size: int, seed: int, level: float,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the same rows under other priors, percent of baseline, one record a row and prior."""
    own = fitted.priors() if isinstance(fitted, EvidencePrior) else named(fitted)
    name = "evidence" if isinstance(fitted, EvidencePrior) else fitted
    runs: list[tuple[Any, Priors, _Posterior | str]] = [(name, own, found)]
    for other in alternatives:
        if isinstance(fitted, EvidencePrior) or named(other) != own:
            try:
                again: _Posterior | str = _posterior(given, of_priors(named(other)), size, seed)
            except EstimationError as error:
                # the posterior that was asked for stands
                again = f"failed: {error}"
            runs.append((other, named(other), again))
    keys = estimates.frame[[*KEYS]].assign(unit_of_measure=PERCENT).to_dict("records")
    records: list[dict[Any, Any]] = []
    for prior, scales, run in runs:
        law = found if isinstance(run, str) else run
        table = summary(law.draws, np.full(size, 1.0 / size), level).assign(estimate=law.mean)
        table = table.rename(columns={"below_zero": "probability_below_0"})
        method, shape = "closed form", law.pareto_k
        if isinstance(run, str):
            table, method, shape = table * np.nan, run, np.nan
        for key, row in zip(keys, table.to_dict("records"), strict=True):
            records.append(
                {
                    **key, "prior": prior if isinstance(prior, str) else "custom",
                    "prior_mean_percent": scales.effect_mean, "prior_sd_percent": scales.effect,
                    **row, "level": level, "method": method, "pareto_k": shape,
                }
            )  # fmt: skip
    return records


def _warnings(estimates: Estimates) -> list[str]:
    if estimates.interval != "credible":
        return []
    return [
        "the estimates are those of a Bayesian model, whose prior counts beside the one given here; "
        "fit the model with that prior (`EvidencePrior.priors`), or under its flat one."
    ]


def _tree(given: _Given, found: _Posterior) -> Any:
    import xarray

    def chains(values: FloatArray) -> Mapping[str, Any]:
        shape = (_CHAINS, -1, values.shape[1])
        kept = values[: len(values) // _CHAINS * _CHAINS]
        return {"effect": (("chain", "draw", "row"), kept.reshape(shape))}

    return xarray.DataTree.from_dict(
        {
            "posterior": xarray.Dataset(chains(found.draws)),
            "prior_predictive": xarray.Dataset(chains(found.predicted)),
            "observed_data": xarray.Dataset({"effect": (("row",), given.y)}),
        }
    )
