"""Bayesian hierarchical models. Samplers and their libraries are loaded when a model is fitted."""

from vbceval.bayes.checks import Limits
from vbceval.bayes.hierarchical import HierarchicalDiD
from vbceval.bayes.luck import Luck, SavingsNoise, paid_by_luck, share_rewarded_by_chance
from vbceval.bayes.meta import MetaAnalysis
from vbceval.bayes.prior_checks import power_scaling, prior_sensitivity
from vbceval.bayes.priors import Priors
from vbceval.bayes.reliability import Reliability
from vbceval.bayes.viability import viability, viable_size

__all__ = [
    "HierarchicalDiD",
    "Limits",
    "Luck",
    "MetaAnalysis",
    "Priors",
    "Reliability",
    "SavingsNoise",
    "paid_by_luck",
    "power_scaling",
    "prior_sensitivity",
    "share_rewarded_by_chance",
    "viability",
    "viable_size",
]
