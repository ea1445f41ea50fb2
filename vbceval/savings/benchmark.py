"""Benchmark savings: what the program's own accounting says, never an effect."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from vbceval.core.checks import listed, missing_columns
from vbceval.core.errors import DataError


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
        If columns or values are missing.
    """
    needed = ["benchmark", "expenditure", "earned"]
    absent = missing_columns(results, [*needed, *by])
    if absent:
        raise DataError(f"the results table has no column {listed(absent)}.")
    empty = results[needed].isna().sum()
    if empty.any():
        counts = ", ".join(f"`{name}` in {n}" for name, n in empty[empty > 0].items())
        raise DataError(f"values are missing: {counts} rows, so totals would be too small.")
    frame = results.assign(n_organizations=1, n_paid=(results["earned"] > 0).astype(int))
    columns = ["n_organizations", "n_paid", *needed]
    keys = list(by)
    total = (
        frame.groupby(keys, as_index=False)[columns].sum()
        if keys
        else frame[columns].sum().to_frame().T.astype({"n_organizations": int, "n_paid": int})
    )
    total["benchmark_savings"] = total["benchmark"] - total["expenditure"]
    total = total.rename(columns={"earned": "payments"})
    total["benchmark_savings_net"] = total["benchmark_savings"] - total["payments"]
    return total
