"""Comparison groups of organizations: matching, propensity, entropy balancing, calibration."""

from vbceval.balance.by_calibration import calibrate, entropy
from vbceval.balance.by_matching import match
from vbceval.balance.by_propensity import overlap, propensity
from vbceval.balance.features import Features
from vbceval.balance.measure import features
from vbceval.balance.weights import BalanceWeights

__all__ = [
    "BalanceWeights",
    "Features",
    "calibrate",
    "entropy",
    "features",
    "match",
    "overlap",
    "propensity",
]
