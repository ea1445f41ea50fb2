"""Who is paid and who owes: a settlement by stratum of organizations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates
from vbceval.inference import SSC
from vbceval.programs import Settlement

MEASURES = ("payment_per_unit", "share_paid", "share_owing")


def rewards(
    settlement: Settlement,
    strata: Mapping[str, str],
    *,
    by: str,
    exposure: Mapping[str, float],
    line: str | None = None,
    against: Settlement | None = None,
    ssc: SSC | None = None,
) -> Estimates:
    """
    Return payments per person-year, and the shares paid and owing, by stratum of organizations.

    `gaps` of the result compares safety-net with other organizations, rural with urban, or fifths of
    the share of dual-eligible patients, with intervals.

    Parameters
    ----------
    settlement : Settlement
        From `Program.settle`.
    strata : mapping of str to str
        Stratum of each organization that was settled, such as ``"safety net"``.
    by : str
        Name of the stratifying variable.
    exposure : mapping of str to float
        Person-years, or episodes, of each organization.
    line : str, optional
        Line of the settlement in dollars; default the final one. Lines before it show what a part
        of the rules does: the withhold, the adjustment for quality, sequestration.
    against : Settlement, optional
        The same organizations settled under other rules, for example without the link to quality:
        results are then `settlement` less `against`, with behaviour held fixed.
    ssc : SSC, optional
        Small-sample factor of errors; default G / (G - 1), G organizations of a stratum.

    Returns
    -------
    Estimates
        For each stratum ``"by=level"``: ``payment_per_unit`` (sum of dollars over sum of exposure),
        ``share_paid`` and ``share_owing`` (of organizations), with ``difference_`` before these names
        for `against`. Without draws they carry influence:
        organizations count as drawn at random from many like them. With draws of the settlement
        they carry those draws, of these organizations alone.

    Raises
    ------
    DesignError
        If the line is not in dollars, or `against` is of other organizations or another number of
        draws.
    DataError
        Listing what is missing: strata or exposures of organizations, amounts, or a stratum with
        one organization.

    Examples
    --------
    >>> from vbceval import programs
    >>> mssp = programs.get("mssp")
    >>> table = pd.DataFrame(
    ...     {"aco_id": ["A", "B", "C", "D"], "track": "BASIC_A", "n_ab": 10_000,
    ...      "benchmark": 100e6, "expenditure": [90e6, 101e6, 92e6, 94e6], "qual_score": 1.0,
    ...      "met_qps": True})
    >>> found = rewards(mssp.settle(table, performance_year=2024),
    ...     dict(A="rural", B="rural", C="urban", D="urban"), by="place",
    ...     exposure=dict.fromkeys("ABCD", 10_000.0))
    >>> found.estimate.tolist()  # rural, then urban
    [196.0, 0.5, 0.0, 274.4, 1.0, 0.0]
    """
    name = line or settlement.final
    amounts = [_dollars(settlement, name)]
    if against is not None:
        amounts.append(_dollars(against, name))
        _check_same(settlement, against, amounts)
    names = [str(x) for x in settlement.organizations]
    level, size = _checked(settlement, amounts, names, strata, exposure)
    factor = SSC.cluster() if ssc is None else ssc
    rows: list[dict[str, Any]] = []
    values: list[FloatArray] = []
    influence: list[FloatArray] = []
    drawn = any(amount.ndim == 2 for amount in amounts)
    for stratum in pd.unique(level):
        inside = level == stratum
        n = int(inside.sum())
        record = {"outcome": f"{settlement.program} {name}", "stratum": f"{by}={stratum}",
                  "period": float(settlement.performance_year), "n_clusters": n,
                  "df": factor.df(n)}  # fmt: skip
        rows += [{"estimand": measure, **record} for measure in MEASURES]
        values += _less([_amounts(amount[inside], size[inside]) for amount in amounts])
        if not drawn:
            influence += _less([_influence(amount, size, inside) for amount in amounts])
    frame = pd.DataFrame(rows)
    share = frame["estimand"] != MEASURES[0]
    frame["unit_of_measure"] = np.where(
        share, "share of organizations", "USD per unit of exposure (positive = paid)"
    )
    if against is not None:
        frame["estimand"] = "difference_" + frame["estimand"]
    meta = {"estimator": "rewards", "by": by, "program": settlement.program}
    if drawn:
        draws = np.column_stack(values)
        return Estimates(
            frame=frame.assign(estimate=draws.mean(axis=0), df=np.inf), samples=draws,
            interval="credible", meta=meta,
        )  # fmt: skip
    roots = [np.sqrt(factor.factor(n_clusters=n)) for n in frame["n_clusters"]]
    psi = np.column_stack(influence)
    return Estimates(
        frame=frame.assign(estimate=[float(v) for v in values]), psi=psi, psi_vcov=psi * roots,
        clusters=pd.Index(names), cluster_name="organization",
        meta={**meta, "vcov": "CR1" if factor.G else "CR0", "ssc": factor.name},
    )  # fmt: skip


def _dollars(settlement: Settlement, name: str) -> FloatArray:
    """Return a line in dollars, shape (n,) or (n, draws)."""
    held = settlement.line(name)
    if held.unit != "usd":
        money = [x.name for x in settlement.lines if x.unit == "usd"]
        raise DesignError(
            f"`line` is `{name}`, which is no amount of dollars. Use {listed(money, most=40)}."
        )
    return np.asarray(held.values, dtype=float)


def _check_same(settlement: Settlement, against: Settlement, amounts: list[FloatArray]) -> None:
    if not np.array_equal(settlement.organizations, against.organizations):
        raise DesignError(
            f"`against` settles other organizations ({len(against)}) than `settlement` "
            f"({len(settlement)}), or in another order. Settle the same table under both rules."
        )
    if len({amount.shape[1] for amount in amounts if amount.ndim == 2}) > 1:
        raise DesignError("`against` has another number of draws. Give both the same joint draws.")


def _less(parts: list[list[FloatArray]]) -> list[FloatArray]:
    """Return the first amounts, less the second ones where there are any."""
    first, *others = parts
    return [x - others[0][i] for i, x in enumerate(first)] if others else first


def _amounts(amount: FloatArray, size: FloatArray) -> list[FloatArray]:
    """Return the values, shape () or (draws,), of the measures in a stratum."""
    return [
        amount.sum(axis=0) / size.sum(),
        (amount > 0).mean(axis=0),
        (amount < 0).mean(axis=0),
    ]


def _influence(amount: FloatArray, size: FloatArray, inside: np.ndarray) -> list[FloatArray]:
    """Return the influence of every organization, shape (n,), on each amount of a stratum."""
    total, n = size[inside].sum(), inside.sum()
    mean = amount[inside].sum() / total
    shares = [inside * (hit - hit[inside].mean()) / n for hit in (amount > 0, amount < 0)]
    return [inside * (amount - mean * size) / total, *shares]


def _checked(
    settlement: Settlement,
    amounts: list[FloatArray],
    names: list[str],
    strata: Mapping[str, str],
    exposure: Mapping[str, float],
) -> tuple[np.ndarray, FloatArray]:
    """Return the stratum and the exposure of each organization."""
    found = Problems(f"the settlement of `{settlement.program}` {settlement.performance_year}")
    for what, table in (("stratum", strata), ("exposure", exposure)):
        absent = [x for x in names if pd.isna(table.get(x, np.nan))]
        if absent:
            found.add(f"{len(absent)} organizations have no {what}: {listed(absent)}. Add them.")
    known = pd.Series([exposure.get(x, 1.0) for x in names]).fillna(1.0)
    sizes = pd.to_numeric(known, errors="coerce").to_numpy(dtype=float)
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        found.add(
            f"{int((~(np.isfinite(sizes) & (sizes > 0))).sum())} exposures are not positive numbers, "
            "and payments are divided by them. Leave these organizations out before settling."
        )
    if any(np.isnan(amount).any() for amount in amounts):
        found.add("some amounts are missing. Leave these organizations out before settling.")
    level = np.array([str(strata.get(x, "")) for x in names], dtype=object)
    counts = pd.Series(level).value_counts()
    if (counts < 2).any():
        found.add(
            f"strata {listed(counts.index[counts < 2])} have one organization, so there is no error. "
            "Merge strata."
        )
    found.raise_if_any()
    return level, sizes
