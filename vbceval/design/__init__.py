"""Who is compared with whom, and when; nothing is estimated here."""

from vbceval.design.cells import GroupTimePair, group_time_pairs
from vbceval.design.design import Design

__all__ = ["Design", "GroupTimePair", "group_time_pairs"]
