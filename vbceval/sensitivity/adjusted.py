"""P-values adjusted for the number of tests: across outcomes, strata, periods."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates
from vbceval.inference import step_down
from vbceval.sensitivity.given import require_estimates

Adjustment = Literal["romano_wolf", "holm", "bh", "by"]

_WHAT = {
    "romano_wolf": "family-wise error, steps down the joint law (Romano-Wolf)",
    "holm": "family-wise error (Holm)",
    "bh": "false discovery rate (Benjamini-Hochberg)",
    "by": "false discovery rate, any dependence (Benjamini-Yekutieli)",
}
_MOST_ROWS = 200
"""Rows of a family whose joint law is still drawn in memory that any machine has."""


def multiplicity(
    est: Estimates, *, method: Adjustment = "romano_wolf", family: str | None = None
) -> Estimates:
    """
    Adjust p-values for testing several rows.

    Declare the family before estimates are seen: usually the primary outcome over its strata, or
    the primary outcomes. Family-wise methods bound the chance of any false rejection, and suit
    confirmatory tests; false discovery rates suit a screen of many outcomes.

    Parameters
    ----------
    est : Estimates, k rows
        Rows to test, for example of ``vbc.stack([...])``. Rows without error (a reference
        period) are no test and stay without p-value.
    method : {"romano_wolf", "holm", "bh", "by"}
        - "romano_wolf": steps down the joint law of the t statistics, so that correlated tests
          cost less; needs the covariance between rows, which `Estimates` always has.
        - "holm": family-wise, whatever the dependence, from the p-values alone.
        - "bh": false discovery rate, for independent or positively dependent tests.
        - "by": false discovery rate, any dependence.
    family : str, optional
        Column of the frame; rows with the same value are one family. Default: all rows are.

    Returns
    -------
    Estimates
        The same rows with columns ``p_adjusted`` and ``p_adjustment``, the name of the method.

    Raises
    ------
    DesignError
        If the method or the column is not known, or a family has more than 200 rows for
        "romano_wolf".
    EstimationError
        If the estimates are a posterior, which has no p-values.

    References
    ----------
    .. [1] Romano, J. P. and Wolf, M. (2005). Exact and approximate stepdown methods for multiple
       hypothesis testing. *JASA* 100(469), 94-108.
    .. [2] Benjamini, Y. and Yekutieli, D. (2001). The control of the false discovery rate in
       multiple testing under dependency. *Annals of Statistics* 29(4), 1165-1188.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({"estimand": "att_simple", "outcome": ["spend", "visits", "stays"],
    ...                       "estimate": [-3.0, -2.0, 0.5]})
    >>> est = vbc.Estimates(frame=frame, covariance=np.eye(3))
    >>> vbc.sensitivity.multiplicity(est, method="holm").tidy()["p_adjusted"].round(4).tolist()
    [0.0081, 0.091, 0.6171]
    """
    require_estimates(est)
    if method not in _WHAT:
        raise DesignError(f"`method` is '{method}'; use one of {', '.join(_WHAT)}.")
    if family is not None and family not in est.frame:
        raise DesignError(
            f"the estimates have no column `{family}` to form families by; they have "
            f"{', '.join(est.frame.columns)}."
        )
    if est.interval == "credible":
        raise EstimationError(
            "a posterior has no p-values to adjust. Its many effects are kept from extremes by "
            "partial pooling; ask for probabilities with `probability`."
        )
    table = est.tidy()
    p_values = table["p_value"].to_numpy(dtype=float)
    names = np.zeros(len(est)) if family is None else table[family].astype("string").fillna("")
    adjusted = np.full(len(est), np.nan)
    for name in dict.fromkeys(names):
        rows = np.flatnonzero((np.asarray(names) == name) & np.isfinite(p_values))
        if len(rows) == 0:
            continue
        if method == "romano_wolf":
            adjusted[rows] = _romano_wolf(est, rows)
        else:
            adjusted[rows] = _from_p_values(p_values[rows], method)
    said = pd.Series(_WHAT[method], index=est.frame.index).where(np.isfinite(adjusted), None)
    frame = est.frame.assign(p_adjusted=adjusted, p_adjustment=said)
    return est.with_frame(frame)


def _romano_wolf(est: Estimates, rows: np.ndarray) -> FloatArray:
    if len(rows) > _MOST_ROWS:
        raise DesignError(
            f"a family of {len(rows):,} rows is too large to draw jointly (at most {_MOST_ROWS}). "
            "Split it with `family=`, or use method='holm', 'bh' or 'by'."
        )
    df = float(est.frame["df"].to_numpy(dtype=float)[rows].min())
    t = est.estimate[rows] / est.std_error[rows]
    return step_down(
        t, est.vcov()[np.ix_(rows, rows)], df=df, seed=int(est.meta.get("seed", 20210101))
    )


def _from_p_values(p: FloatArray, method: Adjustment) -> FloatArray:
    """Adjust p-values by their ranks alone."""
    m = len(p)
    order = np.argsort(p, kind="stable")
    rank = np.arange(1, m + 1)
    if method == "holm":
        stepped = np.maximum.accumulate((m - rank + 1) * p[order])
    else:
        price = m * np.sum(1 / rank) if method == "by" else m
        stepped = np.minimum.accumulate((price / rank * p[order])[::-1])[::-1]
    out = np.empty(m)
    out[order] = np.minimum(stepped, 1.0)
    return out
