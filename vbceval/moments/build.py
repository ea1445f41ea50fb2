"""From rows, or exact sums, to cells: the fields of `Moments`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, is_date, listed, missing_columns, text_rows
from vbceval.core.disclosure import say_people
from vbceval.core.errors import DataError
from vbceval.core.groups import Groups
from vbceval.core.typing import FloatArray
from vbceval.moments.sums import Sums, people_column
from vbceval.panel import Panel
from vbceval.panel.checks import check_once

_MOST_LEVELS = 50


def block_fields(sums: Sums, block: tuple[str, ...], meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `Moments` of one group of outcomes of exact sums."""
    schema = sums.schema
    parts = sums.arrays(block)
    rows = parts.pop("rows")
    table = sums.table.select(list(schema.keys)).to_pandas()[rows].reset_index(drop=True)
    cells = table.rename(columns={schema.cluster: "unit", schema.period: "period"})
    people = parts["n"]
    if schema.unit is not None:
        people = sums.table.column(people_column(schema.alone(block))).to_numpy()[rows]
    units = sums.clusters.assign(cluster=sums.clusters.index)[["cluster", "cohort", "exit"]]
    return {
        **parts, "cells": cells, "n_units": people, "units": units.rename_axis("unit"),
        "outcomes": block, "covariates": schema.covariates, "strata": schema.strata,
        "unit_name": schema.cluster, "period_name": schema.period, "cluster_name": schema.cluster,
        "kind": "repeated_cross_section", "people": False, "meta": dict(meta),
    }  # fmt: skip


def panel_fields(
    panel: Panel,
    *,
    outcomes: Sequence[str],
    covariates: Sequence[str],
    strata: Sequence[str] | None,
    by: Literal["row", "cluster"],
) -> dict[str, Any]:
    """
    Return the fields of `Moments` of a panel; parameters and errors of `Moments.from_panel`.

    Raises
    ------
    DataError
        As there.
    """
    for name, value in (("outcomes", outcomes), ("covariates", covariates), ("strata", strata)):
        if isinstance(value, str):
            raise DataError(f"`{name}` is the text '{value}'; give a list, ['{value}'].")
    keys = tuple(panel.strata if strata is None else strata)
    y = outcome_columns(panel.frame, tuple(outcomes))
    x, names, factors = covariate_columns(panel.frame, tuple(covariates))
    frame = panel.frame
    ones = np.ones(len(frame))
    w = ones if panel.weight is None else frame[panel.weight].to_numpy(dtype=float)
    exposure = None if panel.exposure is None else frame[panel.exposure].to_numpy(dtype=float)
    shared: dict[str, Any] = {
        "outcomes": tuple(outcomes), "covariates": names, "strata": keys, "factors": factors,
        "period_name": panel.period, "cluster_name": panel.cluster,
    }  # fmt: skip
    absent = [s for s in keys if s not in frame]
    if absent:
        raise DataError(f"the panel has no stratum column {listed(absent)}.")
    unknown = [s for s in keys if frame[s].isna().any()]
    if unknown:
        raise DataError(
            f"stratum {listed(unknown)} is missing in some rows, which would belong to no "
            "stratum. Name the missing level, for example with `fillna('unknown')`."
        )
    if by == "row":
        if panel.kind == "panel" and keys != tuple(panel.strata):
            # by its own strata the panel has been checked
            check_once(frame, [panel.unit, panel.period, *keys], people=panel.people)
        cells = frame[[panel.unit, panel.period, *keys]].set_axis(["unit", "period", *keys], axis=1)
        one = np.ones(len(frame), dtype=np.int64)
        return {
            "cells": cells, "n": one, "n_units": one, "w": w, "w2": w * w, "x_mean": x, "y_mean": y,
            "xx": None, "xy": None, "yy": None, "exposure": exposure,
            "units": unit_table(panel, panel.unit), "unit_name": panel.unit, "kind": panel.kind,
            "people": panel.people, **shared,
        }  # fmt: skip
    parts = accumulate(
        frame[[panel.cluster, panel.period, *keys]].set_axis(["unit", "period", *keys], axis=1),
        unit=frame[panel.unit], w=w, x=x, y=y, exposure=exposure,
    )  # fmt: skip
    return {
        **parts, "units": unit_table(panel, panel.cluster), "unit_name": panel.cluster,
        "kind": "repeated_cross_section", "people": panel.people and panel.unit == panel.cluster,
        **shared,
    }  # fmt: skip


