"""Weights from the probability of entry: odds, inverse probabilities, overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, Unpack

import numpy as np

from vbceval.balance.by_calibration import entropy
from vbceval.balance.features import Features, SampleOptions
from vbceval.balance.logit import LogitFit, Penalty, fit_logit, is_extreme, separating
from vbceval.balance.measure import as_features
from vbceval.balance.weights import BalanceWeights, Step
from vbceval.core.checks import listed
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.moments import Moments
from vbceval.panel import Panel

Estimand = Literal["att", "ate", "atc", "overlap"]


class Scores(NamedTuple):
    """
    A fitted probability of entry.

    Parameters
    ----------
    fit : LogitFit
        On the n included organizations.
    x : array, shape (G, m)
        Its columns, for all organizations.
    propensity : array, shape (G,)
        Probability of entry.
    meta : dict
        Penalty, columns left out, warnings.
    """

    fit: LogitFit
    x: FloatArray
    propensity: FloatArray
    meta: dict[str, Any]


def propensity(
    data: Panel | Moments | Features,
    covariates: Sequence[str] = (),
    *,
    method: Literal["logit", "ipt"] = "logit",
    estimand: Estimand = "att",
    by: Literal["ever", "cohort"] = "ever",
    penalty: Penalty | Literal["auto"] = "auto",
    weights_random: bool = True,
    **sample: Unpack[SampleOptions],
) -> BalanceWeights:
    """
    Weight organizations by their probability of entry, given features before entry.

    Parameters
    ----------
    data : Panel, Moments or Features
        Data, or features measured by `vbceval.balance.features`.
    covariates : sequence of str
        Columns that become features; see `features`.
    method : {"logit", "ipt"}
        Maximum likelihood; or inverse probability tilting, which chooses the odds so that features
        are balanced exactly. For the effect on the treated that is the covariate balancing
        propensity score (as many moments as parameters) and entropy balancing with base weights:
        one solution with three names.
    estimand : {"att", "ate", "atc", "overlap"}
        On the treated: 1 and p/(1-p); on all: 1/p and 1/(1-p); on the comparison: (1-p)/p and 1;
        overlap population: 1-p and p.
    by : {"ever", "cohort"}
        One logit of ever entering; or a multinomial logit of the entry cohort, with the odds of
        all cohorts added up for each comparison organization (``estimand="att"`` only).
    penalty : {"auto", "none", "ridge", "firth"}
        For separated data. "auto": none, and the ridge of `vbceval.balance.logit.RIDGE` with a
        warning where features separate. "none": separation is an error. "firth": bias-reduced.
    weights_random : bool, default True
        Let errors of effects include the estimation of the weights.
    **sample
        Options of `features`: ``by_period``, ``baseline``, ``anticipation``, ``cohorts``,
        ``level``, ``base``.

    Returns
    -------
    BalanceWeights
        Odds are as they are, not rescaled: only ratios within a side matter to comparisons of
        means.

    Raises
    ------
    DesignError
        As `features`, or if options do not go together.
    EstimationError
        If features separate and no penalty is allowed, with the features.

    References
    ----------
    .. [1] Hirano, K., Imbens, G. W. and Ridder, G. (2003). Efficient estimation of average
       treatment effects using the estimated propensity score. *Econometrica* 71(4), 1161-1189.
    .. [2] Graham, B. S., Pinto, C. and Egel, D. (2012). Inverse probability tilting for moment
       condition models with missing data. *Review of Economic Studies* 79(3), 1053-1079.
    .. [3] Imai, K. and Ratkovic, M. (2014). Covariate balancing propensity score. *Journal of the
       Royal Statistical Society B* 76(1), 243-263.
    """
    _check(method, estimand, by, penalty)
    made = as_features(data, covariates, sample)
    if method == "ipt":
        tilted = entropy(made, weights_random=weights_random)
        return replace(
            tilted, method="inverse probability tilting", meta={**tilted.meta, "estimand": "att"}
        )
    scores = fit_scores(made, by=by, penalty=penalty)
    weight, log_slope = _weights(made, scores, estimand)
    step = None
    if weights_random:
        step = Step(log_slope, _spread(made, scores.fit.psi))
    return BalanceWeights(
        method=f"propensity, {estimand}", features=made, weight=weight, step=step,
        propensity=scores.propensity,
        meta={"estimand": estimand, "by": by, **scores.meta},
    )  # fmt: skip


def overlap(
    data: Panel | Moments | Features,
    covariates: Sequence[str] = (),
    *,
    penalty: Penalty | Literal["auto"] = "auto",
    weights_random: bool = True,
    **sample: Unpack[SampleOptions],
) -> BalanceWeights:
    """
    Weight organizations by the probability of the other side (overlap weights).

    Treated get 1 - p, comparison p. With a logit every feature has exactly the same weighted mean
    on both sides. The estimand is the effect in the population that could be on either side, not on
    all treated.

    Parameters
    ----------
    data : Panel, Moments or Features
        As in `propensity`.
    covariates : sequence of str
        As in `propensity`.
    penalty : {"auto", "none", "ridge", "firth"}
        As in `propensity`; with a penalty the balance is not exact.
    weights_random : bool, default True
        As in `propensity`.
    **sample
        Options of `features`.

    Returns
    -------
    BalanceWeights

    References
    ----------
    .. [1] Li, F., Morgan, K. L. and Zaslavsky, A. M. (2018). Balancing covariates via propensity
       score weighting. *Journal of the American Statistical Association* 113(521), 390-400.
       Theorem 3.
    """
    return propensity(
        data, covariates, estimand="overlap", penalty=penalty, weights_random=weights_random,
        **sample,
    )  # fmt: skip


def fit_scores(
    made: Features,
    *,
    by: Literal["ever", "cohort"] = "ever",
    penalty: Penalty | Literal["auto"] = "auto",
) -> Scores:
    """
    Fit the probability of entry on included organizations.

    Parameters
    ----------
    made : Features
        Features.
    by, penalty : str
        As in `propensity`.

    Raises
    ------
    EstimationError
        If features separate and no penalty is allowed.
    """
    rows = made.included
    kept, lost = made.independent(rows)
    x = np.column_stack([np.ones(len(rows)), made.standardised()[:, kept]])
    code = _codes(made, by)[rows]
    names = [made.names[j] for j in kept]
    meta: dict[str, Any] = {"penalty": penalty, "left_out": lost, "warnings": []}
    used: Penalty = "none" if penalty == "auto" else penalty
    try:
        fit = fit_logit(x[rows], code, made.base[rows], used)
    except EstimationError:
        if used != "none":
            raise
        fit = None
    if used == "none" and (fit is None or is_extreme(fit)):
        direction = separating(x[rows], code)
        if fit is None or direction is not None:
            said = _separation(direction, names)
            if penalty == "none":
                raise EstimationError(
                    f"{said}, so the logit of entry has no maximum. Use penalty='auto', 'ridge' or "
                    "'firth', leave the feature out, or weight by `entropy`."
                )
            fit = fit_logit(x[rows], code, made.base[rows], "ridge")
            meta["penalty"] = "ridge"
            meta["warnings"].append(f"{said}: a ridge penalty keeps the propensity finite.")
    assert fit is not None  # a failed fit was replaced or raised
    p = np.full(len(rows), np.nan)
    p[rows] = fit.probability[:, 1:].sum(axis=1)
    return Scores(fit, x, p, meta)


def _codes(made: Features, by: str) -> IntArray:
    """Return 0 for the comparison, 1.. for cohorts (1 for all with by="ever")."""
    if by == "ever":
        return made.treated.astype(np.int64)
    cohorts = np.unique(made.cohort[made.treated])
    return np.where(made.treated, np.searchsorted(cohorts, made.cohort) + 1, 0).astype(np.int64)


def _separation(direction: FloatArray | None, names: list[str]) -> str:
    """Say which features tell who enters."""
    if direction is None:
        return "features almost tell exactly who enters"
    size = np.abs(direction[1:])
    worst = [names[j] for j in np.argsort(-size) if size[j] > 1e-6][:3]
    return f"{listed(worst)} tell exactly who enters, alone or together"


def _weights(made: Features, scores: Scores, estimand: Estimand) -> tuple[FloatArray, FloatArray]:
    """Weights, and the derivative of their logs with respect to coefficients, (G, K m)."""
    d, live = made.treated, made.included
    p = np.where(live, scores.propensity, 0.5)
    zero, one = np.zeros_like(p), np.ones_like(p)
    # weight of the treated, of the comparison; derivative of their logs in the index
    if estimand == "att":
        of_treated, of_others, slope1, slope0 = one, p / (1 - p), zero, one
    elif estimand == "ate":
        of_treated, of_others, slope1, slope0 = 1 / p, 1 / (1 - p), p - 1, p
    elif estimand == "atc":
        of_treated, of_others, slope1, slope0 = (1 - p) / p, one, -one, zero
    else:
        of_treated, of_others, slope1, slope0 = 1 - p, p, -p, 1 - p
    weight = np.where(live, np.where(d, of_treated, of_others), 0.0)
    slope = np.where(live, np.where(d, slope1, slope0), 0.0)
    k = len(scores.fit.beta)
    share = np.zeros((len(p), k))
    # with several cohorts the log of the summed odds moves by the share of each
    each = scores.fit.probability[:, 1:]
    share[live] = each / each.sum(axis=1, keepdims=True)
    log_slope = (slope[:, None] * share)[:, :, None] * scores.x[:, None, :]
    return weight, np.asarray(log_slope.reshape(len(p), -1))


def _spread(made: Features, psi: FloatArray) -> FloatArray:
    """Return influence on all organizations; those not included have none."""
    out = np.zeros((len(made.included), psi.shape[1]))
    out[made.included] = psi
    return out


def _check(method: str, estimand: str, by: str, penalty: str) -> None:
    choices = {
        "method": (method, ("logit", "ipt")),
        "estimand": (estimand, ("att", "ate", "atc", "overlap")),
        "by": (by, ("ever", "cohort")),
        "penalty": (penalty, ("auto", "none", "ridge", "firth")),
    }
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise DesignError(f"`{name}` is {value!r}; use one of {allowed}.")
    if by == "cohort" and (estimand != "att" or penalty == "firth"):
        raise DesignError(
            "by='cohort' adds up odds of cohorts, which is defined for estimand='att', without "
            "penalty='firth'. Use by='ever' for these."
        )
    if method == "ipt" and (estimand != "att" or by != "ever" or penalty != "auto"):
        raise DesignError(
            "method='ipt' tilts the comparison to the treated: it has estimand='att', by='ever' "
            "and no penalty. Use method='logit' for other choices."
        )
