"""The errors that `vbceval` raises.

A message says what is wrong with names, counts and units; why it matters; and what to do.
It never holds an identifier below organization level or a count of 1-10 people.
"""


class VbcevalError(Exception):
    """Base class of every error raised on purpose by `vbceval`."""


class DataError(VbcevalError, ValueError):
    """Raise when a table breaks a rule it must satisfy before it can be used."""


class DesignError(VbcevalError, ValueError):
    """Raise when a design cannot be answered by the data it is given."""


class EstimationError(VbcevalError, RuntimeError):
    """Raise when a calculation cannot be trusted: no convergence, no overlap, no rank."""


class StudyError(VbcevalError, RuntimeError):
    """Raise when a study cannot run, cannot write, or does not reproduce."""
