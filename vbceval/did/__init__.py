"""Difference-in-differences estimators; each returns `Estimates` with its influence matrix."""

from vbceval.did.group_time import GroupTime
from vbceval.did.imputation import Imputation

__all__ = ["GroupTime", "Imputation"]
