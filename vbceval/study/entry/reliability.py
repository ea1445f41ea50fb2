"""How much of ACO-level savings rates is signal, and how many rewards chance alone explains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from vbceval import bayes, figures
from vbceval.data import MSSPResults
from vbceval.study.context import StudyContext

_PERCENT = {"observed": ".4f", "estimate": ".4f", "conf_low": ".4f", "conf_high": ".4f",
            "reliability": ".2f"}  # fmt: skip


_COUNTS = ["expected_by_chance", "chance_low", "chance_high", "false_rewards", "false_low",
           "false_high"]  # fmt: skip
_LUCK_SHARES = ["rewarded_share", "chance_share", "false_share", "median_reliability"]


def profile_acos(
    ctx: StudyContext, results: MSSPResults, settings: Mapping[str, Any], *, level: float
) -> pd.DataFrame:
    """
    Shrink every ACO-year's benchmark savings rate, and count rewards that chance would give.

    The rate compares spending with an administrative benchmark: it is not an effect. Writes tables
    ``aco_savings_rates``, ``luck`` and figure ``caterpillar``.

    Parameters
    ----------
    ctx : StudyContext
        The run.
    results : MSSPResults
        The files.
    settings : mapping
        ``person_cv``, ``scales`` (multiples of it that are shown), ``benchmark_weights``, ``rho``;
        their sources stand in study.toml.
    level : float
        Level of intervals.

    Returns
    -------
    DataFrame
        The luck table.
    """
    rates = _rates(results)
    luck = []
    for scale in settings["scales"]:
        noise = bayes.SavingsNoise(
            person_cv=float(scale) * float(settings["person_cv"]),
            benchmark_weights=tuple(settings["benchmark_weights"]),
            rho=float(settings["rho"]),
        )
        est = bayes.Reliability(noise=noise, draws=int(ctx.size["reliability_draws"]), seed=ctx.seed).fit(
            rates, rate="sav_rate", cluster="aco_id", period="performance_year",
            person_years="person_years", shared_benchmark="current_start_date",
            keep=["msr", "rewarded", "cohort"],
        )  # fmt: skip
        table = bayes.share_rewarded_by_chance(est, level=level)
        reliability = est.where(estimand="savings_rate").frame["reliability"]
        luck.append(table.assign(person_cv_multiple=scale, median_reliability=reliability.median()))
        if scale == 1:
            ctx.meta(est)
            _show(ctx, est.where(estimand="savings_rate").tidy(level), level)
    out = pd.concat(luck, ignore_index=True)
    ctx.table(
        "luck", out, keys=["person_cv_multiple", "period"], title="Rewards and chance",
        formats=dict.fromkeys(_COUNTS, ".1f") | dict.fromkeys(_LUCK_SHARES, ".2f"),
        note="Expected by chance: rewards if no ACO saved anything, given each ACO's size and its "
        "own minimum savings rate. False rewards: rewarded ACO-years whose true rate is at or "
        "below zero, given the spread of all ACOs. Rows repeat the result with half and double "
        "the standard deviation of a person's spending, which the files do not show.",
    )  # fmt: skip
    return out


def _rates(results: MSSPResults) -> pd.DataFrame:
    frame = results.aco_year
    return frame.assign(
        msr=frame["min_sav_perc"],
        rewarded=frame["earn_save_loss"] > 0,
        current_start_date=frame["current_start_date"].astype(str),
        sav_rate=frame["benchmark_minus_expenditure"] / frame["benchmark"],
    )


def _show(ctx: StudyContext, table: pd.DataFrame, level: float) -> None:
    columns = ["cluster", "period", "observed", "estimate", "conf_low", "conf_high", "reliability"]
    ctx.table(
        "aco_savings_rates", table[columns], keys=["cluster", "period"], formats=_PERCENT,
        title="Savings rate of every ACO and year, observed and shrunken",
        note="Fraction of the benchmark; positive = below the benchmark. Not an effect.",
    )  # fmt: skip
    last = table[table["period"] == table["period"].max()]
    shown = last.assign(
        level=level, unit_of_measure="% of benchmark", label=last["cluster"],
        **{c: 100 * last[c] for c in ("estimate", "conf_low", "conf_high", "std_error")},
        raw=100 * last["observed"],
        size=np.where(last["reliability"] >= last["reliability"].median(), "larger ACOs", "smaller ACOs"),
    )  # fmt: skip
    ctx.figure(
        "caterpillar",
        figures.caterpillar(
            shown, colour="size", labels=ctx.settings["labels"], organizations="ACOs", reference=0.0, reference_label="Benchmark",
            axis_label="Savings rate, % of benchmark (positive = savings)", level=level,
        ),
        title=f"Savings rate of each ACO in {last['period'].iloc[0]:g}",
    )  # fmt: skip
