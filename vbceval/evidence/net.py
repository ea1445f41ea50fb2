"""Gross effects, payments to participants and net effects that are printed together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vbceval.evidence.relations import resolve, side
from vbceval.evidence.size import COARSE_BASELINE, size_effects

NET_COLUMNS = (
    "relation",
    "program",
    "program_type",
    "report",
    "period",
    "year",
    "population",
    "counterfactual",
    "unit",
    "gross_effect",
    "gross_se",
    "payments",
    "payments_source",
    "net_effect",
    "net_se",
    "net_se_source",
    "percent_source",
    "denominator",
    "coarse_baseline",
    "gross_percent",
    "gross_se_percent",
    "payments_percent",
    "net_percent",
    "net_se_percent",
    "payments_over_gross",
    "gross_facts",
    "net_fact",
    "source",
)


def net_effects(facts: pd.DataFrame, relations: pd.DataFrame) -> pd.DataFrame:
    """
    Return the gross, payment and net figures of every program that prints gross and net.

    Signs are those of effects throughout: negative is lower spending, payments are positive, and
    net = gross + payments. Nothing is pooled.

    Parameters
    ----------
    facts : DataFrame
        From `read_facts`.
    relations : DataFrame
        From `read_relations`; those with check "net" are used.

    Returns
    -------
    DataFrame
        One row a relation, columns `NET_COLUMNS`. ``counterfactual`` is "evaluation" (an effect)
        or "benchmark" (a comparison with an administrative target: its gross and net figures are
        no effects and must not be pooled with effects, but its payments were really paid).
        ``gross_effect``, ``payments``, ``net_effect`` and their standard errors are in ``unit``,
        nominal US dollars in total, per episode, per month or per year. ``payments_source`` is
        "printed", or "implied" where only gross and net are printed. ``net_se_source`` is
        "interval", or "gross" where only the gross figure has an interval, which payments, taken
        as fixed, shift but do not widen, else "none". The ``_percent`` columns are the same
        figures as percent of the gross effect's baseline; ``percent_source`` is "own" (of the
        gross figure), "scale" (of the same effect printed per person) or "none",
        ``denominator`` names the baseline, and ``coarse_baseline`` is True where rounding leaves
        it uncertain by more than 10 %.
        ``payments_over_gross`` is payments as a share of gross savings, missing where gross
        spending rose.

    Raises
    ------
    DataError
        If a relation names a fact or a number that `facts` does not have.
    """
    resolved = resolve(relations[relations["check"] == "net"], facts)
    table = pd.concat([facts.drop(columns=["percent_effect"]), size_effects(facts)], axis=1)
    rows = {row["fact"]: row for row in table.to_dict("records")}
    found = [
        _triplet(str(name), members, rows)
        for name, members in resolved.groupby("relation", sort=False)
    ]
    return pd.DataFrame(found, columns=[*NET_COLUMNS])


def _triplet(name: str, members: pd.DataFrame, rows: dict[str, dict[Any, Any]]) -> dict[str, Any]:
    by_role = {role: members[members["role"] == role] for role in members["role"].unique()}
    # relations are written with savings positive; effects have the opposite sign
    gross, net = (-side(members, (role,))[0] for role in ("gross", "net"))
    printed = "payment" in by_role
    payments = -side(members, ("payment",))[0] if printed else net - gross
    net_row = rows[by_role["net"]["fact"].iloc[0]]
    gross_facts = list(dict.fromkeys(by_role["gross"]["fact"]))
    gross_se = _se(by_role["gross"], rows)
    net_se = _se(by_role["net"], rows)
    net_se_source = "interval" if net_se > 0 else "gross" if gross_se > 0 else "none"
    net_se = gross_se if net_se_source == "gross" else net_se
    scale, percent_source, lender = _percent_per_dollar(by_role, gross, rows)
    coarse = lender is not None and lender["baseline_half"] > COARSE_BASELINE * lender["baseline"]
    quantities = {rows[f]["quantity"] for f in [*gross_facts, net_row["fact"]]}
    return {
        **{c: net_row[c] for c in ("program", "program_type", "report", "period", "year")},
        "relation": name,
        "population": net_row["population"],
        "counterfactual": "benchmark" if "benchmark" in quantities else "evaluation",
        "unit": str(net_row["unit"]).split(" (")[0].removesuffix(" vs benchmark"),
        "gross_effect": gross,
        "gross_se": gross_se,
        "payments": payments,
        "payments_source": "printed" if printed else "implied",
        "net_effect": net,
        "net_se": net_se,
        "net_se_source": net_se_source,
        "percent_source": percent_source,
        "denominator": rows[lender["baseline_fact"] or lender["fact"]]["denominator"]
        if lender
        else "",
        "coarse_baseline": coarse,
        "gross_percent": gross * scale,
        "gross_se_percent": gross_se * abs(scale),
        "payments_percent": payments * scale,
        "net_percent": net * scale,
        "net_se_percent": net_se * abs(scale),
        "payments_over_gross": payments / -gross if gross < 0 else np.nan,
        "gross_facts": "; ".join(gross_facts),
        "net_fact": net_row["fact"],
        "source": net_row["source"],
    }


def _se(members: pd.DataFrame, rows: dict[str, dict[Any, Any]]) -> float:
    """Return the printed standard error of a side that is one fact's estimate, else missing."""
    first = members.iloc[0]
    if len(members) > 1 or first["field"] != "estimate" or not first["fact"]:
        return float("nan")
    return float(rows[first["fact"]]["std_error"]) * abs(float(first["multiplier"]))


def _percent_per_dollar(
    by_role: dict[Any, pd.DataFrame], gross: float, rows: dict[str, dict[Any, Any]]
) -> tuple[float, str, dict[Any, Any] | None]:
    """Return percent of baseline per dollar of the gross effect, and the row it comes from."""
    for role, source in (("gross", "own"), ("scale", "scale")):
        # the percent of one part is not that of a sum or a product
        member = by_role[role].iloc[0] if role in by_role and len(by_role[role]) == 1 else None
        if member is None or member["field"] != "estimate" or gross == 0:
            continue
        row = rows[member["fact"]]
        if not np.isnan(row["percent_effect"]):
            return row["percent_effect"] / gross, source, row
    return float("nan"), "none", None
