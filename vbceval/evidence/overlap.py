"""Which published results may be evidence about a new estimate: not those of the same program."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from vbceval.core.checks import listed, missing_columns
from vbceval.core.errors import DataError

_YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)(?!\d)(?:\s*[-\u2013/]\s*(\d\d)(?!\d))?")
"""A year, and the end of a range that is written in two digits."""


def independent_of(
    effects: pd.DataFrame,
    program: str | Sequence[str],
    *,
    years: tuple[int, int] | None = None,
) -> pd.DataFrame:
    """
    Say for every published effect whether it may serve as evidence beside a new estimate.

    A result of the same program may rest on the same people and years as the new estimate, which
    would then count twice. Such results are left out: all of them, or, where `years` are given,
    those whose years touch these and those whose years are not printed. A program is the same if
    its name is, letters in any case, up to what stands in brackets: "MSSP (Rural Health Clinics)"
    is MSSP.

    Parameters
    ----------
    effects : DataFrame
        From `spending_effects`; ``program`` is read and, with `years`, ``period``.
    program : str or sequence of str
        The program of the new estimate, with other names under which results are printed.
    years : (int, int), optional
        First and last calendar year of the data behind the new estimate, those before entry
        included.

    Returns
    -------
    DataFrame
        One row an effect, same order and index: ``program``, ``first_year``, ``last_year`` (of the
        years that ``period`` names, of 2013-15 the year 2015; missing where it names none), ``kept``
        and ``why`` ("" if kept). Years before entry that a result also rests on count only where
        ``period`` names them.

    Raises
    ------
    DataError
        If a column is missing, no program is named, or `years` are in the wrong order.

    Examples
    --------
    >>> table = pd.DataFrame({"program": ["MSSP", "mssp (clinics)", "CJR"],
    ...                       "period": ["PY2013", "first years", "2016-2018"]})
    >>> independent_of(table, "MSSP", years=(2016, 2019))["kept"].tolist()
    [True, False, True]
    """
    absent = missing_columns(effects, ["program", *(["period"] if years else [])])
    if absent:
        raise DataError(f"the published effects have no column {listed(absent)}. Add it.")
    names = [program] if isinstance(program, str) else list(program)
    if not any(_plain(name) for name in names):
        raise DataError("`program` names none; results of the same program could not be left out.")
    same = effects["program"].map(_plain).isin([_plain(name) for name in names]).to_numpy(bool)
    period = effects["period"].astype("string").fillna("") if "period" in effects else None
    found = [_years(t) for t in period] if period is not None else []
    table = effects[["program"]].copy()
    table["first_year"] = [float(min(y, default=np.nan)) for y in found] if found else np.nan
    table["last_year"] = [float(max(y, default=np.nan)) for y in found] if found else np.nan
    why = np.where(same, "same program", "").astype(object)
    if years is not None:
        first, last = years
        if first > last:
            raise DataError(f"`years` is ({first}, {last}); give the first year, then the last.")
        apart = (table["last_year"] < first) | (table["first_year"] > last)
        unknown = table["first_year"].isna()
        why[same & ~unknown.to_numpy()] = "same program, overlapping years"
        why[same & unknown.to_numpy()] = "same program, years not printed"
        why[apart.to_numpy(bool)] = ""
    return table.assign(kept=why == "", why=why)


def _plain(name: object) -> str:
    return str(name).split("(")[0].strip().casefold()


def _years(text: str) -> list[int]:
    out = []
    for year, end in _YEAR.findall(text):
        out.append(int(year))
        last = int(year[:2] + end) if end else 0
        # two digits that are no later year are a month
        out += [last] if last > int(year) else []
    return out
