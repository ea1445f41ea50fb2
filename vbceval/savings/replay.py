"""A program settled again under other rules, with behaviour held fixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from vbceval.core.checks import listed
from vbceval.core.errors import DataError, DesignError
from vbceval.programs import Program, Settlement
from vbceval.savings.ledger import dollars_paid, interval

AS_WRITTEN = "as written"


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """
    What is changed before a program is settled again.

    Parameters
    ----------
    values : mapping of str to value
        Values of rules, as `Program.with_values` takes them: a minimum savings rate, a sharing rate,
        a discount, a cap.
    inputs : mapping of str to scalar
        Columns of the table set to one value for all organizations: another track, full quality.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Replay:
    """
    Settlements of the same organizations under several sets of rules.

    Attributes
    ----------
    settlements : mapping of str to Settlement
        By scenario; the first is the program as written.
    """

    settlements: Mapping[str, Settlement]

    def table(self, *, level: float = 0.95) -> pd.DataFrame:
        """
        Return what is paid and owed in all, by scenario.

        Parameters
        ----------
        level : float, default 0.95
            Probability of intervals over draws.

        Returns
        -------
        DataFrame
            ``scenario``, ``n_organizations``, ``n_paid`` and ``n_owing`` (organizations; means over
            draws), ``paid``, ``owed``, ``payment`` (paid less owed, dollars), ``conf_low``,
            ``conf_high`` (of `payment`, missing without draws), ``difference`` of `payment` from the
            program as written, ``difference_low``, ``difference_high`` (joint over draws),
            ``behaviour`` ("held fixed"). Spending is that of the table in every scenario: organizations would have behaved
            otherwise under other rules, and this does not say how.
        """
        base = dollars_paid(self.settlements[AS_WRITTEN]).sum(axis=0)
        rows = []
        for name, found in self.settlements.items():
            payment = dollars_paid(found)
            total = payment.sum(axis=0)
            low, high = interval(total, level)
            gap = total - base
            gap_low, gap_high = interval(gap, level)
            rows.append(
                {"scenario": name, "n_organizations": len(found),
                 "n_paid": float((payment > 0).sum(axis=0).mean()),
                 "n_owing": float((payment < 0).sum(axis=0).mean()),
                 "paid": float(np.clip(payment, 0, None).sum(axis=0).mean()),
                 "owed": float(np.clip(-payment, 0, None).sum(axis=0).mean()),
                 "payment": float(total.mean()), "conf_low": low, "conf_high": high,
                 "difference": float(gap.mean()), "difference_low": gap_low,
                 "difference_high": gap_high, "behaviour": "held fixed"}
            )  # fmt: skip
        return pd.DataFrame(rows)


def replay(
    program: Program,
    frame: pd.DataFrame,
    *,
    performance_year: int,
    scenarios: Mapping[str, Scenario],
    draws: Mapping[str, ArrayLike] | None = None,
) -> Replay:
    """
    Settle a program as written and under other rules, holding behaviour fixed.

    Parameters
    ----------
    program : Program
        From `vbceval.programs.get`.
    frame : DataFrame
        One row an organization, as `Program.settle` takes it.
    performance_year : int
        The year whose rules hold.
    scenarios : mapping of str to Scenario
        What is changed, by name.
    draws : mapping of str to array_like, shape (organizations, draws), optional
        Joint draws of some inputs, the same in every scenario.

    Returns
    -------
    Replay

    Raises
    ------
    DesignError
        If no scenario is given, one is called "as written" or changes nothing, or a rule or a
        column is not known.
    DataError
        If a scenario sets a column that is drawn, or the table is not valid.

    Examples
    --------
    >>> from vbceval import programs
    >>> mssp = programs.get("mssp")
    >>> example = mssp.examples[0]
    >>> found = replay(
    ...     mssp, example.frame(), performance_year=example.performance_year,
    ...     scenarios={"no sequestration": Scenario(values={"sequestration": 0.0})},
    ... )
    >>> bool(found.table()["difference"].iloc[1] > 0)
    True
    """
    if not scenarios:
        raise DesignError("there is nothing to replay: give at least one `Scenario`.")
    if AS_WRITTEN in scenarios:
        raise DesignError(f"`{AS_WRITTEN}` is the name of the program without changes.")
    idle = [name for name, change in scenarios.items() if not (change.values or change.inputs)]
    if idle:
        raise DesignError(f"scenarios {listed(idle)} change nothing. Name values or inputs.")
    found = {AS_WRITTEN: program.settle(frame, performance_year=performance_year, draws=draws)}
    for name, change in scenarios.items():
        _check_inputs(program, name, change)
        drawn = sorted(set(change.inputs) & set(draws or {}))
        if drawn:
            raise DataError(f"scenario `{name}` sets {listed(drawn)}, of which draws are given.")
        rules = program.with_values(**change.values) if change.values else program
        table = frame.copy()
        for column, value in change.inputs.items():
            table[column] = pd.Series(value, index=table.index)
        found[name] = rules.settle(table, performance_year=performance_year, draws=draws)
    return Replay(found)


def _check_inputs(program: Program, name: str, change: Scenario) -> None:
    known = [*([program.variant_column] if program.variant_column else []), *program.inputs]
    unknown = [column for column in change.inputs if column not in known]
    if unknown:
        raise DesignError(
            f"scenario `{name}` sets {listed(unknown)}, which `{program.name}` does not read, so "
            f"nothing would change. It reads {listed(known, most=40)}."
        )
    long = [column for column, value in change.inputs.items() if not np.isscalar(value)]
    if long:
        raise DesignError(
            f"scenario `{name}` sets {listed(long)} to several values; give one value for all "
            "organizations, or settle a changed table."
        )
