"""Matched comparison organizations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Unpack

import numpy as np

from vbceval.balance.by_propensity import fit_scores
from vbceval.balance.features import Features, SampleOptions
from vbceval.balance.logit import Penalty
from vbceval.balance.measure import as_features
from vbceval.balance.pairing import greedy, mahalanobis, optimal
from vbceval.balance.weights import BalanceWeights
from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.moments import Moments
from vbceval.panel import Panel

_MOST_PAIRS = 200_000_000


def match(
    data: Panel | Moments | Features,
    covariates: Sequence[str] = (),
    *,
    method: Literal["nearest", "optimal"] = "nearest",
    distance: Literal["propensity", "mahalanobis"] = "propensity",
    link: Literal["logit", "probability"] = "logit",
    ratio: int = 1,
    replace: bool = False,
    caliper: float | None = 0.2,
    exact: Sequence[str] = (),
    order: Literal["largest", "smallest", "label"] = "largest",
    penalty: Penalty | Literal["auto"] = "auto",
    **sample: Unpack[SampleOptions],
) -> BalanceWeights:
    """
    Match comparison organizations to the treated, on features before entry.

    Matching is not smooth in the sample, so the weights are taken as fixed: effects have the error
    of the matched organizations. Treated without a match leave, and the estimand becomes the effect
    on matched participants; a warning says how many.

    Parameters
    ----------
    data : Panel, Moments or Features
        Data, or features measured by `vbceval.balance.features`.
    covariates : sequence of str
        Columns that become features; see `features`.
    method : {"nearest", "optimal"}
        Each treated chooses the nearest that is left; or the sum of distances is smallest (without
        replacement; time grows with the cube of the number of organizations).
    distance : {"propensity", "mahalanobis"}
        Difference of propensity scores; or distance in all features, covariance within sides.
    link : {"logit", "probability"}
        Scale on which propensity scores are compared, also by the caliper.
    ratio : int, default 1
        Comparison organizations for each treated; fewer where fewer are within reach.
    replace : bool, default False
        Whether one may be matched to several treated.
    caliper : float or None, default 0.2
        Largest difference of propensity scores, in their standard deviation over all included
        organizations; None for no limit. It applies to Mahalanobis distances as well.
    exact : sequence of str
        Features that must be equal, by name; a category by its own name.
    order : {"largest", "smallest", "label"}
        Who chooses first, by propensity. Ties go by label, so that the order of rows never matters.
    penalty : {"auto", "none", "ridge", "firth"}
        Of the propensity, see `propensity`.
    **sample
        Options of `features`: ``by_period``, ``baseline``, ``anticipation``, ``cohorts``,
        ``level``, ``base``.

    Returns
    -------
    BalanceWeights
        Matched treated have weight 1. Comparison organizations have, in base weight, the size of
        the treated they stand for, divided among those of a set. ``sets`` without replacement: see
        `BalanceWeights.apply` for errors by match set.

    Raises
    ------
    DesignError
        As `features`; if nobody can be matched, or options do not go together.

    References
    ----------
    .. [1] Rosenbaum, P. R. and Rubin, D. B. (1985). Constructing a control group using multivariate
       matched sampling methods that incorporate the propensity score. *The American Statistician*
       39(1), 33-38.
    .. [2] Abadie, A. and Spiess, J. (2022). Robust post-matching inference. *Journal of the
       American Statistical Association* 117(538), 983-995.
    """
    _check(method, distance, link, ratio, replace, caliper, order)
    if isinstance(exact, str):
        raise DesignError(f"`exact` is the text '{exact}'; give a list, ['{exact}'].")
    made = as_features(data, covariates, sample)
    d, c = made.treated, made.comparison
    if d.sum() * c.sum() > _MOST_PAIRS:
        raise EstimationError(
            f"{d.sum():,} treated and {c.sum():,} comparison organizations make more pairs than "
            "fit in memory. Use `entropy` or `propensity`, or match within parts of the data."
        )
    scores = fit_scores(made, penalty=penalty)
    p = scores.propensity
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.log(p / (1 - p)) if link == "logit" else p
    cost = _cost(made, score, distance, caliper, exact)
    if method == "optimal":
        pairs = optimal(cost, ratio)
    else:
        pairs = greedy(cost, _order(score[d], order), ratio, replace=replace)
    if not pairs.any():
        raise DesignError(
            "no treated organization has a comparison organization within reach. Widen `caliper`, "
            "or ask for fewer features to be `exact`."
        )
    lost = int((~pairs.any(axis=1)).sum())
    warnings = list(scores.meta["warnings"])
    if lost:
        warnings.append(
            f"{made.count(lost)} of {made.count(int(d.sum()))} treated have no match and leave: the "
            "estimand "
            "is the effect on matched participants."
        )
    return BalanceWeights(
        method=f"matching, {method}, {distance}", features=made, weight=_weights(made, pairs),
        propensity=p, sets=None if replace else _sets(made, pairs),
        meta={
            "ratio": ratio, "replace": replace, "caliper": caliper, "link": link, "order": order,
            "exact": tuple(exact), "penalty": scores.meta["penalty"],
            "left_out": scores.meta["left_out"], "warnings": warnings,
        },
    )  # fmt: skip


def _cost(
    made: Features,
    score: FloatArray,
    distance: str,
    caliper: float | None,
    exact: Sequence[str],
) -> FloatArray:
    """Return distances, shape (treated, comparison); infinite where a pair is not allowed."""
    d, c = made.treated, made.comparison
    gap = np.abs(score[d][:, None] - score[c])
    allowed = _equal(made, exact)
    if caliper is not None:
        allowed &= gap <= caliper * float(np.std(score[made.included], ddof=1))
    cost = gap if distance == "propensity" else mahalanobis(made.standardised(), d, c)
    return np.where(allowed, cost, np.inf)


def _equal(made: Features, exact: Sequence[str]) -> BoolArray:
    """Return which pairs agree in features, shape (treated, comparison)."""
    unknown = [
        name for name in exact
        if not any(x == name or x.startswith(f"{name}[") for x in made.names)
    ]  # fmt: skip
    if unknown:
        raise DesignError(
            f"`exact` names {listed(unknown)}, which is no feature (they are "
            f"{listed(made.names)}). Name it in `covariates` as well."
        )
    allowed = np.ones((int(made.treated.sum()), int(made.comparison.sum())), dtype=bool)
    for j, feature in enumerate(made.names):
        if any(feature == name or feature.startswith(f"{name}[") for name in exact):
            z = made.z[:, j]
            # means of equal values differ by rounding
            close = 1e-9 * np.abs(z[made.included]).max()
            allowed &= np.abs(z[made.treated][:, None] - z[made.comparison]) <= close
    return allowed


def _order(score: FloatArray, order: str) -> IntArray:
    """Return who chooses first; labels are sorted, so a stable order breaks ties by label."""
    if order == "label":
        return np.arange(len(score))
    return np.argsort(-score if order == "largest" else score, kind="stable")


def _weights(made: Features, pairs: BoolArray) -> FloatArray:
    """Return 1 for matched treated, and for each comparison the treated it stands for."""
    d, c, q = made.treated, made.comparison, made.base
    matches = pairs.sum(axis=1)
    share = np.divide(q[d], matches, out=np.zeros(len(matches)), where=matches > 0)
    out = np.zeros(len(q))
    out[d] = (matches > 0).astype(float)
    out[c] = (share @ pairs) / q[c]
    return out


def _sets(made: Features, pairs: BoolArray) -> IntArray:
    """Return the number of the match set, that of its treated; -1 for nobody's."""
    out = np.full(len(made.base), -1, dtype=np.int64)
    numbers = np.arange(len(pairs))
    out[made.treated] = np.where(pairs.any(axis=1), numbers, -1)
    out[made.comparison] = np.where(pairs.any(axis=0), pairs.argmax(axis=0), -1)
    return out


def _check(
    method: str,
    distance: str,
    link: str,
    ratio: int,
    replace: bool,
    caliper: float | None,
    order: str,
) -> None:
    problems = Problems("the options of match", DesignError)
    choices = {
        "method": (method, ("nearest", "optimal")),
        "distance": (distance, ("propensity", "mahalanobis")),
        "link": (link, ("logit", "probability")),
        "order": (order, ("largest", "smallest", "label")),
    }
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            problems.add(f"`{name}` is {value!r}; use one of {allowed}.")
    if ratio < 1 or int(ratio) != ratio:
        problems.add(f"`ratio` is {ratio}; give a whole number, 1 or more.")
    if caliper is not None and not caliper > 0:
        problems.add(f"`caliper` is {caliper}; give standard deviations above 0, or None.")
    if method == "optimal" and (replace or order != "largest"):
        problems.add(
            "method='optimal' looks at all pairs at once, without replacement: leave `replace` and "
            "`order` out."
        )
    problems.raise_if_any()
