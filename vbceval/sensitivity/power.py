"""How small an effect a design can find: from an error in hand, and by simulated placebos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.progress import counting
from vbceval.core.rng import generator
from vbceval.design import Design
from vbceval.estimates import Estimates
from vbceval.panel import Panel
from vbceval.sensitivity.given import require_estimates, require_fit
from vbceval.sensitivity.leave_out import FitCall


def minimum_detectable_effect(
    est: Estimates, *, power: float = 0.8, level: float = 0.95, baseline: float | None = None
) -> pd.DataFrame:
    """
    Return the smallest true effect that a two-sided test finds with given power.

    Read it before the estimate: from a placebo fit of pre-period data (see `placebo`), or from an
    evaluation of the same organizations. The power for the estimate that was found is a function
    of its p-value and says nothing new.

    Parameters
    ----------
    est : Estimates, k rows
        Whose standard errors and degrees of freedom are used.
    power : float, default 0.8
        Chance that the test rejects.
    level : float, default 0.95
        One less the size of the test.
    baseline : float, optional
        Mean of the outcome by which effects are also shown in percent.

    Returns
    -------
    DataFrame
        ``estimand, outcome, cohort, event_time, stratum, std_error, df, minimum_detectable_effect``
        (absolute, unit of the outcome), and ``percent_of_baseline``.

    Raises
    ------
    DesignError
        If a probability is not between 0 and 1, or the power not above the size of the test.

    Notes
    -----
    ``(t(1 - a/2) + t(power)) * standard error`` at the degrees of freedom of the row. With few
    degrees of freedom it is close to, not equal to, the exact value of the noncentral t.

    References
    ----------
    .. [1] Bloom, H. S. (1995). Minimum detectable effects: a simple way to report the statistical
       power of experimental designs. *Evaluation Review* 19(5), 547-556.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> est = vbc.Estimates(frame=pd.DataFrame({"estimand": ["att_simple"], "outcome": ["spend"],
    ...     "estimate": [-3.0]}), covariance=np.array([[100.0]]))
    >>> vbc.sensitivity.minimum_detectable_effect(est, baseline=900.0)[
    ...     ["minimum_detectable_effect", "percent_of_baseline"]].round(2).values.tolist()
    [[28.02, 3.11]]
    """
    require_estimates(est)
    size = 1 - level
    if not (0 < size < 1 and size < power < 1):
        raise DesignError(
            f"`power` is {power} and `level` {level}; both are probabilities, and power is more "
            "than the size of the test."
        )
    if baseline is not None and baseline <= 0:
        raise DesignError(f"`baseline` is {baseline}; a percentage needs a mean above zero.")
    df = est.frame["df"].to_numpy(dtype=float)
    factor = stats.t.ppf(1 - size / 2, df) + stats.t.ppf(power, df)
    keys = ["estimand", "outcome", "cohort", "event_time", "stratum"]
    value = factor * est.std_error
    return est.frame[keys].assign(
        std_error=est.std_error, df=df, minimum_detectable_effect=value,
        percent_of_baseline=np.nan if baseline is None else 100 * value / baseline,
    )  # fmt: skip


def simulated_power(
    fit: FitCall,
    panel: Panel,
    design: Design,
    *,
    effects: Sequence[float],
    entry: float | Sequence[float],
    n_treated: int,
    replications: int = 500,
    level: float = 0.95,
    seed: int = 20210101,
) -> pd.DataFrame:
    """
    Return how often an effect is found, by placebo assignments in data without a program.

    Clusters that enter are drawn at random, the effect is added to their cells from entry on, and
    the whole analysis runs. Serial correlation, heavy tails and unequal sizes are those of the
    data, so that the chance of a false finding (effect 0) is checked as well.

    Parameters
    ----------
    fit : callable
        ``fit(panel, design)`` that returns one row.
    panel : Panel
        Untreated rows only, for example never-treated organizations, or all before any entry.
    design : Design
        Passed on.
    effects : sequence of float
        True effects, in the unit of the outcome, added to treated cells.
    entry : float or sequence of float
        Period(s) of entry; with several, clusters that enter are dealt to them in turn.
    n_treated : int
        Clusters that enter in each replication.
    replications : int, default 500
        Assignments. The Monte Carlo error of a power of .8 is then .018.
    level : float, default 0.95
        One less the size of the test.
    seed : int
        Seed of the assignments; all effects share them.

    Returns
    -------
    DataFrame
        One row an effect: ``effect``, ``power`` (share that rejects), ``monte_carlo_error``,
        ``mean_estimate``, ``sd_estimate``, ``mean_std_error``, ``coverage``, ``replications``,
        ``failed`` (assignments that could not be estimated, with ``first_reason``).

    Raises
    ------
    DesignError
        If treated cells are among the rows, or too few clusters can enter.
    EstimationError
        If no replication could be estimated.

    Notes
    -----
    Cost: as many fits as effects times replications.

    References
    ----------
    .. [1] Bertrand, M., Duflo, E. and Mullainathan, S. (2004). How much should we trust
       differences-in-differences estimates? *Quarterly Journal of Economics* 119(1), 249-275.
    """
    require_fit(fit)
    entries = np.atleast_1d(np.asarray(entry, dtype=float))
    _check_untreated(panel, entries, n_treated)
    code, clusters = pd.factorize(panel.frame[panel.cluster], sort=True)
    period = panel.frame[panel.period].to_numpy(dtype=float)
    y = panel.frame[design.outcome].to_numpy(dtype=float)
    rng = generator(seed, "simulated power")
    found: dict[float, list[tuple[float, float, bool, bool]]] = {float(e): [] for e in effects}
    reasons = []
    with counting("placebo assignments", replications) as done:
        for _ in range(replications):
            chosen = np.full(len(clusters), np.nan)
            drawn = rng.permutation(len(clusters))[:n_treated]
            chosen[drawn] = entries[np.arange(n_treated) % len(entries)]
            cohort = chosen[code]
            on = period >= np.where(np.isnan(cohort), np.inf, cohort)
            for effect in found:
                frame = panel.frame.assign(
                    **{panel.cohort: cohort, design.outcome: y + effect * on}
                )
                try:
                    row = fit(replace(panel, frame=frame, exit=None), design).tidy(level)
                except (DesignError, EstimationError) as error:
                    reasons.append(str(error))
                    break
                found[effect].append(_reading(row, effect, 1 - level))
            done()
    if not any(found.values()):
        raise EstimationError(f"no assignment could be estimated; the first reason: {reasons[0]}")
    return pd.DataFrame([
        _summary(effect, np.array(rows, dtype=float), reasons) for effect, rows in found.items()
    ])  # fmt: skip


def _check_untreated(panel: Panel, entries: np.ndarray, n_treated: int) -> None:
    cohort = panel.frame[panel.cohort].to_numpy(dtype=float)
    period = panel.frame[panel.period].to_numpy(dtype=float)
    treated = int((period >= np.where(np.isnan(cohort), np.inf, cohort)).sum())
    if treated:
        raise DesignError(
            "`panel` has cells that are treated already, and effects would be added to real ones. "
            "Keep rows before entry with `panel.keep`, or never-treated clusters only."
        )
    if not 1 < n_treated < panel.n_clusters - 1:
        raise DesignError(
            f"`n_treated` is {n_treated} of {panel.n_clusters} clusters; at least two must enter "
            "and two must not."
        )
    outside = [f"{g:g}" for g in entries if not period.min() < g <= period.max()]
    if outside:
        raise DesignError(
            f"entry in {', '.join(outside)} has no period before it or none after; periods are "
            f"{period.min():g} to {period.max():g}."
        )


def _reading(table: pd.DataFrame, effect: float, size: float) -> tuple[float, float, bool, bool]:
    if len(table) != 1:
        raise DesignError(
            f"`fit` returned {len(table)} rows; power is of one test. Aggregate, or select a row."
        )
    row = table.iloc[0]
    inside = bool(row["conf_low"] <= effect <= row["conf_high"])
    return float(row["estimate"]), float(row["std_error"]), bool(row["p_value"] < size), inside


def _summary(effect: float, rows: np.ndarray, reasons: Sequence[str]) -> dict[str, object]:
    power = float(rows[:, 2].mean())
    return {
        "effect": effect, "power": power,
        "monte_carlo_error": float(np.sqrt(power * (1 - power) / len(rows))),
        "mean_estimate": float(rows[:, 0].mean()), "sd_estimate": float(rows[:, 0].std(ddof=1)),
        "mean_std_error": float(rows[:, 1].mean()), "coverage": float(rows[:, 3].mean()),
        "replications": len(rows), "failed": len(reasons),
        "first_reason": reasons[0] if reasons else "",
    }  # fmt: skip
