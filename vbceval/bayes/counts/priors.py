"""Priors of models of counts, on the scale of log odds or log rates, and printed in rates."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vbceval.bayes.counts.families import Counts, link, rate
from vbceval.bayes.priors import Priors
from vbceval.core.errors import EstimationError

_NORMAL = ("effect", "period", "covariate", "level")
_WIDEST = 5.0
"""Scales beyond which a unit was mistaken: a factor of 150 on the odds."""


@dataclass(frozen=True, kw_only=True)
class RatePriors:
    """
    Scales of the priors of a model of counts, in log odds (binomial) or log rates.

    A scale of 0.1 is a change of the odds or of the rate by about 10 percent.

    Parameters
    ----------
    effect : float, default 0.1
        Standard deviation of the normal prior of the effect at entry, centred at zero.
    spread : float, default 0.05
        Half-normal scale of the standard deviations of cohort, event-time, stratum and
        interaction parts.
    organization : float, default 0.1
        Half-normal scale of the standard deviation of organizations' own effects.
    shock : float, default 0.2
        Half-normal scale of the standard deviations of organization x period shocks.
    intercept : float, default 0.5
        Half-normal scale of the standard deviations of organizations' intercepts, and of those of
        their units and strata.
    level : float, default 2
        Standard deviation of the normal prior of the level of each cohort and stratum about the
        baseline: so wide that the data decide, so that organizations that enter may differ.
    period : float, default 1
        Standard deviation of the normal prior of period effects; wide for the same reason.
    covariate : float, default 0.5
        Standard deviation of the normal prior of slopes, for a difference of one standard deviation
        of the covariate.
    dispersion : float, default 0.3
        Half-normal scale of the coefficient of variation of the rate of a cell; negative binomial.

    Raises
    ------
    EstimationError
        If a scale is not a positive number, or above 5.

    Examples
    --------
    >>> RatePriors(effect=0.05).effect
    0.05
    """

    effect: float = 0.1
    spread: float = 0.05
    organization: float = 0.1
    shock: float = 0.2
    intercept: float = 0.5
    level: float = 2.0
    period: float = 1.0
    covariate: float = 0.5
    dispersion: float = 0.3

    def __post_init__(self) -> None:
        wrong = {k: v for k, v in asdict(self).items() if not 0 < v < float("inf")}
        if wrong:
            raise EstimationError(
                f"prior scales must be positive numbers (log odds or log rates): {wrong}."
            )
        huge = {k: v for k, v in asdict(self).items() if v > _WIDEST}
        if huge:
            raise EstimationError(
                f"prior scales are log odds or log rates, not percent: {huge} would be changes by "
                f"a factor of {np.exp(_WIDEST):.0f} and more. Use at most {_WIDEST:g}; 10 percent is 0.1."
            )

    @property
    def coefficients(self) -> Priors:
        """The scales that coefficients of the mean read, in the place of percent of baseline."""
        return Priors(
            effect=self.effect, spread=self.spread, organization=self.organization,
            shock=self.shock, period=self.period, covariate=self.covariate,
        )  # fmt: skip


NAMED: dict[str, RatePriors] = {
    "default": RatePriors(),
    "skeptical": RatePriors(effect=0.05),
    "flat": RatePriors(effect=0.5, spread=0.2, organization=0.25),
}
"""The three sets of a sensitivity table, as for spending."""


def named(prior: Any) -> RatePriors:
    """
    Return a set of priors by name; a set is returned as it is.

    Raises
    ------
    EstimationError
        If the name is not known, or the set is that of a model in percent of baseline.
    """
    if isinstance(prior, RatePriors):
        return prior
    if isinstance(prior, Priors):
        raise EstimationError(
            "`prior` is a `Priors`, whose numbers are percent of baseline, and effects on counts "
            "are log odds or log rates. Use `RatePriors`, or a name."
        )
    if prior not in NAMED:
        raise EstimationError(f"`prior` is '{prior}'; use {', '.join(NAMED)} or a `RatePriors`.")
    return NAMED[prior]


def in_rates(priors: RatePriors, family: Counts, baseline: float) -> dict[str, str]:
    """
    Write every prior with what its scale is at the baseline, for a result's ``meta``.

    Parameters
    ----------
    priors : RatePriors
        Scales.
    family : {"binomial", "poisson", "negative_binomial"}
        Law.
    baseline : float
        Events per trial or unit of exposure before entry, over all strata.

    Examples
    --------
    >>> in_rates(RatePriors(), "binomial", 0.18)["effect"]
    'Normal(0, 0.1 log odds = 1.5 percentage points at a baseline of 18%)'
    >>> in_rates(RatePriors(), "poisson", 0.5)["shock"]
    'HalfNormal(0.2 log rate = 0.111 at a baseline of 0.5)'
    """
    out = {}
    for name, scale in asdict(priors).items():
        if name == "dispersion" and family != "negative_binomial":
            continue
        start = link(family, np.array(baseline))
        change = float(rate(family, start + scale)) - baseline
        if name == "dispersion":
            text = f"{scale:g} of the rate of a cell"
        elif family == "binomial":
            text = f"{scale:g} log odds = {100 * change:.2g} percentage points"
            text += f" at a baseline of {100 * baseline:.3g}%"
        else:
            text = f"{scale:g} log rate = {change:.3g} at a baseline of {baseline:.3g}"
        out[name] = f"{'Normal(0, ' if name in _NORMAL else 'HalfNormal('}{text})"
    return out


def in_percent(priors: RatePriors, family: Counts, baseline: float) -> float:
    """
    Return the standard deviation of the effect at entry, percent of a baseline, to first order.

    Parameters are those of `in_rates`.

    Examples
    --------
    >>> in_percent(RatePriors(), "binomial", 0.5), in_percent(RatePriors(), "poisson", 0.5)
    (5.0, 10.0)
    """
    # a change of the log odds moves the log of the rate by the share without an event
    return 100.0 * priors.effect * (1.0 - baseline if family == "binomial" else 1.0)
