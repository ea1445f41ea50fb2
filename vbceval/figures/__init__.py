"""Exhibits drawn from `Estimates` and plain tables; nothing here imports an estimator."""

from vbceval.figures.event_studies import event_study
from vbceval.figures.files import save
from vbceval.figures.forests import forest
from vbceval.figures.records import FigureRecord, record
from vbceval.figures.style import STYLES, Style, get_style
from vbceval.figures.trends import trend

__all__ = [
    "STYLES",
    "FigureRecord",
    "Style",
    "event_study",
    "forest",
    "get_style",
    "record",
    "save",
    "trend",
]
