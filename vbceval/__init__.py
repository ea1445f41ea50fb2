"""Evaluate value-based payment programs.

The names studies use are here; rooms are loaded when they are first touched, so that
``import vbceval`` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vbceval.core.errors import DataError, DesignError, EstimationError, StudyError, VbcevalError
from vbceval.core.version import __version__
from vbceval.design import Design
from vbceval.estimates import Estimates, algebra, stack
from vbceval.moments import Moments
from vbceval.panel import Panel

if TYPE_CHECKING:
    from vbceval import (
        balance,
        bayes,
        data,
        did,
        engine,
        equity,
        evidence,
        figures,
        inference,
        passes,
        programs,
        savings,
        sensitivity,
        simulate,
        study,
    )
    from vbceval.engine import connect

_ROOMS = (
    "balance", "bayes", "data", "did", "engine", "equity", "evidence", "figures", "inference",
    "passes", "programs", "savings", "sensitivity", "simulate", "study",
)  # fmt: skip

__all__ = [
    "DataError",
    "Design",
    "DesignError",
    "Estimates",
    "EstimationError",
    "Moments",
    "Panel",
    "StudyError",
    "VbcevalError",
    "__version__",
    "balance",
    "bayes",
    "connect",
    "data",
    "did",
    "engine",
    "equity",
    "evidence",
    "figures",
    "inference",
    "passes",
    "programs",
    "savings",
    "sensitivity",
    "simulate",
    "stack",
    "study",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a room when it is first used."""
    if name in _ROOMS:
        return importlib.import_module(f"vbceval.{name}")
    if name == "connect":
        return importlib.import_module("vbceval.engine").connect
    raise AttributeError(f"module 'vbceval' has no attribute '{name}'")


def _plot(estimates: Estimates, **options: Any) -> Any:
    """Draw estimates; figures sit above them, so the package, not the result, knows both."""
    return importlib.import_module("vbceval.figures").plot(estimates, **options)


algebra.plotter = _plot
