"""Difference-in-differences estimators; each returns `Estimates` with its influence matrix."""

from vbceval.did.event_study import EventStudy
from vbceval.did.group_time import GroupTime
from vbceval.did.imputation import Imputation
from vbceval.did.saturated import ETWFE, SunAbraham
from vbceval.did.stacked import Stacked
from vbceval.did.triple import TripleDifference
from vbceval.did.twfe import TWFE

__all__ = [
    "ETWFE",
    "TWFE",
    "EventStudy",
    "GroupTime",
    "Imputation",
    "Stacked",
    "SunAbraham",
    "TripleDifference",
]
