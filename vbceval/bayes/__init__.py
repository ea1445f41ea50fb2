"""Bayesian hierarchical models. Samplers and their libraries are loaded when a model is fitted."""

from vbceval.bayes.luck import Luck, SavingsNoise, paid_by_luck, share_rewarded_by_chance
from vbceval.bayes.meta import MetaAnalysis
from vbceval.bayes.reliability import Reliability

__all__ = [
    "Luck",
    "MetaAnalysis",
    "Reliability",
    "SavingsNoise",
    "paid_by_luck",
    "share_rewarded_by_chance",
]
