"""Smooth functions of estimates, by their derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates
from vbceval.sensitivity.given import require_estimates

_WHEN = ("cohort", "period", "event_time")
_KEYS = ("outcome", *_WHEN)


def smooth(
    joint: Estimates,
    value: FloatArray,
    gradient: FloatArray,
    columns: Mapping[str, Any],
    said: Mapping[str, Any],
) -> Estimates:
    """
    Return functions of estimates, with the influence that their derivatives give.

    Parameters
    ----------
    joint : Estimates, k rows
        Their arguments.
    value : array, shape (m,)
        Values of the functions at the estimates.
    gradient : array, shape (m, k)
        Derivatives.
    columns : mapping
        Columns of the frame of the result, shape (m,) each.
    said : mapping
        Added to ``meta``.

    Returns
    -------
    Estimates, m rows
        A row that is one of the arguments keeps estimate and error to the bit, without its
        bootstrap test; degrees of freedom as in `contrast`.
    """
    linear = joint.contrast(gradient)
    frame = linear.frame.assign(**columns)
    out = linear.shifted(frame, value - linear.estimate)
    return replace(out, meta={**joint.meta, **said})


def values_and_rows(
    given: float | Sequence[float] | Estimates, k: int, name: str
) -> tuple[FloatArray, Estimates | None]:
    """
    Return k values of an argument that may be estimated, and its estimates if it is.

    Parameters
    ----------
    given : float, sequence or Estimates
        One value for all rows, or one a row.
    k : int
        Rows.
    name : str
        Of the argument, for messages.

    Returns
    -------
    value : array, shape (k,)
    estimates : Estimates or None

    Raises
    ------
    DesignError
        If there are neither one nor k values, or one is not finite.
    """
    estimates = given if isinstance(given, Estimates) else None
    found = np.atleast_1d(
        given.estimate if isinstance(given, Estimates) else np.array(given, float)
    )
    if found.ndim != 1 or len(found) not in (1, k) or not np.isfinite(found).all():
        raise DesignError(
            f"`{name}` has {found.size} values, but there are {k} rows. Give one finite value for "
            "all rows, or one for each."
        )
    return np.broadcast_to(found, (k,)).copy(), estimates


def places(estimates: Estimates, rows: Estimates, name: str) -> FloatArray:
    """
    Return which row of an estimated argument belongs to each row, shape (k, its rows).

    Parameters
    ----------
    estimates : Estimates
        The argument: one row for all, or one for each in the same order.
    rows : Estimates, k rows
        What it is for.
    name : str
        Of the argument.

    Raises
    ------
    DesignError
        If one for each is of other cohorts, periods or event times; a missing key is any.
    """
    k, m = len(rows), len(estimates)
    if m == 1:
        return np.ones((k, 1))
    for key in _WHEN:
        own, of = (e.frame[key].to_numpy(dtype=float) for e in (estimates, rows))
        if ((own != of) & ~np.isnan(own)).any():
            raise DesignError(
                f"`{name}` is not in the order of the rows it is for: its {key} differs. Make it for "
                "these rows (`attributed_share` takes them as `of`), or give numbers."
            )
    return np.eye(m)


def require_shares(value: FloatArray, name: str) -> None:
    """
    Raise DesignError unless values are strictly between 0 and 1.

    Parameters
    ----------
    value : array, shape (k,)
        Shares.
    name : str
        Of the argument.
    """
    bad = value[~((value > 0) & (value < 1))]
    if len(bad):
        raise DesignError(
            f"`{name}` has the value {bad[0]:g}; a share is strictly between 0 and 1 (12 percent "
            "is 0.12)."
        )


def require_same_rows(
    one: Estimates, other: Estimates, names: tuple[str, str], *, but: Sequence[str] = ()
) -> None:
    """
    Raise DesignError unless two results have the same rows, in the same units of measure.

    Parameters
    ----------
    one, other : Estimates
        To be combined row by row.
    names : (str, str)
        How messages call them.
    but : sequence of str
        Keys in which they may differ; results with other outcomes may have other units. "stratum"
        allows for one stratum in each: with several, which belongs to which must be the same.
    """
    several = max(e.frame["stratum"].nunique(dropna=False) for e in (one, other)) > 1
    keys = [key for key in ("estimand", *_KEYS, "stratum") if key not in but]
    if "stratum" in but and several:
        keys.append("stratum")
    first, second = (e.frame[keys].astype(object).fillna("") for e in (one, other))
    if not first.equals(second):
        raise DesignError(
            f"`{names[0]}` ({len(one)} rows) and `{names[1]}` ({len(other)} rows) do not have the "
            f"same {listed(keys)} in the same order, so they cannot be combined. Aggregate both in the same way, or select rows with `where`."
        )
    if "outcome" not in but:
        require_same_units(one, other, names)


def require_same_units(one: Estimates, other: Estimates, names: tuple[str, str]) -> None:
    """
    Raise DesignError unless two results have the same units of measure, row by row.

    Parameters
    ----------
    one, other : Estimates
        With the same number of rows.
    names : (str, str)
        How messages call them.
    """
    pairs = zip(*(e.frame["unit_of_measure"].fillna("none") for e in (one, other)), strict=True)
    other_units = [pair for pair in pairs if pair[0] != pair[1]]
    if other_units:
        raise DesignError(
            f"`{names[0]}` and `{names[1]}` are in different units of measure "
            f"({listed(other_units[0])}). Convert one with `scale`."
        )


def require_influence(estimates: Estimates, name: str) -> None:
    """
    Raise EstimationError where an argument has no influence.

    Parameters
    ----------
    estimates : Estimates
        The argument.
    name : str
        Of the argument.
    """
    require_estimates(estimates, name)
    if estimates.psi is None:
        raise EstimationError(
            f"`{name}` carries no influence of clusters, so its covariance with the others is "
            "unknown. Fit it with a covariance by cluster ('CR1', 'CR2')."
        )


def common_stratum(one: Estimates, other: Estimates) -> list[str | None]:
    """Return the stratum of rows that both results have, none where they differ."""
    pairs = zip(one.frame["stratum"], other.frame["stratum"], strict=True)
    return [a if a == b else None for a, b in pairs]


def keys_of(estimates: Estimates) -> dict[str, Any]:
    """Return columns that say what each row is about, without estimand and stratum."""
    return {key: estimates.frame[key].to_numpy() for key in (*_KEYS, "unit_of_measure")}
