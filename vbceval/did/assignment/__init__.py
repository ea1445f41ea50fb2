"""Randomised mandates: effects of assignment, and of what is done because of it."""

from vbceval.did.assignment.iv import IV

__all__ = ["IV"]
