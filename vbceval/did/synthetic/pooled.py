"""Weights of several cohorts chosen together (Ben-Michael, Feller and Rothstein 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import linalg

from vbceval.core.typing import FloatArray
from vbceval.did.synthetic.control import Match
from vbceval.did.synthetic.simplex import solve_simplex

NOTHING = 1e-9
"""Imbalance, as a share of the mean squared distance to donors, that counts as none."""


def pooled_weights(
    matches: Sequence[Match], n_treated: FloatArray, pooling: float
) -> list[FloatArray]:
    """
    Return weights of each cohort that balance the average of cohorts as well as each of them.

    Minimises ``pooling`` times the mean squared imbalance of the average cohort over the last
    outcomes before entry that all cohorts have, plus ``1 - pooling`` times the average of the
    cohorts' own; each is divided by its value at separate weights. Where separate weights leave
    no imbalance they are returned.

    Parameters
    ----------
    matches : sequence of Match
        Variables of each cohort; outcomes in order of time.
    n_treated : array, shape (J,)
        Treated organizations, by which cohorts are averaged.
    pooling : float
        Between 0 (separate) and 1 (the average only).
    """
    share = n_treated / n_treated.sum()
    length = min(m.n_outcomes for m in matches)
    sizes = [len(m.x0) for m in matches]
    group = np.repeat(np.arange(len(matches)), sizes)
    own = linalg.block_diag(
        *[s / len(m.x1) * m.hessian() for s, m in zip(share, matches, strict=True)]
    )
    # weights of a cohort sum to one, so distances to its target add up to the average imbalance
    recent = np.concatenate([
        s * (m.x0 - m.x1)[:, m.n_outcomes - length : m.n_outcomes]
        for s, m in zip(share, matches, strict=True)
    ])  # fmt: skip
    average = recent @ recent.T / length
    alone = np.concatenate([solve_simplex(m.hessian()).weights for m in matches])
    separate, together = alone @ own @ alone, alone @ average @ alone
    chosen = alone
    if min(separate, together) > NOTHING * np.trace(own) / len(group):
        hessian = (1 - pooling) * own / separate + pooling * average / together
        chosen = solve_simplex(hessian, start=alone, group=group).weights
    return np.split(chosen, np.cumsum(sizes)[:-1])
