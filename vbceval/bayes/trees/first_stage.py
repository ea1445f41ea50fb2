"""What data say of each organization's effect, before any pooling over organizations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg

from vbceval.bayes.cells import Cells, from_moments, moments_of
from vbceval.bayes.coefficients import place, split, structure
from vbceval.bayes.draws import DIMS, Parameters
from vbceval.bayes.equations import Equations, arrange
from vbceval.bayes.groups import observed, same_data
from vbceval.bayes.hierarchical import HierarchicalDiD
from vbceval.bayes.likelihood import Scales, noise, residuals, weights_of_coefficients
from vbceval.bayes.organizations import UNIT, owners_of, rows_of
from vbceval.bayes.priors import Priors, named
from vbceval.bayes.sample import one_thread
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.design import Design
from vbceval.estimates import Estimates
from vbceval.moments import Moments
from vbceval.panel import Panel

_WIDE = 1000.0
"""Standard deviation, percent of baseline, of organizations' own effects where nothing is pooled."""

_AT_ONCE = 16


class Law(NamedTuple):
    """Mean, shape (n,), and covariance, shape (n, n), of organizations' effects."""

    mean: FloatArray
    covariance: FloatArray


def organization_estimates(
    model: HierarchicalDiD, posterior: Estimates, data: Panel | Moments, design: Design, *,
    baseline: Mapping[str, float] | float | None = None, size: int = 32,
) -> Estimates:  # fmt: skip
    """
    Estimate the effect of each treated organization without pooling over organizations.

    `HierarchicalDiD.organizations` draws organizations towards each other; here an organization's
    effect has a prior so wide (1,000 percent) that its own cells decide. How effects differ by event
    time and stratum within an organization is pooled as in the model. Estimates of organizations
    that share comparisons, shocks and baselines are correlated: the whole covariance comes with them,
    for a second model such as `vbceval.bayes.EffectTrees`.

    At a draw of the variance parameters the law is normal and exact; over draws it is replaced by
    the normal law of the same mean and covariance.

    Parameters
    ----------
    model : HierarchicalDiD
        With family="gaussian" and tails="normal".
    posterior : Estimates
        Result of its `fit` on the same data and design.
    data, design, baseline
        As in `HierarchicalDiD.fit`.
    size : int, default 32
        Posterior draws of the variance parameters used, evenly spaced.

    Returns
    -------
    Estimates
        Estimand ``effect_organization``, percent of baseline, one row a treated organization with
        its label in ``cluster``, with joint covariance.

    Raises
    ------
    DesignError
        If the model has no such law, or `size` is below 2.
    EstimationError
        If the posterior is of another model or of other cells.
    """
    if model.family != "gaussian" or model.tails != "normal":
        raise DesignError(
            f"the model has family='{model.family}' and tails='{model.tails}'; effects of organizations "
            "are normal given its variances with family='gaussian' and tails='normal' alone."
        )
    if size < 2:
        raise DesignError(f"`size` is {size}; use 2 draws or more.")
    moments = moments_of(data, design)
    cells = from_moments(moments, design, person_sd=model.person_sd, baseline=baseline)
    tree = posterior.to_arviz()
    if not same_data(tree, observed(cells)):
        raise EstimationError(
            "`posterior` was fitted to other cells than `data`, `design` and `baseline` give. Pass "
            "what was passed to `fit`."
        )
    priors = named(model.prior)
    owners, weights = owners_of(cells)
    parameters = Parameters(cells, tree)
    chosen = np.unique(np.linspace(0, len(parameters) - 1, size).round().astype(int))
    equations = arrange(cells, structure(cells, centre=priors.effect_mean))
    with one_thread():
        laws = [
            unpooled(cells, priors, equations, _scales(parameters, tree, int(d)), owners, weights)
            for d in chosen
        ]
    law = _mixed(laws)
    frame = rows_of(cells, owners, weights, law.mean[None], outcome=design.outcome, unit=UNIT)
    return Estimates(
        frame=frame, covariance=law.covariance, cluster_name=moments.cluster_name,
        meta={
            "estimator": "organization_estimates", "of": posterior.meta.get("options"),
            "design": posterior.meta.get("design"), "draws_of_variances": len(chosen),
        },
    )  # fmt: skip