def outcome_columns(frame: pd.DataFrame, outcomes: tuple[str, ...]) -> FloatArray:
    """
    Return outcomes as an array, shape (n, m), missing as NaN.

    Raises
    ------
    DataError
        If a column is absent, holds text or infinite values, or has no value at all.
    """
    absent = missing_columns(frame, outcomes)
    if absent:
        raise DataError(f"the panel has no outcome column {listed(absent)}.")
    problems = Problems("the outcomes")
    out = np.empty((len(frame), len(outcomes)))
    for j, name in enumerate(outcomes):
        wrong = text_rows(frame[name])
        if len(wrong):
            problems.add(
                f"`{name}` holds text in {len(wrong):,} rows (first position {wrong[0]}), so it "
                "is not a number. Convert it before building the panel."
            )
            continue
        values = pd.to_numeric(frame[name]).to_numpy(dtype=float, na_value=np.nan)
        if np.isinf(values).any():
            problems.add(f"`{name}` is infinite in {int(np.isinf(values).sum()):,} rows.")
        if np.isnan(values).all():
            problems.add(f"`{name}` is missing in every row.")
        out[:, j] = values
    problems.raise_if_any()
    return out


def covariate_columns(
    frame: pd.DataFrame, covariates: tuple[str, ...]
) -> tuple[FloatArray, tuple[str, ...], Mapping[str, tuple[str, ...]]]:
    """
    Return covariates as an array, shape (n, p), their names, and what stands for each factor.

    Text, categorical and boolean columns become 0/1 columns ``name[level]`` for every level but
    the first in sorted order, as R does; a missing level is missing in all of them.

    Raises
    ------
    DataError
        If a column is absent.
    """
    absent = missing_columns(frame, covariates)
    if absent:
        raise DataError(f"the panel has no covariate column {listed(absent)}.")
    columns: list[FloatArray] = []
    names: list[str] = []
    factors: dict[str, tuple[str, ...]] = {}
    for name in dict.fromkeys(covariates):
        series = frame[name]
        if is_date(series):
            raise DataError(f"covariate `{name}` holds dates; use a number such as the year.")
        if pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series):
            column = series.to_numpy(dtype=float, na_value=np.nan)
            if np.isinf(column).any():
                raise DataError(
                    f"covariate `{name}` is infinite in {int(np.isinf(column).sum()):,} rows."
                )
            columns.append(column)
            names.append(name)
            continue
        levels = _levels(series)
        if len(levels) > _MOST_LEVELS:
            raise DataError(
                f"covariate `{name}` is text with {len(levels):,} different values, more than the "
                f"{_MOST_LEVELS} that a category may have. Convert numbers with "
                "`pandas.to_numeric`, or group the categories; identifiers are no covariates."
            )
        missing = series.isna().to_numpy()
        made = []
        for level in levels[1:]:
            column = (series == level).to_numpy(dtype=float, na_value=np.nan)
            column[missing] = np.nan
            columns.append(column)
            made.append(f"{name}[{level}]")
        names += made
        factors[name] = tuple(made)
    x = np.column_stack(columns) if columns else np.empty((len(frame), 0))
    return x, tuple(names), factors


def _levels(series: pd.Series) -> list[Any]:
    if isinstance(series.dtype, pd.CategoricalDtype):
        present = set(series.dropna().unique())
        return [x for x in series.cat.categories if x in present]
    return sorted(series.dropna().unique(), key=lambda level: (str(type(level)), level))


