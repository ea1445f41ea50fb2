"""Effects on counts in single organizations, read from the draws of a fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vbceval.bayes.cells import Cells
from vbceval.bayes.counts.fit import OWN
from vbceval.bayes.draws import flatten
from vbceval.bayes.organizations import ESTIMAND, chosen_draws, owners_of
from vbceval.core.typing import FloatArray


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
        Its posterior.
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
    """
    chosen = chosen_draws(tree, size)
    after, weights = owners_of(cells)
    owners = np.unique(cells.cluster[cells.effect_of_cell >= 0])
    own = flatten(tree, OWN)[:, np.searchsorted(owners, after)]
    pooled = flatten(tree, "effect")[chosen] @ weights.T
    draws = pooled + own[chosen]
    # what data leave of the prior variance of an organization's deviation
    left = own.var(axis=0) / np.square(flatten(tree, "organization_sd")).mean()
    shrinkage = np.clip(left, 0.0, 1.0)
    raw = pooled.mean(axis=0) + own.mean(axis=0) / np.maximum(1.0 - shrinkage, 1e-6)
    cohort = cells.effects["cohort"].to_numpy(dtype=float)
    frame = pd.DataFrame(
        {
            "estimand": ESTIMAND,
            "outcome": outcome,
            "unit_of_measure": unit,
            "cluster": np.asarray(cells.clusters)[after],
            "cohort": cohort[weights.argmax(axis=1)],
            "estimate": draws.mean(axis=0),
            "raw": raw,
            "shrinkage": shrinkage,
        }
    )
    return frame, draws