def unpooled(
    cells: Cells, priors: Priors, equations: Equations, scales: Scales, owners: IntArray,
    weights: FloatArray,
) -> Law:  # fmt: skip
    """
    Return the law of the effects of organizations at given variances.

    With coefficients v ~ Normal(m, S) and, given them, own effects ~ Normal(G (y - X v), k), an
    effect is w'(loading v) + own, so that all of them are normal with covariance
    (W - G X) S (W - G X)' + diag(k).

    Parameters
    ----------
    cells, priors, equations
        The model; equations of its cells.
    scales : Scales
        Variances; that of organizations' own effects is replaced by a very large one.
    owners, weights : arrays, shapes (n,), (n, J)
        As `vbceval.bayes.organizations.owners_of` returns them.
    """
    parts = structure(cells, centre=priors.effect_mean)
    wide = scales._replace(lasting=np.array(_WIDE**2))
    at = (*noise(wide), wide.four, wide.ratio)
    scale, prior = weights_of_coefficients(cells, parts, priors, wide.parts, wide.local)
    y = cells.y - parts.centre * (cells.effect_of_cell >= 0)
    found = place(equations.at(y, *at).around, np.zeros(len(scale)), scale, prior)

    def residual(v: FloatArray) -> FloatArray:
        sds = scale[len(scale) - len(parts.part) :]
        mean = split(parts, v, sds, cells.n_strata, cells.x.shape[1])
        return residuals(cells, mean.period, mean.slope, mean.effect)

    def total(v: FloatArray) -> FloatArray:
        sds = scale[len(scale) - len(parts.part) :]
        return np.asarray(weights @ split(parts, v, sds, cells.n_strata, cells.x.shape[1]).effect)

    nothing = np.zeros(len(scale))
    # everything is linear in v up to a constant, which the difference of two residuals removes
    zero, base = residual(nothing), total(nothing)
    sd = equations.clusters(zero[None], *at)[1][0, owners, 1]
    columns = np.empty((len(owners), len(scale)))
    for start in range(0, len(scale), _AT_ONCE):
        some = range(start, min(start + _AT_ONCE, len(scale)))
        steps = np.array([residual(_unit(len(scale), j)) - zero for j in some])
        own = equations.clusters(steps, *at)[1][:, owners, 0]
        moved = np.array([total(_unit(len(scale), j)) - base for j in some])
        columns[:, list(some)] = (moved + own).T
    centre = equations.clusters(residual(found.v)[None], *at)[1][0, owners, 0] + total(found.v)
    half = linalg.solve_triangular(found.root, columns.T, lower=True, check_finite=False)
    covariance = half.T @ half + np.diag(sd**2)
    return Law(centre, 0.5 * (covariance + covariance.T))


def _scales(parameters: Parameters, tree: Any, draw: int) -> Scales:
    """Return everything that is not a coefficient at a draw."""
    posterior = tree["posterior"].to_dataset()
    at = np.unravel_index(draw, tuple(posterior.sizes[name] for name in DIMS))
    names = structure(parameters.cells).names[1:]
    sds = np.array([posterior[f"{name}_sd"].values[at] for name in names])
    scales = parameters.scales(draw)._replace(parts=sds)
    if "local_scale" in posterior:
        scales = scales._replace(local=posterior["local_scale"].values[at])
    return scales


def _unit(size: int, place: int) -> FloatArray:
    out = np.zeros(size)
    out[place] = 1.0
    return out


def _mixed(laws: list[Law]) -> Law:
    means = np.array([law.mean for law in laws])
    mean = means.mean(axis=0)
    away = means - mean
    within: Any = np.mean([law.covariance for law in laws], axis=0)
    return Law(mean, np.asarray(within + away.T @ away / len(laws)))
