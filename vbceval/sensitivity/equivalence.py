"""How large differences in trends before entry may be: bounds, not a failure to reject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates
from vbceval.sensitivity.event_path import EventPath, Varying, event_path


@dataclass(frozen=True, eq=False, kw_only=True)
class Equivalence:
    """
    Equivalence tests of the leads.

    Parameters
    ----------
    table : DataFrame
        See `tidy`.
    level : float
        Level of each test: margins are excluded with this confidence, one-sided.
    margin : float, optional
        The margin that was asked about, in the unit of the outcome.
    baseline : float, optional
        Baseline mean, the base of percents.
    path : EventPath
        The coefficients used.
    """

    table: pd.DataFrame
    level: float
    margin: float | None
    baseline: float | None
    path: EventPath

    def tidy(self) -> pd.DataFrame:
        """
        Return one row for each quantity: "max", "mean" and "slope" of the leads.

        Returns
        -------
        DataFrame
            ``outcome, unit_of_measure, check, estimate, std_error, df, smallest_margin,
            percent_of_baseline, margin, p_value, equivalent, note``. Differences larger than
            ``smallest_margin`` are excluded at the level; ``p_value`` is that of the test against
            `margin`. "slope" is a change a period, and so is its margin.
        """
        return self.table.copy()


def equivalence(
    est: Estimates,
    *,
    margin: float | None = None,
    slope_margin: float | None = None,
    baseline: float | None = None,
    level: float = 0.95,
    anticipation: int | None = None,
    varying: Varying = "refuse",
) -> Equivalence:
    """
    Bound the leads by two one-sided tests.

    The hypothesis is that trends differ by at least a margin; rejecting it is evidence that they do
    not, which failing to reject equality is not. Three quantities: every lead ("max", rejected
    if each of them is within the margin), their mean, and the slope of the line through the
    reference period fitted to them by least squares.

    Parameters
    ----------
    est : Estimates
        An event study with leads, group-time effects, or `from_numbers`.
    margin : float, optional
        Margin for "max" and "mean", in the unit of the outcome.
    slope_margin : float, optional
        Margin for the slope, in the unit of the outcome a period.
    baseline : float, optional
        Baseline mean of the outcome, for margins in percent of it.
    level : float, default 0.95
        One minus the size of the one-sided tests.
    anticipation, varying
        See `vbceval.sensitivity.event_path.event_path`.

    Returns
    -------
    Equivalence

    Raises
    ------
    DesignError
        If leads are missing or of a varying base, or a margin is not positive.
    EstimationError
        If the covariance is singular.

    References
    ----------
    .. [1] Hartman, E. and Hidalgo, F. D. (2018). An equivalence approach to balance and placebo
       tests. *American Journal of Political Science* 62(4), 1000-1013.
    .. [2] Dette, H. and Schumann, M. (2024). Testing for equivalence of pre-trends in
       difference-in-differences estimation. *Journal of Business and Economic Statistics* 42(4),
       1289-1301. Section 3, with the intersection-union test of the maximum.

    Examples
    --------
    >>> from vbceval.sensitivity.event_path import from_numbers
    >>> est = from_numbers([3.0, -1.0, 9.0], np.eye(3), pre=2)
    >>> out = equivalence(est, margin=5.0, baseline=100.0).tidy()
    >>> out[["check", "smallest_margin", "percent_of_baseline"]].round(2).values.tolist()
    [['max', 4.64, 4.64], ['mean', 2.16, 2.16], ['slope', 1.74, 1.74]]
    """
    for name, value in (("margin", margin), ("slope_margin", slope_margin), ("baseline", baseline)):
        if value is not None and not 0 < value < np.inf:
            raise DesignError(f"`{name}` is {value}: give a positive number.")
    if not 0.5 < level < 1:
        raise DesignError(
            f"`level` is {level}: one-sided tests exclude nothing at one half or less. Give a "
            "probability between 0.5 and 1."
        )
    path = event_path(est, anticipation=anticipation, varying=varying)
    k = path.n_pre
    x = path.event_time[:k] - path.reference
    rows = [
        _row("max", np.eye(k), margin, path, level),
        _row("mean", np.full((1, k), 1 / k), margin, path, level),
        _row("slope", (x / (x @ x))[None, :], slope_margin, path, level),
    ]
    table = pd.DataFrame(rows)
    table["percent_of_baseline"] = np.nan
    if baseline is not None:
        table["percent_of_baseline"] = 100 * table["smallest_margin"] / baseline
    table["outcome"], table["unit_of_measure"] = path.outcome or None, path.unit_of_measure or None
    columns = [
        "outcome", "unit_of_measure", "check", "estimate", "std_error", "df", "smallest_margin",
        "percent_of_baseline", "margin", "p_value", "equivalent", "note",
    ]  # fmt: skip
    return Equivalence(
        table=table[columns], level=level, margin=margin, baseline=baseline, path=path
    )


def _row(
    check: str, weights: FloatArray, margin: float | None, path: EventPath, level: float
) -> dict[str, object]:
    """One quantity: the row of weights whose bound is largest, as the intersection-union test."""
    k = path.n_pre
    value = weights @ path.estimate[:k]
    se = np.sqrt(np.einsum("mk,kl,ml->m", weights, path.vcov[:k, :k], weights))
    normal = not np.isfinite(path.df)
    z = special.ndtri(level) if normal else special.stdtrit(path.df, level)
    bound = np.abs(value) + z * se
    worst = int(bound.argmax())
    p_value = np.nan
    if margin is not None:
        t = (np.abs(value) - margin) / se
        p_value = float((special.ndtr(t) if normal else special.stdtr(path.df, t)).max())
    size = f"{k} lead{'' if k == 1 else 's'}"
    words = {"max": f"every one of {size}", "mean": f"mean of {size}",
             "slope": f"line through the reference period, {size}"}  # fmt: skip
    return {
        "check": check, "estimate": float(value[worst]), "std_error": float(se[worst]),
        "df": path.df, "smallest_margin": float(bound[worst]),
        "margin": np.nan if margin is None else margin, "p_value": p_value,
        "equivalent": None if margin is None else bool(bound[worst] < margin),
        "note": words[check],
    }  # fmt: skip
