"""The headline under other priors, beside every fit of the hierarchical model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from vbceval.bayes.draws import flatten
from vbceval.bayes.engines import Model, Posterior
from vbceval.bayes.exact import integrate_cells
from vbceval.bayes.hyper import HORSESHOE, STUDENT, laws
from vbceval.bayes.priors import PriorName, Priors, log_density, named
from vbceval.bayes.quadrature import Nodes
from vbceval.bayes.weights import LARGEST_K, smoothed, summary
from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray
from vbceval.estimates.columns import OVERALL

STANDARD: tuple[PriorName | Priors, ...] = ("default", "skeptical", "flat")
"""Sets that are reported beside every headline."""

_KEYS = ("estimand", "outcome", "unit_of_measure", "stratum")
REWEIGHTED = ("effect", "effect_mean", "spread", "organization")
LINE_NODES = 256
LEAST = 200.0


class Law(NamedTuple):
    """
    Marginal posterior of k averages under one prior.

    Parameters
    ----------
    table : DataFrame, k rows
        ``estimate``, ``std_error``, ``conf_low``, ``conf_high``, ``probability_below_0``.
    method : str
        How it was found.
    pareto_k : float
        Tail shape of the weights; missing where there are none.
    """

    table: pd.DataFrame
    method: str
    pareto_k: float = np.nan


def prior_lines(
    model: Model,
    found: Posterior,
    frame: pd.DataFrame,
    *,
    fitted: str | Priors,
    others: Sequence[str | Priors],
    seed: int,
    level: float = 0.95,
) -> list[dict[str, Any]]:
    """
    Return the overall effect under the fitted prior and under others, one record a prior and unit.

    Draws are reweighted by the ratio of the priors, weights Pareto-smoothed. Where they are too
    uneven (k-hat above .7, or worth fewer than 200 draws), as usually from a narrow prior to a wide
    one, the variance parameters are integrated again by the exact engine, with 256 nodes. Where
    that fails too the record says so and has no numbers.

    Parameters
    ----------
    model, found : Model, Posterior
        What was fitted.
    frame : DataFrame, k rows
        Keys of the averages.
    fitted : str or Priors
        The prior of the fit.
    others : sequence of str or Priors
        Others; that of the fit is left out.
    seed : int
        Seed.
    level : float, default 0.95
        Level of intervals.

    Returns
    -------
    list of dict
        Keys of the average; ``prior``, ``prior_mean_percent``, ``prior_sd_percent`` (of the effect
        at entry); ``estimate``, ``std_error``, ``conf_low``, ``conf_high``,
        ``probability_below_0``; ``level``, ``method`` and ``pareto_k``.
    """
    rows = np.flatnonzero(frame["estimand"] == OVERALL)
    even = np.full(len(found.draws), 1.0 / len(found.draws))
    own = summary(found.draws[:, rows], even, level).assign(estimate=found.mean[rows])
    laws_found: list[tuple[str | Priors, Law]] = [(fitted, Law(renamed(own), "as fitted"))]
    for other in others:
        if named(other) == model.priors:
            continue
        try:
            law = _under(model, found, named(other), rows, seed=seed, level=level)
        except EstimationError as error:
            missing = own.assign(**dict.fromkeys(own.columns, np.nan))
            law = Law(renamed(missing), f"failed: {error}")
        laws_found.append((other, law))
    return prior_records(frame.iloc[rows], laws_found, level)


def prior_records(
    keys: pd.DataFrame, found: Sequence[tuple[str | Priors, Law]], level: float
) -> list[dict[str, Any]]:
    """
    Return one record a row and prior, as `prior_lines` says.

    Parameters
    ----------
    keys : DataFrame
        Rows of the overall effect.
    found : sequence of (str or Priors, Law)
        Priors, and laws of those rows under them.
    level : float
        Level of intervals.
    """
    return [
        {
            **{str(k): v for k, v in key.items()},
            "prior": prior if isinstance(prior, str) else "custom",
            "prior_mean_percent": named(prior).effect_mean,
            "prior_sd_percent": named(prior).effect,
            **{str(k): float(v) for k, v in law.table.iloc[i].items()},
            "level": level, "method": law.method, "pareto_k": law.pareto_k,
        }
        for i, key in enumerate(keys[[*_KEYS]].to_dict("records")) for prior, law in found
    ]  # fmt: skip


def mixture(nodes: Nodes, level: float) -> pd.DataFrame:
    """
    Return the table of a `Law` of averages that are normal at each node.

    Parameters
    ----------
    nodes : Nodes
        Weighted nodes.
    level : float
        Level of intervals.
    """
    means, sds = (np.array([getattr(x, name) for x in nodes.found]) for name in ("mean", "sd"))
    mean = nodes.weights @ means
    tails = (1 - level) / 2, (1 + level) / 2
    return pd.DataFrame(
        {
            "estimate": mean,
            "std_error": np.sqrt(nodes.weights @ (sds**2 + np.square(means - mean))),
            **{
                name: mixture_quantile(nodes.weights, means, sds, p)
                for name, p in zip(("conf_low", "conf_high"), tails, strict=True)
            },
            "probability_below_0": nodes.weights @ special.ndtr(-means / sds),
        }
    )


def renamed(table: pd.DataFrame) -> pd.DataFrame:
    """Return a summary of draws with the names of records."""
    return table.rename(columns={"below_zero": "probability_below_0"})


def _under(
    model: Model, found: Posterior, other: Priors, rows: Any, *, seed: int, level: float
) -> Law:
    """Return the law of some averages under another prior."""
    kept = {name: getattr(model.priors, name) for name in REWEIGHTED}
    if replace(other, **kept) == model.priors:
        weight, k = smoothed(_log_ratio(found.tree, model, other))
        if k <= LARGEST_K and 1.0 / np.square(weight).sum() >= LEAST:
            table = summary(found.draws[:, rows], weight, level)
            return Law(renamed(table), "draws reweighted", k)
    if model.active[[STUDENT, HORSESHOE]].any():
        raise EstimationError(
            "the draws of this prior say too little about the other, and the exact engine does not "
            "take this model; fit it again under that prior (`prior_sensitivity`)"
        )
    parts = model.parts._replace(centre=other.effect_mean)
    ahead = laws(model.cells, parts, other, model.active, person_log_sd=model.person_log_sd)
    _, nodes, seen = integrate_cells(
        model.cells, parts, other, ahead, model.averages[rows], nodes=LINE_NODES, seed=seed
    )
    return Law(mixture(nodes, level), "integrated again", seen.k_hat)


def mixture_quantile(
    weights: FloatArray, means: FloatArray, sds: FloatArray, p: float
) -> FloatArray:
    """
    Return quantiles of mixtures of normal laws, by bisection.

    Parameters
    ----------
    weights : array, shape (N,)
        Adding up to one.
    means, sds : array, shape (N, k)
        Of each part, for k quantities.
    p : float
        Probability.

    Returns
    -------
    array, shape (k,)

    Examples
    --------
    >>> both = np.array([0.5, 0.5]), np.array([[-1.0], [1.0]]), np.ones((2, 1))
    >>> bool(abs(mixture_quantile(*both, 0.5)[0]) < 1e-9)
    True
    """
    z = special.ndtri(p)
    low, high = (means + z * sds).min(axis=0), (means + z * sds).max(axis=0)
    for _ in range(60):
        middle = (low + high) / 2
        less = weights @ special.ndtr((middle - means) / sds) < p
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    return np.asarray((low + high) / 2)


def _log_ratio(tree: Any, model: Model, other: Priors) -> FloatArray:
    """Return the log of another prior over that of the fit at each draw, up to a constant."""
    posterior = tree["posterior"]
    spreads = [flatten(tree, f"{name}_sd") for name in model.parts.names[1:]]
    entry = flatten(tree, "effect_at_entry")
    out = log_density(other, entry, spreads) - log_density(model.priors, entry, spreads)
    if "organization_sd" in posterior:
        own = np.square(flatten(tree, "organization_sd"))
        out = out - 0.5 * own * (other.organization**-2 - model.priors.organization**-2)
    return np.asarray(out)
