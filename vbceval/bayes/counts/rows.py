"""Reported averages of effects on counts: of the rate, in percent of it, and in logs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from vbceval.bayes.averages import averages
from vbceval.bayes.counts.cells import CountCells
from vbceval.bayes.counts.families import Counts, rate
from vbceval.core.typing import FloatArray
from vbceval.design import Design

POINTS = "percentage points"


class Rows(NamedTuple):
    """
    Rows of the result and how they follow from the effects.

    Parameters
    ----------
    frame : DataFrame, k rows
        As in `vbceval.bayes.averages.Averages`; ``baseline`` in events per trial or unit of exposure.
        Of each average three rows: of the rate, in percent of baseline, and on the scale of the
        model.
    percent, logs : array, shape (k, J)
        A row is ``percent @ a + logs @ b``: a changes of the rate in percent of their stratum's
        baseline, b effects on the scale of the model.
    """

    frame: pd.DataFrame
    percent: FloatArray
    logs: FloatArray

    @property
    def labels(self) -> list[str]:
        """Name of each row, for messages."""
        keys = ["event_time", "cohort", "stratum"]
        frame = self.frame.reindex(columns=["estimand", *keys])
        return [
            str(row["estimand"]) + "".join(f"[{row[key]}]" for key in keys if pd.notna(row[key]))
            for _, row in frame.iterrows()
        ]

    def values(self, percent: FloatArray, effects: FloatArray) -> FloatArray:
        """Return rows of draws, (N, k), of changes in percent and effects in logs, (N, J) each."""
        return np.asarray(percent @ self.percent.T + effects @ self.logs.T)


def log_unit(family: Counts) -> str:
    """Return the name of the scale of the model."""
    return "log odds" if family == "binomial" else "log rate"


def rows(data: CountCells, design: Design) -> Rows:
    """
    Return the averages that are reported, those of `vbceval.bayes.averages.averages`.

    Parameters
    ----------
    data : CountCells
        Counts.
    design : Design
        Its unit of measure is that of a rate; of shares, percentage points take its place.
    """
    frame, weights = averages(data.cells, design)
    base = data.cells.baseline[data.cells.effects["stratum_code"].to_numpy()]
    shares = data.family == "binomial"
    records, percent, logs = [], [], []
    for i in range(0, len(frame), 2):
        nothing = np.zeros_like(weights[i])
        first, second = frame.iloc[i].to_dict(), frame.iloc[i + 1].to_dict()
        if shares:
            first["unit_of_measure"] = POINTS
        records += [first, second, {**second, "unit_of_measure": log_unit(data.family)}]
        percent += [weights[i] * (100.0 if shares else 1.0), weights[i + 1], nothing]
        # a weight of the unit row is share x baseline / 100
        logs += [nothing, nothing, weights[i] * 100.0 / base]
    return Rows(pd.DataFrame(records), np.array(percent), np.array(logs))


def change_in_percent(data: CountCells, effects: FloatArray) -> FloatArray:
    """Return what effects (N, J) do to a rate at its stratum's baseline, percent of it."""
    stratum = data.cells.effects["stratum_code"].to_numpy()
    base = data.cells.baseline[stratum]
    after = rate(data.family, data.centre[stratum] + effects)
    return np.asarray(100.0 * (after - base) / base)
