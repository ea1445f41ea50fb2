"""Choose the figure that suits an `Estimates`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vbceval.estimates import Estimates, columns
from vbceval.figures.event_studies import event_study
from vbceval.figures.forests import forest
from vbceval.figures.posteriors import posterior_density

if TYPE_CHECKING:
    from vbceval.figures.canvas import Figure


def plot(est: Estimates, **options: Any) -> Figure:
    """
    Draw estimates with the figure that suits them.

    Group-time effects and effects by event time become an event study; one posterior quantity
    becomes its density; everything else (strata, cohorts, periods, outcomes, contrasts) a forest.

    Parameters
    ----------
    est : Estimates
        What to draw.
    **options
        Options of `event_study`, `posterior_density` or `forest`.

    Returns
    -------
    Figure
        ``record(fig).kind`` says which figure it is.
    """
    kinds = set(est.frame["estimand"].dropna())
    if kinds == {columns.GROUP_TIME} or est.frame["event_time"].nunique() > 1:
        return event_study(est, **options)
    if len(est) == 1 and est.samples is not None and est.interval == "credible":
        return posterior_density(est, **options)
    return forest(est, **options)
