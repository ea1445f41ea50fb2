"""Steps of a sample flow: counts left and taken out, with small steps merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems
from vbceval.core.disclosure import is_small, suppress_small
from vbceval.core.errors import DataError
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.figures import disclosure
from vbceval.figures.sources import require
from vbceval.figures.wording import display

_WHAT = "the flow table"


@dataclass(frozen=True, kw_only=True)
class Step:
    """
    One box of the flow.

    Parameters
    ----------
    words : str
        What the step is.
    left, excluded : tuple of float
        Counts after the step, and taken out by it, one a noun; missing where suppressed.
    nouns : tuple of str
        What is counted.
    arm : str
        "treated" or "comparison" for the boxes at the end, else "".
    """

    words: str
    left: tuple[float, ...]
    excluded: tuple[float, ...]
    nouns: tuple[str, ...]
    arm: str = ""


def flow_steps(
    table: pd.DataFrame, counts: Mapping[str, str] | None, people: Sequence[str]
) -> tuple[list[Step], pd.DataFrame, int]:
    """
    Return the boxes, the data behind them, and the number of steps merged away.

    Raises
    ------
    DataError
        If columns are missing, or a count rises from one step to the next.
    """
    if counts is None:
        numeric = [str(c) for c in table.columns if pd.api.types.is_numeric_dtype(table[c])]
        counts = {c: display(c.removeprefix("n_")) for c in numeric}
    columns = list(counts)
    frame = require(table, ("step", *columns), what=_WHAT, numbers=columns)
    if not columns:
        raise DataError(f"{_WHAT} has no numeric column to count. Name the counts in `counts=`.")
    counted = [c in disclosure.people_columns(frame, people) for c in columns]
    arm = frame["arm"].fillna("").astype(str) if "arm" in frame else pd.Series("", frame.index)
    chain = frame[arm == ""].reset_index(drop=True)
    _check(chain, columns, arm)
    words, left, merged = _merge(
        [str(s) for s in chain["step"]], chain[columns].to_numpy(dtype=float), np.array(counted)
    )
    shown = _hidden(left, np.array(counted))
    taken = np.vstack([np.full(len(columns), np.nan), shown[:-1] - shown[1:]])
    nouns = tuple(counts.values())
    steps = [
        Step(words=w, left=tuple(a), excluded=tuple(b), nouns=nouns)
        for w, a, b in zip(words, shown.tolist(), taken.tolist(), strict=True)
    ]
    steps += _arms(frame[arm != ""], columns, np.array(counted), nouns, arm, left[-1])
    return steps, _data(steps, columns), merged


def _check(chain: pd.DataFrame, columns: Sequence[str], arm: pd.Series) -> None:
    problems = Problems(_WHAT)
    unknown = sorted(set(arm) - {"", "treated", "comparison"})
    if unknown:
        problems.add(f"`arm` has {', '.join(unknown)}; use treated and comparison.")
    if chain.empty:
        problems.add("it has no step besides the arms.")
    for column in columns:
        values = chain[column].to_numpy(dtype=float)
        if np.isnan(values).any():
            problems.add(f"`{column}` is missing in {int(np.isnan(values).sum())} steps. Fill it.")
        rises = np.flatnonzero(np.diff(values) > 0)
        if len(rises):
            step = chain["step"].iloc[int(rises[0]) + 1]
            problems.add(
                f"`{column}` rises at step '{step}', but a flow only loses. Order the steps, or "
                "count what is left after each of them."
            )
    problems.raise_if_any()


def _merge(
    words: list[str], left: FloatArray, people: BoolArray
) -> tuple[list[str], FloatArray, int]:
    """Join a step that takes out 1-10 people with the next one, the last with the one before."""
    merged = 0
    while len(words) > 1:
        taken = left[:-1] - left[1:]
        small = np.flatnonzero((is_small(taken) & people).any(axis=1))
        if not len(small):
            break
        # position of the row whose step is too small; the box above it is what it came from
        row = int(small[0]) + 1
        if row + 1 < len(words):
            words = [*words[:row], f"{words[row]}; {words[row + 1]}", *words[row + 2 :]]
            left = np.delete(left, row, axis=0)
        elif row > 1:
            words = [*words[: row - 1], f"{words[row - 1]}; {words[row]}"]
            left = np.delete(left, row - 1, axis=0)
        else:
            words, left = [f"{words[0]}; {words[1]}"], left[1:]
        merged += 1
    return words, left, merged


def _hidden(left: FloatArray, people: BoolArray) -> FloatArray:
    return np.where(people, suppress_small(left), left)


def _arms(
    frame: pd.DataFrame,
    columns: Sequence[str],
    people: BoolArray,
    nouns: tuple[str, ...],
    arm: pd.Series,
    last: FloatArray,
) -> list[Step]:
    left = frame[list(columns)].to_numpy(dtype=float)
    # one small arm is the last box less the other, and so are people in neither arm: both go
    cells = np.vstack([left, last - left.sum(axis=0)])
    small = (is_small(cells) & people).any(axis=0) if len(left) else np.zeros(len(columns), bool)
    left = np.where(small, np.nan, left)
    empty = tuple([np.nan] * len(columns))
    return [
        Step(words=str(word), left=tuple(row), excluded=empty, nouns=nouns, arm=str(which))
        for word, row, which in zip(frame["step"], left.tolist(), arm[frame.index], strict=True)
    ]


def _data(steps: Sequence[Step], columns: Sequence[str]) -> pd.DataFrame:
    records = []
    for step in steps:
        record: dict[str, object] = {"step": step.words, "arm": step.arm or None}
        record |= dict(zip(columns, step.left, strict=True))
        record |= {f"excluded_{c}": v for c, v in zip(columns, step.excluded, strict=True)}
        record["suppressed"] = bool(np.isnan(step.left).any())
        records.append(record)
    return pd.DataFrame(records)
