"""Overall effects of several outcomes under other priors, beside every fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from vbceval.bayes.alternatives import (
    LEAST,
    LINE_NODES,
    REWEIGHTED,
    Law,
    mixture,
    prior_records,
    renamed,
)
from vbceval.bayes.draws import flatten
from vbceval.bayes.exact import integrated
from vbceval.bayes.joint.correlated import Joint
from vbceval.bayes.joint.posterior import Found, log_prior, marginal
from vbceval.bayes.priors import Priors, named
from vbceval.bayes.quadrature import Start
from vbceval.bayes.sample import one_thread
from vbceval.bayes.weights import LARGEST_K, smoothed, summary
from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray
from vbceval.estimates.columns import OVERALL


def joint_lines(
    joint: Joint, found: Found, frame: pd.DataFrame, weights: FloatArray, *, fitted: str | Priors,
    others: Sequence[str | Priors], seed: int, level: float = 0.95,
) -> list[dict[str, Any]]:  # fmt: skip
    """
    Return the overall effect on each outcome under the fitted prior and under others.

    As `vbceval.bayes.alternatives.prior_lines`: draws are reweighted, and where weights cannot be
    trusted variances and correlations are integrated again.

    Parameters
    ----------
    joint, found : Joint, Found
        Model and posterior.
    frame : DataFrame, k rows
        Keys of the averages.
    weights : array, shape (k, J)
        Averages of the effects of all outcomes.
    fitted : str or Priors
        The prior of the fit.
    others : sequence of str or Priors
        Others; that of the fit is left out.
    seed : int
        Seed.
    level : float, default 0.95
        Level of intervals.
    """
    rows = np.flatnonzero(frame["estimand"] == OVERALL)
    even = np.full(len(found.draws), 1.0 / len(found.draws))
    own = renamed(summary(found.draws[:, rows], even, level).assign(estimate=found.mean[rows]))
    laws: list[tuple[str | Priors, Law]] = [(fitted, Law(own, "as fitted"))]
    for other in others:
        if named(other) == named(fitted):
            continue
        try:
            law = _under(joint, found, weights, rows, named(fitted), named(other), seed, level)
        except EstimationError as error:
            missing = own.assign(**dict.fromkeys(own.columns, np.nan))
            law = Law(missing, f"failed: {error}")
        laws.append((other, law))
    return prior_records(frame.iloc[rows], laws, level)


def _under(
    joint: Joint, found: Found, weights: FloatArray, rows: Any, fitted: Priors, other: Priors,
    seed: int, level: float,
) -> Law:  # fmt: skip
    """Return the law of some averages under another prior."""
    kept = {name: getattr(fitted, name) for name in REWEIGHTED}
    if replace(other, **kept) == fitted:
        ratio = log_prior(found.tree, joint, other) - log_prior(found.tree, joint, fitted)
        ratio = ratio.ravel()
        if "organization_sd" in found.tree["posterior"]:
            own = np.square(flatten(found.tree, "organization_sd")).sum(axis=1)
            ratio = ratio - 0.5 * own * (other.organization**-2 - fitted.organization**-2)
        weight, k = smoothed(ratio)
        if k <= LARGEST_K and 1.0 / np.square(weight).sum() >= LEAST:
            return Law(renamed(summary(found.draws[:, rows], weight, level)), "draws reweighted", k)
    with one_thread():
        density = marginal(joint, other, weights[rows])
        size = len(density.names)
        nodes, seen = integrated(
            density, Start(np.zeros(size), np.eye(size)), nodes=LINE_NODES, seed=seed
        )
    return Law(mixture(nodes, level), "integrated again", seen.k_hat)
