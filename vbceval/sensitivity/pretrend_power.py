"""What a test of trends before entry can see, and what it does to the effects it lets pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates
from vbceval.sensitivity.event_path import EventPath, Varying, event_path
from vbceval.sensitivity.rectangle import Inside, inside_rectangle

Trend = Callable[[FloatArray], FloatArray] | Mapping[float, float] | Sequence[float] | FloatArray
PreTest = Literal["individual", "wald"]


@dataclass(frozen=True, eq=False, kw_only=True)
class PretrendPower:
    """
    Power of a test of the leads, and estimates to be expected if it passes.

    Parameters
    ----------
    power : float
        Probability that the test rejects under the hypothesised trend.
    size : float
        The same if trends are parallel.
    bayes_factor : float
        Probability of passing under the trend over that under parallel trends: what passing says.
    likelihood_ratio : float
        Likelihood of the leads under the trend over that under parallel trends.
    slope : float
        Change of the hypothesised trend a period; missing if it is not linear.
    slopes : DataFrame
        ``power, slope``: slopes of linear trends that the test detects with each power, in the
        unit of the outcome a period.
    table : DataFrame
        See `tidy`.
    test : str
        "individual" or "wald".
    critical : float
        Critical value: of each |t| statistic, or of the Wald statistic.
    level : float
        One minus the size of each test.
    path : EventPath
        The coefficients used.
    """

    power: float
    size: float
    bayes_factor: float
    likelihood_ratio: float
    slope: float
    slopes: pd.DataFrame
    table: pd.DataFrame
    test: str
    critical: float
    level: float
    path: EventPath

    def tidy(self) -> pd.DataFrame:
        """
        Return one row for each event time, the reference included.

        Returns
        -------
        DataFrame
            ``outcome, unit_of_measure, event_time, estimate, std_error, trend`` (hypothesised),
            ``expected_if_passed`` (mean of the estimate under the trend, effects being zero, given
            that the test passes), ``reference``.
        """
        return self.table.copy()


def pretrend_power(
    est: Estimates,
    *,
    slope: float | None = None,
    trend: Trend | None = None,
    power: Sequence[float] = (0.5, 0.8),
    test: PreTest = "individual",
    level: float = 0.95,
    critical: float | None = None,
    anticipation: int | None = None,
    varying: Varying = "refuse",
) -> PretrendPower:
    """
    Say which trends a test of the leads would miss, and what bias passing it leaves (Roth 2022).

    Parameters
    ----------
    est : Estimates
        An event study with leads, group-time effects, or `from_numbers`.
    slope : float, optional
        Hypothesised linear difference in trends, in the unit of the outcome a period.
    trend : function, mapping or array, optional
        Any other: a function of event time, values by event time, or values in the order of the
        coefficients without the reference. It is taken relative to the reference period. Default:
        the linear trend detected with the first of `power`.
    power : sequence of float, default (.5, .8)
        Powers whose slopes are found.
    test : {"individual", "wald"}
        Reject if any lead is significant, or by the joint test.
    level : float, default 0.95
        One minus the size of the test of each lead, or of the joint test.
    critical : float, optional
        Critical value instead: of |t|, or of the Wald statistic. R `pretrends` takes 1.96.
    anticipation, varying
        See `vbceval.sensitivity.event_path.event_path`.

    Returns
    -------
    PretrendPower

    Raises
    ------
    DesignError
        If options do not fit together, or leads are missing or of a varying base.
    EstimationError
        If the covariance is singular.

    References
    ----------
    .. [1] Roth, J. (2022). Pretest with caution: event-study estimates after testing for parallel
       trends. *American Economic Review: Insights* 4(3), 305-322.

    Examples
    --------
    >>> from vbceval.sensitivity.event_path import from_numbers
    >>> est = from_numbers([0.1, -0.1, 2.0], np.eye(3), pre=2)
    >>> out = pretrend_power(est, slope=1.0)
    >>> round(out.power, 2), out.slopes["slope"].round(2).tolist()
    (0.6, [0.88, 1.29])
    """
    path = event_path(est, anticipation=anticipation, varying=varying)
    leads = _Leads(path, test, level, critical)
    if slope is not None and trend is not None:
        raise DesignError("give `slope` or `trend`, not both.")
    if slope is not None and not np.isfinite(slope):
        raise DesignError(f"`slope` is {slope}: give a change of the outcome a period.")
    targets = [float(p) for p in power]
    if not targets and slope is None and trend is None:
        raise DesignError("give a `slope`, a `trend`, or a `power` whose slope is sought.")
    delta = None if trend is None else _values(path, trend)
    slopes = pd.DataFrame({"power": targets, "slope": [leads.slope_for(p) for p in targets]})
    if delta is None:
        slope = float(slopes["slope"].iloc[0]) if slope is None else float(slope)
        delta = slope * (path.event_time - path.reference)
    else:
        slope = np.nan
    passing, null = leads.passing(delta[: path.n_pre]), leads.passing(np.zeros(path.n_pre))
    return PretrendPower(
        power=1 - passing.probability, size=1 - null.probability,
        bayes_factor=passing.probability / null.probability,
        likelihood_ratio=leads.likelihood_ratio(delta[: path.n_pre]), slope=slope, slopes=slopes,
        table=_table(path, delta, passing.mean), test=test, critical=leads.critical, level=level,
        path=path,
    )  # fmt: skip


class _Leads:
    """The test of the leads."""

    def __init__(
        self, path: EventPath, test: PreTest, level: float, critical: float | None
    ) -> None:
        if test not in ("individual", "wald"):
            raise DesignError(f"`test` is {test!r}; use 'individual' or 'wald'.")
        if not 0 < level < 1 or (critical is not None and not critical > 0):
            raise DesignError(
                f"`level` is {level} and `critical` {critical}: give a probability between 0 and "
                "1, and a positive critical value."
            )
        k = path.n_pre
        self._joint = test == "wald"
        self._estimate, self._vcov = path.estimate[:k], path.vcov[:k, :k]
        self._time = path.event_time[:k] - path.reference
        self._half_sd = path.std_error[:k]
        usual = special.chdtri(k, 1 - level) if self._joint else special.ndtri((1 + level) / 2)
        self.critical = float(usual) if critical is None else critical
        self._level = level

    def passing(self, delta: FloatArray) -> Inside:
        """Return the probability of passing under a trend, and the mean of the leads given it."""
        if not self._joint:
            return inside_rectangle(delta, self._vcov, self.critical * self._half_sd)
        k, distance = len(delta), float(delta @ np.linalg.solve(self._vcov, delta))
        here = float(stats.ncx2.cdf(self.critical, k, distance))
        # E[x; x'V^-1 x <= c] is the mean times the same probability with two more degrees
        above = float(stats.ncx2.cdf(self.critical, k + 2, distance))
        # under a trend that never passes there is no mean given that it does
        return Inside(here, delta * above / here if here > 0 else np.full(k, np.nan))

    def likelihood_ratio(self, delta: FloatArray) -> float:
        """Return the likelihood of the leads under a trend over that under none."""
        solved = np.linalg.solve(self._vcov, delta)
        with np.errstate(over="ignore"):
            return float(np.exp(solved @ self._estimate - solved @ delta / 2))

    def slope_for(self, power: float) -> float:
        """Return the positive slope that is detected with a power; by symmetry its negative too."""
        size = 1 - self.passing(np.zeros(len(self._time))).probability
        if not size < power < 1:
            raise DesignError(
                f"`power` is {power:g}, but the test rejects parallel trends with probability "
                f"{size:.3g}: give a power between that and 1."
            )
        high = float((self._half_sd / np.abs(self._time)).min())

        def missing(slope: float) -> float:
            return self.passing(slope * self._time).probability - (1 - power)

        while missing(high) > 0:
            high *= 2
        return float(optimize.brentq(missing, 0.0, high, xtol=1e-9 * high, rtol=1e-12))


def _values(path: EventPath, trend: Trend) -> FloatArray:
    """Hypothesised differences in trends at the coefficients, less that at the reference."""
    if callable(trend):
        at = np.append(path.event_time, path.reference)
        values = np.asarray(trend(at), dtype=float)
        if values.shape == at.shape and np.isfinite(values).all():
            return np.asarray(values[:-1] - values[-1])
    elif isinstance(trend, Mapping):
        if all(e in trend for e in path.event_time):
            values = np.array([float(trend[e]) for e in path.event_time])
            values = values - float(trend.get(path.reference, 0.0))
            if np.isfinite(values).all():
                return values
    else:
        values = np.asarray(trend, dtype=float).ravel()
        if values.shape == path.event_time.shape and np.isfinite(values).all():
            return values
    raise DesignError(
        "`trend` must give a finite value at each event time "
        f"({', '.join(f'{e:g}' for e in path.event_time)})."
    )


def _table(path: EventPath, delta: FloatArray, mean_of_leads: FloatArray) -> pd.DataFrame:
    k = path.n_pre
    shift = np.linalg.solve(path.vcov[:k, :k], mean_of_leads - delta[:k])
    expected = delta + path.vcov[:, :k] @ shift
    frame = pd.DataFrame({
        "outcome": path.outcome or None, "unit_of_measure": path.unit_of_measure or None,
        "event_time": np.append(path.event_time, path.reference),
        "estimate": np.append(path.estimate, 0.0), "std_error": np.append(path.std_error, np.nan),
        "trend": np.append(delta, 0.0), "expected_if_passed": np.append(expected, 0.0),
        "reference": np.append(np.zeros(len(delta), dtype=bool), True),
    })  # fmt: skip
    return frame.sort_values("event_time", ignore_index=True)
