"""Read data into strata with their cohorts."""

from __future__ import annotations

from vbceval.design import Design
from vbceval.did.synthetic.cohorts import find_cohorts
from vbceval.did.synthetic.replicates import Part
from vbceval.did.synthetic.wide import Source, read_wide
from vbceval.moments import Moments
from vbceval.panel import Panel


def read_parts(
    data: Panel | Moments,
    design: Design,
    estimator: str,
    *,
    least_pre: int = 1,
    covariate_gaps: bool = False,
    balanced: bool = True,
) -> tuple[Source, list[Part], list[float]]:
    """
    Return the source, its strata with their cohorts, and entries without a period before them.

    Parameters
    ----------
    data, design
        As given to the estimator.
    estimator : str
        For messages.
    least_pre, balanced
        As in `find_cohorts`.
    covariate_gaps : bool
        As in `read_wide`.
    """
    source = read_wide(data, design, estimator, covariate_gaps=covariate_gaps)
    parts, dropped = [], set()
    for wide in source.tables:
        found = find_cohorts(wide, design, estimator, least_pre=least_pre, balanced=balanced)
        parts.append(Part(wide, found.cohorts))
        dropped |= {float(g) for g in found.dropped}
    return source, parts, sorted(dropped)
