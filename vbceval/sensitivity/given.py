"""Whether a sensitivity was given what it reads: estimates, or a function that estimates."""

from __future__ import annotations

from typing import Any

from vbceval.core.errors import DesignError
from vbceval.estimates import Estimates


def require_estimates(given: Any, name: str = "est") -> None:
    """
    Raise DesignError where an argument is anything but estimates.

    Parameters
    ----------
    given : object
        The argument.
    name : str
        What it is called.
    """
    if isinstance(given, Estimates):
        return
    made = _called(given)
    remedy = "Pass the result of an estimator's `fit`, or of `from_numbers`."
    if callable(getattr(given, "fit", None)):
        remedy = f"Fit it first: `{name} = {made}(...).fit(panel, design)`."
    raise DesignError(
        f"`{name}` is {made}, but it must be Estimates: their covariance and keys are read. {remedy}"
    )


def require_fit(given: Any) -> None:
    """
    Raise DesignError where `fit` cannot be called.

    Parameters
    ----------
    given : object
        The argument.
    """
    if callable(given) and not isinstance(given, type):
        return
    made = _called(given)
    remedy = "Pass a method such as `vbc.did.TWFE().fit`, or a function around several steps."
    if callable(getattr(given, "fit", None)):
        remedy = f"Pass its method: `{made}(...).fit`."
    raise DesignError(
        f"`fit` is {made}, but it must be a function of a panel and a design that returns "
        f"Estimates: it is called for every run. {remedy}"
    )


def _called(given: Any) -> str:
    """Name the class that something is, or is of."""
    return given.__name__ if isinstance(given, type) else type(given).__name__