def accumulate(
    keys: pd.DataFrame,
    *,
    unit: pd.Series,
    w: FloatArray,
    x: FloatArray,
    y: FloatArray,
    exposure: FloatArray | None,
) -> dict[str, Any]:
    """
    Add rows up within equal keys, moments centred at the cell's own weighted mean.

    Rows with a missing covariate or outcome are left out of every moment, because a shared
    covariate matrix is only right for rows that have the outcome.

    Parameters
    ----------
    keys : DataFrame, n rows
        Columns ``unit`` (label of the cell's owner), ``period`` and strata.
    unit : Series, n rows
        What is counted in ``n_units``.
    w : array, shape (n,)
        Weights.
    x, y : arrays, shape (n, p), (n, m)
        Covariates and outcomes.
    exposure : array, shape (n,), or None
        Denominators, added up.

    Raises
    ------
    DataError
        If several outcomes are missing on different rows.

    Returns
    -------
    dict
        Fields of `Moments`: cells, n, n_units, w, w2, x_mean, y_mean, xx, xy, yy, exposure.
    """
    has_y = ~np.isnan(y)
    if (has_y != has_y[:, :1]).any():
        raise DataError(
            "outcomes are missing on different rows, and moments that share one covariate matrix "
            "would be wrong for each. Take the moments of these outcomes one at a time."
        )
    keep = has_y.all(axis=1) & ~np.isnan(x).any(axis=1)
    keys, unit, w, x, y = keys[keep], unit[keep], w[keep], x[keep], y[keep]
    grouped = keys.groupby(list(keys.columns), sort=True)
    code = grouped.ngroup().to_numpy()
    cells = keys.iloc[np.unique(code, return_index=True)[1]].reset_index(drop=True)
    size = len(cells)

    def add(values: FloatArray) -> FloatArray:
        return np.bincount(code, weights=values, minlength=size)

    total = add(w)
    x_mean = np.column_stack([add(w * c) / total for c in x.T]) if x.shape[1] else x[:size]
    y_mean = np.column_stack([add(w * c) / total for c in y.T])
    dx, dy = x - x_mean[code], y - y_mean[code]
    p, m = x.shape[1], y.shape[1]
    xx, xy = np.empty((size, p, p)), np.empty((size, p, m))
    for i in range(p):
        for j in range(i + 1):
            xx[:, i, j] = xx[:, j, i] = add(w * dx[:, i] * dx[:, j])
        for j in range(m):
            xy[:, i, j] = add(w * dx[:, i] * dy[:, j])
    yy = np.column_stack([add(w * c * c) for c in dy.T])
    pairs = pd.DataFrame({"code": code, "unit": unit.to_numpy()}).drop_duplicates()
    return {
        "cells": cells,
        "n": np.bincount(code, minlength=size),
        "n_units": np.bincount(pairs["code"], minlength=size),
        "w": total,
        "w2": add(w * w),
        "x_mean": x_mean,
        "y_mean": y_mean,
        "xx": xx,
        "xy": xy,
        "yy": yy,
        "exposure": None if exposure is None else add(exposure[keep]),
    }


def unit_table(panel: Panel, key: str) -> pd.DataFrame:
    """
    Return a row a unit (or cluster): ``cluster``, ``cohort``, ``exit``.

    Raises
    ------
    DataError
        If a unit has several cohorts or clusters.
    """
    frame = panel.frame
    owners = Groups.of(frame[key])
    mixed = int(owners.changing(frame[panel.cohort]).sum())
    if panel.kind == "repeated_cross_section" and key == panel.unit:
        clusters = int(owners.changing(frame[panel.cluster]).sum())
        for name, changes in ((panel.cohort, mixed), (panel.cluster, clusters)):
            if changes:
                raise DataError(
                    f"`{name}` changes within {say_people(changes, 'units')}, but rows "
                    "of one unit belong to one cohort and cluster. Use a row number as `unit` if "
                    "rows are not linked."
                )
    if key == panel.cluster and mixed:
        raise DataError(
            f"`{panel.cohort}` changes within {mixed:,} clusters of "
            f"`{panel.cluster}`, so cells by cluster would mix cohorts. Take moments with "
            "by='row', or cluster on what enters together."
        )
    first = frame.iloc[owners.first]
    table = pd.DataFrame(
        {
            "unit": first[key],
            "cluster": first[panel.cluster],
            "cohort": first[panel.cohort],
            "exit": np.nan if panel.exit is None else first[panel.exit],
        }
    )
    return table.set_index("unit")
