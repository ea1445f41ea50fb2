"""Disclosure control of counts: which cells to suppress, and what a reader can still find out."""

from vbceval.disclosure.audit import attacker_bounds, unproven
from vbceval.disclosure.complement import Pattern, complement

__all__ = ["Pattern", "attacker_bounds", "complement", "unproven"]
