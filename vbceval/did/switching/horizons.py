"""Effects, placebos and the total effect, directions apart and together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray
from vbceval.did.switching.contrasts import Contrast, Rules, Slopes, contrast
from vbceval.did.switching.paths import Paths

NAMES = {1: "in", -1: "out"}
"""What directions are called: treatment rises, falls."""


class Row(NamedTuple):
    """
    One estimate.

    Parameters
    ----------
    horizon : int or None
        Periods since the period before the change; negative for placebos, None for the total.
    direction : {"both", "in", "out"}
        Whose change.
    estimate, treatment : float
        Effect, and mean treatment change of switchers by which it is, or can be, divided.
    psi, recentred : arrays, shape (N,)
        Derivative by groups' weights, and the authors' influence.
    switchers, used : bool arrays, shape (N,)
        Groups behind it.
    """

    horizon: int | None
    direction: str
    estimate: float
    treatment: float
    psi: FloatArray
    recentred: FloatArray
    switchers: BoolArray
    used: BoolArray


@dataclass(frozen=True, kw_only=True)
class Plan:
    """
    Which horizons are estimated.

    Parameters
    ----------
    effects, placebos : int or None
        At most so many; None is as many as there are.
    directions : tuple of {1, -1}
        Rises, falls.
    same_switchers, same_placebo_switchers : bool
        Only switchers that have all effects; all placebos.
    normalised : bool
        Divide by the treatment change.
    differences : bool
        Outcomes are differences: effects add up over horizons.
    """

    effects: int | None
    placebos: int | None
    directions: tuple[int, ...]
    same_switchers: bool
    same_placebo_switchers: bool
    normalised: bool
    differences: bool


def estimate_rows(paths: Paths, plan: Plan, rules: Rules, slopes: Slopes | None) -> list[Row]:
    """
    Estimate what a plan asks for; horizons without a switcher are left out.

    Placebos first, by time since the change; then effects; then the total effect per unit of
    treatment, unless outcomes are differences.

    Parameters
    ----------
    paths : Paths
        N groups.
    plan : Plan
        Horizons.
    rules : Rules
        Comparison and variance.
    slopes : Slopes or None
        Adjustment for covariates.
    """
    effects, placebos = _lengths(paths, plan)
    found: dict[int, dict[int, Contrast]] = {}
    for sign in plan.directions:
        side = _Side(paths, sign, rules, slopes)
        parts = (
            _added_parts(side, effects, placebos)
            if plan.differences
            else _parts(side, effects, placebos, plan)
        )
        for horizon, part in parts:
            found.setdefault(horizon, {})[sign] = part
    rows = [
        _pooled(horizon, direction, parts_of, normalised=plan.normalised)
        for horizon in sorted(found)
        for direction, parts_of in _split(found[horizon], plan)
    ]
    if plan.differences or not any(horizon > 0 for horizon in found):
        return rows
    totals: dict[int, list[tuple[int, Contrast]]] = {}
    for horizon in sorted(h for h in found if h > 0):
        for sign, part in found[horizon].items():
            totals.setdefault(sign, []).append((sign, part))
    for direction, lists in _split(totals, plan):
        rows.append(_total(direction, [pair for pairs in lists.values() for pair in pairs]))
    return rows


def _lengths(paths: Paths, plan: Plan) -> tuple[int, int]:
    """Return how many effects and placebos are estimated."""
    possible = max(paths.horizons(sign) for sign in plan.directions)
    effects = possible if plan.effects is None else min(plan.effects, possible)
    # differences begin a period later
    mirrored = max(paths.placebos(sign) for sign in plan.directions) - plan.differences
    placebos = mirrored if plan.placebos is None else min(plan.placebos, mirrored)
    return effects, max(min(placebos, effects), 0)


class _Side(NamedTuple):
    """One direction of change, and how it is compared."""

    paths: Paths
    sign: int
    rules: Rules
    slopes: Slopes | None

    def one(
        self, horizon: int, *, placebo: bool = False, eligible: BoolArray | None = None
    ) -> Contrast | None:
        """Return the contrast of a horizon."""
        return contrast(
            self.paths, horizon, self.sign, self.rules, self.slopes,
            placebo=placebo, eligible=eligible,
        )  # fmt: skip

    def complete(self, horizons: int, *, placebo: bool, eligible: BoolArray | None) -> BoolArray:
        """Return the switchers that have all of the first horizons."""
        out = np.ones(len(self.paths.first), dtype=bool) if eligible is None else eligible
        for horizon in range(1, horizons + 1):
            part = self.one(horizon, placebo=placebo, eligible=eligible)
            out = out & (part.mass > 0) if part is not None else np.zeros_like(out)
        return out


def _parts(side: _Side, effects: int, placebos: int, plan: Plan) -> Iterator[tuple[int, Contrast]]:
    """Yield the contrasts of a direction, placebos with negative horizon."""
    keep = None
    if plan.same_switchers:
        keep = side.complete(effects, placebo=False, eligible=None)
    keep_placebo = keep
    if plan.same_placebo_switchers:
        keep_placebo = side.complete(placebos, placebo=True, eligible=keep)
    for horizon in range(1, effects + 1):
        part = side.one(horizon, eligible=keep)
        if part is not None:
            yield horizon, part
    for horizon in range(1, placebos + 1):
        part = side.one(horizon, placebo=True, eligible=keep_placebo)
        if part is not None:
            yield -horizon, part


def _added_parts(side: _Side, effects: int, placebos: int) -> Iterator[tuple[int, Contrast]]:
    """Yield contrasts of differenced outcomes, added up over horizons of the same switchers."""
    for size, placebo in ((effects, False), (placebos, True)):
        for horizon in range(1, size + 1):
            keep = side.complete(horizon, placebo=False, eligible=None)
            if placebo:
                keep = side.complete(horizon, placebo=True, eligible=keep)
            found = [
                side.one(h, placebo=placebo, eligible=keep) for h in range(1, horizon + 1)
            ]  # fmt: skip
            parts = [part for part in found if part is not None]
            if len(parts) < horizon:
                continue
            yield (
                (-horizon if placebo else horizon),
                parts[-1]._replace(
                    estimate=sum(part.estimate for part in parts),
                    psi=np.sum([part.psi for part in parts], axis=0),
                    recentred=np.sum([part.recentred for part in parts], axis=0),
                    used=np.any([part.used for part in parts], axis=0),
                ),
            )


def _split[T](parts: Mapping[int, T], plan: Plan) -> Iterator[tuple[str, dict[int, T]]]:
    """Yield all directions together, and each where both were asked for and exist."""
    yield "both" if len(plan.directions) > 1 else NAMES[plan.directions[0]], dict(parts)
    if len(parts) > 1:
        for sign, part in parts.items():
            yield NAMES[sign], {sign: part}


def _pooled(
    horizon: int, direction: str, parts: Mapping[int, Contrast], *, normalised: bool
) -> Row:
    """Average directions by their switchers' weight; a fall is taken with its sign turned."""
    weight = sum(part.weight for part in parts.values())
    estimate = sum(s * p.weight * p.estimate for s, p in parts.items()) / weight
    treatment = sum(float(p.mass @ p.cumulated) for p in parts.values()) / weight
    psi = sum(
        (s * p.weight * p.psi + p.mass * (s * p.estimate - estimate)) for s, p in parts.items()
    ) / weight  # fmt: skip
    recentred = sum(s * p.weight * p.recentred for s, p in parts.items()) / weight
    if normalised:
        moved = sum(p.mass * (p.cumulated - treatment) for p in parts.values()) / weight
        estimate /= treatment
        psi, recentred = (psi - estimate * moved) / treatment, recentred / treatment
    return Row(
        horizon, direction, float(estimate), treatment, np.asarray(psi), np.asarray(recentred),
        np.any([p.mass > 0 for p in parts.values()], axis=0),
        np.any([p.used for p in parts.values()], axis=0),
    )  # fmt: skip


def _total(direction: str, parts: list[tuple[int, Contrast]]) -> Row:
    """Sum effects of all horizons over the sum of treatment changes in their periods."""
    treatment = sum(float(p.mass @ p.current) for _, p in parts)
    estimate = sum(s * p.weight * p.estimate for s, p in parts) / treatment
    psi = sum(
        s * (p.weight * p.psi + p.mass * p.estimate) - estimate * p.mass * p.current
        for s, p in parts
    ) / treatment  # fmt: skip
    recentred = sum(s * p.weight * p.recentred for s, p in parts) / treatment
    return Row(
        None, direction, float(estimate), treatment / sum(p.weight for _, p in parts),
        np.asarray(psi), np.asarray(recentred),
        np.any([p.mass > 0 for _, p in parts], axis=0), np.any([p.used for _, p in parts], axis=0),
    )  # fmt: skip
