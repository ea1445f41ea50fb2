"""What a figure carries besides ink: its plotted values, its note, its alternative text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from vbceval.core.errors import DataError

if TYPE_CHECKING:
    from vbceval.figures.canvas import Figure


@dataclass(frozen=True, eq=False, kw_only=True)
class FigureRecord:
    """
    The data and the words of one figure.

    Parameters
    ----------
    kind : str
        Name of the exhibit.
    data : DataFrame
        Every plotted value, tidy, after the disclosure check.
    note : str
        Note printed under the figure, generated from what was fitted.
    alt : str
        Alternative text for readers who do not see the figure.
    style : str
        Name of the style.
    level : float, optional
        Interval probability, where intervals are drawn.
    provenance : mapping
        Estimator, design, seed and versions, as far as the input carries them.
    """

    kind: str
    data: pd.DataFrame
    note: str
    alt: str
    style: str
    level: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def attach(fig: Figure, record: FigureRecord) -> Figure:
    """Attach a record: ``fig.vbceval_data``, ``vbceval_note``, ``vbceval_alt``, ``vbceval_record``."""
    vars(fig).update(
        vbceval_data=record.data,
        vbceval_note=record.note,
        vbceval_alt=record.alt,
        vbceval_record=record,
    )
    return fig


def record(fig: Figure) -> FigureRecord:
    """
    Return the record of a figure drawn by this package.

    Raises
    ------
    DataError
        If the figure was drawn by something else.
    """
    found = vars(fig).get("vbceval_record")
    if not isinstance(found, FigureRecord):
        raise DataError(
            "the figure carries no plotted values, note or alternative text, because it was not "
            "drawn by `vbceval.figures`. Give `save` the plotted values with `data=`, and `alt=`."
        )
    return found
