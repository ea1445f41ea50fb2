"""Published results as facts: read, checked against each other, put on one scale."""

from vbceval.evidence.check import check_facts
from vbceval.evidence.effects import attrition, screen, spending_effects
from vbceval.evidence.facts import read_facts
from vbceval.evidence.net import net_effects
from vbceval.evidence.overlap import independent_of
from vbceval.evidence.relations import read_relations

__all__ = [
    "attrition",
    "check_facts",
    "independent_of",
    "net_effects",
    "read_facts",
    "read_relations",
    "screen",
    "spending_effects",
]
