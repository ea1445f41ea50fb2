"""Difference-in-differences estimators; each returns `Estimates` with its influence matrix."""

from vbceval.did.group_time import GroupTime

__all__ = ["GroupTime"]
