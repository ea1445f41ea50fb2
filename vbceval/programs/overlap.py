"""Overlap of programs: each dollar of incentive is assigned once, and exposure is shown."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib import resources

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed, missing_columns, text_rows


def overlap_rules() -> pd.DataFrame:
    """
    Return what holds for pairs of programs: ``first second rule status source``.

    Examples
    --------
    >>> rules = overlap_rules()
    >>> rules.query("first == 'bpci' and second == 'mssp'").status.item()
    'secondary'
    """
    text = (resources.files("vbceval.programs") / "overlap.toml").read_text("utf-8")
    return pd.DataFrame(tomllib.loads(text)["pairs"])


def assign_once(frame: pd.DataFrame, *, precedence: Sequence[str]) -> pd.DataFrame:
    """
    Assign savings of people or episodes that several programs cover, each dollar once.

    The program that comes first in `precedence` is settled on claims. Its payment is then spending
    of the next program, and so on, as CMS does for bundles of ACO patients.

    Parameters
    ----------
    frame : DataFrame
        One row a unit and program: ``unit program benchmark claims share``. Benchmark (or target
        price) and claims in dollars; share is the part of savings and losses that is paid (1 for
        a bundle). Units may be organizations, or groups of episodes.
    precedence : sequence of str
        Programs, the first to be settled first.

    Returns
    -------
    DataFrame
        The rows in their order with ``expenditure`` (claims and payments of programs before),
        ``savings`` (benchmark less expenditure), ``payment`` and ``savings_alone`` (benchmark less
        claims, which counts the same dollar in several programs). With a share below 1, what a
        program does not pay remains savings of the next.

    Raises
    ------
    DataError
        Listing everything wrong with the table.

    Examples
    --------
    A bundle with a target of 24,000 and claims of 21,500 pays 2,500; the ACO of the patient then
    has saved nothing more.

    >>> rows = pd.DataFrame({
    ...     "unit": ["a", "a"], "program": ["mssp", "bpci"], "benchmark": 24_000.0,
    ...     "claims": 21_500.0, "share": [0.5, 1.0],
    ... })
    >>> ledger = assign_once(rows, precedence=["bpci", "mssp"])
    >>> ledger[["program", "expenditure", "savings", "payment"]].values.tolist()
    [['mssp', 24000.0, 0.0, 0.0], ['bpci', 21500.0, 2500.0, 2500.0]]
    >>> float(ledger["savings"].sum()), float(ledger["savings_alone"].sum())
    (2500.0, 5000.0)
    """
    _check(frame, precedence)
    out = frame.copy()
    benchmark, claims, share = (
        out[name].to_numpy(dtype=float) for name in ("benchmark", "claims", "share")
    )
    units = pd.factorize(out["unit"])[0]
    paid = np.zeros(units.max(initial=-1) + 1)
    expenditure, payment = claims.copy(), np.zeros(len(out))
    for program in precedence:
        rows = np.flatnonzero((out["program"] == program).to_numpy())
        expenditure[rows] += paid[units[rows]]
        payment[rows] = share[rows] * (benchmark[rows] - expenditure[rows])
        paid[units[rows]] += payment[rows]
    out["expenditure"] = expenditure
    out["savings"] = benchmark - expenditure
    out["payment"] = payment
    out["savings_alone"] = out["benchmark"] - out["claims"]
    return out


def exposure_cells(
    frame: pd.DataFrame, *, unit: str = "unit", period: str = "period"
) -> pd.DataFrame:
    """
    Return for each unit and period the programs that cover it, as cells that exclude each other.

    Parameters
    ----------
    frame : DataFrame
        One row a unit, period and program (column ``program``); an empty program is none. Rows
        may repeat.
    unit, period : str
        Columns of the unit (organization) and the period.

    Returns
    -------
    DataFrame
        ``unit period cell n_programs``; the cell holds the programs in alphabetical order, joined
        by `` + ``, or ``none``.

    Raises
    ------
    DataError
        If a column or a unit or period is missing.

    Examples
    --------
    >>> rows = pd.DataFrame({"unit": ["a", "a", "b"], "period": 2015, "program": ["mssp", "bpci", None]})
    >>> exposure_cells(rows)["cell"].tolist()
    ['bpci + mssp', 'none']
    """
    found = Problems("the table of exposure")
    absent = missing_columns(frame, [unit, period, "program"])
    if absent:
        found.add(f"{listed(absent)} are missing. Add them.")
    blank = [name for name in (unit, period) if name in frame and frame[name].isna().any()]
    if blank:
        found.add(f"{listed(blank)} hold missing values. Fill them in, or leave rows out.")
    found.raise_if_any()
    rows = frame[[unit, period, "program"]].drop_duplicates()
    rows["program"] = rows["program"].replace("", None)
    grouped = rows.groupby([unit, period], sort=True)["program"]
    cells = grouped.agg(lambda held: " + ".join(sorted(held.dropna().astype(str))) or "none")
    out = cells.rename("cell").reset_index()
    out["n_programs"] = grouped.nunique().to_numpy()
    return out


def _check(frame: pd.DataFrame, precedence: Sequence[str]) -> None:
    found = Problems("the table of overlaps")
    absent = missing_columns(frame, ["unit", "program", "benchmark", "claims", "share"])
    if absent:
        found.add(f"{listed(absent)} are missing. Add them.")
        found.raise_if_any()
    if len(set(precedence)) < len(precedence):
        found.add(f"`precedence` names a program twice: {listed(precedence)}. Name each once.")
    unknown = sorted(set(frame["program"].dropna().astype(str)) - set(precedence))
    if unknown or frame["program"].isna().any():
        found.add(
            f"programs without a place in `precedence`: {listed(unknown or ['missing'])}, so who is "
            "settled first is not known. Add them."
        )
    if frame["unit"].isna().any():
        found.add("rows have no `unit`. Fill it in.")
    if frame.duplicated(["unit", "program"]).any():
        found.add("a unit has the same program more than once. Keep one row for each, added up.")
    for name in ("benchmark", "claims", "share"):
        values = pd.to_numeric(frame[name], errors="coerce")
        if len(text_rows(frame[name])) or values.isna().any():
            found.add(
                f"`{name}` holds missing values or text, so nothing can be assigned. Fill it in."
            )
        elif (values < 0).any() or np.isinf(values).any():
            found.add(f"`{name}` holds negative or infinite values. Correct them.")
        elif name == "share" and (values > 1).any():
            found.add("`share` holds values above 1. It is a fraction: divide percents by 100.")
    found.raise_if_any()
