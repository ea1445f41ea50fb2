"""Sufficient statistics: what every linear estimator in the field reads."""

from vbceval.moments.moments import Moments

__all__ = ["Moments"]
