"""Effects on counts in single organizations, read from the draws of a fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vbceval.bayes.cells import Cells
from vbceval.bayes.checks import Limits, require_converged
from vbceval.bayes.counts.fit import OWN, RAW, SIGNAL, owners_in
from vbceval.bayes.draws import flatten
from vbceval.bayes.organizations import chosen_draws, owners_of, rows_of
from vbceval.core.typing import FloatArray

_R_HAT = 1.05
"""Limit for single organizations, as for spending."""


def count_effects(
    cells: Cells, tree: Any, *, outcome: str, unit: str, size: int
) -> tuple[pd.DataFrame, FloatArray]:
    """
    Return the effect in each treated organization, log odds or log rate.

    Parameters
    ----------
    cells : Cells
        The cells of the fit.
    tree : DataTree
        Its posterior, with what `vbceval.bayes.counts.fit.complete` adds.
    outcome, unit : str
        Name of the outcome, and of the scale.
    size : int
        Draws used, evenly spaced in every chain.

    Returns
    -------
    DataFrame
        One row a treated organization, as `vbceval.bayes.organizations.organization_effects`.
    array, shape (about size, organizations)
        Draws.

    Raises
    ------
    DesignError
        If `size` leaves fewer than four draws a chain.
    EstimationError
        If chains disagree about an organization.
    """
    from xarray import DataTree

    deviations = DataTree.from_dict({"posterior": tree["posterior"].to_dataset()[[OWN]]})
    require_converged(deviations, None, Limits(r_hat=_R_HAT, ess=0.0))
    chosen = chosen_draws(tree, size)
    after, weights = owners_of(cells)
    mine = np.searchsorted(owners_in(cells), after)
    own, apart, signal = (flatten(tree, name)[:, mine] for name in (OWN, RAW, SIGNAL))
    pooled = flatten(tree, "effect")[chosen] @ weights.T
    draws = pooled + own[chosen]
    frame = rows_of(cells, after, weights, draws, outcome=outcome, unit=unit)
    frame = frame.assign(
        raw=(pooled + apart[chosen]).mean(axis=0), shrinkage=1.0 - signal.mean(axis=0)
    )
    return frame, draws
