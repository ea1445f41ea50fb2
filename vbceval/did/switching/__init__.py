"""Treatments that switch on and off, or change by degrees."""

from vbceval.did.switching.switching import Switching

__all__ = ["Switching"]
