"""Cells that cannot answer a hierarchical model, named before anything is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.core.typing import IntArray

_FEWEST = 3
_ROUNDING = 1e-10

Labels = tuple[str | None, ...]


def require_treated(table: pd.DataFrame, dropped: Mapping[str, float]) -> None:
    """
    Refuse cells without an effect to estimate.

    Parameters
    ----------
    table : DataFrame
        Usable cells: ``cluster``, ``cohort``, ``treated``, ``event_time``.
    dropped : mapping of str to float
        Cells left out, by reason; missing where a count may not be shown.

    Raises
    ------
    DesignError
        If no cell at or after entry is left.
    """
    if (table["treated"] & (table["event_time"] >= 0)).any():
        return
    if len(table) and table["cohort"].isna().all():
        raise DesignError(
            f"none of {table['cluster'].nunique():,} organizations is treated: their cohort, the "
            "period of entry, is missing in every cell, so there is no effect to estimate. Fill "
            "the column that `cohort` names for those that entered."
        )
    gone = ", ".join(
        f"{why}: {'fewer than 11' if np.isnan(count) else f'{count:,.0f}'}"
        for why, count in dropped.items()
    )
    raise DesignError(
        f"no cell at or after entry with an earlier untreated cell of the same unit is left "
        f"(left out, {gone}), so there is no effect to estimate. Check cohorts, periods and `window`."
    )


def require_comparison(table: pd.DataFrame, labels: Labels) -> None:
    """
    Refuse cells where nothing separates an effect from shocks, years or strata.

    Parameters
    ----------
    table : DataFrame
        Usable cells: ``cluster``, ``stratum``, ``period``, ``treated``.
    labels : tuple of str or None
        Names of the strata.

    Raises
    ------
    DesignError
        If organizations are fewer than three, a stratum is seen in treated organizations alone or
        in untreated ones alone, or a treated stratum and period has no untreated organization.
    """
    n = table["cluster"].nunique()
    if n < _FEWEST:
        raise DesignError(
            f"{n:,} organization{'s' if n != 1 else ''} cannot tell an effect from a shock to one "
            f"organization. Give at least {_FEWEST}; intervals can be trusted from about 20."
        )
    ever = table.groupby(["stratum", "cluster"])["treated"].any().groupby("stratum")
    n_treated, n_all = ever.sum(), ever.size()
    bare = [f"{labels[s]} ({n_all[s]:,} organizations)" for s in n_all.index[n_treated == 0]]
    if bare:
        raise DesignError(
            f"{_strata(len(bare))} no treated organization: {listed(bare)}. No effect can be "
            "estimated there, and no row of the result would say so. Leave "
            f"{'it' if len(bare) == 1 else 'them'} out, or merge strata."
        )
    has = table.groupby(["stratum", "period"])["treated"].agg(["any", "all"])
    alone = has[has["any"] & has["all"]]
    if not len(alone):
        return
    full = n_all.index[n_treated == n_all]
    said = [f"{labels[s]} ({n_all[s]:,} organizations)" for s in full]
    if 0 < len(full) < len(n_all):
        raise DesignError(
            f"{_strata(len(said))} treated organizations alone: {listed(said)}. In periods when "
            "all of them have entered nothing separates the effect from the year. Leave "
            f"{'it' if len(said) == 1 else 'them'} out, merge strata, or end `window` earlier."
        )
    cells = [
        f"period {t:g}" + ("" if labels[s] is None else f" of {labels[s]}") for s, t in alone.index
    ]
    raise DesignError(
        f"treated organizations have no untreated one beside them in {listed(cells)}. Nothing "
        "there separates the effect from the year. End `window` earlier, or leave these periods out."
    )


def _strata(n: int) -> str:
    return "one stratum has" if n == 1 else f"{n} strata have"


def still_strata(table: pd.DataFrame) -> IntArray:
    """
    Return the strata whose outcome never changes within a unit, though it is seen more than once.

    Parameters
    ----------
    table : DataFrame
        Usable cells: ``unit``, ``stratum``, ``y``.

    Returns
    -------
    array of int
        Codes of the strata.
    """
    groups = table.groupby(["unit", "stratum"])["y"]
    many = groups.transform("size") > 1
    mean = groups.transform("mean")
    # rounding of a mean is relative to it
    moves = (table["y"] - mean).abs() > _ROUNDING * mean.abs()
    seen = pd.DataFrame({"stratum": table["stratum"], "moves": moves})[many]
    any_moves = seen.groupby("stratum")["moves"].any()
    return np.asarray(any_moves.index[~any_moves], dtype=np.int64)


def require_variation(table: pd.DataFrame, labels: Labels, outcome: str) -> None:
    """
    Refuse strata whose outcome never changes within a unit.

    Parameters
    ----------
    table, labels
        As in `still_strata` and `require_comparison`.
    outcome : str
        Name of the outcome.

    Raises
    ------
    DesignError
        Naming the strata.
    """
    still = still_strata(table)
    if not len(still):
        return
    where = [labels[s] for s in still if labels[s] is not None]
    said = f" in {listed(where)}" if where else ""
    raise DesignError(
        f"`{outcome}` is the same in every period of each unit{said}. Means of persons never are: "
        "with no variation the spread of shocks would be that of the prior, and intervals would "
        "mean nothing. Look for a value that was carried forward, averaged over periods or imputed."
    )


def require_known(value: Any, labels: Labels, name: str) -> None:
    """
    Refuse numbers by stratum of strata that the data do not have.

    Parameters
    ----------
    value : number or mapping
        An option.
    labels : tuple of str or None
        Names of all strata of the data.
    name : str
        Name of the option.

    Raises
    ------
    DesignError
        Naming the keys that would change nothing.
    """
    if not isinstance(value, Mapping):
        return
    known = {key for label in labels if label for key in (label, label.split("=", 1)[-1])}
    other = [key for key in value if str(key) not in known]
    if other:
        have = (
            listed(x for x in labels if x) or "none: name `strata` in the panel, or give a number"
        )
        raise DesignError(
            f"`{name}` names {listed(other)}, which the data have not as strata, so it would change "
            f"nothing. Strata are {have}."
        )
