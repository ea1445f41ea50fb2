"""Priors from stated intervals and bounds."""

from __future__ import annotations

from typing import Any

import pytest
from scipy import stats

import vbceval as vbc
from vbceval.core.errors import EstimationError


def test_the_stated_interval_has_the_stated_probability() -> None:
    priors = vbc.bayes.elicit(effect=(-5.0, 1.0), probability=0.8)
    law = stats.norm(priors.effect_mean, priors.effect)
    assert law.cdf(-5.0) == pytest.approx(0.1)
    assert law.cdf(1.0) == pytest.approx(0.9)
    assert priors.organization == vbc.bayes.Priors().organization


def test_bounds_of_standard_deviations_have_the_stated_probability() -> None:
    priors = vbc.bayes.elicit(spread=0.5, organization=3.0, shock=6.0, probability=0.95)
    for name, bound in (("spread", 0.5), ("organization", 3.0), ("shock", 6.0)):
        assert stats.halfnorm(scale=getattr(priors, name)).cdf(bound) == pytest.approx(0.95)
    assert priors.effect_mean == 0


def test_dollars_are_percent_of_the_baseline() -> None:
    dollars = vbc.bayes.elicit(effect=(-240.0, 60.0), shock=600.0, baseline=12_000.0)
    percent = vbc.bayes.elicit(effect=(-2.0, 0.5), shock=5.0)
    for name, value in vars(percent).items():
        assert getattr(dollars, name) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "nothing is stated"),
        ({"effect": (1.0, -1.0)}, "the smaller first"),
        ({"effect": (-1.0, float("nan"))}, "the smaller first"),
        ({"effect": (-1.0, 1.0), "probability": 1.0}, "between 0 and 1"),
        ({"shock": -1.0}, "positive numbers"),
        ({"shock": 1.0, "baseline": 0.0}, "above zero"),
        ({"effect": (-400.0, 200.0)}, "not dollars"),
    ],
)
def test_what_cannot_be_a_belief_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(EstimationError, match=said):
        vbc.bayes.elicit(**given)
