"""From effects to dollars: impact savings gross and net, beside the program's own accounting."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from vbceval import figures, savings
from vbceval.data import MSSPResults
from vbceval.estimates import Estimates
from vbceval.panel import Panel, covered_person_years
from vbceval.study.context import StudyContext
from vbceval.study.entry.effects import EntryEffects

_MONEY = dict.fromkeys(
    ["estimate", "std_error", "conf_low", "conf_high", "benchmark", "expenditure",
     "benchmark_savings", "payments", "benchmark_savings_net", "person_years"], ",.0f",
)  # fmt: skip


class Account(NamedTuple):
    """Gross and net impact savings: the total, then by calendar year."""

    gross: Estimates
    net: Estimates


def account(
    ctx: StudyContext, effects: EntryEffects, panel: Panel, results: MSSPResults, *, level: float
) -> Account:
    """
    Turn effects into gross and net impact savings, and set benchmark savings beside them.

    Dollar totals cover the person-years whose effect is identified. Writes tables
    ``impact_savings``, ``benchmark_savings``, ``benchmark_savings_all`` and figure
    ``gross_to_net``.

    Returns
    -------
    Account
    """
    covered = covered_person_years(panel, results)
    estimated = effects.primary.where(stratum=None).frame[["cohort", "period"]]
    covered = covered.merge(estimated, on=["cohort", "period"])
    exposure = covered.groupby(["cohort", "period"])[["person_years"]].sum().reset_index()
    gross = savings.gross(effects.primary.where(stratum=None), exposure, by=["period"])
    earned = covered.groupby("period")["earned"].sum()
    periods = gross.frame["period"]
    paid = [float(earned.sum()) if p != p else float(earned[p]) for p in periods]
    net = savings.net(gross, paid)
    table = pd.concat([gross.tidy(level), net.tidy(level)], ignore_index=True)
    table = table.rename(columns={"exposure": "person_years"})
    keys = ["estimand", "period"]
    columns = [*keys, "estimate", "std_error", "conf_low", "conf_high", "person_years", "payments"]
    ctx.table(
        "impact_savings", table[columns], keys=keys, counts=["person_years"], formats=_MONEY,
        title="Impact savings: counterfactual less actual spending",
        note="Nominal USD, positive = savings, for the ACO-years whose effect is identified. "
        "Payments are the published shared savings less losses of the same ACO-years, taken as "
        "known: the interval of net savings is that of gross savings, shifted.",
    )  # fmt: skip
    same = savings.benchmark_savings(covered, by=["period"])
    total = savings.benchmark_savings(covered)
    benchmark = pd.concat([total, same], ignore_index=True)
    note = (
        "Benchmark less expenditures: the program's accounting, not an effect. Never to be added "
        "to or set against impact savings in one series."
    )
    ctx.table(
        "benchmark_savings", benchmark, keys=["period"], formats=_MONEY, note=note,
        title="Benchmark savings of the same ACO-years",
    )  # fmt: skip
    every = results.aco_year.rename(
        columns={"performance_year": "period", "earn_save_loss": "earned"}
    )
    ctx.table(
        "benchmark_savings_all", savings.benchmark_savings(every, by=["period"]), keys=["period"],
        title="Benchmark savings of all ACOs in the files", formats=_MONEY, note=note,
    )  # fmt: skip
    _draw(ctx, table[table["period"].isna()], total, level)
    return Account(gross, net)


def _draw(ctx: StudyContext, impact: pd.DataFrame, benchmark: pd.DataFrame, level: float) -> None:
    rows: list[dict[str, object]] = []
    amounts = {"estimate": "amount", "conf_low": "conf_low", "conf_high": "conf_high"}
    by_estimand = impact.set_index("estimand").rename(columns=amounts)
    paid = float(benchmark["payments"].iloc[0])
    for kind in ("gross", "net"):
        row: dict[str, object] = {name: by_estimand[name][f"impact_savings_{kind}"]
                                  for name in amounts.values()}  # fmt: skip
        rows.append({"measure": "impact", "kind": kind, "component": kind.capitalize(), **row})
    for kind, column in (("gross", "benchmark_savings"), ("net", "benchmark_savings_net")):
        amount = float(benchmark[column].iloc[0])
        rows.append(
            {"measure": "benchmark", "kind": kind, "component": kind.capitalize(),
             "amount": amount}
        )  # fmt: skip
    rows += [
        {"measure": measure, "kind": "payment", "component": "Shared savings paid", "amount": paid}
        for measure in ("impact", "benchmark")
    ]
    ctx.figure(
        "gross_to_net", figures.gross_to_net(pd.DataFrame(rows), level=level),
        title="From gross to net savings, by two measures that are never mixed",
    )  # fmt: skip
