"""Difference-in-differences estimators; each returns `Estimates` with its influence matrix."""

from vbceval.did.assignment import IV
from vbceval.did.distribution import ChangesInChanges
from vbceval.did.dose import Dose
from vbceval.did.efficient import Efficient
from vbceval.did.event_study import EventStudy
from vbceval.did.group_time import GroupTime
from vbceval.did.imputation import Imputation
from vbceval.did.nonlinear import GLMDiD, TwoPart
from vbceval.did.randomization import randomization_test
from vbceval.did.saturated import ETWFE, SunAbraham
from vbceval.did.stacked import Stacked
from vbceval.did.switching import Switching
from vbceval.did.synthetic import InteractiveFE, SyntheticControl, SyntheticDiD
from vbceval.did.triple import TripleDifference
from vbceval.did.twfe import TWFE
from vbceval.did.two_stage import TwoStage

__all__ = [
    "ETWFE",
    "IV",
    "TWFE",
    "ChangesInChanges",
    "Dose",
    "Efficient",
    "EventStudy",
    "GLMDiD",
    "GroupTime",
    "Imputation",
    "InteractiveFE",
    "Stacked",
    "SunAbraham",
    "Switching",
    "SyntheticControl",
    "SyntheticDiD",
    "TripleDifference",
    "TwoPart",
    "TwoStage",
    "randomization_test",
]
