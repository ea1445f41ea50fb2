"""Resampled effects: organizations as if treated (placebo), or drawn again (bootstrap)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.groups import in_order
from vbceval.core.typing import FloatArray, IntArray
from vbceval.did.synthetic.cohorts import Cohort
from vbceval.did.synthetic.wide import Wide

MOST_TRIES = 1_000
"""Draws of organizations tried before a sample with every cohort is called not found."""


class Part(NamedTuple):
    """One stratum: its matrices and cohorts."""

    wide: Wide
    cohorts: list[Cohort]


class Draw(NamedTuple):
    """
    Organizations that stand for a cohort and its donors in one replicate.

    Parameters
    ----------
    part, cohort : int
        Position of the stratum and of its cohort.
    wide : Wide
        Matrices of the stratum.
    treated, donors : int arrays
        Rows of `wide`.
    treated_mass, donor_mass : arrays
        How often each was drawn.
    """

    part: int
    cohort: int
    wide: Wide
    treated: IntArray
    donors: IntArray
    treated_mass: FloatArray
    donor_mass: FloatArray


Effects = Callable[[list[Draw]], FloatArray]
"""Effects of the cohorts of one stratum in their shown periods, one after another."""


def whole(part: int, cohort: int, wide: Wide, treated: IntArray, donors: IntArray) -> Draw:
    """Return a draw in which every organization stands once."""
    return Draw(part, cohort, wide, treated, donors, np.ones(len(treated)), np.ones(len(donors)))


def placebo(
    parts: Sequence[Part], effects: Effects, *, replications: int, rng: np.random.Generator
) -> FloatArray:
    """
    Return effects of donors that take the place of the treated, shape (B, k).

    As many donors as there are treated organizations are drawn, cohort by cohort, and compared
    with the other donors; the treated are left out (Algorithm 4 of the paper). One treated
    organization a stratum and no more donors than `replications`: every donor in turn.

    Raises
    ------
    EstimationError
        If donors are not more than the treated, or clusters hold several organizations.
    """
    donors = [_common_donors(part) for part in parts]
    for part in parts:
        problem = placebo_problem(part)
        if problem is not None:
            raise EstimationError(problem)
    every = np.concatenate([p.wide.labels[d] for p, d in zip(parts, donors, strict=True)])
    names = in_order(pd.Index(every).unique())
    out = []
    for order in _orders(parts, donors, len(names), replications, rng):
        row = []
        for i, (part, rows) in enumerate(zip(parts, donors, strict=True)):
            ranked = rows[np.argsort(order[names.get_indexer(pd.Index(part.wide.labels[rows]))])]
            used = 0
            treated = sum(len(c.treated) for c in part.cohorts)
            rest = np.sort(ranked[treated:])
            draws = []
            for j, cohort in enumerate(part.cohorts):
                chosen = np.sort(ranked[used : used + len(cohort.treated)])
                used += len(chosen)
                draws.append(whole(i, j, part.wide, chosen, rest))
            row.append(effects(draws))
        out.append(np.concatenate(row))
    return np.array(out)


def _common_donors(part: Part) -> IntArray:
    common = part.cohorts[0].donors
    for cohort in part.cohorts[1:]:
        common = np.intersect1d(common, cohort.donors)
    return common


def placebo_problem(part: Part) -> str | None:
    """Return why donors cannot take the place of the treated, or None."""
    treated, donors = sum(len(c.treated) for c in part.cohorts), len(_common_donors(part))
    where = f" in stratum `{part.wide.stratum}`" if part.wide.stratum else ""
    if donors <= treated:
        return (
            f"placebo inference puts donors in the place of {treated} treated organizations and "
            f"needs more donors than that; there are {donors}{where}. Use vcov='bootstrap', or "
            "vcov='none'."
        )
    if len(np.unique(part.wide.cluster)) < len(part.wide.labels):
        return (
            "placebo inference exchanges organizations, but clusters hold several of them"
            f"{where}. Use vcov='bootstrap', which draws clusters, or let the cluster be the "
            "organization."
        )
    return None


def _orders(
    parts: Sequence[Part],
    donors: Sequence[IntArray],
    size: int,
    replications: int,
    rng: np.random.Generator,
) -> Iterator[FloatArray]:
    """Yield ranks of all donors; the lowest take the place of the treated."""
    single = all(len(p.cohorts) == 1 and len(p.cohorts[0].treated) == 1 for p in parts)
    if single and all(len(rows) == size for rows in donors) and size <= replications:
        for first in range(size):
            yield np.where(np.arange(size) == first, 0.0, 1.0 + np.arange(size))
        return
    for _ in range(replications):
        yield rng.permutation(size).astype(float)


def bootstrap(
    parts: Sequence[Part],
    effects: Effects,
    *,
    replications: int,
    rng: np.random.Generator,
    prepare: Callable[[Wide, FloatArray], Wide],
) -> FloatArray:
    """
    Return effects in samples of clusters drawn with replacement, shape (B, k).

    A sample in which a cohort has no treated organization or no donor is drawn again (Algorithm 2
    of the paper does so for the treated as a whole). Strata share their draws.

    Parameters
    ----------
    parts : sequence of Part
        Strata.
    effects : callable
        Effects of one draw.
    replications : int
        B.
    rng : Generator
        Random numbers.
    prepare : callable
        Adjusts the matrices of a stratum to a sample, given how often each organization was drawn.

    Raises
    ------
    EstimationError
        If a cohort has fewer than two treated clusters.
    """
    for part in parts:
        require_two_treated(part, "bootstrap")
    used = np.unique(np.concatenate([used_clusters(part) for part in parts]))
    out = []
    for _ in range(replications):
        counts = _valid_counts(parts, used, rng)
        row = []
        for i, part in enumerate(parts):
            mass = counts[part.wide.cluster]
            wide = prepare(part.wide, mass)
            draws = []
            for j, cohort in enumerate(part.cohorts):
                treated = cohort.treated[mass[cohort.treated] > 0]
                donors = cohort.donors[mass[cohort.donors] > 0]
                draws.append(Draw(i, j, wide, treated, donors, mass[treated], mass[donors]))
            row.append(effects(draws))
        out.append(np.concatenate(row))
    return np.array(out)


def used_clusters(part: Part) -> IntArray:
    """Return codes of the clusters of treated and donors."""
    rows = np.concatenate([np.concatenate([c.treated, c.donors]) for c in part.cohorts])
    return np.asarray(np.unique(part.wide.cluster[rows]))


def _valid_counts(parts: Sequence[Part], used: IntArray, rng: np.random.Generator) -> FloatArray:
    size = max(int(part.wide.cluster.max()) for part in parts) + 1
    counts = np.zeros(size)
    for _ in range(MOST_TRIES):
        counts[used] = rng.multinomial(len(used), np.full(len(used), 1 / len(used)))
        drawn = [counts[part.wide.cluster] for part in parts]
        if all(
            mass[c.treated].any() and mass[c.donors].any()
            for part, mass in zip(parts, drawn, strict=True)
            for c in part.cohorts
        ):
            return counts
    raise EstimationError(
        f"none of {MOST_TRIES:,} samples drawn with replacement had every cohort treated and with "
        "donors. Use vcov='placebo', or estimate fewer cohorts at once."
    )


def require_two_treated(part: Part, name: str) -> None:
    """
    Check that variation between treated clusters can be seen in every cohort.

    Raises
    ------
    EstimationError
        With the cohorts that have one treated cluster.
    """
    alone = [c for c in part.cohorts if len(np.unique(part.wide.cluster[c.treated])) < 2]
    if alone:
        listed = ", ".join(f"{c.entry:g}" for c in alone)
        raise EstimationError(
            f"{name} errors come from variation between treated organizations, and cohort {listed} "
            "has one treated cluster. Use vcov='placebo', which takes the variation from donors."
        )


def require_one_treated(cohort: Cohort) -> None:
    """
    Check that each donor can take the place of the treated organization.

    Raises
    ------
    EstimationError
        If there are several treated, or one donor, which would have no donor itself.
    """
    if len(cohort.treated) > 1:
        raise EstimationError(
            f"cohort {cohort.entry:g} has {len(cohort.treated)} treated organizations, and the "
            "gaps of an average are smaller than those of one donor. Use fit(vcov='placebo'), "
            "which draws as many donors."
        )
    if len(cohort.donors) < 2:
        raise EstimationError(
            f"cohort {cohort.entry:g} has one donor, and in the place of the treated it would have "
            "none itself. Add donors."
        )


def leave_one_out(clusters: IntArray, codes: IntArray) -> FloatArray:
    """Return 1 where a row is kept when a cluster is left out, shape (G, N)."""
    return np.asarray(clusters[:, None] != codes[None, :], dtype=float)


def require_replications(replications: int) -> None:
    """Raise a DesignError unless there are at least two replications."""
    if replications < 2:
        raise DesignError(
            f"`replications` is {replications}: a standard deviation needs at least 2, and a "
            "stable one a few hundred."
        )
