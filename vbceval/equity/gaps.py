"""Differences in effect between strata, and the test that there are none."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError
from vbceval.estimates import Estimates
from vbceval.estimates.statements import effective_draws, posterior_draws, share
from vbceval.inference import WaldTest

_KEYS = ["estimand", "outcome", "cohort", "period", "event_time"]


def gaps(est: Estimates, *, by: str, reference: str) -> Estimates:
    """
    Subtract the effect in a reference stratum from the effect in each other stratum.

    Parameters
    ----------
    est : Estimates
        Effects with strata ``"by=level"``, each on its own comparison within the stratum.
    by : str
        The stratifying variable.
    reference : str
        The level that others are compared with.

    Returns
    -------
    Estimates
        For every other level and every estimand, outcome, cohort, period and event time: the gap,
        stratum ``"by=level - reference"``, estimand prefixed by ``gap_``. A negative gap in
        spending is a larger fall (or smaller rise) than in the reference stratum.

    Raises
    ------
    DesignError
        If the variable or the level is not there, there is no other level, or a row of another
        level has no counterpart in the reference. Rows of the reference alone give no gap.
    """
    rows = est.by(by)
    level = rows.frame["stratum"].str.removeprefix(f"{by}=")
    levels = list(dict.fromkeys(level))
    if reference not in levels:
        raise DesignError(f"`reference` is '{reference}', but `{by}` has the levels {levels}.")
    if levels == [reference]:
        raise DesignError(
            f"`{by}` has only the reference level '{reference}', so there is no gap. Keep another "
            "level."
        )
    names = [*_KEYS, *(["run"] if "run" in rows.frame else [])]
    plain = rows.frame[names].astype(object).where(rows.frame[names].notna(), None)
    keys = list(plain.itertuples(index=False, name=None))
    if len(set(zip(keys, level, strict=True))) < len(keys):
        raise DesignError(
            f"several estimates have the same stratum of `{by}`, estimand, cohort, period and "
            "event time, so their gap is ambiguous. Select one, or name stacked runs with `labels=`."
        )
    at = {(key, lv): i for i, (key, lv) in enumerate(zip(keys, level, strict=True))}
    coefficients, labels = {}, []
    for (key, lv), i in at.items():
        if lv == reference:
            continue
        if (key, reference) not in at:
            raise DesignError(
                f"stratum '{by}={lv}' has an estimate that '{by}={reference}' does not have "
                f"(cohort, period, event time {key[2:]}), so their gap is not defined. Select "
                "common rows with `where`."
            )
        coefficients[f"gap_{key[0]}_{i}"] = {i: 1.0, at[key, reference]: -1.0}
        labels.append((f"gap_{key[0]}", f"{by}={lv} - {reference}", i))
    out = rows.contrast(coefficients)
    frame = out.frame.copy()
    frame["estimand"] = [x[0] for x in labels]
    frame["stratum"] = [x[1] for x in labels]
    source = rows.frame.iloc[[x[2] for x in labels]]
    for name in names[1:]:
        frame[name] = source[name].to_numpy()
    return out.with_frame(frame)


def narrowing(est: Estimates, *, by: str, reference: str, level: float = 0.95) -> pd.DataFrame:
    """
    Return the probability that a program narrowed the gap between strata.

    The gap before entry, g, is the difference of the strata's means before entry, taken as known.
    With d the difference of the effects, it narrows where abs(g + d) < abs(g), in the unit of the
    outcome: equal percents of unequal means move a gap too.

    Parameters
    ----------
    est : Estimates
        A posterior of effects with strata ``"by=level"`` in the unit of the outcome, with column
        ``baseline`` in that unit, such as `att_stratum` of `vbceval.bayes.HierarchicalDiD`.
    by, reference : str
        As in `gaps`.
    level : float, default 0.95
        Level of the interval of the percent closed.

    Returns
    -------
    DataFrame
        One row a gap: ``estimand``, ``outcome``, ``stratum``, ``unit_of_measure``, ``gap_before``,
        ``change`` (posterior mean of d), ``narrows`` (probability) with Monte Carlo error ``mcse``,
        and ``percent_closed``, -100 d / g, with ``closed_low`` and ``closed_high``; above 200 the gap
        is turned round and wider than it was.

    Raises
    ------
    EstimationError
        If the estimates are no posterior.
    DesignError
        As in `gaps`; or if rows are in percent, have no `baseline`, or there is no gap before entry.
    """
    rows = est.by(by)
    units = rows.frame["unit_of_measure"].astype("string").fillna("")
    # means of shares are shares, and effects on them in percentage points: refused as well
    percent = units.str.startswith("percent").any()
    if percent or "baseline" not in rows.frame or rows.frame["baseline"].isna().any():
        raise DesignError(
            "whether a gap narrows is asked in the unit of the outcome, with the mean of each stratum "
            "before entry, in that unit, in column `baseline`: equal percents of unequal means change "
            "a gap. Select rows with `where(unit_of_measure=...)`, and keep that column."
        )
    found = gaps(rows, by=by, reference=reference)
    # the same differences, of the means before entry of the same rows
    known = rows.frame.assign(estimate=rows.frame["baseline"].astype(float))
    means = Estimates(frame=known, covariance=np.zeros((len(known), len(known))))
    before = gaps(means, by=by, reference=reference).estimate
    if not np.all(np.abs(before) > 0):
        raise DesignError(
            "there is no gap before entry, so none can narrow. Look at `gaps` instead."
        )
    draws = posterior_draws(found)
    narrows, error = share(np.abs(before + draws) < np.abs(before), effective_draws(found))
    closed = -100.0 * draws / before
    low, high = np.quantile(closed, [(1 - level) / 2, (1 + level) / 2], axis=0)
    keys = found.frame[["estimand", "outcome", "stratum", "unit_of_measure"]]
    return keys.assign(
        gap_before=before, change=draws.mean(axis=0), narrows=narrows, mcse=error,
        percent_closed=closed.mean(axis=0), closed_low=low, closed_high=high,
    )  # fmt: skip


def equality(est: Estimates, *, by: str) -> WaldTest:
    """
    Test that the effect is the same in every stratum.

    Parameters
    ----------
    est : Estimates
        One effect a stratum ``"by=level"`` (aggregate first).
    by : str
        The stratifying variable.

    Returns
    -------
    WaldTest
        With one restriction fewer than strata.

    Raises
    ------
    DesignError
        If a stratum has several rows, or there is only one stratum.
    """
    rows = est.by(by)
    k = len(rows)
    if rows.frame["stratum"].duplicated().any() or k < 2:
        raise DesignError(
            f"equality over `{by}` needs one effect for each of at least two strata, but there "
            f"are {k} rows for {rows.frame['stratum'].nunique()} strata. Aggregate, or select one "
            "estimand with `where`."
        )
    return rows.contrast(np.eye(k)[1:] - np.eye(k)[:1]).wald()
