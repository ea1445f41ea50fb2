"""Benchmark savings: what the program's own accounting says, never an effect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed, missing_columns, text_rows
from vbceval.core.errors import DataError, DesignError

_NEEDED = ("benchmark", "expenditure", "earned")


def benchmark_savings(results: pd.DataFrame, *, by: Sequence[str] = ()) -> pd.DataFrame:
    """
    Add up benchmark less expenditures and payments over organization-years.

    Parameters
    ----------
    results : DataFrame
        One row an organization and year: ``benchmark``, ``expenditure`` and ``earned`` (paid to
        the organization, negative if owed), nominal dollars.
    by : sequence of str
        Keys of the result; without keys one row.

    Returns
    -------
    DataFrame
        Columns `by`, ``n_organizations`` (rows), ``n_paid`` (rows with a positive payment),
        ``benchmark``, ``expenditure``, ``benchmark_savings`` (benchmark less expenditure),
        ``payments``, ``benchmark_savings_net`` (after payments), nominal dollars.

    Raises
    ------
    DataError
        If columns or values are missing or hold text, or a benchmark is not positive.
    DesignError
        If `by` is not a list of columns, or holds one that is added up.
    """
    keys = list(by)
    if isinstance(by, str) or set(keys) & set(_NEEDED):
        raise DesignError(
            f"`by` is {by!r}; give a list of keys, such as ['period'], without {listed(_NEEDED)}."
        )
    frame = _checked(results, keys)
    frame = frame.assign(n_organizations=1, n_paid=(frame["earned"] > 0).astype(int))
    columns = ["n_organizations", "n_paid", *_NEEDED]
    total = (
        frame.groupby(keys, as_index=False)[columns].sum()
        if keys
        else frame[columns].sum().to_frame().T.astype({"n_organizations": int, "n_paid": int})
    )
    total["benchmark_savings"] = total["benchmark"] - total["expenditure"]
    total = total.rename(columns={"earned": "payments"})
    total["benchmark_savings_net"] = total["benchmark_savings"] - total["payments"]
    return total


def benchmark_statement(results: pd.DataFrame) -> pd.DataFrame:
    """
    Set out benchmark savings, payments and what is left, to be shown beside impact savings.

    Parameters
    ----------
    results : DataFrame
        Organization-years, as `benchmark_savings` takes them: those that the effect is about.

    Returns
    -------
    DataFrame
        Rows with ``measure`` "benchmark", in the columns of `statement`, whose rows have the measure
        "impact": `vbceval.figures.gross_to_net` draws both together, each in a panel of its own.
        Benchmark savings are known, so there are no intervals.

    Raises
    ------
    DataError
        If columns or values are missing or hold text, or a benchmark is not positive.

    Examples
    --------
    >>> acos = pd.DataFrame({"benchmark": [100.0, 80.0], "expenditure": [90.0, 82.0],
    ...                      "earned": [5.0, 0.0]})
    >>> benchmark_statement(acos)[["component", "amount"]].values.tolist()
    [['Gross', 8.0], ['Payments less repayments', 5.0], ['Net', 3.0]]
    """
    total = benchmark_savings(results).iloc[0]
    return pd.DataFrame(
        {
            "measure": "benchmark",
            "kind": ["gross", "payment", "net"],
            "component": ["Gross", "Payments less repayments", "Net"],
            "amount": [
                float(total[name])
                for name in ("benchmark_savings", "payments", "benchmark_savings_net")
            ],
            "conf_low": np.nan,
            "conf_high": np.nan,
        }
    )


def _checked(results: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return the keys and amounts of a table that has them in every row."""
    absent = missing_columns(results, [*_NEEDED, *keys])
    if absent:
        raise DataError(f"the results table has no column {listed(absent)}.")
    problems = Problems("the results table")
    empty = results[[*_NEEDED, *keys]].isna().sum()
    if empty.any():
        counts = ", ".join(f"`{name}` in {n}" for name, n in empty[empty > 0].items())
        problems.add(f"values are missing: {counts} rows, so totals would be too small.")
    text = [name for name in _NEEDED if len(text_rows(results[name]))]
    if text:
        problems.add(f"{listed(text)} hold text. Make them numbers.")
    problems.raise_if_any()
    frame = results[[*_NEEDED, *keys]].astype(dict.fromkeys(_NEEDED, float))
    low = int((~(frame["benchmark"] > 0)).sum())
    if low:
        raise DataError(
            f"`benchmark` is not positive in {low} rows. Correct it, or leave these rows out."
        )
    return frame
