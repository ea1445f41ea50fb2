"""Effects without each cluster in turn, weights kept (Algorithm 3 of Arkhangelsky et al. 2021)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray
from vbceval.did.synthetic.weights import Problem, Weights


class JackknifeInputs(NamedTuple):
    """
    Who stays when a cluster is left out.

    Parameters
    ----------
    kept_treated, kept_donors : arrays, shapes (G, N1), (G, N0)
        1 where the organization stays, 0 where its cluster is left out.
    y_treated : array, shape (N1, T)
        Outcomes of the treated, covariates taken out.
    weight_treated : array, shape (N1,)
        Their weights.
    """

    kept_treated: FloatArray
    kept_donors: FloatArray
    y_treated: FloatArray
    weight_treated: FloatArray


def left_out_effects(inputs: JackknifeInputs, problem: Problem, weights: Weights) -> FloatArray:
    """
    Return effects without each cluster, shape (G, T).

    Unit weights are rescaled to sum one over the donors that stay; time weights and coefficients
    stay as they are.

    Raises
    ------
    EstimationError
        If one cluster carries all the weight of donors.
    """
    treated = inputs.kept_treated * inputs.weight_treated
    unit = inputs.kept_donors * weights.unit
    left = unit.sum(axis=1, keepdims=True)
    if (left <= 1e-12).any():
        raise EstimationError(
            "one donor carries all the weight, so the jackknife, which leaves it out, is not "
            "defined. Use vcov='placebo' or 'bootstrap'."
        )
    y0 = problem.adjusted(weights.beta).y0
    path = treated @ inputs.y_treated / treated.sum(axis=1, keepdims=True) - unit @ y0 / left
    return np.asarray(path - (path[:, : problem.n_pre] @ weights.time)[:, None])
