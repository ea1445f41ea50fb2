"""Difference-in-differences of counts, shares and spending: the index has parallel trends."""

from vbceval.did.nonlinear.glm import GLMDiD
from vbceval.did.nonlinear.two_part import TwoPart

__all__ = ["GLMDiD", "TwoPart"]
