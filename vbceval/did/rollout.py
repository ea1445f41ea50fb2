"""Which averages of cohort-period effects a staggered rollout identifies; nothing is estimated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vbceval.core.typing import BoolArray
from vbceval.did.cohort_means import CohortMeans, Comparison, Target
from vbceval.estimates import columns

KINDS = ("simple", "cohort", "period", "event_time", "group_time")
"""Averages that are offered."""


class Goal(NamedTuple):
    """
    One row of a result.

    Parameters
    ----------
    keys : dict
        ``estimand``, ``average`` and the keys of the row.
    parts : tuple of tuples of (int, int)
        Cohort and period positions; effects are averaged by cohort size within a part.
    by_size : bool
        Whether parts are averaged by the size of their cohort (each part is one cohort), instead
        of plainly.
    comparison : Comparison
        Who is compared.
    """

    keys: dict[str, Any]
    parts: tuple[tuple[tuple[int, int], ...], ...]
    by_size: bool
    comparison: Comparison

    def target(self, means: CohortMeans) -> Target:
        """Return the average as weights; they follow cohort sizes."""
        heads = np.array([means.size[part[0][0]] if self.by_size else 1.0 for part in self.parts])
        pairs, weights = [], []
        for part, head in zip(self.parts, heads / heads.sum(), strict=True):
            size = np.array([means.size[g] for g, _ in part], dtype=float)
            pairs += list(part)
            weights += list(head * size / size.sum())
        return Target(tuple(pairs), np.array(weights))

    def cohorts(self, means: CohortMeans) -> tuple[BoolArray, BoolArray]:
        """Return which cohorts are treated and which compared, each of shape (C,)."""
        treated, controls = np.zeros((2, len(means.cohorts)), dtype=bool)
        for part in self.parts:
            for g, t in part:
                treated[g] = True
                controls[self.comparison.controls(means, g, t)] = True
        return treated, controls


def goals(
    means: CohortMeans,
    comparison: Comparison,
    kinds: Sequence[str],
    window: tuple[int, int] | None,
) -> list[Goal]:
    """
    List the averages asked for, kinds in order.

    Parameters
    ----------
    means : CohortMeans
        Cohorts and periods.
    comparison : Comparison
        Who is compared; pairs without anybody are left out.
    kinds : sequence of str
        Some of `KINDS`.
    window : (int, int) or None
        First and last time since entry of "event_time" and "group_time" rows; None is from 0 on.
    """
    e = means.periods[None, :] - means.cohorts[:, None]
    usable = [
        (g, t) for g in range(len(means.cohorts)) for t in range(len(means.periods))
        if np.isfinite(e[g, t]) and len(comparison.controls(means, g, t))
    ]  # fmt: skip
    after = [(g, t) for g, t in usable if e[g, t] >= 0]
    low, high = (0, np.inf) if window is None else window
    inside = [(g, t) for g, t in usable if low <= e[g, t] <= high]
    found = {
        "simple": lambda: _one(after, columns.SIMPLE, "simple", comparison),
        "cohort": lambda: _many(
            after, [float(means.cohorts[g]) for g, _ in after], "cohort", comparison
        ),
        "period": lambda: _many(
            after, [float(means.periods[t]) for _, t in after], "period", comparison
        ),
        "event_time": lambda: _many(
            inside, [float(e[g, t]) for g, t in inside], "event_time", comparison
        ),
        "group_time": lambda: _pairs(means, inside, comparison),
    }
    return [goal for kind in kinds for goal in found[kind]()]


def _one(
    pairs: list[tuple[int, int]], estimand: str, average: str, comparison: Comparison
) -> list[Goal]:
    if not pairs:
        return []
    return [Goal({"estimand": estimand, "average": average}, (tuple(pairs),), False, comparison)]


def _many(
    pairs: list[tuple[int, int]], values: list[float], kind: str, comparison: Comparison
) -> list[Goal]:
    """One row for each value of a key, and their average."""
    estimand = {"cohort": columns.COHORT, "period": columns.PERIOD}.get(kind, columns.EVENT_TIME)
    rows, parts = [], []
    for value in sorted(set(values)):
        part = tuple(p for p, v in zip(pairs, values, strict=True) if v == value)
        keys = {"estimand": estimand, "average": kind, kind: value}
        rows.append(Goal(keys, (part,), False, comparison))
        if kind != "event_time" or value >= 0:
            parts.append(part)
    if parts:
        keys = {"estimand": columns.OVERALL, "average": kind}
        rows.append(Goal(keys, tuple(parts), kind == "cohort", comparison))
    return rows


def _pairs(means: CohortMeans, pairs: list[tuple[int, int]], comparison: Comparison) -> list[Goal]:
    return [
        Goal(
            {
                "estimand": columns.GROUP_TIME, "average": "group_time",
                "cohort": float(means.cohorts[g]), "period": float(means.periods[t]),
                "event_time": float(means.periods[t] - means.cohorts[g]),
            },
            (((g, t),),), False, comparison,
        )
        for g, t in pairs
    ]  # fmt: skip
