"""Net of payments: what programs paid, and how probable it is that a new one saves after paying."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from vbceval.core.typing import FloatArray
from vbceval.evidence import net_effects
from vbceval.study.context import StudyContext
from vbceval.study.pooled import monte_carlo
from vbceval.study.pooled.figure_net import net_curve
from vbceval.study.pooled.model import Pooled

_LEDGER = ["relation", "program_type", "program", "period", "population", "unit", "gross_effect",
           "payments", "payments_source", "net_effect", "gross_percent", "payments_percent",
           "net_percent", "denominator"]  # fmt: skip
_FORMATS = {
    **dict.fromkeys(["gross_effect", "payments", "net_effect", "net_low", "net_high"], ",.0f"),
    **dict.fromkeys(["gross_percent", "payments_percent", "net_percent", "probability"], ".2f"),
}


def net_savings(
    ctx: StudyContext,
    fit: Pooled,
    facts: pd.DataFrame,
    relations: pd.DataFrame,
    settings: Mapping[str, Any],
    *,
    level: float,
) -> pd.DataFrame:
    """
    Give the probability of net savings of a new program, by what it pays.

    Writes tables ``net_evaluation``, ``net_benchmark``, ``payments``, ``net_savings_curve``,
    ``net_savings`` and figure ``net_savings``. Figures from evaluations and from benchmarks stand
    in tables of their own; of benchmark-based figures only the payments, which were really made,
    are used.

    Parameters
    ----------
    ctx : StudyContext
        The run.
    fit : Pooled
        The headline fit.
    facts, relations : DataFrame
        From `vbceval.evidence`.
    settings : mapping
        ``largest`` and ``step``, percent of baseline: the payments of the curve; ``drawn``, the
        program types whose curves are drawn.
    level : float
        Level of intervals.

    Returns
    -------
    DataFrame
        Table ``net_savings``: one probability a program type.
    """
    printed = net_effects(facts, relations)
    _ledgers(ctx, printed, level)
    paid = _payments(ctx, printed)
    count = round(float(settings["largest"]) / float(settings["step"]))
    grid = np.linspace(0.0, float(settings["largest"]), count + 1)
    curve = pd.concat([_curve(fit, kind, grid) for kind in fit.types], ignore_index=True)
    ctx.table(
        "net_savings_curve", curve, keys=["program_type", "payments_percent"],
        title="Probability of net savings of a new program, by what it pays",
        formats={"payments_percent": ".1f", "probability": ".2f", "mcse_probability": ".3f"},
        note="Payments in percent of baseline spending, taken as fixed and independent of the "
        "effect. 0 is the probability of gross savings.",
    )  # fmt: skip
    table = _averages(fit, paid)
    ctx.table(
        "net_savings", table, keys=["program_type", "program"],
        title="Probability of net savings at the payments that are known",
        formats={"payments_percent": ".2f", "probability": ".2f", "mcse_probability": ".3f"},
        note="Rows without a program average over the programs of a type, each counting equally, "
        "and each year of a program equally within it: the one number of the type. "
        "`payments_percent` is the mean payment. It is the probability for a new program of the "
        "type that would pay as that program did, not a result of that program.",
    )  # fmt: skip
    drawn = [str(kind) for kind in settings["drawn"]]
    ctx.figure(
        "net_savings",
        net_curve(curve[curve["program_type"].isin(drawn)], paid, table, fit.estimates.meta,
                  labels=ctx.settings["labels"]),
        title="Probability of net savings of a new program, and payments that are known",
    )  # fmt: skip
    return table


def _ledgers(ctx: StudyContext, printed: pd.DataFrame, level: float) -> None:
    half = float(special.ndtri((1 + level) / 2)) * printed["net_se"]
    table = printed.assign(
        net_low=printed["net_effect"] - half, net_high=printed["net_effect"] + half
    )
    evaluated = table["counterfactual"] == "evaluation"
    sign = "Nominal USD; negative = lower spending, payments positive, net = gross + payments."
    ctx.table(
        "net_evaluation",
        table.loc[evaluated, [*_LEDGER[:10], "net_low", "net_high", *_LEDGER[10:]]],
        title="Gross and net effects printed by evaluations", keys=["relation"], formats=_FORMATS,
        note=f"{sign} Interval of net effects: {100 * level:g}%, payments taken as known; blank "
        "where none is printed. Not pooled.",
    )  # fmt: skip
    ctx.table(
        "net_benchmark", table.loc[~evaluated, _LEDGER],
        title="Gross and net figures against a benchmark: not effects", keys=["relation"],
        formats=_FORMATS,
        note=f"{sign} Spending is compared with an administrative target, not with what it would "
        "have been. These figures enter no estimate; their payments were really made and are used "
        "below.",
    )  # fmt: skip


def _payments(ctx: StudyContext, printed: pd.DataFrame) -> pd.DataFrame:
    """Payments of whole programs in percent of baseline, one row a program and period."""
    whole = printed[(printed["population"] == "overall") & printed["payments_percent"].notna()]
    columns = ["program_type", "program", "period", "payments_percent", "payments_source",
               "counterfactual", "percent_source", "denominator", "coarse_baseline", "source"]  # fmt: skip
    paid = whole[["relation", *columns]].sort_values(["program_type", "program", "period"])
    ctx.table(
        "payments", paid, title="Payments to participants that are known", keys=["relation"],
        formats={"payments_percent": ".2f"},
        note="Percent of baseline spending of the people or episodes covered. Implied: net minus "
        "gross, where both are printed. `counterfactual` says what the gross figure beside the "
        "payment compares with; the payment itself is no comparison. Programs whose payments are "
        "printed in dollars only are not here.",
    )  # fmt: skip
    return paid


def _saves(fit: Pooled, kind: str, payments: FloatArray) -> FloatArray:
    """Return which draws of a new program save net of each payment, shape (S, K)."""
    effect = fit.draws("predictive", kind)
    return np.asarray(effect[:, None] + payments < 0, dtype=float)


def _curve(fit: Pooled, kind: str, grid: FloatArray) -> pd.DataFrame:
    saves = _saves(fit, kind, grid)
    return pd.DataFrame(
        {"program_type": kind, "payments_percent": grid, "probability": saves.mean(axis=0),
         "mcse_probability": monte_carlo.error(saves, monte_carlo.mean, fit.chains)}
    )  # fmt: skip


def _averages(fit: Pooled, paid: pd.DataFrame) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    for kind in fit.types:
        of_type = paid[paid["program_type"] == kind]
        saves, means = [], []
        for program, part in of_type.groupby("program", sort=False):
            known = part["payments_percent"].to_numpy(dtype=float)
            saves.append(_saves(fit, kind, known).mean(axis=1))
            means.append(float(known.mean()))
            rows.append(_row(fit, kind, str(program), len(part), means[-1], saves[-1]))
        if saves:
            together = np.mean(saves, axis=0)
            rows.append(_row(fit, kind, "", len(of_type), float(np.mean(means)), together))
    return pd.DataFrame(rows)


def _row(
    fit: Pooled, kind: str, program: str, periods: int, payments: float, saves: FloatArray
) -> dict[str, object]:
    return {
        "program_type": kind, "program": program, "n_payments": periods,
        "payments_percent": payments, "probability": float(saves.mean()),
        "mcse_probability": float(
            monte_carlo.error(saves[:, None], monte_carlo.mean, fit.chains)[0]
        ),
    }  # fmt: skip
