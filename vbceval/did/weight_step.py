"""Effects inherit the estimation of balance weights, whatever the estimator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, cast

import numpy as np
import pandas as pd

from vbceval.balance import BalanceWeights
from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray
from vbceval.design import Design
from vbceval.did.cohorts_said import with_cohorts_said
from vbceval.estimates import Estimates, algebra

DERIVATIVE = "derivative by cluster weights"
"""Beginning of ``meta["influence"]`` where influence is that; the default."""
_OF_ERRORS = ("vcov", "ssc", "working")
_STEP = 1e-4


def with_weight_step[Fit: Callable[..., Estimates]](fit: Fit) -> Fit:
    """
    Let a method ``fit(self, data, design, ...)`` add the estimation of balance weights.

    With weights b(lambda) estimated from the same organizations, the influence on an effect theta is
    ``psi + psi_lambda @ (d theta / d lambda)``. Influence is the derivative by an organization's
    weight, and a balance weight multiplies that weight, so ``d theta / d lambda = D' psi``, where D
    holds derivatives of log weights: nothing about the estimator is needed. Where influence is not
    that derivative (``meta["influence"]`` says so, as for `Imputation`) or is by coarser clusters,
    the effects are estimated again with weights moved by a small amount in each direction.

    Parameters
    ----------
    fit : callable
        Method that estimates with weights taken as given.

    References
    ----------
    .. [1] Newey, W. K. and McFadden, D. (1994). Large sample estimation and hypothesis testing.
       *Handbook of Econometrics* 4, 2111-2245. Section 6.
    """

    @wraps(fit)
    def fitted(self: Any, data: Any, design: Design, **options: Any) -> Estimates:
        # every estimator of effects by cohort passes here, once a fit
        return with_cohorts_said(weighted(self, data, design, **options), data)

    def weighted(self: Any, data: Any, design: Design, **options: Any) -> Estimates:
        weights = design.balance_weights
        if not isinstance(weights, BalanceWeights):
            return fit(self, data, design, **options)
        estimates = fit(self, data, replace(design, balance_weights=weights.fixed()), **options)
        estimates = _recorded(estimates, weights)
        if weights.step is None:
            return estimates
        _require_influence(estimates, weights)

        def refit(factor: FloatArray) -> Estimates:
            moved = replace(weights, weight=weights.weight * factor, step=None)
            given = {k: v for k, v in options.items() if k not in _OF_ERRORS}
            given["vcov"] = "CR0"
            return fit(self, data, replace(design, balance_weights=moved), **given)

        return _added(estimates, weights, refit)

    return cast(Fit, fitted)


def refuse_estimated(design: Design) -> None:
    """
    Refuse estimated balance weights where `with_weight_step` has not taken them over.

    Raises
    ------
    EstimationError
        So that no estimator leaves their error out unseen.
    """
    if isinstance(design.balance_weights, BalanceWeights) and design.balance_weights.step:
        raise EstimationError(
            "this estimator cannot carry the error of estimated balance weights. Take them as "
            "fixed, `weights.fixed()`, and say so, or use another estimator."
        )


def _recorded(estimates: Estimates, weights: BalanceWeights) -> Estimates:
    """Return estimates whose record says whether the weights are estimated, with their warnings."""
    design = dict(estimates.meta["design"])
    design["balance_weights"] = {
        **design["balance_weights"], "weights_random": weights.step is not None
    }  # fmt: skip
    said = {*estimates.meta.get("warnings", ()), *design["balance_weights"]["warnings"]}
    return replace(estimates, meta={**estimates.meta, "design": design, "warnings": sorted(said)})


def _require_influence(estimates: Estimates, weights: BalanceWeights) -> None:
    if estimates.psi is None or "wild_p_value" in estimates.frame:
        raise EstimationError(
            f"vcov='{estimates.meta.get('vcov')}' cannot carry the error of estimated balance "
            "weights; use a covariance by cluster ('CR1', 'CR2'), or take the weights as fixed: "
            "`weights.fixed()`."
        )
    labels = pd.Index(np.asarray(estimates.clusters))
    unknown = int((~labels.isin(weights.features.clusters)).sum())
    if unknown:
        raise EstimationError(
            f"errors are by `{estimates.cluster_name}`, and {unknown:,} of its clusters are not "
            "those that the balance weights were made with, so the error of the weights has no "
            "place. Make the weights from the data that are estimated."
        )


def _added(
    estimates: Estimates, weights: BalanceWeights, refit: Callable[[FloatArray], Estimates]
) -> Estimates:
    """Return the estimates with influence through the weights, over all clusters of either."""
    step, psi, psi_vcov = weights.step, estimates.psi, estimates.psi_vcov
    # the caller has checked the first two; the third is set wherever influence is
    assert step is not None
    assert psi is not None
    assert psi_vcov is not None
    own = weights.features.clusters
    exact = str(estimates.meta.get("influence", DERIVATIVE)).startswith(DERIVATIVE)
    if exact and not own.has_duplicates:
        place = own.get_indexer(pd.Index(np.asarray(estimates.clusters)))
        log_slope = np.where((place >= 0)[:, None], step.log_slope[place], 0.0)
        slope = log_slope.T @ _beside(psi, _share_psi(estimates))
    else:
        slope = _by_differences(step.log_slope, refit, _share_psi(estimates) is not None)
    labels, (of_estimates, of_weights) = algebra.union_of_labels([estimates.clusters, own.unique()])
    psi_lambda = np.zeros((len(labels), step.psi.shape[1]))
    np.add.at(psi_lambda, of_weights[own.unique().get_indexer(own)], step.psi)
    through = psi_lambda @ slope

    def spread(part: FloatArray) -> FloatArray:
        return algebra.spread([part], [of_estimates], len(labels))

    k = psi.shape[1]
    shares, of_rows = estimates.shares, _share_psi(estimates)
    if shares is not None and of_rows is not None:
        shares = replace(shares, psi=spread(of_rows) + through[:, k:], column=None)
    return replace(
        estimates, psi=spread(psi) + through[:, :k],
        psi_vcov=spread(psi_vcov) + through[:, :k] * _scale(psi, psi_vcov),
        clusters=labels, shares=shares,
    )  # fmt: skip


def _share_psi(estimates: Estimates) -> FloatArray | None:
    return None if estimates.shares is None else estimates.shares.by_row()


def _beside(psi: FloatArray, of_shares: FloatArray | None) -> FloatArray:
    return psi if of_shares is None else np.concatenate([psi, of_shares], axis=1)


def _by_differences(
    log_slope: FloatArray, refit: Callable[[FloatArray], Estimates], with_shares: bool
) -> FloatArray:
    """Return derivatives of effects (and shares) in each direction, by central differences."""

    def values(factor: FloatArray) -> FloatArray:
        found = refit(factor)
        if not with_shares or found.shares is None:
            return found.estimate
        return np.concatenate([found.estimate, found.shares.value])

    rows = []
    for direction in log_slope.T:
        h = _STEP / max(float(np.abs(direction).max()), 1e-300)
        gap = values(np.exp(h * direction)) - values(np.exp(-h * direction))
        # a row that could not be estimated has no influence
        rows.append(np.nan_to_num(gap / (2 * h)))
    return np.array(rows)


def _scale(psi: FloatArray, psi_vcov: FloatArray) -> FloatArray:
    """Return the factor of a covariance that scales influence, shape (k,); 1 where it adjusts it."""
    size = (psi**2).sum(axis=0)
    ratio = (psi * psi_vcov).sum(axis=0) / np.where(size > 0, size, 1.0)
    plain = np.abs(psi_vcov - ratio * psi).max(axis=0) <= 1e-9 * np.abs(psi_vcov).max(axis=0)
    return np.where(plain & (size > 0), ratio, 1.0)
