"""The unit-by-period table that every design starts from."""

from vbceval.panel.mssp import EntryPanel, covered_person_years
from vbceval.panel.panel import Panel

__all__ = ["EntryPanel", "Panel", "covered_person_years"]
