"""Differences between runs of one analysis, each with its own interval."""

from __future__ import annotations

from collections.abc import Mapping

from vbceval.core.errors import DesignError
from vbceval.estimates import Estimates, stack
from vbceval.sensitivity.given import require_estimates
from vbceval.sensitivity.smooth import require_same_units

KEYS = ["estimand", "outcome", "cohort", "period", "event_time", "stratum"]
"""What must be the same in rows that are subtracted."""


def require_same_keys(runs: Mapping[str, Estimates], reference: str) -> None:
    """
    Raise DesignError unless all runs have the rows of one of them, in its order and units.

    Parameters
    ----------
    runs : mapping of str to Estimates
        By name.
    reference : str
        Name of that one.
    """
    for name, run in runs.items():
        require_estimates(run, name)
    # a missing key is missing, whether None or nan
    first = runs[reference].frame[KEYS].astype(object).fillna("")
    for name, run in runs.items():
        other = run.frame[KEYS].astype(object).fillna("")
        if len(other) != len(first) or not other.equals(first):
            raise DesignError(
                f"run '{name}' does not have the rows of '{reference}', so they cannot be "
                "subtracted. Aggregate both in the same way, or select common rows with `where`."
            )
        require_same_units(run, runs[reference], (name, reference))


def differences(runs: Mapping[str, Estimates], *, reference: str) -> Estimates:
    """
    Stack named runs and subtract the reference from each, row by row.

    The interval of a difference comes from the joint influence of both runs. It is not the
    difference of their intervals: runs on the same organizations are highly correlated.

    Parameters
    ----------
    runs : mapping of str to Estimates
        Each with the same rows in the same order, and an influence matrix on the same clusters.
    reference : str
        Name of the run that others are compared with.

    Returns
    -------
    Estimates
        All rows of all runs (column ``run``), then, for every other run, the rows of the
        difference, with ``estimand`` prefixed by ``difference_`` and ``run`` = "name - reference".

    Raises
    ------
    DesignError
        If the reference is not among the runs, or rows or units of measure differ.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> def run(estimate, psi):
    ...     frame = pd.DataFrame({"estimand": ["att_simple"], "outcome": ["spend"],
    ...                           "estimate": [estimate]})
    ...     return Estimates(frame=frame, psi=np.array(psi)[:, None], clusters=pd.Index([1, 2, 3]))
    >>> both = differences({"a": run(-10.0, [1, -2, 1]), "b": run(-9.0, [1, -2, 1.5])},
    ...                    reference="a")
    >>> both.tidy()[["run", "estimate", "std_error"]].round(2).values.tolist()
    [['a', -10.0, 2.45], ['b', -9.0, 2.69], ['b - a', 1.0, 0.5]]
    """
    if reference not in runs:
        raise DesignError(f"`reference` is '{reference}', but the runs are {list(runs)}.")
    require_same_keys(runs, reference)
    first = runs[reference].frame[KEYS].astype(object)
    k = len(first)
    all_runs = stack(list(runs.values()), labels=list(runs))
    start = {name: i * k for i, name in enumerate(runs)}
    parts = [all_runs]
    for name in runs:
        if name == reference:
            continue
        coefficients = {
            str(row): {start[name] + row: 1.0, start[reference] + row: -1.0} for row in range(k)
        }
        gap = all_runs.contrast(coefficients)
        estimand = "difference_" + first["estimand"].astype(str).to_numpy()
        frame = gap.frame.assign(estimand=estimand, run=f"{name} - {reference}")
        for key in KEYS[1:]:
            frame[key] = runs[reference].frame[key].to_numpy()
        parts.append(gap.with_frame(frame))
    return stack(parts)
