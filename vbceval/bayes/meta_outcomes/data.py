"""The table of a meta-analysis of several outcomes: checked, and placed in its levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed, missing_columns, text_rows
from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray, IntArray

LEVELS = ("type", "program", "report", "sample")
"""Levels whose groups may deviate, from the widest."""

_FARTHEST = 100.0


class Columns(NamedTuple):
    """Names of the columns that are read."""

    estimate: str
    std_error: str
    outcome: str
    unit_of_measure: str
    report: str
    program: str
    program_type: str
    sample: str | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """
    Effects on several outcomes, each divided by the scale of its outcome; n rows, J outcomes.

    Parameters
    ----------
    estimate : array, shape (n,)
        Effects.
    errors : array, shape (n, n)
        Covariance of their sampling errors.
    outcome : array of int, shape (n,)
        Outcome of each row.
    outcomes, units : tuple of str
        Names and units of the outcomes, in order of appearance.
    scale : array, shape (J,)
        Scale of each outcome, in its own unit.
    index : mapping of level to array, shape (n,)
        Group of each row.
    labels : mapping of level to tuple
        Names of groups.
    levels : tuple of str
        Levels that have standard deviations.
    frame : DataFrame, n rows
        Columns that describe a row.
    """

    estimate: FloatArray
    errors: FloatArray
    outcome: IntArray
    outcomes: tuple[str, ...]
    units: tuple[str, ...]
    scale: FloatArray
    index: Mapping[str, IntArray]
    labels: Mapping[str, tuple[object, ...]]
    levels: tuple[str, ...]
    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.estimate)

    def same(self, level: str) -> BoolArray:
        """Return which pairs of rows share a group of a level, shape (n, n)."""
        index = self.index[level]
        return np.asarray(index[:, None] == index[None, :])


def read_rows(
    data: pd.DataFrame, columns: Columns, *, scale: Mapping[str, float],
    within: float | Mapping[tuple[str, str], float], known: pd.DataFrame | None,
) -> Rows:  # fmt: skip
    """
    Check a table and place it in its levels.

    A level gets standard deviations only where the table can tell it from the level below: types
    if there are two, programs if one has two reports, samples if a report has two.

    Parameters
    ----------
    data : DataFrame, n rows
        One row an effect.
    columns : Columns
        Names of columns.
    scale : mapping of outcome to float
        Scale of outcomes; 1 for those that it does not name.
    within : float or mapping of pairs of outcomes to float
        Correlation of the sampling errors of two outcomes of one sample.
    known : DataFrame, optional
        Known ones: ``sample``, ``outcome``, ``other``, ``correlation``.

    Raises
    ------
    DataError
        All failures of the table together.
    DesignError
        If correlations are impossible, or no sample has two outcomes.
    """
    problems = Problems("the table of effects")
    named = [c for c in columns if c is not None]
    absent = missing_columns(data, named)
    if absent:
        problems.add(f"it has no column {listed(absent)}. It has {listed(data.columns)}.")
    problems.raise_if_any()
    _check_rows(data, columns, scale, problems)
    problems.raise_if_any()
    code, names = pd.factorize(data[columns.outcome])
    outcomes = tuple(map(str, names))
    index, labels = _index(data, columns)
    _check_samples(data, columns, code, index, outcomes, problems)
    first = pd.Series(data[columns.unit_of_measure].to_numpy()).groupby(code).first()
    scales = np.array([float(scale.get(name, 1.0)) for name in outcomes])
    error = np.array(data[columns.std_error], dtype=float) / scales[code]
    correlation = _correlations(data, columns, code, outcomes, index["sample"], within, known)
    kept = [columns.report, columns.program, columns.program_type]
    kept += [] if columns.sample is None else [columns.sample]
    return Rows(
        estimate=np.array(data[columns.estimate], dtype=float) / scales[code],
        errors=correlation * np.outer(error, error), outcome=np.asarray(code), outcomes=outcomes,
        units=tuple(map(str, first)), scale=scales, index=index, labels=labels,
        levels=_levels(index, labels), frame=data[list(dict.fromkeys(kept))].reset_index(drop=True),
    )  # fmt: skip


def _index(
    data: pd.DataFrame, columns: Columns
) -> tuple[dict[str, IntArray], dict[str, tuple[object, ...]]]:
    names = {"type": columns.program_type, "program": columns.program, "report": columns.report}
    coded = {level: pd.factorize(data[name]) for level, name in names.items()}
    own = [columns.report] if columns.sample is None else [columns.report, columns.sample]
    sample = data.groupby(own, sort=False).ngroup().to_numpy()
    labels = {level: tuple(found[1]) for level, found in coded.items()}
    labels["sample"] = tuple(range(int(sample.max()) + 1))
    index: dict[str, IntArray] = {k: np.array(v[0], dtype=np.int64) for k, v in coded.items()}
    return {**index, "sample": np.array(sample, dtype=np.int64)}, labels


def _levels(
    index: Mapping[str, IntArray], labels: Mapping[str, tuple[object, ...]]
) -> tuple[str, ...]:
    table = pd.DataFrame(dict(index))

    def several(outer: str, inner: str) -> bool:
        return bool(table.groupby(outer)[inner].nunique().gt(1).any())

    active = {
        "type": len(labels["type"]) > 1, "program": several("program", "report"),
        "report": True, "sample": several("report", "sample"),
    }  # fmt: skip
    return tuple(level for level in LEVELS if active[level])


def _check_rows(
    data: pd.DataFrame, columns: Columns, scale: Mapping[str, float], problems: Problems
) -> None:
    for name in (columns.estimate, columns.std_error):
        text = text_rows(data[name])
        if len(text):
            problems.add(f"`{name}` holds text in {len(text)} rows (rows {listed(text)}).")
    described = [c for c in columns[2:] if c is not None]
    for name in described:
        if data[name].isna().any():
            problems.add(f"`{name}` is missing in {int(data[name].isna().sum())} rows. Fill it.")
    problems.raise_if_any()
    estimate = np.array(data[columns.estimate], dtype=float)
    error = np.array(data[columns.std_error], dtype=float)
    bad = np.flatnonzero(~np.isfinite(estimate) | ~np.isfinite(error) | (error <= 0))
    if len(bad):
        problems.add(
            f"{len(bad)} rows (rows {listed(bad)}) have no estimate or no positive standard error. "
            "Standard errors known only within bounds are for `MetaAnalysis`, one outcome at a time."
        )
    names = data[columns.outcome].map(str)
    unknown = [name for name in scale if name not in set(names)]
    if unknown or any(not 0 < v < np.inf for v in scale.values()):
        problems.add(
            f"`scale` names {listed(scale)}: outcomes of the table ({listed(names.unique())}) with "
            "positive numbers are needed."
        )
    each = data.groupby(columns.outcome)[columns.unit_of_measure].nunique()
    if (each > 1).any():
        problems.add(
            f"{listed(each[each > 1].index)} is in several units, and would be pooled as if they were one. "
            "Convert it."
        )
    size = np.abs(estimate) / names.map(lambda x: scale.get(x, 1.0)).to_numpy(dtype=float)
    far = np.flatnonzero(size > _FARTHEST)
    if len(far):
        problems.add(
            f"{len(far)} effects are more than {_FARTHEST:g} times the `scale` of their outcome "
            f"({listed(names.iloc[far].unique())}), in which the priors are. Give percent, or the scale."
        )


def _check_samples(
    data: pd.DataFrame, columns: Columns, code: IntArray, index: Mapping[str, IntArray],
    outcomes: Sequence[str], problems: Problems,
) -> None:  # fmt: skip
    pairs = pd.DataFrame({"sample": index["sample"], "outcome": code})
    twice = pairs.duplicated().to_numpy()
    if twice.any():
        problems.add(
            f"{int(twice.sum())} rows repeat an outcome of their report "
            f"({listed(data.loc[twice, columns.report].unique())}). Name the column that tells its samples "
            "of people apart in `sample`, or keep one row."
        )
    problems.raise_if_any()
    if len(outcomes) < 2:
        raise DesignError(
            f"the table has one outcome ({listed(outcomes)}). Use `MetaAnalysis`, which needs fewer "
            "assumptions."
        )
    if not pairs.groupby("sample")["outcome"].nunique().gt(1).any():
        raise DesignError(
            "no report has two outcomes, so their correlation would come from its prior alone. Fit "
            "each outcome with `MetaAnalysis`."
        )


def _correlations(
    data: pd.DataFrame, columns: Columns, code: IntArray, outcomes: Sequence[str],
    sample: IntArray, within: float | Mapping[tuple[str, str], float], known: pd.DataFrame | None,
) -> FloatArray:  # fmt: skip
    """Return correlations of sampling errors: zero between samples, shape (n, n)."""
    between = _stated(within, outcomes)
    out = np.where(sample[:, None] == sample[None, :], between[np.ix_(code, code)], 0.0)
    np.fill_diagonal(out, 1.0)
    label = data[columns.report if columns.sample is None else columns.sample].to_numpy()
    if known is not None:
        absent = missing_columns(known, ["sample", "outcome", "other", "correlation"])
        if absent:
            raise DesignError(f"`known` has no column {listed(absent)}.")
        names = np.asarray(outcomes, dtype=object)[code]
        for row in known.to_dict("records"):
            i, j = (
                np.flatnonzero((label == row["sample"]) & (names == row[side]))
                for side in ("outcome", "other")
            )
            if len(i) != 1 or len(j) != 1 or i[0] == j[0] or sample[i[0]] != sample[j[0]]:
                raise DesignError(
                    f"`known` states a correlation of `{row['outcome']}` and `{row['other']}` in "
                    f"`{row['sample']}`, which has not one row of each."
                )
            out[i[0], j[0]] = out[j[0], i[0]] = float(row["correlation"])
    for group in np.unique(sample):
        rows = np.flatnonzero(sample == group)
        block = out[np.ix_(rows, rows)]
        if not np.isfinite(block).all() or np.linalg.eigvalsh(block)[0] < 1e-6:
            raise DesignError(
                f"correlations of the errors of {listed(np.unique(label[rows]))} are not those of any "
                "variables: their matrix is not positive definite. Use values nearer to zero."
            )
    return out


def _stated(within: float | Mapping[tuple[str, str], float], outcomes: Sequence[str]) -> FloatArray:
    n = len(outcomes)
    out = np.eye(n)
    left = dict(within) if isinstance(within, Mapping) else {}
    for i in range(n):
        for j in range(i):
            value: float | None = None if isinstance(within, Mapping) else float(within)
            for pair in ((outcomes[i], outcomes[j]), (outcomes[j], outcomes[i])):
                value = left.pop(pair, value)
            if value is None or not -1 < value < 1:
                raise DesignError(
                    f"`within` gives {value} as correlation of the errors of `{outcomes[j]}` and "
                    f"`{outcomes[i]}`; state a number between -1 and 1 for each pair."
                )
            out[i, j] = out[j, i] = value
    if left:
        raise DesignError(f"`within` names {listed(left)}, no pairs of {listed(outcomes)}.")
    return out
