"""Priors from what somebody believes: intervals of the effect, bounds of spreads."""

from __future__ import annotations

from typing import Any

from scipy import stats

from vbceval.bayes.priors import Priors
from vbceval.core.errors import EstimationError


def elicit(
    *,
    effect: tuple[float, float] | None = None,
    spread: float | None = None,
    organization: float | None = None,
    shock: float | None = None,
    probability: float = 0.9,
    baseline: float | None = None,
) -> Priors:
    """
    Return the priors under which stated intervals and bounds have a stated probability.

    Ask several people, one at a time, before they see results; report each set beside the default
    (``HierarchicalDiD(alternatives=...)``).

    Parameters
    ----------
    effect : (float, float), optional
        Interval that holds the effect at entry with `probability`, as much of the rest below it as
        above: its middle becomes the mean of the normal prior.
    spread : float, optional
        Bound below which each standard deviation of parts of the effect (between cohorts, event
        times, strata) lies with `probability`.
    organization : float, optional
        The same of the standard deviation of organizations' own effects.
    shock : float, optional
        The same of the standard deviations of organization x period shocks.
    probability : float, default 0.9
        Probability of each statement.
    baseline : float, optional
        Mean outcome of the treated before entry. If given, all numbers are in the unit of the
        outcome (dollars); otherwise in percent of it.

    Returns
    -------
    Priors
        What is not stated keeps its default.

    Raises
    ------
    EstimationError
        If nothing is stated, an interval is not two growing numbers, a bound, `baseline` or
        `probability` is out of range, or a prior is wider than spending itself.

    Notes
    -----
    Of all normal laws with this probability in the interval the symmetric one is the widest, hence
    the one of greatest entropy [1]_.

    References
    ----------
    .. [1] O'Hagan, A. et al. (2006). *Uncertain Judgements: Eliciting Experts' Probabilities*.
       Wiley. Chapter 6.

    Examples
    --------
    >>> priors = elicit(effect=(-400.0, 200.0), organization=300.0, baseline=10_000.0)
    >>> round(priors.effect_mean, 2), round(priors.effect, 2), round(priors.organization, 2)
    (-1.0, 1.82, 1.82)
    """
    if not 0 < probability < 1:
        raise EstimationError(f"`probability` is {probability}; use a number between 0 and 1.")
    if baseline is not None and not 0 < baseline < float("inf"):
        raise EstimationError(f"`baseline` is {baseline}; give the mean outcome, above zero.")
    percent = 1.0 if baseline is None else 100.0 / baseline
    bounds = {
        k: v
        for k, v in {"spread": spread, "organization": organization, "shock": shock}.items()
        if v is not None
    }
    if effect is None and not bounds:
        raise EstimationError(
            "nothing is stated. Give `effect=(low, high)`, or a bound: `spread`, `organization`, "
            "`shock`. For the default priors use `Priors()`."
        )
    wrong = {k: v for k, v in bounds.items() if not 0 < v < float("inf")}
    if wrong:
        raise EstimationError(f"bounds of standard deviations must be positive numbers: {wrong}.")
    # both laws are symmetric once folded out, so one quantile serves
    deviations = float(stats.norm.ppf(0.5 + probability / 2))
    found: dict[str, Any] = {k: percent * v / deviations for k, v in bounds.items()}
    if effect is not None:
        low, high = effect
        if not float("-inf") < low < high < float("inf"):
            raise EstimationError(f"`effect` is {effect}; give two numbers, the smaller first.")
        found["effect_mean"] = percent * (low + high) / 2
        found["effect"] = percent * (high - low) / 2 / deviations
    return Priors(**found)
