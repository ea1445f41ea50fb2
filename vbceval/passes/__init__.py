"""Passes over a table inside an engine that must see people, in buckets that fit the memory given."""

from vbceval.passes.baseline import baseline
from vbceval.passes.fits import Fit, Recipe
from vbceval.passes.glm import glm
from vbceval.passes.quantiles import quantiles
from vbceval.passes.scores import by_unit
from vbceval.passes.terms import Term
from vbceval.passes.winsor import Derived, winsorise
from vbceval.passes.within import Within, within

__all__ = [
    "Derived",
    "Fit",
    "Recipe",
    "Term",
    "Within",
    "baseline",
    "by_unit",
    "glm",
    "quantiles",
    "winsorise",
    "within",
]
