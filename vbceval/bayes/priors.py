"""Priors of the hierarchical model, in percent of baseline spending, and printed in dollars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray

PriorName = Literal["default", "skeptical", "flat"]

_PERCENT = ("effect", "effect_mean", "spread", "organization", "shock")
_WIDEST = 100.0
"""Priors of effects and shocks beyond which a unit was mistaken: spending itself is 100."""


@dataclass(frozen=True, kw_only=True)
class Priors:
    """
    Scales of the priors; every number is in percent of the stratum's baseline mean.

    Parameters
    ----------
    effect : float, default 3
        Standard deviation of the normal prior of the effect at entry: printed results of payment
        programs mostly lie within 3 percent of spending.
    effect_mean : float, default 0
        Its mean. Other than zero where evidence on earlier programs says so, see
        `vbceval.bayes.EvidencePrior.priors`.
    spread : float, default 1
        Half-normal scale of the standard deviations of cohort, event-time, stratum and
        interaction parts.
    organization : float, default 2
        Half-normal scale of the standard deviation of organizations' own effects.
    shock : float, default 5
        Half-normal scale of the standard deviations of organization x period shocks.
    period : float, default 100
        Standard deviation of the normal prior of period effects: so wide that the data decide. A
        prior that draws calendar years together makes untreated growth too small, and what is left
        of it would pass for an effect of the program.
    covariate : float, default 20
        Standard deviation of the normal prior of a period-specific slope, for a difference of one
        standard deviation of the covariate; wide for the same reason.
    person : float, default 300
        Half-normal scale of the spending of single persons, where the data identify it.

    Raises
    ------
    EstimationError
        If a scale is not a positive number, or one of effects or shocks is above 100 percent, or
        the mean of effects is beyond 100 percent.
    """

    effect: float = 3.0
    effect_mean: float = 0.0
    spread: float = 1.0
    organization: float = 2.0
    shock: float = 5.0
    period: float = 100.0
    covariate: float = 20.0
    person: float = 300.0

    def __post_init__(self) -> None:
        wrong = {k: v for k, v in self.scales.items() if not 0 < v < float("inf")}
        if wrong:
            raise EstimationError(
                f"prior scales must be positive numbers (percent of baseline): {wrong}."
            )
        huge = {k: v for k, v in asdict(self).items() if k in _PERCENT and not abs(v) <= _WIDEST}
        if huge:
            raise EstimationError(
                f"priors are percent of baseline, not dollars: {huge} "
                f"would be effects or shocks larger than all spending. Use at most {_WIDEST:g}; "
                "divide an amount by the baseline mean and multiply by 100."
            )

    @property
    def scales(self) -> dict[str, float]:
        """All but the mean of the effect."""
        return {k: v for k, v in asdict(self).items() if k != "effect_mean"}


NAMED: dict[str, Priors] = {
    "default": Priors(),
    "skeptical": Priors(effect=1.5),
    "flat": Priors(effect=20.0, spread=5.0, organization=5.0),
}
"""The three sets of a sensitivity table.

"skeptical" halves the prior sd of the effect; "flat" lets the data decide about effects of any size
seen in health policy, and hardly pools.
"""


def named(prior: object) -> Priors:
    """
    Return a set of priors by name; a set is returned as it is.

    Raises
    ------
    EstimationError
        If the name is not known.
    """
    if isinstance(prior, Priors):
        return prior
    if not isinstance(prior, str) or prior not in NAMED:
        raise EstimationError(f"`prior` is '{prior}'; use {', '.join(NAMED)} or a `Priors`.")
    return NAMED[prior]


def in_dollars(priors: Priors, baseline: float, unit: str) -> dict[str, str]:
    """
    Write every prior in the unit of the outcome, for a result's ``meta``.

    Parameters
    ----------
    priors : Priors
        Scales in percent.
    baseline : float
        Mean outcome of the treated before entry, over all strata.
    unit : str
        Unit of measure of the outcome.

    Examples
    --------
    >>> in_dollars(Priors(), 10_000.0, "USD per person-year")["effect"]
    'Normal(0, 300 USD per person-year = 3% of baseline)'
    """

    def amount(percent: float) -> str:
        money = percent / 100 * baseline
        written = f"{money:,.4g}" if abs(money) < 1000 else f"{money:,.0f}"
        return f"{written} {unit} = {percent:g}% of baseline"

    out = {}
    for name, scale in priors.scales.items():
        centred = name in ("effect", "period", "covariate")
        mean = amount(priors.effect_mean) if name == "effect" and priors.effect_mean else "0"
        out[name] = (
            f"Normal({mean}, {amount(scale)})" if centred else f"HalfNormal({amount(scale)})"
        )
    return out


def log_density(priors: Priors, entry: FloatArray, spreads: Sequence[FloatArray]) -> FloatArray:
    """
    Return the log prior density of the effect at entry and of the sds of its parts.

    Parameters
    ----------
    priors : Priors
        Scales.
    entry : array
        Effect at entry, percent of baseline.
    spreads : sequence of array, each of the shape of `entry`
        Standard deviations of cohort, event-time, stratum and interaction parts.
    """
    out = -0.5 * np.square((entry - priors.effect_mean) / priors.effect)
    out = out - np.log(priors.effect * np.sqrt(2 * np.pi))
    for sd in spreads:
        out = out - 0.5 * np.square(sd / priors.spread)
        out = out + 0.5 * np.log(2 / np.pi) - np.log(priors.spread)
    return np.asarray(out)
