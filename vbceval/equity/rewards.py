"""Who is paid and who owes: a settlement by stratum of organizations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates
from vbceval.inference import SSC
from vbceval.programs import Settlement

PER_UNIT = "payment_per_unit"
PAID = "share_paid"
OWING = "share_owing"


def rewards(
    settlement: Settlement,
    strata: Mapping[str, str],
    *,
    by: str,
    exposure: Mapping[str, float],
    line: str | None = None,
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
    ssc : SSC, optional
        Small-sample factor of errors; default G / (G - 1), G organizations of a stratum.

    Returns
    -------
    Estimates
        For each stratum ``"by=level"``: ``payment_per_unit`` (sum of dollars over sum of exposure),
        ``share_paid`` and ``share_owing`` (of organizations). Without draws they carry influence:
        organizations count as drawn at random from many like them. With draws of the settlement
        they carry those draws, of these organizations alone.

    Raises
    ------
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
    amount = np.asarray(settlement[line or settlement.final], dtype=float)
    names = [str(x) for x in settlement.organizations]
    level, size = _checked(settlement, amount, names, strata, exposure)
    rows: list[dict[str, Any]] = []
    values: list[FloatArray] = []
    influence: list[FloatArray] = []
    roots: list[float] = []
    factor = SSC.cluster() if ssc is None else ssc
    unit = settlement.line(line or settlement.final).unit
    for name in pd.unique(level):
        inside = level == name
        for record, found, psi in _amounts(amount, size, inside):
            n = int(inside.sum())
            rows.append(
                {"outcome": f"{settlement.program} {line or settlement.final}",
                 "stratum": f"{by}={name}", "period": float(settlement.performance_year),
                 "n_clusters": n, "df": factor.df(n), **record}
            )  # fmt: skip
            values.append(found)
            influence.append(psi)
            roots.append(np.sqrt(factor.factor(n_clusters=n)))
    frame = pd.DataFrame(rows)
    share = frame["estimand"] != PER_UNIT
    frame["unit_of_measure"] = np.where(
        share, "share of organizations", f"{unit} per unit of exposure"
    )
    meta = {"estimator": "rewards", "by": by, "program": settlement.program, "ssc": factor.name}
    if amount.ndim == 2:
        draws = np.column_stack(values)
        return Estimates(
            frame=frame.assign(estimate=draws.mean(axis=0), df=np.inf), samples=draws,
            interval="credible", meta=meta,
        )  # fmt: skip
    psi = np.column_stack(influence)
    return Estimates(
        frame=frame.assign(estimate=[float(v) for v in values]), psi=psi, psi_vcov=psi * roots,
        clusters=pd.Index(names), cluster_name="organization", meta={**meta, "vcov": "CR1"},
    )  # fmt: skip


def _amounts(
    amount: FloatArray, size: FloatArray, inside: np.ndarray
) -> list[tuple[dict[str, str], FloatArray, FloatArray]]:
    """Return the name, value () or (draws,), and influence (n,) of each amount of a stratum."""
    held, weight = amount[inside], np.where(inside, size, 0.0)
    total, n = weight.sum(), inside.sum()
    mean = held.sum(axis=0) / total
    found = [({"estimand": PER_UNIT}, mean, (amount.T * inside - mean[..., None] * weight) / total)]
    for name, hit in ((PAID, amount > 0), (OWING, amount < 0)):
        share = hit[inside].mean(axis=0)
        found.append(({"estimand": name}, share, inside * (hit.T - share[..., None]) / n))
    return found


def _checked(
    settlement: Settlement,
    amount: FloatArray,
    names: list[str],
    strata: Mapping[str, str],
    exposure: Mapping[str, float],
) -> tuple[np.ndarray, FloatArray]:
    """Return the stratum and the exposure of each organization."""
    found = Problems(f"the settlement of `{settlement.program}` {settlement.performance_year}")
    for what, table in (("stratum", strata), ("exposure", exposure)):
        absent = [x for x in names if x not in table]
        if absent:
            found.add(f"{len(absent)} organizations have no {what}: {listed(absent)}. Add them.")
    sizes = np.array([exposure.get(x, 1.0) for x in names], dtype=float)
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        found.add(
            f"{int((~(np.isfinite(sizes) & (sizes > 0))).sum())} exposures are not positive numbers, "
            "and payments are divided by them. Leave these organizations out before settling."
        )
    if np.isnan(amount).any():
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
