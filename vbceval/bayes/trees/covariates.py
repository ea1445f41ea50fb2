"""Organizations' covariates as columns of numbers that trees can split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, is_date, listed, missing_columns
from vbceval.core.typing import FloatArray, IntArray

_MOST_LEVELS = 20
_GRID = 9


class Covariate(NamedTuple):
    """
    One covariate: distinct numbers in order, or names of levels.

    Parameters
    ----------
    name : str
        Its column.
    values : array
        Distinct values, sorted.
    numeric : bool
        Whether they are numbers.
    """

    name: str
    values: Any
    numeric: bool

    @property
    def width(self) -> int:
        """Columns that it takes: one; of names of three or more levels one each."""
        return 1 if self.numeric or len(self.values) == 2 else len(self.values)

    def columns(self, given: Any) -> FloatArray:
        """
        Return the columns of given values, shape (n, width).

        A number becomes its rank among the distinct values seen, so that trees do not depend on
        the scale of a covariate; between two of them by interpolation, beyond them the last one.
        """
        if self.numeric:
            ranks = np.arange(len(self.values), dtype=float)
            found = np.interp(np.asarray(given, dtype=float), self.values, ranks)
            return np.asarray(found)[:, None]
        same = np.asarray(given)[:, None] == np.asarray(self.values)[None, :]
        return np.asarray(same[:, 1:] if self.width == 1 else same, dtype=float)

    def grid(self) -> list[Any]:
        """Return values at which partial dependence is shown: all of few, else nine quantiles."""
        values = list(self.values)
        if not self.numeric or len(values) <= _GRID + 1:
            return values
        shares = np.linspace(0.1, 0.9, _GRID)
        return list(np.quantile(np.asarray(self.values), shares, method="nearest"))


class Table(NamedTuple):
    """
    Covariates of n organizations, in the order of the estimates.

    Parameters
    ----------
    frame : DataFrame, n rows
        As given, in that order.
    covariates : tuple of Covariate
        What trees read.
    weight : array, shape (n,)
        Weights of organizations, sum one.
    """

    frame: pd.DataFrame
    covariates: tuple[Covariate, ...]
    weight: FloatArray

    @property
    def names(self) -> list[str]:
        """Names of the covariates."""
        return [c.name for c in self.covariates]

    @property
    def owner(self) -> IntArray:
        """Covariate of each column, shape (q,)."""
        return np.repeat(np.arange(len(self.covariates)), [c.width for c in self.covariates])

    @property
    def chance(self) -> FloatArray:
        """Prior probability of each column in a split: covariates are equally likely."""
        widths = np.array([c.width for c in self.covariates], dtype=float)
        return np.asarray((1.0 / (len(widths) * widths))[self.owner])

    def columns(self, frame: pd.DataFrame) -> FloatArray:
        """Return the columns of some rows, shape (m, q)."""
        return np.hstack([c.columns(frame[c.name]) for c in self.covariates])


def read_table(
    frame: pd.DataFrame, organizations: Sequence[object], *, cluster: str,
    covariates: Sequence[str], weight: str | None, also: Sequence[str],
) -> Table:  # fmt: skip
    """
    Check a table of covariates and put it in the order of the estimates.

    Parameters
    ----------
    frame : DataFrame
        One row an organization; rows of others are not read.
    organizations : sequence
        Labels of the n estimates.
    cluster : str
        Column of labels.
    covariates : sequence of str
        Columns that trees may split.
    weight : str, optional
        Column of weights.
    also : sequence of str
        Further columns that are needed.

    Raises
    ------
    DataError
        All failures of the table together.
    """
    problems = Problems("the table of covariates")
    needed = [cluster, *covariates, *also, *([] if weight is None else [weight])]
    absent = missing_columns(frame, needed)
    if absent:
        problems.add(f"it has no column {listed(absent)}. It has {listed(frame.columns)}.")
    if not covariates or len(set(covariates)) < len(covariates) or cluster in covariates:
        problems.add(
            f"`columns` are {listed(covariates) or 'none'}: name each covariate once, and not the "
            f"label `{cluster}`, which would let every organization be a group of its own."
        )
    problems.raise_if_any()
    twice = frame[cluster][frame[cluster].duplicated()].unique()
    if len(twice):
        problems.add(
            f"{len(twice)} organizations have several rows ({listed(twice)}). Keep values from before "
            "entry, one row each: a value that treatment may have changed is no covariate."
        )
    gone = [o for o in organizations if o not in set(frame[cluster])]
    if gone:
        problems.add(
            f"{len(gone)} of {len(organizations)} organizations have no row ({listed(gone)}). Add them, "
            "or leave them out of the estimates."
        )
    problems.raise_if_any()
    own = frame.set_index(cluster).loc[list(organizations)].reset_index()
    found = [_covariate(own, name, problems) for name in covariates]
    for name in also:
        _check_group(own, name, problems)
    share = _weights(own, weight, problems)
    problems.raise_if_any()
    return Table(own, tuple(c for c in found if c is not None), share)


def read_profiles(frame: pd.DataFrame, table: Table) -> pd.DataFrame:
    """
    Check a table of profiles: a value of each covariate in each row.

    Raises
    ------
    DataError
        All failures of the table together.
    """
    problems = Problems("the table of profiles")
    absent = missing_columns(frame, table.names)
    if absent:
        problems.add(
            f"it has no column {listed(absent)}: a profile has a value of every covariate."
        )
    if not len(frame) or not frame.index.is_unique:
        problems.add("its index names the profiles: at least one, and each once.")
    problems.raise_if_any()
    for covariate in table.covariates:
        given = frame[covariate.name]
        if given.isna().any():
            problems.add(
                f"`{covariate.name}` is missing in {int(given.isna().sum())} rows. Fill it."
            )
        elif covariate.numeric:
            numbers = pd.to_numeric(given, errors="coerce").to_numpy(dtype=float)
            low, high = float(covariate.values[0]), float(covariate.values[-1])
            if not ((numbers >= low) & (numbers <= high)).all():
                problems.add(
                    f"`{covariate.name}` lies outside {low:g} to {high:g}, where organizations are, in "
                    f"{int((~((numbers >= low) & (numbers <= high))).sum())} rows. Trees cannot "
                    "extrapolate: use values inside."
                )
        else:
            new = [v for v in given.unique() if v not in set(covariate.values)]
            if new:
                problems.add(
                    f"`{covariate.name}` has levels that no organization has ({listed(new)}); it has "
                    f"{listed(covariate.values)}."
                )
    problems.raise_if_any()
    return frame


def groups_of(table: Table, names: Sequence[str]) -> Mapping[str, FloatArray]:
    """Return weights (n,) of the mean over each group, by ``name=level``."""
    found: dict[str, FloatArray] = {}
    for name in names:
        column = table.frame[name]
        for level in sorted(column.unique(), key=str):
            inside = table.weight * (column == level).to_numpy(dtype=float)
            found[f"{name}={level}"] = inside / inside.sum()
    return found


def _covariate(frame: pd.DataFrame, name: str, problems: Problems) -> Covariate | None:
    column = frame[name]
    if column.isna().any():
        problems.add(
            f"`{name}` is missing for {int(column.isna().sum())} of {len(column)} organizations. Fill "
            "it, and add a column that says where it was filled; or leave it out."
        )
        return None
    if is_date(column):
        problems.add(f"`{name}` holds dates. Turn them into numbers, such as years.")
        return None
    numeric = pd.api.types.is_numeric_dtype(column)
    values = np.unique(column.to_numpy(dtype=float)) if numeric else np.array(
        sorted(column.unique(), key=str), dtype=object
    )  # fmt: skip
    if numeric and not np.isfinite(values).all():
        problems.add(f"`{name}` is infinite for some organizations.")
    elif len(values) < 2:
        problems.add(f"`{name}` is the same for all organizations, so no tree can split on it.")
    elif not numeric and len(values) > _MOST_LEVELS:
        problems.add(
            f"`{name}` is text with {len(values)} levels, at most {_MOST_LEVELS}. Numbers that were "
            "read as text need `pd.to_numeric`; many levels need fewer, larger groups."
        )
    else:
        return Covariate(name, values, numeric)
    return None


def _check_group(frame: pd.DataFrame, name: str, problems: Problems) -> None:
    column = frame[name]
    levels = column.nunique()
    if column.isna().any() or not 2 <= levels <= _MOST_LEVELS:
        problems.add(
            f"`{name}` makes no groups: it has {levels} levels (2 to {_MOST_LEVELS}) and "
            f"{int(column.isna().sum())} missing values. Cut numbers into classes with `pd.cut`, fill "
            "what is missing."
        )


def _weights(frame: pd.DataFrame, weight: str | None, problems: Problems) -> FloatArray:
    if weight is None:
        return np.full(len(frame), 1.0 / len(frame))
    values = np.asarray(pd.to_numeric(frame[weight], errors="coerce"), dtype=float)
    if not (np.isfinite(values) & (values > 0)).all():
        problems.add(
            f"`{weight}` is not a positive number for "
            f"{int((~(np.isfinite(values) & (values > 0))).sum())} organizations."
        )
        return np.full(len(frame), 1.0 / len(frame))
    return np.asarray(values / values.sum())
