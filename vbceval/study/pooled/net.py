"""Net of payments: what programs paid, and how probable it is that a new one saves after paying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

TOGETHER = "all known"
"""Name of the rows that average over the programs of a type."""

_DOLLARS = ["gross_effect", "payments", "net_effect", "net_low", "net_high"]
_PERCENTS = ["gross_percent", "payments_percent", "net_percent"]
_FORMATS = {**dict.fromkeys(_DOLLARS, ",.1f"), **dict.fromkeys(_PERCENTS, ".2f")}


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
    paid = _payments(ctx, printed, list(ctx.settings["labels"]))
    count = round(float(settings["largest"]) / float(settings["step"]))
    grid = np.linspace(0.0, float(settings["largest"]), count + 1)
    curve = _curve(fit, grid)
    ctx.table(
        "net_savings_curve", curve, keys=["payments_percent"],
        title="Probability of net savings of a new program, by what it pays",
        formats={"payments_percent": ".3f", **dict.fromkeys(fit.types, ".2f"),
                 **{f"mcse_{k}": ".3f" for k in fit.types}},
        note="One column a program type. Payments in percent of baseline spending, taken as fixed "
        "and independent of the effect; without payments, the probability of gross savings.",
    )  # fmt: skip
    table = _averages(fit, paid)
    ctx.table(
        "net_savings", table, keys=["program_type", "program"],
        title="Probability of net savings at the payments that are known",
        formats={"payments_percent": ".2f", "probability": ".2f", "mcse_probability": ".3f"},
        note=f"`{TOGETHER}` averages over the programs of a type, each counting equally, and each "
        "year of a program equally within it: the one number of the type. "
        "`payments_percent` is the mean payment. It is the probability for a new program of the "
        "type that would pay as that program did, not a result of that program.",
    )  # fmt: skip
    drawn = [str(kind) for kind in settings["drawn"]]
    ctx.figure(
        "net_savings",
        net_curve(curve[["payments_percent", *drawn]], paid, table, fit.estimates.meta,
                  labels=ctx.settings["labels"], short=ctx.settings["short"]),
        title="Probability of net savings of a new program, and payments that are known",
    )  # fmt: skip
    return table


def _ledgers(ctx: StudyContext, printed: pd.DataFrame, level: float) -> None:
    half = float(special.ndtri((1 + level) / 2)) * printed["net_se"]
    table = printed.assign(
        net_low=printed["net_effect"] - half, net_high=printed["net_effect"] + half
    )
    total = table["unit"] == "USD total"
    table["unit"] = table["unit"].where(~total, "USD millions")
    table[_DOLLARS] = table[_DOLLARS].where(~total, table[_DOLLARS] / 1e6, axis=0)
    evaluated = table["counterfactual"] == "evaluation"
    columns = ["relation", "unit", *_DOLLARS, *_PERCENTS, "payments_source", "net_fact"]
    sign = (
        "Nominal; negative = lower spending, net = gross + payments. Payments are positive where "
        "participants receive them and negative where they owe them."
    )
    ctx.table(
        "net_evaluation", table.loc[evaluated, columns], keys=["relation"], formats=_FORMATS,
        title="Gross and net effects printed by evaluations",
        note=f"{sign} Interval of net effects: {100 * level:g}%, payments taken as known; blank "
        "where none is printed. `net_fact`: row of the net figure in facts.csv. Not pooled.",
    )  # fmt: skip
    bare = [c for c in columns if c not in ("net_low", "net_high")]
    ctx.table(
        "net_benchmark", table.loc[~evaluated, bare], keys=["relation"], formats=_FORMATS,
        title="Gross and net figures against a benchmark: not effects",
        note=f"{sign} Spending is compared with an administrative target, not with what it would "
        "have been. These figures enter no estimate; their payments were really made and are used "
        "below.",
    )  # fmt: skip


def _payments(ctx: StudyContext, printed: pd.DataFrame, types: Sequence[str]) -> pd.DataFrame:
    """Payments of whole programs in percent of baseline, one row a program and period."""
    whole = printed[(printed["population"] == "overall") & printed["payments_percent"].notna()]
    place = {kind: i for i, kind in enumerate(types)}
    order = whole.assign(place=whole["program_type"].map(place))
    columns = ["program_type", "program", "period", "payments_percent", "payments_source",
               "counterfactual", "denominator", "coarse_baseline", "source"]  # fmt: skip
    paid = order.sort_values(["place", "program", "period"])[columns].reset_index(drop=True)
    ctx.table(
        "payments", paid, title="Payments to participants that are known",
        keys=["program", "period"], formats={"payments_percent": ".2f"},
        note="Percent of spending of the people or episodes covered, over the `denominator` of the "
        "row: a benchmark is not a baseline, but near one. Implied: net minus gross, where both "
        "are printed. `counterfactual` says what the gross figure beside the "
        "payment compares with; the payment itself is no comparison. Programs whose payments are "
        "printed in dollars only are not here.",
    )  # fmt: skip
    return paid


def _saves(fit: Pooled, kind: str, payments: FloatArray) -> FloatArray:
    """Return which draws of a new program save net of each payment, shape (S, K)."""
    effect = fit.draws("predictive", kind)
    return np.asarray(effect[:, None] + payments < 0, dtype=float)


def _curve(fit: Pooled, grid: FloatArray) -> pd.DataFrame:
    saves = {kind: _saves(fit, kind, grid) for kind in fit.types}
    errors = {
        f"mcse_{kind}": monte_carlo.error(found, monte_carlo.mean, fit.chains)
        for kind, found in saves.items()
    }
    shares = {kind: found.mean(axis=0) for kind, found in saves.items()}
    return pd.DataFrame({"payments_percent": grid, **shares, **errors})


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
            rows.append(_row(fit, kind, TOGETHER, len(of_type), float(np.mean(means)), together))
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
