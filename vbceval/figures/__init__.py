"""Exhibits drawn from `Estimates` and plain tables; nothing here imports an estimator."""

from vbceval.figures.event_studies import event_study

__all__ = ["event_study"]
